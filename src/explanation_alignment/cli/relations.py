"""``ealign relate``: how alignment goes with other columns, over models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from explanation_alignment.cli.display.tables import Format
from explanation_alignment.cli.options import OnlyDataset, OnlyMethod, OnlyRegion, OutputFormat, RunPath

if TYPE_CHECKING:
    import polars as pl

__all__ = ["relate"]


def relate(
    run: RunPath,
    outcome: Annotated[str, typer.Option(help="accuracy, parameters, a metric, or any other column.")] = "accuracy",
    predictor: Annotated[
        str, typer.Option(help="A metric (METRIC_adjusted: for chance), or any other column.")
    ] = "iou_coverage",
    control: Annotated[str | None, typer.Option(help="Columns of numbers held fixed, separated by commas.")] = None,
    group: Annotated[str | None, typer.Option(help="A column of words held fixed, such as family.")] = None,
    dataset: OnlyDataset = None,
    method: OnlyMethod = None,
    region: OnlyRegion = None,
    format: OutputFormat = Format.table,
) -> None:
    """Relate two columns over the models of a run, with other columns held fixed.

    A model is one row, whatever its number of seeds; at least four are needed.

    Example: ealign relate runs/imagenet --outcome accuracy --predictor iou_coverage --control parameters
    """
    from explanation_alignment.cli.display.tables import print_for_machines
    from explanation_alignment.runs.reader import open_run
    from explanation_alignment.statistics.relations import relate as relate_columns

    table = relate_columns(
        open_run(run),
        outcome=outcome,
        predictor=predictor,
        controls=control.split(",") if control else (),
        group=group,
        dataset=dataset,
        method=method,
        region=region,
    )
    if format is Format.table:
        _print_relations(table)
    else:
        print_for_machines(table, format)


def _print_relations(table: pl.DataFrame) -> None:
    from explanation_alignment.cli.display.tables import cell, new_table, say, show_table
    from explanation_alignment.statistics.relations import relation_sentence

    keys = ["dataset", "method", "binarization", "region"]
    for key, part in table.group_by(keys, maintain_order=True):
        first = part.row(0, named=True)
        title = f"{first['outcome']} and {first['predictor']}  ({', '.join(str(k) for k in key)})"
        headings = ["statistic", "held fixed", "value", "p", "models", "largest influence", "leaving one out"]
        shown = new_table(title, headings, 2)
        for row in part.iter_rows(named=True):
            dropped = [f"{row['n_dropped']} dropped"] if row["n_dropped"] else []
            influence = [row["influential_model"], f"without it {_value(row['without_it'])}"]
            shown.add_row(
                row["statistic"],
                row["controls"] or "-",
                cell(_value(row["coefficient"]), *_bounds(row, "ci_low", "ci_high")),
                "-" if row["p_value"] is None else f"{row['p_value']:.3f}",
                cell(str(row["n_models"]), *dropped),
                cell(*influence) if influence[0] is not None else "-",
                " ".join(_bounds(row, "loo_low", "loo_high")) or "-",
            )
        show_table(shown)
    for row in table.filter(statistic=_told(table)).iter_rows(named=True):
        say(relation_sentence(row))
    say("small print: 95 % intervals, bootstrapped over models; p by permutation; a relation is not a cause", dim=True)


def _told(table: pl.DataFrame) -> str:
    """The statistic worth a sentence: the partial one where something is held fixed."""
    return "partial spearman" if "partial spearman" in table["statistic"] else "spearman"


def _bounds(row: dict[str, Any], low: str, high: str) -> list[str]:
    return [] if row[low] is None else [f"{_value(row[low])} to {_value(row[high])}"]


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
