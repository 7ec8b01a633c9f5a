"""Predictions made elsewhere, for maps that come without their model."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from explanation_alignment.errors import DatasetError, first_line
from explanation_alignment.runs.identity import digest
from explanation_alignment.sample import AnnotatedDataset

__all__ = ["Predictions"]


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model predicted: sample id -> (class index, confidence or NaN).

    Args:
        known: those that are known.
    """

    known: Mapping[str, tuple[int, float]]

    @classmethod
    def read(cls, given: str | Path | Mapping[str, Any] | None, dataset: AnnotatedDataset) -> Predictions | None:
        """Read a CSV file or a mapping; None stays None.

        An integer in a mapping is an index. A word is a class name, and where there is none of it an index; one that is
        the name of a class and the index of another is refused.

        Raises:
            DatasetError: it cannot be read, names no class of the dataset or it is
                not plain which, or none of its samples.
        """
        if given is None:
            return None
        index_of = {name: place for place, name in enumerate(dataset.class_names)}
        indices = {str(place) for place in range(len(index_of))}
        if isinstance(given, Mapping):
            rows = [(str(name), value, "") for name, value in given.items()]
        else:
            rows = _prediction_rows(Path(given))
        known: dict[str, tuple[int, float]] = {}
        for name, value, confidence in rows:
            word = str(value)
            if isinstance(value, Integral) or word not in index_of:
                place = int(word) if word.isdecimal() else -1
            else:
                place = index_of[word]
                if word in indices and word != str(place):
                    raise DatasetError(
                        f"predictions: {name!r} has {word!r}, which in {dataset.name} is the name of class {place} "
                        f"and the index of {dataset.class_names[int(word)]!r}; give indices as integers, from Python: "
                        "ea.score(..., predictions={id: index})"
                    )
            if not 0 <= place < len(index_of):
                raise DatasetError(
                    f"predictions: {name!r} has {word!r}, expected a class name of {dataset.name} or an index from 0 "
                    f"to {len(index_of) - 1}"
                )
            if name in known:
                raise DatasetError(f"predictions: {name!r} is there twice")
            known[name] = (place, _confidence(name, confidence))
        if not set(known) & set(dataset.ids()):
            raise DatasetError(f"predictions: none is for an id of {dataset.name}, such as {dataset.ids()[0]!r}")
        return cls(known)

    def digest(self) -> str:
        """SHA-256 of all of them, hex."""
        return digest({name: [place, repr(confidence)] for name, (place, confidence) in self.known.items()})


def _prediction_rows(path: Path) -> list[tuple[str, Any, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = table.fieldnames or []
            if not {"sample_id", "prediction"} <= set(columns):
                raise DatasetError(
                    f"{path}: expected the columns sample_id, prediction and, if known, confidence; got "
                    f"{', '.join(columns) or 'nothing'}"
                )
            return [(row["sample_id"], (row["prediction"] or "").strip(), row.get("confidence") or "") for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: predictions cannot be read ({first_line(error)})") from error


def _confidence(name: str, word: str) -> float:
    try:
        value = float(word) if word.strip() else float("nan")
    except ValueError:
        value = -1.0
    if value < 0 or value > 1:
        raise DatasetError(f"predictions: {name!r} has the confidence {word!r}, expected a number from 0 to 1")
    return value
