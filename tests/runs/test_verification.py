"""A sound run verifies; each fault put into one is found, and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_shards import METHODS, contents, edited, evaluated, rewritten

import explanation_alignment as ea
from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from toys import Patches


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, units of eight, every status there is, a summary."""
    out = tmp_path_factory.mktemp("verifying") / "run"
    evaluated(out, metrics=["iou_coverage", "pointing_game", "roc_auc", "saliency_coverage"])
    evaluated(out, name="other", weights=1, metrics=["iou_coverage", "pointing_game", "roc_auc", "saliency_coverage"])
    ea.open_run(out).summary()
    return out


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(sound, tmp_path / "run")
    return tmp_path / "run"


def serious(found: ea.runs.verification.Verification) -> list[str]:  # type: ignore[name-defined]
    return [f"{finding.place}: {finding.message}" for finding in found.findings if finding.serious]


def part_of(run: Path, model: str = "small", unit: int = 0) -> Path:
    (part,) = run.glob(f"scores/{model}--*/unit-{unit:06d}.parquet")
    return part


def test_a_sound_run_has_nothing_to_say_and_is_left_as_it_is(sound: Path) -> None:
    before = contents(sound)
    found = ea.verify(sound)
    assert (found.ok, found.findings) == (True, ())
    assert (found.evaluations, found.parts, found.parts_read, found.rows) == (2, 6, 6, 2 * 23 * 4)
    assert contents(sound) == before


def test_runs_of_every_kind_are_sound(tmp_path: Path) -> None:
    evaluated(tmp_path / "a", target="label", data=Patches(bare=(2,)))
    evaluated(tmp_path / "a", target="2", data=Patches(bare=(2,)))
    evaluated(tmp_path / "a", target="positives", data=Patches(bare=(2,)))
    evaluated(tmp_path / "b", intervene=True, sample=None, data=Patches())
    maps = {name: np.random.default_rng(at).random((12, 12)) for at, name in enumerate(Patches().ids()[2:])}
    ea.score(maps, Patches(), tmp_path / "c", progress=False)
    known = dict.fromkeys(Patches().ids()[4:], 1)
    ea.score(maps, Patches(), tmp_path / "d", predictions=known, progress=False)
    heat = ["heatmap_kl", "heatmap_nss", "heatmap_spearman", "relevance_mass_accuracy", "pointing_game(tolerance=2)"]
    evaluated(tmp_path / "e", ("center", "random", *METHODS), metrics=heat)
    for name in "abcde":
        ea.open_run(tmp_path / name).summary()
        assert ea.verify(tmp_path / name).findings == (), name


ROW_FAULTS: list[tuple[str, pl.Expr, str]] = [
    ("another model", pl.lit("small2").alias("model"), "whose model is not 'small'"),
    ("another seed", pl.lit(3, pl.Int64).alias("seed"), "whose seed is not 0"),
    ("another target", pl.lit("label").alias("target"), "whose target is not 'predicted'"),
    ("another method", pl.lit("sobel").alias("method"), "of a method the evaluation does not have"),
    ("another region", pl.lit("mouth").alias("region"), "of a region other than patch, corner"),
    ("a key twice", pl.lit("img/001").alias("sample_id"), "whose key another row has"),
    ("an unknown status", pl.lit("fine").alias("status"), "with a status other than"),
    ("a message without error", pl.lit("why").alias("message"), "with a message and no error"),
    ("no prediction", pl.lit(None, pl.Int32).alias("prediction"), "without a prediction though nothing failed"),
    ("correct turned round", (~pl.col("correct")).alias("correct"), "`correct` is not whether prediction is label"),
    ("rank 0", pl.lit(0, pl.Int32).alias("label_rank"), "with a label's rank below 1"),
    ("confidence 1.5", pl.lit(1.5, pl.Float32).alias("confidence"), "with a confidence outside 0 to 1"),
    ("confidence NaN", pl.lit(float("nan"), pl.Float32).alias("confidence"), "with a confidence outside 0 to 1"),
    ("area 145", pl.lit(145, pl.Int32).alias("annotation_area"), "with an area below 0 or above the map's"),
    ("area 0", pl.lit(0, pl.Int32).alias("annotation_area"), "annotation's area is 0, or not, against its status"),
    ("area unknown", pl.lit(None, pl.Int32).alias("annotation_area"), "annotation's area is null, or not, against"),
    ("salient -1", pl.lit(-1, pl.Int32).alias("salient_area"), "with a salient area below 0"),
    ("nothing salient", pl.lit(None, pl.Int32).alias("salient_area"), "scored, without a salient area"),
    ("a flat map", pl.lit("flat_map").alias("status"), "of a flat map or an error, with a salient area"),
    ("undefined, scored", pl.lit("no_annotation").alias("status"), "with iou_coverage though their status says"),
    ("IoU NaN", pl.lit(float("nan"), pl.Float32).alias("iou_coverage"), "with iou_coverage not a finite number"),
    ("IoU 1.01", pl.lit(1.01, pl.Float32).alias("iou_coverage"), "with iou_coverage outside 0 to 1"),
    ("IoU gone", pl.lit(None, pl.Float32).alias("iou_coverage"), "without iou_coverage though it is defined there"),
    ("half a hit", pl.lit(0.5, pl.Float32).alias("pointing_game"), "with pointing_game neither 0 nor 1"),
    ("centre 2", pl.lit(2, pl.Float32).alias("center_iou"), "with center_iou outside 0 to 1"),
    ("a flip", pl.lit(True).alias("exchange_flip"), "though the evaluation did not intervene"),
]


@pytest.mark.parametrize(("column", "words"), [pytest.param(*fault[1:], id=fault[0]) for fault in ROW_FAULTS])
def test_a_wrong_row_is_found(run: Path, column: pl.Expr, words: str) -> None:
    name = column.meta.output_name()

    def change(table: pl.DataFrame) -> pl.DataFrame:
        chosen = (pl.col("sample_id") == "img/002") & (pl.col("method").cast(pl.String) == "gradcam")
        table = table.with_columns(pl.col(pl.Categorical).cast(pl.String))
        changed = pl.when(chosen).then(column).otherwise(pl.col(name))
        return table.with_columns(changed.cast(table.schema[name]).alias(name))

    rewritten(part_of(run), change)
    found = serious(ea.verify(run))
    hits = [line for line in found if words in line]
    assert hits, found
    assert all(line.startswith("scores/small--patches--seed0--") and "unit-000000.parquet" in line for line in hits)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("confidence", 0.5, "different decisions"), ("attr_even", "maybe", "different attributes")],
)
def test_rows_of_one_sample_that_disagree_are_found(run: Path, name: str, value: object, words: str) -> None:
    first = (pl.col("sample_id") == "img/001") & (pl.int_range(pl.len()) % 4 == 0)
    for unit in range(3):
        part = part_of(run, unit=unit)
        rewritten(
            part, lambda table: table.with_columns(pl.when(first).then(pl.lit(value)).otherwise(name).alias(name))
        )
    lines = [line for line in serious(ea.verify(run)) if words in line]
    assert len(lines) == 1
    assert "unit-000000.parquet: 4 rows" in lines[0]


def test_a_row_gone_or_a_sample_in_two_units_is_found(run: Path) -> None:
    rewritten(part_of(run), lambda table: table.head(-1))
    assert any("31 rows, expected 32" in line for line in serious(ea.verify(run)))
    again = pl.read_parquet(part_of(run, "other")).head(4)
    rewritten(part_of(run, "other", 1), lambda table: pl.concat([table.head(28), again]))
    assert any("whose key another row has" in line for line in serious(ea.verify(run)))


def overwrite_the_middle(part: Path) -> None:
    content = part.read_bytes()
    part.write_bytes(content[:200] + bytes(200) + content[400:])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda part: part.write_bytes(b""), "cannot be read"),
        (lambda part: part.write_bytes(part.read_bytes()[:-50]), "cannot be read"),
        (
            lambda part: part.write_bytes(part.read_bytes()[:200] + bytes(200) + part.read_bytes()[400:]),
            "cannot be read",
        ),
        (lambda part: pl.read_parquet(part).write_parquet(part), "written for evaluation None"),
        (lambda part: part.rename(part.with_name("unit-000007.parquet")), "the evaluation has 3 units"),
        (lambda part: part.unlink(), "recorded as finished, 1 of 3 units are not there (unit-000001)"),
        (lambda part: shutil.copy(part.with_name("unit-000000.parquet"), part), "it says of itself that it is unit 0"),
        (lambda part: rewritten(part, lambda table: table.drop("center_iou")), "its columns are not those"),
    ],
)
def test_a_damaged_part_is_found(run: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(part_of(run, unit=1))
    found = ea.verify(run)
    assert any(words in line for line in serious(found)), serious(found)
    assert not any("other--" in line for line in serious(found))


def test_a_part_of_another_evaluation_is_found(run: Path) -> None:
    shutil.copy(part_of(run, "other"), part_of(run))
    assert any("written for evaluation" in line for line in serious(ea.verify(run)))


def test_strangers_among_the_scores_are_found(run: Path) -> None:
    (run / "scores" / "mine").mkdir()
    shutil.copy(part_of(run), run / "scores" / "mine")
    part_of(run).with_name(".unit-000009.parquet.1-2.tmp").write_bytes(b"half")
    found = ea.verify(run)
    assert any(line.startswith("scores/mine: run.json has no such") for line in serious(found))
    assert [finding.serious for finding in found.findings if ".tmp" in finding.place] == [False]


def change_run(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    info = json.loads((run / "run.json").read_text())
    change(info)
    (run / "run.json").write_text(json.dumps(info))


def item_of(info: dict[str, Any]) -> dict[str, Any]:
    return next(item for item in info["evaluations"].values() if item["question"]["model"] == "small")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda info: item_of(info)["question"].update(sample=5), "make identity"),
        (lambda info: item_of(info)["methods"][1].update(layer="0"), "make identity"),
        (lambda info: item_of(info).update(status_counts={"ok": 92}), "rows by status are"),
        (lambda info: info["datasets"].pop("patches"), "is not recorded"),
        (lambda info: info["datasets"]["patches"].update(fingerprint="x"), "not of one dataset"),
        (lambda info: info["datasets"]["patches"].update(toy=True), "is toy: True, the run False"),
        (lambda info: info["evaluations"].update({"copy--00000000": item_of(info)}), "is in small--patches"),
    ],
)
def test_a_record_that_contradicts_itself_is_found(
    run: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    change_run(run, change)
    assert any(words in line for line in serious(ea.verify(run)))


def test_models_are_held_against_what_was_asked(run: Path) -> None:
    table = pl.read_parquet(run / "models.parquet")
    for changed, words in (
        (table.filter(model="other"), "no row for small, seed 0"),
        (table.with_columns(weights_digest=pl.lit("f" * 64)), "has weights ffffffff"),
        (pl.concat([table, table]), "more than one row"),
    ):
        changed.write_parquet(run / "models.parquet")
        assert any(words in line for line in serious(ea.verify(run)))
    (run / "models.parquet").unlink()
    assert any(line.startswith("models.parquet: cannot be read") for line in serious(ea.verify(run)))


def test_every_evaluation_of_a_model_has_the_weights_of_its_row(tmp_path: Path) -> None:
    def asked_otherwise(info: dict[str, Any]) -> None:
        item_of(info)["question"]["weights"] = "e" * 64

    evaluated(tmp_path / "run")
    evaluated(tmp_path / "run", target="label")
    change_run(tmp_path / "run", asked_otherwise)  # of the first
    found = serious(ea.verify(tmp_path / "run"))
    assert any(line.startswith("models.parquet: small, seed 0, has weights") for line in found)


def test_maps_of_one_model_on_two_datasets_are_sound(tmp_path: Path) -> None:
    class Others(Patches):
        name = "others"

    maps = {name: np.random.default_rng(at).random((12, 12)) for at, name in enumerate(Patches().ids())}
    for data in (Patches(23), Others(22), Patches(23)):
        ea.score(maps, data, tmp_path / "run", progress=False)
    assert serious(ea.verify(tmp_path / "run")) == []
    table = pl.read_parquet(tmp_path / "run" / "models.parquet")
    table.with_columns(weights_digest=pl.lit("f" * 64)).write_parquet(tmp_path / "run" / "models.parquet")
    assert any("has weights ffffffff" in line for line in serious(ea.verify(tmp_path / "run")))


def test_examples_are_decisions_of_the_scores(run: Path) -> None:
    (folder,) = run.glob("examples/small--*")
    table = pl.read_parquet(folder / "decisions.parquet")
    names = pl.col("sample_id").replace({"img/000": "img/999"})
    for changed, words in (
        (table.with_columns(names), "are of no row of the scores; first img/999"),
        (table.with_columns(iou_coverage=pl.lit(0.125, pl.Float32)), "another iou_coverage than the scores"),
    ):
        changed.write_parquet(folder / "decisions.parquet")
        assert any(words in line for line in serious(ea.verify(run)))
    table.write_parquet(folder / "decisions.parquet")
    images = pl.read_parquet(folder / "images.parquet")
    images.tail(-2).write_parquet(folder / "images.parquet")
    assert any("8 of 88 examples have no image" in line for line in serious(ea.verify(run)))
    (folder / "maps.parquet").write_bytes(b"PAR1")
    assert any("cannot be read" in line for line in serious(ea.verify(run)))
    shutil.rmtree(folder)
    found = ea.verify(run)
    assert found.ok
    assert [finding.message for finding in found.findings] == ["no examples of this evaluation"]


def test_a_summary_of_other_scores_or_with_other_numbers_is_found(run: Path) -> None:
    path = run / "summary.parquet"
    kept, content = pl.read_parquet(path), pl.read_parquet_metadata(path)
    key = "explanation_alignment.summary"
    moved = pl.when(pl.int_range(pl.len()) == 3).then(pl.col("ci_low") + 1e-6).otherwise("ci_low").alias("ci_low")
    kept.with_columns(moved).write_parquet(path, metadata={key: content[key]})
    assert any("summary.parquet: other" in line and "ci_low of" in line for line in serious(ea.verify(run)))
    kept.head(-1).write_parquet(path, metadata={key: content[key]})
    assert any("expected" in line or "the scores make" in line for line in serious(ea.verify(run)))
    kept.write_parquet(path, metadata={key: content[key]})
    assert ea.verify(run).ok
    part = part_of(run)
    rewritten(part, lambda table: table.reverse())  # the same rows, another file
    shutil.rmtree(part.parents[2] / "manifest")  # whose hash the part no longer has
    (line,) = serious(ea.verify(run))
    assert "summary.parquet: made from other scores than there are, of 1 evaluations; first small" in line
    ea.open_run(run).summary()
    assert ea.verify(run).ok


def test_what_is_owed_is_said_of_a_run_in_the_making(tmp_path: Path) -> None:
    evaluated(tmp_path / "run", shard="1/3")
    (line,) = serious(ea.verify(tmp_path / "run"))
    assert "2 of 3 units are not there (unit-000001, unit-000002); the command" in line


def test_a_sample_of_parts_is_read_and_all_are_counted(run: Path) -> None:
    found = ea.verify(run, sample=2)
    assert (found.parts, found.parts_read, found.ok) == (6, 2, True)
    assert ea.verify(run, sample=99).parts_read == 6
    assert {ea.verify(run, sample=2, seed=seed).rows for seed in range(6)} == {60, 64}
    for unit in range(3):
        rewritten(part_of(run, unit=unit), lambda table: table.with_columns(label_rank=pl.lit(0, pl.Int32)))
    assert not ea.verify(run, sample=5).ok
    assert ea.verify(run, models=["other"]).evaluations == 1
    assert ea.verify(run, models=["other"], sample=3).ok


def test_what_cannot_be_meant(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'small'"):
        ea.verify(run, models=["smal"])
    for option in ("sample", "recompute"):
        with pytest.raises(UsageError, match=f"{option}: expected at least 1"):
            ea.verify(run, **{option: 0})  # type: ignore[arg-type]
    with pytest.raises(RunError, match="no folder"):
        ea.verify(tmp_path / "nowhere")


def test_a_copy_is_as_sound_as_the_run(run: Path, tmp_path: Path) -> None:
    assert ea.verify(edited(run, tmp_path / "copy", lambda info: None)).ok
