"""Everything that one forward and one backward pass give: the prediction, and maps from gradients.

Vanilla gradients: Simonyan, Vedaldi, Zisserman 2014. Input x gradient: Shrikumar, Greenside, Kundaje 2017. Class
activation maps: see ``class_activation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import torch
from torch.nn import functional as F

from explanation_alignment.classifiers.capture import LayerCapture
from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.layers import CamLayer, find_layer
from explanation_alignment.errors import UsageError
from explanation_alignment.saliency.base import MethodRequest, Output
from explanation_alignment.saliency.class_activation import (
    CLASS_ACTIVATION_MAPS,
    eigencam,
    gradcam_cells,
    upsampled,
)

__all__ = ["ACTIVATIONS", "PassResult", "SinglePass", "gradcam", "input_x_gradient", "vanilla_gradients"]

#: Not a method: asks for a layer's activation itself, (B, C, h, w), in the place of a map.
ACTIVATIONS: Final = "activations"
#: What takes the gradient at the input and no layer.
_AT_THE_INPUT: Final = ("vanilla_gradients", "input_x_gradient")


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
        self._capture = LayerCapture(classifier, ())
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        found: dict[str | None, CamLayer] = {}
        for method in self._methods:
            if method.name in _AT_THE_INPUT or method.canonical in self.layers:  # entered again: as it was
                continue
            layer = method.arguments.get("layer")
            wanted = None if layer is None else str(layer)
            if wanted not in found:
                found[wanted] = find_layer(self._classifier, wanted)
            self.layers[method.canonical] = found[wanted]
        with ExitStack() as stack:
            stack.enter_context(self._classifier.explaining())
            self._capture = stack.enter_context(LayerCapture(self._classifier, self.layers.values()))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

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
            logits = self._capture.forward(images)
            prediction = logits.detach().argmax(dim=1)
            target = self._explained(prediction, labels, logits.shape[1])
            explained = logits if self._output == "logit" else F.log_softmax(logits, dim=1)
            objective = explained.gather(1, target[:, None]).sum()
        wants_input = any(method.name in _AT_THE_INPUT for method in self._methods)
        captured = self._capture.tensors
        sources = [*([images] if wants_input else []), *captured.values()]
        # A published layer off the path to the output has no gradient: zeros, and a flat map.
        gradients = torch.autograd.grad(objective, sources, materialize_grads=True) if sources else ()
        layer_gradients = dict(zip(captured, gradients[wants_input:], strict=True))
        maps = []
        for method in self._methods:
            if method.name in _AT_THE_INPUT:
                maps.append(_at_the_input(method, images.detach(), gradients[0]))
            else:
                name = self.layers[method.canonical].name
                activation = self._capture.feature_map(name).detach()
                gradient = self._capture.feature_map(name, layer_gradients[name])
                maps.append(_at_a_layer(method, activation, gradient, (images.shape[2], images.shape[3])))
        self._capture.clear()
        return PassResult(logits.detach(), prediction, target, maps)

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """The class with the largest logit, (B,) int64, of images as in a call; nothing is explained."""
        return self._logits(images).argmax(dim=1)

    def outputs(self, images: torch.Tensor) -> int:
        """How many classes the network has, by images as in a call.

        Raises:
            UsageError: the target is none of them.
        """
        classes = self._logits(images).shape[1]
        self._check_target(classes)
        return classes

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            logits = self._classifier.logits(images)
        self._capture.clear()
        return logits

    def forget(self) -> None:
        """Let go of what a pass that failed has left in memory."""
        self._capture.clear()

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
        self._check_target(classes)
        return torch.full_like(prediction, int(self._target))

    def _check_target(self, classes: int) -> None:
        if self._target.isdecimal() and int(self._target) >= classes:
            raise UsageError(f"target {self._target}: {self._classifier.name} has classes 0..{classes - 1}")


def _at_the_input(method: MethodRequest, images: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    if method.name == "vanilla_gradients":
        return vanilla_gradients(gradient)
    return input_x_gradient(images, gradient, signed=method.settings["signed"])


def _at_a_layer(
    method: MethodRequest, activation: torch.Tensor, gradient: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    if method.name == ACTIVATIONS:
        return activation
    settings = method.settings
    if method.name == "eigencam":
        cells = eigencam(activation, centered=settings["centered"])
    else:
        cells = CLASS_ACTIVATION_MAPS[method.name](activation, gradient)
    return upsampled(cells, size, relu=settings["relu"])


def vanilla_gradients(gradient: torch.Tensor) -> torch.Tensor:
    """Absolute input gradient, summed over channels: (B, C, H, W) -> (B, H, W)."""
    return gradient.abs().sum(dim=1)


def input_x_gradient(images: torch.Tensor, gradient: torch.Tensor, *, signed: bool = False) -> torch.Tensor:
    """Input times gradient, its size summed over channels, or with sign: (B, C, H, W) twice -> (B, H, W)."""
    product = images * gradient
    return product.sum(dim=1) if signed else product.abs().sum(dim=1)


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
    return upsampled(gradcam_cells(activation, gradient), size, relu=relu)
