"""Differences of two means: their interval and their size, for many pairs of columns at once.

The interval combines those of the two means (the "method of variance estimates recovery": Newcombe 1998,
doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C; Zou & Donner 2008, doi:10.1002/sim.3095). With
means ``m1`` and ``m2``, their intervals ``(l1, u1)`` and ``(l2, u2)`` and their correlation ``r``,

    low  = m1 - m2 - sqrt((m1 - l1)^2 - 2 r (m1 - l1) (u2 - m2) + (u2 - m2)^2)
    high = m1 - m2 + sqrt((u1 - m1)^2 - 2 r (u1 - m1) (m2 - l2) + (m2 - l2)^2).

For a bounded metric the means' intervals are those of :mod:`~explanation_alignment.statistics.intervals`, so that the
difference's has no width of zero where every score is 0, and leans where the scores are skewed. As in Newcombe's
interval for paired proportions a positive correlation is lessened by a continuity correction,
``1 / (2 n sqrt(m1 (1 - m1) m2 (1 - m2)))``, here with the effective number of images: two models that agree on every
image drawn are not known to agree on every image. For an unbounded metric the means' intervals are Student's, and the
result is the paired t interval, or for different images one of Welch's kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from explanation_alignment.statistics.intervals import MeanEstimator, Scale, wilson_interval

__all__ = ["Differences", "Moments", "moments_of", "paired_differences", "paired_hits", "unpaired_differences"]

_Floats = NDArray[np.float64]

#: Fewer informative units than this make a comparison unreliable, as they do a mean.
_FEW: Final = 30


@dataclass(frozen=True, slots=True)
class Moments:
    """What a column of scores amounts to, for each of several columns; every attribute is (columns,) float64.

    Attributes:
        mean: mean over the defined rows; NaN where there is none.
        variance: variance of that mean, units drawn anew (linearised, since a mean is a ratio).
        low: lower bound of its interval; NaN where unknown.
        high: upper bound.
        units: units with a defined row.
        informative: units whose sum is not 0.
    """

    mean: _Floats
    variance: _Floats
    low: _Floats
    high: _Floats
    units: _Floats
    informative: _Floats


@dataclass(frozen=True, slots=True)
class Differences:
    """First mean minus second, for each of several pairs; every attribute is (pairs,).

    Attributes:
        first: mean of the first.
        second: mean of the second.
        low: lower bound of the interval of their difference; NaN where unknown.
        high: upper bound.
        unreliable: bool, whether the scores are no hits and fewer than 30 units tell the two apart (paired; of many
            units none may), or hold a score other than 0 in one of the two (unpaired).
    """

    first: _Floats
    second: _Floats
    low: _Floats
    high: _Floats
    unreliable: NDArray[np.bool_]


def moments_of(sums: _Floats, counts: _Floats, scales: Sequence[Scale], level: float) -> Moments:
    """Means with their variances and intervals.

    Args:
        sums: (units, columns) float64, sum of a unit's defined scores.
        counts: (units, columns) float64, how many they are.
        scales: (columns,) the values a column can take.
        level: nominal coverage.

    Returns:
        :class:`Moments`. The interval is that of a run's summary where the scale is bounded, else Student's.
    """
    total, images = counts.sum(axis=0), (counts > 0).sum(axis=0).astype(np.float64)
    mean = np.divide(sums.sum(axis=0), total, out=np.full(total.shape, np.nan), where=total > 0)
    residual = sums - np.nan_to_num(mean) * counts
    correction = np.divide(images, images - 1, out=np.full(images.shape, np.nan), where=images > 1)
    variance = correction * np.divide(
        (residual**2).sum(axis=0), total**2, out=np.full(total.shape, np.nan), where=total > 0
    )
    half = stdtrit(np.maximum(images - 1, 1), 0.5 + level / 2) * np.sqrt(variance)
    low, high = mean - half, mean + half
    bounded = np.flatnonzero([scale.bounded for scale in scales])
    if bounded.size:
        estimates = MeanEstimator(level=level).estimate(
            [], sums[:, bounded], counts[:, bounded], total[bounded], scales=[scales[int(c)] for c in bounded]
        )
        low[bounded] = [np.nan if e.low is None else e.low for e in estimates]
        high[bounded] = [np.nan if e.high is None else e.high for e in estimates]
    return Moments(mean, variance, low, high, images, (sums != 0).sum(axis=0).astype(np.float64))


def paired_differences(
    first: _Floats, second: _Floats, counts: _Floats, scales: Sequence[Scale], level: float
) -> Differences:
    """Differences on the same decisions.

    Args:
        first: (units, pairs) float64, sum of a unit's scores in the first of a pair, over the rows that both define.
        second: the same in the second.
        counts: (units, pairs) float64, how many rows these are.
        scales: (pairs,) the values the scores can take.
        level: nominal coverage of the intervals.

    Returns:
        :class:`Differences`; NaN where no row is defined, bounds NaN where they are unknown.
    """
    one, two = moments_of(first, counts, scales, level), moments_of(second, counts, scales, level)
    residuals = [sums - np.nan_to_num(m.mean) * counts for sums, m in ((first, one), (second, two))]
    squares = [(residual**2).sum(axis=0) for residual in residuals]
    product = np.sqrt(squares[0] * squares[1])
    correlation = np.divide(
        (residuals[0] * residuals[1]).sum(axis=0), product, out=np.zeros(product.shape), where=product > 0
    )
    low, high = _combined(one, two, _corrected(correlation, one, two, scales))
    differing = (first != second).sum(axis=0)
    few = (differing < _FEW) & ((differing > 0) | (one.units < _FEW))
    binary = np.array([scale.binary for scale in scales], bool)
    return Differences(one.mean, two.mean, low, high, few & ~binary)


def paired_hits(both: _Floats, first_only: _Floats, second_only: _Floats, n: _Floats, level: float) -> Differences:
    """:func:`paired_differences` of hits, one row a unit, from their counts: quick for very many pairs.

    Args:
        both: (pairs,) images that both hit.
        first_only: (pairs,) images that only the first hits.
        second_only: (pairs,) images that only the second does.
        n: (pairs,) images.
        level: nominal coverage of the intervals.
    """
    hit = Scale(0, 1, binary=True)
    moments = []
    for hits in (both + first_only, both + second_only):
        mean = np.divide(hits, n, out=np.full(n.shape, np.nan), where=n > 0)
        variance = np.divide(mean * (1 - mean), n - 1, out=np.full(n.shape, np.nan), where=n > 1)
        moments.append(Moments(mean, variance, *wilson_interval(hits, n, level), n, hits))
    one, two = moments
    spread = np.sqrt(one.mean * (1 - one.mean) * two.mean * (1 - two.mean))
    with np.errstate(invalid="ignore"):
        covariance = both / np.where(n > 0, n, np.nan) - one.mean * two.mean
        correlation = np.divide(covariance, spread, out=np.zeros(n.shape), where=spread > 0)
    low, high = _combined(one, two, _corrected(correlation, one, two, [hit] * n.size))
    return Differences(one.mean, two.mean, low, high, np.zeros(n.shape, bool))


def unpaired_differences(one: Moments, two: Moments, scales: Sequence[Scale]) -> Differences:
    """Differences between columns of different images; arguments as from :func:`moments_of`."""
    low, high = _combined(one, two, np.zeros(one.mean.shape))
    binary = np.array([scale.binary for scale in scales], bool)
    few = np.minimum(one.informative, two.informative) < _FEW
    return Differences(one.mean, two.mean, low, high, few & ~binary)


def _corrected(correlation: _Floats, one: Moments, two: Moments, scales: Sequence[Scale]) -> _Floats:
    """The correlation less the continuity correction, for bounded scores."""
    bounded = np.array([scale.bounded for scale in scales], bool)
    bottom = np.array([scale.low if scale.bounded else 0.0 for scale in scales])
    span = np.array([scale.high - scale.low if scale.bounded else 1.0 for scale in scales])
    # 1 / (2 n_eff sqrt(v1 v2)) with v = m (1 - m) and n_eff = sqrt(v1 v2 / (variances of the means))
    spreads = [np.clip((m.mean - bottom) / span, 0, 1) for m in (one, two)]
    spreads = [share * (1 - share) for share in spreads]
    trials = spreads[0] * spreads[1]
    errors = np.sqrt(one.variance * two.variance) / span**2
    correction = np.divide(errors, 2 * trials, out=np.ones(errors.shape), where=trials > 0)
    lessened = np.where(correlation > 0, np.maximum(correlation - np.nan_to_num(correction, nan=1.0), 0), correlation)
    return np.where(bounded, lessened, correlation)


def _combined(one: Moments, two: Moments, correlation: _Floats) -> tuple[_Floats, _Floats]:
    difference = one.mean - two.mean
    bounds = []
    for sign, mine, other in (
        (-1, one.mean - one.low, two.high - two.mean),
        (1, one.high - one.mean, two.mean - two.low),
    ):
        square = mine**2 - 2 * correlation * mine * other + other**2
        bounds.append(difference + sign * np.sqrt(np.maximum(square, 0)))
    return bounds[0], bounds[1]
