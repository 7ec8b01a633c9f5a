"""``ealign merge``, ``export``, ``verify`` and ``show --provenance``: what they print, and what is asked wrongly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

import explanation_alignment as ea
from command_line import Ealign
from toys import Patches, small_classifier


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    for seed, name in enumerate(("a", "b")):
        ea.evaluate(small_classifier(seed, name=name), Patches(bare=(3,)), out=folder / name, progress=False)
    return folder


def test_merge_says_what_came_of_it(ealign: Ealign, runs: Path, tmp_path: Path) -> None:
    done = ealign(f"merge {runs}/a {runs}/b --out {tmp_path}/m")
    assert (done.code, done.out, done.err) == (0, f"{tmp_path}/m: 2 evaluations from 2 runs\n", "")
    shutil.copytree(runs / "a", tmp_path / "a")
    (tmp_path / "a" / "checkpoints").mkdir()
    done = ealign(f"merge {tmp_path}/a {runs}/b --out {tmp_path}/n")
    assert "checkpoints were not taken over" in done.err
    assert "note" not in done.out


def test_export_prints_where(ealign: Ealign, runs: Path, tmp_path: Path) -> None:
    done = ealign(f"export {runs}/a --to csv --out {tmp_path}/a.csv")
    assert (done.code, done.out.strip(), done.err) == (0, f"{tmp_path}/a.csv", "")
    assert pl.read_csv(tmp_path / "a.csv").height == 23 * 4


def test_verify_ends_with_what_it_found(ealign: Ealign, runs: Path, tmp_path: Path) -> None:
    done = ealign(f"verify {runs}/a")
    assert (done.code, done.err) == (0, "")
    assert done.out == "1 evaluation, 1 part: 92 rows\nnothing is wrong\n"
    shutil.copytree(runs / "a", tmp_path / "a")
    (part,) = (tmp_path / "a").glob("scores/*/*.parquet")
    part.write_bytes(b"PAR1")
    done = ealign(f"verify {tmp_path}/a")
    assert done.code == 1
    assert f"scores/{part.parent.name}/{part.name}" in "".join(done.out.split())
    assert "nothing is wrong" not in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    done = ealign(f"verify {runs}/a --recompute 3")  # made in Python: nothing can be computed anew
    assert done.code == 1
    assert "not computed anew" in done.out


def test_a_long_list_of_findings_is_cut_unless_asked_for(ealign: Ealign, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "a", tmp_path / "a")
    for number in range(25):
        (tmp_path / "a" / "scores" / f"stray{number:02d}").mkdir()
    done = ealign(f"verify {tmp_path}/a")
    assert (done.code, done.out.count("stray")) == (0, 20)
    assert "and 5 more; --all lists them" in done.out
    assert ealign(f"verify {tmp_path}/a --all").out.count("stray") == 25


def test_provenance_is_a_page_of_a_hundred_columns(ealign: Ealign, runs: Path, tmp_path: Path) -> None:
    ealign(f"merge {runs}/a {runs}/b --out {tmp_path}/m")
    done = ealign(f"show {tmp_path}/m --provenance")
    assert done.code == 0
    lines = done.out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 100
    for words in ("ealign merge", "gradcam (threshold:0.5)", "merged from, 2 of 2", "no_annotation 2", "patch, corner"):
        assert words in done.out
    info = json.loads(ealign(f"show {tmp_path}/m --provenance --format json").out)
    assert info == ea.open_run(tmp_path / "m").info
    assert "toy" not in done.out.lower()
    (tmp_path / "m" / "run.json").write_text(json.dumps({**info, "toy": True}))
    assert ealign(f"show {tmp_path}/m --provenance").out.startswith("Generated toy data")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("merge {runs}/a --out {tmp}/m", 2, "at least two runs"),
        ("merge {runs}/a {runs}/nowhere --out {tmp}/m", 2, "no folder"),
        ("merge {runs}/a {runs}/b", 2, "--out"),
        ("merge {runs}/a {runs}/b --out {tmp}/file", 1, "not empty"),
        ("export {runs}/a --to cvs", 2, "did you mean 'csv'"),
        ("export {runs}/a", 2, "--to"),
        ("export {runs}/a --to csv --out {tmp}/x.txt", 2, ".csv.gz"),
        ("export {tmp} --to csv", 2, "holds no run.json"),
        ("verify {runs}/a --model c", 2, "unknown model"),
        ("verify {runs}/a --data-dir {tmp}", 2, "--recompute"),
        ("verify {runs}/a --device cpu", 2, "--recompute"),
        ("verify {runs}/a --sample 0", 2, "sample: expected at least 1"),
        ("show {runs}/a --provenance --format csv", 2, "--format json"),
    ],
)
def test_mistakes(ealign: Ealign, runs: Path, tmp_path: Path, line: str, code: int, words: str) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "precious").write_text("mine")
    done = ealign(line.format(runs=runs, tmp=tmp_path))
    assert done.code == code, done
    assert words in " ".join(done.err.split())
    assert done.out == ""
    assert not (tmp_path / "m").exists()
