"""With what rows are made: versions, commit, command and machine, told once a process."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

__all__ = ["command_line", "commit", "hardware", "peak_memory", "session", "session_id", "versions"]

#: Libraries that make or decode what is scored, and ours.
_PACKAGES: Final = (
    "explanation-alignment",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "captum",
    "torchmetrics",
    "numpy",
    "scipy",
    "pillow",
    "polars",
    "pyarrow",
)
_SECONDS: Final = 5
_SESSIONS: Final[dict[int, str]] = {}


def session_id() -> str:
    """What names this process in the runs it writes; a fork has its own."""
    return _SESSIONS.setdefault(os.getpid(), uuid.uuid4().hex[:12])


def session() -> dict[str, Any]:
    """This process, as run.json records it."""
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "commit": commit(),
        "versions": versions(),
        "hardware": hardware(),
    }


def command_line() -> str:
    """The command that runs, as a shell takes it."""
    name = Path(sys.argv[0]).name
    module = getattr(sys.modules["__main__"], "__spec__", None)  # of `python -m`
    if module is not None and module.origin == sys.argv[0]:
        package = module.name.removesuffix(".__main__")
        words = ["ealign"] if package == "explanation_alignment" else ["python", "-m", package]  # the same command
    else:
        words = ["python", name] if name.endswith(".py") else [name]
    return shlex.join([*words, *sys.argv[1:]])


@cache
def versions() -> dict[str, str | None]:
    """Python's and each library's version; None where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def hardware() -> dict[str, Any]:
    """What it runs on."""
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


@cache
def commit() -> str | None:
    """The commit this package was installed from or lies in, with ``+`` where files were changed; None if unknown."""
    try:
        text = metadata.distribution("explanation-alignment").read_text("direct_url.json")
        found = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
        if isinstance(found, str):
            return found
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        pass
    here = Path(__file__).resolve()
    if _git(here, "ls-files", "--error-unmatch", here.name) is None:  # a project that merely has it installed within
        return None
    head = _git(here, "rev-parse", "HEAD")
    changed = _git(here, "status", "--porcelain", "--untracked-files=no", "--", str(here.parents[1]))
    return None if head is None else head.strip() + ("+" if changed else "")


def _git(here: Path, *arguments: str) -> str | None:
    """What git says, or None where it does not know or is not there."""
    command = ["git", "-C", str(here.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def peak_memory() -> dict[str, int]:
    """The most memory this process has held so far, bytes: ``peak_rss``, and ``peak_cuda`` where a GPU was used."""
    told: dict[str, int] = {}
    try:
        import resource
    except ImportError:  # no such thing on Windows
        pass
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        told["peak_rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        told["peak_cuda"] = max(torch.cuda.max_memory_allocated(at) for at in range(torch.cuda.device_count()))
    return told
