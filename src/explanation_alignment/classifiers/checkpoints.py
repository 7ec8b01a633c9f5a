"""Checkpoints: tensors only, and a network they fit exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from explanation_alignment.errors import ModelError, first_line
from explanation_alignment.paths import not_found

__all__ = ["build_to_fit", "head_of", "load_state", "load_weights", "read_state"]

#: Where training scripts put the state dict.
_PLACES = ("state_dict", "model_state_dict", "model")
#: What wrappers put before every name.
_PREFIXES = ("module.", "_orig_mod.")
#: Of a zip, and of a pickle: the files that ``torch.save`` writes.
_BEGINNINGS = (b"PK\x03\x04", b"\x80")
#: Of what stands in a checkout for a file that has not been fetched.
_POINTER = b"version https://git-lfs"


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a checkpoint into a module, exactly.

    Args:
        module: what to load into.
        path: ``.safetensors``, or ``.pt``/``.pth`` holding a state dict (read with ``weights_only``).

    Raises:
        ModelError: if the file cannot be read, or its names or shapes are not the module's.
    """
    load_state(module, read_state(path), path)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, its names as they are there.

    Raises:
        ModelError: if the file cannot be read as one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise not_found(
            ModelError, "weights", path, folder=False, hint="expected 'default', 'random', 'random:SEED' or a path"
        )
    try:
        if _start(path).startswith(_POINTER):
            raise ValueError("it is a Git LFS pointer; fetch the file with git lfs pull")
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
            place = next((place for place in _PLACES if isinstance(state.get(place), Mapping)), None)
            state = state if place is None else state[place]
        if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise ValueError("expected a state dict: a tensor for each name")
        if not all(isinstance(name, str) for name in state):
            raise ValueError("expected a state dict: its names are texts")
    except (SafetensorError, OSError, RuntimeError, EOFError, AttributeError, ValueError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({first_line(error)})") from error
    except Exception as error:  # torch's unpickler: anything weights_only refuses
        if not _start(path).startswith(_BEGINNINGS):
            raise ModelError(f"{path}: not a readable checkpoint (it is no file that torch.save wrote)") from error
        raise ModelError(f"{path}: refused, it holds more than tensors; save a state dict or .safetensors") from error
    return dict(state)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _unwrapped(state: Mapping[str, torch.Tensor], module: nn.Module) -> Mapping[str, torch.Tensor]:
    """The state without the names of wrappers around the network, as many of them as fit it best."""
    own = module.state_dict().keys()
    forms = [state]
    while forms[-1] and (prefix := _common_prefix(forms[-1])):
        forms.append({name.removeprefix(prefix): tensor for name, tensor in forms[-1].items()})
    return max(reversed(forms), key=lambda form: len(own & form.keys()))


def _common_prefix(state: Mapping[str, torch.Tensor]) -> str | None:
    return next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state)), None)


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Load a state dict into a module, exactly; where it does not fit the module is left alone.

    Names of wrappers around the network (``module.``, ``_orig_mod.``) are taken off where it fits better so.

    Raises:
        ModelError: naming what is missing, unexpected, or of another shape.
    """
    state = _unwrapped(state, module)
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


def build_to_fit(build: Callable[[int | None], nn.Module], path: Path) -> nn.Module:
    """A network with a checkpoint's weights, and as many classes as they are for.

    Args:
        build: makes it for so many classes; None for as many as it has by itself.
        path: as in :func:`load_weights`.

    Raises:
        ModelError: as :func:`load_weights`.
    """
    state = read_state(path)
    module = build(None)
    name, classes = head_of(module)
    given = _unwrapped(state, module).get(f"{name}.weight")
    if given is not None and given.ndim > 0 and given.shape[0] != classes:
        module = build(given.shape[0])
    load_state(module, state, path)
    return module


def head_of(module: nn.Module) -> tuple[str, int]:
    """Path and number of outputs of the last registered linear or convolutional layer, a library model's head."""
    found = ("", 0)
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            found = (name, part.out_features)
        elif isinstance(part, nn.Conv2d):
            found = (name, part.out_channels)
    return found
