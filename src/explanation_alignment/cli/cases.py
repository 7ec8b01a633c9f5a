"""``ealign cases``: the eight Shared Interest cases, counted or listed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from explanation_alignment.cli.display.tables import Format
from explanation_alignment.cli.options import OnlyDataset, OnlyMethod, OnlyModel, OnlyRegion, OutputFormat, RunPath

if TYPE_CHECKING:
    import polars as pl

    from explanation_alignment.runs.reader import Run

__all__ = ["cases"]

#: Decisions listed unless told otherwise.
_LIMIT: Final = 20
_KEYS: Final = ("model", "seed", "dataset", "target", "method", "binarization")
_HEADINGS: Final = (
    "human aligned\nor confuser",
    "(in)sufficient\nsubset",
    "context dependent\nor confusion",
    "sufficient context\nor distractor",
    "unclassified",
)


def cases(
    run: RunPath,
    case: Annotated[
        str | None, typer.Option(help="List the decisions of this case, such as confuser or human-aligned.")
    ] = None,
    low: Annotated[float, typer.Option(help="At or below it a metric is low.")] = 0.2,
    high: Annotated[float, typer.Option(help="At or above it a metric is high.")] = 0.65,
    by: Annotated[
        str | None, typer.Option(help="Groups: attributes or label, separated by commas; counts only.")
    ] = None,
    model: OnlyModel = None,
    dataset: OnlyDataset = None,
    method: OnlyMethod = None,
    region: OnlyRegion = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="Decisions to list; 20 in a table, all otherwise; 0 for all.")
    ] = None,
    format: OutputFormat = Format.table,
) -> None:
    """Count the Shared Interest cases: was the model right, and did it look where people would?

    Example: ealign cases runs/mnist --case confuser --limit 5
    """
    from explanation_alignment.cli.display.tables import print_for_machines
    from explanation_alignment.errors import UsageError
    from explanation_alignment.runs.reader import open_run
    from explanation_alignment.statistics.inputs import without_nulls
    from explanation_alignment.statistics.shared_interest_cases import case_name, with_cases
    from explanation_alignment.statistics.shared_interest_cases import cases as count_cases

    if case is None and limit is not None:
        raise UsageError("--limit is for the list of decisions; give --case as well")
    if case is not None and by is not None:
        raise UsageError("--by is for counts; leave it out, or leave out --case")
    name = None if case is None else case_name(case)
    opened = open_run(run)
    wanted = {"model": model, "dataset": dataset, "method": method, "region": region}
    scores = _chosen(opened.scores(), wanted)
    if name is None:
        counts = count_cases(scores, low=low, high=high, by=by.split(",") if by else ())
        if format is Format.table:
            _print_counts(counts, low, high)
        else:
            print_for_machines(counts, format)
        return
    found = _listed(with_cases(without_nulls(scores), low=low, high=high), name)
    kept = limit if limit is not None else _LIMIT if format is Format.table else 0
    shown = found.head(kept) if kept else found
    if format is Format.table:
        _print_decisions(shown, opened, name, found.height)
    else:
        print_for_machines(shown, format)


def _chosen(scores: pl.DataFrame, wanted: dict[str, str | None]) -> pl.DataFrame:
    import polars as pl

    from explanation_alignment.errors import UnknownNameError

    for column, value in wanted.items():
        if value is not None:
            known = scores[column].unique().cast(pl.String).to_list()
            if value not in known:
                raise UnknownNameError(f"{column} of this run", value, known)
            scores = scores.filter(pl.col(column).cast(pl.String) == value)
    return scores


def _listed(scores: pl.DataFrame, case: str) -> pl.DataFrame:
    """The decisions of one case, the most confident first."""
    import polars as pl

    return scores.filter(pl.col("case").cast(pl.String) == case).sort(
        pl.col("confidence"), *(pl.col(name).cast(pl.String) for name in ("model", "dataset", "sample_id")),
        descending=[True, False, False, False], nulls_last=True, maintain_order=True,
    )  # fmt: skip


def _print_counts(counts: pl.DataFrame, low: float, high: float) -> None:
    import polars as pl

    from explanation_alignment.cli.display.tables import cell, new_table, say, show_table
    from explanation_alignment.statistics.shared_interest_cases import CASES, UNCLASSIFIED

    pairs = list(zip(CASES[:-1:2], CASES[1:-1:2], strict=True))
    groups = counts["group"].n_unique() > 1
    named = (
        counts.filter(pl.col("case") != UNCLASSIFIED).group_by("case", maintain_order=True).agg(pl.col("count").sum())
    )
    ranked = named.sort("count", descending=True, maintain_order=True)["case"].cast(pl.String)
    most = ranked[0] if len(ranked) else CASES[1]
    for key, part in counts.group_by(_KEYS, maintain_order=True):
        model, seed, dataset, target, method, binarization = key
        explained = "" if target == "predicted" else f", target {target}"
        title = f"{model}  (seed {seed}, {dataset}{explained}, {method}, {binarization})"
        table = new_table(title, ["region", "n", "", *_HEADINGS], 1)
        for (region, group), rows in part.group_by("region", "group", maintain_order=True):
            by_case = {row["case"]: row for row in rows.iter_rows(named=True)}
            first = rows.row(0, named=True)
            undefined = [f"undef. {first['n_undefined']:,}"] if first["n_undefined"] else []
            table.add_row(
                cell(str(region), *([str(group).removeprefix("attr_")] if groups else [])),
                cell(f"{first['n']:,}", *undefined),
                cell("right", "wrong"),
                *(cell(_share(by_case[right]), _share(by_case[wrong])) for right, wrong in pairs),
                cell(_share(by_case[UNCLASSIFIED])),
            )
        show_table(table)
    say(
        "a cell: the share of the decisions with its 95 % interval, of right and of wrong predictions\n"
        f"IoU high: human aligned; saliency coverage high, low of the annotation: (in)sufficient subset; the other way "
        "round: context dependent; IoU low: sufficient context or distractor\n"
        f"high: at least {high:g}; low: at most {low:g}; the decisions of a case: --case '{most}'",
        dim=True,
    )


def _share(row: dict[str, Any]) -> str:
    from explanation_alignment.reporting.text import interval, number

    if row["share"] is None:
        return "-"
    return f"{number(row['share'])} {interval(row['share_low'], row['share_high'])}"


def _print_decisions(shown: pl.DataFrame, run: Run, case: str, total: int) -> None:
    from explanation_alignment.cli.display.tables import cell, new_table, say, show_table
    from explanation_alignment.reporting.text import number

    if not total:
        say(f"no decision is a case of {case!r}")
        return
    names = {name: item["class_names"] for name, item in run.info["datasets"].items()}
    title = f"{case}: {shown.height:,} of {total:,} decisions, the most confident first"
    table = new_table(
        title, ["sample", "model", "method, region", "label", "prediction", "conf.", "IoU", "GTC", "SC"], 5
    )
    for row in shown.iter_rows(named=True):
        classes = names.get(str(row["dataset"]), ())
        values = [row[f"{name}_coverage"] for name in ("iou", "ground_truth", "saliency")]
        table.add_row(
            cell(str(row["sample_id"]), str(row["dataset"])),
            cell(str(row["model"]), f"seed {row['seed']}"),
            cell(str(row["method"]), str(row["region"])),
            *(_class_name(row[name], classes) for name in ("label", "prediction")),
            number(row["confidence"]),
            *(number(value) for value in values),
        )
    show_table(table)


def _class_name(index: int | None, names: list[str]) -> str:
    return "-" if index is None else names[index] if index < len(names) else str(index)
