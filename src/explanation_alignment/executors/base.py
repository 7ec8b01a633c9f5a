"""What an executor is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from explanation_alignment.progress import Bars

__all__ = ["Done", "Executor", "Watch", "Work"]

T = TypeVar("T")
_Task = TypeVar("_Task", contravariant=True)


class Work(Protocol[_Task]):
    """What does a task; an executor of several processes pickles it."""

    def __call__(self, task: _Task, bars: Bars, say: Callable[[str], None]) -> str:
        """Do one; returns a word for what came of it.

        Args:
            task: which.
            bars: shown how far it is.
            say: told what is worth knowing.
        """
        ...


class Watch(Bars, Protocol):
    """Where an executor shows how far it is."""

    def begin(self, name: str) -> None:
        """A task begins; its bars follow."""
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

    def run(self, work: Work[T], tasks: Iterable[T], watch: Watch) -> Iterator[Done[T]]:
        """Do them all; what came of each, as it comes.

        Args:
            work: does one.
            tasks: looked at as they are needed, or all at once.
            watch: shown how far it is.
        """
        ...
