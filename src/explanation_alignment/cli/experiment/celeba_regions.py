"""``ealign experiment celeba-regions``: which part of the face does a model rely on?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from explanation_alignment.cli.experiment.options import DrawSeed, EvalBatchSize, ToyFaces, ToySeed
from explanation_alignment.cli.options import Device, OneSeed, Out, Quiet, SeveralSeeds, Workers, seeds_of

__all__ = ["celeba_regions"]

#: Where the first experiment writes unless told otherwise.
_USUAL_MODELS: Final = Path("runs/celeba-bias")


def celeba_regions(
    data_dir: Annotated[
        Path | None, typer.Option(help="CelebA's folder: what the models were trained on, and aligned pictures.")
    ] = None,
    hq_dir: Annotated[Path | None, typer.Option(help="CelebAMask-HQ's folder.")] = None,
    models: Annotated[
        Path | None,
        typer.Option(
            help="Run of celeba-bias whose models are ranked (runs/celeba-bias if it is there); what it lacks is "
            "trained here as it would train it.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Any classifier instead: timm:NAME, torchvision:NAME, file:PATH.py:FACTORY, ...; repeatable.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[str, typer.Option(help="Of --model: default, random, random:SEED or a checkpoint.")] = "default",
    toy: ToyFaces = False,
    toy_seed: ToySeed = 0,
    out: Out = Path("runs/celeba-regions"),
    seed: OneSeed = None,
    seeds: SeveralSeeds = None,
    test_per_group: Annotated[
        int | None,
        typer.Option(
            help="Unbiased test images of each group, and biased ones of each common group. (Published: 2000; fewer "
            "by default where a group has fewer.)",
            show_default=False,
        ),
    ] = None,
    rare_share: Annotated[
        float | None,
        typer.Option(help="Biased test images of a rare group, of a common one's. (Published: .25.)"),
    ] = None,
    draw_seed: DrawSeed = None,
    images: Annotated[
        str | None, typer.Option(help="hq, what the masks were drawn on, or aligned, 10 px off. (Published: aligned.)")
    ] = None,
    keep_training_identities: Annotated[
        bool,
        typer.Option(
            "--keep-training-identities",
            help="Draw also from images of persons the models were trained on. (Published: so.)",
        ),
    ] = False,
    eval_batch_size: EvalBatchSize = 64,
    workers: Workers = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """CelebAMask-HQ: which part of the face does a model rely on?

    Ranks seven regions by how much the maps lie there, by four statistics
    side by side, and tells what exchanging a region changes. Nobody the models
    were trained on is in the test images.
    """
    from dataclasses import replace

    from explanation_alignment.cli.display.results import print_experiment
    from explanation_alignment.cli.display.tables import aside
    from explanation_alignment.cli.memory import keep_freed_memory
    from explanation_alignment.datasets.reading.celeba_files import hq_root
    from explanation_alignment.datasets.reading.files import is_toy
    from explanation_alignment.errors import UsageError
    from explanation_alignment.experiments.celeba.regions_protocol import REGIONS_TOY, RegionsProtocol
    from explanation_alignment.experiments.celeba.regions_running import run_regions_experiment

    if toy == (hq_dir is not None):
        raise UsageError("give --hq-dir with CelebAMask-HQ's files (and --data-dir with CelebA's), or --toy")
    if toy_seed and not toy:
        raise UsageError("--toy-seed decides the generated faces of --toy; give --toy, or leave it out")
    if toy and data_dir is not None:
        raise UsageError("--toy brings its own faces; --data-dir goes with --hq-dir")
    if model and (models is not None or seed is not None or seeds is not None):
        raise UsageError("--model names classifiers that are trained; --models, --seed and --seeds go without it")
    if not model and weights != "default":
        raise UsageError("--weights goes with --model")
    if not model and not toy and data_dir is None:
        raise UsageError(
            "give --data-dir with CelebA's files, whose persons the models were trained on; or any classifier: --model"
        )
    given: dict[str, Any] = {
        "test_per_group": test_per_group,
        "rare_share": rare_share,
        "draw_seed": draw_seed,
        "images": images,
        "keep_training_identities": keep_training_identities or None,
    }
    usual = (
        REGIONS_TOY if toy or (hq_dir is not None and is_toy(hq_root(hq_dir, "celebamask_hq"))) else RegionsProtocol()
    )
    protocol = replace(usual, **{name: value for name, value in given.items() if value is not None})
    if not model and models is None and _has_models(_USUAL_MODELS, usual is REGIONS_TOY):
        models = _USUAL_MODELS
        aside(f"models: those of {models}; give --models for others")
    keep_freed_memory()
    run = run_regions_experiment(
        data_dir,
        hq_dir,
        out,
        classifiers=_loaded(model or [], weights, device),
        models=models,
        seeds=seeds_of(seed, seeds),
        protocol=protocol,
        toy_seed=toy_seed,
        device=device,
        eval_batch_size=eval_batch_size,
        workers=workers,
        progress=not quiet,
    )
    print_experiment(run)


def _has_models(folder: Path, toy: bool) -> bool:
    """Whether the folder is a run of the first experiment, of generated faces or of real ones as asked."""
    from explanation_alignment.runs.reader import open_run

    if not (folder / "run.json").is_file():
        return False
    info = open_run(folder).info
    return (info["experiment"] or {}).get("name") == "celeba-bias" and bool(info["toy"]) == toy


def _loaded(specs: list[str], weights: str, device: str) -> list[Any]:
    if not specs:
        return []
    from explanation_alignment.classifiers.load import load_classifier

    return [load_classifier(spec, weights, device) for spec in specs]
