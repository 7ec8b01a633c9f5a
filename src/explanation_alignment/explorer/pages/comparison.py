"""Two models on the same images: where one is right for the right reason and the other is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import polars as pl

from explanation_alignment.explorer.addresses.comparison import CompareState
from explanation_alignment.explorer.addresses.fields import OUTCOMES
from explanation_alignment.explorer.addresses.vocabulary import rising
from explanation_alignment.explorer.catalogue import Snapshot
from explanation_alignment.explorer.choosing import compare_chosen
from explanation_alignment.explorer.house import House, Page
from explanation_alignment.explorer.pages.decisions import Card, cards
from explanation_alignment.explorer.pages.gallery import computation
from explanation_alignment.explorer.queries import Pairs

__all__ = ["OUTCOME_WORDS", "compare_page", "compared"]

OUTCOME_WORDS: Final = dict(
    zip(
        OUTCOMES,
        ("right, right reason", "right, wrong reason", "wrong, but aligned", "wrong, not aligned", "undefined"),
        strict=True,
    )
)


def compared(house: House, snapshots: Mapping[str, Snapshot], asked: CompareState) -> tuple[CompareState, Pairs]:
    """The comparison with nothing open, and its images, all pages."""
    state = compare_chosen(asked, snapshots)
    pictured = frozenset[str]()
    if state.sort == "picture":
        pictured = frozenset.intersection(*(_pictured(house, snapshots, side, state) for _, side in _sides(state)))
    return state, house.questions.compare(snapshots[state.a.run], snapshots[state.b.run], state, pictured)


def _pictured(house: House, snapshots: Mapping[str, Snapshot], side: Any, state: CompareState) -> frozenset[str]:
    """Samples of a side's evaluations that can be shown."""
    wanted = (side.model, side.seed, state.dataset, state.target)
    return frozenset().union(
        *(
            house.pictured(side.run, one.slug)
            for one in snapshots[side.run].evaluations
            if (one.model, one.seed, one.dataset, one.target) == wanted
        )
    )


def compare_page(house: House, snapshots: Mapping[str, Snapshot], asked: CompareState) -> Page:
    """A page of images with two models.

    Raises:
        UsageError: the two have no images in common.
    """
    if any(not snapshot.evaluations for snapshot in snapshots.values()):
        return Page("compare.html.j2", "Two models", {"state": asked, "empty": True})
    state, pairs = compared(house, snapshots, asked)
    pages = max(1, math.ceil(pairs.places.height / state.size))
    shown = state.but(  # what follows from the rest stays open, so that the rest can be changed
        page=min(state.page, pages),
        region=asked.region,
        a=replace(state.a, binarization=asked.a.binarization),
        b=replace(state.b, binarization=asked.b.binarization),
    )
    places = pairs.places.slice((shown.page - 1) * state.size, state.size)
    left, right = (_cards(house, snapshots, side.run, places, name, state) for name, side in _sides(state))
    computing = [computation(house, side.run, own) for own, (_, side) in zip((left, right), _sides(state), strict=True)]
    content = {
        "state": shown,
        "filled": state,
        "both": _both(state, snapshots),
        "empty": False,
        "asked_page": asked.page,
        "pages": pages,
        "pairs": pairs,
        "counts": _counts(pairs),
        "outcomes": OUTCOME_WORDS,
        "couples": list(zip(left, right, places.iter_rows(named=True), strict=True)),
        "labels": _labels(state, snapshots),
        "same_data": _same_data(state, snapshots),
        "computing": [
            (name.upper(), side.run, compute) for compute, (name, side) in zip(computing, _sides(state), strict=True)
        ],
        "csv": state.but(page=1).address("/compare.csv"),
    }
    return Page("compare.html.j2", "Two models", content)


def _sides(state: CompareState) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("a", state.a), ("b", state.b)


def _both(state: CompareState, snapshots: Mapping[str, Snapshot]) -> Mapping[str, Sequence[str]]:
    """What both have, and so an address may name."""
    one, other = (snapshots[side.run].vocabulary for _, side in _sides(state))
    found = {
        name: [value for value in getattr(one, name) if value in getattr(other, name)]
        for name in ("datasets", "targets", "regions", "metrics")
    }
    return {**found, "metrics": rising(found["metrics"])}


def _cards(
    house: House, snapshots: Mapping[str, Snapshot], run: str, places: pl.DataFrame, name: str, state: CompareState
) -> list[Card]:
    own = places.select(_evaluation=f"_{name}_evaluation", _row=f"_{name}_row")
    rows = house.questions.rows(snapshots[run], own)
    return cards(house, run, snapshots[run], rows, state.layers)


def _counts(pairs: Pairs) -> Mapping[str, Any]:
    """The table of counts with its margins."""
    cells = {a: {b: pairs.counts.get((a, b), 0) for b in OUTCOMES} for a in OUTCOMES}
    return {
        "cells": cells,
        "a": {a: sum(row.values()) for a, row in cells.items()},
        "b": {b: sum(row[b] for row in cells.values()) for b in OUTCOMES},
        "defined": sum(n for (a, b), n in pairs.counts.items() if OUTCOMES[-1] not in (a, b)),
    }


def _labels(state: CompareState, snapshots: Mapping[str, Snapshot]) -> dict[str, str]:
    """What the two are called: model, and whatever else tells them apart."""
    named = {}
    for name, side in _sides(state):
        other = state.b if name == "a" else state.a
        further = [f"seed {side.seed}"] if side.seed != other.seed else []
        further += [str(side.method)] if side.method != other.method else []
        further += [str(side.binarization)] if side.binarization != other.binarization else []
        further += [f"run {snapshots[side.run].name}"] if side.run != other.run else []
        named[name] = str(side.model) + (f" ({', '.join(further)})" if further else "")
    return named


def _same_data(state: CompareState, snapshots: Mapping[str, Snapshot]) -> bool:
    """Whether the dataset of that name is the same in both runs."""
    prints = {snapshots[side.run].datasets.get(str(state.dataset), {}).get("fingerprint") for _, side in _sides(state)}
    return len(prints) == 1
