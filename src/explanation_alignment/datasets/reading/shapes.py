"""Boxes, polygons, ellipses and small bitmaps as tables and annotation tools give them, drawn when an image is read."""

from __future__ import annotations

import base64
import binascii
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.datasets.reading.files import decode_image
from explanation_alignment.datasets.reading.polygons import fill_ellipse, fill_polygon, pixel_boxes
from explanation_alignment.errors import DatasetError
from explanation_alignment.sample import Annotation, Boxes, Mask

__all__ = ["SHAPE_SCHEMA", "Shapes", "shape_row"]

#: A row a shape. ``image`` as its file names it; ``kind``: box (x0, y0, x1, y1), polygon (x, y, x, y, ...), ellipse (x,
#: y, radius x, radius y, angle), bitmap (x0, y0 of a PNG in base64, in ``text``) or nothing (a point or line has no
#: area); ``fractions``: whether numbers are shares of the image's width and height instead of pixels; ``width`` and
#: ``height`` of the image where the file tells them; ``fault``: why it cannot be drawn, else null.
SHAPE_SCHEMA: Final[dict[str, Any]] = {
    "image": pl.String(),
    "region": pl.String(),
    "kind": pl.String(),
    "numbers": pl.List(pl.Float64()),
    "fractions": pl.Boolean(),
    "text": pl.String(),
    "width": pl.Int64(),
    "height": pl.Int64(),
    "fault": pl.String(),
}


def shape_row(
    image: str,
    region: str,
    kind: str,
    numbers: Sequence[float] = (),
    *,
    fractions: bool = False,
    text: str | None = None,
    size: tuple[int | None, int | None] = (None, None),
    fault: str | None = None,
) -> tuple[Any, ...]:
    """A row of ``SHAPE_SCHEMA``; ``size`` is (width, height). Numbers that are not finite become a fault."""
    values = [float(number) for number in numbers]
    if fault is None and not np.isfinite(values).all():
        fault = f"{kind} with a coordinate that is no finite number"
    return image, region, kind, values if fault is None else [], fractions, text, *size, fault


class Shapes:
    """The shapes of a dataset's images, as plain columns that are cheap to hand to worker processes.

    Args:
        table: ``SHAPE_SCHEMA`` with ``place``, the image's place in the dataset.
        count: how many images there are.
    """

    def __init__(self, table: pl.DataFrame, count: int) -> None:
        table = table.sort("place", maintain_order=True)
        self._first = np.searchsorted(table["place"].to_numpy(), np.arange(count + 1))
        self._regions: list[str] = table["region"].to_list()
        self._kinds: list[str] = table["kind"].to_list()
        self._numbers: list[list[float]] = table["numbers"].to_list()
        self._fractions: list[bool] = table["fractions"].to_list()
        self._texts: list[str | None] = table["text"].to_list()
        self._sizes = table.select("width", "height").rows()
        self._faults: list[str | None] = table["fault"].to_list()

    def draw(self, place: int, region: str, height: int, width: int) -> Annotation | None:
        """The annotation of one region of one image.

        Args:
            place: the image's place in the dataset.
            region: which.
            height: of the image, in pixels.
            width: of the image, in pixels.

        Returns:
            Boxes where all shapes are boxes, else a mask; None where no shape has an area.

        Raises:
            DatasetError: a shape cannot be drawn, or was made on an image of another size.
        """
        rows = [row for row in range(self._first[place], self._first[place + 1]) if self._regions[row] == region]
        for row in rows:
            fault = self._faults[row]
            if fault is not None:
                raise DatasetError(fault)
            sized = self._sizes[row]
            if None not in sized and sized != (width, height):
                raise DatasetError(
                    f"{region}: drawn on an image of {sized[0]} x {sized[1]} pixels, this one has {width} x {height}"
                )
        rows = [row for row in rows if self._kinds[row] != "nothing"]
        if not rows:
            return None
        if all(self._kinds[row] == "box" for row in rows):
            boxes = [self._scaled(row, height, width) for row in rows]
            return Boxes(pixel_boxes(boxes, height, width), height, width)
        mask = np.zeros((height, width), dtype=np.bool_)
        for row in rows:
            self._add(mask, row)
        return Mask(mask)

    def count_images(self) -> Counter[str]:
        """Region -> how many images have a shape for it that can be drawn and has an area."""
        return Counter(
            region
            for place in range(len(self._first) - 1)
            for region in {
                self._regions[row]
                for row in range(self._first[place], self._first[place + 1])
                if self._faults[row] is None and self._kinds[row] != "nothing"
            }
        )

    def places(self) -> set[int]:
        """The places of the images that have any shape."""
        return {place for place in range(len(self._first) - 1) if self._first[place] < self._first[place + 1]}

    def problems(self) -> Iterator[tuple[str, int, str, bool]]:
        """What is wrong with shapes: kind, place of the image, message, whether it is serious."""
        for place in range(len(self._first) - 1):
            for row in range(self._first[place], self._first[place + 1]):
                fault, kind, numbers = self._faults[row], self._kinds[row], self._numbers[row]
                if fault is not None:
                    yield "bad_box" if kind == "box" else "unreadable_annotation", place, fault, True
                elif kind == "nothing":
                    yield "empty_annotation", place, f"{self._regions[row]}: a point or line has no area", False
                elif kind == "box" and (numbers[2] <= numbers[0] or numbers[3] <= numbers[1]):
                    told = ", ".join(f"{number:g}" for number in numbers)
                    yield "bad_box", place, f"box ({told}) is empty or has its corners swapped; it marks nothing", True
                elif kind == "polygon" and len(numbers) < 6:
                    yield "empty_annotation", place, "a polygon of fewer than three points marks nothing", True

    def _scaled(self, row: int, height: int, width: int) -> NDArray[np.float64]:
        numbers = np.array(self._numbers[row])
        if self._fractions[row]:
            pairs = len(numbers) // 2 * 2  # an ellipse's angle has no length
            numbers[:pairs] *= np.tile([width, height], pairs // 2)
        return numbers

    def _add(self, mask: NDArray[np.bool_], row: int) -> None:
        kind, numbers = self._kinds[row], self._scaled(row, *mask.shape)
        if kind == "box":
            ((left, top, right, bottom),) = pixel_boxes([numbers], *mask.shape)
            mask[top:bottom, left:right] = True
        elif kind == "polygon":
            fill_polygon(mask, numbers.reshape(-1, 2))
        elif kind == "ellipse":
            fill_ellipse(mask, *numbers.tolist())
        else:
            _add_bitmap(mask, self._texts[row] or "", round(float(numbers[0])), round(float(numbers[1])))


def _add_bitmap(mask: NDArray[np.bool_], text: str, left: int, top: int) -> None:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DatasetError("bitmap: its text is not base64") from None
    pixels = np.asarray(decode_image(io.BytesIO(content), "bitmap").convert("L")) > 0
    rows = slice(max(top, 0), min(top + pixels.shape[0], mask.shape[0]))
    columns = slice(max(left, 0), min(left + pixels.shape[1], mask.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        mask[rows, columns] |= pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
