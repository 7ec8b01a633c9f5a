"""``ealign show --sort`` and ``ealign compare --equally-accurate``: what Python gives, at 100 columns; mistakes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import explanation_alignment as ea
from command_line import Ealign
from explanation_alignment.reporting.leaderboard_text import leaderboard_latex, leaderboard_markdown
from explanation_alignment.statistics.comparing.equal_accuracy import equally_accurate
from model_runs import model_row, model_scores, write_models

LONG = "vit_large_patch14_clip_336.openai_ft_in12k_in1k"
TEN = [str(i) for i in range(10)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    right, iou = rng.random(600) < 0.8, rng.beta(3, 3, 600)
    shifts = {LONG: 0.0, "resnet50.a1_in1k": 0.1, "vgg16": 0.2, "alexnet": 0.3}
    scores = [
        model_scores(name, right if name != "alexnet" else right & (rng.random(600) < 0.7), np.clip(iou - shift, 0, 1))
        for name, shift in shifts.items()
    ]
    models = [model_row(name, parameters=10_000_000 * (i + 1)) for i, name in enumerate(shifts)]
    return write_models(tmp_path_factory.mktemp("many") / "run", scores, models=models, class_names=TEN)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("--sort ea_iou_coverage", {"sort": "ea_iou_coverage"}),
        ("--sort top1 --ascending", {"sort": "top1", "ascending": True}),
        ("--by model --sort param_count --metric iou_coverage", {"sort": "param_count", "metrics": ["iou_coverage"]}),
        ("--sort model --model vgg16 --model alexnet", {"sort": "model", "models": ["vgg16", "alexnet"]}),
        ("--sort top5_err --level 0.8 --pool-seeds", {"sort": "top5_err", "level": 0.8, "pool_seeds": True}),
    ],
)
def test_machines_get_what_python_gets(ealign: Ealign, run: Path, options: str, arguments: dict[str, object]) -> None:
    expected = ea.leaderboard(run, **arguments)  # type: ignore[arg-type]
    assert json.loads(ealign(f"show {run} {options} --format json").out) == expected.to_dicts()
    rows = list(csv.DictReader(io.StringIO(ealign(f"show {run} {options} --format csv").out)))
    assert [row["model"] for row in rows] == expected["model"].to_list()
    assert list(rows[0]) == expected.columns
    assert ealign(f"show {run} {options} --format markdown").out.strip() == leaderboard_markdown(expected)
    assert ealign(f"show {run} {options} --format latex").out.strip() == leaderboard_latex(expected)


@pytest.mark.parametrize("options", ["top1", "ea_iou_coverage", "ea_pointing_game_adjusted", "crop_pct", "family"])
def test_the_table_fits_is_in_order_and_shows_what_it_is_sorted_by(ealign: Ealign, run: Path, options: str) -> None:
    done = ealign(f"show {run} --sort {options}")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    order = ea.leaderboard(run, sort=options)["model"].to_list()
    places = [done.out.index(name[:30]) for name in order]
    assert places == sorted(places)
    assert f"models by {options}" in done.out
    if options not in ("top1", "ea_iou_coverage"):
        assert done.out.count(options) >= 2  # in the title and as a column
    assert "dataset d, method gradcam" in " ".join(done.out.split())
    row = ea.leaderboard(run).row(0, named=True)
    assert f"{row['top1']:.2f}" in done.out
    assert f"{row['top1_low']:.1f}-{row['top1_high']:.1f}" in done.out
    assert "n 600" in done.out


def test_toy_data_and_undefined_top5_are_told(ealign: Ealign, tmp_path: Path) -> None:
    scores = [model_scores(name, [True, False] * 20, [0.5] * 40, classes=3) for name in ("a", "b")]
    run = write_models(tmp_path / "run", scores, toy=True, class_names=TEN[:3])
    done = ealign(f"show {run} --sort top1")
    assert "toy (generated) data" in done.out
    assert "top5: undefined" in done.out
    assert "* unreliable" in done.out


def test_tables_can_be_narrowed_whatever_they_show(ealign: Ealign, run: Path) -> None:
    whole = ea.open_run(run).summary()
    chosen = json.loads(ealign(f"show {run} --model vgg16 --region object --format json").out)
    assert chosen == whole.filter(model="vgg16").to_dicts()
    rate = json.loads(ealign(f"show {run} --right-reason 0.5 --model vgg16 --format json").out)
    assert [row["model"] for row in rate] == ["vgg16"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("show {run} --sort ea_iou_covrage", "did you mean 'ea_iou_coverage'"),
        ("show {run} --sort top", "did you mean"),
        ("show {run} --ascending", "--sort top1 --ascending"),
        ("show {run} --sort top1 --by region", "--sort ranks models"),
        ("show {run} --sort top1 --by correct", "--sort ranks models"),
        ("show {run} --sort top1 --ranking", "--sort ranks models"),
        ("show {run} --sort top1 --right-reason 0.5", "--sort ranks models"),
        ("show {run} --model vgg", "did you mean 'vgg16'"),
        ("show {run} --sort top1 --method gradcm", "did you mean 'gradcam'"),
        ("compare {run} --equally-accurate --margin 1", "0.01 for one percentage point"),
        ("compare {run} --equally-accurate --between region", "--equally-accurate is about pairs of models"),
        ("compare {run} {run} --equally-accurate", "--equally-accurate is about pairs of models"),
        ("compare {run} --equally-accurate --metric accuracy", "unknown metric"),
        ("compare {run} --equally-accurate --model vgg16", "nothing to compare"),
        ("compare {run} --margin 0.02", "--equally-accurate"),
    ],
)
def test_mistakes(ealign: Ealign, run: Path, options: str, words: str) -> None:
    done = ealign(options.format(run=run))
    assert done.code == 2, done
    assert words in " ".join(done.err.split())
    assert done.out == ""


@pytest.mark.parametrize("options", ["top1", "top1 --format csv", "ea_iou_coverage"])
def test_of_several_targets_none_is_ranked(ealign: Ealign, tmp_path: Path, options: str) -> None:
    scores = [model_scores("m", [True] * 4, [0.5] * 4, target=target) for target in ("label", "3")]
    done = ealign(f"show {write_models(tmp_path / 'run', scores)} --sort {options}")
    assert done.code == 2
    assert "several targets (3, label)" in " ".join(done.err.split())
    assert done.out == ""


def test_equally_accurate_pairs_are_listed(ealign: Ealign, run: Path) -> None:
    line = f"compare {run} --equally-accurate --metric iou_coverage --margin .02"
    done = ealign(line)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    assert "of 6 pairs 3 are equally accurate (within 2 points); 3 of these differ" in " ".join(done.out.split())
    assert "alexnet" not in done.out
    found = ea.equally_accurate(run, metrics=["iou_coverage"], margin=0.02)
    assert found.height == 3
    assert json.loads(ealign(f"{line} --format json").out) == found.to_dicts()
    every = equally_accurate(run, metrics=["iou_coverage"], margin=0.02, all_pairs=True)
    assert json.loads(ealign(f"{line} --format json --all").out) == every.to_dicts()
    shown = [f"{value:+.3f}".replace("0.", ".", 1) for value in found["difference"]]
    places = [done.out.index(text) for text in shown]
    assert places == sorted(places)
    csv_lines = ealign(f"{line} --format csv").out
    assert pl.read_csv(csv_lines.encode(), schema=found.schema).equals(found)


def test_where_none_is_found_it_says_why(ealign: Ealign, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scores = [model_scores(name, rng.random(50) < 0.8, rng.random(50)) for name in "ab"]
    run = write_models(tmp_path / "run", scores, toy=True, class_names=TEN)
    done = ealign(f"compare {run} --equally-accurate")
    assert done.code == 0
    assert "no two models can be shown to be equally accurate" in " ".join(done.out.split())
    assert "toy (generated) data" in done.err
