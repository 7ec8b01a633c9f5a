"""The order from the centre outwards, and what looking at the middle would score."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explanation_alignment.binarization import binarize
from explanation_alignment.errors import UsageError
from explanation_alignment.metrics import center, functional
from explanation_alignment.metrics.center import center_rank
from explanation_alignment.metrics.scoring import score_maps
from explanation_alignment.saliency.baselines import center_maps

sides = st.integers(1, 14)


@settings(max_examples=60)
@given(height=sides, width=sides)
def test_the_order_is_by_distance_then_row_by_row(height: int, width: int) -> None:
    pixels = [(y, x) for y in range(height) for x in range(width)]
    pixels.sort(key=lambda p: (2 * p[0] - height + 1) ** 2 + (2 * p[1] - width + 1) ** 2)  # Python's sort is stable
    rank = center_rank(height, width)
    assert rank.dtype == torch.int32
    assert [rank[p].item() for p in pixels] == list(range(height * width))


@settings(max_examples=40)
@given(height=sides, width=sides, share=st.floats(0, 1))
def test_it_is_the_area_binarization_of_the_gaussian(height: int, width: int, share: float) -> None:
    annotation = torch.zeros(1, height, width)
    annotation.flatten()[: round(share * height * width)] = 1
    mask = binarize(center_maps(1, height, width), "area", annotation=annotation)
    assert torch.equal(mask[0], center_rank(height, width) < annotation.sum())


@pytest.mark.parametrize("size", [(224, 224), (299, 256), (5, 1000)])
def test_it_is_at_the_sizes_of_classifiers_too(size: tuple[int, int]) -> None:
    annotation = torch.zeros(1, *size)
    annotation.flatten()[: size[0] * size[1] // 3] = 1
    mask = binarize(center_maps(1, *size), "area", annotation=annotation)
    assert torch.equal(mask[0], center_rank(*size) < annotation.sum())


def slow_center_iou(mask: torch.Tensor, annotation: torch.Tensor) -> torch.Tensor:
    """IoU of the Gaussian at the centre, binarized to the mask's area."""
    gaussian = center_maps(len(mask), *mask.shape[1:])
    return functional.iou_coverage(binarize(gaussian, "area", annotation=mask), annotation)


@pytest.mark.parametrize("spec", ["std:1", "threshold:0.5", "percentile:80", "area", "otsu"])
def test_center_iou_equals_the_slow_formula(spec: str) -> None:
    rng = torch.Generator().manual_seed(0)
    maps = torch.randint(-4, 9, (9, 11, 12), generator=rng).float()
    maps[1], maps[2], maps[3, 1, 1] = 0.0, 1.5, math.nan
    regions = torch.rand(4, 9, 11, 12, generator=rng) < 0.3
    regions[0, 0], regions[1, 6] = False, True
    regions[3] = False
    regions[3, :, 4:7, 4:8] = True
    scores = score_maps(maps, spec, regions)
    assert scores.center_iou.shape == (4, 9)
    assert scores.center_iou.dtype == torch.float32
    assert torch.equal(scores.center_iou.isnan(), scores.values["iou_coverage"].isnan())
    for annotation, found in zip(regions, scores.center_iou, strict=True):
        expected = slow_center_iou(binarize(maps, spec, annotation=annotation), annotation)
        expected[scores.flat] = math.nan
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_map_at_the_centre_has_no_excess() -> None:
    maps = center_maps(3, 21, 30)
    regions = torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(0)) < 0.2
    for spec in ("std:1", "threshold:0.5", "area"):
        scores = score_maps(maps, spec, regions)
        assert torch.equal(scores.center_iou, scores.values["iou_coverage"])


def test_it_is_there_whatever_the_metrics() -> None:
    maps, regions = torch.rand(2, 5, 6), torch.ones(1, 2, 5, 6, dtype=torch.bool)
    scores = score_maps(maps, "std:1", regions, ["pointing_game"])
    assert torch.equal(scores.center_iou, scores.salient_area[None] / 30)


@pytest.mark.parametrize(("height", "width"), [(0, 3), (3, 2.0), (-1, 1), (True, 2)])
def test_wrong_sizes_are_named(height: int, width: int) -> None:
    with pytest.raises(UsageError, match=r"(height|width) is .*; expected a whole number of pixels"):
        center_rank(height, width)


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(center).failed == 0
