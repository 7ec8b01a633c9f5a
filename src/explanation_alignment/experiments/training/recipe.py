"""How a network is trained: every number, checked. Needs no torch, so that protocols can hold one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from explanation_alignment.errors import UnknownNameError, UsageError

__all__ = ["Optimizer", "Precision", "Recipe", "StepDecay", "check_precision"]

Optimizer: TypeAlias = Literal["sgd", "adam", "adamw"]
Precision: TypeAlias = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class StepDecay:
    """A learning rate that is multiplied by a factor after some epochs.

    Args:
        factor: what it is multiplied by; 1 leaves it alone.
        after: the epochs, counted from 1, after which it is; None for each. Those beyond the last epoch change nothing.

    Raises:
        UsageError: for a factor that is not positive, or epochs that do not increase from 1.

    Example:
        >>> [StepDecay(0.2, after=(2, 5)).factor_after(epoch) for epoch in (1, 2, 3, 4, 5)]
        [1.0, 0.2, 1.0, 1.0, 0.2]
    """

    factor: float = 1.0
    after: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not _number(self.factor) or self.factor <= 0:
            raise UsageError(f"factor of the learning rate: expected a number above 0, got {self.factor!r}")
        if self.after is None:
            return
        object.__setattr__(self, "after", tuple(self.after))  # JSON gives lists
        whole = all(isinstance(epoch, int) and not isinstance(epoch, bool) for epoch in self.after)
        if not whole or any(low >= high for low, high in zip((0, *self.after), self.after, strict=False)):
            raise UsageError(
                "epochs after which the learning rate changes: expected increasing whole numbers from 1 on, "
                f"got {self.after}"
            )

    def factor_after(self, epoch: int) -> float:
        """What the learning rate is multiplied by at the end of an epoch, counted from 1."""
        return self.factor if self.after is None or epoch in self.after else 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained on the cross-entropy of its logits.

    Args:
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``, as torch.optim has them.
        learning_rate: of the first epoch.
        momentum: of SGD.
        weight_decay: of the optimizer: added to the gradient by SGD and Adam, taken off the weights by AdamW.
        schedule: how the learning rate goes on.

    Raises:
        UsageError: for a number out of range, or a momentum the optimizer has not.
        UnknownNameError: for another optimizer.

    Example:
        >>> Recipe(epochs=10, batch_size=128, optimizer="adam", learning_rate=1e-4, weight_decay=1e-4,
        ...        schedule=StepDecay(0.2, after=(2, 5))).schedule.factor
        0.2
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: StepDecay = field(default_factory=StepDecay)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UsageError(f"{name}: expected a whole number of at least 1, got {value!r}")
        if self.optimizer not in get_args(Optimizer):
            raise UnknownNameError("optimizer", str(self.optimizer), get_args(Optimizer))
        if not _number(self.learning_rate) or self.learning_rate <= 0:
            raise UsageError(f"learning_rate: expected a number above 0, got {self.learning_rate!r}")
        if not _number(self.momentum) or not 0 <= self.momentum < 1:
            raise UsageError(f"momentum: expected 0 up to below 1, got {self.momentum!r}")
        if self.momentum and self.optimizer != "sgd":
            raise UsageError(f"momentum: {self.optimizer} has none of its own, got {self.momentum!r}; leave it at 0")
        if not _number(self.weight_decay) or self.weight_decay < 0:
            raise UsageError(f"weight_decay: expected a number of at least 0, got {self.weight_decay!r}")
        if not isinstance(self.schedule, StepDecay):
            raise UsageError(f"schedule: expected a StepDecay, got {self.schedule!r}")


def check_precision(precision: str) -> None:
    """Refuse a precision that is none.

    Raises:
        UnknownNameError: it is neither ``"fp32"`` nor ``"bf16"``.
    """
    if precision not in get_args(Precision):
        raise UnknownNameError("precision", str(precision), get_args(Precision))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
