"""``ealign merge``: several runs as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["merge"]


def merge(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run folders.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The new run folder.")],
) -> None:
    """Join runs into a new one: shards done in different folders, and different evaluations.

    The same question answered twice must have the same rows; different questions under the same model, seed, dataset
    and target are refused. The runs given are only read.

    Example: ealign merge runs/shard-1 runs/shard-2 --out runs/whole
    """
    from explanation_alignment.cli.display.tables import aside
    from explanation_alignment.runs.merging import merge as merge_runs

    merged = merge_runs(list(runs), out)
    for note in merged.info["merged"]["notes"]:
        aside(f"note: {note}")
    toy = " (generated toy data)" if merged.info["toy"] else ""
    typer.echo(f"{out}: {len(merged.evaluations)} evaluations from {len(runs)} runs{toy}")
