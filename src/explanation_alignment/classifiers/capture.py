"""Layers' feature maps as the graph of a forward pass has them, whatever later modules do to them in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.feature_maps import CamLayer, replaced, tensors_in
from explanation_alignment.errors import ModelError

__all__ = ["LayerCapture", "hook_tensor"]


class LayerCapture(AbstractContextManager["LayerCapture"]):
    """Runs a classifier and holds its layers' tensors. Hooks are there only inside the ``with``.

    Args:
        classifier: whose layers.
        layers: those to hold, by name once each.
    """

    def __init__(self, classifier: Classifier, layers: Iterable[CamLayer]) -> None:
        self._classifier = classifier
        self._layers = {layer.name: layer for layer in layers}
        self._captured: dict[str, torch.Tensor] = {}
        self._versions: dict[str, int] = {}
        self._cloned: set[str] = set()
        self._running = False
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for layer in self._layers.values():
                stack.callback(hook_tensor(layer, partial(self._hold, layer.name)))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self.clear()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The classifier's logits (B, classes); afterwards :attr:`tensors` holds this pass.

        Raises:
            ModelError: if a layer is not called, or called more than once.
        """
        logits = self._run(images)
        # A later module that works in place (a ReLU, say) would silently turn the captured map into its own output;
        # such layers hand on a copy from then on.
        overwritten = {name for name, tensor in self._captured.items() if tensor._version != self._versions[name]}
        if overwritten:
            self._cloned |= overwritten
            logits = self._run(images)
        for name in self._layers:
            if name not in self._captured:
                raise ModelError(f"{self._classifier.name}: layer {name!r} is not used in the forward pass")
        return logits

    @property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Layer's name -> its tensor of the last pass, in the layer's own layout, part of the graph."""
        return self._captured

    def feature_map(self, name: str, tensor: torch.Tensor | None = None) -> torch.Tensor:
        """A layer's feature map (B, C, h, w), or a gradient of its tensor in that form; of low precision as float32."""
        found = self._layers[name].feature_map(self._captured[name] if tensor is None else tensor)
        return found.to(torch.float32) if found.dtype in (torch.bfloat16, torch.float16) else found

    def clear(self) -> None:
        """Let go of what was captured, and so of the graph."""
        self._captured.clear()
        self._versions.clear()

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        self.clear()
        self._running = True
        try:
            return self._classifier.logits(images)
        finally:
            self._running = False

    def _hold(self, name: str, tensor: torch.Tensor) -> torch.Tensor | None:
        if not self._running:  # another's pass through the same network is none of ours
            return None
        if name in self._captured:
            raise ModelError(
                f"{self._classifier.name}: layer {name!r} is called more than once in one forward pass, "
                "so its map would be ambiguous; pass another layer"
            )
        self._captured[name] = tensor
        self._versions[name] = tensor._version
        return tensor.clone() if name in self._cloned else None


def hook_tensor(layer: CamLayer, seen: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[], None]:
    """Have a function called with a layer's tensor in every forward pass; what it returns takes the tensor's place.

    Returns:
        What removes the hook.
    """

    def exchange(value: Any) -> Any:
        for index, tensor in tensors_in(value):
            if layer.index is None or index == layer.index:
                new = seen(tensor)
                return None if new is None else replaced(value, index, new)
        return None

    def after(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        return exchange(output)

    def before(_module: nn.Module, inputs: Any) -> Any:
        return exchange(inputs)

    if layer.side == "input":
        return layer.module.register_forward_pre_hook(before).remove
    return layer.module.register_forward_hook(after).remove
