"""Classifiers by name: ``file:my_module.py:build`` and ``paper:mnist``."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
from explanation_alignment.errors import ExplanationAlignmentError, ModelError, UnknownNameError, UsageError, first_line

__all__ = ["load_classifier", "load_weights", "seed_of"]


def load_classifier(
    spec: str, weights: str = "default", device: str | torch.device | None = None, name: str | None = None
) -> Classifier:
    """A classifier by its spec.

    Args:
        spec: ``file:PATH.py:FACTORY``, a function without arguments that returns a
            :class:`Classifier`; or ``paper:mnist``, the published digit network.
        weights: ``"default"`` (what the factory gives), ``"random"``, ``"random:SEED"``, or the path of
            a checkpoint (.safetensors, or .pt/.pth read with ``weights_only``). Random weights are seeded
            from the spec, so the same spec is the same model everywhere.
        device: ``"auto"`` or None for a GPU if there is one, or any torch device.
        name: its name in tables; default the one the classifier gives itself.

    Raises:
        UsageError: for a spec or weights that cannot mean anything.
        ModelError: if the file, the factory or the checkpoint does not work.
    """
    kind, colon, rest = spec.partition(":")
    builders: dict[str, Callable[[str], Classifier]] = {"file": _from_file, "paper": _published}
    if not colon or not rest:
        raise UsageError(f"classifier {spec!r}: expected KIND:NAME, such as file:my_model.py:build or paper:mnist")
    if kind not in builders:
        raise UnknownNameError("kind of classifier", kind, builders)
    seed = weights.removeprefix("random:") if weights.startswith("random:") else ""
    if weights.startswith("random:") and not re.fullmatch(r"-?[0-9]+", seed):
        raise UsageError(f"weights {weights!r}: expected random:SEED with a whole number")
    if spec == "paper:mnist" and weights == "default":
        raise UsageError(
            "paper:mnist has no published weights; give 'random' or a checkpoint (`ealign experiment mnist` makes them)"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(f"{spec} {seed}".strip()))
        classifier = builders[kind](rest)
        if weights in ("random",) or seed:
            _randomise(classifier.module)
    if weights not in ("default", "random") and not seed:
        load_weights(classifier.module, Path(weights))
    return Classifier(
        classifier.module,
        classifier.preprocessing,
        classifier.class_names,
        name=name or classifier.name,
        spec=spec,
        family=classifier.family,
        device=device,
    )


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a checkpoint into a module, exactly.

    Args:
        module: what to load into.
        path: ``.safetensors``, or ``.pt``/``.pth`` holding a state dict (read with ``weights_only``).

    Raises:
        ModelError: if the file cannot be read, or its names or shapes are not the module's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"weights {str(path)!r}: no such file; expected 'default', 'random', 'random:SEED' or a path")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            state = state.get("state_dict", state)
        if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("expected a state dict: a tensor for each name")
    except (SafetensorError, OSError, RuntimeError, EOFError, AttributeError, ValueError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({first_line(error)})") from error
    except Exception as error:  # torch's unpickler: anything weights_only refuses
        raise ModelError(f"{path}: refused, it holds more than tensors; save a state dict or .safetensors") from error
    own = module.state_dict()
    wrong = [f"missing {key}" for key in own if key not in state] + [
        f"unexpected {key}" for key in state if key not in own
    ]
    wrong += [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if wrong:
        shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise ModelError(f"{path} does not fit {type(module).__name__}: {shown}")
    module.load_state_dict(state)


def seed_of(text: str) -> int:
    """A seed (63 bits) that is the same for the same text everywhere."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _published(name: str) -> Classifier:
    if name != "mnist":
        raise UnknownNameError("published classifier", name, ["mnist"])
    return Classifier(
        DigitNetwork(), DIGIT_PREPROCESSING, tuple("0123456789"), name="mnist", family="cnn", device="cpu"
    )


def _from_file(rest: str) -> Classifier:
    place, colon, factory_name = rest.rpartition(":")
    path = Path(place)
    if not colon or path.suffix != ".py":
        raise UsageError(f"classifier 'file:{rest}': expected file:PATH.py:FACTORY")
    if not path.is_file():
        raise ModelError(f"classifier 'file:{rest}': no file {place}")
    module_spec = importlib.util.spec_from_file_location(
        f"ealign_user_{seed_of(str(path.resolve()))}_{path.stem}", path
    )
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses and pickle look their module up
    try:
        module_spec.loader.exec_module(module)
        factory = getattr(module, factory_name, None)
        if factory is None:
            names = [word for word in vars(module) if not word.startswith("_") and callable(getattr(module, word))]
            raise UnknownNameError(f"function in {place}", factory_name, names)
        classifier = factory()
    except ExplanationAlignmentError:
        raise
    except Exception as error:
        raise ModelError(f"classifier 'file:{rest}': {type(error).__name__}: {error}") from error
    if not isinstance(classifier, Classifier):
        raise ModelError(
            f"classifier 'file:{rest}': {factory_name}() returned {type(classifier).__name__}, expected ea.Classifier"
        )
    return classifier


def _randomise(module: nn.Module) -> None:
    kept = []
    for name, part in module.named_modules():
        reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
        if callable(reset):
            reset()
        else:
            kept += [f"{name}.{own}".lstrip(".") for own, _ in part.named_parameters(recurse=False)]
    if kept:
        raise ModelError(
            f"weights 'random': {type(module).__name__} has no reset_parameters() for {', '.join(kept[:4])}; "
            "give the module that owns them one"
        )
