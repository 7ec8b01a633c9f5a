"""What figures share: a sheet measured in inches, colours, headings, choices among a table's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib
import numpy as np
import polars as pl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from explanation_alignment.errors import UnknownNameError
from explanation_alignment.reporting.text import TOY_WARNING
from explanation_alignment.statistics.chance import metric_label

__all__ = [
    "PALETTE",
    "Sheet",
    "as_written",
    "bare",
    "chosen_of",
    "metric_label",
    "one_of",
    "show",
    "spelled",
    "toy_note",
]

#: Okabe and Ito's colours, told apart with any kind of colour vision (without black and yellow).
PALETTE: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")

INK: Final = "#1f2328"
MUTED: Final = "#59636e"
RULE: Final = "#d1d9e0"
SALIENT: Final = "#E8590C"
#: Its opacity, on drawings of few pixels and on photographs, which must show through.
FILL: Final = 0.85
FILL_PHOTO: Final = 0.55
#: Longer side in pixels up to which a picture is shown pixel by pixel.
SMALL: Final = 64
#: Outlines of annotations: not the salient area's colour, and dark enough on white.
OUTLINES: Final = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
WRONG: Final = "#b3261e"

#: Inches: a line of the legend, a line of notes.
LEGEND: Final = 0.19
NOTE: Final = 0.17

#: Decorates what draws a figure: a $ in a name begins no formula.
as_written = matplotlib.rc_context({"text.parse_math": False})

BoolMask = NDArray[np.bool_]


def spelled(metric: str) -> str:
    """``IoU coverage``, ``pointing game (hit)``: the name in words, with the heading used for it."""
    name, label = metric.replace("_", " "), metric_label(metric)
    return label + name[len(label) :] if name.lower().startswith(label.lower()) else f"{name} ({label})"


class Sheet:
    """A figure measured in inches from its top left corner, so that it can grow without anything in it moving."""

    MARGIN: Final = 0.14

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=150, facecolor="white")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes whose top left corner is at (x, y)."""
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def text(self, x: float, y: float, text: str, *, size: float = 8, color: str = INK, bold: bool = False) -> None:
        """Text whose top left corner is at (x, y)."""
        weight = "bold" if bold else "normal"
        place = (x / self.width, 1 - y / self.height)
        self.figure.text(*place, text, fontsize=size, color=color, weight=weight, va="top")

    def rule(self, y: float) -> None:
        """A line from margin to margin."""
        ends = [self.MARGIN / self.width, 1 - self.MARGIN / self.width]
        self.figure.add_artist(Line2D(ends, [1 - y / self.height] * 2, color=RULE, linewidth=0.7))

    def legend(self, y: float, handles: Sequence[Artist], columns: int) -> None:
        """A legend along the left margin, its upper edge at y."""
        self.figure.legend(
            handles=list(handles),
            loc="upper left",
            bbox_to_anchor=(self.MARGIN / self.width, 1 - y / self.height),
            ncols=columns,
            frameon=False,
            fontsize=8.5,
            labelcolor=INK,
            handlelength=1.2,
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.5,
        )

    def notes(self, lines: Sequence[tuple[str, str]]) -> None:
        """Lines of (text, colour) that end at the bottom margin."""
        for i, (text, color) in enumerate(lines):
            self.text(self.MARGIN, self.height - 0.08 - NOTE * (len(lines) - i), text, color=color)


def toy_note(toy: bool) -> list[tuple[str, str]]:
    """The line, with its colour, that a figure of generated data bears."""
    return [(TOY_WARNING, WRONG)] if toy else []


def show(name: object, words: Mapping[str, str]) -> str:
    """The word for a name, or the name."""
    return words.get(str(name), str(name))


def one_of(kind: str, name: str, column: pl.Series) -> str:
    """The name, if the column has it; else UnknownNameError."""
    known = [str(value) for value in column.unique().to_list()]
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return name


def chosen_of(table: pl.DataFrame, column: str, wanted: Sequence[str] | None) -> list[str]:
    """The wanted values of a column, or all of them in the table's order."""
    if wanted is None:
        return [str(v) for v in table[column].unique(maintain_order=True).to_list()]
    return [one_of(column, name, table[column]) for name in wanted]


def bare(ax: Axes, title: str) -> None:
    """Make axes bare: a line at 0 and a light grid, no frame."""
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.axvline(0, color=MUTED, linewidth=0.8, zorder=3)
    ax.grid(axis="x", color=RULE, linewidth=0.6, zorder=0)
    ax.set_axisbelow(True)
    ax.tick_params(axis="x", labelsize=8, labelcolor=MUTED, color=RULE, length=0)
    ax.tick_params(axis="y", labelsize=9, labelcolor=INK, length=0)
    ax.locator_params(axis="x", nbins=5)
    ax.set_title(title, loc="left", fontsize=9.5, color=INK, pad=5)
