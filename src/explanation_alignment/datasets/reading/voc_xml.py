"""PASCAL VOC's annotation files: read safely, each once, into columns.

ImageNet's box annotations have the same form. Elements below ``annotation/object`` only are read, so that the parts of
a person (``object/part``) do not count as objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from xml.parsers import expat

import polars as pl
import pyarrow as pa

from explanation_alignment.datasets.reading.files import cached_table
from explanation_alignment.datasets.reading.image_index import NOT_READ, states_digest
from explanation_alignment.errors import DatasetError

__all__ = ["XmlAnnotation", "XmlObject", "annotation_table", "parse_annotation"]

#: A larger annotation file is refused; real ones have a few kilobytes.
MAX_BYTES: Final = 8_000_000
_SIDES: Final = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class XmlObject:
    """One ``<object>``.

    Args:
        name: its class, as written.
        box: xmin, ymin, xmax, ymax as written; finite.
        difficult: whether it is marked so.
    """

    name: str
    box: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True, slots=True)
class XmlAnnotation:
    """What an annotation file says.

    Args:
        width: the image's width in pixels, None where it is not told or 0.
        height: likewise.
        objects: in the file's order.
    """

    width: int | None
    height: int | None
    objects: tuple[XmlObject, ...]


def parse_annotation(content: bytes) -> XmlAnnotation:
    """Read one annotation file.

    Document types, and with them entities, are refused, so that a small file cannot become a large one or name another
    file. Text that is not valid in its encoding is read as Latin-1, as old files need.

    Args:
        content: the file's bytes.

    Raises:
        DatasetError: it is no such file, is too large, or an object has no name or no box of four finite numbers.
    """
    if len(content) > MAX_BYTES:
        raise DatasetError(f"{len(content):,} bytes, more than {MAX_BYTES:,} are not read")
    try:
        root = _parse(content, None)
    except ElementTree.ParseError as error:
        if error.code != _INVALID_TOKEN or _is_utf8(content):
            raise DatasetError(f"no well-formed XML ({error})") from None
        try:
            root = _parse(content, "iso-8859-1")
        except ElementTree.ParseError as again:
            raise DatasetError(f"no well-formed XML ({again})") from None
    except (LookupError, ValueError) as error:  # an encoding there is not, or of several bytes
        raise DatasetError(f"no readable XML ({error})") from None
    if root.tag != "annotation":
        raise DatasetError(f"expected <annotation>, got <{root.tag}>")
    size = root.find("size")
    width, height = (None, None) if size is None else (_read_side(size, "width"), _read_side(size, "height"))
    objects = tuple(_read_object(item, number) for number, item in enumerate(root.iterfind("object"), start=1))
    return XmlAnnotation(width, height, objects)


_INVALID_TOKEN: Final = expat.errors.codes[expat.errors.XML_ERROR_INVALID_TOKEN]


def _parse(content: bytes, encoding: str | None) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_PlainBuilder(), encoding=encoding)
    parser.feed(content)
    root: ElementTree.Element = parser.close()
    return root


class _PlainBuilder(ElementTree.TreeBuilder):
    """Builds elements, and refuses document types, without which there are no entities to expand."""

    def doctype(self, *_: object) -> None:
        """Called where a document type begins."""
        raise DatasetError("has a document type declaration, which annotation files do not need and is not read")


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_object(item: ElementTree.Element, number: int) -> XmlObject:
    name = _text(item, "name")
    if not name:
        raise DatasetError(f"object {number} has no name")
    corners = item.find("bndbox")
    if corners is None:
        raise DatasetError(f"object {number} ({name}) has no bndbox")
    box = []
    for side in _SIDES:
        text = _text(corners, side)
        value = _to_float(text)
        if not math.isfinite(value):
            raise DatasetError(f"object {number} ({name}): expected a number as {side}, got {text!r}")
        box.append(value)
    return XmlObject(name, (box[0], box[1], box[2], box[3]), _text(item, "difficult") not in ("", "0", "false"))


def _text(parent: ElementTree.Element, tag: str) -> str:
    """The text of the first child of that name; empty where there is none."""
    found = parent.find(tag)
    return "" if found is None else (found.text or "").strip()


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read_side(size: ElementTree.Element, side: str) -> int | None:
    value = _to_float(_text(size, side))
    return int(value) if math.isfinite(value) and value >= 1 else None


def annotation_table(folder: Path, states: pl.DataFrame) -> pl.DataFrame:
    """All annotation files of a folder, parsed once and kept until one of them changes.

    Args:
        folder: where they are.
        states: which, from :func:`~explanation_alignment.datasets.reading.image_index.folder_states`.

    Returns:
        A row a file, in the order of ``states``: file, width, height, names (a list), boxes (a list of four numbers an
        object), difficult (a list), error (why it could not be read, else null).
    """
    return cached_table(f"voc_xml {folder.absolute()} {states_digest(states)}", [], lambda: _parse_all(folder, states))


def _parse_all(folder: Path, states: pl.DataFrame) -> pl.DataFrame:
    columns: dict[str, list[object]] = {name: [] for name in _SCHEMA.names}

    for file, size in states.select("file", "bytes").iter_rows():
        parsed, error = XmlAnnotation(None, None, ()), None
        try:
            if size < 0:
                raise DatasetError(NOT_READ)
            with open(f"{folder}/{file}", "rb", buffering=0) as handle:  # noqa: PTH123 - 50,000 paths take their time
                parsed = parse_annotation(handle.read(MAX_BYTES + 1))
        except OSError as failed:
            error = f"cannot be read ({failed.strerror or type(failed).__name__})"
        except DatasetError as refused:
            error = str(refused)
        columns["file"].append(file)
        columns["width"].append(parsed.width)
        columns["height"].append(parsed.height)
        columns["names"].append([item.name for item in parsed.objects])
        columns["boxes"].append([side for item in parsed.objects for side in item.box])
        columns["difficult"].append([item.difficult for item in parsed.objects])
        columns["error"].append(error)
    # pyarrow, since polars takes seconds over 150,000 small lists
    table = pl.from_arrow(pa.table(columns, schema=_SCHEMA))
    assert isinstance(table, pl.DataFrame)
    return table


_SCHEMA: Final = pa.schema(
    {
        "file": pa.string(),
        "width": pa.int64(),
        "height": pa.int64(),
        "names": pa.list_(pa.string()),
        "boxes": pa.list_(pa.float64()),
        "difficult": pa.list_(pa.bool_()),
        "error": pa.string(),
    }
)
