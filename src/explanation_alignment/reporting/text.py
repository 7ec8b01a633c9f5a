"""Numbers as text, and a summary as Markdown or LaTeX, for terminals, papers and notes."""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = ["TOY_WARNING", "interval", "number", "signed", "to_latex", "to_markdown"]

#: What stands wherever numbers of generated data stand.
TOY_WARNING: Final = "Generated toy data: these numbers say nothing about real images."

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def number(value: float | None) -> str:
    """A score to three places without a leading zero, as proportions are written; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


def signed(value: float | None) -> str:
    """A difference of scores to three places, with its sign."""
    if value is None:
        return "-"
    return ("+" if value >= 0 else "\u2212") + number(abs(value))


def interval(low: float | None, high: float | None) -> str:
    """An interval as ``low-high``, to three places."""
    return f"{number(low)}-{number(high)}"


def to_markdown(table: pl.DataFrame) -> str:
    """The whole table as Markdown, floats to four places, null as an empty cell."""
    rows = [[cell.replace("|", r"\|").replace("\n", " ") for cell in row] for row in _cells(table)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    rule = ["---:" if kind.is_numeric() else "---" for kind in table.dtypes]
    return "\n".join([lines[0], f"| {' | '.join(rule)} |", *lines[1:]])


def escape_latex(text: str) -> str:
    """The text as LaTeX prints it, whatever marks it holds."""
    return text.translate(_LATEX)


def to_latex(table: pl.DataFrame) -> str:
    """The whole table as a ``tabular`` with booktabs rules, floats to four places."""
    rows = [" & ".join(escape_latex(cell) for cell in row) + r" \\" for row in _cells(table)]
    columns = "".join("r" if kind.is_numeric() else "l" for kind in table.dtypes)
    return "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _cells(table: pl.DataFrame) -> list[list[str]]:
    return [table.columns, *([_cell(value) for value in row] for row in table.iter_rows())]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4f}" if isinstance(value, float) else str(value)
