"""Coloured MNIST: digits with a coloured block in a corner, which may or may not give the class away.

Source: Bang, Boggust, Satyanarayan (eXCV 2024), experiment 1. Also for any files of the same format
(Fashion-MNIST) and for scikit-learn's bundled handwritten digits, which need no download.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.idx import find_idx, read_idx
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.sample import AttributeValue, Mask, Sample, SampleBatch

__all__ = [
    "BLOCK_COLORS",
    "BLOCK_SIZE",
    "ColoredMNIST",
    "InkImages",
    "color_permutation",
    "download_mnist",
    "paint_block",
]

Split: TypeAlias = Literal["train", "test"]

#: RGB of the block for the classes 0..9.
BLOCK_COLORS: Final = (
    (230, 25, 75),
    (245, 130, 48),
    (255, 225, 25),
    (210, 245, 60),
    (60, 180, 75),
    (70, 240, 240),
    (0, 130, 200),
    (145, 30, 180),
    (240, 50, 230),
    (0, 0, 128),
)
#: Side of the block in the top-left corner, pixels.
BLOCK_SIZE: Final = 5
#: Side of an image, pixels.
IMAGE_SIZE: Final = 28

_COLOR_TABLE = torch.tensor(BLOCK_COLORS, dtype=torch.uint8)
_FILE_PREFIX = {"train": "train", "test": "t10k"}
_DIGIT_NAMES = tuple("0123456789")
_FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# SHA-256 of the official label files, unpacked: what tells MNIST from other files of its format.
_OFFICIAL_LABELS = {
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5": "mnist",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2": "mnist",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9": "fashion-mnist",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34": "fashion-mnist",
}


@dataclass(frozen=True, slots=True, eq=False)
class InkImages:
    """Greyscale images as ink on nothing, with labels: what the coloured images are painted from.

    Args:
        source: ``"mnist"``, ``"fashion-mnist"``, ``"digits"``, or ``"custom"`` for unknown IDX files.
        split: ``"train"`` or ``"test"``.
        ink: (N, 28, 28) uint8; 0 is no ink.
        labels: (N,) int64 in 0..9.
        class_names: the ten names.
    """

    source: str
    split: Split
    ink: torch.Tensor
    labels: torch.Tensor
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 of the pixels and labels, hex."""
        sha = hashlib.sha256()
        for part in (self.ink, self.labels):
            sha.update(str(tuple(part.shape)).encode())
            sha.update(part.numpy().tobytes())
        return sha.hexdigest()

    @classmethod
    def from_idx(cls, data_dir: str | Path, split: Split) -> InkImages:
        """Read the official files, gzipped or not.

        Args:
            data_dir: the folder that holds them.
            split: ``"train"`` (``train-*``) or ``"test"`` (``t10k-*``).

        Raises:
            DatasetError: if a file is missing or damaged, images are not 28 x 28, labels are not
                0..9, or there is not one label an image.
        """
        folder = Path(data_dir)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; expected one with the official IDX files")
        prefix = _FILE_PREFIX[split]
        image_path = find_idx(folder, f"{prefix}-images-idx3-ubyte")
        label_path = find_idx(folder, f"{prefix}-labels-idx1-ubyte")
        images, labels = read_idx(image_path, 3), read_idx(label_path, 1)
        if images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
            raise DatasetError(f"{image_path}: expected 28 x 28 images, got {images.shape[1]} x {images.shape[2]}")
        if len(images) != len(labels):
            raise DatasetError(f"{image_path} holds {len(images):,} images, {label_path} {len(labels):,} labels")
        if len(labels) == 0 or labels.max() > 9:
            raise DatasetError(f"{label_path}: expected labels 0..9, got {'none' if not len(labels) else labels.max()}")
        header = b"\0\0\x08\x01" + len(labels).to_bytes(4, "big")
        official = hashlib.sha256(header + labels.tobytes()).hexdigest()
        source = _OFFICIAL_LABELS.get(official, "custom")
        names = _FASHION_NAMES if source == "fashion-mnist" else _DIGIT_NAMES
        return cls._from_arrays(source, split, images, labels, names)

    @classmethod
    def from_digits(cls, split: Split) -> InkImages:
        """Scikit-learn's 1,797 handwritten digits (UCI): 8 x 8 scaled to 20 x 20, padded to 28 x 28.

        The first 1,297 train, the last 500 test, in the order they are bundled in (the writers of the
        two halves differ).
        """
        from sklearn.datasets import load_digits

        bunch = load_digits()
        part = slice(None, 1297) if split == "train" else slice(1297, None)
        small = np.rint(bunch.images[part] * (255 / 16)).astype(np.uint8)
        large = np.zeros((len(small), IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
        for target, image in zip(large, small, strict=True):
            target[4:24, 4:24] = np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR))
        return cls._from_arrays("digits", split, large, bunch.target[part], _DIGIT_NAMES)

    @classmethod
    def load(cls, data_dir: str | Path | None, split: Split) -> InkImages:
        """The IDX files in ``data_dir``, or the bundled digits where it is None."""
        return cls.from_digits(split) if data_dir is None else cls.from_idx(data_dir, split)

    @classmethod
    def _from_arrays(
        cls, source: str, split: Split, ink: NDArray[np.uint8], labels: NDArray[np.integer], names: Sequence[str]
    ) -> InkImages:
        return cls(source, split, torch.tensor(ink), torch.tensor(labels.astype(np.int64)), names)


def download_mnist(data_dir: str | Path) -> None:
    """Fetch the official MNIST files through torchvision, unless they are there.

    Args:
        data_dir: where to; they end in ``MNIST/raw`` below it, where :meth:`InkImages.from_idx` looks too.

    Raises:
        DatasetError: if they cannot be had or written.
    """
    from torchvision.datasets import MNIST

    try:
        for split in ("train", "test"):
            for kind in ("images-idx3", "labels-idx1"):
                find_idx(Path(data_dir), f"{_FILE_PREFIX[split]}-{kind}-ubyte")
    except DatasetError:
        try:
            MNIST(str(data_dir), download=True)
        except (OSError, RuntimeError) as error:
            raise DatasetError(f"MNIST could not be fetched into {data_dir}: {error}") from error


def color_permutation(index: int) -> tuple[int, ...]:
    """The class colours shuffled so that no class keeps its own; the same for an index everywhere.

    Args:
        index: 1, 2, ...

    Returns:
        For each class, the class whose colour its block takes.
    """
    generator = np.random.default_rng([0x0C0105, index])
    while True:  # a third of all permutations have no fixed point
        order = generator.permutation(len(BLOCK_COLORS))
        if not np.any(order == np.arange(len(order))):
            return tuple(int(i) for i in order)


def paint_block(ink: torch.Tensor, colors: torch.Tensor) -> torch.Tensor:
    """Dark ink on white, in three channels, with the coloured block in the top-left corner.

    Args:
        ink: (B, 28, 28) uint8.
        colors: (B,) int64, for each image the class whose colour its block takes.

    Returns:
        (B, 3, 28, 28) uint8 on the same device.
    """
    images = (255 - ink).unsqueeze(1).repeat(1, 3, 1, 1)
    images[:, :, :BLOCK_SIZE, :BLOCK_SIZE] = _COLOR_TABLE.to(ink.device)[colors][:, :, None, None]
    return images


class ColoredMNIST:
    """Coloured MNIST as an annotated dataset.

    Regions: ``digit`` (``object`` for images that are not digits), every pixel with any ink, computed
    before the block is painted; and ``block``, the 5 x 5 corner. Attribute ``block_color``: the class
    whose colour the block has.

    Args:
        data_dir: folder with the official IDX files, or None for scikit-learn's bundled digits.
        split: ``"train"`` or ``"test"``.
        coloring: ``"correlated"`` (each class its own colour) or ``"uncorrelated-K"``, K = 1, 2, ...:
            the K-th of a fixed list of permutations in which no class has its own colour.
        images: the images to paint instead of those in ``data_dir``, to share them between colourings.

    Raises:
        UsageError: for another split or colouring.
        DatasetError: for missing or damaged files.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        *,
        split: Split = "test",
        coloring: str = "correlated",
        images: InkImages | None = None,
    ) -> None:
        if split not in _FILE_PREFIX:
            raise UsageError(f"split: expected 'train' or 'test', got {split!r}")
        uncorrelated = re.fullmatch(r"uncorrelated-([1-9]\d{0,5})", coloring)
        if coloring != "correlated" and uncorrelated is None:
            raise UsageError(
                f"coloring: expected 'correlated' or 'uncorrelated-K' with K = 1, 2, ..., got {coloring!r}"
            )
        self.permutation = (
            tuple(range(len(BLOCK_COLORS))) if uncorrelated is None else color_permutation(int(uncorrelated.group(1)))
        )
        self.coloring = coloring
        self.images = InkImages.load(data_dir, split) if images is None else images
        train = "-train" if self.images.split == "train" else ""
        self.name = f"{self.images.source}{train}-{coloring}"
        self.class_names = tuple(self.images.class_names)
        self.evidence = ("digit" if self.class_names == _DIGIT_NAMES else "object",)
        self.regions = (*self.evidence, "block")
        self._block_colors = torch.tensor(self.permutation)[self.images.labels]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the pixels, the labels and the painting, hex."""
        painting = f"{self.images.digest()} {self.permutation} {BLOCK_COLORS} {BLOCK_SIZE}"
        return hashlib.sha256(painting.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def ids(self) -> list[str]:
        """Sample ids: the split and the place in its file."""
        return [self._id(index) for index in range(len(self))]

    def attributes(self) -> dict[str, Sequence[AttributeValue]]:
        """``block_color``: for every sample the class whose colour its block has."""
        return {"block_color": self._block_colors.tolist()}

    def labels(self) -> list[int]:
        """The class of every sample."""
        labels: list[int] = self.images.labels.tolist()
        return labels

    def __getitem__(self, index: int) -> Sample:
        """One sample; negative places count from the end.

        Raises:
            IndexError: beyond the last sample.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} samples, asked for number {index}")
        batch = self.read_batch([index % len(self)])
        annotations: Mapping[str, Mask] = {
            region: Mask(mask[0].numpy().copy()) for region, mask in batch.annotations.items()
        }
        return Sample(
            id=batch.ids[0],
            image=Image.fromarray(batch.images[0].permute(1, 2, 0).numpy()),
            label=int(batch.labels[0]),
            annotations=annotations,
            attributes={"block_color": int(self._block_colors[index])},
        )

    def read_batch(self, indices: Sequence[int]) -> SampleBatch:
        """Several samples at once, as tensors."""
        where = torch.as_tensor(indices)
        ink, colors = self.images.ink[where], self._block_colors[where]
        block = torch.zeros((1, IMAGE_SIZE, IMAGE_SIZE), dtype=torch.bool)
        block[:, :BLOCK_SIZE, :BLOCK_SIZE] = True
        return SampleBatch(
            ids=[self._id(index) for index in indices],
            images=paint_block(ink, colors),
            labels=self.images.labels[where],
            annotations={self.evidence[0]: ink > 0, "block": block.expand(len(where), -1, -1)},
        )

    def _id(self, index: int) -> str:
        return f"{self.images.split}-{index:05d}"
