"""The evaluation's hot path: several metrics of one batch of maps at once, on the maps' device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from explanation_alignment.binarization import Binarization, Maps
from explanation_alignment.errors import UsageError
from explanation_alignment.metrics.decisions import Decisions
from explanation_alignment.metrics.registry import DEFAULT_METRICS, Metric, get_metric

__all__ = ["MapScores", "score_maps"]


class MapScores(NamedTuple):
    """What ``score_maps`` returns, for R regions and B maps.

    Args:
        values: canonical metric name -> scores (R, B), float32; NaN where undefined.
        salient_area: pixels of the binarized map, int32, (B,); (R, B) under ``area``, where it depends on the region.
        annotation_area: pixels of the annotation (R, B), int32.
        flat: whether the map is constant or not finite (B,), bool; all its scores are NaN.
        center_iou: IoU with the annotation of as many pixels at the centre of the map as are salient (R, B), float32:
            what the same area would score for looking at the middle. NaN where the IoU of the map is undefined.
    """

    values: dict[str, Tensor]
    salient_area: Tensor
    annotation_area: Tensor
    flat: Tensor
    center_iou: Tensor


def score_maps(
    saliency: Tensor,
    binarization: str | Binarization,
    annotations: Tensor,
    metrics: Sequence[str | Metric] = DEFAULT_METRICS,
    strengths: Tensor | None = None,
) -> MapScores:
    """Score B maps against R annotations each.

    The values are those of ``metrics.functional``, except that here every score of a flat map is undefined. Areas,
    extremes and orders are computed once for all metrics; nothing waits for the device.

    Args:
        saliency: maps (B, H, W) or (B, 1, H, W), floating.
        binarization: the rule of the three coverages and of ``salient_area``, such as ``"std:1"``.
        annotations: masks (R, B, H, W), bool; all False where there is no annotation.
        metrics: names from the registry.
        strengths: the annotations as real-valued attention (R, B, H, W), floating; needed by the ``heatmap`` metrics.

    Raises:
        UnknownNameError: a metric or a binarization does not exist.
        UsageError: a spec, shape or dtype is wrong, or a metric needs ``strengths`` and there are none.

    Example:
        >>> maps = torch.tensor([[[0.0, 1.0], [2.0, 9.0]]])
        >>> scores = score_maps(maps, "threshold:0.2", torch.tensor([[[[False, False], [True, True]]]]))
        >>> scores.values["iou_coverage"], scores.salient_area
        (tensor([[1.]]), tensor([2], dtype=torch.int32))
    """
    maps = Maps.of(saliency)
    if annotations.ndim != 4 or annotations.shape[1:] != maps.values.shape or annotations.dtype != torch.bool:
        raise UsageError(
            f"annotations have shape {tuple(annotations.shape)} and dtype {annotations.dtype}; expected "
            f"(R, {', '.join(map(str, maps.values.shape))}) and torch.bool"
        )
    decisions = Decisions(maps, annotations, Binarization.parse(binarization))
    values = {}
    for metric in map(get_metric, metrics):
        if metric.needs != "heatmap":
            values[metric.name] = decisions.score(metric)
        elif strengths is None:
            raise UsageError(f"metric {metric.name!r} needs real-valued annotations; give strengths (R, B, H, W)")
        else:
            scores = torch.stack([metric.function(maps.values, strength) for strength in strengths])
            values[metric.name] = scores.masked_fill(maps.flat, torch.nan)
    return MapScores(values, decisions.overlap.mask_area, decisions.annotation_area, maps.flat, decisions.center_iou())
