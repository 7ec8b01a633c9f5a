"""The maps that a run kept of an evaluation: read, scored and tabulated, unit by unit."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, Final, Self

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray

from explanation_alignment.batches import Batch, iterate_batches
from explanation_alignment.binarization import binarize
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.errors import RunError
from explanation_alignment.evaluation.question import attribute_column
from explanation_alignment.evaluation.tabulating import scored_unit
from explanation_alignment.evaluation.units import cut
from explanation_alignment.geometry import Geometry
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.metrics.scoring import MapScores, score_maps
from explanation_alignment.runs.examples import Example
from explanation_alignment.runs.identity import NUMERICS_VERSION
from explanation_alignment.runs.reader import Run
from explanation_alignment.runs.rows import Decisions, ScoredUnit, score_rows
from explanation_alignment.runs.saved_maps import MAP_KINDS, MapFiles, read_maps
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.runs.working import UnitRows, UnitWatch
from explanation_alignment.sample import AnnotatedDataset
from explanation_alignment.sampling import sample_order

__all__ = ["KeptMaps", "KeptMapsLoop"]

_BATCH_SIZE: Final = 64
#: What a decision's rows say of it, whatever the map.
_KNOWN: Final = (
    "message",
    "label",
    "prediction",
    "correct",
    "label_rank",
    "confidence",
    "exchange_flip",
    "elsewhere_flip",
)
_OK, _ERROR = STATUSES.index("ok"), STATUSES.index("error")


@dataclass(frozen=True, slots=True, eq=False)
class KeptMaps:
    """The kept maps of one evaluation, and what they are to be scored by.

    Args:
        run: that holds them.
        slug: the evaluation's folder.
        dataset: as it was evaluated.
        question: that is answered now.
        pairs: methods and binarizations.
        described: the same as the run records them, each with the evaluation its maps are of: those of a method that a
            run was grown by are of another evaluation of the same question.
        details: what else is worth recording.
        units: unit -> places in the dataset.
        files: the maps.
    """

    run: Run
    slug: str
    dataset: AnnotatedDataset
    question: Mapping[str, Any]
    pairs: Sequence[tuple[str, str]]
    described: Sequence[Mapping[str, Any]]
    details: Mapping[str, Any]
    units: Mapping[int, Sequence[int]]
    files: MapFiles

    @classmethod
    def of(
        cls,
        run: Run,
        slug: str,
        dataset: AnnotatedDataset,
        method: str | None,
        rule: str | None,
        metrics: Sequence[str] | None,
    ) -> KeptMaps:
        """Those of an evaluation.

        Raises:
            RunError: not all of its maps are there.
        """
        item = run.evaluations[slug]
        question, size = item["question"], item["details"]["unit_size"]
        order = sample_order(dataset, dataset.ids(), question["sample"], question["seed"])
        units = cut(order, size)
        files = MapFiles.of(run.path, slug, item)
        samples = {unit: len(places) for unit, places in units.items()}
        kind = next((kind for kind in MAP_KINDS if not files.missing(samples, kind)), None)
        if kind is None:
            missing = len(files.missing(samples))
            raise RunError(
                f"{run.path}: maps of {missing} of {len(units)} units of {question['model']} on {dataset.name} are not "
                "there; the command that made it adds them with --save-maps"
                if missing
                else f"{run.path}: maps of {question['model']} are of several kinds; give --save-maps again with one"
            )
        described: dict[tuple[str, str], Mapping[str, Any]] = {}
        for each in item["methods"]:
            if method in (None, each["method"]):
                binarization = rule or each["binarization"]
                source = {"binarization": binarization, "maps": f"{kind} of {item['identity'][:16]}"}
                described.setdefault((each["method"], binarization), {**each, **source})
        asked = {
            **question,
            "metrics": list(metrics or question["metrics"]),
            "numerics_version": NUMERICS_VERSION,
        }
        details = {"unit_size": size, "batch_size": _BATCH_SIZE, "device": "cpu", "samples": len(order)}
        details["maps"] = str(run.path)
        return cls(run, slug, dataset, asked, list(described), list(described.values()), details, units, files)

    def without(self, pairs: Container[tuple[str, str]]) -> KeptMaps:
        """The same but for these methods and binarizations."""
        left = [at for at, pair in enumerate(self.pairs) if pair not in pairs]
        chosen = ([self.pairs[at] for at in left], [self.described[at] for at in left])
        return replace(self, pairs=chosen[0], described=chosen[1])

    @property
    def preprocessing(self) -> Preprocessing:
        """What the images went through."""
        asked = self.question
        size, geometry = tuple(asked["input_size"]), Geometry(**asked["geometry"])
        return Preprocessing(size, geometry, tuple(asked["mean"]), tuple(asked["std"]))


class KeptMapsLoop:
    """Reads, scores and tabulates units.

    Args:
        maps: of the evaluation.
        pairs: methods and binarizations.
        workers: processes that read ahead.
    """

    def __init__(self, maps: KeptMaps, pairs: Sequence[tuple[str, str]], workers: int) -> None:
        self.maps, self.pairs = maps, pairs
        self.ids = maps.dataset.ids()
        self.metrics: Sequence[str] = maps.question["metrics"]
        self._workers = workers
        self._strengths = any(get_metric(name).needs == "heatmap" for name in self.metrics)
        self._attributes = {
            name: attribute_column(maps.dataset.name, name, values)
            for name, values in maps.dataset.attributes().items()
        }
        self._methods = [each for each in maps.files.methods if any(each == method for method, _ in pairs)]

    def batches(self, places: Sequence[int], *, strengths: bool) -> Iterator[Batch]:
        """The samples at these places with their annotations at the maps' size."""
        cuts = [places[start : start + _BATCH_SIZE] for start in range(0, len(places), _BATCH_SIZE)]
        return iterate_batches(
            self.maps.dataset,
            self.ids,
            cuts,
            self.maps.preprocessing,
            workers=self._workers,
            strengths=strengths,
        )

    def without_workers(self) -> Self:
        """The same, reading in this process."""
        other = copy(self)
        other._workers = 0
        return other

    def unit(self, number: int, watch: UnitWatch) -> UnitRows:
        """What a unit comes to."""
        places = self.maps.units[number]
        decisions = _decisions(self.maps, self._rows, number, [self.ids[place] for place in places])
        stored = read_maps(self.maps.files.path(number), methods=self._methods)
        unread: list[str] = []
        scored: list[list[MapScores]] = []
        given, messages = [], list(decisions.messages)
        start = 0
        for batch in self.batches(places, strengths=self._strengths):
            saliency = self._saliency(stored, batch, number)
            scored.append(
                [
                    score_maps(saliency[method], rule, batch.annotations, self.metrics, batch.strengths)
                    for method, rule in self.pairs
                ]
            )
            for at, message in batch.errors.items():
                if messages[start + at] is None:
                    messages[start + at] = message
                    unread.append(f"{batch.ids[at]}: {message}")
            given.append(batch.annotation_status.clone())
            start += len(batch.ids)
            watch.advance(len(batch.ids))
        status = torch.cat(given, dim=1).numpy()
        status[:, [message is not None for message in messages]] = _ERROR
        size = (self.maps.preprocessing.input_size[1], self.maps.preprocessing.input_size[2])
        unit = scored_unit(replace(decisions, messages=messages), status, scored, self.metrics, size)
        return UnitRows(partial(self._table, unit, places), unread)

    @cached_property
    def _rows(self) -> pl.DataFrame:
        return _rows(self.maps)

    def _table(self, unit: ScoredUnit, places: Sequence[int]) -> pa.Table:
        where = pa.array(places)
        return score_rows(
            unit,
            key={name: self.maps.question[name] for name in ("model", "seed", "dataset", "target")},
            methods=self.pairs,
            regions=list(self.maps.dataset.regions),
            metrics=self.metrics,
            attributes={name: values.take(where) for name, values in self._attributes.items()},
        )

    def _saliency(
        self, stored: Iterator[tuple[str, str, NDArray[np.float32] | None]], batch: Batch, unit: int
    ) -> dict[str, torch.Tensor]:
        """The next maps, (B, H, W) a method; zeros where the sample could not be read."""
        size = (batch.images.shape[2], batch.images.shape[3])
        found = list(islice(stored, len(batch.ids) * len(self._methods)))
        expected = [(name, method) for name in batch.ids for method in self._methods]
        if [(name, method) for name, method, _ in found] != expected:
            raise RunError(f"{self.maps.files.path(unit)}: holds the maps of other samples or methods")
        values = [np.zeros(size, dtype=np.float32) if one is None else one for _, _, one in found]
        stack = torch.from_numpy(np.stack(values)).reshape(len(batch.ids), len(self._methods), *size)
        return {method: stack[:, at] for at, method in enumerate(self._methods)}

    def examples(self, names: Sequence[str]) -> Iterator[Example]:
        """The pictures of these decisions."""
        place_of = {name: place for place, name in enumerate(self.ids)}
        unit_of = {place: unit for unit, places in self.maps.units.items() for place in places}
        places = [place_of[name] for name in names]
        found: dict[tuple[str, str], NDArray[np.float32]] = {}
        for unit in sorted({unit_of[place] for place in places}):
            path = self.maps.files.path(unit)
            for name, method, saliency in read_maps(path, methods=self._methods, sample_ids=names):
                if saliency is not None:
                    found[name, method] = saliency
        alone = self.without_workers()  # they are few, and no process can die over them
        for batch in alone.batches(places, strengths=False):
            for at, name in enumerate(batch.ids):
                yield self._example(batch, at, {method: found[name, method] for method in self._methods})

    def _example(self, batch: Batch, at: int, saliency: Mapping[str, NDArray[np.float32]]) -> Example:
        regions = list(enumerate(self.maps.dataset.regions))
        maps = {method: torch.from_numpy(values)[None] for method, values in saliency.items()}
        return Example(
            sample_id=batch.ids[at],
            image=batch.images[at].permute(1, 2, 0).numpy(),
            annotations={
                region: batch.annotations[place, at].numpy() if batch.annotation_status[place, at] == _OK else None
                for place, region in regions
            },
            saliency={(method, rule): saliency[method] for method, rule in self.pairs},
            salient={
                (method, rule, region): binarize(maps[method], rule, annotation=batch.annotations[place, at][None])[
                    0
                ].numpy()
                for method, rule in self.pairs
                for place, region in regions
            },
        )


def _rows(maps: KeptMaps) -> pl.DataFrame:
    """What the run's rows say of the decisions: a row a sample and region, of one method and binarization."""
    run, method = maps.run, maps.run.evaluations[maps.slug]["methods"][0]
    with run.reading():
        return (
            run.scan_scores([maps.slug])
            .filter(
                pl.col("method").cast(pl.String) == method["method"],
                pl.col("binarization").cast(pl.String) == method["binarization"],
            )
            .select("sample_id", pl.col("region").cast(pl.String), *_KNOWN)
            .collect()
        )


def _decisions(maps: KeptMaps, rows: pl.DataFrame, unit: int, ids: Sequence[str]) -> Decisions:
    """What the run's rows say of a unit's decisions.

    Raises:
        RunError: the unit's rows are not there, or are of other samples.
    """
    rows = rows.filter(pl.col("sample_id").is_in(list(ids)))
    by_region = {
        region: pl.DataFrame({"sample_id": ids}).join(part, on="sample_id", how="left", maintain_order="left")
        for region in maps.dataset.regions
        if (part := rows.filter(pl.col("region") == region)).height == len(ids)
    }
    if len(by_region) < len(maps.dataset.regions):
        raise RunError(f"{maps.run.path}: rows of unit {unit} of {maps.slug} are missing; see `ealign verify`")
    first = next(iter(by_region.values()))

    def flips(name: str) -> NDArray[np.floating]:
        return np.stack([part[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for part in by_region.values()])

    return Decisions(
        ids=ids,
        messages=first["message"].to_list(),
        label=first["label"].fill_null(-1).to_numpy(),
        prediction=first["prediction"].fill_null(-1).to_numpy(),
        correct=first["correct"].fill_null(value=False).to_numpy(),
        label_rank=first["label_rank"].fill_null(0).to_numpy(),
        confidence=first["confidence"].fill_null(np.nan).to_numpy(),
        exchange_flip=flips("exchange_flip"),
        elsewhere_flip=flips("elsewhere_flip"),
    )
