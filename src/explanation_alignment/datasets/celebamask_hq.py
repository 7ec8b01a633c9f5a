"""CelebAMask-HQ: CelebA-HQ's faces with a mask for every part.

Sources: Lee et al., MaskGAN (CVPR 2020); the seven regions and the pairing with aligned pictures are those of Bang,
Boggust, Satyanarayan (eXCV 2024), experiment 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.base import IndexedDataset
from explanation_alignment.datasets.celeba import ALIGNED_SIZE, celeba_lists, celeba_root
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.arguments import as_choice
from explanation_alignment.datasets.reading.celeba_files import (
    LANDMARKS,
    PARTS,
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
    image_table,
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
from explanation_alignment.sample import Annotation, AttributeValue, Mask, Sample

__all__ = ["PUBLISHED_REGIONS", "CelebAMaskHQ"]

#: The published seven, each a union of parts.
PUBLISHED_REGIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "hair": ("hair",),
    "eye": ("l_brow", "r_brow", "l_eye", "r_eye"),
    "mouth": ("l_lip", "u_lip", "mouth"),
    "neck": ("neck",),
    "nose": ("nose",),
    "skin": ("skin",),
    "cloth": ("cloth",),
}
#: What no part covers; with the 18 parts it makes the published 19 classes.
BACKGROUND: Final = "background"
#: The part ``mouth`` is what lies between the lips; ``mouth`` as a region is all three.
MOUTH_INSIDE: Final = "mouth_inside"

_RAW = tuple(MOUTH_INSIDE if part == "mouth" else part for part in PARTS)
_PARTS_OF: Mapping[str, tuple[str, ...]] = {
    **{name: (part,) for name, part in zip(_RAW, PARTS, strict=True)},
    **PUBLISHED_REGIONS,
    BACKGROUND: PARTS,
}
_TREE = (
    "CelebA-HQ-img/0.jpg, CelebAMask-HQ-mask-anno/0/00000_hair.png, CelebA-HQ-to-CelebA-mapping.txt, "
    "CelebAMask-HQ-attribute-anno.txt"
)


class CelebAMaskHQ(IndexedDataset):
    """CelebAMask-HQ as an annotated dataset.

    Regions: the published seven (``hair``, ``eye`` with the brows, ``mouth`` with the lips, ``neck``, ``nose``,
    ``skin``, ``cloth``), or the 18 parts that have masks (``mouth`` among them is named ``mouth_inside``) and
    ``background``, the pixels of no part. A region without a mask has no annotation.

    Attributes: ``hair_color`` (black, blond, other), ``celeba_file`` (the picture it was cut from), ``split`` and
    ``identity`` where CelebA's lists are at hand, and all 40 as booleans.

    Args:
        data_dir: the folder of the unpacked archive.
        images: ``"hq"``, the square pictures the masks were drawn on, or ``"aligned"``, CelebA's aligned pictures of
            the same persons, which the published study used.
        pairing: how a mask lies on an aligned picture: ``"published"``, on its centre, about 10 px off, or ``"crop"``,
            carried back to where the square was cut from.
        regions: ``"published"``, ``"parts"``, names joined by ``+``, or a list of names.
        label: the attribute that is the class: 0 without it, 1 with it.
        split: ``"all"``, or CelebA's ``"train"``, ``"valid"`` or ``"test"``.
        celeba_dir: CelebA's folder, for aligned pictures and its split; its ``list_eval_partition`` alone may also lie
            in ``data_dir``.

    Raises:
        UsageError: for other words, or aligned pictures without ``celeba_dir``.
        DatasetError: for missing or damaged lists.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        *,
        images: str = "hq",
        pairing: str = "published",
        regions: str | Sequence[str] = "published",
        label: str = "Smiling",
        split: str = "all",
        celeba_dir: str | Path | None = None,
    ) -> None:
        images = as_choice(images, "images", ("hq", "aligned"))
        pairing = as_choice(pairing, "pairing", ("published", "crop"))
        split = as_choice(split, "split", (*SPLITS, "all"))
        wholes = {"published": tuple(PUBLISHED_REGIONS), "parts": (*_RAW, BACKGROUND)}
        names = wholes.get(regions) if isinstance(regions, str) else None
        names = names or several(regions, "region of celebamask_hq", tuple(_PARTS_OF))
        if images == "aligned" and celeba_dir is None:
            raise UsageError("celebamask_hq: images=aligned are CelebA's; give its folder (celeba_dir=)")
        if images == "hq" and pairing != "published":
            raise UsageError("celebamask_hq: pairing is for images=aligned; masks lie right on images=hq")
        root = hq_root(data_dir, "celebamask_hq")
        table = _lists(root)
        roots = [root]
        if celeba_dir is not None:
            celeba, aligned = celeba_root(data_folder(celeba_dir, "celebamask_hq (celeba_dir)"))
            roots.append(celeba)
            table = _with_celeba(table, celeba, images)
        elif (partition := find_list([root], "list_eval_partition")) is not None:
            table = table.join(partition_table(partition), on="stem", how="left", maintain_order="left")
        if "partition" not in table.columns:
            if split != "all":
                raise UsageError(
                    f"celebamask_hq: split={split} is CelebA's; give its folder (celeba_dir=) or put "
                    "list_eval_partition.txt beside the masks"
                )
            table = table.with_columns(pl.lit(None, dtype=pl.Int8).alias("partition"))
        if split != "all":
            table = table.filter(pl.col("partition") == SPLITS.index(split))
        toy = is_toy(root)
        if any(is_toy(other) != toy for other in roots):
            raise UsageError("celebamask_hq: one of data_dir and celeba_dir holds generated data, the other does not")
        attributes = [column for column in table.columns if table[column].dtype == pl.Boolean]
        if label not in attributes:
            raise UnknownNameError("attribute of celebamask_hq", label, attributes)
        self._pairing = pairing if images == "aligned" else None
        self._orphans: tuple[str, ...] = ()
        if self._pairing is None:
            self._folder = root / "CelebA-HQ-img"
            if not self._folder.is_dir():
                raise DatasetError(f"celebamask_hq: no folder CelebA-HQ-img in {root}; expected {_TREE}")
            found = image_table(self._folder).with_columns(pl.col("stem").cast(pl.Int64, strict=False).alias("index"))
            every = _lists(root).select("index")
            self._orphans = tuple(found.join(every, on="index", how="anti")["file"].to_list())
            found = found.select("index", "file", "bytes").unique("index", keep="first", maintain_order=True)
            table = table.join(found, on="index", how="left", maintain_order="left")
        else:
            self._folder = aligned
            table = table.join(image_table(aligned), on="stem", how="left", maintain_order="left")
        self._masks = PartMasks.scan(mask_folder(root))
        self._files: tuple[str | None, ...] = tuple(table["file"].to_list())
        self._indices: tuple[int, ...] = tuple(table["index"].to_list())
        self._landmarks: NDArray[np.int32] | None = None
        self._located: NDArray[np.bool_] | None = None
        if self._pairing == "crop":
            points = table.select(LANDMARKS)
            self._located = points.select((~pl.any_horizontal(pl.all().is_null())).alias("there"))["there"].to_numpy()
            self._landmarks = points.fill_null(0).to_numpy().astype(np.int32)
        columns: dict[str, Sequence[AttributeValue]] = {
            "hair_color": hair_color(table),
            "celeba_file": [None if stem is None else f"{stem}.jpg" for stem in table["stem"].to_list()],
            "split": [None if place is None else SPLITS[place] for place in table["partition"].to_list()],
        }
        if "identity" in table.columns:
            columns["identity"] = table["identity"].to_list()
        columns |= {name: table[name].to_list() for name in attributes}
        kind = {None: [], "published": ["published_pairing"], "crop": ["aligned"]}[self._pairing]
        rest = [*kind, *([] if split == "all" else [split]), *([] if label == "Smiling" else [label])]
        masks = digest(pl.DataFrame({"sizes": [self._masks.sizes.get(index, "") for index in self._indices]}))
        super().__init__(
            name="-".join(["celebamask_hq", *rest]),
            class_names=class_names_of(label),
            regions=names,
            evidence=evidence_for(label, names),
            ids=[f"{index:05d}" for index in self._indices],
            labels=[None if value is None else int(value) for value in table[label].to_list()],
            attributes=columns,
            fingerprint=fingerprint_of(
                "celebamask_hq", images, pairing, "+".join(names), label, split, digest(table.drop("file")), masks
            ),
            toy=toy,
        )

    def _read(self, index: int) -> Sample:
        file, name = self._files[index], self._ids[index]
        if file is None:
            raise DatasetError(f"{name}: no image of it in {self._folder.name}")
        image = open_image(inside(self._folder, file))
        size = (image.height, image.width)
        if self._pairing is not None and size != ALIGNED_SIZE:
            raise DatasetError(f"{file}: {image.width} x {image.height} pixels; aligned images have 178 x 218")
        parts: dict[str, NDArray[np.bool_]] = {}
        return Sample(
            id=name,
            image=image,
            label=self._labels[index],
            annotations={region: self._annotation(region, index, size, parts) for region in self.regions},
            attributes={name: values[index] for name, values in self._attributes.items()},
        )

    def _annotation(
        self, region: str, index: int, size: tuple[int, int], parts: dict[str, NDArray[np.bool_]]
    ) -> Annotation | None:
        """One region at the image's own size; ``parts`` keeps what is decoded."""
        place = self._indices[index]
        wanted = [part for part in _PARTS_OF[region] if self._masks.has(place, part)]
        if not wanted:
            return None
        for part in wanted:
            if part not in parts:
                parts[part] = self._masks.read(place, part)
        if len({parts[part].shape for part in wanted}) > 1:
            raise DatasetError(f"{self._ids[index]}: the masks of {', '.join(wanted)} differ in size")
        union = np.logical_or.reduce([parts[part] for part in wanted])
        return Mask(self._placed(~union if region == BACKGROUND else union, index, size))

    def _placed(self, mask: NDArray[np.bool_], index: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """A mask over CelebA-HQ's square as one over the image."""
        if mask.shape[0] != mask.shape[1]:
            raise DatasetError(f"{self._ids[index]}: a mask of {mask.shape[1]} x {mask.shape[0]} pixels, not square")
        if self._pairing == "published":
            return lay_on_center(mask, size)
        if self._landmarks is not None and self._located is not None:
            if not self._located[index]:
                raise DatasetError(f"{self._ids[index]}: its landmarks are missing or no finite numbers")
            return carry_back(mask, self._landmarks[index], size)
        if size[0] != size[1]:
            raise DatasetError(f"{self._ids[index]}: an image of {size[1]} x {size[0]} pixels, a square mask")
        if mask.shape == size:
            return mask
        resized = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
        return np.asarray(resized) > 0

    def problems(self) -> list[Problem]:
        """What the lists and folders tell to be wrong, without decoding an image."""
        ids = self.ids()
        missing = [name for name, file in zip(ids, self._files, strict=True) if file is None]
        problems = listed("missing_image", missing, f"no image of {{}} in {self._folder.name}")
        problems += listed("orphan_image", self._orphans, "image {} is in no list; it is not read", by_sample=False)
        bare = [name for name, index in zip(ids, self._indices, strict=True) if index not in self._masks.present]
        problems += listed("missing_annotation", bare, "{} has no mask of any part")
        if len(set(ids)) == len(_lists(self._masks.folder.parent)):
            lost = sorted(set(self._masks.present) - set(self._indices))
            names = [f"{index:05d}" for index in lost]
            problems += listed("orphan_annotation", names, "masks of {} belong to no listed image", by_sample=False)
        unlabelled = [name for name, label in zip(ids, self._labels, strict=True) if label is None]
        problems += listed("missing_label", unlabelled, "{} is not in the list of attributes")
        if self._located is not None:
            unplaced = [ids[place] for place in np.flatnonzero(~self._located).tolist()]
            problems += listed("bad_box", unplaced, "the landmarks of {} are missing or no finite numbers")
        return problems + list(self._masks.strays)


def _lists(root: Path) -> pl.DataFrame:
    """``index``, ``stem`` of the CelebA picture, and the attributes, in the order of the index."""
    mapping = needed_list([root], "CelebA-HQ-to-CelebA-mapping", "celebamask_hq", _TREE)
    attributes = needed_list([root], "CelebAMask-HQ-attribute-anno", "celebamask_hq", _TREE)

    def build() -> pl.DataFrame:
        known = attribute_table(attributes)
        known = known.with_columns(pl.col("stem").cast(pl.Int64, strict=False).alias("index")).drop("stem")
        if known["index"].null_count():
            raise DatasetError(f"{attributes.name}: expected images named by their index, such as 0.jpg")
        return mapping_table(mapping).join(known, on="index", how="left").sort("index")

    return cached_table("celebamask_hq lists", [mapping, attributes], build)


def _with_celeba(table: pl.DataFrame, celeba: Path, images: str) -> pl.DataFrame:
    """The table with CelebA's split and, where they are needed or there, its identities and landmarks."""
    lists = celeba_lists(celeba)
    wanted = ["stem", "partition", *(["identity"] if "identity" in lists.columns else [])]
    if images == "aligned":
        wanted += LANDMARKS
    return table.join(lists.select(wanted), on="stem", how="left", maintain_order="left")
