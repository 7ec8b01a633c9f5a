"""A small generated stand-in for PASCAL VOC 2012: its lists, boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.toy.painting import SHAPES, outline, paint_shape, paper, save_jpeg, start_toy
from explanation_alignment.datasets.voc import VOC_CLASSES

__all__ = ["OBJECTS", "write"]

#: Classes there are objects of, and the shape painted for each.
OBJECTS: Final = (("bus", "square"), ("dog", "triangle"), ("person", "disc"), ("tvmonitor", "octagon"))
_HEIGHT, _WIDTH = 96, 128
_BORDER: Final = 255


@dataclass(frozen=True, slots=True, eq=False)
class _Object:
    name: str
    mask: NDArray[np.bool_]
    difficult: bool

    def box(self) -> tuple[int, int, int, int]:
        """Counted from 1, ends included."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(columns[0]) + 1, int(rows[0]) + 1, int(columns[-1]) + 1, int(rows[-1]) + 1


def write(folder: Path, n: int, seed: int) -> None:
    """Write ``VOCdevkit/VOC2012``: n images in ImageSets/Main/val.txt, every third also with masks.

    Every image shows one large object; every third a smaller one of another class. Every seventh has a second person
    far away that is marked difficult; every fifth says where the object's parts are, as the person layout files do.

    Raises:
        UsageError: the folder is not empty.
    """
    rng = start_toy(folder, "voc", n, seed)
    root = folder / "VOCdevkit" / "VOC2012"
    for name in ("Annotations", "ImageSets/Main", "ImageSets/Segmentation", "SegmentationObject", "SegmentationClass"):
        (root / name).mkdir(parents=True)
    ids, segmented, scenes = [], [], []
    for index in range(n):
        name = f"{2007 + index % 6}_{index + 1:06d}"
        pixels, objects = _scene(rng, index)
        save_jpeg(root / "JPEGImages" / f"{name}.jpg", pixels)
        has_masks = index % 3 == 0
        xml = _xml(name, objects, has_masks, parts=index % 5 == 4)
        (root / "Annotations" / f"{name}.xml").write_text(xml, encoding="utf-8")
        if has_masks:
            _save_masks(root, name, objects)
            segmented.append(name)
        ids.append(name)
        scenes.append((name, objects))
    lists = root / "ImageSets"
    for split in ("val", "trainval"):
        (lists / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")
        (lists / "Segmentation" / f"{split}.txt").write_text(
            "".join(f"{name}\n" for name in segmented), encoding="utf-8"
        )
    for class_name in VOC_CLASSES:
        lines = [f"{name} {_presence(class_name, objects):2d}\n" for name, objects in scenes]
        (lists / "Main" / f"{class_name}_val.txt").write_text("".join(lines), encoding="utf-8")


def _presence(class_name: str, objects: list[_Object]) -> int:
    of_class = [item.difficult for item in objects if item.name == class_name]
    return -1 if not of_class else 0 if all(of_class) else 1


def _scene(rng: np.random.Generator, index: int) -> tuple[NDArray[np.uint8], list[_Object]]:
    pixels = paper(rng, _HEIGHT, _WIDTH)
    main = index % len(OBJECTS)
    objects = []
    if index % 3 == 1:
        other = (main + 1 + int(rng.integers(len(OBJECTS) - 1))) % len(OBJECTS)
        objects.append(_paint(rng, pixels, other, rng.uniform(104, 114), rng.uniform(16, 30), 10))
    if index % 7 == 5:
        objects.append(_paint(rng, pixels, 2, rng.uniform(110, 118), rng.uniform(80, 88), 4, difficult=True))
    objects.append(_paint(rng, pixels, main, rng.uniform(38, 60), rng.uniform(44, 52), rng.uniform(20, 32)))
    return pixels, objects


def _paint(
    rng: np.random.Generator,
    pixels: NDArray[np.uint8],
    place: int,
    x: float,
    y: float,
    radius: float,
    *,
    difficult: bool = False,
) -> _Object:
    name, kind = OBJECTS[place]
    return _Object(name, paint_shape(pixels, kind, outline(kind, x, y, radius, rng.uniform(0, 0.4))), difficult)


def _save_masks(root: Path, name: str, objects: list[_Object]) -> None:
    instances = np.zeros((_HEIGHT, _WIDTH), dtype=np.uint8)
    classes = np.zeros_like(instances)
    for number, item in enumerate(objects, start=1):
        instances[item.mask] = number
        classes[item.mask] = VOC_CLASSES.index(item.name) + 1
        inner = item.mask.copy()
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            inner &= np.roll(item.mask, step, axis)
        instances[item.mask & ~inner] = _BORDER
        classes[item.mask & ~inner] = _BORDER
    colors = [0, 0, 0, *(value for shape in SHAPES.values() for value in shape.color)]
    for folder, numbers in (("SegmentationObject", instances), ("SegmentationClass", classes)):
        image = Image.fromarray(numbers)
        image.putpalette([*colors, *([128] * (765 - len(colors))), 224, 224, 192])
        image.save(root / folder / f"{name}.png")


def _xml(name: str, objects: list[_Object], has_masks: bool, *, parts: bool) -> str:
    listed = []
    for item in objects:
        box = item.box()
        # Real files name the sides in this order.
        order = (("xmax", box[2]), ("xmin", box[0]), ("ymax", box[3]), ("ymin", box[1]))
        corners = "".join(f"\t\t\t<{side}>{value}</{side}>\n" for side, value in order)
        part = (
            "\t\t<part>\n\t\t\t<name>head</name>\n\t\t\t<bndbox>\n\t\t\t\t<xmin>1</xmin>\n\t\t\t\t<ymin>1</ymin>\n"
            "\t\t\t\t<xmax>9.5</xmax>\n\t\t\t\t<ymax>9.5</ymax>\n\t\t\t</bndbox>\n\t\t</part>\n"
        )
        listed.append(
            f"\t<object>\n\t\t<name>{item.name}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
            f"\t\t<difficult>{int(item.difficult)}</difficult>\n\t\t<bndbox>\n{corners}\t\t</bndbox>\n"
            f"{part * parts}\t</object>\n"
        )
    return (
        f"<annotation>\n\t<folder>VOC2012</folder>\n\t<filename>{name}.jpg</filename>\n"
        f"\t<size>\n\t\t<width>{_WIDTH}</width>\n\t\t<height>{_HEIGHT}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>{int(has_masks)}</segmented>\n{''.join(listed)}</annotation>\n"
    )
