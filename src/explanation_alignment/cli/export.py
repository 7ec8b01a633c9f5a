"""``ealign export``: a run's rows for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explanation_alignment.cli.options import RunPath

__all__ = ["export"]


def export(
    run: RunPath,
    to: Annotated[str, typer.Option(help="csv, parquet, or huggingface (a folder for datasets.load_dataset).")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="File (.csv, .csv.gz, .parquet) or folder to write; default in RUN/export.", show_default=False
        ),
    ] = None,
) -> None:
    """Write all rows of a run as one table: CSV, one sorted Parquet file, or a Hugging Face dataset with its card.

    Example: ealign export runs/imagenet --to parquet --out imagenet.parquet
    """
    from typing import cast

    from explanation_alignment.cli.display.tables import aside
    from explanation_alignment.reporting.text import TOY_WARNING
    from explanation_alignment.runs.exporting import ExportFormat
    from explanation_alignment.runs.exporting import export as export_run
    from explanation_alignment.runs.reader import open_run

    opened = open_run(run)
    place = export_run(opened, cast("ExportFormat", to), out)
    if opened.info["toy"]:
        aside(TOY_WARNING)
    typer.echo(place)
