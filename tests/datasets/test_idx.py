"""IDX files: every place and name they are found under, and every way they can be damaged."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from explanation_alignment.datasets.colored_mnist import InkImages
from explanation_alignment.datasets.reading.idx import find_idx, read_idx
from explanation_alignment.errors import DatasetError, ExplanationAlignmentError

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
GOOD = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 10, 11, 12, 13, 14, 255])


def refuses(path: Path, message: str, dimensions: int = 3) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        read_idx(path, dimensions)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ExplanationAlignmentError)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_reads_the_format_byte_by_byte(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(GOOD) if path.suffix == ".gz" else GOOD)
    values = read_idx(path, 3)
    assert values.dtype == np.uint8
    assert values.tolist() == [[[10, 11, 12]], [[13, 14, 255]]]


@pytest.mark.parametrize("folder", [".", "MNIST/raw", "FashionMNIST/raw"])
@pytest.mark.parametrize("name", [LABELS, f"{LABELS}.gz", "t10k-labels.idx1-ubyte", "t10k-labels.idx1-ubyte.gz"])
def test_files_are_found(tmp_path: Path, write_idx: Callable[..., Path], folder: str, name: str) -> None:
    path = write_idx(tmp_path / folder / name, np.arange(5))
    assert find_idx(tmp_path, LABELS).samefile(path)
    assert read_idx(find_idx(tmp_path, LABELS), 1).tolist() == [0, 1, 2, 3, 4]


def test_the_folder_itself_comes_first(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    write_idx(tmp_path / "MNIST" / "raw" / LABELS, np.arange(3))
    own = write_idx(tmp_path / f"{LABELS}.gz", np.arange(3))
    assert find_idx(tmp_path, LABELS) == own


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=LABELS) as caught:
        find_idx(tmp_path, LABELS)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "not an IDX file", id="empty"),
        pytest.param(b"\0\0\x08", "not an IDX file", id="three bytes"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(20), "not an IDX file.*89 50 4e 47", id="PNG"),
        pytest.param(GOOD[:2] + b"\x0d" + GOOD[3:], "not an IDX file of bytes", id="floats"),
        pytest.param(
            GOOD[:3] + b"\x01" + GOOD[4:], r"expected 3 dimension\(s\), the header says 1", id="one dimension"
        ),
        pytest.param(GOOD[:12], "expected 3 dimension", id="header cut short"),
        pytest.param(GOOD[:-1], "truncated: .*needs 22 bytes, the file has 21", id="truncated"),
        pytest.param(GOOD[:16], "truncated", id="header alone"),
        pytest.param(GOOD + b"\0", "too long: .*needs 22 bytes, the file has 23", id="too long"),
        pytest.param(GOOD[:4] + b"\xff" * 12, "truncated", id="absurd size"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_damaged_content_is_refused(tmp_path: Path, content: bytes, message: str, suffix: str) -> None:
    path = tmp_path / f"images{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    refuses(path, message)


def test_labels_where_images_belong(tmp_path: Path, write_idx: Callable[..., Path]) -> None:
    refuses(write_idx(tmp_path / "a", np.arange(5)), "expected 3 dimension")
    refuses(write_idx(tmp_path / "b", np.zeros((2, 3, 3))), "expected 1 dimension", dimensions=1)


@pytest.mark.parametrize("keep", [1, 9, 15, -9, -1])
def test_a_gzip_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(GOOD)[:keep])
    refuses(path, "cannot be read")


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(GOOD))
    packed[-6] ^= 0xFF  # its checksum
    (tmp_path / "sum.gz").write_bytes(packed)
    refuses(tmp_path / "sum.gz", "cannot be read")
    (tmp_path / "plain.gz").write_bytes(GOOD)
    refuses(tmp_path / "plain.gz", "cannot be read")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    refuses(tmp_path / "images", "cannot be read")


class TestFolder:
    """The four files together, as :class:`InkImages` reads them."""

    def test_both_splits(self, idx_dir: Path) -> None:
        for split, prefix, count in (("train", "train", 40), ("test", "t10k", 30)):
            images = InkImages.from_idx(str(idx_dir), split)
            assert images.source == "custom"
            assert images.split == split
            assert len(images) == count
            assert images.ink.shape == (count, 28, 28)
            assert images.ink.numpy().tobytes() == (idx_dir / f"{prefix}-images-idx3-ubyte").read_bytes()[16:]
            assert images.labels.tolist() == [place % 10 for place in range(count)]

    def test_gzip_holds_the_same(self, idx_dir: Path) -> None:
        plain = InkImages.from_idx(idx_dir, "test")
        for path in list(idx_dir.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        assert InkImages.from_idx(idx_dir, "test").digest() == plain.digest()

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no folder") as caught:
            InkImages.from_idx(tmp_path / "absent", "test")
        assert str(tmp_path / "absent") in str(caught.value)

    @pytest.mark.parametrize("name", [IMAGES, LABELS])
    def test_no_file(self, idx_dir: Path, name: str) -> None:
        (idx_dir / name).unlink()
        with pytest.raises(DatasetError, match=name):
            InkImages.from_idx(idx_dir, "test")
        assert len(InkImages.from_idx(idx_dir, "train")) == 40

    def test_a_file_as_the_folder(self, idx_dir: Path) -> None:
        with pytest.raises(DatasetError, match="is no folder"):
            InkImages.from_idx(idx_dir / IMAGES, "test")

    def test_counts_that_differ(self, idx_dir: Path, write_idx: Callable[..., Path]) -> None:
        write_idx(idx_dir / LABELS, np.zeros(29))
        message = f"{re.escape(IMAGES)} holds 30 images, .*{re.escape(LABELS)} 29 labels"
        with pytest.raises(DatasetError, match=message):
            InkImages.from_idx(idx_dir, "test")

    def test_other_image_sizes(self, idx_dir: Path, write_idx: Callable[..., Path]) -> None:
        write_idx(idx_dir / IMAGES, np.zeros((30, 32, 28)))
        with pytest.raises(DatasetError, match=f"{re.escape(IMAGES)}: expected 28 x 28 images, got 32 x 28"):
            InkImages.from_idx(idx_dir, "test")

    def test_labels_beyond_nine(self, idx_dir: Path, write_idx: Callable[..., Path]) -> None:
        write_idx(idx_dir / LABELS, np.arange(30) % 11)
        with pytest.raises(DatasetError, match=f"{re.escape(LABELS)}: expected labels 0..9, got 10"):
            InkImages.from_idx(idx_dir, "test")

    def test_no_images(self, idx_dir: Path, write_idx: Callable[..., Path]) -> None:
        write_idx(idx_dir / IMAGES, np.zeros((0, 28, 28)))
        write_idx(idx_dir / LABELS, np.zeros(0))
        with pytest.raises(DatasetError, match=re.escape(LABELS)):
            InkImages.from_idx(idx_dir, "test")

    def test_a_copy_in_another_place_is_the_same(self, idx_dir: Path, tmp_path: Path) -> None:
        shutil.copytree(idx_dir, tmp_path / "copy" / "MNIST" / "raw")
        for split in ("train", "test"):
            assert InkImages.from_idx(tmp_path / "copy", split).digest() == InkImages.from_idx(idx_dir, split).digest()
