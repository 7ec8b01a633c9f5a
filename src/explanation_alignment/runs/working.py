"""Works on an evaluation's units: whatever computes them, they are shared, written, counted and stopped alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from explanation_alignment import stopping
from explanation_alignment.errors import RunError
from explanation_alignment.progress import Bars, progress_bars, tell
from explanation_alignment.runs.environment import peak_memory
from explanation_alignment.runs.sharing import put_in_order, share
from explanation_alignment.runs.writer import EvaluationWriter

__all__ = ["UnitRows", "UnitWatch", "Unread", "work_on"]


@dataclass(frozen=True, slots=True)
class UnitRows:
    """What came of a unit.

    Args:
        table: makes its rows.
        unread: its samples that could not be read, each with the reason.
        told: how it came about, for the manifest.
        keep: puts what belongs to it besides its rows in its place.
    """

    table: Callable[[], pa.Table]
    unread: Sequence[str] = ()
    told: Mapping[str, Any] = field(default_factory=dict)
    keep: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """How many samples may be unreadable, and what they are called.

    Args:
        limit: a share of all if below 1, else a count.
        what: such as ``"samples of coco"``.
    """

    limit: float
    what: str

    def too_many(self, count: int, samples: int) -> bool:
        """Whether so many of so many are."""
        return count > (self.limit * samples if self.limit < 1 else self.limit)

    def error(self, count: int, first: str | None = None) -> RunError:
        """What is said of too many.

        Args:
            count: how many they are.
            first: one of them with the reason, where it is known.
        """
        named = "" if first is None else f", first: {first}"
        return RunError(
            f"{count} {self.what} could not be read (limit {self.limit:g}){named}; what is scored is kept; "
            "mend them, or raise --max-errors to go on without"
        )


class UnitWatch:
    """Shows how far a unit is, and stops between its batches where that was asked; never after the last of them."""

    def __init__(self, bars: Bars, bar: Any, samples: int) -> None:
        self._bars, self._bar, self._samples, self._done = bars, bar, samples, 0

    def advance(self, samples: int) -> None:
        """So many more are done.

        Raises:
            KeyboardInterrupt: a command was asked to stop; the unit is given up.
        """
        self._done += samples
        self._bars.advance(self._bar, samples)
        if self._done < self._samples:
            stopping.check()

    def anew(self) -> None:
        """The unit begins anew."""
        self._bars.advance(self._bar, -self._done)
        self._done = 0


def work_on(
    evaluation: EvaluationWriter,
    units: Mapping[int, Sequence[int]],
    rows_each: int,
    compute: Callable[[int, UnitWatch], UnitRows],
    unread: Unread,
    name: str,
    *,
    own: Sequence[int] | None = None,
    also: Callable[[], Collection[int]] = tuple,
    progress: bool | Bars = True,
    wait: bool = True,
) -> bool:
    """Compute and write the units that are missing, together with whoever else was given the same run.

    Args:
        evaluation: whose units.
        units: unit -> places of its samples.
        rows_each: rows of a sample.
        compute: computes a unit; tells the watch of every batch.
        unread: how many samples may be unreadable, those of processes before this one included.
        name: what the bar says.
        own: the units to see to; None for all.
        also: units that lack something else than rows.
        progress: whether to show a bar, or where.
        wait: for units that other processes are at, once none is free.

    Returns:
        Whether rows were written.

    Raises:
        RunError: too many samples could not be read.
        BusyError: others are at what is left, and ``wait`` is off.
    """
    owed = {unit: len(places) * rows_each for unit, places in units.items()}
    total = sum(map(len, units.values()))
    missing = sorted({*put_in_order(evaluation, owed), *also()})
    if missing and unread.too_many(evaluation.unread(), total):
        raise unread.error(evaluation.unread())  # refused before, it is refused again
    fresh = False
    shown = progress_bars(enabled=progress and bool(missing)) if isinstance(progress, bool) else nullcontext(progress)
    with shown as bars:
        bar = bars.add_task(name, total=total, completed=total - sum(len(units[unit]) for unit in missing), note="")

        def one(unit: int) -> None:
            nonlocal fresh
            began = time.monotonic()
            with stopping.gently():
                found = compute(unit, UnitWatch(bars, bar, len(units[unit])))
                unwritten = unit in evaluation.missing(owed)
                count = evaluation.unread() + len(found.unread) * unwritten
                stop = bool(found.unread) and unread.too_many(count, total)
                if not (stop and len(found.unread) == len(units[unit])):  # nothing but failures is nothing to keep
                    if found.keep is not None:
                        found.keep()  # before the rows, so that where these are it is, too
                    if unwritten:
                        told = {"seconds": round(time.monotonic() - began, 3), "unread": len(found.unread)}
                        evaluation.write(unit, found.table(), {**told, **found.told, **peak_memory()})
                        fresh = True
            if stop:
                raise unread.error(count, found.unread[0])

        say = partial(tell, bars) if progress else None
        share(evaluation, owed, list(units) if own is None else own, one, also=also, wait=wait, say=say)
    return fresh
