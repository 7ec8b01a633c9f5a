"""What runs in a Ray worker: one task, in a process that first looks whether it sees what the asking one does."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from explanation_alignment.errors import ExecutorError
from explanation_alignment.executors.sending import Answer, failed, unpacked

__all__ = ["Counter", "Place", "do_task", "versions"]

#: What numbers may depend on.
_PACKAGES: Final = ("explanation-alignment", "torch", "torchvision", "timm", "numpy", "pillow")
#: Seconds between two words on how far a task is.
_PAUSE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """Where the asking process works, and what a worker must find there.

    Args:
        working: its working directory; taken where there is one of that name, so that relative paths mean the same.
        paths: where it finds its modules; looked through after a worker's own.
        folder: what is written to, which all must see.
        witness: a file in it that the asking process has made.
        versions: of the packages that numbers may depend on.
        threads: threads a task may use.
        patience: seconds a file that was just written may take to show.
    """

    working: str
    paths: tuple[str, ...]
    folder: str
    witness: str
    versions: Mapping[str, str]
    threads: int
    patience: float


class Counter:
    """How far tasks are and what they say; an actor."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._told: list[str] = []

    def count(self, number: int, images: int) -> None:
        """A task has done so many."""
        self._counts[number] = images

    def say(self, text: str) -> None:
        """A task says something."""
        if text not in self._told:
            self._told.append(text)

    def read(self) -> tuple[dict[int, int], list[str]]:
        """All of it."""
        return self._counts, self._told


def do_task(work: bytes, task: bytes, number: int, place: Place, counter: Any) -> Answer:
    """Do one task.

    Args:
        work: what does it, packed.
        task: which, packed.
        number: its number.
        place: what must be found here.
        counter: the actor that is told how far it is.
    """
    bars = _Bars(number, counter)
    try:
        _settle(place, counter.say.remote)
        doing, which = _work(work), unpacked(task)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            value = doing(which, bars, counter.say.remote)
        for each in caught:
            if issubclass(each.category, UserWarning):
                counter.say.remote(str(each.message))
        return Answer(bars.done, value)
    except Exception as error:  # an answer like any other
        return failed(bars.done, error, traceback.format_exc())
    finally:
        _free()


@functools.lru_cache(maxsize=1)
def _work(content: bytes) -> Any:
    """What does the tasks: unpacked once for all that a worker does."""
    return unpacked(content)


def _settle(place: Place, say: Callable[[str], object]) -> None:
    """Make this process like the one that asks, as far as numbers and paths go.

    Raises:
        ExecutorError: it does not see the folder.
    """
    import torch

    from explanation_alignment.cli.memory import keep_freed_memory

    host = socket.gethostname()
    if Path(place.working).is_dir():
        os.chdir(place.working)
    sys.path += [path for path in place.paths if path not in sys.path and Path(path).exists()]
    deadline = time.monotonic() + place.patience
    while not (Path(place.folder) / place.witness).is_file():
        if time.monotonic() > deadline:
            raise ExecutorError(
                f"a worker on {host} does not see {place.folder}; give --out on a file system that all machines share "
                "under the same path, or run shards into folders of their own and `ealign merge` them"
            )
        time.sleep(_PAUSE)
    own = versions()
    other = [f"{name} {own[name]} (not {place.versions[name]})" for name in own if own[name] != place.versions[name]]
    if other:
        say(f"{host} has {', '.join(other)}: its numbers may differ")
    keep_freed_memory()
    torch.set_num_threads(place.threads)


def versions() -> dict[str, str]:
    """The versions of the packages that numbers may depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def _free() -> None:
    from explanation_alignment.executors.base import free_memory

    free_memory()


class _Bars:
    """Tells the counter how far the task is, a few times a second at most."""

    def __init__(self, number: int, counter: Any) -> None:
        self._number, self._counter = number, counter
        self.done, self._told = 0, 0.0

    def add_task(self, description: str, *, total: float, completed: int, note: str) -> int:
        """A bar for new work, which the counter knows by the task's number."""
        return self._number

    def note(self, text: str) -> None:
        """Say something beside the bars."""
        self._counter.say.remote(text)

    def advance(self, task_id: Any, advance: float) -> None:
        """So many more are done."""
        self.done += int(advance)
        if time.monotonic() - self._told > _PAUSE:
            self._told = time.monotonic()
            self._counter.count.remote(self._number, self.done)
