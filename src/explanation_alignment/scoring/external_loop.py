"""Scores maps that were computed elsewhere, unit by unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Self

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from explanation_alignment.binarization import binarize
from explanation_alignment.evaluation.tabulating import scored_unit
from explanation_alignment.metrics.scoring import MapScores, score_maps
from explanation_alignment.runs.examples import Example
from explanation_alignment.runs.rows import Decisions, ScoredUnit, score_rows
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.runs.working import UnitRows, UnitWatch
from explanation_alignment.scoring.external_reading import ReadBatch, ReadSample, SampleReader, collate
from explanation_alignment.scoring.known_predictions import Predictions

__all__ = ["ExternalMaps"]

_BATCH_SIZE: Final = 64
_OK: Final = STATUSES.index("ok")


@dataclass(frozen=True, slots=True)
class ExternalMaps:
    """Maps that were computed elsewhere, of one method: read, scored and tabulated."""

    reader: SampleReader
    units: Mapping[int, Sequence[int]]
    predictions: Predictions | None
    key: Mapping[str, Any]
    method: str
    binarization: str
    metrics: Sequence[str]
    attributes: Mapping[str, pa.Array]
    workers: int

    def without_workers(self) -> Self:
        """The same, reading in this process."""
        return replace(self, workers=0)

    def read(self, places: Sequence[int]) -> Iterator[ReadBatch]:
        """Batch after batch."""
        batches = [list(places[start : start + _BATCH_SIZE]) for start in range(0, len(places), _BATCH_SIZE)]
        yield from DataLoader(
            self.reader,
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=collate,
            generator=torch.Generator(),  # its workers' seeds are not taken from the global one
        )

    def unit(self, number: int, watch: UnitWatch) -> UnitRows:
        """What a unit comes to."""
        places = self.units[number]
        labels: list[int] = []
        messages: list[str | None] = []
        status: list[torch.Tensor] = []
        scored: list[list[MapScores]] = []
        unread: list[str] = []
        for batch in self.read(places):
            needed = batch.strengths if batch.strengths.shape[2] else None
            scored.append([score_maps(batch.saliency, self.binarization, batch.annotations, self.metrics, needed)])
            labels += batch.labels
            messages += batch.messages
            status.append(batch.status.clone())
            unread += [f"{self.reader.ids[batch.places[at]]}: {batch.messages[at]}" for at in batch.unreadable]
            watch.advance(len(batch.places))
        decisions = self._decisions(places, labels, messages)
        given = torch.cat(status, dim=1).numpy()
        unit = scored_unit(decisions, given, scored, self.metrics, self.reader.size)
        return UnitRows(partial(self._table, unit, places), unread)

    def _table(self, unit: ScoredUnit, places: Sequence[int]) -> pa.Table:
        where = pa.array(places)
        table = score_rows(
            unit,
            key=self.key,
            methods=[(self.method, self.binarization)],
            regions=list(self.reader.dataset.regions),
            metrics=self.metrics,
            attributes={name: values.take(where) for name, values in self.attributes.items()},
        )
        return _without_what_is_unknown(table)

    def _decisions(self, places: Sequence[int], labels: Sequence[int], messages: Sequence[str | None]) -> Decisions:
        """What is known of the decisions on them; 0, -1 and NaN stand for what is not."""
        ids = [self.reader.ids[place] for place in places]
        unknown = (-1, float("nan"))
        known = [(self.predictions.known if self.predictions else {}).get(name, unknown) for name in ids]
        prediction = np.array([place for place, _ in known])
        label = np.array(labels)
        not_tried = np.full((len(self.reader.dataset.regions), len(ids)), np.nan)
        return Decisions(
            ids=ids,
            messages=messages,
            label=label,
            prediction=prediction,
            correct=prediction == label,
            label_rank=np.zeros_like(prediction),
            confidence=np.array([confidence for _, confidence in known], dtype=np.float32),
            exchange_flip=not_tried,
            elsewhere_flip=not_tried,
        )

    def examples(self, names: Sequence[str]) -> Iterator[Example]:
        """The pictures of the decisions on these samples."""
        key = (self.method, self.binarization)
        place_of = {name: place for place, name in enumerate(self.reader.ids)}
        for place in [place_of[name] for name in names]:
            sample, read = self.reader.example(place)

            def salient(at: int, read: ReadSample = read) -> NDArray[np.bool_]:
                found = binarize(read.saliency[None], self.binarization, annotation=read.annotations[at][None])
                return found[0].numpy()

            yield Example(
                sample_id=sample.id,
                image=self.reader.picture(sample),
                annotations={
                    region: read.annotations[at].numpy() if read.status[at] == _OK else None
                    for at, region in enumerate(self.reader.dataset.regions)
                },
                saliency={key: read.saliency.numpy()},
                salient={(*key, region): salient(at) for at, region in enumerate(self.reader.dataset.regions)},
            )


def _without_what_is_unknown(table: pa.Table) -> pa.Table:
    """Null in the place of predictions and confidences that were not given, and of the label's rank."""
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    unknown = pl.col("prediction") < 0
    cleaned = frame.select(
        pl.when(~unknown).then(pl.col(name)).alias(name) for name in ("prediction", "correct", "confidence")
    ).with_columns(pl.col("confidence").fill_nan(None))
    for name in cleaned.columns:
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, cleaned[name].to_arrow().cast(field.type))
    rank = table.schema.get_field_index("label_rank")
    field = table.schema.field(rank)
    return table.set_column(rank, field, pa.nulls(table.num_rows, field.type))
