"""The executors there are."""

from __future__ import annotations

from typing import Final

from explanation_alignment.errors import UnknownNameError
from explanation_alignment.executors.base import Executor
from explanation_alignment.executors.local import LocalExecutor
from explanation_alignment.executors.ray import RayExecutor

__all__ = ["EXECUTORS", "executor_named"]

EXECUTORS: Final[dict[str, type[LocalExecutor] | type[RayExecutor]]] = {"local": LocalExecutor, "ray": RayExecutor}


def executor_named(executor: str | Executor) -> Executor:
    """An executor by its name, as it is by default; one that is given is handed back.

    Raises:
        UnknownNameError: there is no such executor.
    """
    if not isinstance(executor, str):
        return executor
    if executor not in EXECUTORS:
        raise UnknownNameError("executor", executor, EXECUTORS)
    return EXECUTORS[executor]()
