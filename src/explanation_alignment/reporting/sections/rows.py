"""What sections share: rows of a summary as rows of a chart and of its table, in bounded number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import polars as pl

from explanation_alignment.reporting.material import Material

__all__ = ["MOST_ROWS", "bounded", "method_words", "number_cells", "value_rows"]

#: Rows of one chart and its table.
MOST_ROWS: Final = 800


def value_rows(table: pl.DataFrame) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Each row of a summary, and what a chart of intervals takes of it."""
    for row in table.iter_rows(named=True):
        yield (
            row,
            {
                "value": row["ea"],
                "low": row["ci_low"],
                "high": row["ci_high"],
                "chance": row["chance"],
                "n": row["n"],
                "reliable": not row["unreliable"],
            },
        )


def number_cells(row: Mapping[str, Any]) -> list[object]:
    """EA, its interval, chance, n and undefined, as cells."""
    return [row[name] for name in ("ea", "ci_low", "ci_high", "chance", "n", "n_undefined")]


def method_words(method: str, binarization: str) -> str:
    """A method with its binarization, in words."""
    return f"{method} ({binarization})"


def bounded(material: Material, table: pl.DataFrame, most: int = MOST_ROWS) -> tuple[pl.DataFrame, str | None]:
    """So many rows of a summary as a page has room for, and what was left out for that.

    First only the main metric is kept, then only the main method, then only the first dataset, then the first rows.
    """
    method, binarization = material.method
    steps = (
        (pl.col("metric") == material.metric, f"the metric {material.metric}"),
        ((pl.col("method") == method) & (pl.col("binarization") == binarization), f"the method {method}"),
        (pl.col("dataset") == material.datasets[0], f"the dataset {material.datasets[0]}"),
    )
    kept: list[str] = []
    for condition, words in steps:
        if table.height <= most:
            break
        fewer = table.filter(condition)
        if 0 < fewer.height < table.height:
            table, kept = fewer, [*kept, words]
    note = [f"For want of room only {', '.join(kept)}."] if kept else []
    if table.height > most:
        note.append(f"The first {most:,} of {table.height:,} rows.")
        table = table.head(most)
    return table, " ".join(note) or None
