"""The gallery of decisions, and one decision with every model and method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from explanation_alignment.explorer.addresses.decision import DecisionState
from explanation_alignment.explorer.addresses.fields import ALIGNED
from explanation_alignment.explorer.addresses.gallery import GalleryState
from explanation_alignment.explorer.addresses.vocabulary import rising
from explanation_alignment.explorer.catalogue import Snapshot
from explanation_alignment.explorer.choosing import gallery_first
from explanation_alignment.explorer.computing import MOST_AT_ONCE, Job
from explanation_alignment.explorer.house import House, Page
from explanation_alignment.explorer.pages.decisions import Card, cards, option_classes
from explanation_alignment.explorer.queries import Selection

__all__ = ["decision_page", "first_gallery", "gallery_page", "selected"]

#: Models of one decision that a page shows.
_MODELS: Final = 24


def first_gallery(house: House, snapshots: Mapping[str, Snapshot], run: str) -> GalleryState:
    """Where a gallery begins that was asked for without anything."""
    return gallery_first(snapshots[run], house.boards[run].of(snapshots[run]), run)


def selected(house: House, snapshot: Snapshot, state: GalleryState) -> Selection:
    """The rows of a gallery, all pages."""
    chosen = state.chosen
    pictured = None
    if chosen.pictured or state.sort == "picture":
        pictured = {one.slug: house.pictured(chosen.run, one.slug) for one in snapshot.evaluations}
    return house.questions.select(snapshot, chosen, state.sort, state.descending, pictured)


def gallery_page(house: House, snapshots: Mapping[str, Snapshot], state: GalleryState) -> Page:
    """A page of decisions; the last where there are not so many."""
    run = state.chosen.run
    snapshot = snapshots[run]
    selection = selected(house, snapshot, state)
    pages = max(1, math.ceil(selection.total / state.size))
    shown = state.but(page=min(state.page, pages))
    places = selection.places.slice((shown.page - 1) * state.size, state.size)
    made = cards(house, run, snapshot, house.questions.rows(snapshot, places), state.layers)
    content = {
        "state": shown,
        "asked_page": state.page,
        "pages": pages,
        "selection": selection,
        "accuracy": 100 * selection.correct / selection.decided if selection.decided else None,
        "cards": made,
        "quick": next(iter(rising(snapshot.vocabulary.metrics)), None),
        "aligned": ALIGNED,
        "classes": option_classes(snapshot, state.chosen.dataset),
        "attributes": snapshot.attribute_values,
        "fixed": _same_everywhere(made),
        "csv": state.but(page=1).address("/gallery.csv"),
        "compute": computation(house, run, made),
    }
    return Page("gallery.html.j2", "Gallery", content)


def decision_page(house: House, snapshots: Mapping[str, Snapshot], state: DecisionState) -> Page:
    """One image with every model and method.

    Raises:
        RunError: the run has no such sample.
    """
    snapshot = snapshots[state.run]
    rows = house.questions.decision(snapshot, state.dataset, state.sample, state.target)
    regions = list(dict.fromkeys(rows["region"]))
    evidence = [name for name in snapshot.vocabulary.regions if name in regions]
    region = state.region if state.region is not None and state.region in regions else evidence[0]
    groups: dict[tuple[str, int, str], dict[tuple[str, str], list[Card]]] = {}
    for card in cards(house, state.run, snapshot, rows, state.layers):
        row = card.row
        methods = groups.setdefault((row["model"], row["seed"], row["target"]), {})
        methods.setdefault((row["method"], row["binarization"]), []).append(card)
    pages = math.ceil(len(groups) / _MODELS)
    shown = state.but(page=min(state.page, pages), region=region)
    start = (shown.page - 1) * _MODELS
    models = [_model(key, methods, region) for key, methods in list(groups.items())[start : start + _MODELS]]
    first = models[0]["cards"][0]
    content = {
        "state": shown,
        "first": first,
        "regions": regions,
        "models": models,
        "metrics": [score.metric for score in first.scores],
        "total": len(groups),
        "pages": pages,
        "attributes": _attributes(first.row),
        "compute": computation(house, state.run, [card for model in models for card in model["cards"]]),
    }
    return Page("decision.html.j2", f"Decision on {state.sample}", content)


def _model(key: tuple[str, int, str], methods: Mapping[Any, list[Card]], region: str) -> Mapping[str, Any]:
    """A model's predictions and maps: the chosen region's card of each method, and the rows of all regions."""
    chosen = [next((c for c in of_method if c.row["region"] == region), of_method[0]) for of_method in methods.values()]
    return {
        "model": key[0],
        "seed": key[1],
        "target": key[2],
        "cards": chosen,
        "rows": [card for of_method in methods.values() for card in of_method],
    }


def _attributes(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name.removeprefix("attr_"), value) for name, value in row.items() if name.startswith("attr_")]


def _same_everywhere(made: list[Card]) -> set[str]:
    """What need not be written under every picture."""
    names = ("model", "seed", "dataset", "target", "method", "binarization", "region")
    return {name for name in names if len({card.row[name] for card in made}) == 1}


def computation(house: House, run: str, made: list[Card]) -> Mapping[str, Any]:
    """What can be computed of these decisions, what is being computed, and what could not be."""
    missing = dict.fromkeys((card.row["_slug"], card.row["sample_id"]) for card in made if not card.whole)
    jobs = house.computer.jobs(house.run_path(run))
    slugs = {slug for slug, _ in missing}
    pending = [job for job in jobs if job.state in ("waiting", "working")]
    failed: dict[str, Job] = {}
    for job in jobs:  # the last one of an evaluation counts
        if job.slug in slugs:
            failed.setdefault(job.slug, job)
    return {
        "missing": list(missing)[:MOST_AT_ONCE],
        "pending": sum(len(job.samples) for job in pending),
        "failed": [job for job in failed.values() if job.state == "failed"],
    }
