"""Embeds CIFAR-100 with many models, and explains the same models on ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.beginning import experiment_record
from explanation_alignment.experiments.cifar100_transfer.protocol import (
    EXPERIMENT,
    METRICS,
    TOY,
    Protocol,
    check_features,
)
from explanation_alignment.experiments.cifar100_transfer.results import TRANSFER_FAILURES
from explanation_alignment.experiments.model_kinds import kind_of
from explanation_alignment.runs.reader import open_run

if TYPE_CHECKING:
    from explanation_alignment.classifiers.expansion import ModelSpec
    from explanation_alignment.experiments.cifar100_transfer.transfer import Transfer
    from explanation_alignment.runs.reader import Run

__all__ = ["DEFAULT_MODELS", "kind_of_spec", "run_experiment"]

DEFAULT_MODELS = ("paper:timm",)


def run_experiment(
    imagenet_dir: str | Path | None,
    cifar_dir: str | Path | None,
    out: str | Path,
    *,
    models: Sequence[str] = DEFAULT_MODELS,
    weights: str = "default",
    features: str = "logits",
    draws: int = 5,
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
    """Alignment of every model on ImageNet and its one-shot accuracy on CIFAR-100, into one run.

    The same call resumes; further models, draws or features make the run grow. A model that fails in either half is
    recorded in ``run.json`` with its reason, and tried again by the next call.

    Args:
        imagenet_dir: ImageNet's folder; None for the stand-in.
        cifar_dir: CIFAR-100's folder; None for the stand-in.
        out: the run folder.
        models: names or patterns of the published list (``resnet*``), specs (``timm:resnet50``) or lists
            (``paper:timm``).
        weights: ``"default"``, ``"random"`` or ``"random:SEED"``.
        features: what the regressions are trained on: ``"logits"`` or ``"penultimate"``.
        draws: how many times the training images are drawn, numbered from 0; the same for every model.
        sample: of ImageNet only so many images, class-balanced and seeded; None for all.
        seed: decides the sample.
        protocol: the experiment's numbers; default the published ones (:data:`TOY` for the stand-ins).
        toy: write a small generated ImageNet and CIFAR-100 to ``out/data`` and train a handful of small models instead.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        batch_size: images at once.
        workers: processes that decode images.
        cache: where decoded images are kept for the next model, as for :func:`~explanation_alignment.evaluate_models`;
            ``"auto"`` keeps none of the stand-ins'.
        progress: show it on stderr.

    Returns:
        The run.

    Raises:
        UsageError: for arguments that cannot mean anything.
        UnknownNameError: for a model or kind of features there is not.
        DatasetError: for missing or damaged files.
        RunError: if ``out`` cannot be written or holds another run, or too many images fail.
    """
    from explanation_alignment.classifiers.classifier import resolve_device
    from explanation_alignment.datasets.cifar100 import open_cifar100
    from explanation_alignment.datasets.imagenet import ImageNet
    from explanation_alignment.experiments.cifar100_transfer.transfer import Transfer
    from explanation_alignment.experiments.many_models import requested_models
    from explanation_alignment.sweeps import evaluate_models

    if {toy} != {imagenet_dir is None, cifar_dir is None}:
        raise UsageError("give the folders of ImageNet and of CIFAR-100, or ask for the toy data, which has its own")
    if draws < 1:
        raise UsageError(f"draws: expected at least 1, got {draws}")
    wanted = check_features(features)
    protocol = protocol or (TOY if toy else Protocol())
    where = resolve_device(device)
    experiment = experiment_record(EXPERIMENT, asdict(protocol))
    if toy:
        from explanation_alignment.experiments.imagenet.toy_models import begin_toy, toy_cifar100, toy_preprocessing

        imagenet, chosen = begin_toy(Path(out), experiment, toy_preprocessing(), device=where, progress=progress)
        cifar = toy_cifar100(Path(out) / "data")
    else:
        chosen = requested_models(models, "timm", weights)
        imagenet, cifar = ImageNet(imagenet_dir), open_cifar100(cifar_dir)
        if imagenet.toy != cifar.toy:
            raise UsageError("one of the two folders holds generated (toy) data, the other does not")
    cache = "off" if toy and cache == "auto" else cache
    run = evaluate_models(
        chosen,
        imagenet,
        lambda model: protocol.methods(kind_of_spec(model.spec)),
        out,
        device=where,
        metrics=METRICS,
        batch_size=batch_size,
        sample=sample,
        seed=seed,
        workers=workers,
        experiment=experiment,
        progress=progress,
        cache=cache,
    )
    transfer = Transfer(Path(out), cifar, protocol, wanted, device=where, batch_size=batch_size, workers=workers)
    _measure(transfer, chosen, run, draws, cache, progress)
    return open_run(out)


def _measure(transfer: Transfer, models: Sequence[ModelSpec], run: Run, draws: int, cache: str, progress: bool) -> None:
    """The one-shot accuracies that are missing."""
    import gc

    import torch

    from explanation_alignment.decoded import DecodedCache
    from explanation_alignment.experiments.many_models import attempts
    from explanation_alignment.runs.writer import RunWriter

    writer = RunWriter(run.path, toy=bool(run.info["toy"]))
    with writer.updating() as info:
        dataset = transfer.dataset
        info["transfer"] = {"dataset": dataset.name, "fingerprint": dataset.fingerprint, "samples": len(dataset)}
    has_models = (run.path / "models.parquet").is_file()
    digests: dict[str, str | None] = {}
    for spec, digest in run.models().select("spec", "weights_digest").unique().rows() if has_models else []:
        digests[spec] = None if spec in digests else digest  # with weights of several kinds: not known which
    owed = [model for model in models if transfer.missing(model, digests.get(model.spec), draws)]
    keeps = cache != "off" and (cache != "auto" or len(owed) > 1)
    decoded = DecodedCache(None if cache == "auto" else cache) if keeps else None
    for model, attempt in attempts(owed, writer, TRANSFER_FAILURES, f"{transfer.features} of", progress=progress):
        with attempt:
            transfer.measure(model, kind_of_spec(model.spec), digests.get(model.spec), draws, decoded, progress)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def kind_of_spec(spec: str) -> str:
    """The kind of a model before it is built: ``cnn``, ``transformer``, or ``other`` where its name does not tell."""
    import timm
    from torchvision.models import get_model_builder, list_models

    from explanation_alignment.classifiers.paper import published_models

    kind, _, name = spec.partition(":")
    if kind == "paper":
        list_name, _, model = name.partition("/")
        published = published_models("timm" if list_name == "timm" else "torchvision").get(model)
        return "other" if published is None else published.family
    architecture = name.partition(".")[0]
    if kind == "timm" and timm.is_model(architecture):
        return kind_of(timm.model_entrypoint(architecture).__module__.rpartition(".")[2])
    if kind == "torchvision" and architecture in list_models():
        return kind_of(get_model_builder(architecture).__module__.rpartition(".")[2])
    return "other"
