"""What an executor is."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from explanation_alignment.progress import Bars

__all__ = ["Done", "Executor", "Watch", "Work", "free_memory"]

T = TypeVar("T")
_Task = TypeVar("_Task", contravariant=True)


class Work(Protocol[_Task]):
    """What does a task; an executor of several processes pickles it."""

    def __call__(self, task: _Task, bars: Bars, say: Callable[[str], None], /) -> str:
        """Do one; returns a word for what came of it.

        Args:
            task: which.
            bars: shown how far it is.
            say: told what is worth knowing.
        """
        ...


class Watch(Bars, Protocol):
    """Where an executor shows how far it is; a bar is added for each task where several are under way at once."""

    def begin(self, name: str) -> None:
        """A task begins, in this process; its bars follow."""
        ...

    def note(self, text: str) -> None:
        """Say something beside the bars."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Done(Generic[T]):
    """What came of a task.

    Args:
        task: which.
        value: what the work returned; None if it failed.
        error: what it failed with.
        trace: the traceback of that, as text.
    """

    task: T
    value: str | None = None
    error: Exception | None = None
    trace: str = ""


class Executor(Protocol):
    """Does tasks."""

    @property
    def at_once(self) -> bool:
        """Whether tasks are done at once, in other processes."""
        ...

    def run(
        self, work: Work[T], tasks: Callable[[int], Iterable[T]], watch: Watch, folder: Path
    ) -> Generator[Done[T], None, None]:
        """Do them all; what came of each, as it comes.

        Args:
            work: does one.
            tasks: what is to be done, told how many can be at once; looked at as they are needed, or all before.
            watch: shown how far it is.
            folder: what is written to.
        """
        ...


def free_memory() -> None:
    """Give back what a task that is over has held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
