"""The sweep: one classifier after another."""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from explanation_alignment.classifiers.expansion import ModelSpec, expand_models
from explanation_alignment.classifiers.load import load_classifier
from explanation_alignment.datasets.base import labels_of
from explanation_alignment.datasets.positives import PositiveLabels
from explanation_alignment.decoded import DEFAULT_LIMIT, DecodedCache, bytes_of, default_folder
from explanation_alignment.errors import DatasetError, ExplanationAlignmentError, UsageError, first_line
from explanation_alignment.evaluation import DEFAULT_METHODS, evaluate
from explanation_alignment.evaluation.question import dataset_record, is_toy, parse_methods
from explanation_alignment.evaluation.units import in_shard
from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.writer import RunWriter
from explanation_alignment.saliency.base import Method, Output
from explanation_alignment.saliency.passes import DEFAULT_CHUNK
from explanation_alignment.sample import AnnotatedDataset, Sample
from explanation_alignment.sampling import sample_order
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
    chosen = [_with(model, input_size, name) for model in asked_for]
    requests = {model: parse_methods(methods_of(model)) for model in chosen}
    if (sample is not None or intervene) and not callable(getattr(dataset, "labels", None)):
        dataset = _Labelled(dataset)
    shown = PositiveLabels(dataset) if target == "positives" else dataset
    images = len(sample_order(shown, shown.ids(), sample, seed))
    writer = None
    if len(chosen) > 1 or (Path(out) / "run.json").is_file():  # a single one that fails leaves no folder
        writer = RunWriter(out, experiment=experiment, toy=is_toy(dataset))
        with writer.updating() as info:  # whose failures these are, if there will be nothing else
            info["datasets"].setdefault(shown.name, dataset_record(shown, count_classes=sample is not None))
    asked = {
        "precision": precision,
        "dataset": shown.name,
        "fingerprint": shown.fingerprint,
        "sample": sample,
        "seed": seed,
        "target": target,
        "output": output,
        "metrics": names,
        "intervene": intervene,
    }
    with SweepWatch(len(chosen), images, enabled=progress) as watch:
        decoded = _cache(cache, cache_limit, len(chosen), watch)
        for model in chosen:
            request = request_digest(model, asked)
            regions = len(dataset.regions)
            if writer and request and is_finished(writer, request, requests[model], regions, shard):
                record_failure(writer, model, shown.name, None)
                watch.skip(model)
                continue
            watch.begin(model)
            try:
                classifier = load_classifier(
                    model.spec,
                    model.weights,
                    device,
                    model.name,
                    input_size=model.input_size,
                    preprocessing=model.preprocessing,
                    precision=precision,
                )
                evaluate(
                    classifier,
                    dataset,
                    methods_of(model),
                    out,
                    target=target,
                    output=output,
                    metrics=metrics,
                    batch_size=batch_size,
                    chunk=chunk,
                    sample=sample,
                    seed=seed,
                    workers=workers,
                    shard=shard,
                    max_errors=max_errors,
                    intervene=intervene,
                    experiment=experiment,
                    progress=watch,
                    cache=decoded,
                )
            except Exception as error:  # whatever one classifier does, the others go on
                if writer is None or len(chosen) == 1 or isinstance(error, DatasetError):
                    raise
                if os.environ.get("EALIGN_DEBUG"):
                    watch.note(traceback.format_exc())
                reason = _reason(error)
                record_failure(writer, model, shown.name, reason)
                watch.end(reason, failed=True)
            else:
                writer = writer or RunWriter(out, experiment=experiment, toy=is_toy(dataset))
                if request is not None:
                    key = {"model": classifier.name, "seed": seed, "dataset": shown.name, "target": target}
                    record_request(writer, request, key)
                record_failure(writer, model, shown.name, None)
                watch.end()
            classifier = None  # type: ignore[assignment]
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return open_run(out)


def _with(model: ModelSpec, input_size: int | None, name: str | None) -> ModelSpec:
    """A classifier with what is asked of all of them, where it does not say otherwise itself."""
    if input_size is not None and model.input_size is None and model.preprocessing is None:
        model = replace(model, input_size=input_size)
    return model if name is None else replace(model, name=name)


def _cache(cache: str | Path | DecodedCache, limit: str | int, models: int, watch: SweepWatch) -> DecodedCache | None:
    if isinstance(cache, DecodedCache):
        return cache
    if cache == "off" or (cache == "auto" and (models == 1 or default_folder() is None)):
        return None
    return DecodedCache(None if cache == "auto" else cache, limit, watch.note)


class _Labelled:
    """A dataset whose labels have been read: once, not for every classifier."""

    def __init__(self, dataset: AnnotatedDataset) -> None:
        self._dataset, self._labels = dataset, labels_of(dataset)

    def labels(self) -> Sequence[int | None]:
        return self._labels

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # while it is unpickled
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int, /) -> Sample:
        return self._dataset[index]


def _reason(error: BaseException) -> str:
    """Why a classifier could not be evaluated, in a line."""
    words = first_line(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in words:
        return f"out of memory; give a smaller batch size ({words})"
    return words if isinstance(error, ExplanationAlignmentError) else f"{type(error).__name__}: {words}"
