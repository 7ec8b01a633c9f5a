"""Works through an evaluation's units together with other processes that were given the same run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from explanation_alignment import stopping
from explanation_alignment.errors import RunError, RunWarning

if TYPE_CHECKING:
    from explanation_alignment.runs.writer import EvaluationWriter

__all__ = ["BusyError", "end_once", "put_in_order", "share"]

#: Seconds between two looks at what others are at.
_LOOK: Final = 0.5


class BusyError(RunError):
    """Other processes are at all that is left of an evaluation."""


def put_in_order(evaluation: EvaluationWriter, owed: Mapping[int, int]) -> list[int]:
    """Take out damaged parts, with a warning each; the units that are missing then.

    Other versions of libraries than made the parts that are there are warned of, too, where units are missing.

    Args:
        evaluation: whose parts.
        owed: unit -> how many rows its part must have.
    """
    for damaged in evaluation.repair(owed):
        warnings.warn(f"{damaged}; it is computed anew", RunWarning, stacklevel=3)
    missing = evaluation.missing(owed)
    if missing and len(missing) < len(owed) and (changed := evaluation.other_versions()):
        warnings.warn(
            f"{evaluation.slug}: parts are of other versions ({changed}); those to come may differ a little",
            RunWarning,
            stacklevel=3,
        )
    return missing


def share(
    evaluation: EvaluationWriter,
    owed: Mapping[int, int],
    own: Sequence[int],
    compute: Callable[[int], None],
    *,
    also: Callable[[], Collection[int]] = tuple,
    wait: bool = True,
    say: Callable[[str], None] | None = None,
) -> None:
    """Compute the units that are missing and that nobody else is at, until all are there.

    Args:
        evaluation: whose units.
        owed: unit -> how many rows its part must have.
        own: the units to see to.
        compute: computes and writes one.
        also: units that lack something else than rows.
        wait: for others, once none is free.
        say: takes words for the user.

    Raises:
        BusyError: others are at all that is left, and ``wait`` is off.
    """
    said = False
    while True:
        lacking = set(also())
        missing = lacking.union(evaluation.missing(owed))
        todo = [unit for unit in own if unit in missing]
        if not todo:
            return
        worked = False
        for unit in todo:
            anyway = unit in lacking and unit in also()  # asked anew: others may have seen to it meanwhile
            lease = evaluation.claim(unit, owed, anyway=anyway)
            if lease is not None:
                worked = True
                with lease:
                    compute(unit)
        if not worked:
            said = _wait(evaluation, f"{len(todo)} units", wait, None if said else say)


def end_once(
    evaluation: EvaluationWriter,
    end: Callable[[], None],
    *,
    again: bool = False,
    wait: bool = True,
    say: Callable[[str], None] | None = None,
) -> None:
    """Have an evaluation, all of whose units are there, ended by one process; the others wait for it.

    Args:
        evaluation: which.
        end: ends it.
        again: end it even if that was done before: its rows were written anew.
        wait: for another process that is at it.
        say: takes words for the user.

    Raises:
        BusyError: another is at it, and ``wait`` is off.
    """
    said = False
    while again or not (evaluation.is_finished() and evaluation.is_compact()):
        lease = evaluation.claim_end()
        if lease is not None:
            with lease:
                if again or not (evaluation.is_finished() and evaluation.is_compact()):
                    end()
                return
        again = False  # whoever is at it sees the same rows
        said = _wait(evaluation, "its end", wait, None if said else say)


def _wait(evaluation: EvaluationWriter, what: str, wait: bool, say: Callable[[str], None] | None) -> bool:
    if not wait:
        raise BusyError(f"{evaluation.slug}: other processes are at {what}")
    if say is not None:
        say(f"{evaluation.slug}: other processes are at {what}; waiting for them")
    with stopping.gently():
        pass
    time.sleep(_LOOK)
    return True
