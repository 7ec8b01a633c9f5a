"""Reliance: excess over chance and changed predictions, on tables small enough to reckon by hand."""

from __future__ import annotations

from statistics import fmean

import polars as pl
import pytest
from statistics_tables import random_scores, rows

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics import chance_levels, wilson_interval
from explanation_alignment.statistics.reliance import RELIANCE_SCHEMA, reliance, rule, sentences

CHANCE = float(chance_levels("iou_coverage", 4, 4, 16))


def paired(block: float, digit: float, predictions: tuple[int, ...] = (0,) * 40) -> pl.DataFrame:
    """40 images in two datasets; the predictions are those on the second, all 0 on the first."""
    parts = []
    for dataset, predicted in (("first", (0,) * 40), ("second", predictions)):
        for region, value in (("block", block), ("digit", digit)):
            decisions = [
                {"prediction": p, "iou_coverage": value + 0.01 * (i % 2), "sample_id": f"s{i}"}
                for i, p in enumerate(predicted)
            ]
            parts.append(rows(*decisions, dataset=dataset, region=region))
    return pl.concat(parts)


def only(table: pl.DataFrame, region: str = "block") -> dict[str, object]:
    return table.filter(pl.col("region") == region).row(0, named=True)


PAIRS = {"block": [("first", "second")]}


def test_a_cheat_is_confirmed() -> None:
    table = reliance(paired(0.6, 0.1, (1,) * 30 + (0,) * 10), evidence=["digit"], pairs=PAIRS)
    assert table.schema == RELIANCE_SCHEMA
    block = only(table)
    assert block["verdict"] == "confirmed"
    assert block["excess"] == pytest.approx(0.605 - CHANCE)
    assert 0.6 - CHANCE <= block["excess_low"] <= block["excess"] <= block["excess_high"] <= 0.61 - CHANCE
    assert (block["flips"], block["n"], block["n_undefined"], block["n_images"]) == (0.75, 80, 0, 40)
    assert (block["flips_low"], block["flips_high"]) == tuple(float(v) for v in wilson_interval(30, 40))
    digit = only(table, "digit")
    assert (digit["verdict"], digit["is_evidence"], digit["flips"]) == ("evidence", True, None)


@pytest.mark.parametrize(
    ("block", "flipped", "pairs", "verdict"),
    [
        (0.6, 0, None, "suspected"),
        (0.6, 0, PAIRS, "suspected"),  # the maps say so; no prediction changed
        (CHANCE, 0, PAIRS, "not relied on"),
        (CHANCE, 2, PAIRS, "not relied on"),  # 2 of 40: the lower bound is 1.4 %
        (CHANCE, 20, PAIRS, "confirmed"),  # whatever the maps show
    ],
)
def test_verdicts(block: float, flipped: int, pairs: dict[str, list[tuple[str, str]]] | None, verdict: str) -> None:
    scores = paired(block, 0.4, (1,) * flipped + (0,) * (40 - flipped))
    assert only(reliance(scores, evidence=["digit"], pairs=pairs))["verdict"] == verdict


def test_nothing_defined_is_unknown() -> None:
    scores = paired(0.5, 0.5).with_columns(iou_coverage=None, status=pl.lit("flat_map"))
    row = only(reliance(scores, evidence=[]))
    assert (row["verdict"], row["excess"], row["n"], row["n_undefined"]) == ("unknown", None, 0, 80)


def test_several_pairs_count_an_image_once_as_a_trial() -> None:
    scores = paired(0.1, 0.1, (1,) * 10 + (0,) * 30)
    third = scores.filter(pl.col("dataset") == "first").with_columns(dataset=pl.lit("third"))
    pairs = {"block": [("first", "second"), ("first", "third")]}
    row = only(reliance(pl.concat([scores, third]), evidence=[], pairs=pairs))
    assert (row["flips"], row["n_images"]) == (0.125, 40)
    assert row["flips_low"] == pytest.approx(float(wilson_interval(5, 40)[0]))


def test_a_pair_that_was_not_evaluated_says_nothing() -> None:
    row = only(reliance(paired(0.1, 0.1), evidence=[], pairs={"block": [("first", "elsewhere")]}))
    assert (row["flips"], row["n_images"], row["verdict"]) == (None, 0, "not relied on")


def test_excess_is_that_of_plain_python() -> None:
    scores = random_scores(datasets=("d", "e"))
    table = reliance(scores, evidence=["object"], metric="pointing_game")
    assert table.height == 4
    for row in table.rows(named=True):
        mine = scores.filter(
            pl.col("model").cast(pl.String) == row["model"], pl.col("region").cast(pl.String) == row["region"]
        ).rows(named=True)
        excess = [r["pointing_game"] - r["annotation_area"] / 64 for r in mine if r["pointing_game"] is not None]
        assert row["excess"] == pytest.approx(fmean(excess))
        assert row["n"] == len(excess)
    shuffled = scores.sample(fraction=1, shuffle=True, seed=2)
    assert reliance(shuffled, evidence=["object"], metric="pointing_game").equals(table)


def test_sentences_say_what_the_numbers_do() -> None:
    scores = paired(0.6, 0.1, (1,) * 30 + (0,) * 10)
    block, digit = sentences(reliance(scores, evidence=["digit"], pairs=PAIRS))
    assert block == (
        "m relies on block, which is not part of the evidence: its maps lie there above chance (IoU minus chance "
        "+0.447, +0.446 to +0.449, 80 decisions); changing only that region changes 75.0 % of its predictions "
        "(59.8 % to 85.8 %, 40 images)."
    )
    assert digit.startswith("m looks at digit, the evidence, less than chance: its maps lie there below chance")
    [sentence] = sentences(reliance(paired(0.6, 0.5), evidence=["digit"]).filter(pl.col("region") == "block"))
    assert sentence.startswith("m is suspected to rely on block, which is not part of the evidence: its maps lie")
    assert "predictions" not in sentence
    [sentence] = sentences(reliance(paired(0.0, 0.5), evidence=["digit"]).filter(pl.col("region") == "block"))
    assert sentence.startswith("m shows no reliance on block beyond the thresholds: its maps lie there below chance")
    nothing = paired(0.5, 0.5).with_columns(iou_coverage=None, status=pl.lit("flat_map"))
    unknown, evidence = sentences(reliance(nothing, evidence=["digit"]))
    assert unknown == "Whether m relies on block is unknown: none of its scores there is defined."
    assert evidence == "Whether m looks at digit, the evidence, is unknown: none of its scores there is defined."


def test_sentences_name_what_tells_rows_apart() -> None:
    scores = random_scores(seeds=(0, 1))
    other = scores.with_columns(method=pl.lit("gradcam").cast(pl.Categorical))
    told = sentences(reliance(pl.concat([scores, other]), evidence=["object"]))
    assert len(set(told)) == len(told) == 16
    assert told[0].startswith("a (seed 0) ")
    assert "gradcam maps (std:1)" in told[0]


def test_the_rule_states_its_thresholds() -> None:
    text = rule(metric="pointing_game", margin=0.1, min_flip=0.02, level=0.9)
    assert all(part in text for part in ("90 % interval", "hit minus its chance level", "exceeds 0.1", "exceeds 2 %"))


def test_what_is_asked_wrongly() -> None:
    scores = paired(0.1, 0.1)
    with pytest.raises(UnknownNameError, match="did you mean 'digit'"):
        reliance(scores, evidence=["digits"])
    with pytest.raises(UnknownNameError, match="region"):
        reliance(scores, evidence=["digit"], pairs={"blocks": []})
    with pytest.raises(UsageError, match="no analytic chance level"):
        reliance(scores, evidence=["digit"], metric="heatmap_kl")
    with pytest.raises(UsageError, match="margin"):
        reliance(scores, evidence=["digit"], margin=5)
