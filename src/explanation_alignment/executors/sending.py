"""What travels between the process that asks and the workers: work and tasks there, what came of them back."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from explanation_alignment.errors import ExecutorError, ExplanationAlignmentError, UsageError, first_line

__all__ = ["Answer", "failed", "packed", "unpacked"]

#: Modules made from a user's own files, which no worker can import by name (``factories``).
_USERS_FILES: Final = "ealign_user_"
#: Errors that are told apart where they come back; of all others the name and the words are.
_TOLD_APART: Final = ("MemoryError", "OutOfMemoryError")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker says of a task.

    Args:
        images: how many of them it came to.
        value: what the work returned; None if it failed.
        kind: the error's class, or its name.
        words: the error's.
        trace: its traceback.
    """

    images: int
    value: str | None
    kind: type[Exception] | str = ""
    words: str = ""
    trace: str = ""

    def error(self) -> Exception | None:
        """The error, made anew; None where there was none."""
        if self.value is not None:
            return None
        kind: Any = self.kind if isinstance(self.kind, type) else type(self.kind, (Exception,), {})
        error: Exception = kind.__new__(kind, self.words)  # whose __init__ may want something else
        error.args = (self.words,)
        error.add_note(self.trace)
        return error


def failed(images: int, error: Exception, trace: str) -> Answer:
    """The answer of a task that failed."""
    kind = type(error)
    apart = isinstance(error, ExplanationAlignmentError) or kind.__name__ in _TOLD_APART
    return Answer(images, None, kind if apart else kind.__name__, str(error), trace)


def packed(value: object) -> bytes:
    """Something as bytes for a worker; classes and functions of a user's own files travel with it.

    Raises:
        UsageError: it cannot be sent; the message names the innermost part that cannot.
    """
    from ray import cloudpickle

    for name, module in list(sys.modules.items()):
        if name.startswith(_USERS_FILES):
            cloudpickle.register_pickle_by_value(module)
    try:
        content: bytes = cloudpickle.dumps(value)
    except Exception as error:
        name, part = _culprit(value)
        raise UsageError(
            f"{name or 'what is asked'} ({type(part).__name__}) cannot be sent to Ray's workers: {first_line(error)}; "
            "give it by name (file:PATH.py:FUNCTION), or make it without open files, locks and the like"
        ) from error
    return content


def unpacked(content: bytes) -> Any:
    """What was packed, in a worker.

    Raises:
        ExecutorError: a module it needs is not here, or another version of it.
    """
    from ray import cloudpickle

    try:
        return cloudpickle.loads(content)
    except Exception as error:
        raise ExecutorError(
            f"what was asked cannot be rebuilt in a worker: {type(error).__name__}: {first_line(error)}; install the "
            "same packages there, and put your own modules on its PYTHONPATH"
        ) from error


def _culprit(value: object, name: str = "") -> tuple[str, object]:
    """The innermost field of a dataclass that cannot be pickled, with its name."""
    from ray import cloudpickle

    if is_dataclass(value):
        for each in fields(value):
            part = getattr(value, each.name)
            try:
                cloudpickle.dumps(part)
            except Exception:
                return _culprit(part, each.name)
    return name, value
