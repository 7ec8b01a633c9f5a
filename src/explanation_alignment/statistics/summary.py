"""From score rows to explanation alignment: one row per model, seed, dataset, method, region, group and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.runs.schema import SUMMARY_SCHEMA
from explanation_alignment.statistics.chance import adjusted_for_chance, known_metric, levels_of
from explanation_alignment.statistics.intervals import Estimate, MeanEstimator, Scale
from explanation_alignment.statistics.stratified import Design, Populations, design_of, estimate_sampled
from explanation_alignment.statistics.tables import (
    ANNOTATION_SIZE,
    CELL,
    ScoreTable,
    areas_of,
    cells_of,
    cluster_column,
    coded,
    estimate_cells,
    group_columns,
    group_label,
    main_target,
    scale_of,
    unit_of,
)

__all__ = ["summarise"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_CELL_SHOWN: Final = tuple(name for name in CELL if name != "target")
#: The metric whose excess over the centre is told, and the column that holds the centre's score.
_CENTRED: Final = "iou_coverage"
_CENTRE: Final = "center_iou"
#: The metric whose mean over chance is a region's lift.
_LIFTED: Final = "saliency_coverage"
#: Groups that a region's row belongs to, not the image.
_OF_ROWS: Final = (ANNOTATION_SIZE, "status")


def summarise(
    scores: pl.DataFrame | pl.LazyFrame,
    *,
    by: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
    cluster: str | None = None,
    pool_seeds: bool = False,
    populations: Populations | None = None,
) -> pl.DataFrame:
    """Explanation alignment: the mean of each metric over decisions, with interval, chance level and denominator.

    EA(metric) = mean over the decisions where it is defined; ``n`` is how many these are, ``n_undefined`` how many are
    not (:func:`undefined_reasons` tells why). The interval takes the image with all its rows as the unit, or with
    ``cluster`` all images of a class or of an attribute's value; which kind a metric gets depends on its range
    (:mod:`~explanation_alignment.statistics.intervals`): Wilson's for 0/1 metrics, Wilson's for the effective number
    of images for bounded ones, else a bootstrap. ``unreliable`` says that too little stands behind it
    (:class:`~explanation_alignment.statistics.intervals.Estimate`).

    ``chance`` and ``ceiling`` are the means over the same decisions of the analytic levels; null where a decision has
    none. ``lift``, of ``saliency_coverage`` only, is ``ea / chance``. ``excess``, of ``iou_coverage`` only, is the
    mean over decisions of the IoU minus the IoU that a Gaussian at the image's centre has with the same number of
    salient pixels, with the interval of a mean between -1 and 1; null in runs that do not hold the latter.

    ``accuracy`` is the mean of ``correct`` over the images of the group, each image once whatever its number of methods
    and regions; images whose decision failed (``correct`` is null, status ``error``) are left out of it. In groups that
    a region's row belongs to (``annotation_size``, ``status``) the images are those of the row's method and region.

    Where decisions were explained for more than one target, means never mix targets: ``all`` holds the decisions
    explained for ``predicted`` (or for the only target there is); those of any other target stand in the group
    ``target=<target>``, and in its parts ``target=<target>, <column>=<value>``.

    Args:
        scores: rows of a run's ``scores``; the order of the rows does not matter.
        by: attributes (``"hair"`` or ``"attr_hair"``), columns (``"correct"``, ``"label"``) or ``"annotation_size"``
            (strata by the annotation's share of the image) whose values form groups beside ``all``; a missing value is
            the group ``<column>=null``.
        metrics: metric columns; all by default.
        level: nominal coverage of the intervals.
        n_resamples: resamples of a bootstrap.
        seed: seed of a bootstrap.
        cluster: ``"class"`` (or ``"label"``), or an attribute: images that share its value are drawn together; an
            image without a value is a unit of its own.
        pool_seeds: one row for all seeds of a model, ``seed`` null, whose interval adds how far seeds lie apart
            (:meth:`~explanation_alignment.statistics.intervals.MeanEstimator.estimate_crossed`), in place of the rows
            of each seed.
        populations: (model, seed, dataset, target) of class-balanced samples -> how many images of each class the
            dataset has, those without a label last: means, accuracy, chance levels and intervals are then for the whole
            dataset (:mod:`~explanation_alignment.statistics.stratified`). Left aside with ``cluster`` and
            ``pool_seeds``, whose intervals are for other images than the dataset's.

    Returns:
        A table with exactly the columns and types of ``SUMMARY_SCHEMA``, sorted by its first columns; metrics in the
        registry's order, ``all`` before the groups.

    Raises:
        RunError: the table lacks a column that every run has.
        UnknownNameError: a metric, group or cluster is not in the table.
        UsageError: level, n_resamples or seed mean nothing.

    Example:
        >>> import polars as pl
        >>> scores = pl.DataFrame({
        ...     "model": "m", "seed": 0, "dataset": "d", "sample_id": ["a", "b"], "target": "predicted",
        ...     "method": "gradcam", "binarization": "threshold:0.5", "region": "object", "correct": [True, False],
        ...     "status": "ok", "iou_coverage": [0.5, 0.25], "annotation_area": 4, "salient_area": 4,
        ...     "map_height": 4, "map_width": 4,
        ... })
        >>> summarise(scores).select("ea", "n", "accuracy").row(0)
        (0.375, 2, 0.5)
    """
    estimator = MeanEstimator(level=level, n_resamples=n_resamples, seed=seed)
    names = scores.lazy().collect_schema().names()
    groups = group_columns(by, names, sizes=True)
    clusters = cluster_column(cluster, names)
    centre = [_CENTRE] if _CENTRE in names else []
    sampled = bool(populations) and not clusters and not pool_seeds and "label" in names
    extra = [*groups, *([clusters] if clusters else []), *centre, *(["label"] if sampled else [])]
    table = ScoreTable(scores, metrics=metrics, extra=extra)
    if table.rows.is_empty() or not table.metrics:
        return pl.DataFrame(schema=SUMMARY_SCHEMA)
    prefixed = table.rows.with_columns(_target_prefix(table.rows), unit_of(clusters))
    levels = _levels(table)
    design = design_of(table.rows, populations) if populations and sampled else None
    parts = []
    for place, column in enumerate([None, *groups]):
        part = _summarise_groups(table, prefixed, levels, column, estimator, clusters is not None, pool_seeds, design)
        parts.append(part.with_columns(_place=pl.lit(place)))
    order = {name: i for i, name in enumerate(table.metrics)}
    return (
        pl.concat(parts)
        .with_columns(_metric=pl.col("metric").replace_strict(order, return_dtype=pl.Int64))
        .sort(*_CELL_SHOWN, "_target", "_place", "group", "_metric")
        .select(SUMMARY_SCHEMA.names())
        .cast(dict(SUMMARY_SCHEMA))  # type: ignore[arg-type]
    )


def _target_prefix(rows: pl.DataFrame) -> pl.Expr:
    """The group's first words: empty for the main target."""
    is_main = pl.col("target").eq_missing(pl.lit(main_target(rows)))
    if rows.select(is_main.all()).item():
        return pl.lit("").alias("_target")
    other = pl.format("target={}", pl.col("target").fill_null("null"))
    return pl.when(is_main).then(pl.lit("")).otherwise(other).alias("_target")


def _levels(table: ScoreTable) -> Mapping[str, tuple[_Floats, _Floats]]:
    """Chance and ceiling of every row, per metric; NaN where unknown."""
    return levels_of(table.metrics, *areas_of(table.rows))


def _summarise_groups(
    table: ScoreTable,
    prefixed: pl.DataFrame,
    levels: Mapping[str, tuple[_Floats, _Floats]],
    column: str | None,
    estimator: MeanEstimator,
    clustered: bool,
    pool_seeds: bool,
    design: Design | None,
) -> pl.DataFrame:
    """The rows of one grouping: of ``all``, or of the values of one column."""
    rows = prefixed.select(*CELL, "_target", "sample_id", "_unit", "correct", group_label(column))
    cells, cell = cells_of(rows, [*(name for name in CELL if not (pool_seeds and name == "seed")), "_target", "group"])
    columns = [table.rows[m].to_numpy() for m in table.metrics]
    scales = [scale_of(m) for m in table.metrics]
    centred = _CENTRED in table.metrics and _CENTRE in table.rows.columns
    if centred:
        centre = table.rows[_CENTRE].cast(pl.Float64).to_numpy()
        columns.append(table.rows[_CENTRED].to_numpy() - centre)
        scales.append(Scale(-1, 1))
    estimates = estimate_cells(
        rows["_unit"],
        cell,
        cells.height,
        columns,
        scales,
        estimator,
        images=rows["sample_id"] if clustered else None,
        seeds=cells_of(rows, ["seed"])[1] if pool_seeds else None,
    )
    if design is not None:
        for c, several in estimate_sampled(design, cell, cells.height, columns, scales, estimator).items():
            for of_column, one in zip(estimates, several, strict=True):
                of_column[c] = one
    weight = None if design is None else design.weight
    means = [
        [_cell_means(cell, cells.height, values, level, weight) for level in levels[metric]]
        for metric, values in zip(table.metrics, columns[: len(table.metrics)], strict=True)
    ]
    accuracy = _accuracy(rows, cells, cell, weight, of_rows=column in _OF_ROWS)
    records: list[dict[str, object]] = []
    for i, key in enumerate(cells.iter_rows(named=True)):
        for j, metric in enumerate(table.metrics):
            estimate = estimates[j][i]
            chance, ceiling = (_number(level[i]) for level in means[j])
            excess = estimates[-1][i] if centred and metric == _CENTRED else _NO_EXCESS
            records.append(
                {
                    "seed": None,  # where seeds are pooled
                    **key,
                    "metric": metric,
                    "ea": estimate.mean,
                    "ci_low": estimate.low,
                    "ci_high": estimate.high,
                    "chance": chance,
                    "ceiling": ceiling,
                    "adjusted": adjusted_for_chance(estimate.mean, chance, ceiling),
                    "n": estimate.n,
                    "n_undefined": estimate.n_undefined,
                    "accuracy": _number(accuracy[i]),
                    "unreliable": estimate.unreliable,
                    "lift": _lift(metric, estimate.mean, chance),
                    "excess": excess.mean,
                    "excess_low": excess.low,
                    "excess_high": excess.high,
                }
            )
    part = pl.DataFrame(records, schema={**SUMMARY_SCHEMA, "_target": pl.String()}, infer_schema_length=None)
    return part.with_columns(group=_full_group())


_NO_EXCESS: Final = Estimate(None, None, None, 0, 0, "none")


def _lift(metric: str, mean: float | None, chance: float | None) -> float | None:
    """How many times more of the map lies in the region than of the image does; 1 is chance."""
    known = known_metric(metric)
    return mean / chance if known is not None and known.base == _LIFTED and mean is not None and chance else None


def _full_group() -> pl.Expr:
    """``all``, ``attr=x``, ``target=t`` or ``target=t, attr=x``."""
    target, group = pl.col("_target"), pl.col("group")
    return (
        pl.when(target == "")
        .then(group)
        .when(group == "all")
        .then(target)
        .otherwise(pl.concat_str(target, group, separator=", "))
    )


def _accuracy(
    rows: pl.DataFrame, cells: pl.DataFrame, cell: _Ints, weight: _Floats | None, *, of_rows: bool
) -> _Floats:
    """Share of right decisions of each cell's model, seed, dataset and group, each image once; NaN where unknown.

    Where the groups are those of rows, the images are those of the cell itself; where seeds are pooled, of all seeds.
    """
    whole = [name for name in ("model", "dataset", "group", "seed") if name in cells.columns]
    place = np.arange(cells.height) if of_rows else cells_of(cells, whole)[1]
    coordinates = {"_place": pl.Series(place[cell]), "_image": pl.Series(coded(rows["sample_id"])[1])}
    chosen = rows.select("seed", "correct", **coordinates, _weight=pl.lit(None, pl.Float64))
    if weight is not None:
        chosen = chosen.with_columns(_weight=pl.Series(weight).fill_nan(None))
    right, stands_for = pl.col("correct"), pl.col("_weight").filter(pl.col("correct").is_not_null())
    shares = (
        chosen.group_by("_place", "seed", "_image")
        # a row of the image may have failed where another did not
        .agg(right.max(), pl.col("_weight").max())
        .group_by("_place")
        .agg(
            pl.when(pl.col("_weight").is_null().any())
            .then(right.mean())
            .otherwise((right * pl.col("_weight")).sum() / stands_for.sum())
            .first()
        )
    )
    known = np.full(cells.height, np.nan)
    known[shares["_place"].to_numpy()] = shares["correct"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return known[place]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _cell_means(cell: _Ints, cells: int, values: _Floats, levels: _Floats, weight: _Floats | None = None) -> _Floats:
    """Mean of ``levels`` over the rows of each cell where ``values`` is defined; NaN where a level is missing.

    A row counts as much as its ``weight``, where it has one.
    """
    defined = ~np.isnan(values)
    counted = None if weight is None else np.nan_to_num(weight[defined], nan=1.0)
    counts = np.bincount(cell[defined], weights=counted, minlength=cells)
    known = levels[defined] if counted is None else levels[defined] * counted
    sums = np.bincount(cell[defined], weights=known, minlength=cells)
    means: _Floats = np.divide(sums, counts, out=np.full(cells, np.nan), where=counts > 0)
    return means
