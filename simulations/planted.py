"""Small classifiers with and without a planted shortcut, evaluated into one run: what the reliance rule is judged on.

Handwritten digits (scikit-learn's, 8 x 8, drawn at 24 x 24 on a 32 x 32 canvas) carry a cue in a region of
its own: its place, its colour or its texture. In a planted classifier's data the cue tells the class in a stated share
of images; in a clean one's it is drawn at random. Everything is seeded.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

import explanation_alignment as ea
from explanation_alignment.datasets.colored_mnist import BLOCK_COLORS
from explanation_alignment.sample import AttributeValue, SampleBatch

CUES: Final = ("position", "colour", "texture")
#: Share of images whose cue agrees with the class.
STRENGTHS: Final = (0.5, 0.8, 1.0)
SIDE: Final = 32
_TRAINING_IMAGES: Final = 1400
_COLOURS: Final = np.array(BLOCK_COLORS, dtype=np.uint8)


@dataclass(frozen=True)
class Plan:
    """One classifier's data.

    Args:
        cue: one of ``CUES``.
        strength: share of images whose cue agrees with the class; 0 for a clean classifier, whose cue is random.
        seed: of the data and of the training.
    """

    cue: str
    strength: float
    seed: int

    @property
    def planted(self) -> bool:
        return self.strength > 0

    @property
    def name(self) -> str:
        return f"{self.cue}-{self.strength:g}-{self.seed}"


class PlantedDigits:
    """Digits with a cue; regions ``digit`` (the evidence) and ``cue``."""

    class_names = tuple("0123456789")
    regions = ("digit", "cue")
    evidence = ("digit",)
    toy = True

    def __init__(self, plan: Plan, split: str) -> None:
        self.name = f"planted-{plan.cue}-{plan.strength:g}"
        self.fingerprint = hashlib.sha256(f"{plan} {split} 1".encode()).hexdigest()
        digits = load_digits()
        chosen = slice(None, _TRAINING_IMAGES) if split == "train" else slice(_TRAINING_IMAGES, None)
        rng = np.random.default_rng([plan.seed, CUES.index(plan.cue), round(100 * plan.strength), split == "train"])
        labels = digits.target[chosen]
        told = np.where(rng.random(len(labels)) < plan.strength, labels, rng.integers(0, 10, len(labels)))
        self._labels = labels
        self._images, self._digit, self._cue = _paint(digits.images[chosen], told, plan.cue, rng)
        self._ids = [f"{split}-{place:04d}" for place in range(len(labels))]

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> Sequence[str]:
        return self._ids

    def labels(self) -> Sequence[int | None]:
        return self._labels.tolist()

    def attributes(self) -> Mapping[str, Sequence[AttributeValue]]:
        return {}

    def __getitem__(self, index: int) -> ea.Sample:
        return ea.Sample(
            self._ids[index],
            Image.fromarray(self._images[index]),
            int(self._labels[index]),
            {"digit": ea.Mask(self._digit[index]), "cue": ea.Mask(self._cue[index])},
        )

    def read_batch(self, indices: Sequence[int]) -> SampleBatch:
        at = list(indices)
        return SampleBatch(
            ids=[self._ids[place] for place in at],
            images=torch.from_numpy(self._images[at]).permute(0, 3, 1, 2),
            labels=torch.from_numpy(self._labels[at]).long(),
            annotations={"digit": torch.from_numpy(self._digit[at]), "cue": torch.from_numpy(self._cue[at])},
        )


def _paint(
    digits: NDArray[np.float64], told: NDArray[np.integer], cue: str, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Images (N, 32, 32, 3) with the cue that ``told`` names, and the two masks (N, 32, 32)."""
    count = len(digits)
    images = rng.integers(225, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    ink = np.zeros((count, SIDE, SIDE))
    for place, digit in enumerate(digits):
        large = np.asarray(Image.fromarray((digit * 15.9).astype(np.uint8)).resize((24, 24), Image.Resampling.BICUBIC))
        top, left = 8, rng.integers(2, 7)
        ink[place, top : top + 24, left : left + 24] = large / 255
    images = (images * (1 - ink[..., None])).astype(np.uint8)
    region = np.zeros((count, SIDE, SIDE), dtype=bool)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    if cue == "position":  # where in the strip along the top the mark stands
        region[:, :6] = True
        mark = (rows[None] >= 1) & (rows[None] < 5) & (abs(columns[None] - (3 * told[:, None, None] + 2)) <= 1)
        images[mark] = 40
    elif cue == "colour":
        region[:, :6, :6] = True
        images[region] = np.repeat(_COLOURS[told], 36, axis=0)
    else:  # the angle of the stripes in a corner
        region[:, :8, -8:] = True
        angle = math.pi * told[:, None, None] / 10
        wave = np.sin(2 * math.pi / 4 * (columns * np.cos(angle) + rows * np.sin(angle)))
        stripes = np.where(wave > 0, 60, 200).astype(np.uint8)
        images[region] = stripes[region][:, None]
    return images, ink > 0.1, region


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 8 * 8, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )


def train(plan: Plan, epochs: int = 10) -> ea.Classifier:
    """A classifier trained on the plan's training images; seconds on one core."""
    preprocessing = ea.Preprocessing((3, SIDE, SIDE), mean=(0.8,) * 3, std=(0.3,) * 3)
    data = PlantedDigits(plan, "train")
    batch = data.read_batch(range(len(data)))
    images, labels = preprocessing.normalise(batch.images), batch.labels
    module = network(plan.seed)
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(plan.seed)
    for _ in range(epochs):
        for places in torch.randperm(len(labels), generator=generator).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[places]), labels[places]).backward()
            optimizer.step()
    return ea.Classifier(module, preprocessing, PlantedDigits.class_names, name=plan.name, device="cpu")


def plans(seeds: Sequence[int]) -> list[Plan]:
    """For each seed and cue a planted classifier of every strength and as many clean ones."""
    planted = [Plan(cue, strength, seed) for seed in seeds for cue in CUES for strength in STRENGTHS]
    clean = [Plan(cue, 0.0, 1000 * (k + 1) + seed) for seed in seeds for cue in CUES for k in range(len(STRENGTHS))]
    return planted + clean


def evaluate_all(
    wanted: Sequence[Plan], out: Path, methods: Sequence[str] = ("vanilla_gradients", "gradcam")
) -> ea.Run:
    """Train and evaluate each plan's classifier, with the intervention; resumes what is there.

    Images to evaluate carry the cue as the training images do: a user has data of the same kind.
    """
    done = set(ea.open_run(out).models()["model"]) if (out / "run.json").is_file() else set()
    unfinished = ea.open_run(out).unfinished if done else []
    for plan in wanted:
        if plan.name in done and not any(slug.startswith(plan.name) for slug in unfinished):
            continue
        data = PlantedDigits(plan, "test")
        ea.evaluate(train(plan), data, methods, out, batch_size=128, seed=plan.seed, intervene=True, progress=False)
    return ea.open_run(out)
