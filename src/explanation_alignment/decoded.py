"""Images decoded once: after the geometry, as bytes on disk, for every further classifier that takes them the same way.

A folder for each combination of dataset, geometry and input size holds two files with a fixed place for every sample:
``samples`` (label, image, annotations packed to bits) and ``checks`` (whether the sample is there, and a checksum of
it). A sample is written first and its check after it, and read only where the checksum fits, once a process: what a
killed process, a full disk or a damaged file left behind is found and decoded again. Several processes may write at
once, since whatever they write to a place is the same. Both files have holes where nothing was written yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features

from explanation_alignment.batches import NO_LABEL, Batch
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.datasets.reading.files import cache_folder
from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.runs.files import read_json, write_json
from explanation_alignment.sample import AnnotatedDataset

__all__ = [
    "DEFAULT_LIMIT",
    "CacheEntry",
    "DecodedCache",
    "DecodedImages",
    "bytes_of",
    "clear_cache",
    "default_folder",
    "in_bytes",
    "list_cache",
]

#: Bytes the cache may grow to unless told otherwise.
DEFAULT_LIMIT: Final = 20 * 10**9
#: Raised whenever a sample comes out differently, or is laid out differently.
_VERSION: Final = 1
_FORMAT: Final = "explanation-alignment decoded images"
_ABOUT, _CHECKS, _SAMPLES = "about.json", "checks", "samples"
_ABSENT, _READ, _UNREADABLE = 0, 1, 2
_CHECK: Final = np.dtype([("state", "u1"), ("crc", "<u4")])
_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS_OF_TWO: Final = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def bytes_of(size: str | int) -> int:
    """A size such as ``"20GB"`` in bytes.

    Raises:
        UsageError: it is no size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(size))
    units = _UNITS | _UNITS_OF_TWO
    if match is None or match.group(2).lower() not in units:
        raise UsageError(f"size {size!r}: expected a number of bytes, or one with kB, MB, GB or TB, such as 20GB")
    return int(float(match.group(1)) * units[match.group(2).lower()])


def in_bytes(size: int) -> str:
    """Bytes in words, such as ``9.8 MB``."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def default_folder() -> Path | None:
    """Where decoded images are kept unless told otherwise: below ``$EALIGN_CACHE_DIR``, or the user's cache folder."""
    base = cache_folder()
    return None if base is None else base / "decoded"


class DecodedImages:
    """The samples of a dataset under one geometry, as far as they have been decoded. Can be pickled.

    Args:
        folder: where its files are, or are to be; it must exist.
        count: samples of the dataset.
        regions: regions of the dataset.
        input_size: (channels, height, width) of the images.
        say: told once, if it cannot be written any more.

    Raises:
        OSError: the files cannot be opened or made.
    """

    def __init__(
        self,
        folder: Path,
        count: int,
        regions: int,
        input_size: tuple[int, int, int],
        say: Callable[[str], None] | None = None,
    ) -> None:
        channels, height, width = input_size
        self.folder = folder
        self.input_size = input_size
        self._count, self._regions, self._say = count, regions, say
        self._record = np.dtype(
            [
                ("label", "<i8"),
                ("status", "u1", (regions,)),
                ("image", "u1", (channels, height, width)),
                ("masks", "u1", (regions, height, -(-width // 8))),
            ]
        )
        self._open()

    @property
    def record_size(self) -> int:
        """Bytes a sample takes."""
        return self._record.itemsize + _CHECK.itemsize

    def _open(self) -> None:
        _lengthen(self.folder / _CHECKS, self._count * _CHECK.itemsize)
        _lengthen(self.folder / _SAMPLES, self._count * self._record.itemsize)
        self._checks = np.memmap(self.folder / _CHECKS, _CHECK, "r", shape=(self._count,))
        self._samples = np.memmap(self.folder / _SAMPLES, self._record, "r", shape=(self._count,))
        self._verified = np.zeros(self._count, dtype=np.bool_)
        self._damaged = np.zeros(self._count, dtype=np.bool_)
        self._full = False

    def __getstate__(self) -> dict[str, Any]:
        left = ("_checks", "_samples", "_verified", "_damaged", "_say")
        return {name: value for name, value in vars(self).items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _say=None)
        self._open()

    def held(self, places: Sequence[int]) -> NDArray[np.bool_]:
        """Which of the samples at these places are there, as far as is known without reading them; (B,) bool."""
        where = np.asarray(places, dtype=np.int64)
        held: NDArray[np.bool_] = (self._checks["state"][where] != _ABSENT) & ~self._damaged[where]
        return held

    def read(self, places: Sequence[int], ids: Sequence[str]) -> Batch | None:
        """The samples at these places as they were decoded; None where one is not there, or is damaged.

        Args:
            places: in the dataset.
            ids: all sample ids of the dataset.
        """
        where = np.asarray(places, dtype=np.int64)
        if not self.held(places).all() or not all(map(self._is_whole, where.tolist())):
            return None
        states, labels = self._checks["state"][where], self._samples["label"][where].astype(np.int64)
        images = self._samples["image"][where]
        masks = np.unpackbits(self._samples["masks"][where], axis=-1, count=self.input_size[2]).view(np.bool_)
        status = self._samples["status"][where].astype(np.int64)
        errors = {}
        for at in np.flatnonzero(states == _UNREADABLE).tolist():
            errors[at] = images[at].tobytes()[: labels[at]].decode(errors="surrogatepass")
            images[at], labels[at] = 0, NO_LABEL
        return Batch(
            ids=[ids[place] for place in places],
            images=torch.from_numpy(images),
            labels=torch.from_numpy(labels),
            annotations=torch.from_numpy(np.ascontiguousarray(masks.swapaxes(0, 1))),
            annotation_status=torch.from_numpy(np.ascontiguousarray(status.swapaxes(0, 1))),
            errors=errors,
        )

    def write(self, places: Sequence[int], batch: Batch) -> None:
        """Keep those samples of a batch that are not there yet.

        A sample that could not be read is kept with its message, unless the reason may pass or the message is longer
        than an image.
        """
        new = np.flatnonzero(~self.held(places)).tolist()
        if self._full or not new:
            return
        try:
            self._write(new, places, batch)
        except OSError as error:
            self._full = True
            if self._say is not None:
                self._say(f"no more decoded images are kept in {self.folder.parent}: {error.strerror or error}")

    def _write(self, new: Sequence[int], places: Sequence[int], batch: Batch) -> None:
        masks = np.packbits(batch.annotations.numpy(), axis=-1)
        written = []
        for at in new:
            row = np.zeros((), dtype=self._record)
            message = batch.errors.get(at, "").encode(errors="surrogatepass")
            if at in batch.errors:
                if at in batch.passing or len(message) > row["image"].size:
                    continue
                row["image"].reshape(-1)[: len(message)] = np.frombuffer(message, dtype=np.uint8)
                row["label"] = len(message)
            else:
                row["image"], row["label"] = batch.images[at].numpy(), int(batch.labels[at])
                row["masks"] = masks[:, at]
            row["status"] = batch.annotation_status[:, at].numpy()
            written.append((places[at], row.tobytes(), _UNREADABLE if at in batch.errors else _READ))
        with (self.folder / _SAMPLES).open("r+b", buffering=0) as samples:
            for place, content, _ in written:
                _put_at(samples, place * self._record.itemsize, content)
        with (self.folder / _CHECKS).open("r+b", buffering=0) as checks:
            for place, content, state in written:
                check = np.array((state, zlib.crc32(content)), dtype=_CHECK)
                _put_at(checks, place * _CHECK.itemsize, check.tobytes())
                self._damaged[place] = False

    def _is_whole(self, place: int) -> bool:
        """Whether a sample's content fits its checksum; looked at once."""
        if not self._verified[place]:
            whole = zlib.crc32(self._samples[place : place + 1].view(np.uint8).data) == self._checks["crc"][place]
            self._verified[place], self._damaged[place] = whole, not whole
        return bool(self._verified[place])


def _lengthen(path: Path, size: int) -> None:
    """Make a file at least that long; what is missing is a hole."""
    path.touch()
    if path.stat().st_size < size:
        os.truncate(path, size)


def _put_at(handle: BinaryIO, offset: int, content: bytes) -> None:
    handle.seek(offset)
    view = memoryview(content)
    while view:
        view = view[handle.write(view) :]


class DecodedCache:
    """Decoded images of any number of datasets and geometries below one folder.

    Args:
        folder: made if need be; the user's cache folder by default.
        limit: bytes that everything below the folder may come to, or a text such as ``"20GB"``.
        say: told what is kept where, and why something is not.

    Raises:
        UsageError: there is no folder to keep them in, or the limit is no size.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        limit: str | int = DEFAULT_LIMIT,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        chosen = default_folder() if folder is None else Path(folder).expanduser()
        if chosen is None:
            raise UsageError("cache: this user has no cache folder; give a folder, or off")
        self.folder = chosen
        self.limit = bytes_of(limit)
        self._say = say
        self._opened: dict[str, DecodedImages] = {}
        self._told: set[str] = set()

    def tell(self, text: str) -> None:
        """Say something, unless it has been said."""
        if text not in self._told:
            self._told.add(text)
            self._say(text)

    def images(
        self, dataset: AnnotatedDataset, ids: Sequence[str], preprocessing: Preprocessing, places: Sequence[int]
    ) -> DecodedImages | None:
        """The decoded images of a dataset as a classifier takes them, to be read and added to.

        Args:
            dataset: whose images.
            ids: all its sample ids.
            preprocessing: of the classifier.
            places: the samples that will be asked for.

        Returns:
            None where they would not fit, or the folder cannot be written; that is said.
        """
        about = _about(dataset, ids, preprocessing)
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
        try:
            if key not in self._opened:
                folder = self.folder / key
                folder.mkdir(parents=True, exist_ok=True)
                if not (folder / _ABOUT).is_file() or _read_about(folder) != about:
                    write_json(folder / _ABOUT, about)
                self._opened[key] = DecodedImages(
                    folder, len(ids), len(dataset.regions), preprocessing.input_size, self.tell
                )
            images = self._opened[key]
            owed = int((~images.held(places)).sum()) * images.record_size
            fits = not owed or self._fits(owed)
        except (OSError, RunError) as error:
            self.tell(f"decoded images are not kept: {error}")
            return None
        if fits and key not in self._told:
            self._told.add(key)
            size = " x ".join(map(str, preprocessing.input_size))
            self._say(
                f"decoded images of {dataset.name} ({size}) are kept in {self.folder}: "
                f"{in_bytes(len(places) * images.record_size)} for {len(places)}, {in_bytes(owed)} of them new"
            )
        return images if fits else None

    def _fits(self, owed: int) -> bool:
        used = sum(entry.size for entry in list_cache(self.folder))
        if used + owed > self.limit:
            self.tell(
                f"decoded images are not kept: {in_bytes(owed)} beside the {in_bytes(used)} in {self.folder} are over "
                f"the limit of {in_bytes(self.limit)}; give a higher --cache-limit, or clear it: ealign cache clear"
            )
            return False
        free = shutil.disk_usage(self.folder).free
        if owed > free:
            self.tell(f"decoded images are not kept: they take {in_bytes(owed)}, {self.folder} has {in_bytes(free)}")
            return False
        return True


def _about(dataset: AnnotatedDataset, ids: Sequence[str], preprocessing: Preprocessing) -> dict[str, Any]:
    """Everything that decides what a dataset's decoded samples are."""
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "ids": hashlib.sha256("\x00".join(ids).encode(errors="surrogatepass")).hexdigest(),
        "samples": len(ids),
        "regions": list(dataset.regions),
        "input_size": list(preprocessing.input_size),
        "geometry": json.loads(json.dumps(preprocessing.geometry.describe())),
        # what decodes may change a pixel between its versions
        "pillow": PIL.__version__,
        "jpeg": features.version("jpg"),
    }


def _read_about(folder: Path) -> dict[str, Any] | None:
    try:
        about = read_json(folder / _ABOUT)
    except RunError:
        return None
    return about if about.get("format") == _FORMAT else None


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The decoded images of one dataset under one geometry.

    Args:
        dataset: its name.
        input_size: (channels, height, width) of the images.
        geometry: how they came to it, as :meth:`~explanation_alignment.Geometry.describe` tells.
        images: how many are there.
        samples: how many the dataset has.
        size: bytes they take on disk.
        folder: where they are.
    """

    dataset: str
    input_size: tuple[int, int, int]
    geometry: dict[str, Any]
    images: int
    samples: int
    size: int
    folder: Path


def list_cache(folder: str | Path | None = None) -> list[CacheEntry]:
    """What decoded images there are, the largest first.

    Args:
        folder: where to look; the user's cache folder by default.
    """
    return sorted(_entries(folder), key=lambda entry: (-entry.size, entry.dataset, str(entry.folder)))


def _entries(folder: str | Path | None) -> Iterator[CacheEntry]:
    chosen = default_folder() if folder is None else Path(folder).expanduser()
    if chosen is None or not chosen.is_dir():
        return
    for each in sorted(chosen.iterdir()):
        about = _read_about(each) if (each / _ABOUT).is_file() else None
        if about is None:
            continue
        with suppress(OSError):  # another process is clearing it
            content = np.fromfile(each / _CHECKS, _CHECK) if (each / _CHECKS).is_file() else np.zeros(0, _CHECK)
            channels, height, width = about["input_size"]
            yield CacheEntry(
                dataset=about["dataset"],
                input_size=(channels, height, width),
                geometry=about["geometry"],
                images=int((content["state"] != _ABSENT).sum()),
                samples=about["samples"],
                size=sum(_on_disk(each / name) for name in (_CHECKS, _SAMPLES)),
                folder=each,
            )


def _on_disk(path: Path) -> int:
    """Bytes a file takes; holes take none, where the system says so."""
    if not path.is_file():
        return 0
    state = path.stat()
    blocks = getattr(state, "st_blocks", None)  # not on Windows
    return state.st_size if blocks is None else 512 * blocks


def clear_cache(folder: str | Path | None = None) -> int:
    """Remove all decoded images; a process that is reading them goes on.

    Args:
        folder: where they are; the user's cache folder by default. Nothing else in it is touched.

    Returns:
        Bytes that were freed.
    """
    entries = list_cache(folder)
    for entry in entries:
        for name in (_ABOUT, _CHECKS, _SAMPLES):
            (entry.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # something that is not ours lies there too
            entry.folder.rmdir()
    return sum(entry.size for entry in entries)
