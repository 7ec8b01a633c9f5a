"""What is compared, side by side: a table of scores an image and a model (or method, region, ...) for each cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX
from explanation_alignment.statistics.chance import chance_levels
from explanation_alignment.statistics.tables import CELL, ScoreTable, areas_of, group_columns, metric_columns, unit_of

__all__ = ["ACCURACY", "BETWEEN", "CELL", "Block", "Rows", "blocks", "check_images", "one_run", "two_runs"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

#: The name under which accuracy is compared beside the metrics.
ACCURACY: Final = "accuracy"

#: Parts of a decision's key between which the same images are compared.
BETWEEN: Final = ("model", "method", "binarization", "region", "dataset", "seed")

_DECISION: Final = ("model", "seed", "dataset")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows with the columns of the key, ``_value`` (what is compared), ``_label``, ``_cluster`` and the metrics.

    ``_label`` and ``_cluster`` are null where they are unknown, as of an image that could not be read.
    """

    rows: pl.DataFrame
    metrics: Sequence[str]
    clustered: bool


def _prepare(
    scores: pl.DataFrame | pl.LazyFrame, metrics: Sequence[str] | None, cluster: str | None, extra: Sequence[str]
) -> tuple[pl.DataFrame, list[str], bool]:
    """The rows in one form with ``_label`` and ``_cluster``, the metrics to compare, whether accuracy is among them."""
    names = scores.lazy().collect_schema().names()
    if metrics is not None:
        known = [*metric_columns(names), ACCURACY]
        for metric in metrics:
            if metric not in known:
                raise UnknownNameError("metric of these scores", metric, known)
    chosen = None if metrics is None else [m for m in dict.fromkeys(metrics) if m != ACCURACY]
    clusters = group_columns([cluster], names) if cluster else []
    table = ScoreTable(scores, metrics=chosen, extra=[*extra, *clusters, *(["label"] if "label" in names else [])])
    if table.rows.is_empty():
        raise UsageError("there are no scores to compare")
    null = pl.lit(None, pl.String)
    rows = table.rows.with_columns(
        _label=pl.col("label").cast(pl.String) if "label" in names else null,
        _cluster=pl.col(clusters[0]).cast(pl.String) if clusters else null,
    )
    if clusters and rows["_cluster"].null_count():  # what failed in one evaluation of an image is known from another
        elsewhere = pl.col("_cluster").drop_nulls().first().over("dataset", "sample_id")
        rows = rows.with_columns(_cluster=pl.col("_cluster").fill_null(elsewhere))
    return rows, table.metrics, metrics is None or ACCURACY in metrics


def one_run(
    scores: pl.DataFrame | pl.LazyFrame, between: str, metrics: Sequence[str] | None, cluster: str | None
) -> tuple[list[Rows], str]:
    """The rows to compare, and the column that is compared."""
    names = scores.lazy().collect_schema().names()
    if between in BETWEEN:
        column = between
    elif between == "group":
        attributes = [name for name in names if name.startswith(ATTRIBUTE_PREFIX)]
        raise UsageError(f"name what forms the groups: {', '.join(['label', 'correct', *attributes])}")
    elif between in names or ATTRIBUTE_PREFIX + between in names:
        [column] = group_columns([between], names)
    else:
        attributes = [name for name in names if name.startswith(ATTRIBUTE_PREFIX)]
        raise UnknownNameError("comparison between", between, [*BETWEEN, "label", "correct", *attributes])
    rows, found, accuracy = _prepare(scores, metrics, cluster, [] if between in BETWEEN else [column])
    value = pl.col(column).cast(pl.String)
    if column == "method":
        pairs = rows.select("method", "binarization").unique()
        if pairs.height > pairs["method"].n_unique():  # a method's name alone is not enough
            value = pl.format("{} {}", "method", "binarization")
    if between not in BETWEEN:
        value = pl.format(f"{column}={{}}", value)
        rows = rows.filter(pl.col(column).is_not_null())
    rows = rows.with_columns(_value=value)
    tables = [Rows(rows, found, cluster is not None)]
    if accuracy and column not in ("method", "binarization", "region", "correct"):
        tables.append(_accuracy(rows, cluster is not None))
    elif accuracy and metrics is not None:
        raise UsageError(
            f"accuracy is the same whatever the {column}; it can be compared between models, seeds, datasets"
        )
    return [table for table in tables if table.metrics], column


def two_runs(
    now: pl.DataFrame | pl.LazyFrame,
    before: pl.DataFrame | pl.LazyFrame,
    metrics: Sequence[str] | None,
    cluster: str | None,
) -> list[Rows]:
    """The rows of two runs under the values ``now`` and ``before``; only metrics that both have, by default."""
    if metrics is None:
        shared = [set(metric_columns(scores.lazy().collect_schema().names())) for scores in (now, before)]
        metrics = [*metric_columns(shared[0] & shared[1]), ACCURACY]
    parts: list[pl.DataFrame] = []
    found: list[str] = []
    accuracy = False
    for scores, name in ((now, "now"), (before, "before")):
        rows, found, accuracy = _prepare(scores, metrics, cluster, [])
        parts.append(rows.with_columns(_value=pl.lit(name)))
    columns = [name for name in parts[0].columns if name in parts[1].columns]
    rows = pl.concat([part.select(columns) for part in parts], how="vertical_relaxed")
    tables = [Rows(rows, found, cluster is not None)]
    if accuracy:
        tables.append(_accuracy(rows, cluster is not None))
    return [table for table in tables if table.metrics]


def _accuracy(rows: pl.DataFrame, clustered: bool) -> Rows:
    """Each image's decision once: whether it is right; null where it failed.

    Raises:
        RunError: an image has several labels in the rows of one decision.
        UsageError: it lies in several clusters there.
    """
    empty = {name: pl.lit(None, pl.String) for name in ("target", "method", "binarization", "region")}
    areas = dict.fromkeys(("annotation_area", "salient_area", "map_height", "map_width"), pl.lit(None, pl.Int32))
    decisions = (
        rows.group_by(*_DECISION, "sample_id", "_value")
        .agg(  # a row of the image may have failed
            pl.col("correct").max().cast(pl.Float64).alias(ACCURACY),
            pl.col("_label", "_cluster").drop_nulls().first(),
            pl.col("_label").drop_nulls().n_unique().alias("_labels"),
            pl.col("_cluster").drop_nulls().n_unique().alias("_clusters"),
        )
        .with_columns(**empty, **areas)
    )
    for sample in decisions.filter(pl.col("_labels") > 1)["sample_id"].sort().head(1):
        raise RunError(f"image {sample!r} has several labels in the rows of one decision; an image has one label")
    for sample in decisions.filter(pl.col("_clusters") > 1)["sample_id"].sort().head(1):
        raise UsageError(f"image {sample!r} lies in several clusters; a cluster holds whole images")
    return Rows(decisions, [ACCURACY], clustered)


@dataclass(frozen=True, slots=True)
class Block:
    """The scores of one cell: what is compared side by side.

    Attributes:
        key: the cell.
        names: (values,) what is compared.
        units: (units,) what is drawn as a whole, sorted: sample ids or clusters.
        unit: (images,) which unit an image belongs to, sorted.
        present: (images, values) bool, whether there is such a decision.
        scores: metric -> (images, values) float64, NaN where undefined.
        chance: metric -> the same of chance levels.
    """

    key: Mapping[str, Any]
    names: Sequence[str]
    units: Sequence[str]
    unit: _Ints
    present: NDArray[np.bool_]
    scores: Mapping[str, _Floats]
    chance: Mapping[str, _Floats]


def blocks(table: Rows, keys: Sequence[str], *, paired: bool) -> Iterator[Block]:
    """The cells of a table, in order.

    Args:
        table: rows.
        keys: the columns that tell the cells apart.
        paired: whether an image must be the same in everything that is compared.

    Raises:
        RunError: an image has several rows in one place.
        UsageError: an image has several labels, where paired, or lies in several clusters.
    """
    areas = areas_of(table.rows)
    levels = {f"_chance {m}": pl.Series(chance_levels(m, *areas)) for m in table.metrics}
    rows = table.rows.with_columns(**levels)
    parts = rows.partition_by(list(keys), as_dict=True) if keys else {(): rows}
    for key, part in sorted(parts.items(), key=lambda item: [(v is not None, v) for v in item[0]]):
        where = ", ".join(str(v) for v in key if v is not None)
        images = part.group_by("sample_id").agg(
            pl.col("_label").drop_nulls().n_unique().alias("labels"),
            pl.col("_cluster").drop_nulls().n_unique().alias("clusters"),
            pl.col("_cluster").drop_nulls().first(),
        )
        names = sorted(part["_value"].unique().to_list())
        repeated = part.select("sample_id", "_value").is_duplicated()
        if repeated.any():
            sample = part.filter(repeated)["sample_id"][0]
            raise RunError(f"image {sample!r} has several rows in {where}; a decision, method and region has one row")
        if paired and (images["labels"] > 1).any():
            sample = images.filter(pl.col("labels") > 1)["sample_id"][0]
            raise UsageError(
                f"image {sample!r} has different labels in what is compared ({where}): the ids are the same, "
                "the images are not"
            )
        if (images["clusters"] > 1).any():
            sample = images.filter(pl.col("clusters") > 1)["sample_id"][0]
            raise UsageError(f"image {sample!r} lies in several clusters; a cluster holds whole images")
        images = images.with_columns(unit_of("_cluster" if table.clustered else None)).sort("_unit", "sample_id")
        drawn = images["_unit"]
        units = drawn.unique().sort()
        unit = drawn.cast(pl.Enum(units)).to_physical().to_numpy().astype(np.int64)
        row = part["sample_id"].cast(pl.Enum(images["sample_id"])).to_physical().to_numpy().astype(np.int64)
        column = part["_value"].cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)

        def spread_out(
            values: _Floats,
            row: _Ints = row,
            column: _Ints = column,
            shape: tuple[int, int] = (images.height, len(names)),
        ) -> _Floats:
            matrix = np.full(shape, np.nan)
            matrix[row, column] = values
            return matrix

        yield Block(
            key=dict(zip(keys, key, strict=True)),
            names=names,
            units=units.to_list(),
            unit=unit,
            present=~np.isnan(spread_out(np.zeros(part.height))),
            scores={m: spread_out(part[m].to_numpy()) for m in table.metrics},
            chance={m: spread_out(part[f"_chance {m}"].to_numpy()) for m in table.metrics},
        )


def check_images(block: Block, first: _Ints, second: _Ints, *, common: bool) -> None:
    """Refuse a pair that was not evaluated on the same images."""
    shapes: dict[bytes, int] = {}
    kind = np.array([shapes.setdefault(column.tobytes(), len(shapes)) for column in block.present.T])
    different = np.flatnonzero(kind[first] != kind[second])
    where = ", ".join(str(v) for v in block.key.values() if v is not None)
    for pair in different:
        one, two = first[pair], second[pair]
        shared = int((block.present[:, one] & block.present[:, two]).sum())
        if common and shared:
            continue
        only = [block.present[:, a] & ~block.present[:, b] for a, b in ((one, two), (two, one))]
        told = [
            f"{int(rows.sum()):,} only in {block.names[c]!r}{_some(rows, block)}"
            for rows, c in zip(only, (one, two), strict=True)
        ]
        advice = f"common=True (--common) compares the {shared:,} they share" if shared else "they share none"
        raise UsageError(f"evaluated on different images ({where}): {'; '.join(told)}; {advice}")


def _some(rows: NDArray[np.bool_], block: Block) -> str:
    ids = [block.units[block.unit[i]] for i in np.flatnonzero(rows)[:3]]
    return f" ({', '.join(dict.fromkeys(ids))}{', ...' if rows.sum() > 3 else ''})" if ids else ""
