"""A comparison in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from explanation_alignment.statistics.chance import metric_label
from explanation_alignment.statistics.comparing.rows import CELL
from explanation_alignment.statistics.counted import counted

__all__ = ["sentences"]


def sentences(table: pl.DataFrame, limit: int = 10) -> list[str]:
    """Who differs, in plain words; only what the table's numbers support.

    Args:
        table: from :func:`compare`.
        limit: at most so many differences are told one by one, the clearest first.

    Returns:
        A line that counts, then a line a difference.
    """
    told = table.filter(pl.col("verdict").is_in(["higher", "lower", "better", "worse"]))
    runs = table["between"][0] == "run" if table.height else False
    undefined = table.filter(pl.col("verdict") == "unknown", pl.col("n") == 0).height
    noun = "change" if runs else "difference"
    unknown = table.filter(pl.col("verdict") == "unknown").height
    untold = ((undefined, "had no decision that both define"), (unknown - undefined, "could not be tested"))
    tests = table.height - unknown
    comparisons = "comparison shows" if table.height == 1 else "comparisons show"
    lines = [
        f"{told.height:,} of {table.height:,} {comparisons} a {noun} (Holm, over {counted(tests, 'test')})"
        + "".join(f"; {number:,} {why}" for number, why in untold if number)
        + "."
    ]
    varying = [name for name in CELL if table[name].drop_nulls().n_unique() > 1]
    strongest = told.sort("p_holm", pl.col("effect_size").abs(), descending=[False, True], nulls_last=True).head(limit)
    lines += [_sentence(row, varying) for row in strongest.iter_rows(named=True)]
    if told.height > limit:
        lines.append(f"... and {told.height - limit:,} more.")
    return lines


def _sentence(row: Mapping[str, Any], varying: Sequence[str]) -> str:
    name = metric_label(row["metric"])
    places = [f"{key} {row[key]}" for key in varying if row[key] is not None]
    where = f" ({', '.join(places)})" if places else ""
    if row["between"] == "run":
        change = {"better": "became better", "worse": "became worse"}.get(row["verdict"], f"is {row['verdict']}")
        subject = (
            f"{name} of {row['model']}{where} {change} than before"
            if change.startswith("is")
            else f"{name} of {row['model']}{where} {change}"
        )
    else:
        than = "lower" if row["difference"] < 0 else "higher"
        subject = f"{name}{where} is {than} for {row['first']} than for {row['second']}"
    numbers = f"{_signed(row['difference'])}, {_signed(row['ci_low'])} to {_signed(row['ci_high'])}"
    return f"{subject}: {numbers} ({row['n']:,} {'pairs' if row['paired'] else 'images'})."


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")
