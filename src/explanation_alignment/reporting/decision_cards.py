"""Decisions to look at: the image, and beside it the map over it with the annotations' outlines."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import matplotlib
import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.metrics.registry import METRICS
from explanation_alignment.reporting.cells import cell
from explanation_alignment.reporting.content import Card, Picture
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.figures.pictures import mask_of, picture_of
from explanation_alignment.reporting.figures.sheet import OUTLINES, SALIENT, SMALL
from explanation_alignment.reporting.material import Material

__all__ = ["card_of", "decisions_of", "outline_words"]

#: Longer side of a picture on the page, pixels of the file.
_SIDE: Final = 224
#: How much of the map's colour covers the image where the map is highest: of what is salient, of the rest, and of a
#: map that no binarization made an area of. What is salient is covered by _LEAST at least, so that its border shows.
_SALIENT, _REST, _UNCUT = 0.85, 0.3, 0.8
_LEAST: Final = 0.5
_JPEG_QUALITY: Final = 82
#: Scores told below a picture.
_TOLD: Final = ("iou_coverage", "pointing_game")

_Pixels = NDArray[np.uint8]


def decisions_of(material: Material) -> pl.DataFrame:
    """The decisions kept with pictures, of the view the report shows: a row each, of the first region shown."""
    examples = material.examples
    if examples.is_empty():
        return examples
    method, binarization = material.method
    return examples.filter(
        pl.col("method") == method,
        pl.col("binarization") == binarization,
        pl.col("region") == material.regions[0],
        pl.col("target") == material.target,
        pl.col("model").is_in(material.models),
        pl.col("dataset").is_in(material.datasets),
    )


def outline_words(material: Material) -> str:
    """What the outlines' colours stand for."""
    names = ("blue", "green", "pink", "light blue", "yellow")
    told = [f"{region} {name}" for region, name in zip(_outlined(material), names, strict=False)]
    return f"Orange: the map; strong where it is salient, which is what IoU counts. Outlines: {', '.join(told)}."


def card_of(material: Material, row: Mapping[str, Any], case: str | None = None) -> Card:
    """One decision.

    Args:
        material: the report's.
        row: of ``decisions_of``.
        case: which of the eight cases it is an example of, if of one.
    """
    dataset = row["dataset"]
    predicted = material.class_word(dataset, row["prediction"])
    label = material.class_word(dataset, row["label"]) if row["label"] is not None else None
    scores = [
        ("hit" if row[name] else "miss") if METRICS[name].binary else f"{metric_label(name)} {cell(row[name]).text}"
        for name in _TOLD
        if name in row and row[name] is not None
    ]
    what = ", ".join(scores) if scores else str(row["status"]).replace("_", " ")
    lines = [f"{row['region']}: {what}", row["model"], f"{dataset}: {row['sample_id']}"]
    wrong = "wrong" if label is None else f"wrong, labelled {label}"
    verdict = {True: "right", False: wrong, None: "correctness unknown"}[row["correct"]]
    image = picture_of(row["image"])
    pictures = []
    if image is not None:
        pictures.append(Picture(_encoded(_enlarged(image), image), f"Image {row['sample_id']} of {dataset}"))
        said = f"Saliency map of {row['model']} over it, with outlines of {', '.join(_outlined(material))}: {what}"
        pictures.append(Picture(_encoded(_overlay(material, row, image), image), said))
    heading = f"{predicted} ({verdict})"
    return Card(f"{case}: {heading}" if case else heading, row["correct"], pictures, lines)


def _outlined(material: Material) -> list[str]:
    """The regions that are outlined: those shown first, then others there is a colour for."""
    others = [name for name in material.summary["region"].unique().sort() if name not in material.regions]
    return [*material.regions, *others][: len(OUTLINES)]


def _overlay(material: Material, row: Mapping[str, Any], image: _Pixels) -> _Pixels:
    """The image in faded grey, the map over it, and the annotations' outlines."""
    big = _enlarged(image)
    size = (big.shape[1], big.shape[0])
    grey = 0.5 * 255 + 0.5 * (big.astype(np.float64) @ np.array([0.299, 0.587, 0.114]))
    drawn = np.repeat(grey[:, :, None], 3, axis=2)
    if row["saliency"] is not None and row["status"] not in ("flat_map", "error"):
        with Image.open(io.BytesIO(row["saliency"])) as saved:
            smooth = Image.Resampling.NEAREST if max(image.shape[:2]) <= SMALL else Image.Resampling.BILINEAR
            heat = np.asarray(saved.convert("L").resize(size, smooth), np.float64)[:, :, None] / 255
        colour = np.array(matplotlib.colors.to_rgb(SALIENT)) * 255
        cover = _cover(heat, mask_of(row["salient"]))
        drawn = drawn * (1 - cover) + colour * cover
    for place, region in enumerate(_outlined(material)):
        mask = mask_of(_annotation(material, row, region))
        if mask is None:
            continue
        with Image.fromarray(mask) as picture:
            edge = _edge(np.asarray(picture.resize(size, Image.Resampling.NEAREST)))
        drawn[edge] = np.array(matplotlib.colors.to_rgb(OUTLINES[place])) * 255
    pixels: _Pixels = np.rint(drawn).astype(np.uint8)
    return pixels


def _cover(heat: NDArray[np.float64], salient: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """How much of the map's colour covers each pixel, (H, W, 1), of a map scaled to 0 to 1."""
    if salient is None:
        return _UNCUT * heat
    with Image.fromarray(salient) as picture:
        inside = np.asarray(picture.resize((heat.shape[1], heat.shape[0]), Image.Resampling.NEAREST))[:, :, None]
    return np.where(inside, _LEAST + (_SALIENT - _LEAST) * heat, _REST * heat)


def _annotation(material: Material, row: Mapping[str, Any], region: str) -> bytes | None:
    """The annotation of another region of the same decision."""
    if region == row["region"]:
        found: bytes | None = row["annotation"]
        return found
    return material.annotations.get((*(row[name] for name in material.DECISION), region))


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a mask within two of its border, those at the image's border included."""
    inner = np.pad(mask, 2)
    eroded = mask.copy()
    height, width = mask.shape
    for dy in range(5):
        for dx in range(5):
            eroded &= inner[dy : dy + height, dx : dx + width]
    return mask & ~eroded


def _enlarged(image: _Pixels) -> _Pixels:
    """The image as large as it is shown; few pixels stay pixels."""
    longer = max(image.shape[:2])
    if longer > SMALL:
        return image
    times = max(1, round(_SIDE / longer))
    return np.repeat(np.repeat(image, times, axis=0), times, axis=1)


def _encoded(pixels: _Pixels, image: _Pixels) -> bytes:
    """As PNG where pixels are to be seen, else as JPEG."""
    buffer = io.BytesIO()
    if max(image.shape[:2]) <= SMALL:
        Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
