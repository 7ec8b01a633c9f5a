"""The sweep: what is to be done is cut into tasks, an executor does them, what came of each is recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from explanation_alignment.classifiers.expansion import ModelSpec, expand_models
from explanation_alignment.datasets.base import labelled
from explanation_alignment.decoded import DEFAULT_LIMIT, DecodedCache, bytes_of
from explanation_alignment.errors import UsageError
from explanation_alignment.evaluation import DEFAULT_METHODS
from explanation_alignment.evaluation.units import in_shard
from explanation_alignment.executors import Executor, executor_named, free_memory
from explanation_alignment.metrics.registry import DEFAULT_METRICS, get_metric
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.saved_maps import map_kind
from explanation_alignment.saliency.base import Method, Output
from explanation_alignment.saliency.passes import DEFAULT_CHUNK
from explanation_alignment.sample import AnnotatedDataset
from explanation_alignment.sweeps.asking import Asked
from explanation_alignment.sweeps.doing import CacheAsked, Doing
from explanation_alignment.sweeps.planning import Sweep
from explanation_alignment.sweeps.watching import SweepWatch, TogetherWatch

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
    precision: str | None = None,
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
    save_maps: str | None = None,
    executor: str | Executor = "local",
) -> Run:
    """Explain and score the decisions of many classifiers on one dataset, into one run folder.

    One classifier after another is built, evaluated and freed, or several at once by an ``executor``. One that cannot
    be built or evaluated is recorded with the reason (``run.failures``), and the others go on; of a single one the
    error is raised. The same call again does what is missing and tries again what failed. What is finished is not built
    again where its spec and weights say all about it (``timm:``, ``torchvision:``, ``paper:`` and ``toy:``).

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
        save_maps: also keep every map, as for :func:`~explanation_alignment.evaluate`.
        executor: who does it: ``"local"``, this process, one classifier after another; ``"ray"``, a Ray cluster, many
            at once; or one with settings of its own, such as :class:`~explanation_alignment.executors.RayExecutor`.

    Returns:
        The run. What failed, ``run.failures`` tells.

    Raises:
        UsageError: for arguments that cannot mean anything, whatever the classifier.
        UnknownNameError: a pattern fits nothing, or there is no such method or metric.
        ModelError: a list cannot be read.
        RunError: if ``out`` cannot be written, or holds another kind of run.
        ExecutorError: there is no such cluster, or its workers cannot do the work.
    """
    methods_of = methods if callable(methods) else lambda _: methods
    names = [get_metric(metric).name for metric in metrics]
    in_shard(0, shard)
    bytes_of(cache_limit)
    if batch_size < 1:
        raise UsageError(f"batch_size: expected at least 1, got {batch_size}")
    runner = executor_named(executor)
    if runner.at_once and str(device).startswith("cuda:"):
        raise UsageError(f"device: {device} names one GPU, and tasks get theirs from the executor; give auto or cpu")
    asked_for = expand_models(models, weights)
    if name is not None and len(asked_for) > 1:
        raise UsageError(f"name: goes with a single classifier, there are {len(asked_for)}")
    chosen = {model: methods_of(model) for model in (_with(one, input_size, name) for one in asked_for)}
    asked = Asked(
        dataset=labelled(dataset, needed=sample is not None or intervene),
        out=Path(out).resolve() if runner.at_once else Path(out),
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
        save_maps=None if save_maps is None else map_kind(save_maps),
    )
    sweep = Sweep(asked, chosen, apart=runner.at_once)
    kept = CacheAsked(cache, cache_limit, len(chosen) > 1)
    with (TogetherWatch if runner.at_once else SweepWatch)(len(chosen), sweep.images, enabled=progress) as watch:
        doing = Doing(asked, kept.elsewhere() if runner.at_once else kept.opened(watch.note))
        with closing(runner.run(doing, partial(sweep.tasks, watch=watch), watch, asked.out)) as outcomes:
            for done in outcomes:
                sweep.record(done, watch)
                del done  # an error holds on to all that its classifier took
                free_memory()
    return open_run(out)


def _with(model: ModelSpec, input_size: int | None, name: str | None) -> ModelSpec:
    """A classifier with what is asked of all of them, where it does not say otherwise itself."""
    if input_size is not None and model.input_size is None and model.preprocessing is None:
        model = replace(model, input_size=input_size)
    return model if name is None else replace(model, name=name)
