"""The numbers of coloured MNIST: what is trained, and what the study reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from explanation_alignment.errors import UsageError

__all__ = ["DEMO", "METHODS", "MODELS", "REPORTED", "Protocol", "Reported"]

#: The two models, by the data they are trained on.
MODELS: Final = ("uncorrelated", "correlated")
METHODS: Final = ("vanilla_gradients", "gradcam")


@dataclass(frozen=True, slots=True)
class Protocol:
    """Every number of the experiment; the defaults are the published protocol.

    Args:
        epochs: passes over the training images.
        batch_size: training images a step.
        learning_rate: of SGD in the first epoch.
        momentum: of SGD.
        decay: factor on the learning rate after each epoch.
        permutations: uncorrelated test sets.

    Raises:
        UsageError: for a number out of range.
    """

    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 0.01
    momentum: float = 0.5
    decay: float = 0.7
    permutations: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "permutations"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "decay"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum: expected 0 up to below 1, got {self.momentum}")


#: For the 1,297 small training digits of the demo, which need more passes and larger steps.
DEMO: Final = Protocol(epochs=24, batch_size=32, learning_rate=0.03, momentum=0.9, decay=0.93)


@dataclass(frozen=True, slots=True)
class Reported:
    """What the study's notebook printed for one model, kind of test data and region (vanilla gradients)."""

    accuracy: float
    iou_coverage: float
    pointing_game: float


#: (model, kind of test data, region) -> the reported numbers; single runs vary (docs/experiments.md).
REPORTED: Final[Mapping[tuple[str, str, str], Reported]] = {
    ("uncorrelated", "uncorrelated", "digit"): Reported(0.981, 0.294, 0.698),
    ("uncorrelated", "correlated", "digit"): Reported(0.981, 0.294, 0.699),
    ("correlated", "uncorrelated", "digit"): Reported(0.461, 0.087, 0.048),
    ("correlated", "correlated", "digit"): Reported(0.996, 0.153, 0.214),
    ("uncorrelated", "uncorrelated", "block"): Reported(0.980, 0.0014, 0.000),
    ("uncorrelated", "correlated", "block"): Reported(0.981, 0.0017, 0.000),
    ("correlated", "uncorrelated", "block"): Reported(0.455, 0.222, 0.937),
    ("correlated", "correlated", "block"): Reported(0.996, 0.144, 0.613),
}
