"""The programs in examples/ run, and what they show is so."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from documents import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture
def run_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Calls the ``main`` of an example, whose run goes to a folder of the test."""

    def call(name: str) -> Any:
        return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](str(tmp_path / "runs" / "example"))

    return call


def test_all_are_listed_and_documented() -> None:
    table = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"[`{path.name}`]({path.name})" in table
        text = path.read_text()
        assert text.startswith('"""')
        assert f"python examples/{path.name}" in text


def test_in_training_the_mark_is_seen() -> None:
    train = runpy.run_path(str(EXAMPLES / "in_training.py"))["train"]
    honest, cheating = train(marked=False), train(marked=True)
    assert [sorted(values) for values in honest] == [["accuracy", "hits", "iou"]] * 6
    assert honest[-1]["accuracy"] > 0.9
    assert cheating[-1]["accuracy"] > 0.9
    assert honest[-1]["iou"] > 1.5 * cheating[-1]["iou"]
    assert honest[-1]["hits"] > 1.5 * cheating[-1]["hits"]


def test_lightning_callback_logs_every_epoch() -> None:
    pytest.importorskip("lightning", reason="lightning is not installed")
    code = "import json, runpy; print(json.dumps(runpy.run_path('lightning_callback.py')['fit'](3)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    epochs = json.loads(done.stdout.splitlines()[-1])
    assert len(epochs) == 3
    for values in epochs:
        assert {"accuracy", "alignment/iou", "alignment/hits"} <= set(values)
        assert 0 <= values["alignment/iou"] <= 1
    assert len({values["alignment/iou"] for values in epochs}) == 3  # each epoch's own, not a running mean


def test_huggingface_classifier(run_example: Any) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    run = run_example("huggingface_classifier")
    assert set(run.scores()["method"].unique()) == {"gradcam", "attention_rollout", "vanilla_gradients"}
    assert run.models()["layer"].drop_nulls().len() > 0
    assert (run.scores()["status"] == "ok").mean() > 0.9


def test_csv_of_boxes(run_example: Any, tmp_path: Path) -> None:
    run = run_example("csv_of_boxes")
    scores = run.scores()
    assert scores["sample_id"].n_unique() == 24
    assert scores["annotation_area"].n_unique() > 2  # boxes of several sizes: unions of one to three
    assert (tmp_path / "runs/example/report.html").is_file()


@pytest.mark.parametrize("name", ["maps_from_captum", "maps_from_grad_cam"])
def test_maps_of_other_tools(run_example: Any, name: str) -> None:
    if name == "maps_from_grad_cam":
        pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    runs = run_example(name)
    for run in runs:
        scores = run.scores()
        assert scores["sample_id"].n_unique() == 40
        assert scores["prediction"].null_count() == 0
    assert len({run.scores()["method"][0] for run in runs}) == 2
    if name == "maps_from_captum":
        theirs = runs[1].scores().filter(method="layer_gradcam").sort("sample_id", "region")
        ours = _scored_here(runs[1].path.parent / "ours", theirs["sample_id"].unique().to_list())
        assert (ours["iou_coverage"] - theirs["iou_coverage"]).abs().max() < 1e-6  # the same map, the same score


def _scored_here(out: Path, ids: list[str]) -> Any:
    import explanation_alignment as ea

    dataset = ea.load_dataset("colored_mnist")
    few = dataset.subset([name for name in dataset.ids() if name in set(ids)])
    classifier = ea.load_classifier("paper:mnist", "random", device="cpu")
    run = ea.evaluate(classifier, few, ["gradcam(layer=pool)"], out, progress=False)
    return run.scores().sort("sample_id", "region")
