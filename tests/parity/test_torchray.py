"""TorchRay's pointing game, written out: tolerance, strict <, difficult pairs, the mean over classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import torch

from explanation_alignment.errors import UsageError
from explanation_alignment.metrics import functional
from explanation_alignment.metrics.center import center_point_hits
from explanation_alignment.statistics.per_class import class_means

CLASSES = 7


@dataclass
class Box:
    """As in a VOC file: corners from 1, both inside."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int
    difficult: bool


@dataclass
class Pair:
    """An image and a class in it."""

    image: int
    label: int
    boxes: list[Box]
    saliency: np.ndarray


def pairs() -> list[Pair]:
    """Boxes mostly far from the maxima, some of them difficult; class 5 has difficult boxes only, class 6 none."""
    rng = np.random.default_rng(0)
    found = []
    for image in range(150):
        H, W = 50, 70
        label = int(rng.integers(0, 6))
        boxes = []
        for _ in range(rng.integers(1, 4)):
            x, y = rng.integers(1, W - 8), rng.integers(1, H - 8)
            width, height = rng.integers(0, 9, 2)
            difficult = label == 5 or rng.random() < 0.4
            boxes.append(Box(int(x), int(y), int(x + width), int(y + height), bool(difficult)))
        found.append(Pair(image, label, boxes, rng.random((H, W), dtype=np.float32)))
    return found


def mask_of(boxes: list[Box], H: int, W: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    for box in boxes:
        mask[box.ymin - 1 : box.ymax, box.xmin - 1 : box.xmax] = True
    return mask


class Reference:
    """The rule in plain Python."""

    def __init__(self, classes: int, tolerance: float) -> None:
        self.tolerance = tolerance
        self.hits, self.misses = [0] * classes, [0] * classes

    def hit(self, pair: Pair, u: float, v: float) -> bool:
        for box in pair.boxes:  # all of them: a difficult box beside an easy one counts
            for y in range(box.ymin - 1, box.ymax):
                for x in range(box.xmin - 1, box.xmax):
                    if (x - u) ** 2 + (y - v) ** 2 < self.tolerance**2:
                        return True
        return False

    def add(self, pair: Pair, u: float, v: float) -> int | None:
        if all(box.difficult for box in pair.boxes):
            return None
        hit = self.hit(pair, u, v)
        (self.hits if hit else self.misses)[pair.label] += 1
        return int(hit)

    def accuracies(self) -> list[float]:
        return [h / max(1, h + m) for h, m in zip(self.hits, self.misses, strict=True)]


def annotation(pair: Pair) -> torch.Tensor:
    """What a dataset hands over: nothing where every box is difficult."""
    H, W = pair.saliency.shape
    boxes = [] if all(box.difficult for box in pair.boxes) else pair.boxes
    return torch.from_numpy(mask_of(boxes, H, W))


def score_table(labels: list[int], scores: list[int | None]) -> pl.DataFrame:
    """A run's rows, one a pair."""
    return pl.DataFrame(
        {
            "sample_id": [f"image-{i}" for i in range(len(labels))],
            "label": labels,
            "pointing_game": pl.Series(scores, dtype=pl.Float32),
        }
    ).with_columns(
        *(pl.lit(word).alias(word) for word in ("model", "dataset", "target", "method", "binarization", "region")),
        *(pl.lit(10).alias(name) for name in ("seed", "annotation_area", "salient_area", "map_height", "map_width")),
        correct=pl.lit(True),
        status=pl.when(pl.col("pointing_game").is_null()).then(pl.lit("no_annotation")).otherwise(pl.lit("ok")),
    )


@pytest.mark.parametrize("tolerance", [15, 5, 1, 12.5])
@pytest.mark.parametrize("where", ["maximum", "centre"])
def test_hits_class_accuracies_and_their_mean(tolerance: float, where: str) -> None:
    reference, expected = Reference(CLASSES, tolerance), []
    for pair in pairs():
        H, W = pair.saliency.shape
        v, u = np.unravel_index(pair.saliency.argmax(), (H, W)) if where == "maximum" else (H / 2, W / 2)
        expected.append(reference.add(pair, float(u), float(v)))
    masks = torch.stack([annotation(pair) for pair in pairs()])
    if where == "maximum":
        maps = torch.from_numpy(np.stack([pair.saliency for pair in pairs()]))
        found = functional.pointing_game(maps, masks, tolerance=tolerance)
    else:
        found = center_point_hits(masks, tolerance=tolerance)
    scores = [None if math.isnan(score) else int(score) for score in found.tolist()]
    assert scores == expected
    assert {0, 1, None} == set(scores)

    means = class_means(score_table([pair.label for pair in pairs()], scores), metric="pointing_game", classes=CLASSES)
    assert means.per_class["mean"].fill_null(0).to_list() == pytest.approx(reference.accuracies(), rel=1e-12)
    assert means.per_class["n"].to_list() == [h + m for h, m in zip(reference.hits, reference.misses, strict=True)]
    assert means.over_classes["mean"].item() == pytest.approx(np.mean(reference.accuracies()), rel=1e-12)
    assert means.over_classes.select("classes", "classes_without_trials").row(0) == (7, 2)
    assert means.over_classes["n_undefined"].item() == expected.count(None)


@pytest.mark.parametrize("distance", [14, 15, 16])
def test_a_pixel_at_the_tolerance_is_a_miss(distance: int) -> None:
    saliency, mask = torch.zeros(1, 40, 40), torch.zeros(1, 40, 40)
    saliency[0, 20, 20] = mask[0, 20, 20 + distance] = 1
    assert functional.pointing_game(saliency, mask, tolerance=15).item() == (distance < 15)
    assert center_point_hits(mask, tolerance=15).item() == (distance < 15)


def test_the_centre_may_lie_between_pixels() -> None:
    mask = torch.zeros(1, 5, 5)
    mask[0, 2, 4] = 1  # from (2.5, 2.5) 1.5 to the right and half a pixel up: the root of 2.5
    assert center_point_hits(mask, tolerance=1.58).item() == 0
    assert center_point_hits(mask, tolerance=1.59).item() == 1
    assert center_point_hits(mask[:, None], tolerance=2).item() == 1


def test_nothing_annotated_is_no_trial() -> None:
    assert center_point_hits(torch.zeros(2, 5, 5, dtype=torch.bool)).isnan().all()


@pytest.mark.parametrize("tolerance", [-1, math.nan, math.inf, "15", True])
def test_a_tolerance_is_a_distance(tolerance: float) -> None:
    with pytest.raises(UsageError, match=r"tolerance is .*; expected a distance in pixels >= 0"):
        center_point_hits(torch.ones(1, 5, 5), tolerance=tolerance)
