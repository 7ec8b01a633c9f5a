"""Explains classifiers on CelebAMask-HQ's faces, region by region."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.beginning import adopt, check_seeds, experiment_record
from explanation_alignment.experiments.celeba.protocol import METHODS, MODELS, TOY, Protocol
from explanation_alignment.experiments.celeba.regions_protocol import NAME, REGIONS_TOY, RegionsProtocol

if TYPE_CHECKING:
    from explanation_alignment.classifiers.classifier import Classifier
    from explanation_alignment.experiments.celeba.draws import Faces, GroupedFaces
    from explanation_alignment.experiments.celeba.regions_faces import RegionFaces
    from explanation_alignment.experiments.celeba.regions_models import ModelSource
    from explanation_alignment.runs.reader import Run

__all__ = ["run_regions_experiment"]


def run_regions_experiment(
    data_dir: str | Path | None,
    hq_dir: str | Path | None,
    out: str | Path,
    *,
    classifiers: Sequence[Classifier] = (),
    models: str | Path | None = None,
    seeds: Sequence[int] = (0,),
    protocol: RegionsProtocol | None = None,
    training: Protocol | None = None,
    toy_seed: int = 0,
    device: str | None = None,
    eval_batch_size: int = 64,
    workers: int = 0,
    progress: bool = True,
) -> Run:
    """Explain classifiers on both test sets of faces, with seven regions each, into one run.

    The classifiers are the two models of the first experiment, for every seed, or any others. Regions are exchanged
    between faces of different labels, so that reliance can be confirmed. The same call again goes on where it stopped;
    more seeds or classifiers make the run grow.

    Args:
        data_dir: CelebA's folder: what the models were trained on, and who is in it. Needed for the two models and for
            aligned pictures.
        hq_dir: CelebAMask-HQ's folder; None for generated faces, which are written to ``out/data`` (or read from
            ``models/data`` where that is there).
        out: the run folder.
        classifiers: any classifiers, instead of the two models.
        models: run folder of the first experiment; what it has no checkpoint of is trained below ``out``.
        seeds: of training.
        protocol: the experiment's numbers; default the published ones, for generated faces
            :data:`.regions_protocol.REGIONS_TOY`.
        training: how models are trained here; default that of ``models``, else the published protocol, for generated
            faces :data:`.protocol.TOY`.
        toy_seed: another one, other generated faces.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        eval_batch_size: images explained at once.
        workers: processes that decode images ahead.
        progress: show it on stderr.

    Returns:
        The run.

    Raises:
        UsageError: for what does not go together, numbers out of range, or groups too small for the draws.
        DatasetError: for missing or damaged files.
        ModelError: if a network cannot be built or trained.
        RunError: if ``out`` cannot be written or holds another run, or ``models`` is none.
    """
    from explanation_alignment.classifiers.classifier import resolve_device
    from explanation_alignment.decoded import DecodedCache, default_folder
    from explanation_alignment.evaluation import evaluate
    from explanation_alignment.experiments.celeba.draws import open_faces, record_draws
    from explanation_alignment.experiments.celeba.regions_faces import draw_region_faces
    from explanation_alignment.experiments.celeba.regions_models import models_of_run, models_to_rank
    from explanation_alignment.runs.writer import RunWriter

    _check(data_dir, hq_dir, seeds, classifiers, models)
    where = resolve_device(device)
    source = None if models is None else models_of_run(models)
    if hq_dir is None:
        protocol = protocol or REGIONS_TOY
        how = training or (source.protocol if source else TOY)
        data_dir, hq_dir = _generated(Path(out), models, how, protocol, toy_seed, progress)
    faces = None if classifiers or data_dir is None else open_faces(data_dir)
    trained_on: list[GroupedFaces] | None = None
    if faces is not None:
        source = _fitting(source, faces, training)
        trained_on = [faces.training_set(source.protocol, model) for model in MODELS]
    toy = _is_toy(hq_dir)
    protocol = protocol or (REGIONS_TOY if toy else RegionsProtocol())
    drawn = draw_region_faces(hq_dir, data_dir, protocol, trained_on)
    experiment = _record(protocol, drawn, None if faces is None else source)
    if toy:
        adopt(Path(out), experiment)
    RunWriter(out, experiment=experiment, toy=toy)  # refuses an unsuitable folder before any training
    record_draws(Path(out) / "draws", [*drawn.test_sets.values(), *(trained_on or ())])
    if progress:
        sys.stderr.write(drawn.kept_out.sentence() + "\n")
    turns: Iterator[tuple[int, Classifier]] = ((seed, one) for one in classifiers for seed in seeds)
    if faces is not None and source is not None:
        turns = models_to_rank(source, faces, seeds=seeds, out=out, device=where, workers=workers, progress=progress)
    cache = None if default_folder() is None else DecodedCache()
    for seed, classifier in turns:
        for test in drawn.test_sets.values():
            run = evaluate(
                classifier,
                test,
                METHODS,
                out,
                batch_size=eval_batch_size,
                seed=seed,
                workers=workers,
                intervene=True,
                experiment=experiment,
                progress=progress,
                cache=cache,
            )
    return run


def _check(
    data_dir: str | Path | None,
    hq_dir: str | Path | None,
    seeds: Sequence[int],
    classifiers: Sequence[Classifier],
    models: str | Path | None,
) -> None:
    """Refuse what does not go together."""
    check_seeds(seeds)
    if classifiers and models is not None:
        raise UsageError("give classifiers, or a run whose models are to be taken, not both")
    names = [classifier.name for classifier in classifiers]
    if len(set(names)) < len(names):
        raise UsageError(f"classifiers: expected different names, got {', '.join(names)}")
    if hq_dir is None and data_dir is not None:
        raise UsageError("data_dir goes with hq_dir: the regions are those of CelebAMask-HQ")
    if hq_dir is not None and data_dir is None and not classifiers:
        raise UsageError("the two models need data_dir, CelebA's folder: who they were trained on is kept out")


def _fitting(source: ModelSource | None, faces: Faces, training: Protocol | None) -> ModelSource:
    """Where the models come from; refuses those of other data than the faces."""
    from explanation_alignment.experiments.celeba.regions_models import ModelSource

    if source is None:
        return ModelSource(training or (TOY if faces.toy else Protocol()))
    if source.toy != faces.toy:
        kinds = ("real", "generated")
        told = f"{kinds[bool(source.toy)]} faces, these are {kinds[faces.toy]}"
        raise UsageError(f"the models of {source.folder} were trained on {told}")
    return source


def _is_toy(hq_dir: str | Path | None) -> bool:
    from explanation_alignment.datasets.reading.celeba_files import hq_root
    from explanation_alignment.datasets.reading.files import is_toy

    return is_toy(hq_root(hq_dir, "celebamask_hq"))


def _generated(
    out: Path, models: str | Path | None, training: Protocol, protocol: RegionsProtocol, seed: int, progress: bool
) -> tuple[Path, Path]:
    """The folders of the generated faces; a run is begun first, since only runs may be written to."""
    from explanation_alignment.experiments.celeba.toy_data import toy_trees
    from explanation_alignment.runs.writer import RunWriter

    RunWriter(out, experiment=None, toy=True)
    theirs = None if models is None else Path(models) / "data"
    folder = theirs if theirs is not None and theirs.is_dir() else out / "data"
    per_group = protocol.test_per_group or REGIONS_TOY.test_per_group or 1
    # of ten faces three are for testing and one for validation, and nobody in the other six need be left
    masked = math.ceil(per_group * 3 / 4)
    trees = toy_trees(folder, training, seed=seed, masked_per_group=masked, tell=progress)
    return trees.celeba, trees.celebamask_hq


def _record(protocol: RegionsProtocol, drawn: RegionFaces, source: ModelSource | None) -> dict[str, Any]:
    """The experiment's record, as run.json will hold it: all its numbers, and which images were drawn."""
    from explanation_alignment.experiments.celeba.draws import digest_of

    data = {
        "kept_out": asdict(drawn.kept_out),
        "draws": {test.name: f"{len(test)} faces {digest_of(test.ids())}" for test in drawn.test_sets.values()},
    }
    settings = {
        **asdict(protocol),
        "test_per_group": drawn.per_group,
        "training": None if source is None else asdict(source.protocol),
        "data": data,
    }
    return experiment_record(NAME, settings)
