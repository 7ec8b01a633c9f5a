"""Files that are either whole or absent."""

from __future__ import annotations

import errno
import io
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from explanation_alignment.errors import RunError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["frame_bytes", "read_json", "sync_folder", "write_atomically", "write_frame", "write_json", "writing"]

#: What to do about an error of the system; the same command goes on once it is done.
_REMEDIES: Final = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room in your quota",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "see to it that the folder can be written to",
    errno.EPERM: "see to it that the folder can be written to",
}


def write_atomically(
    path: Path, write: Callable[[Path], object], *, before: Callable[[Path], object] | None = None
) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a part.

    The content is on the disk before the file has its name, and the name is before this returns.

    Args:
        path: the file; its folder is made.
        write: writes the content to the path it is given.
        before: called with the finished file before it takes its name, and the place of an older one.

    Raises:
        RunError: if the folder or file cannot be written (permissions, a full disk, ...).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            with temporary.open("rb+") as handle:
                os.fsync(handle.fileno())
            if before is not None:
                before(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says against writing a file becomes a :class:`RunError` that says what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        words = os.strerror(error.errno) if remedy and error.errno else error.strerror or error
        then = f"; {remedy}, the same command then goes on" if remedy else ""
        raise RunError(f"cannot write {path}: {words}{then}") from error


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that know no such thing
            raise
    finally:
        os.close(handle)


def write_frame(path: Path, table: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> None:
    """Write a table as Parquet, atomically."""
    write_atomically(path, lambda place: place.write_bytes(frame_bytes(table, metadata)))


def frame_bytes(table: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> bytes:
    """A table as Parquet, in memory first: polars itself says nothing of a disk that has no room for the last bytes."""
    buffer = io.BytesIO()
    table.write_parquet(buffer, metadata=None if metadata is None else dict(metadata))
    return buffer.getvalue()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically, indented, keys in the order given."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda place: place.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: if the file cannot be read or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
