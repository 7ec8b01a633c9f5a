"""Rows of the scores as pages show them: names for classes, scores with their chance level, picture, links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import polars as pl

from explanation_alignment.explorer.addresses.decision import DecisionState
from explanation_alignment.explorer.addresses.fields import RUNS
from explanation_alignment.explorer.catalogue import Snapshot
from explanation_alignment.explorer.house import House
from explanation_alignment.explorer.queries import chances

__all__ = ["Card", "Score", "cards", "class_name", "option_classes", "picture_address"]


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value for one row.

    Args:
        metric: its column.
        value: None where it is undefined.
        chance: what a map that knows nothing would score; None where unknown.
    """

    metric: str
    value: float | None
    chance: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """A row as it is shown.

    Args:
        row: the row of the scores.
        label: name of the image's class.
        prediction: name of the predicted one.
        scores: of all metrics of the run.
        picture: address of its picture without layers; None where there is none.
        whole: whether the picture has the image, too; else it is the map alone.
        alt: what the picture shows, in words.
        decision: where the image is shown with all models.
    """

    row: Mapping[str, Any]
    label: str
    prediction: str
    scores: Sequence[Score]
    picture: str | None
    whole: bool
    alt: str
    decision: DecisionState


def cards(house: House, run: str, snapshot: Snapshot, rows: pl.DataFrame, layers: tuple[str, ...]) -> list[Card]:
    """The rows as cards, in their order."""
    columns = {name for slug in rows["_slug"].unique() for name in snapshot.by_slug[slug].schema}
    metrics = [name for name in snapshot.vocabulary.metrics if name in columns]
    levels = {name: chances(rows, name) for name in metrics} if rows.height else {}
    mapped = {slug: house.mapped(run, slug) for slug in rows["_slug"].unique()} if rows.height else {}
    made = []
    for place, row in enumerate(rows.iter_rows(named=True)):
        classes = snapshot.vocabulary.datasets.get(row["dataset"], ())
        label, prediction = class_name(row["label"], classes), class_name(row["prediction"], classes)
        shown = row["sample_id"] in house.pictured(run, row["_slug"])
        made.append(
            Card(
                row=row,
                label=label,
                prediction=prediction,
                scores=[Score(name, row[name], levels[name][place]) for name in metrics],
                picture=picture_address(run, row) if shown or mapped[row["_slug"]] else None,
                whole=shown,
                alt=_in_words(row, label, prediction) + ("" if shown else "; the map alone, without its image"),
                decision=DecisionState(run, row["dataset"], row["sample_id"], row["region"], layers=layers),
            )
        )
    return made


def picture_address(run: str, row: Mapping[str, Any]) -> str:
    """Where a row's picture is, without layers."""
    fields = [] if run == RUNS[0] else [("run", run)]
    fields += [("evaluation", row["_slug"]), ("sample", row["sample_id"])]
    fields += [(name, row[name]) for name in ("method", "binarization", "region")]
    return "/picture?" + urlencode(fields)


def class_name(index: int | None, names: Sequence[str]) -> str:
    """A class's name, its index where it has none, a dash for none."""
    if index is None or index < 0:
        return "\u2013"
    return names[index] if index < len(names) else str(index)


def option_classes(snapshot: Snapshot, dataset: str | None) -> list[tuple[str, str]]:
    """(value, words) of the classes of a dataset, or of all where they are the same."""
    kinds = snapshot.vocabulary.datasets
    lists = {kinds.get(dataset, ())} if dataset else set(kinds.values())
    if len(lists) != 1:
        return []
    names = next(iter(lists))
    return [(str(place), name if name == str(place) else f"{name} ({place})") for place, name in enumerate(names)]


def _in_words(row: Mapping[str, Any], label: str, prediction: str) -> str:
    verdict = {None: "undecided", True: "right", False: f"wrong: {label}"}[row["correct"]]
    said = f"predicted {prediction}, {verdict}"
    areas = (row["salient_area"], row["annotation_area"])
    if row["status"] != "ok" or None in areas:
        return f"{row['sample_id']}: {said}; {row['method']} on {row['region']}: {row['status'].replace('_', ' ')}"
    score = row.get("iou_coverage")
    overlap = "" if score is None else f", IoU with the annotation {score:.2f}"
    return (
        f"{row['sample_id']}: {said}; {row['method']}: {areas[0]:,} pixels salient, {row['region']}: "
        f"{areas[1]:,} pixels annotated{overlap}"
    )
