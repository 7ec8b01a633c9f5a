"""Maps kept and scored anew from the command line; options of executors that do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

import explanation_alignment as ea
from command_line import Ealign

MODEL = "evaluate --model paper:mnist --weights random --dataset colored_mnist --sample 20 --method vanilla_gradients"


def test_maps_are_kept_and_scored_anew(ealign: Ealign, tmp_path: Path) -> None:
    kept, anew = tmp_path / "kept", tmp_path / "anew"
    done = ealign(f"{MODEL} --out {kept} --save-maps --maps-as uint8")
    assert done.code == 0, done.err
    assert "decisions x 28 x 28 in uint8 are 15.7 kB before compression; the disk has" in done.err
    assert len(list(ea.open_run(kept).maps())) == 20
    line = f"score --maps {kept} --dataset colored_mnist --out {anew} --binarize percentile:90 --metric iou_coverage"
    done = ealign(f"{line} --quiet")
    assert done.code == 0, done.err
    rows = ea.open_run(anew).scores()
    assert rows["binarization"].unique().cast(str).to_list() == ["percentile:90"]
    assert rows["sample_id"].n_unique() == 20
    assert ealign(f"{line} --seed 3").code == 2  # the run's


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--maps-as uint8", "--maps-as: goes with --save-maps"),
        ("--save-maps --maps-as float8", "unknown kind of saved map 'float8'"),
        ("--executor rai", "did you mean 'ray'"),
        ("--ray-address local --gpus-per-task 1", "--ray-address, --gpus-per-task: goes with --executor ray"),
        ("--executor ray --ray-address somewhere", "ray address: expected auto, local, ray://HOST:PORT"),
        ("--executor ray --cpus-per-task 0", "cpus per task: expected at least 1, got 0"),
    ],
)
def test_what_does_not_go_together_is_said(options: str, words: str, ealign: Ealign, tmp_path: Path) -> None:
    done = ealign(f"{MODEL} --out {tmp_path / 'run'} {options}")
    assert done.code == 2
    assert words in " ".join(done.err.split())
    assert not (tmp_path / "run").exists()
