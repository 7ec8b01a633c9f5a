"""Scores the maps that a run kept, by other binarizations or metrics: the model is not needed.

Keys, labels, predictions and what else is known of a decision come from the run's rows, annotations from the dataset,
brought to the maps' size by the geometry the run recorded.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray

from explanation_alignment import stopping
from explanation_alignment.batches import Batch, iterate_batches
from explanation_alignment.binarization import Binarization, binarize
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.datasets.positives import PositiveLabels
from explanation_alignment.datasets.shuffled import ShuffledAnnotations
from explanation_alignment.errors import DatasetError, RunError, UnknownNameError, UsageError
from explanation_alignment.evaluation.question import attribute_column, dataset_record, is_toy
from explanation_alignment.evaluation.units import cut
from explanation_alignment.geometry import Geometry
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.metrics.scoring import MapScores, score_maps
from explanation_alignment.progress import progress_bars, tell
from explanation_alignment.runs.environment import peak_memory
from explanation_alignment.runs.examples import Example, choose_examples, examples_each, trim_examples, write_examples
from explanation_alignment.runs.identity import NUMERICS_VERSION
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.rows import ScoredUnit, score_rows
from explanation_alignment.runs.saved_maps import MAP_KINDS, MapFiles, read_maps
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.runs.sharing import end_once, put_in_order, share
from explanation_alignment.runs.writer import EvaluationWriter, RunWriter
from explanation_alignment.sample import AnnotatedDataset
from explanation_alignment.sampling import sample_order

__all__ = ["rescore"]

_BATCH_SIZE: Final = 64
_OK, _ERROR = STATUSES.index("ok"), STATUSES.index("error")


def rescore(
    run: Run,
    dataset: AnnotatedDataset,
    out: str | Path,
    *,
    model: str | None = None,
    method: str | None = None,
    binarization: str | None = None,
    metrics: Sequence[str] | None = None,
    workers: int = 0,
    progress: bool = True,
) -> Run:
    """Score the maps that a run kept, into another run.

    The same call resumes; another binarization makes the run grow.

    Args:
        run: with maps, see ``save_maps`` of :func:`~explanation_alignment.evaluate`.
        dataset: that was evaluated; evaluations on others are passed over.
        out: the run folder, made if it is not there; not the one the maps are from.
        model: the maps of one model; all by default.
        method: the maps of one method, with its arguments as in the tables; all by default.
        binarization: from map to mask; each method's own by default.
        metrics: alignment metrics, a column each; the run's own by default.
        workers: processes that read ahead.
        progress: show a progress bar, if stderr is a terminal.

    Returns:
        The other run.

    Raises:
        UsageError: for arguments that cannot mean anything.
        UnknownNameError: the run has no such model or method, or there is no such metric or binarization.
        DatasetError: the run evaluated another dataset, or another version of it.
        RunError: maps are missing, or ``out`` cannot be written or holds another question.
    """
    if Path(out).resolve() == run.path.resolve():
        raise UsageError(f"--out {out} is the run the maps are from; choose another")
    rule = None if binarization is None else str(Binarization.parse(binarization))
    names = None if metrics is None else [get_metric(name).name for name in metrics]
    if names is not None and (not names or len(set(names)) < len(names)):
        raise UsageError(f"metrics: expected one or more different ones, got {', '.join(metrics or ()) or 'none'}")
    todo = [
        _Maps.of(run, slug, shown, method, rule, names) for slug, shown in _evaluations(run, dataset, model, method)
    ]
    writer = RunWriter(out, toy=is_toy(dataset))
    for one in todo:
        evaluations = writer.begin(one.question, one.described, one.details)
        counted = one.question["sample"] is not None
        writer.record_dataset(one.dataset.name, dataset_record(one.dataset, count_classes=counted))
        key = {name: one.question[name] for name in ("model", "seed")}
        writer.record_model(run.models().filter(**key).row(0, named=True))
        for evaluation in evaluations:
            held = {(item["method"], item["binarization"]) for item in evaluation.record["methods"]}
            loop = _Loop(one, [pair for pair in one.pairs if pair in held], workers)
            fresh = _work(loop, evaluation, progress)
            end_once(evaluation, partial(_finish, loop, writer, evaluation), again=fresh)
    return open_run(out)


def _evaluations(
    run: Run, dataset: AnnotatedDataset, model: str | None, method: str | None
) -> Iterator[tuple[str, AnnotatedDataset]]:
    """The run's evaluations of what is asked, each with the dataset as it was evaluated."""
    items = run.evaluations
    known = {item["question"]["model"] for item in items.values()}
    if model is not None and model not in known:
        raise UnknownNameError("model of this run", model, known)
    methods = {each["method"] for item in items.values() for each in item["methods"]}
    if method is not None and method not in methods:
        raise UnknownNameError("method of this run", method, methods)
    made: dict[str, AnnotatedDataset] = {dataset.name: dataset}
    found = 0
    for slug, item in items.items():
        question = item["question"]
        if model not in (None, question["model"]) or not _has(item, method):
            continue
        name = question["dataset"]
        if name not in made:
            view = _view(dataset, name)
            if view is None:
                continue
            made[name] = view
        if made[name].fingerprint != question["dataset_fingerprint"]:
            raise DatasetError(
                f"{name} is not as it was when {run.path} was made (fingerprint {made[name].fingerprint[:8]}, then "
                f"{question['dataset_fingerprint'][:8]}); give the same files and arguments"
            )
        found += 1
        yield slug, made[name]
    if not found:
        there = ", ".join(sorted({item["question"]["dataset"] for item in items.values()}))
        raise DatasetError(f"{run.path} holds nothing of these on {dataset.name}; it has {there or 'no evaluation'}")


def _has(item: Mapping[str, Any], method: str | None) -> bool:
    return method is None or any(each["method"] == method for each in item["methods"])


def _view(dataset: AnnotatedDataset, name: str) -> AnnotatedDataset | None:
    """The dataset under another name that an evaluation made of it; None where that is none of its names."""
    base, *views = name.split("~")
    if base != dataset.name:
        return None
    for view in views:
        dataset = PositiveLabels(dataset) if view == "positives" else ShuffledAnnotations(dataset)
    return dataset if dataset.name == name else None


@dataclass(frozen=True, slots=True, eq=False)
class _Maps:
    """The kept maps of one evaluation, and what they are to be scored by.

    Args:
        run: that holds them.
        slug: the evaluation's folder.
        dataset: as it was evaluated.
        question: that is answered now.
        pairs: methods and binarizations.
        described: the same as the run records them.
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
    ) -> _Maps:
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
                described.setdefault((each["method"], binarization), {**each, "binarization": binarization})
        asked = {
            **question,
            "metrics": list(metrics or question["metrics"]),
            "maps": f"{kind} of {item['identity'][:16]}",
            "numerics_version": NUMERICS_VERSION,
        }
        details = {"unit_size": size, "batch_size": _BATCH_SIZE, "device": "cpu", "samples": len(order)}
        details["maps"] = str(run.path)
        return cls(run, slug, dataset, asked, list(described), list(described.values()), details, units, files)

    @property
    def preprocessing(self) -> Preprocessing:
        """What the images went through."""
        asked = self.question
        size, geometry = tuple(asked["input_size"]), Geometry(**asked["geometry"])
        return Preprocessing(size, geometry, tuple(asked["mean"]), tuple(asked["std"]))


class _Loop:
    """Reads, scores and tabulates units.

    Args:
        maps: of the evaluation.
        pairs: methods and binarizations.
        workers: processes that read ahead.
    """

    def __init__(self, maps: _Maps, pairs: Sequence[tuple[str, str]], workers: int) -> None:
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

    def table(self, unit: int) -> pa.Table:
        """The rows of a unit."""
        places = self.maps.units[unit]
        decisions = _Decisions.of(self.maps, unit, [self.ids[place] for place in places])
        stored = read_maps(self.maps.files.path(unit), methods=self._methods)
        scored: list[list[MapScores]] = []
        given, messages = [], list(decisions.messages)
        start = 0
        for batch in self.batches(places, strengths=self._strengths):
            here = slice(start, start + len(batch.ids))
            saliency = self._saliency(stored, batch, unit)
            scored.append(
                [
                    score_maps(saliency[method], rule, batch.annotations, self.metrics, batch.strengths)
                    for method, rule in self.pairs
                ]
            )
            for at, message in batch.errors.items():
                messages[start + at] = messages[start + at] or message
            given.append(batch.annotation_status)
            start = here.stop
        status = torch.cat(given, dim=1).numpy()
        status[:, [message is not None for message in messages]] = _ERROR
        return self._tabulated(decisions, messages, status, scored, places)

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

    def _tabulated(
        self,
        decisions: _Decisions,
        messages: Sequence[str | None],
        status: NDArray[np.integer],
        scored: Sequence[Sequence[MapScores]],
        places: Sequence[int],
    ) -> pa.Table:
        def joined(batches: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.cat(list(batches), dim=-1)

        shape = status.shape
        per_method = [[batch[at] for batch in scored] for at in range(len(self.pairs))]
        salient = [
            joined([one.salient_area.expand(one.annotation_area.shape) for one in batches]).numpy()
            for batches in per_method
        ]
        unit = ScoredUnit(
            ids=[self.ids[place] for place in places],
            messages=messages,
            label=decisions.label,
            correct=decisions.correct,
            prediction=decisions.prediction,
            label_rank=decisions.label_rank,
            confidence=decisions.confidence,
            annotation_status=status,
            flat=np.stack([joined([one.flat for one in batches]).numpy() for batches in per_method]),
            scores=np.stack(
                [
                    np.stack([joined([one.values[name] for one in batches]).numpy() for name in self.metrics], axis=1)
                    for batches in per_method
                ]
            ),
            annotation_area=np.stack(
                [joined([one.annotation_area for one in batches]).numpy() for batches in per_method]
            ),
            salient_area=np.stack(salient).reshape(len(self.pairs), *shape),
            map_size=self.maps.preprocessing.input_size[1:],
            center_iou=np.stack([joined([one.center_iou for one in batches]).numpy() for batches in per_method]),
            exchange_flip=decisions.exchange_flip,
            elsewhere_flip=decisions.elsewhere_flip,
        )
        where = pa.array(places)
        return score_rows(
            unit,
            key={name: self.maps.question[name] for name in ("model", "seed", "dataset", "target")},
            methods=self.pairs,
            regions=list(self.maps.dataset.regions),
            metrics=self.metrics,
            attributes={name: values.take(where) for name, values in self._attributes.items()},
        )

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
        for batch in self.batches(places, strengths=False):
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


@dataclass(frozen=True, slots=True, eq=False)
class _Decisions:
    """What a unit's rows say of its N decisions, for R regions; as :class:`~.runs.rows.ScoredUnit` takes it."""

    messages: Sequence[str | None]
    label: NDArray[np.integer]
    prediction: NDArray[np.integer]
    correct: NDArray[np.bool_]
    label_rank: NDArray[np.integer]
    confidence: NDArray[np.floating]
    exchange_flip: NDArray[np.floating]
    elsewhere_flip: NDArray[np.floating]

    @classmethod
    def of(cls, maps: _Maps, unit: int, ids: Sequence[str]) -> _Decisions:
        """Read them.

        Raises:
            RunError: the unit's rows are not there, or are of other samples.
        """
        run, item = maps.run, maps.run.evaluations[maps.slug]
        method = item["methods"][0]
        with run.reading():
            rows = (
                run.scan_scores([maps.slug])
                .with_columns(pl.col("method", "binarization", "region").cast(pl.String))
                .filter(
                    pl.col("method") == method["method"],
                    pl.col("binarization") == method["binarization"],
                    pl.col("sample_id").is_in(list(ids)),
                )
                .collect()
            )
        by_region = {
            region: pl.DataFrame({"sample_id": ids}).join(part, on="sample_id", how="left", maintain_order="left")
            for region in maps.dataset.regions
            if (part := rows.filter(pl.col("region") == region)).height == len(ids)
        }
        if len(by_region) < len(maps.dataset.regions):
            raise RunError(f"{run.path}: rows of unit {unit} of {maps.slug} are missing; see `ealign verify`")
        first = next(iter(by_region.values()))

        def flips(name: str) -> NDArray[np.floating]:
            return np.stack([part[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for part in by_region.values()])

        return cls(
            messages=first["message"].to_list(),
            label=first["label"].fill_null(-1).to_numpy(),
            prediction=first["prediction"].fill_null(-1).to_numpy(),
            correct=first["correct"].fill_null(value=False).to_numpy(),
            label_rank=first["label_rank"].fill_null(0).to_numpy(),
            confidence=first["confidence"].fill_null(np.nan).to_numpy(),
            exchange_flip=flips("exchange_flip"),
            elsewhere_flip=flips("elsewhere_flip"),
        )


def _work(loop: _Loop, evaluation: EvaluationWriter, progress: bool) -> bool:
    """Write the units that are missing; whether there were any."""
    units, fresh = loop.maps.units, False
    each = len(evaluation.record["methods"]) * len(loop.maps.dataset.regions)
    owed = {unit: len(places) * each for unit, places in units.items()}
    missing = put_in_order(evaluation, owed)
    if missing and len(loop.pairs) < len(evaluation.record["methods"]):
        known = " and ".join(f"{item['method']} ({item['binarization']})" for item in evaluation.record["methods"])
        raise RunError(f"{evaluation.run.path} has the rows of {known} together and lacks some; ask for both at once")
    total = sum(map(len, units.values()))
    with progress_bars(enabled=progress and bool(missing)) as bars:
        name = f"{loop.maps.question['model']} on {loop.maps.dataset.name}"
        left = sum(len(units[unit]) for unit in missing)
        bar = bars.add_task(name, total=total, completed=total - left, note="")

        def compute(unit: int) -> None:
            nonlocal fresh
            began = time.monotonic()
            with stopping.gently():
                table = loop.table(unit)
            evaluation.write(unit, table, {"seconds": round(time.monotonic() - began, 3), **peak_memory()})
            fresh = True
            bars.advance(bar, len(units[unit]))

        share(evaluation, owed, list(units), compute, say=partial(tell, bars) if progress else None)
    return fresh


def _finish(loop: _Loop, writer: RunWriter, evaluation: EvaluationWriter) -> None:
    """Count the rows, keep examples, record the end."""
    rows = pl.read_parquet(evaluation.files)
    folder = writer.path / "examples" / evaluation.slug
    if not (folder / "decisions.parquet").is_file() and evaluation.record["finished"] is None:
        dataset = loop.maps.dataset
        with writer.updating() as info:
            wanted = examples_each(len(info["evaluations"]))
        chosen = choose_examples(rows, loop.metrics[0], [*dataset.evidence, *dataset.regions][0], wanted)
        if chosen:
            write_examples(folder, loop.examples(chosen), rows)
    with writer.updating() as info:
        trim_examples(writer.path / "examples", list(info["evaluations"]))
    counts = collections.Counter(rows["status"].cast(pl.String).to_list())
    evaluation.finish(counts)  # last: whoever is killed before it does all of this again
