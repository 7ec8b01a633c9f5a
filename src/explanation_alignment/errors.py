"""What a user can get wrong: one base class, so that a command can tell its own words from a bug.

Every message says what was given, what was expected and what to do, in one or two lines.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

__all__ = [
    "DatasetError",
    "ExecutorError",
    "ExplanationAlignmentError",
    "ModelError",
    "RunError",
    "RunWarning",
    "UnknownNameError",
    "UsageError",
    "first_line",
]


#: Letters that have to be given for a name they are a part of to be meant.
_PART: Final = 3
#: Known names a message lists where none is near.
_LISTED: Final = 20


class ExplanationAlignmentError(Exception):
    """Base of every error a user can cause; ``exit_code`` is what a command ends with.

    Args:
        words: the message.
        exit_code: of this one error, where it is not its kind's: 2 for a path that was given and is not there.
    """

    exit_code = 1

    def __init__(self, *words: object, exit_code: int | None = None) -> None:
        super().__init__(*words)
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(ExplanationAlignmentError, ValueError):
    """An argument that cannot mean anything: a wrong name, shape, range or combination (exit code 2)."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not registered; the message lists the nearest ones.

    Args:
        kind: what the name was for, such as ``"saliency method"``.
        name: the name given.
        known: the names there are.
        meant: the one that is meant, where that is known.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, meant: str | None = None) -> None:
        known = sorted(known)
        folded = {word.casefold(): word for word in known}  # a wrong case is the nearest
        near = [folded[word] for word in difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)]
        if not near and len(name) >= _PART:
            near = [word for word in known if name.casefold() in word.casefold()][:3]
        near = near if meant is None else [meant]
        if near:
            hint = f"did you mean {' or '.join(repr(n) for n in near)}?"
        else:
            shown = ", ".join(known[:_LISTED]) + (f" and {len(known) - _LISTED} more" if len(known) > _LISTED else "")
            hint = f"known: {shown or 'none'}"
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class DatasetError(ExplanationAlignmentError):
    """Files or samples of a dataset are missing, damaged or of the wrong shape."""


class ExecutorError(ExplanationAlignmentError):
    """A cluster cannot be reached, or its workers cannot do the work."""


class ModelError(ExplanationAlignmentError):
    """A classifier cannot be built, loaded, run or explained as asked."""


class RunError(ExplanationAlignmentError):
    """A run folder cannot be read or written, or holds something else."""


class RunWarning(UserWarning):
    """Something about a run that its reader should know: a damaged part, a smaller batch, other versions."""


def first_line(error: BaseException) -> str:
    """An error's words for use in another's: its first line, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
