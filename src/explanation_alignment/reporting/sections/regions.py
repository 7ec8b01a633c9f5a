"""Which regions the models rely on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from explanation_alignment.reporting.cells import p_value
from explanation_alignment.reporting.charts import interval_chart
from explanation_alignment.reporting.content import Chart, Section, Table
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.sections.rows import MOST_ROWS
from explanation_alignment.statistics.relying.words import only_evidence, rule

__all__ = ["reliance_section"]

_CHOICES = {"model": "Model", "where": "Data", "method": "Method", "seed": "Seed", "group": "Group"}


def reliance_section(material: Material) -> Section | None:
    """The ranking of regions with what speaks for it, and the rule of the verdicts."""
    found = material.reliance
    if found is None or found["excess"].drop_nulls().is_empty():
        return None
    metric = str(found["metric"][0])
    regions = found["region"].unique()
    heading = "Regions, ranked by reliance" if len(regions) > 1 else f"Reliance on {regions[0]}"
    words = only_evidence(found) or rule(metric=metric)
    note = None
    if found.height > MOST_ROWS:
        note = f"The first {MOST_ROWS} of {found.height:,} rows; ealign reliance RUN lists all."
        found = found.head(MOST_ROWS)
    null = "that of a centred map" if found["null"][0] == "center" else "chance"
    charts = [_chart(material, found, "reliance_maps", f"{metric_label(metric)} minus {null}", "excess", "n", note)]
    tried = found.filter(pl.col("flip_difference").is_not_null())
    if tried.height:
        value = "predictions changed by the region, minus elsewhere"
        charts.append(_chart(material, tried, "reliance_changes", value, "flip_difference", "n_images", note))
    bounds = material.rows_note if material.reliance_is_own else None
    return Section(heading, [words], charts=charts, note=bounds)


def _chart(
    material: Material, table: pl.DataFrame, name: str, value: str, column: str, count: str, note: str | None
) -> Chart:
    low, high = ("excess_low", "excess_high") if column == "excess" else ("flip_low", "flip_high")
    rows = [
        {
            "line": f"{row['region']} \u2013 {row['verdict']}",
            "value": row[column],
            "low": row[low],
            "high": row[high],
            "chance": None,
            "n": row[count],
            "reliable": True,
            **_place(row),
        }
        for row in table.filter(pl.col(column).is_not_null()).iter_rows(named=True)
    ]
    alt_text = f"Regions by rank: {value}, with {100 * material.level:g} % intervals and the verdict on each"
    spec = interval_chart(
        rows,
        alt_text=alt_text,
        value=value,
        line="Region and verdict",
        choices=_CHOICES,
        first={**material.first, **_flagged(table)},
        zero=True,
        toy=material.toy,
    )
    maps = column == "excess"
    headers = ["Model", "Seed", "Data", "Method", "Group", "Region", "Rank", "Verdict", value, "from", "to"]
    headers += ["p (Holm)", "n"] if maps else ["Changed", "Elsewhere", "p (Holm)", "n"]
    cells = []
    for row in table.iter_rows(named=True):
        place = _place(row)
        start = [row["model"], row["seed"], place["where"], row["method"], place["group"], row["region"], row["rank"]]
        ends = (
            [p_value(row["p_maps_adjusted"])]
            if maps
            else [row["flips"], row["elsewhere_flips"], p_value(row["p_intervention_adjusted"])]
        )
        cells.append([*start, row["verdict"], row[column], row[low], row[high], *ends, row[count]])
    return Chart(name, spec, alt_text, Table(headers, cells, "The numbers of this chart", note))


def _flagged(table: pl.DataFrame) -> dict[str, str]:
    """The model to open on: one with a confirmed shortcut, else a suspected one, where there is any."""
    for verdict in ("confirmed", "suspected"):
        found = table.filter(pl.col("verdict") == verdict)
        if found.height:
            return {"model": str(found["model"][0])}
    return {}


def _place(row: Mapping[str, Any]) -> dict[str, str]:
    """Where a row belongs, in words."""
    return {
        "model": row["model"],
        "where": row["dataset"] or row["pooled"] or "all",
        "method": f"{row['method']} ({row['binarization']})",
        "seed": "all" if row["seed"] is None else str(row["seed"]),
        "group": str(row["group"]).removeprefix("attr_"),
    }
