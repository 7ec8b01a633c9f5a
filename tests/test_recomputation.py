"""Decisions of a run computed anew are those it holds; what is not is found, what cannot be is said."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import explanation_alignment as ea
from explanation_alignment.cli.app import main
from explanation_alignment.recomputation import recompute_decisions
from toys import Patches, small_classifier

METHODS = ["--method", "gradcam", "--method", "random", "--method", "vanilla_gradients(binarize=percentile:90)"]


def evaluate(monkeypatch: pytest.MonkeyPatch, out: Path, *options: str) -> ea.Run:
    """By the command, which the run then tells."""
    call(monkeypatch, "evaluate", "--out", str(out), "--quiet", *METHODS, *options)
    return ea.open_run(out)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["ealign", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recomputing") / "run"
    with pytest.MonkeyPatch.context() as patch:
        data = ("--dataset", "colored_mnist(coloring=uncorrelated-2)", "--sample", "60")
        evaluate(patch, out, "--model", "paper:mnist", "--weights", "random:3", *data)
    return out


def rewritten(run: Path, change: pl.Expr, *, rows: int) -> None:
    """Some rows of the run changed, its stamps as they were."""
    (part,) = run.glob("scores/*/*.parquet")
    stamp = {k: v for k, v in pl.read_parquet_metadata(part).items() if "arrow" not in k.lower()}
    table, name = pl.read_parquet(part), change.meta.output_name()
    some = pl.when(pl.int_range(pl.len()) < rows).then(change).otherwise(name).cast(table.schema[name]).alias(name)
    table.with_columns(some).write_parquet(part, metadata=stamp)


def serious(found: Any) -> list[str]:
    return [finding.message for finding in found.findings if finding.serious]


def test_what_the_command_tells_is_enough(digits: Path) -> None:
    found = ea.verify(digits, recompute=15)
    assert found.recomputed is not None
    assert (found.recomputed.decisions, found.recomputed.rows, found.recomputed.moved) == (15, 15 * 6, 0)
    assert found.findings == ()


def test_draws_are_seeded_and_never_more_than_there_are(digits: Path) -> None:
    run = ea.open_run(digits)
    assert recompute_decisions(run, 5, seed=1) == recompute_decisions(run, 5, seed=1)
    assert recompute_decisions(run, 1000).decisions == 60


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pl.col("prediction") - 1, "prediction is"),
        (pl.col("confidence") * 0.99, "confidence is"),
        (pl.col("iou_coverage") + 0.2, "iou_coverage is"),
        (pl.col("salient_area") + 3, "salient_area is"),
        (pl.col("annotation_area") + 1, "annotation_area is"),
        (pl.lit("elsewhere").alias("sample_id"), "no such row"),
    ],
    ids=lambda value: value.meta.output_name() if isinstance(value, pl.Expr) else "",
)
def test_a_changed_row_is_found(digits: Path, tmp_path: Path, change: pl.Expr, words: str) -> None:
    shutil.copytree(digits, tmp_path / "run")
    rewritten(tmp_path / "run", change, rows=3)
    if "no such" in words:  # an id that the dataset does not have cannot be asked for
        assert any("'elsewhere'" in line for line in serious(ea.verify(tmp_path / "run", recompute=60)))
        return
    found = recompute_decisions(ea.open_run(tmp_path / "run"), 60)
    assert {line.split(": ", 1)[1].startswith(words) for _, line in found.different} == {True}
    assert len(found.different) == 3
    assert not ea.verify(tmp_path / "run", recompute=60).ok


def test_a_pixel_is_forgiven_as_seldom_as_rounding_makes_one(digits: Path, tmp_path: Path) -> None:
    for rows, ok in ((1, True), (12, False)):
        run = tmp_path / f"run{rows}"
        shutil.copytree(digits, run)
        rewritten(run, pl.col("salient_area") + 1, rows=rows)
        found = recompute_decisions(ea.open_run(run), 60)
        assert (found.moved, found.different) == (rows, ())
        (finding,) = found.findings()
        assert finding.serious is not ok
        assert f"{rows} of 360 rows computed anew moved by a pixel" in finding.message


def test_a_pixel_does_not_excuse_a_score_that_it_does_not_explain(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "run")
    rewritten(tmp_path / "run", pl.col("salient_area") + 1, rows=1)
    rewritten(tmp_path / "run", pl.col("iou_coverage") + 0.2, rows=1)
    found = recompute_decisions(ea.open_run(tmp_path / "run"), 60)
    assert (found.moved, len(found.different)) == (0, 1)


def test_what_cannot_be_read_leaves_the_other_findings(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "run")
    (part,) = tmp_path.glob("run/scores/*/*.parquet")
    content = bytearray(part.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = b"\0" * 400
    part.write_bytes(content)
    found = ea.verify(tmp_path / "run", recompute=3)
    assert any(finding.message.startswith("not computed anew") for finding in found.findings)
    assert len([finding for finding in found.findings if finding.place.startswith("scores/")]) >= 1
    part.write_bytes(content[:-50])
    found = ea.verify(tmp_path / "run", recompute=3)
    assert found.recomputed is not None
    assert "cannot be read" in next(iter(found.recomputed.skipped.values()))


def test_each_dataset_is_looked_for_where_its_own_command_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that two commands made, in one process each, and one merged of two."""
    for at, name in enumerate(("voc", "coco")):
        call(monkeypatch, "datasets", "toy", name, str(tmp_path / name), "--n", "6")
        options = ("--dataset", name, "--data-dir", str(tmp_path / name), "--model", "timm:test_vit.r160_in1k")
        evaluate(monkeypatch, tmp_path / f"run{at}", *options, "--weights", "random", "--target", "3")
    merged = ea.merge([tmp_path / "run0", tmp_path / "run1"], tmp_path / "merged")
    told = json.loads((merged.path / "run.json").read_text())
    commands = [one.pop("command") for one in told["merged"]["sources"]]
    for sources in (True, False):
        found = recompute_decisions(ea.open_run(merged.path), 12)
        assert (found.skipped, found.different, found.decisions) == ({}, (), 12), sources
        # as if the second command had made the first one's run grow
        told["sessions"] = {f"session {at}": {"command": command} for at, command in enumerate(commands)}
        told["merged"]["sources"] = []
        (merged.path / "run.json").write_text(json.dumps(told))


def test_weights_and_data_that_are_not_those_recorded_are_not_used(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "command": "python make.py", "sessions": {}}))
    run = ea.open_run(tmp_path / "run")
    (reason,) = recompute_decisions(run, 3).skipped.values()
    assert "dataset digits-uncorrelated-2" in reason
    assert "--data-dir" in reason
    other = "colored_mnist(coloring=uncorrelated-1)"
    (reason,) = recompute_decisions(run, 3, datasets=[other]).skipped.values()
    assert f"{other} has another fingerprint" in reason
    right = "colored_mnist(coloring=uncorrelated-2)"
    (reason,) = recompute_decisions(run, 3, datasets=[other, right]).skipped.values()
    assert "mnist (paper:mnist) cannot be built with weights" in reason
    assert recompute_decisions(run, 3, datasets=[other, right], weights="random:3").decisions == 3
    assert serious(ea.verify(tmp_path / "run", recompute=3)) != []  # nothing could be computed anew


def test_what_was_made_in_python_is_handed_over(tmp_path: Path) -> None:
    data = Patches(bare=(3,), broken=(4,))
    run = ea.evaluate(
        small_classifier(2), data, out=tmp_path / "run", intervene=True, max_errors=2, target="label", progress=False
    )
    (reason,) = recompute_decisions(run, 9, datasets=[data]).skipped.values()
    assert "made in Python" in reason
    given = recompute_decisions(run, 23, datasets=[data], classifiers={"small": small_classifier(2)})
    assert (given.decisions, given.rows, given.different, given.moved) == (23, 92, (), 0)
    (reason,) = recompute_decisions(
        run, 9, datasets=[data], classifiers={"small": small_classifier(3)}
    ).skipped.values()
    assert "other weights than were evaluated" in reason


def test_shuffled_annotations_and_positives_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = tmp_path / "voc"
    call(monkeypatch, "datasets", "toy", "voc", str(toy), "--n", "12")
    options = ("--dataset", "voc", "--data-dir", str(toy), "--model", "timm:test_vit.r160_in1k", "--weights", "random")
    evaluate(monkeypatch, tmp_path / "shuffled", *options, "--shuffle-annotations")
    run = evaluate(monkeypatch, tmp_path / "positives", *options, "--target", "positives")
    assert ea.verify(run).findings == ()
    for name in ("shuffled", "positives"):
        found = recompute_decisions(ea.open_run(tmp_path / name), 6)
        assert (found.skipped, found.different, found.decisions) == ({}, (), 6), name


def test_maps_from_elsewhere_and_methods_of_ones_own_are_said_to_be_left_out(tmp_path: Path) -> None:
    data = Patches()
    maps = {name: [[float(at), 1.0], [2.0, 3.0]] for at, name in enumerate(data.ids())}
    external = ea.score(maps, data, tmp_path / "maps", progress=False)
    (reason,) = recompute_decisions(external, 5, datasets=[data]).skipped.values()
    assert "made elsewhere" in reason

    def brightness(classifier: Any, images: Any, targets: Any) -> Any:
        return images.mean(dim=1)

    run = ea.evaluate(small_classifier(), data, [brightness, "gradcam"], tmp_path / "own", progress=False)
    found = recompute_decisions(run, 7, datasets=[data], classifiers={"small": small_classifier()})
    assert (found.decisions, found.rows, found.different) == (7, 14, ())
    assert "somebody's own" in next(iter(found.skipped.values()))


def test_another_version_of_the_numbers_is_said(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    told = json.loads(path.read_text())
    next(iter(told["evaluations"].values()))["question"]["numerics_version"] = 1
    path.write_text(json.dumps(told))
    (reason,) = recompute_decisions(ea.open_run(tmp_path / "run"), 3).skipped.values()
    assert "numerics_version: 1 -> " in reason
