"""What lies where it should not: links out of the folder, pipes, names that mean another image, odd cells."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.datasets.reading.files import inside
from explanation_alignment.datasets.reading.folder_layout import ImageNames
from explanation_alignment.datasets.toy import celeba, celebamask_hq, imagenet, voc
from explanation_alignment.errors import DatasetError

HEIGHT, WIDTH = 4, 6
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    return folder


def picture(path: Path, level: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (WIDTH, HEIGHT), level).save(path)
    return path


def put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


class TestNamesThatContradict:
    def test_a_file_of_that_name_in_another_folder_is_not_the_one_meant(self, root: Path) -> None:
        picture(root / "images" / "dogs" / "001.png")
        put(root / "boxes.csv", "image,x0,y0,x1,y1\ncats/001.png,0,0,2,2\ndogs/001.png,3,1,5,3\n")
        dataset = ea.load_dataset("folder", root, labels="none")
        assert [problem.kind for problem in dataset.problems()].count("missing_image") == 1
        place = dataset.ids().index("dogs/001")
        expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
        expected[1:3, 3:5] = True
        assert np.array_equal(dataset[place].annotations["object"].to_mask(), expected)

    @pytest.mark.parametrize(
        ("written", "found"),
        [
            ("001.png", 0),
            ("dogs/001.png", 0),
            ("C:\\data\\pets\\dogs\\001.png", 0),
            ("/home/me/dogs/001", 0),
            ("dogs/small/001.png", 0),
            ("cats/001.png", None),
            ("flat.png", 1),
            ("anywhere/flat.png", 1),
        ],
    )
    def test_what_a_written_name_means(self, written: str, found: int | None) -> None:
        assert ImageNames(["dogs/001.png", "flat.png"]).find(written) == found

    def test_two_written_names_for_one_image_are_told(self, root: Path) -> None:
        picture(root / "images" / "a.png")
        put(root / "boxes.csv", "image,x0,y0,x1,y1\na.png,0,0,2,2\nold/a.png,3,1,5,3\n")
        dataset = ea.load_dataset("folder", root, labels="none")
        (told,) = [problem for problem in dataset.problems() if "a.png" in problem.message]
        assert "'old/a.png'" in told.message
        assert told.kind == "two_names"

    def test_two_names_beside_a_table_of_labels(self, root: Path) -> None:
        picture(root / "images" / "a.png")
        put(root / "labels.csv", "image,label\na.png,cat\n")
        put(root / "boxes.csv", "image,x0,y0,x1,y1\na.png,0,0,2,2\nold/a.png,3,1,5,3\n")
        assert [problem.kind for problem in ea.load_dataset("folder", root).problems()] == ["two_names"]


@pipes
class TestPipes:
    """Opening one would wait for ever, so that these tests would not end."""

    def test_a_mask(self, root: Path) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.png")
        picture(root / "masks" / "a.png")
        os.mkfifo(root / "masks" / "b.png")
        dataset = ea.load_dataset("folder", root)
        (told,) = [problem for problem in dataset.problems() if problem.serious]
        assert (told.kind, told.sample_id) == ("unreadable_annotation", "b")
        with pytest.raises(DatasetError, match="no regular file"):
            dataset[1]

    def test_a_file_of_labelme(self, root: Path) -> None:
        picture(root / "images" / "a.png")
        (root / "labels").mkdir()
        os.mkfifo(root / "labels" / "a.json")
        with pytest.raises(DatasetError):
            ea.load_dataset("folder", root)
        with pytest.raises(DatasetError, match=r"a\.json: no regular file"):
            ea.load_dataset("folder", root, annotations="labelme", source="labels")


class TestLinksOut:
    @pytest.mark.parametrize("name", ["labels.csv", "classes.txt"])
    def test_tables_found_by_themselves(self, root: Path, name: str) -> None:
        picture(root / "images" / "a.png")
        picture(root / "masks" / "a.png")
        put(root / "labels.csv", "image,label\na.png,cat\n")
        put(root / "classes.txt", "cat\n")
        (root / name).rename(root.parent / name)
        (root / name).symlink_to(root.parent / name)
        with pytest.raises(DatasetError, match=f"{name}.*through a link.*copy"):
            ea.load_dataset("folder", root)

    def test_a_mask(self, root: Path) -> None:
        picture(root / "images" / "a.png")
        picture(root / "images" / "b.png")
        picture(root / "masks" / "a.png")
        (root / "masks" / "b.png").symlink_to(picture(root.parent / "secret.png"))
        dataset = ea.load_dataset("folder", root)
        assert [(p.kind, p.sample_id) for p in dataset.problems()] == [("unreadable_annotation", "b")]
        with pytest.raises(DatasetError, match="through a link"):
            dataset[1]

    @pytest.mark.parametrize(
        ("name", "write", "pattern", "more"),
        [
            ("voc", voc.write, "JPEGImages/*.jpg", {}),
            ("imagenet", imagenet.write, "val/*.JPEG", {}),
            ("celeba", celeba.write, "img_align_celeba/*.jpg", {"split": "all"}),
            ("celebamask_hq", celebamask_hq.write, "CelebA-HQ-img/*.jpg", {"split": "all"}),
        ],
    )
    def test_one_image_of_an_archive(
        self, root: Path, name: str, write: Callable[..., Any], pattern: str, more: dict[str, str]
    ) -> None:
        write(root, n=24, seed=0)
        path = sorted(root.rglob(pattern))[0]
        folder = path.parent
        shutil.move(path, root.parent / path.name)
        path.symlink_to(root.parent / path.name)
        dataset = ea.load_dataset(name, root, **more)
        refused = 0
        for place in range(len(dataset)):
            try:
                dataset[place]
            except DatasetError as error:
                refused += "through a link" in str(error)
        assert refused == 1
        path.unlink()  # the folder as a whole may be a link
        shutil.move(root.parent / path.name, path)
        shutil.move(folder, root.parent / "elsewhere")
        folder.symlink_to(root.parent / "elsewhere", target_is_directory=True)
        again = ea.load_dataset(name, root, **more)
        assert [again[place].id for place in range(len(again))] == list(again.ids())

    def test_folders_of_ones_own_may_be_links(self, root: Path) -> None:
        for kind in ("images", "masks"):
            picture(root.parent / "disk" / kind / "a.png")
            (root / kind).symlink_to(root.parent / "disk" / kind, target_is_directory=True)
        for more in ({}, {"images": "images", "source": "masks"}):
            dataset = ea.load_dataset("folder", root, labels="none", **more)
            assert dataset[0].annotations["object"].to_mask().all()
        linked = root.parent / "linked"
        linked.symlink_to(root, target_is_directory=True)
        assert len(ea.load_dataset("folder", linked, labels="none")) == 1
        (root.parent / "disk" / "images" / "b.png").symlink_to(picture(root.parent / "secret.png"))
        with pytest.raises(DatasetError, match="through a link"):
            inside(root, "images/b.png")


class TestCells:
    def test_a_column_named_twice_but_for_spaces(self, root: Path) -> None:
        picture(root / "images" / "a.png")
        put(root / "boxes.csv", "image,label,label ,x0,y0,x1,y1\na.png,cat,dog,0,0,2,2\n")
        with pytest.raises(DatasetError, match=r"boxes\.csv: .*'label' twice"):
            ea.load_dataset("folder", root)

    def test_what_attributes_are_taken_for(self, root: Path) -> None:
        for name in "ab":
            picture(root / "images" / f"{name}.png")
            picture(root / "masks" / f"{name}.png")
        columns = {
            "nan": ("1.5", "nan", (1.5, None)),
            "all_nan": ("nan", "NaN", ("nan", "NaN")),
            "inf": ("1", "inf", ("1", "inf")),
            "line": ("1_0", "2", ("1_0", "2")),
            "zeros": ("001", "2", ("001", "2")),
            "zeros_of_fractions": ("00.5", "2", ("00.5", "2")),
            "whole": ("-3", "0", (-3, 0)),
            "fractions": ("0.5", "1e3", (0.5, 1000.0)),
            "arabic": ("٣", "2", ("٣", "2")),
        }
        rows = [f"{name}.png,cat," + ",".join(v[i] for v in columns.values()) for i, name in enumerate("ab")]
        put(root / "labels.csv", "image,label," + ",".join(columns) + "\n" + "\n".join(rows) + "\n")
        found = ea.load_dataset("folder", root).attributes()
        assert {name: tuple(found[name]) for name in columns} == {name: v[2] for name, v in columns.items()}
        assert isinstance(found["whole"][0], int)

    @pytest.mark.parametrize("text", ["10-20-30-40", "1-2-3-4", "0 0 2 2px", "x1 2 3 4", "0 0 2 1_0"])
    def test_a_box_of_numbers_that_run_together(self, root: Path, text: str) -> None:
        picture(root / "images" / "a.png")
        picture(root / "images" / "b.png")
        put(root / "boxes.csv", f"image,bbox\na.png,{text}\nb.png,0 0 2 2\n")
        dataset = ea.load_dataset("folder", root, labels="none")
        (told,) = dataset.problems()
        assert told.sample_id == "a"
        assert "expected four numbers" in told.message
        assert dataset[1].annotations["object"].to_mask().sum() == 4

    @pytest.mark.parametrize(
        "text", ["0 0 2 2", "[0, 0, 2, 2]", "(0;0;2;2)", "[[0,0,2,2]]", "[0 0 2. 2.]", "-0 0 2 +2"]
    )
    def test_boxes_written_in_one_cell(self, root: Path, text: str) -> None:
        picture(root / "images" / "a.png")
        put(root / "boxes.csv", f'image,bbox\na.png,"{text}"\n')
        dataset = ea.load_dataset("folder", root, labels="none")
        assert dataset[0].annotations["object"].to_mask().sum() == 4

    def test_one_mask_without_the_ending_orphans_no_others(self, root: Path) -> None:
        for name in "abc":
            picture(root / "images" / f"{name}.png")
        for name in ("a", "a_mask", "b_mask", "c_mask"):
            picture(root / "masks" / f"{name}.png")
        dataset = ea.load_dataset("folder", root)
        assert all(dataset[place].annotations["object"] is not None for place in range(3))
        assert [problem.message for problem in dataset.problems()] == ["masks/a.png: there is no image of that name"]
