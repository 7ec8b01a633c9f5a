"""Number for number with the Shared Interest scorer (Boggust et al., CHI 2022): its own check vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from explanation_alignment.metrics import classes, functional
from explanation_alignment.metrics.scoring import score_maps

EXPECTED = {
    "iou_coverage": [1 / 7, 0.25, 0.04, 0.0, 1.0],
    "ground_truth_coverage": [0.25, 1.0, 0.04, 0.0, 1.0],
    "saliency_coverage": [0.25, 0.25, 1.0, 0.0, 1.0],
}


def rectangles(*corners: tuple[int, int, int, int]) -> Tensor:
    """Masks (B, 250, 250) from (top, left, height, width)."""
    masks = torch.zeros(len(corners), 250, 250)
    for mask, (top, left, height, width) in zip(masks, corners, strict=True):
        mask[top : top + height, left : left + width] = 1
    return masks


#: 100 x 100 squares offset by 50; G inside S; G the whole map; disjoint; identical.
ANNOTATIONS = rectangles((0, 0, 100, 100), (25, 25, 150, 50), (0, 0, 250, 250), (0, 0, 50, 50), (10, 20, 60, 90))
SALIENCY = rectangles((50, 50, 100, 100), (0, 0, 200, 150), (100, 100, 50, 50), (100, 100, 70, 50), (10, 20, 60, 90))


@pytest.mark.parametrize("name", EXPECTED)
def test_check_vectors(name: str) -> None:
    assert getattr(functional, name)(SALIENCY, ANNOTATIONS).tolist() == pytest.approx(EXPECTED[name], rel=1e-6)


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("binarization", ["std:1", "threshold:0.5", "otsu"])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_check_vectors_from_real_valued_maps(name: str, binarization: str, scale: float) -> None:
    scores = score_maps(SALIENCY * scale, binarization, ANNOTATIONS[None] != 0, [name]).values[name]
    assert scores[0].tolist() == pytest.approx(EXPECTED[name], rel=1e-6)


def test_the_class_averages_them() -> None:
    metric = classes.IoUCoverage(binarization="std:1")
    metric.update(SALIENCY, ANNOTATIONS)
    assert metric.compute().item() == pytest.approx(sum(EXPECTED["iou_coverage"]) / 5, rel=1e-6)
