"""``ealign assert``: a gate for a pipeline."""

from __future__ import annotations

from typing import Annotated

import typer

from explanation_alignment.cli.options import RunPath

__all__ = ["assertion"]


def assertion(
    run: RunPath,
    claims: Annotated[list[str], typer.Argument(help="One or more claims, each in quotes.", show_default=False)],
    confident: Annotated[
        bool, typer.Option("--confident", help="The whole interval must satisfy the claim, not only the value.")
    ] = False,
    level: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.95,
) -> None:
    """Check claims about a run; exit code 1 and the failing values where one does not hold.

    A claim is MODEL.METRIC >= NUMBER (or >, <=, <), with .adjusted, .low or .high after the metric if wanted, and
    filters in square brackets before the sign: method, binarization, region, dataset, seed, group. Every value it
    speaks of must hold: without filters all methods, datasets and seeds, and the regions declared as evidence. * is
    every model.

    Example: ealign assert runs/imagenet "resnet50.iou_coverage.adjusted >= 0.2" "*.accuracy >= .7"
    """
    from explanation_alignment.cli.display.assertions import lines
    from explanation_alignment.runs.reader import open_run
    from explanation_alignment.statistics.assertions import check

    table = check(open_run(run), *claims, confident=confident, level=level)
    for line in lines(table, confident=confident, level=level):
        typer.echo(line)
    if not table["holds"].all():
        raise typer.Exit(1)
