"""``ealign plan``: how many images it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explanation_alignment.cli.display.tables import Format, print_for_machines
from explanation_alignment.cli.options import OnlyDatasets, OnlyMethods, OnlyMetrics, OnlyRegions

__all__ = ["plan"]


def plan(
    run: Annotated[
        Path | None,
        typer.Argument(help="A run whose scores tell how much they vary; else give --sd.", show_default=False),
    ] = None,
    difference: Annotated[float, typer.Option(help="The difference to tell apart, in units of the metric.")] = 0.02,
    power: Annotated[float, typer.Option(help="The chance to show it, if it is there.")] = 0.8,
    level: Annotated[float, typer.Option(help="Coverage of the interval; the test's level is one minus it.")] = 0.95,
    metric: OnlyMetrics = None,
    region: OnlyRegions = None,
    dataset: OnlyDatasets = None,
    method: OnlyMethods = None,
    sd: Annotated[float | None, typer.Option(help="Without a run: standard deviation of a score over images.")] = None,
    correlation: Annotated[
        float, typer.Option(help="Without a run: correlation of two models' scores on an image.")
    ] = 0.0,
    common: Annotated[bool, typer.Option("--common", help="Where images differ, use those both models have.")] = False,
    format: Annotated[Format, typer.Option(help="For people or for machines.")] = Format.table,
) -> None:
    """How many images tell two models apart by a difference: on the same images, on different ones; and for one mean.

    Example: ealign plan runs/mnist --difference .02 --metric iou_coverage --power .9
    """
    import json

    from explanation_alignment.errors import UsageError

    if (run is None) == (sd is None):
        raise UsageError("give a run, or without one --sd (and --correlation): ealign plan --sd .2 --difference .02")
    if run is None:
        given = {"--metric": metric, "--region": region, "--dataset": dataset, "--method": method, "--common": common}
        if named := [name for name, value in given.items() if value]:
            raise UsageError(f"{', '.join(named)}: choose among a run's scores; give a run instead of --sd")
        from explanation_alignment.statistics.planning import sample_size

        assert sd is not None
        sizes = {
            kind: sample_size(difference, sd=sd, correlation=correlation, power=power, level=level, kind=kind)
            for kind in ("paired", "unpaired", "mean")
        }
        if format is Format.table:
            typer.echo(f"two models on the same images      {sizes['paired']:>9,} images")
            typer.echo(f"on different images, for each      {sizes['unpaired']:>9,} images")
            typer.echo(f"one mean to +- {difference:<19g} {sizes['mean']:>9,} images")
        elif format is Format.json:
            typer.echo(json.dumps(sizes, indent=2))
        else:
            raise UsageError("without a run there are three numbers; print them as table or json")
        return

    from explanation_alignment.cli.display.comparison import only
    from explanation_alignment.cli.display.plan import print_plan
    from explanation_alignment.runs.reader import open_run
    from explanation_alignment.statistics.planning import plan as plan_scores

    scores = only(open_run(run).scores(), {"region": region, "dataset": dataset, "method": method})
    table = plan_scores(scores, difference, metrics=metric, power=power, level=level, common=common)
    if format is Format.table:
        print_plan(table, difference, power, level)
    else:
        print_for_machines(table, format)
