"""Pages of decisions: which are meant, in which order, and what is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from explanation_alignment.errors import UsageError
from explanation_alignment.explorer.addresses.kinds import Given
from explanation_alignment.explorer.addresses.states import Part, State, of

__all__ = ["Filters", "GalleryState", "read_filters"]


@dataclass(frozen=True, slots=True)
class Filters(Part):
    """Which rows of the scores are meant; None and () stand for any.

    Args:
        run: ``a`` or ``b``.
        models: any of these.
        seed: of training.
        dataset: its name.
        target: what was explained.
        method: as in the rows, arguments included.
        binarization: as in the rows.
        region: its name.
        label: index of the image's class.
        prediction: index of the predicted class.
        correct: whether the prediction is right.
        status: why a score is or is not defined.
        case: one of the eight cases, or ``unclassified``.
        metric: what ``low`` and ``high`` are about, and what is averaged.
        low: least score.
        high: greatest score.
        sample: part of the sample's id.
        pictured: only decisions with a picture.
        attributes: (name, value as text) pairs; a missing value is ``null``.
    """

    run: str = of("run")
    models: tuple[str, ...] = of("models")
    seed: int | None = of("seed")
    dataset: str | None = of("dataset")
    target: str | None = of("target")
    method: str | None = of("method")
    binarization: str | None = of("binarization")
    region: str | None = of("region")
    label: int | None = of("label")
    prediction: int | None = of("prediction")
    correct: bool | None = of("correct")
    status: str | None = of("status")
    case: str | None = of("case")
    metric: str | None = of("metric")
    low: float | None = of("low")
    high: float | None = of("high")
    sample: str | None = of("sample")
    pictured: bool = of("pictured")
    attributes: tuple[tuple[str, str], ...] = of("attributes")


def read_filters(given: Given) -> Filters:
    """The filters that are given; UsageError as of :meth:`State.read`."""
    chosen = Filters.of_run(given)
    low, high = chosen.low, chosen.high
    if low is not None and high is not None and low > high:
        raise UsageError(f"min={low:g} is more than max={high:g}")
    if (low is not None or high is not None) and chosen.metric is None:
        metrics = given.known[chosen.run].metrics
        raise UsageError("min and max need a metric: metric=" + (metrics[0] if metrics else "..."))
    return chosen


@dataclass(frozen=True, slots=True)
class GalleryState(State):
    """A page of decisions.

    Args:
        chosen: which rows.
        sort: a metric or one of ``SORTS``; None for the order of the run.
        descending: the largest first.
        page: from 1.
        size: decisions a page.
        layers: what is drawn over the images.
    """

    path: ClassVar[str] = "/gallery"
    chosen: Filters = Filters()
    sort: str | None = of("sort")
    descending: bool = of("descending")
    page: int = of("page")
    size: int = of("size")
    layers: tuple[str, ...] = of("layers")

    @classmethod
    def _read(cls, given: Given) -> Self:
        chosen = read_filters(given)
        return cls.among(given, given.known[chosen.run], chosen=chosen)

    def filtered(self, **changed: Any) -> Self:
        """The first page with other filters."""
        return self.but(chosen=self.chosen.but(**changed), page=1)
