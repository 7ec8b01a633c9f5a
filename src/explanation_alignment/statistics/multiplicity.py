"""Corrections for several tests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from explanation_alignment.errors import UsageError

__all__ = ["benjamini_hochberg", "holm"]


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment of a family of p-values (Holm 1979, Scandinavian Journal of Statistics 6).

    The k-th smallest of m is multiplied by m - k + 1, made no smaller than those before it, and cut at 1. The chance of
    even one false rejection is at most the level at which adjusted values are rejected, whatever the dependence.

    Args:
        p_values: (tests,) numbers in [0, 1].

    Returns:
        (tests,) float64, in the order given.

    Raises:
        UsageError: a value is no probability.
    """
    p = _probabilities(p_values)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Benjamini and Hochberg's adjustment of a family of p-values (1995, doi:10.1111/j.2517-6161.1995.tb02031.x).

    Of the tests rejected at adjusted values of at most q, a share of at most q is expected to be false, where the tests
    are independent or depend on each other positively. Less strict than :func:`holm`.

    Args:
        p_values: (tests,) numbers in [0, 1].

    Returns:
        (tests,) float64, in the order given.

    Raises:
        UsageError: a value is no probability.
    """
    p = _probabilities(p_values)
    if p.size == 0:
        return p
    adjusted: NDArray[np.float64] = false_discovery_control(p, method="bh")
    return adjusted


def _probabilities(p_values: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise UsageError("p-values must be a list of numbers from 0 to 1")
    return p
