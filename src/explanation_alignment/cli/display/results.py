"""What a run looks like in a terminal."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from explanation_alignment.cli.display.tables import cell, console, new_table, print_columns
from explanation_alignment.reporting.text import TOY_WARNING, interval, number, signed
from explanation_alignment.statistics.chance import known_metric

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = [
    "print_experiment",
    "print_ranking",
    "print_right_reason",
    "print_run",
    "print_samples",
    "print_summary",
    "print_unfinished",
]


def print_experiment(run: Run) -> None:
    """The experiment's tables, what they show in words, and where the run, its figures and its report are."""
    from explanation_alignment.reporting.build import report
    from explanation_alignment.reporting.presentation import present

    out = console()
    presentation = present(run)
    for item in presentation.tables:
        table = _table(item.title, item.headings)
        for row in item.rows:
            table.add_row(*(cell(*lines) for lines in row))
        out.print(table)
        out.print(Text(f"{item.note}\n", "dim"))
    for sentence in presentation.sentences:
        out.print(Text(sentence))
    print_unfinished(run)
    page = report(run, presentation)
    out.print(f"\nrun      {run.path}\nreport   {page}\nfigures  {run.path / 'figures'}", soft_wrap=True)
    out.print(f"next     ealign show {run.path} --by region", soft_wrap=True)
    if run.info["toy"]:
        out.print(Text(TOY_WARNING, "yellow"))


def print_run(run: Run, by: str = "model") -> None:
    """The run's summary as tables, with its gaps named."""
    print_summary(run.summary(), by)
    print_samples(run)
    print_unfinished(run)


def print_samples(run: Run) -> None:
    """Say what part of which dataset was evaluated, where it was a sample, and what its intervals are for."""
    told: dict[tuple[Any, ...], None] = {}
    for key, population in run.populations.items():
        size = next(
            item["question"]["sample"]
            for item in run.evaluations.values()
            if tuple(item["question"][name] for name in ("model", "seed", "dataset", "target")) == key
        )
        told[(key[2], size, sum(population))] = None
    for dataset, size, whole in told:
        console().print(
            Text(
                f"{dataset}: a class-balanced sample of {size} of {whole} images; intervals are for all {whole}", "dim"
            )
        )


def _undefined(run: Run) -> str:
    """How many scores have no value and why, but for what could not be read; empty where all have one."""
    counts: collections.Counter[str] = collections.Counter()
    for item in run.evaluations.values():
        counts.update(item["status_counts"] or {})
    told = [(status, count) for status, count in counts.most_common() if count and status not in ("ok", "error")]
    whole = f" of {sum(counts.values()):,} (a row an image, method and region)" if told else ""
    return ", ".join(f"{count:,} {status.replace('_', ' ')}" for status, count in told) + whole


def print_unfinished(run: Run) -> None:
    """Name what is missing: scores without a value and why, evaluations not finished; on standard error."""
    unread = [slug for slug, item in run.evaluations.items() if (item["status_counts"] or {}).get("error")]
    if unread:
        _print_unread(run.scan_scores(unread))
    if reasons := _undefined(run):
        console(stderr=True).print(Text(f"undefined scores: {reasons}", "dim"))
    for model, dataset, classes, share in _outside(run):
        console(stderr=True).print(
            Text(
                f"{model}: {100 * share:.3g} % of its predictions are none of the {classes} classes of {dataset}; "
                "it has more outputs than the dataset has classes",
                "yellow",
            )
        )
    if run.unfinished:
        console(stderr=True).print(
            f"unfinished: {', '.join(run.unfinished)}; the same command again goes on where it stopped"
        )


def _print_unread(scores: pl.LazyFrame) -> None:
    """Name the samples whose image or annotation could not be read, the first few with the reason."""
    failed = scores.filter(pl.col("status").cast(pl.String) == "error")
    samples = failed.select("dataset", "sample_id", "message").unique(["dataset", "sample_id"]).collect()
    samples = samples.sort("sample_id")
    out = console(stderr=True)
    count = "1 sample" if samples.height == 1 else f"{samples.height:,} samples"
    out.print(Text(f"{count}, an image or what is annotated on it, could not be read and count as undefined", "yellow"))
    for row in samples.head(_UNREAD).iter_rows(named=True):
        out.print(Text(f"  {row['sample_id']}: {row['message']}", "yellow"))
    if samples.height > _UNREAD:
        out.print(Text(f"  and {samples.height - _UNREAD:,} more", "yellow"))


def _outside(run: Run) -> list[tuple[str, str, int, float]]:
    """Model, dataset, its classes, and the share of predictions that are none of them, where there are any."""
    classes = {name: len(item["class_names"] or ()) for name, item in run.info["datasets"].items()}
    if not any(item["status_counts"] for item in run.evaluations.values()):
        return []
    limits = pl.col("dataset").cast(pl.String).replace_strict(classes, default=None, return_dtype=pl.Int64)
    shares = (
        run.scan_scores()
        .group_by(pl.col("model", "dataset").cast(pl.String), limits.alias("classes"))
        .agg(share=(pl.col("prediction") >= limits).mean())
        .filter(pl.col("share") > 0, pl.col("classes") > 0)
        .sort("dataset", "model")
        .collect()
    )
    return shares.rows()


def print_summary(summary: pl.DataFrame, by: str = "model", *, level: float = 0.95) -> None:
    """One table a value of ``by``; a cell holds the mean, its interval and its chance level.

    Metrics that do not fit beside each other follow in a further table.
    """
    from explanation_alignment.metrics.registry import get_metric

    out = console()
    metrics = summary["metric"].unique(maintain_order=True).to_list()
    labels = {name: get_metric(name).label if known_metric(name) else name for name in metrics}
    centred = summary["excess"].is_not_null().any()
    for title, whose, part in _tables(summary, by):
        lines: list[list[list[str]]] = []
        columns: dict[str, list[Any]] = {name: [label] for name, label in labels.items()}  # heading, then cells
        if centred:
            columns[_OVER_CENTRE] = [_OVER_CENTRE]
        for _, rows in part.group_by([*_NAMES, "method", "binarization", "region"], maintain_order=True):
            by_metric = {row["metric"]: row for row in rows.iter_rows(named=True)}
            first = rows.row(0, named=True)
            lines.append([*_key_cells(first, whose), [number(first["accuracy"]), *_count_lines(first)]])
            for name, cells in columns.items():
                row = by_metric.get("iou_coverage" if name == _OVER_CENTRE else name)
                cells.append(_excess_lines(row) if name == _OVER_CENTRE else _score_lines(row, first))
        keys = [" / ".join(whose), "method", "region", "accuracy"]
        print_columns(out, title, keys, lines, columns, _numbers_from(keys))
    notes = [f"a cell: mean; {100 * level:g} % interval; (a map that knows nothing); n counts decisions"]
    if named := [f"{label} is {name}" for name, label in labels.items() if label != name]:
        notes.append(f"names for --metric, assert and Python: {', '.join(named)}")
    if summary["lift"].is_not_null().any():
        notes.append("lift: how many times more of the map lies there than of the image; 1 is chance")
    if centred:
        notes.append(f"{_OVER_CENTRE}: IoU minus that of a Gaussian at the image's centre with as many salient pixels")
    if summary["unreliable"].any():
        notes.append(_UNRELIABLE)
    _print_notes(out, notes)


def print_right_reason(table: pl.DataFrame, by: str = "model", *, level: float = 0.95) -> None:
    """The rate of decisions that are right for the right reason, one table a value of ``by``."""
    out = console()
    for metric, of_metric in table.group_by("metric", maintain_order=True):
        for title, whose, part in _tables(of_metric, by):
            headings = [" / ".join(whose), "method", "region", "accuracy", "right reason", "of correct"]
            shown = _table(f"{title}: correct, and {metric[0]} >= {part['threshold'][0]:g}", headings)
            for row in part.iter_rows(named=True):
                mark = _MARK if row["unreliable"] else ""
                shown.add_row(
                    *(cell(*lines) for lines in _key_cells(row, whose)),
                    cell(*[number(row["accuracy"]), *_count_lines(row)]),
                    cell(*[number(row["rate"]) + mark, interval(row["ci_low"], row["ci_high"])]),
                    number(row["of_correct"]),
                )
            out.print(shown)
    notes = [
        f"right reason: share of the n decisions that are correct and score that much; {100 * level:g} % interval",
        "of correct: the same as a share of the correct ones; undef.: decisions without a score, left out",
    ]
    _print_notes(out, [*notes, *([_UNRELIABLE] if table["unreliable"].any() else [])])


def print_ranking(table: pl.DataFrame) -> None:
    """Ranking stability, one table a dataset and seed."""
    out = console()
    names = [name for name in ("dataset", "seed", "group") if table[name].n_unique() > 1]
    keys = [*([" / ".join(names)] if names else []), "method", "region", "metric"]
    shown = _table("do models keep their order over binarizations?", [*keys, "models", "binarizations", *_RANKING])
    for row in table.iter_rows(named=True):
        shown.add_row(
            *([cell(*[_word(name, row[name]) for name in names])] if names else []),
            *(str(row[name]) for name in ("method", "region", "metric", "models", "binarizations")),
            *(number(row[name]) for name in _RANKING.values()),
        )
    out.print(shown)
    notes = [
        "tau: Kendall's, between the rankings under two binarizations; 1 is the same order, -1 the reverse",
        "pairs: share of pairs of models that swap order at all; swaps: share of pairs of binarizations",
    ]
    _print_notes(out, notes)


_NAMES = ("model", "seed", "dataset", "group")
_OVER_CENTRE = "IoU-centre"
_MARK = "*"
_UNREAD = 5  # samples that are named
_UNRELIABLE = f"{_MARK} unreliable: too few scores other than 0, images, clusters or seeds stand behind the interval"
_RANKING = {"mean tau": "tau_mean", "least tau": "tau_min", "pairs": "pairs_that_swap", "swaps": "swaps"}


def _tables(table: pl.DataFrame, by: str) -> Iterator[tuple[str, list[str], pl.DataFrame]]:
    """Title, names that vary and rows of each table."""
    whose = [name for name in _NAMES if name != by and table[name].n_unique() > 1]
    for (value,), part in table.group_by(by, maintain_order=True):
        same = [_titled(name, part[name][0]) for name in _NAMES if name not in (*whose, by, "group")]
        yield _titled(by, value) + (f"  ({', '.join(same)})" if same else ""), whose, part


def _titled(name: str, value: object) -> str:
    return _word(name, value) if name == "seed" else f"{name} {value}"


def _word(name: str, value: object) -> str:
    if name == "seed" and value is None:
        return "all seeds"
    return f"seed {value}" if name == "seed" else str(value)


def _key_cells(row: dict[str, Any], whose: Sequence[str]) -> list[list[str]]:
    return [[_word(name, row[name]) for name in whose] or [""], [row["method"], row["binarization"]], [row["region"]]]


def _count_lines(row: dict[str, Any]) -> list[str]:
    return [f"n {row['n']}", *([f"undef. {row['n_undefined']}"] if row["n_undefined"] else [])]


def _print_notes(out: Console, notes: Sequence[str]) -> None:
    for note in notes:
        out.print(Text(note, style="dim"))


def _score_lines(row: dict[str, Any] | None, first: dict[str, Any]) -> list[str]:
    """Mean, interval, chance and lift; n where it is not that of the row's first metric."""
    if row is None:
        return ["-"]
    counts = _count_lines(row) if row["n"] != first["n"] else []
    if row["ea"] is None:
        return ["-", *counts]
    chance = [] if row["chance"] is None else [f"({number(row['chance'])})"]
    lift = [] if row["lift"] is None else [f"lift {row['lift']:.2f}"]
    mark = _MARK if row["unreliable"] else ""
    return [number(row["ea"]) + mark, interval(row["ci_low"], row["ci_high"]), *chance, *lift, *counts]


def _excess_lines(row: dict[str, Any] | None) -> list[str]:
    if row is None or row["excess"] is None:
        return ["-"]
    return [signed(row["excess"]), f"{signed(row['excess_low'])} {signed(row['excess_high'])}"]


def _table(title: str, headings: Sequence[str]) -> Table:
    return new_table(title, headings, _numbers_from(headings))


def _numbers_from(headings: Sequence[str]) -> int:
    numbers = ("accuracy", "models", "rank")
    return next((i for i, name in enumerate(headings) if name in numbers), len(headings))
