"""Joining runs: shards and different evaluations become one run, and what cannot be one is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from small_shards import METHODS, contents, edited, evaluated, rewritten

import explanation_alignment as ea
from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.runs.schema import KEY_COLUMNS
from toys import Patches


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One evaluation whole and in three shards, and others; tests only read them."""
    folder = tmp_path_factory.mktemp("merging")
    evaluated(folder / "whole")
    for number in (1, 2, 3):
        evaluated(folder / f"shard{number}", shard=f"{number}/3")
    evaluated(folder / "other", name="other", weights=1)
    evaluated(folder / "one-method", METHODS[:1])
    evaluated(folder / "more-methods", ("sobel", *METHODS))
    return folder


@pytest.fixture(autouse=True)
def _unchanged(runs: Path) -> Any:
    before = contents(runs)
    yield
    assert contents(runs) == before


def rows_of(run: ea.Run) -> pl.DataFrame:
    return run.scores().with_columns(pl.col(pl.Categorical).cast(pl.String)).sort(KEY_COLUMNS)


def test_shards_in_any_order_make_the_parts_of_the_whole(runs: Path, tmp_path: Path) -> None:
    merged = ea.merge([runs / "shard3", runs / "shard1", runs / "shard2"], tmp_path / "m")
    assert contents(merged.path / "scores") == contents(runs / "whole" / "scores")
    assert merged.summary().equals(ea.open_run(runs / "whole").summary())
    assert ea.verify(merged).ok
    assert merged.models().equals(ea.open_run(runs / "whole").models())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_merged_shards_get_their_examples_from_the_command_that_made_them(runs: Path, tmp_path: Path) -> None:
    merged = ea.merge([runs / f"shard{number}" for number in (1, 2, 3)], tmp_path / "m")
    assert len(merged.unfinished) == 1
    assert merged.examples().is_empty()
    assert "adds them" in merged.info["merged"]["notes"][0]
    resumed = evaluated(tmp_path / "m")
    assert not resumed.unfinished
    assert contents(resumed.path / "scores") == contents(runs / "whole" / "scores")
    drop = ["image", "annotation", "saliency", "salient"]
    assert resumed.examples().drop(drop).equals(ea.open_run(runs / "whole").examples().drop(drop))


def test_what_is_missing_is_said_and_can_be_done_later(runs: Path, tmp_path: Path) -> None:
    merged = ea.merge([runs / "shard1", runs / "shard2"], tmp_path / "m")
    assert "2 of 3 units" in merged.info["merged"]["notes"][0]
    assert len(merged.unfinished) == 1
    assert rows_of(evaluated(tmp_path / "m")).equals(rows_of(ea.open_run(runs / "whole")))


def test_different_evaluations_stand_beside_each_other(runs: Path, tmp_path: Path) -> None:
    merged = ea.merge([runs / "whole", runs / "other"], tmp_path / "m")
    both = pl.concat([rows_of(ea.open_run(runs / name)) for name in ("whole", "other")]).sort(KEY_COLUMNS)
    assert rows_of(merged).equals(both)
    assert merged.models()["model"].to_list() == ["other", "small"]
    assert not merged.unfinished
    assert merged.examples().group_by("model").agg(pl.col("sample_id").n_unique())["sample_id"].to_list() == [22, 22]
    assert ea.verify(merged).findings == ()


def test_the_same_rows_twice_are_taken_once(runs: Path, tmp_path: Path) -> None:
    merged = ea.merge([runs / "whole", runs / "shard2"], tmp_path / "m")
    assert rows_of(merged).equals(rows_of(ea.open_run(runs / "whole")))
    assert not merged.unfinished
    # the same rows in a file of other bytes and another order are the same
    copy = edited(runs / "shard2", tmp_path / "copy", lambda info: None)
    (part,) = copy.glob("scores/*/unit-*.parquet")
    rewritten(part, lambda table: table.reverse())
    shutil.rmtree(copy / "manifest")  # whose hash the part no longer has
    again = ea.merge([runs / "whole", copy], tmp_path / "again")
    assert rows_of(again).equals(rows_of(merged))


def test_rows_that_differ_are_refused_by_name(runs: Path, tmp_path: Path) -> None:
    copy = edited(runs / "shard2", tmp_path / "copy", lambda info: None)
    (part,) = copy.glob("scores/*/unit-*.parquet")
    rewritten(part, lambda table: table.with_columns(confidence=pl.col("confidence") / 2))
    shutil.rmtree(copy / "manifest")
    with pytest.raises(RunError, match=r"unit-000001.parquet and .*copy.*32 of 32 rows.*confidence is") as caught:
        ea.merge([runs / "whole", copy], tmp_path / "m")
    assert "img/008" in str(caught.value)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("order", [("one-method", "more-methods"), ("more-methods", "one-method")])
def test_shared_methods_become_an_evaluation_of_their_own(runs: Path, tmp_path: Path, order: tuple[str, str]) -> None:
    merged = ea.merge([runs / name for name in order], tmp_path / "m")
    assert rows_of(merged).equals(rows_of(ea.open_run(runs / "more-methods")))
    methods = sorted([one["method"] for one in item["methods"]] for item in merged.evaluations.values())
    assert methods == [["sobel", "gradcam"], ["vanilla_gradients"]]
    assert ea.verify(merged).findings == ()
    assert set(merged.examples()["method"]) == {"sobel", "gradcam", "vanilla_gradients"}
    grown = evaluated(tmp_path / "m", ("gradcam", "vanilla_gradients"))  # the run goes on being one
    assert len(grown.evaluations) == 2


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("seeded", {"weights": 4}, r"weights: \w{8} -> \w{8}"),
        ("sampled", {"sample": 8}, "sample: null -> 8"),
        ("metrics", {"metrics": ["roc_auc"]}, r"metrics: \[.iou_coverage.*roc_auc"),
    ],
)
def test_other_questions_under_one_key_are_refused(
    runs: Path, tmp_path: Path, name: str, options: dict[str, Any], words: str
) -> None:
    evaluated(tmp_path / name, **options)
    with pytest.raises(RunError, match=words):
        ea.merge([runs / "whole", tmp_path / name], tmp_path / "m")


def test_other_weights_under_one_name_are_refused(runs: Path, tmp_path: Path) -> None:
    evaluated(tmp_path / "label", weights=4, target="label")
    with pytest.raises(RunError, match="different weights under the name small"):
        ea.merge([runs / "whole", tmp_path / "label"], tmp_path / "m")


def test_other_data_under_one_name_is_refused(runs: Path, tmp_path: Path) -> None:
    evaluated(tmp_path / "data", name="third", data=Patches(16))
    with pytest.raises(RunError, match="different data under the name patches"):
        ea.merge([runs / "whole", tmp_path / "data"], tmp_path / "m")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_what_one_run_tells_of_a_dataset_is_kept(runs: Path, tmp_path: Path, order: tuple[int, ...]) -> None:
    def counted(info: dict[str, Any]) -> None:
        info["datasets"]["patches"]["class_counts"] = [6, 6, 6, 5, 0]

    sources = [
        edited(runs / name, tmp_path / name, change)
        for name, change in (("whole", counted), ("other", lambda info: None), ("one-method", counted))
    ]
    merged = ea.merge([sources[place] for place in order], tmp_path / "m")
    assert merged.info["datasets"]["patches"]["class_counts"] == [6, 6, 6, 5, 0]

    def otherwise(info: dict[str, Any]) -> None:
        info["datasets"]["patches"]["class_counts"] = [7, 6, 5, 5, 0]

    strange = edited(runs / "more-methods", tmp_path / "strange", otherwise)
    with pytest.raises(RunError, match="different data under the name patches"):
        ea.merge([sources[1], sources[0], strange], tmp_path / "n")


def test_a_method_described_otherwise_is_refused(runs: Path, tmp_path: Path) -> None:
    def change(info: dict[str, Any]) -> None:
        (item,) = info["evaluations"].values()
        item["methods"][1]["layer"] = "1"

    copy = edited(runs / "whole", tmp_path / "copy", change)
    with pytest.raises(RunError, match=r"gradcam with threshold:0.5.*layer: 3 -> 1"):
        ea.merge([runs / "whole", copy], tmp_path / "m")


def test_generated_and_real_data_are_never_mixed(runs: Path, tmp_path: Path) -> None:
    copy = edited(runs / "other", tmp_path / "copy", lambda info: info.update(toy=True))
    with pytest.raises(RunError, match=r"copy holds generated \(toy\) data"):
        ea.merge([runs / "whole", copy], tmp_path / "m")


def test_experiments_agree_or_are_dropped_with_a_word(runs: Path, tmp_path: Path) -> None:
    def experiment(epochs: int) -> Callable[[dict[str, Any]], None]:
        return lambda info: info.update(experiment={"name": "mnist", "settings": {"epochs": epochs}})

    one, same, other = (
        edited(runs / name, tmp_path / f"{name}{epochs}", experiment(epochs))
        for name, epochs in (("whole", 4), ("other", 4), ("other", 5))
    )
    assert ea.merge([one, same], tmp_path / "a").info["experiment"] == {"name": "mnist", "settings": {"epochs": 4}}
    for source in (other, runs / "other"):
        merged = ea.merge([one, source], tmp_path / f"with {source.name}")
        assert merged.info["experiment"] is None
        assert any("different experiments" in note for note in merged.info["merged"]["notes"])


def test_sources_are_told_and_versions_that_differ_are_both_there(runs: Path, tmp_path: Path) -> None:
    def change(info: dict[str, Any]) -> None:
        info["versions"]["torch"] = "9.9"
        info["failures"] = {"broken": "no such layer"}

    other = edited(runs / "other", tmp_path / "other", change)
    (other / "checkpoints").mkdir()
    merged = ea.merge([runs / "whole", other], tmp_path / "m")
    here = ea.open_run(runs / "whole").info["versions"]
    assert merged.info["versions"]["torch"] == f"{here['torch']}, 9.9"
    assert merged.info["versions"]["numpy"] == here["numpy"]
    assert merged.info["failures"] == {"broken": "no such layer"}
    assert [one["run"] for one in merged.info["merged"]["sources"]] == [str(runs / "whole"), str(other)]
    assert any("checkpoints were not taken over" in note for note in merged.info["merged"]["notes"])
    twice = ea.merge([merged, runs / "more-methods"], tmp_path / "twice")
    assert len(twice.info["merged"]["sources"]) == 3


def test_what_failed_in_one_run_and_not_in_the_other_is_no_failure(tmp_path: Path) -> None:
    class Others(Patches):
        name = "others"

    file = tmp_path / "models.py"
    text = (
        "import explanation_alignment as ea\nfrom torch import nn\n\ndef flaky():\n    RAISE\n    return ea.Classifier("
        "nn.Sequential(nn.Flatten(), nn.Linear(432, 4)), ea.Preprocessing((3, 12, 12)), name='made', device='cpu')\n"
    )
    spec = f"file:{file}:flaky"

    def sweep(out: str, raises: bool, *datasets: Patches) -> ea.Run:
        file.write_text(text.replace("RAISE", "raise RuntimeError('no luck')" if raises else "pass"))
        for data in datasets:
            run = ea.evaluate_models(
                [spec, "toy:none"], data, ["vanilla_gradients"], out=tmp_path / out, device="cpu", progress=False
            )
        return run

    failed, done = sweep("failed", True, Others(), Patches()), sweep("done", False, Patches())
    assert set(failed.failures) == {spec, "toy:none", f"{spec} on patches", "toy:none on patches"}
    assert set(done.failures) == {"toy:none"}
    assert set(ea.merge([failed, done], tmp_path / "a").failures) == {spec, "toy:none", "toy:none on patches"}
    # where the other dataset is the first, what had no dataset to its name has one
    found = ea.merge([done, failed], tmp_path / "b")
    assert set(found.failures) == {f"{spec} on others", "toy:none on others", "toy:none"}


def test_units_cut_out_of_a_part_share_its_time(tmp_path: Path) -> None:
    data = Patches(72, broken=(5, 40))
    whole = evaluated(tmp_path / "whole", METHODS[:1], data=data)
    both = evaluated(tmp_path / "both", METHODS, data=data)
    assert [path.name for path in whole.path.glob("scores/*/*.parquet")] == ["units-000000-000008.parquet"]
    (path,) = both.path.glob("manifest/*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "seconds": 90.0}) + "\n" for line in lines))
    merged = ea.merge([both, whole], tmp_path / "m")
    assert ea.verify(merged).ok
    work = {item["methods"][0]["method"]: item["work"] for item in merged.evaluations.values()}
    assert work["gradcam"]["seconds"] == pytest.approx(45, abs=0.01)
    assert [one["unread"] for one in work.values()] == [2, 2]


def test_a_damaged_part_is_taken_from_the_other_run_or_refused(runs: Path, tmp_path: Path) -> None:
    copy = edited(runs / "whole", tmp_path / "copy", lambda info: None)
    part = next(copy.glob("scores/*/unit-000001.parquet"))
    part.write_bytes(part.read_bytes()[:-200])
    merged = ea.merge([copy, runs / "shard2"], tmp_path / "m")
    assert contents(merged.path / "scores") == contents(runs / "whole" / "scores")
    assert any("taken from" in note for note in merged.info["merged"]["notes"])
    with pytest.raises(RunError, match=r"unit-000001.*cannot be read"):
        ea.merge([copy, runs / "shard1"], tmp_path / "n")
    # an intact footer over damaged rows is found, too
    content = bytearray(next((runs / "whole").glob("scores/*/unit-000001.parquet")).read_bytes())
    content[100:400] = bytes(300)
    part.write_bytes(content)
    with pytest.raises(RunError, match=r"unit-000001"):
        ea.merge([copy, runs / "other"], tmp_path / "o")
    for place in copy.glob("scores/*/*.parquet"):
        place.unlink()
    with pytest.raises(RunError, match="no parts of a finished evaluation"):
        ea.merge([copy, runs / "other"], tmp_path / "o")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "m"]


@pytest.mark.parametrize(
    ("given", "out", "words"),
    [
        (["whole"], "m", "at least two"),
        (["whole", "whole"], "m", "given 2 times"),
        (["whole", "other"], "whole", "is, holds, or lies in"),
        (["whole", "other"], "whole/inside", "is, holds, or lies in"),
        (["whole", "other"], ".", "is, holds, or lies in"),
    ],
)
def test_what_cannot_be_meant(runs: Path, given: list[str], out: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ea.merge([runs / name for name in given], runs / out)


def test_a_folder_in_use_is_left_alone(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "precious").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        ea.merge([runs / "whole", runs / "other"], tmp_path / "m")
    assert contents(tmp_path) == {"m/precious": b"mine"}
    (tmp_path / "m" / "precious").unlink()
    ea.merge([runs / "whole", runs / "other"], tmp_path / "m")  # an empty one is taken


def test_a_killed_merge_leaves_nothing_and_the_next_starts_clean(runs: Path, tmp_path: Path) -> None:
    sources = [str(runs / name) for name in ("whole", "other")]
    code = (
        "import sys, time, shutil, explanation_alignment as ea\n"
        "copy = shutil.copyfile\n"
        "def slow(*given):\n"
        "    copy(*given); print('one', flush=True); time.sleep(20)\n"
        "shutil.copyfile = slow\n"
        "ea.merge(sys.argv[1:3], sys.argv[3])"
    )
    command = [sys.executable, "-c", code, *sources, str(tmp_path / "m")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "one\n"
        with pytest.raises(RunError, match="another merge"):
            ea.merge(sources, tmp_path / "m")
        os.kill(child.pid, signal.SIGKILL)
    time.sleep(0.05)
    assert not (tmp_path / "m").exists()
    assert (tmp_path / ".m.merging").is_dir()
    (tmp_path / ".m.merging" / "left.parquet").write_bytes(b"half")
    merged = ea.merge(sources, tmp_path / "m")
    assert ea.verify(merged).findings == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_a_full_disk_leaves_nothing(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(RunError, match="No space left"):
        ea.merge([runs / "whole", runs / "other"], tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
