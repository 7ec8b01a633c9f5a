from __future__ import annotations

import json
from pathlib import Path

import pytest
from comparison_runs import write_run

import explanation_alignment as ea
from command_line import Ealign
from statistics_tables import random_scores


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", random_scores(models=("a", "b"), seeds=(0, 1)))


def test_a_runs_plan_fits_and_is_pythons(ealign: Ealign, run: Path) -> None:
    done = ealign(f"plan {run} --difference .05 --power .9")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    table = ea.plan(ea.open_run(run), 0.05, power=0.9)
    for images in table["images_paired"]:
        assert f"{images:,}" in done.out
    machine = ealign(f"plan {run} --difference .05 --power .9 --format json")
    assert json.loads(machine.out) == table.to_dicts()
    assert len(ealign(f"plan {run} --format csv").out.splitlines()) == table.height + 1


def test_without_a_run(ealign: Ealign) -> None:
    assert "787 images" in ealign("plan --sd .2 --correlation .5 --difference .02").out
    numbers = json.loads(ealign("plan --sd .2 --correlation .5 --difference .02 --format json").out)
    assert numbers == {"paired": 787, "unpaired": 1571, "mean": 387}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("plan", "give a run"),
        ("plan {run} --sd .2", "give a run"),
        ("plan {run} --difference 0", "other than 0"),
        ("plan {run} --power 2", "power"),
        ("plan {run} --metric iou", "iou_coverage"),
        ("plan --sd .2 --format csv", "table or json"),
        ("plan --sd .2 --metric iou_coverage --common", "--metric, --common: choose among a run's scores"),
        ("plan --sd .2 --region digit --dataset d --method m", "--region, --dataset, --method: choose"),
        ("plan --sd .2 --correlation 3", "between -1 and 1"),
    ],
)
def test_mistakes(ealign: Ealign, run: Path, line: str, words: str) -> None:
    done = ealign(line.format(run=run))
    assert done.code == 2
    assert words in " ".join(done.err.split())
    assert done.out == ""
