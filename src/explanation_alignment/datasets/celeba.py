"""CelebA: aligned faces with 40 attributes and five points, from which the mouth's box follows.

Sources: Liu et al., Deep Learning Face Attributes in the Wild (ICCV 2015); the mouth's box is that of Bang, Boggust,
Satyanarayan (eXCV 2024), experiment 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.datasets.base import IndexedDataset
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.arguments import as_choice
from explanation_alignment.datasets.reading.celeba_files import (
    LANDMARKS,
    SPLITS,
    PartMasks,
    attribute_table,
    carry_back,
    class_names_of,
    digest,
    evidence_for,
    find_list,
    hair_color,
    hq_root,
    identity_table,
    image_table,
    landmark_table,
    lay_on_center,
    listed,
    mapping_table,
    mask_folder,
    needed_list,
    partition_table,
    several,
)
from explanation_alignment.datasets.reading.files import (
    cached_table,
    data_folder,
    fingerprint_of,
    inside,
    is_toy,
    open_image,
)
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError
from explanation_alignment.sample import Annotation, AttributeValue, Boxes, Mask, Sample

__all__ = [
    "ALIGNED_SIZE",
    "CelebA",
    "celeba_lists",
    "celeba_root",
    "eye_boxes",
    "mouth_boxes",
    "nose_boxes",
]

#: (height, width) of an aligned image; the landmarks are pixels on it.
ALIGNED_SIZE: Final = (218, 178)
REGIONS: Final = ("mouth", "eyes", "nose", "hair", "hair_hq_pairing")

_TREE = (
    "Anno/list_attr_celeba.txt, Anno/list_landmarks_align_celeba.txt, Eval/list_eval_partition.txt, "
    "Img/img_align_celeba/000001.jpg"
)


def mouth_boxes(landmarks: NDArray[np.integer]) -> NDArray[np.int64]:
    """The published box of the mouth.

    Columns from the left to the right corner; with ``h = round((2/3) * width / 2)`` (half to even, as Python rounds),
    rows from ``h`` above the left corner to ``h`` below the right one; half-open.

    Args:
        landmarks: (N, 10) pixels in the order of ``LANDMARKS``.

    Returns:
        (N, 1, 4) x0, y0, x1, y1; empty where the corners are the wrong way round.
    """
    left_x, left_y, right_x, right_y = landmarks[:, 6:].astype(np.int64).T
    half = np.rint((2 / 3) * (right_x - left_x) / 2).astype(np.int64)
    return np.stack([left_x, left_y - half, right_x, right_y + half], axis=1)[:, None]


def eye_boxes(landmarks: NDArray[np.integer]) -> NDArray[np.int64]:
    """A box around each eye's centre, 3/5 of the distance between them wide and 2/5 high, half-open. Not published.

    Args:
        landmarks: (N, 10) pixels in the order of ``LANDMARKS``.

    Returns:
        (N, 2, 4) x0, y0, x1, y1.
    """
    eyes = landmarks[:, :4].astype(np.int64).reshape(-1, 2, 2)
    apart = eyes[:, 1, 0] - eyes[:, 0, 0]
    reach = np.rint(np.stack([0.3 * apart, 0.2 * apart], axis=1)).astype(np.int64)[:, None]
    return np.concatenate([eyes - reach, eyes + reach], axis=2)


def nose_boxes(landmarks: NDArray[np.integer]) -> NDArray[np.int64]:
    """A box from below the eyes to below the nose's tip, 3/5 of the eyes' distance wide, half-open. Not published.

    Args:
        landmarks: (N, 10) pixels in the order of ``LANDMARKS``.

    Returns:
        (N, 1, 4) x0, y0, x1, y1.
    """
    points = landmarks.astype(np.int64)
    apart = points[:, 2] - points[:, 0]
    eyes = (points[:, 1] + points[:, 3]) / 2
    half, drop = np.rint(0.3 * apart).astype(np.int64), np.rint(0.2 * apart).astype(np.int64)
    top = np.rint(eyes + 0.2 * apart).astype(np.int64)
    box = [points[:, 4] - half, top, points[:, 4] + half, points[:, 5] + drop]
    return np.stack(box, axis=1)[:, None]


class CelebA(IndexedDataset):
    """CelebA's aligned images as an annotated dataset.

    Regions: ``mouth`` (the published box), ``eyes`` and ``nose`` (boxes of our own around the same points), ``hair``
    (CelebAMask-HQ's mask, carried back to where its picture was cut from) and ``hair_hq_pairing`` (the same mask laid
    on the picture's centre as the published study did, about 10 px off). Images without such a mask have no annotation
    for it.

    Attributes: ``hair_color`` (black, blond, other), ``split``, ``identity`` where its list is there, ``hair_mask``
    where hair is asked for, and all 40 as booleans.

    Args:
        data_dir: the folder with ``Anno``, ``Eval`` and ``Img``; the lists may lie beside the images, be exports with
            commas, and the image folder may be nested twice.
        split: ``"train"``, ``"valid"``, ``"test"`` or ``"all"``.
        label: the attribute that is the class: 0 without it, 1 with it.
        regions: names joined by ``+``, or a list.
        masks_dir: CelebAMask-HQ's folder, for hair.

    Raises:
        UsageError: for another split, attribute or region, or hair without ``masks_dir``.
        DatasetError: for missing or damaged lists.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        *,
        split: str = "test",
        label: str = "Smiling",
        regions: str | Sequence[str] = "mouth",
        masks_dir: str | Path | None = None,
    ) -> None:
        split = as_choice(split, "split", (*SPLITS, "all"))
        names = several(regions, "region of celeba", REGIONS)
        if masks_dir is None and any(name.startswith("hair") for name in names):
            raise UsageError("celeba: hair is annotated by CelebAMask-HQ alone; give its folder (masks_dir=)")
        self._root, self._folder = celeba_root(data_folder(data_dir, "celeba"))
        lists = celeba_lists(self._root, split=split)
        images = image_table(self._folder)
        known = lists.select("stem")
        self._orphans = tuple(images.join(known, on="stem", how="anti")["file"].to_list())
        table = lists.join(images, on="stem", how="left", maintain_order="left")
        if split != "all":
            table = table.filter(pl.col("partition") == SPLITS.index(split))
        attributes = [column for column in table.columns if table[column].dtype == pl.Boolean]
        if label not in attributes:
            raise UnknownNameError("attribute of celeba", label, attributes)
        self._files: tuple[str | None, ...] = tuple(table["file"].to_list())
        points = table.select(LANDMARKS)
        self._located: NDArray[np.bool_] = points.select(~pl.any_horizontal(pl.all().is_null()))["lefteye_x"].to_numpy()
        self._landmarks: NDArray[np.int32] = points.fill_null(0).to_numpy().astype(np.int32)
        makers = {"mouth": mouth_boxes, "eyes": eye_boxes, "nose": nose_boxes}
        self._boxes = {name: makers[name](self._landmarks) for name in names if name in makers}
        columns: dict[str, Sequence[AttributeValue]] = {"hair_color": hair_color(table)}
        columns["split"] = [None if place is None else SPLITS[place] for place in table["partition"].to_list()]
        if "identity" in table.columns:
            columns["identity"] = table["identity"].to_list()
        stems: list[str] = table["stem"].to_list()
        self._masks: PartMasks | None = None
        self._hq_index: tuple[int | None, ...] = ()
        toy = is_toy(self._root)
        mask_digest = ""
        if masks_dir is not None:
            hq = hq_root(masks_dir, "celeba (masks_dir)")
            self._masks = masks = PartMasks.scan(mask_folder(hq))
            tree = "CelebA-HQ-to-CelebA-mapping.txt beside the mask folder"
            mapping = mapping_table(needed_list([hq], "CelebA-HQ-to-CelebA-mapping", "celeba (masks_dir)", tree))
            index_of = dict(zip(mapping["stem"].to_list(), mapping["index"].to_list(), strict=True))
            self._hq_index = tuple(index_of.get(stem) for stem in stems)
            columns["hair_mask"] = [place is not None and masks.has(place, "hair") for place in self._hq_index]
            mask_digest = str([(place, masks.sizes.get(place)) for place in self._hq_index if place is not None])
            if is_toy(hq) != toy:
                raise UsageError("celeba: one of data_dir and masks_dir holds generated data, the other does not")
        columns |= {name: table[name].to_list() for name in attributes}
        content = digest(table.drop("file"))
        super().__init__(
            name="-".join(["celeba", *([] if split == "test" else [split]), *([] if label == "Smiling" else [label])]),
            class_names=class_names_of(label),
            regions=names,
            evidence=evidence_for(label, names),
            ids=stems,
            labels=[int(value) for value in table[label].to_list()],
            attributes=columns,
            fingerprint=fingerprint_of("celeba", split, label, "+".join(names), content, mask_digest),
            toy=toy,
        )

    def _read(self, index: int) -> Sample:
        file = self._files[index]
        if file is None:
            raise DatasetError(f"{self._ids[index]}: no image {self._ids[index]}.jpg in {self._folder.name}")
        image = open_image(inside(self._folder, file))
        size = (image.height, image.width)
        if size != ALIGNED_SIZE:
            raise DatasetError(
                f"{file}: {image.width} x {image.height} pixels; the landmarks are for aligned images of 178 x 218"
            )
        return Sample(
            id=self._ids[index],
            image=image,
            label=self._labels[index],
            annotations={region: self._annotation(region, index) for region in self.regions},
            attributes={name: values[index] for name, values in self._attributes.items()},
        )

    def _annotation(self, region: str, index: int) -> Annotation | None:
        if region in self._boxes:
            self._check_located(index)
            return Boxes(self._boxes[region][index], *ALIGNED_SIZE)
        place = self._hq_index[index]
        if self._masks is None or place is None or not self._masks.has(place, "hair"):
            return None
        mask = self._masks.read(place, "hair")
        if region == "hair_hq_pairing":
            return Mask(lay_on_center(mask, ALIGNED_SIZE))
        self._check_located(index)
        return Mask(carry_back(mask, self._landmarks[index], ALIGNED_SIZE))

    def _check_located(self, index: int) -> None:
        if not self._located[index]:
            raise DatasetError(f"{self._ids[index]}: its landmarks are missing or no finite numbers")

    def problems(self) -> list[Problem]:
        """What the lists and folders tell to be wrong, without decoding an image."""
        ids = self.ids()
        missing = [name for name, file in zip(ids, self._files, strict=True) if file is None]
        problems = listed("missing_image", missing, f"no image {{}}.jpg in {self._folder.name}")
        problems += listed("orphan_image", self._orphans, "image {} is in no list; it is not read", by_sample=False)
        problems += listed("orphan_annotation", _differences(self._root), "{}", by_sample=False)
        lost = [ids[place] for place in np.flatnonzero(~self._located).tolist()]
        problems += listed("bad_box", lost, "the landmarks of {} are missing or no finite numbers")
        for region, boxes in self._boxes.items():
            height, width = ALIGNED_SIZE
            x0, y0, x1, y1 = np.moveaxis(np.clip(boxes, 0, [width, height, width, height]), 2, 0)
            empty = self._located & ((x1 <= x0) | (y1 <= y0)).any(axis=1)
            names = [ids[place] for place in np.flatnonzero(empty).tolist()]
            problems += listed("bad_box", names, f"{region}: the landmarks of {{}} give an empty box")
        if self._masks is not None:
            problems += self._masks.strays
        return problems


def celeba_root(given: Path) -> tuple[Path, Path]:
    """The folder with the lists and the one with the images."""
    beside = [given.parent] if given.name.lower() in ("anno", "eval", "img", "img_align_celeba") else []
    roots = (*beside, given, given / "celeba", given / "CelebA")
    for root in roots:
        if find_list([root], "list_attr_celeba") is None:
            continue
        for place in (root / "Img", root):
            for name in ("img_align_celeba", "img_align_celeba_png"):
                folder = place / name
                if (folder / name).is_dir():
                    return root, folder / name
                if folder.is_dir():
                    return root, folder
        packed = " (unpack img_align_celeba.zip first)" if any(root.rglob("img_align_celeba*.zip")) else ""
        raise DatasetError(f"celeba: no folder img_align_celeba in {root} or its Img{packed}; expected {_TREE}")
    raise DatasetError(f"celeba: no list_attr_celeba.txt (or .csv) in {given} or its Anno; expected {_TREE}")


@dataclass(frozen=True, slots=True)
class _Lists:
    """Where the lists are."""

    attributes: Path
    landmarks: Path
    partition: Path | None
    identity: Path | None

    @classmethod
    def find(cls, root: Path) -> _Lists:
        return cls(
            needed_list([root], "list_attr_celeba", "celeba", _TREE),
            needed_list([root], "list_landmarks_align_celeba", "celeba", _TREE),
            find_list([root], "list_eval_partition"),
            find_list([root], "identity_CelebA"),
        )

    def files(self) -> list[Path]:
        return [path for path in (self.attributes, self.landmarks, self.partition, self.identity) if path is not None]


def celeba_lists(root: Path, *, split: str = "all") -> pl.DataFrame:
    """All lists joined: ``stem``, ``partition``, the ten coordinates, perhaps ``identity``, and the attributes.

    Args:
        root: the folder with the lists, or with ``Anno`` and ``Eval``.
        split: any but ``"all"`` needs the partition.

    Raises:
        DatasetError: one is missing or damaged.
    """
    lists = _Lists.find(root)
    if split != "all":
        needed_list([root], "list_eval_partition", f"celeba, split {split}", _TREE)

    def build() -> pl.DataFrame:
        table = attribute_table(lists.attributes)
        attributes = table.columns[1:]
        if lists.partition is None:
            table = table.with_columns(pl.lit(None, dtype=pl.Int8).alias("partition"))
        else:
            table = table.join(partition_table(lists.partition), on="stem", how="left")
        table = table.join(landmark_table(lists.landmarks), on="stem", how="left")
        people: list[str] = []
        if lists.identity is not None:
            table, people = table.join(identity_table(lists.identity), on="stem", how="left"), ["identity"]
        return table.select("stem", "partition", *LANDMARKS, *people, *attributes).sort("stem")

    return cached_table("celeba lists", lists.files(), build)


def _differences(root: Path) -> list[str]:
    """Rows of the other lists that the list of attributes has not, and the other way round."""
    lists = _Lists.find(root)
    attributes = attribute_table(lists.attributes).select("stem")
    others = [(lists.landmarks, landmark_table(lists.landmarks))]
    if lists.partition is not None:
        others.append((lists.partition, partition_table(lists.partition)))
    messages: list[str] = []
    for path, other in others:
        more, less = other.join(attributes, on="stem", how="anti"), attributes.join(other, on="stem", how="anti")
        messages += [f"{path.name} has {stem!r}, the list of attributes has not" for stem in more["stem"]]
        messages += [f"{path.name} lacks {stem!r}, which the list of attributes has" for stem in less["stem"]]
    return messages
