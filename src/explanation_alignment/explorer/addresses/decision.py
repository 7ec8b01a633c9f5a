"""The page of one image with every model and method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from explanation_alignment.errors import UsageError
from explanation_alignment.explorer.addresses.kinds import Given
from explanation_alignment.explorer.addresses.states import State, of

__all__ = ["DecisionState"]


@dataclass(frozen=True, slots=True)
class DecisionState(State):
    """One image with every model and method.

    Args:
        run: ``a`` or ``b``.
        dataset: its name.
        sample: the sample's id.
        region: whose annotation is drawn; None for the evidence.
        target: only decisions explained for it.
        page: of its models.
        layers: what is drawn over the image.
    """

    path: ClassVar[str] = "/decision"
    run: str = of("run")
    dataset: str = of("dataset", usual="", always=True)
    sample: str = of("sample", usual="", always=True)
    region: str | None = of("region")
    target: str | None = of("target")
    page: int = of("page")
    layers: tuple[str, ...] = of("layers")

    @classmethod
    def _read(cls, given: Given) -> Self:
        state = cls.of_run(given)
        if not (state.dataset and state.sample):
            raise UsageError("a decision has a dataset and a sample: ?dataset=...&sample=...")
        return state
