from __future__ import annotations

from pathlib import Path

import pytest
from comparison_runs import write_run

from command_line import Ealign
from statistics_tables import rows


@pytest.fixture
def run(tmp_path: Path) -> Path:
    import polars as pl

    scores = [
        rows(*({"iou_coverage": v, "correct": v > 0.4} for v in (0.3, 0.5, 0.7)), model="resnet50.a1_in1k", region=r)
        for r in ("object", "background")
    ]
    return write_run(tmp_path / "run", pl.concat(scores))


@pytest.mark.parametrize(
    ("claims", "code", "words"),
    [
        ("'resnet50.a1_in1k.iou_coverage >= .5'", 0, ["holds:", "0.5000 (95 % interval", "n 3"]),
        ("'resnet50.a1_in1k.iou_coverage >= .6'", 1, ["FAILS:", "0.5000 (95 % interval", "region object"]),
        ("'*.iou_coverage >= .5' '*.accuracy >= .9'", 1, ["holds:", "FAILS: *.accuracy >= .9", "0.6667"]),
        ("'*.iou_coverage >= .5' --confident", 1, ["with its whole 95 % interval"]),
        ("'*.iou_coverage [region=background] <= .5'", 0, ["region background"]),
    ],
)
def test_a_gate_answers_with_its_exit_code_and_the_numbers(
    ealign: Ealign,
    run: Path,
    claims: str,
    code: int,
    words: list[str],
) -> None:
    done = ealign(f"assert {run} {claims}")
    assert done.code == code, done
    assert done.err == ""
    for word in words:
        assert word in " ".join(done.out.split())
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("resnet50.a1.iou_coverage >= .5", "did you mean 'resnet50.a1_in1k'"),
        ("resnet50.a1_in1k.iou >= .5", "unknown metric"),
        ("resnet50.a1_in1k.iou_coverage", "cannot read"),
        ("resnet50.a1_in1k.iou_coverage = .5", "use one of"),
    ],
)
def test_what_cannot_be_read_is_no_failed_gate(ealign: Ealign, run: Path, claim: str, words: str) -> None:
    done = ealign(f"assert {run} '{claim}'")
    assert done.code == 2
    assert words in " ".join(done.err.split())
    assert done.out == ""
    assert ealign(f"assert {run}").code == 2


def test_an_undefined_value_fails_the_gate(ealign: Ealign, tmp_path: Path) -> None:
    run = write_run(tmp_path / "flat", rows({"iou_coverage": None, "status": "flat_map"}))
    done = ealign(f"assert {run} 'm.iou_coverage <= 1'")
    assert done.code == 1
    assert "undefined, n 0, 1 undefined" in done.out
