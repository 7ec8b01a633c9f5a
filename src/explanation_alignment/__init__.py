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
    from explanation_alignment.classifiers.catalogue import list_classifiers as list_classifiers
    from explanation_alignment.classifiers.classifier import Classifier as Classifier
    from explanation_alignment.classifiers.classifier import Preprocessing as Preprocessing
    from explanation_alignment.classifiers.expansion import ModelSpec as ModelSpec
    from explanation_alignment.classifiers.expansion import expand_models as expand_models
    from explanation_alignment.classifiers.expansion import expand_spec as expand_spec
    from explanation_alignment.classifiers.load import load_classifier as load_classifier
    from explanation_alignment.datasets import load_dataset as load_dataset
    from explanation_alignment.datasets.base import Subset as Subset
    from explanation_alignment.errors import ExplanationAlignmentError as ExplanationAlignmentError
    from explanation_alignment.evaluation import evaluate as evaluate
    from explanation_alignment.explorer.serving import explore as explore
    from explanation_alignment.geometry import Geometry as Geometry
    from explanation_alignment.reporting.build import report as report
    from explanation_alignment.runs.exporting import export as export
    from explanation_alignment.runs.merging import merge as merge
    from explanation_alignment.runs.provenance import provenance as provenance
    from explanation_alignment.runs.reader import Run as Run
    from explanation_alignment.runs.reader import open_run as open_run
    from explanation_alignment.runs.verification import verify as verify
    from explanation_alignment.saliency.randomisation import sanity as sanity
    from explanation_alignment.sample import AnnotatedDataset as AnnotatedDataset
    from explanation_alignment.sample import Boxes as Boxes
    from explanation_alignment.sample import Heatmap as Heatmap
    from explanation_alignment.sample import Mask as Mask
    from explanation_alignment.sample import Sample as Sample
    from explanation_alignment.scoring.external_maps import score as score
    from explanation_alignment.statistics.assertions import check as check
    from explanation_alignment.statistics.comparing.comparison import compare as compare
    from explanation_alignment.statistics.comparing.equal_accuracy import equally_accurate as equally_accurate
    from explanation_alignment.statistics.leaderboards import leaderboard as leaderboard
    from explanation_alignment.statistics.planning import plan as plan
    from explanation_alignment.statistics.planning import sample_size as sample_size
    from explanation_alignment.statistics.region_ranking import rank_regions as rank_regions
    from explanation_alignment.statistics.relations import relate as relate
    from explanation_alignment.statistics.relying.region_reliance import reliance as reliance
    from explanation_alignment.statistics.right_reasons import right_reason as right_reason
    from explanation_alignment.statistics.shared_interest_cases import cases as cases
    from explanation_alignment.sweeps import evaluate_models as evaluate_models

__version__ = "0.1.0"

_HOMES = {
    "AnnotatedDataset": "sample",
    "Boxes": "sample",
    "Classifier": "classifiers.classifier",
    "ExplanationAlignmentError": "errors",
    "Geometry": "geometry",
    "Heatmap": "sample",
    "Mask": "sample",
    "ModelSpec": "classifiers.expansion",
    "Preprocessing": "classifiers.classifier",
    "Run": "runs.reader",
    "Sample": "sample",
    "Subset": "datasets.base",
    "binarize": "binarization",
    "cases": "statistics.shared_interest_cases",
    "check": "statistics.assertions",
    "compare": "statistics.comparing.comparison",
    "equally_accurate": "statistics.comparing.equal_accuracy",
    "evaluate": "evaluation",
    "evaluate_models": "sweeps",
    "expand_models": "classifiers.expansion",
    "expand_spec": "classifiers.expansion",
    "explore": "explorer.serving",
    "export": "runs.exporting",
    "leaderboard": "statistics.leaderboards",
    "list_classifiers": "classifiers.catalogue",
    "load_classifier": "classifiers.load",
    "load_dataset": "datasets",
    "merge": "runs.merging",
    "open_run": "runs.reader",
    "plan": "statistics.planning",
    "provenance": "runs.provenance",
    "rank_regions": "statistics.region_ranking",
    "relate": "statistics.relations",
    "reliance": "statistics.relying.region_reliance",
    "report": "reporting.build",
    "right_reason": "statistics.right_reasons",
    "sample_size": "statistics.planning",
    "sanity": "saliency.randomisation",
    "score": "scoring.external_maps",
    "verify": "runs.verification",
}

__all__ = [
    "AnnotatedDataset",
    "Boxes",
    "Classifier",
    "ExplanationAlignmentError",
    "Geometry",
    "Heatmap",
    "Mask",
    "ModelSpec",
    "Preprocessing",
    "Run",
    "Sample",
    "Subset",
    "binarize",
    "cases",
    "check",
    "compare",
    "equally_accurate",
    "evaluate",
    "evaluate_models",
    "expand_models",
    "expand_spec",
    "explore",
    "export",
    "leaderboard",
    "list_classifiers",
    "load_classifier",
    "load_dataset",
    "merge",
    "metrics",
    "open_run",
    "plan",
    "provenance",
    "rank_regions",
    "relate",
    "reliance",
    "report",
    "right_reason",
    "sample_size",
    "sanity",
    "score",
    "verify",
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
