"""Tables as CSV, written a piece at a time, so that a download needs no more memory than a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Final

import polars as pl

__all__ = ["MOST_ROWS", "csv_pieces", "file_name"]

#: Rows of a download at most.
MOST_ROWS: Final = 1_000_000
#: What makes a spreadsheet take a text for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_HIDDEN: Final = ("_slug", "_evaluation", "_row")


def csv_pieces(tables: Iterable[pl.DataFrame]) -> Iterator[bytes]:
    """CSV (UTF-8, a heading line, null empty) of tables with the same columns, one after another.

    A text that a spreadsheet would take for a formula gets an apostrophe in front; numbers are as they are.
    """
    for place, table in enumerate(tables):
        shown = table.drop(_HIDDEN, strict=False)
        words = [name for name, kind in shown.schema.items() if kind in (pl.String, pl.Enum, pl.Categorical)]
        safe = shown.with_columns(_neutral(name) for name in words)
        if place == 0:
            yield _heading(shown.columns)
        yield safe.write_csv(include_header=False).encode()


def _neutral(name: str) -> pl.Expr:
    text = pl.col(name).cast(pl.String)
    suspicious = text.str.strip_chars_start(" ").str.slice(0, 1).is_in(_FORMULA)
    return pl.when(suspicious).then("'" + text).otherwise(text).alias(name)


def _heading(names: Iterable[str]) -> bytes:
    buffer = io.StringIO()
    shown = [f"'{name}" if name.lstrip(" ").startswith(_FORMULA) else name for name in names]
    csv.writer(buffer, lineterminator="\n").writerow(shown)
    return buffer.getvalue().encode()


def file_name(what: str, run: str, total: int) -> str:
    """What a download is called: plain letters, and how much of it is there where it is cut."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in run)
    cut = f"-first-{MOST_ROWS}-of-{total}" if total > MOST_ROWS else ""
    return f"{plain[:60] or 'run'}-{what}{cut}.csv"
