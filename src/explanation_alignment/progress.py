"""Progress bars on stderr: shown on a terminal, silent elsewhere."""

from __future__ import annotations

from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Bars", "progress_bars"]


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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not (enabled and console.is_terminal),
    )
