"""The trained classifiers of a seed: trained, or reused from the checkpoints of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
from explanation_alignment.classifiers.expansion import identify_weights
from explanation_alignment.classifiers.load import seed_of
from explanation_alignment.experiments.celeba.draws import Faces
from explanation_alignment.experiments.celeba.protocol import MODELS, UNTRAINED, Protocol
from explanation_alignment.experiments.training import DatasetTraining, build_network, trained
from explanation_alignment.experiments.training.recipe import Precision
from explanation_alignment.geometry import Geometry

__all__ = ["check_network", "preprocessing_of", "trained_models", "untrained_model"]


def trained_models(
    faces: Faces,
    protocol: Protocol,
    *,
    seeds: Sequence[int],
    out: str | Path,
    device: torch.device,
    models: Sequence[str] = MODELS,
    workers: int = 0,
    progress: bool = True,
) -> Iterator[Classifier]:
    """One classifier after another: each model with every seed.

    Weights are kept in ``out/checkpoints`` and reused when the same is asked again; a training that was killed goes on.
    Only one training set's images are held in memory at a time.

    Args:
        faces: where the training images come from.
        protocol: what is drawn and how it is trained on.
        seeds: of training.
        out: the folder whose ``checkpoints`` are read and written.
        device: where to train.
        models: which: ``"unbiased"``, ``"biased"`` or models of the dose-response, in this order.
        workers: processes that decode images ahead.
        progress: show it on stderr.

    Yields:
        The classifiers of the first model, in the order of the seeds; then those of the next.

    Raises:
        UsageError: a group is too small, or the network cannot be asked for like this.
        ModelError: it cannot be built or trained.
        RunError: a checkpoint cannot be written.
        DatasetError: a training image cannot be read.
    """
    preprocessing = preprocessing_of(protocol)
    precision: Precision = "fp32"
    if protocol.precision != "auto":
        precision = protocol.precision
    elif device.type == "cuda":
        precision = "bf16"
    for model in models:
        training = DatasetTraining(faces.training_set(protocol, model), preprocessing, workers=workers)
        question = {
            "model": model,
            "network": protocol.network,
            "head": protocol.head,
            "weights": identify_weights(protocol.weights),
            "data": training.describe(),
        }
        for seed in seeds:
            module = trained(
                lambda: _build(protocol, preprocessing),
                training,
                protocol.recipe(),
                question=question,
                checkpoint=Path(out) / "checkpoints" / f"{model}-seed{seed}.safetensors",
                seed=seed,
                device=device,
                title=f"training {model} (seed {seed})",
                precision=precision,
                progress=progress,
                outline=lambda: _build(protocol, preprocessing, "random"),
            )
            yield _classifier(module, protocol, model, faces.train.class_names, device)


def untrained_model(faces: Faces, protocol: Protocol, *, seed: int, device: torch.device) -> Classifier:
    """The network as a training with that seed might begin: what its maps show owes nothing to the faces.

    Args:
        faces: for the names of the classes.
        protocol: says which network.
        seed: of what is random in it.
        device: where it is to be.

    Raises:
        ModelError: it cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(f"{UNTRAINED} {seed}"))
        module = _build(protocol, preprocessing_of(protocol))
    return _classifier(module.to(device).eval(), protocol, UNTRAINED, faces.train.class_names, device)


def check_network(protocol: Protocol) -> None:
    """Refuse a network that cannot be built as the protocol says, before anything costly is done.

    Raises:
        UsageError: it cannot be asked for like this.
        ModelError: it cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        _build(protocol, preprocessing_of(protocol), "random")


def preprocessing_of(protocol: Protocol) -> Preprocessing:
    """What every image goes through: resize, centre crop, values in [0, 1] and, as published, nothing else."""
    return Preprocessing((3, protocol.crop, protocol.crop), Geometry(protocol.resize, (protocol.crop, protocol.crop)))


def _build(protocol: Protocol, preprocessing: Preprocessing, weights: str | None = None) -> nn.Module:
    """The network before training; what is random comes from torch's generator."""
    module, _ = build_network(
        protocol.network, protocol.head, weights=weights or protocol.weights, preprocessing=preprocessing
    )
    return module


def _classifier(
    module: nn.Module, protocol: Protocol, name: str, class_names: Sequence[str], device: torch.device
) -> Classifier:
    """The network as a classifier; an ImageNet head's other outputs have no name among ours."""
    return Classifier(
        module,
        preprocessing_of(protocol),
        class_names if protocol.head == "fresh" else None,
        name=name,
        spec=protocol.network,
        device=device,
        cam_layer=protocol.layer,
    )
