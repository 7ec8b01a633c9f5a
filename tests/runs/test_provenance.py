"""Where numbers come from, told from a run's record alone."""

from __future__ import annotations

import json
from pathlib import Path

from small_shards import evaluated

import explanation_alignment as ea
from toys import Patches


def test_everything_asked_is_told(tmp_path: Path) -> None:
    evaluated(tmp_path / "run", sample=12, data=Patches())
    run = evaluated(tmp_path / "run", ("sobel",), name="other", data=Patches(), metrics=["roc_auc"], target="label")
    page = ea.provenance(run)
    assert page.asked["models"] == "small, other"
    assert page.asked["methods"] == "vanilla_gradients (std:1), gradcam (threshold:0.5), sobel (std:1)"
    assert page.asked["sample"] == "12 images, all images"
    assert page.asked["target"] == "predicted, label"
    assert page.asked["metrics"].endswith("pointing_game, roc_auc")
    assert page.asked["input"] == "3x12x12, interpolation bilinear"
    assert page.datasets.row(0)[:4] == ("patches", Patches().fingerprint, 23, 4)
    assert "torch " in page.made["with"]
    assert "CPUs" in page.made["on"]
    assert (page.toy, page.sources, page.notes, page.failures) == (False, (), (), {})
    rows = page.evaluations
    assert rows.select("model", "target", "samples", "units", "units_owed", "batch_size", "device").rows() == [
        ("small", "predicted", 12, 2, 2, 32, "cpu"),
        ("other", "label", 23, 3, 3, 32, "cpu"),
    ]
    assert rows["statuses"].to_list() == ["ok 48", "ok 46"]
    assert all(seconds >= 0 for seconds in rows["seconds"])


def test_every_part_of_the_question_is_told_or_stands_with_the_evaluation(tmp_path: Path) -> None:
    run = evaluated(tmp_path / "run", intervene=True, data=Patches())
    page = ea.provenance(run)
    (item,) = run.evaluations.values()
    told = json.dumps([page.asked, page.datasets.to_dicts(), page.evaluations.to_dicts()])
    for name in item["question"].keys() - {"mean", "std", "geometry", "input_size", "numerics_version", "intervene"}:
        value = item["question"][name]
        for word in value if isinstance(value, list) else [value]:
            assert ("all images" if word is None else str(word)) in told, name
    assert page.asked["numerics version"] == str(item["question"]["numerics_version"])
    assert page.asked["intervene"] == "yes"


def test_what_is_unfinished_has_no_duration_and_merged_runs_tell_their_sources(tmp_path: Path) -> None:
    for number in (1, 2):
        evaluated(tmp_path / f"shard{number}", shard=f"{number}/3")
    page = ea.provenance(ea.merge([tmp_path / "shard1", tmp_path / "shard2"], tmp_path / "m"))
    assert page.evaluations.select("units", "units_owed", "seconds", "finished").row(0) == (2, 3, None, None)
    assert [Path(source["run"]).name for source in page.sources] == ["shard1", "shard2"]
    assert all("torch" in source["with"] for source in page.sources)
    assert "2 of 3 units" in page.notes[0]


def test_failures_and_experiments_are_told(tmp_path: Path) -> None:
    run = evaluated(
        tmp_path / "run", experiment={"name": "mnist", "settings": {"epochs": 4, "data": {"digest": "a" * 64}}}
    )
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "toy": True, "failures": {"vgg": "no such layer"}}))
    page = ea.provenance(tmp_path / "run")
    assert page.made["experiment"] == f"mnist, epochs 4, data.digest {'a' * 16}"
    assert page.failures == {"vgg": "no such layer"}
    assert page.toy
