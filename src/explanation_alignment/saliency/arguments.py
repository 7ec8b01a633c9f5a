"""What a saliency method takes: arguments with a default, a meaning and a strict reader of their text."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.specs import parse_bool

__all__ = [
    "Argument",
    "Reader",
    "choice",
    "flag",
    "grid_sides",
    "like",
    "number",
    "parse_grid",
    "segments",
    "text",
    "whole",
]

#: From a word and what it is for (in an error's words) to the value.
Reader: TypeAlias = Callable[[str, str], object]


def text(word: str, what: str) -> object:
    """Any text."""
    return word


def flag(word: str, what: str) -> object:
    """``true`` or ``false``."""
    return parse_bool(word, what)


def whole(low: int = 0) -> Reader:
    """A whole number of at least ``low``."""

    def read(word: str, what: str) -> object:
        if not (word.isascii() and word.isdecimal()) or int(word) < low:
            raise UsageError(f"{what}: expected a whole number of at least {low}, got {word!r}")
        return int(word)

    return read


def number(low: float, high: float, *, above: bool = False) -> Reader:
    """A number from ``low`` (or above it) to ``high``; whole ones come as int, so that 1 and 1.0 are one."""

    def read(word: str, what: str) -> object:
        try:
            value = float(word)
        except ValueError:
            value = float("nan")
        if not low <= value <= high or (above and value == low):
            raise UsageError(
                f"{what}: expected a number {'above' if above else 'from'} {low:g} to {high:g}, got {word!r}"
            )
        return int(value) if value.is_integer() else value

    return read


def choice(*words: str) -> Reader:
    """One of some words."""

    def read(word: str, what: str) -> object:
        if word not in words:
            raise UnknownNameError(f"value of {what}", word, words)
        return word

    return read


def parse_grid(word: str, what: str = "grid") -> tuple[int, int]:
    """``N`` or ``HxW`` as (rows, columns), more than one cell.

    Raises:
        UsageError: it is neither.
    """
    sides = word.lower().split("x")
    usable = len(sides) <= 2 and all(side.isdecimal() and int(side) > 0 for side in sides)
    if not usable or int(sides[0]) == int(sides[-1]) == 1:
        raise UsageError(f"{what}: expected N or HxW with more than one cell, such as 7 or 7x7, got {word!r}")
    return int(sides[0]), int(sides[-1])


def grid_sides(word: str, what: str) -> object:
    """``N`` or ``HxW``; a square one is written ``N``, since 7x7 and 7 are one grid."""
    return "x".join(map(str, dict.fromkeys(parse_grid(word))))


def segments(word: str, what: str) -> object:
    """``grid:N``, ``grid:HxW`` or ``slic:N``."""
    kind, _, rest = word.partition(":")
    if kind == "grid":
        return f"grid:{grid_sides(rest, what)}"
    if kind != "slic" or not rest.isdecimal() or int(rest) < 2:
        raise UsageError(f"{what}: expected grid:N, grid:HxW or slic:N, such as grid:7 or slic:50, got {word!r}")
    return f"slic:{int(rest)}"


def like(default: object) -> Reader:
    """The reader for the kind of value a default is: of a function of the user's own."""
    if isinstance(default, bool):
        return flag
    readers: dict[type, Callable[[str], object]] = {int: int, float: float}
    convert = readers.get(type(default), str)

    def read(word: str, what: str) -> object:
        try:
            return convert(word)
        except ValueError:
            raise UsageError(f"{what}: expected a value like {default!r}, got {word!r}") from None

    return read


class Argument(NamedTuple):
    """One argument of a saliency method.

    Args:
        default: its value where the request does not give it.
        meaning: what it may be and does, for people.
        read: reads its text.
    """

    default: object
    meaning: str
    read: Reader = text
