"""``ealign compare``: who differs, or what became worse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explanation_alignment.cli.display.tables import Format, print_for_machines
from explanation_alignment.cli.options import (
    Level,
    OnlyDatasets,
    OnlyMethods,
    OnlyMetrics,
    OnlyModels,
    OnlyRegions,
    OutputFormat,
    RunPath,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from explanation_alignment.runs.reader import Run

__all__ = ["compare"]


def compare(
    run: RunPath,
    before: Annotated[
        Path | None, typer.Argument(help="An earlier run: tell what became worse.", show_default=False)
    ] = None,
    between: Annotated[
        str,
        typer.Option(
            help="model, method, binarization, region, dataset or seed: on the same images; an attribute, label or "
            "correct: groups of different images. Within one run."
        ),
    ] = "model",
    metric: OnlyMetrics = None,
    reference: Annotated[str | None, typer.Option(help="Compare everything with this one, such as a model.")] = None,
    model: OnlyModels = None,
    region: OnlyRegions = None,
    dataset: OnlyDatasets = None,
    method: OnlyMethods = None,
    common: Annotated[
        bool, typer.Option("--common", help="Where images differ, compare those both were evaluated on.")
    ] = False,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Different images on both sides, such as two test sets.")
    ] = False,
    equally_accurate: Annotated[
        bool,
        typer.Option(
            "--equally-accurate",
            help="Pairs of models with the same accuracy, within --margin, and different alignment.",
        ),
    ] = False,
    margin: Annotated[
        float | None,
        typer.Option(help="With --equally-accurate: what does not matter; .01 is one point. [default: .01]"),
    ] = None,
    over_seeds: Annotated[
        bool, typer.Option("--over-seeds", help="One row a pair: what holds for other training runs too.")
    ] = False,
    cluster: Annotated[
        str | None, typer.Option(help="Attribute or label whose images hang together, such as a film's frames.")
    ] = None,
    level: Level = 0.95,
    seed: Annotated[int, typer.Option(help="Seed of the drawn permutations.")] = 0,
    fail_on_worse: Annotated[
        bool, typer.Option("--fail-on-worse", help="With two runs: exit code 1 if anything became worse.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Show every row; otherwise the 40 clearest differences. With --equally-accurate and a --format: every "
            "pair, whatever its verdict.",
        ),
    ] = False,
    format: OutputFormat = Format.table,
) -> None:
    """Compare models, methods, regions, test sets, groups or two runs: differences with intervals and tests.

    Tests are corrected for all rows of the table (Holm): narrow what you ask, and less is corrected for.

    Pairs as accurate as each other: ealign compare runs/imagenet --equally-accurate --metric iou_coverage

    Example: ealign compare runs/mnist --between model --region digit --metric iou_coverage
    """
    from explanation_alignment.cli.display.comparison import only, print_comparison
    from explanation_alignment.errors import UsageError
    from explanation_alignment.runs.reader import open_run
    from explanation_alignment.statistics.comparing.comparison import compare as compare_scores

    if fail_on_worse and before is None:
        raise UsageError("--fail-on-worse compares two runs: ealign compare RUN RUN_BEFORE --fail-on-worse")
    opened = [open_run(path) for path in (run, before) if path is not None]
    chosen = {"model": model, "region": region, "dataset": dataset, "method": method}
    if margin is not None and not equally_accurate:
        raise UsageError("--margin goes with --equally-accurate")
    if equally_accurate:
        if before is not None or reference or unpaired or over_seeds or cluster or between != "model":
            raise UsageError(
                "--equally-accurate is about pairs of models on the same images of one run: not with a second run, "
                "--between, --reference, --unpaired, --over-seeds or --cluster"
            )
        _equally_accurate(
            opened[0], 0.01 if margin is None else margin, metric, chosen, common, level, seed, everything, format
        )
        return
    scores = [only(each.scores(), chosen) for each in opened]
    table = compare_scores(
        scores[0],
        scores[1] if before is not None else None,
        between=between,
        metrics=metric,
        reference=reference,
        common=common,
        paired=not unpaired,
        over_seeds=over_seeds,
        cluster=cluster,
        evidence=opened[0].evidence,
        level=level,
        seed=seed,
    )
    for note in _notes(opened, scores, metric):
        typer.echo(note, err=True)
    if left_out := table["n_unshared"].sum():
        typer.echo(f"--common: {left_out:,} decisions on images that only one side has are left out", err=True)
    if format is Format.table:
        print_comparison(table, level, limit=None if everything else 40)
    else:
        print_for_machines(table, format)
    worse = table["verdict"].to_list().count("worse")
    if fail_on_worse and worse:
        typer.echo(f"{worse:,} of {table.height:,} became worse", err=True)
        raise typer.Exit(1)


def _notes(runs: Sequence[Run], scores: Sequence[pl.DataFrame], metrics: list[str] | None) -> list[str]:
    """What has no counterpart in the other run, and whose data is generated."""
    from explanation_alignment.statistics.comparing.comparison import unmatched

    notes = []
    if len(runs) == 2:
        notes += [line for line in unmatched(runs[0], runs[1]) if "dataset " in line[:8]]
        notes += [line for line in unmatched(scores[0], scores[1]) if not metrics or ": metric " not in line]
    return notes + [note for run in runs for note in _toy_note(run)]


def _toy_note(run: Run) -> list[str]:
    toys = sorted(name for name, item in run.info["datasets"].items() if item.get("toy"))
    return [f"{run.path}: {', '.join(toys)}: toy (generated) data"] if toys else []


def _equally_accurate(
    run: Run,
    margin: float,
    metrics: list[str] | None,
    chosen: Mapping[str, list[str] | None],
    common: bool,
    level: float,
    seed: int,
    everything: bool,
    format: Format,
) -> None:
    """The pairs that accuracy does not tell apart and alignment does."""
    from explanation_alignment.cli.display.equal_accuracy import print_equally_accurate
    from explanation_alignment.statistics.comparing.equal_accuracy import DIFFERENTLY_ALIGNED, equally_accurate

    table = equally_accurate(
        run,
        margin=margin,
        metrics=metrics,
        models=chosen["model"],
        datasets=chosen["dataset"],
        methods=chosen["method"],
        regions=chosen["region"],
        common=common,
        all_pairs=True,
        level=level,
        seed=seed,
    )
    for note in _toy_note(run):
        typer.echo(note, err=True)
    if format is Format.table:
        print_equally_accurate(table, margin, level, limit=None if everything else 40)
    else:
        print_for_machines(table if everything else table.filter(verdict=DIFFERENTLY_ALIGNED), format)
