"""``timm:NAME``: the models of the timm library, with the exact tag of their weights in their name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import nn

from explanation_alignment.classifiers.checkpoints import build_to_fit
from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
from explanation_alignment.classifiers.random_weights import wake_zero_matrices
from explanation_alignment.classifiers.request import Request, build_error
from explanation_alignment.errors import UnknownNameError
from explanation_alignment.geometry import Geometry

__all__ = ["build_timm", "check_name"]


def build_timm(name: str, request: Request) -> Classifier:
    """A timm model by its name, with or without its weights' tag.

    Raises:
        UnknownNameError: if timm knows no such model or tag.
        ModelError: if it cannot be built, or its weights cannot be fetched or do not fit.
    """
    timm = _library()
    check_name(name)
    settings: dict[str, Any] = {}
    data: dict[str, Any] = {}
    if request.input_size is not None:
        data["input_size"] = (3, *request.input_size)
        configured = timm.models.get_pretrained_cfg(name)
        if configured is not None and configured.fixed_input_size:
            settings["img_size"] = request.input_size
    if request.weights == "checkpoint":
        module = build_to_fit(lambda classes: _create(name, request, settings, classes), request.checkpoint)
    else:
        module = _create(name, request, settings)
    notes = []
    if request.weights == "random":
        notes = [f"{parameter} started at zero, drawn from N(0, 0.02)" for parameter in wake_zero_matrices(module)]
    config = timm.data.resolve_data_config(data, model=module)
    known: Any = module.pretrained_cfg
    architecture, tag = known.get("architecture") or name.partition(".")[0], known.get("tag") or ""
    return Classifier(
        module,
        request.preprocessing
        or Preprocessing(
            tuple(config["input_size"]), Geometry.from_timm(config), tuple(config["mean"]), tuple(config["std"])
        ),
        _class_names(module),
        name=request.named(architecture, tag),
        family=type(module).__module__.rpartition(".")[2],
        device="cpu",
        notes=notes,
    )


def _library() -> Any:
    """Timm, whose type hints are in part."""
    import timm

    return timm


def check_name(name: str) -> None:
    """Refuse a name timm does not know, with or without a tag.

    Raises:
        UnknownNameError: with the nearest ones.
    """
    timm = _library()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise UnknownNameError("timm model", architecture, timm.list_models())
    if tag and name not in (tagged := timm.list_models(f"{architecture}.*", pretrained=True)):
        raise UnknownNameError(f"weights of timm's {architecture}", tag, [each.partition(".")[2] for each in tagged])


def _create(name: str, request: Request, settings: dict[str, Any], classes: int | None = None) -> nn.Module:
    timm = _library()
    heads = {} if classes is None else {"num_classes": classes}
    pretrained = request.weights == "default"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an older name's redirect: the name recorded is the one it leads to
            module = timm.create_model(name, pretrained=pretrained, **settings, **heads)
    except Exception as error:  # the network, the hub's client, timm: each has its own
        raise build_error(request, settings, error, fetched=pretrained) from error
    assert isinstance(module, nn.Module)
    return module


def _class_names(module: Any) -> Sequence[str] | None:
    """ImageNet's names, where the head's size says that the classes are ImageNet's."""
    data = _library().data
    subset = data.infer_imagenet_subset(module)
    if subset is None:
        return None
    info = data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index, detailed=False) for index in range(module.num_classes))
