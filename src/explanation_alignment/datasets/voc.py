"""PASCAL VOC: 20 classes, several objects an image, with boxes and for some images masks.

Source: Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge" (IJCV 2010).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.datasets.base import IndexedDataset
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.arguments import as_bool, as_choice, as_names, known_name
from explanation_alignment.datasets.reading.files import data_folder, fingerprint_of, inside, is_toy, open_image
from explanation_alignment.datasets.reading.image_index import content_digests, folder_states, image_headers
from explanation_alignment.datasets.reading.label_maps import read_label_map
from explanation_alignment.datasets.reading.voc_xml import annotation_table
from explanation_alignment.datasets.reading.xml_boxes import AnnotationIndex, XmlBoxes
from explanation_alignment.errors import DatasetError
from explanation_alignment.sample import Annotation, AttributeValue, Mask, Sample

__all__ = ["VOC", "VOC_CLASSES"]

#: The classes, in the order of their indices; in a class mask they are numbered from 1.
VOC_CLASSES: Final = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
#: A mask's number for the border around objects.
_BORDER: Final = 255
_TREE: Final = "VOCdevkit/VOC2012 with JPEGImages, Annotations and ImageSets/Main"
_SPLITS: Final = ("train", "val", "trainval", "test")


class VOC(IndexedDataset):
    """PASCAL VOC's detection and segmentation images.

    An image shows objects of several classes. Its label is the class of its largest object (area of the written box,
    the first of equals) that is not difficult; without such an object it has none, as the challenge does not count it.

    Regions: ``object``, the union of the boxes (written ones count pixels from 1 and include their ends);
    ``object_mask``, the union of the objects' pixels in SegmentationObject without the border around them, for the
    images that have one; classes named in ``regions``, the union of their boxes. A region nothing is marked of has no
    annotation. The evidence is ``object`` and ``object_mask``; a class region belongs to it in some images and not in
    others, so that it never counts as evidence.

    Attributes: ``n_objects`` and ``n_difficult`` (None without annotation file), and ``has_<class>`` for every class,
    as the challenge counts: True with an object that is not difficult, None where all objects of the class are
    difficult, else False.

    Args:
        data_dir: VOCdevkit/VOC2012, VOCdevkit, or the folder around.
        year: which of several years there are; left out: the only one.
        split: ``train``, ``val``, ``trainval`` or ``test``, as ImageSets lists them.
        imageset: ``main`` (images with boxes) or ``segmentation`` (those with masks).
        objects: ``all``, or ``own`` for those of the label's class only.
        difficult: ``keep``, or ``drop`` for boxes without the objects marked difficult. Masks do not tell them.
        regions: classes that become regions too, joined by ``+``, or ``classes`` for all of them.
        masks: whether there is the region ``object_mask``; where the folder has no SegmentationObject there is none.

    Raises:
        UsageError: for another value of an argument.
        DatasetError: for missing or damaged files.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        *,
        year: str | int | None = None,
        split: str = "val",
        imageset: str = "main",
        objects: str = "all",
        difficult: str = "keep",
        regions: str | Iterable[str] | None = None,
        masks: str | bool = True,
    ) -> None:
        as_choice(split, "voc: split", _SPLITS)
        as_choice(imageset, "voc: imageset", ("main", "segmentation"))
        as_choice(objects, "voc: objects", ("all", "own"))
        as_choice(difficult, "voc: difficult", ("keep", "drop"))
        named = VOC_CLASSES if regions == "classes" else as_names(regions, "voc: regions")
        self._class_regions = tuple(known_name(name, "class of voc", VOC_CLASSES) for name in named)
        self._own = objects == "own"
        given = data_folder(data_dir, "voc")
        self._root, found_year = _find_year(given, None if year is None else str(year))
        ids = _read_split(self._root, imageset, split)

        states = folder_states(_subfolder(self._root, "JPEGImages"), deep=False)
        file_of = {file.rpartition(".")[0]: file for file in reversed(states["file"].to_list())}
        self._files = [file_of.get(name) for name in ids]
        headers = _in_order(self._files, states.join(image_headers(self._root / "JPEGImages", states), on="file"))
        self._header_errors: list[str | None] = headers["error"].to_list()
        annotations = _subfolder(self._root, "Annotations")
        table = annotation_table(annotations, folder_states(annotations, (".xml",), deep=False))
        xml_of = {file.rpartition(".")[0]: file for file in table["file"]}
        xml_files = [xml_of.get(name) for name in ids]
        self._index = AnnotationIndex(table, xml_files)
        self._boxes = XmlBoxes(self._index, headers.with_columns(pl.col("orientation").fill_null(1)), one_based=True)
        labels = _labels(self._index)
        self._count_objects(labels, drop_difficult=difficult == "drop")

        parts = [headers.select("bytes", "width", "height", "orientation"), _in_order(xml_files, table)]
        self._masks = self._class_masks = None
        if as_bool(masks, "voc: masks") and (self._root / "SegmentationObject").is_dir():
            self._masks, digests = _mask_files(self._root, "SegmentationObject", ids)
            parts.append(digests)
            if self._own:
                self._class_masks, digests = _mask_files(self._root, "SegmentationClass", ids)
                parts.append(digests)
        evidence = ("object", *(() if self._masks is None else ("object_mask",)))
        words = ["segmentation" * (imageset != "main"), "own" * self._own, "no-difficult" * (difficult == "drop")]
        super().__init__(
            name="-".join([found_year.lower(), split, *filter(None, words)]),
            class_names=VOC_CLASSES,
            regions=(*evidence, *self._class_regions),
            evidence=evidence,
            ids=ids,
            labels=labels,
            attributes=_attributes(self._index),
            fingerprint=fingerprint_of("voc", objects, difficult, *evidence, *self._class_regions, *ids, tables=parts),
            toy=is_toy(given) or any(map(is_toy, (self._root, *self._root.absolute().parents[:2]))),
        )
        self.notes = tuple(self._boxes.notes()) + self._notes()

    def problems(self) -> list[Problem]:
        """What the lists, headers and annotations tell without decoding an image."""
        found = []
        for name, file, error in zip(self._ids, self._files, self._header_errors, strict=True):
            if file is None:
                found.append(Problem("missing_image", name, f"{name}: listed, but no such image in JPEGImages"))
            elif error is not None:
                found.append(Problem("unreadable_image", name, f"{file}: {error}"))
        for place in np.flatnonzero(~self._index.has_file).tolist():
            found.append(Problem("missing_annotation", self._ids[place], "no annotation file"))
        found += self._boxes.problems(self._ids)
        owners = self._index.owners()
        for place, name in enumerate(self._index.name_list):
            if name not in VOC_CLASSES:
                for owner in owners[self._index.names == place].tolist():
                    found.append(
                        Problem("unknown_class", self._ids[owner], f"object {name!r} is of none of the 20 classes")
                    )
        return found

    def _count_objects(self, labels: Sequence[int | None], *, drop_difficult: bool) -> None:
        index = self._index
        counted = ~index.difficult if drop_difficult else np.ones(len(index.names), dtype=np.bool_)
        classes = _class_of_objects(index)
        self._kept: dict[str, NDArray[np.bool_]] = {
            name: counted & (classes == VOC_CLASSES.index(name)) for name in self._class_regions
        }
        self._counted, self._classes = counted, classes
        self._kept["object"] = counted & self._of_class(labels) if self._own else counted

    def _of_class(self, labels: Sequence[int | None]) -> NDArray[np.bool_]:
        """(M,) which objects are of their sample's class, given one a sample."""
        own = np.array([-1 if label is None else label for label in labels], dtype=np.int64)[self._index.owners()]
        of_class: NDArray[np.bool_] = (self._classes == own) & (own >= 0)
        return of_class

    def positives(self) -> Sequence[Sequence[int]]:
        """The classes of each image's objects that are not difficult."""
        columns = [self._attributes[f"has_{name}"] for name in VOC_CLASSES]
        return [tuple(at for at, there in enumerate(row) if there) for row in zip(*columns, strict=True)]

    def read_for(self, index: int, label: int) -> Sample:
        """An image with its objects of one class as the evidence (all objects with ``objects=all``)."""
        if not self._own:
            return super().read_for(index, label)
        of_class = self._counted & (self._classes == label)
        return self._read_as(index, label, {**self._kept, "object": of_class})

    def _read(self, index: int) -> Sample:
        return self._read_as(index, self._labels[index], self._kept)

    def _read_as(self, index: int, label: int | None, kept: Mapping[str, NDArray[np.bool_]]) -> Sample:
        file = self._files[index]
        if file is None:
            raise DatasetError(f"{self._ids[index]}: no such image in {self._root.name}/JPEGImages")
        image = open_image(inside(self._root / "JPEGImages", file))
        annotations: dict[str, Annotation | None] = {
            region: self._boxes.on_image(index, image.width, image.height, objects) for region, objects in kept.items()
        }
        if self._masks is not None:
            annotations["object_mask"] = self._mask(index, label, image.width, image.height)
        return Sample(
            id=self._ids[index],
            image=image,
            label=label,
            annotations=annotations,
            attributes={name: values[index] for name, values in self._attributes.items()},
        )

    def _mask(self, index: int, label: int | None, width: int, height: int) -> Mask | None:
        assert self._masks is not None
        files, folder, wanted = self._masks, "SegmentationObject", None
        if self._class_masks is not None:
            files, folder, wanted = self._class_masks, "SegmentationClass", -1 if label is None else label + 1
        file = files[index]
        if file is None:
            return None
        numbers = read_label_map(inside(self._root / folder, file), width, height)
        marked = (numbers != 0) & (numbers != _BORDER) if wanted is None else numbers == wanted
        return Mask(marked) if marked.any() else None

    def _notes(self) -> tuple[str, ...]:
        told = []
        unlabelled = sum(label is None for label in self._labels)
        if unlabelled:
            told.append(f"{unlabelled:,} images have no label: no annotation file, or only difficult objects")
        if self._index.difficult.any():
            kept = self._kept["object"][self._index.difficult].any()
            told.append(
                f"{int(self._index.difficult.sum()):,} objects are marked difficult; "
                + ("they count in the regions, never for the label" if kept else "left out")
            )
        if self._masks is not None:
            there = sum(file is not None for file in self._masks)
            told.append(f"{there:,} of {len(self._masks):,} images have a mask")
        return tuple(told)


def _find_year(folder: Path, year: str | None) -> tuple[Path, str]:
    """The folder of one year, and its name (VOC2012)."""
    if year is not None:
        match = re.fullmatch(r"(?:VOC)?(\d{4})", year, re.IGNORECASE)
        wanted = f"VOC{match[1]}" if match else year
    if (folder / "JPEGImages").is_dir() or (folder / "Annotations").is_dir():
        name = folder.absolute().name
        there = [(folder, name if re.fullmatch(r"VOC\d{4}", name) else "VOC")]
        if year is not None and there[0][1] == "VOC":
            there = [(folder, wanted)]
    else:
        there = [
            (place, place.name)
            for base in (folder, folder / "VOCdevkit", *sorted(folder.glob("*/VOCdevkit")))
            if base.is_dir()
            for place in sorted(base.iterdir())
            if re.fullmatch(r"VOC\d{4}", place.name) and place.is_dir()
        ]
    chosen = [found for found in there if year is None or found[1] == wanted]
    if len({name for _, name in chosen}) > 1:
        years = ", ".join(name for _, name in chosen)
        raise DatasetError(f"voc: several years in {folder}: {years}; choose one with year=")
    if not chosen:
        other = f"; there is {', '.join(name for _, name in there)}" if there else ""
        raise DatasetError(f"voc: no {'VOC' if year is None else wanted} in {folder}{other}; expected {_TREE}")
    return chosen[0]


def _subfolder(root: Path, name: str) -> Path:
    if not (root / name).is_dir():
        raise DatasetError(f"voc: no {name} in {root}; expected {_TREE}")
    return root / name


def _read_split(root: Path, imageset: str, split: str) -> list[str]:
    """The ids a list names, in ascending order, each once."""
    lists = root / "ImageSets" / imageset.capitalize()
    file = lists / f"{split}.txt"
    if not file.is_file():
        there = sorted({path.stem for path in lists.glob("*.txt")} & set(_SPLITS))
        raise DatasetError(
            f"voc: no {file.relative_to(root).as_posix()} in {root}; there: {', '.join(there) or 'none'}"
        )
    try:
        lines = inside(lists, file.name).read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"{file}: cannot be read as text ({error})") from error
    names = [line.split()[0] for line in lines if line.strip()]
    for name in names:
        inside(root, f"JPEGImages/{name}")
        if "/" in name or "\\" in name:
            raise DatasetError(f"{file}: expected names of images without folders, got {name!r}")
    if not names:
        raise DatasetError(f"{file}: names no image")
    return sorted(set(names))


def _in_order(files: Sequence[str | None], table: pl.DataFrame) -> pl.DataFrame:
    """The rows of the samples' files; nulls where a sample has none."""
    wanted = pl.DataFrame({"file": files}, schema={"file": pl.String()})
    return wanted.join(table, on="file", how="left", maintain_order="left").drop("file")


def _mask_files(root: Path, name: str, ids: Sequence[str]) -> tuple[list[str | None], pl.DataFrame]:
    folder = _subfolder(root, name)
    states = folder_states(folder, (".png",), deep=False)
    file_of = {file.rpartition(".")[0]: file for file in states["file"]}
    files = [file_of.get(sample) for sample in ids]
    return files, _in_order(files, content_digests(folder, states))


def _class_of_objects(index: AnnotationIndex) -> NDArray[np.int64]:
    """(M,) int64: the class of every object, -1 for names that are none."""
    places = [VOC_CLASSES.index(name) if name in VOC_CLASSES else -1 for name in index.name_list]
    return np.array([*places, -1], dtype=np.int64)[index.names]


def _labels(index: AnnotationIndex) -> list[int | None]:
    """For every sample the class of its largest object that is not difficult."""
    sides = index.boxes[:, 2:] - index.boxes[:, :2] + 1
    objects = pl.DataFrame(
        {
            "sample": index.owners(),
            "label": _class_of_objects(index),
            "area": np.where((sides > 0).all(axis=1), sides.prod(axis=1), -1.0),
            "difficult": index.difficult,
        }
    )
    counted = objects.filter(~pl.col("difficult") & (pl.col("label") >= 0) & (pl.col("area") > 0))
    largest = counted.sort("area", descending=True, maintain_order=True).unique("sample", keep="first")
    label_of = dict(largest.select("sample", "label").iter_rows())
    return [label_of.get(place) for place in range(len(index.starts) - 1)]


def _attributes(index: AnnotationIndex) -> dict[str, list[AttributeValue]]:
    owners, classes = index.owners(), _class_of_objects(index)
    counts = index.counts()
    n = len(counts)
    difficult = np.bincount(owners[index.difficult], minlength=n).tolist()
    attributes: dict[str, list[AttributeValue]] = {
        "n_objects": list(counts),
        "n_difficult": [None if count is None else hard for count, hard in zip(counts, difficult, strict=True)],
    }
    for label, name in enumerate(VOC_CLASSES):
        of_class = classes == label
        plain = np.bincount(owners[of_class & ~index.difficult], minlength=n) > 0
        there = np.bincount(owners[of_class], minlength=n) > 0
        attributes[f"has_{name}"] = [
            None if count is None or (is_there and not is_plain) else bool(is_plain)
            for count, is_plain, is_there in zip(counts, plain, there, strict=True)
        ]
    return attributes
