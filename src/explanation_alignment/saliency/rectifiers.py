"""Methods that change how gradients pass an activation function: guided backpropagation and DeepLIFT.

captum finds activation functions among the modules: it passes over a functional ``F.relu`` in silence, and fails where
a module is used twice or works in place, as in every torchvision ResNet. Here the functions themselves are watched
while the network runs, however they are called; no module is touched and there is nothing to restore.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.saliency.passes import Explained, baseline_images, over_channels

__all__ = ["check_rectifiers", "deeplift", "guided_backprop", "guided_gradcam"]

_RELUS: Final = (F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_)
#: Activation functions other than ReLU, by what a user calls them.
_OTHERS: Final[Mapping[Callable[..., Any], str]] = {
    F.gelu: "GELU",
    F.silu: "SiLU",
    F.mish: "Mish",
    F.hardswish: "Hardswish",
    F.elu: "ELU",
    F.selu: "SELU",
    F.celu: "CELU",
    F.leaky_relu: "LeakyReLU",
    F.prelu: "PReLU",
    F.relu6: "ReLU6",
    F.hardtanh: "Hardtanh",
    F.softplus: "Softplus",
}
#: Functions of one number at a time that gates use too, so that they say nothing about a network's kind.
_GATES: Final = (
    F.sigmoid,
    F.tanh,
    F.hardsigmoid,
    torch.sigmoid,
    torch.sigmoid_,
    torch.tanh,
    torch.tanh_,
    torch.Tensor.sigmoid,
    torch.Tensor.sigmoid_,
    torch.Tensor.tanh,
    torch.Tensor.tanh_,
)
_MAX_POOLS: Final = (F.max_pool2d, torch.max_pool2d)
#: Below this difference between image and baseline an activation's slope is taken in the place of the ratio.
_NEAR: Final = 1e-6


class _Guided(torch.autograd.Function):
    """A ReLU whose backward pass lets only positive gradients through."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(values > 0)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (active,) = ctx.saved_tensors
        guided: torch.Tensor = gradients[0].relu() * active
        return guided


def _guided_relu(values: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _Guided.apply(values)
    return result


class _GuidedMode(TorchFunctionMode):
    """Replaces every ReLU by a guided one."""

    def __init__(self) -> None:
        super().__init__()
        self.relus = 0
        self.others: set[str] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RELUS:
            self.relus += 1
            return _apply(_guided_relu, func, args, kwargs or {})
        if func in _OTHERS:
            self.others.add(_OTHERS[func])
        return func(*args, **(kwargs or {}))


def guided_backprop(explained: Explained, *, signed: bool) -> torch.Tensor:
    """Guided backpropagation (Springenberg et al. 2015, section 3.4): (B, H, W).

    Raises:
        ModelError: the network has no ReLU, or other activation functions, for which the method is not defined.
    """
    return over_channels(_guided(explained), signed=signed)


def guided_gradcam(explained: Explained, *, layer: str | None, signed: bool) -> torch.Tensor:
    """Guided Grad-CAM (Selvaraju et al. 2017, section 3.2): guided backpropagation times Grad-CAM's positive part.

    Grad-CAM comes from the shared pass, upsampled after its ReLU.
    """
    assert explained.shared is not None
    return over_channels(_guided(explained), signed=signed) * explained.shared


def check_rectifiers(explained: Explained, **_: object) -> None:
    """Refuse a network that :func:`guided_backprop` does.

    Raises:
        ModelError: as there.
    """
    _guided(explained)


def _guided(explained: Explained) -> torch.Tensor:
    parts = []
    for part in explained.parts():
        with _GuidedMode() as mode:
            parts.append(part.gradients(part.images, part.targets))
        name = explained.classifier.name
        if mode.others:
            raise ModelError(
                f"guided backpropagation is defined for ReLU networks; {name} uses {', '.join(sorted(mode.others))}; "
                "take smoothgrad or integrated_gradients"
            )
        if not mode.relus:
            raise ModelError(f"guided backpropagation: {name} has no ReLU, so it would be the plain gradient")
    return torch.cat(parts)


class _Rescaled(torch.autograd.Function):
    """An activation function whose slope is that between image and baseline (the batch's first and second half)."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        results = function(values)
        ctx.save_for_backward(values, results)
        ctx.function = function
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        values, results = ctx.saved_tensors
        change_in, change_out = (_difference(each) for each in (values, results))
        near = change_in.abs() < _NEAR
        ratio = change_out / torch.where(near, 1, change_in)
        if bool(near.any()):
            with torch.enable_grad():
                here = values.detach().requires_grad_()
                (slope,) = torch.autograd.grad(ctx.function(here).sum(), here)
            ratio = torch.where(near, slope.chunk(2)[0], ratio)
        return gradients[0] * torch.cat([ratio, ratio]), None


class _RescaledPool(torch.autograd.Function):
    """Max-pooling whose change is given to the places where the maxima of image and baseline stand.

    What the larger of the two maxima is above the baseline's belongs to the place of the image's, what it is above the
    image's to that of the baseline's: together the change, as in the linear rule for a maximum of two.
    """

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, pool: Callable[[torch.Tensor], Any]) -> torch.Tensor:
        results, places = pool(values)
        ctx.save_for_backward(values, results, places)
        return results  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        values, results, places = ctx.saved_tensors
        gradient = gradients[0].chunk(2)[0]
        change = _difference(values)
        top, low = results.chunk(2)
        larger = torch.maximum(top, low)
        given = torch.zeros_like(change).flatten(2)
        for amount, place in zip((larger - low, top - larger), places.chunk(2), strict=True):
            given.scatter_add_(2, place.flatten(2), (amount * gradient).flatten(2))
        share = given.view_as(change) / torch.where(change == 0, 1, change)
        return torch.cat([share, share]), None


class _RescaledMode(TorchFunctionMode):
    """Replaces activation functions and max-pooling by ones that pass on differences from the baseline."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _MAX_POOLS:
            values, rest = args[0], args[1:]

            def pool(inputs: torch.Tensor) -> Any:
                settings = {**given, "return_indices": True}
                return F.max_pool2d(inputs, *rest, **settings)

            return _RescaledPool.apply(values, pool)
        if func in _RELUS or func in _OTHERS or func in _GATES:
            rest, settings = args[1:], {key: value for key, value in given.items() if key not in ("input", "inplace")}
            outside = _OUT_OF_PLACE.get(func, func)

            def function(values: torch.Tensor) -> torch.Tensor:
                result: torch.Tensor = outside(values, *rest, **settings)
                return result

            return _apply(lambda values: _Rescaled.apply(values, function), func, args, given)
        return func(*args, **given)


_OUT_OF_PLACE: Final[Mapping[Callable[..., Any], Callable[..., Any]]] = {
    F.relu_: torch.relu,
    torch.relu_: torch.relu,
    torch.Tensor.relu_: torch.relu,
    torch.sigmoid_: torch.sigmoid,
    torch.Tensor.sigmoid_: torch.sigmoid,
    torch.tanh_: torch.tanh,
    torch.Tensor.tanh_: torch.tanh,
}


def deeplift(explained: Explained, *, baseline: str, signed: bool) -> torch.Tensor:
    """DeepLIFT's rescale rule (Shrikumar, Greenside, Kundaje 2017, eq. 7 to 11): (B, H, W).

    Contributions add up to the output's difference between image and baseline, if the network is made of linear layers,
    functions of one number and maxima. That is checked for every image: where layers multiply activations with each
    other or normalise them (attention, gates, layer norm) the rule does not hold.

    Raises:
        UsageError: for ``output="log_prob"``, which the rule does not reach.
        ModelError: the contributions do not add up.
    """
    if explained.output != "logit":
        raise UsageError("deeplift explains logits; take output logit, or integrated_gradients for log_prob")
    start = baseline_images(explained, baseline)
    parts, done = [], 0
    for part in explained.parts(2):
        begin, done = done, done + len(part.images)
        both = torch.cat([part.images, start[begin:done]]).detach().requires_grad_()
        with torch.enable_grad(), _RescaledMode():
            outputs = explained.classifier.logits(both).gather(1, part.targets.repeat(2)[:, None])[:, 0]
        after, before = outputs.chunk(2)
        multipliers = torch.autograd.grad(after.sum(), both)[0].chunk(2)[0]
        contributions = multipliers * _difference(both.detach())
        _check_sum(explained, contributions, (after - before).detach())
        parts.append(contributions)
    return over_channels(torch.cat(parts), signed=signed)


def _check_sum(explained: Explained, contributions: torch.Tensor, change: torch.Tensor) -> None:
    total = contributions.flatten(1).double().sum(dim=1)
    size = contributions.flatten(1).double().abs().sum(dim=1)
    off = (total - change.double()).abs() > 0.02 * change.double().abs() + 1e-3 * size
    if bool(off.any()):
        place = int(off.nonzero()[0])
        raise ModelError(
            f"deeplift: contributions for {explained.classifier.name} add up to {float(total[place]):.4g}, the output "
            f"changes by {float(change[place]):.4g}; its rescale rule does not hold where layers multiply or normalise "
            "activations; take integrated_gradients"
        )


def _difference(values: torch.Tensor) -> torch.Tensor:
    first, second = values.chunk(2)
    return first - second


def _apply(
    function: Callable[[torch.Tensor], Any], called: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The result of ``function`` in the place of a call that may work in place."""
    values = args[0] if args else kwargs["input"]
    if called.__name__.endswith("_") or kwargs.get("inplace"):
        return values.copy_(function(values.clone()))  # what the function keeps may not be overwritten
    return function(values)
