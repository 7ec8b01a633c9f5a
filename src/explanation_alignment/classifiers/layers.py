"""Where class activation maps look: the layer is named or found, and always probed.

A layer is usable if its output is a feature map (B, C, h, w) with more than one patch, and the
gradient of the explained output is finite there and reaches every patch.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.errors import ModelError, first_line

__all__ = ["CamLayer", "find_layer"]

#: Images of seeded noise a layer is probed with; a layer's choice must not depend on the data.
_PROBE_IMAGES = 4


@dataclass(frozen=True, slots=True, eq=False)
class CamLayer:
    """A layer whose output serves class activation maps.

    Args:
        name: its path in the module.
        module: the layer itself.
        shape: (C, h, w) of its output for one image.
    """

    name: str
    module: nn.Module
    shape: tuple[int, int, int]


@dataclass(slots=True, eq=False)
class _Seen:
    name: str
    module: nn.Module
    output: torch.Tensor
    calls: int
    same: int  # equal for modules that hand on the same tensor unchanged


def find_layer(classifier: Classifier, layer: str | None = None) -> CamLayer:
    """The layer class activation maps are made from.

    Args:
        classifier: whose layer.
        layer: None for the last feature map with more than one patch that passes the probe;
            ``"last_conv"`` for the last registered ``Conv2d``; or a module's path.

    Returns:
        The layer; where several modules hand on the same tensor, the outermost.

    Raises:
        ModelError: if there is no such layer or it fails the probe, naming the model, the layer, its
            output's shape and what to pass instead.
    """
    with classifier.explaining() as module:
        seen, output = _watch(classifier, module)
        if layer is None:
            candidates = _feature_maps(seen)
            for candidate in candidates:
                if _probe(candidate, output) is None:
                    return _layer(candidate)
            raise ModelError(
                f"{classifier.name}: no layer's output is a feature map (B, C, h, w) the gradient reaches everywhere; "
                f"pass layer=PATH ({_known_layers(candidates)})"
            )
        name: str = _last_conv(classifier, module) if layer == "last_conv" else layer
        by_name = {item.name: item for item in seen}
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.4) or list(by_name)[-3:]
            exists = name in dict(module.named_modules())
            reason = "is not used in the forward pass" if exists else "does not exist"
            raise ModelError(f"{classifier.name}: layer {name!r} {reason}; try {', '.join(near)}")
        problem = _probe(by_name[name], output)
        if problem is not None:
            raise ModelError(
                f"{classifier.name}: layer {name!r} with output {tuple(by_name[name].output.shape)} {problem}; "
                f"pass another layer ({_known_layers(_feature_maps(seen))}) or leave it out to have one found"
            )
        return _layer(by_name[name])


def _watch(classifier: Classifier, module: nn.Module) -> tuple[list[_Seen], torch.Tensor]:
    """Every module's last output in the order of the calls, and the largest logit's sum."""
    seen: dict[str, _Seen] = {}
    given: dict[int, tuple[torch.Tensor, int, int]] = {}
    handles = []
    for name, part in module.named_modules():
        if name:

            def hook(part: nn.Module, _inputs: object, output: object, name: str = name) -> torch.Tensor | None:
                if not isinstance(output, torch.Tensor) or not output.requires_grad:
                    return None
                calls = seen.pop(name).calls if name in seen else 0
                handed = given.get(id(output))
                same = handed[1] if handed is not None and handed[2] == output._version else len(given)
                seen[name] = _Seen(name, part, output, calls + 1, same)
                copy = output.clone()  # so that a later module that works in place spares what was seen
                given[id(copy)] = (copy, same, copy._version)
                return copy

            handles.append(part.register_forward_hook(hook))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((_PROBE_IMAGES, *classifier.preprocessing.input_size), generator=generator)
    images = noise.to(classifier.device).requires_grad_()
    try:
        with torch.enable_grad():
            logits = module(images)
    except Exception as error:  # timm asserts, others raise ValueError
        shape = "x".join(str(side) for side in classifier.preprocessing.input_size)
        raise ModelError(f"{classifier.name} fails on a {shape} input: {first_line(error)}") from error
    finally:
        for handle in handles:
            handle.remove()
    check_logits(classifier, logits, _PROBE_IMAGES)
    with torch.enable_grad():
        return list(seen.values()), logits.max(dim=1).values.sum()


def check_logits(classifier: Classifier, logits: Any, batch: int) -> None:
    """Refuse a network whose output is not (B, classes) floating point numbers.

    Raises:
        ModelError: saying what it returned.
    """
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != batch or logits.shape[1] < 2:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ModelError(f"{classifier.name} returned {got}, expected logits of shape ({batch}, classes)")
    if not logits.requires_grad:
        raise ModelError(
            f"{classifier.name} returned logits without a gradient; take torch.no_grad and detach out of it"
        )
    if classifier.class_names is not None and logits.shape[1] != len(classifier.class_names):
        raise ModelError(
            f"{classifier.name} has {logits.shape[1]} outputs, its class_names are {len(classifier.class_names)}"
        )


def _feature_maps(seen: list[_Seen]) -> list[_Seen]:
    """Usable shapes, last first; of modules that hand on the same tensor only the outermost, then the first."""
    chosen: dict[int, _Seen] = {}
    for item in reversed(seen):
        if item.output.ndim != 4 or item.output.shape[2] * item.output.shape[3] <= 1 or item.calls > 1:
            continue
        if item.same not in chosen or item.name.count(".") <= chosen[item.same].name.count("."):
            chosen[item.same] = item
    return list(chosen.values())


def _probe(item: _Seen, output: torch.Tensor) -> str | None:
    """What is wrong with a layer, or None."""
    if item.output.ndim != 4 or item.output.shape[2] * item.output.shape[3] <= 1:
        return "is no feature map (B, C, h, w) with more than one patch"
    if item.calls > 1:
        return f"is called {item.calls} times in one forward pass, so its map would be ambiguous"
    gradients: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
        output, item.output, retain_graph=True, allow_unused=True
    )
    gradient = gradients[0]
    if gradient is None:
        return "does not lead to the output"
    if not bool(torch.isfinite(gradient).all()):
        return "has a gradient that is not finite"
    reached = (gradient != 0).flatten(2).any(dim=1).any(dim=0)
    if not bool(reached.all()):
        return f"has a gradient that reaches {int(reached.sum())} of {reached.numel()} patches"
    return None


def _layer(item: _Seen) -> CamLayer:
    channels, height, width = item.output.shape[1:]
    return CamLayer(item.name, item.module, (channels, height, width))


def _last_conv(classifier: Classifier, module: nn.Module) -> str:
    names: list[str] = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)]
    if not names:
        raise ModelError(f"{classifier.name} has no Conv2d for layer=last_conv; pass layer=PATH or leave it out")
    return names[-1]


def _known_layers(candidates: list[_Seen]) -> str:
    names = [item.name for item in candidates[:3]]
    return f"such as {', '.join(names)}" if names else "it has no module with such an output"
