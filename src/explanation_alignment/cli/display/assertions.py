"""What checked claims look like in a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

import polars as pl

from explanation_alignment.reporting.text import number

__all__ = ["lines"]


def lines(table: pl.DataFrame, *, confident: bool, level: float) -> Iterator[str]:
    """A line a claim, then a line for each value that fails it.

    Args:
        table: from :func:`~explanation_alignment.statistics.assertions.check`.
        confident: whether whole intervals were asked for.
        level: their coverage.
    """
    for (claim,), rows in table.group_by("assertion", maintain_order=True):
        failing = rows.filter(~pl.col("holds"))
        asked = f" with its whole {100 * level:g} % interval" if confident else ""
        of = f"{rows.height:,} value{'s' if rows.height > 1 else ''}"
        if failing.is_empty():
            yield f"holds: {claim}{asked} ({of})"
        else:
            yield f"FAILS: {claim}{asked} ({failing.height:,} of {of})"
        for row in (rows if rows.height == 1 else failing).iter_rows(named=True):
            names = ("model", "seed", "dataset", "method", "binarization", "region")
            words = [f"{name} {row[name]}" for name in names if row[name] is not None]
            words += [row["group"]] if row["group"] != "all" else []
            value = "undefined" if row["value"] is None else f"{row['value']:.4f}"
            if row["ci_low"] is not None:
                value += f" ({100 * level:g} % interval {number(row['ci_low'])} to {number(row['ci_high'])})"
            undefined = f", {row['n_undefined']:,} undefined" if row["n_undefined"] else ""
            text = f"{value}, n {row['n']:,}{undefined}: {', '.join(words)}"
            yield from wrap(
                text,
                100,
                initial_indent="  ",
                subsequent_indent="      ",
                break_long_words=False,
                break_on_hyphens=False,
            )
