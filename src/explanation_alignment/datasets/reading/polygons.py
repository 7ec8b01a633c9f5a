"""From outlines with real coordinates to pixels: one rule for polygons, boxes and ellipses.

The pixel in row r and column c covers the square from (c, r) to (c + 1, r + 1). It belongs to a shape when its centre
(c + .5, r + .5) does. Crossings are counted half-open, so that two polygons that share an edge never share a pixel and
leave none out between them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explanation_alignment.errors import DatasetError

__all__ = ["fill_ellipse", "fill_polygon", "pixel_boxes"]

#: Coordinates beyond this are damage, not a shape that leaves the image.
_FARTHEST: Final = 1e7
#: Crossings of rows that are worked on at once.
_CROSSINGS: Final = 2_000_000


def fill_polygon(mask: NDArray[np.bool_], points: ArrayLike) -> None:
    """Set the pixels whose centre lies inside a closed polygon, by the even-odd rule.

    What a polygon that crosses itself encloses twice is outside. Fewer than three points enclose nothing. What lies
    outside the image is clipped.

    Args:
        mask: (H, W) bool array, changed in place; pixels that are set stay set.
        points: (N, 2) x and y in pixels; the last point is joined to the first.

    Raises:
        DatasetError: for another shape, or coordinates that are not finite or beyond 1e7.
    """
    corners = _checked(points, "polygon", (None, 2))
    if len(corners) < 3 or mask.size == 0:
        return
    height, width = mask.shape
    edges = np.hstack([corners, np.roll(corners, -1, axis=0)])
    # Every edge runs downwards, so that polygons that share one compute the very same crossings.
    edges = np.where((edges[:, 1] > edges[:, 3])[:, None], edges[:, [2, 3, 0, 1]], edges)
    rows = np.clip(np.ceil(edges[:, [1, 3]] - 0.5), 0, height).astype(np.int64)
    crossing = rows[:, 1] > rows[:, 0]
    edges, rows = edges[crossing], rows[crossing]
    if not len(edges):
        return
    top, bottom = int(rows[:, 0].min()), int(rows[:, 1].max())
    left, right = np.clip(np.ceil([corners[:, 0].min() - 0.5, corners[:, 0].max() - 0.5]), 0, width).astype(int)
    flips = np.zeros((bottom - top, right - left + 1), dtype=np.uint8)
    at_once = max(1, _CROSSINGS // (bottom - top))
    for start in range(0, len(edges), at_once):
        _flip(flips, edges[start : start + at_once], rows[start : start + at_once], top, left)
    inside = np.bitwise_xor.accumulate(flips, axis=1)[:, :-1]
    mask[top:bottom, left:right] |= inside.view(np.bool_)


def _flip(flips: NDArray[np.uint8], edges: NDArray[np.float64], rows: NDArray[np.int64], top: int, left: int) -> None:
    """Flip, for every row an edge crosses, the first pixel whose centre is at or right of the crossing."""
    lengths = rows[:, 1] - rows[:, 0]
    edge = np.repeat(np.arange(len(edges)), lengths)
    row = rows[edge, 0] + np.arange(len(edge)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    x0, y0, x1, y1 = edges[edge].T
    x = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
    column = np.clip(np.ceil(x - 0.5) - left, 0, flips.shape[1] - 1).astype(np.int64)
    np.bitwise_xor.at(flips, (row - top, column), 1)


def pixel_boxes(boxes: ArrayLike, height: int, width: int) -> NDArray[np.int64]:
    """Boxes with real coordinates as half-open pixel ranges: the pixels whose centre lies inside.

    Args:
        boxes: (N, 4) x0, y0, x1, y1 in pixels.
        height: the image's height.
        width: the image's width.

    Returns:
        (N, 4) int64, clipped to the image; a box that holds no centre, or whose corners are swapped, comes out empty.

    Raises:
        DatasetError: for another shape, or coordinates that are not finite or beyond 1e7.
    """
    corners = _checked(boxes, "box", (None, 4))
    ranges = np.clip(np.ceil(corners - 0.5), 0, [width, height, width, height]).astype(np.int64)
    ranges[:, 2:] = np.maximum(ranges[:, 2:], ranges[:, :2])
    return ranges


def fill_ellipse(
    mask: NDArray[np.bool_], x: float, y: float, radius_x: float, radius_y: float, angle: float = 0.0
) -> None:
    """Set the pixels whose centre lies inside an ellipse.

    Args:
        mask: (H, W) bool array, changed in place.
        x: of its centre, in pixels.
        y: of its centre, in pixels.
        radius_x: half its length along x before it is turned; one that is not positive encloses nothing.
        radius_y: the same along y.
        angle: by how much it is turned, in radians, from x towards y.

    Raises:
        DatasetError: for numbers that are not finite or beyond 1e7.
    """
    _checked([[x, y, radius_x, radius_y]], "ellipse", (None, 4))
    _checked([[angle]], "ellipse", (None, 1))
    if radius_x <= 0 or radius_y <= 0:
        return
    reach = max(radius_x, radius_y)
    ((left, top, right, bottom),) = pixel_boxes([[x - reach, y - reach, x + reach, y + reach]], *mask.shape)
    dy = np.arange(top, bottom)[:, None] + 0.5 - y
    dx = np.arange(left, right)[None, :] + 0.5 - x
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / radius_x
    across = (dy * np.cos(angle) - dx * np.sin(angle)) / radius_y
    mask[top:bottom, left:right] |= along**2 + across**2 < 1


def _checked(numbers: ArrayLike, what: str, shape: tuple[None, int]) -> NDArray[np.float64]:
    try:
        array = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError):
        raise DatasetError(f"{what}: expected {shape[1]} numbers for each") from None
    if array.size == 0:
        return np.zeros((0, shape[1]))
    if array.ndim != 2 or array.shape[1] != shape[1]:
        raise DatasetError(f"{what}: expected {shape[1]} numbers for each, got an array of shape {array.shape}")
    if not (np.abs(array) <= _FARTHEST).all():
        raise DatasetError(f"{what}: expected finite pixel coordinates, got {array[~(np.abs(array) <= _FARTHEST)][0]}")
    return array
