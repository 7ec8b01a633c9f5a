"""What runs in processes that are to be killed, stopped, or to share a run; forked from a server with all imported."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import get_worker_info

import explanation_alignment as ea
import explanation_alignment.evaluation.units as units
from explanation_alignment.runs import compaction
from explanation_alignment.runs.manifest import Manifest
from toys import Patches, small_classifier

#: Twelve units of eight: enough to be compacted.
IMAGES, UNIT = 96, 8

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["fault_children"])


class Slow(Patches):
    """Images that take their time."""

    pause = 0.0

    def __getitem__(self, index: int) -> ea.Sample:
        time.sleep(self.pause)
        return super().__getitem__(index)


class Deadly(Patches):
    """Images of which one kills the process that decodes it ahead."""

    def __getitem__(self, index: int) -> ea.Sample:
        if index == 5 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def evaluated(out: str, pause: float = 0.0, **options: Any) -> ea.Run:
    """The run that every test here makes, in batches of four."""
    units.UNIT_SIZE = UNIT
    data = Slow(IMAGES)
    data.pause = pause
    given = {"batch_size": 4, "progress": False, **options}
    return ea.evaluate(small_classifier(), data, ["vanilla_gradients", "gradcam"], out, **given)


def _killed_before(operation: int, *further: tuple[Any, str]) -> None:
    """Be killed before the given operation on files, or call of something further."""
    left = [operation]

    def dying(original: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*given, **named)

        return call

    for place, name in [*((os, name) for name in ("replace", "unlink", "fsync", "mkdir")), *further]:
        setattr(place, name, dying(getattr(place, name)))


def evaluated_until(out: str, operation: int) -> None:
    """The same run, killed before the given operation on files or reading of an image."""
    _killed_before(operation, (Slow, "__getitem__"))
    evaluated(out)


def compacted_until(folder: str, run: str, slug: str, identity: str, owed: dict[int, int], operation: int) -> None:
    """Compact an evaluation, and be killed before the given operation on its files."""
    _killed_before(operation)
    compaction.compact(Path(folder), Manifest.of(Path(run), slug), identity, owed)


def commanded(arguments: list[str], errors: str) -> None:
    """The command line, with small units, its words in a file."""
    from explanation_alignment.cli import main

    units.UNIT_SIZE = UNIT
    sys.argv = ["ealign", *arguments]
    handle = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def started(target: Any, *arguments: Any, **named: Any) -> Any:
    """A process that runs a function of this module."""
    with pytest.MonkeyPatch.context() as patch:  # else the server finds nothing to import, and each child imports torch
        patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
        forkserver.ensure_running()
    process = _CONTEXT.Process(target=target, args=arguments, kwargs=named)
    process.start()
    return process
