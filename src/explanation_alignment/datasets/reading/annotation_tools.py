"""Files of annotation tools: labelme, the VGG Image Annotator (version 2) and Label Studio."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import polars as pl

from explanation_alignment.datasets.reading.files import IMAGE_SUFFIXES
from explanation_alignment.datasets.reading.folder_tables import Parsed, read_json_file, read_records
from explanation_alignment.datasets.reading.shapes import SHAPE_SCHEMA, shape_row
from explanation_alignment.errors import DatasetError, UnknownNameError

__all__ = ["TOOLS", "kind_of_json", "read_label_studio", "read_labelme", "read_via"]

#: Fields of a task that say nothing about its image.
_STUDIO_KEEPS: Final = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time")
#: The annotation tools whose files are read.
TOOLS: Final = ("labelme", "via", "label_studio")
_VIA_COLUMNS: Final = ("filename", "file_attributes", "region_shape_attributes", "region_attributes")
_REGION_KEYS: Final = ("region", "label", "name", "class", "type")
_LABEL_KEYS: Final = ("label", "class", "category", "choice")
_UPLOAD: Final = re.compile(r"[0-9a-f]{8}-(.+)")


def kind_of_json(content: Any) -> str | None:
    """Which tool wrote a JSON file: one of ``TOOLS``, ``coco``, ``records`` (a plain list of objects), or None."""
    if isinstance(content, dict):
        if "shapes" in content and "imagePath" in content:
            return "labelme"
        if {"images", "annotations", "categories"} <= content.keys():
            return "coco"
        if "_via_img_metadata" in content:
            return "via"
        entries = list(content.values())
        if entries and all(isinstance(entry, dict) and {"filename", "regions"} <= entry.keys() for entry in entries):
            return "via"
        return None
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        if any(isinstance(entry.get("annotations"), list) and "data" in entry for entry in content):
            return "label_studio"
        if any(_is_studio_result(value) for entry in content for value in entry.values()):
            return "label_studio"
        return "records"
    return None


def _is_studio_result(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) and "original_width" in one for one in value)


def read_labelme(files: Iterable[tuple[str, Path]], *, region_column: str | None, label_column: str | None) -> Parsed:
    """labelme: a JSON file an image.

    Shapes: polygon, rectangle (two corners in any order), circle, mask; points and lines have no area. A file's true
    flag gives the label where there is exactly one; every flag is also a column.

    Args:
        files: (path below the folder, path), sorted. The image is the one ``imagePath`` names, next to the file.
        region_column: ``"none"`` puts all shapes into one region; else a shape's own label is its region.
        label_column: ``"none"`` takes no label from the flags.

    Raises:
        DatasetError: a file cannot be read or is none of labelme's.
    """
    rows = _Rows()
    for relative, path in files:
        content = read_json_file(path)
        if kind_of_json(content) != "labelme" or not isinstance(content["shapes"], list):
            raise DatasetError(f"{relative}: no file of labelme's (it has no imagePath and shapes)")
        flags = content.get("flags")
        flags = flags if isinstance(flags, dict) else {}
        true = [name for name, value in flags.items() if value is True]
        label = true[0] if len(true) == 1 and label_column != "none" else None
        name = str(content["imagePath"]).replace("\\", "/").rpartition("/")[2]
        if not name.lower().endswith(IMAGE_SUFFIXES):  # some versions wrote the file's own name there
            name = relative.rpartition("/")[2].removesuffix(".json")
        image = f"{relative.rpartition('/')[0]}/{name}".lstrip("/")
        rows.image(image, label, {str(key): str(value).lower() for key, value in flags.items()})
        size = (_length(content.get("imageWidth")), _length(content.get("imageHeight")))
        for shape in content["shapes"]:
            named = shape.get("label") if isinstance(shape, dict) else None
            rows.shape(image, None if region_column == "none" else named, _guarded(_labelme_shape, shape), size)
    return rows.parsed()


def _labelme_shape(shape: Mapping[str, Any]) -> tuple[str, list[float], dict[str, Any]]:
    points = [[float(x), float(y)] for x, y in shape["points"]]
    flat = [value for point in points for value in point]
    kind = shape.get("shape_type") or "polygon"
    if kind == "rectangle" and len(points) == 2:
        (xa, ya), (xb, yb) = points
        return "box", [min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)], {}
    if kind == "circle" and len(points) == 2:
        radius = math.dist(points[0], points[1])
        return "ellipse", [*points[0], radius, radius, 0.0], {}
    if kind == "mask":
        return "bitmap", flat[:2], {"text": str(shape["mask"])}
    if kind in ("point", "points", "line", "linestrip"):
        return "nothing", [], {}
    if kind in ("polygon", "rectangle", "oriented_rectangle"):
        return "polygon", flat, {}
    raise DatasetError(f"labelme shape {kind!r} is not read; export it as polygon or mask")


def read_via(path: Path, *, region_column: str | None, label_column: str | None) -> Parsed:
    """VGG Image Annotator 2: a project (JSON), or annotations exported as JSON or CSV.

    Args:
        path: the file.
        region_column: the region attribute that names a shape's region; None: its only one, or one called region,
            label, name, class or type; ``"none"``: all shapes are one region.
        label_column: the file attribute that is an image's label; None: one called label, class or category.

    Raises:
        DatasetError: the file is none of VIA 2's.
        UnknownNameError: no region or file has such an attribute.
    """
    entries = _via_csv(path) if path.suffix.lower() == ".csv" else _via_json(path)
    region_keys = list(dict.fromkeys(key for _, _, shapes in entries for _, given in shapes for key in given))
    region_key = _key(region_column, region_keys, _REGION_KEYS, "region attribute", only=True)
    label_keys = list(dict.fromkeys(key for _, attributes, _ in entries for key in attributes))
    label_key = _key(label_column, label_keys, _LABEL_KEYS, "file attribute", only=False)
    rows = _Rows()
    for image, attributes, shapes in entries:
        others = {key: _word(value) for key, value in attributes.items() if key != label_key}
        rows.image(image, _word(attributes.get(label_key)) if label_key else None, others)
        for shape, given in shapes:
            rows.shape(image, _word(given.get(region_key)) if region_key else None, _guarded(_via_shape, shape))
    return rows.parsed()


def _via_json(path: Path) -> list[tuple[str, Mapping[str, Any], list[tuple[Any, Mapping[str, Any]]]]]:
    content = read_json_file(path)
    if kind_of_json(content) != "via":
        raise DatasetError(f"{path.name}: no file of the VGG Image Annotator 2 (no _via_img_metadata, no regions)")
    entries = []
    for entry in content.get("_via_img_metadata", content).values():
        if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
            raise DatasetError(f"{path.name}: an entry without filename")
        regions = entry.get("regions") or []
        listed = list(regions.values()) if isinstance(regions, dict) else regions  # version 1 numbers them
        shapes = [
            (shape.get("shape_attributes"), _mapping(shape.get("region_attributes")))
            if isinstance(shape, dict)
            else (None, {})
            for shape in listed
        ]
        entries.append((entry["filename"], _mapping(entry.get("file_attributes")), shapes))
    return entries


def _via_csv(path: Path) -> list[tuple[str, Mapping[str, Any], list[tuple[Any, Mapping[str, Any]]]]]:
    table = read_records(path)
    table = table.rename({name: name.lstrip("#") for name in table.columns})
    missing = [name for name in _VIA_COLUMNS if name not in table.columns]
    if missing:
        raise DatasetError(f"{path.name}: no CSV of the VGG Image Annotator, it has no column {missing[0]}")
    entries: dict[str, tuple[str, Mapping[str, Any], list[tuple[Any, Mapping[str, Any]]]]] = {}
    for image, attributes, shape, given in table.select(_VIA_COLUMNS).iter_rows():
        if image is None:
            continue
        _, _, shapes = entries.setdefault(image, (image, _parsed(attributes) or {}, []))
        told = _parsed(shape)
        if told != {}:
            shapes.append((told, _parsed(given) or {}))
    return list(entries.values())


def _parsed(text: str | None) -> dict[str, Any] | None:
    """A cell's JSON object; {} for an empty cell, None for anything else."""
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _via_shape(shape: Mapping[str, Any]) -> tuple[str, list[float], dict[str, Any]]:
    kind = shape["name"]
    if kind == "rect":
        x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return "box", [x, y, x + width, y + height], {}
    if kind == "circle":
        return "ellipse", [float(shape["cx"]), float(shape["cy"]), float(shape["r"]), float(shape["r"]), 0.0], {}
    if kind == "ellipse":
        numbers = [float(shape[key]) for key in ("cx", "cy", "rx", "ry")]
        return "ellipse", [*numbers, float(shape.get("theta") or 0.0)], {}
    if kind == "polygon":
        xs, ys = shape["all_points_x"], shape["all_points_y"]
        return "polygon", [float(value) for point in zip(xs, ys, strict=True) for value in point], {}
    if kind in ("point", "polyline"):
        return "nothing", [], {}
    raise DatasetError(f"VIA shape {kind!r} is not read")


def read_label_studio(path: Path, *, region_column: str | None, label_column: str | None) -> Parsed:
    """Label Studio: an export as JSON-MIN or as JSON (of each task the first annotation that was not cancelled).

    Shapes: rectangles (also turned ones), ellipses, polygons. Masks made with the brush are in a packing of its own
    and are refused: export them as PNG.

    Args:
        path: the file.
        region_column: ``"none"`` puts all shapes into one region; else a shape's first label is its region.
        label_column: the field with an image's class; None: one called label, class, category or choice that is text.

    Raises:
        DatasetError: the file is none of Label Studio's.
        UnknownNameError: no task has such a field.
    """
    content = read_json_file(path)
    if kind_of_json(content) != "label_studio":
        raise DatasetError(f"{path.name}: no export of Label Studio (JSON-MIN or JSON)")
    tasks = [_studio_task(entry, path.name) for entry in content]
    keys = list(dict.fromkeys(key for _, fields, _ in tasks for key in fields))
    label_key = _key(label_column, keys, _LABEL_KEYS, "field", only=False)
    rows = _Rows()
    for image, fields, shapes in tasks:
        others = {key: value for key, value in fields.items() if key != label_key}
        rows.image(image, fields.get(label_key) if label_key else None, others)
        for value in shapes:
            names = next((given for key, given in value.items() if key.endswith("labels") and given), None)
            named = None if region_column == "none" or not isinstance(names, list) else str(names[0])
            rows.shape(image, named, _guarded(_studio_shape, value))
    return rows.parsed()


def _studio_task(entry: Mapping[str, Any], file: str) -> tuple[str, dict[str, str], list[dict[str, Any]]]:
    fields: dict[str, str] = {}
    shapes: list[dict[str, Any]] = []
    if isinstance(entry.get("data"), dict) and isinstance(entry.get("annotations"), list):
        data = entry["data"]
        done = [made for made in entry["annotations"] if isinstance(made, dict) and not made.get("was_cancelled")]
        results = _list(done[0].get("result")) if done else []
        for result in results:
            if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
                continue
            value = {**result["value"], **{key: result.get(key) for key in ("original_width", "original_height")}}
            if result.get("type") == "choices":
                fields[str(result.get("from_name", "choice"))] = _word(value.get("choices")) or ""
            else:
                shapes.append(value)
    else:
        data = entry
        for value in entry.values():
            if _is_studio_result(value):
                shapes += [one for one in value if isinstance(one, dict)]
    image = next((data[key] for key in ("image", "img", "url") if isinstance(data.get(key), str)), None)
    if image is None:
        raise DatasetError(f"{file}: a task without the field 'image'")
    for key, value in data.items():
        if isinstance(value, (str, int, float)) and value != image and key not in _STUDIO_KEEPS:
            fields[str(key)] = str(value)
    return _studio_image(image), fields, shapes


def _studio_image(text: str) -> str:
    """The file's own name: uploads carry eight characters and a dash before it, local files a path after ``?d=``."""
    path = unquote(text.partition("?d=")[2] or text)
    name = path.rpartition("/")[2]
    uploaded = _UPLOAD.fullmatch(name)
    return uploaded.group(1) if uploaded else path


def _studio_shape(value: Mapping[str, Any]) -> tuple[str, list[float], dict[str, Any]]:
    width, height = float(value["original_width"]), float(value["original_height"])
    sized = {"size": (int(width), int(height))}
    if "points" in value:
        return "polygon", [c for x, y in value["points"] for c in (x * width / 100, y * height / 100)], sized
    if "rle" in value:
        raise DatasetError("a brush mask of Label Studio is not read; export it as PNG")
    if not {"x", "y"} <= value.keys():
        return "nothing", [], sized
    x, y = float(value["x"]) * width / 100, float(value["y"]) * height / 100
    angle = math.radians(float(value.get("rotation") or 0.0))
    if "radiusX" in value:
        radius = [float(value["radiusX"]) * width / 100, float(value["radiusY"]) * height / 100]
        return "ellipse", [x, y, *radius, angle], sized
    if value.get("width") is None or "keypointlabels" in value:
        return "nothing", [], sized
    across, down = float(value["width"]) * width / 100, float(value["height"]) * height / 100
    if angle == 0:
        return "box", [x, y, x + across, y + down], sized
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((0.0, 0.0), (across, 0.0), (across, down), (0.0, down))
    return "polygon", [c for dx, dy in corners for c in (x + dx * cos - dy * sin, y + dx * sin + dy * cos)], sized


def _guarded(
    read: Callable[[Mapping[str, Any]], tuple[str, list[float], dict[str, Any]]], shape: Any
) -> tuple[str, list[float], dict[str, Any]]:
    """A shape, or a fault: one bad shape costs its own image only."""
    try:
        return read(shape)
    except DatasetError as error:
        return "nothing", [], {"fault": str(error)}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return "nothing", [], {"fault": f"a shape that cannot be read ({type(error).__name__}: {error})"}


class _Rows:
    """Images and shapes as they are found."""

    def __init__(self) -> None:
        self._images: dict[str, tuple[str | None, dict[str, str | None]]] = {}
        self._shapes: list[tuple[Any, ...]] = []

    def image(self, name: str, label: str | None, columns: Mapping[str, str | None]) -> None:
        self._images[name] = (label, dict(columns))

    def shape(
        self,
        image: str,
        region: str | None,
        shape: tuple[str, list[float], dict[str, Any]],
        size: tuple[int | None, int | None] = (None, None),
    ) -> None:
        kind, numbers, more = shape
        self._shapes.append(shape_row(image, str(region or "object"), kind, numbers, **{"size": size, **more}))

    def parsed(self) -> Parsed:
        names = list(dict.fromkeys(key for _, columns in self._images.values() for key in columns))
        names = [name for name in names if name not in ("image", "label")]
        rows = [
            (image, label, *(columns.get(name) for name in names)) for image, (label, columns) in self._images.items()
        ]
        schema = dict.fromkeys(["image", "label", *names], pl.String())
        return Parsed(
            pl.DataFrame(rows, schema=schema, orient="row"),
            pl.DataFrame(self._shapes, schema=SHAPE_SCHEMA, orient="row"),
        )


def _key(given: str | None, there: list[str], known: Iterable[str], what: str, *, only: bool) -> str | None:
    if given == "none":
        return None
    if given is not None:
        if given not in there:
            raise UnknownNameError(what, given, there)
        return given
    lowered = {key.lower(): key for key in there}
    named = next((lowered[key] for key in known if key in lowered), None)
    return named or (there[0] if only and len(there) == 1 else None)


def _word(value: Any) -> str | None:
    """An attribute's value: text, or the one box that is ticked."""
    if isinstance(value, dict):
        ticked = [key for key, on in value.items() if on]
        return str(ticked[0]) if len(ticked) == 1 else None
    if isinstance(value, list):
        return str(value[0]) if len(value) == 1 else None
    return None if value is None or value == "" else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _length(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 2**31 else None
