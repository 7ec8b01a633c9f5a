"""``ealign show RUN --provenance`` as a page of a hundred columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from explanation_alignment.cli.display.tables import cell, new_table, say, show_table
from explanation_alignment.reporting.text import TOY_WARNING
from explanation_alignment.runs.provenance import Provenance, provenance

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["print_provenance"]

_INDENT: Final = 20
_WIDTH: Final = 100


def print_provenance(run: Run) -> None:
    """Print where a run's numbers come from."""
    page = provenance(run)
    if page.toy:
        say(TOY_WARNING)
    _print_facts(f"run {run.path}", page.made)
    _print_facts("asked", page.asked)
    _print_datasets(page)
    _print_evaluations(page)
    for number, session in enumerate(page.sessions, start=1):
        _print_facts(f"written by, {number} of {len(page.sessions)}", session)
    for number, source in enumerate(page.sources, start=1):
        _print_facts(f"merged from, {number} of {len(page.sources)}", source)
    for title, texts in (("left out by the merge", page.notes), ("failed", _lines(page.failures))):
        if texts:
            say(f"\n{title}")
            for text in texts:
                say(_hanging("  - " + text, 4), dim=True)


def _batches(row: Mapping[str, Any]) -> str:
    """The batch sizes used; the one asked for where that is not known."""
    used = row["batch_sizes"] or ([row["batch_size"]] if row["batch_size"] else [])
    return ", ".join(map(str, sorted(used, reverse=True))) or "-"


def _memory(row: Mapping[str, Any]) -> list[str]:
    kinds = (("peak_memory", "RAM"), ("peak_gpu_memory", "GPU"))
    return [f"{row[name] / 1e9:.2g} GB {word}" for name, word in kinds if row[name]]


def _lines(failures: Mapping[str, str]) -> list[str]:
    return [f"{model}: {reason}" for model, reason in failures.items()]


def _print_facts(title: str, facts: Mapping[str, str]) -> None:
    say(f"\n{title}")
    for name, text in facts.items():
        say(_hanging(f"  {name:<{_INDENT - 2}}{text}", _INDENT), dim=True)


def _hanging(text: str, indent: int) -> str:
    """Text at a hundred columns whose further lines stand under its beginning."""
    return textwrap.fill(text, _WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True)


def _print_datasets(page: Provenance) -> None:
    say("")
    table = new_table("datasets", ["dataset", "fingerprint", "regions (evidence)", "classes", "samples"], 3)
    for row in page.datasets.iter_rows(named=True):
        regions = f"{row['regions']} ({row['evidence'] or 'none'})"
        table.add_row(row["dataset"], row["fingerprint"][:16], regions, f"{row['classes']:,}", f"{row['samples']:,}")
    show_table(table)


def _print_evaluations(page: Provenance) -> None:
    say("")
    headings = ["model", "dataset", "seed", "started", "took", "batch", "units", "samples"]
    table = new_table("evaluations", headings, 3)
    for row in page.evaluations.iter_rows(named=True):
        known = "unfinished" if row["finished"] is None else "-"
        took = known if row["seconds"] is None else str(timedelta(seconds=row["seconds"]))
        whole = row["units"] == row["units_owed"]
        units = f"{row['units']:,}" if whole else f"{row['units']:,} of {row['units_owed']:,}"
        table.add_row(
            cell(row["model"], f"weights {row['weights'][:8]}", *([row["statuses"]] if row["statuses"] else [])),
            cell(row["dataset"], f"target {row['target']}"),
            str(row["seed"]),
            cell(*row["started"].removesuffix("+00:00").split("T")),
            cell(took, *([f"{row['work_seconds']:.3g} s work"] if row["work_seconds"] else [])),
            cell(_batches(row), row["device"] or "", *_memory(row)),
            units,
            f"{row['samples']:,}",
        )
    show_table(table)
    say(
        "started: UTC; took: from the first start to the end, interruptions included, and work on units; batch: sizes "
        "used, and the most memory a process held; below a model its rows by status",
        dim=True,
    )
