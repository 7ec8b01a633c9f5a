"""IDX files, the format MNIST and Fashion-MNIST are published in.

Source: the format's description on the MNIST page (LeCun, Cortes, Burges): a big-endian magic number
(two zero bytes, a type byte, the number of dimensions), the dimensions as uint32, then the data.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from explanation_alignment.errors import DatasetError

__all__ = ["find_idx", "read_idx"]

_UINT8 = 0x08


def find_idx(folder: Path, stem: str) -> Path:
    """The file ``stem`` in a folder, gzipped or not, also with ``.`` before ``idx`` and in ``MNIST/raw``.

    Raises:
        DatasetError: if there is none.
    """
    dotted = stem.replace("-idx", ".idx")
    for place in (folder, folder / "MNIST" / "raw", folder / "FashionMNIST" / "raw"):
        for name in (stem, dotted, f"{stem}.gz", f"{dotted}.gz"):
            if (place / name).is_file():
                return place / name
    raise DatasetError(
        f"no {stem} or {stem}.gz in {folder}; expected the official IDX files there "
        "(train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte)"
    )


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read one IDX file of bytes.

    Args:
        path: the file; ``.gz`` is unpacked on the fly.
        dimensions: how many dimensions it must have (3 for images, 1 for labels).

    Returns:
        uint8 array, (N, H, W) for images, (N,) for labels.

    Raises:
        DatasetError: if the file cannot be read, is no IDX file of bytes, has other dimensions, or is
            shorter or longer than its header says.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as packed:
                content = packed.read()
        else:
            content = path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(
            f"{path}: cannot be read ({error}); it looks damaged or cut short, fetch it again"
        ) from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UINT8:
        raise DatasetError(f"{path}: not an IDX file of bytes (its first four bytes are {content[:4].hex(' ')!r})")
    if content[3] != dimensions or len(content) < 4 + 4 * dimensions:
        raise DatasetError(f"{path}: expected {dimensions} dimension(s), the header says {content[3]}")
    shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
    expected = 4 + 4 * dimensions + math.prod(shape)
    if len(content) != expected:
        word = "truncated" if len(content) < expected else "too long"
        raise DatasetError(
            f"{path}: {word}: shape {shape} needs {expected:,} bytes, the file has {len(content):,}; fetch it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)
