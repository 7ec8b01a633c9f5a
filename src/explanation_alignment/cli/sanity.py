"""``ealign sanity``: whether a saliency method depends on the model it explains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from explanation_alignment.cli.display.tables import Format
from explanation_alignment.cli.options import ClassifierDevice, OptionalDataDir
from explanation_alignment.errors import DatasetError, UsageError

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from explanation_alignment.classifiers.classifier import Classifier
    from explanation_alignment.saliency.randomisation import SanityCheck

__all__ = ["sanity"]


def sanity(
    model: Annotated[str, typer.Option(help="Classifier, such as timm:resnet50 or file:my_model.py:build.")],
    method: Annotated[list[str] | None, typer.Option(help="Saliency method with arguments; repeatable.")] = None,
    weights: Annotated[str, typer.Option(help="default, random, random:SEED, or a checkpoint.")] = "default",
    image: Annotated[list[Path] | None, typer.Option(help="Image file; repeatable. Or give --dataset.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Dataset to take images from; see `ealign datasets`.")] = None,
    data_dir: OptionalDataDir = None,
    sample: Annotated[int, typer.Option(help="Images taken from the dataset, class-balanced and seeded.", min=1)] = 16,
    steps: Annotated[int, typer.Option(help="Points of the curve, spread over the layers.", min=1)] = 12,
    target: Annotated[str, typer.Option(help="Explained class: predicted, or an index.")] = "predicted",
    chunk: Annotated[int, typer.Option(help="Inputs at once where a method makes many of an image.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Of the random weights and of the sample.")] = 0,
    figure: Annotated[Path | None, typer.Option(help="Figure to write (.png).", show_default="sanity.png here")] = None,
    no_figure: Annotated[bool, typer.Option("--no-figure", help="Write no figure.")] = False,
    format: Annotated[Format, typer.Option(help="For people or for machines.")] = Format.table,
    device: ClassifierDevice = None,
) -> None:
    """Randomise a model's weights from the output down and see whether a method's maps change.

    A method whose maps stay as they were explains the image, not the model. The model itself is left as it was.

    Example: ealign sanity --model paper:mnist --weights random --method gradcam --dataset colored_mnist
    """
    from explanation_alignment.classifiers.load import load_classifier
    from explanation_alignment.cli.display.tables import aside, print_for_machines
    from explanation_alignment.saliency.randomisation import sanity as check

    if (image is None) == (dataset is None):
        raise UsageError("give --image or --dataset, one of them")
    if figure is not None and (no_figure or figure.suffix.lower() != ".png"):
        raise UsageError(f"--figure {figure}: expected a .png file, and no --no-figure")
    classifier = load_classifier(model, weights, device)
    ids, pixels = (
        _from_files(classifier, image)
        if image is not None
        else _from_dataset(classifier, str(dataset), data_dir, sample, seed)
    )
    methods = method or ["vanilla_gradients", "gradcam"]
    result = check(classifier, pixels, methods, ids=ids, target=target, steps=steps, seed=seed, chunk=chunk)
    if format is not Format.table:
        print_for_machines(result.curve, format)
    else:
        _print(result, len(ids))
    if not no_figure:
        place = figure or Path("sanity.png")
        _draw(result, place)
        aside(f"figure: {place}")


def _from_files(classifier: Classifier, files: list[Path]) -> tuple[list[str], torch.Tensor]:
    import numpy as np
    import torch
    from PIL import Image

    from explanation_alignment.errors import first_line

    channels, height, width = classifier.preprocessing.input_size
    pixels = []
    for file in files:
        try:
            with Image.open(file) as opened:
                picture = classifier.preprocessing.geometry.image(opened.convert("L" if channels == 1 else "RGB"))
        except OSError as error:
            raise DatasetError(f"{file}: not a readable image ({first_line(error)})") from error
        if (picture.height, picture.width) != (height, width):
            raise DatasetError(
                f"{file}: comes out {picture.height} x {picture.width}, the model takes {height} x {width}"
            )
        pixels.append(torch.from_numpy(np.array(picture)).reshape(height, width, channels).permute(2, 0, 1))
    return [file.name for file in files], torch.stack(pixels)


def _from_dataset(
    classifier: Classifier, name: str, data_dir: Path | None, sample: int, seed: int
) -> tuple[list[str], torch.Tensor]:
    from explanation_alignment.batches import iterate_batches
    from explanation_alignment.datasets import load_dataset
    from explanation_alignment.sampling import sample_order

    data = load_dataset(name, data_dir)
    ids = data.ids()
    order = sample_order(data, ids, min(sample, len(ids)), seed)
    batch = next(iter(iterate_batches(data, ids, [order], classifier.preprocessing)))
    if batch.errors:
        raise DatasetError(f"{data.name}: {next(iter(batch.errors.values()))}")
    return list(batch.ids), batch.images


def _print(result: SanityCheck, images: int) -> None:
    from explanation_alignment.cli.display.tables import new_table, say, show_table

    methods = result.curve["method"].unique(maintain_order=True).to_list()
    say(f"{result.model}: rank correlation of |map| with the original's, mean of {images} images")
    for start in range(0, len(methods), 3):
        shown = methods[start : start + 3]
        table = new_table("", ["randomised down to", "layers", *shown], 1)
        for (step,), rows in result.curve.group_by("step", maintain_order=True):
            by_method = {row["method"]: row for row in rows.to_dicts()}
            first = by_method[shown[0]]
            cells = ["-" if by_method[m]["spearman"] is None else f"{by_method[m]['spearman']:+.2f}" for m in shown]
            table.add_row(first["layer"] or ("nothing" if not step else ""), str(first["layers_randomised"]), *cells)
        show_table(table)
    for method, words in result.verdicts().items():
        say(f"{method}: {words}.")


def _draw(result: SanityCheck, place: Path) -> None:
    """The curves as a file."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):  # a $ in a model's name begins no formula
        shown = _curves(result)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        shown.savefig(place, dpi=120)
    except OSError as error:
        raise UsageError(f"--figure: cannot write {place}: {error.strerror or error}") from error


def _curves(result: SanityCheck) -> Figure:
    """Rank correlation and structural similarity over the layers randomised."""
    from matplotlib.figure import Figure

    shown = Figure(figsize=(9, 4.2), layout="constrained")
    axes = shown.subplots(1, 2, sharey=True)
    for axis, column, title in zip(
        axes, ("spearman", "ssim"), ("rank correlation of |map|", "structural similarity"), strict=True
    ):
        for (method,), rows in result.curve.group_by("method", maintain_order=True):
            axis.plot(rows["layers_randomised"], rows[column], marker="o", markersize=3, label=str(method))
        axis.set(title=title, xlabel="layers randomised, from the output down", ylim=(-1.05, 1.05))
        axis.axhline(0, color="gray", linewidth=0.8)
    axes[0].set_ylabel("similarity with the original map")
    axes[1].legend(fontsize=8)
    shown.suptitle(result.model)
    return shown
