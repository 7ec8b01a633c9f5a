"""Permutation tests of no difference, many at once: signs for pairs, labels for groups.

*Pairs.* If two models do not differ, an image's two scores could as well be exchanged, so the signs of the differences
mean nothing: the test asks how many of the sign patterns give a sum at least as far from 0 as the one observed. With up
to 12 images that differ all patterns are counted; hits that differ are counted in closed form (the binomial test, known
as McNemar's exact test); otherwise signs are drawn, and p = (1 + as far) / (1 + draws) (Phipson & Smyth 2010,
doi:10.2202/1544-6115.1585). Drawn signs cannot tell p-values below 1 / draws, which a correction for thousands of
comparisons needs: where fewer than ten draws reach the observed sum, p is the smaller of that and Hoeffding's bound
``2 exp(-T^2 / (2 sum d^2))`` (1963, doi:10.1080/01621459.1963.10500830), which holds for every set of differences.

*Groups.* Different images: the labels are exchanged instead, of the t statistic (Chung & Romano 2013,
doi:10.1214/13-AOS1090, why not of the difference: groups may vary unequally); hits have Fisher's exact test. Where
fewer than ten draws are as far, p is the smaller of that and Welch's t with the smaller group's degrees of freedom;
where scores hardly vary within the groups, t is as large as rounding makes it. Neither goes below what counting all
labellings could give: ``1 / C(n, n1)``, for groups of one size twice that (exchanging them is as far).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, gammaln, stdtr
from scipy.stats import hypergeom

__all__ = ["TESTS", "Tested", "fisher_test", "label_test", "mcnemar_test", "sign_test"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
Tested: TypeAlias = tuple[_Floats, NDArray[np.str_]]

#: What a p-value comes from.
TESTS: Final = (
    "all sign flips",
    "drawn sign flips",
    "Hoeffding's bound",
    "McNemar exact",
    "drawn labels",
    "Welch t",
    "Fisher exact",
    "t over seeds",
)

#: Up to this many units that differ, every pattern of signs is counted.
_EXACT_UNITS: Final = 12
#: Fewer draws than this as far as what was observed: the draws tell a small p-value too coarsely.
_FEW_DRAWS: Final = 10
#: Cells of one block of a (draws, units) or (draws, columns) table: 32 MB of float64.
_BLOCK_CELLS: Final = 1 << 22
#: Sums closer than this, relative to the sum of all sizes, are the same sum.
_TIE: Final = 1e-11


def _generator(units: Sequence[str], seed: int, salt: bytes) -> np.random.Generator:
    digest = hashlib.blake2b("\x00".join(units).encode(), digest_size=16, salt=salt).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])


def _signs(units: Sequence[str], draws: int, seed: int) -> Iterator[_Floats]:
    """Blocks (draws, units) of -1 and 1."""
    generator = _generator(units, seed, b"signs")
    n = len(units)
    per_block = max(1, _BLOCK_CELLS // max(n, 1))
    for start in range(0, draws, per_block):
        rows = min(per_block, draws - start)
        bits = np.unpackbits(np.frombuffer(generator.bytes(rows * (-(-n // 8))), np.uint8).reshape(rows, -1), axis=1)
        yield bits[:, :n].astype(np.float64) * 2 - 1


def sign_test(
    units: Sequence[str], unit: _Ints, columns: _Floats, first: _Ints, second: _Ints, *, draws: int, seed: int
) -> Tested:
    """Sign-flip tests of pairs of columns: two-sided, the statistic is the sum of the differences.

    Args:
        units: (units,) what is flipped as a whole: sample ids or clusters, sorted; the draws depend on them and the
            seed only.
        unit: (rows,) int64, sorted, which of them a row belongs to; every unit has a row.
        columns: (rows, columns) float64 scores, NaN where undefined. A row counts for a pair where both are defined.
        first: (pairs,) columns.
        second: (pairs,) columns.
        draws: how many patterns of signs are drawn.
        seed: a non-negative integer.

    Returns:
        (pairs,) p-values and which of ``TESTS`` they come from. 1 where nothing differs.
    """
    known = ~np.isnan(columns)
    values = np.where(known, columns, 0.0)
    start = np.searchsorted(unit, np.arange(len(units)))

    def differences(chosen: slice | _Ints) -> _Floats:
        one, two = first[chosen], second[chosen]
        rows = np.where(known[:, one] & known[:, two], values[:, one] - values[:, two], 0.0)
        return rows if len(units) == unit.size else np.add.reduceat(rows, start, axis=0)

    def sums_of_units() -> _Floats:
        return values if len(units) == unit.size else np.add.reduceat(values, start, axis=0)

    p = np.ones(first.size)
    test = np.full(first.size, "all sign flips", dtype="<U20")
    observed, size, square = np.zeros(first.size), np.zeros(first.size), np.zeros(first.size)
    alike = np.zeros(first.size, bool)  # both columns define the same rows, so that sums of signs can be subtracted
    drawn = np.zeros(first.size, bool)
    for block in _blocks(first.size, columns.shape[0]):
        difference = differences(block)
        observed[block] = np.abs(difference.sum(axis=0))
        size[block] = np.abs(difference).sum(axis=0)
        square[block] = (difference**2).sum(axis=0)
        alike[block] = (known[:, first[block]] == known[:, second[block]]).all(axis=0)
        differing = (difference != 0).sum(axis=0)
        drawn[block] = differing > _EXACT_UNITS
        few = np.flatnonzero((differing > 0) & (differing <= _EXACT_UNITS))
        if few.size:
            p[np.arange(first.size)[block][few]] = _all_signs(difference[:, few])
    least = observed - _TIE * size
    reached = np.zeros(first.size)
    simple, others = np.flatnonzero(drawn & alike), np.flatnonzero(drawn & ~alike)
    if simple.size:
        used, place = np.unique(np.concatenate([first[simple], second[simple]]), return_inverse=True)
        left, right = np.split(place, 2)
        totals = sums_of_units()[:, used]
        for signs in _signs(units, draws, seed):
            sums = signs @ totals
            for block in _blocks(simple.size, signs.shape[0]):
                far = np.abs(sums[:, left[block]] - sums[:, right[block]]) >= least[simple[block]]
                reached[simple[block]] += far.sum(axis=0)
    if others.size:
        reached[others] = _reached_where_undefined(units, unit, columns, first, second, others, least, draws, seed)
    p[drawn] = (1 + reached[drawn]) / (1 + draws)
    test[drawn] = "drawn sign flips"
    bound = 2 * np.exp(-np.divide(observed**2, 2 * square, out=np.zeros(first.size), where=square > 0))
    smaller = drawn & (reached < _FEW_DRAWS) & (bound < p)
    p[smaller], test[smaller] = bound[smaller], "Hoeffding's bound"
    return p, test


def _reached_where_undefined(
    units: Sequence[str],
    unit: _Ints,
    columns: _Floats,
    first: _Ints,
    second: _Ints,
    chosen: _Ints,
    least: _Floats,
    draws: int,
    seed: int,
) -> _Floats:
    """How many draws are as far, of pairs whose two columns are undefined in different rows.

    The sum of a pair's flipped differences is that of the first column less that of the second, less what either holds
    in rows where the other is undefined. The latter is one product a column, over its undefined rows alone, and serves
    every pair that the column is in.
    """
    used, place = np.unique(np.concatenate([first[chosen], second[chosen]]), return_inverse=True)
    left, right = np.split(place, 2)
    values = columns[:, used]
    missing = [np.flatnonzero(np.isnan(column)) for column in values.T]
    values = np.nan_to_num(values)
    totals = np.add.reduceat(values, np.searchsorted(unit, np.arange(len(units))), axis=0)
    alone = [values[rows] for rows in missing]  # what the columns hold where this one is undefined
    reached = np.zeros(chosen.size)
    width = max(1, _BLOCK_CELLS // used.size**2)
    for drawn in _signs(units, draws, seed):
        for start in range(0, drawn.shape[0], width):
            signs = drawn[start : start + width]
            sums = signs @ totals
            without = np.stack([signs[:, unit[rows]] @ held for rows, held in zip(missing, alone, strict=True)])
            for block in _blocks(chosen.size, signs.shape[0]):
                one, two = left[block], right[block]
                sum_of_pair = sums.T[one] - sums.T[two] - without[two, :, one] + without[one, :, two]
                reached[block] += (np.abs(sum_of_pair) >= least[chosen[block], None]).sum(axis=1)
    return reached


def _blocks(pairs: int, rows: int) -> Iterator[slice]:
    width = max(1, _BLOCK_CELLS // max(rows, 1))
    for start in range(0, pairs, width):
        yield slice(start, min(start + width, pairs))


def _all_signs(difference: _Floats) -> _Floats:
    """Exact p-values of pairs with at most 12 units that differ: the share of all patterns of signs."""
    # the units that differ come first; the patterns of the zeros after them only repeat those of the others
    order = np.argsort(difference == 0, axis=0, kind="stable")[:_EXACT_UNITS]
    top = np.take_along_axis(difference, order, axis=0)
    patterns = np.arange(1 << top.shape[0])[:, None] >> np.arange(top.shape[0])[None, :]
    signs = 2.0 * (patterns & 1) - 1.0
    least = np.abs(top.sum(axis=0)) - _TIE * np.abs(top).sum(axis=0)
    p = np.empty(top.shape[1])
    for block in _blocks(top.shape[1], signs.shape[0]):
        p[block] = (np.abs(signs @ top[:, block]) >= least[block]).mean(axis=0)
    return p


def mcnemar_test(first_only: _Floats, second_only: _Floats) -> Tested:
    """The exact binomial test on the images where only one of the two hits.

    Args:
        first_only: (pairs,) images where only the first hits.
        second_only: (pairs,) images where only the second does.

    Returns:
        (pairs,) two-sided p-values, and the test's name.
    """
    total = first_only + second_only
    p = np.minimum(1.0, 2 * bdtr(np.minimum(first_only, second_only), total.astype(np.int64), 0.5))
    return p, np.full(total.shape, "McNemar exact", dtype="<U20")


def fisher_test(hits: tuple[float, float], trials: tuple[float, float]) -> tuple[float, str]:
    """Fisher's exact test of two proportions of different images, two-sided: all tables no likelier than this one."""
    total, hit, drawn = int(sum(trials)), int(sum(hits)), int(trials[0])
    table = hypergeom(total, hit, drawn)
    chances = table.pmf(np.arange(max(0, hit + drawn - total), min(hit, drawn) + 1))
    return float(min(1.0, chances[chances <= table.pmf(int(hits[0])) * (1 + 1e-7)].sum())), "Fisher exact"


def label_test(
    units: Sequence[str], sums: _Floats, counts: _Floats, is_first: NDArray[np.bool_], *, draws: int, seed: int
) -> tuple[float, str]:
    """Label-permutation test of two groups of different units: two-sided, of the studentised difference of means.

    Args:
        units: (units,) sample ids or clusters, sorted.
        sums: (units,) float64, sum of a unit's defined scores.
        counts: (units,) float64, how many they are; every unit has one at least.
        is_first: (units,) which group a unit belongs to.
        draws: how many permutations are drawn.
        seed: a non-negative integer.

    Returns:
        The p-value and which of ``TESTS`` it comes from; 1 where no score differs from another.
    """
    generator = _generator(units, seed, b"labels")
    parts = np.column_stack([sums, counts, sums**2, sums * counts, counts**2])
    whole = parts.sum(axis=0)
    n, n_first = len(units), int(is_first.sum())
    smaller = min(n_first, n - n_first)
    if smaller < 2:
        return 1.0, "drawn labels"  # one unit has no spread: no statistic, hence nothing shown
    observed = abs(float(_studentised(is_first[None].astype(np.float64) @ parts, whole, n_first, n)[0]))
    reached = 0
    per_block = max(1, _BLOCK_CELLS // n)
    base = np.zeros(n)
    base[:n_first] = 1.0
    for start in range(0, draws, per_block):
        labels = generator.permuted(np.broadcast_to(base, (min(per_block, draws - start), n)), axis=1)
        reached += int((np.abs(_studentised(labels @ parts, whole, n_first, n)) >= observed * (1 - 1e-9)).sum())
    labellings = gammaln(n + 1) - gammaln(n_first + 1) - gammaln(n - n_first + 1)  # logarithm of how many there are
    least = float(np.exp(-labellings)) * (2 if 2 * n_first == n else 1)
    p = max((1 + reached) / (1 + draws), least)
    welch = max(float(2 * stdtr(smaller - 1, -observed)), least)
    if reached < _FEW_DRAWS and welch < p:
        return welch, "Welch t"
    return p, "drawn labels"


def _studentised(first: _Floats, whole: _Floats, n_first: int, n: int) -> _Floats:
    """The t statistic from the (draws, 5) sums of S, C, S^2, SC, C^2 over the first group; 0 where nothing varies."""
    means, variances = [], []
    for part, units in ((first, n_first), (whole - first, n - n_first)):
        s, c, ss, sc, cc = part.T
        mean = s / c
        means.append(mean)
        variances.append(np.maximum(ss - 2 * mean * sc + mean**2 * cc, 0) / c**2 * units / (units - 1))
    error = np.sqrt(variances[0] + variances[1])
    difference = means[0] - means[1]
    still = np.abs(difference) <= 1e-12 * np.abs(whole[0] / whole[1])
    statistic: _Floats = np.where(
        still, 0.0, np.divide(difference, error, out=np.full(error.shape, np.inf), where=error > 0)
    )
    return statistic
