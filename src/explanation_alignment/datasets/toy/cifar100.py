"""A small generated stand-in for CIFAR-100: the unpacked archive's three files, pickled as Python 2 pickled them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from explanation_alignment.datasets.cifar100 import (
    COARSE_NAMES,
    COARSE_OF_FINE,
    FINE_NAMES,
    IMAGE_SIZE,
    TOY_CHECKSUMS,
)
from explanation_alignment.datasets.toy.painting import start_toy

__all__ = ["write"]

_SCALE = 4
#: Colours of the five classes of a group.
_COLORS = ((220, 50, 50), (240, 190, 40), (60, 170, 70), (50, 100, 220), (190, 70, 200))


def write(folder: Path, n: int, seed: int) -> None:
    """Write ``cifar-100-python`` with ``n`` images for training and ``n`` for testing, and their checksums.

    A class's group shows in the object's outline and the background's pattern, the class in the group in its colour.
    Each hundred images in a row have one of every class.

    Raises:
        UsageError: the folder is not empty.
    """
    rng = start_toy(folder, "cifar100", n, seed)
    place = folder / "cifar-100-python"
    place.mkdir()
    files = {
        "meta": _pickled({"fine_label_names": _texts(FINE_NAMES), "coarse_label_names": _texts(COARSE_NAMES)}),
        "file.txt~": b"",
    }
    for split, title in (("train", "training batch 1 of 1"), ("test", "testing batch 1 of 1")):
        fine = np.concatenate([rng.permutation(100) for _ in range(-(-n // 100))])[:n].tolist()
        pictures = np.stack([_picture(rng, label) for label in fine])
        names = [f"{FINE_NAMES[label]}_s_{index:06d}.png" for index, label in enumerate(fine)]
        files[split] = _pickled(
            {
                "filenames": _texts(names),
                "batch_label": _text(title),
                "fine_labels": _numbers(fine),
                "coarse_labels": _numbers([COARSE_OF_FINE[label] for label in fine]),
                "data": _array(pictures.transpose(0, 3, 1, 2).reshape(n, -1)),
            }
        )
    sums = []
    for name, content in sorted(files.items()):
        (place / name).write_bytes(content)
        sums.append(f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  cifar-100-python/{name}\n")
    (folder / TOY_CHECKSUMS).write_text("".join(sums), encoding="utf-8", newline="\n")


def _picture(rng: np.random.Generator, label: int) -> NDArray[np.uint8]:
    """(32, 32, 3) uint8."""
    group = COARSE_OF_FINE[label]
    rank = [other for other in range(100) if COARSE_OF_FINE[other] == group].index(label)
    side = IMAGE_SIZE * _SCALE
    rows, columns = np.mgrid[0:side, 0:side] / _SCALE
    phase = rng.uniform(0, 6)
    pattern = (
        np.zeros((side, side)),
        np.sin(1.3 * rows + phase),
        np.sin(1.3 * columns + phase),
        np.sign(np.sin(0.8 * rows + phase) * np.sin(0.8 * columns + phase)),
    )[group % 4]
    base = rng.integers(70, 190, 3)
    paper = np.clip(base + 35 * pattern[:, :, None], 0, 255).astype(np.uint8)
    canvas = Image.fromarray(paper)
    x, y = rng.uniform(13, 19, 2) * _SCALE
    radius, turn = rng.uniform(8.5, 12.5) * _SCALE, rng.uniform(-0.3, 0.3)
    corners = (3, 4, 6, 24, 10)[group // 4]
    angle = turn + 2 * np.pi * np.arange(corners) / corners
    reach = radius * np.where((np.arange(corners) % 2 == 1) & (corners == 10), 0.45, 1.0)
    color = np.clip(np.array(_COLORS[rank]) + rng.integers(-25, 26, 3), 0, 255).tolist()
    outline = np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1).tolist()
    ImageDraw.Draw(canvas).polygon([(a, b) for a, b in outline], fill=tuple(color), outline=(20, 20, 20))
    pixels = np.asarray(canvas.reduce(_SCALE)).astype(np.float64) + rng.normal(0, 5, (IMAGE_SIZE, IMAGE_SIZE, 1))
    return np.clip(pixels, 0, 255).astype(np.uint8)


# Python 3 cannot write the text of Python 2, so the few instructions are put together here (pickle protocol 2).


def _pickled(values: dict[str, bytes]) -> bytes:
    items = b"".join(_text(key) + value for key, value in values.items())
    return b"\x80\x02}(" + items + b"u."


def _text(text: str) -> bytes:
    raw = text.encode("latin1")
    return b"U" + bytes([len(raw)]) + raw


def _texts(values: Sequence[str]) -> bytes:
    return b"](" + b"".join(_text(value) for value in values) + b"e"


def _numbers(values: Sequence[int]) -> bytes:
    return b"](" + b"".join(b"K" + bytes([value]) for value in values) + b"e"


def _array(values: NDArray[np.uint8]) -> bytes:
    """An array of bytes as numpy pickles it: made empty, then given version, shape, type, order and content."""
    rows, columns = values.shape
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
    raw = np.ascontiguousarray(values).tobytes()
    return empty + b"(K\x01" + shape + kind + b"\x89" + b"T" + struct.pack("<i", len(raw)) + raw + b"tb"
