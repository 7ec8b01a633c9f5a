"""Means with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from explanation_alignment.reporting.charts.look import SERIES, Choice, choices_of, filtered, finish

__all__ = ["interval_chart"]

#: Series that a reader can tell apart on one line.
_MOST_SERIES: Final = len(SERIES)
_SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")


def interval_chart(
    rows: Sequence[Mapping[str, Any]],
    *,
    alt_text: str,
    value: str,
    line: str,
    series: str | None = None,
    choices: Mapping[str, str] | None = None,
    first: Mapping[str, str] | None = None,
    zero: bool = False,
    toy: bool = False,
) -> dict[str, Any]:
    """Points with their intervals, a line each, and a short upright line where chance is.

    Args:
        rows: ``line`` (the words beside it), ``value``, ``low``, ``high`` and ``chance`` (None where there is none),
            ``reliable``, ``n``; ``series`` where there are any; and the fields of ``choices``.
        alt_text: what it shows, for those who cannot see it.
        value: what the values are, below the axis.
        line: what the lines are.
        series: what the series are; None for none. More than can be told apart become a list to pick from.
        choices: field -> label of what is picked from lists; those with one value only need none.
        first: field -> what is picked at first; the first there is by default.
        zero: whether values are differences, so that a line marks 0.
        toy: whether the data are generated.
    """
    named = dict(choices or {})
    names = list(dict.fromkeys(str(row["series"]) for row in rows)) if series else []
    if len(names) > _MOST_SERIES:
        named["series"] = str(series)
    picked = choices_of(rows, named, first)
    shown = names if 1 < len(names) <= _MOST_SERIES else []
    base = filtered(alt.Chart(alt.NamedData("rows")), picked)
    place: dict[str, Any] = {"y": alt.Y("line:N", sort=None, title=None)}
    if shown:
        place["yOffset"] = alt.YOffset("series:N", sort=None, scale=alt.Scale(domain=shown))
    tips = _tips(value, line, series if shown else None, picked)
    looks = _looks(shown, series)
    spread = base.mark_rule(strokeWidth=2.5, opacity=0.6).encode(
        x=alt.X("low:Q", title=value, scale=alt.Scale(zero=False, padding=8)),
        x2="high:Q",
        color=looks["color"],
        **place,
    )
    points = base.mark_point(size=80, filled=True, opacity=1).encode(
        x=alt.X("value:Q", title=value), tooltip=tips, **looks, **place
    )
    shape = {name: look for name, look in looks.items() if name == "shape"}
    # not filtered: a layer without any row has no extent, and complains of it
    hollow = base.mark_point(size=22, filled=True, color="var(--ground)", aria=False).encode(
        x=alt.X("value:Q", title=value),
        tooltip=tips,
        opacity=alt.condition("datum.reliable", alt.value(0), alt.value(1)),
        **shape,
        **place,
    )
    layers = [spread, points]
    if not all(row["reliable"] for row in rows):
        layers.append(hollow)
    if any(row.get("chance") is not None for row in rows):
        ticks = base.mark_tick(thickness=2, size=11, color="var(--ink)")
        layers.insert(1, ticks.encode(x="chance:Q", tooltip=tips, **place))
    if zero:
        layers.insert(0, base.mark_rule(color="var(--quiet)", strokeDash=[4, 3]).encode(x=alt.datum(0)))
    height = {"step": 13, "for": "offset"} if shown else {"step": 24}
    return finish(alt.LayerChart(layer=layers), rows, alt_text, choices=picked, height=height, toy=toy)


def _looks(names: Sequence[str], series: str | None) -> dict[str, Any]:
    """Colour and shape of each series, in one legend; one colour where there is one series."""
    if not names:
        return {"color": alt.value(SERIES[0])}
    return {
        channel: kind(
            "series:N", sort=None, title=series, scale=alt.Scale(domain=list(names), range=looks[: len(names)])
        )
        for channel, kind, looks in (("color", alt.Color, list(SERIES)), ("shape", alt.Shape, list(_SHAPES)))
    }


def _tips(value: str, line: str, series: str | None, picked: Sequence[Choice]) -> list[alt.Tooltip]:
    """What is told of a point: its place, its numbers, and what they rest on."""
    return [
        alt.Tooltip("line:N", title=line),
        *([alt.Tooltip("series:N", title=series)] if series else []),
        *(alt.Tooltip(f"{choice.field}:N", title=choice.label) for choice in picked),
        alt.Tooltip("value:Q", title=value, format=".3f"),
        alt.Tooltip("low:Q", title="from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
        alt.Tooltip("chance:Q", title="chance", format=".3f"),
        alt.Tooltip("n:Q", title="n", format=",d"),
    ]
