"""The leaderboard, and accuracy against alignment: a row or a point a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import polars as pl

from explanation_alignment.explorer.addresses.comparison import CompareState, Side
from explanation_alignment.explorer.addresses.gallery import Filters, GalleryState
from explanation_alignment.explorer.addresses.leaderboard import BoardState, ScatterState
from explanation_alignment.explorer.boards import Board, chosen_rows, explains
from explanation_alignment.explorer.catalogue import Snapshot
from explanation_alignment.explorer.choosing import scatter_chosen
from explanation_alignment.explorer.house import House, Page
from explanation_alignment.statistics.chance import known_metric

__all__ = ["board_page", "board_table", "scatter_page"]

#: Rows a page shows.
_ROWS: Final = 500
#: Names written beside points.
_NAMED: Final = 40
#: The scatter's size and margins, in its own units.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 760, 440, 62, 52, 16, 24
_SHAPES: Final = ("circle", "square", "diamond", "triangle", "down", "cross")


def board_page(house: House, snapshots: Mapping[str, Snapshot], state: BoardState) -> Page:
    """The leaderboard of a run."""
    snapshot = snapshots[state.run]
    board = house.boards[state.run].of(snapshot)
    rows = chosen_rows(board, state)
    shown = [_row(row, state, snapshot) for row in rows.head(_ROWS).iter_rows(named=True)]
    metrics = [name for name in snapshot.vocabulary.metrics if f"ea_{name}" in rows.columns]
    every = board.table
    content = {
        "state": state,
        "rows": shown,
        "total": rows.height,
        "all": every.height,
        "metrics": metrics,
        "nulls_there": not all(explains(name) for name in snapshot.vocabulary.methods),
        "whole": board.whole,
        "late": board.stamp != snapshot.stamp,
        "problem": board.problem,
        "vary": {name: every[name].n_unique() > 1 for name in every.columns if name in _VARY},
        "parameters": "param_count" in rows.columns and rows["param_count"].count() > 0,
        "families": "family" in rows.columns and rows["family"].count() > 0,
        "csv": state.address("/leaderboard.csv"),
    }
    return Page("leaderboard.html.j2", "Leaderboard", content)


_VARY: Final = ("seed", "dataset", "method", "binarization", "region")


def board_table(house: House, snapshots: Mapping[str, Snapshot], state: BoardState) -> pl.DataFrame:
    """The rows of the leaderboard that a page shows, all columns."""
    return chosen_rows(house.boards[state.run].of(snapshots[state.run]), state)


def _row(row: Mapping[str, Any], state: BoardState, snapshot: Snapshot) -> Mapping[str, Any]:
    chosen = Filters(
        run=state.run,
        models=(row["model"],),
        seed=row["seed"],
        dataset=row["dataset"],
        method=row["method"],
        binarization=snapshot.binarization(row["method"], row["binarization"]),
        region=row["region"],
    )
    side = Side(state.run, row["model"], row["seed"], row["method"], chosen.binarization)
    toy = bool(snapshot.datasets.get(row["dataset"], {}).get("toy"))
    compare = CompareState(a=side, b=Side(run=state.run), dataset=row["dataset"], region=row["region"], sort="picture")
    gallery = GalleryState(chosen=chosen, sort="picture")
    return {**row, "toy": toy, "gallery": gallery.address(), "compare": compare.address()}


# ----------------------------------------------------------------------------------------------------- scatter


@dataclass(frozen=True, slots=True)
class Point:
    """A model in the scatter.

    Args:
        row: of the leaderboard.
        x: of its centre.
        y: of its centre.
        bars: ends of its intervals: left, right, low, high; None where there are none.
        shape: of its family.
        tone: number of its colour.
        gallery: where it leads.
        words: what it says when it is pointed at.
        name: where its name is written: x, y and the end that is anchored; None where there is no room.
    """

    row: Mapping[str, Any]
    x: float
    y: float
    bars: tuple[float, float, float, float] | None
    shape: str
    tone: int
    gallery: str
    words: str
    name: tuple[float, float, str] | None = None


def scatter_page(house: House, snapshots: Mapping[str, Snapshot], asked: ScatterState) -> Page:
    """Accuracy against alignment of a run's models.

    Raises:
        UsageError: the run has nothing of what was asked for together.
    """
    snapshot = snapshots[asked.run]
    if not snapshot.evaluations:
        return Page("scatter.html.j2", "Accuracy and alignment", {"state": asked, "empty": True})
    state = scatter_chosen(asked, snapshot)
    board = house.boards[state.run].of(snapshot)
    rows, without = _plotted(board, state)
    xs, ys = _scale(rows, "top1", 0, 100), _scale(rows, f"ea_{state.metric}", *_range(state.metric))
    families = list(dict.fromkeys(row.get("family") or "" for row in rows))
    binarization = snapshot.binarization(str(state.method), str(state.binarization))
    points = [_point(row, state.but(binarization=binarization), xs, ys, families) for row in rows]
    levels = [row.get(f"ea_{state.metric}_chance") for row in rows]
    known = [level for level in levels if level is not None]
    content = {
        "state": state,
        "asked": asked,
        "empty": False,
        "points": _named(points),
        "without": without,
        "x_ticks": [(_across(tick, xs), f"{tick:g}") for tick in xs[2]],
        "y_ticks": [(_up(tick, ys), f"{tick:.10g}") for tick in ys[2]],
        "chance": sum(known) / len(known) if known else None,
        "chance_y": _up(sum(known) / len(known), ys) if known else None,
        "families": [(name, _SHAPES[i % len(_SHAPES)], i % 6) for i, name in enumerate(families) if name],
        "frame": {"left": _LEFT, "right": _WIDTH - _RIGHT, "top": _TOP, "bottom": _HEIGHT - _BOTTOM},
        "width": _WIDTH,
        "height": _HEIGHT,
        "whole": board.whole,
        "problem": board.problem,
        "some": board.table.height > 0,
    }
    return Page("scatter.html.j2", "Accuracy and alignment", content)


def _plotted(board: Board, state: ScatterState) -> tuple[list[dict[str, Any]], int]:
    """The rows that have both numbers, and how many lack one."""
    wanted = BoardState(
        dataset=state.dataset, method=state.method, binarization=state.binarization, region=state.region, nulls=True
    )
    rows = list(chosen_rows(board, wanted).iter_rows(named=True))
    both = [row for row in rows if row.get("top1") is not None and row.get(f"ea_{state.metric}") is not None]
    return both, len(rows) - len(both)


_Scale = tuple[float, float, list[float]]


def _range(metric: str | None) -> tuple[float, float]:
    """Least and greatest score of a metric."""
    known = None if metric is None else known_metric(metric)
    return (-math.inf, math.inf) if known is None else known.range


def _scale(rows: Sequence[Mapping[str, Any]], name: str, least: float, most: float) -> _Scale:
    """Least and greatest value of an axis, and its ticks; room for intervals and chance level, within what can be."""
    ends = (name, f"{name}_low", f"{name}_high", f"{name}_chance")
    values = [row[end] for row in rows for end in ends if row.get(end) is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    width = max(high - low, 1e-3)
    step = 10 ** math.floor(math.log10(width / 4))
    step = next(step * factor for factor in (1, 2, 5, 10) if width / (step * factor) <= 6)
    first, last = math.floor(low / step - 0.25), math.ceil(high / step + 0.25)
    if least > -math.inf:
        first = max(first, round(least / step))
    if most < math.inf:
        last = min(last, round(most / step))
    return first * step, last * step, [round(place * step, 10) for place in range(first, last + 1)]


def _across(value: float, scale: _Scale) -> float:
    return round(_LEFT + (value - scale[0]) / (scale[1] - scale[0]) * (_WIDTH - _LEFT - _RIGHT), 1)


def _up(value: float, scale: _Scale) -> float:
    return round(_HEIGHT - _BOTTOM - (value - scale[0]) / (scale[1] - scale[0]) * (_HEIGHT - _BOTTOM - _TOP), 1)


def _named(points: list[Point]) -> list[Point]:
    """The points with a place for each name that covers no other name and no point."""
    taken = [(point.x - 7, point.y - 7, point.x + 7, point.y + 7) for point in points]
    made = []
    for point in points:
        width, found = 7.2 * len(str(point.row["model"])) + 4, None
        left, right = (point.x + 10, "start"), (point.x - 10, "end")
        for (x, anchor), rise in product((left, right) if point.x < _WIDTH / 2 else (right, left), (-8, 16, 4)):
            start = x if anchor == "start" else x - width
            box = (start, point.y + rise - 10, start + width, point.y + rise + 3)
            inside = box[0] >= _LEFT and box[2] <= _WIDTH and box[1] >= 0
            if len(points) <= _NAMED and inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                found = (round(x, 1), round(point.y + rise, 1), anchor)
                break
        made.append(replace(point, name=found))
    return made


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _point(row: Mapping[str, Any], state: ScatterState, xs: _Scale, ys: _Scale, families: list[str]) -> Point:
    place = families.index(row.get("family") or "")
    name = f"ea_{state.metric}"
    ends = [row.get(end) for end in ("top1_low", "top1_high", f"{name}_low", f"{name}_high")]
    bars = None
    if None not in ends:
        left, right, low, high = (float(end) for end in ends if end is not None)
        bars = (_across(left, xs), _across(right, xs), _up(low, ys), _up(high, ys))
    size = f", {row['param_count']:g} million parameters" if row.get("param_count") is not None else ""
    family = f", {row['family']}" if row.get("family") else ""
    chosen = Filters(
        run=state.run,
        models=(row["model"],),
        seed=row["seed"],
        dataset=state.dataset,
        method=state.method,
        binarization=state.binarization,
        region=state.region,
    )
    return Point(
        row={**row, "ea": row[name], "n": row[f"{name}_n"], "undefined": row[f"{name}_undefined"]}
        | {"low": row.get(f"{name}_low"), "high": row.get(f"{name}_high"), "chance": row.get(f"{name}_chance")},
        x=_across(row["top1"], xs),
        y=_up(row[name], ys),
        bars=bars,
        shape=_SHAPES[place % len(_SHAPES)],
        tone=place % 6,
        gallery=GalleryState(chosen=chosen, sort="picture").address(),
        words=f"{row['model']}, seed {row['seed']}: accuracy {row['top1']:.1f} %, {state.metric} {row[name]:.3f}"
        f" (n {row[f'{name}_n']:,}){family}{size}",
    )
