from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from small_runs import evaluated

import explanation_alignment as ea
from command_line import Ealign
from explanation_alignment.statistics.shared_interest_cases import with_cases
from toys import Patches, small_classifier


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tmp_path_factory.mktemp("cases") / "run", models=2, intervene=False)


def test_counts_are_those_of_python(ealign: Ealign, run: Path) -> None:
    table = ea.cases(run, by=["even"], low=0.1, high=0.4)
    done = ealign(f"cases {run} --by even --low 0.1 --high 0.4 --format json")
    assert done.code == 0
    assert json.loads(done.out) == json.loads(json.dumps(table.to_dicts()))
    csv = pl.read_csv(ealign(f"cases {run} --format csv").out.encode())
    assert csv.height == ea.cases(run).height
    one = json.loads(ealign(f"cases {run} --model m1 --region patch --method gradcam --format json").out)
    assert {(row["model"], row["region"], row["method"]) for row in one} == {("m1", "patch", "gradcam")}


def test_the_table_fits_and_shows_every_share(ealign: Ealign, run: Path) -> None:
    done = ealign(f"cases {run} --by even")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 100
    row = ea.cases(run).filter(pl.col("count") > 0).row(0, named=True)
    assert f"{row['share']:.3f}".removeprefix("0") in done.out
    for part in ("m0", "m1", "patch", "corner", "even=true", "high: at least 0.65; low: at most 0.2"):
        assert part in done.out
    counts = ea.cases(run, by=["even"]).filter(pl.col("case") != "unclassified").group_by("case").agg(pl.sum("count"))
    assert f"--case '{counts.sort('count')['case'][-1]}'" in done.out  # one that there is
    assert done.out.count("right") >= done.out.count("wrong") > 2


def test_the_decisions_of_a_case_can_be_listed(ealign: Ealign, run: Path) -> None:
    marked = with_cases(ea.open_run(run).scores()).filter(pl.col("case") == "distractor")
    assert marked.height > 20
    everything = json.loads(ealign(f"cases {run} --case distractor --format json").out)
    assert {(r["model"], r["method"], r["region"], r["sample_id"]) for r in everything} == {
        (r["model"], r["method"], r["region"], r["sample_id"]) for r in marked.rows(named=True)
    }
    assert [r["confidence"] for r in everything] == sorted((r["confidence"] for r in everything), reverse=True)
    assert len(json.loads(ealign(f"cases {run} --case distractor --limit 3 --format json").out)) == 3
    shown = ealign(f"cases {run} --case Distractor --limit 2")
    assert f"distractor: 2 of {marked.height} decisions" in shown.out
    assert shown.out.count("img/") == 2
    assert "upper left" in shown.out or "lower" in shown.out or "upper right" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100
    assert f"20 of {marked.height} decisions" in ealign(f"cases {run} --case distractor").out
    assert f"{marked.height} of {marked.height}" in ealign(f"cases {run} --case distractor --limit 0").out


def test_maps_that_explain_nothing_are_listed_on_request_only(ealign: Ealign, tmp_path: Path) -> None:
    run = tmp_path / "run"
    methods = ["vanilla_gradients", "random", "center"]
    ea.evaluate(small_classifier(0, name="m0"), Patches(30), methods, run, progress=False)
    counts = ea.cases(run)
    for case in counts.filter(pl.col("count") > 0)["case"].unique():
        listed = json.loads(ealign(f"cases {run} --case '{case}' --format json").out)
        assert {row["method"] for row in listed} == {"vanilla_gradients"}
        assert len(listed) == counts.filter(pl.col("case") == case)["count"].sum()
    asked = json.loads(ealign(f"cases {run} --case distractor --method random --format json").out)
    assert {row["method"] for row in asked} == {"random"}


def test_a_case_that_never_occurs_says_so(ealign: Ealign, run: Path) -> None:
    done = ealign(f"cases {run} --case human-aligned --low 0.9 --high 1.0 --model m0")
    assert (done.code, done.out.strip()) == (0, "no decision is a case of 'human aligned'")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--case confusor", 2, "did you mean 'confuser'"),
        ("--low 0.7", 2, "0 <= low < high <= 1"),
        ("--limit 3", 2, "--case"),
        ("--case confuser --by even", 2, "--by"),
        ("--by odd", 2, "unknown group"),
        ("--region patches", 2, "did you mean 'patch'"),
        ("--method gradcm", 2, "did you mean 'gradcam'"),
        ("--model m7", 2, "unknown model"),
    ],
)
def test_mistakes(ealign: Ealign, run: Path, options: str, code: int, words: str) -> None:
    done = ealign(f"cases {run} {options}")
    assert (done.code, done.out) == (code, "")
    assert words in " ".join(done.err.split())
    assert ealign(f"cases {run}/nowhere").code == 2
