"""What was asked for, told without building the classifier: so that what is finished need not be built again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Final

from explanation_alignment.classifiers.expansion import ModelSpec, identify_weights
from explanation_alignment.errors import ModelError
from explanation_alignment.evaluation.units import cut, in_shard
from explanation_alignment.runs.failures import failure_name
from explanation_alignment.runs.identity import NUMERICS_VERSION, digest
from explanation_alignment.runs.reader import Run
from explanation_alignment.runs.saved_maps import MapFiles, map_kind
from explanation_alignment.runs.writer import EvaluationWriter, RunWriter
from explanation_alignment.saliency.base import MethodRequest

__all__ = ["failures_among", "is_finished", "record_failure", "record_request", "request_digest"]

#: Where classifiers come whose spec and weights say all about them, and the libraries that make them.
_LIBRARIES: Final[Mapping[str, Sequence[str]]] = {
    "timm": ("timm", "torch"),
    "torchvision": ("torchvision", "torch"),
    "paper": ("timm", "torchvision", "torch"),
    "toy": ("torch",),
}


def request_digest(model: ModelSpec, asked: Mapping[str, Any]) -> str | None:
    """A digest of a classifier and what is asked of it, hex.

    Args:
        model: the classifier.
        asked: everything else that changes numbers, but the methods.

    Returns:
        None where the spec and the weights do not say which classifier it will be: a function in a file may read
        anything, and what a hub keeps under a name may change.
    """
    kind = model.spec.partition(":")[0]
    if kind not in _LIBRARIES:
        return None
    try:
        weights = identify_weights(model.weights)
    except ModelError:
        return None  # building it says what is wrong
    own = model.preprocessing
    return digest(
        {
            **asked,
            "spec": model.spec,
            "weights": weights,
            "name": model.name,
            "input_size": model.input_size,
            "preprocessing": own and [own.input_size, own.geometry.describe(), own.mean, own.std],
            "libraries": [metadata.version(name) for name in _LIBRARIES[kind]],
            "numerics_version": NUMERICS_VERSION,
        }
    )


def is_finished(
    writer: RunWriter,
    request: str,
    methods: Sequence[MethodRequest],
    regions: int,
    shard: str | None,
    save_maps: str | None = None,
) -> bool:
    """Whether a run holds all that a request asked for, or all of a shard's share of it.

    Args:
        writer: of the run.
        request: what :func:`request_digest` gave.
        methods: the methods asked for.
        regions: regions of the dataset.
        shard: as for an evaluation.
        save_maps: the same.
    """
    with writer.updating() as info:
        same = {slug: item for slug, item in info["evaluations"].items() if request in _requests(item)}
    owed = {(method.canonical, method.binarization, method.source) for method in methods}
    for slug, item in same.items():
        held = {(method["method"], method["binarization"], method.get("source")) for method in item["methods"]}
        if held & owed and not _is_there(EvaluationWriter(writer, slug, item), regions, shard, save_maps):
            return False
        owed -= held
    return not owed


def _is_there(evaluation: EvaluationWriter, regions: int, shard: str | None, save_maps: str | None) -> bool:
    item = evaluation.record
    units = cut(range(item["details"]["samples"]), item["details"]["unit_size"])
    each = len(item["methods"]) * regions
    missing = evaluation.missing({unit: len(places) * each for unit, places in units.items()})
    if save_maps is not None:
        files = MapFiles.of(evaluation.run.path, evaluation.slug, item)
        samples = {unit: len(places) for unit, places in units.items()}
        missing = [*missing, *files.missing(samples, map_kind(save_maps))]
    if not missing:
        return item["finished"] is not None
    return shard is not None and not any(in_shard(unit, shard) for unit in missing)


def record_request(writer: RunWriter, request: str, key: Mapping[str, Any]) -> None:
    """Note at a classifier's evaluations which request they answer.

    Args:
        writer: of the run.
        request: what :func:`request_digest` gave.
        key: ``model``, ``seed``, ``dataset`` and ``target`` of the evaluations.
    """
    with writer.updating() as info:
        for item in info["evaluations"].values():
            if all(item["question"][name] == value for name, value in key.items()) and request not in _requests(item):
                item["details"]["requests"] = [*_requests(item), request]


def _requests(item: Mapping[str, Any]) -> list[str]:
    """The requests an evaluation is known to answer: one spec may be another word for the other."""
    requests: list[str] = item["details"].get("requests", [])
    return requests


def record_failure(writer: RunWriter, model: ModelSpec, dataset: str, reason: str | None) -> None:
    """Note why a classifier could not be evaluated, or with None that it could.

    Args:
        writer: of the run, which knows the dataset.
        model: the classifier.
        dataset: on which dataset.
        reason: in a line.
    """
    with writer.updating() as info:
        name = failure_name(str(model), dataset, info["datasets"])
        others = {key: value for key, value in info.get("failures", {}).items() if key != name}
        if reason is not None:
            others[name] = reason
        if others or "failures" in info:
            info["failures"] = others


def failures_among(run: Run, models: Sequence[ModelSpec], dataset: str, target: str) -> dict[str, str]:
    """Those of a run's failures that are of these classifiers, on this dataset.

    Args:
        run: which.
        models: the classifiers.
        dataset: its name.
        target: the explained class, as asked.
    """
    shown = f"{dataset}~positives" if target == "positives" else dataset
    names = {failure_name(str(model), shown, run.info["datasets"]) for model in models}
    return {name: reason for name, reason in run.failures.items() if name in names}
