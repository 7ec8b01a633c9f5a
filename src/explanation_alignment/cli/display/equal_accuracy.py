"""What pairs of equally accurate models look like in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.text import Text

from explanation_alignment.cli.display.comparison import p_value
from explanation_alignment.cli.display.tables import cell, console, new_table
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.reporting.text import number, signed
from explanation_alignment.statistics.chance import known_metric
from explanation_alignment.statistics.comparing.equal_accuracy import DIFFERENTLY_ALIGNED, equal_accuracy_sentences

__all__ = ["print_equally_accurate"]

_KEYS = ("seed", "dataset", "target", "method", "binarization", "region")


def print_equally_accurate(table: pl.DataFrame, margin: float, level: float = 0.95, limit: int | None = 40) -> None:
    """The pairs at 100 columns, the ``limit`` that differ most of them, and how many pairs there are of each kind.

    Args:
        table: from :func:`~explanation_alignment.statistics.comparing.equal_accuracy.equally_accurate`, of all pairs.
        margin: as it was given there.
        level: coverage of the intervals.
        limit: how many pairs of each metric; None for all.
    """
    out = console()
    for (metric,), of_metric in table.group_by("metric", maintain_order=True):
        found = of_metric.filter(pl.col("verdict") == DIFFERENTLY_ALIGNED)
        if found.is_empty():
            continue
        varying = [name for name in _KEYS if found[name].n_unique() > 1]
        constant = [f"{name} {found[name][0]}" for name in _KEYS if name not in varying and found[name][0] is not None]
        label = get_metric(str(metric)).label if known_metric(str(metric)) else str(metric)
        words = ["first", "second", *([" / ".join(varying)] if varying else [])]
        shown = new_table(
            f"Equally accurate, differently aligned: {label}",
            [*words, f"{label} difference", "p (Holm)", "n", "accuracy difference", "p", "n"],
            len(words),
        )
        for row in (found if limit is None else found.head(limit)).iter_rows(named=True):
            places = [f"seed {row[name]}" if name == "seed" else str(row[name]) for name in varying]
            mark = "! " if row["unreliable"] else ""
            undefined = [f"undef. {row['n_undefined']:,}"] if row["n_undefined"] else []
            shown.add_row(
                cell(row["first"], f"{label} {number(row['mean_first'])}", f"acc. {number(row['accuracy_first'])}"),
                cell(row["second"], f"{label} {number(row['mean_second'])}", f"acc. {number(row['accuracy_second'])}"),
                *([cell(*places)] if varying else []),
                cell(mark + signed(row["difference"]), _interval(row, "ci_low", "ci_high")),
                p_value(row["p_holm"]),
                cell(f"{row['n']:,}", *undefined),
                cell(
                    signed(row["accuracy_difference"]), f"{signed(row['accuracy_low'])} {signed(row['accuracy_high'])}"
                ),
                p_value(row["accuracy_p"]),
                f"{row['n_accuracy']:,}",
            )
        out.print(shown)
        if constant:
            out.print(Text(f"all: {', '.join(constant)}", "dim"))
        if limit is not None and found.height > limit:
            out.print(
                Text(f"the {limit:,} that differ most of {found.height:,}; --all, or --format csv, for all of them")
            )
    for line in equal_accuracy_sentences(table, margin):
        out.print(Text(line))
    points = f"{100 * margin:g}"
    legend = (
        f"equally accurate: McNemar's test shows no difference and the {100 * level:g} % interval lies within "
        f"{points} point{'' if points == '1' else 's'} of 0; alignment differs where its interval excludes 0 and p, "
        "corrected for every pair of every kind, is small"
    )
    out.print(Text(legend, "dim"))
    if table.filter(pl.col("verdict") == DIFFERENTLY_ALIGNED)["unreliable"].any():
        out.print(Text("!: fewer than 30 images tell the two apart; the interval rests on a handful", "dim"))


def _interval(row: Mapping[str, Any], low: str, high: str) -> str:
    return f"{signed(row[low])} {signed(row[high])}"
