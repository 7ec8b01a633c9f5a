"""``torchvision:NAME``: torchvision's classification models, with the exact tag of their weights in their name."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Final

from torch import nn

from explanation_alignment.classifiers.checkpoints import build_to_fit, head_of
from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
from explanation_alignment.classifiers.random_weights import wake_zero_matrices
from explanation_alignment.classifiers.request import Request, build_error
from explanation_alignment.errors import UnknownNameError
from explanation_alignment.geometry import Geometry

__all__ = ["PAPER_GEOMETRY", "build_torchvision", "torchvision_models"]

#: What the published ImageNet comparison puts every image through.
PAPER_GEOMETRY: Final = Geometry(resize=256, crop=(224, 224))

#: What torchvision itself builds these with where it loads their weights; without it others' weights would not fit.
_AS_PRETRAINED: Final[dict[str, dict[str, Any]]] = {
    name: {"transform_input": True, "aux_logits": True, "init_weights": False} for name in ("googlenet", "inception_v3")
}


def torchvision_models() -> list[str]:
    """The names of torchvision's classification models."""
    import torchvision

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def build_torchvision(name: str, request: Request, *, geometry: Geometry | None = None) -> Classifier:
    """A torchvision model by its name, or ``NAME.TAG`` such as ``resnet50.IMAGENET1K_V1``.

    Args:
        name: which.
        request: the weights and what is to be different.
        geometry: instead of the weights' own.

    Raises:
        UnknownNameError: if torchvision has no such model or weights.
        ModelError: if the weights cannot be fetched or do not fit.
    """
    from torchvision.models import get_model_builder, get_model_weights

    architecture, _, tag = name.partition(".")
    if architecture not in (known := torchvision_models()):
        raise UnknownNameError("torchvision model", architecture, known)
    tags = get_model_weights(architecture)
    if tag and tag not in tags.__members__:
        raise UnknownNameError(f"weights of torchvision's {architecture}", tag, list(tags.__members__))
    weights = tags[tag or "DEFAULT"]
    preset = weights.transforms()
    geometry = geometry or Geometry.from_torchvision(preset)
    settings: dict[str, Any] = {}
    if request.input_size is not None:
        geometry = _resized(geometry, request.input_size)
        if architecture.startswith("vit_"):  # whose positions are learned for one size
            settings["image_size"] = request.input_size[0]
    if request.weights == "checkpoint":
        module = build_to_fit(
            lambda classes: _create(architecture, None, request, settings, classes), request.checkpoint
        )
    else:
        module = _create(architecture, weights if request.weights == "default" else None, request, settings)
    notes = []
    if request.weights == "random":
        notes = [f"{parameter} started at zero, drawn from N(0, 0.02)" for parameter in wake_zero_matrices(module)]
    categories = weights.meta["categories"]
    assert geometry.crop is not None
    return Classifier(
        module,
        request.preprocessing or Preprocessing((3, *geometry.crop), geometry, tuple(preset.mean), tuple(preset.std)),
        categories if head_of(module)[1] == len(categories) else None,
        name=request.named(architecture, weights.name),
        family=get_model_builder(architecture).__module__.rpartition(".")[2],
        device="cpu",
        notes=notes,
    )


def _create(
    architecture: str, weights: Any, request: Request, settings: dict[str, Any], classes: int | None = None
) -> nn.Module:
    from torchvision.models import get_model

    heads = {} if classes is None else {"num_classes": classes}
    own = {} if weights is not None else _AS_PRETRAINED.get(architecture, {})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = get_model(architecture, weights=weights, **own, **settings, **heads)
    except Exception as error:
        raise build_error(request, settings, error, fetched=weights is not None) from error
    assert isinstance(module, nn.Module)
    return module


def _resized(geometry: Geometry, size: tuple[int, int]) -> Geometry:
    """The same share of the image at another size."""
    assert geometry.crop is not None
    assert isinstance(geometry.resize, int)
    return replace(geometry, resize=round(geometry.resize * size[0] / geometry.crop[0]), crop=size)
