"""``ealign score``: score saliency maps that were computed elsewhere, or that a run kept."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explanation_alignment.cli.options import OptionalDataDir, Out, Quiet
from explanation_alignment.errors import UsageError

if TYPE_CHECKING:
    from explanation_alignment.geometry import Geometry
    from explanation_alignment.runs.reader import Run

__all__ = ["score"]


class Covers(StrEnum):
    """What a map lies over."""

    image = "image"
    crop = "crop"


def score(
    maps: Annotated[
        Path,
        typer.Option(help="Folder of .npy, .npz or gray .png files named by sample id; or a run with --save-maps."),
    ],
    dataset: Annotated[
        str, typer.Option(help="Dataset by name; arguments as in 'folder(size=scale)'. See `ealign datasets`.")
    ],
    out: Out,
    data_dir: OptionalDataDir = None,
    model_name: Annotated[
        str | None,
        typer.Option(
            help="What to call the model in tables, default external; of a run, the model to take, default all."
        ),
    ] = None,
    method_name: Annotated[str | None, typer.Option(help="The same for the saliency method.")] = None,
    binarize: Annotated[
        str | None,
        typer.Option(
            help="From map to mask: std:K, threshold:T, percentile:Q, area, otsu. Default std:1; of a run its own."
        ),
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="CSV with sample_id,prediction and, if known, confidence.")
    ] = None,
    geometry: Annotated[
        str, typer.Option(help="Common size of maps and annotations: HxW squashes, RESIZE,CROP crops the centre.")
    ] = "224x224",
    covers: Annotated[
        Covers, typer.Option(help="A map lies over the whole image, or over what the geometry's crop leaves.")
    ] = Covers.image,
    metric: Annotated[list[str] | None, typer.Option(help="Alignment metric; repeatable.")] = None,
    target: Annotated[str, typer.Option(help="Which class the maps explain; a word for the tables.")] = "predicted",
    sample: Annotated[int | None, typer.Option(help="Only so many images, class-balanced and seeded.")] = None,
    seed: Annotated[int, typer.Option(help="Decides the sample; part of every row's key.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that read.", min=0)] = 0,
    max_errors: Annotated[float, typer.Option(help="Unreadable files allowed: a share below 1, or a count.")] = 0.1,
    quiet: Quiet = False,
) -> None:
    """Score saliency maps of a method of your own, or those a run kept, by other binarizations or metrics; no model is
    needed.

    Samples without a map become rows with the status error. Without predictions, what goes by correctness is empty.
    Maps of a run bring along what is known of their decisions: predictions, geometry, target, sample and seed.

    Example: ealign score --maps my_maps --dataset colored_mnist --out runs/mine --geometry 28x28
    """
    from explanation_alignment.cli.display.results import print_run
    from explanation_alignment.cli.display.tables import aside
    from explanation_alignment.cli.memory import keep_freed_memory
    from explanation_alignment.datasets import load_dataset
    from explanation_alignment.scoring.external_maps import score as score_maps

    keep_freed_memory()
    run = score_maps(
        maps,
        load_dataset(dataset, data_dir),
        out,
        model=model_name,
        method=method_name,
        binarization=binarize,
        predictions=predictions,
        geometry=parse_geometry(geometry),
        covers="image" if covers is Covers.image else "crop",
        metrics=metric or None,
        target=target,
        sample=sample,
        seed=seed,
        workers=workers,
        max_errors=max_errors,
        progress=not quiet,
    )
    for line in _remarks(run, model_name, method_name):
        aside(line)
    print_run(run)


def parse_geometry(text: str) -> Geometry:
    """``HxW`` (squash), or ``RESIZE,CROP`` as preprocessing does.

    Raises:
        UsageError: it is neither.
    """
    import re

    from explanation_alignment.geometry import Geometry

    side = r"([1-9]\d{0,4})"
    words = text.replace(" ", "")
    if match := re.fullmatch(f"{side}x{side}", words):
        return Geometry(resize=(int(match[1]), int(match[2])))
    if match := re.fullmatch(f"{side},{side}(?:x{side})?", words):
        return Geometry(resize=int(match[1]), crop=(int(match[2]), int(match[3] or match[2])))
    raise UsageError(f"--geometry: expected HxW such as 224x224, or RESIZE,CROP such as 256,224; got {text!r}")


def _remarks(run: Run, model: str | None, method: str | None) -> list[str]:
    """What the reader should know of maps that are missing or belong to no sample."""
    lines = []
    for item in run.evaluations.values():
        details = item["details"]
        named = (item["question"]["model"], item["methods"][0]["method"])
        if named != (model or "external", method or "external"):
            continue
        if missing := details.get("maps_missing"):
            lines.append(f"{missing} of {details['samples']} samples have no map; their rows have the status error")
        if unused := details.get("maps_unused"):
            first = ", ".join(details["maps_unused_first"])
            more = " ..." if unused > len(details["maps_unused_first"]) else ""
            lines.append(f"{unused} maps belong to no sample: {first}{more}")
    return lines
