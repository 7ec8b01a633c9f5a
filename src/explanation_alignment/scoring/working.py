"""Scores maps unit by unit; where a process that reads ahead dies, this one reads from then on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from explanation_alignment.batches import lost_worker
from explanation_alignment.errors import RunWarning, first_line
from explanation_alignment.runs.working import UnitRows, UnitWatch, Unread, work_on
from explanation_alignment.runs.writer import EvaluationWriter

__all__ = ["Scorer", "score_units"]


class Scorer(Protocol):
    """What scores maps that are there already."""

    def unit(self, number: int, watch: UnitWatch) -> UnitRows:
        """What a unit comes to; the watch is told of every batch."""
        ...

    def without_workers(self) -> Self:
        """The same, reading in this process."""
        ...


def score_units(
    scorer: Scorer,
    evaluation: EvaluationWriter,
    units: Mapping[int, Sequence[int]],
    rows_each: int,
    unread: Unread,
    name: str,
    progress: bool,
) -> bool:
    """Write the units that are missing; whether there were any.

    Args:
        scorer: scores them.
        evaluation: writes them.
        units: unit -> places of its samples.
        rows_each: rows of a sample.
        unread: how many samples may be unreadable.
        name: what the bar says.
        progress: whether to show one.

    Raises:
        RunError: too many samples could not be read.
    """

    def compute(number: int, watch: UnitWatch) -> UnitRows:
        nonlocal scorer
        try:
            return scorer.unit(number, watch)
        except RuntimeError as error:
            if not lost_worker(error):
                raise
            warnings.warn(
                f"a process that read ahead died, going on without ({first_line(error)})", RunWarning, stacklevel=2
            )
        scorer = scorer.without_workers()
        watch.anew()
        return scorer.unit(number, watch)

    return work_on(evaluation, units, rows_each, compute, unread, name, progress=progress)
