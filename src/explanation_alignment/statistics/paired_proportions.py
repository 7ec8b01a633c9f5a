"""Two proportions measured on the same images: the difference, its interval and its test.

Source: Tango 1998 (Statistics in Medicine 17, 891-908): the score test of a given difference, with the other parameter
of the two discordant cells at its maximum-likelihood value under that difference; the interval holds the differences
that the test does not reject. Unlike the usual normal interval it stays honest for rare events and has no width of
zero where nothing happened in any image.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

__all__ = ["difference_interval", "difference_statistic", "one_sided_p"]

_Floats = NDArray[np.float64]

#: Halvings of [-1, 1] until the bound is known to float64.
_HALVINGS: Final = 60


def difference_statistic(
    first_only: ArrayLike, second_only: ArrayLike, images: ArrayLike, difference: ArrayLike
) -> _Floats:
    """The score statistic of a difference between the two proportions; standard normal where that difference is true.

    Args:
        first_only: images where the first event happened and not the second; need not be whole.
        second_only: images where the second happened and not the first; broadcasts, as all do.
        images: how many there are.
        difference: first proportion minus second, to be tested; inside (-1, 1).

    Returns:
        float64 array; large where the observed difference exceeds the tested one; NaN where there is no image.
    """
    b, c, n, d = np.broadcast_arrays(
        *(np.asarray(v, np.float64) for v in (first_only, second_only, images, difference))
    )
    # the likelihood's equation for the second cell is 2n q^2 + linear q - c d (1 - d) = 0
    linear = -b - c + (2 * n - b + c) * d
    root = np.sqrt(np.maximum(linear**2 + 8 * n * c * d * (1 - d), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        second = np.maximum((root - linear) / (4 * n), 0)
        spread = np.sqrt(n * np.maximum(2 * second + d * (1 - d), 0))
        gap = b - c - n * d
        return np.where(gap == 0, np.where(n > 0, 0.0, np.nan), gap / spread)


def difference_interval(
    first_only: ArrayLike, second_only: ArrayLike, images: ArrayLike, level: float = 0.95
) -> tuple[_Floats, _Floats]:
    """Bounds of first proportion minus second.

    Args:
        first_only: as in :func:`difference_statistic`; so are the others.
        second_only: likewise.
        images: likewise.
        level: nominal coverage.

    Returns:
        Lower and upper bounds, float64 in [-1, 1]; NaN where there is no image.
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (first_only, second_only, images)))
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = (b - c) / n
    z = float(ndtri(0.5 + level / 2))
    bounds = []
    for end in (-1.0, 1.0):
        rejected, kept = np.full(b.shape, end), observed.copy()
        for _ in range(_HALVINGS):
            middle = (rejected + kept) / 2
            far = np.abs(difference_statistic(b, c, n, middle)) > z
            rejected, kept = np.where(far, middle, rejected), np.where(far, kept, middle)
        bounds.append(np.where(np.isnan(observed), np.nan, kept))
    return bounds[0], bounds[1]


def one_sided_p(statistic: ArrayLike) -> _Floats:
    """The chance of a standard normal value at least as large; NaN stays NaN."""
    tail: _Floats = ndtr(-np.asarray(statistic, np.float64))
    return tail
