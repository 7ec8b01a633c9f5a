"""The models whose regions are ranked: those of a run of the first experiment, or trained here where it has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.load import load_weights
from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.celeba.draws import Faces, digest_of
from explanation_alignment.experiments.celeba.models import preprocessing_of, trained_models
from explanation_alignment.experiments.celeba.protocol import MODELS, Protocol
from explanation_alignment.experiments.training import build_network
from explanation_alignment.runs.reader import open_run

__all__ = ["ModelSource", "models_of_run", "models_to_rank"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the models come from.

    Args:
        protocol: how they were, or are to be, trained.
        folder: the run of the first experiment that holds them; None for none.
        toy: whether that run is one of generated faces; None where there is none.
        draws: what its training sets were, by name, as its record tells it.
    """

    protocol: Protocol
    folder: Path | None = None
    toy: bool | None = None
    draws: Mapping[str, str] = field(default_factory=dict)

    def checkpoint(self, model: str, seed: int) -> Path | None:
        """The weights of a model; None where the run has none of that seed."""
        if self.folder is None:
            return None
        path = self.folder / "checkpoints" / f"{model}-seed{seed}.safetensors"
        return path if path.is_file() else None


def models_of_run(folder: str | Path) -> ModelSource:
    """The models of a run of ``ealign experiment celeba-bias``, and how they were trained.

    Args:
        folder: the run's.

    Raises:
        RunError: the folder is no run.
        UsageError: it is another one.
    """
    run = open_run(folder)
    experiment = run.info["experiment"] or {}
    if experiment.get("name") != "celeba-bias":
        name = experiment.get("name") or "ealign evaluate"
        raise UsageError(f"{folder} is a run of {name}; expected one of celeba-bias, whose checkpoints are to be used")
    settings = experiment["settings"]
    protocol = Protocol(**{item.name: settings[item.name] for item in fields(Protocol) if item.name in settings})
    draws = settings.get("data", {}).get("draws", {})
    return ModelSource(protocol, Path(folder), bool(run.info["toy"]), draws)


def models_to_rank(
    source: ModelSource,
    faces: Faces,
    *,
    seeds: Sequence[int],
    out: str | Path,
    device: torch.device,
    workers: int = 0,
    progress: bool = True,
) -> Iterator[tuple[int, Classifier]]:
    """Both models with every seed: from the run's checkpoints, or trained and kept below ``out``.

    Args:
        source: where they come from.
        faces: what they were trained on, or are to be.
        seeds: of training.
        out: the folder whose ``checkpoints`` hold what is trained here.
        device: where to.
        workers: processes that decode images ahead.
        progress: show it on stderr.

    Yields:
        The seed and the classifier.

    Raises:
        UsageError: the run's models were trained on other faces.
        ModelError: a checkpoint does not fit the network, or a network cannot be trained.
    """
    for model in MODELS:
        drawn = faces.training_set(source.protocol, model)
        recorded = source.draws.get(drawn.name)
        if recorded is not None and recorded.rpartition(" ")[2] != digest_of(drawn.ids()):
            raise UsageError(
                f"the models of {source.folder} were trained on other faces than those drawn here; give the folder "
                "of faces they were trained on, or another --models"
            )
        held = [seed for seed in seeds if source.checkpoint(model, seed) is not None]
        for seed in held:
            yield seed, _from_checkpoint(source, model, seed, faces.train.class_names, device)
        missing = [seed for seed in seeds if seed not in held]
        if missing:
            made = trained_models(
                faces,
                source.protocol,
                seeds=missing,
                out=out,
                device=device,
                models=[model],
                workers=workers,
                progress=progress,
            )
            yield from zip(missing, made, strict=True)


def _from_checkpoint(
    source: ModelSource, model: str, seed: int, class_names: Sequence[str], device: torch.device
) -> Classifier:
    """The network as it was trained, whatever device that was on."""
    path, protocol = source.checkpoint(model, seed), source.protocol
    assert path is not None
    preprocessing = preprocessing_of(protocol)
    with torch.random.fork_rng(devices=[]):
        module, _ = build_network(protocol.network, protocol.head, weights="random", preprocessing=preprocessing)
    load_weights(module, path)
    return Classifier(
        module.to(device).eval(),
        preprocessing,
        class_names if protocol.head == "fresh" else None,  # an ImageNet head's other outputs have no name among ours
        name=model,
        spec=protocol.network,
        device=device,
        cam_layer=protocol.layer,
    )
