"""Decisions to look at: the most and the least aligned, right and wrong."""

from __future__ import annotations

from typing import Final

import polars as pl

from explanation_alignment.reporting.content import Gallery, Section
from explanation_alignment.reporting.decision_cards import card_of, decisions_of, outline_words
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.material import Material

__all__ = ["decision_section"]

#: Decisions of each kind.
_EACH: Final = 6


def decision_section(material: Material) -> Section | None:
    """Right and wrong decisions at both ends of alignment, of those that the run keeps with pictures."""
    kept = decisions_of(material)
    if kept.is_empty() or material.metric not in kept.columns:
        return None
    ranked = kept.filter(pl.col(material.metric).is_not_null())
    label = metric_label(material.metric)
    galleries = []
    for correct, word in ((True, "right"), (False, "wrong")):
        part = ranked.filter(pl.col("correct") == correct)
        ends = _ends(part, material.metric, descending=material.higher_is_better)
        for which, rows in zip(("Most", "Least"), ends, strict=True):
            if rows.height:
                cards = [card_of(material, row) for row in rows.iter_rows(named=True)]
                galleries.append(Gallery(f"{which} aligned, {word}", cards))
    if not galleries:
        return None
    return Section(
        "Decisions to look at",
        [f"By {label} with {material.regions[0]}. {outline_words(material)}"],
        galleries=galleries,
        note=f"Method {material.method_words}; of the {kept.height} such decisions that the run keeps with pictures.",
    )


def _ends(rows: pl.DataFrame, metric: str, *, descending: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The most and the least aligned, each image once, none on both sides."""
    best = rows.sort(metric, "sample_id", "model", descending=[descending, False, False])
    best = best.unique("sample_id", keep="first", maintain_order=True)
    each = min(_EACH, -(-best.height // 2))
    top = best.head(each)
    worst = rows.sort(metric, "sample_id", "model", descending=[not descending, False, False])
    worst = worst.unique("sample_id", keep="first", maintain_order=True)
    bottom = worst.filter(~pl.col("sample_id").is_in(top["sample_id"].to_list())).head(each)
    return top, bottom
