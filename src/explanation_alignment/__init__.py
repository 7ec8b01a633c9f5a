"""Explanation alignment: whether an image classifier is right for the right reason.

The public names load on first use, so that ``import explanation_alignment`` and ``ealign --help`` stay
quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explanation_alignment import metrics as metrics
    from explanation_alignment.binarization import binarize as binarize
    from explanation_alignment.classifiers.classifier import Classifier as Classifier
    from explanation_alignment.classifiers.classifier import Preprocessing as Preprocessing
    from explanation_alignment.classifiers.load import load_classifier as load_classifier
    from explanation_alignment.datasets import load_dataset as load_dataset
    from explanation_alignment.errors import ExplanationAlignmentError as ExplanationAlignmentError
    from explanation_alignment.evaluation import evaluate as evaluate
    from explanation_alignment.geometry import Geometry as Geometry
    from explanation_alignment.reporting.build import report as report
    from explanation_alignment.runs.reader import Run as Run
    from explanation_alignment.runs.reader import open_run as open_run
    from explanation_alignment.sample import AnnotatedDataset as AnnotatedDataset
    from explanation_alignment.sample import Boxes as Boxes
    from explanation_alignment.sample import Mask as Mask
    from explanation_alignment.sample import Sample as Sample
    from explanation_alignment.statistics.reliance import reliance as reliance

__version__ = "0.1.0"

_HOMES = {
    "AnnotatedDataset": "sample",
    "Boxes": "sample",
    "Classifier": "classifiers.classifier",
    "ExplanationAlignmentError": "errors",
    "Geometry": "geometry",
    "Mask": "sample",
    "Preprocessing": "classifiers.classifier",
    "Run": "runs.reader",
    "Sample": "sample",
    "binarize": "binarization",
    "evaluate": "evaluation",
    "load_classifier": "classifiers.load",
    "load_dataset": "datasets",
    "open_run": "runs.reader",
    "reliance": "statistics.reliance",
    "report": "reporting.build",
}

__all__ = [
    "AnnotatedDataset",
    "Boxes",
    "Classifier",
    "ExplanationAlignmentError",
    "Geometry",
    "Mask",
    "Preprocessing",
    "Run",
    "Sample",
    "binarize",
    "evaluate",
    "load_classifier",
    "load_dataset",
    "metrics",
    "open_run",
    "reliance",
    "report",
]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("explanation_alignment.metrics")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
