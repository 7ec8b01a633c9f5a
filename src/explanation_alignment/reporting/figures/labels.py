"""Names beside points, so that none lies on another: the same places each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from numpy.typing import NDArray

from explanation_alignment.reporting.figures.sheet import INK, MUTED

__all__ = ["place_labels"]

_Floats = NDArray[np.float64]

#: Distances of a label from its point, in points (1/72 inch), nearest first; the directions tried at each.
_DISTANCES: Final = (1.5, 6.0, 12.0, 20.0, 30.0, 42.0, 56.0, 72.0, 90.0)
_DIRECTIONS: Final = 16
#: Beyond this distance a line leads to the point.
_NEAR: Final = 5.0
#: Room around a label.
_PADDING: Final = 0.8


def place_labels(
    ax: Axes,
    points: _Floats,
    radii: _Floats,
    names: Sequence[str | None],
    *,
    bars: _Floats | None = None,
    size: float = 7.5,
) -> list[str]:
    """Write names beside points without overlap, the most crowded points first.

    For each label the places around its point are tried from the nearest on; the first that lies in the axes and on
    nothing else is taken. Where there is none, labels may lie on bars, and then lines that lead to points may cross.

    Args:
        ax: the axes, whose limits are final.
        points: (points, 2) float64, in data coordinates.
        radii: (points,) of the markers, in points (1/72 inch).
        names: (points,) a name each, or None for none.
        bars: (bars, 4) float64 what labels keep off if they can: x0, y0, x1, y1 in data coordinates.
        size: of the letters, in points.

    Returns:
        The names for which there was no room, in the order given.
    """
    figure = ax.figure
    unit = figure.dpi / 72
    centres = np.asarray(ax.transData.transform(points), np.float64) / unit
    figure.draw_without_rendering()  # type: ignore[union-attr]
    frame = ax.get_window_extent()
    room = np.array([frame.x0, frame.y0, frame.x1, frame.y1]) / unit
    taken = [np.column_stack([centres - radii[:, None], centres + radii[:, None]])]
    kept_off = np.empty((0, 4)) if bars is None else ax.transData.transform(bars.reshape(-1, 2)).reshape(-1, 4) / unit
    kept_off = np.concatenate([kept_off[:, :2] - 0.5, kept_off[:, 2:] + 0.5], axis=1)
    lines: list[tuple[_Floats, _Floats]] = []
    wanted = [i for i, name in enumerate(names) if name]
    crowding = _crowding(centres)
    failed = []
    for i in sorted(wanted, key=lambda i: (-crowding[i], i)):
        text = ax.text(0, 0, str(names[i]), fontsize=size, color=INK, zorder=8, va="center", ha="center")
        text.set_path_effects([withStroke(linewidth=2, foreground="white", alpha=0.85)])
        extent = text.get_window_extent()
        half = np.array([extent.width, extent.height]) / unit / 2
        around = (centres[i], radii[i] + 0.5, half, room)
        boxes = np.concatenate(taken)
        found = (
            _free_place(*around, np.concatenate([boxes, kept_off]), boxes, lines)
            or _free_place(*around, boxes, boxes, lines)
            or _free_place(*around, boxes, boxes[:0], [])
        )
        if found is None:
            text.remove()
            failed.append(i)
            continue
        middle, distance = found
        x, y = ax.transData.inverted().transform(middle * unit)
        text.set_position((float(x), float(y)))
        taken.append(np.concatenate([middle - half - _PADDING, middle + half + _PADDING])[None])
        if distance > _NEAR:
            end = np.clip(centres[i], middle - half, middle + half)
            _lead(ax, text, centres[i] * unit, end * unit)
            lines.append((centres[i], end))
    return [str(names[i]) for i in sorted(failed)]


def _crowding(centres: _Floats) -> _Floats:
    """How close the other points are; more is closer."""
    gaps = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    closeness: _Floats = (1 / (gaps + 10)).sum(axis=1)
    return closeness


def _free_place(
    centre: _Floats,
    radius: float,
    half: _Floats,
    room: _Floats,
    taken: _Floats,
    crossed: _Floats,
    lines: Sequence[tuple[_Floats, _Floats]],
) -> tuple[_Floats, float] | None:
    """The middle of the nearest free place and its distance.

    ``taken`` are the boxes a label must not lie on, ``crossed`` those that a line to its point must not cross.
    """
    # a line begins on its own marker
    others = crossed[~((crossed[:, :2] <= centre) & (centre <= crossed[:, 2:])).all(axis=1)]
    for middle, distance in _places(centre, radius, half):
        low, high = middle - half, middle + half
        if (low < room[:2]).any() or (high > room[2:]).any():
            continue
        if ((low < taken[:, 2:]) & (high > taken[:, :2])).all(axis=1).any():
            continue
        if any(_crosses(start, end, low, high) for start, end in lines):
            continue
        if distance > _NEAR:
            end = np.clip(centre, low, high)
            if any(_crosses(centre, end, box[:2], box[2:]) for box in others):
                continue
        return middle, distance
    return None


def _places(centre: _Floats, radius: float, half: _Floats) -> Iterator[tuple[_Floats, float]]:
    """Middles of a label whose edge is so far from the marker, to the right first."""
    for distance in _DISTANCES:
        for turn in range(_DIRECTIONS):
            side = (turn + 1) // 2 * (1 if turn % 2 else -1)  # right, then alternately above and below
            angle = 2 * np.pi * side / _DIRECTIONS
            direction = np.array([np.cos(angle), np.sin(angle)])
            yield (
                centre + direction * (radius + distance) + np.sign(np.round(direction, 6)) * half * _reach(direction),
                distance,
            )


def _reach(direction: _Floats) -> _Floats:
    """How far out a label is moved by its own size: all of it to the sides, less of it around the corners."""
    largest = np.abs(direction).max()
    share: _Floats = np.abs(direction) / largest
    return share


def _crosses(start: _Floats, end: _Floats, low: _Floats, high: _Floats) -> bool:
    """Whether a line from start to end meets a box."""
    step = end - start
    near, far = 0.0, 1.0
    for axis in (0, 1):
        if abs(step[axis]) < 1e-12:
            if not low[axis] < start[axis] < high[axis]:
                return False
            continue
        one, two = (low[axis] - start[axis]) / step[axis], (high[axis] - start[axis]) / step[axis]
        near, far = max(near, min(one, two)), min(far, max(one, two))
    return near < far


def _lead(ax: Axes, text: Text, start: _Floats, end: _Floats) -> None:
    ends = ax.transData.inverted().transform(np.stack([start, end]))
    ax.plot(ends[:, 0], ends[:, 1], color=MUTED, linewidth=0.5, zorder=2.5, solid_capstyle="butt")
    text.set_zorder(9)
