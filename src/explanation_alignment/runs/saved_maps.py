"""All saliency maps of a run, beside its scores: ``maps/<slug>/unit-NNNNNN.parquet``, a row a decision and method.

A map is the bytes of its pixels, row by row, little-endian, with two numbers that bring them back: value = ``low`` +
``scale`` x pixel. Parquet, since everything that reads the scores reads it too, pages are compressed and carry
checksums, and a reader that wants some methods or samples skips the others. This module imports no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from explanation_alignment.errors import RunError, UnknownNameError, first_line
from explanation_alignment.runs.files import write_atomically

__all__ = [
    "MAP_KINDS",
    "MapFiles",
    "MapKind",
    "Packed",
    "SavedMap",
    "UnitMaps",
    "map_kind",
    "pack",
    "read_maps",
    "unit_files",
    "unpack",
]

#: How a pixel is kept.
MapKind: TypeAlias = Literal["float16", "uint8", "float32"]
MAP_KINDS: Final[tuple[MapKind, ...]] = get_args(MapKind)
#: Where a file's stamp is in its metadata: JSON with format_version, identity, unit and kind.
_STAMP: Final = b"explanation_alignment"
_FORMAT_VERSION: Final = 1
_PIXELS: Final = {"float16": "<f2", "uint8": "u1", "float32": "<f4"}
_LEVELS: Final = 255
_SCHEMA: Final = pa.schema(
    [
        ("sample_id", pa.string()),
        ("method", pa.dictionary(pa.int32(), pa.string())),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("low", pa.float32()),
        ("scale", pa.float32()),
        ("pixels", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class SavedMap:
    """A map of a run.

    Args:
        model: whose decision it explains; with ``seed``, ``dataset``, ``target`` and ``sample_id`` the decision.
        seed: of the evaluation.
        dataset: its name.
        target: the explained class, as asked.
        sample_id: which sample.
        method: the saliency method with its arguments.
        saliency: (H, W) float32.
    """

    model: str
    seed: int
    dataset: str
    target: str
    sample_id: str
    method: str
    saliency: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """B maps as they are kept.

    Args:
        pixels: (B, H, W), of the kind's type.
        low: (B,) float32.
        scale: (B,) float32.
    """

    pixels: NDArray[Any]
    low: NDArray[np.float32]
    scale: NDArray[np.float32]


def map_kind(name: str) -> MapKind:
    """A kind by its name.

    Raises:
        UnknownNameError: there is no such kind.
    """
    for kind in MAP_KINDS:
        if name == kind:
            return kind
    raise UnknownNameError("kind of saved map", name, MAP_KINDS)


def pack(values: NDArray[np.floating], kind: MapKind) -> Packed:
    """Maps (B, H, W) as they are kept.

    - ``float16``: each map over a power of two that is above its largest magnitude, so that small gradients keep their
      eleven bits; a value of more than 6e-5 of the largest is off by 1 part in 2048 at most.
    - ``uint8``: 256 levels from a map's smallest to its largest value; off by 1 part in 510 of that range at most. A
      map with values that are not finite comes back as nothing but NaN.
    - ``float32``: as it is.
    """
    count = len(values)
    values = values.astype(np.float32, copy=False)
    zeros, ones = np.zeros(count, dtype=np.float32), np.ones(count, dtype=np.float32)
    if kind == "float32":
        return Packed(values.astype("<f4", copy=False), zeros, ones)
    finite = np.isfinite(values)
    if kind == "float16":
        peak = np.where(finite, np.abs(values), 0).max(axis=(1, 2))
        scale = np.ldexp(ones, np.frexp(peak)[1]).astype(np.float32)
        scale = np.where(np.isfinite(scale) & (scale > 0), scale, ones)
        return Packed((values / scale[:, None, None]).astype("<f2"), zeros, scale)
    whole = finite.all(axis=(1, 2))
    known = np.where(whole[:, None, None], values, 0).astype(np.float64)
    low, high = known.min(axis=(1, 2)), known.max(axis=(1, 2))
    step = (high - low) / _LEVELS
    divisor = np.where(step > 0, step, 1)
    pixels = np.rint((known - low[:, None, None]) / divisor[:, None, None]).astype(np.uint8)
    return Packed(pixels, low.astype(np.float32), np.where(whole, step, np.nan).astype(np.float32))


def unpack(content: bytes, shape: tuple[int, int], low: float, scale: float, kind: MapKind) -> NDArray[np.float32]:
    """A map (H, W) float32 as it was kept."""
    pixels = np.frombuffer(content, dtype=_PIXELS[kind]).reshape(shape)
    if kind == "float32":
        return pixels.astype(np.float32)
    return (low + scale * pixels.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class MapFiles:
    """The maps of one evaluation.

    Args:
        folder: ``maps/<slug>`` of the run.
        identity: of the evaluation.
        methods: its saliency methods with their arguments, each once: binarizations share a map.
    """

    folder: Path
    identity: str
    methods: tuple[str, ...]

    @classmethod
    def of(cls, run: Path, slug: str, record: Mapping[str, Any]) -> MapFiles:
        """Those of an evaluation by its entry in run.json."""
        methods = tuple(dict.fromkeys(method["method"] for method in record["methods"]))
        return cls(run / "maps" / slug, record["identity"], methods)

    def path(self, unit: int) -> Path:
        """The file of a unit."""
        return self.folder / f"unit-{unit:06d}.parquet"

    def missing(self, samples: Mapping[int, int], kind: MapKind | None = None) -> list[int]:
        """Units whose maps are not there, or are of another kind, evaluation or number.

        Args:
            samples: unit -> how many samples it has.
            kind: the kind wanted; None for any.
        """
        return [unit for unit, count in samples.items() if not self._holds(unit, count, kind)]

    def _holds(self, unit: int, samples: int, kind: MapKind | None) -> bool:
        path = self.path(unit)
        if not path.is_file():
            return False
        try:
            rows, stamp = _footer(path)
        except RunError:
            return False
        whole = rows == samples * len(self.methods)
        return whole and (stamp["identity"], stamp["unit"]) == (self.identity, unit) and kind in (None, stamp["kind"])

    def half_written(self) -> dict[int, list[Path]]:
        """Unit -> files of it that are being written, or that killed processes left."""
        found: dict[int, list[Path]] = {}
        for file in sorted(self.folder.glob(".unit-*.parquet.*.tmp")):
            found.setdefault(int(file.name.split(".")[1].removeprefix("unit-")), []).append(file)
        return found


class UnitMaps:
    """Writes the maps of a unit, batch by batch; the file is there when it is whole.

    Args:
        files: of the evaluation.
        unit: its number.
        kind: how a pixel is kept.
    """

    def __init__(self, files: MapFiles, unit: int, kind: MapKind) -> None:
        self._files, self._unit, self._kind = files, unit, kind
        self._writer: pq.ParquetWriter | None = None
        self._path = files.path(unit)
        self._growing = self._path.with_name(f".{self._path.name}.{os.getpid()}-{id(self):x}.tmp")

    def add(self, ids: Sequence[str], maps: Mapping[str, Packed | None]) -> None:
        """Some samples more.

        Args:
            ids: theirs, B.
            maps: sample id -> its M maps in the order of the methods, or None where it could not be read.

        Raises:
            RunError: they cannot be written.
        """
        methods = self._files.methods
        found = [maps[name] for name in ids]
        known = [one for one in found if one is not None]
        height, width = known[0].pixels.shape[1:] if known else (0, 0)
        each = len(methods)

        def numbers(of: str) -> NDArray[np.float32]:
            nothing = np.full(each, np.nan, dtype=np.float32)
            return np.concatenate([nothing if one is None else getattr(one, of) for one in found])

        def contents() -> Iterator[bytes | None]:
            for one in found:
                yield from [None] * each if one is None else (pixels.tobytes() for pixels in one.pixels)

        table = pa.table(
            {
                "sample_id": np.repeat(np.array(ids, dtype=object), each),
                "method": pa.DictionaryArray.from_arrays(
                    pa.array(np.tile(np.arange(each, dtype=np.int32), len(ids))), pa.array(methods, pa.string())
                ),
                "height": np.full(len(ids) * each, height, dtype=np.int32),
                "width": np.full(len(ids) * each, width, dtype=np.int32),
                "low": numbers("low"),
                "scale": numbers("scale"),
                "pixels": pa.array(contents(), pa.binary()),
            },
            schema=_SCHEMA,
        )
        try:
            self._opened().write_table(table)
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error.strerror or error}") from error

    def _opened(self) -> pq.ParquetWriter:
        if self._writer is None:
            stamp = {
                "format_version": _FORMAT_VERSION,
                "identity": self._files.identity,
                "unit": self._unit,
                "kind": self._kind,
            }
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                self._growing,
                _SCHEMA.with_metadata({_STAMP: json.dumps(stamp, sort_keys=True).encode()}),
                compression="zstd",
                use_dictionary=["method"],
                write_statistics=["sample_id", "method"],
                write_page_checksum=True,
            )
        return self._writer

    def commit(self) -> None:
        """The unit is whole.

        Raises:
            RunError: it cannot be written.
        """
        writer, self._writer = self._opened(), None
        try:
            writer.close()
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error.strerror or error}") from error
        write_atomically(self._path, self._growing.replace)

    def discard(self) -> None:
        """Leave nothing behind of what is not whole."""
        if self._writer is not None:
            with suppress(OSError, pa.ArrowException):
                self._writer.close()
            self._writer = None
        with suppress(OSError):
            self._growing.unlink(missing_ok=True)


def read_maps(
    path: Path, *, methods: Collection[str] | None = None, sample_ids: Collection[str] | None = None
) -> Iterator[tuple[str, str, NDArray[np.float32] | None]]:
    """The maps of a file: sample id, method, and (H, W) float32 or None where the sample could not be read.

    Args:
        path: of a unit.
        methods: those alone.
        sample_ids: those alone.

    Raises:
        RunError: the file cannot be read, or is damaged.
    """
    _, stamp = _footer(path)
    kind = map_kind(stamp["kind"])
    wanted = {"method": methods, "sample_id": sample_ids}
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                if not _may_hold(file.metadata.row_group(group), sample_ids):
                    continue
                rows = file.read_row_group(group)
                for name, values in wanted.items():
                    if values is not None:
                        rows = rows.filter(pc.is_in(rows[name].cast(pa.string()), pa.array(list(values), pa.string())))
                for row in rows.to_pylist():
                    shape, content = (row["height"], row["width"]), row["pixels"]
                    found = None if content is None else unpack(content, shape, row["low"], row["scale"], kind)
                    yield row["sample_id"], row["method"], found
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(
            f"{path}: cannot be read ({first_line(error)}); remove it, and the command that made it makes it anew"
        ) from error


def _may_hold(group: pq.RowGroupMetaData, ids: Collection[str] | None) -> bool:
    """Whether a row group can hold one of the samples, by its statistics."""
    statistics = group.column(0).statistics
    if ids is None or statistics is None or not statistics.has_min_max:
        return True
    return any(statistics.min <= name <= statistics.max for name in ids)


def _footer(path: Path) -> tuple[int, dict[str, Any]]:
    """How many rows a file has, and its stamp.

    Raises:
        RunError: it is no readable file of maps.
    """
    try:
        footer = pq.read_metadata(path)
        stamp = json.loads((footer.metadata or {}).get(_STAMP, b"{}"))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)})") from error
    if not isinstance(stamp, dict) or not {"identity", "unit", "kind"} <= stamp.keys():
        raise RunError(f"{path}: is no file of maps")
    return footer.num_rows, stamp


def unit_files(folder: Path) -> list[Path]:
    """The files of maps in an evaluation's folder, in order of their units."""
    return sorted(folder.glob("unit-*.parquet"))
