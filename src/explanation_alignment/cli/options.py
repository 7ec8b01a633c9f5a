"""Options that several commands share, and how their lists are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from explanation_alignment.cli.display.tables import Format
from explanation_alignment.errors import UsageError

__all__ = [
    "ClassifierDevice",
    "Device",
    "Level",
    "OneSeed",
    "OnlyDataset",
    "OnlyDatasets",
    "OnlyMethod",
    "OnlyMethods",
    "OnlyMetrics",
    "OnlyModel",
    "OnlyModels",
    "OnlyRegion",
    "OnlyRegions",
    "OptionalDataDir",
    "Out",
    "OutputFormat",
    "Quiet",
    "RunPath",
    "SeveralSeeds",
    "Workers",
    "seeds_of",
    "whole_numbers",
]

RunPath: TypeAlias = Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]
Out: TypeAlias = Annotated[Path, typer.Option(help="Run folder to write, or to resume.")]
OptionalDataDir: TypeAlias = Annotated[Path | None, typer.Option(help="Folder with the dataset's files.")]
Device: TypeAlias = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
ClassifierDevice: TypeAlias = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda, ...; left out: where a file: classifier is, else auto.")
]
OneSeed: TypeAlias = Annotated[int | None, typer.Option("--seed", help="Seed of training.", min=0)]
SeveralSeeds: TypeAlias = Annotated[str | None, typer.Option("--seeds", help="Several, such as 0,1,2; the run grows.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
Workers: TypeAlias = Annotated[int, typer.Option(help="Processes that decode images.", min=0)]

# what of a run a command is about
OnlyModels: TypeAlias = Annotated[list[str] | None, typer.Option(help="Only this model; may be repeated.")]
OnlyRegions: TypeAlias = Annotated[list[str] | None, typer.Option(help="Only this region; may be repeated.")]
OnlyDatasets: TypeAlias = Annotated[list[str] | None, typer.Option(help="Only this dataset; may be repeated.")]
OnlyMethods: TypeAlias = Annotated[list[str] | None, typer.Option(help="Only this saliency method; may be repeated.")]
OnlyMetrics: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Only this metric, or accuracy; may be repeated. [default: all]")
]
OnlyModel: TypeAlias = Annotated[str | None, typer.Option(help="Only this model.")]
OnlyRegion: TypeAlias = Annotated[str | None, typer.Option(help="Only this region.")]
OnlyDataset: TypeAlias = Annotated[str | None, typer.Option(help="Only this dataset.")]
OnlyMethod: TypeAlias = Annotated[str | None, typer.Option(help="Only this saliency method.")]
Level: TypeAlias = Annotated[float, typer.Option(help="Coverage of the intervals.")]
OutputFormat: TypeAlias = Annotated[
    Format, typer.Option(help="For people or for machines; machines get every row and column.")
]


def seeds_of(seed: int | None, seeds: str | None) -> list[int]:
    """The seeds meant by ``--seed`` or ``--seeds``; 0 by default.

    Raises:
        UsageError: if both are given, or a piece is no whole number.
    """
    if seed is not None and seeds is not None:
        raise UsageError("give --seed or --seeds, not both")
    return whole_numbers(seeds, "--seeds") if seeds is not None else [seed or 0]


def whole_numbers(text: str, option: str) -> list[int]:
    """Read ``0,1,2``.

    Raises:
        UsageError: if a piece is no whole number.
    """
    try:
        return [int(piece) for piece in text.split(",")]
    except ValueError:
        raise UsageError(f"{option}: expected whole numbers separated by commas, such as 0,1,2; got {text!r}") from None
