"""Datasets with human annotations: one file a source, found by name through :func:`load_dataset`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError
from explanation_alignment.specs import check_arguments, parse_call

if TYPE_CHECKING:
    from explanation_alignment.sample import AnnotatedDataset

__all__ = ["DATASETS", "DatasetEntry", "find_dataset", "load_dataset"]


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One registered dataset. What it names is imported when it is used.

    Args:
        build: ``module:callable`` below this package: makes it from a folder (or None) and its arguments, which come
            as text from a command and may come as Python values from a script.
        summary: one line on what it holds.
        arguments: argument name -> what it may be.
        toy: ``module:callable`` that writes a small generated stand-in in the very same layout, from
            ``(folder, n, seed)`` and its own arguments; None where the installation has data of its own.
        toy_arguments: argument name of the stand-in -> what it may be.
        source: where the real files come from.
        licence: its terms, in one line.
    """

    build: str
    summary: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    toy: str | None = None
    toy_arguments: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    licence: str = ""

    def load(self, data_dir: str | Path | None, **arguments: Any) -> AnnotatedDataset:
        """Build it."""
        dataset: AnnotatedDataset = _imported(self.build)(data_dir, **arguments)
        return dataset

    def write_toy(self, folder: Path, n: int, seed: int, **arguments: Any) -> None:
        """Write the stand-in.

        Args:
            folder: a new or empty one.
            n: images.
            seed: another seed, other images.
            **arguments: of this stand-in, see ``toy_arguments``.

        Raises:
            UsageError: there is none, or it has no such argument.
            DatasetError: the folder cannot be written.
        """
        if self.toy is None:
            raise UsageError("this dataset needs no stand-in: it comes with data of its own; see `ealign datasets`")
        check_arguments("this dataset's stand-in", arguments, self.toy_arguments)
        try:
            _imported(self.toy)(folder, n, seed, **arguments)
        except OSError as error:
            why = error.strerror or error
            raise DatasetError(
                f"cannot write to {folder}: {why}; give a new or empty folder that can be made"
            ) from error


def _imported(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found


_FACE_SHARES: Final[Mapping[str, str]] = {
    "correlation": "phi between hair (black or blond) and smile, -1 to 1; left out: 0",
    "other_hair": "share of faces with brown or grey hair, 0 to below 1; left out: 0.2",
}
#: Every dataset that can be asked for by name.
DATASETS: Final[Mapping[str, DatasetEntry]] = {
    "colored_mnist": DatasetEntry(
        build="colored_mnist:ColoredMNIST",
        summary="MNIST, Fashion-MNIST or (without a folder) scikit-learn's digits, with a coloured block in a corner",
        arguments={"split": "test | train", "coloring": "correlated | uncorrelated-K (K = 1, 2, ...)"},
        toy="toy.colored_mnist:write",
        source="MNIST: four IDX files, as LeCun, Cortes and Burges published them",
        licence="MNIST: CC BY-SA 3.0; Fashion-MNIST: MIT; scikit-learn's digits: CC BY 4.0",
    ),
    "imagenet": DatasetEntry(
        build="imagenet:ImageNet",
        summary="ImageNet's validation images with their boxes, and ImageNet-S's masks where they are at hand",
        arguments={
            "split": "val | train",
            "objects": "all | own (those of the image's own synset)",
            "layout": "auto | cls-loc | synsets | flat",
            "annotations": "folder of the XML files; left out: looked for",
            "masks": "true, or the folder of ImageNet-S's masks; left out: none",
            "mapping": "file that says which synset each of the devkit's numbers is; left out: looked for",
            "orientation": "stored | exif (turn images as EXIF says)",
        },
        toy="toy.imagenet:write",
        toy_arguments={"classes": "4 to 12; left out: 4"},
        source="ILSVRC 2012 validation images and their bounding boxes, from the ImageNet project after registration",
        licence="ImageNet's terms of access: non-commercial research and education; images belong to their owners",
    ),
    "voc": DatasetEntry(
        build="voc:VOC",
        summary="PASCAL VOC 2007 to 2012: objects of 20 classes with boxes, and masks where there are",
        arguments={
            "year": "2007 | ... | 2012; left out: the only one there is",
            "split": "train | val | trainval | test",
            "imageset": "main | segmentation (images with masks)",
            "objects": "all | own (those of the label's class)",
            "difficult": "keep | drop",
            "regions": "classes (all), or names of classes joined by +",
            "masks": "true | false",
        },
        toy="toy.voc:write",
        source="VOCtrainval and VOCtest archives of the PASCAL VOC project",
        licence="annotations free for research; images under Flickr's terms of use",
    ),
    "celeba": DatasetEntry(
        build="celeba:CelebA",
        summary="CelebA's aligned faces with 40 attributes, the box of the mouth, and hair from CelebAMask-HQ",
        arguments={
            "split": "test | train | valid | all",
            "label": "any of the 40 attributes; left out: Smiling",
            "regions": "mouth | eyes | nose | hair | hair_hq_pairing, joined by +; left out: mouth",
            "masks_dir": "folder of CelebAMask-HQ, for hair",
        },
        toy="toy.celeba:write",
        toy_arguments=_FACE_SHARES,
        source="images aligned and cropped, annotations and partition, from the CelebA project",
        licence="non-commercial research only; images belong to their owners",
    ),
    "celebamask_hq": DatasetEntry(
        build="celebamask_hq:CelebAMaskHQ",
        summary="CelebA-HQ's faces with a mask for every part: the seven published regions or all parts",
        arguments={
            "images": "hq | aligned (CelebA's pictures of the same persons)",
            "pairing": "published (masks on the aligned picture's centre) | crop (where the square was cut from)",
            "regions": "published | parts | names joined by +",
            "label": "any of the 40 attributes; left out: Smiling",
            "split": "all | train | valid | test (CelebA's)",
            "celeba_dir": "folder of CelebA, for aligned pictures and the split",
        },
        toy="toy.celebamask_hq:write",
        toy_arguments=_FACE_SHARES,
        source="the CelebAMask-HQ archive of its project",
        licence="non-commercial research and education only",
    ),
    "cifar100": DatasetEntry(
        build="cifar100:open_cifar100",
        summary="CIFAR-100, without annotations: for measuring how well classifiers transfer",
        arguments={"split": "test | train", "labels": "fine (100 classes) | coarse (their 20 groups)"},
        toy="toy.cifar100:write",
        source="the python archive of CIFAR-100, as Krizhevsky, Nair and Hinton published it; or an export of it",
        licence="no licence stated; cite Krizhevsky (2009)",
    ),
    "coco": DatasetEntry(
        build="coco:Coco",
        summary="COCO's instances, or any file in its format: masks and boxes by category",
        arguments={
            "split": "val2017 | train2017 | ...",
            "label": "largest (category of the largest instance) | none",
            "objects": "own (instances of the label's category) | all",
            "regions": "besides object: object_box, or names of categories, joined by +",
            "crowd": "ignore | keep",
            "annotations": "path of the annotation file; left out: looked for",
            "images": "folder of the images; left out: looked for",
        },
        toy="toy.coco:write",
        source="2017 Val images and 2017 Train/Val annotations, from the COCO project",
        licence="annotations: CC BY 4.0; images under Flickr's terms of use",
    ),
    "folder": DatasetEntry(
        build="folder:Folder",
        summary="your own images with masks, heatmaps, boxes, polygons or files of annotation tools beside them",
        arguments={
            "images": "folder of the images; left out: images, or the folder itself",
            "annotations": "masks | heatmaps | table | labelme | via | label_studio; left out: found out",
            "source": "folder or file the annotations are in; left out: found out",
            "labels": "folders | shapes | none | a table's path; left out: found out",
            "classes": "text file with a class a line; left out: classes.txt, or names in order",
            "regions": "regions to take, joined by +; left out: all",
            "evidence": "regions that count as the reason, joined by +; left out: object, or all",
            "layout": "auto | same (masks lie as images) | regions (a folder a region)",
            "mask_suffix": "what stands after the image's name in a mask's",
            "mask_values": "numbers of the mask, 1+3, or of regions, person:15+dog:12; left out: all but 0",
            "mask_threshold": "numbers of at least this belong to the mask",
            "size": "same | scale (masks of another size than the image)",
            "orientation": "apply | ignore the camera's orientation (EXIF)",
            "image_column": "of a table; left out: found by its name",
            "label_column": "of a table, or an annotation tool's attribute; none for none",
            "region_column": "of a table, or an annotation tool's attribute; none for none",
            "box_columns": "four columns joined by +, or one with four numbers",
            "box_format": "xyxy | xywh",
            "polygon_column": "of a table",
            "coordinates": "pixels | fractions",
            "attributes": "columns to keep, joined by +, or none; left out: all others",
            "dataset_name": "its name in tables; left out: the folder's",
        },
        toy="toy.folder:write",
        source="your own files",
        licence="yours",
    ),
    "huggingface": DatasetEntry(
        build="huggingface:HuggingFaceDataset",
        summary="a dataset of the Hugging Face library in a local folder or in memory; nothing is fetched",
        arguments={
            "split": "which, where there are several",
            "image": "column of images; left out: image",
            "label": "column of labels, or none; left out: label",
            "mask": "column of masks, or region:column pairs joined by +",
            "heatmap": "the same for real-valued attention",
            "boxes": "the same for boxes; a dot leads to a field, as in objects.bbox",
            "box_format": "xyxy | xywh | coco (objects with a field bbox)",
            "coordinates": "pixels | fractions",
            "mask_values": "numbers of the mask, joined by +; left out: all but 0",
            "size": "same | scale (masks of another size than the image)",
            "attributes": "columns to keep, joined by +",
            "evidence": "regions that count as the reason, joined by +; left out: all",
            "id": "column of unique ids; left out: the row's number",
            "dataset_name": "its name in tables; left out: the folder's",
        },
        toy="toy.huggingface:write",
        source="any dataset saved with save_to_disk, or its Parquet files",
        licence="as its card says",
    ),
}


def find_dataset(name: str) -> tuple[str, DatasetEntry]:
    """A registered dataset's name as it is written in tables, and its entry; ``-`` and ``_`` are alike.

    Raises:
        UnknownNameError: there is none; the message has the nearest.
    """
    written = name.replace("-", "_")
    if written not in DATASETS:
        raise UnknownNameError("dataset", name, DATASETS)
    return written, DATASETS[written]


def load_dataset(name: str, data_dir: str | Path | None = None, **arguments: Any) -> AnnotatedDataset:
    """A dataset by its name.

    Args:
        name: a registered name, also with arguments in it: ``"colored_mnist(coloring=uncorrelated-1)"``; or
            ``"file:PATH.py:FACTORY"``, a function in a Python file that returns any object with the
            :class:`~explanation_alignment.sample.AnnotatedDataset` protocol, see :func:`.from_file.dataset_from_file`.
        data_dir: the folder its files are in.
        **arguments: its arguments (``ealign datasets`` lists them); they win over those in the name.

    Raises:
        UnknownNameError: for a name or an argument there is not.
        DatasetError: for missing or damaged files.
    """
    if name.strip().startswith("file:"):
        from explanation_alignment.datasets.from_file import dataset_from_file

        return dataset_from_file(name.strip().removeprefix("file:"), data_dir, arguments)
    bare, written = parse_call(name, "dataset")
    bare, entry = find_dataset(bare)
    given = {**written, **arguments}
    check_arguments(f"dataset {bare}", given, entry.arguments)
    return entry.load(data_dir, **given)
