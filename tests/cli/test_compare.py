from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from comparison_runs import write_run

import explanation_alignment as ea
from command_line import Ealign
from statistics_tables import random_scores, rows


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", random_scores(models=("a", "b", "c"), seeds=(0, 1)))


def test_the_table_fits_and_holds_what_python_gives(ealign: Ealign, run: Path) -> None:
    done = ealign(f"compare {run} --region object --metric iou_coverage --all")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    table = ea.compare(ea.open_run(run), metrics=["iou_coverage"]).filter(region="object")
    for row in table.rows(named=True):
        assert f"{row['difference']:+.3f}".replace("0.", ".", 1).replace("-", "\u2212") in done.out
    assert "undef." in done.out
    assert "comparisons show a difference" in done.out
    assert "--over-seeds" in done.out
    assert f"({row['chance_first']:.3f})".replace("0.", ".", 1) in done.out


@pytest.mark.parametrize("between", ["model", "method --method vanilla_gradients", "region", "seed", "hair", "label"])
def test_every_comparison_fits_a_hundred_columns_or_says_why_not(ealign: Ealign, run: Path, between: str) -> None:
    done = ealign(f"compare {run} --between {between}")
    assert done.code == (2 if between.startswith("method") or between == "label" else 0)
    if done.code:
        assert "one method only" in done.err or "one label only" in done.err
    else:
        assert max(map(len, done.out.splitlines())) <= 100


def test_machines_get_everything(ealign: Ealign, run: Path) -> None:
    table = ea.compare(ea.open_run(run))
    assert json.loads(ealign(f"compare {run} --format json").out) == table.to_dicts()
    csv = pl.read_csv(StringIO(ealign(f"compare {run} --format csv").out), schema=table.schema)
    assert csv.equals(table)
    assert len(ealign(f"compare {run} --format markdown").out.strip().splitlines()) == table.height + 2
    assert ealign(f"compare {run} --format latex").out.count(r"\\") == table.height + 1


def test_long_names_fold_and_many_rows_are_cut(ealign: Ealign, tmp_path: Path) -> None:
    names = [f"vit_base_patch16_clip_224.laion2b_ft_in12k_in1k_{i:02}" for i in range(12)]
    scores = pl.concat(
        [rows(*({"iou_coverage": (i * 7 + j) % 11 / 11} for j in range(20)), model=m) for i, m in enumerate(names)]
    )
    run = write_run(tmp_path / "many", scores, toy=True)
    done = ealign(f"compare {run}")
    assert max(map(len, done.out.splitlines())) <= 100
    assert "the clearest 40 of 132 rows" in done.out
    assert "toy (generated) data" in done.err
    assert "the clearest" not in ealign(f"compare {run} --all").out


def test_two_runs_and_a_gate(ealign: Ealign, run: Path, tmp_path: Path) -> None:
    same = ealign(f"compare {run} {run} --fail-on-worse")
    assert same.code == 0, same.err
    assert "0 of" in same.out
    rng = np.random.default_rng(0)
    before = rows(*({"iou_coverage": float(v)} for v in rng.random(80) * 0.5 + 0.4))
    now = before.with_columns(iou_coverage=pl.col("iou_coverage") - 0.2 - pl.Series(rng.random(80)) * 0.1)
    old = write_run(tmp_path / "old", pl.concat([before, before.with_columns(model=pl.lit("gone"))]))
    new = write_run(tmp_path / "new", now)
    plain = ealign(f"compare {new} {old}")
    assert plain.code == 0
    assert "became worse" in plain.out
    assert "only before: model gone" in plain.err
    gate = ealign(f"compare {new} {old} --fail-on-worse")
    assert gate.code == 1
    assert "1 of 2 became worse" in gate.err
    assert ealign(f"compare {old} {new} --fail-on-worse").code == 0


def test_shared_images_are_told(ealign: Ealign, tmp_path: Path) -> None:
    scores = pl.concat(
        [
            rows(*({"sample_id": i, "iou_coverage": 0.5} for i in ids), model=m)
            for m, ids in (("a", "stu"), ("b", "tuv"))
        ]
    )
    run = write_run(tmp_path / "run", scores)
    refused = ealign(f"compare {run}")
    assert refused.code == 2
    assert "1 only in 'a' (s); 1 only in 'b' (v)" in refused.err
    done = ealign(f"compare {run} --common --metric iou_coverage")
    assert done.code == 0
    assert "2 decisions on images that only one side has" in done.err


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("{run} --between modl", 2, "did you mean 'model'"),
        ("{run} --between group", 2, "attr_hair"),
        ("{run} --reference d", 2, "unknown model"),
        ("{run} --metric iou", 2, "iou_coverage"),
        ("{run} --region objct", 2, "did you mean 'object'"),
        ("{run} --fail-on-worse", 2, "two runs"),
        ("{run} {run} --between region", 2, "within a run"),
        ("{run} --level 95", 2, "level"),
        ("{run}/nowhere", 2, "no folder"),
        ("{run} --between model --model a", 2, "one model only (a)"),
    ],
)
def test_mistakes(ealign: Ealign, run: Path, line: str, code: int, words: str) -> None:
    done = ealign(f"compare {line.format(run=run)}")
    assert done.code == code, done
    assert words in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert done.out == ""
