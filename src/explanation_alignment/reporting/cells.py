"""What one cell of the page's tables shows; the full number stands behind the rounded one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

__all__ = ["Cell", "cell", "p_value", "shown_as", "span_of"]

_NOTHING: Final = "\u2013"


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows; ``value`` is the exact number behind it, if it is one."""

    text: str
    value: str | None = None
    kind: str = "text"


def cell(value: object, decimals: int = 3) -> Cell:
    """A value of any kind: numbers rounded, None and NaN as a dash, booleans in words; a cell as it is."""
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell(_NOTHING, kind="none")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int):
        return Cell(f"{value:,}", str(value), "number")
    if isinstance(value, float):
        if math.isnan(value):
            return Cell(_NOTHING, kind="none")
        smallest = 10.0**-decimals
        tiny = 0 < value < smallest / 2  # a p-value of 0.000 is none
        text = f"<{smallest:.{decimals}f}" if tiny else f"{value:.{decimals}f}".replace("-", "\u2212")
        return Cell(text, repr(value), "number")
    return Cell(str(value))


def p_value(value: float | None) -> Cell:
    """A p-value: one too small for a float to hold is small, not 0."""
    return Cell("<0.001", repr(value), "number") if value == 0 else cell(value)


def span_of(counts: pl.Series) -> list[Cell]:
    """A number, or smallest and largest where there are several."""
    values = sorted(set(counts.to_list()))
    return [cell(value) for value in ([values[0], values[-1]] if len(values) > 1 else values)]


def shown_as(name: object, words: Mapping[str, str]) -> str:
    """The word to show for a name, or the name."""
    return words.get(str(name), str(name))
