"""Right for the right reason: how often a decision is correct *and* its map agrees with the annotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from explanation_alignment.errors import UsageError
from explanation_alignment.statistics.chance import known_metric
from explanation_alignment.statistics.intervals import MeanEstimator, Scale, wilson_interval
from explanation_alignment.statistics.tables import (
    CELL,
    ScoreTable,
    cells_of,
    cluster_column,
    estimate_cells,
    group_columns,
    group_label,
    main_rows,
    scale_of,
    unit_of,
)

__all__ = ["RIGHT_REASON_SCHEMA", "right_reason", "right_reason_curve"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_SHOWN: Final = tuple(name for name in CELL if name != "target")

#: Columns of the table of :func:`right_reason`.
RIGHT_REASON_SCHEMA: Final = pl.Schema(
    {
        "model": pl.String,
        "seed": pl.Int64,
        "dataset": pl.String,
        "method": pl.String,
        "binarization": pl.String,
        "region": pl.String,
        "group": pl.String,
        "metric": pl.String,
        "threshold": pl.Float64,
        "rate": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "of_correct": pl.Float64,
        "accuracy": pl.Float64,
        "n": pl.Int64,
        "n_undefined": pl.Int64,
        "unreliable": pl.Boolean,
    }
)


def right_reason(
    scores: pl.DataFrame | pl.LazyFrame,
    *,
    threshold: float = 0.5,
    metric: str = "iou_coverage",
    by: Sequence[str] = (),
    level: float = 0.95,
    cluster: str | None = None,
) -> pl.DataFrame:
    """P(correct and score >= threshold): the share of decisions that are right, and right for the right reason.

    A decision without a score (no annotation, a flat map, ...) or whose correctness is unknown is left out of the rate
    and counted in ``n_undefined``: it is not known what it was right for. Decisions explained for other targets than
    the main one (``predicted``, or the only one there is) are left out altogether. A threshold is compared at the
    precision of the scores, so that an IoU stored as 0.7 counts as 0.7.

    Args:
        scores: rows of a run's ``scores``.
        threshold: the least score that counts as the right reason.
        metric: a metric column whose scores rise with agreement.
        by: groups beside ``all``, as in :func:`~explanation_alignment.statistics.summary.summarise`.
        level: nominal coverage of the interval.
        cluster: as there.

    Returns:
        A row per model, seed, dataset, method, binarization, region and group, sorted, with the columns of
        ``RIGHT_REASON_SCHEMA``: the ``rate`` with its Wilson interval (its unit the image with all its rows);
        ``of_correct``, the share of the correct decisions that are right for the right reason, null without one;
        ``accuracy`` over the same ``n`` decisions; ``unreliable`` as in the summary.

    Raises:
        RunError: the table lacks a column that every run has.
        UnknownNameError: the metric, a group or the cluster is not in the table.
        UsageError: threshold or level mean nothing, the metric's scores fall with agreement, or there are several
            targets and none is the main one.

    Example:
        >>> import polars as pl
        >>> scores = pl.DataFrame({
        ...     "model": "m", "seed": 0, "dataset": "d", "sample_id": ["a", "b", "c", "d"], "target": "predicted",
        ...     "method": "gradcam", "binarization": "threshold:0.5", "region": "object",
        ...     "correct": [True, True, False, True], "status": "ok", "iou_coverage": [0.5, 0.2, 0.9, None],
        ...     "annotation_area": 4, "salient_area": 4, "map_height": 4, "map_width": 4,
        ... })
        >>> right_reason(scores, threshold=0.5).select("rate", "accuracy", "n", "n_undefined").row(0)
        (0.3333333333333333, 0.6666666666666666, 3, 1)
    """
    parts = []
    if threshold > scale_of(metric).high:
        raise UsageError(f"threshold {threshold:g}: {metric} is at most {scale_of(metric).high:g}")
    [limit], columns, table = _prepare(scores, metric, [threshold], by, cluster)
    clustered = cluster_column(cluster, table.columns)
    for place, column in enumerate([None, *columns]):
        rows = table.with_columns(group_label(column))
        cells, cell = cells_of(rows, [*_SHOWN, "group"])
        good, right = _outcomes(rows, metric, limit)
        estimates, shares = estimate_cells(
            rows["_unit"],
            cell,
            cells.height,
            [good, right],
            [Scale(0, 1, binary=True)] * 2,
            MeanEstimator(level=level),
            images=None if clustered is None else rows["sample_id"],
        )
        part = cells.with_columns(
            metric=pl.lit(metric),
            threshold=pl.lit(float(threshold)),
            rate=_column([e.mean for e in estimates]),
            ci_low=_column([e.low for e in estimates]),
            ci_high=_column([e.high for e in estimates]),
            of_correct=_column(
                [
                    e.mean / a.mean if e.mean is not None and a.mean else None
                    for e, a in zip(estimates, shares, strict=True)
                ]
            ),
            accuracy=_column([a.mean for a in shares]),
            n=pl.Series([e.n for e in estimates], dtype=pl.Int64),
            n_undefined=pl.Series([e.n_undefined for e in estimates], dtype=pl.Int64),
            unreliable=pl.Series([e.unreliable for e in estimates], dtype=pl.Boolean),
            _place=pl.lit(place),
        )
        parts.append(part)
    whole = pl.concat(parts).sort(*_SHOWN, "_place", "group")
    return whole.select(pl.col(name).cast(kind) for name, kind in RIGHT_REASON_SCHEMA.items())


def right_reason_curve(
    scores: pl.DataFrame | pl.LazyFrame,
    *,
    thresholds: ArrayLike | None = None,
    metric: str = "iou_coverage",
    by: Sequence[str] = (),
    level: float = 0.95,
    cluster: str | None = None,
) -> pl.DataFrame:
    """:func:`right_reason` at every threshold: a curve that never rises and starts at the accuracy.

    The rates are exact: the number of correct decisions at or above each threshold, looked up in their sorted scores.

    Args:
        scores: rows of a run's ``scores``.
        thresholds: ascending or not; by default 0, 0.01, ..., 1.
        metric: as in :func:`right_reason`.
        by: as there.
        level: as there; each interval is for its own threshold, not for the curve as a whole.
        cluster: as there.

    Returns:
        A row per cell, group and threshold, sorted: the key, ``group``, ``metric``, ``threshold``, ``rate``,
        ``ci_low``, ``ci_high``, ``n`` and ``n_undefined``.

    Raises:
        As :func:`right_reason`.
    """
    given = np.unique(np.linspace(0, 1, 101) if thresholds is None else np.asarray(thresholds, np.float64))
    if given.size == 0:
        raise UsageError("give at least one threshold, such as 0.5")
    limits, columns, table = _prepare(scores, metric, given.tolist(), by, cluster)
    estimator = MeanEstimator(level=level)
    frames = []
    for place, column in enumerate([None, *columns]):
        rows = table.with_columns(group_label(column))
        cells, cell = cells_of(rows, [*_SHOWN, "group"])
        order = np.argsort(cell, kind="stable")
        bounds = np.searchsorted(cell[order], np.arange(cells.height + 1))
        values, correct = rows[metric].to_numpy(), rows["correct"].cast(pl.Float64).to_numpy()
        units = rows["_unit"].rank("dense").to_numpy()
        for c in range(cells.height):
            of = order[bounds[c] : bounds[c + 1]]
            known = of[~np.isnan(values[of]) & ~np.isnan(correct[of])]
            frame = _curve(values[known], correct[known] == 1, units[known], limits, estimator)
            key = cells.row(c, named=True)
            frames.append(
                frame.select(
                    *(pl.lit(key[name], dtype=RIGHT_REASON_SCHEMA[name]).alias(name) for name in (*_SHOWN, "group")),
                    metric=pl.lit(metric),
                    threshold=pl.Series(given),
                    rate="rate",
                    ci_low="low",
                    ci_high="high",
                    n=pl.lit(known.size, dtype=pl.Int64),
                    n_undefined=pl.lit(of.size - known.size, dtype=pl.Int64),
                    _place=pl.lit(place),
                )
            )
    if not frames:
        names = [*_SHOWN, "group", "metric", "threshold", "rate", "ci_low", "ci_high", "n", "n_undefined"]
        return pl.DataFrame(schema={name: RIGHT_REASON_SCHEMA[name] for name in names})
    return pl.concat(frames).sort(*_SHOWN, "_place", "group", "threshold").drop("_place")


def _prepare(
    scores: pl.DataFrame | pl.LazyFrame,
    metric: str,
    thresholds: Sequence[float],
    by: Sequence[str],
    cluster: str | None,
) -> tuple[list[float], list[str], pl.DataFrame]:
    """Thresholds at the scores' precision, the columns of the groups, and the rows of the main target."""
    known = known_metric(metric)
    if known is not None and not known.higher_is_better:
        raise UsageError(
            f"{metric} falls with agreement; the right reason needs a metric that rises, such as iou_coverage"
        )
    if not np.isfinite(thresholds).all():
        raise UsageError(f"a threshold must be a number, got {thresholds}")
    schema = scores.lazy().collect_schema()
    groups = group_columns(by, schema.names(), sizes=True)
    clusters = cluster_column(cluster, schema.names())
    table = ScoreTable(scores, metrics=[metric], extra=[*groups, *([clusters] if clusters else [])])
    rows = main_rows(table.rows)
    single = schema[metric] == pl.Float32
    limits = [float(np.float32(t)) if single else float(t) for t in thresholds]
    return limits, groups, rows.with_columns(unit_of(clusters))


def _outcomes(rows: pl.DataFrame, metric: str, limit: float) -> tuple[_Floats, _Floats]:
    """Right for the right reason, and right, of each row: 1, 0, or NaN where score or correctness is unknown."""
    values, correct = rows[metric].to_numpy(), rows["correct"].cast(pl.Float64).to_numpy()
    right = np.where(np.isnan(values), np.nan, correct)
    return np.where(np.isnan(right), np.nan, (right == 1) & (values >= limit)), right


def _curve(
    values: _Floats, correct: NDArray[np.bool_], units: _Ints, limits: Sequence[float], estimator: MeanEstimator
) -> pl.DataFrame:
    """Rate and interval at every limit, of decisions that are all defined."""
    place, unit = np.unique(units, return_inverse=True)
    n = values.size
    if place.size == n:  # one row a unit: its number of hits is all there is to know
        held = np.sort(values[correct])
        hits = held.size - np.searchsorted(held, limits, side="left")
        low, high = wilson_interval(hits, n, estimator.level)
    else:
        sums = np.zeros((place.size, len(limits)))
        for column, limit in enumerate(limits):
            sums[:, column] = np.bincount(unit, weights=correct & (values >= limit), minlength=place.size)
        counts = np.repeat(np.bincount(unit, minlength=place.size)[:, None].astype(np.float64), len(limits), axis=1)
        scales = [Scale(0, 1, binary=True)] * len(limits)
        found = estimator.estimate([], sums, counts, np.full(len(limits), n), scales=scales)
        low, high = (np.array([getattr(e, side) for e in found], np.float64) for side in ("low", "high"))
        hits = sums.sum(axis=0)
    rate = hits / n if n else np.full(len(limits), np.nan)
    return pl.DataFrame({"rate": rate, "low": low, "high": high}).fill_nan(None)


def _column(values: Sequence[float | None]) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64)
