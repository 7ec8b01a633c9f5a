"""How far a sweep is: bars on a terminal, a line a classifier elsewhere; both on stderr."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

__all__ = ["SweepWatch"]

_BAR_WIDTH = 16


class SweepWatch(AbstractContextManager["SweepWatch"]):
    """Shows classifiers done, failed and left, the images of the current one, images a second, and how long it takes.

    Evaluations draw their own bar in it: it is a :class:`~explanation_alignment.progress.Bars`.

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
        self._done = self._failed = self._present = 0
        self._scored = 0  # images, of all classifiers
        self._worked = 0.0  # seconds, on classifiers that are over
        self._began: float | None = None
        self._own = 0
        self._name = ""
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(_BAR_WIDTH),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._drawn,
        )
        self._all = self._bars.add_task("classifiers", total=models, note="")
        self._current: Any = None

    def __enter__(self) -> SweepWatch:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Say something beside the bars."""
        if self._enabled:
            self._console.print(Text(text, "dim"), soft_wrap=True)

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

    def end(self, outcome: str = "", *, failed: bool = False) -> None:
        """The classifier is over.

        Args:
            outcome: what came of it; left out: how many images it was scored on.
            failed: whether it could not be evaluated.
        """
        seconds = 0.0 if self._began is None else time.monotonic() - self._began
        self._worked += seconds
        self._began = None
        self._done, self._failed = self._done + (not failed), self._failed + failed
        rate = f", {self._own / seconds:.3g}/s" if self._own and seconds else ""
        outcome = outcome or f"{self._own} images in {seconds:.0f} s{rate}"
        self._finish(f"{'failed: ' if failed else ''}{outcome}", shown=failed)

    def skip(self, name: str) -> None:
        """A classifier was evaluated before."""
        self._name = name
        self._present += 1
        self._done += 1
        self._finish("is there already", shown=False)

    def _finish(self, outcome: str, *, shown: bool) -> None:
        if self._current is not None:
            self._bars.remove_task(self._current)
            self._current = None
        self._bars.advance(self._all, 1)
        self._tell()
        if self._enabled and (shown or not self._drawn):
            line = f"[{self._done + self._failed}/{self._models}] {self._name}: {outcome}"
            self._console.print(Text(line), soft_wrap=True)

    def _tell(self) -> None:
        left = self._models - self._done - self._failed
        words = [f"{self._done} done", f"{self._failed} failed", f"{left} left"]
        seconds = self._worked + (0 if self._began is None else time.monotonic() - self._began)
        if self._scored and seconds:
            owed = max(0, left * self._images - self._own * (self._began is not None))
            words.append(f"{self._scored / seconds:.3g} images/s")
            words.append(f"about {timedelta(seconds=round(owed * seconds / self._scored))} to go")
        self._bars.update(self._all, note=", ".join(words))

    @property
    def _short(self) -> str:
        return self._name if len(self._name) <= 40 else f"{self._name[:38]}.."
