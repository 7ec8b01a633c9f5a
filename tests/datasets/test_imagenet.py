"""ImageNet: every layout and oddity of the real files by hand, with the mask each must give."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.batches import iterate_batches
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.datasets.imagenet import ImageNet
from explanation_alignment.datasets.reading.files import TOY_MARKER
from explanation_alignment.datasets.reading.imagenet_files import imagenet_classes
from explanation_alignment.datasets.toy import imagenet as toy
from explanation_alignment.datasets.toy.painting import SHAPES
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError
from explanation_alignment.geometry import Geometry

TENCH, GOLDFISH, KIT_FOX = "n01440764", "n01443537", "n02119789"
STEM = "ILSVRC2012_val_00000001"
WIDTH, HEIGHT = 6, 4
BoxOf = tuple[object, object, object, object]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))


def put_image(path: Path, save: Callable[[Image.Image, Path], None] | None = None) -> None:
    """A 6 x 4 JPEG, or what ``save`` makes of the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.arange(WIDTH * HEIGHT, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 10
    image = Image.fromarray(np.stack([ramp, 255 - ramp, ramp], axis=2))
    if save is None:
        image.save(path, "JPEG")
    else:
        save(image, path)


def put_xml(
    path: Path, *objects: tuple[str, BoxOf], size: tuple[int, int] | None = (WIDTH, HEIGHT), more: str = ""
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    listed = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box in objects
    )
    path.write_text(f"<annotation>{told}{listed}{more}</annotation>")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One tench with one box, as people sort the validation images: folders of synsets, annotations flat."""
    folder = tmp_path / "imagenet"
    put_image(folder / "val" / TENCH / f"{STEM}.JPEG")
    put_xml(folder / "Annotations" / "val" / f"{STEM}.xml", (TENCH, (1, 1, 4, 3)))
    return folder


def picture(mask: np.ndarray | None) -> list[str] | None:
    return None if mask is None else ["".join(".#"[int(value)] for value in row) for row in mask]


def drawn(folder: Path, index: int = 0, region: str = "object", **arguments: object) -> list[str] | None:
    annotation = ImageNet(folder, **arguments)[index].annotations[region]
    return picture(None if annotation is None else annotation.to_mask())


PLAIN = ["......", ".###..", ".###..", "......"]


class TestClasses:
    def test_the_thousand_synsets_in_order_with_names(self) -> None:
        synsets, names = imagenet_classes()
        assert len(synsets) == len(set(synsets)) == len(names) == len(set(names)) == 1000
        assert list(synsets) == sorted(synsets)
        assert (synsets[0], names[0]) == (TENCH, "tench")
        assert (synsets[278], names[278]) == (KIT_FOX, "kit fox")
        assert [name for name in names if name.startswith("crane")] == ["crane (n02012849)", "crane (n03126707)"]

    def test_a_class_keeps_its_index_when_others_are_missing(self, root: Path) -> None:
        put_image(root / "val" / KIT_FOX / "ILSVRC2012_val_00000002.JPEG")
        dataset = ImageNet(root)
        assert list(dataset.labels()) == [0, 278]
        assert dataset.class_names[278] == "kit fox"
        assert dataset.attributes()["synset"] == (TENCH, KIT_FOX)

    def test_folders_of_other_synsets_are_left_out_and_told(self, root: Path) -> None:
        put_image(root / "val" / "n00000001" / "x.JPEG")
        put_image(root / "val" / "stray.JPEG")
        dataset = ImageNet(root)
        assert list(dataset.ids()) == [STEM]
        told = [problem.message for problem in dataset.problems() if problem.kind == "unknown_class"]
        assert told == [
            "n00000001/x.JPEG: n00000001 is none of the 1,000 synsets; left out",
            "stray.JPEG: no class is told for it; left out",
        ]
        assert dataset.notes == ("2 images without one of the 1,000 synsets were left out",)


class TestLayouts:
    @pytest.mark.parametrize("place", ["Annotations/val", "Annotations/CLS-LOC/val", "bboxes", "annotations/val"])
    @pytest.mark.parametrize("sort", ["", TENCH])
    def test_annotations_by_synset_or_flat(self, root: Path, place: str, sort: str) -> None:
        content = root / "Annotations"
        moved = root.parent / "kept.xml"
        (content / "val" / f"{STEM}.xml").rename(moved)
        shutil.rmtree(content)
        (root / place / sort).mkdir(parents=True)
        moved.rename(root / place / sort / f"{STEM}.xml")
        assert drawn(root) == PLAIN

    @pytest.mark.parametrize("given", ["", "val"])
    def test_the_folder_or_its_split(self, root: Path, given: str) -> None:
        assert drawn(root / given) == PLAIN
        assert ImageNet(root / given).fingerprint == ImageNet(root).fingerprint

    @pytest.mark.parametrize("given", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC", "ILSVRC/Data/CLS-LOC/val"])
    @pytest.mark.parametrize("layout", ["auto", "cls-loc"])
    def test_the_challenge_tree_from_any_of_its_folders(self, root: Path, given: str, layout: str) -> None:
        tree = self.challenge_tree(root)
        dataset = ImageNet(tree / given, layout=layout)
        assert list(dataset.labels()) == [1]
        assert list(dataset.ids()) == [STEM]
        assert picture(dataset[0].annotations["object"].to_mask()) == PLAIN

    def challenge_tree(self, root: Path) -> Path:
        tree = root.parent / "tree"
        put_image(tree / "ILSVRC" / "Data" / "CLS-LOC" / "val" / f"{STEM}.JPEG")
        put_xml(tree / "ILSVRC" / "Annotations" / "CLS-LOC" / "val" / f"{STEM}.xml", (GOLDFISH, (1, 1, 4, 3)))
        (tree / "LOC_val_solution.csv").write_text(
            f"ImageId,PredictionString\n{STEM},{GOLDFISH} 1 1 4 3 {TENCH} 0 0 1 1 \nanother,{TENCH} 1 1 2 2 \n"
        )
        return tree

    def test_the_layout_can_be_forced(self, root: Path) -> None:
        tree = self.challenge_tree(root)
        shutil.copytree(root / "val", tree / "val")
        shutil.copytree(root / "Annotations", tree / "Annotations")
        assert list(ImageNet(tree).labels()) == [1]
        assert list(ImageNet(tree, layout="synsets").labels()) == [0]
        with pytest.raises(DatasetError, match="no val images in the layout 'cls-loc'"):
            ImageNet(root, layout="cls-loc")

    def test_the_same_content_in_another_layout_is_the_same(self, root: Path) -> None:
        tree = self.challenge_tree(root)
        other = root.parent / "other"
        put_image(other / "val" / GOLDFISH / f"{STEM}.JPEG")
        put_xml(other / "Annotations" / "val" / GOLDFISH / f"{STEM}.xml", (GOLDFISH, (1, 1, 4, 3)))
        assert ImageNet(tree).fingerprint == ImageNet(other).fingerprint

    def test_stems_shared_by_synsets_take_the_synset_into_the_id(self, root: Path) -> None:
        put_image(root / "val" / GOLDFISH / f"{STEM}.JPEG")
        put_xml(root / "Annotations" / "val" / GOLDFISH / f"{STEM}.xml", (GOLDFISH, (0, 0, 1, 1)))
        dataset = ImageNet(root)
        assert list(dataset.ids()) == [f"{TENCH}/{STEM}", f"{GOLDFISH}/{STEM}"]
        assert picture(dataset[1].annotations["object"].to_mask()) == ["#.....", "......", "......", "......"]
        assert picture(dataset[0].annotations["object"].to_mask()) == PLAIN

    def test_two_images_of_one_name_are_refused(self, root: Path) -> None:
        put_image(root / "val" / TENCH / f"{STEM}.png", lambda image, path: image.save(path))
        with pytest.raises(DatasetError, match="two images of one name"):
            ImageNet(root)

    def test_the_training_split(self, root: Path) -> None:
        put_image(root / "train" / TENCH / f"{TENCH}_10026.JPEG")
        put_xml(root / "Annotations" / "CLS-LOC" / "train" / TENCH / f"{TENCH}_10026.xml", (TENCH, (1, 1, 4, 3)))
        dataset = ImageNet(root, split="train")
        assert (dataset.name, list(dataset.ids())) == ("imagenet-train", [f"{TENCH}_10026"])
        assert picture(dataset[0].annotations["object"].to_mask()) == PLAIN


class TestDevkit:
    @pytest.fixture
    def flat(self, tmp_path: Path) -> Path:
        """Flat images 1 and 3, whose ground truth is the devkit's numbers 2 and 1."""
        folder = tmp_path / "flat"
        for number in (1, 3):
            put_image(folder / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
        put_xml(folder / "Annotations" / "val" / f"{STEM}.xml", (TENCH, (1, 1, 4, 3)))
        data = folder / "ILSVRC2012_devkit_t12" / "data"
        data.mkdir(parents=True)
        (data / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n2\n1\n")
        return folder

    def put_meta(self, folder: Path) -> None:
        kinds = [
            ("ILSVRC2012_ID", object),
            ("WNID", object),
            ("words", object),
            ("gloss", object),
            ("num_children", object),
        ]
        synsets = np.empty((3, 1), dtype=kinds)
        rows = [(1, KIT_FOX, "kit fox", "", 0), (2, GOLDFISH, "goldfish", "", 0), (1001, "n00001740", "entity", "", 9)]
        for place, row in enumerate(rows):
            synsets[place, 0] = row
        scipy.io.savemat(folder / "ILSVRC2012_devkit_t12" / "data" / "meta.mat", {"synsets": synsets})

    def test_numbers_go_through_the_devkits_own_table(self, flat: Path) -> None:
        self.put_meta(flat)
        assert list(ImageNet(flat).labels()) == [1, 278]

    def test_or_through_a_list_of_numbers_and_synsets(self, flat: Path) -> None:
        (flat / "numbers.txt").write_text(f"{KIT_FOX} 1 kit_fox\n{GOLDFISH} 2 goldfish\n")
        assert list(ImageNet(flat, mapping="numbers.txt").labels()) == [1, 278]
        (flat / "numbers.txt").write_text(f"1,{GOLDFISH}\n2,{KIT_FOX}\n")
        assert list(ImageNet(flat, mapping=flat / "numbers.txt").labels()) == [278, 1]

    def test_never_by_position(self, flat: Path) -> None:
        with pytest.raises(DatasetError, match=r"not in the order of the synsets; expected meta.mat or map_clsloc.txt"):
            ImageNet(flat)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (f"1 {KIT_FOX}\n", "line 1: number 2 is not in numbers.txt"),
            (f"1 {KIT_FOX}\n1 {GOLDFISH}\n", "each once; got 2 such pairs"),
            (f"1 {KIT_FOX}\n2 {KIT_FOX}\n", "each once; got 2 such pairs"),
            ("kit fox\n", "line 1: expected a number and a synset, got 'kit fox'"),
            ("", "each once; got 0 such pairs"),
        ],
    )
    def test_a_bad_list_says_where(self, flat: Path, content: str, message: str) -> None:
        (flat / "numbers.txt").write_text(content)
        with pytest.raises(DatasetError, match=message):
            ImageNet(flat, mapping="numbers.txt")

    @pytest.mark.parametrize("content", [b"", b"\x00" * 300, b"MATLAB 5.0 MAT-file" + b"\xff" * 400])
    def test_a_damaged_table(self, flat: Path, content: bytes) -> None:
        (flat / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(content)
        with pytest.raises(DatasetError, match=r"meta.mat: expected the devkit's synsets"):
            ImageNet(flat)

    def test_a_damaged_ground_truth(self, flat: Path) -> None:
        self.put_meta(flat)
        (flat / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt").write_text("1\nx\n")
        with pytest.raises(DatasetError, match="expected a number a line"):
            ImageNet(flat)

    def test_images_the_ground_truth_does_not_reach_are_left_out(self, flat: Path) -> None:
        self.put_meta(flat)
        put_image(flat / "val" / "ILSVRC2012_val_00000009.JPEG")
        put_image(flat / "val" / "holiday.JPEG")
        dataset = ImageNet(flat)
        assert len(dataset) == 2
        assert [problem.kind for problem in dataset.problems() if problem.serious] == ["unknown_class"] * 2

    def test_flat_images_without_any_labels(self, flat: Path) -> None:
        shutil.rmtree(flat / "ILSVRC2012_devkit_t12")
        with pytest.raises(
            DatasetError, match=r"expected LOC_val_solution\.csv or ILSVRC2012_validation_ground_truth.txt"
        ):
            ImageNet(flat)

    def test_folders_named_by_number_are_refused(self, tmp_path: Path) -> None:
        put_image(tmp_path / "numbered" / "val" / "0" / "a.JPEG")
        with pytest.raises(DatasetError, match="folders named by number"):
            ImageNet(tmp_path / "numbered")


class TestSolutions:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "no readable CSV"),
            (b"Image,Label\na,b\n", "expected columns ImageId and PredictionString, got Image, Label"),
            (f"ImageId,PredictionString\n{STEM},tench 1 1 2 2\n".encode(), f"1 rows are not, such as that of {STEM}"),
            (
                f"ImageId,PredictionString\n{STEM},{TENCH} 1 1 2 2\n{STEM},{GOLDFISH} 1 1 2 2\n".encode(),
                "expected one row an image",
            ),
            (b"ImageId,PredictionString\n\xff\xfe,\xff\n", "CSV|expected one row"),
        ],
    )
    def test_a_bad_csv_says_what_is_wrong(self, root: Path, content: bytes, message: str) -> None:
        tree = TestLayouts().challenge_tree(root)
        (tree / "LOC_val_solution.csv").write_bytes(content)
        with pytest.raises(DatasetError, match=message):
            ImageNet(tree)


class TestBoxes:
    def test_rows_and_columns_are_half_open(self, root: Path) -> None:
        assert drawn(root) == PLAIN

    def test_the_union_of_all_or_only_the_own(self, root: Path) -> None:
        put_xml(
            root / "Annotations" / "val" / f"{STEM}.xml",
            (TENCH, (0, 0, 2, 2)),
            (GOLDFISH, (4, 0, 6, 1)),
            (TENCH, (1, 1, 3, 4)),
        )
        assert drawn(root) == ["##..##", "###...", ".##...", ".##..."]
        assert drawn(root, objects="own") == ["##....", "###...", ".##...", ".##..."]
        own = ImageNet(root, objects="own")
        assert own.name == "imagenet-own"
        assert own.fingerprint != ImageNet(root).fingerprint
        assert own.attributes()["n_objects"] == (3,)

    def test_no_object_of_its_own(self, root: Path) -> None:
        put_xml(root / "Annotations" / "val" / f"{STEM}.xml", (GOLDFISH, (0, 0, 2, 2)))
        assert drawn(root, objects="own") is None

    def test_beyond_the_edge_is_clipped(self, root: Path) -> None:
        put_xml(root / "Annotations" / "val" / f"{STEM}.xml", (TENCH, (-3, 2, 2, 99)))
        assert drawn(root) == ["......", "......", "##....", "##...."]
        assert [problem.kind for problem in ImageNet(root).problems()] == ["clipped_box"]

    def test_inverted_boxes_mark_nothing_and_are_told(self, root: Path) -> None:
        xml = root / "Annotations" / "val" / f"{STEM}.xml"
        put_xml(xml, (TENCH, (4, 1, 1, 3)))
        assert drawn(root) is None
        put_xml(xml, (TENCH, (4, 1, 1, 3)), (TENCH, (0, 0, 1, 1)))
        assert drawn(root) == ["#.....", "......", "......", "......"]
        (problem,) = ImageNet(root).problems()
        assert (problem.kind, problem.sample_id, problem.serious) == ("bad_box", STEM, True)
        assert "(4, 1, 1, 3) is empty or inverted" in problem.message

    def test_no_objects_and_no_file(self, root: Path) -> None:
        put_xml(root / "Annotations" / "val" / f"{STEM}.xml")
        put_image(root / "val" / TENCH / "ILSVRC2012_val_00000002.JPEG")
        dataset = ImageNet(root)
        assert [dataset[place].annotations["object"] for place in (0, 1)] == [None, None]
        assert dataset.attributes()["n_objects"] == (0, None)
        assert [(problem.kind, problem.serious) for problem in dataset.problems()] == [
            ("empty_annotation", False),
            ("missing_annotation", False),
        ]
        assert dataset.notes == ("1 of 2 images have no annotation file",)

    def test_another_size_is_scaled_and_told(self, root: Path) -> None:
        put_xml(root / "Annotations" / "val" / f"{STEM}.xml", (TENCH, (3, 3, 7, 5)), size=(12, 8))
        dataset = ImageNet(root)
        # 1.5 .. 3.5 across and 1.5 .. 2.5 down, outwards
        assert picture(dataset[0].annotations["object"].to_mask()) == ["......", ".###..", ".###..", "......"]
        assert "1 annotation files give another size than their image: boxes scaled" in dataset.notes[0]

    def test_a_size_that_is_not_told_is_the_images(self, root: Path) -> None:
        put_xml(root / "Annotations" / "val" / f"{STEM}.xml", (TENCH, (1, 1, 4, 3)), size=None)
        assert drawn(root) == PLAIN
        assert ImageNet(root).problems() == []

    def test_annotations_of_images_that_are_not_there(self, root: Path) -> None:
        put_xml(root / "Annotations" / "val" / "ILSVRC2012_val_00000002.xml", (TENCH, (1, 1, 4, 3)))
        (problem,) = ImageNet(root).problems()
        assert (problem.kind, problem.serious) == ("orphan_annotation", False)
        assert "1 annotation files have no image here, such as ILSVRC2012_val_00000002.xml" in problem.message


class TestTurnedImages:
    """The picture is looked at 4 wide and 6 high, and stored a quarter turn to the left: 6 wide, 4 high."""

    UPRIGHT = ("#...", "#...", "....", "....", "....", "....")
    STORED = ("......", "......", "......", "##....")

    @pytest.fixture
    def turned(self, root: Path) -> Path:
        exif = Image.Exif()
        exif[0x0112] = 6
        put_image(root / "val" / TENCH / f"{STEM}.JPEG", lambda image, path: image.save(path, "JPEG", exif=exif))
        return root

    @pytest.mark.parametrize(
        ("size", "box"),
        [pytest.param((4, 6), (0, 0, 1, 2), id="upright"), pytest.param((6, 4), (0, 3, 2, 4), id="stored")],
    )
    def test_boxes_of_either_frame_lie_on_the_same_pixels(
        self, turned: Path, size: tuple[int, int], box: BoxOf
    ) -> None:
        put_xml(turned / "Annotations" / "val" / f"{STEM}.xml", (TENCH, box), size=size)
        assert drawn(turned) == list(self.STORED)
        assert drawn(turned, orientation="exif") == list(self.UPRIGHT)

    def test_pixels_stay_stored_unless_asked(self, turned: Path) -> None:
        assert ImageNet(turned)[0].image.size == (6, 4)
        assert ImageNet(turned, orientation="exif")[0].image.size == (4, 6)
        assert ImageNet(turned).fingerprint != ImageNet(turned, orientation="exif").fingerprint
        assert (
            "1 images have an EXIF orientation: taken as stored (orientation=exif turns them)" in ImageNet(turned).notes
        )

    def test_drawn_on_the_turned_image_is_told(self, turned: Path) -> None:
        put_xml(turned / "Annotations" / "val" / f"{STEM}.xml", (TENCH, (0, 0, 1, 2)), size=(4, 6))
        assert ImageNet(turned).notes[0] == (
            "1 annotation files give the size of their image turned as EXIF says: "
            "boxes turned back onto the stored pixels"
        )


class TestImages:
    @pytest.mark.parametrize(
        ("mode", "kind"),
        [("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG")],
    )
    def test_kinds_of_images_called_jpeg(self, root: Path, mode: str, kind: str) -> None:
        path = root / "val" / TENCH / f"{STEM}.JPEG"
        put_image(path, lambda image, place: image.convert(mode).save(place, kind))
        sample = ImageNet(root)[0]
        assert sample.image.size == (WIDTH, HEIGHT)
        assert sample.image.mode == ("L" if mode == "L" else "RGB")
        assert picture(sample.annotations["object"].to_mask()) == PLAIN
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(np.asarray(sample.image.convert("RGB")), expected)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param(b"", "no readable image", id="empty"),
            pytest.param(b"\x00" * 400, "no readable image", id="zeros"),
            pytest.param(None, "damaged image", id="cut off"),
        ],
    )
    def test_a_damaged_image_is_its_rows_error(self, root: Path, content: bytes | None, message: str) -> None:
        path = root / "val" / TENCH / f"{STEM}.JPEG"
        path.write_bytes(path.read_bytes()[:-200] if content is None else content)
        assert message in rows(ImageNet(root))[0]

    def test_a_header_that_claims_too_much(self, root: Path) -> None:
        def save(image: Image.Image, path: Path) -> None:
            image.save(path, "PNG")
            content = bytearray(path.read_bytes())
            content[16:24] = (100_000).to_bytes(4, "big") * 2
            import zlib

            content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
            path.write_bytes(content)

        put_image(root / "val" / TENCH / f"{STEM}.JPEG", save)
        dataset = ImageNet(root)
        assert "pixels are not decoded" in rows(dataset)[0]
        assert [problem.kind for problem in dataset.problems()] == ["unreadable_image"]


def rows(dataset: ImageNet) -> Mapping[int, str]:
    """Place -> error of every sample that cannot be read, as a run would have it."""
    preprocessing = Preprocessing((3, 4, 4), Geometry(resize=(4, 4)))
    batch = next(iter(iterate_batches(dataset, dataset.ids(), [range(len(dataset))], preprocessing)))
    return batch.errors


class TestMalformedAnnotations:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "no well-formed XML"),
            ("<annotation><object>", "no well-formed XML"),
            ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "document type"),
            ("<annotation><object><name>x</name></object></annotation>", "has no bndbox"),
        ],
    )
    def test_one_bad_file_is_its_rows_error(self, root: Path, content: str, message: str) -> None:
        put_image(root / "val" / TENCH / "ILSVRC2012_val_00000002.JPEG")
        (root / "Annotations" / "val" / "ILSVRC2012_val_00000002.xml").write_text(content)
        dataset = ImageNet(root)
        errors = rows(dataset)
        assert list(errors) == [1]
        assert message in errors[1]
        (problem,) = dataset.problems()
        assert (problem.kind, problem.sample_id) == ("unreadable_annotation", "ILSVRC2012_val_00000002")

    @pytest.mark.parametrize("value", ["nan", "inf", "1e999", "two", ""])
    def test_a_coordinate_that_is_no_number(self, root: Path, value: str) -> None:
        put_xml(root / "Annotations" / "val" / f"{STEM}.xml", (TENCH, (value, 1, 4, 3)))
        assert "expected a number as xmin" in rows(ImageNet(root))[0]

    def test_file_names_in_annotations_are_not_followed(self, root: Path) -> None:
        put_xml(
            root / "Annotations" / "val" / f"{STEM}.xml",
            (TENCH, (1, 1, 4, 3)),
            more="<folder>/etc</folder><filename>../../../../etc/passwd</filename><path>/etc/passwd</path>",
        )
        assert drawn(root) == PLAIN


NUMBERS = [[0, 0, 1, 1, 0, 0], [0, 300, 300, 1, 0, 0], [0, 1000, 1000, 0, 0, 0], [0, 0, 0, 0, 0, 256]]
EXPECTED = ["..##..", ".###..", "......", ".....#"]


class TestMasks:
    """ImageNet-S: validation-segmentation/nXXXXXXXX/*.png; the class is R + 256 G; 1000 is ignored."""

    def put_mask(self, root: Path, numbers: list[list[int]], size: tuple[int, int] | None = None) -> Path:
        values = np.array(numbers)
        image = Image.fromarray(np.stack([values % 256, values // 256, 0 * values], axis=2).astype(np.uint8))
        path = root / "validation-segmentation" / TENCH / f"{STEM}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (image if size is None else image.resize(size, Image.Resampling.NEAREST)).save(path)
        return path

    @pytest.mark.parametrize("masks", [True, "true", "validation-segmentation"])
    def test_boxes_and_masks_side_by_side(self, root: Path, masks: object) -> None:
        self.put_mask(root, NUMBERS)
        put_image(root / "val" / TENCH / "ILSVRC2012_val_00000002.JPEG")
        dataset = ImageNet(root, masks=masks)
        assert dataset.regions == dataset.evidence == ("object", "object_mask")
        assert drawn(root, region="object_mask", masks=masks) == EXPECTED
        assert drawn(root, masks=masks) == PLAIN
        assert dataset[1].annotations["object_mask"] is None

    def test_masks_without_boxes(self, root: Path) -> None:
        shutil.rmtree(root / "Annotations")
        self.put_mask(root, NUMBERS)
        dataset = ImageNet(root, masks="true")
        assert dataset.regions == ("object_mask",)
        assert drawn(root, region="object_mask", masks="true") == EXPECTED

    def test_only_the_own_class_needs_the_whole_of_them(self, root: Path) -> None:
        self.put_mask(root, NUMBERS)
        with pytest.raises(DatasetError, match=r"1 folders of synsets in .*objects=own needs the whole of them"):
            ImageNet(root, masks="true", objects="own")
        for synset in imagenet_classes()[0][1:50]:
            (root / "validation-segmentation" / synset).mkdir()
        assert drawn(root, region="object_mask", masks="true", objects="own") == [
            "..##..",
            "...#..",
            "......",
            "......",
        ]

    def test_nothing_but_ignored_pixels(self, root: Path) -> None:
        self.put_mask(root, [[1000] * 6] * 4)
        assert drawn(root, region="object_mask", masks="true") is None

    def test_another_size_is_resized(self, root: Path) -> None:
        self.put_mask(root, NUMBERS, size=(12, 8))
        assert drawn(root, region="object_mask", masks="true") == EXPECTED

    def test_a_changed_mask_changes_the_fingerprint(self, root: Path) -> None:
        path = self.put_mask(root, NUMBERS)
        before = ImageNet(root, masks="true").fingerprint
        assert before != ImageNet(root).fingerprint
        size = path.stat().st_size
        self.put_mask(root, [row[::-1] for row in NUMBERS])
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        assert ImageNet(root, masks="true").fingerprint != before

    def test_a_damaged_mask_is_its_rows_error(self, root: Path) -> None:
        self.put_mask(root, NUMBERS).write_bytes(b"nothing")
        assert "no readable image" in rows(ImageNet(root, masks="true"))[0]

    def test_no_masks_there(self, root: Path) -> None:
        with pytest.raises(DatasetError, match="no validation-segmentation"):
            ImageNet(root, masks="true")


class TestIdentity:
    def test_a_copy_elsewhere_is_the_same(self, root: Path, tmp_path: Path) -> None:
        shutil.copytree(root, tmp_path / "copy" / "deep")
        assert ImageNet(tmp_path / "copy" / "deep").fingerprint == ImageNet(root).fingerprint

    def test_what_decides_samples_changes_it(self, root: Path) -> None:
        seen = {ImageNet(root).fingerprint}
        put_xml(root / "Annotations" / "val" / f"{STEM}.xml", (TENCH, (1, 1, 4, 4)))
        seen.add(ImageNet(root).fingerprint)
        put_image(root / "val" / TENCH / f"{STEM}.JPEG", lambda image, path: image.save(path, "JPEG", quality=20))
        seen.add(ImageNet(root).fingerprint)
        (root / "val" / TENCH).rename(root / "val" / GOLDFISH)
        seen.add(ImageNet(root).fingerprint)
        assert len(seen) == 4

    def test_what_does_not_leaves_it(self, root: Path) -> None:
        before = ImageNet(root).fingerprint
        xml = root / "Annotations" / "val" / f"{STEM}.xml"
        xml.write_text(xml.read_text().replace("<annotation>", "<annotation>\n  <folder>somewhere</folder>"))
        assert ImageNet(root).fingerprint == before

    def test_it_can_be_pickled(self, root: Path) -> None:
        dataset = pickle.loads(pickle.dumps(ImageNet(root)))
        assert picture(dataset[0].annotations["object"].to_mask()) == PLAIN

    def test_nothing_is_parsed_twice(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = ImageNet(root).fingerprint
        monkeypatch.setattr("explanation_alignment.datasets.reading.voc_xml._parse_all", pytest.fail)
        monkeypatch.setattr("explanation_alignment.datasets.reading.image_index._read_header", pytest.fail)
        assert ImageNet(root).fingerprint == first


class TestErrors:
    def test_no_folder_and_an_empty_one(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no folder"):
            ImageNet(tmp_path / "nowhere")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DatasetError, match=r"no val images in .*; expected ILSVRC/Data/CLS-LOC/val"):
            ImageNet(tmp_path / "empty")
        with pytest.raises(DatasetError, match="give the folder"):
            ImageNet(None)

    def test_no_annotations(self, root: Path) -> None:
        shutil.rmtree(root / "Annotations")
        with pytest.raises(DatasetError, match=r"no annotation files for val in .*annotations=FOLDER"):
            ImageNet(root)
        with pytest.raises(DatasetError, match="no folder 'elsewhere'"):
            ImageNet(root, annotations="elsewhere")

    @pytest.mark.parametrize(
        "arguments", [{"split": "test"}, {"objects": "some"}, {"layout": "tree"}, {"orientation": "up"}]
    )
    def test_words_there_are_not(self, root: Path, arguments: dict[str, str]) -> None:
        with pytest.raises(UsageError, match=rf"imagenet: {next(iter(arguments))}: expected .* \| "):
            ImageNet(root, **arguments)

    def test_by_name_with_arguments(self, root: Path) -> None:
        assert ea.load_dataset("imagenet(objects=own,split=val)", root).name == "imagenet-own"
        with pytest.raises(UnknownNameError, match="did you mean 'objects'"):
            ea.load_dataset("imagenet(object=own)", root)


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "imagenet"
    toy.write(folder, 24, 3)
    return folder


class TestToy:
    def test_the_loader_reads_it_whole(self, toy_folder: Path) -> None:
        dataset = ImageNet(toy_folder)
        assert dataset.toy
        assert len(dataset) == 24
        assert len(set(dataset.labels())) == 4
        assert rows(dataset) == {}
        assert not any(problem.serious for problem in dataset.problems())
        kinds = {problem.kind for problem in dataset.problems()}
        assert kinds == {"empty_annotation", "size_mismatch", "clipped_box"}
        assert {dataset[place].image.mode for place in range(12)} == {"RGB", "L"}

    @pytest.mark.parametrize("orientation", ["stored", "exif"])
    def test_the_objects_are_where_the_boxes_are(self, toy_folder: Path, orientation: str) -> None:
        dataset = ImageNet(toy_folder, orientation=orientation)
        colors = {name: shape.color for name, shape in SHAPES.items()}
        kind_of = dict(toy.OBJECTS)
        for place in range(12):
            sample = dataset[place]
            annotation = sample.annotations["object"]
            if annotation is None or sample.image.mode == "L" or place == 5:  # grey and CMYK lose their colours
                continue
            color = np.array(colors[kind_of[str(sample.attributes["synset"])]])
            painted = np.abs(np.asarray(sample.image).astype(int) - color).max(axis=2) < 12
            assert painted.sum() > 400
            assert (painted & annotation.to_mask()).sum() > 0.98 * painted.sum()

    def test_the_same_seed_writes_the_same_bytes(self, toy_folder: Path, tmp_path: Path) -> None:
        toy.write(tmp_path / "again", 24, 3)
        toy.write(tmp_path / "other", 24, 4)

        def contents(root: Path) -> dict[str, bytes]:
            return {
                path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.*") if path.is_file()
            }

        assert contents(tmp_path / "again") == contents(toy_folder)
        assert contents(tmp_path / "other") != contents(toy_folder)
        assert "ealign datasets toy imagenet" in (toy_folder / TOY_MARKER).read_text()

    def test_a_folder_in_use_is_left_alone(self, toy_folder: Path) -> None:
        with pytest.raises(UsageError, match="not empty"):
            toy.write(toy_folder, 4, 0)
