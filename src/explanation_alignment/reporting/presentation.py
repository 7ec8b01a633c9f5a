"""What a report says and shows beyond the numbers every run has; experiments bring their own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl
from matplotlib.figure import Figure

from explanation_alignment.experiments import EXPERIMENTS
from explanation_alignment.metrics.registry import METRICS
from explanation_alignment.reporting.figures import ea_bars, example_grid
from explanation_alignment.reporting.html import Section
from explanation_alignment.statistics.relying.region_reliance import VERDICTS, reliance
from explanation_alignment.statistics.relying.words import rule, sentences

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["Illustration", "Presentation", "TerminalTable", "present"]

#: Sentences a reader can take in at the top of a page.
_MAX_SENTENCES = 12

#: Verdicts worth a sentence where there is no room for all.
_FLAGS = ("confirmed", "suspected", "not confirmed")


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
        sentences: what was found, in plain words, and by which rule it was decided.
        illustrations: figures, in order.
        sections: what follows them.
        tables: what an experiment's command prints in place of the general table.
    """

    title: str
    subtitle: str
    sentences: Sequence[str]
    illustrations: Sequence[Illustration]
    sections: Sequence[Section] = field(default=())
    tables: Sequence[TerminalTable] = field(default=())


def present(run: Run) -> Presentation:
    """What there is to say of a run: its experiment's own words, or the general ones."""
    experiment = run.info["experiment"]
    if experiment is None or experiment["name"] not in EXPERIMENTS:
        return _general(run)
    presentation: Presentation = importlib.import_module(EXPERIMENTS[experiment["name"]]).present(run)
    return presentation


def _general(run: Run) -> Presentation:
    summary = run.summary()
    metric = summary["metric"][0]
    words = _reliance_words(run, metric) if metric in METRICS and METRICS[metric].chance is not None else []
    toy = bool(run.info["toy"])
    illustrations = [
        Illustration(
            "ea_by_model",
            "Explanation alignment by model and region",
            ea_bars(summary, metric, toy=toy),
            f"Bars of the mean {metric} by model, region and dataset, with intervals and chance levels",
        )
    ]
    examples = run.examples()
    if not examples.is_empty():
        names = {name: item["class_names"] for name, item in run.info["datasets"].items()}
        one = names[examples["dataset"][0]] if examples["dataset"].n_unique() == 1 else None
        grid = example_grid(examples, class_names=one, toy=toy)
        illustrations.append(
            Illustration("examples", "Examples", grid, "Decisions with their annotations and binarized saliency maps")
        )
    models, datasets = summary["model"].unique().sort(), summary["dataset"].unique().sort()
    subtitle = f"{', '.join(models[:5])}{' ...' if len(models) > 5 else ''} on {', '.join(datasets[:5])}"
    return Presentation("Explanation alignment", subtitle, words, illustrations)


def _reliance_words(run: Run, metric: str) -> list[str]:
    """What the models rely on, as far as a page's top has room: all of it, else what was flagged, else how much."""
    found = reliance(run, metric=metric)
    told = found if found.height < _MAX_SENTENCES else found.filter(pl.col("verdict").is_in(_FLAGS))
    if found.is_empty():
        return []  # explained for other targets only
    if told.height == found.height:
        return [*sentences(told), rule(metric=metric)]
    counts = ", ".join(f"{n} {verdict}" for verdict, n in _counts(found["verdict"]))
    rest = f"Of {found.height} pairs of model and region, with seeds, datasets and methods apart: {counts}."
    listed = sentences(told) if told.height < _MAX_SENTENCES else []  # a list nobody reads; the table tells it
    return [*listed, f"{rest} ealign reliance lists them with their evidence.", rule(metric=metric)]


def _counts(verdicts: pl.Series) -> list[tuple[str, int]]:
    """How often each verdict occurs, in the order of ``VERDICTS``; those that do not, left out."""
    found = verdicts.to_list()
    return [(verdict, found.count(verdict)) for verdict in VERDICTS if verdict in found]
