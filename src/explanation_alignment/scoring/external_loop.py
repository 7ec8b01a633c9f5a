"""Scores maps that were computed elsewhere, unit by unit."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from explanation_alignment import stopping
from explanation_alignment.batches import lost_worker
from explanation_alignment.binarization import binarize
from explanation_alignment.errors import RunError, RunWarning, first_line
from explanation_alignment.evaluation.tabulating import scored_unit
from explanation_alignment.evaluation.units import cut
from explanation_alignment.metrics.scoring import MapScores, score_maps
from explanation_alignment.progress import progress_bars, tell
from explanation_alignment.runs.environment import peak_memory
from explanation_alignment.runs.examples import Example
from explanation_alignment.runs.rows import Decisions, score_rows
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.runs.sharing import put_in_order, share
from explanation_alignment.runs.writer import EvaluationWriter
from explanation_alignment.scoring.external_reading import ReadSample, SampleReader
from explanation_alignment.scoring.known_predictions import Predictions

__all__ = ["ExternalMaps", "work"]

_BATCH_SIZE: Final = 64
_OK: Final = STATUSES.index("ok")


@dataclass(frozen=True, slots=True)
class ExternalMaps:
    """Maps that were computed elsewhere, of one method: read, scored and tabulated."""

    reader: SampleReader
    predictions: Predictions | None
    key: Mapping[str, Any]
    method: str
    binarization: str
    metrics: Sequence[str]
    attributes: Mapping[str, pa.Array]
    workers: int

    def read(self, places: Sequence[int]) -> Iterator[list[ReadSample]]:
        """Batch after batch."""
        batches = [list(places[start : start + _BATCH_SIZE]) for start in range(0, len(places), _BATCH_SIZE)]
        yield from DataLoader(
            self.reader,
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # its workers' seeds are not taken from the global one
        )

    def table(self, places: Sequence[int], advance: Callable[[list[ReadSample]], None]) -> pa.Table:
        """The rows of samples at these places."""
        everything: list[ReadSample] = []
        scored: list[list[MapScores]] = []
        for batch in self.read(places):
            annotations = torch.stack([one.annotations for one in batch], dim=1)
            strengths = torch.stack([one.strengths for one in batch], dim=1)
            saliency = torch.stack([one.saliency for one in batch])
            needed = strengths if strengths.shape[2] else None
            scored.append([score_maps(saliency, self.binarization, annotations, self.metrics, needed)])
            none = torch.zeros(0)
            everything += [replace(one, saliency=none, annotations=none, strengths=none) for one in batch]
            advance(batch)
        status = torch.stack([one.status for one in everything], dim=1).numpy()
        unit = scored_unit(self._decisions(everything), status, scored, self.metrics, self.reader.size)
        where = pa.array([one.place for one in everything])
        table = score_rows(
            unit,
            key=self.key,
            methods=[(self.method, self.binarization)],
            regions=list(self.reader.dataset.regions),
            metrics=self.metrics,
            attributes={name: values.take(where) for name, values in self.attributes.items()},
        )
        return _without_what_is_unknown(table)

    def _decisions(self, samples: Sequence[ReadSample]) -> Decisions:
        """What is known of the decisions on them; 0, -1 and NaN stand for what is not."""
        ids = [self.reader.ids[one.place] for one in samples]
        unknown = (-1, float("nan"))
        known = [(self.predictions.known if self.predictions else {}).get(name, unknown) for name in ids]
        prediction = np.array([place for place, _ in known])
        label = np.array([one.label for one in samples])
        not_tried = np.full((len(self.reader.dataset.regions), len(ids)), np.nan)
        return Decisions(
            ids=ids,
            messages=[one.message for one in samples],
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


def _as_it_is(batch: list[ReadSample]) -> list[ReadSample]:
    return batch


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


def work(
    loop: ExternalMaps, evaluation: EvaluationWriter, order: Sequence[int], max_errors: float, progress: bool
) -> bool:
    """Write the units that are missing; whether there were any."""
    units = cut(order, evaluation.record["details"]["unit_size"])
    regions = len(loop.reader.dataset.regions)
    owed = {number: len(places) * regions for number, places in units.items()}
    missing = put_in_order(evaluation, owed)
    limit = max_errors * len(order) if max_errors < 1 else max_errors
    fresh = False
    with progress_bars(enabled=progress and bool(missing)) as bars:
        done = len(order) - sum(len(units[number]) for number in missing)
        bar = bars.add_task(f"{loop.key['model']} on {loop.key['dataset']}", total=len(order), completed=done, note="")

        def compute(number: int) -> None:
            nonlocal fresh, loop
            began, errors, read = time.monotonic(), list[str](), 0

            def advance(batch: list[ReadSample]) -> None:
                nonlocal read
                read += len(batch)
                errors.extend(f"{loop.reader.ids[one.place]}: {one.message}" for one in batch if one.unreadable)
                bars.advance(bar, len(batch))
                stopping.check()

            with stopping.gently():
                try:
                    table = loop.table(units[number], advance)
                except RuntimeError as error:
                    if not lost_worker(error):
                        raise
                    warnings.warn(
                        f"a process that read ahead died, going on without ({first_line(error)})",
                        RunWarning,
                        stacklevel=2,
                    )
                    bars.advance(bar, -read)
                    loop, errors, read = replace(loop, workers=0), [], 0
                    table = loop.table(units[number], advance)
            told = {"seconds": round(time.monotonic() - began, 3), "unread": len(errors), **peak_memory()}
            evaluation.write(number, table, told)
            fresh = True
            unread = evaluation.unread()
            if errors and unread > limit:
                raise RunError(
                    f"{unread} samples or maps could not be read (limit {max_errors:g}), first: {errors[0]}; what "
                    "is scored is kept, raise --max-errors to go on"
                )

        share(evaluation, owed, list(units), compute, say=partial(tell, bars) if progress else None)
    return fresh
