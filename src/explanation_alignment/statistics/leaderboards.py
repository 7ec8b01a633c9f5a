"""Models side by side, a row each: accuracy, what is known of the model, and explanation alignment.

The first columns are those of timm's results tables, in their units: accuracy in percent, parameters in millions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
import polars as pl

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.runs.parts import has_scores
from explanation_alignment.runs.reader import Run
from explanation_alignment.statistics.inputs import RunOrScores, as_run, score_rows, without_nulls
from explanation_alignment.statistics.intervals import Estimate, MeanEstimator, Scale
from explanation_alignment.statistics.summary import summarise
from explanation_alignment.statistics.tables import (
    cells_of,
    cluster_column,
    estimate_cells,
    metric_columns,
    no_main_target,
    unit_of,
)

__all__ = ["EA_PARTS", "TIMM_COLUMNS", "crop_share", "leaderboard", "leaderboard_metrics"]

#: The columns of timm's results tables that follow the model's name.
TIMM_COLUMNS: Final = (
    "img_size",
    "top1",
    "top1_err",
    "top5",
    "top5_err",
    "param_count",
    "crop_pct",
    "interpolation",
)
#: What follows ``ea_<metric>`` -> the summary's column.
EA_PARTS: Final = {
    "": "ea",
    "_low": "ci_low",
    "_high": "ci_high",
    "_chance": "chance",
    "_adjusted": "adjusted",
    "_n": "n",
    "_undefined": "n_undefined",
    "_unreliable": "unreliable",
}

#: What tells rows of one model apart; a column of the table where it varies.
_KEYS: Final = ("seed", "dataset", "method", "binarization", "region")
#: Fewer classes than this have no fifth guess that could be wrong.
_CLASSES_FOR_TOP5: Final = 6
_RANKS: Final = 5
_HIT: Final = Scale(0, 1, binary=True)
#: What timm takes where a model's configuration does not say.
_USUAL_CROP: Final = 0.875
_DECISION: Final = ("model", "seed", "dataset", "sample_id")


def leaderboard(
    run_or_scores: RunOrScores,
    *,
    sort: str = "top1",
    ascending: bool = False,
    metrics: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    level: float = 0.95,
    cluster: str | None = None,
    pool_seeds: bool = False,
    all_keys: bool = False,
) -> pl.DataFrame:
    """Rank models by any column: a row a model; a row each seed, dataset, method and region where there are several.

    Accuracy is over images, each once. ``top5`` is the share of decisions whose ``label_rank`` is at most 5; null where
    there are fewer than 6 classes (the dataset's; of plain rows as many as their labels, predictions and ranks show) or
    a wrong decision's rank is unknown. Its interval, as that of ``top1``, is Wilson's.

    Args:
        run_or_scores: a run, its folder, or rows of its ``scores``; rows know nothing of their models, so that
            ``img_size``, ``param_count``, ``crop_pct``, ``interpolation`` and ``family`` are null.
        sort: the column to sort by; numbers from the largest, words from A. Ties by the model's name, nulls last.
        ascending: numbers from the smallest.
        metrics: those alone; all by default.
        models: those alone.
        datasets: those alone.
        methods: those alone; all that explain a model by default, so without ``random``, ``center`` and ``sobel``.
        regions: those alone.
        level: nominal coverage of the intervals.
        cluster: what is drawn anew in an interval in place of the image: ``class``, or an attribute.
        pool_seeds: one row for all seeds of a model, its intervals for images and seeds.
        all_keys: keep seed, dataset, method, binarization and region as columns even where they are the same in all
            rows.

    Returns:
        ``model``; those of ``seed``, ``dataset``, ``method``, ``binarization``, ``region`` that vary (binarization
        where a method has several); ``img_size`` (pixels, the width), ``top1``, ``top1_err`` (100 minus it), ``top5``,
        ``top5_err`` (percent), ``param_count`` (millions, two decimals), ``crop_pct`` (share of the resized image that
        is kept; where a run holds only the sizes, :func:`crop_share`), ``interpolation``: timm's columns; then
        ``top1_low``, ``top1_high``, ``top5_low``, ``top5_high`` (percent), ``n_images``, ``family``; ``toy`` where a
        dataset is generated; and for each metric ``ea_<metric>``, followed by ``_low``, ``_high``, ``_chance``,
        ``_adjusted``, ``_n``, ``_undefined``, ``_unreliable`` as in a run's summary.

    Raises:
        UnknownNameError: there is no such column, metric, model, dataset, method, region or cluster.
        UsageError: the level means nothing, or there are several targets, none of them ``predicted``.
        RunError: the run cannot be read or has no scores.

    Example:
        >>> scores = pl.DataFrame({
        ...     "model": ["a"] * 2 + ["b"] * 2, "seed": 0, "dataset": "d", "sample_id": ["u", "v"] * 2,
        ...     "target": "predicted", "method": "gradcam", "binarization": "threshold:0.5", "region": "object",
        ...     "correct": [True, False, True, True], "status": "ok", "iou_coverage": [0.5, 0.3, 0.2, 0.4],
        ...     "annotation_area": 4, "salient_area": 4, "map_height": 4, "map_width": 4,
        ... })
        >>> leaderboard(scores, sort="ea_iou_coverage").select("model", "top1", "ea_iou_coverage").rows()
        [('a', 50.0, 0.4), ('b', 100.0, 0.30000000000000004)]
    """
    estimator = MeanEstimator(level=level)
    run = as_run(run_or_scores)
    if run is not None:
        summary = run.summary(level=level, cluster=cluster, pool_seeds=pool_seeds, metrics=metrics)
    else:
        rows = score_rows(run_or_scores)
        summary = summarise(rows, level=level, cluster=cluster, pool_seeds=pool_seeds, metrics=metrics)
    main = summary.filter(pl.col("group") == "all")
    if main.is_empty() and not summary.is_empty():  # then each group is a target
        raise UsageError(no_main_target(summary["group"].unique().str.strip_prefix("target=")))
    summary = main
    for column, wanted in (("model", models), ("dataset", datasets), ("method", methods), ("region", regions)):
        summary = _only(summary, column, wanted)
    if methods is None:
        summary = without_nulls(summary)
    table = _wide(summary)
    accuracy = _accuracies(run_or_scores, run, estimator, cluster, pool_seeds)
    known = _known_of_models(run)
    if pool_seeds:  # one row for all seeds: what is known of a model is that of its first
        accuracy, known = accuracy.drop("seed"), known.sort("model", "seed").unique("model", keep="first").drop("seed")
    table = _joined(table, accuracy, [name for name in ("model", "seed", "dataset") if name in accuracy.columns])
    table = _joined(table, known, [name for name in ("model", "seed") if name in known.columns])
    toys = [] if run is None else [name for name, item in run.info["datasets"].items() if item.get("toy")]
    if any(name in toys for name in table["dataset"].unique()):
        table = table.with_columns(toy=pl.col("dataset").is_in(toys))
    order = [
        "model",
        *(_KEYS if all_keys else _varying(table)),
        *TIMM_COLUMNS,
        *(f"top{k}_{end}" for k in (1, 5) for end in ("low", "high")),
        "n_images",
        "family",
        *(["toy"] if "toy" in table.columns else []),
        *(name for name in table.columns if name.startswith("ea_")),
    ]
    if sort not in order:
        raise UnknownNameError("column to sort by", sort, order)
    words = table.schema[sort] == pl.String
    ties = [name for name in ("model", *_KEYS) if name != sort]
    table = table.sort(sort, *ties, descending=[not (ascending or words)] + [False] * len(ties), nulls_last=True)
    return table.select(order)


def leaderboard_metrics(table: pl.DataFrame) -> list[str]:
    """The metrics a leaderboard holds, in its order."""
    return [name.removeprefix("ea_").removesuffix("_adjusted") for name in table.columns if _is_adjusted(name)]


def _is_adjusted(name: str) -> bool:
    return name.startswith("ea_") and name.endswith("_adjusted")


def _only(table: pl.DataFrame, column: str, wanted: Sequence[str] | None) -> pl.DataFrame:
    if wanted is None:
        return table
    known = table[column].unique().to_list()
    for name in wanted:
        if name not in known:
            raise UnknownNameError(f"{column} of this run", name, known)
    return table.filter(pl.col(column).is_in(list(wanted)))


def _wide(summary: pl.DataFrame) -> pl.DataFrame:
    """A row a model and key, the columns of each metric beside each other."""
    keys = ["model", *_KEYS]
    table = summary.select(keys).unique(maintain_order=True)
    for metric in metric_columns(summary["metric"].unique().to_list()):
        one = summary.filter(pl.col("metric") == metric)
        names = {f"ea_{metric}{end}": pl.col(column) for end, column in EA_PARTS.items()}
        table = _joined(table, one.select(*keys, **names), keys)
    return table


def _joined(table: pl.DataFrame, other: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Left join in which a missing seed is a seed like any other."""
    known = [pl.col(name).fill_null(-1) if name == "seed" else pl.col(name) for name in keys]
    named = [f"_{name}" for name in keys]
    left = table.with_columns(expression.alias(name) for expression, name in zip(known, named, strict=True))
    right = other.select(
        *(expression.alias(name) for expression, name in zip(known, named, strict=True)), pl.exclude(*keys)
    )
    return left.join(right, on=named, how="left", maintain_order="left").drop(named)


def _varying(table: pl.DataFrame) -> list[str]:
    names = [name for name in _KEYS if name != "binarization" and table[name].n_unique() > 1]
    pairs = table.select("method", "binarization").unique()
    if pairs.height > pairs["method"].n_unique():
        names.append("binarization")
    return [name for name in _KEYS if name in names]


# -------------------------------------------------------------------------------------------------- accuracy


def _accuracies(
    given: RunOrScores, run: Run | None, estimator: MeanEstimator, cluster: str | None, pool_seeds: bool
) -> pl.DataFrame:
    """model, seed, dataset (seed null where pooled), top1 and top5 with errors and intervals in percent, n_images."""
    parts = [_part_accuracies(part, estimator, cluster, pool_seeds) for part in _parts(given, run, pool_seeds)]
    table = pl.concat(parts)
    declared = {} if run is None else {name: item.get("class_names") for name, item in run.info["datasets"].items()}
    shown: dict[str, int] = dict(table.group_by("dataset").agg(pl.col("_classes").max()).iter_rows())
    enough = [
        name
        for name, seen in shown.items()
        if (len(names) if (names := declared.get(name)) else seen) >= _CLASSES_FOR_TOP5
    ]
    top5 = ["top5", "top5_low", "top5_high"]
    ranked = pl.col("dataset").is_in(enough)
    return (
        table.with_columns(pl.when(ranked).then(pl.col(top5)))
        .with_columns(top1_err=100 - pl.col("top1"), top5_err=100 - pl.col("top5"))
        .drop("_classes")
    )


def _parts(given: RunOrScores, run: Run | None, pool_seeds: bool) -> Iterator[pl.LazyFrame]:
    """The rows, a model (and seed) at a time where they come from a run."""
    if run is None:
        yield score_rows(given).lazy()
        return
    names = ("model", "dataset") if pool_seeds else ("model", "dataset", "seed")
    slugs: dict[tuple[Any, ...], list[str]] = {}
    for slug, item in run.evaluations.items():
        if has_scores(run.path, slug):
            slugs.setdefault(tuple(item["question"][name] for name in names), []).append(slug)
    for chosen in slugs.values():
        yield run.scan_scores(chosen)


def _part_accuracies(
    rows: pl.LazyFrame, estimator: MeanEstimator, cluster: str | None, pool_seeds: bool
) -> pl.DataFrame:
    names = rows.collect_schema().names()
    drawn = cluster_column(cluster, names)
    rows = rows.with_columns(pl.lit(None, pl.Int32).alias(n) for n in _NUMBERS if n not in names)
    decisions = (
        rows.select(
            pl.col("model", "dataset").cast(pl.String),
            pl.col("seed").cast(pl.Int64),
            pl.col("sample_id"),
            pl.col("correct").cast(pl.Boolean),
            pl.col(_NUMBERS).cast(pl.Int64),
            *([pl.col(drawn).cast(pl.String).alias("_drawn")] if drawn else []),
        )
        .group_by(_DECISION)
        .agg(
            pl.col("correct").max(),  # a row of the image may have failed where another did not
            pl.col("label_rank").min(),
            pl.max_horizontal(pl.col("label").max() + 1, pl.col("prediction").max() + 1, pl.col("label_rank").max())
            .fill_null(0)
            .alias("_classes"),
            *([pl.col("_drawn").drop_nulls().first()] if drawn else []),
        )
        .with_columns(
            unit_of("_drawn" if drawn else None),
            _top1=pl.col("correct").cast(pl.Float64),
            _top5=pl.when("correct").then(1.0).otherwise((pl.col("label_rank") <= _RANKS).cast(pl.Float64)),
        )
        .with_columns(_top5=pl.when(pl.col("correct").is_not_null()).then("_top5"))
        .collect()
    )
    cells, cell = cells_of(decisions, [name for name in _DECISION[:3] if not (pool_seeds and name == "seed")])
    estimates = estimate_cells(
        decisions["_unit"],
        cell,
        cells.height,
        [decisions[name].fill_null(math.nan).to_numpy() for name in ("_top1", "_top5")],
        [_HIT, _HIT],
        estimator,
        images=decisions["sample_id"] if drawn else None,
        seeds=cells_of(decisions, ["seed"])[1] if pool_seeds else None,
    )
    classes = np.zeros(cells.height, np.int64)
    np.maximum.at(classes, cell, decisions["_classes"].to_numpy())
    records = []
    for place, key in enumerate(cells.iter_rows(named=True)):
        one, five = (of_column[place] for of_column in estimates)
        if five.n < one.n:
            five = _UNKNOWN
        record: dict[str, object] = {"seed": None, **key, "n_images": one.n, "_classes": int(classes[place])}
        for name, estimate in (("top1", one), ("top5", five)):
            for end, value in (("", estimate.mean), ("_low", estimate.low), ("_high", estimate.high)):
                record[name + end] = None if value is None else 100 * value
        records.append(record)
    return pl.DataFrame(records, schema=_ACCURACY_SCHEMA)


_NUMBERS: Final = ("label", "prediction", "label_rank")
_UNKNOWN: Final = Estimate(None, None, None, 0, 0, "none")
_ACCURACY_SCHEMA: Final = pl.Schema(
    {
        "model": pl.String,
        "seed": pl.Int64,
        "dataset": pl.String,
        **dict.fromkeys((f"top{k}{end}" for k in (1, 5) for end in ("", "_low", "_high")), pl.Float64),
        "n_images": pl.Int64,
        "_classes": pl.Int64,
    }
)


# ---------------------------------------------------------------------------------------------------- models


def _known_of_models(run: Run | None) -> pl.DataFrame:
    """model, seed, img_size, param_count, crop_pct, interpolation, family; no row where nothing is recorded."""
    schema = {
        "model": pl.String,
        "seed": pl.Int64,
        "img_size": pl.Int64,
        "param_count": pl.Float64,
        "crop_pct": pl.Float64,
        "interpolation": pl.String,
        "family": pl.String,
    }
    if run is None or not (run.path / "models.parquet").is_file():
        return pl.DataFrame(schema=schema)
    records = []
    for row in run.models().iter_rows(named=True):
        parameters, width = row.get("parameters"), row.get("input_width")
        records.append(
            {
                "model": row["model"],
                "seed": row["seed"],
                "img_size": width,
                "param_count": None if parameters is None else round(parameters / 1e6, 2),
                "crop_pct": _crop_of(row),
                "interpolation": row.get("interpolation"),
                "family": row.get("family"),
            }
        )
    return pl.DataFrame(records, schema=schema).unique(["model", "seed"], keep="first", maintain_order=True)


def _crop_of(row: Mapping[str, Any]) -> float | None:
    if row.get("crop_pct") is not None:
        return float(row["crop_pct"])
    resized, kept = (re.findall(r"\d+", row.get(name) or "") for name in ("resize", "crop"))
    if not resized:
        return None
    return crop_share(int(resized[0]), int(kept[0])) if kept else 1.0


def crop_share(resized: int, kept: int) -> float:
    """The share that timm calls ``crop_pct``: with it an image is resized to ``floor(kept / share)`` pixels.

    Several shares lead to the same size. Of these the usual .875 is taken, else the one with the fewest decimals; of
    several the nearest to ``kept / resized``.

    Args:
        resized: length after the resize, pixels.
        kept: length of the centre crop, pixels; larger where the image is padded.

    Example:
        >>> crop_share(248, 224), crop_share(256, 224), crop_share(303, 288)
        (0.9, 0.875, 0.95)
    """
    ratio = kept / resized
    for share in chain([_USUAL_CROP], _shares_near(ratio)):
        if share > 0 and math.floor(kept / share) == resized:
            return share
    return ratio


def _shares_near(ratio: float) -> Iterator[float]:
    for decimals in (1, 2, 3, 4):
        step = 10**decimals
        yield from (round(count / step, decimals) for count in (math.floor(ratio * step), math.ceil(ratio * step)))
