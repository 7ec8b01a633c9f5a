"""Work units: fixed slices of the sample order, each computed whole and written as one part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from explanation_alignment.errors import UsageError
from explanation_alignment.evaluation.deciding import Decider, Scored, undecided_among_errors
from explanation_alignment.evaluation.keeping import MapKeeper
from explanation_alignment.evaluation.memory import scored_in_memory
from explanation_alignment.evaluation.tabulating import tabulate
from explanation_alignment.progress import Bars
from explanation_alignment.runs.working import UnitRows, UnitWatch, Unread, work_on
from explanation_alignment.runs.writer import EvaluationWriter

__all__ = ["UNIT_SIZE", "Worked", "cut", "in_shard", "work"]

#: Samples a work unit has: what a killed or stopped run loses at most, and the least a shard can take.
UNIT_SIZE: Final = 1024


@dataclass(frozen=True, slots=True)
class Worked:
    """What came of working on an evaluation.

    Args:
        complete: whether all its units are there.
        fresh: whether any was written now.
        decider: as it was at the end: with a smaller batch, where memory ran out.
    """

    complete: bool
    fresh: bool
    decider: Decider


def work(
    decider: Decider,
    evaluation: EvaluationWriter,
    order: Sequence[int],
    shard: str | None,
    max_errors: float,
    progress: bool | Bars,
    maps: MapKeeper | None = None,
    wait: bool = True,
) -> Worked:
    """Write the units that are missing, together with whoever else was given the same run.

    Args:
        decider: explains and scores.
        evaluation: writes.
        order: places of the samples.
        shard: of which units; None for all.
        max_errors: samples of the evaluation that may fail to read: a share if below 1, else a count.
        progress: whether to show a bar, or where.
        maps: keeps the maps of every unit, where these are asked for; without them it is not done.
        wait: for units that other processes are at, once none is free.

    Raises:
        RunError: too many samples could not be read, by this process or those before it.
        BusyError: others are at what is left, and ``wait`` is off.
    """
    units = cut(order, evaluation.record["details"]["unit_size"])
    rows_each = len(decider.requests) * len(decider.reading.dataset.regions)
    dataset = decider.reading.dataset.name

    def without_maps() -> list[int]:
        return [] if maps is None else maps.missing(units)

    def compute(number: int, watch: UnitWatch) -> UnitRows:
        nonlocal decider

        def done(part: Scored) -> None:
            if maps is not None:
                maps.write(number, part.ids)
            watch.advance(len(part.ids))

        def anew() -> None:
            if maps is not None:
                maps.give_up()
            watch.anew()

        scored, decider = scored_in_memory(decider, units[number], done, anew)
        scored = undecided_among_errors(scored, decider.classifier.name)
        return UnitRows(
            partial(tabulate, decider, units[number], scored),
            [f"{part.ids[place]}: {words}" for part in scored for place, words in part.errors.items()],
            {"batch_size": decider.reading.batch_size, "chunk": decider.explainer.chunk},
            None if maps is None else maps.finish,
        )

    fresh = work_on(
        evaluation,
        units,
        rows_each,
        compute,
        Unread(max_errors, f"samples of {dataset}"),
        f"{decider.classifier.name} on {dataset}",
        own=[unit for unit in units if in_shard(unit, shard)],
        also=without_maps,
        progress=progress,
        wait=wait,
    )
    complete = not (evaluation.missing({n: len(places) * rows_each for n, places in units.items()}) or without_maps())
    return Worked(complete, fresh, decider)


def cut(order: Sequence[int], size: int) -> dict[int, Sequence[int]]:
    """Unit -> its places, in the sample order."""
    return {number: order[start : start + size] for number, start in enumerate(range(0, len(order), size))}


def in_shard(unit: int, shard: str | None) -> bool:
    """Whether a unit belongs to a shard, such as ``"2/8"``; to None all do.

    Raises:
        UsageError: the shard cannot be read.
    """
    if shard is None:
        return True
    part, slash, parts = shard.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageError(f"shard: expected I/N with 1 <= I <= N, such as 2/8, got {shard!r}")
    return unit % int(parts) == int(part) - 1
