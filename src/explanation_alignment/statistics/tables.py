"""Rows of ``scores`` as statistics take them: one form, their groups, their units, and estimates over their cells.

A *cell* is what a mean is taken over: everything of the key but the image. A *unit* is what is drawn anew in an
interval: the image with all its rows, or a cluster of images with all of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.metrics.registry import METRICS
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, KEY_COLUMNS, scores_schema
from explanation_alignment.statistics.chance import known_metric
from explanation_alignment.statistics.intervals import Estimate, MeanEstimator, Scale

__all__ = [
    "ANNOTATION_SIZE",
    "CELL",
    "SIZE_EDGES",
    "ScoreTable",
    "annotation_size",
    "areas_of",
    "cells_of",
    "cluster_column",
    "coded",
    "estimate_cells",
    "group_columns",
    "group_label",
    "main_rows",
    "main_target",
    "metric_columns",
    "no_main_target",
    "scale_of",
    "unit_of",
]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

#: What a mean is taken over: everything of the key but the image.
CELL: Final = tuple(name for name in KEY_COLUMNS if name != "sample_id")
#: Groups by the annotation's share of the image; a stratum holds its lower edge (percent of the map's pixels).
ANNOTATION_SIZE: Final = "annotation_size"
#: The edges of these groups.
SIZE_EDGES: Final = (0, 5, 15, 35, 65, 100)

_FIXED: Final = tuple(scores_schema((), {}).names)
_AREAS: Final = ("salient_area", "annotation_area", "map_height", "map_width")
#: Cells of the (units, columns) matrices that are estimated at once: 128 MB of float64.
_MATRIX_CELLS: Final = 1 << 24
#: Columns beside the attributes whose values may form groups.
_GROUPABLE: Final = ("correct", "label", "prediction", "label_rank", "status")
#: Other words for a column.
_ALSO: Final = {"class": "label"}


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
            extra: further columns to keep; ``annotation_size`` is made from the areas.

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
        keep = [
            name
            for name in dict.fromkeys([*KEY_COLUMNS, "correct", "status", *_AREAS, *extra])
            if name in schema or name != ANNOTATION_SIZE
        ]
        numbers = [pl.col(m).cast(pl.Float64).fill_nan(None) for m in self.metrics]
        words = [pl.col(c).cast(pl.String) for c in keep if _is_word(schema[c])]
        plain = [pl.col(c) for c in keep if not _is_word(schema[c])]
        sizes = [annotation_size()] if ANNOTATION_SIZE in extra and ANNOTATION_SIZE not in schema else []
        rows = (
            lazy.select(*words, *plain, *numbers)
            .with_columns(pl.col("seed").cast(pl.Int64), pl.col("correct").cast(pl.Boolean), *sizes)
            .collect()
        )
        varying = _varying(rows, CELL)  # what is the same everywhere need not be sorted
        if varying and rows["sample_id"].is_sorted():  # as evaluations mostly are: keeping it is a third of the work
            self.rows = rows.sort(*varying, maintain_order=True)
        else:
            self.rows = rows.sort(*varying, "sample_id")


def _varying(rows: pl.DataFrame, names: Iterable[str]) -> list[str]:
    """Those of the columns that hold more than one value."""
    return [name for name in names if not _is_constant(rows[name])]


def _is_constant(column: pl.Series) -> bool:
    if column.null_count() or column.is_empty():
        return column.null_count() == column.len()
    return bool((column == column.first()).all())


def _is_word(kind: pl.DataType) -> bool:
    return kind in (pl.Categorical, pl.Enum, pl.String)


def _among(name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise UnknownNameError("metric of these scores", name, known)
    return name


def annotation_size() -> pl.Expr:
    """The stratum of a row's annotation by its share of the image, such as ``05-15%``; null where it is unknown."""
    share = (
        100 * pl.col("annotation_area").cast(pl.Float64) / (pl.col("map_height").cast(pl.Int64) * pl.col("map_width"))
    )
    size = pl.when(share.is_not_null()).then(pl.lit(f"{SIZE_EDGES[-2]:02d}-{SIZE_EDGES[-1]}%"))
    for low, high in reversed(list(pairwise(SIZE_EDGES[:-1]))):
        size = pl.when(share < high).then(pl.lit(f"{low:02d}-{high:02d}%")).otherwise(size)  # type: ignore[assignment]
    return cast("pl.Expr", size).alias(ANNOTATION_SIZE)


def group_columns(names: Sequence[str], columns: Sequence[str], *, sizes: bool = False) -> list[str]:
    """The columns that names of attributes stand for: ``hair`` or ``attr_hair``, ``correct``, ``label``, ...

    Args:
        names: what was asked for; ``class`` is another word for ``label``.
        columns: the columns of the table.
        sizes: whether ``annotation_size`` may be among the names; it is no column of a run, :class:`ScoreTable` makes
            it.

    Raises:
        UnknownNameError: the table has no such attribute.
    """
    attributes = [c for c in columns if c.startswith(ATTRIBUTE_PREFIX)]
    known = [*(c for c in _GROUPABLE if c in columns), *([ANNOTATION_SIZE] if sizes else []), *attributes]
    found = []
    for name in names:
        column = _ALSO.get(name, name)
        column = column if column in known else ATTRIBUTE_PREFIX + column
        if column not in known:
            raise UnknownNameError("group", name, known)
        found.append(column)
    return list(dict.fromkeys(found))


def cluster_column(name: str | None, columns: Sequence[str]) -> str | None:
    """The column of the clusters that ``name`` stands for; None for None.

    Raises:
        UnknownNameError: it is neither ``class`` (or ``label``) nor an attribute.
    """
    if name is None:
        return None
    known = ["class", "label", *(c for c in columns if c.startswith(ATTRIBUTE_PREFIX))]
    for column in (_ALSO.get(name, name), ATTRIBUTE_PREFIX + name):
        if column in known and column in columns:
            return column
    raise UnknownNameError("cluster", name, known)


def unit_of(cluster: str | None) -> pl.Expr:
    """The unit of a row, String: its cluster, or its image where there is no cluster or none is known."""
    image = pl.col("sample_id")
    if cluster is None:
        return image.alias("_unit")
    value = pl.col(cluster).cast(pl.String)
    return pl.when(value.is_null()).then("image " + image).otherwise("cluster " + value).alias("_unit")


def group_label(column: str | None) -> pl.Expr:
    """The group of a row: ``all``, or ``column=value``, with ``null`` for a missing value."""
    if column is None:
        return pl.lit("all").alias("group")
    value = pl.col(column).cast(pl.String).fill_null("null")
    return pl.format(f"{column}={{}}", value).alias("group")


def main_target(rows: pl.DataFrame) -> str | None:
    """The target that plain means are about: the only one, else ``predicted``."""
    targets = rows["target"].unique().to_list()
    return targets[0] if len(targets) == 1 else "predicted"


def main_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of :func:`main_target`.

    Raises:
        UsageError: the rows are of several targets, none of them ``predicted``, so that none is the main one.
    """
    kept = rows.filter(pl.col("target").eq_missing(pl.lit(main_target(rows))))
    if kept.is_empty() and not rows.is_empty():
        raise UsageError(no_main_target(rows["target"].unique()))
    return kept


def no_main_target(targets: Iterable[str]) -> str:
    """What to say where there are several targets, none of them ``predicted``: none is the main one."""
    named = ", ".join(sorted(str(target) for target in targets))
    return (
        f"the decisions were explained for several targets ({named}), none of them 'predicted', and are not mixed; "
        "keep one target's rows, such as scores.filter(pl.col('target') == '...')"
    )


def areas_of(rows: pl.DataFrame) -> tuple[_Floats, _Floats, _Floats]:
    """Salient pixels, annotated pixels and all pixels of each row; float64, NaN where unknown."""
    b, g, height, width = (rows[c].cast(pl.Float64).to_numpy() for c in _AREAS)
    return b, g, height * width


def cells_of(rows: pl.DataFrame, keys: Sequence[str]) -> tuple[pl.DataFrame, _Ints]:
    """The distinct keys, sorted, and for each row which of them is its own."""
    varying = _varying(rows, keys)
    if not varying:
        return rows.select(keys).head(1), np.zeros(rows.height, np.int64)
    cells = rows.select(varying).with_row_index("_row").group_by(varying).agg("_row").sort(varying)
    cell = np.empty(rows.height, np.int64)
    cell[cells["_row"].explode().to_numpy()] = np.repeat(np.arange(cells.height), cells["_row"].list.len().to_numpy())
    same = rows.select(name for name in keys if name not in varying).head(1)
    whole = cells.drop("_row") if same.width == 0 else same.join(cells.drop("_row"), how="cross")
    return whole.select(keys), cell


def scale_of(metric: str) -> Scale:
    """The values a metric can take; any for one that is not registered."""
    known = known_metric(metric)
    return Scale() if known is None else Scale(*known.range, binary=known.binary)


def estimate_cells(
    ids: pl.Series,
    cell: _Ints,
    cells: int,
    columns: Sequence[_Floats],
    scales: Sequence[Scale],
    estimator: MeanEstimator,
    *,
    images: pl.Series | None = None,
    seeds: _Ints | None = None,
) -> list[list[Estimate]]:
    """Estimates of several columns over the rows of each cell; cells with the same units share their resamples.

    Args:
        ids: (rows,) what is drawn anew, String: sample ids, or the clusters they belong to.
        cell: (rows,) int64, which cell a row belongs to.
        cells: how many cells there are.
        columns: (rows,) float64 values each, NaN where undefined.
        scales: what values each column can take.
        estimator: level, resamples and seed.
        images: (rows,) sample ids, where the ids are clusters.
        seeds: (rows,) int64, which of the pooled seeds (0, 1, ...) a row is of; None where seeds are not pooled.

    Returns:
        ``result[column][cell]``.
    """
    names, unit = coded(ids)
    image = None if images is None else coded(images)[1]
    order = np.lexsort((unit, cell))
    bounds = np.searchsorted(cell[order], np.arange(cells + 1))
    buckets: dict[bytes, list[int]] = {}
    for c in range(cells):
        members = unit[order[bounds[c] : bounds[c + 1]]]
        buckets.setdefault(members[np.diff(members, prepend=-1) > 0].tobytes(), []).append(c)
    runs = 1 if seeds is None or not seeds.size else int(seeds.max()) + 1
    result: list[list[Estimate]] = [[cast("Estimate", None)] * cells for _ in columns]
    for key, same in buckets.items():
        units = np.frombuffer(key, dtype=np.int64)
        if units.size == 0:
            continue
        width = max(1, _MATRIX_CELLS // (units.size * runs * len(columns)))
        for start in range(0, len(same), width):
            part = same[start : start + width]
            shape = (units.size * runs, len(part) * len(columns))
            sums, counts = np.zeros(shape, order="F"), np.zeros(shape, order="F")
            nonzero = np.zeros(shape[1], np.int64)
            for k, c in enumerate(part):
                rows = order[bounds[c] : bounds[c + 1]]
                place = np.searchsorted(units, unit[rows]) * runs
                if seeds is not None:
                    place += seeds[rows]
                for j, values in enumerate(columns):
                    value, column = values[rows], k * len(columns) + j
                    defined = ~np.isnan(value)
                    at, value = place[defined], value[defined]
                    sums[:, column] = np.bincount(at, weights=value, minlength=shape[0])
                    counts[:, column] = np.bincount(at, minlength=shape[0])
                    if image is not None:
                        nonzero[column] = np.unique(image[rows[defined]][value != 0]).size
            number = np.repeat([bounds[c + 1] - bounds[c] for c in part], len(columns))
            informative = None if image is None else nonzero
            kinds = list(scales) * len(part)
            if seeds is None:
                estimates = estimator.estimate(
                    names.gather(units).to_list() if any(not kind.bounded for kind in scales) else [],
                    sums,
                    counts,
                    number,
                    scales=kinds,
                    nonzero=informative,
                )
            else:
                crossed = (units.size, runs, shape[1])
                estimates = estimator.estimate_crossed(
                    sums.reshape(crossed), counts.reshape(crossed), number, scales=kinds, nonzero=informative
                )
            for k, c in enumerate(part):
                for j in range(len(columns)):
                    result[j][c] = estimates[k * len(columns) + j]
    return result


def coded(words: pl.Series) -> tuple[pl.Series, _Ints]:
    """The distinct words (String, none null), sorted, and for each row which of them is its own."""
    rising = (words[1:] > words[:-1]).fill_null(False)
    turn = words.len() if rising.all() else int(cast("int", (~rising).arg_max())) + 1
    if words.null_count() == 0 and (words[turn:] == words[: words.len() - turn]).all():
        return words[:turn], np.arange(words.len()) % max(turn, 1)  # the same images cell after cell: no look-up
    names = words.unique().sort()
    return names, words.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
