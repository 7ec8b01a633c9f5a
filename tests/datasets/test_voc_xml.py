"""PASCAL-style annotation files: what is read, what is refused, and how boxes and label maps lie on their images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from explanation_alignment.datasets.reading.image_index import NOT_READ, content_digests, folder_states, image_headers
from explanation_alignment.datasets.reading.label_maps import read_label_map
from explanation_alignment.datasets.reading.voc_xml import annotation_table, parse_annotation
from explanation_alignment.datasets.reading.xml_boxes import (
    AnnotationIndex,
    XmlBoxes,
    lay_boxes,
    pixel_ranges,
    turn_boxes,
)
from explanation_alignment.errors import DatasetError
from explanation_alignment.sample import Boxes

BOX = "<bndbox><xmin>2</xmin><ymin>1</ymin><xmax>5</xmax><ymax>3</ymax></bndbox>"
SIZE = "<size><width>10</width><height>8</height><depth>3</depth></size>"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))


def xml(*objects: str, size: str = SIZE) -> bytes:
    return f"<annotation>{size}{''.join(objects)}</annotation>".encode()


def obj(name: str = "dog", box: str = BOX, more: str = "") -> str:
    return f"<object><name>{name}</name>{more}{box}</object>"


class TestParsing:
    def test_size_name_box_and_difficult(self) -> None:
        parsed = parse_annotation(xml(obj(), obj("cat", more="<difficult>1</difficult>")))
        assert (parsed.width, parsed.height) == (10, 8)
        assert [(item.name, item.box, item.difficult) for item in parsed.objects] == [
            ("dog", (2.0, 1.0, 5.0, 3.0), False),
            ("cat", (2.0, 1.0, 5.0, 3.0), True),
        ]

    def test_parts_of_a_person_are_no_objects(self) -> None:
        corners = "<xmin>90</xmin><ymin>90</ymin><xmax>99</xmax><ymax>99</ymax>"
        part = f"<part><name>head</name><bndbox>{corners}</bndbox></part>"
        for item in (obj("person", more=part), f"<object>{part}<name>person</name>{BOX}</object>"):
            (found,) = parse_annotation(xml(item)).objects
            assert found.name == "person"
            assert found.box == (2, 1, 5, 3)

    def test_sides_in_any_order_with_fractions_and_blanks(self) -> None:
        box = "<bndbox><ymax> 3.5 </ymax><xmax>5e0</xmax>\n<xmin>2.25</xmin><ymin>1</ymin></bndbox>"
        assert parse_annotation(xml(obj(box=box))).objects[0].box == (2.25, 1.0, 5.0, 3.5)

    @pytest.mark.parametrize("size", ["", "<size><width>0</width><height>x</height></size>", "<size/>"])
    def test_a_size_that_is_not_told(self, size: str) -> None:
        parsed = parse_annotation(xml(obj(), size=size))
        assert (parsed.width, parsed.height) == (None, None)

    def test_latin_1_without_saying_so(self) -> None:
        content = xml(obj("caf\u00e9")).decode().encode("latin-1")
        assert parse_annotation(content).objects[0].name == "caf\u00e9"

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "iso-8859-1"])
    def test_declared_encodings(self, encoding: str) -> None:
        declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
        content = (declared + xml(obj("caf\u00e9")).decode()).encode(encoding)
        assert parse_annotation(content).objects[0].name == "caf\u00e9"

    BOMB = (
        '<!DOCTYPE annotation [<!ENTITY a "dogdogdogdogdogdogdog"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        f"<annotation>{SIZE}<object><name>&b;</name>{BOX}</object></annotation>"
    )

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param(b"", "no well-formed XML", id="nothing"),
            pytest.param(xml(obj())[:-20], "no well-formed XML", id="cut off"),
            pytest.param(b"\x00" * 50, "no well-formed XML", id="zeros"),
            pytest.param(b"<html></html>", "expected <annotation>, got <html>", id="another root"),
            pytest.param(BOMB.encode(), "document type", id="entities"),
            pytest.param(BOMB.encode("utf-16"), "document type", id="entities in UTF-16"),
            pytest.param(
                b'<!DOCTYPE annotation SYSTEM "file:///etc/passwd"><annotation/>', "document type", id="another file"
            ),
            pytest.param(b'<?xml version="1.0" encoding="nowhere"?><annotation/>', "no .*XML", id="unknown encoding"),
            pytest.param(xml(obj("")), "object 1 has no name", id="no name"),
            pytest.param(xml(obj(), obj(box="")), r"object 2 \(dog\) has no bndbox", id="no box"),
            pytest.param(xml(obj(box=BOX.replace(">2<", ">abc<"))), "a number as xmin, got 'abc'", id="letters"),
            pytest.param(xml(obj(box=BOX.replace(">3<", ">nan<"))), "a number as ymax, got 'nan'", id="nan"),
            pytest.param(xml(obj(box=BOX.replace(">5<", ">inf<"))), "a number as xmax, got 'inf'", id="inf"),
            pytest.param(xml(obj(box=BOX.replace("ymin", "yy"))), "a number as ymin, got ''", id="a side missing"),
            pytest.param(b"<annotation>" + b" " * 8_000_000, "more than 8,000,000 are not read", id="too large"),
        ],
    )
    def test_what_is_refused_says_why(self, content: bytes, message: str) -> None:
        with pytest.raises(DatasetError, match=message):
            parse_annotation(content)

    def test_deep_nesting_does_no_harm(self) -> None:
        content = b"<annotation>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</annotation>"
        assert parse_annotation(content).objects == ()


class TestTable:
    def write(self, folder: Path, **files: bytes) -> None:
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / f"{name}.xml").write_bytes(content)

    def read(self, folder: Path) -> pl.DataFrame:
        return annotation_table(folder, folder_states(folder, (".xml",)))

    def test_a_row_a_file_with_errors_in_their_row(self, tmp_path: Path) -> None:
        self.write(tmp_path / "x", a=xml(obj(), obj("cat")), b=xml(), c=b"<annotation>")
        table = self.read(tmp_path / "x")
        assert table["file"].to_list() == ["a.xml", "b.xml", "c.xml"]
        assert table["names"].to_list() == [["dog", "cat"], [], []]
        assert table["boxes"].to_list() == [[2, 1, 5, 3, 2, 1, 5, 3], [], []]
        assert table["width"].to_list() == [10, 10, None]
        assert table["error"].is_null().to_list() == [True, True, False]

    def test_parsed_once_until_a_file_changes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "x"
        self.write(folder, a=xml(obj()))
        first = self.read(folder)
        with monkeypatch.context() as patch:
            patch.setattr("explanation_alignment.datasets.reading.voc_xml._parse_all", pytest.fail)
            assert self.read(folder).equals(first)
        self.write(folder, a=xml(obj("cat")))
        os.utime(folder / "a.xml", ns=(1, 1))  # the same number of bytes; only the time tells
        assert self.read(folder)["names"].to_list() == [["cat"]]

    def test_a_pipe_and_a_dead_link_are_not_opened(self, tmp_path: Path) -> None:
        folder = tmp_path / "x"
        self.write(folder, a=xml())
        os.mkfifo(folder / "b.xml")
        (folder / "c.xml").symlink_to(folder / "nowhere")
        assert self.read(folder)["error"].to_list() == [None, NOT_READ, NOT_READ]
        assert image_headers(folder, folder_states(folder, (".xml",)))["error"][1] == NOT_READ
        assert content_digests(folder, folder_states(folder, (".xml",)))["content"].to_list()[1:] == ["", ""]

    def test_an_index_of_samples_with_and_without_files(self, tmp_path: Path) -> None:
        self.write(tmp_path / "x", a=xml(obj("b"), obj("a")), b=xml(), c=b"no", d=xml(obj("a"), size=""))
        index = AnnotationIndex(self.read(tmp_path / "x"), ["d.xml", None, "c.xml", "a.xml", "b.xml"])
        assert index.has_file.tolist() == [True, False, True, True, True]
        assert index.starts.tolist() == [0, 1, 1, 1, 3, 3]
        assert [index.name_list[place] for place in index.names] == ["a", "b", "a"]
        assert index.counts() == [1, None, None, 2, 0]
        assert index.owners().tolist() == [0, 3, 3]
        assert [index.size_of(place) for place in (0, 3)] == [None, (10, 8)]
        assert list(index.errors) == [2]

    def test_no_file_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()
        index = AnnotationIndex(self.read(tmp_path / "x"), [None, None])
        assert index.counts() == [None, None]
        assert index.boxes.shape == (0, 4)


class TestRanges:
    def test_written_ranges_stay_and_one_based_ones_start_a_pixel_earlier(self) -> None:
        boxes = np.array([[1.0, 1.0, 4.0, 2.0]])
        assert pixel_ranges(boxes, one_based=False).tolist() == [[1, 1, 4, 2]]
        assert pixel_ranges(boxes, one_based=True).tolist() == [[0, 0, 4, 2]]

    def test_fractions_go_to_the_nearest_halves_up(self) -> None:
        boxes = np.array([[45.7, 0.5, -0.5, 1e300]])
        assert pixel_ranges(boxes, one_based=False).tolist() == [[46, 1, 0, 1 << 30]]


sizes = st.integers(1, 12)
boxes_in = st.lists(st.tuples(*[st.integers(-3, 15)] * 4), min_size=1, max_size=3)


class TestLaying:
    @given(width=sizes, height=sizes, orientation=st.integers(1, 8), boxes=boxes_in)
    def test_turned_boxes_mark_what_pil_turns(
        self, width: int, height: int, orientation: int, boxes: list[tuple[int, int, int, int]]
    ) -> None:
        ranges = np.array(boxes, dtype=np.int64)
        mask = Boxes(ranges, height, width).to_mask()
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(mask.astype(np.uint8))
        image.info["exif"] = exif.tobytes()
        upright = np.asarray(ImageOps.exif_transpose(image)) > 0
        turned = turn_boxes(ranges, width, height, orientation)
        assert np.array_equal(Boxes(turned, *upright.shape).to_mask(), upright)
        # A file that gives the turned size is laid back onto the stored pixels.
        if orientation >= 5 and width != height:
            back = lay_boxes(turned, (height, width), (width, height), orientation)
            assert np.array_equal(back, ranges)
            assert lay_boxes(turned, (height, width), (width, height), orientation, turned=True) is turned
        forth = lay_boxes(ranges, (width, height), (width, height), orientation, turned=True)
        assert np.array_equal(forth, turned)

    def test_another_size_is_scaled_outwards(self) -> None:
        boxes = np.array([[1, 1, 3, 3], [0, 0, 10, 8]])
        assert lay_boxes(boxes, (10, 8), (20, 16)).tolist() == [[2, 2, 6, 6], [0, 0, 20, 16]]
        # 10 x 8 to 4 x 3: 1 .. 3 becomes .4 .. 1.2 across, .375 .. 1.125 down
        assert lay_boxes(boxes, (10, 8), (4, 3)).tolist() == [[0, 0, 2, 2], [0, 0, 4, 3]]

    def test_the_size_turned_without_an_orientation_is_scaled(self) -> None:
        assert lay_boxes(np.array([[0, 0, 5, 8]]), (10, 8), (8, 10)).tolist() == [[0, 0, 4, 10]]

    @given(
        box=st.tuples(st.integers(0, 9), st.integers(0, 7), st.integers(1, 9), st.integers(1, 7)),
        width=st.integers(1, 40),
        height=st.integers(1, 40),
    )
    def test_no_scaled_box_vanishes(self, box: tuple[int, int, int, int], width: int, height: int) -> None:
        x, y, across, down = box
        ranges = np.array([[x, y, min(x + across, 10), min(y + down, 8)]])
        laid = Boxes(lay_boxes(ranges, (10, 8), (width, height)), height, width)
        rows, columns = np.nonzero(laid.to_mask())
        assert len(rows)
        # every pixel marked touches the box, at the written size
        assert ((columns + 1) * 10 > ranges[0, 0] * width).all()
        assert (columns * 10 < ranges[0, 2] * width).all()
        assert ((rows + 1) * 8 > ranges[0, 1] * height).all()
        assert (rows * 8 < ranges[0, 3] * height).all()


class TestProblems:
    def boxes_of(self, tmp_path: Path, content: bytes, size: tuple[int, int] = (10, 8)) -> XmlBoxes:
        folder = tmp_path / "x"
        folder.mkdir()
        (folder / "a.xml").write_bytes(content)
        index = AnnotationIndex(annotation_table(folder, folder_states(folder, (".xml",))), ["a.xml"])
        headers = pl.DataFrame({"file": ["a.png"], "width": [size[0]], "height": [size[1]], "orientation": [1]})
        return XmlBoxes(index, headers, one_based=False)

    @pytest.mark.parametrize(
        ("box", "kinds", "marked"),
        [
            ((2, 1, 5, 3), [], 6),
            ((5, 1, 2, 3), ["bad_box"], None),
            ((2, 3, 5, 3), ["bad_box"], None),
            ((20, 1, 30, 3), ["bad_box"], None),
            ((-9, 1, -2, 3), ["bad_box"], None),
            ((-4, 1, 5, 30), ["clipped_box"], 35),
        ],
    )
    def test_boxes_that_are_not_on_the_image(
        self, tmp_path: Path, box: tuple[int, int, int, int], kinds: list[str], marked: int | None
    ) -> None:
        text = "".join(
            f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        boxes = self.boxes_of(tmp_path, xml(obj(box=f"<bndbox>{text}</bndbox>")))
        assert [problem.kind for problem in boxes.problems(["a"])] == kinds
        laid = boxes.on_image(0, 10, 8)
        assert (None if laid is None else int(laid.to_mask().sum())) == marked

    def test_another_size_is_told(self, tmp_path: Path) -> None:
        boxes = self.boxes_of(tmp_path, xml(obj()), size=(20, 16))
        (problem,) = boxes.problems(["a"])
        assert (problem.kind, problem.sample_id, problem.serious) == ("size_mismatch", "a", False)
        assert "10 x 8" in problem.message
        assert "20 x 16" in problem.message
        (note,) = boxes.notes()
        assert note.startswith("1 annotation files give another size")
        laid = boxes.on_image(0, 20, 16)
        assert laid is not None
        assert laid.xyxy.tolist() == [[4, 2, 10, 6]]

    def test_an_unreadable_file_is_its_samples_error(self, tmp_path: Path) -> None:
        boxes = self.boxes_of(tmp_path, b"<annotation>")
        assert [problem.kind for problem in boxes.problems(["a"])] == ["unreadable_annotation"]
        with pytest.raises(DatasetError, match="annotation file: no well-formed XML"):
            boxes.on_image(0, 10, 8)


class TestHeaders:
    def test_size_orientation_and_damage(self, tmp_path: Path) -> None:
        folder = tmp_path / "x"
        folder.mkdir()
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (6, 4)).save(folder / "a.jpg", exif=exif)
        Image.new("L", (5, 3)).save(folder / "b.png")
        (folder / "c.jpg").write_bytes(b"nothing")
        (folder / "d.jpg").write_bytes(b"")
        exif[0x0112] = 77
        Image.new("RGB", (6, 4)).save(folder / "e.jpg", exif=exif)
        headers = image_headers(folder, folder_states(folder))
        assert headers["width"].to_list() == [6, 5, None, None, 6]
        assert headers["height"].to_list() == [4, 3, None, None, 4]
        assert headers["orientation"].to_list() == [6, 1, 1, 1, 1]
        assert headers["error"].to_list() == [None, None, "no readable image", "no readable image", None]

    def test_names_are_sorted_and_hidden_ones_left_out(self, tmp_path: Path) -> None:
        for name in ("b/z.JPG", "a.jpeg", ".c.jpg", "b/.d/e.jpg", "f.txt"):
            (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "x" / name).write_bytes(b"12")
        states = folder_states(tmp_path / "x")
        assert states.select("file", "bytes").rows() == [("a.jpeg", 2), ("b/z.JPG", 2)]
        assert folder_states(tmp_path / "x", deep=False)["file"].to_list() == ["a.jpeg"]


class TestLabelMaps:
    VALUES = np.array([[0, 1, 255], [2, 2, 0]], dtype=np.uint8)

    @pytest.mark.parametrize("mode", ["L", "P", "RGB"])
    def test_numbers_come_back(self, tmp_path: Path, mode: str) -> None:
        image = Image.fromarray(self.VALUES)
        if mode == "P":
            image.putpalette(list(range(255, -1, -1)) * 3)
        if mode == "RGB":
            image = Image.fromarray(np.stack([self.VALUES, self.VALUES // 2, 0 * self.VALUES], axis=2))
        image.save(tmp_path / "a.png")
        expected = self.VALUES + (256 * (self.VALUES // 2).astype(int) if mode == "RGB" else 0)
        assert read_label_map(tmp_path / "a.png", 3, 2).tolist() == expected.tolist()

    def test_another_size_is_resized_as_pil_does(self, tmp_path: Path) -> None:
        image = Image.fromarray(self.VALUES)
        image.save(tmp_path / "a.png")
        expected = np.asarray(image.resize((7, 5), Image.Resampling.NEAREST))
        assert np.array_equal(read_label_map(tmp_path / "a.png", 7, 5), expected)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turned_with_its_image(self, tmp_path: Path, orientation: int) -> None:
        image = Image.fromarray(self.VALUES)
        image.save(tmp_path / "stored.png")
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.info["exif"] = exif.tobytes()
        upright = ImageOps.exif_transpose(image)
        upright.save(tmp_path / "upright.png", exif=b"")
        turned = read_label_map(
            tmp_path / "stored.png", upright.width, upright.height, orientation=orientation, turned=True
        )
        assert np.array_equal(turned, np.asarray(upright))
        assert np.array_equal(read_label_map(tmp_path / "stored.png", 3, 2, orientation=orientation), self.VALUES)
        if orientation >= 5:  # its size tells that it was drawn on the turned image
            back = read_label_map(tmp_path / "upright.png", 3, 2, orientation=orientation)
            assert np.array_equal(back, self.VALUES)

    def test_what_is_no_label_map(self, tmp_path: Path) -> None:
        Image.new("RGBA", (3, 2)).save(tmp_path / "a.png")
        (tmp_path / "b.png").write_bytes(b"nothing")
        for name, message in (("a.png", "got mode RGBA"), ("b.png", "no readable image"), ("c.png", "no such file")):
            with pytest.raises(DatasetError, match=message):
                read_label_map(tmp_path / name, 3, 2)
