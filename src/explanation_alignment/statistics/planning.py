"""How many images it takes: to tell two models apart, or to know one mean to a given width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import nct
from scipy.stats import t as student

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.comparing.numbers import pairs_of
from explanation_alignment.statistics.comparing.rows import ACCURACY, CELL, blocks, check_images, one_run
from explanation_alignment.statistics.inputs import RunOrScores, score_rows, without_nulls
from explanation_alignment.statistics.tables import scale_of

__all__ = ["PLAN_SCHEMA", "plan", "power", "sample_size"]

#: Columns of the table of :func:`plan`.
PLAN_SCHEMA: Final = pl.Schema(
    {
        "seed": pl.Int64,
        "dataset": pl.String,
        "target": pl.String,
        "method": pl.String,
        "binarization": pl.String,
        "region": pl.String,
        "metric": pl.String,
        "first": pl.String,
        "second": pl.String,
        "difference": pl.Float64,
        "sd_first": pl.Float64,
        "sd_second": pl.Float64,
        "correlation": pl.Float64,
        "n_now": pl.Int64,
        "power_now": pl.Float64,
        "images_paired": pl.Int64,
        "images_unpaired": pl.Int64,
        "images_one_mean": pl.Int64,
    }
)

_MOST: Final = 1 << 40


def power(
    images: int, difference: float, *, sd: float, correlation: float = 0.0, level: float = 0.95, kind: str = "paired"
) -> float:
    """The chance that a comparison of so many images shows the difference: two-sided t test, noncentral t distribution.

    Args:
        images: of each of the two; both are evaluated on the same ones where ``kind`` is ``paired``.
        difference: the true difference of the means.
        sd: standard deviation of the scores over images, of either.
        correlation: between the two's scores on an image.
        level: one minus it is the level of the test.
        kind: ``paired`` or ``unpaired``.

    Returns:
        A number in [0, 1].

    Raises:
        UsageError: an argument means nothing.
    """
    _check(sd=sd, correlation=correlation, level=level)
    if kind not in ("paired", "unpaired"):
        raise UsageError(f"kind must be 'paired' or 'unpaired', got {kind!r}")
    if images < 2:
        return 0.0
    variance = sd**2 * 2 * (1 - correlation if kind == "paired" else 1)
    return _power(images, abs(difference), variance, images - 1 if kind == "paired" else 2 * images - 2, level)


def _power(images: int, difference: float, variance: float, freedom: int, level: float) -> float:
    if variance <= 0:
        return 1.0 if difference > 0 else 0.0
    shift = difference * math.sqrt(images / variance)
    bound = float(student.ppf(0.5 + level / 2, freedom))
    if freedom > 10_000 or shift - bound > 8:  # the normal limit, where the noncentral t is slow or fails
        return float(ndtr(np.array([shift, -shift]) - bound).sum())
    other_side = float(nct.cdf(-bound, freedom, shift)) if shift < 5 else 0.0
    return float(nct.sf(bound, freedom, shift)) + other_side


def sample_size(
    difference: float,
    *,
    sd: float,
    sd_second: float | None = None,
    correlation: float = 0.0,
    power: float = 0.8,
    level: float = 0.95,
    kind: str = "paired",
    hits: bool = False,
) -> int:
    """How many images show a difference, or pin down a mean.

    ``paired``: two models on the same images, variance of a difference sd1^2 + sd2^2 - 2 r sd1 sd2. ``unpaired``: as
    many images for each of two groups. Both: the fewest images at which the two-sided t test at ``1 - level`` has the
    power (noncentral t distribution); for hits 2 / difference more, since exact tests (McNemar's, Fisher's) act like
    tests with a continuity correction. ``mean``: the fewest at which the t interval of one mean is no wider than
    ``difference`` to either side; power does not matter there.

    Args:
        difference: what is to be told apart; the half width for ``mean``.
        sd: standard deviation of the scores over images; for hits sqrt(p (1 - p)).
        sd_second: that of the second; the same by default.
        correlation: between the two's scores on an image.
        power: the chance to show it.
        level: one minus it is the level of the test.
        kind: ``paired``, ``unpaired`` or ``mean``.
        hits: whether the scores are 0 or 1.

    Returns:
        Images; at least 2.

    Raises:
        UsageError: an argument means nothing.

    Example:
        >>> sample_size(0.02, sd=0.2, correlation=0.5)
        787
    """
    _check(sd=sd, correlation=correlation, level=level)
    second = sd if sd_second is None else sd_second
    _check(sd=second)
    if not (math.isfinite(difference) and difference != 0):
        raise UsageError(f"difference must be a number other than 0, got {difference}")
    if not 1 - level < power < 1:
        raise UsageError(f"power must lie between {1 - level:g} (a guess) and 1, such as 0.8; got {power:g}")
    variances = {
        "paired": sd**2 + second**2 - 2 * correlation * sd * second,
        "unpaired": sd**2 + second**2,
        "mean": sd**2,
    }
    if kind not in variances:
        raise UnknownNameError("kind of plan", kind, variances)
    variance = max(variances[kind], 0.0)
    distance = abs(difference)

    def enough(images: int) -> bool:
        if kind == "mean":
            return float(student.ppf(0.5 + level / 2, images - 1)) * math.sqrt(variance / images) <= distance
        freedom = 2 * images - 2 if kind == "unpaired" else images - 1
        return _power(images, distance, variance, freedom, level) >= power

    reach = float(ndtri(0.5 + level / 2)) + (0.0 if kind == "mean" else float(ndtri(power)))
    high = max(2, math.ceil(variance * (reach / distance) ** 2))
    if high > _MOST:
        raise UsageError(f"a difference of {difference:g} takes more than {_MOST:,} images; ask for a larger one")
    low = 1
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high + (math.ceil(2 / distance) if hits and kind != "mean" else 0)


def _check(*, sd: float, correlation: float = 0.0, level: float = 0.95) -> None:
    if not (math.isfinite(sd) and sd >= 0):
        raise UsageError(f"a standard deviation is a number of at least 0, got {sd}")
    if not -1 <= correlation <= 1:
        raise UsageError(f"a correlation lies between -1 and 1, got {correlation}")
    if not 0 < level < 1:
        raise UsageError(f"level must lie between 0 and 1, such as 0.95; got {level}")


def plan(
    run_or_scores: RunOrScores,
    difference: float,
    *,
    metrics: Sequence[str] | None = None,
    power: float = 0.8,
    level: float = 0.95,
    common: bool = False,
) -> pl.DataFrame:
    """How many images would tell each pair of a run's models apart, if they differed by ``difference``.

    The standard deviations and the correlation are those of the run's own scores; the run need not show a difference.
    Few images (below 30) tell them poorly.

    Args:
        run_or_scores: a run, its folder, or rows of its ``scores``; of one model only what its mean takes is told.
        difference: as in :func:`sample_size`; so are the others.
        metrics: metric columns, and ``accuracy``; all by default.
        power: likewise.
        level: likewise.
        common: compare the images that two models share, instead of refusing.

    Returns:
        A row per pair of models, cell and metric with the columns of ``PLAN_SCHEMA``: what the run shows
        (``difference``, the standard deviations, ``correlation``, ``n_now`` images and the power they have for the
        difference asked for) and the images it takes: of the same for both (``images_paired``), for each of two groups
        (``images_unpaired``), and for a mean known to +- ``difference`` (``images_one_mean``, of the more variable).

    Raises:
        UsageError, UnknownNameError, RunError: as in
            :func:`~explanation_alignment.statistics.comparing.comparison.compare`.
    """
    sample_size(difference, sd=1.0, power=power, level=level)  # refuses arguments that mean nothing
    tables, _ = one_run(without_nulls(score_rows(run_or_scores).lazy().collect()), "model", metrics, None)
    records = []
    for table in tables:
        keys = [name for name in CELL if name != "model"]
        keys = [name for name in keys if table.rows[name].null_count() < table.rows.height]
        for block in blocks(table, keys, paired=True):
            first, second = pairs_of(block.names, None)
            if not first.size:
                first = second = np.zeros(1, np.int64)
            check_images(block, first, second, common=common)
            for metric in table.metrics:
                scores, hits = block.scores[metric], metric == ACCURACY or scale_of(metric).binary
                for one, two in zip(first.tolist(), second.tolist(), strict=True):
                    found = _of_pair(
                        scores[:, one], scores[:, two], abs(difference), power, level, hits, alone=one == two
                    )
                    names = {"first": block.names[one], "second": None if one == two else block.names[two]}
                    records.append({**block.key, "metric": metric, **names, **found})
    return pl.DataFrame(records, schema=PLAN_SCHEMA)


def _of_pair(
    one: NDArray[np.float64],
    two: NDArray[np.float64],
    distance: float,
    power: float,
    level: float,
    hits: bool,
    *,
    alone: bool,
) -> dict[str, float | int | None]:
    both = ~np.isnan(one) & ~np.isnan(two)
    one, two = one[both], two[both]
    n = int(both.sum())
    if n < 2:
        return {"n_now": n}
    sds = float(one.std(ddof=1)), float(two.std(ddof=1))
    covariance = float(np.cov(one, two)[0, 1])
    correlation = min(1.0, max(-1.0, covariance / (sds[0] * sds[1]))) if min(sds) > 0 else 0.0
    found: dict[str, float | int | None] = {"n_now": n, "sd_first": sds[0]}
    found["images_one_mean"] = sample_size(distance, sd=max(sds), level=level, kind="mean")
    if alone:
        return found
    variance = sds[0] ** 2 + sds[1] ** 2 - 2 * correlation * sds[0] * sds[1]
    found |= {
        "difference": float(one.mean() - two.mean()),
        "sd_second": sds[1],
        "correlation": correlation,
        "power_now": _power(n, distance, max(variance, 0.0), n - 1, level),
    }
    for kind in ("paired", "unpaired"):
        found[f"images_{kind}"] = sample_size(
            distance,
            sd=sds[0],
            sd_second=sds[1],
            correlation=correlation,
            power=power,
            level=level,
            kind=kind,
            hits=hits,
        )
    return found
