"""A Ray cluster: many processes, on one machine or many, that share a file system."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from explanation_alignment.errors import ExecutorError, ModelError, UsageError, first_line
from explanation_alignment.executors.base import Done, Watch, Work
from explanation_alignment.executors.ray_worker import Counter, Place, do_task, versions
from explanation_alignment.executors.sending import packed

__all__ = ["RayExecutor"]

T = TypeVar("T")

_ADDRESS: Final = re.compile(r"(?:ray://)?(?P<host>[^:/\s]+):(?P<port>\d{1,5})")
#: Seconds between two looks at how far tasks are.
_PAUSE: Final = 0.5
#: Seconds a machine has to answer, a new file to show on a network's file system, and cancelled tasks to end.
_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Does tasks on a Ray cluster, as many at once as it has room for; Ray starts those anew whose worker died.

    What a task writes goes straight to the run's folder, which all machines must see under the same path. Random
    draws, units and parts are those of a local run; the parts are the same to the byte where the libraries and the
    threads a task has are the same.

    Args:
        address: ``"auto"``, the cluster this machine belongs to; ``"local"``, a new one on this machine for as long as
            it takes; ``"ray://HOST:PORT"``, one that this machine is no part of; ``"HOST:PORT"``, one by the address of
            its head. A connection made before, with ``ray.init``, is used as it is.
        gpus_per_task: GPUs each task has to itself; a fraction shares one. None: one where the cluster has any.
        cpus_per_task: CPUs each task has, and threads it uses.
        retries: how often a task is started anew after its worker died.

    Raises:
        UsageError: an address or number that cannot mean anything.
    """

    address: str = "auto"
    gpus_per_task: float | None = None
    cpus_per_task: int = 1
    retries: int = 3

    at_once: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.address not in ("auto", "local") and not _ADDRESS.fullmatch(self.address):
            raise UsageError(f"ray address: expected auto, local, ray://HOST:PORT or HOST:PORT, got {self.address!r}")
        gpus = self.gpus_per_task
        if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
            raise UsageError(f"gpus per task: expected a whole number, or a share of one, got {gpus:g}")
        if self.cpus_per_task < 1:
            raise UsageError(f"cpus per task: expected at least 1, got {self.cpus_per_task}")
        if self.retries < 0:
            raise UsageError(f"retries: expected at least 0, got {self.retries}")

    def run(
        self, work: Work[T], tasks: Callable[[int], Iterable[T]], watch: Watch, folder: Path
    ) -> Generator[Done[T], None, None]:
        """Do them all; what came of each, as it comes.

        Args:
            work: does one.
            tasks: what is to be done, told how many can be at once.
            watch: shown how far it is.
            folder: what is written to.

        Raises:
            UsageError: Ray is not installed, what is asked cannot be sent, or a task asks for more than there is.
            ExecutorError: there is no such cluster, or a worker does not see the folder.
        """
        with self._connected() as ray, _witness(folder) as witness:
            resources = ray.cluster_resources()
            gpus = self._gpus(resources)
            todo = list(tasks(self._slots(resources, gpus)))
            here = (str(Path.cwd()), tuple(str(Path(path).resolve()) for path in sys.path))
            place = Place(*here, str(folder.resolve()), witness, versions(), self.cpus_per_task, _PATIENCE)
            options = {"num_cpus": self.cpus_per_task, "num_gpus": gpus, "max_retries": self.retries}
            if todo:
                yield from _Round(ray, options, place, watch).outcomes(work, todo)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Any]:
        """Ray, connected; what is started for this is ended after it."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise UsageError(
                "executor ray: needs Ray; install it with: pip install 'explanation-alignment[ray]'"
            ) from error
        if ray.is_initialized():
            yield ray
            return
        self._knock()
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address == "local":
            options["include_dashboard"] = False
        try:
            ray.init(address=self.address, **options)
        except Exception as error:  # of many kinds, by how it was reached
            raise self._no_cluster(error) from error
        try:
            yield ray
        finally:
            ray.shutdown()

    def _knock(self) -> None:
        """See whether anybody answers at the address, where it names a machine: Ray itself would try for minutes."""
        match = _ADDRESS.fullmatch(self.address)
        if match is None:
            return
        try:
            with socket.create_connection((match["host"], int(match["port"])), timeout=_PATIENCE):
                pass
        except (OSError, OverflowError) as error:
            raise self._no_cluster(error) from error

    def _no_cluster(self, error: Exception) -> ExecutorError:
        if self.address == "auto":
            advice = "start one with `ray start --head`, name one with --ray-address, or give --ray-address local"
        elif self.address == "local":
            advice = "see whether `ray start --head` works here"
        else:
            advice = (
                "see `ray status` there; ray://HOST:10001 is for machines outside of it, HOST:6379 for its own; "
                "a cluster that asks for a token (RAY_AUTH_MODE) wants it here too"
            )
        return ExecutorError(f"no Ray cluster at {self.address} ({first_line(error)}); {advice}")

    def _gpus(self, resources: dict[str, float]) -> float:
        """GPUs each task has to itself."""
        return float(resources.get("GPU", 0) >= 1) if self.gpus_per_task is None else self.gpus_per_task

    def _slots(self, resources: dict[str, float], gpus: float) -> int:
        """How many tasks can be at once.

        Raises:
            UsageError: none ever could.
        """
        slots = int(resources.get("CPU", 0) // self.cpus_per_task)
        if gpus:
            slots = min(slots, int(resources.get("GPU", 0) / gpus))
        if slots < 1:
            raise UsageError(
                f"a task asks for {self.cpus_per_task} CPUs and {gpus:g} GPUs, the whole Ray cluster has "
                f"{resources.get('CPU', 0):g} and {resources.get('GPU', 0):g}; ask for less, or start more machines"
            )
        return slots


@contextlib.contextmanager
def _witness(folder: Path) -> Iterator[str]:
    """The name of a file that only those find who see the same folder."""
    file = folder / f".ray-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise ExecutorError(f"cannot write to {folder}: {error.strerror or error}") from error
    try:
        yield file.name
    finally:
        file.unlink(missing_ok=True)


class _Round:
    """Tasks handed to Ray, until all are over."""

    def __init__(self, ray: Any, options: dict[str, Any], place: Place, watch: Watch) -> None:
        self._ray, self._place, self._watch = ray, place, watch
        self._function = ray.remote(do_task).options(**options)
        self._counter = ray.remote(Counter).options(num_cpus=0).remote()
        self._counts: dict[int, int] = {}
        self._over: set[int] = set()
        self._heard = 0

    def outcomes(self, work: Work[T], tasks: Sequence[T]) -> Generator[Done[T], None, None]:
        """What came of each, as it comes; on the way out whatever is left is cancelled."""
        sent = self._ray.put(packed(work))
        pending: dict[Any, int] = {}
        try:
            for number, task in enumerate(tasks):
                self._watch.add_task(str(task), total=0, completed=0, note="")
                pending[self._function.remote(sent, packed(task), number, self._place, self._counter)] = number
            while pending:
                over, _ = self._ray.wait(list(pending), num_returns=1, timeout=_PAUSE)
                self._look()
                for ref in over:
                    number = pending.pop(ref)
                    yield self._done(ref, number, tasks[number])
        finally:
            self._cancel(list(pending))

    def _done(self, ref: Any, number: int, task: T) -> Done[T]:
        """What came of a task that is over.

        Raises:
            ExecutorError: it says something of the cluster and nothing of the task.
        """
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayTaskError as error:
            raise ExecutorError(
                f"a worker cannot do the work ({first_line(error.cause or error)}); install the same version of "
                "explanation-alignment on every machine of the cluster"
            ) from error
        except self._ray.exceptions.RayError as error:
            words = f"its Ray worker died and was not started again ({first_line(error)}); it may lack memory"
            return Done(task, error=ModelError(words))
        self._advance({number: answer.images})
        self._over.add(number)
        failure = answer.error()
        if isinstance(failure, ExecutorError):
            raise failure
        return Done(task, answer.value, failure, answer.trace)

    def _look(self) -> None:
        """Show how far tasks are, and what they say."""
        try:
            counts, told = self._ray.get(self._counter.read.remote(), timeout=_PATIENCE)
        except self._ray.exceptions.RayError:
            return  # it is told the next time
        self._advance(counts)
        for text in told[self._heard :]:
            self._watch.note(text)
        self._heard = len(told)

    def _advance(self, counts: Mapping[int, int]) -> None:
        """Show how far tasks are, by their numbers; those that are over have told the last of it."""
        for number, count in counts.items():
            if number not in self._over:
                self._watch.advance(number, count - self._counts.get(number, 0))
                self._counts[number] = count

    def _cancel(self, pending: list[Any]) -> None:
        """End what is left: what waits never begins, what runs is interrupted between two files."""
        for ref in pending:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.cancel(ref, force=False)
        if pending:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.wait(pending, num_returns=len(pending), timeout=_PATIENCE)
        self._ray.kill(self._counter)
