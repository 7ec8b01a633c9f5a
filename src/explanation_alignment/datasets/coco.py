"""COCO and everything in its format: instances as polygons or run lengths, with boxes and categories."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from explanation_alignment.datasets.base import IndexedDataset
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.arguments import as_choice, as_names, known_name
from explanation_alignment.datasets.reading.coco_json import CocoTables, read_coco
from explanation_alignment.datasets.reading.files import data_folder, fingerprint_of, inside, is_toy, open_image
from explanation_alignment.datasets.reading.image_index import folder_states
from explanation_alignment.datasets.reading.polygons import fill_polygon, pixel_boxes
from explanation_alignment.datasets.reading.rle import decode_rle
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.sample import Annotation, AttributeValue, Boxes, Mask, Sample

__all__ = ["Coco"]

_TREE: Final = "annotations/instances_val2017.json and val2017/000000000139.jpg, ..."
_BOX_REGION: Final = "object_box"
#: Rows that go into the fingerprint at once.
_ROWS: Final = 50_000
#: COCO's own sizes: the area of an instance, in pixels.
_SMALL, _MEDIUM = 32**2, 96**2


class Coco(IndexedDataset):
    """COCO's instances, or any file in the same format, as an annotated dataset.

    COCO images show many things. The label of an image is the category of its largest instance (by the file's
    ``area``, the first of equals; the box's area where the file gives none) that is no crowd. Class indices are places
    among the category ids in ascending order, since the ids have gaps.

    Regions: ``object``, the union of the instances of the label's category (or of all, ``objects=all``);
    on request ``object_box``, the union of the same instances' boxes, and categories by name. A region no instance
    belongs to has no annotation. Polygons are filled by ``reading.polygons.fill_polygon``.
    In a file whose instances have boxes only, boxes are the annotation.

    Attributes: ``n_objects`` and ``n_categories`` (without crowds), ``has_crowd``, ``object_size`` (COCO's ``small``,
    ``medium``, ``large``, of the instance that gives the label), ``supercategory`` of the label, and ``has_<category>``
    for every category named in ``regions``.

    Args:
        data_dir: the folder with ``annotations/`` and ``val2017/``; also one of those two, or the folder around.
        split: which of COCO's splits: ``val2017``, ``train2017``, ...
        label: ``largest``, or ``none`` for no labels.
        objects: ``own`` (instances of the label's category) or ``all``; left out: own where there are labels.
        regions: what there is besides ``object``, joined by ``+``: ``object_box`` or names of categories.
        crowd: ``ignore`` leaves out what is marked as a crowd; ``keep`` counts it in the masks, never as a label.
        annotations: path of the annotation file below ``data_dir``; left out: where COCO and common tools put it.
        images: folder of the images below ``data_dir``; left out: looked for.

    Raises:
        UsageError: for another value of an argument.
        DatasetError: for missing or damaged files.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        *,
        split: str = "val2017",
        label: str = "largest",
        objects: str | None = None,
        regions: str | Iterable[str] = (),
        crowd: str = "ignore",
        annotations: str | None = None,
        images: str | None = None,
    ) -> None:
        label = as_choice(label, "label", ("largest", "none"))
        objects = as_choice(objects or ("own" if label == "largest" else "all"), "objects", ("own", "all"))
        if objects == "own" and label == "none":
            raise UsageError("objects=own needs labels to know whose instances; use objects=all with label=none")
        self._objects, self._keep_crowd = objects, as_choice(crowd, "crowd", ("ignore", "keep")) == "keep"
        root, file = _annotation_file(data_folder(data_dir, "coco"), split, annotations)
        tables = read_coco(file)
        self._folder, states = _image_folder(root, file, split, images, tables.images)

        names: list[str] = tables.categories["name"].to_list()
        extra = [region for region in as_names(regions, "regions") if region != "object"]
        for region in extra:
            known_name(region, "category", [*names, _BOX_REGION])
        self._category_regions = {
            region: {place for place, name in enumerate(names) if name == region}
            for region in extra
            if region != _BOX_REGION
        }
        listed, instances = _joined(tables)
        self._boxes_only = bool(len(instances)) and instances["segmentation"].null_count() == len(instances)
        self._set_columns(listed, instances)
        self._strangers = len(tables.annotations) - len(instances)

        largest = _largest(instances)
        labels: list[int | None] = [None] * len(listed)
        sizes: list[str | None] = [None] * len(listed)
        for place, category, area in largest.iter_rows():
            sizes[place] = "small" if area < _SMALL else "medium" if area < _MEDIUM else "large"
            if label == "largest":
                labels[place] = category
        on_disk = dict(zip(states["file"].to_list(), states["bytes"].to_list(), strict=True))
        self._on_disk = on_disk
        name = split if annotations is None and file.name == f"instances_{split}.json" else file.stem
        super().__init__(
            name=f"coco-{name}",
            class_names=names,
            regions=("object", *extra),
            evidence=("object", _BOX_REGION) if _BOX_REGION in extra else ("object",),
            ids=_sample_ids(self._files),
            labels=labels,
            attributes=self._columns(tables, instances, labels, sizes),
            fingerprint=fingerprint_of(
                "coco", label, objects, ",".join(extra), crowd,
                tables=[
                    listed.with_columns(
                        pl.col("file").replace_strict(on_disk, default=None, return_dtype=pl.Int64()).alias("bytes")
                    ),
                    tables.categories,
                    *instances.iter_slices(_ROWS),
                ],
            ),
            toy=is_toy(root),
        )  # fmt: skip
        self.notes = self._notes(file)

    def _set_columns(self, listed: pl.DataFrame, instances: pl.DataFrame) -> None:
        """Keep what a sample needs as plain columns: small to hand to worker processes, safe to use in them."""
        self._files: list[str] = listed["file"].to_list()
        self._sizes = listed.select("width", "height").rows()
        self._first = np.searchsorted(instances["image"].to_numpy(), np.arange(len(listed) + 1))
        self._category: NDArray[np.int64] = instances["class"].to_numpy()
        self._crowd: NDArray[np.bool_] = instances["crowd"].to_numpy()
        self._boxes: NDArray[np.float64] = instances.select("x", "y", "w", "h").to_numpy()
        self._segmentation = instances["segmentation"].to_arrow().cast(pa.large_string())
        self._outlined: NDArray[np.bool_] = instances["segmentation"].is_not_null().to_numpy()

    def _columns(
        self, tables: CocoTables, instances: pl.DataFrame, labels: Sequence[int | None], sizes: Sequence[str | None]
    ) -> Mapping[str, Sequence[AttributeValue]]:
        count = len(self._files)
        single = instances.filter(~pl.col("crowd"))
        per_image = single.group_by("image").agg(pl.len().alias("n"), pl.col("class").n_unique().alias("kinds"))
        n_objects, n_categories = [0] * count, [0] * count
        for image, n, kinds in per_image.iter_rows():
            n_objects[image], n_categories[image] = n, kinds
        crowded = set(instances.filter(pl.col("crowd"))["image"].to_list())
        groups = tables.categories["supercategory"].to_list()
        columns: dict[str, Sequence[AttributeValue]] = {
            "n_objects": n_objects,
            "n_categories": n_categories,
            "has_crowd": [place in crowded for place in range(count)],
            "object_size": sizes,
            "supercategory": [None if label is None else groups[label] for label in labels],
        }
        counted = instances if self._keep_crowd else single
        for region, classes in self._category_regions.items():
            there = set(counted.filter(pl.col("class").is_in(list(classes)))["image"].to_list())
            columns[f"has_{region}"] = [place in there for place in range(count)]
        return columns

    def _notes(self, file: Path) -> tuple[str, ...]:
        notes = [f"{file.name}: {len(self)} images, {len(self._category)} instances"]
        bare = int(np.count_nonzero(np.diff(self._first) == 0))
        if bare:
            notes.append(f"{bare} images have no instance: they have no label and no annotation")
        if self._crowd.any():
            notes.append(f"{int(self._crowd.sum())} crowds are {'kept' if self._keep_crowd else 'left out'} (crowd=)")
        if self._boxes_only:
            notes.append("no instance has an outline: boxes are the annotation")
        return tuple(notes)

    def description(self) -> str:
        """What was found, in a few lines."""
        return "\n".join(self.notes)

    def problems(self) -> list[Problem]:
        """What is wrong with the files, as far as their index tells."""
        found = [
            Problem("missing_image", name, f"{file}: no such file in the folder of images")
            for name, file in zip(self.ids(), self._files, strict=True)
            if file not in self._on_disk
        ]
        listed = set(self._files)
        left = sorted(file for file in self._on_disk if file not in listed)
        if left:
            found.append(
                Problem(
                    "orphan_image",
                    None,
                    f"{len(left)} images are not in the file, such as {left[0]}",
                    serious=False,
                    count=len(left),
                )
            )
        if self._strangers:
            found.append(
                Problem(
                    "orphan_annotation",
                    None,
                    f"{self._strangers} instances name an image or category there is not",
                    count=self._strangers,
                )
            )
        images = np.repeat(np.arange(len(self)), np.diff(self._first))
        bad = ~np.isfinite(self._boxes).all(axis=1) | (self._boxes[:, 2:] < 0).any(axis=1)
        for place in np.flatnonzero(bad):
            box = ", ".join(f"{value:g}" for value in self._boxes[place])
            found.append(
                Problem(
                    "bad_box",
                    self.ids()[images[place]],
                    f"bbox [{box}]: expected x, y and a width and height of at least 0",
                    serious=self._boxes_only or _BOX_REGION in self.regions,
                )
            )
        if not self._boxes_only:
            empty = images[~self._outlined]
            found += [
                Problem("empty_annotation", self.ids()[image], "an instance without an outline marks nothing")
                for image in empty.tolist()
            ]
        return found

    def positives(self) -> Sequence[Sequence[int]]:
        """The categories of each image's instances that are no crowd."""
        kinds = [np.unique(self._category[a:b][~self._crowd[a:b]]) for a, b in itertools.pairwise(self._first)]
        return [tuple(found.tolist()) for found in kinds]

    def read_for(self, index: int, label: int) -> Sample:
        """An image with its instances of one category as ``object`` (of all with ``objects=all``)."""
        return self._read_as(index, label)

    def _read(self, index: int) -> Sample:
        return self._read_as(index, self.labels()[index])

    def _read_as(self, index: int, label: int | None) -> Sample:
        file = self._files[index]
        image = open_image(inside(self._folder, file))
        width, height = self._sizes[index]
        if width is not None and height is not None and (width, height) != image.size:
            raise DatasetError(
                f"{file}: the image is {image.width} x {image.height}, the annotation file says {width} x {height}"
            )
        places = np.arange(self._first[index], self._first[index + 1])
        if not self._keep_crowd:
            places = places[~self._crowd[places]]
        own = places if self._objects == "all" else places[self._category[places] == (-1 if label is None else label)]
        annotations: dict[str, Annotation | None] = {}
        for region in self.regions:
            if region in self._category_regions:
                chosen = places[np.isin(self._category[places], list(self._category_regions[region]))]
            else:
                chosen = own
            if region != _BOX_REGION and not self._boxes_only:
                chosen = chosen[self._outlined[chosen]]
            if not len(chosen):
                annotations[region] = None
            elif region == _BOX_REGION or self._boxes_only:
                annotations[region] = self._box_annotation(chosen, image.height, image.width)
            else:
                annotations[region] = self._mask_annotation(chosen, image.height, image.width)
        return Sample(
            id=self.ids()[index],
            image=image,
            label=label,
            annotations=annotations,
            attributes={key: values[index] for key, values in self.attributes().items()},
        )

    def _box_annotation(self, chosen: NDArray[np.int64], height: int, width: int) -> Boxes:
        boxes = self._boxes[chosen]
        return Boxes(pixel_boxes(np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]), height, width), height, width)

    def _mask_annotation(self, chosen: NDArray[np.int64], height: int, width: int) -> Mask:
        mask = np.zeros((height, width), dtype=np.bool_)
        for place in chosen.tolist():
            _add_instance(mask, json.loads(self._segmentation[place].as_py()))
        return Mask(mask)


def _add_instance(mask: NDArray[np.bool_], segmentation: Any) -> None:
    """Set an instance's pixels.

    Args:
        mask: (H, W) bool of the image's size, changed in place.
        segmentation: a list of polygons ``[x, y, x, y, ...]``, or ``{"size": [H, W], "counts": ...}``.

    Raises:
        DatasetError: it is neither.
    """
    if isinstance(segmentation, dict):
        runs = decode_rle(segmentation.get("size", ()), segmentation.get("counts", ""))
        if runs.shape != mask.shape:
            raise DatasetError(
                f"run-length mask of {runs.shape[0]} x {runs.shape[1]} on an image of {mask.shape[0]} x {mask.shape[1]}"
            )
        mask |= runs
        return
    outlines = segmentation if isinstance(segmentation, list) else None
    if outlines and not isinstance(outlines[0], list):
        outlines = [outlines]  # some tools leave the outer list out where there is one polygon
    if outlines is None or any(not isinstance(outline, list) or len(outline) % 2 for outline in outlines):
        raise DatasetError("segmentation: expected polygons [x, y, x, y, ...] or a run-length mask")
    for outline in outlines:
        fill_polygon(mask, [outline[place : place + 2] for place in range(0, len(outline), 2)])


def _joined(tables: CocoTables) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Images, and instances with the places of their image and category, in the images' order and then the file's."""
    if tables.images["image_id"].n_unique() < len(tables.images):
        twice = tables.images.filter(pl.col("image_id").is_duplicated())["image_id"][0]
        raise DatasetError(f"the annotation file has several images of id {twice}")
    if tables.categories["category_id"].n_unique() < len(tables.categories):
        raise DatasetError("the annotation file has several categories of the same id")
    listed = tables.images.with_row_index("image")
    classes = tables.categories.with_row_index("class").select("category_id", pl.col("class").cast(pl.Int64()))
    instances = (
        tables.annotations.with_row_index("order")
        .join(listed.select("image_id", "image"), on="image_id")
        .join(classes, on="category_id")
        .sort("image", "order")
        .drop("order")
    )
    return listed, instances


def _largest(instances: pl.DataFrame) -> pl.DataFrame:
    """For every image with an instance that is no crowd: image, class and area of the largest."""
    area = pl.col("area")
    box = (pl.col("w") * pl.col("h")).abs()
    return (
        instances.filter(~pl.col("crowd"))
        .with_columns(pl.when(area.is_finite() & (area > 0)).then(area).otherwise(box).fill_nan(0).alias("area"))
        .sort("image", "area", descending=[False, True], maintain_order=True)
        .group_by("image", maintain_order=True)
        .first()
        .select("image", "class", "area")
    )


def _sample_ids(files: Sequence[str]) -> list[str]:
    """Paths without suffix where that tells the images apart, else with it."""
    stems = [file.rpartition(".")[0] or file for file in files]
    names = stems if len(set(stems)) == len(stems) else list(files)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"the annotation file lists image {twice!r} twice")
    return names


def _annotation_file(folder: Path, split: str, given: str | None) -> tuple[Path, Path]:
    """The folder everything is in and its annotation file."""
    if given is not None:
        file = inside(folder, given)
        if not file.is_file():
            raise DatasetError(f"coco: no file {given!r} in {folder}")
        return folder, file
    known_split = split.replace("\\", "/")
    places = (
        f"annotations/instances_{known_split}.json",
        f"instances_{known_split}.json",
        f"{known_split}/_annotations.coco.json",
        "annotations.json",
        "_annotations.coco.json",
    )
    roots = [folder, folder / "coco", folder / "coco2017", folder / "COCO"]
    if folder.name in ("annotations", split, "images"):
        roots.insert(0, folder.absolute().parent)
    for root in roots:
        for place in places:
            file = inside(root, place)
            if file.is_file():
                return root, file
    there = sorted(
        path.relative_to(folder).as_posix()
        for pattern in ("*.json", "annotations/*.json")
        for path in folder.glob(pattern)
    )
    found = f"; there is {', '.join(there[:5])}: pass split= or annotations=" if there else ""
    raise DatasetError(f"coco: no annotations/instances_{split}.json in {folder}{found}. Expected: {_TREE}")


def _image_folder(
    root: Path, file: Path, split: str, given: str | None, images: pl.DataFrame
) -> tuple[Path, pl.DataFrame]:
    """The folder the file's image names start from, and what is in it."""
    if given is not None:
        places = [inside(root, given)]
    else:
        places = [root / split, root / "images" / split, root / "images", file.parent, root]
    some: list[str] = images["file"].head(50).to_list()
    best: tuple[int, Path | None] = (0, None)
    for place in places:
        hits = sum(_is_image_there(place, name) for name in some) if place.is_dir() else 0
        if hits > best[0]:
            best = (hits, place)
    folder = best[1]
    if folder is None:
        where = ", ".join(dict.fromkeys(place.relative_to(root).as_posix() for place in places))
        first = f" (the first is {some[0]!r})" if some else ""
        raise DatasetError(
            f"coco: none of the images {file.name} names{first} is in {root} under {where}; pass images=. "
            f"Expected: {_TREE}"
        )
    return folder, folder_states(folder)


def _is_image_there(folder: Path, name: str) -> bool:
    try:
        return inside(folder, name).is_file()
    except (DatasetError, OSError):
        return False
