"""The leaderboard, and accuracy against alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from explanation_alignment.explorer.addresses.fields import WORDS
from explanation_alignment.explorer.addresses.kinds import Given
from explanation_alignment.explorer.addresses.states import State, of

__all__ = ["BoardState", "ScatterState"]


@dataclass(frozen=True, slots=True)
class BoardState(State):
    """The leaderboard.

    Args:
        run: ``a`` or ``b``.
        find: part of the model's name.
        family: of the model.
        seed: of training.
        dataset: its name.
        method: its name.
        binarization: its name.
        region: its name.
        nulls: whether methods that explain no model are shown, too.
        sort: a column of :func:`~explanation_alignment.leaderboard`.
        descending: the largest first.
    """

    path: ClassVar[str] = "/"
    run: str = of("run")
    find: str | None = of("find")
    family: str | None = of("family")
    seed: int | None = of("seed")
    dataset: str | None = of("dataset")
    method: str | None = of("method")
    binarization: str | None = of("binarization")
    region: str | None = of("region")
    nulls: bool = of("nulls")
    sort: str = of("board_sort", always=True)
    descending: bool = of("descending", always=True)

    @classmethod
    def _read(cls, given: Given) -> Self:
        state = cls.of_run(given)
        return state if given.many("order") else state.but(descending=state.sort not in WORDS)


@dataclass(frozen=True, slots=True)
class ScatterState(State):
    """Accuracy against alignment, a point a model and seed; None stands for what the run has first."""

    path: ClassVar[str] = "/scatter"
    run: str = of("run")
    dataset: str | None = of("dataset")
    method: str | None = of("method")
    binarization: str | None = of("binarization")
    region: str | None = of("region")
    metric: str | None = of("metric")

    @classmethod
    def _read(cls, given: Given) -> Self:
        return cls.of_run(given)
