"""The one estimator: a mean over decisions together with its interval.

What is uncertain is which images were drawn: images are exchangeable, rows of one image are not independent, so the
unit of every interval is the image with all its rows (or a cluster of images with all of theirs). Which interval a
column gets depends on the values it can take:

- 0 or 1 (hits), one row a unit: the Wilson score interval.
- a bounded range (IoU and most others): the Wilson interval for the *effective* number of units, the number at which
  hits with the same mean would vary as much as the scores do (n m (1 - m) / s^2; for several rows a unit, by the
  linearised variance of the ratio), with Student's quantile. This is the interval used for proportions in survey
  samples (Korn & Graubard 1998, Survey Methodology 24; Franco, Little, Louis & Slud 2019, doi:10.1093/jssam/smy019). It
  stays within the range, has no width of zero where every score is 0, and leans as hits with that mean would. Where
  the scores lean further that way, the bound on that side moves out by the first term of the studentised mean's
  Edgeworth expansion, (2 z^2 + 1) / 6 standard errors times the skewness in excess (Hall 1992, The Bootstrap and
  Edgeworth Expansion, section 2.6); no bound moves in.
- otherwise (divergences): the bootstrap with bias correction and acceleration (BCa; Efron 1987,
  doi:10.1080/01621459.1987.10478410). Columns that cover the same images are resampled with the *same* weights:
  differences between them keep their pairing, and the whole table costs one matrix product.

An interval that the data cannot support is marked ``unreliable`` (see :class:`Estimate`). How often the intervals hold
the true mean, by design and number of images, is measured by ``simulations/coverage.py`` and stands in
``docs/statistics.md``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri, stdtrit

from explanation_alignment.errors import UsageError

__all__ = ["Estimate", "MeanEstimator", "Moments", "Scale", "resample_weights", "wilson_interval"]

_Floats = NDArray[np.float64]

#: Cells of one block of the (resamples, images) weights: 16 MB of float64.
_BLOCK_CELLS: Final = 1 << 21
#: Fewer values other than 0 than this make an estimate unreliable.
_FEW_VALUES: Final = 30
#: Fewer units than this do: with few clusters of unequal size the variance is too uncertain for Student's quantile.
_FEW_UNITS: Final = 20
#: Fewer misses than this do, where the value is a hit or a miss.
_FEW_MISSES: Final = 10
#: So do two seeds, which cannot tell how far seeds lie apart.
_TWO_SEEDS: Final = 2
#: A standard error above this share of the way from the mean to the nearer end of the scale does.
_LARGE_ERROR: Final = 0.19
#: A variance that rests on fewer units than this does, unless the scores' kurtosis is at most the second number.
_FEW_BEHIND_VARIANCE: Final = 8.0
_PLAIN_KURTOSIS: Final = 5.0


#: A variance of scores on their scale that is no more than the rounding of their sums.
_ROUNDING: Final = 1e-24


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its interval.

    Attributes:
        mean: mean over the defined values; None where there is none.
        low: lower bound of the interval; None where there is no mean, or no telling (a bootstrap of one image).
        high: upper bound, likewise.
        n: how many values are defined.
        n_undefined: how many are not.
        method: ``"wilson"``, ``"effective wilson"``, ``"bca bootstrap"``, or ``"student"`` (unbounded, over seeds or of
            a sample).
        unreliable: whether the interval rests on too little to hold the true mean as often as it says. Any of these
            makes it so: fewer than 30 images with a value other than 0; fewer than 20 units; two seeds; of hits, fewer
            than 10 misses; of other bounded scores, a standard error above 19 % of the way from the mean to the nearer
            end of the scale; of all but hits, a variance that fewer than 8 units make up ((sum r^2)^2 / sum r^4 of
            the residuals r), unless their kurtosis is at most 5 (a few large values over many tiny ones).
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    n_undefined: int
    method: str
    unreliable: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """The values a column can take.

    Attributes:
        low: the smallest.
        high: the largest.
        binary: only these two.
    """

    low: float = -math.inf
    high: float = math.inf
    binary: bool = False

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def wilson_interval(successes: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[_Floats, _Floats]:
    """Wilson score interval of a proportion (Wilson 1927, doi:10.1080/01621459.1927.10502953), without correction.

    Unlike a bootstrap it does not shrink to a point when every trial has the same outcome.

    Args:
        successes: how many trials succeeded; need not be whole (a mean over clusters times their number).
        trials: how many trials there were; broadcasts with ``successes``.
        level: the share of samples whose interval holds the true proportion.

    Returns:
        Lower and upper bounds, float64 arrays of the broadcast shape; NaN where there is no trial.

    Raises:
        UsageError: ``level`` is not inside (0, 1).
    """
    _check_level(level)
    hits, n = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    share = np.divide(hits, n, out=np.full(n.shape, np.nan), where=n > 0)
    return _score_interval(share, n, float(ndtri(0.5 + level / 2)))


def _score_interval(share: _Floats, n: _Floats, z: float | _Floats) -> tuple[_Floats, _Floats]:
    """The shares whose score test, with the quantile z, does not reject ``share`` out of n."""
    z2 = z * z
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = z * np.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # exact at the ends, where rounding would leave 1e-18
    low = np.where(share == 0, 0.0, np.maximum(centre - half, 0))
    high = np.where(share == 1, 1.0, np.minimum(centre + half, 1))
    return low, high


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UsageError(f"level must lie between 0 and 1, such as 0.95; got {level}")


def _generator(ids: Sequence[str], seed: int) -> np.random.Generator:
    digest = hashlib.blake2b("\x00".join(sorted(ids)).encode(), digest_size=16, salt=b"resampling").digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])


def resample_weights(ids: Sequence[str], *, n_resamples: int, seed: int) -> Iterator[_Floats]:
    """How often each image is drawn in each resample, in blocks.

    The draws depend on the seed and on the set of ids only: not on their order, nor on what else a table holds.

    Args:
        ids: sample ids, without repetition.
        n_resamples: resamples in all.
        seed: a non-negative integer.

    Yields:
        float64 arrays (resamples of this block, images), columns in the order of the *sorted* ids; each row is a
        draw with replacement of as many images as there are. A block is overwritten by the next.
    """
    generator = _generator(ids, seed)
    n = len(ids)
    per_block = min(n_resamples, max(1, _BLOCK_CELLS // max(n, 1)))
    block = np.empty((per_block, n))
    for start in range(0, n_resamples, per_block):
        rows = min(per_block, n_resamples - start)
        drawn = generator.integers(0, n, size=(rows, n))
        for row in range(rows):  # row by row the counts stay in the processor's cache: four times as fast as at once
            block[row] = np.bincount(drawn[row], minlength=n)
        yield block[:rows]


@dataclass(frozen=True, slots=True)
class MeanEstimator:
    """Means over decisions with their intervals, for all columns of a table at once.

    A mean is the ratio (sum of the defined values) / (number of defined values) over images, so its interval also
    carries the uncertainty of which rows are defined. The module's text tells which interval a column gets.

    Attributes:
        level: nominal coverage of the interval.
        n_resamples: bootstrap resamples.
        seed: seed of the draws; the same seed and ids give the same interval.
    """

    level: float = 0.95
    n_resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        _check_level(self.level)
        if self.n_resamples < 1:
            raise UsageError(f"n_resamples must be at least 1, got {self.n_resamples}")
        if self.seed < 0:
            raise UsageError(f"seed must not be negative, got {self.seed}")

    def replicates(self, ids: Sequence[str], sums: _Floats, counts: _Floats) -> _Floats:
        """Bootstrap replicates of every column's mean.

        Args:
            ids: sample ids in sorted order, (images,).
            sums: (images, columns) float64, sum of an image's defined values in a column.
            counts: (images, columns) float64, how many they are.

        Returns:
            (n_resamples, columns) float64; NaN where a resample holds no defined value.
        """
        result = np.empty((self.n_resamples, sums.shape[1]))
        start = 0
        # a column whose images all hold equally many values has a constant denominator
        constant = (counts == counts[:1]).all(axis=0)
        varying = np.flatnonzero(~constant)
        for weights in resample_weights(ids, n_resamples=self.n_resamples, seed=self.seed):
            totals = weights @ sums
            denominators = np.broadcast_to(counts.sum(axis=0), totals.shape).copy()
            if varying.size:
                denominators[:, varying] = weights @ counts[:, varying]
            block = result[start : start + len(weights)]
            block.fill(np.nan)
            np.divide(totals, denominators, out=block, where=denominators > 0)
            start += len(weights)
        return result

    def estimate(
        self,
        ids: Sequence[str],
        sums: _Floats,
        counts: _Floats,
        rows: ArrayLike,
        *,
        scales: Sequence[Scale] | None = None,
        nonzero: ArrayLike | None = None,
    ) -> list[Estimate]:
        """Mean and interval of every column.

        Args:
            ids: ids of the units (images or clusters) in sorted order, (units,); they seed the bootstrap and may be
                left empty where every scale is bounded.
            sums: (units, columns) float64, sum of a unit's defined values in a column.
            counts: (units, columns) float64, how many they are.
            rows: (columns,) how many rows a column has, defined or not.
            scales: (columns,) what values they can take; unbounded by default.
            nonzero: (columns,) how many images have a value other than 0, where a unit is more than an image; by
                default the units whose sum is not 0.

        Returns:
            An :class:`Estimate` a column.
        """
        columns = sums.shape[1]
        scales = [Scale()] * columns if scales is None else scales
        moments = _moments(sums[:, None], counts[:, None])
        low, high = self._bounded(moments, scales)
        drawn = np.flatnonzero([not scale.bounded for scale in scales] & (moments.units > 1))
        if drawn.size:
            replicates = self.replicates(ids, sums[:, drawn], counts[:, drawn])
            low[drawn], high[drawn] = _bca(replicates, sums[:, drawn], counts[:, drawn], self.level)
        informative = (sums != 0).sum(axis=0) if nonzero is None else np.asarray(nonzero)
        return _estimates(moments, low, high, rows, scales, informative, "bca bootstrap")

    def estimate_crossed(
        self,
        sums: _Floats,
        counts: _Floats,
        rows: ArrayLike,
        *,
        scales: Sequence[Scale] | None = None,
        nonzero: ArrayLike | None = None,
    ) -> list[Estimate]:
        """Mean over seeds and images with an interval for both: another set of images and another training run.

        The same images are scored under every seed, so the two are crossed. The variance of the mean is that of the
        image means, plus that of the seed means less that of what neither explains, which both contain (the two-way
        random effects model, Searle, Casella & McCulloch 1992, Variance Components, chapter 4); what the seeds add is
        never below 0. Each part keeps the Student quantile of its own degrees of freedom, the squares weighted by the
        parts (Cochran & Cox's approximation): with Satterthwaite's degrees of freedom, which take two or three seeds'
        word for how little seeds differ, 95 % intervals held the true mean in 88 % of samples of two seeds and 92 %
        of three. Two seeds are always marked unreliable. With one seed the result is that of :meth:`estimate` for a
        bounded scale, and Student's interval for an unbounded one.

        Args:
            sums: (units, seeds, columns) float64, sum of the defined values of a unit under a seed.
            counts: (units, seeds, columns) float64, how many they are.
            rows: (columns,) how many rows a column has, defined or not.
            scales: as in :meth:`estimate`.
            nonzero: as in :meth:`estimate`; by default the units with a value other than 0 under any seed.

        Returns:
            An :class:`Estimate` a column.
        """
        columns = sums.shape[2]
        scales = [Scale()] * columns if scales is None else scales
        informative = (sums != 0).any(axis=1).sum(axis=0) if nonzero is None else np.asarray(nonzero)
        return self.estimate_moments(_moments(sums, counts), rows, scales, informative)

    def estimate_moments(
        self, moments: Moments, rows: ArrayLike, scales: Sequence[Scale], informative: NDArray[np.int64]
    ) -> list[Estimate]:
        """Mean and interval of every column from its moments, without resampling.

        Args:
            moments: of the columns.
            rows: as in :meth:`estimate`.
            scales: as in :meth:`estimate`.
            informative: (columns,) how many images have a value other than 0.

        Returns:
            An :class:`Estimate` a column; Student's interval for an unbounded scale.
        """
        low, high = self._bounded(moments, scales)
        free = np.flatnonzero([not scale.bounded for scale in scales] & (moments.units > 1))
        half = (moments.quantile(0.5 + self.level / 2) * np.sqrt(moments.variance))[free]
        low[free], high[free] = moments.mean[free] - half, moments.mean[free] + half
        return _estimates(moments, low, high, rows, scales, informative, "student")

    def _bounded(self, moments: Moments, scales: Sequence[Scale]) -> tuple[_Floats, _Floats]:
        """Wilson intervals, on each bounded column's own scale, for the number of units its variance amounts to."""
        bottom = np.array([scale.low if scale.bounded else 0.0 for scale in scales])
        span = np.array([scale.high - scale.low if scale.bounded else np.nan for scale in scales])
        units = moments.units.astype(np.float64)
        share = np.clip((moments.mean - bottom) / span, 0, 1)
        variance = moments.variance / span**2
        variance = np.where(variance > _ROUNDING, variance, 0.0)
        effective = np.divide(share * (1 - share), variance, out=units.copy(), where=variance > 0)
        tail = 0.5 + self.level / 2
        quantile = moments.quantile(tail)
        hits = moments.single & [scale.binary for scale in scales]
        effective[hits], quantile[hits] = units[hits], ndtri(tail)
        low, high = _score_interval(share, effective, quantile)
        some = ~hits & (variance > 0) & (share > 0) & (share < 1)
        of_hits = np.zeros(share.shape)
        of_hits[some] = (1 - 2 * share[some]) / np.sqrt(effective[some] * share[some] * (1 - share[some]))
        step = np.where(some, (2 * ndtri(tail) ** 2 + 1) / 6 * np.sqrt(variance), 0.0)
        beyond = [np.maximum(side * moments.skewness, 0) - np.maximum(side * of_hits, 0) for side in (-1, 1)]
        low = np.maximum(low - step * np.maximum(beyond[0], 0), 0)
        high = np.minimum(high + step * np.maximum(beyond[1], 0), 1)
        # Scores that do not vary tell how often others can occur, at most, and nothing of how far away these lie.
        constant = ~hits & (variance == 0)
        unseen = (quantile**2 / (units + quantile**2))[constant]
        low[constant] = share[constant] * (1 - unseen)
        high[constant] = share[constant] + (1 - share[constant]) * unseen
        return bottom + span * low, bottom + span * high


@dataclass(frozen=True, slots=True)
class Moments:
    """What the values of units amount to; every attribute is (columns,).

    Attributes:
        mean: float64, mean over the defined values; NaN where there is none.
        n: float64, how many they are.
        units: int64, units with a defined value.
        seeds: int64, seeds with a defined value.
        variance: float64, of the mean, whatever seeds add included; 0 for one unit.
        added: float64, what seeds add to it.
        skewness: float64, of the mean.
        behind_variance: float64, how many units make up the variance: (sum r^2)^2 / sum r^4.
        single: bool, whether no unit holds more than one value, and each counts as much.
        freedom: float64, degrees of freedom of the units, where they are not one less than their number.
    """

    mean: _Floats
    n: _Floats
    units: NDArray[np.int64]
    seeds: NDArray[np.int64]
    variance: _Floats
    added: _Floats
    skewness: _Floats
    behind_variance: _Floats
    single: NDArray[np.bool_]
    freedom: _Floats | None = None

    @property
    def degrees(self) -> _Floats:
        """Degrees of freedom of the units, at least 1; (columns,) float64."""
        return np.maximum(self.units - 1, 1).astype(np.float64) if self.freedom is None else self.freedom

    def quantile(self, tail: float) -> _Floats:
        """The quantile for the mean: Student's for the units, or the two parts' own; (columns,) float64."""
        of_units: _Floats = stdtrit(self.degrees, tail)
        of_seeds: _Floats = stdtrit(np.maximum(self.seeds - 1, 1), tail)
        share = _ratio(self.added, self.variance, 0.0)
        return np.sqrt((1 - share) * of_units**2 + share * of_seeds**2)


def _moments(sums: _Floats, counts: _Floats) -> Moments:
    """Moments of the ratio sum / count, linearised; arguments (units, seeds, columns)."""
    per_unit = counts.sum(axis=1)
    n, units = per_unit.sum(axis=0), (per_unit > 0).sum(axis=0)
    mean = _ratio(sums.sum(axis=(0, 1)), n, np.nan)
    known = np.where(n > 0, mean, 0.0)
    of_unit = sums.sum(axis=1) - known * per_unit
    squares = of_unit * of_unit
    total = squares.sum(axis=0)
    # the first factor is that of a sample variance
    variance = units / np.maximum(units - 1, 1) * _ratio(total, n**2, 0.0)
    seeds = (counts.sum(axis=0) > 0).sum(axis=0)
    several = sums.shape[1] > 1
    added = _seed_part(sums - known * counts, n, units, seeds) if several else np.zeros(variance.shape)
    variance = variance + added
    third = _ratio((squares * of_unit).sum(axis=0), n**3, 0.0)
    return Moments(
        mean=mean,
        n=n,
        units=units,
        seeds=seeds,
        variance=variance,
        added=added,
        skewness=_ratio(third, variance**1.5, 0.0),
        behind_variance=_ratio(total**2, (squares * squares).sum(axis=0), 0.0),
        single=(per_unit <= 1).all(axis=0),
    )


def _seed_part(residuals: _Floats, n: _Floats, units: NDArray[np.int64], seeds: NDArray[np.int64]) -> _Floats:
    """What seeds add to the variance of the mean; 0 for one seed.

    Args:
        residuals: (units, seeds, columns), sum minus mean times count.
        n: (columns,) defined values.
        units: (columns,) units with a defined value.
        seeds: (columns,) seeds with a defined value.
    """
    images, runs = np.maximum(units, 1), np.maximum(seeds, 1)
    of_seed = residuals.sum(axis=0)
    # what is left of a cell when its unit's and its seed's share are taken out; the mean residual is 0
    left = residuals - residuals.sum(axis=1, keepdims=True) / runs - of_seed / images
    between = runs / np.maximum(runs - 1, 1) * (of_seed**2).sum(axis=0)
    within = images * runs / np.maximum((images - 1) * (runs - 1), 1) * (left**2).sum(axis=(0, 1))
    return np.where((seeds > 1) & (units > 1), _ratio(np.maximum(between - within, 0.0), n**2, 0.0), 0.0)


def _ratio(above: _Floats, below: _Floats, otherwise: float) -> _Floats:
    ratio: _Floats = np.divide(above, below, out=np.full(np.shape(above), otherwise), where=below > 0)
    return ratio


def _estimates(
    moments: Moments,
    low: _Floats,
    high: _Floats,
    rows: ArrayLike,
    scales: Sequence[Scale],
    informative: NDArray[np.int64],
    unbounded: str,
) -> list[Estimate]:
    undefined = np.asarray(rows, np.int64) - moments.n.astype(np.int64)
    unreliable = _unreliable(moments, scales, informative)
    return [
        Estimate(
            mean=_or_none(moments.mean[c]),
            low=_or_none(low[c]),
            high=_or_none(high[c]),
            n=int(moments.n[c]),
            n_undefined=int(undefined[c]),
            method="wilson" if scale.binary else "effective wilson" if scale.bounded else unbounded,
            unreliable=bool(unreliable[c]),
        )
        for c, scale in enumerate(scales)
    ]


def _unreliable(moments: Moments, scales: Sequence[Scale], informative: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether too little stands behind an interval, (columns,); the rule is that of :class:`Estimate`."""
    few: NDArray[np.bool_] = (informative < _FEW_VALUES) | (moments.units < _FEW_UNITS) | (moments.seeds == _TWO_SEEDS)
    hits = moments.single & [scale.binary for scale in scales]
    misses = moments.n * (1 - np.nan_to_num(moments.mean))
    bounded = np.array([scale.bounded for scale in scales])
    room = np.array([[scale.low, scale.high] if scale.bounded else [0.0, 0.0] for scale in scales]).reshape(-1, 2)
    room = np.abs(np.nan_to_num(moments.mean)[:, None] - room).min(axis=1)
    wide = bounded & (np.sqrt(moments.variance) > _LARGE_ERROR * room) & (moments.variance > 0)
    kurtosis = _ratio(moments.units.astype(np.float64), moments.behind_variance, 0.0)
    uneven = (moments.behind_variance < _FEW_BEHIND_VARIANCE) & (kurtosis > _PLAIN_KURTOSIS)
    return few | np.where(hits, misses < _FEW_MISSES, wide | uneven)


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _bca(replicates: _Floats, sums: _Floats, counts: _Floats, level: float) -> tuple[_Floats, _Floats]:
    """Bounds with bias correction and acceleration, a column each (Efron 1987); replicates may hold NaN."""
    total, number = sums.sum(axis=0), counts.sum(axis=0)
    mean = total / number
    left = number - counts
    without = np.divide(total - sums, left, out=np.broadcast_to(mean, sums.shape).copy(), where=left > 0)
    influence = without.mean(axis=0) - without
    squares = (influence**2).sum(axis=0) ** 1.5
    acceleration = np.divide((influence**3).sum(axis=0), 6 * squares, out=np.zeros_like(mean), where=squares > 0)
    valid = (~np.isnan(replicates)).sum(axis=0)
    below = ((replicates < mean).sum(axis=0) + (replicates <= mean).sum(axis=0)) / (2 * valid)
    bias = ndtri(np.clip(below, 0.5 / valid, 1 - 0.5 / valid))
    ordered = np.sort(replicates, axis=0)  # NaN comes last
    bounds = []
    for tail in (0.5 - level / 2, 0.5 + level / 2):
        z = bias + ndtri(tail)
        place = ndtr(bias + z / (1 - acceleration * z)) * (valid - 1)
        start = np.floor(place).astype(np.int64)
        stop = np.minimum(start + 1, valid - 1)
        first, second = (np.take_along_axis(ordered, at[None], axis=0)[0] for at in (start, stop))
        bounds.append(first + (place - start) * (second - first))
    return bounds[0], bounds[1]
