"""``hf:NAME``: transformers' image classifiers, from the hub, its cache or a folder; needs the extra ``hf``."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from explanation_alignment.classifiers.checkpoints import load_weights
from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
from explanation_alignment.classifiers.random_weights import wake_zero_matrices
from explanation_alignment.classifiers.request import Request
from explanation_alignment.errors import ModelError, UsageError, first_line
from explanation_alignment.geometry import Fit, Geometry, Interpolation

__all__ = ["build_huggingface", "read_processor"]

#: What ConvNeXt's processor takes where its config does not say; from this size on it does not crop.
_CONVNEXT_CROP_PCT, _CONVNEXT_SQUASHES_FROM = 224 / 256, 384


def build_huggingface(name: str, request: Request) -> Classifier:
    """An image classifier of the transformers library.

    Args:
        name: ``ORGANISATION/NAME`` on the hub, or a folder written by ``save_pretrained``.
        request: the weights and what is to be different.

    Raises:
        UsageError: if transformers is not installed.
        ModelError: if there is no such model, it is no image classifier, or its preprocessing has no fixed size.
    """
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise UsageError(
            f"{request.spec}: needs transformers; install it with: pip install 'explanation-alignment[hf]'"
        ) from None
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        if request.weights == "default":
            module = transformers.AutoModelForImageClassification.from_pretrained(name)
        else:
            module = transformers.AutoModelForImageClassification.from_config(config)
    except Exception as error:  # transformers and the hub's client each have their own
        raise ModelError(
            f"{request.spec} could not be loaded ({first_line(error)}); expected an image classifier on the hub, or a "
            "folder written by save_pretrained"
        ) from error
    assert isinstance(module, nn.Module)
    if request.weights == "checkpoint":
        load_weights(module, request.checkpoint)
    notes = []
    if request.weights == "random":
        notes = [f"{parameter} started at zero, drawn from N(0, 0.02)" for parameter in wake_zero_matrices(module)]
    preprocessing = request.preprocessing
    if preprocessing is None:
        try:
            settings = transformers.AutoImageProcessor.from_pretrained(name).to_dict()
        except Exception as error:
            raise ModelError(
                f"{request.spec}: its preprocessing could not be read ({first_line(error)}); give preprocessing="
            ) from error
        preprocessing = read_processor(settings, request.spec, request.input_size, getattr(config, "num_channels", 3))
    names = config.id2label
    one_logit = config.num_labels == 1
    return Classifier(
        module,
        preprocessing,
        None if one_logit else tuple(str(names[index]) for index in range(config.num_labels)),
        name=request.named(Path(name).name if Path(name).is_dir() else name, ""),
        family=config.model_type,
        device="cpu",
        multi_label=config.problem_type == "multi_label_classification",
        notes=notes,
    )


def read_processor(
    settings: Mapping[str, Any], spec: str, input_size: tuple[int, int] | None = None, channels: int = 3
) -> Preprocessing:
    """The preprocessing that a transformers image processor's settings describe.

    Args:
        settings: its ``to_dict()``, or the content of ``preprocessor_config.json``.
        spec: the classifier's, for the errors' words.
        input_size: (height, width) instead of its own.
        channels: of the network's images.

    Raises:
        ModelError: if it has no fixed size, or does what is not an affine map of the pixels' values.
    """
    if not settings.get("do_rescale", True) or not math.isclose(settings.get("rescale_factor") or 1 / 255, 1 / 255):
        raise ModelError(f"{spec}: its processor rescales values by another factor than 1/255; give preprocessing=")
    if settings.get("rescale_offset") or settings.get("include_top"):
        raise ModelError(f"{spec}: its processor normalises in steps of its own; give preprocessing=")
    geometry = _geometry(settings, spec)
    assert geometry.resize is not None
    height, width = geometry.crop or geometry.resize  # type: ignore[misc]
    if input_size is not None and input_size != (height, width):
        if isinstance(geometry.resize, int):
            resize: int | tuple[int, int] = round(geometry.resize * input_size[0] / height)
        else:
            resize = (
                round(geometry.resize[0] * input_size[0] / height),
                round(geometry.resize[1] * input_size[1] / width),
            )
        crop = None if geometry.crop is None else input_size
        geometry = Geometry(resize=resize, crop=crop, interpolation=geometry.interpolation)
        height, width = input_size
    mean, std = (0.0,) * channels, (1.0,) * channels
    if settings.get("do_normalize", True):
        mean, std = (_values(settings.get(key), channels, spec) for key in ("image_mean", "image_std"))
    return Preprocessing((channels, height, width), geometry, mean, std)


def _geometry(settings: Mapping[str, Any], spec: str) -> Geometry:
    size, crop = settings.get("size"), None
    if settings.get("do_center_crop"):
        crop = _pair(settings.get("crop_size"))
    if not settings.get("do_resize", True):
        size = None
    interpolation = _interpolation(settings.get("resample"))
    shortest = size if isinstance(size, int) else size.get("shortest_edge") if size else None
    kind = str(settings.get("image_processor_type", ""))
    if kind.startswith("ConvNext") and shortest is not None:
        if shortest >= _CONVNEXT_SQUASHES_FROM:
            return Geometry((shortest, shortest), None, interpolation)
        share = settings.get("crop_pct") or _CONVNEXT_CROP_PCT
        return Geometry(int(shortest / share), (shortest, shortest), interpolation)
    if settings.get("crop_pct"):
        raise ModelError(f"{spec}: how a {kind or 'processor'} uses crop_pct is not known here; give preprocessing=")
    fixed = _pair(size) if shortest is None else None
    resize: int | tuple[int, int] | None = fixed if fixed is not None else shortest
    fit: Fit = "squash"
    if resize is None or (isinstance(resize, int) and crop is None):
        raise ModelError(
            f"{spec}: its processor leads to no fixed size (size {size}, crop {crop}); give preprocessing="
        )
    return Geometry(resize, crop, interpolation, fit)


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    return None


def _interpolation(resample: Any) -> Interpolation:
    names: dict[int, Interpolation] = {
        Image.Resampling.NEAREST: "nearest",
        Image.Resampling.LANCZOS: "lanczos",
        Image.Resampling.BILINEAR: "bilinear",
        Image.Resampling.BICUBIC: "bicubic",
        Image.Resampling.BOX: "box",
        Image.Resampling.HAMMING: "hamming",
    }
    return "bilinear" if resample is None else names[int(resample)]


def _values(values: Any, channels: int, spec: str) -> tuple[float, ...]:
    given = (values,) * channels if isinstance(values, int | float) else tuple(values or ())
    if len(given) != channels:
        raise ModelError(f"{spec}: its processor has no mean and std for {channels} channels; give preprocessing=")
    return tuple(float(value) for value in given)
