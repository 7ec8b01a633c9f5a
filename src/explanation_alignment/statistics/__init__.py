"""Statistics of a run: means with intervals, chance levels, spread and reliance. Reads tables; no torch."""

from explanation_alignment.statistics.chance import adjusted_for_chance, ceiling_levels, chance_levels, expected_iou
from explanation_alignment.statistics.intervals import Estimate, MeanEstimator, Scale, resample_weights, wilson_interval
from explanation_alignment.statistics.summary import metric_columns, spread, summarise, undefined_reasons

__all__ = [
    "Estimate",
    "MeanEstimator",
    "Scale",
    "adjusted_for_chance",
    "ceiling_levels",
    "chance_levels",
    "expected_iou",
    "metric_columns",
    "resample_weights",
    "spread",
    "summarise",
    "undefined_reasons",
    "wilson_interval",
]
