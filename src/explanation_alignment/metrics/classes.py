"""The alignment metrics as ``torchmetrics.Metric`` classes: explanation alignment over many batches and processes.

Each class averages the score of one metric over the decisions where it is defined, exactly as an evaluation does (a
constant or non-finite map is undefined). ``n`` and ``n_undefined`` tell how many there were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torchmetrics
from torch import Tensor

from explanation_alignment.binarization import Binarization, Maps, as_mask
from explanation_alignment.metrics.decisions import Decisions
from explanation_alignment.metrics.registry import METRICS, Metric

__all__ = [
    "AlignmentMetric",
    "GroundTruthCoverage",
    "HeatmapKL",
    "HeatmapNSS",
    "HeatmapPearson",
    "HeatmapSimilarity",
    "HeatmapSpearman",
    "IoUCoverage",
    "PointingGame",
    "RelevanceMassAccuracy",
    "RelevanceRankAccuracy",
    "SaliencyAveragePrecision",
    "SaliencyCoverage",
    "SaliencyCoverageContinuous",
    "SaliencyROCAUC",
    "TopKIntersection",
]


class AlignmentMetric(torchmetrics.Metric):
    """Mean score over the decisions where it is defined; the base of all classes here.

    A subclass names its metric of the registry: ``class IoUCoverage(AlignmentMetric, metric="iou_coverage")``.
    ``compute()`` is NaN where no decision is defined.
    """

    full_state_update = False
    is_differentiable = False
    _registered: ClassVar[Metric]

    def __init_subclass__(cls, *, metric: str | None = None, **kwargs: Any) -> None:
        """Take direction and range from the registry."""
        super().__init_subclass__(**kwargs)
        if metric is not None:
            cls._registered = METRICS[metric]
            cls.higher_is_better = cls._registered.higher_is_better
            lower, upper = cls._registered.range
            cls.plot_lower_bound = lower if math.isfinite(lower) else None
            cls.plot_upper_bound = upper if math.isfinite(upper) else None

    def __init__(
        self,
        *,
        binarization: str | Binarization | None = None,
        arguments: Mapping[str, object] | None = None,
        **kwargs: Any,
    ) -> None:
        """Prepare the sums.

        Args:
            binarization: the rule applied to the maps, for metrics of masks; None for others.
            arguments: the metric's arguments, those left None at their default.
            kwargs: of ``torchmetrics.Metric``, such as ``dist_sync_on_step``.

        Raises:
            UsageError: a binarization or an argument cannot be used.
        """
        super().__init__(**kwargs)
        self.metric = self._registered.with_arguments(arguments or {})
        self.binarization = None if binarization is None else Binarization.parse(binarization)
        # torchmetrics.MetricCollection takes metrics whose states have equal names and values for the same metric and
        # updates one of them only, so the states of two metrics need two names.
        own = f"{self.metric.name} {self.binarization or ''}".strip()
        self._total, self._defined, self._undefined = (f"{state} of {own}" for state in ("sum", "n", "n_undefined"))
        self.add_state(self._total, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(self._defined, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state(self._undefined, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, saliency: Tensor, annotation: Tensor) -> None:
        """Add a batch.

        Args:
            saliency: real-valued maps (B, H, W) or (B, 1, H, W); metrics of masks binarize them.
            annotation: masks of the same shape, or real-valued maps for the heatmap metrics.

        Raises:
            UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.
        """
        if self.metric.needs == "heatmap":
            scores = self.metric.function(saliency, annotation)
        else:
            maps = Maps.of(saliency)
            masks = as_mask(annotation, "annotation", maps.values.shape)
            scores = Decisions(maps, masks, self.binarization).score(self.metric)
        undefined = scores.isnan().sum()
        self._add(self._total, scores.nansum(dtype=torch.float64))
        self._add(self._defined, len(scores) - undefined)
        self._add(self._undefined, undefined)

    def _add(self, state: str, value: Tensor) -> None:
        setattr(self, state, getattr(self, state) + value)

    def compute(self) -> Tensor:
        """Explanation alignment: the mean score, float32, over all decisions of all processes where it is defined."""
        mean: Tensor = getattr(self, self._total) / getattr(self, self._defined)
        return mean.float()

    @property
    def n(self) -> int:
        """In how many decisions of this process the metric is defined: the denominator of the mean."""
        return int(getattr(self, self._defined))

    @property
    def n_undefined(self) -> int:
        """In how many decisions of this process it is not."""
        return int(getattr(self, self._undefined))

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot the value, or several, within the metric's range; see ``torchmetrics.Metric.plot``."""
        return self._plot(val, ax)


class _MaskMetric(AlignmentMetric):
    """A metric of binarized maps."""

    def __init__(self, binarization: str | Binarization = "std:1", **kwargs: Any) -> None:
        """Take the rule applied to the maps, such as ``"threshold:0.5"``, and arguments of ``torchmetrics.Metric``."""
        super().__init__(binarization=binarization, **kwargs)


class IoUCoverage(_MaskMetric, metric="iou_coverage"):
    """Mean intersection over union of binarized map and annotation; see ``functional.iou_coverage``.

    Args:
        binarization: the rule applied to the maps.
        kwargs: of ``torchmetrics.Metric``.

    Example:
        >>> alignment = IoUCoverage(binarization="threshold:0.5")
        >>> alignment.update(torch.tensor([[[9.0, 8.0, 0.0]]]), torch.tensor([[[0, 1, 1]]]))
        >>> alignment.compute(), alignment.n
        (tensor(0.3333), 1)
    """


class GroundTruthCoverage(_MaskMetric, metric="ground_truth_coverage"):
    """Mean share of the annotation that is salient; see ``functional.ground_truth_coverage``.

    Args:
        binarization: the rule applied to the maps.
        kwargs: of ``torchmetrics.Metric``.
    """


class SaliencyCoverage(_MaskMetric, metric="saliency_coverage"):
    """Mean share of the salient pixels that are annotated; see ``functional.saliency_coverage``.

    Args:
        binarization: the rule applied to the maps.
        kwargs: of ``torchmetrics.Metric``.
    """


class SaliencyCoverageContinuous(AlignmentMetric, metric="saliency_coverage_continuous"):
    """Mean share of the absolute mass that is annotated; see ``functional.saliency_coverage_continuous``."""


class PointingGame(AlignmentMetric, metric="pointing_game"):
    """Share of the maps whose maximum hits the annotation; see ``functional.pointing_game``.

    Args:
        tolerance: how far from the annotation, in pixels of the map, still is a hit.
        kwargs: of ``torchmetrics.Metric``.

    Example:
        >>> hits = PointingGame(tolerance=1.5)
        >>> hits.update(torch.tensor([[[0.0, 9.0, 1.0]]]), torch.tensor([[[1, 0, 0]]]))
        >>> hits.compute()
        tensor(1.)
    """

    def __init__(self, tolerance: float = 0, **kwargs: Any) -> None:
        """Take the tolerance and arguments of ``torchmetrics.Metric``."""
        super().__init__(arguments={"tolerance": tolerance}, **kwargs)


class RelevanceMassAccuracy(AlignmentMetric, metric="relevance_mass_accuracy"):
    """Mean share of the positive mass that is annotated; see ``functional.relevance_mass_accuracy``."""


class RelevanceRankAccuracy(AlignmentMetric, metric="relevance_rank_accuracy"):
    """Mean share of the |G| largest pixels that are annotated; see ``functional.relevance_rank_accuracy``."""


class TopKIntersection(AlignmentMetric, metric="top_k_intersection"):
    """Mean share of the k largest pixels that are annotated; see ``functional.top_k_intersection``.

    Args:
        k: how many pixels; by default 5 % of each map.
        kwargs: of ``torchmetrics.Metric``.
    """

    def __init__(self, k: int | None = None, **kwargs: Any) -> None:
        """Take k and arguments of ``torchmetrics.Metric``."""
        super().__init__(arguments={"k": k}, **kwargs)


class SaliencyROCAUC(AlignmentMetric, metric="roc_auc"):
    """Mean area under the ROC curve of each map as a score for its annotation; see ``functional.roc_auc``."""


class SaliencyAveragePrecision(AlignmentMetric, metric="average_precision"):
    """Mean average precision of each map as a score for its annotation; see ``functional.average_precision``."""


class HeatmapSpearman(AlignmentMetric, metric="heatmap_spearman"):
    """Mean rank correlation with human attention; see ``functional.heatmap_spearman``."""


class HeatmapPearson(AlignmentMetric, metric="heatmap_pearson"):
    """Mean linear correlation with human attention; see ``functional.heatmap_pearson``."""


class HeatmapKL(AlignmentMetric, metric="heatmap_kl"):
    """Mean divergence from human attention, lower is better; see ``functional.heatmap_kl``."""


class HeatmapSimilarity(AlignmentMetric, metric="heatmap_similarity"):
    """Mean histogram intersection with human attention; see ``functional.heatmap_similarity``."""


class HeatmapNSS(AlignmentMetric, metric="heatmap_nss"):
    """Mean standardised saliency where people look; see ``functional.heatmap_nss``."""
