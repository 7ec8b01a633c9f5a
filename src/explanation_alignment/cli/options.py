"""Options that several commands share, and how their lists are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from explanation_alignment.errors import UsageError

__all__ = ["Device", "OptionalDataDir", "Out", "Quiet", "RunPath", "whole_numbers"]

RunPath: TypeAlias = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
Out: TypeAlias = Annotated[Path, typer.Option(help="Run folder to write, or to resume.")]
OptionalDataDir: TypeAlias = Annotated[Path | None, typer.Option(help="Folder with the dataset's files.")]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]


def whole_numbers(text: str, option: str) -> list[int]:
    """Read ``0,1,2``.

    Raises:
        UsageError: if a piece is no whole number.
    """
    try:
        return [int(piece) for piece in text.split(",")]
    except ValueError:
        raise UsageError(f"{option}: expected whole numbers separated by commas, such as 0,1,2; got {text!r}") from None
