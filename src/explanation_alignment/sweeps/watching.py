"""How far a sweep is: bars on a terminal, a line a classifier elsewhere; both on stderr."""

from __future__ import annotations

import collections
import time
from abc import abstractmethod
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["SweepWatch", "TogetherWatch"]

_BAR_WIDTH = 16
_ALL_THERE = "is there already"


class _Screen(AbstractContextManager[Any]):
    """What both ways of watching share: the bars, and lines beside them.

    Args:
        models: how many classifiers there are.
        images: how many each is asked about.
        enabled: False shows nothing.
    """

    def __init__(self, models: int, images: int, *, enabled: bool) -> None:
        self._console = Console(stderr=True)
        self._enabled = enabled
        self._drawn = enabled and self._console.is_terminal
        self._models, self._images = models, images
        self._done = self._failed = 0
        self._scored = 0  # images, of all classifiers
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(_BAR_WIDTH),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            disable=not self._drawn,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Say something beside the bars."""
        if self._enabled:
            self._console.print(Text(text, "dim"), soft_wrap=True)

    def end(self, name: str, outcome: str = "", *, failed: bool = False) -> None:
        """A classifier is over, all tasks of it.

        Args:
            name: its own.
            outcome: what came of it; left out: how many images it was scored on.
            failed: whether it could not be evaluated.
        """
        scored = self._scored_of(name)
        self._done, self._failed = self._done + (not failed), self._failed + failed
        self._move_on()
        self._line(name, f"{'failed: ' if failed else ''}{outcome or scored}", shown=failed)

    def skip(self, name: str) -> None:
        """A classifier was evaluated before."""
        self._done += 1
        self._move_on()
        self._line(name, _ALL_THERE, shown=False)

    @abstractmethod
    def _scored_of(self, name: str) -> str:
        """How many images a classifier that is over was scored on; they are under way no longer."""

    @abstractmethod
    def _move_on(self) -> None:
        """Show that a classifier is over."""

    def _line(self, name: str, outcome: str, *, shown: bool) -> None:
        """A line for a classifier that is over; on a terminal only where it is worth one."""
        if self._enabled and (shown or not self._drawn):
            line = f"[{self._done + self._failed}/{self._models}] {name}: {outcome}"
            self._console.print(Text(line), soft_wrap=True)

    def _counts(self, owed: int, seconds: float) -> str:
        """Classifiers done, failed and left; images a second and the time to go, where there is one to tell."""
        left = self._models - self._done - self._failed
        words = [f"{self._done} done", f"{self._failed} failed", f"{left} left"]
        if self._scored and seconds:
            words.append(f"{self._scored / seconds:.3g} images/s")
            words.append(f"about {timedelta(seconds=round(owed * seconds / self._scored))} to go")
        return ", ".join(words)


class SweepWatch(_Screen):
    """Classifiers one after another: those done, failed and left, the images of the current one, and how long it takes.

    Evaluations draw their own bar in it: it is a :class:`~explanation_alignment.progress.Bars`.
    """

    def __init__(self, models: int, images: int, *, enabled: bool) -> None:
        super().__init__(models, images, enabled=enabled)
        self._worked = 0.0  # seconds, on classifiers that are over
        self._began: float | None = None
        self._own = 0
        self._name = ""
        self._all = self._bars.add_task("classifiers", total=models, note="")
        self._current: Any = None

    def begin(self, name: str) -> None:
        """A classifier is being built."""
        self._name, self._began, self._own = name, time.monotonic(), 0
        self._current = self._bars.add_task(self._short, total=self._images, note="building")
        self._tell()

    def add_task(self, description: str, *, total: float, completed: int, note: str) -> Any:
        """Its evaluation begins; several follow each other where methods were added."""
        self._bars.update(self._current, total=total, completed=completed, note=note)
        return self._current

    def advance(self, task_id: Any, advance: float) -> None:
        """So many images are scored."""
        self._own += int(advance)
        self._scored += int(advance)
        self._bars.advance(task_id, advance)
        self._bars.update(task_id, note="")
        self._tell()

    def _scored_of(self, name: str) -> str:
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        self._worked += seconds
        self._began = None
        if not self._own:
            return _ALL_THERE
        rate = f", {self._own / seconds:.3g}/s" if seconds else ""
        return f"{self._own} images in {seconds:.0f} s{rate}"

    def put_off(self, name: str) -> None:
        """Other processes are at all that is left of the classifier; it comes once more after the others."""
        self._worked += 0.0 if self._began is None else time.monotonic() - self._began
        self._began = None
        if self._current is not None:
            self._bars.remove_task(self._current)
            self._current = None
        self.note(f"{name}: other processes are at it; looked at again at the end")

    def _move_on(self) -> None:
        if self._current is not None:
            self._bars.remove_task(self._current)
            self._current = None
        self._bars.advance(self._all, 1)
        self._tell()

    def _tell(self) -> None:
        seconds = self._worked + (0 if self._began is None else time.monotonic() - self._began)
        left = self._models - self._done - self._failed
        owed = max(0, left * self._images - self._own * (self._began is not None))
        self._bars.update(self._all, note=self._counts(owed, seconds))

    @property
    def _short(self) -> str:
        return self._name if len(self._name) <= 40 else f"{self._name[:38]}.."


class TogetherWatch(_Screen):
    """Classifiers at once, in other processes: one bar for the images of all of them."""

    def __init__(self, models: int, images: int, *, enabled: bool) -> None:
        super().__init__(models, images, enabled=enabled)
        self._names: list[str] = []  # of the tasks
        self._own: collections.Counter[str] = collections.Counter()  # images of the classifiers that are under way
        self._started = time.monotonic()
        self._bar = self._bars.add_task("images", total=models * images, note="")

    def begin(self, name: str) -> None:
        """Nothing begins in this process."""

    def add_task(self, description: str, *, total: float, completed: int, note: str) -> int:
        """A task was handed over: a classifier, or a share of its images."""
        self._names.append(description)
        self._tell()
        return len(self._names) - 1

    def advance(self, task_id: int, advance: float) -> None:
        """So many more images are scored; fewer, where a task was begun anew."""
        self._own[self._names[task_id]] += int(advance)
        self._scored += max(0, int(advance))
        self._tell()

    def _scored_of(self, name: str) -> str:
        scored = self._own.pop(name, 0)
        return f"{scored} images" if scored else _ALL_THERE

    def _move_on(self) -> None:
        self._tell()

    def _tell(self) -> None:
        under_way = sum(min(max(count, 0), self._images) for count in self._own.values())
        completed = (self._done + self._failed) * self._images + under_way
        owed = max(0, self._models * self._images - completed)
        note = self._counts(owed, time.monotonic() - self._started)
        self._bars.update(self._bar, completed=completed, note=note)
