"""The pixels of a map from the centre outwards: what a map that always looks at the middle would call salient."""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from explanation_alignment.binarization import as_mask, at, count_pixels
from explanation_alignment.errors import UsageError

__all__ = ["center_point_hits", "center_rank", "check_tolerance", "count_central", "squared_distance"]

#: Into how many rings of equally many pixels a map is cut; ring numbers fit into a byte.
_RINGS: Final = 127


def squared_distance(height: int, width: int) -> np.ndarray:
    """Four times the squared distance of each pixel from the exact centre ((H - 1) / 2, (W - 1) / 2).

    Args:
        height: H, pixels.
        width: W, pixels.

    Returns:
        (H, W) int64; whole numbers, so that pixels equally far away are equal.

    Raises:
        UsageError: a side is not a whole number of at least 1.
    """
    for name, side in (("height", height), ("width", width)):
        if isinstance(side, bool) or not isinstance(side, int) or side < 1:
            raise UsageError(f"{name} is {side!r}; expected a whole number of pixels of at least 1")
    dy = 2 * np.arange(height, dtype=np.int64) - (height - 1)
    dx = 2 * np.arange(width, dtype=np.int64) - (width - 1)
    return dy[:, None] ** 2 + dx**2


@functools.lru_cache(maxsize=32, typed=True)
def center_rank(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """The place of each pixel in the order from the centre outwards.

    ``center_rank(H, W) < a`` is the mask that ``binarize(center_maps, "area")`` gives a Gaussian at the centre beside
    an annotation of ``a`` pixels, without sorting.

    Args:
        height: H, pixels.
        width: W, pixels.
        device: where the result shall be.

    Returns:
        (H, W) int32, each of 0 (most central) to H * W - 1 once; pixels equally far from the centre in row-major
        order, as the ``area`` binarization takes them. The tensor is cached: do not change it.

    Raises:
        UsageError: a side is not a whole number of at least 1.

    Example:
        >>> center_rank(2, 3)
        tensor([[2, 0, 3],
                [4, 1, 5]], dtype=torch.int32)
    """
    order = _order(height, width)
    rank = np.empty(order.size, dtype=np.int32)
    rank[order] = np.arange(rank.size, dtype=np.int32)
    return torch.from_numpy(rank.reshape(height, width)).to(device)


def count_central(annotations: Tensor, annotation_area: Tensor, areas: Tensor) -> Tensor:
    """How many of the most central pixels are annotated: the pixels of ``(center_rank(H, W) < area) & annotation``.

    Args:
        annotations: bool masks (..., B, H, W).
        annotation_area: their pixels (..., B).
        areas: how many central pixels to look at, (B,) or (..., B), integer, from 0 to H * W.

    Returns:
        (..., B), int32.
    """
    # Bytes are compared and joined many times faster than ranks: whole rings first, then part of one ring.
    ring, pixels = _rings(*annotations.shape[-2:], annotations.device)
    size = pixels.shape[1]
    whole = areas // size
    first = whole.to(torch.int8)[..., None, None]
    beyond = torch.ge(ring, first, out=ring.new_empty((*areas.shape, *ring.shape))).view(torch.bool)
    part = torch.arange(size, device=ring.device) < (areas - whole * size)[..., None]
    begun = at(annotations.flatten(-2), pixels[whole]) & part
    return annotation_area - count_pixels(annotations & beyond) + begun.sum(-1, dtype=torch.int32)


def _order(height: int, width: int) -> np.ndarray:
    """The pixels as indices into H * W, from the centre outwards."""
    return squared_distance(height, width).ravel().argsort(kind="stable")


@functools.lru_cache(maxsize=32)
def _rings(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The ring of each pixel, (H, W) int8, and the pixels of each ring and of one beyond, (rings + 1, size) int64."""
    order = _order(height, width)
    size = -(-order.size // _RINGS)
    ring = np.empty(order.size, dtype=np.int8)
    ring[order] = np.arange(order.size) // size
    pixels = np.zeros((_RINGS + 1) * size, dtype=np.int64)
    pixels[: order.size] = order
    tensors = torch.from_numpy(ring.reshape(height, width)), torch.from_numpy(pixels.reshape(-1, size))
    return tensors[0].to(device), tensors[1].to(device)


def center_point_hits(annotation: Tensor, tolerance: float = 15) -> Tensor:
    """The pointing game of a method that always points at the centre (W / 2, H / 2): TorchRay's centre baseline.

    1 if some pixel (x, y) of the annotation has (x - W / 2)^2 + (y - H / 2)^2 < tolerance^2 (strictly), else 0. Unlike
    the maximum of a map, the point may lie between pixels.

    Args:
        annotation: masks (B, H, W) or (B, 1, H, W), at the resolution of the original images for TorchRay's numbers.
        tolerance: in pixels.

    Returns:
        Scores (B,), float32, 0 or 1; NaN where the annotation is empty.

    Raises:
        UsageError: the shape, dtype or values of the mask are wrong, or the tolerance is not a number >= 0.

    Source: Fong, Patrick and Vedaldi, Understanding deep networks via extremal perturbations and smooth masks, ICCV
    2019, and its library TorchRay.

    Example:
        >>> annotation = torch.zeros(1, 4, 40)
        >>> annotation[0, 0, 6] = 1
        >>> center_point_hits(annotation), center_point_hits(annotation, tolerance=14)
        (tensor([1.]), tensor([0.]))
    """
    check_tolerance(tolerance)
    mask = as_mask(annotation, "annotation")
    H, W = mask.shape[-2:]
    dy = 2 * torch.arange(H, device=mask.device)[:, None] - H
    dx = 2 * torch.arange(W, device=mask.device) - W
    near = dy.square() + dx.square() < math.ceil(4 * tolerance**2)  # whole numbers: the strict rule, exactly
    hits = (mask & near).flatten(1).any(1).float()
    return torch.where(mask.flatten(1).any(1), hits, torch.nan)


def check_tolerance(tolerance: float) -> None:
    """Refuse what is no distance in pixels.

    Raises:
        UsageError: the tolerance is not a number >= 0.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf:
        raise UsageError(f"tolerance is {tolerance!r}; expected a distance in pixels >= 0")
