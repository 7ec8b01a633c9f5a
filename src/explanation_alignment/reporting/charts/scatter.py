"""Models as points: accuracy against explanation alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from explanation_alignment.reporting.charts.look import SERIES, choices_of, filtered, finish

__all__ = ["scatter_chart"]

_SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
#: Choices of a point: field -> label.
_CHOICES: Final = {"metric": "Metric", "dataset": "Data", "method": "Method", "region": "Region"}


def scatter_chart(
    rows: Sequence[Mapping[str, Any]],
    *,
    alt_text: str,
    colour: str,
    first: Mapping[str, str] | None = None,
    toy: bool = False,
) -> dict[str, Any]:
    """Accuracy across, alignment upwards, with both intervals and the mean chance level.

    Args:
        rows: ``model``, ``family``, ``size`` (in words), ``accuracy``, ``accuracy_low``, ``accuracy_high``, ``value``,
            ``low``, ``high``, ``chance``, ``n``, ``kind`` (what gives the colour), ``parameters`` (millions, or None),
            and ``metric``, ``dataset``, ``method``, ``region``.
        alt_text: what it shows, for those who cannot see it.
        colour: what the colour tells.
        first: field -> what is picked at first; the first there is by default.
        toy: whether the data are generated.
    """
    picked = choices_of(rows, _CHOICES, first)
    base = filtered(alt.Chart(alt.NamedData("rows")), picked)
    kinds = list(dict.fromkeys(str(row["kind"]) for row in rows))
    several = len(kinds) > 1
    colours = [SERIES[i % len(SERIES)] for i in range(len(kinds))]
    shapes = [_SHAPES[(i + i // len(SERIES)) % len(_SHAPES)] for i in range(len(kinds))]
    chosen = alt.selection_point(name="kinds", fields=["kind"], bind="legend")
    tint: Any = alt.value(SERIES[0])
    looks: dict[str, Any] = {}
    if several:
        tint = alt.Color("kind:N", title=colour, sort=None, scale=alt.Scale(domain=kinds, range=colours))
        shape = alt.Shape("kind:N", title=colour, sort=None, scale=alt.Scale(domain=kinds, range=shapes))
        looks = {"shape": shape, "opacity": alt.condition(chosen, alt.value(0.95), alt.value(0.12))}
    if any(row["parameters"] is not None for row in rows):
        looks["size"] = alt.Size("parameters:Q", legend=None, scale=alt.Scale(type="sqrt", range=[30, 320]))
    y = alt.Y("value:Q", title="explanation alignment", scale=alt.Scale(zero=False, padding=12))
    x = alt.X("accuracy:Q", title="accuracy", scale=alt.Scale(zero=False, padding=12))
    bars = base.mark_rule(strokeWidth=1.2, opacity=0.45)
    across = bars.encode(x=alt.X("accuracy_low:Q", title="accuracy"), x2="accuracy_high:Q", y=y, color=tint)
    upright = bars.encode(x=x, y=alt.Y("low:Q", title="explanation alignment"), y2="high:Q", color=tint)
    points = base.mark_point(filled=True, size=80).encode(x=x, y=y, color=tint, tooltip=_tips(), **looks)
    if several:
        points = points.add_params(chosen)
    layers = [across, upright, points]
    if any(row["chance"] is not None for row in rows):
        level = base.mark_rule(color="var(--quiet)", strokeDash=[5, 3]).encode(y="mean(chance):Q")
        layers.insert(0, level)
    return finish(alt.LayerChart(layer=layers), rows, alt_text, choices=picked, height=380, toy=toy)


def _tips() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("family:N", title="Family"),
        alt.Tooltip("size:N", title="Parameters"),
        alt.Tooltip("accuracy:Q", title="Accuracy", format=".3f"),
        alt.Tooltip("accuracy_low:Q", title="from", format=".3f"),
        alt.Tooltip("accuracy_high:Q", title="to", format=".3f"),
        alt.Tooltip("metric:N", title="Metric"),
        alt.Tooltip("value:Q", title="Alignment", format=".3f"),
        alt.Tooltip("low:Q", title="from ", format=".3f"),
        alt.Tooltip("high:Q", title="to ", format=".3f"),
        alt.Tooltip("chance:Q", title="Chance", format=".3f"),
        alt.Tooltip("n:Q", title="n", format=",d"),
    ]
