"""Which comparison a report shows: models on the same images, or the methods of one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.statistics.comparing.comparison import compare
from explanation_alignment.statistics.inputs import without_nulls

__all__ = ["Comparison", "compared"]

#: Models up to which every pair is compared; more are compared with one.
_PAIRED: Final = 6


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison and what it is of.

    Attributes:
        between: ``model`` or ``method``.
        reference: what all are compared with; None where every pair is.
        table: from :func:`~explanation_alignment.statistics.comparing.comparison.compare`.
    """

    between: str
    reference: str | None
    table: pl.DataFrame


def compared(rows: pl.DataFrame, metric: str, *, over_seeds: bool) -> Comparison | None:
    """Compare models; the methods where there is one model; None where there is one of each, or nothing in common.

    Args:
        rows: scores of one target; of one method where there are several models.
        metric: to compare, beside accuracy.
        over_seeds: whether to take a model's seeds together.
    """
    rows = without_nulls(rows.with_columns(pl.col("model", "method").cast(pl.String)))
    between = next((name for name in ("model", "method") if rows[name].n_unique() > 1), None)
    if between is None:
        return None
    reference = None
    if between == "model" and rows["model"].n_unique() > _PAIRED:
        accuracy = rows.group_by("model").agg(pl.col("correct").mean())
        reference = accuracy.sort("correct", "model", descending=[True, False])["model"][0]
    metrics = [metric, "accuracy"] if between == "model" else [metric]
    try:
        table = compare(rows, between=between, metrics=metrics, reference=reference, common=True, over_seeds=over_seeds)
    except UsageError:  # no two were evaluated alike
        return None
    return Comparison(between, reference, table)
