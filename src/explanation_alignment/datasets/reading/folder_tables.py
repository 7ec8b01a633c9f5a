"""Tables that people keep beside their images: CSV or JSON, with labels, boxes and polygons."""

from __future__ import annotations

import io
import json
import re
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from explanation_alignment.datasets.reading.shapes import SHAPE_SCHEMA, shape_row
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError

__all__ = ["Columns", "Parsed", "has_shapes", "image_column", "read_json_file", "read_records", "read_shape_records"]

_IMAGE: Final = ("image", "filename", "file_name", "file", "image_path", "path", "image_id", "image_name", "img")
_LABEL: Final = ("label", "class", "category", "class_name", "target")
_REGION: Final = ("region",)
_POLYGON: Final = ("polygon", "points", "polygons")
#: The names four columns of a box go by, and what they are.
_BOXES: Final = (
    (("x0", "y0", "x1", "y1"), "xyxy"),
    (("xmin", "ymin", "xmax", "ymax"), "xyxy"),
    (("x_min", "y_min", "x_max", "y_max"), "xyxy"),
    (("left", "top", "right", "bottom"), "xyxy"),
    (("x1", "y1", "x2", "y2"), "xyxy"),
    (("x", "y", "width", "height"), "xywh"),
    (("x", "y", "w", "h"), "xywh"),
)
_LISTED_BOX: Final = ("box", "bbox", "boxes")
#: What may stand around the numbers of one cell.
_BETWEEN: Final = re.compile(r"[\[\](){}<>,;|\s\"']+")
_SEPARATORS: Final = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold what; None where it is found by its name.

    Args:
        image: the image's path or name.
        label: its class; ``"none"`` for no column.
        region: the region a row's shape belongs to; ``"none"`` for no column.
        box: four columns, or one that holds four numbers.
        polygon: one column that holds x, y, x, y, ...
        box_format: ``xyxy`` or ``xywh``; None to tell by the columns' names.
        fractions: whether numbers are shares of the image's width and height.
    """

    image: str | None = None
    label: str | None = None
    region: str | None = None
    box: tuple[str, ...] = ()
    polygon: str | None = None
    box_format: str | None = None
    fractions: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file of annotations says.

    Args:
        images: a row an image: image (as written), label (text or null), then further columns, as text.
        shapes: ``SHAPE_SCHEMA``.
    """

    images: pl.DataFrame
    shapes: pl.DataFrame


def read_json_file(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DatasetError: it cannot be read, is not UTF-8 or no JSON.
    """
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path.name}: no readable JSON ({type(error).__name__}: {error})") from None


def read_records(path: Path) -> pl.DataFrame:
    """A table of text from CSV, JSON (a list of objects) or JSON lines.

    CSV may be separated by ``,`` ``;`` tab or ``|``, told by its first line. Lists in JSON stay JSON; empty cells are
    null.

    Raises:
        DatasetError: it cannot be read, is not UTF-8, has no rows, or is no such table.
    """
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_objects(read_json_file(path), path.name)
    text = _text(path)
    if suffix == ".jsonl":
        try:
            return _from_objects([json.loads(line) for line in text.splitlines() if line.strip()], path.name)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path.name}: no readable JSON lines ({type(error).__name__}: {error})") from None
    header = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    try:
        table = pl.read_csv(io.BytesIO(text.encode()), separator=separator, infer_schema=False)
    except (pl.exceptions.PolarsError, ValueError) as error:
        why = next(iter(str(error).splitlines()), "")
        raise DatasetError(f"{path.name}: no readable table ({why})") from None
    names = {name: name.strip() for name in table.columns}
    twice = next((name for name, count in Counter(names.values()).items() if count > 1), None)
    if twice is not None:
        raise DatasetError(f"{path.name}: its first line names column {twice!r} twice; give each its own name")
    table = table.rename(names)
    table = table.select(pl.all().str.strip_chars().replace("", None))
    if not len(table):
        raise DatasetError(f"{path.name}: a table without rows")
    return table


def read_shape_records(path: Path, columns: Columns) -> Parsed:
    """Images with their labels and shapes from a table with a row a shape (or a row an image, without shapes).

    A row without any coordinate says only that the image is there. Box and polygon in one row are both taken.

    Raises:
        UnknownNameError: a column named is not there.
        DatasetError: no image column, or an image with two labels.
    """
    table = read_records(path)
    image = _column(table, columns.image, _IMAGE, "image", path.name)
    if image is None:
        raise DatasetError(
            f"{path.name}: no column of images among {', '.join(table.columns)}; name it with image_column="
        )
    used = {image}
    label = _optional(table, columns.label, _LABEL, "label", path.name)
    region = _optional(table, columns.region, _REGION, "region", path.name)
    box, box_format = _box_columns(table, columns, path.name)
    polygon = _column(table, columns.polygon, _POLYGON, "polygon", path.name)
    used |= {name for name in (label, region, polygon, *box) if name}
    table = table.filter(pl.col(image).is_not_null())
    rest = [name for name in table.columns if name not in used]
    images = _one_row_an_image(table, image, label, rest, path.name)
    shapes: list[tuple[Any, ...]] = []
    for row in table.iter_rows(named=True):
        name = row[region] if region else None
        shapes += _shapes_of(row, row[image], name or "object", box, box_format, polygon, columns.fractions)
    drawn = pl.DataFrame(shapes, schema=SHAPE_SCHEMA, orient="row")
    if len(drawn) and not columns.fractions and _all_within_one(drawn):
        raise DatasetError(
            f"{path.name}: all coordinates are at most 1; if they are shares of the image's size, "
            "pass coordinates=fractions"
        )
    return Parsed(images, drawn)


def image_column(table: pl.DataFrame) -> str | None:
    """The column of a table that names images, by its own name; None where there is none."""
    return _column(table, None, _IMAGE, "image", "")


def has_shapes(table: pl.DataFrame, columns: Columns) -> bool:
    """Whether a table has columns of boxes or polygons."""
    box, _ = _box_columns(table, columns, "the table")
    return bool(box) or _column(table, columns.polygon, _POLYGON, "polygon", "the table") is not None


def _all_within_one(shapes: pl.DataFrame) -> bool:
    largest = shapes.filter(pl.col("fault").is_null())["numbers"].list.max().max()
    return isinstance(largest, float) and 0 < largest <= 1


def _one_row_an_image(
    table: pl.DataFrame, image: str, label: str | None, rest: Sequence[str], file: str
) -> pl.DataFrame:
    """Image, label and those other columns that say the same in all rows of an image."""
    grouped = table.group_by(image, maintain_order=True)
    if label:
        kinds = grouped.agg(pl.col(label).drop_nulls().unique(maintain_order=True))
        several = kinds.filter(pl.col(label).list.len() > 1)
        if len(several):
            name, values = several.row(0)
            raise DatasetError(
                f"{file}: image {name!r} has several labels ({', '.join(values[:3])}); if that column names "
                f"the kind of each shape, pass label_column=none and region_column={label}"
            )
    steady = (
        [name for name in rest if grouped.agg(pl.col(name).n_unique())[name].max() == 1] if len(table) else list(rest)
    )
    first = grouped.agg(
        *([pl.col(label).drop_nulls().first().alias("__label")] if label else []), *(pl.col(n).first() for n in steady)
    )
    given = pl.col("__label") if label else pl.lit(None, dtype=pl.String())
    return first.select(
        pl.col(image).alias("image"), given.alias("label"), *(n for n in steady if n not in ("image", "label"))
    )


def _shapes_of(
    row: Mapping[str, str | None],
    image: str,
    region: str,
    box: Sequence[str],
    box_format: str,
    polygon: str | None,
    fractions: bool,
) -> list[tuple[Any, ...]]:
    found = []
    if len(box) == 4:
        texts = [row[name] for name in box]
        if any(text is not None for text in texts):
            found.append(_box(image, region, [text or "" for text in texts], box_format, fractions))
    elif len(box) == 1 and row[box[0]] is not None:
        numbers = _numbers(row[box[0]] or "")
        groups = [numbers[place : place + 4] for place in range(0, len(numbers), 4)]
        if numbers:
            found += [_box(image, region, group, box_format, fractions) for group in groups]
    if polygon and row[polygon] is not None:
        found += _polygons(image, region, row[polygon] or "", fractions)
    return found


def _numbers(text: str) -> list[str]:
    """What stands between brackets, separators and spaces: numbers, if it is in order; ``10-20`` is none."""
    return _BETWEEN.sub(" ", text).split()


def _number(text: str) -> float:
    """As ``float``, but for ``1_0``, which is no number outside of Python."""
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _box(image: str, region: str, texts: Sequence[str], box_format: str, fractions: bool) -> tuple[Any, ...]:
    fault = None
    numbers: list[float] = []
    try:
        numbers = [_number(text) for text in texts]
    except ValueError:
        fault = f"box ({', '.join(texts)}): expected four numbers"
    if fault is None and len(numbers) != 4:
        fault = f"box ({', '.join(texts)}): expected four numbers"
    if fault is None and box_format == "xywh":
        numbers = [numbers[0], numbers[1], numbers[0] + numbers[2], numbers[1] + numbers[3]]
    return shape_row(image, region, "box", numbers, fractions=fractions, fault=fault)


def _polygons(image: str, region: str, text: str, fractions: bool) -> list[tuple[Any, ...]]:
    """Polygons in a cell: JSON lists, nested as ``[[x, y], ...]`` or flat, one or several; or numbers in plain text."""
    try:
        content = json.loads(text) if text.startswith("[") else None
    except (ValueError, RecursionError):
        content = None
    outlines: list[list[Any]]
    if content is None:
        outlines = [list(_numbers(text))]
    elif content and isinstance(content[0], list) and content[0] and isinstance(content[0][0], list):
        outlines = [[value for point in outline for value in point] for outline in content]
    elif content and isinstance(content[0], list) and len(content[0]) != 2:
        outlines = content
    elif content and isinstance(content[0], list):
        outlines = [[value for point in content for value in (point if isinstance(point, list) else [point])]]
    else:
        outlines = [content]
    rows = []
    for outline in outlines:
        try:
            numbers = [_number(value) if isinstance(value, str) else float(value) for value in outline]
            fault = f"polygon of {len(numbers)} numbers: expected x and y in turn" if len(numbers) % 2 else None
        except (TypeError, ValueError):
            numbers, fault = [], f"polygon {text[:40]!r}: expected numbers"
        rows.append(shape_row(image, region, "polygon", numbers, fractions=fractions, fault=fault))
    return rows


def _box_columns(table: pl.DataFrame, columns: Columns, file: str) -> tuple[tuple[str, ...], str]:
    lowered = {name.lower(): name for name in table.columns}
    if columns.box:
        if len(columns.box) not in (1, 4):
            raise UsageError(
                f"box_columns: expected four columns (or one that holds four numbers), got {len(columns.box)}"
            )
        for name in columns.box:
            if name not in table.columns:
                raise UnknownNameError(f"column of {file}", name, table.columns)
        known = next((kind for names, kind in _BOXES if tuple(n.lower() for n in columns.box) == names), "xyxy")
        return columns.box, columns.box_format or known
    for names, kind in _BOXES:
        if all(name in lowered for name in names):
            return tuple(lowered[name] for name in names), columns.box_format or kind
    listed = next((lowered[name] for name in _LISTED_BOX if name in lowered), None)
    return ((listed,) if listed else ()), columns.box_format or "xyxy"


def _optional(table: pl.DataFrame, given: str | None, known: Sequence[str], what: str, file: str) -> str | None:
    return None if given == "none" else _column(table, given, known, what, file)


def _column(table: pl.DataFrame, given: str | None, known: Sequence[str], what: str, file: str) -> str | None:
    if given is not None:
        if given not in table.columns:
            raise UnknownNameError(f"column of {file}", given, table.columns)
        return given
    lowered = {name.lower(): name for name in table.columns}
    return next((lowered[name] for name in known if name in lowered), None)


def _from_objects(content: Any, file: str) -> pl.DataFrame:
    if not isinstance(content, list) or not content or not all(isinstance(entry, dict) for entry in content):
        raise DatasetError(f"{file}: expected a list of objects, one an image or shape")
    names = list(dict.fromkeys(str(name) for entry in content for name in entry))
    rows = [[_as_text(entry.get(name)) for name in names] for entry in content]
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String()), orient="row")


def _as_text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value)


def _text(path: Path) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise DatasetError(f"{path.name}: no regular file")
        content = path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"no file {path.name!r} in {path.parent}") from None
    except OSError as error:
        raise DatasetError(f"{path.name}: cannot be read ({error.strerror or error})") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        encoding = "utf-8-sig"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DatasetError(f"{path.name}: line {line} is not UTF-8 text; save the file as UTF-8") from None
    if not text.strip():
        raise DatasetError(f"{path.name}: an empty file")
    return text
