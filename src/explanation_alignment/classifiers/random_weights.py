"""Random weights that let a network be explained."""

from __future__ import annotations

import torch
from torch import nn

from explanation_alignment.errors import ModelError

__all__ = ["randomise", "wake_zero_matrices"]

#: Standard deviation of what replaces an all-zero matrix.
_WAKING_STD = 0.02


def randomise(module: nn.Module) -> None:
    """Draw every parameter anew, from the global generator.

    Raises:
        ModelError: if a part with parameters has no ``reset_parameters``.
    """
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


def wake_zero_matrices(module: nn.Module) -> list[str]:
    """Give parameters of two or more axes that are all zero values from N(0, 0.02), from the global generator.

    Some libraries start a classification head at zero (timm's ResMLP, Mixer, gMixer and gMLP do); behind it every
    gradient of an untrained network would be zero, and every map flat.

    Returns:
        The names of the parameters changed.
    """
    changed = []
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2 and parameter.numel() and not bool(parameter.detach().any()):
            with torch.no_grad():
                parameter.normal_(std=_WAKING_STD)
            changed.append(name)
    return changed
