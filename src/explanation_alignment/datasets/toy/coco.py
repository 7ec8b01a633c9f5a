"""A small generated stand-in for COCO: its file, its folders, its oddities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from explanation_alignment.datasets.reading.polygons import fill_polygon
from explanation_alignment.datasets.toy.painting import outline, paint_shape, paper, save_jpeg, start_toy

__all__ = ["write"]

#: COCO's own ids and names, with their gaps, and the shape painted for each.
_CATEGORIES: Final = (
    (13, "stop sign", "outdoor", "octagon"),
    (37, "sports ball", "sports", "disc"),
    (38, "kite", "sports", "square"),
    (59, "pizza", "food", "triangle"),
)
_HEIGHT, _WIDTH = 96, 128


def write(folder: Path, n: int, seed: int) -> None:
    """Write ``val2017/`` and ``annotations/instances_val2017.json``.

    Every image shows one large object; some a smaller one of another category, an object in two parts, or a crowd with
    a run-length mask. Every twelfth from the eighth on has no annotation, as 48 of COCO's 5,000 have none.

    Raises:
        UsageError: the folder is not empty.
    """
    rng = start_toy(folder, "coco", n, seed)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(n):
        image_id = 139 + 146 * index
        name = f"{image_id:012d}.jpg"
        images.append(
            {
                "license": 3,
                "file_name": name,
                "coco_url": "",
                "height": _HEIGHT,
                "width": _WIDTH,
                "date_captured": "2013-11-21 01:34:01",
                "flickr_url": "",
                "id": image_id,
            }
        )
        pixels = paper(rng, _HEIGHT, _WIDTH)
        if index % 12 != 7:
            for number, entry in enumerate(_scene(rng, pixels, index)):
                annotations.append(entry | {"image_id": image_id, "id": 1000 * (index + 1) + number})
        save_jpeg(folder / "val2017" / name, pixels)
    content = {
        "info": {"description": "Generated stand-in", "url": "", "version": "1.0", "year": 2017, "contributor": ""},
        "licenses": [{"url": "", "id": 3, "name": "Generated"}],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"supercategory": group, "id": category, "name": name} for category, name, group, _ in _CATEGORIES
        ],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content), encoding="utf-8")


def _scene(rng: np.random.Generator, pixels: NDArray[np.uint8], index: int) -> list[dict[str, Any]]:
    entries = []
    if index % 5 == 4:
        entries.append(_crowd(rng, pixels))
    main = index % len(_CATEGORIES)
    if index % 2:
        other = (main + 1 + int(rng.integers(len(_CATEGORIES) - 1))) % len(_CATEGORIES)
        entries.append(_instance(rng, pixels, other, x=rng.uniform(98, 114), y=rng.uniform(14, 30), radius=10))
    parts = 2 if index % 6 == 3 else 1
    entries.append(
        _instance(
            rng, pixels, main, x=rng.uniform(36, 70), y=rng.uniform(40, 56), radius=rng.uniform(18, 30), parts=parts
        )
    )
    return entries


def _instance(
    rng: np.random.Generator,
    pixels: NDArray[np.uint8],
    place: int,
    *,
    x: float,
    y: float,
    radius: float,
    parts: int = 1,
) -> dict[str, Any]:
    category, _, _, kind = _CATEGORIES[place]
    shapes = [outline(kind, x, y, radius, rng.uniform(0, 0.4))]
    if parts == 2:  # a second piece of the same object, as behind a pole
        shapes.append(outline(kind, x, 92, 6))
    area = sum(int(paint_shape(pixels, kind, corners).sum()) for corners in shapes)
    corners = np.vstack(shapes)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return {
        "segmentation": [corners.ravel().tolist() for corners in shapes],
        "area": float(area),
        "iscrowd": 0,
        "bbox": [round(float(value), 2) for value in (*low, *(high - low))],
        "category_id": category,
    }


def _crowd(rng: np.random.Generator, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    category, _, _, kind = _CATEGORIES[1]
    mask = np.zeros(pixels.shape[:2], dtype=np.bool_)
    for _ in range(5):
        corners = outline(kind, rng.uniform(92, 122), rng.uniform(74, 90), 4)
        paint_shape(pixels, kind, corners)
        fill_polygon(mask, corners)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "segmentation": {"counts": _runs(mask), "size": [_HEIGHT, _WIDTH]},
        "area": int(mask.sum()),
        "iscrowd": 1,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "category_id": category,
    }


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths down the columns, outside first."""
    down = mask.T.ravel()
    changes = np.flatnonzero(down[1:] != down[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [down.size]])).tolist()
    return [0, *lengths] if down[0] else lengths
