"""Toy data and toy models: a small generated ImageNet, and small timm models of several families trained on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from explanation_alignment.experiments.training.recipe import Recipe, StepDecay

if TYPE_CHECKING:
    import torch
    from torch import nn

    from explanation_alignment.classifiers.classifier import Preprocessing
    from explanation_alignment.classifiers.expansion import ModelSpec
    from explanation_alignment.datasets.cifar100 import CIFAR100
    from explanation_alignment.datasets.imagenet import ImageNet

__all__ = ["TOY_MODELS", "TOY_SIZE", "begin_toy", "toy_cifar100", "toy_imagenet", "toy_preprocessing", "trained_models"]

#: Convolutional networks, a transformer, and a hybrid (``other``), a third to half a million parameters each.
TOY_MODELS: Final = (
    "timm:test_efficientnet",
    "timm:test_convnext",
    "timm:test_byobnet",
    "timm:test_resnet",
    "timm:test_vit",
    "timm:test_coatnet",
)
#: Side of their images in pixels.
TOY_SIZE: Final = 96
RECIPE: Final = Recipe(
    epochs=8, batch_size=24, optimizer="adamw", learning_rate=2e-3, weight_decay=0.01, schedule=StepDecay(0.3, (5, 7))
)
_CLASSES: Final = 12
_TRAINING_IMAGES, _TEST_IMAGES, _CIFAR_IMAGES = 480, 240, 1000
#: Of the generated images; those for training are others than those for testing.
_TEST_SEED, _TRAINING_SEED = 0, 1


def begin_toy(
    out: Path, experiment: Mapping[str, Any], preprocessing: Preprocessing, *, device: torch.device, progress: bool
) -> tuple[ImageNet, list[ModelSpec]]:
    """The generated ImageNet and the toy models, written to and trained below a run folder where they are not there.

    Args:
        out: the run folder; begun for the experiment first, so that an unsuitable one is refused before any training.
        experiment: its record.
        preprocessing: what the models' images go through when they are explained.
        device: where to train.
        progress: show it on stderr.

    Raises:
        RunError: if ``out`` cannot be written or holds another run.
    """
    from explanation_alignment.classifiers.expansion import ModelSpec
    from explanation_alignment.runs.writer import RunWriter

    RunWriter(out, experiment=experiment, toy=True)
    dataset = toy_imagenet(out / "data")
    checkpoints = trained_models(out, device=device, progress=progress)
    return dataset, [ModelSpec(spec, str(path), None, preprocessing) for spec, path in checkpoints.items()]


def toy_imagenet(folder: Path, *, training: bool = False) -> ImageNet:
    """The generated ImageNet, written if it is not there yet.

    Args:
        folder: where its folder is or will be.
        training: the images the toy models are trained on instead.
    """
    from explanation_alignment.datasets.imagenet import ImageNet
    from explanation_alignment.datasets.toy import imagenet

    if training:
        name, images, seed = "imagenet-for-training", _TRAINING_IMAGES, _TRAINING_SEED
    else:
        name, images, seed = "imagenet", _TEST_IMAGES, _TEST_SEED
    place = folder / name
    _written(place, partial(imagenet.write, n=images, seed=seed, classes=_CLASSES))
    return ImageNet(place)


def toy_cifar100(folder: Path) -> CIFAR100:
    """The test split of the generated CIFAR-100, written if it is not there yet."""
    from explanation_alignment.datasets.cifar100 import open_cifar100
    from explanation_alignment.datasets.toy import cifar100

    place = folder / "cifar100"
    _written(place, partial(cifar100.write, n=_CIFAR_IMAGES, seed=_TEST_SEED))
    return open_cifar100(place)


def trained_models(out: Path, *, device: torch.device, progress: bool = True) -> Mapping[str, Path]:
    """The toy models, trained on the generated ImageNet where they have not been.

    Args:
        out: the run folder; checkpoints go to ``out/checkpoints``, images to ``out/data``.
        device: where to train.
        progress: show it on stderr.

    Returns:
        Spec -> checkpoint.
    """
    import torch

    from explanation_alignment.experiments.training import DatasetTraining, trained

    preprocessing = toy_preprocessing()
    data = DatasetTraining(toy_imagenet(out / "data", training=True), preprocessing)
    checkpoints = {}
    for number, spec in enumerate(TOY_MODELS, 1):
        name = spec.partition(":")[2]
        checkpoints[spec] = out / "checkpoints" / f"{name}.safetensors"
        trained(
            partial(_build, spec, preprocessing),
            data,
            RECIPE,
            question={"model": name, "network": spec, "data": data.describe()},
            checkpoint=checkpoints[spec],
            seed=0,
            device=torch.device(device),
            title=f"training {number}/{len(TOY_MODELS)}: {name}",
            progress=progress,
        )
    return checkpoints


def toy_preprocessing() -> Preprocessing:
    """What the toy models are trained on, and so their own crop and normalisation."""
    from explanation_alignment.classifiers.classifier import Preprocessing
    from explanation_alignment.experiments.imagenet.protocol import IMAGENET_MEAN, IMAGENET_STD
    from explanation_alignment.geometry import Geometry

    geometry = Geometry(resize=110, crop=(TOY_SIZE, TOY_SIZE))
    return Preprocessing((3, TOY_SIZE, TOY_SIZE), geometry, IMAGENET_MEAN, IMAGENET_STD)


def _build(spec: str, preprocessing: Preprocessing) -> nn.Module:
    """With ImageNet's thousand outputs, of which the toy images have twelve."""
    from explanation_alignment.experiments.training import build_network

    return build_network(spec, "imagenet", 1000, "random", preprocessing=preprocessing)[0]


def _written(place: Path, write: partial[None]) -> None:
    """Write a folder whole or not at all."""
    if place.is_dir():
        return
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    write(temporary)
    try:
        temporary.rename(place)
    except OSError:  # another process was quicker
        shutil.rmtree(temporary, ignore_errors=True)
        if not place.is_dir():
            raise
