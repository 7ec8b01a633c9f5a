"""Alignment metrics: batched functions, the registry of what there is, and torchmetrics classes over them.

``functional``, ``scoring`` and the classes need torch and are loaded on first use; the registry does not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from explanation_alignment.metrics.registry import DEFAULT_METRICS, METRICS, Metric, get_metric

if TYPE_CHECKING:
    from explanation_alignment.metrics import classes, functional, registry, scoring
    from explanation_alignment.metrics.center import center_point_hits, center_rank
    from explanation_alignment.metrics.classes import (
        AlignmentMetric,
        GroundTruthCoverage,
        HeatmapKL,
        HeatmapNSS,
        HeatmapPearson,
        HeatmapSimilarity,
        HeatmapSpearman,
        IoUCoverage,
        PointingGame,
        RelevanceMassAccuracy,
        RelevanceRankAccuracy,
        SaliencyAveragePrecision,
        SaliencyCoverage,
        SaliencyCoverageContinuous,
        SaliencyROCAUC,
        TopKIntersection,
    )
    from explanation_alignment.metrics.scoring import MapScores, score_maps

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "AlignmentMetric",
    "GroundTruthCoverage",
    "HeatmapKL",
    "HeatmapNSS",
    "HeatmapPearson",
    "HeatmapSimilarity",
    "HeatmapSpearman",
    "IoUCoverage",
    "MapScores",
    "Metric",
    "PointingGame",
    "RelevanceMassAccuracy",
    "RelevanceRankAccuracy",
    "SaliencyAveragePrecision",
    "SaliencyCoverage",
    "SaliencyCoverageContinuous",
    "SaliencyROCAUC",
    "TopKIntersection",
    "center_point_hits",
    "center_rank",
    "classes",
    "functional",
    "get_metric",
    "registry",
    "score_maps",
    "scoring",
]

#: Where the names live that need torch.
_MODULES = {"MapScores": "scoring", "center_point_hits": "center", "center_rank": "center", "score_maps": "scoring"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("classes", "functional", "scoring"):
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'classes')}"), name)


def __dir__() -> list[str]:
    return __all__
