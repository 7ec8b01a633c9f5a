"""Accuracy against alignment, a point a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from explanation_alignment.reporting.charts import scatter_chart
from explanation_alignment.reporting.content import Chart, Section, Table
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.figures.scatter import families_of
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.sections.rows import MOST_ROWS, method_words
from explanation_alignment.statistics.leaderboards import leaderboard_metrics

__all__ = ["scatter_section"]

#: Models beyond which colours no longer tell names.
_NAMED: Final = 6


def scatter_section(material: Material) -> Section | None:
    """Who is right, and who for the right reason; None for one model, or where none can be ranked."""
    if material.board is None:
        return None
    board = material.board.filter(pl.col("dataset").is_in(material.datasets), pl.col("top1").is_not_null())
    if board["model"].n_unique() < 2:
        return None
    metrics = leaderboard_metrics(board)
    board, metrics, note = _bounded(material, board, metrics)
    kinds, what = _kinds(board)
    rows = [
        {**_point(row, metric), "kind": kind}
        for row, kind in zip(board.iter_rows(named=True), kinds, strict=True)
        for metric in metrics
        if row[f"ea_{metric}"] is not None
    ]
    if not rows:
        return None
    models = board["model"].n_unique()
    alt_text = f"Accuracy and explanation alignment of {models} models, each with {100 * material.level:g} % intervals"
    spec = scatter_chart(rows, alt_text=alt_text, colour=what, first=material.first, toy=material.toy)
    headers = ["Model", "Family", "Parameters (M)", "Data", "Method", "Region", "Metric", "Accuracy", "from", "to"]
    headers += ["EA", "from", "to", "Chance"]
    fields = ("accuracy", "accuracy_low", "accuracy_high", "value", "low", "high", "chance")
    cells = [
        [row["model"], row["family"], row["parameters"], row["dataset"], row["method"], row["region"], row["metric"]]
        + [row[name] for name in fields]
        for row in rows
    ]
    table = Table(headers, cells, "The numbers of this chart")
    size = " The area of a point grows with the model's size." if board["param_count"].drop_nulls().len() else ""
    caption = f"Bars: {100 * material.level:g} % intervals; dashed: mean chance level.{size}" + (
        f" {note}" if note else ""
    )
    return Section("Accuracy and alignment", charts=[Chart("accuracy_and_alignment", spec, alt_text, table, caption)])


def _bounded(material: Material, board: pl.DataFrame, metrics: list[str]) -> tuple[pl.DataFrame, list[str], str | None]:
    """As many rows and metrics as there is room for; every model stays."""
    kept: list[str] = []
    method, binarization = material.method
    steps = (
        (pl.col("method").eq(method) & pl.col("binarization").eq(binarization), f"the method {method}"),
        (pl.col("region") == material.regions[0], f"the region {material.regions[0]}"),
        (pl.col("dataset") == material.datasets[0], f"the dataset {material.datasets[0]}"),
    )
    for condition, words in steps:
        if board.height * len(metrics) <= MOST_ROWS:
            break
        fewer = board.filter(condition)
        if 0 < fewer.height < board.height:
            board, kept = fewer, [*kept, words]
    while len(metrics) > 1 and board.height * len(metrics) > MOST_ROWS:
        metrics = metrics[:-1]
    if len(metrics) < len(material.metrics):
        kept.append(f"the metrics {', '.join(metrics)}")
    return board, metrics, f"For want of room only {', '.join(kept)}." if kept else None


def _kinds(board: pl.DataFrame) -> tuple[list[str], str]:
    """What gives a point its colour: the model where there are few, else its family."""
    if board["model"].n_unique() <= _NAMED:
        return board["model"].to_list(), "Model"
    return families_of(board["family"])[0], "Family"


def _point(row: Mapping[str, Any], metric: str) -> dict[str, Any]:
    name = f"ea_{metric}"
    size = row["param_count"]
    return {
        "model": row["model"],
        "family": row["family"] or "unknown",
        "parameters": size,
        "size": "unknown" if size is None else f"{size:,.2f} M",
        "dataset": row["dataset"],
        "method": method_words(row["method"], row["binarization"]),
        "region": row["region"],
        "metric": metric_label(metric),
        "accuracy": row["top1"] / 100,
        "accuracy_low": None if row["top1_low"] is None else row["top1_low"] / 100,
        "accuracy_high": None if row["top1_high"] is None else row["top1_high"] / 100,
        "value": row[name],
        "low": row[f"{name}_low"],
        "high": row[f"{name}_high"],
        "chance": row[f"{name}_chance"],
        "n": row[f"{name}_n"],
    }
