"""Classifiers by name: ``timm:``, ``torchvision:``, ``hf:``, ``file:``, ``paper:`` and ``toy:``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import torch

from explanation_alignment.classifiers.checkpoints import load_weights
from explanation_alignment.classifiers.classifier import EXPECTED, Classifier, Preprocessing
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
from explanation_alignment.classifiers.expansion import expand_spec
from explanation_alignment.classifiers.face_network import FACE_PREPROCESSING, FaceNetwork
from explanation_alignment.classifiers.huggingface_models import build_huggingface
from explanation_alignment.classifiers.paper import LISTS, published_models
from explanation_alignment.classifiers.random_weights import randomise
from explanation_alignment.classifiers.request import Request
from explanation_alignment.classifiers.timm_models import build_timm
from explanation_alignment.classifiers.torchvision_models import PAPER_GEOMETRY, build_torchvision
from explanation_alignment.errors import ModelError, UnknownNameError, UsageError
from explanation_alignment.factories import make_from_file

__all__ = ["expand_spec", "load_classifier", "load_weights", "seed_of"]


def load_classifier(
    spec: str,
    weights: str = "default",
    device: str | torch.device | None = None,
    name: str | None = None,
    *,
    input_size: int | None = None,
    preprocessing: Preprocessing | None = None,
    precision: str | None = None,
) -> Classifier:
    """A classifier by its spec.

    Args:
        spec: ``timm:NAME`` or ``timm:NAME.TAG``; ``torchvision:NAME`` or ``torchvision:NAME.TAG``; ``hf:ORG/NAME`` or
            ``hf:FOLDER``; ``paper:timm/NAME`` or ``paper:torchvision/NAME``, a model of a published list with the
            weights of the time; ``paper:mnist``, the published digit network; ``toy:faces``, a small network for faces;
            or ``file:PATH.py:FACTORY``, a function without arguments that returns a :class:`Classifier`.
        weights: ``"default"`` (pretrained, or what the factory gives), ``"random"``, ``"random:SEED"``, or the path of
            a checkpoint (.safetensors, or .pt/.pth read with ``weights_only``). Random weights are seeded from the
            spec, so the same spec is the same model everywhere.
        device: ``"auto"`` for a GPU if there is one, or any torch device; None for the factory's own, else ``"auto"``.
        name: its name in tables; default the one the classifier gives itself: with the exact tag of its weights, as
            published for ``paper:``.
        input_size: side in pixels of the square input, instead of the model's own; the share of the image that is kept
            stays.
        preprocessing: instead of the model's own.
        precision: ``"fp32"``, or ``"bf16"`` to run the network under autocast; None for the factory's own, else
            ``"fp32"``.

    Raises:
        UsageError: for a spec, weights or size that cannot mean anything.
        ModelError: if the file, the factory, the download or the checkpoint does not work.

    Example:
        >>> load_classifier("timm:test_vit.r160_in1k", "random", device="cpu").name
        'test_vit.random'
    """
    kind, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise UsageError(f"classifier {spec!r}: expected KIND:NAME, such as timm:resnet50 or file:my_model.py:build")
    if kind not in _BUILDERS:
        if kind.endswith(".py"):
            raise UsageError(f"classifier {spec!r}: expected file:PATH.py:FACTORY; did you mean 'file:{spec}'?")
        raise UnknownNameError("kind of classifier", kind, _BUILDERS)
    request = Request.read(spec, weights, input_size, preprocessing)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(request.seed_text))  # torch.manual_seed would seed GPUs too
        made = _BUILDERS[kind](rest, request)
    own = kind == "file"  # ours build on the CPU, in fp32, whatever is to become of it
    return Classifier(
        made.module,
        made.preprocessing,
        made.class_names,
        name=name or made.name,
        spec=spec,
        family=made.family,
        device=made.device if own and device is None else device,
        outputs=made.outputs,
        multi_label=made.multi_label,
        cam_layer=made.cam_layer,
        paper_layer=made.paper_layer,
        notes=made.notes,
        precision=precision or (made.precision if own else "fp32"),
        channels_last=made.channels_last if own else None,
    )


def seed_of(text: str) -> int:
    """A seed (63 bits) that is the same for the same text everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _published(name: str, request: Request) -> Classifier:
    if name == "mnist":
        return _digits(request)
    list_name, slash, model_name = name.partition("/")
    for known in LISTS:
        if list_name != known:
            continue
        models = published_models(known)
        if not slash or not model_name:
            raise UsageError(
                f"{request.spec} is a list of {len(models)} classifiers; load one, such as paper:{known}/"
                f"{next(iter(models))}, or all of ea.expand_spec({request.spec!r})"
            )
        if model_name not in models:
            raise UnknownNameError(f"published {known} model", model_name, models)
        model = models[model_name]
        if known == "timm":
            made = build_timm(model.weights, request)
        else:
            made = build_torchvision(model.weights, request, geometry=PAPER_GEOMETRY)
        made.name = model.name if request.weights == "default" else request.named(model.name, "")
        made.family = model.family
        made.paper_layer = model.cam_layer
        if model.note:
            made.notes = (model.note, *made.notes)
        return made
    raise UnknownNameError("published classifier", name, ["mnist", *(f"{known}/NAME" for known in LISTS)])


def _digits(request: Request) -> Classifier:
    if request.weights == "default":
        raise UsageError(
            "paper:mnist has no published weights; give 'random' or a checkpoint (`ealign experiment mnist` makes them)"
        )
    made = Classifier(
        DigitNetwork(), DIGIT_PREPROCESSING, tuple("0123456789"), name="mnist", family="cnn", device="cpu"
    )
    return _with_weights(made, request)


def _toy(name: str, request: Request) -> Classifier:
    if name != "faces":
        raise UnknownNameError("toy classifier", name, ["faces"])
    if request.weights == "default":
        raise UsageError("toy:faces is trained from scratch; give 'random' or a checkpoint")
    made = Classifier(FaceNetwork(), FACE_PREPROCESSING, name="faces", family="cnn", device="cpu")
    return _with_weights(made, request)


def _from_file(rest: str, request: Request) -> Classifier:
    made = make_from_file("classifier", rest, ModelError)
    if not isinstance(made, Classifier):
        raise ModelError(
            f"classifier 'file:{rest}': {rest.rpartition(':')[2]}() returned {type(made).__name__}, {EXPECTED}",
            exit_code=2,
        )
    return _with_weights(made, request)


def _with_weights(made: Classifier, request: Request) -> Classifier:
    """A classifier made by a factory, with the weights and preprocessing asked for."""
    if request.weights == "random":
        randomise(made.module.cpu())  # a GPU would draw other numbers
    elif request.weights == "checkpoint":
        load_weights(made.module, request.checkpoint)
    if request.preprocessing is not None:
        made.preprocessing = request.preprocessing
    elif request.input_size is not None:
        geometry = replace(made.preprocessing.geometry, resize=request.input_size, crop=None, fit="squash", fill=())
        channels = made.preprocessing.input_size[0]
        made.preprocessing = replace(made.preprocessing, input_size=(channels, *request.input_size), geometry=geometry)
    return made


_BUILDERS: Final[dict[str, Callable[[str, Request], Classifier]]] = {
    "timm": build_timm,
    "torchvision": build_torchvision,
    "hf": build_huggingface,
    "file": _from_file,
    "paper": _published,
    "toy": _toy,
}
