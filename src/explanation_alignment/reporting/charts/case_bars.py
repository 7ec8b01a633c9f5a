"""The eight cases as bars of shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from explanation_alignment.reporting.charts.look import choices_of, filtered, finish
from explanation_alignment.statistics.shared_interest_cases import CASES, UNCLASSIFIED

__all__ = ["case_bars"]

#: Right cases in blue, wrong ones in orange, from the most to the least aligned.
_COLOURS: Final = (
    *(f"var(--{'right' if place % 2 == 0 else 'wrong'}-{place // 2 + 1})" for place in range(len(CASES) - 1)),
    "var(--neither)",
)
#: Right ones from the left, wrong ones from the right, what is none of them between.
_ORDER: Final = (*CASES[:-1:2], UNCLASSIFIED, *reversed(CASES[1:-1:2]))


def case_bars(
    rows: Sequence[Mapping[str, Any]], *, alt_text: str, first: Mapping[str, str] | None = None, toy: bool = False
) -> dict[str, Any]:
    """A bar a model, divided by the share of each case.

    Args:
        rows: ``line`` (the words beside a bar), ``case``, ``share``, ``low``, ``high``, ``count``, ``n``, and
            ``dataset`` and ``region`` to pick.
        alt_text: what it shows, for those who cannot see it.
        first: field -> what is picked at first; the first there is by default.
        toy: whether the data are generated.
    """
    places = {case: place for place, case in enumerate(_ORDER)}
    ordered = [{**row, "place": places[row["case"]]} for row in rows]
    picked = choices_of(ordered, {"dataset": "Data", "region": "Region"}, first)
    range_of = dict(zip(CASES, _COLOURS, strict=True))
    bars = (
        filtered(alt.Chart(alt.NamedData("rows")), picked)
        .mark_bar(stroke="var(--ground)", strokeWidth=0.7)
        .encode(
            x=alt.X("share:Q", stack="zero", title="share of decisions", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("line:N", sort=None, title=None),
            order=alt.Order("place:Q"),
            color=alt.Color(
                "case:N",
                title=None,
                sort=None,
                scale=alt.Scale(domain=list(_ORDER), range=[range_of[case] for case in _ORDER]),
            ),
            tooltip=[
                alt.Tooltip("line:N", title="Model"),
                alt.Tooltip("case:N", title="Case"),
                alt.Tooltip("share:Q", title="Share", format=".3f"),
                alt.Tooltip("low:Q", title="from", format=".3f"),
                alt.Tooltip("high:Q", title="to", format=".3f"),
                alt.Tooltip("count:Q", title="Decisions", format=",d"),
                alt.Tooltip("n:Q", title="of", format=",d"),
            ],
        )
    )
    return finish(bars, ordered, alt_text, choices=picked, height={"step": 30}, toy=toy)
