"""Explanation alignment as bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

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
    Sheet,
    as_written,
    bare,
    chosen_of,
    metric_label,
    one_of,
    show,
    spelled,
    toy_note,
)

__all__ = ["ea_bars"]


@as_written
def ea_bars(
    summary: pl.DataFrame,
    metric: str = "iou_coverage",
    *,
    group: str = "all",
    models: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    level: float = 0.95,
    toy: bool = False,
) -> Figure:
    """Explanation alignment as bars: models down the side, a panel per region (and a line of panels per method).

    A bar per dataset where there are several. Whiskers are the intervals; with several seeds a bar is the mean over
    them and the whisker goes from the smallest to the largest. The short black line across a bar is its chance level.

    Args:
        summary: a table with the columns of ``SUMMARY_SCHEMA``.
        metric: the metric to draw.
        group: the group to draw.
        models: which models, in this order; all in the table's order by default.
        regions: which regions, in this order; all by default.
        datasets: which datasets, in this order; all by default.
        labels: words to show instead of the names of models, datasets, regions and methods.
        title: heading; made from the metric by default.
        level: nominal coverage of the intervals, for the caption.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure; its height grows with the number of bars.

    Raises:
        UnknownNameError: the table has no such metric, group, model, region or dataset.
        UsageError: nothing is left to draw.
    """
    words = labels or {}
    table = summary.filter(pl.col("metric") == one_of("metric of this summary", metric, summary["metric"]))
    table = table.filter(pl.col("group") == one_of("group of this summary", group, table["group"]))
    models = chosen_of(table, "model", models)
    regions = chosen_of(table, "region", regions)
    datasets = chosen_of(table, "dataset", datasets)
    for column, names in (("model", models), ("region", regions), ("dataset", datasets)):
        table = table.filter(pl.col(column).is_in(names))
    if table.is_empty():
        raise UsageError("nothing to draw: no row of the summary has these models, regions and datasets")
    methods = list(table.select("method", "binarization").unique(maintain_order=True).iter_rows())
    bars = _bars(table)
    low, high = _limits(bars.values())

    label_width = min(3.4, 0.4 + 0.085 * max(len(show(m, words)) for m in models))
    panel_width = 3.1 if len(regions) > 1 else 4.8
    panel_height = len(models) * max(0.36, 0.2 * len(datasets) + 0.12)
    above, between = 0.32 + 0.17 * (len(methods) > 1), 0.25  # of a panel: its title; the gap to the next
    below = 0.5
    notes = [*toy_note(toy), (_bars_note(bars.values(), level, group), MUTED)]
    colours = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(datasets)}
    handles: list[Artist] = [Patch(facecolor=colours[name], label=show(name, words)) for name in datasets]
    if len(datasets) == 1:
        handles = []
    if any(bar.chance is not None for bar in bars.values()):
        handles.append(Line2D([], [], color=INK, label="chance", marker="|", ms=9, mew=1.6, linestyle="none"))
    width = max(label_width + len(regions) * (panel_width + between), 6.4)
    per_line = max(1, int((width - 0.3) // (0.6 + 0.075 * max(len(show(name, words)) for name in datasets))))
    head = 0.43 + LEGEND * -(-len(handles) // per_line)
    sheet = Sheet(width, head + len(methods) * (above + panel_height + below) + 0.16 + NOTE * len(notes))
    sheet.text(sheet.MARGIN, 0.14, title or f"Explanation alignment: {spelled(metric)}", size=11.5, bold=True)
    if handles:
        sheet.legend(0.43, handles, min(len(handles), per_line))
    thickness = 0.8 / len(datasets)
    for line, (method, binarization) in enumerate(methods):
        several = f"{show(method, words)} ({binarization})" if len(methods) > 1 else None
        for place, region in enumerate(regions):
            top = head + line * (above + panel_height + below) + above
            left = label_width + place * (panel_width + between)
            ax = sheet.axes(left, top, panel_width, panel_height)
            heading = f"region: {show(region, words)}"
            bare(ax, heading if several is None else f"{several}\n{heading}")
            for m, model in enumerate(models):
                for d, dataset in enumerate(datasets):
                    bar = bars.get((model, dataset, method, binarization, region))
                    if bar is not None:
                        middle = m + (d - (len(datasets) - 1) / 2) * thickness
                        _draw_bar(ax, middle, thickness * 0.86, bar, colours[dataset], high - low)
            ax.set_ylim(len(models) - 0.5, -0.5)
            ax.set_xlim(low, high)
            ax.set_yticks(range(len(models)), [show(m, words) for m in models] if place == 0 else [])
            if line == len(methods) - 1:
                ax.set_xlabel(f"EA ({metric_label(metric)})", fontsize=8.5, color=MUTED)
    sheet.notes(notes)
    return sheet.figure


@dataclass(frozen=True, slots=True)
class _Bar:
    """What one bar shows."""

    ea: float | None
    low: float | None
    high: float | None
    chance: float | None
    counts: tuple[int, ...]  # n of each seed

    @property
    def reach(self) -> tuple[float, float]:
        """From where to where anything of it is drawn."""
        ends = [v for v in (self.ea, self.low, self.high, self.chance) if v is not None]
        return min(ends, default=0.0), max(ends, default=0.0)


def _bars(table: pl.DataFrame) -> dict[tuple[str, ...], _Bar]:
    """A bar per (model, dataset, method, binarization, region)."""
    keys = ["model", "dataset", "method", "binarization", "region"]
    single = pl.len() == 1
    per_bar = table.group_by(keys, maintain_order=True).agg(
        ea=pl.col("ea").mean(),
        low=pl.when(single).then(pl.col("ci_low").first()).otherwise(pl.col("ea").min()),
        high=pl.when(single).then(pl.col("ci_high").first()).otherwise(pl.col("ea").max()),
        chance=pl.when(pl.col("chance").null_count() == 0).then(pl.col("chance").mean()),
        counts=pl.col("n"),
    )
    return {
        tuple(row[key] for key in keys): _Bar(row["ea"], row["low"], row["high"], row["chance"], tuple(row["counts"]))
        for row in per_bar.iter_rows(named=True)
    }


def _limits(bars: Iterable[_Bar]) -> tuple[float, float]:
    reach = [bar.reach for bar in bars]
    low, high = min(0.0, *(r[0] for r in reach)), max(0.0, *(r[1] for r in reach))
    span = (high - low) or 1.0
    return low - (0.05 * span if low < 0 else 0), high + 0.22 * span  # room for the number behind the bar


def _draw_bar(ax: Axes, y: float, thickness: float, bar: _Bar, colour: str, span: float) -> None:
    if bar.ea is None:
        ax.text(0, y, " undefined", va="center", fontsize=7.5, color=MUTED)
        return
    ax.barh(y, bar.ea, height=thickness, color=colour, zorder=2)
    if bar.low is not None and bar.high is not None:
        ax.plot([bar.low, bar.high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt", zorder=4)
    if bar.chance is not None:
        ends = [y - thickness * 0.58, y + thickness * 0.58]
        ax.plot([bar.chance] * 2, ends, color="white", linewidth=3.0, solid_capstyle="butt", zorder=3)
        ax.plot([bar.chance] * 2, ends, color=INK, linewidth=1.6, solid_capstyle="butt", zorder=5)
    ax.text(max(0, bar.reach[1]) + 0.02 * span, y, f"{bar.ea:.3f}", va="center", fontsize=8, color=INK, zorder=6)


def _bars_note(bars: Iterable[_Bar], level: float, group: str) -> str:
    counts = [bar.counts for bar in bars]
    low, high = min(n for c in counts for n in c), max(n for c in counts for n in c)
    n = f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"
    where = "" if group == "all" else f" in the group {group}"
    if max(map(len, counts)) == 1:
        return f"{n} decisions per bar{where}. Whisker: {100 * level:g} % interval."
    single = f" ({100 * level:g} % interval where there is one)" if min(map(len, counts)) == 1 else ""
    return f"{n} decisions per bar and seed{where}. Whisker: smallest to largest of the seeds{single}."
