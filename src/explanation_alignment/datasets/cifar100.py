"""CIFAR-100: small pictures of 100 classes in 20 groups. It has no annotations: it serves to measure transfer.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import pickletools
import re
import tarfile
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.base import IndexedDataset
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.arguments import as_choice
from explanation_alignment.datasets.reading.files import (
    data_folder,
    decode_image,
    fingerprint_of,
    inside,
    is_toy,
    list_files,
)
from explanation_alignment.errors import DatasetError
from explanation_alignment.sample import AttributeValue, Sample, SampleBatch

__all__ = [
    "CHECKSUMS",
    "CIFAR100",
    "COARSE_NAMES",
    "COARSE_OF_FINE",
    "FINE_NAMES",
    "IMAGE_SIZE",
    "TOY_CHECKSUMS",
    "CIFAR100Arrays",
    "CIFAR100Images",
    "open_cifar100",
    "read_pickle",
]

#: Side of an image, pixels.
IMAGE_SIZE: Final = 32
FINE_NAMES: Final = tuple(
    name
    for line in (
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can",
        "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin",
        "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster",
        "man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck",
        "pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk",
        "skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger",
        "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm",
    )
    for name in line.split()
)
_GROUPS: Final = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
COARSE_NAMES: Final = tuple(_GROUPS)
#: For each class the place of its group.
COARSE_OF_FINE: Final = tuple(
    next(place for place, members in enumerate(_GROUPS.values()) if name in members.split()) for name in FINE_NAMES
)
#: MD5 of the published files, hex.
CHECKSUMS: Final[Mapping[str, str]] = {
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
#: Where a generated stand-in keeps the checksums of its own files, as ``md5sum`` writes them.
TOY_CHECKSUMS: Final = "GENERATED_TOY_DATA.md5"

_FOLDER: Final = "cifar-100-python"
_ARCHIVE: Final = f"{_FOLDER}.tar.gz"
#: No file of the archive is larger, nor all of them together twice that.
_MAX_BYTES: Final = 400_000_000
_MAX_IMAGE_BYTES: Final = 1_000_000
_IMAGE_COLUMNS: Final = ("img", "image")


def read_pickle(content: bytes, name: str) -> Any:
    """The plain values and arrays in a pickle, without running anything that is in it.

    Dictionaries, lists, numbers, text and arrays of bytes are read; a pickle that names another class or function, or
    has an instruction the CIFAR files do without, is refused. Even arrays are not handed to numpy's own unpickling:
    their parts are recorded and checked first. Text pickled by Python 2 comes as bytes.

    Args:
        content: the pickle.
        name: what it is, for the error's words.

    Raises:
        DatasetError: it is damaged, or asks for anything else.
    """
    try:
        _check_instructions(content)
        return _plain(_RestrictedUnpickler(io.BytesIO(content), encoding="bytes").load(), name)
    except DatasetError:
        raise
    except _RefusedError as error:
        raise DatasetError(f"{name}: its pickle asks for {error}, which no CIFAR file does; nothing was run") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise DatasetError(f"{name}: damaged pickle ({type(error).__name__})") from error


class _RefusedError(Exception):
    """A pickle asks for something that is not allowed."""


#: What a pickle of dictionaries, lists, tuples, numbers, text and arrays is made of.
_INSTRUCTION_WORDS: Final = (
    "PROTO FRAME STOP MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 SETITEM SETITEMS APPEND "
    "APPENDS NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 SHORT_BINSTRING BINSTRING BINUNICODE SHORT_BINUNICODE "
    "BINBYTES SHORT_BINBYTES BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD"
)
_INSTRUCTIONS: Final = frozenset(_INSTRUCTION_WORDS.split())


def _check_instructions(content: bytes) -> None:
    """Refuse other instructions, and a place to remember things that is far beyond the pickle's own length."""
    for instruction, argument, _ in pickletools.genops(content):
        if instruction.name not in _INSTRUCTIONS:
            raise _RefusedError(f"the instruction {instruction.name}")
        if instruction.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(content):
            raise _RefusedError(f"place {argument} of its memory")


class _ArrayParts:
    """Stands for an array in a pickle: keeps what the pickle says of it."""

    __slots__ = ("state",)

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _TypeParts:
    """Stands for an array's type in a pickle."""

    __slots__ = ("code",)

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


class _Encoder:
    """Stands for the function with which pickles of protocol 2 hold bytes."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
            raise _RefusedError("another encoding")
        return text.encode("latin1")


_ALLOWED: Final[Mapping[tuple[str, str], Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _ArrayParts,
    ("numpy._core.multiarray", "_reconstruct"): _ArrayParts,
    ("numpy", "ndarray"): object(),
    ("numpy", "dtype"): _TypeParts,
    ("_codecs", "encode"): _Encoder(),
}


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows the five names a pickled array of bytes needs, and gives harmless ones for them."""

    def find_class(self, module: str, name: str, /) -> Any:
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            raise _RefusedError(f"{module}.{name}")
        return allowed


def _plain(value: Any, name: str) -> Any:
    """The values with arrays in the place of their parts; keys as text."""
    if isinstance(value, dict):
        return {_text(key): _plain(item, name) for key, item in value.items()}
    if isinstance(value, _ArrayParts):
        return _array(value, name)
    if isinstance(value, (list, int, float, str, bytes, type(None))):
        return value
    raise DatasetError(f"{name}: holds a {type(value).__name__}; expected lists, numbers, text and an array of bytes")


def _array(parts: _ArrayParts, name: str) -> NDArray[np.uint8]:
    state = parts.state
    if not isinstance(state, tuple) or len(state) != 5:
        raise DatasetError(f"{name}: damaged array")
    _, shape, kind, by_column, raw = state
    whole = isinstance(shape, tuple) and all(isinstance(side, int) and side >= 0 for side in shape)
    if not whole or not isinstance(kind, _TypeParts) or kind.code not in ("u1", b"u1") or not isinstance(raw, bytes):
        raise DatasetError(f"{name}: expected an array of bytes (uint8)")
    values = np.frombuffer(raw, dtype=np.uint8)
    if values.size != np.prod(shape, dtype=object):
        raise DatasetError(f"{name}: an array of {shape} with {values.size:,} bytes")
    return values.reshape(shape, order="F" if by_column else "C")


def _text(value: object) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the images before one is decoded; both kinds of labels as places among their names."""

    split: str
    labels: str
    toy: bool
    ids: Sequence[str]
    fine: list[int]
    coarse: list[int]
    fine_names: Sequence[str] = FINE_NAMES
    coarse_names: Sequence[str] = COARSE_NAMES


class CIFAR100(IndexedDataset):
    """CIFAR-100, without annotations: no regions, so nothing for a saliency map to agree with.

    Attributes: ``fine`` and ``coarse``, the names of the class and of its group.

    Made by :func:`open_cifar100`.
    """

    def __init__(self, known: _Known, content: str) -> None:
        fine = known.labels == "fine"
        columns: dict[str, Sequence[AttributeValue]] = {
            "fine": [known.fine_names[place] for place in known.fine],
            "coarse": [known.coarse_names[place] for place in known.coarse],
        }
        rest = [*([] if known.split == "test" else [known.split]), *([] if fine else [known.labels])]
        super().__init__(
            name="-".join(["cifar100", *rest]),
            class_names=known.fine_names if fine else known.coarse_names,
            regions=(),
            evidence=(),
            ids=known.ids,
            labels=known.fine if fine else known.coarse,
            attributes=columns,
            fingerprint=fingerprint_of("cifar100", known.split, known.labels, content, known.fine, known.coarse),
            toy=known.toy,
        )

    def _read(self, index: int) -> Sample:
        return Sample(
            id=self._ids[index],
            image=self._image(index),
            label=self._labels[index],
            annotations={},
            attributes={name: values[index] for name, values in self._attributes.items()},
        )

    @abstractmethod
    def _image(self, index: int) -> Image.Image:
        """Decode one image."""

    def problems(self) -> list[Problem]:
        """What is wrong without decoding an image; only that classes have no image at all."""
        empty = [name for place, name in enumerate(self.class_names) if place not in set(self._labels)]
        if not empty:
            return []
        message = f"{len(empty)} classes without an image, such as {empty[0]}"
        return [Problem("empty_class", None, message, serious=False)]


class CIFAR100Arrays(CIFAR100):
    """The images as one tensor in memory.

    Args:
        pixels: (N, 3, 32, 32) uint8.
        known: ids and labels.
    """

    def __init__(self, pixels: torch.Tensor, known: _Known) -> None:
        self._pixels = pixels
        super().__init__(known, hashlib.sha256(pixels.numpy().tobytes()).hexdigest())
        self._targets = torch.tensor(self._labels, dtype=torch.int64)

    def _image(self, index: int) -> Image.Image:
        return Image.fromarray(self._pixels[index].permute(1, 2, 0).numpy())

    def read_batch(self, indices: Sequence[int]) -> SampleBatch:
        """Several samples at once, as tensors."""
        where = torch.as_tensor(indices)
        return SampleBatch([self._ids[index] for index in indices], self._pixels[where], self._targets[where], {})


class CIFAR100Images(CIFAR100):
    """The images as files or tables hold them, decoded one by one.

    Args:
        encoded: for each image its content; None where there is none.
        known: ids and labels.
    """

    def __init__(self, encoded: Sequence[bytes | None], known: _Known) -> None:
        self._encoded = tuple(encoded)
        sha = hashlib.sha256()
        for content in self._encoded:
            sha.update(hashlib.sha256(content or b"").digest())
        super().__init__(known, sha.hexdigest())

    def _image(self, index: int) -> Image.Image:
        content, name = self._encoded[index], self._ids[index]
        if content is None:
            raise DatasetError(f"{name}: no image there")
        image = decode_image(io.BytesIO(content), name)
        if image.size != (IMAGE_SIZE, IMAGE_SIZE):
            raise DatasetError(f"{name}: {image.width} x {image.height} pixels, expected 32 x 32")
        return image.convert("RGB")


def open_cifar100(data_dir: str | Path | None, *, split: str = "test", labels: str = "fine") -> CIFAR100:
    """CIFAR-100 from the python archive, packed or not, a Parquet export, or folders of images named by class.

    Files of the archive are read only if their MD5 is the published one, or, in a folder that says it holds generated
    data, the one its writer recorded; then without running what a pickle may hold (:func:`read_pickle`).

    Args:
        data_dir: the folder with one of them, or the archive itself.
        split: ``"test"`` or ``"train"``.
        labels: ``"fine"``, the 100 classes, or ``"coarse"``, their 20 groups.

    Raises:
        UsageError: for another split or kind of labels.
        DatasetError: for missing, damaged or unknown files.
    """
    split = as_choice(split, "split", ("test", "train"))
    labels = as_choice(labels, "labels", ("fine", "coarse"))
    if data_dir is not None and Path(data_dir).name.endswith(".tar.gz") and Path(data_dir).is_file():
        return _from_archive(Path(data_dir), split, labels)
    given = data_folder(data_dir, "cifar100")
    for folder in (given / _FOLDER, given):
        if (folder / split).is_file():
            return _from_folder(folder, split, labels)
    if (given / _ARCHIVE).is_file():
        return _from_archive(given / _ARCHIVE, split, labels)
    tables = [name for name in list_files(given, (".parquet",)) if re.search(rf"(?:^|[/_.-]){split}[/_.-]", name)]
    if tables:
        return _from_parquet(given, tables, split, labels)
    for folder in (given, given / "cifar100", given / "CIFAR100", given / "cifar-100"):
        if (folder / split).is_dir():
            return _from_images(folder, split, labels)
    raise DatasetError(
        f"cifar100: no {split} images in {given}; expected {_ARCHIVE}, or {_FOLDER}/{split}, or a Parquet file with "
        f"{split!r} in its name, or {split}/CLASS/*.png"
    )


def _checksums(folder: Path) -> tuple[Mapping[str, str], bool]:
    """MD5 by name of the files that may be read, and whether they are generated."""
    for place in (folder, folder.parent):
        if is_toy(place):
            try:
                lines = (place / TOY_CHECKSUMS).read_text(encoding="utf-8").split("\n")
            except (OSError, UnicodeDecodeError) as error:
                raise DatasetError(f"cifar100: {TOY_CHECKSUMS} in {place} cannot be read") from error
            pairs = [line.split() for line in lines]
            return {pair[1].rsplit("/", 1)[-1]: pair[0] for pair in pairs if len(pair) == 2}, True
    return CHECKSUMS, False


def _check(content: bytes, name: str, checksums: Mapping[str, str]) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    expected = checksums.get(name)
    if found != expected:
        raise DatasetError(
            f"cifar100: {name} has the MD5 {found}, expected {expected or 'none'}; it is damaged or another file, "
            "and was not unpickled"
        )


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DatasetError(f"cifar100: {path.name} is larger than {_MAX_BYTES:,} bytes; it is another file")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cifar100: {path.name} cannot be read in {path.parent} ({error.strerror})") from error


def _from_folder(folder: Path, split: str, labels: str) -> CIFAR100:
    checksums, toy = _checksums(folder)
    contents = {name: _content(folder / name) for name in (split, "meta")}
    return _from_pickles(contents, checksums, toy, split, labels)


def _from_archive(path: Path, split: str, labels: str) -> CIFAR100:
    """Members are read where they lie; nothing is written to disk."""
    checksums, toy = _checksums(path.parent)
    packed = _content(path)
    if not toy:
        _check(packed, _ARCHIVE, checksums)
    contents: dict[str, bytes] = {}
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            unpacked = stream.read(_MAX_BYTES + 1)
        if len(unpacked) > _MAX_BYTES:
            raise DatasetError(f"cifar100: {path.name} unpacks to more than {_MAX_BYTES:,} bytes; it is another file")
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as archive:
            for member in archive:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder == _FOLDER and name in (split, "meta") and member.isreg() and not member.issparse():
                    stored = archive.extractfile(member)
                    contents[name] = b"" if stored is None else stored.read(len(unpacked))
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise DatasetError(f"cifar100: {path.name} is damaged ({type(error).__name__})") from error
    for name in (split, "meta"):
        if name not in contents:
            raise DatasetError(f"cifar100: no {_FOLDER}/{name} in {path.name}")
    return _from_pickles(contents, checksums, toy, split, labels)


def _from_pickles(
    contents: Mapping[str, bytes], checksums: Mapping[str, str], toy: bool, split: str, labels: str
) -> CIFAR100:
    for name, content in contents.items():
        _check(content, name, checksums)
    meta, stored = read_pickle(contents["meta"], "meta"), read_pickle(contents[split], split)
    names = [_names(meta, key, count) for key, count in (("fine_label_names", 100), ("coarse_label_names", 20))]
    data = stored.get("data") if isinstance(stored, dict) else None
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * IMAGE_SIZE**2 or not len(data):
        raise DatasetError(f"cifar100: {split} holds no array 'data' of (N, 3072) bytes")
    fine, coarse = (
        _labels(stored.get(key), len(data), count, split)
        for key, count in (("fine_labels", 100), ("coarse_labels", 20))
    )
    pixels = torch.from_numpy(data.reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE).copy())
    known = _Known(split, labels, toy, _numbered(split, len(data)), fine, coarse, names[0], names[1])
    return CIFAR100Arrays(pixels, known)


def _names(meta: object, key: str, count: int) -> tuple[str, ...]:
    found = meta.get(key) if isinstance(meta, dict) else None
    if not isinstance(found, list) or len({_text(name) for name in found}) != count or len(found) != count:
        raise DatasetError(f"cifar100: meta holds no list {key!r} of {count} names")
    return tuple(_text(name) for name in found)


def _labels(values: Any, count: int, classes: int, name: str) -> list[int]:
    right = isinstance(values, list) and len(values) == count
    if not right or not all(type(value) is int and 0 <= value < classes for value in values):
        raise DatasetError(f"cifar100: {name} has not {count:,} labels 0 to {classes - 1}")
    return list(values)


def _numbered(split: str, count: int) -> list[str]:
    return [f"{split}-{index:05d}" for index in range(count)]


def _from_parquet(folder: Path, names: Sequence[str], split: str, labels: str) -> CIFAR100:
    frames = []
    for name in names:
        try:
            frame = pl.read_parquet(inside(folder, name), glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DatasetError(f"cifar100: {name} is no readable Parquet file ({type(error).__name__})") from error
        column = next((column for column in _IMAGE_COLUMNS if column in frame.columns), None)
        if column is None or "fine_label" not in frame.columns:
            raise DatasetError(f"cifar100: {name}: expected img and fine_label, got {', '.join(frame.columns)[:80]}")
        image = pl.col(column)
        if isinstance(frame[column].dtype, pl.Struct):
            image = image.struct.field("bytes")
        coarse = [pl.col("coarse_label")] if "coarse_label" in frame.columns else []
        frames.append(frame.select(image.alias("image"), pl.col("fine_label"), *coarse))
    try:
        table = pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DatasetError(f"cifar100: {names[0]} and the next files differ in their columns") from error
    if table["image"].dtype != pl.Binary:
        raise DatasetError(f"cifar100: {names[0]}: expected the images as encoded bytes, got {table['image'].dtype}")
    fine = _labels(table["fine_label"].to_list(), table.height, 100, names[0])
    coarse_labels = [COARSE_OF_FINE[place] for place in fine]
    if "coarse_label" in table.columns:
        coarse_labels = _labels(table["coarse_label"].to_list(), table.height, 20, names[0])
    known = _Known(split, labels, is_toy(folder), _numbered(split, table.height), fine, coarse_labels)
    return CIFAR100Images(table["image"].to_list(), known)


def _from_images(folder: Path, split: str, labels: str) -> CIFAR100:
    files = list_files(folder / split)
    if not files:
        raise DatasetError(f"cifar100: no images in {split}; expected {split}/CLASS/*.png")
    place_of = {name: place for place, name in enumerate(FINE_NAMES)}
    fine = []
    for file in files:
        name = file.split("/")[-2] if "/" in file else ""
        if name not in place_of:
            raise DatasetError(
                f"cifar100: {split}/{file}: {name!r} is no class; expected {split}/apple/*.png and so on"
            )
        fine.append(place_of[name])
    ids = [f"{split}/{file}" for file in files]
    known = _Known(split, labels, is_toy(folder), ids, fine, [COARSE_OF_FINE[place] for place in fine])
    return CIFAR100Images([_small_file(folder / split / file) for file in files], known)


def _small_file(path: Path) -> bytes | None:
    """A file's content; None for a link that leads nowhere, no regular file, or one too large for such an image."""
    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= _MAX_IMAGE_BYTES else None
    except OSError:
        return None
