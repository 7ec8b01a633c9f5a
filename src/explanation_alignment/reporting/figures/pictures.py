"""Pictures of a run's examples as arrays, and what is drawn over them."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.reporting.figures.sheet import SALIENT, BoolMask

__all__ = ["class_word", "fill_of", "fit", "mask_of", "outline_of", "picture_of"]


def picture_of(data: bytes | None) -> NDArray[np.uint8] | None:
    """A PNG's content as (H, W, 3)."""
    if data is None:
        return None
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def mask_of(data: bytes | None) -> BoolMask | None:
    """A PNG's content as (H, W): where it is not 0."""
    if data is None:
        return None
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L")) > 0


def fill_of(mask: BoolMask, opacity: float) -> NDArray[np.float64]:
    """(H, W, 4): the salient colour where the mask is, nothing elsewhere."""
    fill = np.zeros((*mask.shape, 4))
    fill[mask] = matplotlib.colors.to_rgba(SALIENT, opacity)
    return fill


def outline_of(mask: BoolMask, shape: Sequence[int]) -> list[list[tuple[float, float]]]:
    """The mask's outline along the edges of its pixels, in the coordinates of an image of ``shape``."""
    sy, sx = shape[0] / mask.shape[0], shape[1] / mask.shape[1]
    padded = np.pad(mask, 1)
    segments: list[list[tuple[float, float]]] = []
    between_rows = padded[1:] != padded[:-1]
    for y in np.flatnonzero(between_rows.any(axis=1)):
        for start, stop in _spans(between_rows[y, 1:-1]):
            segments.append([(start * sx - 0.5, y * sy - 0.5), (stop * sx - 0.5, y * sy - 0.5)])
    between_columns = padded[:, 1:] != padded[:, :-1]
    for x in np.flatnonzero(between_columns.any(axis=0)):
        for start, stop in _spans(between_columns[1:-1, x]):
            segments.append([(x * sx - 0.5, start * sy - 0.5), (x * sx - 0.5, stop * sy - 0.5)])
    return segments


def _spans(flags: BoolMask) -> list[tuple[int, int]]:
    """The runs of true values, as half-open ranges."""
    change = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in zip(change[::2], change[1::2], strict=True)]


def class_word(index: int | None, names: Sequence[str] | None) -> str:
    """A class's name, or its index where it has none."""
    if index is None:
        return "no prediction"
    return names[index] if names is not None and 0 <= index < len(names) else str(index)


def fit(text: str, width: int) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= width else text[: width - 1] + "…"
