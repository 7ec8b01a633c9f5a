from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import explanation_alignment as ea
from command_line import Ealign

FEW = (
    "--resize 36 --crop 32 --train-per-group 4 --test-per-group 3 --hair-per-group 1 --epochs 1 --batch-size 8 "
    "--learning-rate 0.002 --weight-decay 0 --decay .5 --decay-after 1,2 --precision fp32 --train-rare-share .25 "
    "--test-rare-share .5 --draw-seed 1 --toy-seed 2 --quiet"
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command, and what it printed beside it."""
    out = tmp_path_factory.mktemp("bias") / "run"
    line = [sys.executable, "-m", "explanation_alignment", "experiment", "celeba-bias", "--toy", "--out", str(out)]
    done = subprocess.run([*line, *FEW.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (out.parent / "printed").write_text(done.stdout)
    return out


def test_every_number_is_a_flag_and_recorded(written: Path) -> None:
    settings = ea.open_run(written).info["experiment"]["settings"]
    expected = {
        "resize": 36,
        "crop": 32,
        "train_per_group": 4,
        "test_per_group": 3,
        "hair_per_group": 1,
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 0.002,
        "weight_decay": 0.0,
        "decay": 0.5,
        "decay_after": [1, 2],
        "precision": "fp32",
        "train_rare_share": 0.25,
        "test_rare_share": 0.5,
        "draw_seed": 1,
        "network": "toy:faces",
        "head": "fresh",
    }
    assert {name: settings[name] for name in expected} == expected
    assert sorted(path.name for path in (written / "data").iterdir()) == ["celeba-80-seed2", "celebamask_hq-40-seed2"]


def test_it_prints_tables_and_where_everything_is(written: Path) -> None:
    printed = (written.parent / "printed").read_text()
    for words in ("Accuracy and loss", "IoU with the mouth, Grad-CAM", "Mouth or hair (celeba-hair)", "report.html"):
        assert words in printed
    assert printed.strip().endswith("Generated toy data: these numbers say nothing about real images.")
    assert (written / "report.html").is_file()
    assert (written / "figures/groups.png").is_file()


def test_generated_faces_are_read_as_real_ones_with_the_same_numbers(
    written: Path, ealign: Ealign, tmp_path: Path
) -> None:
    few = FEW.replace("--toy-seed 2", "")
    trees = f"--data-dir {written}/data/celeba-80-seed2 --hq-dir {written}/data/celebamask_hq-40-seed2"
    done = ealign(f"experiment celeba-bias {trees} --out {tmp_path / 'run'} {few}")
    assert done.code == 0, done.err
    mine, theirs = (ea.open_run(path).scores() for path in (written, tmp_path / "run"))
    assert mine.with_columns(pl.col(pl.Categorical).cast(pl.String)).equals(
        theirs.with_columns(pl.col(pl.Categorical).cast(pl.String))
    )
    tables, rest = ((text.split("\nrun ")[0]) for text in ((written.parent / "printed").read_text(), done.out))
    assert tables == rest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "give --data-dir with CelebA's files (and --hq-dir with CelebAMask-HQ's), or --toy"),
        ("--toy --data-dir x", "give --data-dir"),
        ("--data-dir x --toy-seed 2", "give --toy, or leave it out"),
        ("--toy --hq-dir x", "--toy brings its own masks"),
        ("--toy --correlation 0,much", "--correlation: expected numbers separated by commas"),
        ("--toy --correlation 0,1.2", "expected 0 to 1, got 1.2"),
        ("--toy --hair-pairing near", "expected hq | crop | published, got 'near'"),
        ("--toy --seeds 0,x", "--seeds: expected whole numbers"),
        ("--toy --decay-after two", "--decay-after: expected whole numbers"),
        ("--toy --epochs 0", "epochs: expected a whole number of at least 1"),
        ("--toy --head both", "unknown head 'both'"),
        ("--toy --head imagenet", "give head 'fresh'"),
        ("--toy --precision half", "unknown precision 'half'"),
    ],
)
def test_wrong_use_is_told_in_a_line(ealign: Ealign, tmp_path: Path, line: str, message: str) -> None:
    few = "--train-per-group 1 --test-per-group 1 --hair-per-group 1 --quiet"
    done = ealign(f"experiment celeba-bias {line} {few} --out {tmp_path / 'run'}")
    assert done.code == 2, done.err
    assert message in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_help_needs_no_torch_and_has_an_example() -> None:
    code = (
        "import sys; sys.argv = ['ealign', 'experiment', 'celeba-bias', '--help']\n"
        "from explanation_alignment.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'polars'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ealign experiment celeba-bias --data-dir data/celeba" in " ".join(done.stdout.split())
