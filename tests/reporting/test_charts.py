"""Charts as Vega-Lite: valid by its schema, open on the main view, and as files in the light setting's colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import altair as alt
import pytest

from explanation_alignment.reporting.charts import CONFIG, case_bars, interval_chart, save_chart, scatter_chart
from explanation_alignment.reporting.charts.look import LIGHT, as_light, choices_of
from explanation_alignment.statistics.shared_interest_cases import CASES


def interval_rows(series: int = 2, metrics: int = 2) -> list[dict[str, Any]]:
    return [
        {
            "line": line,
            "series": f"s{s}",
            "metric": f"m{m}",
            "value": 0.1 * s + 0.01 * m,
            "low": 0.0,
            "high": 0.5 + 0.1 * s,
            "chance": 0.05,
            "n": 10,
            "reliable": s > 0,
        }
        for line in ("a", "b")
        for s in range(series)
        for m in range(metrics)
    ]


def scatter_rows() -> list[dict[str, Any]]:
    named = {"metric": "IoU", "dataset": "d", "method": "g", "region": "r", "n": 5, "size": "1 M", "chance": 0.1}
    return [
        {"model": f"m{i}", "family": f, "kind": f, "parameters": 1.0 + i, "accuracy": 0.5 + 0.1 * i, **named}
        | {"accuracy_low": 0.4, "accuracy_high": 0.9, "value": 0.2 * i, "low": 0.1, "high": 0.6}
        for i, f in enumerate(("cnn", "vit", "cnn"))
    ]


def case_rows() -> list[dict[str, Any]]:
    numbers = {"share": 1 / 9, "low": 0.0, "high": 0.3, "count": 1, "n": 9, "dataset": "d", "region": "r"}
    return [{"line": "a", "case": case, **numbers} for case in CASES]


def charts() -> dict[str, dict[str, Any]]:
    words = {"alt_text": "Words that tell it"}
    line = {"value": "alignment", "line": "Model", **words}
    return {
        "one series": interval_chart(interval_rows(1), **line),
        "several": interval_chart(interval_rows(), series="Data", choices={"metric": "Metric"}, **line),
        "too many": interval_chart(interval_rows(9), series="Data", zero=True, toy=True, **line),
        "scatter": scatter_chart(scatter_rows(), colour="Family", toy=True, **words),
        "cases": case_bars(case_rows(), **words),
    }


@pytest.mark.parametrize("name", list(charts()))
def test_a_chart_is_valid_and_becomes_a_file(name: str, tmp_path: Path) -> None:
    spec = charts()[name]
    plain = {**as_light(spec), "config": as_light(CONFIG)}
    alt.Chart.from_dict({**plain, "width": 300} if "layer" not in spec else plain)  # validates
    png, svg = save_chart(spec, tmp_path, "chart")
    assert png.read_bytes().startswith(b"\x89PNG")
    drawn = svg.read_text()
    assert "var(--" not in drawn
    assert drawn.count("<path") > 5
    assert ("Generated toy data" in drawn) == ("title" in spec)


def test_what_is_picked_first_is_the_main_view() -> None:
    rows = interval_rows()
    chosen = {choice.field: choice.chosen for choice in choices_of(rows, {"metric": "Metric"}, {"metric": "m1"})}
    assert chosen == {"metric": "m1"}
    assert [choice.chosen for choice in choices_of(rows, {"metric": "Metric"}, {"metric": "gone"})] == ["m0"]
    assert choices_of(rows[:1], {"metric": "Metric"}) == []  # one value is no choice


def test_more_series_than_can_be_told_apart_are_picked_from_a_list() -> None:
    named = charts()
    assert [param["bind"]["name"] for param in named["too many"]["params"]] == ["Data "]
    assert [param["bind"]["name"] for param in named["several"]["params"]] == ["Metric "]


def test_light_colours_take_the_place_of_their_names() -> None:
    assert as_light({"a": ["var(--ink)", 1], "b": {"c": "x var(--series-1)"}}) == {
        "a": [LIGHT["ink"], 1],
        "b": {"c": f"x {LIGHT['series-1']}"},
    }
    rows = {"rows": [{"model": "var(--ink)"}]}
    assert as_light({"datasets": rows}) == {"datasets": rows}  # a run's names are no colours
