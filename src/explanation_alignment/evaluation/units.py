"""Work units: fixed slices of the sample order, each computed whole and written as one part."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Final

from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.evaluation.deciding import Decider
from explanation_alignment.evaluation.keeping import MapKeeper
from explanation_alignment.evaluation.tabulating import tabulate
from explanation_alignment.progress import Bars, progress_bars
from explanation_alignment.runs.writer import EvaluationWriter

__all__ = ["UNIT_SIZE", "cut", "in_shard", "work"]

#: Samples a work unit has: what a killed run loses at most, and the least a shard can take.
UNIT_SIZE: Final = 1024


def work(
    decider: Decider,
    evaluation: EvaluationWriter,
    order: Sequence[int],
    shard: str | None,
    max_errors: float,
    progress: bool | Bars,
    maps: MapKeeper | None = None,
) -> bool:
    """Write the units that are missing, with their maps where these are asked for; whether all are there then."""
    units = cut(order, evaluation.record["details"]["unit_size"])
    rows_each = len(decider.requests) * len(decider.reading.dataset.regions)
    owed = {number: len(places) * rows_each for number, places in units.items()}
    unwritten = evaluation.missing(owed)
    missing = unwritten if maps is None else sorted({*unwritten, *maps.missing(units)})
    errors: list[str] = []
    limit = max_errors * len(order) if max_errors < 1 else max_errors
    shown = progress_bars(enabled=progress and bool(missing)) if isinstance(progress, bool) else nullcontext(progress)
    with shown as bars:
        dataset = decider.reading.dataset.name
        name = f"{decider.classifier.name} on {dataset}"
        bar = bars.add_task(name, total=len(order), completed=len(order) - sum(len(units[u]) for u in missing), note="")
        for number in missing:
            if not in_shard(number, shard):
                continue
            scored, unread = [], 0
            for part in decider.scored(units[number]):
                scored.append(part)
                unread += len(part.errors)
                errors += [f"{part.ids[place]}: {message}" for place, message in part.errors.items()]
                if maps is not None:
                    maps.write(number, part.ids)
                bars.advance(bar, len(part.ids))
            stop = len(errors) > limit
            if not (stop and unread == len(units[number])):  # nothing but failures is nothing to keep
                if maps is not None:
                    maps.finish(number)  # before the rows, so that where these are the maps are, too
                if number in unwritten:
                    evaluation.write(number, tabulate(decider, units[number], scored))
            if stop:
                raise RunError(
                    f"{len(errors)} samples of {dataset} could not be read (limit {max_errors:g}), "
                    f"first: {errors[0]}; what is scored is kept, raise --max-errors to go on"
                )
    return not evaluation.missing(owed) and not (maps and maps.missing(units))


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
