"""How a command is stopped: SIGINT (Ctrl-C), SIGTERM and SIGHUP let the work at hand come to an end, a second one not.

Only the command line takes signals over (:func:`signals_taken`); in Python, Ctrl-C is what it always is. Work that
can end well marks itself (:func:`gently`) and asks now and then (:func:`check`); anything else stops at once.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

__all__ = ["check", "gently", "signals_taken"]

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_SAYING: Final = b"\nstopping at the end of this batch; once more to stop at once\n"


class _State:
    """What was asked, of which process."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.gentle = 0
        self.asked: int | None = None


_STATE: Final = _State()


@contextmanager
def signals_taken() -> Iterator[None]:
    """Take signals over for the length of a command. One that is ignored (nohup) stays so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    _STATE.pid, _STATE.asked = os.getpid(), None
    try:
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, _handle)
        yield
    finally:
        _STATE.pid = None
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def gently() -> Iterator[None]:
    """Within, a first signal waits until :func:`check`, or the end of the outermost such block."""
    _STATE.gentle += 1
    try:
        yield
    finally:
        _STATE.gentle -= 1
    if not _STATE.gentle:
        check()


def check() -> None:
    """Stop here, if that was asked.

    Raises:
        KeyboardInterrupt: by Ctrl-C.
        SystemExit: by another signal, with 128 and its number as the exit code.
    """
    if _STATE.asked is not None and _STATE.pid == os.getpid():
        number, _STATE.asked = _STATE.asked, None
        raise _ending(number)


def _handle(number: int, _frame: FrameType | None) -> None:
    if _STATE.pid != os.getpid():  # a process that decodes images: its parent decides
        if not (number == signal.SIGINT and _STATE.gentle):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    if _STATE.gentle and _STATE.asked is None:
        _STATE.asked = number
        os.write(2, _SAYING)
        return
    signal.signal(number, signal.SIG_DFL)  # and whoever is impatient a third time ends it from outside
    raise _ending(number)


def _ending(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
