"""A number with what it counts."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, what: str) -> str:
    """``number`` and ``what``, in the plural (with an s) unless it is one.

    Example:
        >>> counted(1, "test"), counted(2000, "test")
        ('1 test', '2,000 tests')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"
