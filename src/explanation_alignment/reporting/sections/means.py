"""Explanation alignment of every model as points with intervals."""

from __future__ import annotations

from typing import Final

import polars as pl

from explanation_alignment.reporting.charts import interval_chart
from explanation_alignment.reporting.content import Chart, Section, Table
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.sections.rows import bounded, method_words, number_cells, value_rows

__all__ = ["mean_section"]

#: Models on one chart; of more, the two ends of the ranking.
_MOST_MODELS: Final = 40


def mean_section(material: Material) -> Section | None:
    """Each model's alignment with its interval and chance level, for any metric, method and region."""
    table = material.pooled.filter(pl.col("ea").is_not_null())
    if table.is_empty():
        return None
    chosen, which = _ends(material, table)
    table, left_out = bounded(material, table.filter(pl.col("model").is_in(chosen)))
    notes = [*([which] if which else []), *([left_out] if left_out else [])]
    if material.pools_seeds:
        notes.append("A model's seeds are taken together; intervals are for other images and other training runs.")
    rows = [
        {
            **values,
            "line": row["model"],
            "series": row["dataset"],
            "metric": metric_label(row["metric"]),
            "method": method_words(row["method"], row["binarization"]),
            "region": row["region"],
        }
        for row, values in value_rows(table)
    ]
    alt_text = (
        f"Mean explanation alignment of {len(chosen)} models with {100 * material.level:g} % intervals and chance"
    )
    spec = interval_chart(
        rows,
        alt_text=alt_text,
        value="explanation alignment",
        line="Model",
        series="Data",
        choices={"metric": "Metric", "method": "Method", "region": "Region"},
        first=material.first,
        toy=material.toy,
    )
    headers = ["Model", "Data", "Method", "Region", "Metric", "EA", "from", "to", "Chance", "n", "Undefined"]
    cells = [
        [row["model"], row["dataset"], row["method"], row["region"], metric_label(row["metric"]), *number_cells(row)]
        for row in table.iter_rows(named=True)
    ]
    chart = Chart(
        "ea_by_model", spec, alt_text, Table(headers, cells, "The numbers of this chart"), " ".join(notes) or None
    )
    note = (
        "A point is a mean over decisions, the bar its interval, the upright line what a map that knows nothing would "
        "score. Hollow: too little stands behind the interval."
    )
    return Section("Alignment by model", charts=[chart], note=note)


def _ends(material: Material, table: pl.DataFrame) -> tuple[list[str], str | None]:
    """The models to show, most aligned first by the main metric, and which they are if not all."""
    ranked = (
        table.filter(pl.col("metric") == material.metric)
        .group_by("model", maintain_order=True)
        .agg(pl.col("ea").mean())
        .sort("ea", "model", descending=[material.higher_is_better, False])["model"]
        .to_list()
    )
    rest = [name for name in table["model"].unique(maintain_order=True) if name not in ranked]
    ranked += rest
    if len(ranked) <= _MOST_MODELS:
        return table["model"].unique(maintain_order=True).to_list(), None
    half = _MOST_MODELS // 2
    label = metric_label(material.metric)
    return [*ranked[:half], *ranked[-half:]], (
        f"Shown: the {half} models whose {label} is best and the {half} whose is worst, of {len(ranked)}; "
        "all are among the results above."
    )
