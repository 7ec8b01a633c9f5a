"""``ealign score``: from a folder of maps to a run, and its words where something is amiss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import explanation_alignment as ea
from command_line import Ealign
from explanation_alignment.cli.score import parse_geometry
from explanation_alignment.errors import UsageError
from explanation_alignment.geometry import Geometry
from toys import Patches


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """The annotation itself, so that IoU is 1; one is missing, one is nobody's."""
    folder, patches = tmp_path / "maps", Patches(12)
    (folder / "img").mkdir(parents=True)
    for place, name in enumerate(patches.ids()[:-1]):
        np.save(folder / f"{name}.npy", patches[place].annotations["patch"].to_mask().astype(np.float32))
    np.save(folder / "stray.npy", np.ones((12, 12)))
    return folder


def test_scores_a_folder(ealign: Ealign, data: str, maps: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    line = (
        f"score --maps {maps} --dataset {data} --out {out} --geometry 12x12 --model-name m --method-name mine --quiet"
    )
    done = ealign(line)
    assert done.code == 0, done.err
    assert "mine" in done.out
    assert "1 of 12 samples have no map" in done.err
    assert "1 maps belong to no sample: stray" in done.err
    rows = ea.open_run(out).scores()
    patch = rows.filter((rows["region"] == "patch") & (rows["status"].cast(str) == "ok"))
    assert patch["iou_coverage"].to_list() == [1] * 11
    assert ealign(line).code == 0  # the same command again resumes
    assert ealign(f"show {out}").code == 0


def test_predictions_from_a_file(ealign: Ealign, data: str, maps: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("sample_id,prediction\n" + "\n".join(f"img/{place:03d},{place % 4}" for place in range(12)))
    done = ealign(f"score --maps {maps} --dataset {data} --out {tmp_path / 'run'} --predictions {file} --quiet")
    assert done.code == 0, done.err
    assert ea.open_run(tmp_path / "run").summary()["accuracy"].unique().to_list() == [1]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--geometry 12", 2, "expected HxW such as 224x224"),
        ("--covers all", 2, "covers"),
        ("--binarize st:1", 2, "unknown binarization 'st'"),
        ("--metric iou", 2, "iou"),
        ("--maps nowhere", 2, "no folder 'nowhere'"),
    ],
)
def test_wrong_use(options: str, code: int, words: str, ealign: Ealign, data: str, maps: Path, tmp_path: Path) -> None:
    done = ealign(f"score --maps {maps} --dataset {data} --out {tmp_path / 'run'} {options} --quiet")
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err


def test_geometries() -> None:
    assert parse_geometry("10x20") == Geometry(resize=(10, 20))
    assert parse_geometry("256, 224") == Geometry(resize=256, crop=(224, 224))
    assert parse_geometry("256,224x200") == Geometry(resize=256, crop=(224, 200))
    for text in ("0x1", "a", "1,2,3", "-1x2", ""):
        with pytest.raises(UsageError, match="--geometry"):
            parse_geometry(text)
