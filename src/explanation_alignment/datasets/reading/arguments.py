"""Reading a dataset's arguments, which come as text from a command and as Python values from a script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.specs import parse_bool

__all__ = ["as_bool", "as_choice", "as_names", "as_pairs", "known_name"]


def as_choice(value: object, what: str, choices: Sequence[str]) -> str:
    """One of several words.

    Raises:
        UsageError: for another; the message has them all.
    """
    if value not in choices:
        raise UsageError(f"{what}: expected {' | '.join(choices)}, got {value!r}")
    return str(value)


def as_bool(value: object, what: str) -> bool:
    """``true`` or ``false``, as text or as a bool.

    Raises:
        UsageError: for anything else.
    """
    return value if isinstance(value, bool) else parse_bool(str(value), what)


def as_names(value: str | Iterable[str] | None, what: str) -> tuple[str, ...]:
    """Names joined by ``+``, or a sequence of them; none for None and for empty text.

    Raises:
        UsageError: one is empty or given twice.
    """
    if value is None or value == "":
        return ()
    names = tuple(part.strip() for part in value.split("+")) if isinstance(value, str) else tuple(map(str, value))
    if not all(names) or len(set(names)) != len(names):
        raise UsageError(f"{what}: expected different names joined by +, got {value!r}")
    return names


def as_pairs(value: str | Mapping[str, Any] | None, what: str) -> tuple[tuple[str, str], ...]:
    """Pairs ``name:value`` joined by ``+``, or a mapping whose values may be sequences; a name may come again.

    Raises:
        UsageError: a part is no such pair.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, Mapping):
        return tuple(
            (str(name), str(one))
            for name, given in value.items()
            for one in (given if isinstance(given, (list, tuple, set)) else [given])
        )
    pairs = []
    for part in str(value).split("+"):
        name, colon, one = (piece.strip() for piece in part.partition(":"))
        if not (name and colon and one):
            raise UsageError(f"{what}: expected name:value pairs joined by +, got {value!r}")
        pairs.append((name, one))
    return tuple(pairs)


def known_name(name: str, what: str, known: Iterable[str]) -> str:
    """A name that is among those there are.

    Raises:
        UnknownNameError: it is not.
    """
    there = list(known)
    if name not in there:
        raise UnknownNameError(what, name, there)
    return name
