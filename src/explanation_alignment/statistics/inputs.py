"""What the statistics are given: a run, its folder, or rows of its scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.runs.schema import NULL_METHODS

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["RunOrScores", "as_run", "score_rows", "without_nulls"]

RunOrScores: TypeAlias = "Run | str | Path | pl.DataFrame | pl.LazyFrame"


def as_run(given: RunOrScores) -> Run | None:
    """The run that was given, opened where it is a folder; None for rows of scores.

    Raises:
        RunError: the folder is no run.
        UsageError: it is neither a run nor a table.
    """
    from explanation_alignment.runs.reader import Run, open_run

    if isinstance(given, pl.DataFrame | pl.LazyFrame):
        return None
    if isinstance(given, str | Path):
        return open_run(given)
    if not isinstance(given, Run):
        raise UsageError(f"expected a run, its folder or a table of scores, got {type(given).__name__}")
    return given


def score_rows(given: RunOrScores) -> pl.DataFrame | pl.LazyFrame:
    """The rows of a run's ``scores``, or the rows given.

    Raises:
        RunError: the run cannot be read or has no scores yet.
        UsageError: it is neither a run nor a table.
    """
    run = as_run(given)
    if run is not None:
        return run.scores()
    assert isinstance(given, pl.DataFrame | pl.LazyFrame)
    return given


def without_nulls(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of methods that explain a model; all of them where no other method is there.

    What a null shows (``NULL_METHODS``) is no finding about a model: it is the same for all of them.
    """
    name = pl.col("method").cast(pl.String).str.split("(").list.first()
    explaining = rows.filter(~name.is_in(NULL_METHODS))
    return rows if explaining.is_empty() else explaining
