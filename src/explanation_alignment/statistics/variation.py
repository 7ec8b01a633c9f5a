"""What a mean leaves out: why scores are undefined, and how far evaluations that repeat each other lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.chance import known_metric
from explanation_alignment.statistics.tables import CELL, ScoreTable, metric_columns

__all__ = ["spread", "undefined_reasons"]


def undefined_reasons(scores: pl.DataFrame | pl.LazyFrame, *, metrics: Sequence[str] | None = None) -> pl.DataFrame:
    """Why scores are undefined, counted.

    A row's status says why all its metrics are (``no_annotation``, ``annotation_cropped``, ``flat_map``, ``error``).
    Where the status is ``ok`` the reason follows from the metric and the areas: ``empty_binarization`` (no salient
    pixel), ``full_annotation`` (every pixel annotated), ``no_positive_mass``; ``undefined`` for a metric that is not
    registered.

    Args:
        scores: rows of a run's ``scores``.
        metrics: metric columns; all by default.

    Returns:
        Columns model, seed, dataset, target, method, binarization, region, metric, reason (String; seed Int64) and
        ``n`` (Int64), sorted; no row where nothing is undefined.

    Raises:
        RunError, UnknownNameError: as in :func:`summarise`.
    """
    table = ScoreTable(scores, metrics=metrics)
    parts = [
        table.rows.filter(pl.col(metric).is_null())
        .group_by(*CELL, reason=_reason(metric))
        .agg(n=pl.len().cast(pl.Int64))
        .with_columns(metric=pl.lit(metric), _metric=pl.lit(place))
        for place, metric in enumerate(table.metrics)
    ]
    columns = [*CELL, "metric", "reason", "n"]
    if not parts:
        schema = {name: pl.Int64 if name in ("seed", "n") else pl.String for name in columns}
        return pl.DataFrame(schema=schema)
    return pl.concat(parts).sort(*CELL, "_metric", "reason").select(columns)


def _reason(metric: str) -> pl.Expr:
    known = known_metric(metric)
    possible = known.undefined if known else ()
    of_areas = {
        "empty_binarization": pl.col("salient_area") == 0,
        "full_annotation": pl.col("annotation_area") == pl.col("map_height") * pl.col("map_width"),
        "no_positive_mass": pl.lit(True),
    }
    reason = pl.lit("undefined")
    for name in reversed(list(of_areas)):  # the first that holds wins
        if name in possible:
            reason = pl.when(of_areas[name]).then(pl.lit(name)).otherwise(reason)
    return pl.when(pl.col("status") == "ok").then(reason).otherwise(pl.col("status"))


def spread(
    summary: pl.DataFrame, *, over: Literal["dataset", "seed"], members: Sequence[str] | Sequence[int] | None = None
) -> pl.DataFrame:
    """How far evaluations that repeat each other lie apart: over seeds, or over draws of one test set.

    An interval of :func:`summarise` tells how far another sample of images could lie; the spread over seeds tells how
    far another training run does. It is the larger one more often than not.

    Args:
        summary: a table of :func:`summarise`.
        over: what is repeated.
        members: the values of ``over`` that repeat each other, such as the names of the permuted test sets; all by
            default. Other rows are left out.

    Returns:
        A row per remaining key (model, seed or dataset, method, binarization, region, group, metric), sorted, with
        ``replicates`` (Int64, how many evaluations, undefined ones included), ``ea_mean``, ``ea_std`` (sample standard
        deviation, null for one), ``ea_min``, ``ea_max`` and the same four of ``accuracy``.

    Raises:
        UsageError: ``over`` is neither.
        UnknownNameError: a member is not in the table.
    """
    if over not in ("dataset", "seed"):
        raise UsageError(f"over must be 'dataset' or 'seed', got {over!r}")
    if members is not None:
        present = summary[over].unique().to_list()
        for member in members:
            if member not in present:
                raise UnknownNameError(over, str(member), [str(p) for p in present])
        summary = summary.filter(pl.col(over).is_in(list(members)))
    keys = ["model", "seed", "dataset", "method", "binarization", "region", "group", "metric"]
    keys.remove(over)
    order = {name: i for i, name in enumerate(metric_columns(summary["metric"].unique().to_list()))}
    return (
        summary.group_by(keys)
        .agg(
            replicates=pl.len().cast(pl.Int64),
            **{
                f"{name}_{word}": statistic
                for name in ("ea", "accuracy")
                for word, statistic in (
                    ("mean", pl.col(name).mean()),
                    ("std", pl.col(name).std()),
                    ("min", pl.col(name).min()),
                    ("max", pl.col(name).max()),
                )
            },
        )
        .with_columns(_metric=pl.col("metric").replace_strict(order, return_dtype=pl.Int64))
        .sort(*keys[:-1], "_metric")
        .drop("_metric")
    )
