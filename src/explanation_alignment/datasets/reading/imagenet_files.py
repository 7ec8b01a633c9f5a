"""Where ImageNet's files lie: the ways people unpack its archives, and where an image's class is told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import polars as pl

from explanation_alignment.datasets.reading.files import IMAGE_SUFFIXES, cached_table, inside
from explanation_alignment.errors import DatasetError
from explanation_alignment.paths import not_found

__all__ = [
    "LAYOUTS",
    "SYNSET",
    "TREE",
    "ImageFolder",
    "find_annotations",
    "find_images",
    "find_masks",
    "imagenet_classes",
    "synsets_of",
]

#: cls-loc: Data/CLS-LOC/val as in the challenge's archive; synsets: a folder a class; flat: all images in one folder.
LAYOUTS: Final = ("auto", "cls-loc", "synsets", "flat")
TREE: Final = (
    "ILSVRC/Data/CLS-LOC/val with LOC_val_solution.csv, val/nXXXXXXXX/*.JPEG, "
    "or val/*.JPEG with ILSVRC2012_validation_ground_truth.txt and meta.mat"
)
SYNSET: Final = re.compile(r"n\d{8}")
_NUMBERED = re.compile(r"ILSVRC2012_val_(\d{8})")
_SPLIT_FOLDERS: Final = {
    "val": ("val", "validation", "ILSVRC2012_img_val"),
    "train": ("train", "ILSVRC2012_img_train"),
}
_BELOW: Final = ("", "ILSVRC", "ILSVRC2012", "imagenet", "ImageNet")
_ANNOTATION_FOLDERS: Final = (
    "Annotations",
    "annotations",
    "Annotation",
    "annotation",
    "bboxes",
    "bbox",
    "ILSVRC2012_bbox_val_v3",
)
_DEVKIT_FOLDERS: Final = ("", "data", "ILSVRC2012_devkit_t12/data", "ILSVRC2012_devkit_t12", "devkit/data", "devkit")
_TRUTHS: Final = ("ILSVRC2012_validation_ground_truth.txt", "ILSVRC2015_clsloc_validation_ground_truth.txt")
_MAPPINGS: Final = ("meta.mat", "map_clsloc.txt")


@cache
def imagenet_classes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The 1,000 synsets, sorted, and a name for each, from timm's ``ImageNetInfo``.

    A name is the first of the synset's words; where two synsets share it (crane, maillot), the synset stands behind.
    """

    def read() -> pl.DataFrame:
        from timm.data.imagenet_info import ImageNetInfo

        info: Any = ImageNetInfo()
        synsets = sorted(info.label_names())
        return pl.DataFrame(
            {"synset": synsets, "name": [info.label_name_to_description(synset).split(",")[0] for synset in synsets]}
        )

    table = cached_table(f"imagenet classes, timm {version('timm')}", [], read)  # timm takes seconds to import
    table = table.with_columns(
        pl.when(pl.col("name").is_duplicated())
        .then(pl.format("{} ({})", "name", "synset"))
        .otherwise(pl.col("name"))
        .alias("name")
    )
    return tuple(table["synset"]), tuple(table["name"])


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Where the images are.

    Args:
        folder: the images, or the folders of synsets.
        by_synset: whether there is a folder a synset.
        roots: folders where labels and annotations may lie, nearest first.
    """

    folder: Path
    by_synset: bool
    roots: tuple[Path, ...]


def find_images(data_dir: Path, split: str, layout: str) -> ImageFolder:
    """The folder of a split's images.

    Args:
        data_dir: the folder given; the tree may begin there, one folder below, or (a part of it given) above.
        split: ``val`` or ``train``.
        layout: one of :data:`LAYOUTS`.

    Raises:
        DatasetError: there is none; the message shows what is expected.
    """
    if layout in ("auto", "cls-loc"):
        for base in [data_dir / below for below in _BELOW] + _above(data_dir, 3):
            place = base / "Data" / "CLS-LOC" / split
            if place.is_dir() and (place.is_relative_to(data_dir) or data_dir.is_relative_to(base)):
                return ImageFolder(place, _has_synsets(place), _unique([base, data_dir, *_above(base, 1)]))
    if layout != "cls-loc":
        places = [data_dir / below / name for below in _BELOW for name in _SPLIT_FOLDERS[split]]
        for place in [place for place in places if place.is_dir()] + [data_dir]:
            by_synset = _has_synsets(place)
            if (by_synset and layout != "flat") or (not by_synset and layout != "synsets" and _has_images(place)):
                roots = [place.parent, data_dir, place] if place != data_dir else [place, *_above(place, 1)]
                return ImageFolder(place, by_synset, _unique(roots))
            if not by_synset and layout != "flat":
                _refuse_numbered(place)
    wanted = "" if layout == "auto" else f" in the layout {layout!r}"
    raise DatasetError(f"imagenet: no {split} images{wanted} in {data_dir}; expected {TREE}")


def _above(folder: Path, levels: int) -> list[Path]:
    return list(folder.absolute().parents[:levels])


def _unique(folders: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(folders))


def _has_synsets(folder: Path) -> bool:
    return any(SYNSET.fullmatch(entry.name) and entry.is_dir() for entry in folder.iterdir())


def _has_images(folder: Path) -> bool:
    return any(entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in folder.iterdir())


def _refuse_numbered(folder: Path) -> None:
    numbered = sorted(entry.name for entry in folder.iterdir() if entry.name.isdigit() and entry.is_dir())
    if numbered:
        raise DatasetError(
            f"imagenet: folders named by number ({numbered[0]}, ...) in {folder} do not say which class they are, "
            "since several numberings are in use; rename them to synsets (nXXXXXXXX)"
        )


def find_annotations(images: ImageFolder, data_dir: Path, split: str, given: str | None) -> Path | None:
    """The folder of the annotation files, or None where there is none.

    Args:
        images: from :func:`find_images`.
        data_dir: the folder given.
        split: ``val`` or ``train``.
        given: a path, absolute or below ``data_dir``, instead of looking.

    Raises:
        DatasetError: ``given`` is no folder.
    """
    if given is not None:
        return _given_folder(data_dir, given, "annotations")
    for root in images.roots:
        for name in _ANNOTATION_FOLDERS:
            for below in (f"CLS-LOC/{split}", *_SPLIT_FOLDERS[split], ""):
                place = root / name / below
                if place.is_dir() and _holds(place, ".xml"):
                    return place
    return None


def find_masks(images: ImageFolder, data_dir: Path, split: str, given: str) -> Path:
    """The folder of ImageNet-S's masks.

    Args:
        images: from :func:`find_images`.
        data_dir: the folder given.
        split: ``val`` or ``train``.
        given: ``"true"`` to look for it, or a path, absolute or below ``data_dir``.

    Raises:
        DatasetError: there is none.
    """
    if given != "true":
        return _given_folder(data_dir, given, "masks")
    name = {"val": "validation-segmentation", "train": "train-semi-segmentation"}[split]
    for root in images.roots:
        for below in ("", "ImageNetS919", "ImageNetS300", "ImageNetS50", "ImageNetS", "ImageNet-S"):
            if (root / below / name).is_dir():
                return root / below / name
    raise DatasetError(f"imagenet: no {name}/nXXXXXXXX/*.png in {data_dir}; give its place: masks=FOLDER")


def _given_folder(data_dir: Path, given: str, what: str) -> Path:
    folder = data_dir / Path(given).expanduser()
    if not folder.is_dir():
        raise not_found(DatasetError, f"imagenet: {what}=", given, below=data_dir)
    return folder


def _holds(folder: Path, suffix: str) -> bool:
    """Whether there is a file of that kind in the folder or in one directly below it."""
    for entry in folder.iterdir():
        if entry.name.endswith(suffix):
            return True
        if entry.is_dir() and any(file.name.endswith(suffix) for file in entry.iterdir()):
            return True
    return False


def synsets_of(
    images: ImageFolder, files: Sequence[str], split: str, mapping: str | None, data_dir: Path
) -> list[str | None]:
    """The synset of every image; None where nothing tells it.

    In folders of synsets it is the folder. Else ``LOC_val_solution.csv`` tells it, and where that is not there the
    development kit's ground truth, whose numbers become synsets through its own mapping only.

    Args:
        images: from :func:`find_images`.
        files: paths below ``images.folder``.
        split: ``val`` or ``train``.
        mapping: the file that says which synset a number of the ground truth is, instead of looking for it.
        data_dir: the folder given.

    Raises:
        DatasetError: a file that should tell them is missing or damaged.
    """
    if images.by_synset:
        first = [file.partition("/")[0] if "/" in file else "" for file in files]
        return [name if SYNSET.fullmatch(name) else None for name in first]
    stems = [file.rpartition("/")[2].rpartition(".")[0] for file in files]
    solution = _find(images.roots, ("",), (f"LOC_{split}_solution.csv",))
    if solution is not None and mapping is None:
        told = _read_solution(solution)
        return [told.get(stem) for stem in stems]
    truth = _find(images.roots, _DEVKIT_FOLDERS, _TRUTHS) if split == "val" else None
    if truth is None:
        raise DatasetError(
            f"imagenet: {images.folder} holds images without folders of synsets; expected LOC_{split}_solution.csv"
            + (f" or {_TRUTHS[0]}" if split == "val" else "")
            + f" in {' or '.join(map(str, images.roots))}"
        )
    if mapping is None:
        known = _find((truth.parent, *images.roots), _DEVKIT_FOLDERS, _MAPPINGS)
    else:
        known = data_dir / Path(mapping).expanduser()
    if known is None or not known.is_file():
        raise DatasetError(
            f"imagenet: {truth} has the devkit's own numbers, which are not in the order of the synsets; "
            f"expected {' or '.join(_MAPPINGS)} beside it, or mapping=FILE"
        )
    synset_of, numbers = _read_mapping(known), _read_truth(truth)
    synsets: list[str | None] = []
    for stem in stems:
        match = _NUMBERED.fullmatch(stem)
        line = int(match[1]) if match else 0
        if not 1 <= line <= len(numbers):
            synsets.append(None)
        elif numbers[line - 1] not in synset_of:
            raise DatasetError(f"{truth.name}, line {line}: number {numbers[line - 1]} is not in {known.name}")
        else:
            synsets.append(synset_of[numbers[line - 1]])
    return synsets


def _find(roots: Iterable[Path], folders: Iterable[str], names: Iterable[str]) -> Path | None:
    places = (root / folder / name for root in roots for folder in folders for name in names)
    found = next((place for place in places if place.is_file()), None)
    return None if found is None else inside(found.parent, found.name)


def _read_solution(file: Path) -> dict[str, str]:
    """Image -> synset, from ``ImageId,PredictionString``; the string is ``synset x0 y0 x1 y1`` for every object."""
    try:
        table = pl.read_csv(file, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: no readable CSV ({next(iter(str(error).splitlines()), '')})") from error
    if not {"ImageId", "PredictionString"} <= set(table.columns):
        raise DatasetError(f"{file}: expected columns ImageId and PredictionString, got {', '.join(table.columns)}")
    told = table.select(
        stem=pl.col("ImageId").str.strip_chars(), synset=pl.col("PredictionString").str.extract(r"^\s*(n\d{8})\b")
    ).unique(maintain_order=True)
    wrong = told.filter(pl.col("synset").is_null() | pl.col("stem").is_null() | pl.col("stem").is_duplicated())
    if len(wrong):
        raise DatasetError(
            f"{file}: expected one row an image that begins with its synset (nXXXXXXXX); {len(wrong)} rows are not, "
            f"such as that of {wrong['stem'][0]}"
        )
    return dict(told.iter_rows())


def _read_truth(file: Path) -> list[int]:
    try:
        return [int(line) for line in file.read_text(encoding="ascii").split()]
    except (ValueError, OSError) as error:
        raise DatasetError(f"{file}: expected a number a line, one an image ({error})") from error


def _read_mapping(file: Path) -> Mapping[int, str]:
    """Number -> synset: from the devkit's meta.mat, or from lines that hold one number and one synset."""
    pairs = _read_meta(file) if file.suffix == ".mat" else _read_lines(file)
    synset_of = dict(pairs)
    if not pairs or len(synset_of) != len(pairs) or len(set(synset_of.values())) != len(pairs):
        raise DatasetError(f"{file}: expected a number and a synset a line, each once; got {len(pairs)} such pairs")
    return synset_of


def _read_meta(file: Path) -> list[tuple[int, str]]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        synsets = loadmat(file, squeeze_me=True, variable_names=["synsets"])["synsets"]
        rows = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], synsets["num_children"], strict=True)
        return [(int(number), str(synset)) for number, synset, children in rows if int(children) == 0]
    except (MatReadError, OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise DatasetError(f"{file}: expected the devkit's synsets (ILSVRC2012_ID, WNID): {error}") from error


def _read_lines(file: Path) -> list[tuple[int, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file}: cannot be read as text ({error})") from error
    pairs = []
    for number, line in enumerate(filter(str.strip, lines), start=1):
        words = line.replace(",", " ").split()[:2]
        synset = next((word for word in words if SYNSET.fullmatch(word)), None)
        index = next((word for word in words if word.isdecimal()), None)
        if synset is None or index is None:
            raise DatasetError(f"{file}, line {number}: expected a number and a synset, got {line.strip()[:60]!r}")
        pairs.append((int(index), synset))
    return pairs
