"""What a comparison looks like in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from rich.text import Text

from explanation_alignment.cli.display.tables import cell, console, new_table
from explanation_alignment.errors import UnknownNameError
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.reporting.text import number, signed
from explanation_alignment.statistics.comparing.rows import ACCURACY, CELL
from explanation_alignment.statistics.comparing.words import sentences

__all__ = ["only", "print_comparison"]


def only(scores: pl.DataFrame, chosen: Mapping[str, Sequence[str] | None]) -> pl.DataFrame:
    """The rows with one of the values chosen in each column; None chooses all.

    Raises:
        UnknownNameError: no row has such a value.
    """
    for column, values in chosen.items():
        if not values:
            continue
        names = pl.col(column).cast(pl.String)
        known = scores.select(names.unique().sort()).to_series().to_list()
        for value in values:
            if value not in known:
                raise UnknownNameError(f"{column} of this run", value, known)
        scores = scores.filter(names.is_in(list(values)))
    return scores


def print_comparison(table: pl.DataFrame, level: float = 0.95, limit: int | None = 40) -> None:
    """The table at 100 columns, the clearest ``limit`` rows of it, and who differs in words."""
    out = console()
    shown = table.with_row_index("_row")
    if limit is not None and table.height > limit:
        clearest = shown.sort("p_holm", pl.col("effect_size").abs(), descending=[False, True], nulls_last=True)
        shown = clearest.head(limit).sort("_row")
    varying = [name for name in CELL if table[name].drop_nulls().n_unique() > 1]
    constant = [f"{name} {table[name].drop_nulls()[0]}" for name in CELL if table[name].drop_nulls().n_unique() == 1]
    between = table["between"][0]
    title = "now and before" if between == "run" else f"between {between}s" if table["paired"][0] else f"by {between}"
    words = ["first", "second", *([" / ".join(varying)] if varying else []), "metric"]
    printed = new_table(
        f"Differences {title}" + (f"  ({', '.join(constant)})" if constant else ""),
        [*words, "difference", "p (Holm)", "effect", "n"],
        len(words),
    )
    for row in shown.iter_rows(named=True):
        printed.add_row(*_cells(row, varying))
    out.print(printed)
    if shown.height < table.height:
        out.print(
            Text(f"the clearest {shown.height:,} of {table.height:,} rows; --all, or --format csv, for all of them")
        )
    effect = "mean difference / SD of the differences" if table["paired"][0] else "difference / SD within groups"
    counted = "decisions in pairs" if table["paired"][0] else "decisions of both groups"
    legend = (
        "under a name: its mean (a map that knows nothing); difference: first minus second, "
        f"{100 * level:g} % interval; effect: {effect}; n: {counted}, (undef.: left out since one of the two is "
        "undefined); p is corrected for all rows of this table"
    )
    out.print(Text(legend, "dim"))
    for line in sentences(table, limit=5):
        out.print(Text(line))
    if table["unreliable"].any():
        out.print(Text("!: fewer than 30 images tell the two apart; the interval rests on a handful", "dim"))
    if table["seed"].drop_nulls().n_unique() > 1:
        out.print(Text("each seed is compared by itself; --over-seeds tells what holds for other seeds too", "dim"))


def _cells(row: Mapping[str, Any], varying: Sequence[str]) -> list[Text]:
    places = [str(row[name]) for name in varying if row[name] is not None]
    count = [f"{row['n']:,}"]
    if row["n_undefined"]:
        count.append(f"undef. {row['n_undefined']:,}")
    if row["seeds"] > 1:
        count.append(f"{row['seeds']} seeds")
    name = row["metric"]
    label = name if name == ACCURACY else _label(name)
    return [
        cell(*[row["first"], _mean(row["mean_first"], row["chance_first"])]),
        cell(*[row["second"], _mean(row["mean_second"], row["chance_second"])]),
        *([cell(*[", ".join(places)])] if varying else []),
        Text(label),
        cell(*[signed(row["difference"]), f"{signed(row['ci_low'])} {signed(row['ci_high'])}"]),
        Text(p_value(row["p_holm"])),
        Text(
            ("! " if row["unreliable"] else "") + ("-" if row["effect_size"] is None else f"{row['effect_size']:+.2f}")
        ),
        cell(*count),
    ]


def _label(metric: str) -> str:
    from explanation_alignment.errors import UsageError

    try:
        return get_metric(metric).label
    except UsageError:
        return metric


def _mean(mean: float | None, chance: float | None) -> str:
    return number(mean) + ("" if chance is None else f" ({number(chance)})")


def p_value(value: float | None) -> str:
    """A p-value as papers print it."""
    return "-" if value is None else "< .001" if value < 0.001 else number(value)
