"""Annotations stored as images whose pixels are numbers: instances, classes, parts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.reading.files import decode_image
from explanation_alignment.datasets.reading.image_index import SWAPS_SIDES
from explanation_alignment.errors import DatasetError

__all__ = ["read_label_map"]

_NUMBERED: Final = ("1", "L", "P", "I", "I;16", "RGB")
#: How PIL turns an image of each EXIF orientation upright, and back.
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK: Final = {**_UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def read_label_map(
    path: Path, width: int, height: int, *, orientation: int = 1, turned: bool = False
) -> NDArray[np.int64]:
    """Read the numbers of a label map, on its image's pixels.

    A palette or greyscale image holds one number a pixel; in a colour image it is R + 256 G + 65536 B. A map of another
    size than its image is resized by PIL's NEAREST; one that has the size of the image turned as EXIF says is turned
    like the image, as :func:`~explanation_alignment.datasets.reading.xml_boxes.lay_boxes` does with boxes.

    Args:
        path: the file.
        width: of the image as it is used, pixels.
        height: likewise.
        orientation: the image's EXIF orientation, 1 to 8; 1 where it has none.
        turned: whether the image is used turned as that says; else as it is stored.

    Returns:
        (height, width) int64.

    Raises:
        DatasetError: the file is missing, damaged, too large, or of another kind.
    """
    if not path.is_file():
        raise DatasetError(f"{path.name}: no such file in {path.parent.name}")
    try:
        with path.open("rb") as handle:
            image = decode_image(handle, path.name, plain=False)
    except OSError as error:
        raise DatasetError(f"{path.name}: cannot be read ({error.strerror or error})") from error
    if image.mode not in _NUMBERED:
        raise DatasetError(f"{path.name}: expected one number a pixel or R, G and B, got mode {image.mode}")
    laid = _laid(image, (width, height), orientation, turned)
    values = np.asarray(laid).astype(np.int64)
    return values if values.ndim == 2 else values[..., 0] + 256 * values[..., 1] + 65536 * values[..., 2]


def _laid(image: Image.Image, used: tuple[int, int], orientation: int, turned: bool) -> Image.Image:
    width, height = used
    stored = (height, width) if turned and orientation in SWAPS_SIDES else used
    if orientation in SWAPS_SIDES and image.size != stored and image.size == stored[::-1]:
        return image if turned else image.transpose(_BACK[orientation])
    if image.size != stored:
        image = image.resize(stored, Image.Resampling.NEAREST)
    return image.transpose(_UPRIGHT[orientation]) if turned and orientation in _UPRIGHT else image
