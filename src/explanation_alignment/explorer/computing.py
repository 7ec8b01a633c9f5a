"""Pictures that a run does not hold, computed on demand by a process of its own.

The server only starts that process and reads what it wrote: a small run with examples, in a temporary folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from explanation_alignment.errors import UsageError
from explanation_alignment.explorer.pictures import Examples, Key, Pictures

__all__ = ["MOST_AT_ONCE", "Computer", "Job"]

#: Decisions that one process computes.
MOST_AT_ONCE: Final = 96
_MOST_WAITING: Final = 16
#: Decisions whose pictures are kept, over a session.
_MOST_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """Decisions of one evaluation to compute.

    Args:
        run: folder of the run.
        slug: the evaluation.
        samples: ids.
        folder: what is written to.
        state: ``waiting``, ``working``, ``done`` or ``failed``.
        message: why it failed.
    """

    run: Path
    slug: str
    samples: tuple[str, ...]
    folder: Path
    state: str = "waiting"
    message: str = ""


@dataclass(slots=True)
class _Queue:
    jobs: list[Job] = field(default_factory=list)
    waiting: queue.Queue[int | None] = field(default_factory=queue.Queue)
    worker: threading.Thread | None = None
    process: subprocess.Popen[str] | None = None
    closed: bool = False


class Computer:
    """Computes pictures one evaluation after another; a source of pictures for each run.

    Args:
        data_dir: folder with the dataset's files, where the run's command does not tell it.
        datasets: names with arguments, tried before what the run's command names.
        run_code: whether Python files that a run names (``file:...``) may be run.
        timeout: seconds after which a process is ended.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        datasets: Sequence[str] = (),
        *,
        run_code: bool = False,
        timeout: float = 600.0,
    ) -> None:
        self._data_dir, self._datasets = data_dir, tuple(datasets)
        self._run_code, self._timeout = run_code, timeout
        self._lock = threading.Lock()
        self._queue = _Queue()
        self._folder: Path | None = None

    def ask(self, run: Path, slug: str, samples: Sequence[str]) -> Job:
        """Have decisions computed; returns at once.

        Raises:
            UsageError: too many at once, too many waiting, or no room for more.
        """
        if not 0 < len(samples) <= MOST_AT_ONCE:
            raise UsageError(f"{len(samples)} pictures at once; at most {MOST_AT_ONCE} are computed")
        with self._lock:
            work = self._queue
            if sum(job.state == "waiting" for job in work.jobs) >= _MOST_WAITING:
                raise UsageError("many pictures are being computed; ask again when they are there")
            if sum(len(job.samples) for job in work.jobs if job.state != "failed") + len(samples) > _MOST_KEPT:
                raise UsageError(f"{_MOST_KEPT:,} pictures were computed; start the explorer anew for more")
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="ealign-explore-"))
            job = Job(run.resolve(), slug, tuple(samples), self._folder / str(len(work.jobs)))
            work.jobs.append(job)
            work.waiting.put(len(work.jobs) - 1)
            if work.worker is None:
                work.worker = threading.Thread(target=self._work, daemon=True)
                work.worker.start()
        return job

    def jobs(self, run: Path, slug: str | None = None) -> list[Job]:
        """What was asked of a run, the last first."""
        own = run.resolve()
        with self._lock:
            return [job for job in reversed(self._queue.jobs) if job.run == own and slug in (None, job.slug)]

    def source(self, run: Path) -> Computed:
        """The pictures computed for a run."""
        return Computed(self, run)

    def close(self) -> None:
        """End what is being computed, and remove what was written."""
        with self._lock:
            self._queue.closed = True
            process, worker, folder = self._queue.process, self._queue.worker, self._folder
        self._queue.waiting.put(None)
        if process is not None:
            _end(process)
        if worker is not None:
            worker.join(timeout=10)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _work(self) -> None:
        while (number := self._queue.waiting.get()) is not None:
            if self._queue.closed:
                return
            self._change(number, state="working")
            problem = self._computed(self._queue.jobs[number])
            self._change(number, state="failed" if problem else "done", message=problem)

    def _change(self, number: int, **changed: str) -> None:
        with self._lock:
            self._queue.jobs[number] = replace(self._queue.jobs[number], **changed)  # type: ignore[arg-type]

    def _computed(self, job: Job) -> str:
        """Run the process; what went wrong, in words, or nothing."""
        asked = {
            "run": str(job.run),
            "evaluation": job.slug,
            "samples": list(job.samples),
            "out": str(job.folder),
            "data_dir": None if self._data_dir is None else str(self._data_dir),
            "datasets": list(self._datasets),
            "run_code": self._run_code,
        }
        command = [sys.executable, "-m", "explanation_alignment.explorer.compute"]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            return f"no process could be started ({error})"
        with self._lock:
            self._queue.process = process
        try:
            _, said = process.communicate(json.dumps(asked), timeout=self._timeout)
        except subprocess.TimeoutExpired:
            _end(process)
            process.communicate()
            return f"it took longer than {self._timeout:g} s"
        finally:
            with self._lock:
                self._queue.process = None
        if process.returncode == 0:
            return ""
        lines = [line for line in said.splitlines() if line.strip()]
        return lines[-1][:500] if lines else f"the process ended with exit code {process.returncode}"


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        process.kill()


class Computed:
    """What a :class:`Computer` wrote for a run, as a source of pictures."""

    def __init__(self, computer: Computer, run: Path) -> None:
        self._computer, self._run = computer, run

    def pictured(self, slug: str) -> frozenset[str]:
        """Samples of an evaluation that have pictures."""
        return frozenset(name for job in self._done(slug) for name in job.samples)

    def find(self, key: Key) -> Pictures | None:
        """The pictures of a decision, or None."""
        for job in self._done(key.slug):
            if key.sample in job.samples:
                for folder in sorted((job.folder / "examples").glob("*")):
                    found = Examples(job.folder / "examples").find(replace(key, slug=folder.name))
                    if found is not None:
                        return found
        return None

    def _done(self, slug: str) -> list[Job]:
        return [job for job in self._computer.jobs(self._run, slug) if job.state == "done"]
