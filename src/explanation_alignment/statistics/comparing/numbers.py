"""The numbers of a comparison: differences, intervals, tests and effect sizes of every pair of one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from explanation_alignment.errors import UsageError
from explanation_alignment.statistics.comparing.differences import (
    Differences,
    moments_of,
    paired_differences,
    unpaired_differences,
)
from explanation_alignment.statistics.comparing.permutation import fisher_test, label_test, mcnemar_test, sign_test
from explanation_alignment.statistics.comparing.rows import ACCURACY, Block
from explanation_alignment.statistics.intervals import Scale
from explanation_alignment.statistics.tables import scale_of

__all__ = ["Asked", "SignTests", "compare_block", "compare_seeds", "pairs_of"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

#: Cells of one block of (images, pairs) tables, and of the columns whose signs are flipped together.
_BLOCK_CELLS: Final = 1 << 21
_BUCKET_CELLS: Final = 1 << 25
#: A standard error below this share of the difference is rounding.
_STILL: Final = 1e-7


@dataclass(frozen=True, slots=True)
class Asked:
    """How to compare; the arguments of ``compare``, with the column that is compared for ``between``."""

    between: str
    reference: str | None
    common: bool
    paired: bool
    over_seeds: bool
    level: float
    n_resamples: int
    seed: int


def pairs_of(names: Sequence[str], reference: str | None) -> tuple[_Ints, _Ints]:
    """All pairs, or all others with the reference second."""
    if reference is None:
        first, second = np.triu_indices(len(names), k=1)
        return first.astype(np.int64), second.astype(np.int64)
    if reference not in names:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    place = names.index(reference)
    others = np.array([i for i in range(len(names)) if i != place], np.int64)
    return others, np.full(others.size, place, np.int64)


def _scale(metric: str) -> Scale:
    return Scale(0, 1, binary=True) if metric == ACCURACY else scale_of(metric)


def _empty(pairs: int) -> dict[str, Any]:
    floats = (
        "mean_first",
        "mean_second",
        "chance_first",
        "chance_second",
        "difference",
        "ci_low",
        "ci_high",
        "p_value",
    )
    result: dict[str, Any] = {name: np.full(pairs, np.nan) for name in (*floats, "effect_size")}
    counts = ("n", "n_undefined", "n_unshared", "n_first_higher", "n_second_higher")
    result |= {name: np.zeros(pairs, np.int64) for name in counts}
    result["seeds"] = np.ones(pairs, np.int64)
    result["unreliable"] = np.zeros(pairs, bool)
    result["test"] = np.full(pairs, "all sign flips", dtype="<U20")
    return result


def compare_block(
    block: Block, metric: str, first: _Ints, second: _Ints, asked: Asked, signs: SignTests, number: int
) -> Mapping[str, Any]:
    """The numbers of every pair of a cell in one metric; p-values by sign flips follow later."""
    scores, chance = block.scores[metric], block.chance[metric]
    if not asked.paired:
        return _named(_unpaired(block, scores, chance, first, second, metric, asked), block, first, second)
    result = _empty(first.size)
    scale = _scale(metric)
    start = np.searchsorted(block.unit, np.arange(len(block.units)))
    own = len(block.units) == block.unit.size
    width = max(1, _BLOCK_CELLS // block.unit.size)
    for begin in range(0, first.size, width):
        at = slice(begin, begin + width)
        one, two = scores[:, first[at]], scores[:, second[at]]
        shared = block.present[:, first[at]] & block.present[:, second[at]]
        both = ~np.isnan(one) & ~np.isnan(two)
        one, two = np.where(both, one, 0.0), np.where(both, two, 0.0)
        summed = [v if own else np.add.reduceat(v, start, axis=0) for v in (one, two, both.astype(np.float64))]
        found = paired_differences(summed[0], summed[1], summed[2], [scale] * one.shape[1], asked.level)
        n = both.sum(axis=0)
        _fill(result, at, found, n)
        difference = one - two
        result["effect_size"][at] = _standardised(found.first - found.second, difference, n)
        result["n_undefined"][at] = shared.sum(axis=0) - n
        result["n_unshared"][at] = (block.present[:, first[at]] ^ block.present[:, second[at]]).sum(axis=0)
        result["n_first_higher"][at], result["n_second_higher"][at] = (
            (difference > 0).sum(axis=0),
            (difference < 0).sum(axis=0),
        )
        for name, columns in (("chance_first", first[at]), ("chance_second", second[at])):
            result[name][at] = _mean_where(chance[:, columns], both)
    if scale.binary and own:
        p, test = mcnemar_test(result["n_first_higher"].astype(float), result["n_second_higher"].astype(float))
        result["p_value"], result["test"] = np.where(result["n"] > 0, p, np.nan), test
    else:
        signs.add(number, block, scores, first, second, result["n"])
    return _named(result, block, first, second)


def _named(result: Mapping[str, Any], block: Block, first: _Ints, second: _Ints) -> Mapping[str, Any]:
    names = np.array(block.names)
    return {**result, "first": names[first].tolist(), "second": names[second].tolist(), "test": result["test"].tolist()}


def _fill(result: dict[str, Any], at: slice, found: Differences, n: _Ints) -> None:
    result["mean_first"][at], result["mean_second"][at] = found.first, found.second
    result["difference"][at] = found.first - found.second
    result["ci_low"][at], result["ci_high"][at] = found.low, found.high
    result["n"][at], result["unreliable"][at] = n, found.unreliable


def _standardised(mean: _Floats, values: _Floats, n: _Ints) -> _Floats:
    """Mean over standard deviation of ``values`` (0 where undefined), n of them defined; NaN where nothing varies."""
    square = (values**2).sum(axis=0) - n * np.nan_to_num(mean) ** 2
    variance = np.divide(square, n - 1, out=np.zeros(mean.shape), where=n > 1)
    varies = variance > 1e-14 * np.nan_to_num(mean) ** 2
    size: _Floats = np.divide(mean, np.sqrt(np.maximum(variance, 0)), out=np.full(mean.shape, np.nan), where=varies)
    return size


def _mean_where(values: _Floats, where: NDArray[np.bool_]) -> _Floats:
    n = where.sum(axis=0)
    mean: _Floats = np.divide(np.where(where, values, 0.0).sum(axis=0), n, out=np.full(n.shape, np.nan), where=n > 0)
    return mean


class SignTests:
    """Collects pairs of columns, so that what rests on the same images shares its drawn signs."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._waiting: dict[tuple[tuple[str, ...], bytes], list[tuple[int, _Floats, _Ints, _Ints, _Ints]]] = {}
        self.results: dict[int, tuple[_Floats, NDArray[np.str_]]] = {}

    def add(self, number: int, block: Block, scores: _Floats, first: _Ints, second: _Ints, n: _Ints) -> None:
        """Add the pairs of one part of the table; ``n`` is how many decisions each rests on."""
        key = (tuple(block.units), block.unit.tobytes())
        waiting = self._waiting.setdefault(key, [])
        waiting.append((number, scores, first, second, n))
        if sum(columns.size for _, columns, *_ in waiting) > _BUCKET_CELLS:
            self._run(key)

    def finish(self) -> None:
        """Test what waits; ``results`` then holds p-values and tests by the number of the part."""
        for key in list(self._waiting):
            self._run(key)

    def _run(self, key: tuple[tuple[str, ...], bytes]) -> None:
        waiting = self._waiting.pop(key)
        start = np.cumsum([0, *(columns.shape[1] for _, columns, *_ in waiting)])
        p, test = sign_test(
            key[0],
            np.frombuffer(key[1], np.int64),
            np.concatenate([columns for _, columns, *_ in waiting], axis=1),
            np.concatenate([first + at for (_, _, first, _, _), at in zip(waiting, start, strict=False)]),
            np.concatenate([second + at for (_, _, _, second, _), at in zip(waiting, start, strict=False)]),
            draws=self._asked.n_resamples,
            seed=self._asked.seed,
        )
        begin = 0
        for number, _, first, _, n in waiting:
            end = begin + first.size
            self.results[number] = (np.where(n > 0, p[begin:end], np.nan), test[begin:end])
            begin = end


def _unpaired(
    block: Block, scores: _Floats, chance: _Floats, first: _Ints, second: _Ints, metric: str, asked: Asked
) -> dict[str, Any]:
    """Groups of different images: their units are told apart by which of the two they belong to."""
    result = _empty(first.size)
    scale = _scale(metric)
    start = np.searchsorted(block.unit, np.arange(len(block.units)))
    defined = ~np.isnan(scores)
    values = np.where(defined, scores, 0.0)
    sums, counts = np.add.reduceat(values, start, axis=0), np.add.reduceat(defined.astype(np.float64), start, axis=0)
    single = len(block.units) == block.unit.size
    moments = [moments_of(sums[:, [c]], counts[:, [c]], [scale], asked.level) for c in range(len(block.names))]
    spread = [
        float(np.var(scores[defined[:, c], c], ddof=1)) if defined[:, c].sum() > 1 else np.nan
        for c in range(len(block.names))
    ]
    for pair, (one, two) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        known = [counts[:, c] > 0 for c in (one, two)]
        if (known[0] & known[1]).any():
            unit = block.units[int(np.argmax(known[0] & known[1]))]
            raise UsageError(
                f"{unit!r} is in both {block.names[one]!r} and {block.names[two]!r}; an unpaired comparison wants "
                "different images (and whole clusters) in each"
            )
        found = unpaired_differences(moments[one], moments[two], [scale])
        n = [int(defined[:, c].sum()) for c in (one, two)]
        _fill(result, slice(pair, pair + 1), found, np.array([sum(n)]))
        present = [int(block.present[:, c].sum()) for c in (one, two)]
        result["n_undefined"][pair] = sum(present) - sum(n)
        pooled = np.sqrt((spread[one] + spread[two]) / 2)
        if pooled > 0:
            result["effect_size"][pair] = (found.first - found.second)[0] / pooled
        for name, column in (("chance_first", one), ("chance_second", two)):
            result[name][pair] = _mean_where(chance[:, [column]], defined[:, [column]])[0]
        if not all(n):
            continue
        if scale.binary and single:
            hits = tuple(float(values[:, c].sum()) for c in (one, two))
            p, test = fisher_test((hits[0], hits[1]), (n[0], n[1]))
        else:
            chosen = np.flatnonzero(known[0] | known[1])
            p, test = label_test(
                [block.units[i] for i in chosen.tolist()],
                (sums[:, one] + sums[:, two])[chosen],
                (counts[:, one] + counts[:, two])[chosen],
                known[0][chosen],
                draws=asked.n_resamples,
                seed=asked.seed,
            )
        result["p_value"][pair], result["test"][pair] = p, test
    return {**result, "n_first_higher": [None] * first.size, "n_second_higher": [None] * first.size}


def compare_seeds(blocks: Sequence[Block], metric: str, asked: Asked) -> Mapping[str, Any]:
    """One row a pair: the mean of the seeds' differences, seeds and images both drawn anew.

    Where a difference is the same in every seed and on every image there is nothing to estimate its variance from: its
    interval is NaN and so is p, or 1 where it is 0, and the row is unreliable.
    """
    names = sorted({name for block in blocks for name in block.names})
    if len({(tuple(block.units), block.unit.tobytes()) for block in blocks}) > 1:
        raise UsageError("the seeds were evaluated on different images; compare them one by one, without over_seeds")
    first, second = pairs_of(names, asked.reference)
    kept: list[tuple[int, int]] = []
    rows: list[dict[str, float]] = []
    scale = _scale(metric)
    unit, units = blocks[0].unit, len(blocks[0].units)
    for one, two in zip(first.tolist(), second.tolist(), strict=True):
        members = [block for block in blocks if names[one] in block.names and names[two] in block.names]
        if len(members) < 2:
            continue
        columns = [(block, block.names.index(names[one]), block.names.index(names[two])) for block in members]
        pairs = [(block.scores[metric][:, a], block.scores[metric][:, b]) for block, a, b in columns]
        both = [~np.isnan(a) & ~np.isnan(b) for a, b in pairs]
        kept.append((one, two))
        n = [int(known.sum()) for known in both]
        counted: dict[str, float] = {
            "n": sum(n),
            "n_undefined": sum(int((b.present[:, i] & b.present[:, j]).sum()) for b, i, j in columns) - sum(n),
            "n_unshared": sum(int((b.present[:, i] ^ b.present[:, j]).sum()) for b, i, j in columns),
            "n_first_higher": sum(int((a[k] > b[k]).sum()) for (a, b), k in zip(pairs, both, strict=True)),
            "n_second_higher": sum(int((a[k] < b[k]).sum()) for (a, b), k in zip(pairs, both, strict=True)),
            "seeds": len(members),
        }
        if not all(n):
            rows.append(counted)
            continue
        means = np.array([[a[known].mean(), b[known].mean()] for (a, b), known in zip(pairs, both, strict=True)])
        differences = means[:, 0] - means[:, 1]
        # of the image-level differences averaged over seeds: what another draw of images would change
        stacked = np.array([np.where(known, a - b, 0.0) for (a, b), known in zip(pairs, both, strict=True)]).sum(axis=0)
        counts = np.array(both, np.float64).sum(axis=0)
        sums, defined = (
            np.bincount(unit, weights=values, minlength=units).astype(np.float64)[:, None]
            for values in (stacked, counts)
        )
        of_images = moments_of(sums, defined, [Scale()], asked.level)
        by_seed, by_image = differences.var(ddof=1) / len(members), float(np.nan_to_num(of_images.variance[0]))
        freedom = _freedom(by_seed, len(members) - 1, by_image, max(float(of_images.units[0]) - 1, 1))
        error = float(np.sqrt(by_seed + by_image))
        mean = float(differences.mean())
        # a difference that is the same in every seed and image tells nothing of how it would vary: no interval, no test
        still = error <= _STILL * abs(mean)
        half = np.nan if still else float(stdtrit(freedom, 0.5 + asked.level / 2)) * error
        p = (np.nan if mean else 1.0) if still else float(2 * stdtr(freedom, -abs(mean) / error))
        averaged = stacked[counts > 0] / counts[counts > 0]
        spread = averaged.std(ddof=1) if averaged.size > 1 else 0.0
        reach = scale.high - scale.low
        chances = [
            float(
                np.mean(
                    [
                        block.chance[metric][known, at[side]].mean()
                        for (block, *at), known in zip(columns, both, strict=True)
                    ]
                )
            )
            for side in (0, 1)
        ]
        rows.append(
            {
                **counted,
                "mean_first": means[:, 0].mean(),
                "mean_second": means[:, 1].mean(),
                "chance_first": chances[0],
                "chance_second": chances[1],
                "difference": mean,
                "ci_low": float(np.maximum(mean - half, -reach)),
                "ci_high": float(np.minimum(mean + half, reach)),
                "p_value": p,
                "effect_size": mean / spread if spread > 0 else np.nan,
                "unreliable": still or bool(not scale.binary and 0 < (averaged != 0).sum() < 30),
            }
        )
    result = _empty(len(kept))
    for place, row in enumerate(rows):
        for name, value in row.items():
            result[name][place] = value
    result["test"] = np.full(len(kept), "t over seeds", dtype="<U20")
    return {
        **result,
        "first": [names[one] for one, _ in kept],
        "second": [names[two] for _, two in kept],
        "test": result["test"].tolist(),
    }


def _freedom(one: float, freedom_one: float, two: float, freedom_two: float) -> float:
    """Degrees of freedom of a sum of two variances (Satterthwaite 1946, doi:10.2307/3002019)."""
    below = one**2 / freedom_one + two**2 / freedom_two
    return (one + two) ** 2 / below if below > 0 else freedom_one
