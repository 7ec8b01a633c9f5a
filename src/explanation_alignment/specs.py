"""Names with arguments, ``name(argument=value, ...)``: one grammar for methods, metrics and datasets."""

from __future__ import annotations

import re
from collections.abc import Mapping

from explanation_alignment.errors import UnknownNameError, UsageError

__all__ = ["check_arguments", "format_call", "parse_bool", "parse_call"]

_CALL = re.compile(r"\s*([\w.+-]+)\s*(?:\((.*)\))?\s*", re.DOTALL)


def parse_call(text: str, kind: str) -> tuple[str, dict[str, str]]:
    """Split ``name(argument=value, ...)`` into its name and its arguments, all as text.

    Args:
        text: the words given, e.g. ``"gradcam(layer=last_conv)"``; a bare name has no arguments.
        kind: what it names, for the error's words.

    Raises:
        UsageError: if the text is not of that form or names an argument twice.
    """
    match = _CALL.fullmatch(text)
    if match is None:
        raise UsageError(f"cannot read {kind} {text!r}; expected name or name(argument=value, ...)")
    name, inside = match.group(1), match.group(2)
    arguments: dict[str, str] = {}
    for part in (inside or "").split(","):
        if not part.strip() and not (inside or "").strip():
            continue
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise UsageError(f"cannot read {part.strip()!r} in {kind} {text!r}; expected argument=value")
        if key in arguments:
            raise UsageError(f"{kind} {text!r} gives {key!r} twice")
        arguments[key] = value
    return name, arguments


def format_call(name: str, arguments: Mapping[str, object]) -> str:
    """The canonical text of a name with arguments: sorted, no spaces, booleans in lower case."""
    if not arguments:
        return name
    words = (
        f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in sorted(arguments.items())
    )
    return f"{name}({','.join(words)})"


def check_arguments(owner: str, given: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Refuse an argument that ``owner`` does not have.

    Raises:
        UnknownNameError: naming the nearest ones it has.
        UsageError: if it takes none at all.
    """
    for key in given:
        if not known:
            raise UsageError(f"{owner} takes no arguments, {key!r} was given")
        if key not in known:
            raise UnknownNameError(f"argument of {owner}", key, known)


def parse_bool(text: str, what: str) -> bool:
    """Read ``true`` or ``false``.

    Raises:
        UsageError: for any other word.
    """
    words = {"true": True, "false": False}
    if text.lower() not in words:
        raise UsageError(f"{what}: expected true or false, got {text!r}")
    return words[text.lower()]
