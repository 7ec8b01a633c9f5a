"""``ealign datasets``: what it lists, what a check says and ends with, and where nothing may be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from command_line import Ealign
from explanation_alignment.datasets import DATASETS, load_dataset
from explanation_alignment.datasets.checking.check import check_dataset

SAMPLES = """
import numpy as np
from PIL import Image
import explanation_alignment as ea
import toys

def sound(): return toys.Patches(12)
def broken():
    made = toys.Patches(60, broken=range(30), empty=[40])
    return made
def with_folder(data_dir): return toys.Patches(12)
def brackets():
    made = toys.Patches(4, broken=[1])
    made.name = "[bold]odd[/bold] name with spaces"
    return made
def words():
    made = toys.Patches(4)
    made.class_names = ("a [red]class[/red]", *"bcd")
    return made
"""


@pytest.fixture
def ealign(ealign: Ealign, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ealign:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_data.py").write_text(SAMPLES)
    return ealign


class TestListing:
    def test_all(self, ealign: Ealign) -> None:
        for line in ("datasets", "datasets list"):
            done = ealign(line)
            assert done.code == 0
            assert all(f"\n{name}\n" in f"\n{done.out}" for name in DATASETS)
            assert max(map(len, done.out.splitlines())) <= 100
            assert "file:PATH.py:FACTORY" in done.out
        assert "coloring = correlated" in done.out
        assert "licence: " in done.out

    @pytest.mark.parametrize(
        ("pattern", "names"),
        [
            ("mnist", {"colored_mnist"}),
            ("colored-mnist", {"colored_mnist"}),
            ("COLORED*", {"colored_mnist"}),
            ("celeb*", {"celeba", "celebamask_hq"}),
            ("celeb?", {"celeba"}),
        ],
    )
    def test_some(self, ealign: Ealign, pattern: str, names: set[str]) -> None:
        lines = ealign(f"datasets list '{pattern}'").out.splitlines()
        assert {line for line in lines if not line.startswith(" ")} == names

    def test_none(self, ealign: Ealign) -> None:
        done = ealign("datasets list coloured_mnist")
        assert (done.code, done.out) == (2, "")
        assert "did you mean 'colored_mnist'" in done.err


class TestCheck:
    def test_clean(self, ealign: Ealign, tmp_path: Path) -> None:
        done = ealign("datasets check file:my_data.py:sound")
        assert done.code == 0
        assert "nothing is wrong" in done.out
        assert "upper left: 3" in done.out
        assert "patch (evidence)" in done.out
        assert done.err == ""
        assert max(map(len, done.out.splitlines())) <= 100
        with Image.open(tmp_path / "my_data-sound-check.png") as sheet:
            assert sheet.format == "PNG"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["my_data-sound-check.png", "my_data.py"]

    def test_a_registered_name_with_arguments(self, ealign: Ealign, tmp_path: Path) -> None:
        done = ealign("datasets check 'colored-mnist(coloring=uncorrelated-1)' --sample 20 --seed 1")
        assert done.code == 0
        assert "500, 20 of them looked at" in done.out
        assert (tmp_path / "colored-mnist-coloring-uncorrelated-1-check.png").is_file()

    def test_wrong(self, ealign: Ealign) -> None:
        done = ealign("datasets check file:my_data.py:broken --no-sheet")
        assert done.code == 1
        assert "wrong: unreadable_sample 30, empty_annotation 1" in done.out
        assert done.out.count("unreadable_sample  img/") == 20
        assert "and 11 more; --all lists them" in done.out
        assert "nothing is wrong" not in done.out
        whole = ealign("datasets check file:my_data.py:broken --no-sheet --all")
        assert whole.out.count("unreadable_sample  img/") == 30
        assert "img/000: OSError: broken image" in whole.out
        assert "patch: the annotation marks no pixel" in whole.out

    def test_for_machines_as_from_python(self, ealign: Ealign) -> None:
        done = ealign("datasets check file:my_data.py:broken --no-sheet --format json")
        assert done.code == 1
        told = json.loads(done.out)
        assert told.pop("sheet") is None
        expected = check_dataset(load_dataset("file:my_data.py:broken"))
        assert told == json.loads(json.dumps(expected.to_dict()))
        assert told["ok"] is False
        assert len(told["problems"]) == 31

    @pytest.mark.parametrize(
        ("geometry", "settings"),
        [
            ("256,224", {"resize": 256, "crop": [224, 224]}),
            ("12,12", {"resize": 12, "crop": [12, 12]}),
            ("30x20,8x6", {"resize": [30, 20], "crop": [8, 6]}),
        ],
    )
    def test_geometry(self, ealign: Ealign, geometry: str, settings: dict[str, object]) -> None:
        done = ealign(f"datasets check file:my_data.py:sound --no-sheet --format json --geometry {geometry}")
        assert json.loads(done.out)["geometry"] == {**settings, "interpolation": "bilinear"}

    def test_what_the_geometry_crops_away_is_counted(self, ealign: Ealign) -> None:
        done = ealign("datasets check file:my_data.py:sound --no-sheet --format json --geometry 12,2")
        assert done.code == 0  # the files are sound
        assert [region["cropped"] for region in json.loads(done.out)["regions"]] == [12, 12]

    def test_the_sheet_is_never_in_the_datasets_folder(self, ealign: Ealign, tmp_path: Path) -> None:
        for line in ("{} .", "{} {tmp}/data --sheet data/sub/sheet.png", "{} data --sheet {tmp}/data/sheet.png"):
            (tmp_path / "data").mkdir(exist_ok=True)
            done = ealign("datasets check " + line.format("file:my_data.py:with_folder", tmp=tmp_path))
            assert done.code == 2
            assert "would lie in the dataset's folder" in done.err
        assert not list(tmp_path.rglob("*.png"))
        assert ealign("datasets check file:my_data.py:with_folder data --sheet out/sheet.png --quiet").code == 0
        assert (tmp_path / "out" / "sheet.png").is_file()

    @pytest.mark.parametrize("name", ["brackets", "words"])
    def test_names_with_brackets_are_shown_as_they_are(self, ealign: Ealign, name: str) -> None:
        done = ealign(f"datasets check file:my_data.py:{name} --no-sheet")
        assert ("[bold]odd[/bold] name" if name == "brackets" else "a [red]class[/red]: 1") in done.out

    @pytest.mark.parametrize(
        ("line", "code", "words"),
        [
            ("check coloured_mnist", 2, "did you mean 'colored_mnist'"),
            ("check colored_mnist nowhere", 2, "no folder"),
            ("check imagenet", 2, "folder its files are in"),
            ("check imagenet nowhere", 2, "nowhere"),
            ("check 'colored_mnist(colour=x)'", 2, "coloring"),
            ("check file:my_data.py:sound --geometry 224", 2, "RESIZE,CROP"),
            ("check file:my_data.py:sound --geometry 0,224", 2, "RESIZE,CROP"),
            ("check file:my_data.py:sound --geometry big", 2, "RESIZE,CROP"),
            ("check file:my_data.py:sound --sample 0", 2, "at least 1"),
            ("check file:my_data.py:sound --sheet x.png --no-sheet", 2, "not both"),
            ("check file:my_data.py:sound --sheet x.jpg", 2, "a .png file"),
            ("check file:my_data.py:sond", 2, "did you mean 'sound'"),
            ("check file:absent.py:build", 2, "no file 'absent.py'"),
            ("toy coloured_mnist x", 2, "did you mean 'colored_mnist'"),
            ("toy colored_mnist .", 2, "not empty"),
            ("toy folder my_data.py/x", 1, "cannot write to my_data.py/x"),
            ("toy celeba my_data.py/x --n 4", 1, "cannot write to my_data.py/x"),
            ("toy colored_mnist x --n 0", 2, "--n"),
            ("toy voc x --correlation 0.5", 2, "of voc has none; those of celeba, celebamask_hq do"),
            ("toy voc x --other-hair 0.5", 2, "--other-hair: the stand-in of voc has none"),
            ("toy celeba x --correlation 1.5", 2, "expected -1 to 1, got 1.5"),
            ("toy celeba x --correlation much", 2, "'--correlation'"),
            ("toy celebamask-hq x --other-hair 1", 2, "expected 0 to below 1, got 1"),
            ("chek colored_mnist", 2, "check"),
        ],
    )
    def test_mistakes(self, ealign: Ealign, tmp_path: Path, line: str, code: int, words: str) -> None:
        done = ealign(f"datasets {line}")
        assert done.code == code, done
        assert words in " ".join(done.err.split())
        assert done.out == ""
        assert "Traceback" not in done.err
        assert [path.name for path in tmp_path.iterdir()] == ["my_data.py"]


def test_images_told_in_one_line_are_counted_each(ealign: Ealign, tmp_path: Path) -> None:
    for name in "abcd":
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    mask = Image.new("L", (8, 8))
    mask.paste(255, (0, 0, 4, 4))
    (tmp_path / "masks").mkdir()
    mask.save(tmp_path / "masks/a.png")
    done = ealign(f"datasets check folder {tmp_path} --no-sheet")
    assert "worth a look: orphan_image 3\n  orphan_image  3 images have no annotation, such as 'b'" in done.out


def test_toy_then_check(ealign: Ealign, tmp_path: Path) -> None:
    done = ealign("datasets toy colored-mnist data/toy --n 30 --seed 4")
    assert done.code == 0
    assert "next  ealign datasets check colored_mnist data/toy" in done.out
    done = ealign("datasets check colored_mnist data/toy")
    assert done.code == 0
    assert "generated toy data" in done.out
    assert "30, all looked at" in done.out
    assert (tmp_path / "colored_mnist-toy-check.png").is_file()
    images = tmp_path / "data" / "toy" / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    done = ealign("datasets check colored_mnist data/toy")
    assert done.code == 1
    assert "t10k-images-idx3-ubyte" in done.err


def test_toy_faces_with_a_correlation(ealign: Ealign, tmp_path: Path) -> None:
    for name in ("celeba", "celebamask-hq"):
        assert ealign(f"datasets toy {name} {name} --n 12 --correlation -1 --other-hair 0").code == 0
        dataset = load_dataset("celeba(split=all)" if name == "celeba" else name, tmp_path / name)
        columns = dataset.attributes()
        assert set(zip(columns["hair_color"], columns["Smiling"], strict=True)) == {("black", False), ("blond", True)}


def test_what_a_toy_says_to_do_next_can_be_done(ealign: Ealign) -> None:
    for name in DATASETS:
        told = ealign(f"datasets toy {name} 'toy {name}' --n 10")
        assert told.code == 0, name
        command = told.out.split("next  ealign ")[1].strip()
        done = ealign(f"{command} --no-sheet")
        assert (done.code, "nothing is wrong" in done.out) == (0, True), (name, done)
