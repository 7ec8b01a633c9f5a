"""Explains many models on ImageNet, all under one crop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.beginning import experiment_record
from explanation_alignment.experiments.imagenet.protocol import EXPERIMENT, METRICS, TOY, Protocol

if TYPE_CHECKING:
    from explanation_alignment.classifiers.classifier import Preprocessing
    from explanation_alignment.runs.reader import Run

__all__ = ["DEFAULT_MODELS", "run_experiment"]

DEFAULT_MODELS = ("paper:torchvision",)


def run_experiment(
    data_dir: str | Path | None,
    out: str | Path,
    *,
    models: Sequence[str] = DEFAULT_MODELS,
    weights: str = "default",
    sample: int | None = None,
    seed: int = 0,
    protocol: Protocol | None = None,
    toy: bool = False,
    device: str | None = None,
    batch_size: int = 32,
    workers: int = 0,
    cache: str = "auto",
    progress: bool = True,
) -> Run:
    """Evaluate one model after another into one run; the same call resumes, further models make it grow.

    A model that fails is recorded in ``run.failures`` with its reason, and tried again by the next call.

    Args:
        data_dir: ImageNet's folder; None for the stand-in.
        out: the run folder.
        models: names or patterns of the published list (``resnet*``), specs (``timm:resnet50``) or lists
            (``paper:torchvision``).
        weights: ``"default"``, ``"random"`` or ``"random:SEED"``.
        sample: evaluate only so many images, class-balanced and seeded; None for all.
        seed: decides the sample.
        protocol: the experiment's numbers; default the published ones (:data:`TOY` for the stand-in).
        toy: write a small generated ImageNet to ``out/data`` and train a handful of small models on it instead.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        batch_size: images explained at once.
        workers: processes that decode images.
        cache: where decoded images are kept for the next model, as for :func:`~explanation_alignment.evaluate_models`;
            ``"auto"`` keeps none of the stand-in's.
        progress: show it on stderr.

    Returns:
        The run.

    Raises:
        UsageError: for arguments that cannot mean anything.
        UnknownNameError: for a model there is not.
        DatasetError: for missing or damaged files.
        RunError: if ``out`` cannot be written or holds another run, or too many images fail.
    """
    from explanation_alignment.classifiers.classifier import resolve_device
    from explanation_alignment.datasets.imagenet import ImageNet
    from explanation_alignment.experiments.many_models import requested_models
    from explanation_alignment.sweeps import evaluate_models

    if toy == (data_dir is not None):
        raise UsageError("give ImageNet's folder, or ask for the toy data, which has its own")
    protocol = protocol or (TOY if toy else Protocol())
    preprocessing = _preprocessing(protocol)
    where = resolve_device(device)
    experiment = experiment_record(EXPERIMENT, asdict(protocol))
    if toy:
        from explanation_alignment.experiments.imagenet.toy_models import begin_toy

        dataset, chosen = begin_toy(Path(out), experiment, preprocessing, device=where, progress=progress)
    else:
        chosen = requested_models(models, "torchvision", weights, preprocessing=preprocessing)
        dataset = ImageNet(data_dir)
    return evaluate_models(
        chosen,
        dataset,
        lambda model: protocol.methods(published_layer=model.spec.startswith("paper:")),
        out,
        device=where,
        metrics=METRICS,
        batch_size=batch_size,
        sample=sample,
        seed=seed,
        workers=workers,
        experiment=experiment,
        progress=progress,
        cache="off" if toy and cache == "auto" else cache,
    )


def _preprocessing(protocol: Protocol) -> Preprocessing:
    """What every model's images go through."""
    from explanation_alignment.classifiers.classifier import Preprocessing
    from explanation_alignment.geometry import Geometry

    geometry = Geometry(resize=protocol.resize, crop=(protocol.crop, protocol.crop))
    return Preprocessing((3, protocol.crop, protocol.crop), geometry, protocol.mean, protocol.std)
