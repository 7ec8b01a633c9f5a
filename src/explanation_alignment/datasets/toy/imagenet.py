"""A small generated stand-in for ImageNet's validation set, with the oddities the real files have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from explanation_alignment.datasets.reading.imagenet_files import imagenet_classes
from explanation_alignment.datasets.toy.painting import SHAPES, outline, paint_shape, paper, start_toy
from explanation_alignment.errors import UsageError

__all__ = ["OBJECTS", "write"]

#: Synsets there are images of, and the shape painted for each, in the shape's own colour.
OBJECTS: Final = (
    ("n03445777", "disc"),
    ("n06785654", "square"),
    ("n06794110", "octagon"),
    ("n07873807", "triangle"),
)
#: Further ones where more classes are asked for: the same shapes in other colours.
_FURTHER: Final = (
    ("n02802426", "disc", (190, 70, 200)),
    ("n03291819", "square", (190, 70, 200)),
    ("n04192698", "octagon", (190, 70, 200)),
    ("n03792972", "triangle", (190, 70, 200)),
    ("n04254680", "disc", (235, 130, 40)),
    ("n04033995", "square", (235, 130, 40)),
    ("n03530642", "octagon", (235, 130, 40)),
    ("n07565083", "triangle", (235, 130, 40)),
)
_KINDS: Final = (*((synset, kind, SHAPES[kind].color) for synset, kind in OBJECTS), *_FURTHER)
_HEIGHT, _WIDTH = 96, 128
#: What is odd about every thirteenth image, by its number; thirteen, so that no oddity keeps to one class.
_PERIOD: Final = 13
_GREY, _BEYOND, _CMYK, _PNG, _TURNED, _OTHER_SIZE, _EMPTY = 3, 4, 5, 7, 9, 10, 11


@dataclass(frozen=True, slots=True)
class _Object:
    synset: str
    box: tuple[int, int, int, int]


def write(folder: Path, n: int, seed: int, classes: int = len(OBJECTS)) -> None:
    """Write ``ILSVRC/Data/CLS-LOC/val``, ``ILSVRC/Annotations/CLS-LOC/val`` and the two lists of labels.

    Every image shows one large object of its class; every third a smaller one of another class. Of thirteen images
    one each is grey, is CMYK, is a PNG called JPEG, is turned by its EXIF orientation, has an annotation file of
    another size, a box that reaches beyond the image, and no object in its annotation file.

    Args:
        folder: a new or empty one.
        n: images.
        seed: another seed, other images.
        classes: 4 to 12. Four shapes of a colour each; further classes are the same shapes in other colours, so that
            neither outline nor colour gives a class away alone.

    Raises:
        UsageError: the folder is not empty, or for another number of classes.
    """
    if not len(OBJECTS) <= classes <= len(_KINDS):
        raise UsageError(f"imagenet stand-in: expected {len(OBJECTS)} to {len(_KINDS)} classes, got {classes}")
    rng = start_toy(folder, "imagenet", n, seed, {} if classes == len(OBJECTS) else {"classes": classes})
    images = folder / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    annotations = folder / "ILSVRC" / "Annotations" / "CLS-LOC" / "val"
    for place in (images, annotations):
        place.mkdir(parents=True)
    solutions = ["ImageId,PredictionString"]
    for index in range(n):
        stem = f"ILSVRC2012_val_{index + 1:08d}"
        pixels, objects = _scene(rng, index, classes)
        odd = index % _PERIOD
        _save_image(images / f"{stem}.JPEG", pixels, odd)
        height, width = pixels.shape[:2]
        factor = 2 if odd == _OTHER_SIZE else 1
        if odd == _EMPTY:
            listed: Sequence[_Object] = ()
        elif odd == _BEYOND:
            x0, y0, _, y1 = objects[0].box
            listed = (_Object(objects[0].synset, (x0, y0, width + 9, y1)), *objects[1:])
        else:
            listed = objects
        (annotations / f"{stem}.xml").write_text(_xml(stem, width, height, listed, factor), encoding="utf-8")
        boxes = " ".join(" ".join(map(str, (item.synset, *item.box))) for item in objects[:1])
        solutions.append(f"{stem},{boxes} ")
    (folder / "LOC_val_solution.csv").write_text("\n".join(solutions) + "\n", encoding="utf-8")
    lines = [f"{synset} {name}" for synset, name in zip(*imagenet_classes(), strict=True)]
    (folder / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _scene(rng: np.random.Generator, index: int, classes: int) -> tuple[NDArray[np.uint8], list[_Object]]:
    """An image as it is looked at, and its objects; the first is of its class."""
    height, width = (_WIDTH, _HEIGHT) if index % _PERIOD == _TURNED else (_HEIGHT, _WIDTH)
    pixels = paper(rng, height, width)
    main = index % classes
    objects = []
    if index % 3 == 1:
        other = (main + 1 + int(rng.integers(classes - 1))) % classes
        objects.append(_paint(rng, pixels, other, width - rng.uniform(14, 18), rng.uniform(14, 18), 9))
    x, y, radius = rng.uniform(38, 52), rng.uniform(44, 52), rng.uniform(20, 30)
    return pixels, [_paint(rng, pixels, main, x, y, radius), *objects]


def _paint(
    rng: np.random.Generator, pixels: NDArray[np.uint8], place: int, x: float, y: float, radius: float
) -> _Object:
    synset, kind, color = _KINDS[place]
    mask = paint_shape(pixels, kind, outline(kind, x, y, radius, rng.uniform(0, 0.4)))
    pixels[mask] = color
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return _Object(synset, (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))


def _save_image(path: Path, pixels: NDArray[np.uint8], odd: int) -> None:
    image = Image.fromarray(pixels)
    if odd == _PNG:
        image.save(path, "PNG")
        return
    exif = Image.Exif()
    if odd == _GREY:
        image = image.convert("L")
    elif odd == _CMYK:
        image = image.convert("CMYK")
    elif odd == _TURNED:  # orientation 6: stored a quarter turn to the left of how it is looked at
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[ExifTags.Base.Orientation] = 6
    image.save(path, "JPEG", quality=92, subsampling=0, **({"exif": exif} if len(exif) else {}))


def _xml(stem: str, width: int, height: int, objects: Sequence[_Object], factor: int) -> str:
    listed = "".join(
        f"\t<object>\n\t\t<name>{item.synset}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
        "\t\t<difficult>0</difficult>\n\t\t<bndbox>\n"
        + "".join(
            f"\t\t\t<{side}>{factor * value}</{side}>\n"
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), item.box, strict=True)
        )
        + "\t\t</bndbox>\n\t</object>\n"
        for item in objects
    )
    return (
        f"<annotation>\n\t<folder>val</folder>\n\t<filename>{stem}</filename>\n"
        "\t<source>\n\t\t<database>ILSVRC_2012</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{factor * width}</width>\n\t\t<height>{factor * height}</height>\n"
        "\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>0</segmented>\n{listed}</annotation>\n"
    )
