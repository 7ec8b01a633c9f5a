from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from stopped_runs import stopped

import explanation_alignment as ea
from explanation_alignment.cli.display.results import print_experiment
from explanation_alignment.errors import DatasetError, RunError, UsageError
from explanation_alignment.experiments.mnist.presentation import present
from explanation_alignment.experiments.mnist.protocol import REPORTED, Protocol
from explanation_alignment.experiments.mnist.results import results
from explanation_alignment.experiments.mnist.running import run_experiment

QUICK = Protocol(epochs=2, batch_size=32, learning_rate=0.03, momentum=0.9, decay=0.9, permutations=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ea.Run:
    return run_experiment(None, tmp_path_factory.mktemp("mnist") / "run", protocol=QUICK, progress=False)


def test_run_holds_both_models_on_every_test_set(run: ea.Run) -> None:
    rows = run.scores()
    assert rows.height == 2 * (1 + 2) * 2 * 2 * 500
    assert set(rows["dataset"].cast(pl.String)) == {
        "digits-correlated",
        "digits-uncorrelated-1",
        "digits-uncorrelated-2",
    }
    assert set(rows["region"].cast(pl.String)) == {"digit", "block"}
    assert run.info["experiment"]["settings"]["permutations"] == 2
    assert not run.unfinished


def test_the_block_is_what_differs_between_test_sets(run: ea.Run) -> None:
    rows = (
        run.scores().filter(pl.col("region").cast(pl.String) == "digit").with_columns(pl.col("dataset").cast(pl.String))
    )
    areas = rows.group_by("dataset").agg(pl.col("annotation_area").sum())
    assert areas["annotation_area"].n_unique() == 1
    own = rows.filter(dataset="digits-correlated")
    assert (own["attr_block_color"] == own["label"]).all()
    other = rows.filter(dataset="digits-uncorrelated-1")
    assert (other["attr_block_color"] != other["label"]).all()


def test_results_are_the_mean_over_the_permutations(run: ea.Run) -> None:
    rows = run.scores().with_columns(pl.col("model", "method", "region", "dataset").cast(pl.String))
    for item in results(run).filter(pl.col("metric") == "iou_coverage").iter_rows(named=True):
        part = rows.filter(model=item["model"], method=item["method"], region=item["region"])
        part = part.filter(pl.col("dataset").str.contains("uncorrelated") == (item["test"] == "uncorrelated"))
        means = part.group_by("dataset").agg(pl.col("iou_coverage").mean(), pl.col("correct").mean())
        assert item["ea"] == pytest.approx(means["iou_coverage"].mean(), abs=1e-6)
        assert item["accuracy"] == pytest.approx(means["correct"].mean(), abs=1e-9)
        if item["test"] == "uncorrelated":
            assert item["sd_permutations"] == pytest.approx(means["iou_coverage"].std(), abs=1e-6)
            assert item["ci_low"] is None
        else:
            assert item["ci_low"] <= item["ea"] <= item["ci_high"]
        assert item["reported"] is None  # these are not MNIST's images


def test_the_same_question_changes_nothing(run: ea.Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.is_file()}
    again = run_experiment(None, run.path, protocol=QUICK, progress=False)
    unchanged = [path for path, stamp in before.items() if path.stat().st_mtime_ns == stamp]
    assert {path for path in before if path not in unchanged} <= {run.path / ".lock"}
    assert again.scores().equals(run.scores())


@pytest.mark.slow
def test_training_is_seeded(run: ea.Run, tmp_path: Path) -> None:
    again = run_experiment(None, tmp_path, protocol=QUICK, progress=False)
    for name in ("correlated", "uncorrelated"):
        place = f"checkpoints/{name}-seed0.safetensors"
        assert (tmp_path / place).read_bytes() == (run.path / place).read_bytes()
    assert_frame_equal(again.scores(), run.scores())
    assert_frame_equal(again.summary(), run.summary())


@pytest.mark.slow
def test_seeds_make_the_run_grow(tmp_path: Path) -> None:
    protocol = Protocol(epochs=1, batch_size=64, learning_rate=0.05, momentum=0.9, permutations=1)
    first = run_experiment(None, tmp_path, protocol=protocol, progress=False)
    stamp = (tmp_path / "checkpoints/correlated-seed0.safetensors").stat().st_mtime_ns
    both = run_experiment(None, tmp_path, seeds=[0, 1], protocol=protocol, progress=False)
    assert (tmp_path / "checkpoints/correlated-seed0.safetensors").stat().st_mtime_ns == stamp
    assert both.summary().filter(seed=0).equals(first.summary())
    table = results(both)
    assert table["sd_seeds"].null_count() == 0
    assert table["ci_low"].null_count() == table.height
    weights = both.models().filter(model="correlated")["weights_digest"]
    assert weights.n_unique() == 2
    shown = present(both).tables[0]
    assert len(shown.rows) == 4
    assert all(len(row) == len(shown.headings) for row in shown.rows)


@pytest.mark.slow
def test_a_checkpoint_of_another_question_is_not_reused(tmp_path: Path) -> None:
    protocol = Protocol(epochs=1, batch_size=256, permutations=1)
    run_experiment(None, tmp_path / "a", protocol=protocol, progress=False)
    (tmp_path / "b/checkpoints").mkdir(parents=True)
    other = tmp_path / "a/checkpoints/correlated-seed0.safetensors"
    run_experiment(None, tmp_path / "c", seeds=[1], protocol=protocol, progress=False)
    kept = (tmp_path / "c/checkpoints/correlated-seed1.safetensors").read_bytes()
    (tmp_path / "c/checkpoints/correlated-seed1.safetensors").write_bytes(other.read_bytes())
    for scores in (tmp_path / "c/scores").rglob("*.parquet"):
        scores.unlink()
    run_experiment(None, tmp_path / "c", seeds=[1], protocol=protocol, progress=False)
    assert (tmp_path / "c/checkpoints/correlated-seed1.safetensors").read_bytes() == kept


def test_other_settings_in_the_same_folder_are_refused(run: ea.Run) -> None:
    changed = Protocol(epochs=3, batch_size=32, learning_rate=0.03, momentum=0.9, decay=0.9, permutations=2)
    with pytest.raises(RunError, match=r"settings.epochs: 2 -> 3.*choose another --out"):
        run_experiment(None, run.path, protocol=changed, progress=False)


def test_bad_input_ends_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        run_experiment(tmp_path / "nowhere", tmp_path / "out", progress=False)
    with pytest.raises(UsageError, match="seeds"):
        run_experiment(None, tmp_path / "out", seeds=[0, 0], progress=False)
    with pytest.raises(UsageError, match="device"):
        run_experiment(None, tmp_path / "out", device="tpu", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field", ["epochs", "batch_size", "permutations", "learning_rate", "decay"])
def test_numbers_out_of_range(field: str) -> None:
    with pytest.raises(UsageError, match=field):
        Protocol(**{field: 0})
    with pytest.raises(UsageError, match="momentum"):
        Protocol(momentum=1)


def test_a_loss_that_explodes_is_said(tmp_path: Path) -> None:
    from explanation_alignment.errors import ModelError

    with pytest.raises(ModelError, match="lower learning rate"):
        run_experiment(None, tmp_path, protocol=Protocol(epochs=3, learning_rate=1e6, permutations=1), progress=False)
    assert not list(tmp_path.glob("checkpoints/*.safetensors"))


def test_presentation_says_what_the_numbers_say(run: ea.Run) -> None:
    shown = present(run)
    table = results(run).filter(pl.col("model") == "correlated").select("test", "accuracy").unique()
    accuracy = dict(table.rows())
    assert f"{accuracy['correlated']:.3f} where the block's colour" in shown.sentences[1]
    assert f"{accuracy['uncorrelated']:.3f} where it does not" in shown.sentences[1]
    assert [item.name for item in shown.illustrations] == ["examples", "ea_by_model"]


@pytest.mark.parametrize("examples", [True, False], ids=["examples", "no-examples"])
@pytest.mark.parametrize(
    ("models", "datasets"),
    [
        (["uncorrelated"], ["digits-correlated"]),
        (["uncorrelated"], ["digits-uncorrelated-1"]),
        (["uncorrelated"], ["digits-correlated", "digits-uncorrelated-1", "digits-uncorrelated-2"]),
        (["uncorrelated", "correlated"], ["digits-correlated"]),
    ],
)
def test_a_stopped_experiment_has_a_report_of_what_there_is(
    run: ea.Run, tmp_path: Path, models: list[str], datasets: list[str], examples: bool
) -> None:
    part = stopped(
        run,
        tmp_path / "part",
        lambda asked: asked["model"] in models and asked["dataset"] in datasets,
        examples=examples,
    )
    page = ea.report(part).read_text()
    assert "Not finished" in page
    said = present(part).sentences
    for model in ("uncorrelated", "correlated"):
        assert any(f"trained on {model} blocks" in text for text in said) == (model in models)
    told = any("does not" in text for text in said if "has accuracy" in text)
    assert told == ("digits-uncorrelated-1" in datasets)
    assert [item.name for item in present(part).illustrations] == ["examples"] * examples + ["ea_by_model"]


@pytest.mark.parametrize("name", ["[v2]", "[", "x [bold]"])
def test_a_folder_in_brackets_is_named_whole(
    run: ea.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    part = stopped(run, tmp_path / name / "[" / "x]", lambda asked: asked["dataset"] == "digits-correlated")
    print_experiment(part)
    out, err = capsys.readouterr()
    assert f"run      {part.path}\n" in out
    assert f"ealign show {part.path}" in out
    assert "unfinished: " in err


def test_report_and_its_words_need_no_torch(run: ea.Run) -> None:
    code = "import sys, explanation_alignment as ea; ea.report(sys.argv[1]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (run.path / "report.html").read_text()
    assert "Which model learned the digit?" in page
    assert not re.search("https?:", re.sub("<script>.*?</script>", "", page, flags=re.DOTALL))
    for name in ("examples", "ea_by_model"):
        assert (run.path / f"figures/{name}.png").stat().st_size > 5_000
        assert (run.path / f"figures/{name}.svg").stat().st_size > 5_000


def test_reported_numbers_stand_beside_those_of_mnist_only(run: ea.Run) -> None:
    assert results(run).select("reported", "accuracy_reported").null_count().row(0) == (results(run).height,) * 2
    run = ea.open_run(run.path)
    run.info["experiment"]["settings"]["data"]["source"] = "mnist"
    table = results(run).filter(pl.col("method") == "vanilla_gradients")
    assert table["accuracy_reported"].null_count() == 0
    assert table.filter(pl.col("metric").is_in(["iou_coverage", "pointing_game"]))["reported"].null_count() == 0
    gradients, gradcam = present(run).tables
    rows = gradients.rows
    assert [row[2][-1] for row in rows] == ["study .981", "study .981", "study .996", "study .461"]
    assert rows[0][3][-1] == "study .294"
    assert gradcam.rows[0][3][-1] != "study .294"


def test_reported_numbers_are_those_of_the_study() -> None:
    assert len(REPORTED) == 8
    assert REPORTED["uncorrelated", "uncorrelated", "digit"].iou_coverage == 0.294
    assert REPORTED["correlated", "uncorrelated", "block"].pointing_game == 0.937


#: Bands a seed was measured to leave (docs/experiments.md): seed 1's digit IoU is .255.
KNOWN_OUTSIDE = {1: {"digit IoU of the uncorrelated model"}}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_published_protocol_on_real_mnist(mnist_dir: Path, tmp_path: Path, seed: int) -> None:
    """The bands the study's and our own single runs stay in (about five minutes a seed on two cores)."""
    run = run_experiment(mnist_dir, tmp_path, seeds=[seed], progress=False)
    assert run.scores().height == 2 * 6 * 2 * 2 * 10_000
    table = results(run).filter(pl.col("method") == "vanilla_gradients")
    value = {(r["model"], r["test"], r["region"], r["metric"]): r["ea"] for r in table.iter_rows(named=True)}
    accuracy = {(r["model"], r["test"]): r["accuracy"] for r in table.iter_rows(named=True)}
    print(json.dumps({" ".join(key): round(number, 4) for key, number in {**value, **accuracy}.items()}))
    honest = [value["uncorrelated", test, "digit", "iou_coverage"] for test in ("correlated", "uncorrelated")]
    inside = {
        "accuracy of the uncorrelated model": min(
            accuracy["uncorrelated", test] for test in ("correlated", "uncorrelated")
        )
        > 0.97,
        "digit IoU of the uncorrelated model": all(0.26 <= iou <= 0.33 for iou in honest),
        "block hits of the uncorrelated model": all(
            value["uncorrelated", test, "block", "pointing_game"] < 0.02 for test in ("correlated", "uncorrelated")
        ),
        "accuracy of the correlated model": accuracy["correlated", "correlated"] > 0.99,
        "block hits of the correlated model": value["correlated", "correlated", "block", "pointing_game"] > 0.5,
        "digit IoU of the correlated model": value["correlated", "correlated", "digit", "iou_coverage"]
        <= 0.65 * honest[0],
        "its accuracy on other colours": accuracy["correlated", "uncorrelated"] < 0.85,
        "its digit IoU on other colours": value["correlated", "uncorrelated", "digit", "iou_coverage"]
        < 0.5 * honest[1],
    }
    assert {name for name, holds in inside.items() if not holds} <= KNOWN_OUTSIDE.get(seed, set())
