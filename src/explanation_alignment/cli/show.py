"""``ealign show``: a run's table."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from explanation_alignment.cli.options import RunPath

__all__ = ["show"]


class Format(StrEnum):
    """How to print."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"
    latex = "latex"


def show(
    run: RunPath,
    by: Annotated[
        str,
        typer.Option(help="model, method, region, dataset or seed: a table each; attr_NAME, correct or label: groups."),
    ] = "model",
    format: Annotated[
        Format, typer.Option(help="For people or for machines; machines get every column.")
    ] = Format.table,
    provenance: Annotated[bool, typer.Option("--provenance", help="What was asked, of what, with what.")] = False,
) -> None:
    """Show a run: explanation alignment with intervals, chance and denominators.

    Example: ealign show runs/mnist --by region
    """
    import json

    from explanation_alignment.cli.results import print_run, print_summary
    from explanation_alignment.runs.reader import open_run

    opened = open_run(run)
    if provenance:
        typer.echo(json.dumps(opened.info, indent=2, ensure_ascii=False))
        return
    whole = ("model", "method", "region", "dataset", "seed")
    summary = opened.summary() if by in whole else opened.summary(by=[by])
    if format is Format.table and by in whole:
        print_run(opened, by)
    elif format is Format.table:
        print_summary(summary, "model")
    elif format is Format.json:
        typer.echo(json.dumps(summary.to_dicts(), indent=2))
    elif format is Format.csv:
        typer.echo(summary.write_csv(), nl=False)
    else:
        from explanation_alignment.reporting.text import to_latex, to_markdown

        typer.echo(to_latex(summary) if format is Format.latex else to_markdown(summary))
