"""The sweep: what is to be done is cut into tasks, an executor does them, what came of each is recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from explanation_alignment.classifiers.expansion import ModelSpec, expand_models
from explanation_alignment.decoded import DEFAULT_LIMIT, DecodedCache, bytes_of
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.evaluation import DEFAULT_METHODS
from explanation_alignment.evaluation.question import dataset_record, is_toy, parse_methods
from explanation_alignment.evaluation.units import in_shard
from explanation_alignment.executors import Done, LocalExecutor
from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.writer import RunWriter
from explanation_alignment.saliency.base import Method, Output
from explanation_alignment.saliency.passes import DEFAULT_CHUNK
from explanation_alignment.sample import AnnotatedDataset
from explanation_alignment.sampling import sample_order
from explanation_alignment.sweeps.asking import Asked, labelled
from explanation_alignment.sweeps.doing import Doing, Task, decoded_cache, free_memory, reason_of
from explanation_alignment.sweeps.requests import is_finished, record_failure, record_request, request_digest
from explanation_alignment.sweeps.watching import SweepWatch

__all__ = ["evaluate_models"]


def evaluate_models(
    models: str | ModelSpec | Sequence[str | ModelSpec],
    dataset: AnnotatedDataset,
    methods: Sequence[Method] | Callable[[ModelSpec], Sequence[Method]] = DEFAULT_METHODS,
    out: str | Path = "runs/evaluation",
    *,
    weights: str = "default",
    name: str | None = None,
    device: str | torch.device | None = None,
    input_size: int | None = None,
    precision: str = "fp32",
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
    cache: str | Path | DecodedCache = "auto",
    cache_limit: str | int = DEFAULT_LIMIT,
) -> Run:
    """Explain and score the decisions of many classifiers on one dataset, into one run folder.

    One classifier after another is built, evaluated and freed. One that cannot be built or evaluated is recorded with
    the reason (``run.failures``), and the others go on; of a single one the error is raised. The same call again does
    what is missing and tries again what failed. What is finished is not built again where its spec and weights say all
    about it (``timm:``, ``torchvision:``, ``paper:`` and ``toy:``).

    Args:
        models: specs, patterns such as ``"timm:convnext*"``, lists such as ``"paper:timm"``, text files of these, or
            :class:`ModelSpec` with weights of their own; see :func:`~explanation_alignment.expand_models`.
        dataset: anything with the :class:`~explanation_alignment.sample.AnnotatedDataset` protocol.
        methods: saliency methods, as for :func:`~explanation_alignment.evaluate`; or a function that says which for a
            classifier.
        out: the run folder, made if it is not there.
        weights: of all classifiers that do not say otherwise, as for :func:`~explanation_alignment.load_classifier`.
        name: of the classifier in tables, where there is only one.
        device: as for :func:`~explanation_alignment.load_classifier`.
        input_size: side in pixels of the square input of all of them, instead of their own.
        precision: as for :func:`~explanation_alignment.load_classifier`.
        target: this and what follows is as for :func:`~explanation_alignment.evaluate`.
        output: what is differentiated.
        metrics: alignment metrics.
        batch_size: decisions explained at once.
        chunk: inputs at once, at most, where a method makes many of one image.
        sample: evaluate only so many samples, class-balanced and seeded, the same for all classifiers.
        seed: decides the sample; part of every row's key.
        workers: processes that decode images ahead.
        shard: work only on every N-th unit of each classifier.
        max_errors: samples that may fail to read.
        intervene: also exchange each region's content between images.
        experiment: name and settings of the experiment the run belongs to.
        progress: show how far it is, on stderr: bars on a terminal, else a line a classifier.
        cache: where decoded images are kept for the next classifier that takes them the same way: a folder,
            ``"auto"`` (the user's cache folder, if there is more than one classifier), or ``"off"``. Changes no number.
        cache_limit: bytes everything in that folder may come to, or a text such as ``"20GB"``; what would not fit is
            not kept.

    Returns:
        The run. What failed, ``run.failures`` tells.

    Raises:
        UsageError: for arguments that cannot mean anything, whatever the classifier.
        UnknownNameError: a pattern fits nothing, or there is no such method or metric.
        ModelError: a list cannot be read.
        RunError: if ``out`` cannot be written, or holds another kind of run.
    """
    methods_of = methods if callable(methods) else lambda _: methods
    names = [get_metric(metric).name for metric in metrics]
    in_shard(0, shard)
    bytes_of(cache_limit)
    if batch_size < 1:
        raise UsageError(f"batch_size: expected at least 1, got {batch_size}")
    asked_for = expand_models(models, weights)
    if name is not None and len(asked_for) > 1:
        raise UsageError(f"name: goes with a single classifier, there are {len(asked_for)}")
    chosen = {model: methods_of(model) for model in (_with(one, input_size, name) for one in asked_for)}
    asked = Asked(
        dataset=labelled(dataset, needed=sample is not None or intervene),
        out=Path(out),
        device=device,
        precision=precision,
        target=target,
        output=output,
        metrics=names,
        batch_size=batch_size,
        chunk=chunk,
        sample=sample,
        seed=seed,
        workers=workers,
        shard=shard,
        max_errors=max_errors,
        intervene=intervene,
        experiment=experiment,
    )
    sweep = _Sweep(asked, chosen)
    with SweepWatch(len(chosen), sweep.images, enabled=progress) as watch:
        cached = decoded_cache(cache, cache_limit, several=len(chosen) > 1, say=watch.note)
        for done in LocalExecutor().run(Doing(asked, cached), sweep.tasks(watch), watch):
            sweep.record(done, watch)
            del done  # an error holds on to all that its classifier took
            free_memory()
    return open_run(out)


class _Sweep:
    """What is left to do of a sweep, and what came of it.

    Args:
        asked: what is asked of every classifier.
        chosen: the classifiers, each with its methods.

    Raises:
        UsageError, UnknownNameError: what is asked cannot mean anything, whatever the classifier.
        RunError: the run cannot be written, or is another kind of run.
    """

    def __init__(self, asked: Asked, chosen: Mapping[ModelSpec, Sequence[Method]]) -> None:
        self._asked, self._chosen = asked, chosen
        self._requests = {model: parse_methods(methods) for model, methods in chosen.items()}
        self._shown = asked.shown()
        self._question = asked.question(self._shown)
        self.images = len(sample_order(self._shown, self._shown.ids(), asked.sample, asked.seed))
        self._writer: RunWriter | None = None
        if len(chosen) > 1 or (asked.out / "run.json").is_file():  # a single one that fails leaves no folder
            self._writer = self._open()
            with self._writer.updating() as info:  # whose failures these are, if there will be nothing else
                record = dataset_record(self._shown, count_classes=asked.sample is not None)
                info["datasets"].setdefault(self._shown.name, record)

    def tasks(self, watch: SweepWatch) -> Iterator[Task]:
        """What is to be done; what is finished when its turn comes is passed over."""
        for model, methods in self._chosen.items():
            if self._is_finished(model):
                self._note(model, None)
                watch.skip(str(model))
                continue
            yield Task(model, methods, self._asked.shard)

    def record(self, done: Done[Task], watch: SweepWatch) -> None:
        """Keep what came of a task; where there is one classifier alone, or none could go on, its error is raised."""
        model = done.task.model
        if done.error is None:
            request = request_digest(model, self._question)
            if request is not None:
                key = {"model": done.value, "seed": self._asked.seed, "dataset": self._shown.name}
                record_request(self._writer or self._open(), request, key | {"target": self._asked.target})
            self._note(model, None)
            watch.end()
            return
        if self._writer is None or len(self._chosen) == 1 or isinstance(done.error, DatasetError):
            raise done.error
        if os.environ.get("EALIGN_DEBUG"):
            watch.note(done.trace)
        reason = reason_of(done.error)
        self._note(model, reason)
        watch.end(reason, failed=True)

    def _open(self) -> RunWriter:
        return RunWriter(self._asked.out, experiment=self._asked.experiment, toy=is_toy(self._asked.dataset))

    def _is_finished(self, model: ModelSpec) -> bool:
        request = request_digest(model, self._question)
        if self._writer is None or request is None:
            return False
        regions = len(self._asked.dataset.regions)
        return is_finished(self._writer, request, self._requests[model], regions, self._asked.shard)

    def _note(self, model: ModelSpec, reason: str | None) -> None:
        """Keep why a classifier failed, or forget that it ever did."""
        record_failure(self._writer or self._open(), model, self._shown.name, reason)


def _with(model: ModelSpec, input_size: int | None, name: str | None) -> ModelSpec:
    """A classifier with what is asked of all of them, where it does not say otherwise itself."""
    if input_size is not None and model.input_size is None and model.preprocessing is None:
        model = replace(model, input_size=input_size)
    return model if name is None else replace(model, name=name)
