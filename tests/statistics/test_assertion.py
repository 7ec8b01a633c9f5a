"""Claims: how they are read, what they speak of, and when they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import explanation_alignment as ea
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics import summarise, wilson_interval
from explanation_alignment.statistics.assertions import CHECK_SCHEMA, check, parse
from statistics_tables import random_scores, rows
from toys import UnevenPatches, small_classifier

METRICS = ["iou_coverage", "pointing_game", "pointing_game(tolerance=15)"]
MODELS = ["resnet50", "resnet50.a1_in1k", "org/vit-b.v2", "file:m.py:build"]


@pytest.mark.parametrize(
    ("text", "model", "metric", "quantity", "operator", "value"),
    [
        ("resnet50.iou_coverage.adjusted >= 0.2", "resnet50", "iou_coverage", "adjusted", ">=", 0.2),
        ("resnet50.a1_in1k.pointing_game >= .5", "resnet50.a1_in1k", "pointing_game", "ea", ">=", 0.5),
        ("resnet50.accuracy>=.7", "resnet50", "accuracy", "ea", ">=", 0.7),
        ("org/vit-b.v2.pointing_game(tolerance=15).low > 1e-2", "org/vit-b.v2", METRICS[2], "low", ">", 0.01),
        ("  file:m.py:build.iou_coverage   < -0.5 ", "file:m.py:build", "iou_coverage", "ea", "<", -0.5),
        ("*.iou_coverage.n>=100", "*", "iou_coverage", "n", ">=", 100),
        ("resnet50.iou_coverage.ea <= 1", "resnet50", "iou_coverage", "ea", "<=", 1),
    ],
)
def test_what_is_written_is_read(
    text: str, model: str, metric: str, quantity: str, operator: str, value: float
) -> None:
    claim = parse(text, MODELS, METRICS)
    found = (claim.model, claim.metric, claim.quantity, claim.operator, claim.value, claim.filters)
    assert found == (model, metric, quantity, operator, value, {})


def test_filters_hold_what_methods_and_groups_hold() -> None:
    text = "*.iou_coverage [method=gradcam(layer=last_conv,relu=true), group=hair=dark, seed=0] > .1"
    assert parse(text, MODELS, METRICS).filters == {
        "method": "gradcam(layer=last_conv,relu=true)",
        "group": "hair=dark",
        "seed": "0",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot read"),
        ("resnet50", "cannot read"),
        ("resnet50.iou_coverage", "cannot read"),
        (">= 0.2", "cannot read"),
        ("resnet50.iou_coverage >= ", "cannot read"),
        ("resnet50.iou_coverage [region=object >= 1", "cannot read"),
        ("resnet50.iou_coverage >= .2 .3", "cannot read"),
        ("resnet50.iou_coverage >= big", "no number"),
        ("resnet50.iou_coverage >= nan", "no number"),
        ("resnet50.iou_coverage == 0.2", "rarely equal"),
        ("resnet5.iou_coverage >= 0.2", "did you mean 'resnet50'"),
        ("iou_coverage >= 0.2", r"names no model; expected MODEL\.METRIC.*models: resnet50, .*, or \*"),
        ("pointing_game(tolerance=15).low >= 0.2", "names no model"),
        ("alexnet.iou_coverage >= 0.2", "unknown model"),
        ("resnet50.iou_coverge >= 0.2", "did you mean 'iou_coverage'"),
        ("resnet50.iou_coverage.adjsted >= 0.2", "did you mean 'adjusted'"),
        ("resnet50.iou_coverage [regoin=object] >= 0.2", "did you mean 'region'"),
        ("resnet50.iou_coverage [object] >= 0.2", "filter=value"),
        ("resnet50.iou_coverage [region=a, region=b] >= 0.2", "twice"),
        ("resnet50.accuracy.adjusted >= 0.2", "no level of chance"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse(text, MODELS, METRICS)


@given(st.text(max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text, MODELS, METRICS)


def test_values_are_those_of_the_summary() -> None:
    scores = random_scores(seeds=(0, 1))
    summary = summarise(scores, by=["hair"])
    table = check(scores, "a.iou_coverage.adjusted >= 0", "a.iou_coverage [group=hair=dark, region=object] > 0")
    assert table.schema == CHECK_SCHEMA
    adjusted = table.filter(quantity="adjusted")
    whole = summary.filter(model="a", metric="iou_coverage", group="all")
    assert adjusted["value"].to_list() == pytest.approx(whole["adjusted"].to_list())
    assert adjusted.select("seed", "region").rows() == whole.select("seed", "region").rows()
    for row, of in zip(adjusted.rows(named=True), whole.rows(named=True), strict=True):
        span = of["ceiling"] - of["chance"]
        bounds = ((of["ci_low"] - of["chance"]) / span, (of["ci_high"] - of["chance"]) / span)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(bounds)
        assert row["holds"] == (of["adjusted"] >= 0)
    dark = summary.filter(model="a", metric="iou_coverage", group="attr_hair=dark", region="object")
    assert table.filter(quantity="ea")["value"].to_list() == pytest.approx(dark["ea"].to_list())
    assert table.filter(quantity="ea").height == 2


def test_accuracy_counts_each_image_once() -> None:
    scores = random_scores()
    row = check(scores, "a.accuracy >= .5").row(0, named=True)
    images = scores.filter(pl.col("model").cast(pl.String) == "a").unique("sample_id")
    assert row["value"] == pytest.approx(images["correct"].mean())
    assert row["n"] == 40
    low, high = wilson_interval(images["correct"].sum(), 40)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((float(low), float(high)))


def test_accuracy_of_a_sample_is_that_of_the_whole_dataset_as_the_summary_has_it(tmp_path: Path) -> None:
    run = ea.evaluate(
        small_classifier(), UnevenPatches(60), ["sobel"], tmp_path / "run", target="0", sample=16, progress=False
    )
    row = check(run, "small.accuracy >= 0").row(0, named=True)
    [shown] = run.summary()["accuracy"].unique()
    images = run.scores().unique("sample_id").select("label", "correct").to_dict(as_series=False)
    label, right = np.array(images["label"]), np.array(images["correct"])
    there = [45, 5, 5, 5]
    by_hand = sum(n * right[label == k].mean() for k, n in enumerate(there)) / 60
    assert by_hand != pytest.approx(right.mean())
    assert row["value"] == pytest.approx(shown) == pytest.approx(by_hand)
    assert (row["n"], row["n_undefined"]) == (16, 0)
    # the interval is that of any other score of 0 or 1
    hits = run.scores().with_columns(pointing_game=pl.col("correct").cast(pl.Float64))
    of_hits = summarise(hits, metrics=["pointing_game"], populations=run.populations).row(0, named=True)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((of_hits["ci_low"], of_hits["ci_high"]))
    assert row["ci_low"] < by_hand < row["ci_high"]
    groups = run.summary(by=["even"]).unique("group").select("group", "accuracy").rows()
    for group, value in groups:
        if group != "all":
            told = check(run, f"small.accuracy [group={group}] >= 0").row(0, named=True)
            assert told["value"] == pytest.approx(value)
            assert told["ci_low"] <= value <= told["ci_high"]
    assert check(run.scores(), "small.accuracy >= 0")["value"].to_list() == pytest.approx([right.mean()])


def four(value: float) -> pl.DataFrame:
    return rows(*({"iou_coverage": value + d, "correct": d > 0} for d in (-0.1, 0.1, -0.05, 0.05)))


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        ("m.iou_coverage >= 0.5", True),
        ("m.iou_coverage > 0.5", False),
        ("m.iou_coverage <= 0.5", True),
        ("m.iou_coverage < 0.5", False),
        ("m.iou_coverage.low >= 0.49", False),
        ("m.iou_coverage.high <= 0.51", False),
        ("m.iou_coverage.n >= 4", True),
        ("m.iou_coverage.n_undefined > 0", False),
        ("m.accuracy >= 0.5", True),
        ("m.accuracy.low >= 0.5", False),
    ],
)
def test_a_claim_holds_when_it_does(claim: str, holds: bool) -> None:
    assert check(four(0.5), claim)["holds"].to_list() == [holds]


def test_confident_asks_the_whole_interval_on_the_safe_side() -> None:
    scores = four(0.5)
    low, high = check(scores, "m.iou_coverage >= 0").select("ci_low", "ci_high").row(0)
    for claim, holds in (
        (f"m.iou_coverage >= {low - 0.01}", True),
        (f"m.iou_coverage >= {low + 0.01}", False),
        (f"m.iou_coverage <= {high + 0.01}", True),
        (f"m.iou_coverage <= {high - 0.01}", False),
    ):
        assert check(scores, claim, confident=True)["holds"].to_list() == [holds], claim


@pytest.mark.parametrize("claim", ["m.iou_coverage >= 0", "m.iou_coverage <= 1", "m.iou_coverage.adjusted < 9"])
@pytest.mark.parametrize("confident", [False, True])
def test_an_undefined_value_satisfies_nothing(claim: str, confident: bool) -> None:
    scores = rows({"iou_coverage": None, "status": "flat_map"}, {"iou_coverage": None, "status": "flat_map"})
    row = check(scores, claim, confident=confident).row(0, named=True)
    assert (row["holds"], row["value"], row["n"], row["n_undefined"]) == (False, None, 0, 2)


def test_regions_default_to_the_evidence_and_every_value_counts() -> None:
    scores = pl.concat([four(0.5), four(0.2).with_columns(region=pl.lit("block"))])
    assert check(scores, "m.iou_coverage >= 0.4", evidence=["object"])["holds"].all()
    table = check(scores, "m.iou_coverage >= 0.4")
    assert table.select("region", "holds").rows() == [("block", False), ("object", True)]
    assert check(scores, "m.iou_coverage [region=block] < 0.4", evidence=["object"])["holds"].all()


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("a.iou_coverage [region=objct] > 0", "did you mean 'object'"),
        ("a.iou_coverage [group=hat=on] > 0", "attr_hair"),
        ("a.iou_coverage [group=hair=drk] > 0", "did you mean 'attr_hair=dark'"),
        ("a.iou_coverage [group=dark] > 0", "group=hair=dark"),
        ("a.accuracy [region=object] > 0", "leave that filter out"),
    ],
)
def test_what_a_claim_cannot_speak_of(claim: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check(random_scores(), claim)


def test_nothing_to_check_is_no_pass() -> None:
    with pytest.raises(UsageError, match="nothing to check"):
        check(random_scores())
    with pytest.raises(UnknownNameError):
        check(random_scores(), "z.iou_coverage > 0")
    with pytest.raises(UsageError, match="speaks of nothing"):
        check(random_scores(), "a.iou_coverage > 0", evidence=["elsewhere"])


def test_the_public_name() -> None:
    scores: Any = random_scores()
    assert ea.check(scores, "*.accuracy > 2")["holds"].to_list() == [False, False]


def test_a_method_from_a_file_can_be_asked_for() -> None:
    scores = four(0.5).with_columns(method=pl.lit("file:maps.py:f"))
    assert check(scores, "m.iou_coverage [method=file:maps.py:f] >= 0.5")["holds"].to_list() == [True]
    with pytest.raises(UnknownNameError, match=r"did you mean 'file:maps\.py:f'"):
        check(scores, "m.iou_coverage [method=file:maps.py:g] >= 0.5")


@pytest.mark.parametrize("model", ["vit[large]", "vit[a].b", "x >= y", "vit(", "vit]"])
def test_a_models_name_may_hold_brackets_and_operators(model: str) -> None:
    scores = four(0.5).with_columns(model=pl.lit(model))
    for claim in (f"{model}.iou_coverage >= 0.5", f" {model}.iou_coverage.ea [region=object, seed=0] >= 0.5"):
        assert check(scores, claim)["holds"].to_list() == [True], claim


def test_groups_are_those_of_the_summary() -> None:
    scores = random_scores().with_columns(label=pl.col("attr_hair").cast(pl.String))
    groups = {"annotation_size": "annotation_size", "class": "label", "label": "label", "correct": "correct"}
    for name, column in groups.items():
        summary = summarise(scores, by=[name]).filter(model="a", metric="iou_coverage")
        for group in summary.filter(pl.col("group") != "all")["group"].unique():
            assert group.startswith(f"{column}=")
            claim = f"a.iou_coverage [group={name}={group.partition('=')[2]}] >= 0"
            assert check(scores, claim)["value"].to_list() == summary.filter(group=group)["ea"].to_list()
    assert check(scores, "a.accuracy [group=correct=true] >= 1")["holds"].to_list() == [True]
    with pytest.raises(UsageError, match="accuracy counts images"):
        check(scores, "a.accuracy [group=annotation_size=05-15%] >= 0")


def test_of_several_targets_one_is_named() -> None:
    scores = pl.concat([four(v).with_columns(target=pl.lit(t)) for v, t in ((0.5, "cat"), (0.2, "dog"))])
    with pytest.raises(UsageError, match=r"several targets.*group=target=cat"):
        check(scores, "m.iou_coverage >= 0.4")
    assert check(scores, "m.iou_coverage [group=target=cat] >= 0.4")["holds"].to_list() == [True]
    assert check(scores, "m.iou_coverage [group=target=dog] >= 0.4")["holds"].to_list() == [False]
    assert check(scores, "m.accuracy >= 0.5")["holds"].to_list() == [True]
    with pytest.raises(UsageError, match="accuracy counts images"):
        check(scores, "m.accuracy [group=target=cat] >= 0.4")
