"""One forward pass as a tree of calls, without any of its tensors: what the search for a layer reads."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.feature_maps import Index, tensors_in

__all__ = ["Call", "Passed", "watch"]


@dataclass(frozen=True, slots=True)
class Passed:
    """A tensor that a module was given or hands on.

    Args:
        index: which of several.
        shape: batch first.
        same: equal for one tensor handed on unchanged, and for nothing else.
        floating: whether it can have a gradient.
    """

    index: Index
    shape: tuple[int, ...]
    same: int
    floating: bool


@dataclass(slots=True, eq=False)
class Call:
    """A module's call, with the calls inside it in their order."""

    name: str
    module: nn.Module
    inputs: list[Passed]
    outputs: list[Passed] = field(default_factory=list)
    inside: list[Call] = field(default_factory=list)

    def __iter__(self) -> Iterator[Call]:
        """Every call inside it, then itself: the order in which they end."""
        for call in self.inside:
            yield from call
        yield self


def watch(classifier: Classifier, images: torch.Tensor) -> Call:
    """The calls of one forward pass; no graph is made, and no tensor kept.

    Args:
        classifier: inside its ``explaining()``.
        images: (B, C, H, W).

    Raises:
        ModelError: if the network fails, or returns no logits.
    """
    stack: list[Call] = []
    ended: list[Call] = []
    known: dict[int, tuple[weakref.ref[torch.Tensor], int, int]] = {}
    count = 0

    def passed(value: Any) -> list[Passed]:
        nonlocal count
        found = []
        for index, tensor in tensors_in(value):
            reference, version, same = known.get(id(tensor), (None, 0, 0))
            if reference is None or reference() is not tensor or version != tensor._version:
                count += 1
                same = count
                known[id(tensor)] = (weakref.ref(tensor), tensor._version, same)
            found.append(Passed(index, tuple(tensor.shape), same, tensor.is_floating_point()))
        return found

    handles = []
    for name, part in classifier.module.named_modules():

        def before(module: nn.Module, inputs: Any, name: str = name) -> None:
            call = Call(name, module, passed(inputs))
            if stack:
                stack[-1].inside.append(call)
            stack.append(call)

        def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
            call = stack.pop()
            call.outputs = passed(output)
            ended.append(call)

        handles.append(part.register_forward_pre_hook(before))
        handles.append(part.register_forward_hook(after))
    try:
        with torch.no_grad():
            classifier.logits(images)
    finally:
        for handle in handles:
            handle.remove()
    return ended[-1]
