"""Differences between models, or between methods where there is one model, on the same images."""

from __future__ import annotations

from typing import Final

import polars as pl

from explanation_alignment.reporting.cells import p_value
from explanation_alignment.reporting.charts import interval_chart
from explanation_alignment.reporting.content import Chart, Section, Table
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.material import Comparison, Material
from explanation_alignment.reporting.sections.rows import MOST_ROWS
from explanation_alignment.statistics.comparing.words import sentences

__all__ = ["comparison_section"]

#: Differences told in words.
_TOLD: Final = 5


def comparison_section(material: Material) -> Section | None:
    """Who differs from whom, and whether that is more than chance; None where there is nothing to compare."""
    compared = material.comparison
    if compared is None:
        return None
    table = compared.table
    shown = table.filter(pl.col("difference").is_not_null()).head(MOST_ROWS)
    if shown.is_empty():
        return None
    several = shown["region"].drop_nulls().n_unique() > 1
    rows = [
        {
            "line": row["first"] if compared.reference else f"{row['first']} \u2212 {row['second']}",
            "value": row["difference"],
            "low": row["ci_low"],
            "high": row["ci_high"],
            "chance": None,
            "n": row["n"],
            "reliable": not row["unreliable"],
            "what": _what(row["metric"], row["region"], several=several),
            "dataset": row["dataset"] or "all",
            "seed": "all" if row["seed"] is None else str(row["seed"]),
        }
        for row in shown.iter_rows(named=True)
    ]
    alt_text = f"Differences between {compared.between}s with {100 * material.level:g} % intervals"
    spec = interval_chart(
        rows,
        alt_text=alt_text,
        value=f"difference from {compared.reference}" if compared.reference else "difference",
        line="Model" if compared.reference else "Pair",
        choices={"what": "Of", "dataset": "Data", "seed": "Seed"},
        first=material.first,
        zero=True,
        toy=material.toy,
    )
    headers = ["First", "Second", "Seed", "Data", "Region", "Metric", "Mean of first", "of second"]
    headers += ["Difference", "from", "to"]
    places = ("first", "second", "seed", "dataset", "region")
    means = ("mean_first", "mean_second", "difference", "ci_low", "ci_high")
    cells = [
        [
            *(row[name] for name in places),
            _label(row["metric"]),
            *(row[name] for name in means),
            p_value(row["p_holm"]),
            *(row[name] for name in ("n", "n_undefined", "verdict")),
        ]
        for row in table.head(MOST_ROWS).iter_rows(named=True)
    ]
    more = (
        f"The first {MOST_ROWS} of {table.height:,} rows; ealign compare RUN --all shows all."
        if table.height > MOST_ROWS
        else None
    )
    numbers = Table(
        [*headers, "p (Holm)", "n", "Undefined", "Verdict"],
        cells,
        "The numbers of this chart",
        more,
    )
    return Section(
        f"Compared on the same images: {compared.between}s",
        sentences(table, limit=_TOLD),
        charts=[Chart("comparisons", spec, alt_text, numbers)],
        note=_note(material, compared),
    )


def _what(metric: str, region: str | None, *, several: bool) -> str:
    """What is compared: accuracy has no region."""
    return f"{_label(metric)}, {region}" if several and region is not None else _label(metric)


def _label(metric: str) -> str:
    return metric if metric == "accuracy" else metric_label(metric)


def _note(material: Material, compared: Comparison) -> str:
    parts = ["First minus second. p is corrected (Holm) for all rows of this table."]
    if compared.reference is not None:
        parts.append(f"Each with {compared.reference}, the most accurate; ealign compare RUN compares all pairs.")
    if compared.between == "model":
        parts.append(f"Method {material.method_words}.")
    if unshared := int(compared.table["n_unshared"].sum() or 0):
        parts.append(f"{unshared:,} decisions on images that only one side has are left out.")
    parts += [material.bounds_note] if material.bounds_note else []
    return " ".join(parts)
