"""Regions by rank: the values behind one ranking, and what becomes of it under other statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from explanation_alignment.errors import UsageError
from explanation_alignment.reporting.figures.sheet import (
    INK,
    LEGEND,
    MUTED,
    NOTE,
    PALETTE,
    RULE,
    Sheet,
    as_written,
    bare,
    chosen_of,
    one_of,
    show,
    toy_note,
)
from explanation_alignment.reporting.text import number

__all__ = ["RANKING_WORDS", "ranking_bars", "rankings_side_by_side"]

#: What each statistic is called in figures and tables.
RANKING_WORDS: Final[Mapping[str, str]] = {
    "excess": "IoU over centre",
    "lift": "lift",
    "iou": "IoU",
    "hits": "hits",
}
_EVIDENCE: Final = PALETTE[2]
_OTHER: Final = PALETTE[0]
#: Inches a region's line is high.
_ROW: Final = 0.3


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One region of one ranking, over seeds where there are several."""

    region: str
    value: float | None
    low: float | None
    high: float | None
    chance: float | None
    rank: float | None
    told: str  # what its rank is worth


@as_written
def ranking_bars(
    ranking: pl.DataFrame,
    *,
    statistic: str = "excess",
    dataset: str | None = None,
    models: Sequence[str] | None = None,
    evidence: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    toy: bool = False,
) -> Figure:
    """Regions by rank, a panel per model (and a line of panels per method), with their values and what ranks are worth.

    Whiskers are intervals over images; with several seeds a bar is the mean over them, the whisker goes from the
    smallest to the largest, and regions are ordered by mean rank. A black mark is the value of a map that knows nothing
    (for the excess a map at the centre, which is 0 by definition).

    Args:
        ranking: a table of :func:`~explanation_alignment.statistics.region_ranking.rank_regions`.
        statistic: which ranking.
        dataset: which test set; the first by default.
        models: which models, in this order; all by default.
        evidence: regions to colour as such.
        labels: words to show instead of the names of models, regions and methods.
        title: heading.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure.

    Raises:
        UnknownNameError: the table has no such statistic, dataset or model.
        UsageError: nothing is left to draw.
    """
    words = labels or {}
    table, dataset, models = _chosen(ranking, dataset, models)
    table = table.filter(pl.col("statistic") == one_of("ranking of this table", statistic, table["statistic"]))
    methods = table.select("method", "binarization").unique(maintain_order=True).rows()
    panels = {(m, *method): _panel(table, m, *method) for m in models for method in methods}
    most = max(len(panel) for panel in panels.values())
    reach = [
        value
        for panel in panels.values()
        for one in panel
        for value in (one.value, one.low, one.high, one.chance)
        if value is not None
    ]
    low, high = min(0.0, *reach), max(0.0, *reach)
    span = (high - low) or 1.0
    several = table["seed"].n_unique() > 1
    label, width, between, head_of_panel, below = 1.05, 3.5, 0.3, 0.3, 0.34
    notes = [*toy_note(toy), *((text, MUTED) for text in _bars_notes(table, several, dataset))]
    handles: list[Artist] = []
    if evidence:
        handles = [Patch(facecolor=_EVIDENCE, label="the evidence"), Patch(facecolor=_OTHER, label="other regions")]
    word = "a map at the centre" if statistic == "excess" else "a map that knows nothing"
    handles.append(Line2D([], [], color=INK, marker="|", ms=9, mew=1.6, linestyle="none", label=word))
    head = 0.5 + LEGEND
    step = head_of_panel + most * _ROW + below
    sheet = Sheet(
        Sheet.MARGIN + len(models) * (label + width + between), head + len(methods) * step + 0.18 + NOTE * len(notes)
    )
    default = f"Which region do the maps lie on? By {RANKING_WORDS.get(statistic, statistic)}"
    sheet.text(sheet.MARGIN, 0.12, title or default, size=11.5, bold=True)
    sheet.legend(0.42, handles, len(handles))
    for line, method in enumerate(methods):
        for place, model in enumerate(models):
            panel = panels[(model, *method)]
            x = Sheet.MARGIN + place * (label + width + between) + label
            ax = sheet.axes(x, head + line * step + head_of_panel, width, most * _ROW)
            bare(ax, f"{show(model, words)}: {show(method[0], words)}")
            for y, one in enumerate(panel):
                _draw_bar(ax, y, one, _EVIDENCE if one.region in evidence else _OTHER)
                ax.text(high + 0.04 * span, y, one.told, va="center", fontsize=7.5, color=MUTED)
            ax.set_ylim(most - 0.5, -0.5)
            ax.set_xlim(low - 0.04 * span * (low < 0), high + 0.62 * span)
            ax.set_yticks(range(len(panel)), [_label(one, words) for one in panel])
            ax.set_xticks([tick for tick in ax.get_xticks() if low - 1e-9 <= tick <= high + 0.04 * span])
            if line == len(methods) - 1:
                ax.set_xlabel(RANKING_WORDS.get(statistic, statistic), fontsize=8.5, color=MUTED, loc="left")
    sheet.notes(notes)
    return sheet.figure


@as_written
def rankings_side_by_side(
    ranking: pl.DataFrame,
    *,
    dataset: str | None = None,
    models: Sequence[str] | None = None,
    evidence: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    toy: bool = False,
) -> Figure:
    """All rankings beside each other, a panel per model (and a line of panels per method): a column per statistic.

    A line follows a region from column to column; those that are first somewhere, and the evidence, are coloured.
    Beside each region its value and, in brackets, that of a map that knows nothing.

    Args:
        ranking: a table of :func:`~explanation_alignment.statistics.region_ranking.rank_regions`.
        dataset: as in :func:`ranking_bars`; so are the other arguments and errors.
        models: which models, in this order.
        evidence: regions to colour as such.
        labels: words to show instead of the names of models, regions and methods.
        title: heading.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure.
    """
    words = labels or {}
    table, dataset, models = _chosen(ranking, dataset, models)
    statistics = table["statistic"].unique(maintain_order=True).to_list()
    methods = table.select("method", "binarization").unique(maintain_order=True).rows()
    columns = {
        (model, *method, name): _panel(table.filter(pl.col("statistic") == name), model, *method)
        for model in models
        for method in methods
        for name in statistics
    }
    most = max(len(panel) for panel in columns.values())
    colours = _region_colours(columns, evidence)
    column, between, head_of_panel, below = 1.7, 0.3, 0.45, 0.16
    width = column * len(statistics)
    notes = [*toy_note(toy)]
    averaged = " (means over seeds, by mean rank)" if table["seed"].n_unique() > 1 else ""
    notes.append((f"On {show(dataset, words)}. Value (a map that knows nothing){averaged}.", MUTED))
    head = 0.42
    step = head_of_panel + most * _ROW + below
    sheet = Sheet(
        max(2 * Sheet.MARGIN + len(models) * (width + between) - between, 6.4),
        head + len(methods) * step + 0.08 + NOTE * len(notes),
    )
    sheet.text(sheet.MARGIN, 0.12, title or "The same maps, ranked by other statistics", size=11.5, bold=True)
    for line, method in enumerate(methods):
        for place, model in enumerate(models):
            x, y = Sheet.MARGIN + place * (width + between), head + line * step
            sheet.text(x, y, f"{show(model, words)}: {show(method[0], words)}", size=9.5, bold=True)
            ax = sheet.axes(x, y + head_of_panel, width, most * _ROW)
            ax.set_axis_off()
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_xlim(0, len(statistics))
            ax.set_ylim(most - 0.5, -0.5)
            for k, name in enumerate(statistics):
                sheet.text(x + k * column, y + 0.27, RANKING_WORDS.get(name, name), size=8.5, color=MUTED)
            _draw_columns(ax, [columns[(model, *method, name)] for name in statistics], colours, words)
    sheet.notes(notes)
    return sheet.figure


def _chosen(
    ranking: pl.DataFrame, dataset: str | None, models: Sequence[str] | None
) -> tuple[pl.DataFrame, str, list[str]]:
    """The rows of one test set and the models wanted."""
    table = ranking.filter(pl.col("group") == "all")
    if table.is_empty():
        raise UsageError("no ranking to draw")
    dataset = chosen_of(table, "dataset", None if dataset is None else [dataset])[0]
    table = table.filter(pl.col("dataset") == dataset)
    chosen = chosen_of(table, "model", models)
    return table.filter(pl.col("model").is_in(chosen)), dataset, chosen


def _panel(table: pl.DataFrame, model: str, method: str, binarization: str) -> list[_Ranked]:
    """The regions of one ranking, by rank, then by name; those without a rank last."""
    rows = table.filter(pl.col("model") == model, pl.col("method") == method, pl.col("binarization") == binarization)
    single = rows["seed"].n_unique() <= 1
    regions = rows.group_by("region").agg(
        value=pl.col("value").mean(),
        low=pl.when(single).then(pl.col("low").first()).otherwise(pl.col("value").min()),
        high=pl.when(single).then(pl.col("high").first()).otherwise(pl.col("value").max()),
        chance=pl.col("chance").mean(),
        rank=pl.col("rank").mean(),
        rank_low=pl.col("rank_low" if single else "rank").min(),
        rank_high=pl.col("rank_high" if single else "rank").max(),
        first=pl.col("first").mean(),
        times=(pl.col("rank") == 1).sum(),
        seeds=pl.len(),
        unreliable=pl.col("unreliable").any(),
    )
    panel = []
    for row in regions.sort("rank", "region", nulls_last=True).iter_rows(named=True):
        if row["rank"] is None:
            told = "no score"
        elif single:
            told = f"{_ranks(row['rank_low'], row['rank_high'])}, first {100 * row['first']:.0f} %"
        else:
            told = f"{_ranks(row['rank_low'], row['rank_high'])}, first in {row['times']} of {row['seeds']}"
        told += "*" if row["unreliable"] else ""
        panel.append(
            _Ranked(told=told, **{name: row[name] for name in ("region", "value", "low", "high", "chance", "rank")})
        )
    return panel


def _ranks(low: int, high: int) -> str:
    return f"rank {low}" if low == high else f"ranks {low}-{high}"


def _label(one: _Ranked, words: Mapping[str, str]) -> str:
    if one.rank is None:
        return show(one.region, words)
    rank = f"{one.rank:.0f}" if one.rank == round(one.rank) else f"{one.rank:.1f}"
    return f"{rank}  {show(one.region, words)}"


def _draw_bar(ax: Axes, y: float, one: _Ranked, colour: str) -> None:
    if one.value is None:
        return
    ax.barh(y, one.value, height=0.62, color=colour, zorder=2)
    if one.low is not None and one.high is not None:
        ax.plot([one.low, one.high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt", zorder=4)
    if one.chance is not None:
        ends = [y - 0.4, y + 0.4]
        ax.plot([one.chance] * 2, ends, color="white", linewidth=3.0, solid_capstyle="butt", zorder=3)
        ax.plot([one.chance] * 2, ends, color=INK, linewidth=1.6, solid_capstyle="butt", zorder=5)


def _bars_notes(table: pl.DataFrame, several: bool, dataset: str) -> list[str]:
    low, high = min(table["n"]), max(table["n"])
    n = f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"
    if several:
        seeds = table["seed"].n_unique()
        notes = [f"On {dataset}, {n} decisions per region and seed. Bar: mean of {seeds} seeds; whisker: smallest to"]
        notes.append("largest. Ranks: best to worst of the seeds, and in how many of them the region is first.")
    else:
        notes = [
            f"On {dataset}, {n} decisions per region. Whisker: 95 % interval. Ranks: those the images allow (95 %),"
        ]
        notes.append("and the share of resamples in which the region is first.")
    return [*notes, *(["* fewer than 20 decisions"] if table["unreliable"].any() else [])]


def _region_colours(columns: Mapping[tuple[str, ...], Sequence[_Ranked]], evidence: Sequence[str]) -> Mapping[str, str]:
    """A colour for the evidence and for each region that is first somewhere."""
    leading = sorted({one.region for panel in columns.values() for one in panel if one.rank == 1} - set(evidence))
    colours = dict.fromkeys(evidence, _EVIDENCE)
    others = [colour for colour in PALETTE if colour != _EVIDENCE]
    return colours | {region: others[i % len(others)] for i, region in enumerate(leading)}


def _draw_columns(
    ax: Axes, columns: Sequence[Sequence[_Ranked]], colours: Mapping[str, str], words: Mapping[str, str]
) -> None:
    """Names and values of each column, and the lines that follow a region across them."""
    text_end = 0.76  # of a column
    heights = [{one.region: y for y, one in enumerate(column)} for column in columns]
    for k, column in enumerate(columns):
        for y, one in enumerate(column):
            colour = colours.get(one.region, MUTED)
            weight = "bold" if one.region in colours else "normal"
            ax.text(k, y, f"{show(one.region, words)} ", va="center", fontsize=8.5, color=colour, weight=weight)
            ax.text(k + text_end - 0.02, y, _value(one), va="center", ha="right", fontsize=7.5, color=MUTED)
            if k + 1 < len(columns) and one.region in heights[k + 1]:
                ends = [y, heights[k + 1][one.region]]
                strong = one.region in colours
                ax.plot(
                    [k + text_end, k + 0.98],
                    ends,
                    color=colour if strong else RULE,
                    linewidth=1.8 if strong else 0.9,
                    zorder=3 if strong else 2,
                )


def _value(one: _Ranked) -> str:
    if one.value is None:
        return "-"
    if one.chance == 1.0:  # a lift
        return f"{one.value:.2f}"
    return number(one.value) if one.chance in (None, 0.0) else f"{number(one.value)} ({number(one.chance)})"
