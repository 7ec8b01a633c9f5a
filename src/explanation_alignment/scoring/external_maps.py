"""Scores saliency maps computed elsewhere: the run is like any other.

A map belongs to a sample by its name. Maps and annotations are brought to one size by one geometry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

from explanation_alignment.binarization import Binarization
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError
from explanation_alignment.evaluation.question import attribute_column, dataset_record, geometry_columns, is_toy
from explanation_alignment.evaluation.units import cut
from explanation_alignment.geometry import Geometry
from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric
from explanation_alignment.runs.ending import end_evaluation
from explanation_alignment.runs.identity import NUMERICS_VERSION
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.sharing import end_once
from explanation_alignment.runs.working import Unread
from explanation_alignment.runs.writer import RunWriter
from explanation_alignment.sample import AnnotatedDataset
from explanation_alignment.sampling import sample_order
from explanation_alignment.scoring.external_loop import ExternalMaps
from explanation_alignment.scoring.external_reading import Covers, SampleReader
from explanation_alignment.scoring.kept_maps import rescore
from explanation_alignment.scoring.known_predictions import Predictions
from explanation_alignment.scoring.map_sources import MapFolder, MapsInMemory, MapSource, nothing_fits
from explanation_alignment.scoring.working import score_units
from explanation_alignment.specs import parse_call

__all__ = ["DEFAULT_GEOMETRY", "Covers", "score"]

#: Where maps and annotations meet unless another geometry is given: the whole image, squashed.
DEFAULT_GEOMETRY: Final = Geometry(resize=(224, 224))
_UNIT_SIZE: Final = 1024
_NAMED: Final = 5

#: Samples or maps that may fail to be read, as a share, unless told otherwise.


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
            to predictions. A prediction is a class index or name; where names are numbers, a word that is the name of
            one class and the index of another is refused, an integer is an index. Without it, what goes by correctness
            is null.
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
            max_errors=max_errors,
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
    reader = SampleReader(
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
    attributes = {name: attribute_column(dataset.name, name, values) for name, values in dataset.attributes().items()}
    writer = RunWriter(out, toy=is_toy(dataset))
    described = [{"method": method, "binarization": rule, "layer": None, "layer_shape": None}]
    evaluations = writer.begin(question, described, details)
    writer.record_dataset(dataset.name, dataset_record(dataset, count_classes=sample is not None))
    writer.record_model(_model_row(model, seed, question["weights"], geometry))
    key = {"model": model, "seed": seed, "dataset": dataset.name, "target": target}
    unread = Unread(max_errors, "samples or maps")
    for evaluation in evaluations:
        units = cut(order, evaluation.record["details"]["unit_size"])
        loop = ExternalMaps(reader, units, known, key, method, rule, names, attributes, workers)
        bar = f"{model} on {dataset.name}"
        fresh = score_units(loop, evaluation, units, len(dataset.regions), unread, bar, progress)
        end_once(evaluation, partial(end_evaluation, writer, evaluation, dataset, names[0], loop.examples), again=fresh)
    return open_run(out)


def _run_of(maps: object) -> Run | None:
    """The run that is meant by the maps; None where they come from elsewhere."""
    if isinstance(maps, Run):
        return maps
    return open_run(maps) if isinstance(maps, str | Path) and (Path(maps) / "run.json").is_file() else None


def _refuse_with_run(
    predictions: object,
    geometry: Geometry,
    covers: str,
    target: str,
    sample: int | None,
    seed: int,
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
        **geometry_columns(geometry),
        "layer": None,
    }
