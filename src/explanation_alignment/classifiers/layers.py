"""Where class activation maps look: the layer is named or found, and always probed.

A layer is usable if it hands on (or is given) a feature map with more than one patch, and the gradient of the
explained output is finite there and reaches every patch. Feature maps are (B, C, h, w), (B, h, w, C), or tokens
(B, prefix + h * w, C); which one, the shapes say.

Left to itself the search takes the last such map of the network, from the outside in: a stage before its blocks, a
block before its parts. Of a block whose own map fails the parts are not considered, but the block before it: behind the
last block of a transformer with a class token nothing but that token reaches the output, so that its map is the
block's input. The parts of attention, which have shapes like maps but are none, stay out by the same rule. Of several
maps that one block hands on (CoaT, CrossViT, TNT) it is the last.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import nn

from explanation_alignment.classifiers.calls import Call, Passed, watch
from explanation_alignment.classifiers.capture import hook_tensor
from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.feature_maps import CamLayer, Index, Shape, Side, layout_of
from explanation_alignment.errors import ModelError, RunWarning, UsageError

__all__ = ["CamLayer", "LayerChoice", "find_layer"]

#: A layer by name, or a function of the module that gives one: its name, the module itself, or all of it.
LayerChoice: TypeAlias = str | Callable[[nn.Module], str | nn.Module | CamLayer]

#: Images of seeded noise a layer is probed with; a layer's choice must not depend on the data.
_PROBE_IMAGES = 4

#: timm's blocks in which a class token reads the patches, and the patches stay as they came (CaiT, VOLO, XCiT). A map
#: behind the first of them would miss what that one read.
_CLASS_ATTENTION = frozenset({"ClassAttentionBlock", "ClassBlock", "LayerScaleBlockClassAttn"})

_NAME = re.compile(r"(?P<path>[^:\[\]]+)(?P<input>:input)?(?:\[(?P<index>[^\]]+)\])?")


def find_layer(classifier: Classifier, layer: LayerChoice | None = None) -> CamLayer:
    """The layer class activation maps are made from.

    Args:
        classifier: whose layer.
        layer: None for the classifier's own ``cam_layer``, or, where it names none, for the last feature map with
            more than one patch that passes the probe; ``"last_conv"`` for the last registered ``Conv2d``; ``"paper"``
            for the published choice; a module's path, such as ``blocks.10``, with ``:input`` for what the module is
            given and ``[INDEX]`` for one of several tensors; or a function of the module.

    Returns:
        The layer; where several modules hand on the same tensor, the outermost.

    Raises:
        UsageError: if the words cannot be read.
        ModelError: if there is no such layer or it fails the probe, naming the model, the layer, its shape and what to
            pass instead. ``last_conv`` and ``paper`` only warn where their maps will be flat, as published.
    """
    with classifier.explaining():
        search = _Search(classifier)
        chosen = classifier.cam_layer if layer is None else layer
        if chosen is None:
            return search.found()
        if chosen == "last_conv":
            return search.named(search.last_conv(), published=True)
        if chosen == "paper":
            if classifier.paper_layer is None:
                raise ModelError(
                    f"{classifier.name} has no published layer; layer=paper goes with paper:timm/NAME and "
                    "paper:torchvision/NAME, leave it out to have one found"
                )
            name = search.last_conv() if classifier.paper_layer == "last_conv" else classifier.paper_layer
            return search.named(name, published=True)
        if not isinstance(chosen, str):
            given = chosen(classifier.module)
            if isinstance(given, CamLayer):
                return search.checked(given)
            chosen = given if isinstance(given, str) else search.path_of(given)
        return search.named(chosen)


class _Search:
    """The calls of one pass over noise, and probes of layers among them."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._size = classifier.preprocessing.input_size[1:]
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand((_PROBE_IMAGES, *classifier.preprocessing.input_size), generator=generator)
        self._images = noise.to(classifier.device)
        self._root = watch(classifier, self._images)
        self._calls = [call for call in self._root if call.name]
        self._times = Counter(call.name for call in self._calls)
        prefix = getattr(classifier.module, "num_prefix_tokens", None)
        self._prefix: int | None = prefix if isinstance(prefix, int) else None
        self._maps = self._four_axes()
        self._tried: set[tuple[str, Index]] = set()

    def found(self) -> CamLayer:
        """The last feature map that passes the probe."""
        layer = self._inside(self._root)
        for call in () if layer is not None else reversed(self._calls):
            layer = layer or self._of(call, certain=True)
        if layer is not None:
            return layer
        self._differentiable()
        raise ModelError(
            f"{self._classifier.name}: no layer's output is a feature map (B, C, h, w) the gradient reaches "
            f"everywhere; pass layer=PATH ({self._known()})"
        )

    def named(self, name: str, *, published: bool = False) -> CamLayer:
        """The layer of that name; a published choice may give flat maps, with a warning."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise UsageError(f"layer {name!r}: expected a module's path, such as blocks.10, blocks.10:input or stem[1]")
        path = match["path"]
        side: Side = "input" if match["input"] else "output"
        calls = [call for call in self._calls if call.name == path]
        if not calls:
            names = list(dict.fromkeys(call.name for call in self._calls))
            near = difflib.get_close_matches(path, names, n=3, cutoff=0.4) or names[-3:]
            exists = path in dict(self._classifier.module.named_modules())
            reason = "is not used in the forward pass" if exists else "does not exist"
            raise ModelError(f"{self._classifier.name}: layer {path!r} {reason}; try {', '.join(near)}")
        passed = calls[0].inputs if side == "input" else calls[0].outputs
        if match["index"] is not None:
            passed = [one for one in passed if str(one.index) == match["index"]]
        usable = [one for one in passed if self._shape(one) is not None] or passed
        shapes = ", ".join(str(one.shape) for one in passed) or "no tensor"
        what = f"{self._classifier.name}: layer {name!r} with {side} {shapes}"
        if not usable:
            raise ModelError(f"{what} is no feature map; pass another layer ({self._known()})")
        one = usable[-1]
        shape = self._shape(one)
        if shape is None and published and len(one.shape) == 4:
            shape = Shape(one.shape[1], one.shape[2], one.shape[3])  # one patch: flat, as published
        if shape is None:
            problem: str | None = (
                "is no feature map (B, C, h, w), (B, h, w, C) or (B, tokens, C) with more than one patch"
            )
        elif len(calls) > 1:
            problem = f"is called {len(calls)} times in one forward pass, so its map would be ambiguous"
        else:
            layer = _layer(calls[0], one, shape, side)
            problem = self._probe(layer)
            if problem is None:
                return layer
            if published and "not finite" not in problem:
                told = f"{what} {problem}: its maps say little, as in the published study"
                warnings.warn(told, RunWarning, stacklevel=3)
                return _layer(calls[0], one, shape, side, problem)
            self._differentiable()
        raise ModelError(f"{what} {problem}; pass another layer ({self._known()}) or leave it out to have one found")

    def checked(self, layer: CamLayer) -> CamLayer:
        """A layer given with everything, if it passes the probe."""
        problem = self._probe(layer)
        if problem is not None:
            raise ModelError(f"{self._classifier.name}: layer {layer.name!r} {problem}")
        return layer

    def last_conv(self) -> str:
        """The last registered ``Conv2d``."""
        modules = self._classifier.module.named_modules()
        names: list[str] = [name for name, part in modules if isinstance(part, nn.Conv2d)]
        if not names:
            raise ModelError(
                f"{self._classifier.name} has no Conv2d for layer=last_conv; pass layer=PATH or leave it out"
            )
        return names[-1]

    def path_of(self, module: nn.Module) -> str:
        """The path of a module in hand."""
        for name, part in self._classifier.module.named_modules():
            if part is module and name:
                return str(name)
        raise ModelError(f"{self._classifier.name}: the layer given, a {type(module).__name__}, is none of its modules")

    def _inside(self, call: Call) -> CamLayer | None:
        for part in reversed(call.inside):
            layer = self._of(part)
            if layer is None and self._worth_entering(part):
                layer = self._inside(part)
            if layer is not None:
                return layer
        return None

    def _of(self, call: Call, *, certain: bool = False) -> CamLayer | None:
        """The call's last output that passes the probe, under the name of the outermost, then first, module with it."""
        if self._times[call.name] > 1 or type(call.module).__name__ in _CLASS_ATTENTION:
            return None
        for one in reversed(call.outputs):
            shape = self._shape(one)
            if shape is None or (call.name, one.index) in self._tried or certain > shape.certain:
                continue
            self._tried.add((call.name, one.index))
            if self._probe(_layer(call, one, shape)) is not None:
                continue
            same = [
                (other, its)
                for other in self._calls
                for its in other.outputs
                if its.same == one.same and self._times[other.name] == 1
            ]
            outermost = min(other.name.count(".") for other, _ in same)
            first = next(pair for pair in same if pair[0].name.count(".") == outermost)
            return _layer(*first, shape)
        return None

    def _worth_entering(self, call: Call) -> bool:
        """Whether a call without a usable map of its own may have some inside: it is a stage, no block and no head."""
        if isinstance(call.module, nn.Sequential) or _has_blocks(call.module):
            return True
        if any(self._shape(one) is not None for one in call.outputs):
            return False
        given = [one for one in call.inputs if self._shape(one) is not None]
        return all(one.shape == tuple(self._images.shape) for one in given)

    def _shape(self, one: Passed) -> Shape | None:
        if not one.floating or one.shape[:1] != (_PROBE_IMAGES,):
            return None
        earlier = (shape for shape, first in self._maps.items() if first < one.same)
        return layout_of(one.shape, self._size, self._prefix, earlier)

    def _four_axes(self) -> dict[tuple[int, int, int], int]:
        """(C, h, w) of every map (B, C, h, w) of more than one patch in the pass -> the first such tensor's number."""
        found: dict[tuple[int, int, int], int] = {}
        for one in (one for call in self._calls for one in (*call.inputs, *call.outputs)):
            if len(one.shape) != 4 or one.shape[0] != _PROBE_IMAGES or one.shape == tuple(self._images.shape):
                continue
            shape = layout_of(one.shape, self._size)
            if shape is not None and shape.layout == "NCHW" and shape.certain:
                key = (shape.channels, shape.height, shape.width)
                found[key] = min(one.same, found.get(key, one.same))
        return found

    def _probe(self, layer: CamLayer) -> str | None:
        """What is wrong with a layer, or None. The graph begins at the layer, so it takes little memory."""
        taken: list[torch.Tensor] = []

        def take(tensor: torch.Tensor) -> torch.Tensor:
            taken.append(tensor.detach().clone().requires_grad_())
            return taken[-1].clone()  # a leaf itself could not be worked on in place

        remove = hook_tensor(layer, take)
        try:
            with torch.enable_grad():
                objective = self._classifier.logits(self._images).max(dim=1).values.sum()
        finally:
            remove()
        if len(taken) != 1:
            return f"is called {len(taken)} times in one forward pass"
        if not objective.requires_grad:
            return "does not lead to the output"
        gradients: tuple[torch.Tensor | None, ...] = torch.autograd.grad(objective, taken, allow_unused=True)
        if gradients[0] is None:
            return "does not lead to the output"
        if not bool(torch.isfinite(gradients[0]).all()):
            return "has a gradient that is not finite"
        reached = (layer.feature_map(gradients[0]) != 0).flatten(2).any(dim=1).any(dim=0)
        if not bool(reached.all()):
            return f"has a gradient that reaches {int(reached.sum())} of {reached.numel()} patches"
        return "has a single patch" if reached.numel() == 1 else None

    def _differentiable(self) -> None:
        """Where the trouble is the whole network's, its own words are better."""
        with torch.enable_grad():
            self._classifier.logits(self._images.clone().requires_grad_())

    def _known(self) -> str:
        names = []
        for call in reversed(self._calls):
            if any(self._shape(one) is not None for one in call.outputs) and self._times[call.name] == 1:
                names.append(call.name)
        names = list(dict.fromkeys(names))[:3]
        return f"such as {', '.join(names)}" if names else "it has no module with such an output"


def _layer(call: Call, one: Passed, shape: Shape, side: Side = "output", problem: str | None = None) -> CamLayer:
    alone = len(call.inputs if side == "input" else call.outputs) == 1
    name = call.name + (":input" if side == "input" else "") + ("" if alone else f"[{one.index}]")
    return CamLayer(
        name=name,
        module=call.module,
        shape=(shape.channels, shape.height, shape.width),
        layout=shape.layout,
        prefix_tokens=shape.prefix_tokens,
        side=side,
        index=one.index,
        problem=problem,
    )


def _has_blocks(module: nn.Module) -> bool:
    """Whether a list of composite modules is somewhere inside: the mark of a stage."""
    return any(
        isinstance(part, nn.Sequential | nn.ModuleList) and any(next(child.children(), None) for child in part)
        for part in module.modules()
    )
