"""The loop: the only place where dataset, classifier, saliency methods and metrics meet.

The samples are cut into fixed units; a unit is computed in batches, each with one forward and one
backward pass, scored on the classifier's device, and written as one part of the run.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
import torch

from explanation_alignment.batches import Batch, iterate_batches
from explanation_alignment.binarization import binarize
from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.datasets.base import labels_of
from explanation_alignment.errors import ModelError, RunError, UsageError, first_line
from explanation_alignment.interventions import elsewhere, exchanged, partners
from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric
from explanation_alignment.metrics.scoring import score_maps
from explanation_alignment.progress import progress_bars
from explanation_alignment.runs.examples import Example, choose_examples, trim_examples, write_examples
from explanation_alignment.runs.identity import NUMERICS_VERSION
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.rows import ScoredUnit, score_rows
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.runs.writer import EvaluationWriter, RunWriter
from explanation_alignment.saliency.base import Method, MethodRequest, Output
from explanation_alignment.saliency.explainer import Explainer
from explanation_alignment.saliency.passes import DEFAULT_CHUNK
from explanation_alignment.saliency.single_pass import PassResult
from explanation_alignment.sample import AnnotatedDataset, AttributeValue
from explanation_alignment.sampling import sample_order

__all__ = ["DEFAULT_METHODS", "evaluate"]

#: The published pair.
DEFAULT_METHODS: Final = ("vanilla_gradients", "gradcam")
#: Samples a work unit has: what a killed run loses at most, and the least a shard can take.
UNIT_SIZE: Final = 1024

_OK = STATUSES.index("ok")


def evaluate(
    classifier: Classifier,
    dataset: AnnotatedDataset,
    methods: Sequence[Method] = DEFAULT_METHODS,
    out: str | Path = "runs/evaluation",
    *,
    target: str = "predicted",
    output: Output = "logit",
    metrics: Sequence[str] = DEFAULT_METRICS,
    batch_size: int = 32,
    chunk: int = DEFAULT_CHUNK,
    sample: int | None = None,
    seed: int = 0,
    workers: int = 0,
    shard: str | None = None,
    max_errors: float = 0.1,
    intervene: bool = False,
    experiment: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Run:
    """Explain and score a classifier's decisions on an annotated dataset, into a run folder.

    Call it again with another classifier or dataset and the run grows; the same call resumes what is
    missing and changes nothing that is there.

    Args:
        classifier: whose decisions.
        dataset: anything with the :class:`~explanation_alignment.sample.AnnotatedDataset` protocol.
        methods: saliency methods with their arguments, such as
            ``"gradcam(layer=last_conv, binarize=threshold:0.4)"``, ``"file:PATH.py:FUNCTION"``, or functions
            (classifier, images, targets) -> maps (B, H, W).
        out: the run folder, made if it is not there.
        target: the explained class: ``"predicted"``, ``"label"``, or a class index as text.
        output: what is differentiated: the class's ``"logit"`` or its ``"log_prob"`` (log-softmax).
        metrics: alignment metrics, a column each.
        batch_size: decisions explained at once. Changes speed and memory, not the question asked.
        chunk: inputs at once, at most, where a method makes many of one image; the same holds for it.
        sample: evaluate only so many samples, class-balanced and seeded; None for all.
        seed: part of every row's key; decides the sample.
        workers: processes that decode images ahead.
        shard: ``"I/N"``: work only on every N-th unit, from the I-th (1 to N) on. Shards may run at once.
        max_errors: how many samples may fail to read before the run stops: a share if below 1, else a count.
        intervene: also exchange each region's content with that of an image of another label, and as many pixels
            elsewhere as a control, and record whether the prediction changed: two more forward passes a region. It
            is what lets :func:`~explanation_alignment.reliance` confirm a shortcut.
        experiment: name and settings of the experiment the run belongs to.
        progress: show a progress bar, if stderr is a terminal.

    Returns:
        The run. Whether all of it is there, ``run.unfinished`` tells.

    Raises:
        UsageError: for arguments that cannot mean anything.
        ModelError: if the classifier cannot be run or explained as asked.
        RunError: if ``out`` cannot be written, holds another question, or too many samples fail.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size: expected at least 1, got {batch_size}")
    requests = _parse_methods(methods)
    names = [get_metric(name).name for name in metrics]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"metrics: expected one or more different ones, got {', '.join(metrics) or 'none'}")
    ids = dataset.ids()
    order = sample_order(dataset, ids, sample, seed)
    if not dataset.regions:
        raise UsageError(f"{dataset.name} has no annotated regions, so there is nothing to align with")
    first = Explainer(classifier, requests, output=output, target=target, chunk=chunk)
    with first:
        described = [_describe(request, first) for request in requests]
    writer = RunWriter(out, experiment=experiment, toy=_is_toy(dataset))
    question = _question(classifier, dataset, sample, seed, target, output, names, intervene)
    details = {
        "unit_size": UNIT_SIZE,
        "batch_size": batch_size,
        "device": str(classifier.device),
        "samples": len(order),
    }
    evaluations = writer.begin(question, described, details)  # refuses another question before anything is changed
    writer.record_dataset(dataset.name, _dataset_record(dataset))
    writer.record_model(_model_row(classifier, described, seed))
    attributes = {name: _column(dataset.name, name, values) for name, values in dataset.attributes().items()}
    strengths = any(get_metric(name).needs == "heatmap" for name in names)
    reading = _Reading(dataset, ids, attributes, batch_size, workers, strengths)
    labels = labels_of(dataset) if intervene else None
    for evaluation in evaluations:
        held = {(item["method"], item["binarization"]) for item in evaluation.record["methods"]}
        wanted = [request for request in requests if (request.canonical, request.binarization) in held]
        other = Explainer(classifier, wanted, output=output, target=target, chunk=chunk)
        with first if wanted == requests else other as explainer:  # the first one knows its layers
            loop = _Loop(classifier, reading, explainer, wanted, names, target, seed, labels)
            if _work(loop, evaluation, order, shard, max_errors, progress):
                _finish(loop, writer, evaluation)
    return open_run(out)


@dataclass(frozen=True, slots=True)
class _Reading:
    """How samples are read."""

    dataset: AnnotatedDataset
    ids: Sequence[str]
    attributes: Mapping[str, pa.Array]
    batch_size: int
    workers: int
    strengths: bool

    def batches(self, places: Sequence[int], classifier: Classifier) -> Iterator[Batch]:
        cut = [places[start : start + self.batch_size] for start in range(0, len(places), self.batch_size)]
        return iterate_batches(
            self.dataset, self.ids, cut, classifier.preprocessing, workers=self.workers, strengths=self.strengths
        )


@dataclass(frozen=True, slots=True)
class _Scored:
    """What a batch came to, for M methods, R regions, K metrics and B samples; no map is kept."""

    ids: Sequence[str]
    labels: torch.Tensor  # (B,) int64, -1 for none
    given: torch.Tensor  # (R, B) int64, the annotations' status
    errors: Mapping[int, str]
    size: tuple[int, int]
    decisions: torch.Tensor  # (2, B) int64: prediction, rank of the label
    confidence: torch.Tensor  # (B,) float32
    scores: torch.Tensor  # (M, R, K, B) float32, NaN where undefined
    areas: torch.Tensor  # (M, R, 2, B) int32: annotation, salient
    flat: torch.Tensor  # (M, B) bool
    center_iou: torch.Tensor  # (M, R, B) float32, NaN where undefined
    flips: torch.Tensor  # (2, R, B) float32: by the region's exchange, by one elsewhere; NaN where not tried


@dataclass(frozen=True, slots=True)
class _Loop:
    """Explains, scores and tabulates samples."""

    classifier: Classifier
    reading: _Reading
    explainer: Explainer
    requests: Sequence[MethodRequest]
    metrics: Sequence[str]
    target: str
    seed: int
    labels: Sequence[int | None] | None
    """Of the whole dataset; None unless the evaluation intervenes."""

    def scored(self, places: Sequence[int]) -> Iterator[_Scored]:
        """One scored batch after another for samples at these places of the dataset."""
        batches = self.reading.batches(places, self.classifier)
        if self.labels is None:
            for batch in batches:
                yield self._score(batch, self._explain(batch), None)
            return
        others = partners(self.reading.ids, self.labels, places, self.seed)
        for batch, partner in zip(batches, self.reading.batches(others, self.classifier), strict=True):
            yield self._score(batch, self._explain(batch), partner)

    def table(self, places: Sequence[int], scored: Sequence[_Scored]) -> pa.Table:
        """The rows of scored batches, brought to the CPU together."""
        dataset = self.reading.dataset
        prediction, rank = torch.cat([part.decisions for part in scored], dim=1).cpu().numpy()
        areas = torch.cat([part.areas for part in scored], dim=3).cpu().numpy()
        flips = torch.cat([part.flips for part in scored], dim=2).cpu().numpy()
        unit = ScoredUnit(
            ids=[name for part in scored for name in part.ids],
            messages=[part.errors.get(at) for part in scored for at in range(len(part.ids))],
            label=torch.cat([part.labels for part in scored]).numpy(),
            prediction=prediction,
            label_rank=rank,
            confidence=torch.cat([part.confidence for part in scored]).cpu().numpy(),
            annotation_status=torch.cat([part.given for part in scored], dim=1).numpy(),
            flat=torch.cat([part.flat for part in scored], dim=1).cpu().numpy(),
            scores=torch.cat([part.scores for part in scored], dim=3).cpu().numpy(),
            annotation_area=areas[:, :, 0],
            salient_area=areas[:, :, 1],
            map_size=scored[0].size,
            center_iou=torch.cat([part.center_iou for part in scored], dim=2).cpu().numpy(),
            exchange_flip=flips[0],
            elsewhere_flip=flips[1],
        )
        where = pa.array(places)
        return score_rows(
            unit,
            key={"model": self.classifier.name, "seed": self.seed, "dataset": dataset.name, "target": self.target},
            methods=[(request.canonical, request.binarization) for request in self.requests],
            regions=list(dataset.regions),
            metrics=self.metrics,
            attributes={name: values.take(where) for name, values in self.reading.attributes.items()},
        )

    def examples(self, places: Sequence[int]) -> Iterator[Example]:
        """The pictures of the decisions at these places."""
        regions = self.reading.dataset.regions
        for batch in self.reading.batches(places, self.classifier):
            maps = self._explain(batch).maps
            keys = [(request.canonical, request.binarization) for request in self.requests]
            saliency = {key: batch_maps.cpu().numpy() for key, batch_maps in zip(keys, maps, strict=True)}
            salient = {
                (*key, region): binarize(batch_maps.cpu(), key[1], annotation=batch.annotations[at]).numpy()
                for key, batch_maps in zip(keys, maps, strict=True)
                for at, region in enumerate(regions)
            }
            annotated = (batch.annotation_status == _OK).numpy()
            for place, name in enumerate(batch.ids):
                yield Example(
                    sample_id=name,
                    image=batch.images[place].permute(1, 2, 0).numpy(),
                    annotations={
                        region: batch.annotations[at, place].numpy() if annotated[at, place] else None
                        for at, region in enumerate(regions)
                    },
                    saliency={key: values[place] for key, values in saliency.items()},
                    salient={key: values[place] for key, values in salient.items()},
                )

    def _explain(self, batch: Batch) -> PassResult:
        device = self.classifier.device
        images = self._images(batch)
        labels = batch.labels.clamp(min=0).to(device, non_blocking=True)  # a sample that failed has none
        if self.target == "label" and (batch.labels < 0).sum() > len(batch.errors):
            raise UsageError(f"target label: {self.reading.dataset.name} has samples without a label")
        result = self.explainer(images, labels, batch.ids)
        classes = result.logits.shape[1]
        if int(batch.labels.max()) >= classes:
            raise ModelError(
                f"{self.reading.dataset.name} has the label {int(batch.labels.max())}, "
                f"{self.classifier.name} has outputs 0..{classes - 1}"
            )
        return result

    def _images(self, batch: Batch) -> torch.Tensor:
        return self.classifier.preprocessing.normalise(batch.images.to(self.classifier.device, non_blocking=True))

    def _flips(self, batch: Batch, prediction: torch.Tensor, partner: Batch | None) -> torch.Tensor:
        """Whether exchanging each region's content, or as much elsewhere, changes the prediction: (2, R, B)."""
        flips = torch.full((2, *batch.annotation_status.shape), torch.nan, device=prediction.device)
        if partner is None:
            return flips
        images, others = self._images(batch), self._images(partner)
        regions = batch.annotations.to(prediction.device)
        dataset = self.reading.dataset
        is_evidence = torch.tensor([region in dataset.evidence for region in dataset.regions], device=regions.device)
        evidence = (regions & is_evidence[:, None, None, None]).any(dim=0)
        avoid = evidence & ~is_evidence[:, None, None, None]
        for arm, masks in enumerate((regions, elsewhere(regions, avoid, batch.ids, self.seed))):
            for region, mask in enumerate(masks):
                changed = self.explainer.predict(exchanged(images, others, mask)) != prediction
                flips[arm, region] = changed.to(flips.dtype)
        unread = torch.tensor([place in partner.errors for place in range(len(batch.ids))])
        tried = (batch.annotation_status == _OK) & ~unread & (batch.labels >= 0)
        return flips.masked_fill(~tried.to(flips.device), torch.nan)

    def _score(self, batch: Batch, result: PassResult, partner: Batch | None) -> _Scored:
        device = self.classifier.device
        annotations = batch.annotations.to(device, non_blocking=True)
        strengths = None if batch.strengths is None else batch.strengths.to(device, non_blocking=True)
        per_method = [
            score_maps(maps, request.binarization, annotations, self.metrics, strengths)
            for request, maps in zip(self.requests, result.maps, strict=True)
        ]
        own = result.logits.gather(1, batch.labels.clamp(min=0).to(device)[:, None])
        rank = (result.logits > own).sum(dim=1) + 1
        shape = annotations.shape[:2]
        return _Scored(
            ids=batch.ids,
            labels=batch.labels,
            given=batch.annotation_status,
            errors=batch.errors,
            size=(batch.images.shape[2], batch.images.shape[3]),
            decisions=torch.stack([result.prediction, rank]),
            confidence=self.classifier.probabilities(result.logits).amax(dim=1),
            scores=torch.stack([torch.stack([m.values[name] for name in self.metrics], dim=1) for m in per_method]),
            areas=torch.stack(
                [torch.stack([m.annotation_area, m.salient_area.expand(shape)], dim=1) for m in per_method]
            ),
            flat=torch.stack([m.flat for m in per_method]),
            center_iou=torch.stack([m.center_iou for m in per_method]),
            flips=self._flips(batch, result.prediction, partner),
        )


def _work(
    loop: _Loop,
    evaluation: EvaluationWriter,
    order: Sequence[int],
    shard: str | None,
    max_errors: float,
    progress: bool,
) -> bool:
    """Write the units that are missing; whether all of the evaluation's are there then."""
    size = evaluation.record["details"]["unit_size"]
    units = {number: order[start : start + size] for number, start in enumerate(range(0, len(order), size))}
    rows_each = len(loop.requests) * len(loop.reading.dataset.regions)
    owed = {number: len(places) * rows_each for number, places in units.items()}
    missing = evaluation.missing(owed)
    errors: list[str] = []
    limit = max_errors * len(order) if max_errors < 1 else max_errors
    with progress_bars(enabled=progress and bool(missing)) as bars:
        name = f"{loop.classifier.name} on {loop.reading.dataset.name}"
        bar = bars.add_task(name, total=len(order), completed=len(order) - sum(len(units[u]) for u in missing), note="")
        for number in missing:
            if not _in_shard(number, shard):
                continue
            scored, unread = [], 0
            for part in loop.scored(units[number]):
                scored.append(part)
                unread += len(part.errors)
                errors += [f"{part.ids[place]}: {message}" for place, message in part.errors.items()]
                bars.advance(bar, len(part.ids))
            stop = len(errors) > limit
            if not (stop and unread == len(units[number])):  # nothing but failures is nothing to keep
                evaluation.write(number, loop.table(units[number], scored))
            if stop:
                raise RunError(
                    f"{len(errors)} samples of {loop.reading.dataset.name} could not be read (limit {max_errors:g}), "
                    f"first: {errors[0]}; what is scored is kept, raise --max-errors to go on"
                )
    return not evaluation.missing(owed)


def _finish(loop: _Loop, writer: RunWriter, evaluation: EvaluationWriter) -> None:
    """Count the rows, keep examples, record the end."""
    parts = sorted(evaluation.folder.glob("unit-*.parquet"))
    rows = pl.read_parquet(parts)
    counts = collections.Counter(rows["status"].cast(pl.String).to_list())
    folder = writer.path / "examples" / evaluation.slug
    if not folder.is_dir() and evaluation.record["finished"] is None:
        dataset = loop.reading.dataset
        chosen = choose_examples(rows, loop.metrics[0], [*dataset.evidence, *dataset.regions][0])
        place_of = {name: place for place, name in enumerate(loop.reading.ids)}
        write_examples(folder, loop.examples([place_of[name] for name in chosen]), rows)
    evaluation.finish(counts)
    with writer.updating() as info:
        trim_examples(writer.path / "examples", list(info["evaluations"]))


def _parse_methods(methods: Sequence[Method]) -> list[MethodRequest]:
    if isinstance(methods, str):
        raise UsageError(f"methods: expected a list of methods, got the text {methods!r}")
    requests = [MethodRequest.parse(method) for method in methods]
    keys = [(request.canonical, request.binarization) for request in requests]
    if not keys:
        raise UsageError("methods: expected at least one")
    for key, count in collections.Counter(keys).items():
        if count > 1:
            raise UsageError(f"methods: {key[0]} with {key[1]} was given {count} times")
    return requests


def _in_shard(unit: int, shard: str | None) -> bool:
    if shard is None:
        return True
    part, slash, parts = shard.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"shard: expected I/N with 1 <= I <= N, such as 2/8, got {shard!r}")
    return unit % int(parts) == int(part) - 1


def _column(dataset: str, name: str, values: Sequence[AttributeValue]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UsageError(f"attribute {name!r} of {dataset} mixes types of values ({first_line(error)})") from error


def _is_toy(dataset: AnnotatedDataset) -> bool:
    return bool(getattr(dataset, "toy", False))


def _describe(request: MethodRequest, explainer: Explainer) -> dict[str, Any]:
    layer = explainer.layers.get(request.canonical)
    return {
        "method": request.canonical,
        "binarization": request.binarization,
        "layer": None if layer is None else layer.name,
        "layer_shape": None if layer is None else list(layer.shape),
        **({} if request.source is None else {"source": request.source}),
    }


def _dataset_record(dataset: AnnotatedDataset) -> dict[str, Any]:
    return {
        "fingerprint": dataset.fingerprint,
        "samples": len(dataset),
        "class_names": list(dataset.class_names),
        "regions": list(dataset.regions),
        "evidence": list(dataset.evidence),
        "toy": _is_toy(dataset),
    }


def _question(
    classifier: Classifier,
    dataset: AnnotatedDataset,
    sample: int | None,
    seed: int,
    target: str,
    output: Output,
    metrics: Sequence[str],
    intervene: bool,
) -> dict[str, Any]:
    """Everything that changes numbers, but the methods, which are the identity's other half."""
    preprocessing = classifier.preprocessing
    return {
        "model": classifier.name,
        "weights": classifier.weights_digest(),
        "input_size": list(preprocessing.input_size),
        "geometry": preprocessing.geometry.describe(),
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "sample": sample,
        "seed": seed,
        "target": target,
        "output": output,
        "metrics": list(metrics),
        "numerics_version": NUMERICS_VERSION,
        **({"intervene": True} if intervene else {}),
    }


def _model_row(classifier: Classifier, methods: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    channels, height, width = classifier.preprocessing.input_size
    geometry = classifier.preprocessing.geometry
    layers = sorted({method["layer"] for method in methods if method["layer"] is not None})
    return {
        "model": classifier.name,
        "seed": seed,
        "spec": classifier.spec,
        "weights_digest": classifier.weights_digest(),
        "family": classifier.family,
        "parameters": classifier.parameters,
        "input_channels": channels,
        "input_height": height,
        "input_width": width,
        "resize": None if geometry.resize is None else str(geometry.resize),
        "crop": None if geometry.crop is None else f"{geometry.crop[0]}x{geometry.crop[1]}",
        "interpolation": geometry.interpolation,
        "fit": geometry.fit,
        "layer": ", ".join(layers) or None,
    }
