"""Boxes of annotation files laid on the images they belong to: other sizes, turned images, boxes that mark nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.image_index import SWAPS_SIDES
from explanation_alignment.errors import DatasetError
from explanation_alignment.sample import Boxes

__all__ = ["AnnotationIndex", "XmlBoxes", "lay_boxes", "pixel_ranges", "turn_boxes"]

#: Coordinates further out are moved here, so that they fit integers; far beyond any image.
_FAR: Final = 1 << 30


class AnnotationIndex:
    """The annotations of a list of samples, as flat arrays.

    Args:
        table: from :func:`annotation_table`.
        files: for every sample its annotation file as ``table`` names it, or None.

    Attributes:
        has_file: (N,) bool, whether the sample has an annotation file.
        written_size: (N, 2) int64, the width and height it tells, 0 where it does not.
        errors: place -> why its annotation file cannot be read.
        starts: (N + 1,) int64: the objects of sample i are ``starts[i]:starts[i + 1]``.
        boxes: (M, 4) float64, xmin, ymin, xmax, ymax as written.
        names: (M,) int64, places in ``name_list``.
        name_list: the objects' names, sorted.
        difficult: (M,) bool.
    """

    def __init__(self, table: pl.DataFrame, files: Sequence[str | None]) -> None:
        wanted = pl.DataFrame({"file": files}, schema={"file": pl.String()})
        rows = wanted.join(table, on="file", how="left", maintain_order="left", nulls_equal=False)
        self.has_file: NDArray[np.bool_] = wanted["file"].is_not_null().to_numpy()
        self.written_size: NDArray[np.int64] = np.stack(
            [rows[side].fill_null(0).to_numpy() for side in ("width", "height")], axis=1
        )
        self.errors = {
            place: str(text)
            for place, text in rows.with_row_index("place").drop_nulls("error").select("place", "error").iter_rows()
        }
        counts = rows["names"].list.len().fill_null(0).to_numpy()
        self.starts: NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        boxes = rows["boxes"].drop_nulls().list.explode(empty_as_null=False)
        self.boxes: NDArray[np.float64] = boxes.to_numpy().reshape(-1, 4)
        names = rows["names"].drop_nulls().list.explode(empty_as_null=False)
        self.name_list: list[str] = names.unique().sort().to_list()
        place_of = {name: place for place, name in enumerate(self.name_list)}
        self.names: NDArray[np.int64] = np.array([place_of[name] for name in names], dtype=np.int64)
        self.difficult: NDArray[np.bool_] = (
            rows["difficult"].drop_nulls().list.explode(empty_as_null=False).cast(pl.Boolean).to_numpy()
        )

    def objects(self, place: int) -> slice:
        """Where the sample's objects are in ``boxes``, ``names`` and ``difficult``."""
        return slice(int(self.starts[place]), int(self.starts[place + 1]))

    def counts(self) -> list[int | None]:
        """How many objects each sample's file has; None where there is none or it cannot be read."""
        counted = np.diff(self.starts).tolist()
        known = [bool(there) and place not in self.errors for place, there in enumerate(self.has_file)]
        return [count if is_known else None for count, is_known in zip(counted, known, strict=True)]

    def owners(self) -> NDArray[np.int64]:
        """(M,) int64: the sample of every object."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def size_of(self, place: int) -> tuple[int, int] | None:
        """The width and height the sample's file tells."""
        width, height = self.written_size[place]
        return (int(width), int(height)) if width and height else None


def pixel_ranges(boxes: NDArray[np.float64], *, one_based: bool) -> NDArray[np.int64]:
    """Written boxes as half-open pixel ranges.

    Coordinates that are not whole numbers are rounded to the nearest, halves up.

    Args:
        boxes: (N, 4) xmin, ymin, xmax, ymax as written.
        one_based: whether they count from 1 and include xmax and ymax, as PASCAL VOC's do; else they are ranges.

    Returns:
        (N, 4) x0, y0, x1, y1.
    """
    whole = np.floor(np.clip(boxes, -_FAR, _FAR) + 0.5).astype(np.int64)
    if one_based:
        whole[:, :2] -= 1
    return whole


def turn_boxes(boxes: NDArray[np.int64], width: int, height: int, orientation: int) -> NDArray[np.int64]:
    """Boxes of an image as it is stored, on the image turned as its EXIF orientation says.

    Args:
        boxes: (N, 4) half-open ranges.
        width: of the stored image, pixels.
        height: likewise.
        orientation: EXIF's, 1 to 8.

    Returns:
        (N, 4) half-open ranges; an inverted box stays inverted.
    """
    x0, y0, x1, y1 = boxes.T
    if orientation in SWAPS_SIDES:
        x0, y0, x1, y1 = y0, x0, y1, x1
        width, height = height, width
    if orientation in (2, 3, 6, 7):
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4, 7, 8):
        y0, y1 = height - y1, height - y0
    return np.stack([x0, y0, x1, y1], axis=1)


#: The orientation that takes back what each one does.
_BACK: Final = {6: 8, 8: 6}


def lay_boxes(
    boxes: NDArray[np.int64],
    written: tuple[int, int] | None,
    stored: tuple[int, int],
    orientation: int = 1,
    *,
    turned: bool = False,
) -> NDArray[np.int64]:
    """Boxes as an annotation file gives them, on the image's pixels.

    Where the file's size is the image's, they stay. Where it is the size of the image turned as its EXIF orientation
    says, and that differs, they were drawn on the turned image and are turned back. Where it is neither, they are
    scaled to the image's size, outwards to whole pixels: starts down, ends up, so that every pixel a box touches is in
    it.

    Args:
        boxes: (N, 4) half-open ranges at the written size.
        written: width and height the file tells; None: the image's.
        stored: width and height of the image as it is stored.
        orientation: its EXIF orientation, 1 to 8.
        turned: whether the image is used turned; else as it is stored.

    Returns:
        (N, 4) half-open ranges on the image as it is used; not clipped.
    """
    width, height = stored
    if written is None or written == stored:
        laid = boxes
    elif orientation in SWAPS_SIDES and written == (height, width):
        if turned:
            return boxes
        return turn_boxes(boxes, height, width, _BACK.get(orientation, orientation))
    else:
        ends = np.array([width, height], dtype=np.int64)
        laid = np.concatenate([boxes[:, :2] * ends // written, -(-boxes[:, 2:] * ends // written)], axis=1)
    return turn_boxes(laid, width, height, orientation) if turned else laid


class XmlBoxes:
    """The boxes of a list of samples, ready to be laid on their decoded images.

    Args:
        index: the samples' annotation files.
        headers: (file, width, height, orientation) of every sample's image, in the same order, from
            :func:`~explanation_alignment.datasets.reading.image_index.image_headers`.
        one_based: whether written boxes count from 1 and include their ends.
        turned: whether images are used turned as their EXIF orientation says; else as they are stored.
    """

    def __init__(self, index: AnnotationIndex, headers: pl.DataFrame, *, one_based: bool, turned: bool = False) -> None:
        self.index = index
        self._ranges = pixel_ranges(index.boxes, one_based=one_based)
        self._stored: NDArray[np.int64] = np.stack(
            [headers[side].fill_null(0).to_numpy() for side in ("width", "height")], axis=1
        )
        self._orientations: NDArray[np.int64] = headers["orientation"].to_numpy()
        self._turned = turned

    def on_image(self, place: int, width: int, height: int, keep: NDArray[np.bool_] | None = None) -> Boxes | None:
        """The union of a sample's boxes on its decoded image.

        Args:
            place: the sample.
            width: of the image as it is used, pixels.
            height: likewise.
            keep: (M,) bool, the objects that count; None: all.

        Returns:
            None where there is no annotation file, or none of the boxes marks a pixel.

        Raises:
            DatasetError: the annotation file could not be read.
        """
        if place in self.index.errors:
            raise DatasetError(f"annotation file: {self.index.errors[place]}")
        objects = self.index.objects(place)
        ranges = self._ranges[objects]
        if keep is not None:
            ranges = ranges[keep[objects]]
        orientation = int(self._orientations[place])
        swapped = self._turned and orientation in SWAPS_SIDES
        stored = (height, width) if swapped else (width, height)
        laid = lay_boxes(ranges, self.index.size_of(place), stored, orientation, turned=self._turned)
        clipped = _clip(laid, width, height)
        return Boxes(laid, height, width) if _marks(clipped).any() else None

    def problems(self, ids: Sequence[str]) -> Iterator[Problem]:
        """What the annotation files and image headers tell without decoding: unreadable and empty files, other sizes,
        boxes that mark nothing or reach beyond the image.

        Args:
            ids: the sample ids.
        """
        index = self.index
        for place, text in sorted(index.errors.items()):
            yield Problem("unreadable_annotation", ids[place], f"annotation file: {text}")
        empty = index.has_file & (np.diff(index.starts) == 0)
        empty[list(index.errors)] = False
        for place in np.flatnonzero(empty).tolist():
            yield Problem("empty_annotation", ids[place], "annotation file without objects", serious=False)
        for place in np.flatnonzero(self._disagrees()).tolist():
            written, stored = tuple(index.written_size[place]), tuple(self._stored[place])
            if self._drawn_turned(place):
                how = "its size turned as EXIF says; boxes turned with it"
            else:
                how = "boxes scaled to the image"
            yield Problem(
                "size_mismatch",
                ids[place],
                f"annotation for {written[0]} x {written[1]}, image of {stored[0]} x {stored[1]}: {how}",
                serious=False,
            )
        owners = index.owners()
        told = index.written_size.min(axis=1) > 0
        sizes = np.where(told[:, None], index.written_size, self._stored)[owners]
        known = sizes.min(axis=1) > 0
        inverted = ~_marks(self._ranges)
        ends = np.where(known[:, None], sizes, 2 * _FAR)
        inside = np.concatenate([np.maximum(self._ranges[:, :2], 0), np.minimum(self._ranges[:, 2:], ends)], axis=1)
        outside = ~inverted & ~_marks(inside)
        beyond = ~inverted & ~outside & (inside != self._ranges).any(axis=1)
        for kind, which, words, serious in (
            ("bad_box", inverted, "is empty or inverted; it marks nothing", True),
            ("bad_box", outside, "lies outside the image; it marks nothing", True),
            ("clipped_box", beyond, "reaches beyond the image; clipped", False),
        ):
            for place in np.flatnonzero(which).tolist():
                box = ", ".join(f"{side:g}" for side in index.boxes[place])
                name = index.name_list[index.names[place]]
                yield Problem(kind, ids[owners[place]], f"box of {name} ({box}) {words}", serious=serious)

    def notes(self) -> list[str]:
        """What is normal and worth saying, a line each."""
        disagrees = np.flatnonzero(self._disagrees()).tolist()
        turned = sum(map(self._drawn_turned, disagrees))
        told = []
        if len(disagrees) > turned:
            told.append(
                f"{len(disagrees) - turned:,} annotation files give another size than their image: "
                "boxes scaled to the image, outwards to whole pixels"
            )
        if turned:
            told.append(
                f"{turned:,} annotation files give the size of their image turned as EXIF says: "
                + ("images turned too" if self._turned else "boxes turned back onto the stored pixels")
            )
        missing = int((~self.index.has_file).sum())
        if missing:
            told.append(f"{missing:,} of {len(self.index.has_file):,} images have no annotation file")
        return told

    def _disagrees(self) -> NDArray[np.bool_]:
        written = self.index.written_size
        differs: NDArray[np.bool_] = (
            written.all(axis=1) & self._stored.all(axis=1) & (written != self._stored).any(axis=1)
        )
        return differs

    def _drawn_turned(self, place: int) -> bool:
        swapped = bool((self.index.written_size[place] == self._stored[place, ::-1]).all())
        return swapped and int(self._orientations[place]) in SWAPS_SIDES


def _clip(boxes: NDArray[np.int64], width: int, height: int) -> NDArray[np.int64]:
    return np.clip(boxes, 0, [width, height, width, height])


def _marks(boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    marks: NDArray[np.bool_] = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return marks
