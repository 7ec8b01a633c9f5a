"""How charts look: the page's colours by name, one configuration, and what is chosen from lists below a chart.

Colours are the page's own (CSS variables), so that a drawn chart follows the reader's light or dark setting and prints
black on white without being drawn again. A file has no such setting; :func:`as_light` puts the light colours in.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import altair as alt

from explanation_alignment.reporting.figures.sheet import INK, MUTED, PALETTE, RULE
from explanation_alignment.reporting.text import TOY_WARNING

__all__ = ["CONFIG", "LIGHT", "SERIES", "Choice", "as_light", "choices_of", "filtered", "finish"]

#: The page's colours as the light setting has them; ``report.css`` holds both settings.
LIGHT: Final[Mapping[str, str]] = {
    "ink": INK,
    "quiet": MUTED,
    "rule": RULE,
    "ground": "#ffffff",
    "neither": "#8b949e",
    **{f"series-{i}": colour for i, colour in enumerate(PALETTE, 1)},
    **{f"right-{i}": colour for i, colour in enumerate(("#0b4f8a", "#2f83c4", "#6fb1e0", "#a9d3f0"), 1)},
    **{f"wrong-{i}": colour for i, colour in enumerate(("#8a3b00", "#c9651a", "#eda263", "#f8d3b0"), 1)},
}

#: Colours of series, told apart with any kind of colour vision.
SERIES: Final = tuple(f"var(--series-{i})" for i in range(1, len(PALETTE) + 1))

_FONT: Final = 'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif'

#: Vega-Lite's configuration of all charts.
CONFIG: Final[Mapping[str, Any]] = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--quiet)",
        "titleColor": "var(--quiet)",
        "titleFontWeight": "normal",
        "titleFontSize": 12,
        "labelFontSize": 12,
        "labelLimit": 190,
        "gridColor": "var(--rule)",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
    },
    "axisQuantitative": {"tickCount": 6},
    "axisY": {"grid": False, "ticks": False, "domain": False, "labelColor": "var(--ink)"},
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--quiet)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "labelLimit": 240,
        "orient": "top",
        "columns": {"expr": "width < 480 ? 1 : width < 760 ? 2 : 4"},
        "symbolOpacity": 1,
    },
    "title": {"color": "var(--ink)", "subtitleColor": "var(--quiet)", "anchor": "start", "fontSize": 13},
}

_VARIABLE: Final = re.compile(r"var\(--([a-z0-9-]+)\)")


@dataclass(frozen=True, slots=True)
class Choice:
    """A list below a chart from which a reader picks which rows it shows.

    Attributes:
        field: of the rows.
        label: before the list.
        options: what can be picked.
        chosen: what is picked at first.
    """

    field: str
    label: str
    options: Sequence[str]
    chosen: str


def choices_of(
    rows: Sequence[Mapping[str, Any]], fields: Mapping[str, str], first: Mapping[str, str] | None = None
) -> list[Choice]:
    """A choice for each of the fields (field -> label) that has several values, in the order they occur.

    Args:
        rows: of the chart.
        fields: what can be picked.
        first: field -> value picked at first; the first there is by default.
    """
    found = []
    for field, label in fields.items():
        options = list(dict.fromkeys(str(row[field]) for row in rows))
        if len(options) > 1:
            chosen = (first or {}).get(field)
            found.append(Choice(field, label, options, chosen if chosen in options else options[0]))
    return found


def filtered(chart: alt.Chart, choices: Sequence[Choice]) -> alt.Chart:
    """The chart of the rows that are picked; the lists themselves come with :func:`finish`."""
    for place, choice in enumerate(choices):
        chart = chart.transform_filter(f"datum.{choice.field} === choice_{place}")
    return chart


def finish(
    chart: alt.Chart | alt.LayerChart,
    rows: Sequence[Mapping[str, Any]],
    alt_text: str,
    *,
    choices: Sequence[Choice] = (),
    height: object = None,
    toy: bool = False,
) -> dict[str, Any]:
    """The chart as plain Vega-Lite.

    Args:
        chart: of data named ``rows``.
        rows: that data; every row has the same fields.
        alt_text: what it shows, for those who cannot see it.
        choices: lists to pick from.
        height: in Vega-Lite's terms; its own by default.
        toy: whether the data are generated; the chart then says so.
    """
    for place, choice in enumerate(choices):
        binding = alt.binding_select(options=list(choice.options), name=f"{choice.label} ")
        chart = chart.add_params(alt.param(name=f"choice_{place}", value=choice.chosen, bind=binding))
    spec: dict[str, Any] = chart.properties(width="container", description=alt_text).to_dict(
        validate=False  # all are of the few kinds in this package, which tests hold against the schema
    )
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec.pop("$schema", None)
    spec.pop("config", None)
    if height is not None:
        spec["height"] = height
    if toy:
        spec["title"] = {
            "text": textwrap.wrap(TOY_WARNING, 44),
            "color": "var(--wrong-2)",
            "fontWeight": "normal",
            "fontSize": 12,
        }
    spec["datasets"] = {"rows": [{name: _short(value) for name, value in row.items()} for row in rows]}
    return spec


def as_light(part: Any) -> Any:
    """The same specification with the light setting's colours in place of their names."""
    if isinstance(part, str):
        return _VARIABLE.sub(lambda found: LIGHT[found.group(1)], part)
    if isinstance(part, Mapping):
        return {name: as_light(value) if name != "datasets" else value for name, value in part.items()}
    if isinstance(part, Iterable):
        return [as_light(value) for value in part]
    return part


def _short(value: object) -> object:
    """Six digits are more than a screen shows; the tables hold all of them."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
