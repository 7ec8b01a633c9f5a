"""How often a comparison calls a difference that is not there, and how often it sees one that is.

    python simulations/false_alarms.py

Draws many experiments in which two models do not differ (each image's two scores are exchangeable), compares them with
the functions that ``ea.compare`` uses, and counts p-values below .05 and intervals that exclude 0; then families of 45
comparisons with Holm's correction, groups of different images, coverage where there is a difference, and power. Prints
Markdown tables; docs/comparing.md shows them. About a minute of one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, stdtrit

from explanation_alignment.statistics.comparing.differences import moments_of, paired_differences, unpaired_differences
from explanation_alignment.statistics.comparing.permutation import fisher_test, label_test, mcnemar_test, sign_test
from explanation_alignment.statistics.intervals import MeanEstimator, Scale
from explanation_alignment.statistics.multiplicity import holm
from explanation_alignment.statistics.planning import sample_size

REPETITIONS = 2_000
DRAWS = 999
LEVEL = 0.95
SCORE, HIT = Scale(0, 1), Scale(0, 1, binary=True)

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]
Draw = Callable[[np.random.Generator, int, int], Pair]

_GRID = np.linspace(-6, 6, 4001)
_SHARES = ndtr(_GRID)
_BETA = betaincinv(2, 5, _SHARES)


def normals(rng: np.random.Generator, n: int, repetitions: int, correlation: float = 0.6) -> Pair:
    one = rng.standard_normal((n, repetitions))
    other = rng.standard_normal((n, repetitions))
    return one, correlation * one + np.sqrt(1 - correlation**2) * other


def beta(z: Floats) -> Floats:
    """Scores of a Beta(2, 5) distribution, mean 2/7."""
    return np.interp(z, _GRID, _BETA)


def with_zeros(z: Floats, zeros: float) -> Floats:
    """Scores of which a share is 0 and the others follow Beta(2, 5)."""
    share = ndtr(z)
    return np.where(share < zeros, 0.0, np.interp((share - zeros) / (1 - zeros), _SHARES, _BETA))


def scores(zeros: float) -> Draw:
    def draw(rng: np.random.Generator, n: int, repetitions: int) -> Pair:
        one, other = normals(rng, n, repetitions)
        return with_zeros(one, zeros), with_zeros(other, zeros)

    return draw


def hits(first: float, second: float) -> Draw:
    def draw(rng: np.random.Generator, n: int, repetitions: int) -> Pair:
        one, other = normals(rng, n, repetitions)
        return (one < _quantile(first)).astype(float), (other < _quantile(second)).astype(float)

    return draw


def _quantile(share: float) -> float:
    return float(np.interp(share, _SHARES, _GRID))


def clustered(rng: np.random.Generator, n: int, repetitions: int) -> Pair:
    """Ten images a cluster, such as frames of a film: scores and differences hang together within it."""
    both = []
    shared = np.repeat(rng.standard_normal((n // 10, repetitions)), 10, axis=0)
    for _ in range(2):
        own = np.repeat(rng.standard_normal((n // 10, repetitions)), 10, axis=0)
        both.append(
            beta(np.sqrt(0.3) * shared + np.sqrt(0.4) * own + np.sqrt(0.3) * rng.standard_normal((n, repetitions)))
        )
    return both[0], both[1]


def agreeing(rng: np.random.Generator, n: int, repetitions: int) -> Pair:
    """The second model gives the first one's score but on 5 % of the images."""
    one, other = normals(rng, n, repetitions, 0.0)
    return beta(one), np.where(rng.random(one.shape) < 0.05, beta(other), beta(one))


def compared(one: Floats, two: Floats, scale: Scale, units: int, draws: int = DRAWS) -> tuple[Floats, Floats, Floats]:
    """p-values and interval bounds of every column's pair."""
    n, repetitions = one.shape
    unit = np.repeat(np.arange(units), n // units)
    start = np.arange(0, n, n // units)
    sums = [np.add.reduceat(v, start, axis=0) for v in (one, two, np.ones_like(one))]
    found = paired_differences(sums[0], sums[1], sums[2], [scale] * repetitions, LEVEL)
    if scale.binary and units == n:
        p, _ = mcnemar_test((one > two).sum(axis=0).astype(float), (one < two).sum(axis=0).astype(float))
    else:
        names = [f"{i:06}" for i in range(units)]
        first = np.arange(repetitions)
        p, _ = sign_test(
            names, unit, np.concatenate([one, two], axis=1), first, first + repetitions, draws=draws, seed=0
        )
    return p, found.low, found.high


def rate(values: NDArray[np.bool_]) -> str:
    return f"{100 * values.mean():.1f}"


def no_difference(rng: np.random.Generator) -> None:
    cases: dict[str, tuple[Draw, Scale, int]] = {
        "beta": (scores(0.0), SCORE, 1),
        "80 % zeros": (scores(0.8), SCORE, 1),
        "95 % zeros": (scores(0.95), SCORE, 1),
        "99 % zeros": (scores(0.99), SCORE, 1),
        "differ on 5 % of images": (agreeing, SCORE, 1),
        "hits, 50 %": (hits(0.5, 0.5), HIT, 1),
        "hits, 5 %": (hits(0.05, 0.05), HIT, 1),
        "clusters of 10, told": (clustered, SCORE, 10),
        "clusters of 10, not told": (clustered, SCORE, 1),
    }
    print(f"### No difference: % of {REPETITIONS:,} comparisons (p < .05 / interval excludes 0)\n")
    print("| scores | n = 50 | n = 500 | n = 5,000 |\n|---|---:|---:|---:|")
    for name, (draw, scale, size) in cases.items():
        cells = []
        for n in (50, 500, 5_000):
            alarms: list[NDArray[np.bool_]] = []
            excluded: list[NDArray[np.bool_]] = []
            at_once = max(1, min(REPETITIONS, 2_000_000 // n))
            for begin in range(0, REPETITIONS, at_once):
                one, two = draw(rng, n, min(at_once, REPETITIONS - begin))
                p, low, high = compared(one, two, scale, n // size, draws=199 if n == 5_000 else DRAWS)
                alarms.append(p < 0.05)
                excluded.append((low > 0) | (high < 0))
            cells.append(f"{rate(np.concatenate(alarms))} / {rate(np.concatenate(excluded))}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def families(rng: np.random.Generator) -> None:
    """Ten models that do not differ, 45 pairs: how often at least one is called."""
    print("\n### Ten models, 45 pairs, no difference: % of 2,000 families with at least one p < .05\n")
    print("| scores, n = 200 | Holm | uncorrected |\n|---|---:|---:|")
    first, second = np.triu_indices(10, k=1)
    for name, zeros in (("beta", 0.0), ("95 % zeros", 0.95)):
        corrected, plain = [], []
        for _ in range(2_000):
            shared = rng.standard_normal((200, 1))
            columns = with_zeros(np.sqrt(0.6) * shared + np.sqrt(0.4) * rng.standard_normal((200, 10)), zeros)
            names = [f"{i:03}" for i in range(200)]
            p, _ = sign_test(names, np.arange(200), columns, first, second, draws=1_999, seed=0)
            corrected.append((holm(p) < 0.05).any())
            plain.append((p < 0.05).any())
        print(f"| {name} | {rate(np.array(corrected))} | {rate(np.array(plain))} |", flush=True)


def groups(rng: np.random.Generator) -> None:
    """Two groups of different images with the same mean, 100 and 400 images."""
    print("\n### Groups of 100 and 400 images, no difference of means: % of 2,000 (p < .05 / interval excludes 0)\n")
    print("| scores | |\n|---|---:|")
    for name in ("beta", "95 % zeros", "unequal spread", "hits, 20 %"):
        alarms, excluded = [], []
        for _ in range(2_000):
            z = rng.standard_normal(500)
            values = {
                "beta": lambda z=z: beta(z),
                "95 % zeros": lambda z=z: with_zeros(z, 0.95),
                "unequal spread": lambda z=z: np.where(np.arange(500) < 100, beta(z), 2 / 7 + 0.2 * (beta(z) - 2 / 7)),
                "hits, 20 %": lambda z=z: (ndtr(z) < 0.2).astype(float),
            }[name]()
            first = np.arange(500) < 100
            scale = HIT if name.startswith("hits") else SCORE
            one, two = (
                moments_of(values[rows][:, None], np.ones((int(rows.sum()), 1)), [scale], LEVEL)
                for rows in (first, ~first)
            )
            found = unpaired_differences(one, two, [scale])
            if scale.binary:
                p, _ = fisher_test((values[first].sum(), values[~first].sum()), (100, 400))
            else:
                p, _ = label_test([f"{i:03}" for i in range(500)], values, np.ones(500), first, draws=199, seed=0)
            alarms.append(p < 0.05)
            excluded.append(bool(found.low[0] > 0 or found.high[0] < 0))
        print(f"| {name} | {rate(np.array(alarms))} / {rate(np.array(excluded))} |", flush=True)


def coverage(rng: np.random.Generator) -> None:
    """Where there is a difference: how often the interval holds it."""
    lessened: dict[str, tuple[Callable[[int], Pair], float, Scale]] = {}

    def worse_on(share: float) -> Callable[[int], Pair]:
        def draw(n: int) -> Pair:
            one = beta(rng.standard_normal((n, REPETITIONS)))
            return one, np.where(rng.random(one.shape) < share, 0.0, one)

        return draw

    def rarer(first: float, second: float) -> Callable[[int], Pair]:
        def draw(n: int) -> Pair:
            one, other = normals(rng, n, REPETITIONS)
            return with_zeros(one, first), with_zeros(other, second)

        return draw

    lessened["0 instead on 10 % of images"] = (worse_on(0.1), 0.1 * 2 / 7, SCORE)
    lessened["0 instead on 2 % of images"] = (worse_on(0.02), 0.02 * 2 / 7, SCORE)
    lessened["80 % against 95 % zeros"] = (rarer(0.8, 0.95), 0.15 * 2 / 7, SCORE)
    lessened["30 % against 99 % zeros"] = (rarer(0.3, 0.99), 0.69 * 2 / 7, SCORE)
    lessened["hits 70 % against 60 %"] = (lambda n: hits(0.7, 0.6)(rng, n, REPETITIONS), 0.1, HIT)
    print("\n### A difference: % of intervals that hold it (nominal 95): this one / Student's t / bootstrap (BCa)\n")
    print("| second against first | n = 50 | n = 500 |\n|---|---:|---:|")
    for name, (draw, truth, scale) in lessened.items():
        cells = []
        for n in (50, 500):
            one, two = draw(n)
            ones = np.ones_like(one)
            found = paired_differences(one, two, ones, [scale] * REPETITIONS, LEVEL)
            difference = one - two
            half = stdtrit(n - 1, 0.5 + LEVEL / 2) * difference.std(axis=0, ddof=1) / np.sqrt(n)
            mean = difference.mean(axis=0)
            drawn = MeanEstimator(level=LEVEL, n_resamples=1_000).estimate(
                [f"{i:03}" for i in range(n)], difference[:, ::4], ones[:, ::4], np.full(REPETITIONS // 4, n)
            )
            low, high = (np.array([getattr(e, end) for e in drawn], np.float64) for end in ("low", "high"))
            bounds = ((found.low, found.high), (mean - half, mean + half), (low, high))
            cells.append(" / ".join(rate((low <= truth) & (truth <= high)) for low, high in bounds))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def power(rng: np.random.Generator) -> None:
    """As many images as ``ea.sample_size`` says for 80 %: how often the difference is shown."""
    print("\n### Power at the number of images planned for 80 %\n")
    print("| scores | difference | images planned | shown, % |\n|---|---:|---:|---:|")
    big = scores(0.0)(rng, 200_000, 1)
    correlation, sd = float(np.corrcoef(big[0][:, 0], big[1][:, 0])[0, 1]), float(big[0].std())
    for difference in (0.05, 0.02):
        n = sample_size(difference, sd=sd, correlation=correlation)
        one, two = scores(0.0)(rng, n, REPETITIONS)
        p, _, _ = compared(one + difference, two, SCORE, n)
        print(f"| beta, correlation {correlation:.2f} | {difference} | {n:,} | {rate(p < 0.05)} |", flush=True)
    p_1, p_2 = 0.7, 0.6
    big = hits(p_1, p_2)(rng, 200_000, 1)
    correlation = float(np.corrcoef(big[0][:, 0], big[1][:, 0])[0, 1])
    sds = (p_1 * (1 - p_1)) ** 0.5, (p_2 * (1 - p_2)) ** 0.5
    n = sample_size(p_1 - p_2, sd=sds[0], sd_second=sds[1], correlation=correlation, hits=True)
    one, two = hits(p_1, p_2)(rng, n, REPETITIONS)
    p, _, _ = compared(one, two, HIT, n)
    print(f"| hits, 70 % and 60 % | {p_1 - p_2:.2f} | {n:,} | {rate(p < 0.05)} |", flush=True)


def main() -> None:
    start = time.perf_counter()
    rng = np.random.default_rng(0)
    no_difference(rng)
    families(rng)
    groups(rng)
    coverage(rng)
    power(rng)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
