"""Tables on standard output: for people at a hundred columns, for machines whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "Format",
    "aside",
    "cell",
    "console",
    "new_table",
    "print_columns",
    "print_for_machines",
    "say",
    "show_table",
]


class Format(StrEnum):
    """How to print."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


def print_for_machines(table: pl.DataFrame, format: Format) -> None:
    """Every row and column in a format other than ``table``."""
    if format is Format.json:
        import json

        typer.echo(json.dumps(table.to_dicts(), indent=2, ensure_ascii=False, default=str))
    elif format is Format.csv:
        typer.echo(table.write_csv(), nl=False)
    else:
        from explanation_alignment.reporting.text import to_latex, to_markdown

        typer.echo(to_latex(table) if format is Format.latex else to_markdown(table))


def new_table(title: str, headings: Sequence[str], numbers_from: int) -> Table:
    """An empty table; columns from the given one on are set right."""
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title), title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold"
    )
    table.padding = (0, 1, 0, 0)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place >= numbers_from else "left", overflow="fold", vertical="top")
    return table


def cell(*lines: str) -> Text:
    """A cell whose first line stands out."""
    from rich.text import Text

    text = Text(lines[0])
    for line in lines[1:]:
        text.append(f"\n{line}", style="dim")
    return text


def print_columns(
    out: Console,
    title: str,
    keys: Sequence[str],
    lines: Sequence[Sequence[Sequence[str]]],
    columns: Mapping[str, Sequence[Any]],
    numbers_from: int,
) -> None:
    """The columns beside the keys, as many tables as it takes.

    Args:
        out: where to.
        title: of the first table.
        keys: headings of what every table repeats.
        lines: the cells below them, a row each; a cell is its lines of text.
        columns: name -> heading, then its cells.
        numbers_from: which of the keys is the first that is set right.
    """
    wide = [max(len(text) for row in lines for text in row[i]) for i in range(len(keys))]
    room = out.width - sum(max(width, len(key)) + 1 for width, key in zip(wide, keys, strict=True))
    widths = {
        name: 1 + max(len(heading), *(len(text) for cell in cells for text in cell))
        for name, (heading, *cells) in columns.items()
    }
    names, page = list(columns), 0
    while names:
        taken = 1
        while taken < len(names) and sum(widths[name] for name in names[: taken + 1]) <= room:
            taken += 1
        headings = [*keys, *(columns[name][0] for name in names[:taken])]
        shown = new_table(f"{title} (continued)" if page else title, headings, numbers_from)
        for i, row in enumerate(lines):
            cells = [*row, *(columns[name][i + 1] for name in names[:taken])]
            shown.add_row(*(cell(*lines) for lines in cells))
        out.print(shown)
        names, page = names[taken:], page + 1


def show_table(table: Table) -> None:
    """Print a table."""
    console().print(table)


def say(text: str, *, dim: bool = False) -> None:
    """Print a paragraph of plain text, whatever brackets it holds."""
    from rich.text import Text

    console().print(Text(text, style="dim" if dim else ""))


def aside(text: str) -> None:
    """Say something that is no result, on standard error."""
    typer.secho(text, err=True, fg="yellow")


def console(*, stderr: bool = False) -> Console:
    """Standard output, or error; where it is no terminal, wide enough for a table.

    It writes names as they are, also ``[left]`` or ``:smile:``.
    """
    from rich.console import Console

    plain = partial(Console, stderr=stderr, markup=False, emoji=False)
    found = plain()
    return found if found.is_terminal else plain(width=100)
