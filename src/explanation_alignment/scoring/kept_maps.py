"""Scores the maps that a run kept, by other binarizations or metrics: the model is not needed.

Keys, labels, predictions and what else is known of a decision come from the run's rows, annotations from the dataset,
brought to the maps' size by the geometry the run recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from explanation_alignment.binarization import Binarization
from explanation_alignment.datasets.positives import PositiveLabels
from explanation_alignment.datasets.shuffled import ShuffledAnnotations
from explanation_alignment.errors import DatasetError, RunError, UnknownNameError, UsageError
from explanation_alignment.evaluation.question import dataset_record, is_toy
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.runs.ending import end_evaluation
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.sharing import end_once
from explanation_alignment.runs.working import Unread
from explanation_alignment.runs.writer import EvaluationWriter, RunWriter
from explanation_alignment.sample import AnnotatedDataset
from explanation_alignment.scoring.kept_loop import KeptMaps, KeptMapsLoop
from explanation_alignment.scoring.working import score_units

__all__ = ["rescore"]


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
    max_errors: float = 0.1,
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
        max_errors: how many samples that could be read then may not be now: a share if below 1, else a count.
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
        KeptMaps.of(run, slug, shown, method, rule, names) for slug, shown in _evaluations(run, dataset, model, method)
    ]
    writer = RunWriter(out, toy=is_toy(dataset))
    unread = Unread(max_errors, f"samples of {dataset.name}")
    for one in _each_once(todo):
        evaluations = writer.begin(one.question, one.described, one.details)
        counted = one.question["sample"] is not None
        writer.record_dataset(one.dataset.name, dataset_record(one.dataset, count_classes=counted))
        key = {name: one.question[name] for name in ("model", "seed")}
        writer.record_model(run.models().filter(**key).row(0, named=True))
        for evaluation in evaluations:
            held = {(item["method"], item["binarization"]) for item in evaluation.record["methods"]}
            loop = KeptMapsLoop(one, [pair for pair in one.pairs if pair in held], workers)
            each = len(evaluation.record["methods"]) * len(one.dataset.regions)
            _refuse_some(loop, evaluation, each)
            bar = f"{one.question['model']} on {one.dataset.name}"
            fresh = score_units(loop, evaluation, one.units, each, unread, bar, progress)
            end = partial(end_evaluation, writer, evaluation, one.dataset, loop.metrics[0], loop.examples)
            end_once(evaluation, end, again=fresh)
    return open_run(out)


def _refuse_some(loop: KeptMapsLoop, evaluation: EvaluationWriter, rows_each: int) -> None:
    """Refuse to compute parts, which hold the rows of several methods, for some of these."""
    methods = evaluation.record["methods"]
    owed = {unit: len(places) * rows_each for unit, places in loop.maps.units.items()}
    if len(loop.pairs) < len(methods) and evaluation.missing(owed):
        known = " and ".join(f"{item['method']} ({item['binarization']})" for item in methods)
        raise RunError(f"{evaluation.run.path} has the rows of {known} together and lacks some; ask for both at once")


def _each_once(todo: Sequence[KeptMaps]) -> Iterator[KeptMaps]:
    """The same, each method and binarization of a question from the first evaluation that has it: brought to one
    binarization, a method with two of them in two evaluations is the same twice.
    """
    taken: dict[tuple[Any, ...], set[tuple[str, str]]] = {}
    for one in todo:
        held = taken.setdefault(tuple(one.question[name] for name in ("model", "seed", "dataset", "target")), set())
        left = one.without(held)
        held.update(left.pairs)
        if left.pairs:
            yield left


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
