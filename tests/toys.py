"""Small datasets and networks that several tests share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import nn

import explanation_alignment as ea
from explanation_alignment.sample import Annotation, AttributeValue


class Patches:
    """Images of 12 x 12 with a bright 4 x 4 patch whose quarter is the class; annotated with that patch.

    ``broken`` samples cannot be read, ``bare`` ones have no annotation, ``empty`` ones an empty mask.
    """

    name = "patches"
    class_names = ("upper left", "upper right", "lower left", "lower right")
    regions = ("patch", "corner")
    evidence = ("patch",)

    def __init__(
        self, n: int = 23, *, broken: Sequence[int] = (), bare: Sequence[int] = (), empty: Sequence[int] = ()
    ) -> None:
        self._n, self._broken, self._bare, self._empty = n, set(broken), set(bare), set(empty)
        self.fingerprint = f"patches {n} {sorted(broken)} {sorted(bare)} {sorted(empty)}"

    def __len__(self) -> int:
        return self._n

    def ids(self) -> list[str]:
        return [f"img/{index:03d}" for index in range(self._n)]

    def attributes(self) -> Mapping[str, Sequence[AttributeValue]]:
        return {"even": [index % 2 == 0 for index in range(self._n)]}

    def __getitem__(self, index: int) -> ea.Sample:
        if index in self._broken:
            raise OSError("broken image")
        label = index % 4
        pixels = np.random.default_rng(index).integers(0, 60, (12, 12, 3), dtype=np.uint8)
        mask = np.zeros((12, 12), dtype=bool)
        row, column = 1 + 6 * (label // 2), 1 + 6 * (label % 2)
        mask[row : row + 4, column : column + 4] = True
        pixels[mask] += 150
        if index in self._empty:
            mask[:] = False
        patch: Annotation | None = None if index in self._bare else ea.Mask(mask)
        corner = ea.Boxes(np.array([[0, 0, 3, 3]]), 12, 12)
        return ea.Sample(
            self.ids()[index],
            Image.fromarray(pixels),
            label,
            {"patch": patch, "corner": corner},
            {"even": index % 2 == 0},
        )


class UnevenPatches(Patches):
    """:class:`Patches` of which three quarters are of one class, so that a balanced sample is not like the whole."""

    name = "uneven"

    def __getitem__(self, index: int) -> ea.Sample:
        return replace(super().__getitem__(index), label=0 if index % 4 else 1 + index // 4 % 3)


def small_network(seed: int = 0, classes: int = 4) -> nn.Module:
    """A convolutional network for 12 x 12 images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(6, 8, 3),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(800, classes),
        )


def small_classifier(seed: int = 0, *, name: str = "small", classes: int = 4) -> ea.Classifier:
    return ea.Classifier(small_network(seed, classes), ea.Preprocessing((3, 12, 12)), name=name, device="cpu")
