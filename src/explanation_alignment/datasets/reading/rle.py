"""Run-length encoded masks as COCO files hold them, in numbers or packed into text.

Written here because pycocotools trusts its input: a text that is too short gives a mask of whatever lay in memory.
The tests hold both decoders to the same masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from explanation_alignment.datasets.reading.files import MAX_PIXELS
from explanation_alignment.errors import DatasetError

__all__ = ["decode_rle"]

#: More characters than this a number of pixels never takes.
_LONGEST_NUMBER: Final = 7


def decode_rle(size: Sequence[int], counts: str | Sequence[int]) -> NDArray[np.bool_]:
    """A mask from its run lengths.

    Args:
        size: height and width.
        counts: lengths of the runs outside and inside the mask in turn, outside first, down the columns; as numbers, or
            packed into text: six bits a character from ``"0"`` on, five of them the number's, the lowest first, and
            from the fourth number on the difference to the one two places before.

    Returns:
        (H, W) bool.

    Raises:
        DatasetError: the runs do not add up to the mask's size, or are no run lengths.
    """
    try:
        height, width = (int(length) for length in size)
    except (TypeError, ValueError, OverflowError):
        raise DatasetError(f"run-length mask: expected size [height, width], got {size!r}") from None
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise DatasetError(f"run-length mask: a size of {height} x {width} pixels is not read")
    runs = _unpacked(counts) if isinstance(counts, str) else _numbers(counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise DatasetError(
            f"run-length mask: its runs cover {int(runs.sum())} pixels, some may be negative; "
            f"{height} x {width} has {height * width}"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _numbers(counts: Any) -> NDArray[np.int64]:
    whole = isinstance(counts, (list, tuple)) and all(type(run) is int and abs(run) <= MAX_PIXELS for run in counts)
    if not whole:
        raise DatasetError("run-length mask: expected counts as text or as a list of whole numbers")
    return np.array(counts, dtype=np.int64)


def _unpacked(text: str) -> NDArray[np.int64]:
    codes = np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) - 48
    if not len(codes):
        return codes
    last = codes & 0x20 == 0
    if codes.min() < 0 or codes.max() > 63 or not last[-1]:
        raise DatasetError("run-length mask: its text is cut off or has characters that do not belong there")
    ends = np.flatnonzero(last)
    starts = np.append(0, ends[:-1] + 1)
    digits = ends - starts + 1
    if digits.max() > _LONGEST_NUMBER:
        raise DatasetError("run-length mask: its text holds a number larger than any mask")
    place = np.arange(len(codes)) - np.repeat(starts, digits)
    numbers = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 0x10, 1 << (5 * digits), 0)
    for first in (1, 2):
        numbers[first::2] = np.cumsum(numbers[first::2])
    return numbers
