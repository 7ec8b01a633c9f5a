"""ImageNet's validation images with their box annotations, and ImageNet-S's pixel masks where they are at hand.

Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge" (IJCV 2015); the masks: Gao et al.,
"Large-scale Unsupervised Semantic Segmentation" (TPAMI 2022). The annotation is that of Bang, Boggust, Satyanarayan
(eXCV 2024), experiment 5: the union of the boxes, filled as rows ymin:ymax and columns xmin:xmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.base import IndexedDataset
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.arguments import as_choice
from explanation_alignment.datasets.reading.files import data_folder, fingerprint_of, inside, is_toy, open_image
from explanation_alignment.datasets.reading.image_index import content_digests, folder_states, image_headers
from explanation_alignment.datasets.reading.imagenet_files import (
    LAYOUTS,
    SYNSET,
    TREE,
    ImageFolder,
    find_annotations,
    find_images,
    find_masks,
    imagenet_classes,
    synsets_of,
)
from explanation_alignment.datasets.reading.label_maps import read_label_map
from explanation_alignment.datasets.reading.voc_xml import annotation_table
from explanation_alignment.datasets.reading.xml_boxes import AnnotationIndex, XmlBoxes
from explanation_alignment.errors import DatasetError
from explanation_alignment.sample import Annotation, AttributeValue, Mask, Sample

__all__ = ["ImageNet"]

#: ImageNet-S's number for pixels that belong to no class for sure.
_IGNORED: Final = 1000
#: How many classes the three editions of ImageNet-S have; their numbers are places among those, counted from 1.
_MASK_CLASSES: Final = (50, 300, 919)


class ImageNet(IndexedDataset):
    """ImageNet images with the boxes of their annotation files, one file an image in PASCAL VOC's form.

    The class index is the synset's place among the 1,000 sorted synsets, whichever of them are there. Sample ids are
    the images' stems (``ILSVRC2012_val_00000001``), in ascending order; where two synsets share a stem, all ids are
    ``synset/stem``.

    Regions: ``object``, the union of the boxes, half-open as the study filled them (column xmax and row ymax are out);
    with ``masks``, also ``object_mask``, the union of the pixels ImageNet-S gives a class (ignored pixels are out). An
    image without annotation file, without objects, or whose boxes all mark nothing, has none. Boxes are clipped at the
    image's edge; inverted ones mark nothing. Where an annotation file's size is not the image's, see
    :func:`~explanation_alignment.datasets.reading.xml_boxes.lay_boxes`.

    Attributes: ``synset``; ``n_objects``, how many objects the annotation file has (None without a file).

    Args:
        data_dir: the archive's folder: Data/CLS-LOC/val, folders of synsets, or flat images with the devkit's labels.
        split: ``val`` or ``train``.
        objects: ``all``, or ``own`` for those of the image's own synset only.
        layout: ``auto``, ``cls-loc``, ``synsets`` or ``flat``.
        annotations: folder of the annotation files, absolute or below ``data_dir``; left out: looked for.
        masks: ``true`` to look for ImageNet-S's masks, or their folder; left out: none.
        mapping: the file that says which synset each of the devkit's numbers is; left out: looked for.
        orientation: ``stored`` takes pixels as they are stored, as torchvision's loaders do; ``exif`` turns images as
            their EXIF orientation says.

    Raises:
        UsageError: for another value of an argument.
        DatasetError: for missing or damaged files.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        *,
        split: str = "val",
        objects: str = "all",
        layout: str = "auto",
        annotations: str | Path | None = None,
        masks: str | Path | bool | None = None,
        mapping: str | Path | None = None,
        orientation: str = "stored",
    ) -> None:
        as_choice(split, "imagenet: split", ("val", "train"))
        as_choice(objects, "imagenet: objects", ("all", "own"))
        as_choice(layout, "imagenet: layout", LAYOUTS)
        as_choice(orientation, "imagenet: orientation", ("stored", "exif"))
        folder = data_folder(data_dir, "imagenet")
        images = find_images(folder, split, layout)
        self._folder = images.folder
        self._turned = orientation == "exif"

        states = folder_states(images.folder, deep=images.by_synset)
        synsets = synsets_of(images, states["file"].to_list(), split, _path_text(mapping), folder)
        samples, self._left_out = _samples(images, states.with_columns(synset=pl.Series(synsets, dtype=pl.String)))
        self._files: list[str] = samples["file"].to_list()
        self._unreadable = dict(
            samples.with_row_index("place").drop_nulls("error").select("place", "error").iter_rows()
        )
        self._orientations: NDArray[np.int64] = samples["orientation"].to_numpy()

        parts = [samples.select("id", "label", "bytes", "width", "height", "orientation")]
        regions = []
        attributes: dict[str, list[AttributeValue]] = {"synset": samples["synset"].to_list()}
        xml_folder = find_annotations(images, folder, split, _path_text(annotations))
        masks_given = str(masks).lower() if isinstance(masks, bool) else _path_text(masks)
        masks_given = None if masks_given == "false" else masks_given
        self._boxes, self._kept, self._masks = None, None, None
        self._orphans: list[str] = []
        if xml_folder is not None:
            table = annotation_table(xml_folder, folder_states(xml_folder, (".xml",)))
            files, self._orphans = _match(samples, table["file"].to_list())
            index = AnnotationIndex(table, files)
            self._boxes = XmlBoxes(index, samples, one_based=False, turned=self._turned)
            if objects == "own":
                own = {name: place for place, name in enumerate(index.name_list)}
                places = np.array([own.get(synset, -1) for synset in samples["synset"]], dtype=np.int64)
                self._kept = index.names == places[index.owners()]
            parts.append(_in_order(files, table).drop("difficult"))
            attributes["n_objects"] = list(index.counts())
            regions.append("object")
        elif masks_given is None:
            raise DatasetError(
                f"imagenet: no annotation files for {split} in {' or '.join(map(str, images.roots))}; expected "
                f"Annotations/CLS-LOC/{split}/*.xml or Annotations/{split}/nXXXXXXXX/*.xml, or annotations=FOLDER"
            )
        if masks_given is not None:
            self._masks, digests = _Masks.find(find_masks(images, folder, split, masks_given), samples, objects)
            parts.append(_in_order(self._masks.files, digests))
            regions.append("object_mask")
        super().__init__(
            name="-".join(["imagenet", *([split] if split != "val" else []), *(["own"] if objects == "own" else [])]),
            class_names=imagenet_classes()[1],
            regions=regions,
            evidence=regions,
            ids=samples["id"].to_list(),
            labels=samples["label"].to_list(),
            attributes=attributes,
            fingerprint=fingerprint_of("imagenet", objects, orientation, *regions, tables=parts),
            toy=any(map(is_toy, (folder, *images.roots))),
        )
        self.notes = self._notes()

    def problems(self) -> list[Problem]:
        """What the files' names, headers and annotations tell without decoding an image."""
        found = [
            Problem("unreadable_image", self._ids[place], f"{self._files[place]}: {text}")
            for place, text in sorted(self._unreadable.items())
        ]
        for file, why in self._left_out:
            found.append(Problem("unknown_class", None, f"{file}: {why}; left out"))
        if self._orphans:
            found.append(
                Problem(
                    "orphan_annotation",
                    None,
                    f"{len(self._orphans):,} annotation files have no image here, such as {self._orphans[0]}",
                    serious=False,
                )
            )
        if self._boxes is not None:
            found += self._boxes.problems(self._ids)
            for place in np.flatnonzero(~self._boxes.index.has_file).tolist():
                found.append(Problem("missing_annotation", self._ids[place], "no annotation file", serious=False))
        return found

    def _read(self, index: int) -> Sample:
        image = open_image(inside(self._folder, self._files[index]), apply_orientation=self._turned)
        annotations: dict[str, Annotation | None] = {}
        if self._boxes is not None:
            annotations["object"] = self._boxes.on_image(index, image.width, image.height, self._kept)
        if self._masks is not None:
            orientation = int(self._orientations[index])
            annotations["object_mask"] = self._masks.on_image(index, image, orientation, self._turned)
        return Sample(
            id=self._ids[index],
            image=image,
            label=self._labels[index],
            annotations=annotations,
            attributes={name: values[index] for name, values in self._attributes.items()},
        )

    def _notes(self) -> tuple[str, ...]:
        told = [] if self._boxes is None else self._boxes.notes()
        turnable = int((self._orientations > 1).sum())
        if turnable:
            done = "turned so" if self._turned else "taken as stored (orientation=exif turns them)"
            told.append(f"{turnable:,} images have an EXIF orientation: {done}")
        if self._left_out:
            told.append(f"{len(self._left_out):,} images without one of the 1,000 synsets were left out")
        return tuple(told)


@dataclass(frozen=True, slots=True)
class _Masks:
    """ImageNet-S's masks.

    Args:
        folder: where they are.
        files: for every sample its mask, or None.
        numbers: for every sample the number of its own class, where only that counts; None: all count.
    """

    folder: Path
    files: Sequence[str | None]
    numbers: Sequence[int] | None

    @classmethod
    def find(cls, folder: Path, samples: pl.DataFrame, objects: str) -> tuple[_Masks, pl.DataFrame]:
        """The samples' masks, and the digests of all files in the folder."""
        states = folder_states(folder, (".png",))
        files, _ = _match(samples, states["file"].to_list())
        numbers = None
        if objects == "own":
            synsets = sorted(entry.name for entry in folder.iterdir() if SYNSET.fullmatch(entry.name))
            if len(synsets) not in _MASK_CLASSES:
                raise DatasetError(
                    f"imagenet: {len(synsets)} folders of synsets in {folder}; the masks' numbers are places among "
                    f"{' or '.join(map(str, _MASK_CLASSES))}, so that objects=own needs the whole of them"
                )
            number_of = {synset: number for number, synset in enumerate(synsets, start=1)}
            numbers = [number_of.get(synset, -1) for synset in samples["synset"]]
        return cls(folder, files, numbers), content_digests(folder, states)

    def on_image(self, place: int, image: Image.Image, orientation: int, turned: bool) -> Mask | None:
        """A sample's mask on its image; None where there is none, or it marks nothing."""
        file = self.files[place]
        if file is None:
            return None
        path = inside(self.folder, file)
        numbers = read_label_map(path, image.width, image.height, orientation=orientation, turned=turned)
        if self.numbers is not None:
            marked = numbers == self.numbers[place]
        else:
            marked = (numbers != 0) & (numbers != _IGNORED)
        return Mask(marked) if marked.any() else None


def _path_text(given: str | Path | None) -> str | None:
    return None if given is None else str(given)


def _samples(images: ImageFolder, files: pl.DataFrame) -> tuple[pl.DataFrame, list[tuple[str, str]]]:
    """The images that have a class, by ascending id, and those left out with the reason.

    Args:
        images: where they are.
        files: file, bytes, modified, synset.

    Returns:
        (id, file, stem, synset, label, bytes, width, height, orientation, error), and (file, why).
    """
    synsets = imagenet_classes()[0]
    places = pl.DataFrame({"synset": synsets, "label": range(len(synsets))})
    known = files.join(places, on="synset", how="left", maintain_order="left")
    without = known.filter(pl.col("label").is_null())
    left_out = [
        (file, "no class is told for it" if synset is None else f"{synset} is none of the 1,000 synsets")
        for file, synset in without.select("file", "synset").iter_rows()
    ]
    samples = known.drop_nulls("label")
    if not len(samples):
        told = f"{left_out[0][0]}: {left_out[0][1]}" if left_out else "no images"
        raise DatasetError(f"imagenet: no image of a known class in {images.folder} ({told}); expected {TREE}")
    headers = image_headers(images.folder, samples)
    samples = samples.join(headers, on="file", how="left", maintain_order="left")
    samples = samples.with_columns(stem=pl.col("file").str.replace(r"^.*/", "").str.replace(r"\.[^.]*$", ""))
    if samples["stem"].is_duplicated().any():
        identity = pl.format("{}/{}", "synset", "stem")
    else:
        identity = pl.col("stem")
    samples = samples.with_columns(id=identity).sort("id")
    twice = samples.filter(pl.col("id").is_duplicated())["file"]
    if len(twice):
        raise DatasetError(f"imagenet: two images of one name in {images.folder}: {twice[0]} and {twice[1]}")
    return samples, left_out


def _match(samples: pl.DataFrame, files: Sequence[str]) -> tuple[list[str | None], list[str]]:
    """For every sample its file of the same synset and stem, else of the same stem; and the files of no sample."""
    by_synset: dict[tuple[str, str], str] = {}
    by_stem: dict[str, str] = {}
    synset_in: dict[str, str] = {"": ""}  # folder -> the synset it is of, if it is
    for file in files:
        folder, _, name = file.rpartition("/")
        if folder not in synset_in:
            last = folder.rpartition("/")[2]
            synset_in[folder] = last if SYNSET.fullmatch(last) else ""
        stem, synset = name.rpartition(".")[0], synset_in[folder]
        if synset:
            by_synset.setdefault((synset, stem), file)
        else:
            by_stem.setdefault(stem, file)
    matched = [
        by_synset.get(key) or by_stem.get(key[1])
        for key in zip(samples["synset"].to_list(), samples["stem"].to_list(), strict=True)
    ]
    used = set(matched)
    return matched, [file for file in files if file not in used]


def _in_order(files: Sequence[str | None], table: pl.DataFrame) -> pl.DataFrame:
    """The rows of the samples' files without their names, for the fingerprint."""
    wanted = pl.DataFrame({"file": files}, schema={"file": pl.String()})
    return wanted.join(table, on="file", how="left", maintain_order="left").drop("file")
