"""What each metric must do, beside what the registry says of it: the table that the property tests are driven by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from explanation_alignment.metrics.registry import METRICS, Metric, get_metric


@dataclass(frozen=True)
class Properties:
    """One metric's row.

    Args:
        constant: its value for a constant map that is not 0: ``nan``, ``share`` (|G| / pixels), ``half``, ``first``
            (the first pixels in row-major order count as the largest), ``everywhere`` (every pixel is salient).
        full: its value where everything is annotated: ``nan``, ``one``, ``salient_share`` (|B| / pixels). For
            heatmaps, where human attention is the same everywhere.
        ties: how pixels of equal saliency are taken: ``first`` (row-major), ``pooled`` (their order does not matter
            though the metric sorts), ``none`` (it does not sort).
        order_only: whether only the order of the saliency counts, so that a strictly increasing function of S changes
            nothing.
        shift: whether adding a constant to S changes nothing.
        annotation_scale: whether multiplying a real-valued annotation by a positive number changes nothing.
        monotone_with_ties: whether more saliency where there is more annotation is never worse even if pixels are tied;
            without ties it never is.
        place: whether the pixels' places count, so that moving map and annotation alike may change the score.
    """

    constant: Literal["nan", "share", "half", "first", "everywhere"]
    full: Literal["nan", "one", "salient_share"]
    ties: Literal["first", "pooled", "none"]
    order_only: bool = False
    shift: bool = False
    annotation_scale: bool = False
    monotone_with_ties: bool = True
    place: bool = False


PROPERTIES: dict[str, Properties] = {
    "iou_coverage": Properties("everywhere", "salient_share", "none"),
    "ground_truth_coverage": Properties("everywhere", "salient_share", "none"),
    "saliency_coverage": Properties("everywhere", "one", "none"),
    "saliency_coverage_continuous": Properties("share", "one", "none"),
    "pointing_game": Properties("nan", "one", "first", order_only=True, shift=True),
    "pointing_game(tolerance=1.5)": Properties("nan", "one", "first", order_only=True, shift=True, place=True),
    "relevance_mass_accuracy": Properties("share", "one", "none"),
    "relevance_rank_accuracy": Properties("first", "one", "first", order_only=True, shift=True),
    "top_k_intersection": Properties("first", "one", "first", order_only=True, shift=True),
    "top_k_intersection(k=4)": Properties("first", "one", "first", order_only=True, shift=True),
    "roc_auc": Properties("half", "nan", "pooled", order_only=True, shift=True),
    "average_precision": Properties("share", "nan", "pooled", order_only=True, shift=True, monotone_with_ties=False),
    "heatmap_spearman": Properties("nan", "nan", "pooled", order_only=True, shift=True, annotation_scale=True),
    "heatmap_pearson": Properties("nan", "nan", "none", shift=True, annotation_scale=True),
    "heatmap_kl": Properties("nan", "nan", "none", annotation_scale=True),
    "heatmap_similarity": Properties("nan", "nan", "none", shift=True, annotation_scale=True),
    "heatmap_nss": Properties("nan", "nan", "none", shift=True, annotation_scale=True),
}

ALL: list[Metric] = [get_metric(name) for name in PROPERTIES]
OF_MASKS = [metric for metric in ALL if metric.needs == "mask"]
OF_SALIENCY = [metric for metric in ALL if metric.needs == "saliency"]
OF_HEATMAPS = [metric for metric in ALL if metric.needs == "heatmap"]
assert {metric.base for metric in ALL} == set(METRICS)
