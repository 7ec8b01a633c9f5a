"""The page of two models on the same images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

from explanation_alignment.explorer.addresses.kinds import Given
from explanation_alignment.explorer.addresses.states import Part, State, of
from explanation_alignment.explorer.addresses.vocabulary import Vocabulary, rising

__all__ = ["CompareState", "Side"]


@dataclass(frozen=True, slots=True)
class Side(Part):
    """One of two models; None stands for what the run has first."""

    run: str = of("run")
    model: str | None = of("model")
    seed: int | None = of("seed")
    method: str | None = of("method")
    binarization: str | None = of("binarization")


@dataclass(frozen=True, slots=True)
class CompareState(State):
    """Two models on the same images.

    Args:
        a: one model.
        b: the other.
        dataset: whose images.
        target: what was explained.
        region: whose agreement.
        metric: of agreement.
        threshold: least score that counts as the right reason.
        a_outcome: only images where this came of a.
        b_outcome: the same of b.
        sort: ``difference``, ``picture`` (1 where there is one of both, else 0) or None for the order of the run.
        descending: where a is ahead first, or what has pictures.
        page: from 1.
        size: images a page.
        layers: what is drawn over the images.
    """

    path: ClassVar[str] = "/compare"
    a: Side = field(default=Side(), metadata={"prefix": "a_"})
    # its run is always written: which one is usual depends on how many there are
    b: Side = field(default=Side(), metadata={"prefix": "b_", "always": "run"})
    dataset: str | None = of("dataset", called="dataset of both")
    target: str | None = of("target", called="target of both")
    region: str | None = of("region", called="region of both")
    metric: str | None = of("metric", called="metric of both")
    threshold: float = of("threshold")
    a_outcome: str | None = of("outcome", name="a_outcome")
    b_outcome: str | None = of("outcome", name="b_outcome")
    sort: str | None = of("pair_sort")
    descending: bool = of("descending")
    page: int = of("page")
    size: int = of("size")
    layers: tuple[str, ...] = of("layers")

    @classmethod
    def _read(cls, given: Given) -> Self:
        a = Side.of_run(given, "a_")
        b = Side.of_run(given, "b_", usual=list(given.known)[-1])
        return cls.among(given, _shared(given.known[a.run], given.known[b.run]), a=a, b=b)

    def cell(self, a: str | None, b: str | None) -> Self:
        """The first page of a cell of the table of counts."""
        return self.but(a_outcome=a, b_outcome=b, page=1)


def _shared(one: Vocabulary, other: Vocabulary) -> Vocabulary:
    """What two models can be compared on: what both have; of the metrics those that rise with agreement."""
    return Vocabulary(
        datasets={name: classes for name, classes in one.datasets.items() if name in other.datasets},
        targets=tuple(name for name in one.targets if name in other.targets),
        regions={name: datasets for name, datasets in one.regions.items() if name in other.regions},
        metrics=rising(name for name in one.metrics if name in other.metrics),
    )
