"""Checks: every count against hand-made samples, every kind of fault found, and the sheet people look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.datasets.checking.check import check_dataset
from explanation_alignment.datasets.checking.contact_sheet import draw_contact_sheet
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.geometry import Geometry
from explanation_alignment.sample import Annotation, AttributeValue, Boxes, Mask, Sample
from toys import Patches

# Worker processes are forked on purpose, also where there is one core only.
workers_may_fork = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:.*multi-threaded, use of fork:DeprecationWarning"
)

HEIGHT, WIDTH = 20, 40


class HandMade:
    """Samples in a list; an exception in it is raised when its place is read."""

    name, class_names, fingerprint = "hand-made", ("cat", "dog", "owl"), "0123456789abcdef"
    regions, evidence = ("object", "other"), ("object",)

    def __init__(self, *samples: Sample | Exception, **columns: Sequence[AttributeValue]) -> None:
        self._samples, self._columns = samples, columns

    def ids(self) -> list[str]:
        return [f"s{place}" for place in range(len(self))]

    def attributes(self) -> Mapping[str, Sequence[AttributeValue]]:
        return self._columns

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self._samples[index]
        if isinstance(sample, Exception):
            raise sample
        return sample


def sample(
    place: int,
    annotation: Annotation | None = None,
    *,
    label: int | None = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    **attributes: AttributeValue,
) -> Sample:
    pixels = np.random.default_rng(place).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Sample(f"s{place}", Image.fromarray(pixels), label, {"object": annotation, "other": None}, attributes)


def box(x0: int, y0: int, x1: int, y1: int, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Boxes:
    return Boxes(np.array([[x0, y0, x1, y1]]), *size)


def kinds(report: object) -> list[tuple[str, str | None]]:
    return [(problem.kind, problem.sample_id) for problem in report.problems]  # type: ignore[attr-defined]


#: Shorter side to 20, then the middle 20 x 20: columns 10 to 30 of 40 are left.
GEOMETRY = Geometry(resize=20, crop=(20, 20))


class TestCounts:
    def test_of_regions(self) -> None:
        report = check_dataset(
            HandMade(
                sample(0, box(10, 0, 20, 10)),  # an eighth
                sample(1, box(0, 0, 40, 20)),  # all of it
                sample(2, None),
                sample(3, box(0, 0, 10, 20)),  # a quarter, and all of that is cropped away
                sample(4, box(30, 0, 40, 10)),  # an eighth, cropped too
                sample(5, box(29, 0, 40, 20)),  # a column of it is left
                sample(6, Mask(np.zeros((HEIGHT, WIDTH), dtype=bool))),
                OSError("gone"),
            ),
            GEOMETRY,
        )
        region, other = report.regions
        assert (region.region, region.evidence, other.region, other.evidence) == ("object", True, "other", False)
        assert (region.annotated, region.missing, region.empty, region.full, region.cropped) == (6, 1, 1, 1, 2)
        shares = [0.125, 1, 0.25, 0.125, 11 / 40]
        assert region.area == pytest.approx(np.quantile(shares, [0.05, 0.5, 0.95]))
        assert (other.annotated, other.missing, other.area) == (0, 7, ())
        assert (report.samples, report.checked, report.unreadable) == (8, 8, 1)
        assert kinds(report) == [("empty_annotation", "s6"), ("unreadable_sample", "s7")]
        assert report.geometry == GEOMETRY.describe()

    def test_of_classes_and_sizes(self) -> None:
        report = check_dataset(
            HandMade(
                sample(0, label=0, size=(5, 9)),
                sample(1, label=2, size=(7, 6)),
                sample(2, label=0, size=(4, 8)),
                sample(3, label=None, size=(4, 8)),
            )
        )
        assert report.classes == {"cat": 2, "owl": 1}
        assert (report.empty_classes, report.unlabelled) == (1, 1)
        assert report.sizes == (4, 6, 7, 9)

    def test_of_classes_come_from_the_index_where_it_tells(self) -> None:
        dataset = ea.load_dataset("colored_mnist")
        report = check_dataset(dataset, sample=30)
        assert (report.samples, report.checked) == (500, 30)
        assert sum(report.classes.values()) == 500
        assert report.ok

    def test_a_sound_dataset(self) -> None:
        report = check_dataset(Patches(9))
        assert report.ok
        assert report.problems == ()
        assert [region.annotated for region in report.regions] == [9, 9]
        assert report.regions[0].area == pytest.approx((1 / 9,) * 3)
        assert json.loads(json.dumps(report.to_dict()))["classes"] == report.classes

    def test_notes_and_problems_of_the_dataset_itself(self) -> None:
        class Told(HandMade):
            notes = ("two files were scaled",)

            def problems(self) -> list[Problem]:
                return [
                    Problem("missing_image", "s1", "no file s1.jpg"),
                    Problem("empty_annotation", "s0", "an empty file, as often there", serious=False),
                    Problem("orphan_annotation", None, "s9.xml has no image"),
                ]

        report = check_dataset(Told(sample(0, box(3, 3, 3, 9)), DatasetError("no file"), sample(2, box(0, 0, 20, 9))))
        assert kinds(report) == [("missing_image", "s1"), ("empty_annotation", "s0"), ("orphan_annotation", None)]
        assert report.unreadable == 1
        assert report.notes == ("two files were scaled",)
        assert not report.ok

    def test_what_is_only_worth_saying_is_no_failure(self) -> None:
        class Told(HandMade):
            def problems(self) -> list[Problem]:
                return [Problem("clipped_box", "s0", "clipped", serious=False)]

        assert check_dataset(Told(sample(0, box(0, 0, 20, 9)))).ok


class TestFaults:
    @pytest.mark.parametrize(
        ("wrong", "kind", "words"),
        [
            (DatasetError("s1.jpg: damaged image"), "unreadable_sample", "^s1.jpg: damaged image$"),
            (ValueError("two\nlines"), "unreadable_sample", "ValueError: two"),
            (sample(1, box(0, 0, 5, 5, (HEIGHT, WIDTH + 1))), "unreadable_annotation", "object: .* 20 x 41.* 20 x 40"),
            (sample(1, box(5, 5, 5, 9)), "empty_annotation", "object: the annotation marks no pixel"),
            (sample(1, box(0, 0, 5, 5), label=3), "bad_label", "label 3, there are 3 classes"),
            (sample(1, box(0, 0, 5, 5), label=-1), "bad_label", "label -1"),
            (sample(9, box(0, 0, 5, 5)), "inconsistent", "calls itself 's9'"),
        ],
    )
    def test_of_a_sample(self, wrong: Sample | Exception, kind: str, words: str) -> None:
        report = check_dataset(HandMade(sample(0, box(0, 0, 20, 9)), wrong))
        assert kinds(report) == [(kind, "s1")]
        assert not report.ok
        with pytest.raises(AssertionError, match=words):
            raise AssertionError(report.problems[0].message)

    def test_of_the_index(self) -> None:
        class Odd(HandMade):
            def ids(self) -> list[str]:
                return ["a", "a", "/etc/b", "c\\d", "C:/e", ""]

            def labels(self) -> list[int]:
                return [0]

        report = check_dataset(Odd(*[OSError("no")] * 6, hair=["brown"]))
        found = [pair for pair in kinds(report) if pair[0] != "unreadable_sample"]
        assert found == [
            ("bad_column", None),
            ("bad_column", None),
            ("repeated_id", "a"),
            *(("bad_id", name) for name in ("/etc/b", "c\\d", "C:/e", "")),
        ]
        assert report.unreadable == 6

    def test_columns_that_disagree_with_the_samples(self) -> None:
        class Labelled(HandMade):
            def labels(self) -> list[int]:
                return [0, 1]

        nan = float("nan")
        rows = [sample(0, box(0, 0, 20, 9), hair="red", age=nan), sample(1, box(0, 0, 20, 9), hair="red", age=3.0)]
        report = check_dataset(Labelled(*rows, hair=["red", "grey"], age=[nan, 3.0]))
        assert [problem.message for problem in report.problems] == [
            "the sample's label is 0, the index has 1",
            "the sample's hair is 'red', the index has 'grey'",
        ]

    def test_a_region_that_is_none(self) -> None:
        odd = Sample("s0", Image.new("RGB", (WIDTH, HEIGHT)), 0, {"object": box(0, 0, 20, 9), "nose": None})
        assert kinds(check_dataset(HandMade(odd))) == [("inconsistent", "s0")]

    def test_no_samples_and_no_annotation_at_all(self) -> None:
        assert kinds(check_dataset(HandMade())) == [("no_samples", None)]
        assert kinds(check_dataset(HandMade(sample(0), sample(1)))) == [("no_annotation", None)]

    def test_a_sample_of_less_than_one(self) -> None:
        with pytest.raises(UsageError, match="at least 1, got 0"):
            check_dataset(Patches(5), sample=0)


class TestReading:
    @workers_may_fork
    def test_the_report_does_not_depend_on_the_processes(self) -> None:
        dataset = Patches(40, broken=[3, 17], bare=[5], empty=[8])
        one = check_dataset(dataset, sample=30, seed=2)
        assert check_dataset(dataset, sample=30, seed=2, workers=2) == one
        assert check_dataset(dataset, sample=30, seed=2) == one
        assert one.checked == 30

    @workers_may_fork
    def test_a_process_that_dies_is_told(self) -> None:
        with pytest.raises(DatasetError, match="a process reading deadly ended; try workers 0"):
            check_dataset(Deadly(4), workers=1)

    def test_samples_are_spread_over_the_classes(self) -> None:
        report = check_dataset(ea.load_dataset("colored_mnist"), sample=10)
        assert report.checked == 10
        assert check_dataset(Patches(7), sample=100).checked == 7


class Deadly(Patches):
    name = "deadly"

    def __getitem__(self, index: int) -> Sample:
        import os

        os._exit(3)


class TestContactSheet:
    def test_shows_annotations_in_their_colors(self) -> None:
        dataset = Patches(40, broken=[3], bare=[5], empty=[8])
        sheet = draw_contact_sheet(dataset, 40)
        plain = draw_contact_sheet(Patches(40, bare=range(40)), 40)
        assert sheet.mode == "RGB"
        colors = {color for _, color in sheet.getcolors(2**24)}
        for color in ((255, 77, 0), (0, 162, 255)):  # outlines of patch and corner
            assert color in colors
        counts = [dict(map(reversed, each.getcolors(2**24))).get((255, 77, 0), 0) for each in (sheet, plain)]
        assert counts[0] > 40 * 200 > counts[1]

    def test_outlines_lie_on_the_edge_of_the_annotation(self) -> None:
        class One(HandMade):
            regions = evidence = ("object",)

        picture = Image.new("RGB", (180, 180), "black")
        sheet = draw_contact_sheet(One(Sample("s0", picture, 0, {"object": box(30, 60, 90, 100, (180, 180))})), 1)
        pixels = np.asarray(sheet)
        left, top = np.argwhere((pixels == 0).all(axis=2))[:, ::-1].min(axis=0)
        rows, columns = np.nonzero((pixels[top:] == (255, 77, 0)).all(axis=2))
        assert (columns.min() - left, columns.max() - left) == (30, 89)
        assert (rows.min(), rows.max()) == (60, 99)
        assert [tuple(pixels[top + 60 + row, left + 45]) for row in range(3)] == [(255, 77, 0)] * 2 + [(0, 0, 0)]
        assert (pixels[top + 70, left + 45] == 0).all()  # inside, the image is as it was

    def test_is_the_same_each_time_and_another_for_another_seed(self) -> None:
        dataset = ea.load_dataset("colored_mnist")
        one, again, other = (draw_contact_sheet(dataset, 12, seed=seed) for seed in (0, 0, 1))
        assert one.tobytes() == again.tobytes()
        assert one.tobytes() != other.tobytes()

    def test_says_that_it_is_a_toy(self) -> None:
        dataset = Patches(4)
        before = draw_contact_sheet(dataset).tobytes()
        dataset.toy = True  # type: ignore[attr-defined]
        assert draw_contact_sheet(dataset).tobytes() != before

    @pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (33, 2000)])
    def test_images_of_any_shape(self, size: tuple[int, int]) -> None:
        odd = Sample("s0", Image.new("L", size[::-1]), None, {"object": box(0, 0, 1, 1, size), "other": None})
        draw_contact_sheet(HandMade(odd, OSError(""), OSError("x" * 5000)))

    def test_long_and_foreign_names(self) -> None:
        class Long(HandMade):
            class_names = ("Δέλτα " * 30, "\n\t", "")

            def ids(self) -> list[str]:
                return ["folder/" * 40 + str(place) for place in range(len(self))]

        draw_contact_sheet(Long(*(sample(place, label=place) for place in range(3))))

    def test_a_thin_annotation_stays_visible(self) -> None:
        class One(HandMade):
            regions = evidence = ("object",)

        wide = Sample("s0", Image.new("RGB", (2000, 2000)), 0, {"object": box(1000, 0, 1001, 2000, (2000, 2000))})
        colors = {color for _, color in draw_contact_sheet(One(wide)).getcolors(2**24)}
        assert (255, 77, 0) in colors


def test_a_truncated_image_is_found(tmp_path: Path) -> None:
    class Files(HandMade):
        def __getitem__(self, index: int) -> Sample:
            from explanation_alignment.datasets.reading.files import open_image

            image = open_image(tmp_path / f"{index}.jpg")
            return Sample(f"s{index}", image, 0, {"object": box(0, 0, 9, 9, (90, 90)), "other": None})

    for index in range(2):
        sample(index, size=(90, 90)).image.save(tmp_path / f"{index}.jpg")
    dataset = Files(*[OSError()] * 2)
    assert check_dataset(dataset).ok
    content = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(content[: len(content) // 2])
    report = check_dataset(dataset)
    assert kinds(report) == [("unreadable_sample", "s1")]
    assert "1.jpg: damaged image" in report.problems[0].message
