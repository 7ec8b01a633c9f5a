"""A stand-in for MNIST: digits of seven strokes, in the four IDX files of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from explanation_alignment.datasets.toy.painting import start_toy

__all__ = ["write"]

_SIZE: Final = 28
#: Ends of the seven strokes, in widths and heights of a digit: top, middle, bottom, left and right halves.
_STROKES: Final = {
    "t": ((0, 0), (1, 0)),
    "m": ((0, 0.5), (1, 0.5)),
    "b": ((0, 1), (1, 1)),
    "l": ((0, 0), (0, 0.5)),
    "r": ((1, 0), (1, 0.5)),
    "L": ((0, 0.5), (0, 1)),
    "R": ((1, 0.5), (1, 1)),
}
#: Which of them a digit has.
_DIGITS: Final = ("tblrLR", "rR", "trmLb", "trmRb", "lmrR", "tlmRb", "tlmLRb", "trR", "tmblrLR", "tmblrR")


def write(folder: Path, n: int, seed: int) -> None:
    """Write ``n`` training and ``n`` test images, their labels 0..9 in turn.

    Raises:
        UsageError: the folder holds something already, or ``n`` is less than 1.
    """
    rng = start_toy(folder, "colored_mnist", n, seed)
    for prefix in ("train", "t10k"):
        labels = np.arange(n) % len(_DIGITS)
        images = np.stack([_digit(_DIGITS[label], rng) for label in labels])
        _write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        _write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels.astype(np.uint8))


def _digit(strokes: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Ink on nothing, (28, 28) uint8; place, size, slant and stroke differ from one to the next."""
    scale = 4  # drawn larger, so that edges are grey as in handwriting
    picture = Image.new("L", (_SIZE * scale, _SIZE * scale))
    draw = ImageDraw.Draw(picture)
    width, height = rng.uniform(8, 11), rng.uniform(15, 18)
    slant, thickness = rng.uniform(-2, 4), rng.uniform(2, 3.2)
    left, top = (_SIZE - width) / 2 + rng.uniform(-2, 2), (_SIZE - height) / 2 + rng.uniform(-2, 2)
    for stroke in strokes:
        ends = [
            (scale * (left + x * width + slant * (0.5 - y)), scale * (top + y * height)) for x, y in _STROKES[stroke]
        ]
        draw.line(ends, fill=255, width=round(scale * thickness))
    return np.asarray(picture.resize((_SIZE, _SIZE), Image.Resampling.BOX))


def _write_idx(path: Path, values: NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(header + values.tobytes())
