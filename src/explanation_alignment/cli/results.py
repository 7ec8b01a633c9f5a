"""What a run looks like in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from explanation_alignment.reporting.text import interval, number

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["print_experiment", "print_run", "print_summary"]


def print_experiment(run: Run) -> None:
    """The experiment's table, what it shows in words, and where the run, its figures and its report are."""
    from explanation_alignment.experiments import mnist
    from explanation_alignment.reporting.build import report
    from explanation_alignment.reporting.presentation import present

    console = _console()
    data = run.info["experiment"]["settings"]["data"]["source"]
    study = "; the study's number" if data == "mnist" else ""  # the only images it can be compared on
    for method in mnist.METHODS:
        headings, rows = mnist.tabulate(run, method)
        table = _table(f"Coloured MNIST ({data}): {method}", headings)
        for row in rows:
            table.add_row(*(_cell(lines) for lines in row))
        console.print(table)
        uncertainty = "± SD over seeds" if run.summary()["seed"].n_unique() > 1 else "95 % interval, or ± SD over sets"
        console.print(Text(f"a cell: mean; {uncertainty}; (a map that knows nothing){study}\n", "dim"))
    presentation = present(run)
    for sentence in presentation.sentences:
        console.print(Text(sentence))
    page = report(run, presentation)
    console.print(f"\nrun      {run.path}\nreport   {page}\nfigures  {run.path / 'figures'}", soft_wrap=True)
    console.print(f"next     ealign show {run.path} --by region", soft_wrap=True)


def print_run(run: Run, by: str = "model") -> None:
    """The run's summary as tables, with its gaps named."""
    print_summary(run.summary(), by)
    if run.unfinished:
        Console(stderr=True).print(
            f"unfinished: {', '.join(run.unfinished)}; the same command again goes on where it stopped"
        )


def print_summary(summary: pl.DataFrame, by: str = "model") -> None:
    """One table a value of ``by``; a cell holds the mean, its interval and its chance level."""
    from explanation_alignment.metrics.registry import get_metric

    console = _console()
    metrics = summary["metric"].unique(maintain_order=True).to_list()
    names = ("model", "seed", "dataset", "group")
    whose = [name for name in names if name != by and summary[name].n_unique() > 1]
    keys = [*names, "method", "binarization", "region"]
    for (value,), part in summary.group_by(by, maintain_order=True):
        constant = [f"{name} {part[name][0]}" for name in names if name not in (*whose, by, "group")]
        headings = [" / ".join(whose), "method", "region", "accuracy", *(get_metric(name).label for name in metrics)]
        table = _table(f"{by} {value}" + (f"  ({', '.join(constant)})" if constant else ""), headings)
        for _, rows in part.group_by(keys, maintain_order=True):
            first = rows.row(0, named=True)
            undefined = [f"undef. {first['n_undefined']}"] if first["n_undefined"] else []
            by_metric = {row["metric"]: row for row in rows.iter_rows(named=True)}
            table.add_row(
                _cell([str(first[name]) for name in whose] or [""]),
                _cell([first["method"], first["binarization"]]),
                first["region"],
                _cell([number(first["accuracy"]), f"n {first['n']}", *undefined]),
                *(_cell(_score_lines(by_metric.get(name))) for name in metrics),
            )
        console.print(table)
    console.print(Text("a cell: mean; 95 % interval; (a map that knows nothing)", style="dim"))


def _console() -> Console:
    """Standard output; where it is no terminal, wide enough for a table."""
    console = Console()
    return console if console.is_terminal else Console(width=100)


def _score_lines(row: dict[str, float | None] | None) -> list[str]:
    if row is None or row["ea"] is None:
        return ["-"]
    chance = [] if row["chance"] is None else [f"({number(row['chance'])})"]
    return [number(row["ea"]), interval(row["ci_low"], row["ci_high"]), *chance]


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    table.padding = (0, 1, 0, 0)
    numbers_from = headings.index("accuracy")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place >= numbers_from else "left", overflow="fold", vertical="top")
    return table


def _cell(lines: Sequence[str]) -> Text:
    text = Text(lines[0])
    for line in lines[1:]:
        text.append(f"\n{line}", style="dim")
    return text
