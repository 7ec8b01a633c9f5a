"""A sheet of sample images with their annotations drawn: what a person looks at before trusting a dataset."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation, binary_erosion

from explanation_alignment.datasets.checking.check import choose_places, known_labels
from explanation_alignment.errors import first_line
from explanation_alignment.sample import AnnotatedDataset, Annotation

__all__ = ["draw_contact_sheet"]

#: Pixels: longest side of a picture, space between pictures, a line of text, the sheet's edge.
_SIDE: Final = 180
_GAP: Final = 12
_LINE: Final = 17
_EDGE: Final = 20
_COLUMNS: Final = 6
#: Longest side, pixels, up to which a picture is enlarged pixel by pixel.
_TINY: Final = 64
_INK: Final = "#1f2328"
_MUTED: Final = "#59636e"
_WRONG: Final = "#b3261e"
_EMPTY: Final = "#eef1f4"
#: Regions' colours in order: told apart on photographs, the first ones with any kind of colour vision.
_COLORS: Final = (
    *("#ff4d00", "#00a2ff", "#00c853", "#ff4fd8", "#ffd500", "#7c4dff"),
    *("#00e5d0", "#b8860b", "#ff8a80", "#5d4037", "#aeea00", "#1a237e"),
)


def draw_contact_sheet(dataset: AnnotatedDataset, count: int = 24, *, seed: int = 0) -> Image.Image:
    """Draw samples spread over the classes, each with its annotations' outlines in the colours of the regions.

    A sample that cannot be read shows why instead.

    Args:
        dataset: anything with the :class:`~explanation_alignment.sample.AnnotatedDataset` protocol.
        count: how many samples; all if there are fewer.
        seed: decides which.

    Returns:
        An RGB image, some 1,200 pixels wide.

    Raises:
        UsageError: ``count`` is less than 1.
    """
    ids, labels = list(dataset.ids()), known_labels(dataset)
    places = choose_places(dataset, ids, labels, count, seed)
    if labels is not None and len(labels) == len(ids):
        known = labels
        places.sort(key=lambda place: (known[place] is None, known[place] or 0, place))
    colors = {name: _COLORS[turn % len(_COLORS)] for turn, name in enumerate(dataset.regions)}
    tiles: list[Image.Image] = []
    drawn: set[str] = set()
    tallest = 1
    for place in places:
        tile, regions, height = _tile(dataset, place, ids[place], colors)
        tiles.append(tile)
        drawn |= regions
        tallest = max(tallest, height)
    tiles = [tile.crop((0, _SIDE - tallest, tile.width, tile.height)) for tile in tiles]
    title = f"{dataset.name}: {len(places):,} of {len(ids):,} samples"
    toy = bool(getattr(dataset, "toy", False))
    legend = [(name, colors[name], name in dataset.evidence) for name in dataset.regions if name in drawn]
    return _sheet(title, toy, legend, tiles)


def _tile(
    dataset: AnnotatedDataset, place: int, name: str, colors: Mapping[str, str]
) -> tuple[Image.Image, set[str], int]:
    """One sample over its words, the regions drawn on it, and its height in pixels."""
    tile = Image.new("RGB", (_SIDE, _SIDE + 2 * _LINE + 6), "white")
    pen = ImageDraw.Draw(tile)
    regions: set[str] = set()
    try:
        sample = dataset[place]
        picture = _scaled(sample.image.convert("RGB"))
        for region, annotation in sample.annotations.items():
            if annotation is not None and region in colors:
                _outline(picture, annotation, colors[region])
                regions.add(region)
        heading, color = _class_name(dataset.class_names, sample.label), _INK
        if colors and not regions:
            heading += " - no annotation"
    except Exception as error:  # whatever a damaged file raises is what there is to see
        picture = Image.new("RGB", (_SIDE, _SIDE * 2 // 3), _EMPTY)
        words = textwrap.wrap(first_line(error), 26)[:6]
        ImageDraw.Draw(picture).multiline_text((8, 8), "\n".join(words), fill=_WRONG, font=_font(11), spacing=4)
        heading, color = "cannot be read", _WRONG
    tile.paste(picture, ((_SIDE - picture.width) // 2, _SIDE - picture.height))
    pen.text((0, _SIDE + 4), _fitted(heading, _font(13), _SIDE), fill=color, font=_font(13))
    pen.text((0, _SIDE + 4 + _LINE), _fitted(name, _font(10), _SIDE, cut_front=True), fill=_MUTED, font=_font(10))
    return tile, regions, picture.height


def _scaled(image: Image.Image) -> Image.Image:
    scale = _SIDE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tiny = max(image.size) <= _TINY
    return image.resize(size, Image.Resampling.NEAREST if tiny else Image.Resampling.BICUBIC)


def _outline(picture: Image.Image, annotation: Annotation, color: str) -> None:
    """Draw an annotation's edge, with a thin white rim so that it stands out on any picture."""
    mask = _resized(annotation.to_mask(), picture.size)
    edge = mask & ~binary_erosion(mask, iterations=2)
    rim = binary_dilation(edge) & ~edge & ~mask
    picture.paste("white", mask=_stencil(rim))
    picture.paste(color, mask=_stencil(edge))


def _resized(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at another size; what is thinner than a pixel stays visible."""
    larger = mask.shape[0] > size[1] or mask.shape[1] > size[0]
    how = Image.Resampling.BOX if larger else Image.Resampling.NEAREST
    scaled = np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, how))
    visible: NDArray[np.bool_] = scaled >= 0.5
    if mask.any() and not visible.any():
        visible = scaled > 0
    return visible


def _stencil(mask: NDArray[np.bool_]) -> Image.Image:
    return Image.fromarray(mask.astype(np.uint8) * 255)


def _sheet(title: str, toy: bool, legend: Sequence[tuple[str, str, bool]], tiles: Sequence[Image.Image]) -> Image.Image:
    width = 2 * _EDGE + _COLUMNS * _SIDE + (_COLUMNS - 1) * _GAP
    rows = _legend_rows(legend, width - 2 * _EDGE)
    head = _EDGE + 26 + len(rows) * 22 + 10
    height = tiles[0].height if tiles else 0
    lines = -(-len(tiles) // _COLUMNS)
    sheet = Image.new("RGB", (width, head + lines * (height + _GAP) + _EDGE - _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    warning = "generated toy data"
    room = width - 2 * _EDGE - (pen.textlength(warning, font=_font(14)) + 20 if toy else 0)
    pen.text((_EDGE, _EDGE - 4), _fitted(title, _font(17), room), fill=_INK, font=_font(17))
    if toy:
        pen.text((width - _EDGE, _EDGE - 2), warning, fill=_WRONG, font=_font(14), anchor="ra")
    for turn, row in enumerate(rows):
        top = _EDGE + 26 + turn * 22
        for left, text, color in row:
            pen.rectangle((left, top + 4, left + 14, top + 13), fill=color)
            pen.text((left + 20, top), text, fill=_INK, font=_font(13))
    for turn, tile in enumerate(tiles):
        row_number, column = divmod(turn, _COLUMNS)
        sheet.paste(tile, (_EDGE + column * (_SIDE + _GAP), head + row_number * (height + _GAP)))
    return sheet


def _legend_rows(legend: Sequence[tuple[str, str, bool]], room: int) -> list[list[tuple[int, str, str]]]:
    """Swatches with names, from left to right, in as many rows as they need: left edge, text, colour."""
    rows: list[list[tuple[int, str, str]]] = [[]]
    left = 0
    for name, color, is_evidence in legend:
        text = _fitted(f"{name} (evidence)" if is_evidence else name, _font(13), room - 40)
        taken = 20 + round(_font(13).getlength(text)) + 24
        if left and left + taken > room:
            rows.append([])
            left = 0
        rows[-1].append((_EDGE + left, text, color))
        left += taken
    return rows


def _class_name(names: Sequence[str], label: int | None) -> str:
    if label is None:
        return "no label"
    return names[label] if 0 <= label < len(names) else f"label {label}"


def _fitted(text: str, font: ImageFont.FreeTypeFont, room: float, *, cut_front: bool = False) -> str:
    """The text on one line, cut where it is too long; of an id the end tells more."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    if font.getlength(text) <= room:
        return text
    low, high = 0, len(text)  # the most letters that fit
    while low < high:
        middle = (low + high + 1) // 2
        cut = "…" + text[-middle:] if cut_front else text[:middle] + "…"
        low, high = (middle, high) if font.getlength(cut) <= room else (low, middle - 1)
    return "…" + text[len(text) - low :] if cut_front else text[:low] + "…"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: the same on every machine, with most alphabets."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
