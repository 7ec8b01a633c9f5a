"""Words for a path that was given and is not there."""

from __future__ import annotations

import difflib
import itertools
import os
from pathlib import Path
from typing import TypeVar

from explanation_alignment.errors import ExplanationAlignmentError

__all__ = ["not_found"]

_Failure = TypeVar("_Failure", bound=ExplanationAlignmentError)

#: Names beside a missing path that are looked at, at most: a folder can hold a million images.
_BESIDE = 2000


def not_found(
    failure: type[_Failure],
    what: str,
    given: str | Path,
    *,
    below: Path | None = None,
    folder: bool = True,
    hint: str = "",
) -> _Failure:
    """An error for a path that was given and is not there: with the whole path, and the nearest names beside it.

    A command that ends with it was used wrongly (exit code 2).

    Args:
        failure: what is raised.
        what: what the path was given as, such as ``"folder"`` or ``"weights"``.
        given: the path as it was given.
        below: what it is relative to; left out: the working directory.
        folder: a folder was expected; off: a file.
        hint: what else to say, such as what was expected there.

    Example:
        >>> from explanation_alignment.errors import DatasetError
        >>> error = not_found(DatasetError, "maps", "nowhere/at/all")
        >>> error.exit_code
        2
    """
    kind = "folder" if folder else "file"
    whole = ((below or Path()) / Path(given).expanduser()).absolute()
    if whole.exists():
        said = f"{what}: {str(given)!r} is no {kind}" + (", it is a file" if folder else ", it is a folder")
    else:
        said = f"{what}: no {kind} {str(given)!r}"
    if str(whole) != str(given):
        said += f" ({whole})"
    near = [] if whole.exists() else _near(whole, folder)
    if near:
        said += f"; did you mean {' or '.join(repr(str(_like(given, name))) for name in near)}?"
    return failure(f"{said}; {hint}" if hint else said, exit_code=2)


def _near(whole: Path, folder: bool) -> list[str]:
    """The names beside a path that are most like its own; of folders, if it is to be one."""
    try:
        with os.scandir(whole.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _BESIDE) if entry.is_dir() == folder]
    except (OSError, ValueError):  # there is not even a folder it could be in, or it is not ours to read
        return []
    return difflib.get_close_matches(whole.name, sorted(names), n=2, cutoff=0.6)


def _like(given: str | Path, name: str) -> Path:
    """Another name in the way a path was written."""
    return Path(given).with_name(name)
