"""COCO's annotation files as tables, read entry by entry: 450 MB of text never become Python objects at once."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from explanation_alignment.datasets.reading.files import cached_table
from explanation_alignment.errors import DatasetError

__all__ = ["CocoTables", "read_coco"]

_LISTS: Final = ("images", "annotations", "categories")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder()
_SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "images": {"image_id": pl.Int64(), "file": pl.String(), "width": pl.Int64(), "height": pl.Int64()},
    "annotations": {
        "image_id": pl.Int64(),
        "category_id": pl.Int64(),
        "crowd": pl.Boolean(),
        "area": pl.Float64(),
        "x": pl.Float64(),
        "y": pl.Float64(),
        "w": pl.Float64(),
        "h": pl.Float64(),
        "segmentation": pl.String(),
    },
    "categories": {"category_id": pl.Int64(), "name": pl.String(), "supercategory": pl.String()},
}


@dataclass(frozen=True, slots=True)
class CocoTables:
    """The three lists of an annotation file, in its order.

    Args:
        images: image_id, file (with forward slashes), width, height (null where the file does not say).
        annotations: image_id, category_id, crowd, area, x, y, w, h (pixels; NaN where they are missing or no numbers),
            segmentation (its JSON without spaces; null where there is none).
        categories: category_id, name, supercategory, sorted by category_id.
    """

    images: pl.DataFrame
    annotations: pl.DataFrame
    categories: pl.DataFrame


def read_coco(path: Path) -> CocoTables:
    """Read an annotation file of COCO's instances; what was read is kept until the file changes.

    Raises:
        DatasetError: it is no such file; the message says which entry is wrong.
    """
    parse = functools.cache(lambda: _parse(path))

    def table(name: str) -> pl.DataFrame:
        return cached_table(f"coco {name}", [path], lambda: parse()[name])

    return CocoTables(table("images"), table("annotations"), table("categories").sort("category_id"))


def _parse(path: Path) -> dict[str, pl.DataFrame]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path.name}: not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise DatasetError(f"{path.name}: cannot be read ({error.strerror or error})") from error
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _LISTS}
    readers: dict[str, Callable[[dict[str, Any]], tuple[Any, ...]]] = {
        "images": _image,
        "annotations": _annotation,
        "categories": _category,
    }
    found = set()
    try:
        for name, entry in _entries(text):
            found.add(name)
            if entry is _EMPTY:
                continue
            try:
                rows[name].append(readers[name](entry))
            except (TypeError, KeyError, AttributeError, ValueError, OverflowError) as error:
                why = f"{type(error).__name__}: {error}"
                raise DatasetError(
                    f"{path.name}: {name}[{len(rows[name])}] is no entry of a COCO file ({why})"
                ) from None
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path.name}: no JSON ({error})") from None
    except RecursionError:
        raise DatasetError(f"{path.name}: no COCO file, its JSON is nested too deeply") from None
    missing = [name for name in _LISTS if name not in found]
    if missing:
        raise DatasetError(f"{path.name}: no COCO file of instances, it has no list {', '.join(map(repr, missing))}")
    return {name: pl.DataFrame(rows[name], schema=_SCHEMAS[name], orient="row") for name in _LISTS}


_EMPTY: Final = object()


def _entries(text: str) -> Iterator[tuple[str, Any]]:
    """The entries of the three lists of a JSON object, one by one; (name, _EMPTY) first for each list there is."""
    at = _expect(text, 0, "{")
    if text[_next(text, at)] == "}":
        return
    while True:
        key, at = _DECODER.raw_decode(text, _next(text, at))
        at = _next(text, _expect(text, at, ":"))
        if key in _LISTS and text[at] == "[":
            yield key, _EMPTY
            at = _next(text, at + 1)
            while text[at] != "]":
                entry, at = _DECODER.raw_decode(text, at)
                yield key, entry
                at = _next(text, at)
                if text[at] == ",":
                    at = _next(text, at + 1)
                elif text[at] != "]":
                    raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at += 1
        else:
            _, at = _DECODER.raw_decode(text, at)
        at = _next(text, at)
        if text[at] == "}":
            return
        at = _expect(text, at, ",")


def _next(text: str, at: int) -> int:
    """The place of the next character that is no space."""
    found = _SPACE.match(text, at)
    place = found.end() if found else at
    if place >= len(text):
        raise json.JSONDecodeError("File ends too early", text, len(text))
    return place


def _expect(text: str, at: int, character: str) -> int:
    at = _next(text, at)
    if text[at] != character:
        raise json.JSONDecodeError(f"Expecting {character!r}", text, at)
    return at + 1


def _image(entry: dict[str, Any]) -> tuple[Any, ...]:
    name = entry["file_name"]
    if not isinstance(name, str) or not name:
        raise TypeError("file_name is no text")
    return _whole(entry["id"]), name.replace("\\", "/"), _length(entry.get("width")), _length(entry.get("height"))


def _annotation(entry: dict[str, Any]) -> tuple[Any, ...]:
    box = entry.get("bbox")
    numbers = [_number(value) for value in box] if isinstance(box, list) and len(box) == 4 else [math.nan] * 4
    segmentation = entry.get("segmentation")
    return (
        _whole(entry["image_id"]),
        _whole(entry["category_id"]),
        bool(entry.get("iscrowd", 0)),
        _number(entry.get("area")),
        *numbers,
        json.dumps(segmentation, separators=(",", ":")) if segmentation else None,
    )


def _category(entry: dict[str, Any]) -> tuple[Any, ...]:
    return _whole(entry["id"]), str(entry["name"]), str(entry.get("supercategory") or "")


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) >= 2**63:
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _length(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 2**31 else None


def _number(value: Any) -> float:
    known = type(value) in (int, float) and abs(value) < 1e300
    return float(value) if known else math.nan
