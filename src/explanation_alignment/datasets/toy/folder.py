"""Small generated folders of images in every layout that the dataset ``folder`` reads."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from explanation_alignment.datasets.toy.painting import outline, paint_shape, paper, save_jpeg, save_png, start_toy
from explanation_alignment.errors import UnknownNameError

__all__ = ["LAYOUTS", "write"]

_KINDS: Final = ("disc", "octagon", "square", "triangle")
_HEIGHT, _WIDTH = 64, 80
_CORNER: Final = 12


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """One image: its name, what it shows, where, and whether a watermark lies in its corner."""

    name: str
    kind: str
    pixels: NDArray[np.uint8]
    corners: NDArray[np.float64]
    mask: NDArray[np.bool_]
    watermark: NDArray[np.bool_]
    site: str

    @property
    def box(self) -> tuple[float, float, float, float]:
        low, high = self.corners.min(axis=0), self.corners.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def write(folder: Path, n: int, seed: int, layout: str = "class_folders") -> None:
    """Write images of four shapes with their annotations.

    Args:
        folder: where to; it must be new or empty.
        n: how many images.
        seed: decides what they show.
        layout: one of ``LAYOUTS``.

    Raises:
        UsageError: the folder is not empty.
        UnknownNameError: there is no such layout.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("layout", layout, LAYOUTS)
    rng = start_toy(folder, "folder", n, seed)
    LAYOUTS[layout](folder, [_scene(rng, index) for index in range(n)])


def _scene(rng: np.random.Generator, index: int) -> _Scene:
    kind = _KINDS[index % len(_KINDS)]
    pixels = paper(rng, _HEIGHT, _WIDTH)
    watermark = np.zeros((_HEIGHT, _WIDTH), dtype=np.bool_)
    site = "north" if rng.integers(2) else "south"
    if site == "north":
        watermark[:_CORNER, :_CORNER] = True
        pixels[watermark] = (250, 250, 250)
    x, y, radius = rng.uniform(30, _WIDTH - 22), rng.uniform(26, _HEIGHT - 20), rng.uniform(10, 16)
    corners = outline(kind, x, y, radius, rng.uniform(0, 0.4))
    mask = paint_shape(pixels, kind, corners)
    return _Scene(f"img_{index:04d}", kind, pixels, corners, mask, watermark, site)


def _class_folders(folder: Path, scenes: Sequence[_Scene]) -> None:
    for scene in scenes:
        save_jpeg(folder / "images" / scene.kind / f"{scene.name}.jpg", scene.pixels)
        save_png(folder / "masks" / scene.kind / f"{scene.name}.png", scene.mask)


def _labels_csv(folder: Path, scenes: Sequence[_Scene]) -> None:
    for scene in scenes:
        save_jpeg(folder / "images" / f"{scene.name}.jpg", scene.pixels)
        save_png(folder / "masks" / f"{scene.name}.png", scene.mask)
    rows = [(f"{scene.name}.jpg", scene.kind, scene.site) for scene in scenes]
    _write_csv(folder / "labels.csv", ("image", "label", "site"), rows)


def _region_folders(folder: Path, scenes: Sequence[_Scene]) -> None:
    for scene in scenes:
        save_jpeg(folder / "images" / scene.kind / f"{scene.name}.jpg", scene.pixels)
        save_png(folder / "masks" / "object" / scene.kind / f"{scene.name}.png", scene.mask)
        if scene.watermark.any():
            save_png(folder / "masks" / "watermark" / scene.kind / f"{scene.name}.png", scene.watermark)


def _boxes_csv(folder: Path, scenes: Sequence[_Scene]) -> None:
    rows: list[tuple[object, ...]] = []
    for scene in scenes:
        save_jpeg(folder / "images" / f"{scene.name}.jpg", scene.pixels)
        rows.append((f"{scene.name}.jpg", scene.kind, *scene.box, "object"))
        if scene.watermark.any():
            rows.append((f"{scene.name}.jpg", scene.kind, 0, 0, _CORNER, _CORNER, "watermark"))
    _write_csv(folder / "boxes.csv", ("image", "label", "x0", "y0", "x1", "y1", "region"), rows)


def _labelme(folder: Path, scenes: Sequence[_Scene]) -> None:
    for scene in scenes:
        save_jpeg(folder / f"{scene.name}.jpg", scene.pixels)
        content = {
            "version": "5.5.0",
            "flags": {kind: kind == scene.kind for kind in _KINDS},
            "shapes": [
                {
                    "label": "object",
                    "points": scene.corners.tolist(),
                    "group_id": None,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {},
                    "mask": None,
                }
            ],
            "imagePath": f"{scene.name}.jpg",
            "imageData": None,
            "imageHeight": _HEIGHT,
            "imageWidth": _WIDTH,
        }
        _write_json(folder / f"{scene.name}.json", content)


def _via(folder: Path, scenes: Sequence[_Scene]) -> None:
    entries: dict[str, Any] = {}
    for scene in scenes:
        path = folder / "images" / f"{scene.name}.jpg"
        save_jpeg(path, scene.pixels)
        size = path.stat().st_size
        shape = {
            "name": "polygon",
            "all_points_x": scene.corners[:, 0].tolist(),
            "all_points_y": scene.corners[:, 1].tolist(),
        }
        entries[f"{path.name}{size}"] = {
            "filename": path.name,
            "size": size,
            "regions": [{"shape_attributes": shape, "region_attributes": {"region": "object"}}],
            "file_attributes": {"label": scene.kind},
        }
    _write_json(folder / "via_project.json", {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}})


def _label_studio(folder: Path, scenes: Sequence[_Scene]) -> None:
    tasks = []
    for number, scene in enumerate(scenes):
        save_jpeg(folder / "images" / f"{scene.name}.jpg", scene.pixels)
        x0, y0, x1, y1 = scene.box
        box = {
            "x": 100 * x0 / _WIDTH,
            "y": 100 * y0 / _HEIGHT,
            "width": 100 * (x1 - x0) / _WIDTH,
            "height": 100 * (y1 - y0) / _HEIGHT,
            "rotation": 0,
            "rectanglelabels": ["object"],
            "original_width": _WIDTH,
            "original_height": _HEIGHT,
        }
        tasks.append(
            {
                "image": f"/data/upload/1/{number:08x}-{scene.name}.jpg",
                "id": number + 1,
                "choice": scene.kind,
                "box": [box],
            }
        )
    _write_json(folder / "export.json", tasks)


def _heatmaps(folder: Path, scenes: Sequence[_Scene]) -> None:
    rows, columns = np.mgrid[:_HEIGHT, :_WIDTH] + 0.5
    for scene in scenes:
        save_jpeg(folder / "images" / scene.kind / f"{scene.name}.jpg", scene.pixels)
        x, y = scene.corners.mean(axis=0)
        attention = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 9.0**2)).astype(np.float32)
        path = folder / "heatmaps" / scene.kind / f"{scene.name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, attention)


#: How images and annotations can lie; the first is what the command writes.
LAYOUTS: Final[Mapping[str, Callable[[Path, Sequence[_Scene]], None]]] = {
    "class_folders": _class_folders,
    "labels_csv": _labels_csv,
    "region_folders": _region_folders,
    "boxes_csv": _boxes_csv,
    "labelme": _labelme,
    "via": _via,
    "label_studio": _label_studio,
    "heatmaps": _heatmaps,
}


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        written = csv.writer(handle, lineterminator="\n")
        written.writerow(header)
        written.writerows(rows)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
