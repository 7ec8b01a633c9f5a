"""``ealign experiment cifar100-transfer``: do aligned models transfer better?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from explanation_alignment.cli.experiment.options import (
    BatchSize,
    Cache,
    ModelWeights,
    PublishedModels,
    Sample,
    SampleSeed,
)
from explanation_alignment.cli.options import Device, Out, Quiet, Workers

__all__ = ["cifar100_transfer"]


def cifar100_transfer(
    imagenet_dir: Annotated[Path | None, typer.Option(help="Folder with ImageNet's images and boxes.")] = None,
    cifar_dir: Annotated[Path | None, typer.Option(help="Folder with CIFAR-100, or its archive.")] = None,
    out: Out = Path("runs/cifar100-transfer"),
    models: PublishedModels = None,
    weights: ModelWeights = "default",
    features: Annotated[
        str, typer.Option(help="What regressions are trained on: logits or penultimate. (Published: logits.)")
    ] = "logits",
    draws: Annotated[
        int, typer.Option(help="Draws of the training images, the same for every model. (Published: 1.)", min=1)
    ] = 5,
    sample: Sample = None,
    seed: SampleSeed = 0,
    toy: Annotated[
        bool, typer.Option("--toy", help="Small generated images, and small models trained on them; no files needed.")
    ] = False,
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    cache: Cache = "auto",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """CIFAR-100 transfer: do models that look where people look transfer better?

    Explains every model (published: the 195 of paper:timm) on ImageNet at its own size, and trains logistic regressions
    on what it makes of one CIFAR-100 image a class. A model that fails is recorded; the same command again tries it
    anew and does only what is missing.
    """
    from explanation_alignment.cli.experiment.failures import print_models_experiment
    from explanation_alignment.cli.memory import keep_freed_memory
    from explanation_alignment.errors import UsageError
    from explanation_alignment.experiments.cifar100_transfer.results import TRANSFER_FAILURES
    from explanation_alignment.experiments.cifar100_transfer.running import DEFAULT_MODELS, run_experiment
    from explanation_alignment.experiments.many_models import requested_models

    if {toy} != {imagenet_dir is None, cifar_dir is None}:
        raise UsageError("give both --imagenet-dir and --cifar-dir, or --toy alone")
    if toy and (models or weights != "default"):
        raise UsageError("--toy brings models of its own; --models and --weights go with real folders")
    keep_freed_memory()
    wanted = models or DEFAULT_MODELS
    run = run_experiment(
        imagenet_dir,
        cifar_dir,
        out,
        models=wanted,
        weights=weights,
        features=features,
        draws=draws,
        sample=sample,
        seed=seed,
        toy=toy,
        device=device,
        batch_size=batch_size,
        workers=workers,
        cache=cache,
        progress=not quiet,
    )
    asked = None if toy else requested_models(wanted, "timm", weights)
    print_models_experiment(run, asked, (TRANSFER_FAILURES,))
