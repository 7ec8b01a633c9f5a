"""How often the intervals hold the true mean, by design and number of images.

Every design draws many samples of images from a population whose mean is known, and asks the estimator of a run's
summary for the 95 % interval of each. Printed: how many of the intervals hold the true mean, their mean width, how many
are marked unreliable, and how many of those not marked hold it. A line ends in ``<`` or ``>`` where at least half of
its intervals are not marked and these hold the true mean in fewer than 93 % or more than 97 % of samples.

    python simulations/coverage.py [--repetitions 4000] [--seed 0] [--only seeds]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from explanation_alignment.statistics import Estimate, MeanEstimator, Scale

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]

SIZES = (50, 500, 5000)
SHARE = Scale(0, 1)
HIT = Scale(0, 1, binary=True)
DIFFERENCE = Scale(-1, 1)
#: Samples that are drawn at once.
BLOCK = 500


@dataclass(frozen=True)
class Result:
    """A line of the table."""

    design: str
    n: str
    held: NDArray[np.bool_]
    width: Floats
    unreliable: NDArray[np.bool_]

    def line(self) -> str:
        kept = self.held[~self.unreliable]
        share = 100 * kept.mean() if kept.size else math.nan
        counts = 2 * kept.size >= self.held.size
        mark = "" if not counts or 93 <= share <= 97 else " <" if share < 93 else " >"
        of_kept = f"{share:.1f}" if kept.size else "-"
        return (
            f"| {self.design:<46} | {self.n:>11} | {100 * self.held.mean():5.1f} | {self.width.mean():.4f} "
            f"| {100 * self.unreliable.mean():5.1f} | {of_kept:>5} |{mark}"
        )


def result(design: str, n: str, true: float, estimates: list[Estimate]) -> Result:
    low = np.array([e.low for e in estimates], np.float64)
    high = np.array([e.high for e in estimates], np.float64)
    return Result(design, n, (low <= true) & (true <= high), high - low, np.array([e.unreliable for e in estimates]))


def joined(parts: list[Result]) -> Result:
    held, width, unreliable = (np.concatenate([getattr(p, f) for p in parts]) for f in ("held", "width", "unreliable"))
    return Result(parts[0].design, parts[0].n, held, width, unreliable)


def beta(a: float, b: float) -> tuple[Draw, float]:
    return lambda rng, n, samples: rng.beta(a, b, (samples, n)), a / (a + b)


def zero_inflated(zeros: float) -> tuple[Draw, float]:
    def draw(rng: np.random.Generator, n: int, samples: int) -> Floats:
        return rng.beta(2, 5, (samples, n)) * (rng.random((samples, n)) >= zeros)

    return draw, (1 - zeros) * 2 / 7


def one_inflated(ones: float) -> tuple[Draw, float]:
    draw, mean = zero_inflated(ones)
    return lambda rng, n, samples: 1 - draw(rng, n, samples), 1 - mean


def clipped_lognormal(mu: float, sigma: float) -> tuple[Draw, float]:
    below = math.exp(mu + sigma**2 / 2) * norm.cdf((-mu - sigma**2) / sigma)
    draw: Draw = lambda rng, n, samples: np.minimum(np.exp(rng.normal(mu, sigma, (samples, n))), 1)  # noqa: E731
    return draw, float(below + norm.sf(-mu / sigma))


def few_large(share: float) -> tuple[Draw, float]:
    def draw(rng: np.random.Generator, n: int, samples: int) -> Floats:
        large = rng.random((samples, n)) < share
        return np.where(large, rng.beta(8, 2, (samples, n)), rng.beta(1, 99, (samples, n)))

    return draw, share * 0.8 + (1 - share) * 0.01


def hits(p: float) -> tuple[Draw, float]:
    return lambda rng, n, samples: (rng.random((samples, n)) < p).astype(np.float64), p


SCORES: dict[str, tuple[Draw, float]] = {
    "beta(2, 5)": beta(2, 5),
    "beta(5, 1)": beta(5, 1),
    "beta(0.3, 0.3), U-shaped": beta(0.3, 0.3),
    "beta(0.2, 2), J-shaped": beta(0.2, 2),
    "beta(2, 0.1), J-shaped": beta(2, 0.1),
    "80 % zeros, else beta(2, 5)": zero_inflated(0.80),
    "95 % zeros, else beta(2, 5)": zero_inflated(0.95),
    "99 % zeros, else beta(2, 5)": zero_inflated(0.99),
    "95 % ones, else 1 - beta(2, 5)": one_inflated(0.95),
    "lognormal(-3, 1), clipped to 1": clipped_lognormal(-3, 1),
    "lognormal(-4, 1.5), clipped to 1": clipped_lognormal(-4, 1.5),
    "lognormal(-6, 2), clipped to 1": clipped_lognormal(-6, 2),
    "5 % beta(8, 2), else beta(1, 99)": few_large(0.05),
    "2 % beta(8, 2), else beta(1, 99)": few_large(0.02),
}
HITS = {f"hits, p = {p}": hits(p) for p in (0.01, 0.05, 0.5, 0.99)}


def estimate(sums: Floats, counts: Floats, scale: Scale, nonzero: NDArray[np.int64] | None = None) -> list[Estimate]:
    """Estimates of (samples, units) sums and counts, a row a sample."""
    samples = len(sums)
    return MeanEstimator().estimate([], sums.T, counts.T, counts.sum(axis=1), scales=[scale] * samples, nonzero=nonzero)


def scores(rng: np.random.Generator, repetitions: int) -> Iterator[Result]:
    for designs, scale in ((SCORES, SHARE), (HITS, HIT)):
        for design, (draw, true) in designs.items():
            for n in SIZES:
                parts = []
                for start in range(0, repetitions, BLOCK):
                    values = draw(rng, n, min(BLOCK, repetitions - start))
                    parts.append(result(design, str(n), true, estimate(values, np.ones_like(values), scale)))
                yield joined(parts)


def clusters(rng: np.random.Generator, repetitions: int) -> Iterator[Result]:
    """Clusters of 20 images, or of 5 to 59; their means beta-distributed around 0.2."""
    for kind, true, scale in (("beta", 0.2, SHARE), ("zeros", 0.2 * 2 / 7, SHARE), ("hits", 0.2, HIT)):
        for icc in (0.05, 0.3):
            for unequal in (False, True):
                for number in (10, 30, 100):
                    sizes = rng.integers(5, 60, number) if unequal else np.full(number, 20)
                    of = np.repeat(np.arange(number), sizes)
                    edges = np.concatenate([[0], np.cumsum(sizes)[:-1]])
                    words = {"beta": "scores", "zeros": "80 % zeros", "hits": "hits"}[kind]
                    design = f"{words}, clusters {'5-59' if unequal else '20'} images, ICC {icc}"
                    parts = []
                    for start in range(0, repetitions, BLOCK):
                        samples = min(BLOCK, repetitions - start)
                        rate = (1 - icc) / icc
                        level = rng.beta(0.2 * rate, 0.8 * rate, (samples, number))[:, of]
                        if kind == "beta":  # scores whose mean varies over clusters, and within them around it
                            values = rng.beta(np.maximum(8 * level, 1e-3), np.maximum(8 * (1 - level), 1e-3))
                        else:
                            values = (rng.random(level.shape) < level).astype(np.float64)
                            if kind == "zeros":
                                values *= rng.beta(2, 5, level.shape)
                        sums = np.add.reduceat(values, edges, axis=1)
                        nonzero = (values != 0).sum(axis=1)
                        counts = np.broadcast_to(sizes.astype(np.float64), sums.shape)
                        parts.append(result(design, f"{number} clust.", true, estimate(sums, counts, scale, nonzero)))
                    yield joined(parts)


def seeds(rng: np.random.Generator, repetitions: int) -> Iterator[Result]:
    """The same images under several seeds: IoU-like scores, 0.08 between images and 0.06 left, and hits."""
    for n in (50, 500):
        for number in (2, 3, 5, 10):
            for between in (0.0, 0.01, 0.05):
                design = f"scores under {number} seeds, SD between seeds {between}"
                parts = []
                for start in range(0, repetitions, BLOCK // 2):
                    samples = min(BLOCK // 2, repetitions - start)
                    values = 0.4 + rng.normal(0, 0.06, (n, number, samples)) + rng.normal(0, 0.08, (n, 1, samples))
                    values += rng.normal(0, between, (1, number, samples))
                    values = np.clip(values, 0, 1)
                    rows = np.full(samples, n * number)
                    found = MeanEstimator().estimate_crossed(
                        values, np.ones_like(values), rows, scales=[SHARE] * samples
                    )
                    parts.append(result(design, str(n), 0.4, found))
                yield joined(parts)


def excess(rng: np.random.Generator, repetitions: int) -> Iterator[Result]:
    """IoU minus that of a centred map on the same image: differences between -1 and 1, mostly 0 for small regions."""
    for design, zeros, shift in (
        ("excess, IoU and centre alike", 0.0, 0.0),
        ("excess, IoU above centre", 0.0, 0.2),
        ("excess, 80 % of both 0", 0.8, 0.1),
        ("excess, 95 % of both 0", 0.95, 0.1),
    ):
        for n in SIZES:
            parts = []
            true = (1 - zeros) * (shift * (1 - 2 / 7) + 2 / 7) - (1 - zeros) * 2 / 7
            for start in range(0, repetitions, BLOCK):
                samples = min(BLOCK, repetitions - start)
                base = rng.beta(2, 5, (2, samples, n)) * (rng.random((2, samples, n)) >= zeros)
                iou = base[0] + shift * (1 - base[0]) * (base[0] > 0)
                of_iou = estimate(iou, np.ones_like(iou), SHARE)
                found = estimate(iou - base[1], np.ones_like(iou), DIFFERENCE)
                part = result(design, str(n), true, found)
                marked = np.array([e.unreliable for e in of_iou])  # a row of the summary has one mark, that of its mean
                parts.append(Result(design, str(n), part.held, part.width, marked))
            yield joined(parts)


def divergences(rng: np.random.Generator, repetitions: int) -> Iterator[Result]:
    """Unbounded scores, by the bootstrap; fewer samples, since each costs 2,000 resamples."""
    draws: dict[str, tuple[Draw, float]] = {
        "unbounded, gamma(2)": (lambda rng, n, samples: rng.gamma(2, 1, (samples, n)), 2.0),
        "unbounded, lognormal(0, 1)": (lambda rng, n, samples: rng.lognormal(0, 1, (samples, n)), math.exp(0.5)),
    }
    for design, (draw, true) in draws.items():
        for n in (50, 500):
            parts = []
            for start in range(0, repetitions, BLOCK):
                values = draw(rng, n, min(BLOCK, repetitions - start)).T
                ids = [f"{start} {i:04d}" for i in range(n)]  # other ids, other resamples
                found = MeanEstimator().estimate(ids, values, np.ones_like(values), np.full(values.shape[1], n))
                parts.append(result(design, str(n), true, found))
            yield joined(parts)


PARTS = {"scores": scores, "clusters": clusters, "seeds": seeds, "excess": excess, "divergences": divergences}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=4000, help="samples a line (default 4000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(PARTS), help="one part of the table")
    arguments = parser.parse_args()
    print(f"| {'design':<46} | {'images':>11} | held % | width | unreliable % | held, of others % |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, part in PARTS.items():
        if arguments.only in (None, name):
            for line in part(np.random.default_rng(arguments.seed), arguments.repetitions):
                print(line.line(), flush=True)


if __name__ == "__main__":
    main()
