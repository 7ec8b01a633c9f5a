"""Everything that one forward and one backward pass give: the prediction, and maps from gradients.

Vanilla gradients: Simonyan, Vedaldi, Zisserman 2014. Grad-CAM: Selvaraju et al. 2017, eq. 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import nn
from torch.nn import functional as F

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.layers import CamLayer, check_logits, find_layer
from explanation_alignment.errors import UsageError
from explanation_alignment.saliency.base import MethodRequest, Output

__all__ = ["PassResult", "SinglePass", "gradcam", "vanilla_gradients"]


@dataclass(frozen=True, slots=True, eq=False)
class PassResult:
    """What one pass over a batch gave.

    Args:
        logits: (B, classes), detached.
        prediction: (B,) int64, the largest logit's class.
        target: (B,) int64, the explained class.
        maps: one (B, H, W) float32 map batch a method, in the order asked for.
    """

    logits: torch.Tensor
    prediction: torch.Tensor
    target: torch.Tensor
    maps: list[torch.Tensor]


class SinglePass(AbstractContextManager["SinglePass"]):
    """Explains batches with one forward and one backward pass each.

    Use as a context manager: on entering, layers are found and hooked and the module is put into
    evaluation mode without parameter gradients; on leaving, everything is as it was.

    Args:
        classifier: whose decisions are explained.
        methods: the maps wanted.
        output: what is differentiated, ``"logit"`` or ``"log_prob"`` (log-softmax).
        target: ``"predicted"``, ``"label"``, or a class index as text.

    Raises:
        UsageError: for another output or target.
        ModelError: on entering, if a layer cannot serve.
    """

    def __init__(
        self,
        classifier: Classifier,
        methods: Sequence[MethodRequest],
        *,
        output: Output = "logit",
        target: str = "predicted",
    ) -> None:
        if output not in ("logit", "log_prob"):
            raise UsageError(f"output: expected 'logit' or 'log_prob', got {output!r}")
        if target not in ("predicted", "label") and not target.isdecimal():
            raise UsageError(f"target: expected 'predicted', 'label' or a class index, got {target!r}")
        self._classifier = classifier
        self._methods = list(methods)
        self._output = output
        self._target = target
        #: Method -> the layer its map comes from, known after entering.
        self.layers: dict[str, CamLayer] = {}
        self._captured: dict[str, torch.Tensor] = {}
        self._cloned: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for method in self._methods:
            if method.name == "gradcam":
                layer = method.arguments.get("layer")
                self.layers[method.canonical] = find_layer(self._classifier, None if layer is None else str(layer))
        with ExitStack() as stack:
            stack.enter_context(self._classifier.explaining())
            for layer in {layer.name: layer for layer in self.layers.values()}.values():
                stack.callback(layer.module.register_forward_hook(self._capture(layer.name)).remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._captured.clear()

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> PassResult:
        """Explain one batch.

        Args:
            images: (B, C, H, W) float32, as the network takes them, on its device.
            labels: (B,) int64 on the same device; read only where ``target`` is ``"label"``.

        Raises:
            ModelError: if the network's output is not (B, classes).
            UsageError: if the target is no class of the network.
        """
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._forward(images)
            check_logits(self._classifier, logits, len(images))
            prediction = logits.detach().argmax(dim=1)
            target = self._explained(prediction, labels, logits.shape[1])
            explained = logits if self._output == "logit" else F.log_softmax(logits, dim=1)
            objective = explained.gather(1, target[:, None]).sum()
        wants_input = any(method.name == "vanilla_gradients" for method in self._methods)
        names = list(self._captured)
        sources = [*([images] if wants_input else []), *self._captured.values()]
        gradients = torch.autograd.grad(objective, sources) if sources else ()
        layer_gradients = dict(zip(names, gradients[wants_input:], strict=True))
        maps = []
        for method in self._methods:
            if method.name == "vanilla_gradients":
                maps.append(vanilla_gradients(gradients[0]))
            else:
                name = self.layers[method.canonical].name
                size = (images.shape[2], images.shape[3])
                relu = bool(method.arguments.get("relu", False))
                maps.append(gradcam(self._captured[name].detach(), layer_gradients[name], size, relu=relu))
        self._captured.clear()
        return PassResult(logits.detach(), prediction, target, maps)

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._classifier.module(images)
        # A later module that works in place (a ReLU, say) would silently turn the captured map into
        # its own output; such layers hand on a copy from then on.
        overwritten = {name for name, tensor in self._captured.items() if tensor._version} - self._cloned
        if overwritten:
            self._cloned |= overwritten
            logits = self._classifier.module(images)
        return logits

    def _capture(self, name: str) -> Callable[[nn.Module, object, torch.Tensor], torch.Tensor | None]:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor | None:
            self._captured[name] = output
            return output.clone() if name in self._cloned else None

        return hook

    def _explained(self, prediction: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
        if self._target == "predicted":
            return prediction
        if self._target == "label":
            wrong = (labels < 0) | (labels >= classes)
            if bool(wrong.any()):
                label = int(labels[wrong][0])
                raise UsageError(
                    f"target label: a sample has {label}, {self._classifier.name} has classes 0..{classes - 1}"
                )
            return labels
        if int(self._target) >= classes:
            raise UsageError(f"target {self._target}: {self._classifier.name} has classes 0..{classes - 1}")
        return torch.full_like(prediction, int(self._target))


def vanilla_gradients(gradient: torch.Tensor) -> torch.Tensor:
    """Absolute input gradient, summed over channels: (B, C, H, W) -> (B, H, W)."""
    return gradient.abs().sum(dim=1)


def gradcam(
    activation: torch.Tensor, gradient: torch.Tensor, size: tuple[int, int], *, relu: bool = False
) -> torch.Tensor:
    """Grad-CAM: channels weighted by the spatial mean of their gradient, summed, upsampled bilinearly.

    Args:
        activation: (B, C, h, w).
        gradient: (B, C, h, w), of the explained output.
        size: (H, W) of the result (``align_corners=False``).
        relu: keep only the positive part, before upsampling.

    Returns:
        (B, H, W), signed unless ``relu``.
    """
    weights = gradient.mean(dim=(2, 3))
    cam = torch.einsum("bchw,bc->bhw", activation, weights)
    if relu:
        cam = cam.relu()
    return F.interpolate(cam[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
