"""Options that several experiments share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

__all__ = [
    "BatchSize",
    "Cache",
    "DrawSeed",
    "EvalBatchSize",
    "ModelWeights",
    "PublishedModels",
    "Sample",
    "SampleSeed",
    "ToyFaces",
    "ToySeed",
]

# of those about faces
ToyFaces: TypeAlias = Annotated[
    bool, typer.Option("--toy", help="Generated faces, written below --out and read from there; no files needed.")
]
ToySeed: TypeAlias = Annotated[int, typer.Option(help="Another one, other generated faces.", min=0)]
DrawSeed: TypeAlias = Annotated[int | None, typer.Option(help="Decides which images are drawn.", min=0)]
EvalBatchSize: TypeAlias = Annotated[int, typer.Option(help="Images explained at once.", min=1)]

# of those about many models
PublishedModels: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="Names or patterns of the published list (resnet*), or specs (timm:resnet50); several joined by commas; "
        "repeatable. (Published, and default: all of the list.)",
        show_default=False,
    ),
]
ModelWeights: TypeAlias = Annotated[str, typer.Option(help="default, random or random:SEED.")]
Sample: TypeAlias = Annotated[
    int | None, typer.Option(help="Only so many ImageNet images, class-balanced and seeded. (Published: all.)", min=1)
]
SampleSeed: TypeAlias = Annotated[int, typer.Option(help="Decides the sample.", min=0)]
BatchSize: TypeAlias = Annotated[int, typer.Option(help="Images at once.", min=1)]
Cache: TypeAlias = Annotated[str, typer.Option(help="Decoded images for the next model: auto, off, or a folder.")]
