from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import explanation_alignment as ea
from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.runs.files import read_json, write_atomically
from explanation_alignment.runs.identity import describe_difference, digest
from explanation_alignment.runs.schema import SUMMARY_SCHEMA
from explanation_alignment.runs.writer import RunWriter
from toys import Patches, small_classifier


@pytest.fixture
def run(tmp_path: Path) -> ea.Run:
    return ea.evaluate(small_classifier(), Patches(), out=tmp_path / "run", batch_size=8)


def test_record_says_what_was_asked_and_with_what(run: ea.Run) -> None:
    info = json.loads((run.path / "run.json").read_text())
    assert info["format_version"] == 2
    assert info["toy"] is False
    assert info["experiment"] is None
    assert info["versions"]["torch"]
    assert info["hardware"]["cpus"] >= 1
    assert info["datasets"]["patches"]["evidence"] == ["patch"]
    (evaluation,) = info["evaluations"].values()
    question = evaluation["question"]
    assert (question["model"], question["dataset"], question["seed"], question["target"]) == (
        "small",
        "patches",
        0,
        "predicted",
    )
    assert question["numerics_version"] == 3
    assert [item["method"] for item in evaluation["methods"]] == ["vanilla_gradients", "gradcam"]
    assert evaluation["methods"][1]["layer_shape"] == [8, 10, 10]
    assert evaluation["finished"] >= evaluation["started"]


def test_models_table(run: ea.Run) -> None:
    (row,) = run.models().to_dicts()
    assert (row["model"], row["seed"], row["input_height"], row["layer"]) == ("small", 0, 12, "3")
    assert row["parameters"] == sum(p.numel() for p in small_classifier().module.parameters())


def test_summary_columns_and_groups(run: ea.Run) -> None:
    assert run.summary().schema == SUMMARY_SCHEMA
    grouped = run.summary(by=["even", "correct"])
    assert {"all", "attr_even=true", "attr_even=false"} <= set(grouped["group"])
    with pytest.raises(UsageError, match=r"unknown group 'odd'"):
        run.summary(by=["odd"])


def test_summary_is_kept_and_renewed(run: ea.Run) -> None:
    first = run.summary()
    stamp = (run.path / "summary.parquet").stat().st_mtime_ns
    assert run.summary().equals(first)
    assert (run.path / "summary.parquet").stat().st_mtime_ns == stamp
    grown = ea.evaluate(small_classifier(1, name="other"), Patches(), out=run.path, batch_size=8).summary()
    assert grown.filter(model="small").equals(first)
    assert grown.height == 2 * first.height
    (run.path / "summary.parquet").write_bytes(b"not parquet")
    assert ea.open_run(run.path).summary().equals(grown)


def test_summary_keeps_the_registry_order_of_metrics(run: ea.Run) -> None:
    assert run.summary()["metric"].unique(maintain_order=True).to_list() == [
        "iou_coverage",
        "ground_truth_coverage",
        "saliency_coverage",
        "pointing_game",
    ]


def test_targets_are_not_mixed(run: ea.Run) -> None:
    before = run.summary()
    both = ea.evaluate(small_classifier(), Patches(), out=run.path, batch_size=8, target="label")
    summary = both.summary()
    assert summary.filter(group="all").equals(before)
    assert set(summary["group"]) == {"all", "target=label"}


def test_a_second_target_takes_the_kept_summary_away(run: ea.Run) -> None:
    run.summary()
    both = ea.evaluate(small_classifier(), Patches(), out=run.path, batch_size=8, target="label")
    (finding,) = ea.verify(both).findings
    assert "`ealign show` removes it" in finding.message
    both.summary()
    assert not (run.path / "summary.parquet").exists()
    assert ea.verify(both).findings == ()


def test_report_of_a_run_whose_evidence_was_only_explained_for_another_target(run: ea.Run) -> None:
    class Others(Patches):
        name, regions, evidence = "others", ("thing", "corner"), ("thing",)

        def __getitem__(self, index: int) -> ea.Sample:
            sample = super().__getitem__(index)
            regions = {"thing": sample.annotations["patch"], "corner": sample.annotations["corner"]}
            return ea.Sample(sample.id, sample.image, sample.label, regions, sample.attributes)

    grown = ea.evaluate(small_classifier(), Others(), out=run.path, batch_size=8, target="2")
    page = ea.report(grown).read_text()
    assert "looks at patch" in page
    assert "looks at thing" not in page


def test_opening_what_is_no_run(tmp_path: Path, run: ea.Run) -> None:
    with pytest.raises(RunError, match="no folder"):
        ea.open_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"holds no run\.json; runs in it: run$"):
        ea.open_run(tmp_path)
    with pytest.raises(RunError, match=r"holds no run\.json$"):
        ea.open_run(run.path / "scores")
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        ea.open_run(run.path)


def test_a_newer_format_is_refused(run: ea.Run) -> None:
    info = read_json(run.path / "run.json")
    (run.path / "run.json").write_text(json.dumps({**info, "format_version": 3}))
    with pytest.raises(RunError, match="upgrade"):
        ea.open_run(run.path)
    with pytest.raises(RunError, match="upgrade"):
        RunWriter(run.path)


def test_toy_and_real_data_never_share_a_run(run: ea.Run) -> None:
    class Toy(Patches):
        name = "toy"
        toy = True

    with pytest.raises(RunError, match=r"holds real data, this is generated \(toy\)"):
        ea.evaluate(small_classifier(), Toy(), out=run.path)


def test_experiments_do_not_share_a_run(tmp_path: Path, run: ea.Run) -> None:
    RunWriter(tmp_path / "mnist", experiment={"name": "mnist", "settings": {"epochs": 4}})
    with pytest.raises(RunError, match=r"holds another run \(settings.epochs: 4 -> 5\)"):
        RunWriter(tmp_path / "mnist", experiment={"name": "mnist", "settings": {"epochs": 5}})
    with pytest.raises(RunError, match="not by an experiment"):
        RunWriter(run.path, experiment={"name": "mnist", "settings": {}})


def test_an_experiment_s_settings_are_compared_as_they_are_kept(tmp_path: Path) -> None:
    for _ in range(2):  # the same call again
        RunWriter(tmp_path / "run", experiment={"name": "mine", "settings": {"sizes": (1, 2)}})
    with pytest.raises(RunError, match=r"settings\.sizes: \[1, 2\] -> \[1, 3\]"):
        RunWriter(tmp_path / "run", experiment={"name": "mine", "settings": {"sizes": (1, 3)}})


def test_who_was_asked_otherwise_before_its_first_part_is_told(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run")
    question = {"model": "m", "seed": 0, "dataset": "d", "dataset_fingerprint": "f", "target": "label", "weights": "w"}
    method = {"method": "sobel", "binarization": "std:1"}
    (first,) = writer.begin({**question, "output": "logit"}, [method], {})
    writer.begin({**question, "output": "log_prob"}, [method], {})
    for end in (first.is_finished, lambda: first.finish({})):
        with pytest.raises(RunError, match=r"no longer holds m on d .*another process asked otherwise"):
            end()


def test_a_run_without_rows_says_so(tmp_path: Path) -> None:
    RunWriter(tmp_path)
    with pytest.raises(RunError, match="holds no scores yet"):
        ea.open_run(tmp_path).scores()
    with pytest.raises(RunError, match="holds no scores yet"):
        ea.open_run(tmp_path).summary()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    place = tmp_path / "table"
    write_atomically(place, lambda path: path.write_text("old"))

    def fail(path: Path) -> None:
        path.write_text("half of the n")
        raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match="No space left"):
        write_atomically(place, fail)
    assert place.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["table"]


def test_digest_ignores_the_order_of_keys_only() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1, "b": [1, 2]}) != digest({"a": 1, "b": [2, 1]})
    assert describe_difference({"a": 1, "b": "x" * 64, "c": 3}, {"a": 1, "b": "f" * 64}) == (
        f"b: {'x' * 64} -> ffffffff; c: 3 -> null"
    )


def test_examples_survive_odd_ids_and_names(tmp_path: Path) -> None:
    class Odd(Patches):
        name = "../up and away/"

        def ids(self) -> list[str]:
            return [f"../../{index}<script>" for index in range(len(self))]

    run = ea.evaluate(small_classifier(name="a/b:c"), Odd(), out=tmp_path / "run", batch_size=8)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["run"]
    assert run.examples()["sample_id"].n_unique() == 23
    assert set(run.scores()["dataset"].cast(pl.String)) == {"../up and away/"}


class _Attributed(Patches):
    """Another dataset, with an attribute of its own and one of another type."""

    name = "attributed"

    def attributes(self) -> dict[str, list[str]]:
        return {"even": ["yes" if place % 2 == 0 else "no" for place in range(len(self))], "hair": ["dark"] * len(self)}


def test_datasets_with_other_attributes_and_types_live_in_one_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    for data in (Patches(), _Attributed()):
        run = ea.evaluate(small_classifier(), data, ["sobel"], out, progress=False)
    assert set(run.scores()["attr_even"]) == {"true", "false", "yes", "no"}
    assert set(run.examples()["attr_even"]) == {"true", "false", "yes", "no"}
    assert ea.report(run).is_file()
    groups = run.summary(by=["hair"]).filter(pl.col("dataset") == "patches")["group"]
    assert set(groups) == {"all", "attr_hair=null"}
    assert run.summary(cluster="hair").height == run.summary().height
    with pytest.raises(ea.ExplanationAlignmentError, match="'hare'"):
        run.summary(by=["hare"])


def test_a_metric_that_one_evaluation_lacks_is_no_row_there(tmp_path: Path) -> None:
    out = tmp_path / "run"
    ea.evaluate(small_classifier(), Patches(), ["sobel"], out, metrics=["iou_coverage"], progress=False)
    run = ea.evaluate(small_classifier(), _Attributed(), ["sobel"], out, metrics=["roc_auc"], progress=False)
    assert set(run.summary(by=["label"], metrics=["roc_auc"])["dataset"]) == {"attributed"}
    assert set(run.summary(by=["label"])["metric"]) == {"iou_coverage", "roc_auc"}


def test_a_models_row_keeps_the_layers_asked_for_before(tmp_path: Path) -> None:
    out = tmp_path / "run"
    ea.evaluate(small_classifier(), Patches(), ["gradcam(layer=0)"], out, progress=False)
    run = ea.evaluate(small_classifier(), Patches(), ["vanilla_gradients", "gradcam(layer=2)"], out, progress=False)
    assert run.models()["layer"].to_list() == ["0, 2"]
    old = pl.read_parquet(out / "models.parquet").drop("fit")  # as an earlier version wrote it
    old.write_parquet(out / "models.parquet")
    run = ea.evaluate(small_classifier(1, name="other"), Patches(), ["sobel"], out, progress=False)
    assert run.models().height == 2


def test_a_damaged_image_ends_neither_a_sample_nor_an_intervention(tmp_path: Path) -> None:
    run = ea.evaluate(
        small_classifier(),
        Patches(24, broken=[3]),
        ["sobel"],
        tmp_path / "run",
        sample=24,
        intervene=True,
        progress=False,
    )
    rows = run.scores()
    assert rows.filter(pl.col("status") == "error").height == 2
    assert rows.filter(pl.col("status") == "ok")["exchange_flip"].null_count() < rows.height / 2


def test_an_attribute_of_mixed_types_is_named(tmp_path: Path) -> None:
    data = Patches()
    data.attributes = lambda: {"odd": ["a", 1, *[None] * 21]}  # type: ignore[method-assign]
    with pytest.raises(ea.ExplanationAlignmentError, match="attribute 'odd' of patches mixes types"):
        ea.evaluate(small_classifier(), data, ["sobel"], tmp_path / "run", progress=False)


def test_a_classifier_with_a_crop_resumes(tmp_path: Path) -> None:
    """A geometry holds tuples, run.json lists."""
    geometry = ea.Geometry(resize=(14, 14), crop=(12, 12))
    preprocessing = ea.Preprocessing((3, 12, 12), geometry=geometry)
    for _ in range(2):
        classifier = ea.Classifier(small_classifier().module, preprocessing, name="cropped", device="cpu")
        run = ea.evaluate(classifier, Patches(), ["gradcam"], tmp_path / "run", progress=False)
    assert len(run.evaluations) == 1
    assert not run.unfinished
