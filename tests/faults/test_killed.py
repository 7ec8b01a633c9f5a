"""Runs that are killed, at random moments and at every step of a compaction, end in the same bytes."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from fault_children import IMAGES, compacted_until, evaluated, evaluated_until, started

import explanation_alignment as ea
from explanation_alignment.runs import leases, writer
from explanation_alignment.runs.parts import owed_rows


def score_bytes(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(run.rglob("scores/*/*"))}


@pytest.fixture(scope="module", autouse=True)
def _usual_units() -> Iterator[None]:
    from explanation_alignment.evaluation import units

    before = units.UNIT_SIZE
    yield
    units.UNIT_SIZE = before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("killed") / "whole"
    evaluated(str(out))
    return out


def test_many_units_become_one_part_that_everything_reads(whole: Path) -> None:
    (name,) = score_bytes(whole)
    assert name.endswith("units-000000-000011.parquet")
    run = ea.open_run(whole)
    assert run.scores().height == pl.read_parquet(whole / "scores/*/*.parquet").height == IMAGES * 4
    assert ea.verify(whole).findings == ()
    assert ea.provenance(run).evaluations.select("units", "units_owed").row(0) == (12, 12)
    assert pl.read_csv(ea.export(run, "csv", whole.parent / "all.csv")).height == IMAGES * 4
    assert run.summary().height == 16


def is_whole(run: Path, whole: Path) -> bool:
    """Whether a run is in every respect the one that was never interrupted, and nothing else is there."""
    assert score_bytes(run) == score_bytes(whole)
    assert ea.verify(run).findings == ()
    assert ea.open_run(run).examples().equals(ea.open_run(whole).examples())
    return not [path for path in run.rglob("*") if path.suffix in (".tmp", ".lease", ".damaged")]


def test_a_run_killed_at_25_random_moments_ends_in_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    draw, out, killed = random.Random(8), tmp_path / "run", 0
    while killed < 25:  # moments are operations on files and readings of images, not times: the same on a busy machine
        child = started(evaluated_until, str(out), draw.randrange(60))
        child.join(900)
        assert child.exitcode in (0, -9)
        killed += child.exitcode == -9
        if child.exitcode == 0:  # anew, so that every kill has something to meet
            assert is_whole(out, whole)
            shutil.rmtree(out)
    evaluated(str(out))
    assert is_whole(out, whole)


@pytest.mark.slow
def test_a_run_killed_at_25_random_times_ends_in_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    draw, out, killed = random.Random(9), tmp_path / "run", 0
    while killed < 25:
        child = started(evaluated, str(out), pause=0.004)
        child.join(draw.uniform(0.05, 1.2))
        killed += child.is_alive()
        child.kill()
        child.join()
        if child.exitcode == 0:
            assert is_whole(out, whole)
            shutil.rmtree(out)
    evaluated(str(out))
    assert is_whole(out, whole)


@pytest.fixture(scope="module")
def uncompacted(whole: Path) -> Path:
    """The same run with its twelve units, not yet ended."""
    out = whole.parent / "units"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer.EvaluationWriter, "finish", lambda *_: None)
        evaluated(str(out))
    return out


@pytest.mark.parametrize("operation", [0, 3, 4, 5, 6, 12, 17, 18, 19, 40])
def test_a_compaction_killed_anywhere_loses_and_doubles_nothing(
    whole: Path, uncompacted: Path, tmp_path: Path, operation: int
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uncompacted, run)
    opened = ea.open_run(run)
    ((slug, item),) = opened.evaluations.items()
    child = started(
        compacted_until, str(run / "scores" / slug), str(run), slug, item["identity"], owed_rows(item, 2), operation
    )
    child.join(900)
    assert child.exitcode == (0 if operation == 40 else -9)
    ours = ea.open_run(run).scores().with_columns(pl.col(pl.Categorical).cast(pl.String))
    assert ours.equals(ea.open_run(whole).scores().with_columns(pl.col(pl.Categorical).cast(pl.String)))
    files = list(run.glob("scores/*/*.parquet"))
    plain = pl.concat([pl.read_parquet(path) for path in files]) if files else ours.clear()
    assert plain.height <= ours.height
    assert not plain.select("sample_id", "method", "region").is_duplicated().any()
    evaluated(str(run))
    assert score_bytes(run) == score_bytes(whole)
    assert ea.verify(run).ok


def test_a_merge_of_shards_is_compacted_and_ends_like_the_whole(whole: Path, uncompacted: Path, tmp_path: Path) -> None:
    for name, kept in (("one", range(6)), ("other", range(4, 12))):
        shutil.copytree(uncompacted, tmp_path / name)
        for path in (tmp_path / name).glob("scores/*/unit-*.parquet"):
            if int(path.stem.removeprefix("unit-")) not in kept:
                path.unlink()
    merged = ea.merge([tmp_path / "one", tmp_path / "other"], tmp_path / "merged")
    assert score_bytes(merged.path) == score_bytes(whole)
    assert not (merged.path / ".work").exists()
    assert (
        len((merged.path / "manifest").joinpath(f"{next(iter(merged.evaluations))}.jsonl").read_text().split("\n")) == 2
    )
    evaluated(str(merged.path))
    assert is_whole(merged.path, whole)


def test_children_that_share_a_run_each_do_some_of_it(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    children = [started(evaluated, str(out), pause=0.02) for _ in range(2)]
    for child in children:
        child.join(900)
    assert [child.exitcode for child in children] == [0, 0]
    run = ea.open_run(out)
    assert not run.unfinished
    ((_, item),) = run.evaluations.items()
    assert len(item["work"]["sessions"]) == 2
    assert score_bytes(out) == score_bytes(whole)
    assert run.examples().equals(ea.open_run(whole).examples())
    assert not list(out.rglob("*.lease"))


def test_the_units_of_a_process_that_was_killed_are_taken_over_at_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    child = started(evaluated, str(out), pause=0.05)
    deadline = time.monotonic() + 900
    while not list(out.glob(".work/*/unit-*.lease")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.kill()
    child.join()
    assert list(out.glob(".work/*/unit-*.lease"))
    monkeypatch.setattr(leases, "STALE_AFTER", float("inf"))  # not since the lease is old
    evaluated(str(out))
    assert score_bytes(out) == score_bytes(whole)
