"""Statistics of a run: means with intervals, chance levels, spread and reliance. Reads tables; no torch."""

from explanation_alignment.statistics.chance import adjusted_for_chance, ceiling_levels, chance_levels, expected_iou
from explanation_alignment.statistics.intervals import Estimate, MeanEstimator, Scale, resample_weights, wilson_interval
from explanation_alignment.statistics.ranking import ranking_agreement, ranking_stability, ranking_swaps
from explanation_alignment.statistics.right_reasons import right_reason, right_reason_curve
from explanation_alignment.statistics.summary import summarise
from explanation_alignment.statistics.tables import metric_columns
from explanation_alignment.statistics.variation import spread, undefined_reasons

__all__ = [
    "Estimate",
    "MeanEstimator",
    "Scale",
    "adjusted_for_chance",
    "ceiling_levels",
    "chance_levels",
    "expected_iou",
    "metric_columns",
    "ranking_agreement",
    "ranking_stability",
    "ranking_swaps",
    "resample_weights",
    "right_reason",
    "right_reason_curve",
    "spread",
    "summarise",
    "undefined_reasons",
    "wilson_interval",
]
