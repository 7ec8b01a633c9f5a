"""Who works on what: processes that were given the same run share its units by leases.

A lease is a small file that names its holder: host, process and when that process began (in the kernel's count since
boot). Its holder touches it every few seconds. It is stale if the holder, on this host, no longer runs; or if it was
not touched for a while by the observer's own steady clock, so that neither a clock that was set nor one that is wrong
elsewhere matters. A stale lease is taken over. Should its holder live after all, both compute the same rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, Final

from explanation_alignment.runs.files import write_atomically

__all__ = ["BEAT", "STALE_AFTER", "Lease", "Leases"]

#: Seconds between two touches of a lease.
BEAT: Final = 5.0
#: Seconds without a touch after which a lease is stale.
STALE_AFTER: Final = 60.0


class Lease(AbstractContextManager["Lease"]):
    """Something to work on, alone; let go of at the end of the block.

    Args:
        path: the file.
        token: what tells it from every other lease.
    """

    def __init__(self, path: Path, token: str) -> None:
        self.path, self.token = path, token
        _HEART.add(self)

    def __exit__(self, *_: object) -> None:
        _HEART.remove(self)
        if _held(self.path).get("token") == self.token:  # it may have been taken over
            with contextlib.suppress(OSError):
                self.path.unlink()


class Leases:
    """The leases of one evaluation. Whoever claims one holds the evaluation's lock.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[str, tuple[tuple[int, int], float]] = {}

    def claim(self, name: str) -> Lease | None:
        """The lease of this name, or None while another holds it."""
        path = self._folder / f"{name}.lease"
        if self._is_held(path):
            return None
        token = uuid.uuid4().hex
        holder = {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid()), "token": token}
        write_atomically(path, lambda place: place.write_text(json.dumps(holder), encoding="utf-8"))
        return Lease(path, token)

    def any_held(self) -> bool:
        """Whether somebody is at anything of it."""
        return any(self._is_held(path) for path in self._folder.glob("*.lease"))

    def _is_held(self, path: Path) -> bool:
        try:
            stat = path.stat()
        except OSError:
            return False
        holder = _held(path)
        if holder.get("host") == _host():
            pid = holder.get("pid")
            if not isinstance(pid, int) or not _runs(pid, holder.get("started")):
                return False
            if pid == os.getpid() and holder.get("token") not in _HEART.tokens:
                return False
        # a touch changes the time to another, whatever the clock says
        touch, now = (stat.st_ino, stat.st_mtime_ns), time.monotonic()
        before, since = self._seen.get(path.name, (None, now))
        if before != touch:
            since = now
        self._seen[path.name] = (touch, since)
        return now - since < STALE_AFTER


class _Heart:
    """Touches the leases of this process."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def tokens(self) -> set[str]:
        with self._lock:
            return set(self._leases)

    def add(self, lease: Lease) -> None:
        with self._lock:
            if self._pid != os.getpid():  # a fork: the leases are the parent's
                self._pid, self._leases, self._thread = os.getpid(), {}, None
            self._leases[lease.token] = lease
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._beat, name="ealign-leases", daemon=True)
                self._thread.start()

    def remove(self, lease: Lease) -> None:
        with self._lock:
            self._leases.pop(lease.token, None)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT)
            with self._lock:
                if not self._leases:
                    self._thread = None
                    return
                held = list(self._leases.values())
            for lease in held:
                if _held(lease.path).get("token") == lease.token:
                    with contextlib.suppress(OSError):
                        os.utime(lease.path)


_HEART: Final = _Heart()


def _held(path: Path) -> dict[str, Any]:
    """What a lease says of its holder; empty where it cannot be read."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


@cache
def _host() -> str:
    """This host, as it runs now and as its processes are numbered here."""
    told = [platform.node()]
    with contextlib.suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        told.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(told)


def _started(pid: int) -> int | None:
    """When a process began, in ticks since boot; None where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _runs(pid: int, started: object) -> bool:
    if Path("/proc/self/stat").exists():
        now = _started(pid)
        return now is not None and now == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
