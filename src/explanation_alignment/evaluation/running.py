"""The whole of an evaluation: what is asked is registered, what is missing worked on, what ends it recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from explanation_alignment.batches import Batch, reads_whole_batches
from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.datasets.base import labelled, labels_of
from explanation_alignment.datasets.positives import PositiveLabels
from explanation_alignment.decoded import DecodedCache, DecodedImages
from explanation_alignment.errors import UsageError, first_line
from explanation_alignment.evaluation import units
from explanation_alignment.evaluation.deciding import Decider
from explanation_alignment.evaluation.fitting import check_classifier, refuse_misfit, spare_outputs
from explanation_alignment.evaluation.keeping import MapKeeper, size_of_maps
from explanation_alignment.evaluation.memory import is_out_of_memory, too_large
from explanation_alignment.evaluation.pictures import MapStore, pictures, worth_keeping
from explanation_alignment.evaluation.question import (
    attribute_column,
    dataset_record,
    describe_method,
    is_toy,
    model_row,
    parse_methods,
    question_of,
    requests_of,
)
from explanation_alignment.evaluation.reading import Reading
from explanation_alignment.interventions import partners
from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric
from explanation_alignment.progress import Bars, tell
from explanation_alignment.runs.ending import end_evaluation, examples_wanted
from explanation_alignment.runs.examples import Example
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.saved_maps import MapFiles, MapKind, map_kind
from explanation_alignment.runs.sharing import end_once
from explanation_alignment.runs.writer import EvaluationWriter, RunWriter
from explanation_alignment.saliency.base import Method, Output
from explanation_alignment.saliency.explainer import Explainer
from explanation_alignment.saliency.passes import DEFAULT_CHUNK
from explanation_alignment.saliency.single_pass import PassResult
from explanation_alignment.sample import AnnotatedDataset
from explanation_alignment.sampling import sample_order

__all__ = ["DEFAULT_METHODS", "evaluate"]

#: The published pair.
DEFAULT_METHODS: Final = ("vanilla_gradients", "gradcam")


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
    progress: bool | Bars = True,
    cache: DecodedCache | str | Path | None = None,
    save_maps: str | None = None,
    wait: bool = True,
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
        target: the explained class: ``"predicted"``, ``"label"``, a class index as text, or ``"positives"``: every
            class the image shows, each a decision (:class:`~explanation_alignment.datasets.positives.PositiveLabels`);
            a prediction of any of them is correct.
        output: what is differentiated: the class's ``"logit"`` or its ``"log_prob"`` (log-softmax).
        metrics: alignment metrics, a column each.
        batch_size: decisions explained at once. Changes speed and memory, not the question asked. Where memory runs
            out, half as many go on from there, with a warning; the run records how many.
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
        progress: show a progress bar, if stderr is a terminal; or where to show it.
        cache: keep decoded images in this folder, for further classifiers that take them the same way; changes no
            number. :func:`~explanation_alignment.evaluate_models` does so by itself.
        save_maps: also keep every map, in ``RUN/maps``, as ``"float16"``, ``"uint8"`` or ``"float32"``
            (:mod:`~explanation_alignment.runs.saved_maps`); a unit is done only when its maps are there. Changes no
            number. ``run.maps()`` reads them, :func:`~explanation_alignment.score` scores them anew.
        wait: where other processes that were given the same run are at all that is left of an evaluation, wait for
            them, so that the run is whole; off: raise :class:`~explanation_alignment.runs.sharing.BusyError`.

    Returns:
        The run. Whether all of it is there, ``run.unfinished`` tells.

    Raises:
        UsageError: for arguments that cannot mean anything.
        ModelError: if the classifier cannot be run or explained as asked.
        RunError: if ``out`` cannot be written, holds another question, or too many samples fail.
    """
    check_classifier(classifier)
    if batch_size < 1:
        raise UsageError(f"batch_size: expected at least 1, got {batch_size}")
    requests = parse_methods(methods)
    kind = None if save_maps is None else map_kind(save_maps)
    names = [get_metric(name).name for name in metrics]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"metrics: expected one or more different ones, got {', '.join(metrics) or 'none'}")
    accepted = None
    if target == "positives":
        if intervene:
            raise UsageError("intervene: content is exchanged between images of different labels; not with positives")
        dataset = PositiveLabels(dataset)
        accepted = dataset.accepted()
    dataset = labelled(dataset, needed=sample is not None or intervene)
    explained = "label" if target == "positives" else target
    ids = dataset.ids()
    order = sample_order(dataset, ids, sample, seed)
    if not dataset.regions:
        raise UsageError(f"{dataset.name} has no annotated regions, so there is nothing to align with")
    attributes = {name: attribute_column(dataset.name, name, values) for name, values in dataset.attributes().items()}
    first = Explainer(classifier, requests, output=output, target=explained, chunk=chunk)
    try:
        with first:
            described = [describe_method(request, first) for request in requests]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise too_large(classifier.name, first_line(error)) from error
    looked_at = order if cache is None and not (Path(out) / "run.json").is_file() else ()  # none costs no reading
    refuse_misfit(classifier, first.outputs, dataset, looked_at)
    if experiment is None and (note := spare_outputs(classifier, first.outputs, dataset)):
        tell(progress, note)  # an experiment knows its heads
    writer = RunWriter(out, experiment=experiment, toy=is_toy(dataset))
    question = question_of(classifier, dataset, sample, seed, target, output, names, intervene)
    details = {
        "unit_size": units.UNIT_SIZE,
        "batch_size": batch_size,
        "device": str(classifier.device),
        "samples": len(order),
    }
    evaluations = writer.begin(question, described, details)  # refuses another question before anything is changed
    writer.record_dataset(dataset.name, dataset_record(dataset, count_classes=sample is not None))
    writer.record_model(model_row(classifier, described, seed, question["weights"]))
    strengths = any(get_metric(name).needs == "heatmap" for name in names)
    labels = labels_of(dataset) if intervene else None
    read = order if labels is None else list({*order, *partners(ids, labels, order, seed)})
    decoded = _decoded(cache, dataset, ids, classifier, read, strengths)
    reading = Reading(dataset, ids, attributes, batch_size, workers, strengths, decoded)
    for evaluation in evaluations:
        wanted = requests_of(evaluation.record, requests)
        other = Explainer(classifier, wanted, output=output, target=explained, chunk=chunk)
        with first if wanted == requests else other as explainer:  # the first one knows its layers
            decider = Decider(classifier, reading, explainer, wanted, names, target, seed, labels, accepted)
            store = MapStore(decider)
            keepers = [store.add] if worth_keeping(decider, len(order), examples_wanted(writer)) else []
            maps = None
            if kind is not None:
                maps = _map_keeper(decider, writer, evaluation, kind, len(order), progress)
                keepers.append(maps.add)
            decider = replace(decider, keep=_all(keepers))
            with nullcontext() if maps is None else maps:
                worked = units.work(decider, evaluation, order, shard, max_errors, progress, maps, wait)
            if worked.complete:
                shown = partial(_pictures, worked.decider, store)
                end = partial(end_evaluation, writer, evaluation, dataset, names[0], shown)
                end_once(evaluation, end, again=worked.fresh, wait=wait)
                if maps is not None:
                    _tidy(maps.files, evaluation)
    return open_run(out)


def _decoded(
    cache: DecodedCache | str | Path | None,
    dataset: AnnotatedDataset,
    ids: Sequence[str],
    classifier: Classifier,
    wanted: Sequence[int],
    strengths: bool,
) -> DecodedImages | None:
    """The decoded images of the samples wanted; None for none, and where keeping them is of no use."""
    if cache is None or reads_whole_batches(dataset, classifier.preprocessing, wanted[:1]):
        return None
    cache = cache if isinstance(cache, DecodedCache) else DecodedCache(cache)
    if strengths:
        cache.tell("decoded images are not kept: a metric takes real-valued annotations, and these are not kept")
        return None
    return cache.images(dataset, ids, classifier.preprocessing, wanted)


def _map_keeper(
    decider: Decider,
    writer: RunWriter,
    evaluation: EvaluationWriter,
    kind: MapKind,
    decisions: int,
    progress: bool | Bars,
) -> MapKeeper:
    """What keeps the maps of an evaluation; says before how much there will be, where any are missing."""
    files = MapFiles.of(writer.path, evaluation.slug, evaluation.record)
    maps = MapKeeper.of(decider, files, kind)
    if maps.missing(units.cut(range(decisions), evaluation.record["details"]["unit_size"])):
        tell(progress, size_of_maps(decider, files, kind, decisions, writer.path))
    with writer.updating() as info:
        info["evaluations"][evaluation.slug]["details"]["saved_maps"] = kind
    return maps


def _tidy(files: MapFiles, evaluation: EvaluationWriter) -> None:
    """Take away maps that killed processes left half written, once all are there; what nobody is at cannot grow."""
    for unit, left in files.half_written().items():
        lease = evaluation.claim(unit, {}, anyway=True)
        if lease is not None:
            with lease:
                for file in left:
                    file.unlink(missing_ok=True)


def _all(keepers: Sequence[Callable[[Batch, PassResult], None]]) -> Callable[[Batch, PassResult], None] | None:
    """All that keep something of a batch as one; None for none."""

    def keep(batch: Batch, result: PassResult) -> None:
        for each in keepers:
            each(batch, result)

    return keep if keepers else None


def _pictures(decider: Decider, store: MapStore, names: Sequence[str]) -> Iterable[Example]:
    """Of the decisions on these samples."""
    place_of = {name: place for place, name in enumerate(decider.reading.ids)}
    return pictures(decider, [place_of[name] for name in names], store)
