"""``ealign show`` on a small run: what can be asked, how it reads at 100 columns, and what is asked wrongly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

import explanation_alignment as ea
from command_line import Done, Ealign
from explanation_alignment.runs.schema import SUMMARY_SCHEMA
from explanation_alignment.statistics.ranking import ranking_stability
from explanation_alignment.statistics.right_reasons import right_reason
from toys import Patches, small_classifier

METHODS = ["vanilla_gradients", "gradcam(binarize=threshold:0.4)", "gradcam(binarize=threshold:0.7)"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("show") / "run"
    data = Patches(40, bare=(3, 7))
    for seed in (0, 1):
        for name in ("honest", "cheating"):
            classifier = small_classifier(seed + 10 * (name == "honest"), name=name)
            ea.evaluate(classifier, data, METHODS, out=out, batch_size=20, seed=seed)
    return out


def table_of(done: Done, run: Path) -> pl.DataFrame:
    assert done.code == 0, done.err
    return pl.DataFrame(json.loads(done.out), schema=SUMMARY_SCHEMA)


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("", {}),
        ("--by correct,annotation_size", {"by": ["correct", "annotation_size"]}),
        ("--by region --by even", {"by": ["even"]}),
        ("--metric pointing_game --metric iou_coverage", {"metrics": ["pointing_game", "iou_coverage"]}),
        ("--level 0.8", {"level": 0.8}),
        ("--cluster class --by even", {"cluster": "class", "by": ["even"]}),
        ("--pool-seeds", {"pool_seeds": True}),
    ],
)
def test_machines_get_what_python_gets(ealign: Ealign, run: Path, options: str, arguments: dict[str, object]) -> None:
    expected = ea.open_run(run).summary(**arguments)  # type: ignore[arg-type]
    assert table_of(ealign(f"show {run} {options} --format json"), run).equals(expected)
    csv = pl.read_csv(ealign(f"show {run} {options} --format csv").out.encode(), schema=SUMMARY_SCHEMA)
    assert csv.equals(expected)


@pytest.mark.parametrize(
    "options",
    [
        *(
            "",
            "--by seed",
            "--by method",
            "--by correct",
            "--by annotation_size",
            "--pool-seeds",
            "--by region,correct",
        ),
        *("--right-reason 0.2", "--right-reason 0.2 --by correct", "--ranking", "--cluster even"),
    ],
)
def test_tables_fit_a_hundred_columns_and_say_what_they_hold(ealign: Ealign, run: Path, options: str) -> None:
    done = ealign(f"show {run} {options}")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 100
    for word in ("gradcam", "patch", "corner"):
        assert word in done.out
    if "ranking" not in options:
        assert f"undef. {4 if 'pool' in options else 2}" in done.out  # images without an annotation, times seeds
        assert "* unreliable" in done.out  # explained where it is used


def test_a_cell_shows_mean_interval_chance_and_mark(ealign: Ealign, run: Path) -> None:
    row = (
        ea.open_run(run)
        .summary(metrics=["iou_coverage"])
        .filter(model="honest", seed=0, method="vanilla_gradients", region="patch")
        .row(0, named=True)
    )
    out = ealign(f"show {run} --metric iou_coverage").out

    def shown(value: float) -> str:
        return f"{value:.3f}".removeprefix("0")

    assert f"{shown(row['ea'])}{'*' if row['unreliable'] else ' '}" in out
    assert f"{shown(row['ci_low'])}-{shown(row['ci_high'])}" in out
    assert f"({shown(row['chance'])})" in out
    assert f"n {row['n']}" in out
    assert "hit" not in out.split("a cell:")[0]


def test_more_metrics_than_fit_follow_in_a_further_table(ealign: Ealign, tmp_path: Path) -> None:
    metrics = ["iou_coverage", "ground_truth_coverage", "saliency_coverage", "pointing_game", "roc_auc"]
    metrics += ["average_precision", "relevance_mass_accuracy", "pointing_game(tolerance=3)", "top_k_intersection"]
    ea.evaluate(small_classifier(), Patches(), out=tmp_path / "run", metrics=metrics)
    done = ealign(f"show {tmp_path / 'run'}")
    assert max(map(len, done.out.splitlines())) <= 100
    assert "(continued)" in done.out
    headings = [line for line in done.out.splitlines() if "accuracy" in line.split()]
    assert "".join(headings).count("AUC") == 1
    assert "hit@3" in "".join(headings)
    assert "top-k" in "".join(headings)


def test_right_reason_is_that_of_python(ealign: Ealign, run: Path) -> None:
    done = ealign(f"show {run} --right-reason 0.2 --by even --metric iou_coverage --format json")
    expected = right_reason(ea.open_run(run).scores(), threshold=0.2, by=["even"])
    assert json.loads(done.out) == expected.to_dicts()


def test_ranking_is_that_of_python(ealign: Ealign, run: Path) -> None:
    done = ealign(f"show {run} --ranking --format json")
    assert json.loads(done.out) == ranking_stability(ea.open_run(run).summary()).to_dicts()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--by attr_evn", "did you mean 'attr_even'"),
        ("--by model,seed", "--by: expected one of"),
        ("--cluster evn", "attr_even"),
        ("--metric iou_covrage", "did you mean 'iou_coverage'"),
        ("--level 95", "such as 0.95"),
        ("--right-reason 0.5 --ranking", "one at a time"),
        ("--ranking --by region", "--ranking compares the order of models"),
        ("--ranking --cluster even", "no --by of tables, --cluster or --level"),
        ("--ranking --level 0.9", "no --by of tables, --cluster or --level"),
        ("--right-reason nan", "threshold"),
        ("--right-reason 0.5 --metric heatmap_kl", "falls with agreement"),
    ],
)
def test_mistakes(ealign: Ealign, run: Path, options: str, words: str) -> None:
    done = ealign(f"show {run} {options}")
    assert done.code == 2
    assert words in " ".join(done.err.split())
    assert (done.out, done.err.count("\n") <= 2) == ("", True)


def test_ranking_of_one_binarization_says_what_to_do(ealign: Ealign, tmp_path: Path) -> None:
    ea.evaluate(small_classifier(), Patches(), out=tmp_path / "run")
    done = ealign(f"show {tmp_path / 'run'} --ranking")
    assert done.code == 2
    assert "binarize=" in done.err


def test_a_summary_of_another_version_is_renewed(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    expected = ea.open_run(copy).summary()
    path = copy / "summary.parquet"
    kept, content = pl.read_parquet(path), pl.read_parquet_metadata(path)
    key = "explanation_alignment.summary"
    older = kept.drop("unreliable", "lift", "excess", "excess_low", "excess_high").with_columns(ea=pl.lit(0.5))
    stamps = json.dumps(json.loads(content[key])["stamps"])
    for table, record in ((older, stamps), (older, content[key]), (kept.with_columns(ea=pl.lit(0.5)), stamps)):
        table.write_parquet(path, metadata={key: record})
        assert ea.open_run(copy).summary().equals(expected)


def test_a_run_without_centre_or_flips_is_summarised(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    expected = ea.open_run(copy).summary()
    for part in copy.glob("scores/*/*.parquet"):
        columns = ["center_iou", "exchange_flip", "elsewhere_flip"]
        table = pl.read_parquet(part)
        table.drop(columns, strict=False).write_parquet(part, metadata=dict(pl.read_parquet_metadata(part)))
    summary = ea.open_run(copy).summary()
    without = ["excess", "excess_low", "excess_high"]
    assert summary.drop(without).equals(expected.drop(without))
    assert summary["excess"].null_count() == summary.height


def test_groups_of_several_targets_do_not_mix(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = ea.open_run(copy).summary(by=["even"])
    ea.evaluate(
        small_classifier(name="cheating"), Patches(40, bare=(3, 7)), METHODS, out=copy, batch_size=20, target="label"
    )
    after = ea.open_run(copy).summary(by=["even"])
    assert after.filter(~pl.col("group").str.starts_with("target")).equals(before)
    assert set(after["group"]) >= {"target=label", "target=label, attr_even=true"}


def test_predictions_that_are_no_class_of_the_dataset_are_told(ealign: Ealign, tmp_path: Path) -> None:
    network = small_classifier(classes=40, name="wide")
    run = ea.evaluate(network, Patches(12), ["vanilla_gradients"], tmp_path, progress=False)
    share = (run.scores()["prediction"] >= 4).mean()
    done = ealign(f"show {run.path}")
    assert done.code == 0
    assert f"wide: {100 * share:.3g} % of its predictions are none of the 4 classes of patches" in " ".join(
        done.err.split()
    )
    narrow = ea.evaluate(small_classifier(), Patches(12), ["vanilla_gradients"], tmp_path / "narrow", progress=False)
    assert "none of the" not in ealign(f"show {narrow.path}").err


def test_what_could_not_be_read_is_named_with_the_reason(ealign: Ealign, tmp_path: Path) -> None:
    for broken, count, named in ((range(3, 10), "7 samples", 5), ([4], "1 sample", 1)):
        data = Patches(40, broken=list(broken))
        out = tmp_path / count.replace(" ", "-")
        ea.evaluate(small_classifier(), data, ["vanilla_gradients"], out=out, max_errors=10, progress=False)
        lines = ealign(f"show {out}").err.splitlines()
        assert lines[0].startswith(f"{count}, an image or what is annotated on it, could not be read")
        reasons = [line.strip() for line in lines if "broken image" in line]
        assert reasons == [f"img/{place:03d}: OSError: broken image" for place in list(broken)[:named]]
        assert ("  and 2 more" in lines) == (len(broken) == 7)


def test_the_headings_of_metrics_are_told_by_their_names(ealign: Ealign, run: Path) -> None:
    words = " ".join(ealign(f"show {run}").out.split())
    assert "IoU is iou_coverage, GTC is ground_truth_coverage, SC is saliency_coverage, hit is pointing_game" in words
