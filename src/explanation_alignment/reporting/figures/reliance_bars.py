"""What models rely on, as bars: where the maps lie, and what changing a region's content does to the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

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
    WRONG,
    Sheet,
    as_written,
    bare,
    chosen_of,
    metric_label,
    show,
    toy_note,
)
from explanation_alignment.statistics.relying.words import MARGIN, MIN_FLIP

__all__ = ["reliance_bars"]

#: Inches: a panel's width, the gap to the next, a bar.
_PANEL: Final = 3.3
_BETWEEN: Final = 0.25
_BAR: Final = 0.2


@as_written
def reliance_bars(
    table: pl.DataFrame,
    *,
    models: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    margin: float = MARGIN,
    min_flip: float = MIN_FLIP,
    toy: bool = False,
) -> Figure:
    """Two panels of bars by model and region: the excess over the null, and the predictions that an exchange changes.

    With one seed a bar is the estimate and its whisker the 95 % interval; with several a bar is the mean over them, and
    the whisker goes from the smallest to the largest. The dotted lines are the thresholds of the rule; behind the last
    panel's bars stands in how many seeds a region was confirmed.

    Args:
        table: rows of :func:`~explanation_alignment.reliance` of one method and dataset, groups left out.
        models: which models, in this order; all by default.
        regions: which regions, in this order; all by default.
        labels: words to show instead of the names of models and regions.
        title: heading.
        margin: threshold of the excess.
        min_flip: threshold of the difference of shares.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure; its height grows with the number of bars.

    Raises:
        UnknownNameError: the table has no such model or region.
        UsageError: nothing is left to draw, or rows of several methods or datasets are.
    """
    words = labels or {}
    models, regions = chosen_of(table, "model", models), chosen_of(table, "region", regions)
    table = table.filter(pl.col("model").is_in(models), pl.col("region").is_in(regions), pl.col("group") == "all")
    if table.is_empty():
        raise UsageError("nothing to draw: no row of the table has these models and regions")
    for name in ("method", "binarization", "dataset"):
        if table[name].n_unique() > 1:
            raise UsageError(f"reliance bars are of one {name}, got {', '.join(map(str, table[name].unique().sort()))}")
    seeds = table["seed"].n_unique()
    colours = {region: PALETTE[place % len(PALETTE)] for place, region in enumerate(regions)}
    evidence = set(table.filter("is_evidence")["region"])
    handles: list[Artist] = [
        Patch(facecolor=colours[name], label=f"{show(name, words)}{' (evidence)' if name in evidence else ''}")
        for name in regions
    ]
    handles.append(Line2D([], [], color=WRONG, linewidth=1.1, linestyle=":", label="threshold of the rule"))
    null = "a map at the centre" if table["null"][0] == "center" else "chance"
    panels = [
        (f"{metric_label(table['metric'][0])} minus that of {null}", "excess", "excess_low", "excess_high", margin),
        ("predictions changed, minus elsewhere", "flip_difference", "flip_low", "flip_high", min_flip),
    ]
    if table["flip_difference"].null_count() == table.height:
        panels = panels[:1]
    whisker = "Whisker: smallest to largest of the seeds." if seeds > 1 else "Whisker: 95 % interval."
    of_seed = "" if seeds == 1 else " and seed"
    counts = f"n = {table['n'][0]:,} decisions per bar{of_seed}. " if table["n"].n_unique() == 1 else ""
    notes = [*toy_note(toy), (f"{counts}{whisker}", MUTED)]
    label_width = min(3.0, 0.35 + 0.085 * max(len(show(model, words)) for model in models))
    height = len(models) * (len(regions) * _BAR + 0.14)
    top = (0.44 if title else 0.14) + LEGEND + 0.08
    width = max(label_width + len(panels) * (_PANEL + _BETWEEN), 6.4)
    sheet = Sheet(width, top + 0.34 + height + 0.42 + 0.1 + NOTE * len(notes))
    if title:
        sheet.text(sheet.MARGIN, 0.14, title, size=11.5, bold=True)
    sheet.legend(top - LEGEND - 0.08, handles, len(handles))
    for column, (heading, value, low, high, threshold) in enumerate(panels):
        ax = sheet.axes(label_width + column * (_PANEL + _BETWEEN), top + 0.34, _PANEL, height)
        bare(ax, heading)
        bars = _bars(table, value, low, high)
        reach = [end for bar in bars.values() for end in (bar["low"], bar["high"], bar["value"]) if end is not None]
        smallest, largest = min(0.0, threshold, *reach), max(threshold, *reach)
        span = largest - smallest
        last = column == len(panels) - 1  # a verdict is of both panels; it is written once
        room = 0.3
        for (model, region), bar in bars.items():
            thickness = 0.86 / len(regions)
            y = models.index(model) + (regions.index(region) - (len(regions) - 1) / 2) * thickness
            after = ""
            if last and bar["confirmed"]:
                after = f"  confirmed in {bar['confirmed']} of {bar['of']}" if seeds > 1 else "  confirmed"
                room = 1.05
            _draw(ax, y, thickness * 0.86, bar, colours[region], (span, threshold), after)
        ax.axvline(threshold, color=WRONG, linewidth=1.1, linestyle=":", zorder=4)
        ax.set_ylim(len(models) - 0.5, -0.5)
        ax.set_xlim(smallest - 0.06 * span, largest + room * span)
        ax.set_yticks(range(len(models)), [show(model, words) for model in models] if column == 0 else [])
    sheet.notes(notes)
    return sheet.figure


def _bars(table: pl.DataFrame, value: str, low: str, high: str) -> dict[tuple[str, str], dict[str, Any]]:
    """A bar per (model, region)."""
    single = pl.len() == 1
    found = table.group_by("model", "region", maintain_order=True).agg(
        value=pl.col(value).mean(),
        low=pl.when(single).then(pl.col(low).first()).otherwise(pl.col(value).min()),
        high=pl.when(single).then(pl.col(high).first()).otherwise(pl.col(value).max()),
        confirmed=(pl.col("verdict") == "confirmed").sum(),
        of=pl.len(),
    )
    return {(row["model"], row["region"]): row for row in found.iter_rows(named=True)}


def _draw(
    ax: Axes,
    y: float,
    thickness: float,
    bar: Mapping[str, Any],
    colour: str,
    scale: tuple[float, float],
    after: str,
) -> None:
    """One bar; ``scale`` is what the panel spans, and the threshold, beyond which numbers are written."""
    span, threshold = scale
    if bar["value"] is None:
        ax.text(0, y, " undefined", va="center", fontsize=7.5, color=MUTED)
        return
    ax.barh(y, bar["value"], height=thickness, color=colour, zorder=2)
    end = max(threshold, bar["value"])
    if bar["low"] is not None and bar["high"] is not None:
        ax.plot([bar["low"], bar["high"]], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt", zorder=5)
        end = max(end, bar["high"])
    text = f"{bar['value']:+.3f}".replace("-", "\u2212") + after
    ax.text(end + 0.02 * span, y, text, va="center", fontsize=7.5, color=INK, zorder=6)
