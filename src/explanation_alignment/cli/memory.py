"""A setting of the C library's allocator that training and evaluating on a CPU gain from."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

__all__ = ["keep_freed_memory"]

# glibc's malloc.h
_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_MIB: Final = 2**20


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, instead of giving it back and having it zeroed anew.

    Every batch frees and takes the same tens of megabytes of activations; with glibc's defaults most of
    them are returned to the system each time, and a fifth of the time goes into page faults
    (docs/performance.md). Commands own their process and may do this; the library never does.

    Returns:
        Whether there was such a setting (glibc on Linux) and it was taken.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, such as musl
        return False
    largest_threshold = 32 * _MIB  # glibc refuses more
    settings = ((_M_MMAP_THRESHOLD, largest_threshold), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * _MIB))
    taken = [mallopt(name, value) == 1 for name, value in settings]
    return all(taken)
