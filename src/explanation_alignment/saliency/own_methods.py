"""Saliency methods of the user's own: a function in hand, in a file, or of an installed package.

Such a function takes a classifier, images (B, C, H, W) float32 as the network takes them, and the explained classes
(B,) int64, and returns maps (B, H, W). Further parameters with defaults are its arguments.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final, cast

from explanation_alignment.errors import ExplanationAlignmentError, ModelError, UsageError, first_line
from explanation_alignment.factories import make_from_file
from explanation_alignment.saliency.arguments import Argument, like
from explanation_alignment.saliency.catalogue import COMMON_ARGUMENTS, METHODS, MethodEntry
from explanation_alignment.specs import parse_call

__all__ = ["GROUP", "OwnEntry", "OwnMethod", "from_entry_point", "from_file", "from_function", "installed"]

#: The entry point group a package registers methods under.
GROUP: Final = "explanation_alignment.methods"
#: Parameters every such function has first.
_GIVEN: Final = 3
_PLACE: Final = re.compile(r"file:(.+\.py):(\w+\s*(?:\(.*\))?)", re.DOTALL)
_NAME: Final = re.compile(r"[\w.+-]+")


@dataclass(frozen=True, slots=True)
class OwnEntry(MethodEntry):
    """The entry of a method of the user's own, with the function itself."""

    given: Callable[..., Any] | None = None


@dataclass(frozen=True, slots=True)
class OwnMethod:
    """A method of the user's own: its name, what is known of it, and the digest of its source."""

    name: str
    entry: OwnEntry
    source: str


def from_function(function: Callable[..., Any], name: str | None = None, source: str | None = None) -> OwnMethod:
    """Describe a function: by its own name, binarized at ``std:1`` unless it has a ``default_binarization``.

    Args:
        function: (classifier, images, targets, ...) -> maps (B, H, W).
        name: another name.
        source: digest of its source where that is known.

    Raises:
        UsageError: it takes no such arguments, has no source, or bears the name of a registered method.
    """
    name = name or str(getattr(function, "__name__", type(function).__name__))
    what = f"saliency method {name!r}"
    if not callable(function):
        raise UsageError(f"methods: expected names or functions, got {function!r}")
    if not _NAME.fullmatch(name):
        raise UsageError(f"{what}: give the function a name (a lambda has none); it stands in the tables")
    if name in METHODS:
        raise UsageError(f"{what} is the name of a registered method; give the function another one")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise UsageError(f"{what}: its parameters cannot be read; wrap it in a function") from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    further = parameters[_GIVEN:]
    if len(parameters) < _GIVEN or any(each.kind not in positional for each in parameters[:_GIVEN]):
        raise UsageError(f"{what}: expected a function of (classifier, images, targets), got {_signature(function)}")
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    further = [each for each in further if each.kind not in variadic]
    bare = [each.name for each in further if each.default is inspect.Parameter.empty]
    if bare or any(each.name in COMMON_ARGUMENTS for each in further):
        raise UsageError(
            f"{what}: parameters after (classifier, images, targets) need defaults and may not be called "
            f"{' or '.join(COMMON_ARGUMENTS)}; got {_signature(function)}"
        )
    documented = inspect.getdoc(function)
    entry = OwnEntry(
        summary=documented.splitlines()[0] if documented else "a method of the user's own",
        default_binarization=str(getattr(function, "default_binarization", "std:1")),
        signed=True,
        passes="its own",
        source=f"{getattr(function, '__module__', None)}",
        arguments={
            each.name: Argument(each.default, "an argument of the function", like(each.default)) for each in further
        },
        kind="own",
        given=function,
    )
    return OwnMethod(name, entry, source or _digest(function, what))


def from_file(text: str) -> tuple[OwnMethod, dict[str, str]]:
    """Read ``file:PATH.py:FUNCTION(argument=value, ...)``; the file is run, so it must be one that is trusted.

    Returns:
        The method, and its arguments as text.

    Raises:
        UsageError: the text is not of that form, or the function no saliency method.
        ModelError: the file is missing or fails.
    """
    match = _PLACE.fullmatch(text)
    if match is None:
        raise UsageError(f"saliency method {text!r}: expected file:PATH.py:FUNCTION")
    path = Path(match.group(1))
    name, given = parse_call(match.group(2), "saliency method")
    function = make_from_file("saliency method", f"{path}:{name}", ModelError, call=lambda found: found)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return from_function(cast("Callable[..., Any]", function), name, digest), given


def installed() -> Mapping[str, EntryPoint]:
    """The methods that installed packages register, by name."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in METHODS}


def from_entry_point(point: EntryPoint) -> OwnMethod:
    """A method that an installed package registers.

    Raises:
        ModelError: it cannot be imported.
        UsageError: it is no saliency method.
    """
    try:
        function = point.load()
    except ExplanationAlignmentError:
        raise
    except Exception as error:
        raise ModelError(
            f"saliency method {point.name!r} ({point.value}) cannot be loaded: {first_line(error)}"
        ) from error
    return from_function(function, point.name)


def _digest(function: Callable[..., Any], what: str) -> str:
    """SHA-256 of a function's source, or of its class's; what it closes over is not part of it."""
    try:
        source = inspect.getsource(inspect.unwrap(function) if inspect.isroutine(function) else type(function))
    except (OSError, TypeError):
        raise UsageError(
            f"{what}: its source cannot be found, so a run could not tell it from another; put it in a file"
        ) from None
    return hashlib.sha256(source.encode()).hexdigest()


def _signature(function: Callable[..., Any]) -> str:
    return f"{inspect.signature(function)}"
