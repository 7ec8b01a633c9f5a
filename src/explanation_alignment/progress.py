"""Progress bars on stderr: shown on a terminal, silent elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Bars", "progress_bars", "tell"]


class Bars(Protocol):
    """Where work shows how far it is: a Rich progress display, or something that watches in its place."""

    def add_task(self, description: str, *, total: float, completed: int, note: str) -> Any:
        """A bar for new work; returns its name."""
        ...

    def advance(self, task_id: Any, advance: float) -> None:
        """So much of it is done."""
        ...


def progress_bars(*, enabled: bool = True) -> Progress:
    """A Rich progress display on stderr, to be used as a context manager.

    Args:
        enabled: False draws nothing. Nothing is drawn either where stderr is no terminal.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not (enabled and console.is_terminal),
    )


def tell(progress: bool | Bars, text: str) -> None:
    """Say something beside the bars, on stderr; nothing where no progress is shown.

    Args:
        progress: as an evaluation takes it: whether to show any, or where. What watches in a bar's place is told, if it
            has a method ``note``.
        text: one line.
    """
    if isinstance(progress, bool):
        if progress:
            Console(stderr=True).print(Text(text, "dim"), soft_wrap=True)
        return
    note = getattr(progress, "note", None)
    if callable(note):
        note(text)
    elif isinstance(progress, Progress):
        progress.console.print(Text(text, "dim"), soft_wrap=True)
