"""This process, one task after another."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from explanation_alignment.executors.base import Done, Watch, Work

__all__ = ["LocalExecutor"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Does tasks in this process, one after another, each looked at when its turn comes."""

    at_once: ClassVar[bool] = False

    def run(
        self, work: Work[T], tasks: Callable[[int], Iterable[T]], watch: Watch, folder: Path
    ) -> Generator[Done[T], None, None]:
        """Do them all; what came of each, as it comes."""
        for task in tasks(1):
            watch.begin(str(task))
            # no name for it here: an error holds on to all that its classifier took, until its reader lets go
            yield _done(work, task, watch)


def _done(work: Work[T], task: T, watch: Watch) -> Done[T]:
    try:
        return Done(task, work(task, watch, watch.note))
    except Exception as error:  # whatever one task does, the others go on
        return Done(task, error=error, trace=traceback.format_exc())
