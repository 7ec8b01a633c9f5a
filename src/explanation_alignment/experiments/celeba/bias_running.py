"""Trains the models of the bias experiment and explains them on its test sets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.beginning import adopt, check_seeds, experiment_record
from explanation_alignment.experiments.celeba.protocol import (
    METHODS,
    MODELS,
    TOY,
    HairPairing,
    Protocol,
    correlation_model,
)

if TYPE_CHECKING:
    from explanation_alignment.experiments.celeba.draws import Faces, GroupedFaces
    from explanation_alignment.runs.reader import Run

__all__ = ["run_bias_experiment", "usual_protocol"]


def usual_protocol(data_dir: str | Path | None) -> Protocol:
    """The published numbers, or for generated faces (no folder, or one that says so) those made for them."""
    from explanation_alignment.datasets.celeba import celeba_root
    from explanation_alignment.datasets.reading.files import data_folder, is_toy

    generated = data_dir is None or is_toy(celeba_root(data_folder(data_dir, "celeba"))[0])
    return TOY if generated else Protocol()


def run_bias_experiment(
    data_dir: str | Path | None,
    out: str | Path,
    *,
    hq_dir: str | Path | None = None,
    hair_pairing: HairPairing = "hq",
    seeds: Sequence[int] = (0,),
    correlations: Sequence[float] = (),
    protocol: Protocol | None = None,
    toy_seed: int = 0,
    device: str | None = None,
    eval_batch_size: int = 64,
    workers: int = 0,
    progress: bool = True,
) -> Run:
    """Train the models for every seed and explain them on the test sets, into one run.

    The two models of the study are explained on the biased test images, on the unbiased ones, and on those with masks
    of the hair; with ``correlations`` a model is trained for each of them instead, and explained on the last two. An
    untrained network stands beside them. Regions are exchanged between faces of different labels, so that reliance can
    be confirmed.

    The same call again goes on where it stopped and changes nothing that is there; more seeds or correlations make the
    run grow.

    Args:
        data_dir: CelebA's folder, or None for generated faces, which are written to ``out/data``.
        out: the run folder.
        hq_dir: CelebAMask-HQ's folder, for the masks of the hair; without it no hair is tested.
        hair_pairing: how its pictures and masks belong together, see :func:`.draws.open_faces`.
        seeds: of training.
        correlations: of hair and smile in training, 0 to 1.
        protocol: the experiment's numbers; default the published ones, for generated faces :data:`.protocol.TOY`.
        toy_seed: another one, other generated faces.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        eval_batch_size: images explained at once.
        workers: processes that decode images ahead.
        progress: show it on stderr.

    Returns:
        The run.

    Raises:
        UsageError: for numbers out of range, or groups too small for the draws.
        DatasetError: for missing or damaged files.
        ModelError: if the network cannot be built or trained.
        RunError: if ``out`` cannot be written or holds another run.
    """
    from explanation_alignment.classifiers.classifier import resolve_device
    from explanation_alignment.datasets.reading.arguments import as_choice
    from explanation_alignment.evaluation import evaluate
    from explanation_alignment.experiments.celeba.draws import open_faces, record_draws
    from explanation_alignment.experiments.celeba.losses import write_losses
    from explanation_alignment.experiments.celeba.models import check_network, trained_models, untrained_model
    from explanation_alignment.runs.writer import RunWriter

    check_seeds(seeds)
    if len(set(correlations)) < len(correlations):
        raise UsageError(f"correlations: expected different numbers, got {', '.join(map(str, correlations))}")
    if data_dir is None and hq_dir is not None:
        raise UsageError("hq_dir goes with data_dir; generated faces bring their own masks")
    as_choice(hair_pairing, "hair pairing", get_args(HairPairing))
    protocol = protocol or usual_protocol(data_dir)
    where = resolve_device(device)
    models = [correlation_model(value) for value in correlations] or list(MODELS)
    for model in models:
        protocol.training_counts(model)  # refuses a correlation there cannot be
    check_network(protocol)
    if data_dir is None:
        data_dir, hq_dir = _generated(Path(out), protocol, hair_pairing, toy_seed, progress)
    faces = open_faces(data_dir, hq_dir, hair_pairing)
    training = {model: faces.training_set(protocol, model) for model in dict.fromkeys([*MODELS, *models])}
    tests = faces.test_sets(protocol)
    experiment = _experiment(protocol, faces, training, tests)
    if faces.toy:
        adopt(Path(out), experiment)
    RunWriter(out, experiment=experiment, toy=faces.toy)  # refuses an unsuitable folder before any training
    record_draws(Path(out) / "draws", [*training.values(), *tests.values()])
    if correlations:
        del tests["biased"]
    settings: dict[str, Any] = {"batch_size": eval_batch_size, "workers": workers}
    shared: dict[str, Any] = {**settings, "intervene": True, "experiment": experiment, "progress": progress}
    for seed in seeds:
        classifier = untrained_model(faces, protocol, seed=seed, device=where)
        for name in ("unbiased", "hair"):
            if name in tests:
                run = evaluate(classifier, tests[name], METHODS, out, seed=seed, **shared)
    classifiers = trained_models(
        faces, protocol, seeds=seeds, out=out, device=where, models=models, workers=workers, progress=progress
    )
    turns = [seed for _ in models for seed in seeds]
    for seed, classifier in zip(turns, classifiers, strict=True):
        for test in tests.values():
            run = evaluate(classifier, test, METHODS, out, seed=seed, **shared)
            write_losses(classifier, test, out, seed=seed, **settings)
    return run


def _generated(out: Path, protocol: Protocol, pairing: HairPairing, seed: int, progress: bool) -> tuple[Path, Path]:
    """The folders of the generated faces, written below a run that is made for them."""
    from explanation_alignment.experiments.celeba.toy_data import toy_trees
    from explanation_alignment.runs.writer import RunWriter

    RunWriter(out, experiment=None, toy=True)
    trees = toy_trees(out / "data", protocol, seed=seed, tell=progress)
    return trees.celeba, trees.celebamask_hq


def _experiment(
    protocol: Protocol, faces: Faces, training: dict[str, GroupedFaces], tests: dict[str, GroupedFaces]
) -> dict[str, Any]:
    """The experiment's record: all its numbers, and which images were drawn; as run.json will hold it."""
    from explanation_alignment.experiments.celeba.draws import digest_of, persons_in_both

    named = {model: training[model] for model in MODELS}  # those of the dose-response follow from the same draw
    shared = persons_in_both(named.values(), tests.values())
    if shared:
        sys.stderr.write(f"{shared:,} persons of the training images are in the test images too\n")
    draws = [*named.values(), *tests.values()]
    data = {
        "hair_pairing": faces.pairing if "hair" in tests else None,
        "persons_in_training_and_test": shared,
        "draws": {drawn.name: f"{len(drawn)} faces {digest_of(drawn.ids())}" for drawn in draws},
    }
    return experiment_record("celeba-bias", {**asdict(protocol), "data": data})
