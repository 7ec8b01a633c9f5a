"""Where saliency maps computed elsewhere come from: a folder of files, or memory; and whose map each is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.errors import DatasetError
from explanation_alignment.paths import not_found

__all__ = ["MapFolder", "MapSource", "MapsInMemory", "nothing_fits"]

_KINDS: Final = (".npy", ".npz", ".png")


class MapFolder:
    """A folder of maps, one file each. Files are found by walking it; no id is ever used as a path.

    Args:
        path: the folder.

    Raises:
        DatasetError: there is no such folder, or two files of one name.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        if not self._path.is_dir():
            raise not_found(DatasetError, "maps", path, hint="expected one with .npy, .npz or .png files")
        self._files: dict[str, Path] = {}
        for file in sorted(self._path.rglob("*")):
            if file.suffix.lower() not in _KINDS or not file.is_file():
                continue
            name = file.relative_to(self._path).with_suffix("").as_posix()
            if name in self._files:
                raise DatasetError(f"maps: {self._files[name]} and {file} have one name; keep one of them")
            self._files[name] = file

    def __str__(self) -> str:
        return str(self._path)

    def names(self) -> Sequence[str]:
        """The names there are maps under."""
        return list(self._files)

    def places(self, ids: Sequence[str]) -> dict[str, str]:
        """Sample id -> the name its map is under, for those that have one.

        Raises:
            DatasetError: one file would be the map of two samples, or two that of one.
        """
        places: dict[str, str] = {}
        owner: dict[str, str] = {}
        for sample_id in ids:
            found = [name for name in _names_of(sample_id) if name in self._files]
            if len(found) > 1:
                raise DatasetError(f"maps: {' and '.join(str(self._files[n]) for n in found)} both fit {sample_id!r}")
            if found:
                if found[0] in owner:
                    raise DatasetError(
                        f"maps: {self._files[found[0]]} fits both {owner[found[0]]!r} and {sample_id!r}; name maps by "
                        "the whole id, with its ending"
                    )
                places[sample_id], owner[found[0]] = found[0], sample_id
        return places

    def load(self, name: str) -> NDArray[np.float32]:
        """The map under a name, (h, w)."""
        path = self._files[name]
        if path.suffix.lower() == ".png":
            with Image.open(path) as picture:
                if picture.mode not in ("1", "L", "I", "I;16", "F"):
                    raise ValueError(f"{path.name} is {picture.mode}, expected one gray channel")
                return _as_map(np.asarray(picture))
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _as_map(loaded)
        with loaded:
            if len(loaded.files) != 1:
                raise ValueError(f"{path.name} holds {len(loaded.files)} arrays, expected one")
            return _as_map(loaded[loaded.files[0]])

    def digest(self, names: set[str]) -> str:
        """SHA-256 over the content of the maps under these names, hex."""
        ordered = sorted(names)

        def content(name: str) -> bytes:
            with self._files[name].open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()

        with ThreadPoolExecutor(4) as pool:
            return _digest_of(zip(ordered, pool.map(content, ordered), strict=True))


class MapsInMemory:
    """Maps in hand.

    Args:
        maps: sample id -> (h, w) array or tensor.
    """

    def __init__(self, maps: Mapping[str, Any]) -> None:
        self._maps = maps

    def __str__(self) -> str:
        return "in memory"

    def names(self) -> Sequence[str]:
        """The names there are maps under."""
        return list(self._maps)

    def places(self, ids: Sequence[str]) -> dict[str, str]:
        """Sample id -> the name its map is under, for those that have one."""
        return {sample_id: sample_id for sample_id in ids if sample_id in self._maps}

    def load(self, name: str) -> NDArray[np.float32]:
        """The map under a name, (h, w)."""
        values = self._maps[name]
        return _as_map(values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values))

    def digest(self, names: set[str]) -> str:
        """SHA-256 over the maps under these names, hex."""

        def content(name: str) -> bytes:
            try:
                values = self.load(name)
            except ValueError as error:  # a row with that error
                return str(error).encode()
            return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).digest()

        return _digest_of((name, content(name)) for name in sorted(names))


MapSource: TypeAlias = MapFolder | MapsInMemory


def _digest_of(contents: Iterable[tuple[str, bytes]]) -> str:
    sha = hashlib.sha256()
    for name, content in contents:
        sha.update(hashlib.sha256(name.encode(errors="surrogateescape")).digest() + content)
    return sha.hexdigest()


def _as_map(values: NDArray[Any]) -> NDArray[np.float32]:
    squeezed = np.squeeze(values) if values.ndim > 2 else values
    if squeezed.ndim != 2 or not squeezed.size or squeezed.dtype.kind not in "fiub":
        raise ValueError(f"expected a real map (h, w), got shape {values.shape} {values.dtype}")
    return np.ascontiguousarray(squeezed, dtype=np.float32)


def _names_of(sample_id: str) -> list[str]:
    """What the map of a sample may be called, without the file's ending."""
    stem = sample_id.rsplit(".", 1)[0] if Path(sample_id).suffix.lower() in Image.registered_extensions() else sample_id
    return list(dict.fromkeys([sample_id, sample_id.replace("/", "__"), stem, stem.replace("/", "__")]))


def nothing_fits(source: MapSource, dataset: str, ids: Sequence[str]) -> str:
    """What to say where no map belongs to any sample."""
    there = list(source.names())[:2]
    found = f"it has {', '.join(map(repr, there))}" if there else f"it has no {', '.join(_KINDS)} file"
    return f"maps ({source}): none is named by an id of {dataset}; {found}, the ids are like {ids[0]!r}"
