"""What a null shows is no finding about a model."""

from __future__ import annotations

import polars as pl
import pytest

import explanation_alignment as ea
from explanation_alignment.runs.schema import NULL_METHODS
from explanation_alignment.saliency.baselines import BASELINES
from toys import Patches, small_classifier


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ea.Run:
    out = tmp_path_factory.mktemp("nulls") / "run"
    for seed in (0, 1):
        classifier = small_classifier(seed, name=f"m{seed}")
        methods = ["vanilla_gradients", "random(seed=3)", "center", "sobel"]
        made = ea.evaluate(classifier, Patches(24), methods, out, progress=False)
    return made


def test_the_names_are_those_of_the_methods() -> None:
    assert set(NULL_METHODS) == set(BASELINES)


def test_they_are_left_out_of_what_is_said_of_models(run: ea.Run) -> None:
    assert set(ea.compare(run)["method"].drop_nulls()) == {"vanilla_gradients"}
    assert set(ea.reliance(run)["method"]) == {"vanilla_gradients"}
    assert set(ea.cases(run)["method"]) == {"vanilla_gradients"}
    assert set(ea.plan(run, 0.05)["method"].drop_nulls()) == {"vanilla_gradients"}


def test_methods_are_held_against_them(run: ea.Run) -> None:
    pairs = ea.compare(run, between="method", metrics=["iou_coverage"])
    named = {name.partition("(")[0] for name in (*pairs["first"], *pairs["second"])}
    assert {"random", "center", "sobel"} <= named
    assert {"random(seed=3)", "center", "sobel"} <= set(run.summary()["method"])


def test_alone_they_can_be_looked_at(run: ea.Run) -> None:
    rows = run.scores().filter(pl.col("method").cast(pl.String) == "sobel")
    assert set(ea.cases(rows)["method"]) == {"sobel"}
