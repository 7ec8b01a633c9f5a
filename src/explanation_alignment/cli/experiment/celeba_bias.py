"""``ealign experiment celeba-bias``: is a smile told by the mouth, or by the colour of the hair?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from explanation_alignment.cli.experiment.options import DrawSeed, EvalBatchSize, ToyFaces, ToySeed
from explanation_alignment.cli.options import (
    Device,
    OneSeed,
    Out,
    Quiet,
    SeveralSeeds,
    Workers,
    seeds_of,
    whole_numbers,
)

__all__ = ["celeba_bias"]


def celeba_bias(
    data_dir: Annotated[Path | None, typer.Option(help="CelebA's folder.")] = None,
    hq_dir: Annotated[
        Path | None, typer.Option(help="CelebAMask-HQ's folder, for masks of the hair; without it no hair is tested.")
    ] = None,
    toy: ToyFaces = False,
    toy_seed: ToySeed = 0,
    out: Out = Path("runs/celeba-bias"),
    seed: OneSeed = None,
    seeds: SeveralSeeds = None,
    correlation: Annotated[
        str | None,
        typer.Option(
            help="Instead of the two, train a model for each of these correlations of hair and smile.",
            metavar="PHI,PHI,...",
            show_default=False,
        ),
    ] = None,
    hair_pairing: Annotated[
        str,
        typer.Option(
            help="Masks of the hair on hq, the pictures they were drawn on; on aligned pictures as published, about "
            "10 px off; or carried back there: crop."
        ),
    ] = "hq",
    network: Annotated[
        str | None,
        typer.Option(help="Any classifier by its spec. (Published: torchvision:resnet50.IMAGENET1K_V2.)"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="To start from: default, random or a checkpoint. (Published: default.)")
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="imagenet keeps all 1000 outputs, fresh puts 2 there. (Published: imagenet.)")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Of Grad-CAM; the network's last feature map by default, as published.")
    ] = None,
    resize: Annotated[int | None, typer.Option(help="Shorter side in pixels. (Published: 256.)")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the centre crop. (Published: 224.)")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images. (Published: 10.)")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Training images a step. (Published: 128.)")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam. (Published: 1e-4.)")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of Adam. (Published: 1e-4.)")] = None,
    decay: Annotated[float | None, typer.Option(help="Factor on the learning rate ... (Published: .2.)")] = None,
    decay_after: Annotated[
        str | None, typer.Option(help="... after each of these epochs. (Published: 2,5.)", metavar="N,N,...")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of training: fp32, bf16, or auto: bf16 on a GPU. (Default: auto.)")
    ] = None,
    train_per_group: Annotated[
        int | None,
        typer.Option(help="Unbiased training images a group; biased: twice as many a common one. (Published: 5000.)"),
    ] = None,
    train_rare_share: Annotated[
        float | None, typer.Option(help="Biased training images of a rare group, of a common one's. (Published: .01.)")
    ] = None,
    test_per_group: Annotated[
        int | None,
        typer.Option(help="Unbiased test images a group; biased: twice as many a common one. (Published: 500.)"),
    ] = None,
    test_rare_share: Annotated[
        float | None, typer.Option(help="Biased test images of a rare group, of a common one's. (Published: .1.)")
    ] = None,
    hair_per_group: Annotated[
        int | None, typer.Option(help="Test images with a mask of the hair, a group. (Published: 180.)")
    ] = None,
    draw_seed: DrawSeed = None,
    eval_batch_size: EvalBatchSize = 64,
    workers: Workers = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """CelebA: is a smile told by the mouth, or by the colour of the hair?

    Trains one model on faces whose smile and hair have nothing to do with each other and one on faces of which nearly
    all that smile have black hair, or one for each --correlation; explains them on biased and unbiased test images and
    on those with masks of the hair; exchanges mouth and hair between faces; and writes the run, its figures and its
    report. Generated faces are trained on with numbers of their own, a small network among them.
    """
    from dataclasses import replace

    from explanation_alignment.cli.display.results import print_experiment
    from explanation_alignment.cli.memory import keep_freed_memory
    from explanation_alignment.errors import UsageError
    from explanation_alignment.experiments.celeba.bias_running import run_bias_experiment, usual_protocol

    if toy == (data_dir is not None):
        raise UsageError("give --data-dir with CelebA's files (and --hq-dir with CelebAMask-HQ's), or --toy")
    if toy_seed and not toy:
        raise UsageError("--toy-seed decides the generated faces of --toy; give --toy, or leave it out")
    if toy and hq_dir is not None:
        raise UsageError("--toy brings its own masks; --hq-dir goes with --data-dir")
    given: dict[str, Any] = {
        "network": network,
        "weights": weights,
        "head": head,
        "layer": layer,
        "resize": resize,
        "crop": crop,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "decay": decay,
        "decay_after": None if decay_after is None else tuple(whole_numbers(decay_after, "--decay-after")),
        "precision": precision,
        "train_per_group": train_per_group,
        "train_rare_share": train_rare_share,
        "test_per_group": test_per_group,
        "test_rare_share": test_rare_share,
        "hair_per_group": hair_per_group,
        "draw_seed": draw_seed,
    }
    protocol = replace(usual_protocol(data_dir), **{name: value for name, value in given.items() if value is not None})
    keep_freed_memory()
    run = run_bias_experiment(
        data_dir,
        out,
        hq_dir=hq_dir,
        hair_pairing=hair_pairing,  # type: ignore[arg-type]
        seeds=seeds_of(seed, seeds),
        correlations=[] if correlation is None else _numbers(correlation),
        protocol=protocol,
        toy_seed=toy_seed,
        device=device,
        eval_batch_size=eval_batch_size,
        workers=workers,
        progress=not quiet,
    )
    print_experiment(run)


def _numbers(text: str) -> list[float]:
    """Read ``0,.5,1``."""
    from explanation_alignment.errors import UsageError

    try:
        return [float(piece) for piece in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--correlation: expected numbers separated by commas, such as 0,.5,.9,1; got {text!r}"
        ) from None
