from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from scipy.stats import spearmanr
from small_runs import evaluated

import explanation_alignment as ea
from command_line import Ealign
from explanation_alignment.statistics.relations import model_table


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tmp_path_factory.mktemp("relate") / "run", intervene=False)


def test_a_run_is_a_table_of_models(run: Path) -> None:
    table = model_table(run)
    assert table.height == 5 * 2 * 2  # models, methods, regions
    summary = ea.open_run(run).summary()
    for row in table.rows(named=True):
        mine = summary.filter(*(pl.col(k) == row[k] for k in ("model", "dataset", "method", "binarization", "region")))
        assert row["iou_coverage"] == mine.filter(metric="iou_coverage")["ea"][0]
        assert row["iou_coverage_adjusted"] == mine.filter(metric="iou_coverage")["adjusted"][0]
        assert row["accuracy"] == mine["accuracy"][0]
        assert row["parameters"] == ea.open_run(run).models().filter(model=row["model"])["parameters"][0]
        assert row["n_seeds"] == 1


def test_coefficients_are_those_of_the_table(ealign: Ealign, run: Path) -> None:
    done = ealign(f"relate {run} --predictor pointing_game --method gradcam --region patch --format json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert [row["statistic"] for row in rows] == ["spearman", "pearson"]
    mine = model_table(run).filter(method="gradcam", region="patch")
    expected = spearmanr(mine["accuracy"], mine["pointing_game"]).statistic
    assert rows[0]["coefficient"] == pytest.approx(expected)
    again = ea.relate(run, predictor="pointing_game", method="gradcam", region="patch")
    assert rows == json.loads(json.dumps(again.to_dicts()))


def test_the_table_fits_and_ends_in_a_sentence(ealign: Ealign, run: Path) -> None:
    done = ealign(f"relate {run} --outcome confidence_is_no_column")
    assert done.code == 2
    done = ealign(f"relate {run} --outcome iou_coverage --predictor saliency_coverage --control pointing_game")
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    text = " ".join(done.out.split())
    for part in ("partial spearman", "pointing_game", "Over 5 models", "only 5 models", "leaving one out"):
        assert part in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--outcome acuracy", "did you mean 'accuracy'"),
        ("--control family", "holds no numbers"),
        ("--control accuracy", "one part to play"),
        ("--method gradcm", "did you mean 'gradcam'"),
        ("--region patches", "did you mean 'patch'"),
    ],
)
def test_mistakes(ealign: Ealign, run: Path, options: str, words: str) -> None:
    done = ealign(f"relate {run} {options}")
    assert (done.code, done.out) == (2, "")
    assert words in " ".join(done.err.split())


def test_too_few_models(ealign: Ealign, tmp_path: Path) -> None:
    done = ealign(f"relate {evaluated(tmp_path / 'run', models=2, intervene=False)}")
    assert (done.code, done.out) == (2, "")
    assert "at least 4 models" in done.err
