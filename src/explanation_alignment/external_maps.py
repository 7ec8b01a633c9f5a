"""Scores saliency maps computed elsewhere: no model is needed, and the run is like any other.

A map belongs to a sample by its name. Maps and annotations are brought to one size by one geometry.
"""

from __future__ import annotations

import collections
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from explanation_alignment import stopping
from explanation_alignment.batches import lost_worker
from explanation_alignment.binarization import Binarization, binarize
from explanation_alignment.errors import DatasetError, RunError, RunWarning, UnknownNameError, UsageError, first_line
from explanation_alignment.evaluation.units import cut
from explanation_alignment.geometry import Geometry
from explanation_alignment.known_predictions import Predictions
from explanation_alignment.map_sources import MapFolder, MapsInMemory, MapSource, nothing_fits
from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric
from explanation_alignment.metrics.scoring import score_maps
from explanation_alignment.progress import progress_bars, tell
from explanation_alignment.rescoring import rescore
from explanation_alignment.runs.environment import peak_memory
from explanation_alignment.runs.examples import Example, choose_examples, trim_examples, write_examples
from explanation_alignment.runs.identity import NUMERICS_VERSION
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.rows import ScoredUnit, score_rows
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.runs.sharing import end_once, put_in_order, share
from explanation_alignment.runs.writer import EvaluationWriter, RunWriter
from explanation_alignment.sample import AnnotatedDataset, Annotation, Heatmap, Sample
from explanation_alignment.sampling import sample_order
from explanation_alignment.specs import parse_call

__all__ = ["DEFAULT_GEOMETRY", "Covers", "score"]

#: What a map lies over: the whole image, or what the geometry leaves of it, as a network's input does.
Covers: TypeAlias = Literal["image", "crop"]

#: Where maps and annotations meet unless another geometry is given: the whole image, squashed.
DEFAULT_GEOMETRY: Final = Geometry(resize=(224, 224))
_UNIT_SIZE: Final = 1024
_BATCH_SIZE: Final = 64
_NAMED: Final = 5
_OK, _NO_ANNOTATION, _CROPPED, _ERROR = (
    STATUSES.index(status) for status in ("ok", "no_annotation", "annotation_cropped", "error")
)


def score(
    maps: str | Path | Mapping[str, Any] | Run,
    dataset: AnnotatedDataset,
    out: str | Path,
    *,
    model: str | None = None,
    method: str | None = None,
    binarization: str | None = None,
    predictions: str | Path | Mapping[str, Any] | None = None,
    geometry: Geometry = DEFAULT_GEOMETRY,
    covers: Covers = "image",
    target: str = "predicted",
    metrics: Sequence[str] | None = None,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 0,
    max_errors: float = 0.1,
    progress: bool = True,
) -> Run:
    """Score saliency maps that were computed elsewhere, or that a run kept, into a run folder.

    The same call resumes; maps of another model or method make the run grow.

    A run's maps (``save_maps`` of :func:`~explanation_alignment.evaluate`) bring their decisions along: keys, labels,
    predictions, target, sample, seed and geometry are the run's, and ``model`` and ``method`` choose among its own.
    With the binarization they had, maps kept as ``float32`` give the run's own scores again.

    Args:
        maps: a folder with a .npy, .npz (of one array) or .png (gray) file a sample, named by its id (``/`` as nested
            folders or as ``__``, an image's ending may be left out); a mapping from ids to arrays; or a run that kept
            its maps. A map is (h, w), real, of any size.
        dataset: anything with the :class:`~explanation_alignment.sample.AnnotatedDataset` protocol.
        out: the run folder, made if it is not there.
        model: what to call the model whose decisions the maps explain; ``"external"`` by default.
        method: what to call the method that made them; the same.
        binarization: from map to mask; ``"std:1"`` by default, of a run's maps what they had.
        predictions: a CSV file with the columns sample_id, prediction and, if known, confidence; or a mapping from ids
            to predictions. A prediction is a class index or name. Without it, what goes by correctness is null.
        geometry: brings annotations and maps to their common size; its result must be of one size for all images.
        covers: ``"image"``: a map lies over the whole image and goes through the geometry with it; ``"crop"``: over
            what the geometry leaves, and is only resized to it.
        target: which class the maps explain, as text for the ``target`` column.
        metrics: alignment metrics, a column each; the published ones by default, of a run's maps the run's.
        sample: score only so many samples, class-balanced and seeded; None for all.
        seed: part of every row's key; decides the sample.
        workers: processes that read ahead.
        max_errors: how many samples or maps may fail to be read before the run stops: a share if below 1, else a
            count. Samples without a map do not count; they are rows with the status ``error``.
        progress: show a progress bar, if stderr is a terminal.

    Returns:
        The run. ``run.evaluations[...]["details"]`` says how many samples have no map and which maps belong to none.

    Raises:
        UsageError: for arguments that cannot mean anything.
        DatasetError: the maps' folder or the predictions cannot be read, or no map belongs to any sample.
        RunError: if ``out`` cannot be written, holds another question, or too many samples fail.
    """
    kept = _run_of(maps)
    if kept is not None:
        _refuse_with_run(predictions, geometry, covers, target, sample, seed)
        return rescore(
            kept,
            dataset,
            out,
            model=model,
            method=method,
            binarization=binarization,
            metrics=metrics,
            workers=workers,
            progress=progress,
        )
    assert not isinstance(maps, Run)
    model, method, binarization = model or "external", method or "external", binarization or "std:1"
    metrics = DEFAULT_METRICS if metrics is None else metrics
    names = [get_metric(name).name for name in metrics]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"metrics: expected one or more different ones, got {', '.join(metrics) or 'none'}")
    if covers not in get_args(Covers):
        raise UnknownNameError("value of covers", str(covers), get_args(Covers))
    parse_call(method, "saliency method")
    rule = str(Binarization.parse(binarization))
    if not dataset.regions:
        raise UsageError(f"{dataset.name} has no annotated regions, so there is nothing to align with")
    ids = dataset.ids()
    order = sample_order(dataset, ids, sample, seed)
    source: MapSource = MapFolder(maps) if isinstance(maps, str | Path) else MapsInMemory(maps)
    places = source.places(ids)
    if not any(ids[place] in places for place in order):
        raise DatasetError(nothing_fits(source, dataset.name, ids))
    known = Predictions.read(predictions, dataset)
    reader = _Reader(
        dataset, ids, source, places, geometry, covers, any(get_metric(n).needs == "heatmap" for n in names)
    )
    used = {places[ids[place]] for place in order if ids[place] in places}
    unused = sorted(set(source.names()) - set(places.values()))
    question = {
        "model": model,
        "weights": source.digest(used),
        "geometry": json.loads(json.dumps(geometry.describe())),  # as it is read back, so that a run resumes
        "covers": covers,
        "predictions": None if known is None else known.digest(),
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "sample": sample,
        "seed": seed,
        "target": target,
        "metrics": names,
        "numerics_version": NUMERICS_VERSION,
    }
    details = {
        "unit_size": _UNIT_SIZE,
        "samples": len(order),
        "maps": str(source),
        "maps_missing": sum(ids[place] not in places for place in order),
        "maps_unused": len(unused),
        "maps_unused_first": unused[:_NAMED],
    }
    writer = RunWriter(out, toy=bool(getattr(dataset, "toy", False)))
    described = [{"method": method, "binarization": rule, "layer": None, "layer_shape": None}]
    evaluations = writer.begin(question, described, details)
    writer.record_dataset(
        dataset.name,
        {
            "fingerprint": dataset.fingerprint,
            "samples": len(dataset),
            "class_names": list(dataset.class_names),
            "regions": list(dataset.regions),
            "evidence": list(dataset.evidence),
            "toy": bool(getattr(dataset, "toy", False)),
        },
    )
    writer.record_model(_model_row(model, seed, question["weights"], geometry))
    attributes = {name: pa.array(values) for name, values in dataset.attributes().items()}
    key = {"model": model, "seed": seed, "dataset": dataset.name, "target": target}
    loop = _Loop(reader, known, key, method, rule, names, attributes, workers)
    for evaluation in evaluations:
        fresh = _work(loop, evaluation, order, max_errors, progress)
        end_once(evaluation, partial(_finish, loop, writer, evaluation), again=fresh)
    return open_run(out)


def _run_of(maps: object) -> Run | None:
    """The run that is meant by the maps; None where they come from elsewhere."""
    if isinstance(maps, Run):
        return maps
    return open_run(maps) if isinstance(maps, str | Path) and (Path(maps) / "run.json").is_file() else None


def _refuse_with_run(
    predictions: object, geometry: Geometry, covers: str, target: str, sample: int | None, seed: int
) -> None:
    """Refuse what a run's maps bring along themselves."""
    given = {
        "predictions": predictions is not None,
        "geometry": geometry != DEFAULT_GEOMETRY,
        "covers": covers != "image",
        "target": target != "predicted",
        "sample": sample is not None,
        "seed": seed != 0,
    }
    if named := [name for name, was in given.items() if was]:
        raise UsageError(f"{', '.join(named)}: come from the run that kept the maps; leave them out")


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """One sample with its map at the common size; R regions."""

    place: int
    label: int
    saliency: torch.Tensor
    annotations: torch.Tensor
    strengths: torch.Tensor
    status: torch.Tensor
    message: str | None
    unreadable: bool


class _Reader(Dataset[_Read]):
    """Reads samples and their maps; one that fails becomes a row with an error."""

    def __init__(
        self,
        dataset: AnnotatedDataset,
        ids: Sequence[str],
        source: MapSource,
        places: Mapping[str, str],
        geometry: Geometry,
        covers: Covers,
        strengths: bool,
    ) -> None:
        self.dataset, self.ids = dataset, ids
        self._source, self._places, self._geometry, self._covers = source, places, geometry, covers
        self._strengths = strengths
        self.size = self._size()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, place: int) -> _Read:
        name, label = self.ids[place], -1
        try:
            sample = self.dataset[place]
            label = -1 if sample.label is None else sample.label
            if name not in self._places:
                return self._failed(place, label, "no map of this name", unreadable=False)
            saliency = self._map(sample)
            return self._read(place, sample, label, saliency)
        except Exception as error:  # whatever a damaged file raises belongs in its row
            return self._failed(place, label, f"{type(error).__name__}: {first_line(error)}", unreadable=True)

    def example(self, place: int) -> tuple[Sample, _Read]:
        """A sample with what was read of it."""
        return self.dataset[place], self[place]

    def picture(self, sample: Sample) -> NDArray[np.uint8]:
        """The image at the common size, (H, W, 3)."""
        return np.asarray(self._geometry.image(sample.image.convert("RGB")))

    def _size(self) -> tuple[int, int]:
        if self._geometry.crop is not None:
            return self._geometry.crop
        if isinstance(self._geometry.resize, tuple) and self._geometry.fit == "squash":
            return self._geometry.resize
        raise UsageError("geometry: expected one that brings all images to one size: a crop, or (height, width)")

    def _map(self, sample: Sample) -> torch.Tensor:
        values = self._source.load(self._places[sample.id])
        height, width = sample.image.height, sample.image.width
        squashed = self._geometry == Geometry(resize=self.size)
        if self._covers == "crop" or squashed:
            return _resized(values, self.size)
        whole = _resized(values, (height, width)).numpy()
        return torch.from_numpy(self._geometry.heatmap(whole))

    def _read(self, place: int, sample: Sample, label: int, saliency: torch.Tensor) -> _Read:
        regions = self.dataset.regions
        masks = torch.zeros((len(regions), *self.size), dtype=torch.bool)
        strengths = torch.zeros((len(regions), *self.size) if self._strengths else (len(regions), 0, 0))
        status = torch.full((len(regions),), _NO_ANNOTATION)
        for at, region in enumerate(regions):
            annotation: Annotation | None = sample.annotations.get(region)
            if annotation is None:
                continue
            if annotation.size != (sample.image.height, sample.image.width):
                raise DatasetError(f"annotation {region!r} is of another size than the image")
            masks[at] = torch.from_numpy(self._geometry.annotation(annotation).copy())
            status[at] = _OK if masks[at].any() else _CROPPED
            if self._strengths:
                strengths[at] = (
                    torch.from_numpy(self._geometry.heatmap(annotation.strength))
                    if isinstance(annotation, Heatmap)
                    else masks[at].float()
                )
        return _Read(place, label, saliency, masks, strengths, status, None, False)

    def _failed(self, place: int, label: int, message: str, *, unreadable: bool) -> _Read:
        regions = len(self.dataset.regions)
        return _Read(
            place,
            label,
            torch.zeros(self.size),
            torch.zeros((regions, *self.size), dtype=torch.bool),
            torch.zeros((regions, *self.size) if self._strengths else (regions, 0, 0)),
            torch.full((regions,), _ERROR),
            message,
            unreadable,
        )


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> torch.Tensor:
    """A map brought to a size bilinearly, with antialiasing where it shrinks."""
    tensor = torch.from_numpy(values)
    if tensor.shape == size:
        return tensor
    return F.interpolate(tensor[None, None], size=size, mode="bilinear", align_corners=False, antialias=True)[0, 0]


@dataclass(frozen=True, slots=True)
class _Loop:
    """Reads, scores and tabulates samples."""

    reader: _Reader
    predictions: Predictions | None
    key: Mapping[str, Any]
    method: str
    binarization: str
    metrics: Sequence[str]
    attributes: Mapping[str, pa.Array]
    workers: int

    def read(self, places: Sequence[int]) -> Iterator[list[_Read]]:
        """Batch after batch."""
        batches = [list(places[start : start + _BATCH_SIZE]) for start in range(0, len(places), _BATCH_SIZE)]
        yield from DataLoader(
            self.reader,
            batch_sampler=batches,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # its workers' seeds are not taken from the global one
        )

    def table(self, places: Sequence[int], advance: Callable[[list[_Read]], None]) -> pa.Table:
        """The rows of samples at these places."""
        everything: list[_Read] = []
        scores, areas, flat, center = [], [], [], []
        for batch in self.read(places):
            annotations = torch.stack([one.annotations for one in batch], dim=1)
            strengths = torch.stack([one.strengths for one in batch], dim=1)
            saliency = torch.stack([one.saliency for one in batch])
            needed = strengths if strengths.shape[2] else None
            found = score_maps(saliency, self.binarization, annotations, self.metrics, needed)
            scores.append(torch.stack([found.values[name] for name in self.metrics], dim=1))
            shape = annotations.shape[:2]
            areas.append(torch.stack([found.annotation_area, found.salient_area.expand(shape)], dim=1))
            flat.append(found.flat)
            center.append(found.center_iou)
            none = torch.zeros(0)
            everything += [
                _Read(one.place, one.label, none, none, none, one.status, one.message, one.unreadable) for one in batch
            ]
            advance(batch)
        ids = [self.reader.ids[one.place] for one in everything]
        unknown = (-1, float("nan"))
        known = [(self.predictions.known if self.predictions else {}).get(name, unknown) for name in ids]
        prediction = np.array([place for place, _ in known])
        label = np.array([one.label for one in everything])
        area = torch.cat(areas, dim=2).numpy()
        not_tried = np.full((len(self.reader.dataset.regions), len(ids)), np.nan)
        unit = ScoredUnit(
            ids=ids,
            messages=[one.message for one in everything],
            label=label,
            correct=prediction == label,
            prediction=prediction,
            label_rank=np.zeros_like(prediction),
            confidence=np.array([confidence for _, confidence in known], dtype=np.float32),
            annotation_status=torch.stack([one.status for one in everything], dim=1).numpy(),
            flat=torch.cat(flat)[None].numpy(),
            scores=torch.cat(scores, dim=2)[None].numpy(),
            annotation_area=area[None, :, 0],
            salient_area=area[None, :, 1],
            map_size=self.reader.size,
            center_iou=torch.cat(center, dim=1)[None].numpy(),
            exchange_flip=not_tried,
            elsewhere_flip=not_tried,
        )
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

    def examples(self, places: Sequence[int]) -> Iterator[Example]:
        """The pictures of the decisions at these places."""
        key = (self.method, self.binarization)
        for place in places:
            sample, read = self.reader.example(place)

            def salient(at: int, read: _Read = read) -> NDArray[np.bool_]:
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


def _as_it_is(batch: list[_Read]) -> list[_Read]:
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


def _work(loop: _Loop, evaluation: EvaluationWriter, order: Sequence[int], max_errors: float, progress: bool) -> bool:
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

            def advance(batch: list[_Read]) -> None:
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


def _finish(loop: _Loop, writer: RunWriter, evaluation: EvaluationWriter) -> None:
    """Count the rows, keep examples, record the end."""
    rows = pl.read_parquet(evaluation.files)
    folder = writer.path / "examples" / evaluation.slug
    if not (folder / "decisions.parquet").is_file() and evaluation.record["finished"] is None:
        dataset = loop.reader.dataset
        chosen = choose_examples(rows, loop.metrics[0], [*dataset.evidence, *dataset.regions][0])
        place_of = {name: place for place, name in enumerate(loop.reader.ids)}
        write_examples(folder, loop.examples([place_of[name] for name in chosen]), rows)
    with writer.updating() as info:
        trim_examples(writer.path / "examples", list(info["evaluations"]))
    counts = collections.Counter(rows["status"].cast(pl.String).to_list())
    evaluation.finish(counts)  # last: whoever is killed before it does all of this again


def _model_row(model: str, seed: int, maps_digest: object, geometry: Geometry) -> dict[str, Any]:
    return {
        "model": model,
        "seed": seed,
        "spec": "maps",
        "weights_digest": maps_digest,
        "family": None,
        "parameters": None,
        "input_channels": None,
        "input_height": None,
        "input_width": None,
        "resize": None if geometry.resize is None else str(geometry.resize),
        "crop": None if geometry.crop is None else f"{geometry.crop[0]}x{geometry.crop[1]}",
        "interpolation": "bilinear",
        "layer": None,
    }
