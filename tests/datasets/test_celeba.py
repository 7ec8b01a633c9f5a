"""CelebA: its lists in every form, the published box, hair put back where it was, and the stand-in."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.batches import iterate_batches
from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.datasets.celeba import CelebA, eye_boxes, mouth_boxes, nose_boxes
from explanation_alignment.datasets.reading.celeba_files import (
    ATTRIBUTES,
    LANDMARKS,
    attribute_table,
    carry_back,
    crop_corners,
    digest,
    lay_on_center,
    listed,
    partition_table,
    read_list,
)
from explanation_alignment.datasets.reading.files import TOY_MARKER
from explanation_alignment.datasets.toy import celeba as toy_celeba
from explanation_alignment.datasets.toy import celebamask_hq as toy_hq
from explanation_alignment.datasets.toy.faces import draw_faces, hq_order
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError
from explanation_alignment.geometry import Geometry
from explanation_alignment.sample import Boxes, Mask

#: The first row of the real list.
POINTS = (69, 109, 106, 113, 77, 142, 73, 152, 108, 154)


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The two stand-ins of the same 20 faces."""
    folder = tmp_path_factory.mktemp("faces")
    toy_celeba.write(folder / "celeba", 20, 3)
    toy_hq.write(folder / "hq", 20, 3)
    return folder / "celeba", folder / "hq"


def write_lists(
    folder: Path,
    rows: dict[str, tuple[bool, int]],
    *,
    points: dict[str, tuple[object, ...]] | None = None,
    images: bool = True,
) -> Path:
    """The three lists as they are published, and grey images; rows: name -> (Smiling, partition)."""
    anno, pictures = folder / "Anno", folder / "Img" / "img_align_celeba"
    for place in (anno, folder / "Eval", pictures):
        place.mkdir(parents=True)
    attributes, marks = [], []
    for name, (smiling, _) in rows.items():
        values = ["-1"] * 40
        values[ATTRIBUTES.index("Smiling")] = " 1" if smiling else "-1"
        attributes.append(f"{name} {' '.join(values)}")
        marks.append(f"{name}  " + "  ".join(str(value) for value in (points or {}).get(name, POINTS)))
        if images:
            Image.new("RGB", (178, 218), (90, 90, 90)).save(pictures / name)
    (anno / "list_attr_celeba.txt").write_text("\n".join([str(len(rows)), " ".join(ATTRIBUTES) + " ", *attributes, ""]))
    (anno / "list_landmarks_align_celeba.txt").write_text("\n".join([str(len(rows)), " ".join(LANDMARKS), *marks, ""]))
    partition = [f"{name} {part}" for name, (_, part) in rows.items()]
    (folder / "Eval" / "list_eval_partition.txt").write_text("\n".join([*partition, ""]))
    return folder


ROWS = {
    "000001.jpg": (True, 0),
    "000002.jpg": (False, 2),
    "000003.jpg": (True, 2),
    "000004.jpg": (False, 1),
}


class TestLists:
    def test_splits_labels_and_attributes(self, tmp_path: Path) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        test = CelebA(folder)
        assert test.ids() == ("000002", "000003")
        assert test.labels() == (0, 1)
        assert test.class_names == ("not Smiling", "Smiling")
        assert (test.name, test.regions, test.evidence, test.toy) == ("celeba", ("mouth",), ("mouth",), False)
        assert test.attributes()["Smiling"] == (False, True)
        assert test.attributes()["split"] == ("test", "test")
        assert set(ATTRIBUTES) < set(test.attributes())
        assert CelebA(folder, split="train").ids() == ("000001",)
        assert CelebA(folder, split="valid").ids() == ("000004",)
        every = CelebA(folder, split="all", label="Male")
        assert len(every) == 4
        assert every.name == "celeba-all-Male"
        assert every.labels() == (0, 0, 0, 0)
        assert every.evidence == ()

    def test_the_exports_with_commas_hold_the_same(self, tmp_path: Path) -> None:
        published = write_lists(tmp_path / "a", ROWS)
        export = tmp_path / "b"
        shutil.copytree(published / "Img" / "img_align_celeba", export / "img_align_celeba" / "img_align_celeba")
        values = {
            name: ["1" if smiling and a == "Smiling" else "-1" for a in ATTRIBUTES]
            for name, (smiling, _) in ROWS.items()
        }
        (export / "list_attr_celeba.csv").write_text(
            "\r\n".join([",".join(["image_id", *ATTRIBUTES]), *(",".join([n, *v]) for n, v in values.items())])
        )
        (export / "list_landmarks_align_celeba.csv").write_text(
            "\n".join([",".join(["image_id", *LANDMARKS]), *(",".join([n, *map(str, POINTS)]) for n in ROWS)])
        )
        (export / "list_eval_partition.csv").write_text(
            "\ufeffimage_id,partition\n" + "\n".join(f"{n},{part}" for n, (_, part) in ROWS.items()), encoding="utf-8"
        )
        for split in ("train", "test", "all"):
            one, other = CelebA(published, split=split), CelebA(export, split=split)
            assert one.fingerprint == other.fingerprint
            assert one.attributes() == other.attributes()
        assert np.array_equal(np.asarray(other[0].image), np.asarray(one[0].image))

    @pytest.mark.parametrize("below", ["", "..", "Anno", "Img"])
    def test_the_folder_one_up_or_down_is_found(self, tmp_path: Path, below: str) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        place = tmp_path if below == ".." else folder / below
        assert CelebA(str(place)).fingerprint == CelebA(folder).fingerprint

    def test_identities_are_taken_where_they_are(self, tmp_path: Path) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        assert "identity" not in CelebA(folder).attributes()
        lines = [f"{name} {2880 + place}" for place, name in enumerate(ROWS)]
        (folder / "Anno" / "identity_CelebA.txt").write_text("\n".join(lines))
        assert CelebA(folder).attributes()["identity"] == (2881, 2882)

    def test_runs_of_spaces_and_tabs_and_a_header_that_begins_with_a_digit(self, tmp_path: Path) -> None:
        path = tmp_path / "list.txt"
        path.write_text("2\n5_o_Clock_Shadow   Young \n1.jpg   -1 \t 1  \n\n2.jpg 1   0\n")
        table = attribute_table(path)
        assert table.to_dicts() == [
            {"stem": "1", "5_o_Clock_Shadow": False, "Young": True},
            {"stem": "2", "5_o_Clock_Shadow": True, "Young": False},
        ]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param("", "no rows", id="empty"),
            pytest.param("3\na b\n1.jpg 1 1\n", "says 3 rows, it has 1", id="cut short"),
            pytest.param("a b\n1.jpg 1 1\n2.jpg 1\n", "row 2 has not all of the 3 fields", id="short row"),
            pytest.param("a b\n1.jpg 1 1\n2.jpg 1 1 1 1\n", "rows of unequal length", id="long row"),
            pytest.param("a b c d\n1.jpg 1 1\n", "3 fields a row, 4 named", id="header"),
            pytest.param("a b\n1.jpg 1 2\n", "'1' has a 1, b 2; expected whole numbers -1 to 1", id="two"),
            pytest.param("a b\n1.jpg 1 nan\n", "expected whole numbers", id="nan"),
            pytest.param("a b\n1.jpg 1 1\n1.jpg 1 1\n", "lists '1' more than once", id="twice"),
        ],
    )
    def test_damaged_lists_are_refused(self, tmp_path: Path, content: str, message: str) -> None:
        path = tmp_path / "list_attr_celeba.txt"
        path.write_text(content)
        with pytest.raises(DatasetError, match=message) as caught:
            attribute_table(path)
        assert "list_attr_celeba.txt" in str(caught.value)

    def test_other_text_than_utf8_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "list_attr_celeba.csv"
        path.write_bytes(b"image_id,Caf\xe9\n1.jpg,1\n")
        with pytest.raises(DatasetError, match="no UTF-8 text"):
            read_list(path)

    def test_partitions_are_0_to_2(self, tmp_path: Path) -> None:
        path = tmp_path / "list_eval_partition.txt"
        path.write_text("1.jpg 3\n")
        with pytest.raises(DatasetError, match="expected whole numbers 0 to 2"):
            partition_table(path)

    def test_what_is_missing_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no list_attr_celeba"):
            CelebA(tmp_path)
        folder = write_lists(tmp_path / "celeba", ROWS)
        (folder / "Eval" / "list_eval_partition.txt").unlink()
        with pytest.raises(DatasetError, match="no list_eval_partition"):
            CelebA(folder)
        assert CelebA(folder, split="all").attributes()["split"] == (None,) * 4
        (folder / "Anno" / "list_landmarks_align_celeba.txt").unlink()
        with pytest.raises(DatasetError, match="no list_landmarks_align_celeba"):
            CelebA(folder, split="all")
        (tmp_path / "packed").mkdir()
        shutil.copytree(folder / "Anno", tmp_path / "packed" / "Anno")
        (tmp_path / "packed" / "img_align_celeba.zip").touch()
        with pytest.raises(DatasetError, match=r"no folder img_align_celeba .*unpack"):
            CelebA(tmp_path / "packed", split="all")

    def test_wrong_arguments_name_the_right_ones(self, tmp_path: Path) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        with pytest.raises(UsageError, match="train"):
            CelebA(folder, split="val")
        with pytest.raises(UnknownNameError, match="did you mean 'Smiling'"):
            CelebA(folder, label="Smilling")
        with pytest.raises(UnknownNameError, match="mouth"):
            CelebA(folder, regions="mouth+mouths")
        with pytest.raises(UsageError):
            CelebA(folder, regions="mouth+mouth")
        with pytest.raises(UsageError):
            CelebA(folder, regions="")
        with pytest.raises(UsageError, match="masks_dir"):
            CelebA(folder, regions="hair")


class TestBoxes:
    def test_the_mouth_of_the_first_image_written_out(self, tmp_path: Path) -> None:
        sample = CelebA(write_lists(tmp_path / "celeba", ROWS))[0]
        expected = np.zeros((218, 178), dtype=bool)
        expected[152 - 12 : 154 + 12, 73:108] = True  # half of 35 * 2/3 is 11.67
        mouth = sample.annotations["mouth"]
        assert isinstance(mouth, Boxes)
        assert np.array_equal(mouth.to_mask(), expected)

    @given(
        st.tuples(st.integers(-20, 200), st.integers(-20, 240), st.integers(-20, 200), st.integers(-20, 240)),
    )
    def test_the_mouth_follows_pythons_round(self, corners: tuple[int, int, int, int]) -> None:
        left_x, left_y, right_x, right_y = corners
        height = round((2 / 3) * (right_x - left_x) / 2)
        points = np.array([[0] * 6 + [left_x, left_y, right_x, right_y]], dtype=np.int32)
        assert mouth_boxes(points).tolist() == [[[left_x, left_y - height, right_x, right_y + height]]]

    def test_eyes_and_nose_written_out(self) -> None:
        points = np.array([POINTS])
        assert eye_boxes(points).tolist() == [[[58, 102, 80, 116], [95, 106, 117, 120]]]
        assert nose_boxes(points).tolist() == [[[66, 118, 88, 149]]]

    def test_boxes_beyond_the_edge_are_clipped(self, tmp_path: Path) -> None:
        points = {"000002.jpg": (*POINTS[:6], -10, 200, 190, 215)}
        mask = CelebA(write_lists(tmp_path / "celeba", ROWS, points=points))[0].annotations["mouth"]
        assert mask is not None
        expected = np.zeros((218, 178), dtype=bool)
        expected[200 - 67 :] = True
        assert np.array_equal(mask.to_mask(), expected)

    @pytest.mark.parametrize("value", ["nan", "inf", "x", "1e30"])
    def test_a_point_that_is_no_number_fails_its_sample_alone(self, tmp_path: Path, value: str) -> None:
        points = {"000002.jpg": (*POINTS[:9], value)}
        dataset = CelebA(write_lists(tmp_path / "celeba", ROWS, points=points))
        with pytest.raises(DatasetError, match="000002: its landmarks"):
            dataset[0]
        assert dataset[1].annotations["mouth"] is not None
        assert [(problem.kind, problem.sample_id) for problem in dataset.problems()] == [("bad_box", "000002")]

    def test_corners_the_wrong_way_round_mark_nothing_and_are_a_problem(self, tmp_path: Path) -> None:
        points = {"000003.jpg": (*POINTS[:6], 108, 152, 73, 154)}
        dataset = CelebA(write_lists(tmp_path / "celeba", ROWS, points=points))
        mouth = dataset[1].annotations["mouth"]
        assert mouth is not None
        assert not mouth.to_mask().any()
        (problem,) = dataset.problems()
        assert (problem.kind, problem.sample_id, problem.serious) == ("bad_box", "000003", True)

    def test_another_image_size_is_an_error_of_the_sample(self, tmp_path: Path) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        Image.new("RGB", (64, 64)).save(folder / "Img" / "img_align_celeba" / "000002.jpg")
        with pytest.raises(DatasetError, match="64 x 64 pixels"):
            CelebA(folder)[0]

    @pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 cut", b"GIF"])
    def test_a_damaged_image_is_an_error_row(self, tmp_path: Path, content: bytes) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        (folder / "Img" / "img_align_celeba" / "000002.jpg").write_bytes(content)
        dataset = CelebA(folder)
        size = Preprocessing(input_size=(3, 218, 178), geometry=Geometry(), mean=(0, 0, 0), std=(1, 1, 1))
        (batch,) = iterate_batches(dataset, dataset.ids(), [[0, 1]], size)
        assert list(batch.errors) == [0]
        assert batch.annotation_status.tolist()[0][1] == 0


class TestProblems:
    def test_a_whole_folder_has_none(self, tmp_path: Path) -> None:
        assert CelebA(write_lists(tmp_path / "celeba", ROWS)).problems() == []

    def test_each_is_found(self, tmp_path: Path) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        pictures = folder / "Img" / "img_align_celeba"
        (pictures / "000002.jpg").unlink()
        Image.new("RGB", (178, 218)).save(pictures / "000009.jpg")
        (folder / "Eval" / "list_eval_partition.txt").write_text("000002.jpg 2\n000003.jpg 2\n000008.jpg 2\n")
        dataset = CelebA(folder)
        found = [(problem.kind, problem.sample_id, problem.message) for problem in dataset.problems()]
        assert [(kind, name) for kind, name, _ in found] == [
            ("missing_image", "000002"),
            ("orphan_image", None),
            ("orphan_annotation", None),
            ("orphan_annotation", None),
            ("orphan_annotation", None),
        ]
        assert "000009.jpg" in found[1][2]
        assert "'000008'" in found[2][2]
        with pytest.raises(DatasetError, match="no image 000002"):
            dataset[0]

    def test_very_many_are_counted(self) -> None:
        problems = listed("missing_image", [str(place) for place in range(1500)], "no {}")
        assert len(problems) == 1001
        assert problems[-1].message == "and 500 more of the kind"
        assert sum(problem.count for problem in problems) == 1500

    def test_a_path_out_of_the_folder_is_never_read(self, tmp_path: Path) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        Image.new("RGB", (178, 218)).save(tmp_path / "secret.jpg")
        for path in (folder / "Anno").iterdir():
            path.write_text(path.read_text().replace("000002.jpg", "../../../secret.jpg"))
        partition = folder / "Eval" / "list_eval_partition.txt"
        partition.write_text(partition.read_text().replace("000002.jpg", "../../../secret.jpg"))
        dataset = CelebA(folder)
        with pytest.raises(DatasetError, match="no image"):
            dataset[dataset.ids().index("../../../secret")]


class TestIdentity:
    def test_a_copy_elsewhere_is_the_same_and_a_change_is_not(self, tmp_path: Path) -> None:
        folder = write_lists(tmp_path / "celeba", ROWS)
        first = CelebA(folder).fingerprint
        copy = tmp_path / "elsewhere" / "faces"
        shutil.copytree(folder, copy)
        assert CelebA(copy).fingerprint == first
        assert CelebA(folder, regions=["mouth"]).fingerprint == first
        assert CelebA(folder, regions="mouth+nose").fingerprint != first
        assert CelebA(folder, label="Male").fingerprint != first
        points = copy / "Anno" / "list_landmarks_align_celeba.txt"
        points.write_text(points.read_text().replace("154\n000004", "155\n000004"))
        changed = CelebA(copy).fingerprint
        assert changed != first
        Image.new("RGB", (178, 218)).save(copy / "Img" / "img_align_celeba" / "000002.jpg", quality=99)
        assert CelebA(copy).fingerprint not in (changed, first)

    def test_it_can_be_pickled(self, tmp_path: Path) -> None:
        dataset = CelebA(write_lists(tmp_path / "celeba", ROWS))
        again = pickle.loads(pickle.dumps(dataset))
        assert again.fingerprint == dataset.fingerprint
        assert again[1].id == "000003"

    def test_a_digest_tells_null_from_zero_and_columns_apart(self) -> None:
        tables = [
            pl.DataFrame({"a": [0, 1]}),
            pl.DataFrame({"a": [None, 1]}),
            pl.DataFrame({"b": [0, 1]}),
            pl.DataFrame({"a": [False, True]}),
            pl.DataFrame({"a": ["x", "yz"]}),
            pl.DataFrame({"a": ["xy", "z"]}),
            pl.DataFrame({"a": ["x", None]}),
        ]
        assert len({digest(table) for table in tables}) == len(tables)


class TestHair:
    def test_the_square_of_the_first_image_written_out(self) -> None:
        # eyes on average (88, 111.5), mouth (91, 153.5), after CelebA-HQ's own rule worked through by hand
        points = np.array([69, 111, 107, 111, 88, 130, 72, 151, 104, 151])
        corner, right, below = crop_corners(points)
        side = max(38 * 2.0, 40 * 1.8)
        assert np.allclose(right, [2 * side, 0])
        assert np.allclose(below, [0, 2 * side])
        assert np.allclose(corner, [88.5 - side, 111.5 + 4 - side])

    @given(st.floats(-0.5, 0.5), st.floats(0.5, 2), st.floats(-30, 30), st.floats(-30, 30))
    def test_the_square_moves_turns_and_grows_with_the_face(self, turn: float, grow: float, x: float, y: float) -> None:
        points = np.array(POINTS, dtype=float).reshape(5, 2) + 0.5
        move = grow * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        moved = points @ move.T + (x, y)
        corner, right, below = crop_corners((points - 0.5).reshape(-1))
        expected = np.stack([move @ corner + (x, y), move @ right, move @ below])
        assert np.allclose(crop_corners((moved - 0.5).reshape(-1)), expected)

    def test_points_in_one_place_are_no_face(self) -> None:
        with pytest.raises(DatasetError, match="not a face"):
            crop_corners(np.zeros(10))

    def test_laying_on_the_centre_is_resizing_and_cropping_both_alike(self) -> None:
        mask = np.zeros((512, 512), dtype=bool)
        mask[100:300, 150:420] = True
        both = Geometry(resize=256, crop=(224, 224))
        ours, published = both.mask(lay_on_center(mask, (218, 178))), both.mask(mask)
        assert (ours & published).sum() / (ours | published).sum() > 0.98

    def test_a_mask_is_carried_back_to_its_pixels(self) -> None:
        points = np.array([69, 111, 107, 111, 88, 130, 72, 151, 104, 151])  # a square of 152 pixels from (12.5, 39.5)
        mask = np.zeros((304, 304), dtype=bool)
        mask[21:41, 61:101] = True
        expected = np.zeros((218, 178), dtype=bool)
        expected[50:60, 43:63] = True
        assert np.array_equal(carry_back(mask, points, (218, 178)), expected)
        assert not carry_back(np.zeros((8, 8), dtype=bool), points, (218, 178)).any()
        inside = carry_back(np.ones((304, 304), dtype=bool), points, (218, 178))
        assert not inside[:39].any()
        assert inside[40:190, 13:164].all()

    def test_hair_is_the_hair_of_the_picture_and_the_published_pairing_is_off(self, toys: tuple[Path, Path]) -> None:
        dataset = CelebA(toys[0], split="all", regions="hair+hair_hq_pairing", masks_dir=toys[1])
        overlap: dict[str, list[float]] = {"hair": [], "hair_hq_pairing": []}
        for index, face in enumerate(draw_faces(20, 3)):
            truth = face.aligned_parts()["hair"]
            for region, annotation in dataset[index].annotations.items():
                assert annotation is not None
                mask = annotation.to_mask()
                overlap[region].append((mask & truth).sum() / (mask | truth).sum())
        assert np.mean(overlap["hair"]) > 0.9
        assert np.mean(overlap["hair_hq_pairing"]) < 0.5
        assert dataset.attributes()["hair_mask"] == (True,) * 20
        assert dataset.evidence == ()
        assert CelebA(toys[0], label="Black_Hair", regions="hair", masks_dir=toys[1]).evidence == ("hair",)

    def test_without_a_mask_there_is_no_annotation(self, toys: tuple[Path, Path], tmp_path: Path) -> None:
        hq = tmp_path / "hq"
        shutil.copytree(toys[1], hq)
        (hq / "CelebAMask-HQ-mask-anno" / "0" / "00000_hair.png").unlink()
        mapping = hq / "CelebA-HQ-to-CelebA-mapping.txt"
        mapping.write_text("".join(line for line in mapping.read_text().splitlines(keepends=True) if line[:2] != "1 "))
        dataset = CelebA(toys[0], split="all", regions="mouth+hair", masks_dir=hq)
        bare = [index for index in range(20) if dataset[index].annotations["hair"] is None]
        order = hq_order(3, 20)
        assert bare == sorted(order[index] - 1 for index in (0, 1))
        assert [index for index, has in enumerate(dataset.attributes()["hair_mask"]) if not has] == bare
        whole = CelebA(toys[0], split="all", regions="mouth+hair", masks_dir=toys[1])
        assert whole.fingerprint != dataset.fingerprint

    def test_generated_and_real_files_are_not_mixed(self, toys: tuple[Path, Path], tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="generated"):
            CelebA(write_lists(tmp_path / "celeba", ROWS), regions="hair", masks_dir=toys[1])


class TestToy:
    def test_it_loads_and_says_so(self, toys: tuple[Path, Path]) -> None:
        dataset = ea.load_dataset("celeba(split=all,regions=mouth+eyes+nose)", toys[0])
        assert isinstance(dataset, CelebA)
        assert dataset.toy
        assert len(dataset) == 20
        assert dataset.problems() == []
        assert dataset[0].image.size == (178, 218)
        assert set(dataset.attributes()["split"]) == {"train", "valid", "test"}

    def test_the_lists_have_the_published_form(self, toys: tuple[Path, Path]) -> None:
        lines = (toys[0] / "Anno" / "list_attr_celeba.txt").read_text().splitlines()
        assert lines[0] == "20"
        assert lines[1] == " ".join(ATTRIBUTES) + " "
        assert lines[2].startswith("000001.jpg ")
        assert "  1" in lines[2]
        assert len(lines) == 22

    def test_the_same_seed_writes_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            toy_celeba.write(tmp_path / name, 3, 5)
        toy_celeba.write(tmp_path / "c", 3, 6)
        files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
        assert len(files) == 8
        for file in files:
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        picture = Path("Img/img_align_celeba/000001.jpg")
        assert (tmp_path / "a" / picture).read_bytes() != (tmp_path / "c" / picture).read_bytes()
        assert (tmp_path / "a" / TOY_MARKER).is_file()

    def test_a_folder_in_use_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").touch()
        with pytest.raises(UsageError):
            toy_celeba.write(tmp_path, 3, 0)

    def test_balanced_groups_can_be_drawn(self, toys: tuple[Path, Path]) -> None:
        dataset = CelebA(toys[0], split="all")
        groups = {("black", True): 1, ("blond", False): 1}
        drawn = dataset.balanced(by=("hair_color", "Smiling"), n=groups)
        assert len(drawn) == 2
        assert all(isinstance(sample.annotations["mouth"], Boxes | Mask) for sample in drawn)
