"""The arithmetic of the alignment metrics: a batch of maps beside their annotation masks.

``functional`` checks what a user gives and calls one method; ``scoring`` calls several on the same object, so that
areas, extremes and orders are computed once. A method returns (..., B) in double precision where the device has it,
NaN where the metric is undefined, and nothing here waits for the device.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from explanation_alignment.binarization import (
    Binarization,
    Maps,
    at,
    count_pixels,
    largest_pixels,
    salient_mask,
    total,
)
from explanation_alignment.errors import UsageError
from explanation_alignment.metrics.center import check_tolerance, count_central
from explanation_alignment.metrics.registry import Metric

__all__ = ["Decisions", "Overlap"]

_AREA = Binarization("area")


class Overlap(NamedTuple):
    """Counted pixels of binary masks and annotations, from which the three coverages follow.

    Args:
        intersection: pixels in both, |B&G|, int32.
        mask_area: pixels of the mask, |B|, int32.
        annotation_area: pixels of the annotation, |G|, int32.
        pixels: pixels of the map, H * W.
    """

    intersection: Tensor
    mask_area: Tensor
    annotation_area: Tensor
    pixels: int

    def iou_coverage(self) -> Tensor:
        """|B&G| / (|B| + |G| - |B&G|); NaN where G is empty."""
        union = self.mask_area + self.annotation_area - self.intersection
        return _share(self.intersection, union, self.annotation_area > 0)

    def ground_truth_coverage(self) -> Tensor:
        """|B&G| / |G|; NaN where G is empty."""
        return _share(self.intersection, self.annotation_area, self.annotation_area > 0)

    def saliency_coverage(self) -> Tensor:
        """|B&G| / |B|; NaN where B or G is empty."""
        return _share(self.intersection, self.mask_area, (self.annotation_area > 0) & (self.mask_area > 0))

    @classmethod
    def of(cls, mask: Tensor, annotation: Tensor, annotation_area: Tensor | None = None) -> Overlap:
        """Count two bool masks (..., H, W)."""
        area = count_pixels(annotation) if annotation_area is None else annotation_area
        return cls(count_pixels(mask & annotation), count_pixels(mask), area, mask.shape[-2] * mask.shape[-1])


class Decisions:
    """B maps beside their annotations, and every metric of the two."""

    def __init__(self, maps: Maps, annotations: Tensor, binarization: Binarization | None = None) -> None:
        """Take what is to be scored, unchecked.

        Args:
            maps: B maps.
            annotations: bool masks (..., B, H, W); leading axes, such as regions, are scored against the same maps.
            binarization: the rule of the three coverages; None if none of them is asked for.
        """
        self.maps = maps
        self.annotations = annotations
        self.binarization = binarization

    @cached_property
    def annotation_area(self) -> Tensor:
        """|G| (..., B), int32."""
        return count_pixels(self.annotations)

    @cached_property
    def overlap(self) -> Overlap:
        """The counted masks; ``mask_area`` is (B,), or (..., B) where the binarization looks at the annotation."""
        assert self.binarization is not None
        mask = salient_mask(self.maps, self.binarization, self.annotation_area)
        return Overlap.of(mask, self.annotations, self.annotation_area)

    @cached_property
    def _scorable(self) -> Tensor:
        """Whether there is an annotation and the map is finite (..., B)."""
        return (self.annotation_area > 0) & self.maps.finite

    @cached_property
    def _annotated_in_order(self) -> Tensor:
        """The annotations' pixels from the most to the least salient (..., B, H * W)."""
        return at(self.annotations.flatten(-2), self.maps.descending[1])

    def score(self, metric: Metric) -> Tensor:
        """The scores (..., B) of a metric that needs an annotation mask, float32; NaN for every flat map."""
        values: Tensor = getattr(self, metric.base)(**metric.arguments)
        return torch.where(self.maps.flat, torch.nan, values).float()

    def iou_coverage(self) -> Tensor:
        """|B&G| / (|B| + |G| - |B&G|)."""
        return self.overlap.iou_coverage()

    def ground_truth_coverage(self) -> Tensor:
        """|B&G| / |G|."""
        return self.overlap.ground_truth_coverage()

    def saliency_coverage(self) -> Tensor:
        """|B&G| / |B|."""
        return self.overlap.saliency_coverage()

    def center_iou(self) -> Tensor:
        """IoU of the annotation with the ``mask_area`` most central pixels (..., B), float32; NaN for flat maps."""
        inside = count_central(self.annotations, self.annotation_area, self.overlap.mask_area)
        scores = self.overlap._replace(intersection=inside).iou_coverage()
        return torch.where(self.maps.flat, torch.nan, scores).float()

    def saliency_coverage_continuous(self) -> Tensor:
        """sum(|S|*G) / sum(|S|)."""
        return self._mass_share(self.maps.scaled.abs())

    def relevance_mass_accuracy(self) -> Tensor:
        """sum(S*G) / sum(S) on the positive part of S."""
        return self._mass_share(self.maps.scaled.clamp(min=0))

    def _mass_share(self, mass: Tensor) -> Tensor:
        whole = total(mass)
        return _share(total(mass * self.annotations), whole, self._scorable & (whole > 0))

    def pointing_game(self, tolerance: float = 0) -> Tensor:
        """1 if the first maximum is annotated, or less than the tolerance away from what is.

        Raises:
            UsageError: the tolerance is not a number >= 0.
        """
        check_tolerance(tolerance)
        peak = self.maps.peak
        if tolerance == 0:
            hit = at(self.annotations.flatten(-2), peak[:, None])[..., 0]
        else:
            H, W = self.annotations.shape[-2:]
            dy = torch.arange(H, device=peak.device)[:, None] - (peak // W)[:, None, None]
            dx = torch.arange(W, device=peak.device) - (peak % W)[:, None, None]
            near = dy.square() + dx.square() < math.ceil(tolerance**2)  # whole numbers: the strict rule, exactly
            hit = (self.annotations & near).flatten(-2).any(-1)
        return torch.where((self.annotation_area > 0) & ~self.maps.flat, hit.to(self.maps.dtype), torch.nan)

    def relevance_rank_accuracy(self) -> Tensor:
        """Share of the |G| largest pixels that are annotated."""
        largest = salient_mask(self.maps, _AREA, self.annotation_area)
        return _share(count_pixels(largest & self.annotations), self.annotation_area, self._scorable)

    def top_k_intersection(self, k: int | None = None) -> Tensor:
        """Share of the k largest pixels that are annotated.

        Raises:
            UsageError: k is not from 1 to the map's pixels.
        """
        if k is None:
            k = max(1, self.maps.pixels * 5 // 100)
        elif isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self.maps.pixels:
            raise UsageError(f"k is {k!r}; expected a whole number from 1 to {self.maps.pixels}, the map's pixels")
        largest = largest_pixels(self.maps, self.maps.largest(k), k)
        return _share(
            count_pixels(largest & self.annotations), torch.full_like(self.annotation_area, k), self._scorable
        )

    def roc_auc(self) -> Tensor:
        """Area under the ROC curve, from the rank sum of the annotated pixels (Mann-Whitney)."""
        area = self.annotation_area.long()
        rank_sum = (self.maps.double_ranks * self._annotated_in_order).sum(-1)
        rest = self.maps.pixels - area
        return _share(rank_sum - area * (area + 1), 2 * area * rest, self._scorable & (rest > 0))

    def average_precision(self) -> Tensor:
        """Mean over the annotated pixels of the precision at their value."""
        annotated = self._annotated_in_order
        last = self.maps.ties[1]
        found = at(annotated.cumsum(-1), last)
        precision = found.to(self.maps.dtype) / (last + 1)
        summed = total((precision * annotated).view(self.annotations.shape))
        full = self.annotation_area == self.maps.pixels
        return _share(summed, self.annotation_area, self._scorable & ~full)


def _share(part: Tensor, whole: Tensor, defined: Tensor) -> Tensor:
    """``part / whole`` where defined, NaN elsewhere."""
    dtype = torch.float32 if part.device.type == "mps" else torch.float64
    return torch.where(defined, part.to(dtype) / whole.to(dtype), torch.nan)
