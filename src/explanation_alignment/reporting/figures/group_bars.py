"""Any number by group and model, as bars: panels side by side for what is measured, lines of panels for where."""

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
    Sheet,
    as_written,
    bare,
    chosen_of,
    show,
    toy_note,
)

__all__ = ["group_bars"]

#: Inches: a panel's width, the gap to the next, a bar.
_PANEL: Final = 3.2
_BETWEEN: Final = 0.25
_BAR: Final = 0.17


@as_written
def group_bars(
    table: pl.DataFrame,
    *,
    models: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    title: str | None = None,
    note: str | None = None,
    before: str = "before training",
    toy: bool = False,
) -> Figure:
    """Bars by group and model: groups down the side, a panel per measure, a line of panels per test set.

    Whiskers go from ``low`` to ``high``. The short black line across a bar is its chance level, the hollow diamond what
    the network had before training.

    Args:
        table: a row a bar: ``test``, ``measure``, ``group``, ``model`` (String), ``value``, ``low``, ``high``,
            ``chance`` and ``before`` (Float64, null where there is none). Values are taken in the table's order.
        models: which models, in this order; all by default.
        labels: words to show instead of the names in the table.
        title: heading.
        note: what whiskers and bars are, a line below.
        before: what the diamond is called.
        toy: whether the data are generated; the figure then says so.

    Returns:
        The figure; its height grows with the number of bars.

    Raises:
        UnknownNameError: the table has no such model.
        UsageError: there is nothing to draw.
    """
    words = labels or {}
    models = chosen_of(table, "model", models)
    table = table.filter(pl.col("model").is_in(models), pl.col("value").is_not_null())
    if table.is_empty():
        raise UsageError("nothing to draw: no row of the table has these models and a value")
    tests, measures, groups = (chosen_of(table, name, None) for name in ("test", "measure", "group"))
    colours = {model: PALETTE[place % len(PALETTE)] for place, model in enumerate(models)}
    handles: list[Artist] = [Patch(facecolor=colours[model], label=show(model, words)) for model in models]
    if table["chance"].is_not_null().any():
        handles.append(Line2D([], [], color=INK, label="chance", marker="|", ms=9, mew=1.6, linestyle="none"))
    if table["before"].is_not_null().any():
        handles.append(Line2D([], [], label=before, linestyle="none", **_DIAMOND))
    notes = [*toy_note(toy), *([(note, MUTED)] if note else [])]
    label_width = min(3.0, 0.35 + 0.085 * max(len(show(group, words)) for group in groups))
    height = len(groups) * (len(models) * _BAR + 0.12)
    above, below = 0.34, 0.42
    top = (0.44 if title else 0.14) + LEGEND + 0.08
    sheet = Sheet(
        max(label_width + len(measures) * (_PANEL + _BETWEEN), 6.4),
        top + len(tests) * (above + height + below) + 0.1 + NOTE * len(notes),
    )
    if title:
        sheet.text(sheet.MARGIN, 0.14, title, size=11.5, bold=True)
    sheet.legend(top - LEGEND - 0.08, handles, len(handles))
    for column, measure in enumerate(measures):
        marks = table.filter(pl.col("measure") == measure).select("value", "low", "high", "chance", "before")
        ends = [float(value) for series in marks.iter_columns() for value in series.drop_nulls()]
        high, low = max(1e-9, *ends), min(0.0, *ends)
        for line, test in enumerate(tests):
            part = table.filter(pl.col("test") == test, pl.col("measure") == measure)
            if part.is_empty():
                continue
            ax = sheet.axes(
                label_width + column * (_PANEL + _BETWEEN),
                top + line * (above + height + below) + above,
                _PANEL,
                height,
            )
            bare(ax, f"{show(measure, words)}, {show(test, words)}")
            thickness = 0.86 / len(models)
            for row in part.iter_rows(named=True):
                offset = (models.index(row["model"]) - (len(models) - 1) / 2) * thickness
                y = groups.index(row["group"]) + offset
                _draw(ax, y, thickness * 0.86, row, colours[row["model"]], high - low)
            ax.set_ylim(len(groups) - 0.5, -0.5)
            ax.set_xlim(low * 1.05, low + (high - low) * 1.2)
            ax.set_yticks(range(len(groups)), [show(group, words) for group in groups] if column == 0 else [])
    sheet.notes(notes)
    return sheet.figure


#: How the network before training is marked.
_DIAMOND: Final[dict[str, Any]] = {
    "marker": "D",
    "markersize": 4.5,
    "markerfacecolor": "white",
    "markeredgecolor": INK,
    "markeredgewidth": 1.0,
}


def _draw(ax: Axes, y: float, thickness: float, row: Mapping[str, Any], colour: str, span: float) -> None:
    ax.barh(y, row["value"], height=thickness, color=colour, zorder=2)
    if row["low"] is not None and row["high"] is not None:
        ax.plot([row["low"], row["high"]], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt", zorder=4)
    if row["chance"] is not None:
        ends = [y - thickness * 0.58, y + thickness * 0.58]
        ax.plot([row["chance"]] * 2, ends, color="white", linewidth=3.0, solid_capstyle="butt", zorder=3)
        ax.plot([row["chance"]] * 2, ends, color=INK, linewidth=1.6, solid_capstyle="butt", zorder=5)
    if row["before"] is not None:
        ax.plot(row["before"], y, zorder=6, linestyle="none", **_DIAMOND)
    marks = [row[name] for name in ("value", "high", "chance", "before") if row[name] is not None]
    ax.text(max(0.0, *marks) + 0.025 * span, y, f"{row['value']:.3f}", va="center", fontsize=7.5, color=INK, zorder=7)
