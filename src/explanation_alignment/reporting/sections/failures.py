"""What went wrong: models that failed, images that could not be read, and why scores are undefined."""

from __future__ import annotations

from typing import Final

import polars as pl

from explanation_alignment.reporting.content import Section, Table
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.sections.rows import MOST_ROWS

__all__ = ["failure_section"]

#: Rows of a table of failures, and letters of a reason.
_MOST: Final = 200
_LETTERS: Final = 300


def failure_section(material: Material) -> Section | None:
    """None where nothing failed and every score is defined."""
    tables = [*_models(material), *_images(material), *_undefined(material)]
    told = []
    if material.reasons is None:
        told.append("Too many rows to count here why scores are undefined; ealign show RUN counts them.")
    return Section("What is missing, and why", told, tables) if tables or told else None


def _models(material: Material) -> list[Table]:
    failures = material.run.failures
    rows = [[name, _cut(reason)] for name, reason in list(failures.items())[:_MOST]]
    note = f"The first {_MOST} of {len(failures)}; run.json holds all." if len(failures) > _MOST else None
    return [Table(["Model", "Reason"], rows, "Models that failed", note)] if rows else []


def _images(material: Material) -> list[Table]:
    """The messages of images that could not be read, counted by model and dataset."""
    table = material.errors
    if table.is_empty():
        return []
    rows = [[*row[:2], _cut(row[2]), row[3]] for row in table.head(_MOST).iter_rows()]
    note = f"The most frequent {_MOST} of {table.height:,}." if table.height > _MOST else None
    return [Table(["Model", "Data", "Message", "Samples"], rows, "Samples that could not be read", note)]


def _undefined(material: Material) -> list[Table]:
    reasons = material.reasons
    if reasons is None or reasons.is_empty():
        return []
    shown = reasons.sort("n", descending=True, maintain_order=True).head(MOST_ROWS)
    words = pl.col("reason").str.replace_all("_", " ")
    rows = [
        [*row[:5], metric_label(row[5]), *row[6:]]
        for row in shown.select("model", "seed", "dataset", "method", "region", "metric", words, "n").iter_rows()
    ]
    note = f"The {MOST_ROWS} largest of {reasons.height:,} rows." if reasons.height > MOST_ROWS else None
    headers = ["Model", "Seed", "Data", "Method", "Region", "Metric", "Reason", "Scores"]
    return [Table(headers, rows, "Why scores are undefined", note)]


def _cut(text: object) -> str:
    """A reason of bounded length."""
    words = "" if text is None else str(text)
    return words if len(words) <= _LETTERS else words[: _LETTERS - 1] + "\u2026"
