"""What a report says at its top: only what the statistics say, as far as there is room."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from made_runs import made_run
from page_parser import Page

import explanation_alignment as ea
from explanation_alignment.reporting.cells import cell
from explanation_alignment.reporting.findings import findings, reliance_findings
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.presentation import present
from explanation_alignment.statistics.relying.words import rule, sentences
from toys import Patches, small_classifier


def number(value: float) -> str:
    return cell(value).text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, one image that cannot be read and one without annotation, and a null that explains nothing."""
    out = tmp_path_factory.mktemp("findings") / "run"
    data = Patches(broken=[3], bare=[5])
    for seed in (0, 1):
        classifier = small_classifier(seed, name=f"net-{seed}")
        ea.evaluate(classifier, data, ["vanilla_gradients", "random"], out, intervene=True, progress=False)
    return out


def test_the_page_of_an_evaluation(run: Path) -> None:
    page = Page(ea.report(run).read_text())
    assert "broken image" in page.text
    assert "1 no annotation" in page.text
    means = page.charts[0]["datasets"]["rows"]
    assert {row["line"] for row in means} == {"net-0", "net-1"}
    assert not any("random" in row["method"] for row in means)  # a null is no finding about a model


def test_a_small_run_is_told_whole(run: Path) -> None:
    material = Material(ea.open_run(run))
    told = findings(material)
    board = ea.leaderboard(ea.open_run(run), methods=["vanilla_gradients"], regions=["patch"])
    for row in board.iter_rows(named=True):
        [line] = [text for text in told if text.startswith(f"{row['model']} has an accuracy of")]
        assert f"an accuracy of {number(row['top1'] / 100)} ({number(row['top1_low'] / 100)} to" in line
        assert f"is {number(row['ea_iou_coverage'])} ({number(row['ea_iou_coverage_low'])} to" in line
        assert "21 decisions, 2 undefined" in line
        low, high, chance = (row[f"ea_iou_coverage_{end}"] for end in ("low", "high", "chance"))
        where = "above" if low > chance else "below" if high < chance else "not clearly different from"
        assert f"{where} the {number(chance)} of a map that knows nothing" in line
    found = material.reliance
    assert found is not None
    assert told[-found.height :] == sentences(found)


def test_the_rule_stands_with_the_ranking_it_explains(run: Path) -> None:
    text = Page(ea.report(run).read_text()).text
    assert text.count(rule(metric="iou_coverage")) == 1
    assert text.index("Regions, ranked by reliance\n") < text.index(rule(metric="iou_coverage"))


def test_of_several_methods_the_one_that_is_told_of_is_named(tmp_path: Path) -> None:
    methods = (("gradcam", "threshold:0.5"), ("vanilla_gradients", "std:1"))
    material = Material(made_run(tmp_path / "run", methods=methods, models=("net",)))
    told = findings(material)
    assert told[-1] == "Alignment is told of gradcam (threshold:0.5), the first method asked for; Results has all."
    found = material.reliance
    assert found is not None
    assert set(sentences(found, name_method=True)) <= set(told)
    assert all("(gradcam maps)" in sentence for sentence in sentences(found, name_method=True))
    assert not any("maps)" in sentence for sentence in sentences(found))


def test_reliance_of_many_models_is_told_by_its_verdicts(run: Path) -> None:
    found = ea.reliance(run)
    many = pl.concat([found.with_columns(model=pl.lit(f"m{i}")) for i in range(7)])
    *flagged, counted = reliance_findings(many)
    assert counted.startswith(f"Of {many.height} pairs of model and region")
    flags = many.filter(pl.col("verdict").is_in(["confirmed", "suspected", "not confirmed"]))
    assert flagged == (sentences(flags) if flags.height < 12 else [])
    assert reliance_findings(many.with_columns(verdict=pl.lit("evidence"))) == []


def test_many_models_are_told_by_the_ends_of_both_rankings(tmp_path: Path) -> None:
    made = made_run(tmp_path / "run", models=[f"m{i}" for i in range(8)], regions=("digit",), n=60, examples=0)
    first = findings(Material(made))[0]
    board = ea.leaderboard(made)
    for column, scale in (("top1", 100), ("ea_iou_coverage", 1)):
        ranked = board.sort(column, "model")
        for place in (0, -1):
            row = ranked.row(place, named=True)
            assert f"{number(row[column] / scale)} ({row['model']})" in first


def test_a_run_of_no_experiment_has_a_plain_title(run: Path) -> None:
    shown = present(ea.open_run(run))
    assert (shown.title, shown.subtitle) == ("Explanation alignment", "net-0, net-1 on patches")
    assert shown.sentences == ()
