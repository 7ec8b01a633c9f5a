"""Two ways of doing the same, timed in turns: the ratio holds when the machine's speed drifts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Seconds of each repetition of ours and of the alternative, in turns."""

    ours: list[float]
    other: list[float]

    @property
    def ratio(self) -> float:
        """Median of the ratios of neighbouring repetitions."""
        return statistics.median(a / b for a, b in zip(self.ours, self.other, strict=True))

    def line(self, name: str, bound: float) -> str:
        """One line for people: medians, ratio, the bound it is held against."""
        ratios = [a / b for a, b in zip(self.ours, self.other, strict=True)]
        return (
            f"{name:<34} ours {statistics.median(self.ours):7.2f} s   bare {statistics.median(self.other):7.2f} s   "
            f"ratio {self.ratio:5.3f} (from {min(ratios):.3f} to {max(ratios):.3f}; bound {bound})"
        )


def compare(ours: Callable[[], object], other: Callable[[], object], repetitions: int = 7) -> Comparison:
    """Run both once to warm up, then in turns, changing who goes first."""
    ours()
    other()
    seconds: dict[Callable[[], object], list[float]] = {ours: [], other: []}
    for turn in range(repetitions):
        for run in (ours, other) if turn % 2 == 0 else (other, ours):
            start = time.perf_counter()
            run()
            seconds[run].append(time.perf_counter() - start)
    return Comparison(seconds[ours], seconds[other])
