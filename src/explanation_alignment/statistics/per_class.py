"""A metric's mean in each class, and the mean of these over the classes: every class weighs the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.runs.schema import KEY_COLUMNS
from explanation_alignment.statistics.inputs import RunOrScores, score_rows
from explanation_alignment.statistics.tables import ScoreTable, group_columns

__all__ = ["ClassMeans", "class_means"]

_CELL: Final = tuple(name for name in KEY_COLUMNS if name != "sample_id")


class ClassMeans(NamedTuple):
    """What ``class_means`` returns.

    Args:
        per_class: a row per class: what the mean is taken within (model, seed, dataset, target, method, binarization,
            region, but not the column that names the class), class, mean (null without trials), n, n_undefined.
        over_classes: a row per model, ..., region: metric, mean, classes (the denominator of the mean),
            classes_without_trials, n, n_undefined.
    """

    per_class: pl.DataFrame
    over_classes: pl.DataFrame


def class_means(
    scores: RunOrScores,
    *,
    metric: str,
    classes: int | Sequence[str] | None = None,
    by: str = "label",
    without_trials: Literal["zero", "leave_out"] = "zero",
) -> ClassMeans:
    """The mean of a metric in each class, then the mean over all classes, as TorchRay's pointing game counts.

    A trial is a decision where the metric is defined; a pair of image and class without annotation (such as a class
    all of whose boxes are marked difficult) is none.

    Args:
        scores: a run, its folder, or rows of its scores.
        metric: a metric the run has, such as ``"pointing_game(tolerance=15)"``.
        classes: how many classes there are, where ``by`` holds indices from 0, or their names: in the order of the
            indices, or the values of ``by`` themselves where these are words. By default those that occur.
        by: the column that tells the class: ``"label"``, ``"region"``, ``"target"``, an attribute.
        without_trials: ``"zero"`` counts a class without trials as 0, as TorchRay does; ``"leave_out"`` leaves it out
            of the mean.

    Returns:
        ``ClassMeans(per_class, over_classes)``, sorted by their first columns; classes in their order.

    Raises:
        RunError: the table lacks a column that every run has.
        UnknownNameError: the run has no such metric or no such column.
        UsageError: ``classes`` does not cover the classes that occur, or a decision with a score has no class.

    Source: Fong, Patrick and Vedaldi, Understanding deep networks via extremal perturbations and smooth masks, ICCV
    2019, and its library TorchRay.

    Example:
        >>> import polars as pl
        >>> rows = pl.DataFrame({
        ...     "model": "m", "seed": 0, "dataset": "d", "sample_id": ["a", "b", "c"], "target": "label",
        ...     "method": "gradcam", "binarization": "threshold:0.5", "region": "object", "label": [0, 0, 1],
        ...     "correct": True, "status": "ok", "pointing_game": [1.0, 0.0, 1.0], "annotation_area": 4,
        ...     "salient_area": 4, "map_height": 4, "map_width": 4,
        ... })
        >>> found = class_means(rows, metric="pointing_game", classes=3)
        >>> found.per_class["mean"].to_list(), found.over_classes["mean"].item()
        ([0.5, 1.0, None], 0.5)
    """
    if without_trials not in ("zero", "leave_out"):
        raise UsageError(f"without_trials is {without_trials!r}; expected 'zero' or 'leave_out'")
    metric = get_metric(metric).name
    rows = score_rows(scores)
    column = by if by in ("region", "target") else group_columns([by], rows.lazy().collect_schema().names())[0]
    table = ScoreTable(rows, metrics=[metric], extra=[column]).rows
    unclassed = table.filter(pl.col(column).is_null() & pl.col(metric).is_not_null())
    if len(unclassed):
        sample = unclassed["sample_id"][0]
        raise UsageError(f"{len(unclassed)} scored rows have no {by}, such as sample {sample!r}; class_means needs one")
    cell = [name for name in _CELL if name != column]
    known = _known_classes(table[column].drop_nulls().unique().sort(), classes, by)
    counted = table.group_by(*cell, column).agg(
        mean=pl.col(metric).mean(), n=pl.col(metric).count(), n_undefined=pl.col(metric).null_count()
    )
    per_class = (
        table.select(cell)
        .unique()
        .join(known, how="cross")
        .join(counted, on=[*cell, column], how="left", nulls_equal=True)
        .with_columns(pl.col("n", "n_undefined").fill_null(0).cast(pl.Int64))
        .sort(*cell, "_place")
    )
    counts = pl.col("mean") if without_trials == "leave_out" else pl.col("mean").fill_null(0.0)
    over_classes = per_class.group_by(cell, maintain_order=True).agg(
        metric=pl.lit(metric),
        mean=counts.mean(),
        classes=counts.count().cast(pl.Int64),
        classes_without_trials=(pl.col("n") == 0).sum().cast(pl.Int64),
        n=pl.col("n").sum(),
        n_undefined=pl.col("n_undefined").sum(),
    )
    return ClassMeans(per_class.select(*cell, "class", "mean", "n", "n_undefined"), over_classes)


def _known_classes(seen: pl.Series, classes: int | Sequence[str] | None, by: str) -> pl.DataFrame:
    """The classes there are: the values of ``by``, their names as ``class``, their order as ``_place``."""
    if isinstance(classes, str) or (isinstance(classes, int) and (isinstance(classes, bool) or classes < 1)):
        raise UsageError(f"classes is {classes!r}; expected how many there are, or their names")
    words = seen.dtype == pl.String
    if classes is None:
        values, names = seen.to_list(), [str(value) for value in seen]
    elif words:
        if isinstance(classes, int):
            raise UsageError(f"classes is {classes}, but {by} holds words, such as {seen.first()!r}; give their names")
        values = names = list(classes)
    else:
        names = [str(index) for index in range(classes)] if isinstance(classes, int) else list(classes)
        values = list(range(len(names)))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"class {twice!r} is named twice")
    beyond = sorted(set(seen) - set(values))
    if beyond:
        raise UsageError(f"{by} {beyond[0]!r} occurs, but the {len(names)} classes given do not have it")
    return pl.DataFrame(
        {seen.name: pl.Series(values, dtype=seen.dtype), "class": pl.Series(names, dtype=pl.String)}
    ).with_row_index("_place")
