"""Datasets of the Hugging Face library, from memory or from a local folder; nothing is ever fetched."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.base import IndexedDataset
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.arguments import as_choice, as_names, as_pairs
from explanation_alignment.datasets.reading.files import (
    cache_folder,
    data_folder,
    decode_image,
    fingerprint_of,
    inside,
    is_toy,
    list_files,
)
from explanation_alignment.datasets.reading.pixels import heatmap_from, mask_from, values_of_image
from explanation_alignment.datasets.reading.polygons import pixel_boxes
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError
from explanation_alignment.sample import Annotation, AttributeValue, Boxes, Sample

if TYPE_CHECKING:
    import datasets

__all__ = ["HuggingFaceDataset"]

_FORMATS: Final = ("xyxy", "xywh", "coco")
#: Rows looked at together.
_ROWS: Final = 200


class HuggingFaceDataset(IndexedDataset):
    """A ``datasets.Dataset`` with images and annotations, its columns named by the user.

    The images' and masks' bytes are decoded here, not by the library: a column that holds paths is read only inside the
    dataset's folder (from a dataset in memory: only from local files), never from the network.

    Args:
        dataset: a ``datasets.Dataset`` or ``DatasetDict``; or a folder written by ``save_to_disk``, or one with Parquet
            files.
        split: which split, where there are several; told from the folder's names or from Parquet files called
            ``train-*.parquet``.
        image: the column of images.
        label: the column of class labels (``ClassLabel``, whole numbers that are class indices, or text, whose classes
            are in order); ``none`` for none. -1 is no label.
        mask: the column of masks, or a region and its column each: ``object:mask+hair:hair_mask``; a column called
            ``mask`` if no annotation is named. Pictures or arrays; what is not 0 belongs to the mask.
        heatmap: the same for real-valued attention.
        boxes: the same for boxes; a column of fields is reached by a dot: ``objects.bbox``.
        box_format: ``xyxy``, ``xywh``, or ``coco``: a column of objects with the field ``bbox`` (xywh).
        coordinates: of boxes: ``pixels`` or ``fractions`` of the image's width and height.
        mask_values: numbers that belong to a mask, joined by ``+``; left out: all but 0.
        size: ``same`` (a mask of another size than its image is an error) or ``scale``.
        attributes: columns to keep as attributes, joined by ``+``.
        evidence: the regions a person would accept as the reason; left out: all.
        id: a column of unique ids; left out: the row's number.
        dataset_name: its name in tables; left out: the folder's, or ``huggingface``.

    Raises:
        UsageError: no annotation column is named, or another argument cannot be.
        UnknownNameError: there is no such column or split.
        DatasetError: the files are missing or damaged, or the package is not installed.
    """

    def __init__(
        self,
        dataset: datasets.Dataset | datasets.DatasetDict | str | Path | None,
        *,
        split: str | None = None,
        image: str = "image",
        label: str = "label",
        mask: str | Mapping[str, str] | None = None,
        heatmap: str | Mapping[str, str] | None = None,
        boxes: str | Mapping[str, str] | None = None,
        box_format: str = "xyxy",
        coordinates: str = "pixels",
        mask_values: str | Sequence[int] | None = None,
        size: str = "same",
        attributes: str | Iterable[str] = (),
        evidence: str | Iterable[str] = (),
        id: str | None = None,
        dataset_name: str | None = None,
    ) -> None:
        self._root = (
            data_folder(dataset, "huggingface") if dataset is None or isinstance(dataset, (str, Path)) else None
        )
        if self._root is not None:
            dataset = _from_folder(self._root, split)
        table = _one_split(dataset, split)
        self._box_format = as_choice(box_format, "box_format", _FORMATS)
        self._fractions = as_choice(coordinates, "coordinates", ("pixels", "fractions")) == "fractions"
        self._scale = as_choice(size, "size", ("same", "scale")) == "scale"
        self._values = _whole_numbers(mask_values)
        if not (mask or heatmap or boxes) and "mask" in table.column_names:
            mask = "mask"
        self._columns = _annotation_columns(mask, heatmap, boxes)
        regions = list(self._columns)
        accepted = as_names(evidence, "evidence") or tuple(regions)
        for region in accepted:
            if region not in regions:
                raise UnknownNameError("region", region, regions)
        self._image = image
        kept = as_names(attributes, "attributes")
        used = [image, *(column.partition(".")[0] for _, column in self._columns.values()), *kept]
        used += [column for column in (id, None if label == "none" else label) if column]
        for column in used:
            if column not in table.column_names:
                raise UnknownNameError("column of the dataset", column, table.column_names)
        features = table.features
        self._table = _with_bytes(
            table, [image, *(column for _, column in self._columns.values() if "." not in column)]
        )
        plain = self._table.select_columns(
            sorted({*kept, *([id] if id else []), *([] if label == "none" else [label])})
        )
        values = plain.with_format(None)[:] if plain.column_names else {}
        names, labels = ([], [None] * len(table)) if label == "none" else _labels(label, features[label], values[label])
        ids = _ids(values[id] if id else None, len(table))
        columns = {column: _attribute(column, values[column]) for column in kept}
        listed = pl.DataFrame({"id": ids, "label": labels}, schema={"id": pl.String(), "label": pl.Int64()})
        self._annotated = list(dict.fromkeys(column.partition(".")[0] for _, column in self._columns.values()))
        super().__init__(
            name=dataset_name or (self._root.absolute().name if self._root is not None else "huggingface"),
            class_names=names,
            regions=regions,
            evidence=accepted,
            ids=ids,
            labels=labels,
            attributes=columns,
            fingerprint=fingerprint_of(
                "huggingface", self._columns, self._box_format, self._fractions, self._scale, self._values, names,
                ",".join(accepted), columns, self._content_digest(), tables=[listed],
            ),
            toy=self._root is not None and is_toy(self._root),
        )  # fmt: skip
        how = "; ".join(f"{region} from {column} ({kind})" for region, (kind, column) in self._columns.items())
        self.notes = (f"{len(self)} rows", f"annotations: {how}")

    def description(self) -> str:
        """What is read from where, a line each."""
        return "\n".join(self.notes)

    def problems(self) -> list[Problem]:
        """Rows without an annotation, and boxes that are damaged or empty."""
        found = []
        for region, (kind, column) in self._columns.items():
            place = 0
            for batch in self._batches([column.partition(".")[0]]):
                for value in batch.column(0).to_pylist():
                    if value is None:
                        message = f"{region}: column {column} is empty"
                        found.append(Problem("empty_annotation", self.ids()[place], message, serious=False))
                    elif kind == "boxes":
                        found += self._box_problems(self.ids()[place], region, _field(value, column))
                    place += 1
        return found

    def _box_problems(self, name: str, region: str, value: Any) -> Iterator[Problem]:
        try:
            numbers = self._corners(value)
        except DatasetError as error:
            yield Problem("bad_box", name, f"{region}: {error}")
            return
        good = np.isfinite(numbers).all(axis=1) & (numbers[:, 2:] > numbers[:, :2]).all(axis=1)
        for box in numbers[~good]:
            told = ", ".join(f"{number:g}" for number in box)
            yield Problem("bad_box", name, f"{region}: box ({told}) is empty or no box; it marks nothing")

    def _batches(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        yield from self._table.select_columns(list(columns)).with_format("arrow").iter(batch_size=_ROWS)

    def _content_digest(self) -> str:
        """A digest of the annotations, and of how long the images' bytes are."""
        sha = hashlib.sha256()
        for batch in self._batches([self._image, *self._annotated]):
            images = batch.column(self._image).combine_chunks()
            if _holds_pictures(images.type):
                sha.update(_digest(pc.fill_null(pc.binary_length(images.field("bytes")), -1)))
                sha.update(json.dumps(_file_names(images)).encode())
                held = [self._held(path) for path in _paths_alone(images)]
                if held:
                    sha.update(json.dumps([None if file is None else file.stat().st_size for file in held]).encode())
            else:
                sha.update(_digest(images))
            for column in self._annotated:
                values = batch.column(column).combine_chunks()
                if _holds_pictures(values.type):
                    sha.update(_digest(_with_file_names(values)))
                    for path in _paths_alone(values):
                        file = self._held(path)
                        sha.update(b"" if file is None else hashlib.sha256(file.read_bytes()).digest())
                else:
                    sha.update(_digest(values))
        return sha.hexdigest()

    def _held(self, path: str) -> Path | None:
        """The regular file that a path names, where it may be read; None else, which reading it explains."""
        try:
            file = self._file(path, "")
            return file if file.is_file() and os.access(file, os.R_OK) else None
        except (DatasetError, OSError, ValueError):
            return None

    def _read(self, index: int) -> Sample:
        row = self._table[index]
        image = self._picture(row[self._image], "image", plain=True)
        annotations: dict[str, Annotation | None] = {}
        for region, (kind, column) in self._columns.items():
            value = _field(row[column.partition(".")[0]], column)
            annotations[region] = (
                None if value is None else self._annotation(value, kind, column, image.height, image.width)
            )
        return Sample(
            id=self.ids()[index],
            image=image,
            label=self.labels()[index],
            annotations=annotations,
            attributes={key: values[index] for key, values in self.attributes().items()},
        )

    def _annotation(self, value: Any, kind: str, column: str, height: int, width: int) -> Annotation:
        if kind == "boxes":
            corners = self._corners(value)
            if self._fractions:
                corners = corners * [width, height, width, height]
            return Boxes(pixel_boxes(corners, height, width), height, width)
        if isinstance(value, dict):
            numbers = values_of_image(self._picture(value, column, plain=False))
        else:
            numbers = _array(value, column)
        if kind == "heatmap":
            return heatmap_from(numbers, column, size=(height, width), scale=self._scale)
        return mask_from(numbers, column, chosen=self._values, size=(height, width), scale=self._scale)

    def _corners(self, value: Any) -> NDArray[np.float64]:
        """Boxes as x0, y0, x1, y1, (N, 4)."""
        if self._box_format == "coco":
            value = _field(value, ".bbox") if isinstance(value, (dict, list)) else value
        try:
            boxes = np.array(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise DatasetError("boxes: expected lists of four numbers") from None
        if boxes.size == 0:
            return np.zeros((0, 4))
        boxes = boxes[None] if boxes.ndim == 1 else boxes
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise DatasetError(f"boxes: expected lists of four numbers, got an array of shape {boxes.shape}")
        if self._box_format in ("xywh", "coco"):
            boxes[:, 2:] += boxes[:, :2]
        return boxes

    def _picture(self, value: Any, column: str, *, plain: bool) -> Any:
        if value is None:
            raise DatasetError(f"column {column}: empty")
        if not isinstance(value, dict):
            pixels = np.asarray(value)
            if pixels.dtype != np.uint8 and pixels.ndim in (2, 3) and pixels.size and pixels.min() >= 0:
                pixels = pixels.astype(np.uint8) if pixels.max() <= 255 else pixels
            if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
                raise DatasetError(f"column {column}: expected images, or arrays (H, W, 3) of 0 to 255")
            return Image.fromarray(pixels)
        if value.get("bytes") is not None:
            return decode_image(io.BytesIO(value["bytes"]), f"column {column}", plain=plain)
        file = self._file(value.get("path"), column)
        try:
            if file.exists() and not file.is_file():  # opening a pipe would wait for ever
                raise DatasetError(f"column {column}: {file.name}: no regular file")
            with file.open("rb") as handle:
                return decode_image(handle, file.name, plain=plain)
        except OSError as error:
            raise DatasetError(f"column {column}: {file.name}: {error.strerror or error}") from error

    def _file(self, path: str | None, column: str) -> Path:
        if not path or "://" in path:
            raise DatasetError(f"column {column}: {path!r} is not in the dataset, and nothing is fetched")
        return Path(path) if self._root is None else inside(self._root, path)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise DatasetError(
            "datasets of the Hugging Face library need the package datasets: pip install 'explanation-alignment[hf]'"
        ) from None
    return datasets


def _from_folder(root: Path, split: str | None) -> Any:
    """The dataset in a folder: what ``save_to_disk`` wrote, or Parquet files."""
    library = _library()
    try:
        if (root / "dataset_dict.json").is_file():
            splits = json.loads((root / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
            for name in splits:
                _check_state(inside(root, str(name)))
            return library.load_from_disk(str(root))
        if (root / "state.json").is_file():
            _check_state(root)
            return library.load_from_disk(str(root))
        files = list_files(root, (".parquet",))
        if not files:
            raise DatasetError(
                f"huggingface: {root} has neither what save_to_disk writes (dataset_info.json, state.json) nor "
                "Parquet files"
            )
        by_split: dict[str, list[str]] = {}
        for file in files:
            by_split.setdefault(_split_of(file), []).append(file)
        chosen = _choose(list(by_split), split)
        return _from_parquet(library, [inside(root, file) for file in by_split[chosen]])
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException, library.exceptions.DatasetsError) as error:
        if isinstance(error, UsageError):
            raise
        raise DatasetError(f"huggingface: {root.name} cannot be read ({type(error).__name__}: {error})") from error


def _from_parquet(library: Any, files: Sequence[Path]) -> Any:
    """The library's own reader: it keeps a memory-mapped copy, here below this package's cache."""
    kept = cache_folder()
    quiet = library.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        return library.Dataset.from_parquet(
            list(map(str, files)), cache_dir=None if kept is None else str(kept / "huggingface")
        )
    finally:
        if not quiet:
            library.enable_progress_bars()


def _check_state(folder: Path) -> None:
    """A saved dataset names its files; they may only lie in its folder."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    for entry in [*state["_data_files"], *([state["_indices_files"]] if state.get("_indices_files") else [])]:
        for one in entry if isinstance(entry, list) else [entry]:
            inside(folder, str(one["filename"]))


def _split_of(file: str) -> str:
    """``data/train-00000-of-00001.parquet`` and ``train.parquet`` belong to ``train``."""
    stem = file.rpartition("/")[2].removesuffix(".parquet")
    return stem.partition("-")[0]


def _choose(there: Sequence[str], split: str | None) -> str:
    if split is not None:
        if split not in there:
            raise UnknownNameError("split", split, there)
        return split
    if len(there) != 1:
        raise UsageError(f"huggingface: several splits ({', '.join(there)}); pass split=")
    return there[0]


def _one_split(dataset: Any, split: str | None) -> Any:
    library = _library()
    if isinstance(dataset, library.DatasetDict):
        dataset = dataset[_choose(list(dataset), split)]
    if not isinstance(dataset, library.Dataset):
        raise UsageError(
            f"huggingface: expected a datasets.Dataset, a DatasetDict or a folder, got {type(dataset).__name__}"
        )
    if not len(dataset):
        raise DatasetError("huggingface: the dataset has no rows")
    return dataset


def _with_bytes(table: Any, columns: Sequence[str]) -> Any:
    """The dataset with its pictures as bytes or paths, undecoded."""
    library = _library()
    for column in columns:
        if isinstance(table.features[column], library.Image):
            table = table.cast_column(column, library.Image(decode=False))
    return table.with_format(None)


def _annotation_columns(
    mask: str | Mapping[str, str] | None, heatmap: str | Mapping[str, str] | None, boxes: str | Mapping[str, str] | None
) -> dict[str, tuple[str, str]]:
    """Region -> (kind, column)."""
    found: dict[str, tuple[str, str]] = {}
    for kind, given, alone in (("mask", mask, "object"), ("heatmap", heatmap, "attention"), ("boxes", boxes, "object")):
        if given is None or given == "":
            continue
        if isinstance(given, str) and ":" not in given:
            region = f"{alone}_box" if kind == "boxes" and alone in found else alone
            pairs: tuple[tuple[str, str], ...] = ((region, given),)
        else:
            pairs = as_pairs(given, kind)
        for region, column in pairs:
            if region in found:
                raise UsageError(f"region {region!r} has two columns: {found[region][1]!r} and {column!r}")
            found[region] = (kind, column)
    if not found:
        raise UsageError("huggingface: name the column of annotations: mask=, boxes= or heatmap=")
    return found


def _labels(column: str, feature: Any, values: Sequence[Any]) -> tuple[list[str], list[int | None]]:
    given = [value for value in values if value is not None]
    if all(isinstance(value, str) for value in given):
        names = sorted(set(given))
        index_of = {name: place for place, name in enumerate(names)}
        return names, [None if value is None else index_of[value] for value in values]
    if not all(isinstance(value, int) for value in given):
        raise DatasetError(
            f"huggingface: column {column} holds {type(next(iter(given))).__name__}; expected one class an image, or "
            "label=none"
        )
    labels = [None if value is None or value < 0 else int(value) for value in values]
    top = max((label for label in labels if label is not None), default=-1)
    known = getattr(feature, "names", None)
    names = list(known) if known else [str(number) for number in range(top + 1)]
    if top >= len(names):
        raise DatasetError(f"huggingface: label {top} in column {column}, which has {len(names)} classes")
    return names, labels


def _ids(values: Sequence[Any] | None, count: int) -> list[str]:
    if values is None:
        width = len(str(count - 1))
        return [f"{place:0{width}d}" for place in range(count)]
    ids = [str(value) for value in values]
    if len(set(ids)) < count or any(value is None for value in values):
        raise DatasetError("huggingface: the column of ids has empty or repeated values")
    return ids


def _attribute(column: str, values: Sequence[Any]) -> list[AttributeValue]:
    if not all(value is None or isinstance(value, (str, int, float, bool)) for value in values):
        raise UsageError(f"attributes: column {column} holds no single values")
    return list(values)


def _whole_numbers(given: str | Sequence[int] | None) -> tuple[int, ...]:
    try:
        parts = as_names(given, "mask_values") if isinstance(given, str) or given is None else given
        return tuple(int(part) for part in parts)
    except ValueError:
        raise UsageError(f"mask_values: expected whole numbers joined by +, got {given!r}") from None


def _field(value: Any, column: str) -> Any:
    """``value``, or the field after the dot, of an object with lists or of a list of objects."""
    _, dot, name = column.partition(".")
    if not dot or value is None:
        return value
    try:
        return [one[name] for one in value] if isinstance(value, list) else value[name]
    except (KeyError, TypeError):
        raise DatasetError(f"huggingface: column {column}: no field {name!r}") from None


def _array(value: Any, column: str) -> NDArray[np.generic]:
    try:
        numbers = np.asarray(value)
    except ValueError:
        numbers = np.empty(0)
    if numbers.dtype.kind not in "biuf" or numbers.ndim != 2:
        raise DatasetError(f"column {column}: expected pictures or arrays (height, width)")
    return numbers


def _holds_pictures(kind: Any) -> bool:
    """Whether a column is of pictures as the library keeps them: bytes, or the path of a file."""
    return pa.types.is_struct(kind) and {field.name for field in kind} == {"bytes", "path"}


def _file_names(pictures: Any) -> list[str | None]:
    """The last part of each path: the folders above it are those of one machine."""
    return [None if path is None else Path(path).name for path in pictures.field("path").to_pylist()]


def _paths_alone(pictures: Any) -> list[str]:
    """The paths of pictures whose bytes are not in the table."""
    alone = pc.and_(pc.is_null(pictures.field("bytes")), pc.is_valid(pictures.field("path")))
    paths: list[str] = pictures.field("path").filter(alone).to_pylist()
    return paths


def _with_file_names(pictures: Any) -> Any:
    """The same with :func:`_file_names` for paths."""
    columns = {"bytes": pictures.field("bytes"), "path": pa.array(_file_names(pictures), pictures.type["path"].type)}
    kinds = list(pictures.type)
    return pa.StructArray.from_arrays([columns[kind.name] for kind in kinds], fields=kinds, mask=pictures.is_null())


def _digest(array: Any) -> bytes:
    """A digest of an Arrow array's values, whatever its buffers look like."""
    sha = hashlib.sha256(f"{array.type} {len(array)}".encode())
    sha.update(np.asarray(array.is_null().to_numpy(zero_copy_only=False)).tobytes())
    if isinstance(array, pa.ExtensionArray):
        sha.update(_digest(array.storage))
    elif pa.types.is_struct(array.type):
        for field in array.flatten():
            sha.update(_digest(field))
    elif isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        sha.update(pc.fill_null(pc.list_value_length(array), -1).to_numpy(zero_copy_only=False).tobytes())
        sha.update(_digest(array.flatten()))
    elif pa.types.is_primitive(array.type) and not pa.types.is_boolean(array.type):
        sha.update(array.drop_null().to_numpy(zero_copy_only=False).tobytes())
    else:
        for value in array.drop_null().to_pylist():
            content = value if isinstance(value, bytes) else str(value).encode()
            sha.update(len(content).to_bytes(8, "little"))
            sha.update(content)
    return sha.digest()
