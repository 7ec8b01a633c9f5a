"""A leaderboard as CSV, Markdown or LaTeX, in the layout of timm's results tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from explanation_alignment.reporting.text import escape_latex
from explanation_alignment.statistics.leaderboards import TIMM_COLUMNS, leaderboard_metrics

__all__ = ["leaderboard_csv", "leaderboard_latex", "leaderboard_markdown"]

#: Decimals that timm's tables have.
_DECIMALS: Final = {"top1": 3, "top1_err": 3, "top5": 3, "top5_err": 3, "param_count": 2}
_TOY: Final = "toy (generated) data: these numbers say nothing about real images"


def leaderboard_csv(table: pl.DataFrame) -> str:
    """All columns; accuracy with three decimals and parameters with two, as timm prints them, the rest in full.

    Args:
        table: from :func:`~explanation_alignment.statistics.leaderboards.leaderboard`.

    Returns:
        Lines with a heading, the last one ended; null as nothing.
    """
    return table.with_columns(_fixed(table[name], places) for name, places in _DECIMALS.items()).write_csv()


def leaderboard_markdown(table: pl.DataFrame) -> str:
    """A table for people: timm's columns, then each metric's mean with its interval, and its chance level.

    Args:
        table: as for :func:`leaderboard_csv`.
    """
    columns = _columns(table)
    rows = [[_joined(column, row).replace("|", r"\|") for column in columns] for row in range(table.height)]
    lines = [[column.name for column in columns], ["---" if c.words else "---:" for c in columns], *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{_TOY}" if "toy" in table.columns else text


def leaderboard_latex(table: pl.DataFrame) -> str:
    r"""A ``tabular`` with booktabs rules: numbers of equal decimals set right, intervals in brackets beside them.

    Intervals stand in brackets, not after ``\pm``: those of shares are not symmetric.

    Args:
        table: as for :func:`leaderboard_csv`.
    """
    columns = _columns(table)
    kinds = "".join("l" if c.words else "r@{\\ }l" if c.low is not None else "r" for c in columns)
    heading = " & ".join(
        rf"\multicolumn{{2}}{{c}}{{{escape_latex(c.name)}}}" if c.low is not None else escape_latex(c.name)
        for c in columns
    )
    rows = []
    for row in range(table.height):
        cells: list[str] = []
        for column in columns:
            value, bounds = column.value(row), column.interval(row)
            cells.append(escape_latex(value))
            if column.low is not None:
                cells.append(rf"{{\scriptsize {bounds}}}" if bounds else "")
        rows.append(" & ".join(cells) + r" \\")
    return "\n".join(
        [
            *([f"% {_TOY}"] if "toy" in table.columns else []),
            r"% \usepackage{booktabs}",
            rf"\begin{{tabular}}{{{kinds}}}",
            r"\toprule",
            heading + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a printed table: what it is called, its values, and the bounds beside them."""

    name: str
    values: Sequence[object]
    decimals: int | None
    words: bool
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None

    def value(self, row: int) -> str:
        return _text(self.values[row], self.decimals)

    def interval(self, row: int) -> str:
        """Both bounds in brackets; empty where there are none."""
        if self.low is None or self.high is None or self.low[row] is None:
            return ""
        return f"[{_text(self.low[row], self.decimals)}, {_text(self.high[row], self.decimals)}]"


def _columns(table: pl.DataFrame) -> list[_Column]:
    before = table.columns[: table.columns.index(TIMM_COLUMNS[0])]
    columns = [_Column(name, table[name].to_list(), None, table.schema[name] == pl.String) for name in before]
    for name in TIMM_COLUMNS:
        bounds = (
            [table[f"{name}_{end}"].to_list() for end in ("low", "high")] if name in ("top1", "top5") else [None] * 2
        )
        words = table.schema[name] == pl.String
        columns.append(_Column(name, table[name].to_list(), _DECIMALS.get(name), words, *bounds))
    for metric in leaderboard_metrics(table):
        name = f"ea_{metric}"
        bounds = [table[f"{name}_{end}"].to_list() for end in ("low", "high")]
        columns.append(_Column(name, table[name].to_list(), 3, False, *bounds))
        columns.append(_Column(f"{name}_chance", table[f"{name}_chance"].to_list(), 3, False))
    return columns


def _joined(column: _Column, row: int) -> str:
    return " ".join(text for text in (column.value(row), column.interval(row)) if text)


def _text(value: object, decimals: int | None) -> str:
    if value is None:
        return ""
    return f"{value:.{decimals}f}" if decimals is not None and isinstance(value, float) else str(value)


def _fixed(numbers: pl.Series, decimals: int) -> pl.Series:
    texts = [None if value is None else f"{value:.{decimals}f}" for value in numbers]
    return pl.Series(numbers.name, texts, pl.String)
