"""What an experiment says and shows beyond what every report does."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl
from matplotlib.figure import Figure

from explanation_alignment.experiments import EXPERIMENTS
from explanation_alignment.reporting.content import Section

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["Illustration", "Presentation", "TerminalTable", "present"]

#: Names of one kind that a subtitle has room for.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Illustration:
    """A figure of the report, also written to RUN/figures.

    Args:
        name: of its files, without ending.
        title: heading above it.
        figure: the figure.
        alt: what it shows, for those who cannot see it.
    """

    name: str
    title: str
    figure: Figure
    alt: str


@dataclass(frozen=True, slots=True)
class TerminalTable:
    """A table an experiment's command prints.

    Args:
        title: heading above it.
        headings: of the columns.
        rows: a list of cells each; a cell is a list of lines.
        note: a line below it: what a cell holds.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Sequence[str]]]
    note: str


@dataclass(frozen=True, slots=True)
class Presentation:
    """What a report says of a run.

    Args:
        title: heading of the page.
        subtitle: a line below it.
        sentences: what was found, in plain words; what any run's statistics say by default.
        illustrations: figures, in order.
        sections: what follows them.
        tables: what an experiment's command prints in place of the general table.
        reliance: the ranking of regions to show, where the experiment knows of interventions that the run does not
            tell; computed from the run by default.
        without: sections of any report (keys of ``reporting.sections.SECTIONS``) that would say what the experiment's
            own say better.
    """

    title: str
    subtitle: str
    sentences: Sequence[str] = field(default=())
    illustrations: Sequence[Illustration] = field(default=())
    sections: Sequence[Section] = field(default=())
    tables: Sequence[TerminalTable] = field(default=())
    reliance: pl.DataFrame | None = None
    without: Sequence[str] = field(default=())


def present(run: Run) -> Presentation:
    """What there is to say of a run: its experiment's own words, or the general ones."""
    experiment = run.info["experiment"]
    if experiment is None or experiment["name"] not in EXPERIMENTS:
        return Presentation("Explanation alignment", _subtitle(run))
    presentation: Presentation = importlib.import_module(EXPERIMENTS[experiment["name"]]).present(run)
    return presentation


def _subtitle(run: Run) -> str:
    """Which models, on what."""
    summary = run.summary()
    models, datasets = (_first(summary[name].unique().sort().to_list()) for name in ("model", "dataset"))
    return f"{models} on {datasets}"


def _first(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
