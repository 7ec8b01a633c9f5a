"""Feature maps among the tensors that layers hand on: their layout, and their form (B, C, h, w)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

__all__ = ["CamLayer", "Index", "Layout", "Shape", "Side", "layout_of", "replaced", "tensors_in"]

Layout: TypeAlias = Literal["NCHW", "NHWC", "NCL", "tokens"]
Side: TypeAlias = Literal["output", "input"]
#: Which of several tensors: its place in a tuple or list, its name in a mapping; None for a tensor on its own.
Index: TypeAlias = int | str | None

#: Prefix tokens (class, distillation, registers) that are looked for beside a grid of patches.
_MOST_PREFIX_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Shape:
    """How a tensor of one image is a feature map.

    Args:
        channels: C.
        height: h, in patches.
        width: w, in patches.
        layout: ``"NCHW"`` (B, C, h, w), ``"NHWC"`` (B, h, w, C), ``"NCL"`` (B, C, h * w) or ``"tokens"``
            (B, prefix + h * w, C).
        prefix_tokens: tokens before those of the patches.
        certain: False where nothing but the number of axes speaks for it.
    """

    channels: int
    height: int
    width: int
    layout: Layout = "NCHW"
    prefix_tokens: int = 0
    certain: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class CamLayer:
    """A layer whose feature map serves class activation maps.

    Args:
        name: how it is asked for: its path in the module, with ``:input`` where its input is taken and ``[INDEX]``
            where that is one of several tensors.
        module: the layer itself.
        shape: (C, h, w) of the feature map of one image.
        layout: ``"NCHW"``, ``"NHWC"``, ``"NCL"`` for (B, C, h * w), or ``"tokens"`` for (B, prefix + h * w, C) in rows.
        prefix_tokens: tokens before those of the patches, left out of the map.
        side: whether the module's output or its (positional) input is taken.
        index: which tensor of a tuple, list or mapping; None for a tensor on its own, or the first.
        problem: why its maps will be flat or partial; only layers asked for by a published choice may have one.
    """

    name: str
    module: nn.Module
    shape: tuple[int, int, int]
    layout: Layout = "NCHW"
    prefix_tokens: int = 0
    side: Side = "output"
    index: Index = None
    problem: str | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w): rows and columns of patches."""
        return self.shape[1], self.shape[2]

    def feature_map(self, captured: torch.Tensor) -> torch.Tensor:
        """The captured tensor, or its gradient, as (B, C, h, w); a view where that is possible."""
        if self.layout == "NCHW":
            return captured
        if self.layout == "NHWC":
            return captured.permute(0, 3, 1, 2)
        if self.layout == "NCL":
            return captured.reshape(*captured.shape[:2], *self.grid)
        patches = captured[:, self.prefix_tokens :]
        return patches.transpose(1, 2).reshape(len(patches), -1, *self.grid)


def layout_of(
    shape: tuple[int, ...],
    size: tuple[int, int],
    prefix_tokens: int | None = None,
    earlier: Iterable[tuple[int, int, int]] = (),
) -> Shape | None:
    """How a tensor is a feature map with more than one patch, or None.

    A grid of patches has the proportions of the image, up to less than a patch of rounding. Three axes are tokens,
    unless an earlier map of just so many channels and patches was flattened; where channels and patches are as many,
    nothing tells, and they are taken for tokens.

    Args:
        shape: the tensor's, batch first.
        size: (H, W) of the image.
        prefix_tokens: how many tokens the network itself says it puts first; else as few as leave a grid.
        earlier: (C, h, w) of the maps (B, C, h, w) before it in the same pass.
    """
    if len(shape) == 4:
        _, *rest = shape
        first, last = _like(rest[1], rest[2], size), _like(rest[0], rest[1], size)
        if last and not first:
            found = Shape(rest[2], rest[0], rest[1], "NHWC")
        else:
            found = Shape(rest[0], rest[1], rest[2], certain=first)
        return found if found.height * found.width > 1 else None
    if len(shape) == 3:
        _, tokens, channels = shape
        if channels == 1:  # what pooling over tokens leaves, (B, C, 1)
            return None
        for flattened, height, width in earlier:
            if (flattened, height * width) == (tokens, channels) and tokens != channels:
                return Shape(flattened, height, width, "NCL")
        for prefix in [*([] if prefix_tokens is None else [prefix_tokens]), *range(_MOST_PREFIX_TOKENS + 1)]:
            grid = _grid(tokens - prefix, size)
            if grid is not None:
                return Shape(channels, *grid, "tokens", prefix)
    return None


def _like(height: int, width: int, size: tuple[int, int]) -> bool:
    return abs(height * size[1] - width * size[0]) < max(size)


def _grid(patches: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """The grid of more than one patch whose proportions are nearest to the image's."""
    grids = [(rows, patches // rows) for rows in range(1, patches + 1) if patches % rows == 0] if patches > 1 else []
    grids = [grid for grid in grids if _like(*grid, size)]
    return min(grids, key=lambda grid: abs(grid[0] * size[1] - grid[1] * size[0]), default=None)


def tensors_in(value: Any) -> list[tuple[Index, torch.Tensor]]:
    """The tensors a module was given or hands on, each with its index."""
    if isinstance(value, torch.Tensor):
        return [(None, value)]
    if isinstance(value, Mapping):
        return [(str(key), item) for key, item in value.items() if isinstance(item, torch.Tensor)]
    if isinstance(value, tuple | list):
        return [(place, item) for place, item in enumerate(value) if isinstance(item, torch.Tensor)]
    return []


def replaced(value: Any, index: Index, tensor: torch.Tensor) -> Any:
    """A value of the same kind with one of its tensors exchanged; the value itself is left alone."""
    if index is None:
        return tensor
    if isinstance(value, Mapping):
        new: Any = copy(value)
        new[index] = tensor
        return new
    items = [tensor if place == index else item for place, item in enumerate(value)]
    if isinstance(value, list):
        return items
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
