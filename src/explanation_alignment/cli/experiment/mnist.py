"""``ealign experiment mnist``: which of two models learned the digit?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explanation_alignment.cli.options import Device, OneSeed, OptionalDataDir, Out, Quiet, SeveralSeeds, seeds_of

__all__ = ["mnist"]


def mnist(
    data_dir: OptionalDataDir = None,
    out: Out = Path("runs/mnist"),
    seed: OneSeed = None,
    seeds: SeveralSeeds = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images. (Published: 4.)")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Training images a step. (Published: 64.)")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of SGD. (Published: 0.01.)")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of SGD. (Published: 0.5.)")] = None,
    decay: Annotated[float | None, typer.Option(help="Of the learning rate, an epoch. (Published: 0.7.)")] = None,
    permutations: Annotated[int | None, typer.Option(help="Uncorrelated test sets. (Published: 5.)")] = None,
    eval_batch_size: Annotated[int, typer.Option(help="Images explained at once.", min=1)] = 128,
    digits: Annotated[
        bool, typer.Option("--digits", help="Use scikit-learn's bundled digits; no files needed.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch MNIST into --data-dir if it is not there.")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Coloured MNIST: which of two models learned the digit, and which the coloured block?

    Trains both, explains their decisions on correlated and uncorrelated test images, and writes the
    run, its figures and its report.
    """
    from dataclasses import replace

    from explanation_alignment.cli.display.results import print_experiment
    from explanation_alignment.cli.memory import keep_freed_memory
    from explanation_alignment.errors import UsageError
    from explanation_alignment.experiments.mnist.protocol import DEMO, Protocol
    from explanation_alignment.experiments.mnist.running import run_experiment

    if digits == (data_dir is not None):
        raise UsageError("give --data-dir with the official IDX files (--download fetches them), or --digits")
    if download and data_dir is not None:
        from explanation_alignment.datasets.colored_mnist import download_mnist

        download_mnist(data_dir)
    given: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "decay": decay,
        "permutations": permutations,
    }
    protocol = replace(DEMO if digits else Protocol(), **{k: v for k, v in given.items() if v is not None})
    keep_freed_memory()
    run = run_experiment(
        data_dir,
        out,
        seeds=seeds_of(seed, seeds),
        protocol=protocol,
        device=device,
        eval_batch_size=eval_batch_size,
        progress=not quiet,
    )
    print_experiment(run)
