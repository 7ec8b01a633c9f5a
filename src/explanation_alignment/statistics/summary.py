"""From score rows to explanation alignment: one row per model, seed, dataset, method, region, group and metric."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.metrics.registry import METRICS
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, KEY_COLUMNS, SUMMARY_SCHEMA, scores_schema
from explanation_alignment.statistics.chance import adjusted_for_chance, ceiling_levels, chance_levels, known_metric
from explanation_alignment.statistics.intervals import Estimate, MeanEstimator, Scale

__all__ = ["ScoreTable", "metric_columns", "spread", "summarise", "undefined_reasons"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

#: What a mean is taken over: everything of the key but the image.
_CELL: Final = tuple(name for name in KEY_COLUMNS if name != "sample_id")
_FIXED: Final = tuple(scores_schema((), {}).names)
_AREAS: Final = ("salient_area", "annotation_area", "map_height", "map_width")
#: Cells of the (images, columns) matrices that are resampled at once: 128 MB of float64.
_MATRIX_CELLS: Final = 1 << 24
#: Columns beside the attributes whose values may form groups.
_GROUPABLE: Final = ("correct", "label", "prediction", "label_rank", "status")


def metric_columns(columns: Iterable[str]) -> list[str]:
    """The metrics among the columns of a ``scores`` table: registered ones in the registry's order, then the others.

    Args:
        columns: column names of the table.

    Returns:
        What is neither a key, nor part of the decision, nor an attribute.
    """
    order = list(METRICS)
    names = [c for c in columns if c not in _FIXED and not c.startswith(ATTRIBUTE_PREFIX)]

    def place(name: str) -> tuple[int, str]:
        metric = known_metric(name)
        return (order.index(metric.base) if metric else len(order), name)

    return sorted(names, key=place)


class ScoreTable:
    """A ``scores`` table in one known form: words as String, metrics as Float64 without NaN, sorted by image.

    Attributes:
        rows: the table, sorted by cell and sample id.
        metrics: its metric columns.
    """

    def __init__(
        self, scores: pl.DataFrame | pl.LazyFrame, *, metrics: Sequence[str] | None = None, extra: Sequence[str] = ()
    ) -> None:
        """Select, cast and sort.

        Args:
            scores: rows of a run's ``scores``.
            metrics: the metrics to keep; all by default.
            extra: further columns to keep.

        Raises:
            RunError: a column every run has is missing.
            UnknownNameError: a metric is not in the table.
            UsageError: a metric's column holds no numbers.
        """
        lazy = scores.lazy()
        schema = lazy.collect_schema()
        missing = [c for c in (*KEY_COLUMNS, "correct", "status", *_AREAS) if c not in schema]
        if missing:
            raise RunError(f"these are not the scores of a run: column {missing[0]!r} is missing")
        present = metric_columns(schema.names())
        self.metrics = present if metrics is None else [_among(m, present) for m in metrics]
        for name in self.metrics:
            if not (schema[name].is_numeric() or schema[name] == pl.Null):
                raise UsageError(f"column {name!r} of the scores is {schema[name]}, not numbers; it is no metric")
        keep = dict.fromkeys([*KEY_COLUMNS, "correct", "status", *_AREAS, *extra])
        numbers = [pl.col(m).cast(pl.Float64).fill_nan(None) for m in self.metrics]
        words = [pl.col(c).cast(pl.String) for c in keep if _is_word(schema[c])]
        plain = [pl.col(c) for c in keep if not _is_word(schema[c])]
        self.rows = (
            lazy.select(*words, *plain, *numbers)
            .with_columns(pl.col("seed").cast(pl.Int64), pl.col("correct").cast(pl.Boolean))
            .sort(*_CELL, "sample_id")
            .collect()
        )


def _is_word(kind: pl.DataType) -> bool:
    return kind in (pl.Categorical, pl.Enum, pl.String)


def _among(name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise UnknownNameError("metric of these scores", name, known)
    return name


def group_columns(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The columns that names of attributes stand for: ``hair`` or ``attr_hair``, ``correct``, ``label``, ...

    Raises:
        UnknownNameError: the table has no such attribute.
    """
    attributes = [c for c in columns if c.startswith(ATTRIBUTE_PREFIX)]
    known = [*attributes, *_GROUPABLE]
    found = []
    for name in names:
        column = name if name in known else ATTRIBUTE_PREFIX + name
        if column not in known:
            raise UnknownNameError("group", name, known)
        found.append(column)
    return list(dict.fromkeys(found))


def summarise(
    scores: pl.DataFrame | pl.LazyFrame,
    *,
    by: Sequence[str] = (),
    metrics: Sequence[str] | None = None,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pl.DataFrame:
    """Explanation alignment: the mean of each metric over decisions, with interval, chance level and denominator.

    EA(metric) = mean over the decisions where it is defined; ``n`` is how many these are, ``n_undefined`` how many are
    not (:func:`undefined_reasons` tells why). The interval takes the image with all its rows as the unit; which kind a
    metric gets depends on its range (:mod:`~explanation_alignment.statistics.intervals`): Wilson's for 0/1 metrics,
    Wilson's for the effective number of images for bounded ones, else a bootstrap. ``chance`` and ``ceiling`` are the
    means over the same decisions of the analytic levels; null where a decision has none.

    ``accuracy`` is the mean of ``correct`` over the images of the group, each image once whatever its number of methods
    and regions; images whose decision failed (``correct`` is null, status ``error``) are left out of it.

    Where decisions were explained for more than one target, means never mix targets: ``all`` holds the decisions
    explained for ``predicted`` (or for the only target there is); those of any other target stand in the group
    ``target=<target>``, and in its parts ``target=<target>, <column>=<value>``.

    Args:
        scores: rows of a run's ``scores``; the order of the rows does not matter.
        by: attributes (``"hair"`` or ``"attr_hair"``) or columns (``"correct"``, ``"label"``) whose values form groups
            beside ``all``; a missing value is the group ``<column>=null``.
        metrics: metric columns; all by default.
        level: nominal coverage of the intervals.
        n_resamples: resamples of a bootstrap.
        seed: seed of a bootstrap.

    Returns:
        A table with exactly the columns and types of ``SUMMARY_SCHEMA``, sorted by its first columns; metrics in the
        registry's order, ``all`` before the groups.

    Raises:
        RunError: the table lacks a column that every run has.
        UnknownNameError: a metric or group is not in the table.
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
    groups = group_columns(by, scores.lazy().collect_schema().names())
    table = ScoreTable(scores, metrics=metrics, extra=groups)
    if table.rows.is_empty() or not table.metrics:
        return pl.DataFrame(schema=SUMMARY_SCHEMA)
    prefixed = table.rows.with_columns(_target_prefix(table.rows))
    levels = _levels(table)
    parts = []
    for place, column in enumerate([None, *groups]):
        part = _summarise_groups(table, prefixed, levels, column, estimator)
        parts.append(part.with_columns(_place=pl.lit(place)))
    order = {name: i for i, name in enumerate(table.metrics)}
    return (
        pl.concat(parts)
        .with_columns(_metric=pl.col("metric").replace_strict(order, return_dtype=pl.Int64))
        .sort(*_CELL_SHOWN, "_target", "_place", "group", "_metric")
        .select(SUMMARY_SCHEMA.names())
        .cast(dict(SUMMARY_SCHEMA))  # type: ignore[arg-type]
    )


_CELL_SHOWN: Final = tuple(name for name in _CELL if name != "target")


def main_target(rows: pl.DataFrame) -> str | None:
    """The target that plain means are about: the only one, else ``predicted``."""
    targets = rows["target"].unique().to_list()
    return targets[0] if len(targets) == 1 else "predicted"


def _target_prefix(rows: pl.DataFrame) -> pl.Expr:
    """The group's first words: empty for the main target."""
    return (
        pl.when(pl.col("target").eq_missing(pl.lit(main_target(rows))))
        .then(pl.lit(""))
        .otherwise(pl.format("target={}", pl.col("target").fill_null("null")))
        .alias("_target")
    )


def areas_of(rows: pl.DataFrame) -> tuple[_Floats, _Floats, _Floats]:
    """Salient pixels, annotated pixels and all pixels of each row; float64, NaN where unknown."""
    b, g, height, width = (rows[c].cast(pl.Float64).to_numpy() for c in _AREAS)
    return b, g, height * width


def _levels(table: ScoreTable) -> Mapping[str, tuple[_Floats, _Floats]]:
    """Chance and ceiling of every row, per metric; NaN where unknown."""
    areas = areas_of(table.rows)
    return {m: (chance_levels(m, *areas), ceiling_levels(m, *areas)) for m in table.metrics}


def _summarise_groups(
    table: ScoreTable,
    prefixed: pl.DataFrame,
    levels: Mapping[str, tuple[_Floats, _Floats]],
    column: str | None,
    estimator: MeanEstimator,
) -> pl.DataFrame:
    """The rows of one grouping: of ``all``, or of the values of one column."""
    keys = [*_CELL, "_target", "group"]
    rows = prefixed.select(*_CELL, "_target", "sample_id", "correct", _group_label(column))
    cells, cell = cells_of(rows, keys)
    columns = [table.rows[m].to_numpy() for m in table.metrics]
    scales = [scale_of(m) for m in table.metrics]
    estimates = estimate_cells(rows["sample_id"], cell, cells.height, columns, scales, estimator)
    means = [
        [_cell_means(cell, cells.height, values, level) for level in levels[metric]]
        for metric, values in zip(table.metrics, columns, strict=True)
    ]
    accuracy = _accuracy(rows)
    records: list[dict[str, object]] = []
    for i, key in enumerate(cells.iter_rows(named=True)):
        for j, metric in enumerate(table.metrics):
            estimate = estimates[j][i]
            chance, ceiling = (_number(level[i]) for level in means[j])
            records.append(
                {
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
                    "accuracy": accuracy[key["model"], key["seed"], key["dataset"], key["group"]],
                }
            )
    part = pl.DataFrame(records, schema={**SUMMARY_SCHEMA, "_target": pl.String()}, infer_schema_length=None)
    return part.with_columns(group=_full_group())


def cells_of(rows: pl.DataFrame, keys: Sequence[str]) -> tuple[pl.DataFrame, _Ints]:
    """The distinct keys, sorted, and for each row which of them is its own."""
    cells = rows.with_row_index("_row").group_by(keys).agg("_row").sort(keys)
    cell = np.empty(rows.height, np.int64)
    cell[cells["_row"].explode().to_numpy()] = np.repeat(np.arange(cells.height), cells["_row"].list.len().to_numpy())
    return cells.drop("_row"), cell


def _group_label(column: str | None) -> pl.Expr:
    if column is None:
        return pl.lit("all").alias("group")
    value = pl.col(column).cast(pl.String).fill_null("null")
    return pl.format(f"{column}={{}}", value).alias("group")


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


def _accuracy(rows: pl.DataFrame) -> Mapping[tuple[object, ...], float | None]:
    """Share of right decisions per (model, seed, dataset, group), each image once."""
    place = ["model", "seed", "dataset", "group"]
    shares = (
        rows.group_by(*place, "sample_id")
        .agg(pl.col("correct").max())  # a row of the image may have failed where another did not
        .group_by(place)
        .agg(pl.col("correct").mean())
    )
    return {tuple(key): share for *key, share in shares.iter_rows()}


def scale_of(metric: str) -> Scale:
    """The values a metric can take; any for one that is not registered."""
    known = known_metric(metric)
    return Scale() if known is None else Scale(*known.range, binary=known.binary)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _cell_means(cell: _Ints, cells: int, values: _Floats, levels: _Floats) -> _Floats:
    """Mean of ``levels`` over the rows of each cell where ``values`` is defined; NaN where a level is missing."""
    defined = ~np.isnan(values)
    counts = np.bincount(cell[defined], minlength=cells)
    sums = np.bincount(cell[defined], weights=levels[defined], minlength=cells)
    means: _Floats = np.divide(sums, counts, out=np.full(cells, np.nan), where=counts > 0)
    return means


def estimate_cells(
    ids: pl.Series,
    cell: _Ints,
    cells: int,
    columns: Sequence[_Floats],
    scales: Sequence[Scale],
    estimator: MeanEstimator,
) -> list[list[Estimate]]:
    """Estimates of several columns over the rows of each cell; cells with the same images share their resamples.

    Args:
        ids: (rows,) sample ids, String.
        cell: (rows,) int64, which cell a row belongs to.
        cells: how many cells there are.
        columns: (rows,) float64 values each, NaN where undefined.
        scales: what values each column can take.
        estimator: level, resamples and seed.

    Returns:
        ``result[column][cell]``.
    """
    names = ids.unique().sort()
    sample = ids.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    order = np.lexsort((sample, cell))
    bounds = np.searchsorted(cell[order], np.arange(cells + 1))
    buckets: dict[bytes, list[int]] = {}
    for c in range(cells):
        images = np.unique(sample[order[bounds[c] : bounds[c + 1]]])
        buckets.setdefault(images.tobytes(), []).append(c)
    result: list[list[Estimate]] = [[cast("Estimate", None)] * cells for _ in columns]
    for key, members in buckets.items():
        images = np.frombuffer(key, dtype=np.int64)
        if images.size == 0:
            continue
        width = max(1, _MATRIX_CELLS // (images.size * len(columns)))
        for start in range(0, len(members), width):
            part = members[start : start + width]
            rows = [order[bounds[c] : bounds[c + 1]] for c in part]
            at = [np.searchsorted(images, sample[r]) for r in rows]
            sums = np.zeros((images.size, len(part) * len(columns)))
            counts = np.zeros_like(sums)
            for k, (chosen, position) in enumerate(zip(rows, at, strict=True)):
                for j, values in enumerate(columns):
                    value = values[chosen]
                    defined = ~np.isnan(value)
                    place, column = position[defined], k * len(columns) + j
                    sums[:, column] = np.bincount(place, weights=value[defined], minlength=images.size)
                    counts[:, column] = np.bincount(place, minlength=images.size)
            estimates = estimator.estimate(
                names.gather(images).to_list(),
                sums,
                counts,
                np.repeat([r.size for r in rows], len(columns)),
                scales=list(scales) * len(part),
            )
            for k, c in enumerate(part):
                for j in range(len(columns)):
                    result[j][c] = estimates[k * len(columns) + j]
    return result


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
        .group_by(*_CELL, reason=_reason(metric))
        .agg(n=pl.len().cast(pl.Int64))
        .with_columns(metric=pl.lit(metric), _metric=pl.lit(place))
        for place, metric in enumerate(table.metrics)
    ]
    columns = [*_CELL, "metric", "reason", "n"]
    if not parts:
        schema = {name: pl.Int64 if name in ("seed", "n") else pl.String for name in columns}
        return pl.DataFrame(schema=schema)
    return pl.concat(parts).sort(*_CELL, "_metric", "reason").select(columns)


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
