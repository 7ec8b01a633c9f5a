"""A folder in which the commands of the docs can be run: what they read is there, small and generated."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import explanation_alignment as ea
from documents import find_command
from explanation_alignment.datasets import DATASETS, find_dataset
from explanation_alignment.specs import parse_call

MODELS = ("test_efficientnet", "test_convnext", "test_resnet", "test_vit", "test_byobnet")
#: Runs of photographs; all others are runs of digits.
OF_OBJECTS = {
    "imagenet",
    "sweep",
    "many",
    "toy",
    "now",
    "before",
    "coco",
    "photos",
    "few",
    "hf",
    "transfer",
    "toy-imagenet",
}
FILES = {
    "my_model.py": """
import torch
import explanation_alignment as ea


def build():
    layers = torch.nn.Conv2d(3, 4, 5), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(3136, 2)
    network = torch.nn.Sequential(*layers)
    return ea.Classifier(network, ea.Preprocessing((3, 32, 32)), name="mine", device="cpu")
""",
    "my_method.py": """
def sharpened_gradients(classifier, images, targets, power=2.0):
    import torch

    images = images.requires_grad_()
    with torch.enable_grad():
        chosen = classifier.logits(images).gather(1, targets[:, None]).sum()
    return torch.autograd.grad(chosen, images)[0].abs().sum(dim=1) ** power
""",
    "my_data.py": """
import numpy as np
from PIL import Image
import explanation_alignment as ea
from explanation_alignment.datasets.base import IndexedDataset


class Squares(IndexedDataset):
    def __init__(self):
        names = [f"square-{place}" for place in range(8)]
        super().__init__(
            name="squares", class_names=["left", "right"], regions=["square"], evidence=["square"], ids=names,
            labels=[place % 2 for place in range(8)], attributes={}, fingerprint="squares",
        )

    def _read(self, index):
        left = 4 + 12 * (index % 2)
        pixels = np.random.default_rng(index).integers(0, 80, (32, 32, 3), dtype=np.uint8)
        pixels[12:20, left : left + 8] += 150
        box = ea.Boxes(np.array([[left, 12, left + 8, 20]]), 32, 32)
        return ea.Sample(self.ids()[index], Image.fromarray(pixels), index % 2, {"square": box}, {})


def build():
    return Squares()
""",
    "models.txt": "timm:test_resnet\ntimm:test_vit random:1\n",
}


def make_masters(folder: Path) -> None:
    """The runs that others are copies of, and an ImageNet for one of them."""
    digits = ea.load_dataset("colored_mnist")
    for coloring in ("correlated", "uncorrelated-1"):
        dataset = ea.load_dataset("colored_mnist", coloring=coloring).subset(digits.ids()[:60])
        for seed in (0, 1):
            for name, weights in (("uncorrelated", seed), ("correlated", seed + 2)):
                classifier = ea.load_classifier("paper:mnist", f"random:{weights}", device="cpu")
                classifier.name = name
                methods = ["vanilla_gradients", "gradcam"]
                ea.evaluate(classifier, dataset, methods, folder / "digits", seed=seed, progress=False)
    find_dataset("imagenet")[1].write_toy(folder / "imagenet", 24, 0)
    dataset = ea.load_dataset("imagenet", folder / "imagenet")
    names = ["resnet50", *MODELS[1:]]
    for name, spec in zip(names, MODELS, strict=True):
        classifier = ea.load_classifier(f"timm:{spec}", "random", device="cpu", input_size=64)
        classifier.name = name
        methods = [f"gradcam(binarize=threshold:{share})" for share in (0.4, 0.6)]
        ea.evaluate(classifier, dataset, methods, folder / "objects", progress=False)
    for shard in (1, 2):
        classifier = ea.load_classifier("paper:mnist", f"random:{shard}", device="cpu")
        classifier.name = f"model-{shard}"
        few = digits.subset(digits.ids()[:20])
        ea.evaluate(classifier, few, ["vanilla_gradients"], folder / f"shard-{shard}", progress=False)


def provide(words: Sequence[str], masters: Path) -> None:
    """Put what a command reads into the current folder, if it is not there: runs, data, files of one's own."""
    for word in words:
        for name, text in FILES.items():
            if name in word and not Path(name).exists():
                Path(name).write_text(text)
    command, rest = find_command(list(words))
    context = command.make_context(command.name, rest)
    given = context.params
    if command.name == "toy":
        return
    for place in _runs_read(command.name, given):
        if not place.exists() and place.parts[:1] == ("runs",):
            name = (
                place.name if place.name.startswith("shard-") else "objects" if place.name in OF_OBJECTS else "digits"
            )
            shutil.copytree(masters / name, place)
    if given.get("maps") is not None and not Path(given["maps"]).exists():
        _write_maps(Path(given["maps"]))
    if given.get("predictions") is not None and not Path(given["predictions"]).exists():
        ids = ea.load_dataset("colored_mnist").ids()
        Path(given["predictions"]).write_text("sample_id,prediction\n" + "".join(f"{name},3\n" for name in ids))
    dataset = given.get("dataset") or given.get("name")
    folder = given.get("data_dir") or given.get("folder")
    if folder is not None and not Path(folder).exists():
        _write_data(str(dataset or "imagenet"), Path(folder), masters)


def _runs_read(command: str, given: dict[str, object]) -> list[Path]:
    found: list[Path] = []
    for name in ("run", "runs", "other", "second", "before"):
        value = given.get(name)
        found += [Path(str(one)) for one in (value if isinstance(value, list | tuple) else [value]) if one is not None]
    return found


def _write_data(dataset: str, folder: Path, masters: Path) -> None:
    if dataset.startswith("file:"):
        return
    name = parse_call(dataset, "dataset")[0].replace("-", "_")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if name == "imagenet":
        shutil.copytree(masters / "imagenet", folder)
    elif DATASETS[name].toy is not None:
        DATASETS[name].write_toy(folder, 24, 0)


def _write_maps(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ea.load_dataset("colored_mnist").ids()[:40]:
        np.save(folder / f"{name.replace('/', '__')}.npy", rng.random((7, 7)))
