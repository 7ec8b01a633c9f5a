"""Coloured MNIST: the painting against a loop over pixels, frozen colours, identity, and the files it reads."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from sklearn.datasets import load_digits

import explanation_alignment as ea
from explanation_alignment.datasets import DATASETS, load_dataset
from explanation_alignment.datasets.colored_mnist import (
    BLOCK_COLORS,
    BLOCK_SIZE,
    ColoredMNIST,
    InkImages,
    color_permutation,
    download_mnist,
    paint_block,
)
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError

FASHION_DIR = Path("/usr/share/datasets/fashion-mnist")

# The published class colours, by class.
PUBLISHED_COLORS = """
230,25,75 245,130,48 255,225,25 210,245,60 60,180,75 70,240,240 0,130,200 145,30,180 240,50,230 0,0,128
"""


def ink_images(ink: torch.Tensor, labels: Sequence[int], split: str = "test", source: str = "custom") -> InkImages:
    return InkImages(source, split, ink, torch.tensor(labels), tuple("0123456789"))


def random_images(count: int = 20, seed: int = 0) -> InkImages:
    rng = torch.Generator().manual_seed(seed)
    ink = torch.randint(1, 256, (count, 28, 28), generator=rng) * (torch.rand((count, 28, 28), generator=rng) < 0.4)
    return ink_images(ink.to(torch.uint8), [place % 10 for place in range(count)])


def painted(ink: list[list[int]], color: tuple[int, int, int]) -> list[list[tuple[int, int, int]]]:
    """One image, pixel by pixel: dark ink on white in three channels, its top-left 5 x 5 painted."""
    rows = []
    for y in range(28):
        row = []
        for x in range(28):
            row.append(color if y < 5 and x < 5 else (255 - ink[y][x],) * 3)
        rows.append(row)
    return rows


def test_colors_are_the_published_ones() -> None:
    assert " ".join(",".join(map(str, color)) for color in BLOCK_COLORS) == PUBLISHED_COLORS.strip()
    assert BLOCK_SIZE == 5


def test_painting_equals_a_loop_over_pixels() -> None:
    images = random_images()
    colors = torch.tensor([(7 * place + 3) % 10 for place in range(20)])
    result = paint_block(images.ink, colors)
    assert result.shape == (20, 3, 28, 28)
    assert result.dtype == torch.uint8
    for place in range(20):
        expected = painted(images.ink[place].tolist(), BLOCK_COLORS[colors[place]])
        assert result[place].permute(1, 2, 0).tolist() == [[list(pixel) for pixel in row] for row in expected]


def test_painting_leaves_the_ink_alone() -> None:
    images = random_images()
    before = images.ink.clone()
    paint_block(images.ink, images.labels)
    assert torch.equal(images.ink, before)


@pytest.mark.parametrize("coloring", ["correlated", "uncorrelated-1", "uncorrelated-7"])
def test_samples_equal_a_loop_over_pixels(coloring: str) -> None:
    images = random_images()
    dataset = ColoredMNIST(coloring=coloring, images=images)
    for place in range(len(images)):
        ink, label, sample = images.ink[place].tolist(), place % 10, dataset[place]
        color = label if coloring == "correlated" else color_permutation(int(coloring.rpartition("-")[2]))[label]
        assert sample.label == label
        assert sample.attributes == {"block_color": color}
        assert sample.image.mode == "RGB"
        assert [list(row) for row in painted(ink, BLOCK_COLORS[color])] == [
            [sample.image.getpixel((x, y)) for x in range(28)] for y in range(28)
        ]
        assert set(sample.annotations) == {"digit", "block"}
        assert sample.annotations["digit"].to_mask().tolist() == [[value > 0 for value in row] for row in ink]
        assert sample.annotations["block"].to_mask().tolist() == [
            [y < 5 and x < 5 for x in range(28)] for y in range(28)
        ]


def test_ink_under_the_block_counts_as_digit() -> None:
    ink = torch.zeros((1, 28, 28), dtype=torch.uint8)
    ink[0, 2, 3] = 1  # under the block, and as faint as ink can be
    ink[0, 20, 20] = 255
    digit = ColoredMNIST(images=ink_images(ink, [4]))[0].annotations["digit"].to_mask()
    assert np.argwhere(digit).tolist() == [[2, 3], [20, 20]]


@pytest.mark.parametrize("coloring", ["correlated", "uncorrelated-3"])
def test_whole_batches_hold_what_the_samples_hold(coloring: str) -> None:
    dataset = ColoredMNIST(coloring=coloring, images=random_images())
    places = [5, 0, 19, 5, 11]
    batch = dataset.read_batch(places)
    samples = [dataset[place] for place in places]
    assert list(batch.ids) == [sample.id for sample in samples] == [dataset.ids()[place] for place in places]
    assert batch.labels.tolist() == [sample.label for sample in samples]
    assert batch.images.permute(0, 2, 3, 1).tolist() == [np.asarray(sample.image).tolist() for sample in samples]
    for region in dataset.regions:
        masks = [sample.annotations[region].to_mask().tolist() for sample in samples]
        assert batch.annotations[region].tolist() == masks


def test_attributes_equal_the_samples_own() -> None:
    dataset = ColoredMNIST(coloring="uncorrelated-2", images=random_images())
    attributes = dataset.attributes()
    assert list(attributes) == ["block_color"]
    assert list(attributes["block_color"]) == [sample.attributes["block_color"] for sample in dataset]
    assert all(type(value) is int for value in attributes["block_color"])


class TestPermutations:
    def test_frozen(self) -> None:
        assert color_permutation(1) == (7, 3, 5, 9, 0, 8, 2, 6, 4, 1)
        assert color_permutation(2) == (8, 9, 5, 1, 2, 7, 3, 0, 6, 4)

    def test_no_class_keeps_its_color(self) -> None:
        for index in range(1, 200):
            order = color_permutation(index)
            assert sorted(order) == list(range(10))
            assert all(color != label for label, color in enumerate(order))

    def test_differ_between_indices(self) -> None:
        assert len({color_permutation(index) for index in range(1, 41)}) == 40

    def test_do_not_depend_on_or_move_any_other_generator(self) -> None:
        np.random.seed(1)  # noqa: NPY002 - the legacy generator is what must not matter
        torch.manual_seed(1)
        states = np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
        assert color_permutation(1) == (7, 3, 5, 9, 0, 8, 2, 6, 4, 1)
        assert (np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states  # noqa: NPY002


class TestProtocol:
    def test_is_an_annotated_dataset(self) -> None:
        dataset = ColoredMNIST(images=random_images())
        assert isinstance(dataset, ea.AnnotatedDataset)
        assert dataset.name == "custom-correlated"
        assert tuple(dataset.class_names) == tuple("0123456789")
        assert tuple(dataset.regions) == ("digit", "block")
        assert tuple(dataset.evidence) == ("digit",)
        assert list(dataset.labels()) == [place % 10 for place in range(20)]

    def test_ids_are_unique_and_in_order(self) -> None:
        dataset = ColoredMNIST(images=random_images())
        assert len(dataset) == 20
        assert len(set(dataset.ids())) == 20
        assert list(dataset.ids()[:2]) == ["test-00000", "test-00001"]
        assert [sample.id for sample in dataset] == list(dataset.ids())

    def test_places_from_the_end(self) -> None:
        dataset = ColoredMNIST(coloring="uncorrelated-1", images=random_images())
        last = dataset[-1]
        assert (last.id, last.label, last.attributes) == ("test-00019", 9, dataset[19].attributes)
        assert last.image.tobytes() == dataset[19].image.tobytes()

    @pytest.mark.parametrize("place", [20, -21])
    def test_places_beyond_the_end(self, place: int) -> None:
        with pytest.raises(IndexError, match=f"20 samples.* {place}"):
            ColoredMNIST(images=random_images())[place]

    def test_survives_pickling(self) -> None:
        dataset = ColoredMNIST(coloring="uncorrelated-4", images=random_images())
        copy = pickle.loads(pickle.dumps(dataset))
        assert copy.fingerprint == dataset.fingerprint
        assert copy.ids() == dataset.ids()
        assert copy[3].image.tobytes() == dataset[3].image.tobytes()

    def test_samples_can_be_changed_without_harm(self) -> None:
        dataset = ColoredMNIST(images=random_images())
        before = dataset[0].annotations["digit"].to_mask().copy()
        dataset[0].annotations["digit"].to_mask()[:] = True
        dataset[0].annotations["block"].to_mask()[:] = True
        assert np.array_equal(dataset[0].annotations["digit"].to_mask(), before)
        assert dataset[1].annotations["block"].to_mask().sum() == 25


class TestFingerprint:
    def test_changes_with_whatever_changes_the_content(self) -> None:
        images = random_images()
        other_pixel = images.ink.clone()
        other_pixel[7, 13, 4] ^= 1
        labels = images.labels.tolist()
        variants = {
            "as it is": ColoredMNIST(images=images),
            "another colouring": ColoredMNIST(images=images, coloring="uncorrelated-1"),
            "yet another": ColoredMNIST(images=images, coloring="uncorrelated-2"),
            "one pixel": ColoredMNIST(images=ink_images(other_pixel, labels)),
            "one label": ColoredMNIST(images=ink_images(images.ink, [*labels[:-1], 3])),
            "one image less": ColoredMNIST(images=ink_images(images.ink[:-1], labels[:-1])),
            "another order": ColoredMNIST(images=ink_images(images.ink.flip(0), labels[::-1])),
        }
        for (one, a), (other, b) in itertools.combinations(variants.items(), 2):
            assert a.fingerprint != b.fingerprint, f"{one} and {other} have one fingerprint"
        assert all(int(dataset.fingerprint, 16) >= 0 for dataset in variants.values())

    def test_does_not_change_otherwise(self, idx_dir: Path, tmp_path: Path, write_idx: Callable[..., Path]) -> None:
        expected = ColoredMNIST(idx_dir, coloring="uncorrelated-1").fingerprint
        assert ColoredMNIST(str(idx_dir), coloring="uncorrelated-1", split="test").fingerprint == expected
        assert (
            ColoredMNIST(images=InkImages.from_idx(idx_dir, "test"), coloring="uncorrelated-1").fingerprint == expected
        )
        images = InkImages.from_idx(idx_dir, "test")
        write_idx(tmp_path / "gz" / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz", images.ink.numpy())
        write_idx(tmp_path / "gz" / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz", images.labels.numpy())
        elsewhere = ColoredMNIST(tmp_path / "gz", coloring="uncorrelated-1")
        _ = elsewhere[0], elsewhere.read_batch([1, 2])
        assert elsewhere.fingerprint == expected

    def test_splits_differ(self, idx_dir: Path) -> None:
        train, test = (ColoredMNIST(idx_dir, split=split) for split in ("train", "test"))
        assert (len(train), len(test)) == (40, 30)
        assert (train.name, test.name) == ("custom-train-correlated", "custom-correlated")
        assert train.fingerprint != test.fingerprint
        assert not set(train.ids()) & set(test.ids())


class TestDigits:
    """Scikit-learn's digits, which need no files."""

    def test_sizes_and_names(self) -> None:
        train, test = (ColoredMNIST(split=split) for split in ("train", "test"))
        assert (len(train), len(test)) == (1297, 500)
        assert (train.name, test.name) == ("digits-train-correlated", "digits-correlated")
        assert test.regions == ("digit", "block")

    def test_content(self) -> None:
        bundled = load_digits()
        train, test = InkImages.from_digits("train"), InkImages.from_digits("test")
        assert train.labels.tolist() + test.labels.tolist() == bundled.target.tolist()
        for images in (train, test):
            assert images.source == "digits"
            inside = torch.zeros((28, 28), dtype=torch.bool)
            inside[4:24, 4:24] = True
            assert not images.ink[:, ~inside].any()
            assert images.ink.flatten(1).amax(dim=1).min() > 150
        # Torch's bilinear upsampling is an independent implementation of PIL's, up to rounding.
        small = torch.from_numpy(np.rint(bundled.images * 255 / 16))[:, None]
        expected = torch.nn.functional.interpolate(small, (20, 20), mode="bilinear")[:, 0]
        assert (torch.cat([train.ink, test.ink])[:, 4:24, 4:24] - expected).abs().max() < 1.01


class TestArguments:
    @pytest.mark.parametrize("split", ["t10k", "val", ""])
    def test_unknown_splits(self, split: str) -> None:
        with pytest.raises(UsageError, match=f"split: expected 'train' or 'test', got {split!r}"):
            ColoredMNIST(split=split)

    @pytest.mark.parametrize(
        "coloring",
        ["", "Correlated", "uncorrelated", "uncorrelated-0", "uncorrelated--1", "uncorrelated-01", "uncorrelated-1 "],
    )
    def test_unknown_colorings(self, coloring: str) -> None:
        with pytest.raises(UsageError, match="coloring: expected 'correlated' or 'uncorrelated-K'") as caught:
            ColoredMNIST(coloring=coloring)
        assert repr(coloring) in str(caught.value)

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no folder"):
            ColoredMNIST(tmp_path / "absent")


class TestByName:
    def test_plain(self) -> None:
        dataset = ea.load_dataset("colored_mnist")
        assert dataset.name == "digits-correlated"
        assert isinstance(dataset, ea.AnnotatedDataset)

    def test_arguments(self, idx_dir: Path) -> None:
        expected = ColoredMNIST(idx_dir, split="train", coloring="uncorrelated-2").fingerprint
        written = load_dataset("colored_mnist(split=train, coloring=uncorrelated-2)", idx_dir)
        given = load_dataset("colored_mnist", str(idx_dir), split="train", coloring="uncorrelated-2")
        both = load_dataset("colored_mnist(split=test,coloring=uncorrelated-2)", idx_dir, split="train")
        assert [each.fingerprint for each in (written, given, both)] == [expected] * 3

    def test_unknown_names_suggest_near_ones(self) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown dataset 'coloured_mnist'; did you mean 'colored_mnist'\?"):
            load_dataset("coloured_mnist")
        with pytest.raises(UnknownNameError, match=r"unknown dataset 'x'; known: .*colored_mnist"):
            load_dataset("x")

    def test_unknown_arguments_suggest_near_ones(self) -> None:
        with pytest.raises(UnknownNameError, match=r"'colouring'; did you mean 'coloring'\?"):
            load_dataset("colored_mnist(colouring=correlated)")
        with pytest.raises(UnknownNameError, match=r"'splits'; did you mean 'split'\?"):
            load_dataset("colored_mnist", splits="train")

    def test_bad_values(self) -> None:
        with pytest.raises(UsageError, match="split"):
            load_dataset("colored_mnist(split=validation)")

    def test_every_entry_lists_the_arguments_it_takes(self) -> None:
        for name, entry in DATASETS.items():
            assert entry.summary, name
            assert all(entry.arguments.values()), name


class TestDownload:
    """What is fetched and what is not; torchvision, which fetches, is replaced."""

    @pytest.fixture
    def fetched(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        calls: list[str] = []

        def fetch(root: str, download: bool = False, **_: object) -> None:
            assert download
            calls.append(root)

        monkeypatch.setattr(torchvision.datasets, "MNIST", fetch)
        return calls

    def test_nothing_if_all_is_there(self, idx_dir: Path, fetched: list[str]) -> None:
        download_mnist(idx_dir)
        assert fetched == []

    @pytest.mark.parametrize("missing", ["*", "train-images*", "t10k-images*", "train-labels*", "t10k-labels*"])
    def test_all_if_one_is_missing(self, idx_dir: Path, fetched: list[str], missing: str) -> None:
        for path in idx_dir.glob(missing):
            path.unlink()
        download_mnist(idx_dir)
        assert fetched == [str(idx_dir)]

    @pytest.mark.parametrize("error", [RuntimeError("not found or corrupted"), OSError("no network")])
    def test_a_failure_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(torchvision.datasets, "MNIST", fail)
        with pytest.raises(DatasetError, match=f"MNIST could not be fetched into .*: {error}"):
            download_mnist(tmp_path)


def test_real_mnist(mnist_dir: Path) -> None:
    train, test = (InkImages.from_idx(mnist_dir, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.source == test.source == "mnist"
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert torch.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert torch.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The mean of the pixels that every MNIST example normalises with.
    assert round(train.ink.sum().item() / train.ink.numel() / 255, 4) == 0.1307
    dataset = ColoredMNIST(images=test, coloring="uncorrelated-1")
    assert dataset.name == "mnist-uncorrelated-1"
    assert dataset.regions == ("digit", "block")
    assert len(set(dataset.ids())) == 10_000


@pytest.mark.skipif(not FASHION_DIR.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_fashion_mnist() -> None:
    for split, count in (("train", 60_000), ("test", 10_000)):
        dataset = ColoredMNIST(FASHION_DIR, split=split)
        assert len(dataset) == count
        assert dataset.images.source == "fashion-mnist"
        assert dataset.class_names[:2] == ("T-shirt/top", "Trouser")
        assert dataset.class_names[-1] == "Ankle boot"
        assert torch.bincount(dataset.images.labels).tolist() == [count // 10] * 10
        assert dataset.regions == ("object", "block")
        assert dataset.evidence == ("object",)
        assert set(dataset[0].annotations) == {"object", "block"}
