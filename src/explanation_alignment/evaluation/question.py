"""What is asked of whom, as a run records it."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.datasets.base import labels_of
from explanation_alignment.errors import RunError, UsageError, first_line
from explanation_alignment.geometry import Geometry
from explanation_alignment.runs.identity import NUMERICS_VERSION
from explanation_alignment.saliency.base import Method, MethodRequest, Output
from explanation_alignment.saliency.explainer import Explainer
from explanation_alignment.sample import AnnotatedDataset, AttributeValue
from explanation_alignment.specs import format_call, parse_call

__all__ = [
    "attribute_column",
    "dataset_record",
    "describe_method",
    "geometry_columns",
    "is_toy",
    "model_row",
    "parse_methods",
    "question_of",
    "requests_of",
]


def parse_methods(methods: Sequence[Method]) -> list[MethodRequest]:
    """The methods asked for, each once.

    Raises:
        UsageError: for none, one given twice, or one that cannot be read.
    """
    if isinstance(methods, str):
        raise UsageError(f"methods: expected a list of methods, got the text {methods!r}")
    requests = [MethodRequest.parse(method) for method in methods]
    keys = [(request.canonical, request.binarization) for request in requests]
    if not keys:
        raise UsageError("methods: expected at least one")
    for key, count in collections.Counter(keys).items():
        if count > 1:
            raise UsageError(f"methods: {key[0]} with {key[1]} was given {count} times")
    return requests


def requests_of(record: Mapping[str, Any], asked: Sequence[MethodRequest]) -> list[MethodRequest]:
    """All methods of an evaluation, in its own order: a unit has rows of all of them, also where fewer are asked for.

    Args:
        record: its entry in run.json.
        asked: the methods asked for.

    Raises:
        RunError: one that is not asked for is somebody's own, and cannot be had by its name.
    """
    known = {(request.canonical, request.binarization): request for request in asked}
    requests = []
    for method in record["methods"]:
        key = (method["method"], method["binarization"])
        if key not in known and "source" in method:
            raise RunError(
                f"{record['question']['model']} was evaluated by {key[0]} together with what is asked for; ask for "
                "both, since a work unit has the rows of both"
            )
        if key in known:
            requests.append(known[key])
        else:
            name, arguments = parse_call(key[0], "saliency method")
            requests.append(MethodRequest.parse(format_call(name, {**arguments, "binarize": key[1]})))
    return requests


def attribute_column(dataset: str, name: str, values: Sequence[AttributeValue]) -> pa.Array:
    """An attribute's values as a column; UsageError where they are of several types."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise UsageError(f"attribute {name!r} of {dataset} mixes types of values ({first_line(error)})") from error


def is_toy(dataset: AnnotatedDataset) -> bool:
    """Whether a dataset says of itself that it is generated."""
    return bool(getattr(dataset, "toy", False))


def describe_method(request: MethodRequest, explainer: Explainer) -> dict[str, Any]:
    """A method as a run records it, with the layer it looks at; the explainer has been entered."""
    layer = explainer.layers.get(request.canonical)
    return {
        "method": request.canonical,
        "binarization": request.binarization,
        "layer": None if layer is None else layer.name,
        "layer_shape": None if layer is None else list(layer.shape),
        **({} if request.source is None else {"source": request.source}),
    }


def dataset_record(dataset: AnnotatedDataset, *, count_classes: bool = False) -> dict[str, Any]:
    """A dataset as run.json records it.

    Args:
        dataset: any.
        count_classes: also count the samples of each class where that takes reading them: what a class-balanced
            sample stands for.
    """
    counts = None
    if count_classes or callable(getattr(dataset, "labels", None)):
        counts = collections.Counter(labels_of(dataset))
    return {
        "fingerprint": dataset.fingerprint,
        "samples": len(dataset),
        "class_names": list(dataset.class_names),
        "regions": list(dataset.regions),
        "evidence": list(dataset.evidence),
        "toy": is_toy(dataset),
        # without a label last
        **({} if counts is None else {"class_counts": [counts[at] for at in [*range(_classes(counts)), None]]}),
    }


def _classes(counts: Mapping[int | None, int]) -> int:
    return 1 + max((label for label in counts if label is not None), default=-1)


def question_of(
    classifier: Classifier,
    dataset: AnnotatedDataset,
    sample: int | None,
    seed: int,
    target: str,
    output: Output,
    metrics: Sequence[str],
    intervene: bool,
) -> dict[str, Any]:
    """Everything that changes numbers, but the methods, which are the identity's other half."""
    preprocessing = classifier.preprocessing
    return {
        "model": classifier.name,
        "weights": classifier.weights_digest(),
        "input_size": list(preprocessing.input_size),
        "geometry": preprocessing.geometry.describe(),
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "sample": sample,
        "seed": seed,
        "target": target,
        "output": output,
        "metrics": list(metrics),
        "numerics_version": NUMERICS_VERSION,
        **({"intervene": True} if intervene else {}),
        **({"precision": classifier.precision} if classifier.precision != "fp32" else {}),
        **({"outputs": classifier.outputs} if classifier.outputs is not None else {}),
        **({"multi_label": True} if classifier.multi_label else {}),
    }


def geometry_columns(geometry: Geometry) -> dict[str, str | None]:
    """What models.parquet tells of a geometry."""
    return {
        "resize": None if geometry.resize is None else str(geometry.resize),
        "crop": None if geometry.crop is None else f"{geometry.crop[0]}x{geometry.crop[1]}",
        "interpolation": geometry.interpolation,
        "fit": geometry.fit,
    }


def model_row(
    classifier: Classifier, methods: Sequence[Mapping[str, Any]], seed: int, weights_digest: object
) -> dict[str, Any]:
    """A classifier's row of models.parquet.

    Args:
        classifier: whose.
        methods: that explain it, as the run records them.
        seed: of the evaluation.
        weights_digest: of the classifier, as the question has it: taking it reads every weight.
    """
    channels, height, width = classifier.preprocessing.input_size
    layers = sorted({method["layer"] for method in methods if method["layer"] is not None})
    return {
        "model": classifier.name,
        "seed": seed,
        "spec": classifier.spec,
        "weights_digest": weights_digest,
        "family": classifier.family,
        "parameters": classifier.parameters,
        "input_channels": channels,
        "input_height": height,
        "input_width": width,
        **geometry_columns(classifier.preprocessing.geometry),
        "layer": ", ".join(layers) or None,
        "notes": "; ".join(classifier.notes) or None,
    }
