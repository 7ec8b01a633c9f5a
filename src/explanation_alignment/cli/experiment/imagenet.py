"""``ealign experiment imagenet``: models of similar accuracy, right for different reasons."""

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
from explanation_alignment.cli.options import Device, OptionalDataDir, Out, Quiet, Workers

__all__ = ["imagenet"]


def imagenet(
    data_dir: OptionalDataDir = None,
    out: Out = Path("runs/imagenet"),
    models: PublishedModels = None,
    weights: ModelWeights = "default",
    sample: Sample = None,
    seed: SampleSeed = 0,
    resize: Annotated[
        int | None, typer.Option(help="Shorter side in pixels, every model. (Published: 256.)", min=1)
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Centre crop in pixels, every model. (Published: 224.)", min=1)
    ] = None,
    toy: Annotated[
        bool, typer.Option("--toy", help="A small generated ImageNet, and small models trained on it; no files needed.")
    ] = False,
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    cache: Cache = "auto",
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """ImageNet: models of similar accuracy, right for different reasons?

    Explains every model (published: the 22 of paper:torchvision) with Grad-CAM under one crop, and lists the pairs that
    are equally accurate and differently aligned. A model that fails is recorded; the same command again tries it anew
    and does only what is missing.
    """
    from dataclasses import replace

    from explanation_alignment.cli.experiment.failures import print_models_experiment
    from explanation_alignment.cli.memory import keep_freed_memory
    from explanation_alignment.errors import UsageError
    from explanation_alignment.experiments.imagenet.protocol import TOY, Protocol
    from explanation_alignment.experiments.imagenet.running import DEFAULT_MODELS, run_experiment
    from explanation_alignment.experiments.many_models import requested_models

    if toy == (data_dir is not None):
        raise UsageError("give --data-dir with ImageNet's validation images and boxes, or --toy")
    if toy and (models or weights != "default"):
        raise UsageError("--toy brings models of its own; --models and --weights go with --data-dir")
    protocol = TOY if toy else Protocol()
    protocol = replace(protocol, resize=resize or protocol.resize, crop=crop or protocol.crop)
    keep_freed_memory()
    wanted = models or DEFAULT_MODELS
    run = run_experiment(
        data_dir,
        out,
        models=wanted,
        weights=weights,
        sample=sample,
        seed=seed,
        protocol=protocol,
        toy=toy,
        device=device,
        batch_size=batch_size,
        workers=workers,
        cache=cache,
        progress=not quiet,
    )
    print_models_experiment(run, None if toy else requested_models(wanted, "torchvision", weights))
