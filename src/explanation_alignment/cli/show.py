"""``ealign show``: a run's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from explanation_alignment.cli.display.tables import Format, print_for_machines
from explanation_alignment.cli.options import (
    Level,
    OnlyDatasets,
    OnlyMethods,
    OnlyModels,
    OnlyRegions,
    OutputFormat,
    RunPath,
)
from explanation_alignment.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl

    from explanation_alignment.runs.reader import Run

__all__ = ["show"]

#: What makes a table each; anything else forms groups.
_WHOLE = ("model", "method", "region", "dataset", "seed")
#: Coverage of the intervals unless told otherwise.
_LEVEL = 0.95


def show(
    run: RunPath,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="model (default), method, region, dataset or seed: a table each; correct, label, annotation_size, "
            "attr_NAME: groups. Repeatable, or separated by commas."
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="One table, a row a model, sorted by this column: top1, param_count, ea_METRIC, ea_METRIC_adjusted, "
            "model, ...; with --format in the layout of timm's results tables."
        ),
    ] = None,
    ascending: Annotated[bool, typer.Option("--ascending", help="With --sort: the smallest number first.")] = False,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; repeatable.")] = None,
    model: OnlyModels = None,
    region: OnlyRegions = None,
    dataset: OnlyDatasets = None,
    method: OnlyMethods = None,
    level: Level = _LEVEL,
    cluster: Annotated[
        str | None, typer.Option(help="class or attr_NAME: intervals draw these anew in place of images.")
    ] = None,
    pool_seeds: Annotated[
        bool, typer.Option("--pool-seeds", help="One row for all seeds; intervals add how far seeds lie apart.")
    ] = False,
    right_reason: Annotated[
        float | None,
        typer.Option(help="The rate of decisions that are correct with a score (IoU, or --metric) of at least this."),
    ] = None,
    ranking: Annotated[
        bool, typer.Option("--ranking", help="Whether models keep their order over binarizations.")
    ] = False,
    format: OutputFormat = Format.table,
    provenance: Annotated[bool, typer.Option("--provenance", help="What was asked, of what, with what.")] = False,
) -> None:
    """Show a run: explanation alignment with intervals, chance and denominators.

    With --sort, one table of all models, ranked: ealign show runs/imagenet --sort ea_iou_coverage --format csv

    Example: ealign show runs/mnist --by correct --metric iou_coverage
    """
    import json

    from explanation_alignment.cli.display.comparison import only
    from explanation_alignment.runs.reader import open_run

    opened = open_run(run)
    if provenance:
        if format is Format.json:
            typer.echo(json.dumps(opened.info, indent=2, ensure_ascii=False))
        elif format is Format.table:
            from explanation_alignment.cli.display.provenance import print_provenance

            print_provenance(opened)
        else:
            raise UsageError(f"--provenance is for people or --format json, got {format.value}")
        return
    tables, groups = _read_by(by or ["model"])
    chosen = {"model": model, "region": region, "dataset": dataset, "method": method}
    if ascending and sort is None:
        raise UsageError("--ascending says how to sort; name the column: --sort top1 --ascending")
    if sort is not None:
        if tables != "model" or groups or ranking or right_reason is not None:
            raise UsageError(
                "--sort ranks models: it goes with no other --by, and not with --ranking or --right-reason"
            )
        _leaderboard(opened, sort, ascending, metric, chosen, level, cluster, pool_seeds, format)
        return
    if ranking and (tables != "model" or cluster is not None or level != _LEVEL):
        raise UsageError("--ranking compares the order of models: it goes with no --by of tables, --cluster or --level")
    if right_reason is not None and (ranking or pool_seeds):
        raise UsageError("--right-reason goes with neither --ranking nor --pool-seeds; ask for them one at a time")
    if right_reason is not None:
        table = only(_right_reason(opened.scan_scores(), right_reason, metric, groups, level, cluster), chosen)
    else:
        table = opened.summary(by=groups, level=level, cluster=cluster, pool_seeds=pool_seeds, metrics=metric)
        table = only(table, chosen)
        if ranking:
            from explanation_alignment.statistics.ranking import ranking_stability

            table = ranking_stability(table)
    if format is not Format.table:
        print_for_machines(table, format)
        return
    from explanation_alignment.cli.display.failures import print_failures
    from explanation_alignment.cli.display.results import (
        print_ranking,
        print_right_reason,
        print_samples,
        print_summary,
        print_unfinished,
    )

    if right_reason is not None:
        print_right_reason(table, tables, level=level)
    elif ranking:
        print_ranking(table)
    else:
        print_summary(table, tables, level=level)
        if cluster is None and not pool_seeds:
            print_samples(opened)
    print_unfinished(opened)
    print_failures(opened.failures)


def _leaderboard(
    run: Run,
    sort: str,
    ascending: bool,
    metrics: list[str] | None,
    chosen: Mapping[str, list[str] | None],
    level: float,
    cluster: str | None,
    pool_seeds: bool,
    format: Format,
) -> None:
    """The run's models in one table, in the order asked for."""
    from explanation_alignment.cli.display.leaderboard import export_leaderboard, print_leaderboard
    from explanation_alignment.cli.display.results import print_unfinished
    from explanation_alignment.statistics.leaderboards import leaderboard

    table = leaderboard(
        run,
        sort=sort,
        ascending=ascending,
        metrics=metrics,
        models=chosen["model"],
        datasets=chosen["dataset"],
        methods=chosen["method"],
        regions=chosen["region"],
        level=level,
        cluster=cluster,
        pool_seeds=pool_seeds,
        all_keys=format is Format.table,
    )
    if format is not Format.table:
        export_leaderboard(table, format)
        return
    print_leaderboard(table, sort, ascending=ascending, level=level)
    print_unfinished(run)


def _read_by(by: list[str]) -> tuple[str, list[str]]:
    """What makes a table each, and what forms groups within them."""
    names = [name.strip() for text in by for name in text.split(",") if name.strip()]
    whole = [name for name in names if name in _WHOLE]
    if len(whole) > 1 or not names:
        raise UsageError(f"--by: expected one of {', '.join(_WHOLE)}, or what forms groups; got {','.join(by)!r}")
    return (whole[0] if whole else "model"), [name for name in names if name not in _WHOLE]


def _right_reason(
    scores: pl.LazyFrame,
    threshold: float,
    metrics: list[str] | None,
    groups: list[str],
    level: float,
    cluster: str | None,
) -> pl.DataFrame:
    import polars as pl

    from explanation_alignment.statistics.right_reasons import right_reason

    return pl.concat(
        right_reason(scores, threshold=threshold, metric=metric, by=groups, level=level, cluster=cluster)
        for metric in metrics or ["iou_coverage"]
    )
