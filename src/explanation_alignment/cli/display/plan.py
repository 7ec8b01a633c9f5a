"""What a plan looks like in a terminal."""

from __future__ import annotations

from typing import Final

import polars as pl
from rich.text import Text

from explanation_alignment.cli.display.tables import console, new_table
from explanation_alignment.reporting.text import number

__all__ = ["print_plan"]

_KEYS: Final = ("seed", "dataset", "target", "method", "binarization", "region")
_MOST_ROWS: Final = 40


def print_plan(table: pl.DataFrame, difference: float, power: float, level: float) -> None:
    """The plan at 100 columns: the 40 rows that take most images."""
    out = console()
    varying = [name for name in _KEYS if table[name].drop_nulls().n_unique() > 1]
    words = ["models", *([" / ".join(varying)] if varying else []), "metric"]
    printed = new_table(
        f"Images to show a difference of {difference:g} with {100 * power:g} % power at {100 * level:g} %",
        [*words, "SD", "corr.", "n now", "power", "paired", "unpaired", "one mean"],
        len(words),
    )
    shown = table.with_row_index("_row").sort("images_paired", descending=True, nulls_last=True).head(_MOST_ROWS)
    for row in shown.sort("_row").iter_rows(named=True):
        sds = [number(row[name]) for name in ("sd_first", "sd_second") if row[name] is not None]
        places = ", ".join(str(row[name]) for name in varying if row[name] is not None)
        counts = (row[name] for name in ("images_paired", "images_unpaired", "images_one_mean"))
        printed.add_row(
            Text("\n".join(name for name in (row["first"], row["second"]) if name)),
            *([Text(places)] if varying else []),
            Text(row["metric"]),
            Text("\n".join(sds) or "-"),
            number(row["correlation"]),
            f"{row['n_now']:,}",
            "-" if row["power_now"] is None else f"{row['power_now']:.2f}",
            *("-" if count is None else f"{count:,}" for count in counts),
        )
    out.print(printed)
    if table.height > _MOST_ROWS:
        out.print(Text(f"the {_MOST_ROWS} of {table.height:,} rows that take most images; --format csv for all"))
    out.print(
        Text(
            "power: of the images this run has; paired: the same images for both; unpaired: for each of two groups; "
            f"one mean: known to ± {difference:g}",
            "dim",
        )
    )
