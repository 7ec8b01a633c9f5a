"""A response against a dose, as curves with error bars: what a known cause does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
    one_of,
    show,
    toy_note,
)

__all__ = ["dose_response"]

#: Inches: a panel's sides, the room for the numbers beside it.
_WIDTH: Final = 3.2
_HEIGHT: Final = 2.5
_BESIDE: Final = 0.6
_MARKERS: Final = ("o", "s", "^", "D")


@as_written
def dose_response(
    table: pl.DataFrame,
    panels: Mapping[str, Sequence[str]],
    *,
    dose: str,
    title: str | None = None,
    labels: Mapping[str, str] | None = None,
    note: str | None = None,
    before: str = "before training",
    toy: bool = False,
) -> Figure:
    """Curves of quantities against a dose, a panel for those that share a scale.

    Points are means, error bars go from ``low`` to ``high``. A solid grey line is the chance level of the panel, a
    dashed line in a curve's colour what the network had before training.

    Args:
        table: a row a point: ``quantity`` (String), ``correlation`` (the dose), ``value``, ``low``, ``high``,
            ``chance`` and ``untrained`` (Float64, null where there is none).
        panels: heading -> the quantities in it.
        dose: words below the axis.
        title: heading.
        labels: words to show instead of the names of quantities.
        note: what points and error bars are, a line below.
        before: what the dashed lines are called.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure.

    Raises:
        UnknownNameError: the table has no such quantity.
        UsageError: there is no panel, or none of a panel's quantities has a value.
    """
    if not panels:
        raise UsageError("a dose-response needs at least one panel")
    words = labels or {}
    notes = [*toy_note(toy), *([(note, MUTED)] if note else [])]
    rows = max(len(names) for names in panels.values()) + 2
    top = (0.44 if title else 0.14) + 0.3
    width = 0.2 + len(panels) * (_BESIDE + _WIDTH)
    sheet = Sheet(max(width, 6.4), top + _HEIGHT + 0.62 + LEGEND * rows + 0.1 + NOTE * len(notes))
    if title:
        sheet.text(sheet.MARGIN, 0.14, title, size=11.5, bold=True)
    for place, (heading, names) in enumerate(panels.items()):
        ax = sheet.axes(_BESIDE + place * (_BESIDE + _WIDTH), top, _WIDTH, _HEIGHT)
        handles: list[Artist] = []
        drawn = False
        for number, name in enumerate(names):
            points = table.filter(pl.col("quantity") == one_of("quantity", name, table["quantity"]))
            points = points.filter(pl.col("value").is_not_null()).sort("correlation")
            drawn |= len(points) > 0
            colour, marker = PALETTE[number % len(PALETTE)], _MARKERS[number % len(_MARKERS)]
            _draw(ax, points, colour, marker)
            handles.append(Line2D([], [], color=colour, marker=marker, markersize=4.5, label=show(name, words)))
        if not drawn:
            raise UsageError(f"nothing to draw: no quantity of {heading!r} has a value")
        part = table.filter(pl.col("quantity").is_in(list(names)))
        if part["chance"].is_not_null().any():
            ax.axhline(float(part["chance"].drop_nulls()[0]), color=MUTED, linewidth=1.0, zorder=1)
            handles.append(Line2D([], [], color=MUTED, linewidth=1.0, label="chance"))
        if part["untrained"].is_not_null().any():
            handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle="--", label=before))
        _frame(ax, heading, dose)
        ax.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.24),
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
            borderaxespad=0,
            borderpad=0,
            handlelength=1.8,
        )
    sheet.notes(notes)
    return sheet.figure


def _draw(ax: Axes, points: pl.DataFrame, colour: str, marker: str) -> None:
    doses, values = points["correlation"].to_numpy(), points["value"].to_numpy()
    ax.plot(doses, values, color=colour, marker=marker, markersize=4.5, linewidth=1.6, zorder=4)
    for row in points.drop_nulls(["low", "high"]).iter_rows(named=True):
        ends = [row["low"], row["high"]]
        ax.plot([row["correlation"]] * 2, ends, color=colour, linewidth=1.1, solid_capstyle="butt", zorder=3)
    if points["untrained"].is_not_null().any():
        ax.axhline(float(points["untrained"].drop_nulls()[0]), color=colour, linewidth=0.9, linestyle="--", zorder=2)


def _frame(ax: Axes, heading: str, dose: str) -> None:
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        ax.spines[side].set_color(RULE)
    ax.grid(axis="y", color=RULE, linewidth=0.6, zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8, labelcolor=MUTED, color=RULE, length=0)
    ax.set_xlabel(dose, fontsize=8.5, color=MUTED)
    ax.set_title(heading, loc="left", fontsize=9.5, color=INK, pad=5)
