"""Batches: both readers give the same, every status appears where it should, and damage stays in its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from explanation_alignment.batches import Batch, BatchReadable, iterate_batches
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING
from explanation_alignment.datasets.colored_mnist import ColoredMNIST, InkImages
from explanation_alignment.geometry import Geometry
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.sample import AnnotatedDataset, Annotation, AttributeValue, Boxes, Mask, Sample

# Worker processes are forked on purpose, also where there is one core only.
workers_may_fork = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:.*multi-threaded, use of fork:DeprecationWarning"
)


class PerSample:
    """Another dataset without its way to read whole batches."""

    def __init__(self, dataset: AnnotatedDataset) -> None:
        self._dataset = dataset
        self.name, self.class_names, self.fingerprint = dataset.name, dataset.class_names, dataset.fingerprint
        self.regions, self.evidence = dataset.regions, dataset.evidence

    def ids(self) -> Sequence[str]:
        return self._dataset.ids()

    def attributes(self) -> Mapping[str, Sequence[AttributeValue]]:
        return self._dataset.attributes()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[index]


class HandMade:
    """Samples in a list; an exception in it is raised when its place is read."""

    name, class_names, fingerprint = "hand-made", ("a", "b"), "0"
    regions, evidence = ("object", "other"), ("object",)

    def __init__(self, *samples: Sample | Exception) -> None:
        self._samples = samples

    def ids(self) -> list[str]:
        return [f"s{place}" for place in range(len(self))]

    def attributes(self) -> dict[str, list[AttributeValue]]:
        return {}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self._samples[index]
        if isinstance(sample, Exception):
            raise sample
        return sample


def sample(place: int, label: int | None = 0, *, size: tuple[int, int] = (8, 6), **annotations: Annotation) -> Sample:
    pixels = np.random.default_rng(place).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Sample(f"s{place}", Image.fromarray(pixels), label, annotations)


def box(*xyxy: int, size: tuple[int, int] = (8, 6)) -> Boxes:
    return Boxes(np.array([xyxy]), *size)


def read(
    dataset: AnnotatedDataset, batches: Sequence[Sequence[int]], pre: Preprocessing, workers: int = 0
) -> list[Batch]:
    return list(iterate_batches(dataset, dataset.ids(), batches, pre, workers=workers))


def statuses(batch: Batch) -> list[list[str]]:
    return [[STATUSES[code] for code in row] for row in batch.annotation_status.tolist()]


def assert_same(one: Sequence[Batch], other: Sequence[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert list(a.ids) == list(b.ids)
        assert dict(a.errors) == dict(b.errors)
        for name in ("images", "labels", "annotations", "annotation_status"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=0, atol=0)


def colored(count: int = 23) -> ColoredMNIST:
    """Random ink; the last image has none."""
    rng = torch.Generator().manual_seed(0)
    ink = torch.randint(0, 256, (count, 28, 28), generator=rng) * (torch.rand((count, 28, 28), generator=rng) < 0.3)
    ink[-1] = 0
    labels = torch.arange(count) % 10
    images = InkImages("custom", "test", ink.to(torch.uint8), labels, tuple("0123456789"))
    return ColoredMNIST(coloring="uncorrelated-1", images=images)


CUTS = [[0, 1, 2, 3], [9, 4, 4, 22], [5], list(range(6, 20))]


class TestBothReaders:
    def test_agree(self) -> None:
        dataset = colored()
        hidden = PerSample(dataset)
        assert isinstance(dataset, BatchReadable)
        assert not isinstance(hidden, BatchReadable)
        whole = read(dataset, CUTS, DIGIT_PREPROCESSING)
        assert_same(whole, read(hidden, CUTS, DIGIT_PREPROCESSING))
        assert [list(batch.ids) for batch in whole] == [[dataset.ids()[place] for place in cut] for cut in CUTS]
        assert statuses(whole[1]) == [["ok", "ok", "ok", "annotation_cropped"], ["ok"] * 4]

    @pytest.mark.parametrize(
        "preprocessing",
        [
            pytest.param(Preprocessing((3, 20, 20), Geometry(resize=24, crop=(20, 20))), id="another size"),
            pytest.param(Preprocessing((1, 28, 28), mean=(0.0,), std=(1.0,)), id="grey"),
            pytest.param(Preprocessing((3, 32, 32), Geometry(crop=(32, 32))), id="padded"),
            pytest.param(Preprocessing((3, 28, 28), Geometry(resize=28, crop=(28, 28))), id="left alone"),
        ],
    )
    def test_agree_under_any_preprocessing(self, preprocessing: Preprocessing) -> None:
        result = read(colored(), CUTS, preprocessing)
        assert_same(result, read(PerSample(colored()), CUTS, preprocessing))
        assert not any(batch.errors for batch in result)
        assert result[0].images.shape == (4, *preprocessing.input_size)

    def test_agree_where_the_classifier_takes_another_size(self) -> None:
        wrong = Preprocessing((3, 32, 32))  # without a geometry that leads there
        expected = read(PerSample(colored()), [[0, 1]], wrong)
        assert statuses(expected[0]) == [["error"] * 2] * 2
        assert_same(read(colored(), [[0, 1]], wrong), expected)

    def test_shapes_and_types(self) -> None:
        for dataset in (colored(), PerSample(colored())):
            (batch,) = read(dataset, [[3, 1, 2]], DIGIT_PREPROCESSING)
            assert (batch.images.dtype, batch.images.shape) == (torch.uint8, (3, 3, 28, 28))
            assert (batch.labels.dtype, batch.labels.tolist()) == (torch.int64, [3, 1, 2])
            assert (batch.annotations.dtype, batch.annotations.shape) == (torch.bool, (2, 3, 28, 28))
            assert (batch.annotation_status.dtype, batch.annotation_status.shape) == (torch.int64, (2, 3))

    def test_nothing_asked_nothing_read(self) -> None:
        for dataset in (colored(), PerSample(colored())):
            assert read(dataset, [], DIGIT_PREPROCESSING) == []

    @workers_may_fork
    def test_workers_change_nothing(self) -> None:
        preprocessing = Preprocessing((3, 20, 20), Geometry(resize=24, crop=(20, 20)))
        dataset = HandMade(sample(0, object=box(0, 0, 3, 3)), OSError("broken"), sample(2), sample(3, None))
        for source, cuts in ((PerSample(colored()), CUTS), (dataset, [[0, 1], [3, 2], [1]])):
            assert_same(read(source, cuts, preprocessing, workers=2), read(source, cuts, preprocessing))

    def test_no_global_generator_moves(self) -> None:
        torch.manual_seed(0)
        before = torch.get_rng_state()
        for dataset in (colored(), PerSample(colored())):
            read(dataset, CUTS, DIGIT_PREPROCESSING)
        assert torch.equal(torch.get_rng_state(), before)


class TestHandMadeSamples:
    PREPROCESSING = Preprocessing((3, 4, 4), Geometry(crop=(4, 4)))  # of 8 x 6: rows 2..5, columns 1..4

    def test_statuses(self) -> None:
        dataset = HandMade(
            sample(0, object=box(2, 3, 4, 5), other=box(0, 0, 6, 3)),
            sample(1, object=box(0, 0, 1, 8)),  # left of the crop
            sample(2, object=box(2, 2, 2, 4)),  # empty from the start
            sample(3, label=1),
            OSError("broken"),
            sample(5, label=None, other=Mask(np.ones((8, 6), dtype=bool))),
        )
        (batch,) = read(dataset, [range(6)], self.PREPROCESSING)
        assert list(batch.ids) == ["s0", "s1", "s2", "s3", "s4", "s5"]
        assert batch.labels.tolist() == [0, 0, 0, 1, -1, -1]
        assert statuses(batch) == [
            ["ok", "annotation_cropped", "annotation_cropped", "no_annotation", "error", "no_annotation"],
            ["ok", "no_annotation", "no_annotation", "no_annotation", "error", "ok"],
        ]
        drawn = [["".join(".#"[pixel] for pixel in row) for row in mask] for mask in batch.annotations[:, 0].tolist()]
        assert drawn == [["....", ".##.", ".##.", "...."], ["####", "....", "....", "...."]]
        defined = batch.annotations.flatten(2).any(dim=2)
        assert torch.equal(defined, batch.annotation_status == STATUSES.index("ok"))
        assert batch.annotations[1, 5].all()

    def test_pixels(self) -> None:
        one = sample(0)
        (batch,) = read(HandMade(one), [[0]], self.PREPROCESSING)
        expected = np.asarray(one.image)[2:6, 1:5].transpose(2, 0, 1)
        assert batch.images[0].tolist() == expected.tolist()

    def test_none_is_no_annotation(self) -> None:
        dataset = HandMade(Sample("s0", Image.new("RGB", (6, 8)), 0, {"object": None, "unasked": box(0, 0, 6, 8)}))
        (batch,) = read(dataset, [[0]], self.PREPROCESSING)
        assert statuses(batch) == [["no_annotation"], ["no_annotation"]]

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA"])
    def test_images_of_other_modes(self, mode: str) -> None:
        image = sample(0).image.convert(mode)
        (batch,) = read(HandMade(Sample("s0", image, 0, {})), [[0]], self.PREPROCESSING)
        expected = np.asarray(image.convert("RGB"))[2:6, 1:5].transpose(2, 0, 1)
        assert batch.images[0].tolist() == expected.tolist()
        assert not batch.errors

    def test_a_grey_classifier(self) -> None:
        one = sample(0, object=box(2, 3, 4, 5))
        preprocessing = Preprocessing((1, 4, 4), Geometry(crop=(4, 4)), mean=(0.5,), std=(0.5,))
        (batch,) = read(HandMade(one), [[0]], preprocessing)
        assert batch.images.shape == (1, 1, 4, 4)
        assert batch.images[0, 0].tolist() == np.asarray(one.image.convert("L"))[2:6, 1:5].tolist()
        assert statuses(batch) == [["ok"], ["no_annotation"]]
        assert preprocessing.normalise(batch.images).shape == (1, 1, 4, 4)


def unreadable(_: Sample) -> Sample:
    image = Image.new("P", (6, 8))  # a mode that must be converted

    class Torn(Image.Image):
        def convert(self, *_: object, **__: object) -> Image.Image:
            raise OSError("image file is truncated")

    torn = Torn()
    torn.__dict__.update(image.__dict__)
    return Sample("s1", torn, 1, {})


class TestDamage:
    """A sample that cannot be read is a row with its reason, and its neighbours are as they were."""

    PREPROCESSING = Preprocessing((3, 8, 6))

    @pytest.mark.parametrize(
        ("damaged", "message"),
        [
            pytest.param(lambda _: OSError("no such image"), "OSError: no such image", id="raises"),
            pytest.param(lambda _: KeyError("x"), "KeyError: 'x'", id="raises another"),
            pytest.param(unreadable, "OSError: image file is truncated", id="decoding fails"),
            pytest.param(
                lambda _: sample(1, 1, object=Mask(np.ones((6, 8), dtype=bool))),
                "DatasetError: s1: annotation 'object' is 6 x 8, the image 8 x 6",
                id="annotation transposed",
            ),
            pytest.param(
                lambda _: sample(1, 1, other=box(0, 0, 2, 2, size=(8, 7))),
                "DatasetError: s1: annotation 'other' is 8 x 7, the image 8 x 6",
                id="annotation too wide",
            ),
            pytest.param(
                lambda _: sample(1, 1, size=(9, 6)),
                "DatasetError: s1: the geometry gives 9 x 6, the classifier takes 8 x 6; "
                "give Preprocessing(geometry=Geometry(resize=(8, 6)))",
                id="image of another size",
            ),
        ],
    )
    def test_becomes_an_error(self, damaged: Callable[[object], Sample | Exception], message: str) -> None:
        good = [sample(place, 1, object=box(1, 1, 3, 3)) for place in range(3)]
        (expected,) = read(HandMade(*good), [[0, 1, 2]], self.PREPROCESSING)
        (batch,) = read(HandMade(good[0], damaged(None), good[2]), [[0, 1, 2]], self.PREPROCESSING)
        assert batch.errors == {1: message}
        assert list(batch.ids) == ["s0", "s1", "s2"]
        assert batch.labels.tolist() == [1, -1, 1]
        assert statuses(batch) == [["ok", "error", "ok"], ["no_annotation", "error", "no_annotation"]]
        assert not batch.images[1].any()
        assert not batch.annotations[:, 1].any()
        for place in (0, 2):
            assert torch.equal(batch.images[place], expected.images[place])
            assert torch.equal(batch.annotations[:, place], expected.annotations[:, place])

    def test_every_sample_may_fail(self) -> None:
        (batch,) = read(HandMade(OSError("a"), OSError("b")), [[0, 1]], self.PREPROCESSING)
        assert batch.errors == {0: "OSError: a", 1: "OSError: b"}
        assert batch.images.shape == (2, 3, 8, 6)
