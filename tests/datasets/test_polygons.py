"""Outlines to pixels: the rule, against crossing counts in plain Python, pycocotools and matplotlib; run lengths."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path as OutlinePath

from explanation_alignment.datasets.reading.polygons import fill_ellipse, fill_polygon, pixel_boxes
from explanation_alignment.datasets.reading.rle import decode_rle
from explanation_alignment.errors import DatasetError

POINT = st.tuples(st.integers(-8, 40), st.integers(-8, 40)).map(lambda p: (p[0] / 2, p[1] / 2))
ANYWHERE = st.tuples(st.floats(-20, 60), st.floats(-20, 60))


def filled(points: object, height: int = 16, width: int = 20) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    fill_polygon(mask, points)  # type: ignore[arg-type]
    return mask


def by_crossings(points: list[tuple[float, float]], height: int, width: int) -> np.ndarray:
    """Even-odd in plain Python: how many edges lie at or left of a pixel's centre."""
    mask = np.zeros((height, width), dtype=bool)
    for row in range(height):
        for column in range(width):
            x, y, inside = column + 0.5, row + 0.5, False
            for place, (xa, ya) in enumerate(points):
                xb, yb = points[(place + 1) % len(points)]
                if ya > yb:
                    xa, ya, xb, yb = xb, yb, xa, ya
                if ya <= y < yb and xa + (y - ya) * ((xb - xa) / (yb - ya)) <= x:
                    inside = not inside
            mask[row, column] = inside
    return mask


def test_a_triangle_holds_the_centres_inside_it() -> None:
    mask = filled([(0, 0), (4, 0), (0, 4)], 4, 5)
    assert mask.astype(int).tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]


def test_whole_corners_give_whole_pixels_and_a_crossing_is_taken_left_and_above() -> None:
    expected = np.zeros((16, 20), dtype=bool)
    expected[2:5, 3:7] = True
    assert (filled([(3, 2), (7, 2), (7, 5), (3, 5)]) == expected).all()
    assert (filled([(2.5, 1.5), (6.5, 1.5), (6.5, 4.5), (2.5, 4.5)]) == np.roll(expected, (-1, -1), (0, 1))).all()


def test_what_is_enclosed_twice_is_outside() -> None:
    twice = [(1, 1), (9, 1), (9, 9), (1, 9), (1, 1), (3, 3), (7, 3), (7, 7), (3, 7), (3, 3)]
    mask = filled(twice)
    assert mask.sum() == 64 - 16
    assert not mask[4, 4]
    bow = filled([(0, 0), (8, 8), (8, 0), (0, 8)])
    assert bow[4, 0] and bow[4, 7] and not bow[0, 4]  # noqa: PT018


def test_set_pixels_stay_set() -> None:
    mask = filled([(0, 0), (4, 0), (4, 4), (0, 4)])
    fill_polygon(mask, [(2, 2), (6, 2), (6, 6), (2, 6)])
    assert mask.sum() == 16 + 16 - 4


@pytest.mark.parametrize("points", [[], [(1, 1)], [(1, 1), (9, 9)], [(3, 3)] * 5, [(-9, -9), (-3, -9), (-3, -3)]])
def test_what_encloses_nothing_marks_nothing(points: object) -> None:
    assert not filled(points).any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300, 2e7])
def test_coordinates_that_are_none_are_refused(bad: float) -> None:
    with pytest.raises(DatasetError, match="finite pixel coordinates"):
        filled([(0, 0), (bad, 4), (4, 4)])
    with pytest.raises(DatasetError, match="finite pixel coordinates"):
        pixel_boxes([[0, 0, bad, 4]], 10, 10)
    with pytest.raises(DatasetError, match="finite pixel coordinates"):
        fill_ellipse(np.zeros((4, 4), dtype=bool), 1, 1, bad, 1)


@pytest.mark.parametrize("bad", [[1, 2, 3], [[1, 2, 3]] * 3, [["a", "b"]] * 3, [[1, 2], [3]]])
def test_other_shapes_are_refused(bad: object) -> None:
    with pytest.raises(DatasetError, match="polygon: expected 2 numbers"):
        filled(bad)


@given(st.lists(POINT, min_size=3, max_size=8))
def test_agrees_with_counting_crossings(points: list[tuple[float, float]]) -> None:
    assert (filled(points) == by_crossings(points, 16, 20)).all()


@given(st.lists(ANYWHERE, min_size=3, max_size=3), ANYWHERE)
def test_polygons_that_share_edges_share_no_pixel_and_leave_none_out(
    corners: list[tuple[float, float]], middle: tuple[float, float]
) -> None:
    """A fan around a point: by parity, its triangles add up to the whole."""
    parts = [filled([corners[place], corners[(place + 1) % 3], middle]) for place in range(3)]
    assert (np.logical_xor.reduce(parts) == filled(corners)).all()


def away_from(points: np.ndarray, pairs: list[tuple[int, int]], by: float) -> np.ndarray:
    """(16, 20) bool: the centres farther than ``by`` from the line pieces between pairs of points."""
    rows, columns = np.mgrid[:16, :20] + 0.5
    centres = columns + 1j * rows
    corners = points[:, 0] + 1j * points[:, 1]
    far = np.ones((16, 20), dtype=bool)
    for one, other in pairs:
        along = corners[other] - corners[one]
        share = ((centres - corners[one]) * along.conjugate()).real / max(abs(along) ** 2, 1e-12)
        far &= abs(centres - corners[one] - np.clip(share, 0, 1) * along) > by
    return far


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 16)), min_size=3, max_size=7))
def test_agrees_with_pycocotools_away_from_the_outline(corners: list[tuple[float, float]]) -> None:
    """pycocotools moves corners to fifths of a pixel."""
    points = np.array(corners)
    theirs = coco_mask.decode(coco_mask.frPyObjects([points.ravel().tolist()], 16, 20))[..., 0] > 0
    edges = [(place, (place + 1) % len(points)) for place in range(len(points))]
    far = away_from(points, edges, 0.3)
    assert (filled(points) == theirs)[far].all()


@given(st.lists(ANYWHERE, min_size=3, max_size=7))
def test_agrees_with_matplotlib_away_from_the_outline(corners: list[tuple[float, float]]) -> None:
    """By parity, a polygon is the sum of the triangles of a fan from its first corner."""
    points = np.array(corners)
    rows, columns = np.mgrid[:16, :20] + 0.5
    centres = np.stack([columns, rows], -1).reshape(-1, 2)
    inside = np.zeros((16, 20), dtype=bool)
    pairs = []
    for place in range(1, len(points) - 1):
        inside ^= OutlinePath(points[[0, place, place + 1]]).contains_points(centres).reshape(16, 20)
        pairs += [(0, place), (place, place + 1), (0, place + 1)]
    assert (filled(points) == inside)[away_from(points, pairs, 1e-6)].all()


def test_boxes_take_the_pixels_whose_centre_is_inside() -> None:
    boxes = pixel_boxes([[1, 2, 4, 6], [0.5, 0.5, 2.5, 2.5], [0.6, 0.6, 2.6, 2.6], [0.6, 0, 1.4, 9]], 10, 10)
    assert boxes.tolist() == [[1, 2, 4, 6], [0, 0, 2, 2], [1, 1, 3, 3], [1, 0, 1, 9]]


def test_boxes_are_clipped_and_swapped_ones_are_empty() -> None:
    assert pixel_boxes([[-5, -5, 50, 3], [5, 5, 2, 2], [20, 20, 30, 30]], 8, 9).tolist() == [
        [0, 0, 9, 3],
        [5, 5, 5, 5],
        [9, 8, 9, 8],
    ]
    assert pixel_boxes([], 8, 9).shape == (0, 4)


@given(st.lists(st.tuples(*[st.floats(-5, 25)] * 4), min_size=1, max_size=3))
def test_a_box_is_its_polygon(boxes: list[tuple[float, float, float, float]]) -> None:
    for (x0, y0, x1, y1), (a, b, c, d) in zip(boxes, pixel_boxes(boxes, 16, 20).tolist(), strict=True):
        mask = np.zeros((16, 20), dtype=bool)
        mask[b:d, a:c] = True
        expected = filled([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) if x0 <= x1 and y0 <= y1 else np.zeros_like(mask)
        assert (mask == expected).all()


def test_an_ellipse_holds_the_centres_inside_it() -> None:
    mask = np.zeros((30, 40), dtype=bool)
    fill_ellipse(mask, 20, 15, 12, 6, np.pi / 6)
    rows, columns = np.mgrid[:30, :40] + 0.5
    turned = (columns - 20 + 1j * (rows - 15)) * np.exp(-1j * np.pi / 6)
    assert (mask == ((turned.real / 12) ** 2 + (turned.imag / 6) ** 2 < 1)).all()
    assert abs(mask.sum() - np.pi * 72) < 6
    fill_ellipse(mask, 0, 0, 0, 5)
    fill_ellipse(mask, 500, 0, 5, 5)
    assert abs(mask.sum() - np.pi * 72) < 6
    circle = np.zeros((3, 4), dtype=bool)
    fill_ellipse(circle, 0, 0, 1.6, 1.6)
    assert circle.astype(int).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_run_lengths_go_down_the_columns_and_start_outside() -> None:
    mask = decode_rle([3, 4], [1, 2, 4, 5])
    assert mask.astype(int).tolist() == [[0, 0, 0, 1], [1, 0, 1, 1], [1, 0, 1, 1]]
    assert decode_rle([2, 2], [0, 4]).all()


@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 2**32), st.floats(0, 1))
def test_run_lengths_agree_with_pycocotools(height: int, width: int, seed: int, share: float) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < share
    packed = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    assert (decode_rle(packed["size"], packed["counts"].decode()) == pixels).all()


def test_long_runs_agree_with_pycocotools() -> None:
    pixels = np.zeros((2000, 3000), dtype=bool)
    pixels[5:1900, 100:2900:7] = True
    packed = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    assert (decode_rle(packed["size"], packed["counts"].decode()) == pixels).all()


@pytest.mark.parametrize(
    ("size", "counts", "message"),
    [
        ([10, 10], "5", "cover"),
        ([10, 10], "", "cover"),
        ([10, 10], "ooooo", "cut off"),
        ([10, 10], "é", "do not belong"),
        ([10, 10], "o" * 9 + "0", "larger than any mask"),
        ([10, 10], [5, 1000], "cover"),
        ([10, 10], [5, -3, 98], "negative"),
        ([10, 10], [5, 2.5], "whole numbers"),
        ([10, 10], {"a": 1}, "whole numbers"),
        ([10, 10], [10**30], "whole numbers"),
        ([10], [100], "expected size"),
        (["x", 1], [1], "expected size"),
        ([0, 5], [0], "not read"),
        ([100_000, 100_000], [10**10], "not read"),
    ],
)
def test_damaged_run_lengths_are_refused(size: list[int], counts: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        decode_rle(size, counts)  # type: ignore[arg-type]
