"""``ealign reliance``: which regions a model relies on, and whether one of them is a shortcut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from explanation_alignment.cli.display.tables import Format
from explanation_alignment.cli.options import OnlyMethod, OutputFormat, RunPath

if TYPE_CHECKING:
    import polars as pl

__all__ = ["reliance"]

_KEYS: Final = ("model", "seed", "dataset", "pooled", "method", "binarization")


def reliance(
    run: RunPath,
    by: Annotated[str | None, typer.Option(help="Groups: attributes, correct or label, separated by commas.")] = None,
    metric: Annotated[str, typer.Option(help="The metric that ranks; one with a chance level.")] = "iou_coverage",
    margin: Annotated[float, typer.Option(help="How far above the null maps must lie, in units of the metric.")] = 0.02,
    min_flip: Annotated[
        float, typer.Option(help="By what share of the images the region must change more predictions than elsewhere.")
    ] = 0.02,
    method: OnlyMethod = None,
    pool: Annotated[
        str | None, typer.Option(help="Take together instead of apart: dataset, seed, or dataset,seed.")
    ] = None,
    evidence: Annotated[
        str | None,
        typer.Option(
            help="Regions to accept as the reason, separated by commas, '' for none; the datasets' own by default."
        ),
    ] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Rank the regions of each model, and tell which of them it seems to rely on, by a stated rule.

    The rule needs what happens when a region's content changes: evaluate with --intervene.

    Example: ealign reliance runs/mnist --method vanilla_gradients --pool dataset
    """
    import polars as pl

    from explanation_alignment.cli.display.tables import aside, print_for_machines
    from explanation_alignment.errors import UnknownNameError
    from explanation_alignment.runs.reader import open_run
    from explanation_alignment.statistics.relying.region_reliance import reliance as rank_regions

    opened = open_run(run)
    declared: Any = None if evidence is None else [name for name in evidence.split(",") if name]
    scores: Any = opened
    if method is not None:
        scores = opened.scores()
        known = scores["method"].unique().cast(pl.String).to_list()
        if method not in known:
            raise UnknownNameError("method of this run", method, known)
        scores = scores.filter(pl.col("method").cast(pl.String) == method)
        if declared is None:
            present = scores["dataset"].unique().cast(pl.String).to_list()
            regions = set(scores["region"].unique().cast(pl.String))
            declared = {
                name: [region for region in opened.info["datasets"][name]["evidence"] if region in regions]
                for name in present
            }
    table = rank_regions(
        scores,
        evidence=declared,
        by=by.split(",") if by else (),
        pool=pool.split(",") if pool else (),
        metric=metric,
        margin=margin,
        min_flip=min_flip,
    )
    if format is not Format.table:
        print_for_machines(table, format)
        return
    if table.filter(pl.col("intervention").is_null() & ~pl.col("is_evidence")).height:
        aside("no intervention on some regions: nothing there can be confirmed; evaluate with --intervene")
    _print_ranking(table, metric, margin, min_flip)


def _print_ranking(table: pl.DataFrame, metric: str, margin: float, min_flip: float) -> None:
    import polars as pl

    from explanation_alignment.cli.display.tables import cell, new_table, say, show_table
    from explanation_alignment.reporting.figures import metric_label
    from explanation_alignment.reporting.text import number
    from explanation_alignment.statistics.relying.words import only_evidence, rule, sentences

    grouped = table["group"].n_unique() > 1
    for key, part in table.group_by(_KEYS, maintain_order=True):
        model, seed, dataset, pooled, method, binarization = key
        place = [
            f"seed {seed}" if seed is not None else None,
            dataset,
            pooled and f"over {pooled}",
            method,
            binarization,
        ]
        title = f"{model}  ({', '.join(str(p) for p in place if p is not None)})"
        headings = ["region", "verdict", "excess", metric_label(metric), "adj.", "lift", "hits", "changed", "n"]
        shown = new_table(title, headings, 2)
        for row in part.iter_rows(named=True):
            group = [row["group"].removeprefix("attr_")] if grouped else []
            accuracy = [f"accuracy {number(row['accuracy'])}"] if grouped else []
            shown.add_row(
                cell(f"{row['rank'] or '-'} {row['region']}", *group),
                cell(row["verdict"], *accuracy),
                _with_interval(row, "excess", "excess_low", "excess_high"),
                _with_interval(row, "ea", "ea_low", "ea_high"),
                number(row["adjusted"]),
                "-" if row["lift"] is None else f"{row['lift']:.2f}",
                number(row["hits"]),
                _changed(row),
                cell(f"{row['n']:,}", *([f"undef. {row['n_undefined']:,}"] if row["n_undefined"] else [])),
            )
        show_table(shown)
    nulls = {"center": "a centred map of the same size", "chance": "chance (the runs lack the centred maps' scores)"}
    if metric != "iou_coverage":
        nulls["chance"] = "chance"
    whose = " or ".join(nulls[name] for name in table["null"].unique().sort())
    say(
        f"excess: {metric_label(metric)} minus that of {whose}; adj.: between chance (0) and what the areas allow (1); "
        "lift: saliency coverage over the region's share of the image; changed: predictions changed by the region "
        "minus elsewhere, where tried, below it both; in small print 95 % intervals\n",
        dim=True,
    )
    told = table.filter((pl.col("group") == "all") | ~pl.col("verdict").is_in(["evidence", "unknown", "not relied on"]))
    for sentence in sentences(told.filter(~pl.col("is_evidence"))):
        say(sentence)
    if hint := only_evidence(table):
        say(hint)
    else:
        say("\n" + rule(metric=metric, margin=margin, min_flip=min_flip), dim=True)


def _with_interval(row: dict[str, Any], mean: str, low: str, high: str) -> Any:
    from explanation_alignment.cli.display.tables import cell
    from explanation_alignment.reporting.text import number

    if row[mean] is None:
        return cell("-")
    return cell(number(row[mean]), f"{number(row[low])} to {number(row[high])}")


def _changed(row: dict[str, Any]) -> Any:
    from explanation_alignment.cli.display.tables import cell
    from explanation_alignment.reporting.text import number

    if row["flip_difference"] is None:
        return cell("-")
    arms = [] if row["elsewhere_flips"] is None else [f"{number(row['flips'])} / {number(row['elsewhere_flips'])}"]
    bounds = f"{number(row['flip_low'])} to {number(row['flip_high'])}"
    return cell(number(row["flip_difference"]), bounds, *arms)
