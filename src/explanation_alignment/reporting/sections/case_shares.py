"""The eight cases: how often each occurs, and what one looks like."""

from __future__ import annotations

from typing import Final

import polars as pl

from explanation_alignment.reporting.charts import case_bars
from explanation_alignment.reporting.content import Chart, Gallery, Section, Table
from explanation_alignment.reporting.decision_cards import card_of, decisions_of
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.sections.rows import MOST_ROWS
from explanation_alignment.statistics.shared_interest_cases import (
    CASES,
    HIGH,
    LOW,
    UNCLASSIFIED,
    cases,
    with_cases,
)

__all__ = ["case_section"]

_NEEDED: Final = ("iou_coverage", "ground_truth_coverage", "saliency_coverage")
#: What a bar is of: the counts stand in each row of it.
_PARTS: Final = ("model", "seed", "dataset", "target", "method", "binarization", "region")


def case_section(material: Material) -> Section | None:
    """What agreement and correctness together say of the decisions; None without the three coverages."""
    if any(name not in material.metrics for name in _NEEDED):
        return None
    table = cases(material.shown_rows, level=material.level)
    undefined = int(table.unique(_PARTS)["n_undefined"].sum())  # before rows are left out
    table = table.filter(pl.col("n") > 0)
    if table.is_empty():
        return None
    more = (
        f"The first {MOST_ROWS} of {table.height:,} rows; ealign cases RUN shows all."
        if table.height > MOST_ROWS
        else None
    )
    table = table.head(MOST_ROWS)
    seeds = table["seed"].n_unique() > 1
    rows = [
        {
            "line": f"{row['model']}, seed {row['seed']}" if seeds else row["model"],
            "case": row["case"],
            "share": row["share"],
            "low": row["share_low"],
            "high": row["share_high"],
            "count": row["count"],
            "n": row["n"],
            "dataset": row["dataset"],
            "region": row["region"],
        }
        for row in table.iter_rows(named=True)
    ]
    alt_text = "Share of decisions of each of the eight cases of agreement and correctness, a bar a model"
    fields = ("line", "dataset", "region", "case", "share", "low", "high", "count", "n")
    numbers = Table(
        ["Model", "Data", "Region", "Case", "Share", "from", "to", "Decisions", "of"],
        [[row[name] for name in fields] for row in rows],
        "The numbers of this chart",
        more,
    )
    left_out = f" {undefined:,} decisions have no score and no case." if undefined else ""
    bounds = f" {material.bounds_note}" if material.bounds_note else ""
    return Section(
        "The eight cases",
        [_explained()],
        charts=[
            Chart(
                "cases", case_bars(rows, alt_text=alt_text, first=material.first, toy=material.toy), alt_text, numbers
            )
        ],
        galleries=_examples(material),
        note=f"Method {material.method_words}.{left_out}{bounds}",
    )


def _explained() -> str:
    return (
        f"By IoU, ground truth coverage (GTC) and saliency coverage (SC); high is at least {HIGH:g}, low at most "
        f"{LOW:g}. "
        "IoU high: human aligned if right, confuser if wrong. SC high and GTC low: sufficient subset, insufficient "
        "subset. GTC high and SC low: context dependent, context confusion. IoU low: sufficient context, distractor. "
        "Blue: right predictions; orange: wrong ones. The cases are those of Shared Interest (Boggust et al. 2022)."
    )


def _examples(material: Material) -> list[Gallery]:
    """One decision of each case that is among those kept with pictures."""
    kept = decisions_of(material)
    if kept.is_empty():
        return []
    marked = with_cases(kept).drop_nulls("case").filter(pl.col("case") != UNCLASSIFIED)
    order = {case: place for place, case in enumerate(CASES)}
    first = marked.unique("case", keep="first", maintain_order=True)
    cards = [
        card_of(material, row, case=str(row["case"]))
        for row in sorted(first.iter_rows(named=True), key=lambda row: order[row["case"]])
    ]
    return [Gallery("An example of each", cards, "Of the decisions that the run keeps with pictures.")] if cards else []
