"""What is in a folder of images, told without decoding them: names, sizes in bytes, and what each header says."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl
from PIL import ExifTags, Image, UnidentifiedImageError

from explanation_alignment.datasets.reading.files import IMAGE_SUFFIXES, MAX_PIXELS, cached_table, inside
from explanation_alignment.errors import DatasetError

__all__ = ["NOT_READ", "SWAPS_SIDES", "content_digests", "folder_states", "image_headers", "states_digest"]

#: EXIF orientations under which height and width change places.
SWAPS_SIDES: Final = (5, 6, 7, 8)
#: Why a file of -1 bytes is not opened.
NOT_READ: Final = "no regular file, or a link out of the folder"


def folder_states(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES, *, deep: bool = True) -> pl.DataFrame:
    """The files below a folder with one of the suffixes (in any case), with what tells that one has changed.

    Hidden files and folders are left out; links to folders are not followed.

    Args:
        folder: where to look.
        suffixes: which files.
        deep: also in the folders below it.

    Returns:
        file (path with forward slashes), bytes (-1 where it is no regular file of this
        folder: nothing may open it), modified (ns), sorted by file.

    Raises:
        DatasetError: a folder cannot be read, or a name is no valid text and so would be no stable sample id.
    """
    wanted = tuple(suffix.lower() for suffix in suffixes)
    files: list[str] = []
    sizes: list[int] = []
    times: list[int] = []
    pending = [("", str(folder))]
    while pending:
        prefix, place = pending.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    name = entry.name
                    if name[0] == ".":
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if deep:
                            pending.append((f"{prefix}{name}/", entry.path))
                    elif name.endswith(wanted) or name.lower().endswith(wanted):
                        size, changed = _state(entry, folder, prefix + name)
                        files.append(prefix + name)
                        sizes.append(size)
                        times.append(changed)
        except OSError as error:
            raise DatasetError(f"folder {place} cannot be read ({error.strerror or error})") from error
    columns = {"file": files, "bytes": sizes, "modified": times}
    try:
        states = pl.DataFrame(columns, schema={"file": pl.String(), "bytes": pl.Int64(), "modified": pl.Int64()})
    except UnicodeEncodeError as error:
        raise DatasetError(
            f"{folder}: the file name {os.fsencode(error.object)!r} is no valid UTF-8; rename it"
        ) from None
    return states.sort("file")


def _state(entry: os.DirEntry[str], folder: Path, file: str) -> tuple[int, int]:
    """Bytes and time; -1 bytes for what nobody may open: a pipe would wait for ever, a link may lead out."""
    try:
        state = entry.stat()
        if entry.is_symlink():
            inside(folder, file)
    except (OSError, DatasetError):  # a link that leads nowhere, or out of the folder
        return -1, 0
    return (state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else (-1, 0)


def states_digest(states: pl.DataFrame) -> str:
    """A digest of names, sizes and times: a part of a kept table's key."""
    sha = hashlib.sha256("\n".join(states["file"].to_list()).encode("utf-8", "surrogateescape"))
    sha.update(states["bytes"].to_numpy().tobytes())
    sha.update(states["modified"].to_numpy().tobytes())
    return sha.hexdigest()


def content_digests(folder: Path, states: pl.DataFrame) -> pl.DataFrame:
    """A digest of every file's content, taken once and kept until one of them changes.

    Args:
        folder: where they are.
        states: which, from :func:`folder_states`.

    Returns:
        A row a file, in the order of ``states``: file, content (SHA-256, hex; empty where it cannot be read).
    """

    def read_all() -> pl.DataFrame:
        rows = [
            (file, _content_digest(f"{folder}/{file}") if size >= 0 else "")
            for file, size in states.select("file", "bytes").iter_rows()
        ]
        return pl.DataFrame(rows, schema={"file": pl.String(), "content": pl.String()}, orient="row")

    return cached_table(f"content {folder.absolute()} {states_digest(states)}", [], read_all)


def _content_digest(path: str) -> str:
    try:
        with open(path, "rb") as handle:  # noqa: PTH123 - many small files
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError:
        return ""


def image_headers(folder: Path, states: pl.DataFrame) -> pl.DataFrame:
    """What every image's header says, read once and kept until one of them changes.

    Args:
        folder: where they are.
        states: which, from :func:`folder_states`.

    Returns:
        A row an image, in the order of ``states``: file, width, height (pixels, as stored), orientation (EXIF's, 1
        where there is none), error (why the header cannot be read, else null).
    """

    def read_all() -> pl.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged metadata and sizes, which are told in the table
            rows = [
                (file, *(_read_header(f"{folder}/{file}") if size >= 0 else (None, None, 1, NOT_READ)))
                for file, size in states.select("file", "bytes").iter_rows()
            ]
        return pl.DataFrame(rows, schema=_SCHEMA, orient="row")

    return cached_table(f"image_headers {folder.absolute()} {states_digest(states)}", [], read_all)


_SCHEMA: Final = {
    "file": pl.String(),
    "width": pl.Int64(),
    "height": pl.Int64(),
    "orientation": pl.Int64(),
    "error": pl.String(),
}


#: What PIL raises at damaged headers.
_DAMAGE: Final = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    OverflowError,
    IndexError,
    KeyError,
    struct.error,
)


def _read_header(path: str) -> tuple[int | None, int | None, int, str | None]:
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = 1
            if "exif" in image.info:
                with contextlib.suppress(*_DAMAGE):  # damaged EXIF data turn nothing
                    orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except UnidentifiedImageError:
        return None, None, 1, "no readable image"
    except Image.DecompressionBombError:
        return None, None, 1, f"more than {MAX_PIXELS:,} pixels are not decoded"
    except _DAMAGE as error:
        return None, None, 1, f"damaged image ({type(error).__name__})"
    if width * height > MAX_PIXELS:
        return None, None, 1, f"{width} x {height} pixels, more than {MAX_PIXELS:,} are not decoded"
    return width, height, orientation if 1 <= orientation <= 8 else 1, None
