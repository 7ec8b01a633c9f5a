"""What ``ealign`` returned when a test called it; the fixture that calls it is in ``cli/conftest.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Done(NamedTuple):
    code: int
    out: str
    err: str


Ealign = Callable[[str], Done]
