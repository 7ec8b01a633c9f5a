"""What was written for an evaluation: a line of JSON a part, with its row count and hash, and how it came about.

A line is appended before its part takes its name, so that a part without a line was written by an earlier version, and
a line without a part by a process that was killed. Lines of a part that was written twice are all kept until the
evaluation is finished: whichever file is there, its line is. Whoever appends or rewrites holds the evaluation's lock.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explanation_alignment.errors import RunError
from explanation_alignment.runs.files import write_atomically, writing
from explanation_alignment.runs.parts import read_part, read_units, units_of

__all__ = ["Manifest", "bytes_problem", "file_digest", "line_of", "part_problem"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one evaluation.

    Args:
        path: the file, ``manifest/<slug>.jsonl`` of the run.
    """

    path: Path

    @classmethod
    def of(cls, run: Path, slug: str) -> Manifest:
        """That of an evaluation of a run."""
        return cls(run / "manifest" / f"{slug}.jsonl")

    def lines(self) -> dict[str, list[dict[str, Any]]]:
        """Name of a part -> its lines, the latest last; what cannot be read as a line is passed over."""
        found: dict[str, list[dict[str, Any]]] = {}
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return found
        except OSError as error:
            raise RunError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        for text in content.splitlines():
            try:
                line = json.loads(text)
                if isinstance(line["sha256"], str) and isinstance(line["bytes"], int):
                    found.setdefault(str(line["file"]), []).append(line)
            except (ValueError, KeyError, TypeError):  # of a writer that was killed, or damaged
                continue
        return found

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line, on the disk before this returns.

        Raises:
            RunError: it cannot be written; nothing of it is left.
        """
        text = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as handle:
                end = handle.seek(0, os.SEEK_END)
                if end:
                    handle.seek(-1, os.SEEK_END)
                    text = text if handle.read(1) == b"\n" else b"\n" + text  # half a line of who was killed
                try:
                    handle.write(text)
                    handle.flush()
                    os.fsync(handle.fileno())
                except OSError:
                    os.truncate(self.path, end)
                    raise

    def keep(self, files: Iterable[Path]) -> list[dict[str, Any]]:
        """Leave the latest line of each of these parts, and no other.

        Returns:
            Those lines.
        """
        lines = self.lines()
        kept = [lines[path.name][-1] for path in files if path.name in lines]
        if sum(map(len, lines.values())) > len(kept):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
            write_atomically(self.path, lambda place: place.write_text(text, encoding="utf-8"))
        return kept


def line_of(path: Path, name: str, rows: int, work: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a part that lies whole at a path, under the name it is to have."""
    stat = path.stat()
    return {
        "file": name,
        "rows": rows,
        "bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "sha256": file_digest(path),
        **work,
    }


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def bytes_problem(path: Path, lines: Iterable[Mapping[str, Any]], *, thorough: bool) -> str:
    """What a part's bytes say against it; empty for nothing.

    Args:
        path: the file.
        lines: of its name, from the manifest.
        thorough: hash it even if its size and time are those it was written with.
    """
    try:
        stat = path.stat()
        known = list(lines)
        if not known:  # of an earlier version: the pages have to speak for themselves
            if thorough:
                for _ in read_units(path):
                    pass
            return ""
        if stat.st_size not in {line["bytes"] for line in known}:
            return f"{stat.st_size:,} bytes, {known[-1]['bytes']:,} were written"
        if not thorough and stat.st_mtime_ns in {line.get("mtime_ns") for line in known}:
            return ""
        if file_digest(path) not in {line["sha256"] for line in known}:
            return "its bytes are not those that were written (SHA-256)"
    except RunError as error:
        return str(error).removeprefix(f"{path}: ")
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return ""


def part_problem(
    path: Path, lines: Mapping[str, Any], owed: Mapping[int, int], identity: str, *, thorough: bool = False
) -> str:
    """What speaks against a part: its name, stamp and length, and its bytes; empty for nothing."""
    known = lines.get(path.name, [])
    if not thorough and _as_written(path, known, owed):
        return ""
    problem = bytes_problem(path, known, thorough=thorough)
    if problem:
        return problem
    try:
        return read_part(path).problem(owed, identity)
    except RunError as error:
        return str(error).removeprefix(f"{path}: ")


def _as_written(path: Path, known: Iterable[Mapping[str, Any]], owed: Mapping[int, int]) -> bool:
    """Whether a part has the size and time it was written with, and the rows it owes: then its footer need not be read.

    The manifest belongs to one identity, and so do its lines.
    """
    first, last = units_of(path)
    rows = sum(owed.get(unit, -1) for unit in range(first, last + 1))
    try:
        stat = path.stat()
    except OSError:
        return False
    written = (rows, stat.st_size, stat.st_mtime_ns)
    return any((line.get("rows"), line["bytes"], line.get("mtime_ns")) == written for line in known)
