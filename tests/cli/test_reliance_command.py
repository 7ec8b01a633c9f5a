from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from small_runs import evaluated

import explanation_alignment as ea
from command_line import Ealign


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tmp_path_factory.mktemp("reliance") / "run", models=2)


def test_every_format_holds_the_table_of_python(ealign: Ealign, run: Path) -> None:
    table = ea.reliance(run, by=["even"], margin=0.1, min_flip=0.2)
    assert set(table["intervention"].drop_nulls()) == {"exchange"}
    assert set(table["null"]) == {"center"}
    done = ealign(f"reliance {run} --by even --margin 0.1 --min-flip 0.2 --format json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == json.loads(json.dumps(table.to_dicts()))
    csv = pl.read_csv(ealign(f"reliance {run} --format csv").out.encode())
    assert csv.columns == table.columns
    plain = ea.reliance(run)
    assert len(ealign(f"reliance {run} --format markdown").out.strip().splitlines()) == plain.height + 2
    assert ealign(f"reliance {run} --format latex").out.count(r"\\") == plain.height + 1


def test_the_table_fits_ranks_and_states_the_rule(ealign: Ealign, run: Path) -> None:
    done = ealign(f"reliance {run} --by even,correct --margin 0.07")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 100
    text = " ".join(done.out.split())
    row = ea.reliance(run).filter(pl.col("region") == "corner").row(0, named=True)
    assert f"{row['rank']} corner" in text
    assert f"{row['iou']:.3f}".removeprefix("0") in text
    for part in ("even=true", "correct=false", "accuracy", "exceeds 0.07", "Holm", "m0 (", "m1 ("):
        assert part in text
    assert "exchanging its content" in text


def test_one_method_and_other_evidence(ealign: Ealign, run: Path) -> None:
    rows = json.loads(ealign(f"reliance {run} --method gradcam --evidence corner --format json").out)
    assert {row["method"] for row in rows} == {"gradcam"}
    assert {row["region"] for row in rows if row["is_evidence"]} == {"corner"}
    own = json.loads(ealign(f"reliance {run} --method gradcam --format json").out)
    assert {row["region"] for row in own if row["is_evidence"]} == {"patch"}
    none = json.loads(ealign(f"reliance {run} --evidence '' --format json").out)
    assert not any(row["is_evidence"] for row in none)


def test_where_only_the_evidence_is_annotated_nothing_else_can_be_told(ealign: Ealign, run: Path) -> None:
    done = ealign(f"reliance {run} --evidence patch,corner")
    assert done.code == 0
    words = " ".join(done.out.split())
    assert "Only the evidence (" in words
    assert "Annotate what you suspect as a region of its own, and evaluate with --intervene." in words
    assert "Holm" not in words  # the rule is about other regions
    assert "Only the evidence" not in ealign(f"reliance {run}").out


def test_a_run_without_interventions_is_told_what_to_do(ealign: Ealign, tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", models=1, intervene=False)
    done = ealign(f"reliance {run}")
    assert done.code == 0
    assert "--intervene" in done.err
    assert "confirmed" not in done.out.partition("A region outside")[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--by odd", "unknown group"),
        ("--method gradcm", "did you mean 'gradcam'"),
        ("--metric iou", "iou"),
        ("--metric pointing_gam", "pointing_gam"),
        ("--margin 5", "margin"),
        ("--pool datasets", "did you mean 'dataset'"),
        ("--evidence patches", "did you mean 'patch'"),
    ],
)
def test_mistakes(ealign: Ealign, run: Path, options: str, words: str) -> None:
    done = ealign(f"reliance {run} {options}")
    assert (done.code, done.out) == (2, "")
    assert words in " ".join(done.err.split())
    assert "Traceback" not in done.err
