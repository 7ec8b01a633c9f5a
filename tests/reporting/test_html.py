"""The page, parsed: its numbers are the summary's, hostile names stay text, and it needs nothing outside itself."""

from __future__ import annotations

import re

import polars as pl
import pytest
from page_parser import Page
from report_tables import examples, summary

from explanation_alignment.errors import UsageError
from explanation_alignment.reporting.content import Card, Gallery, Picture, Section, Table
from explanation_alignment.reporting.figures import ea_bars, example_grid
from explanation_alignment.reporting.html import render_report

INFO = {
    "toy": False,
    "command": "ealign experiment mnist --out runs/mnist",
    "created": "2025-01-02T03:04:05+00:00",
    "experiment": {"name": "mnist", "settings": {"epochs": 4}},
    "versions": {"python": "3.12.1", "torch": "2.6.0", "captum": None},
    "hardware": {"system": "Linux x86_64", "gpus": []},
    "datasets": {"same": {"evidence": ["digit"], "size": 10_000}},
    "evaluations": {
        "one": {
            "question": {"model": "honest", "dataset": "same", "seed": 0, "target": "predicted"},
            "methods": [{"method": "vanilla_gradients", "binarization": "std:1"}],
            "finished": "2025-01-02T03:05:05+00:00",
            "status_counts": {"ok": 19_000, "flat_map": 1_000, "error": 0},
        }
    },
}


def render(table: pl.DataFrame | None = None, **arguments: object) -> str:
    given = {"title": "A title", "info": INFO, "summary": summary() if table is None else table, **arguments}
    return render_report(**given)  # type: ignore[arg-type]


def test_the_numbers_are_the_summarys() -> None:
    table = summary()
    [results] = Page(render(table)).tables
    rows = [row for row in results if any(values for _, values in row)]
    assert len(rows) == 8
    by_line = table.partition_by("model", "dataset", "region", maintain_order=True)
    for row, part in zip(rows, by_line, strict=True):
        iou, hit = part.rows(named=True)
        assert [text for text, _ in row[:3]] == [iou["model"], iou["dataset"], iou["region"]]
        numbers = [[float(v) for v in values] for _, values in row[3:]]
        expected = [[iou["n"], hit["n"], iou["n_undefined"], hit["n_undefined"]], [iou["accuracy"]]]
        for metric in (iou, hit):
            expected += [[metric["ea"], metric["ci_low"], metric["ci_high"]], [metric["chance"], metric["adjusted"]]]
        assert numbers == expected  # exactly, not only to the decimals shown
        assert row[5][0] == f"{iou['ea']:.3f}{iou['ci_low']:.3f}\u2013{iou['ci_high']:.3f}"


def test_columns_that_tell_lines_apart_are_shown_and_others_said_once() -> None:
    page = Page(render())
    assert "seed 0, method vanilla_gradients, maps binarized with std:1" in page.text
    heads = [text for text, _ in page.tables[0][0]]
    assert heads == ["Model", "Data", "Region", "nundefined", "Accuracy", "IoU", "hit"]
    several = Page(render(summary(seeds=(0, 1), methods=("vanilla_gradients", "gradcam"))))
    heads = [text for text, _ in several.tables[0][0]]
    assert heads[:5] == ["Model", "Seed", "Data", "Method", "Region"]
    assert "seed 0," not in several.text


def test_groups_have_a_table_of_their_own() -> None:
    table = summary(groups=("all", "attr_hair=dark"))
    results, groups = Page(render(table)).tables
    assert len(results) == len(groups) == 2 + 8
    assert [text for text, _ in groups[0]][:4] == ["Model", "Data", "Region", "Group"]
    assert {row[3][0] for row in groups[2:]} == {"attr_hair=dark"}


def test_undefined_and_missing_numbers_are_dashes() -> None:
    empty = dict.fromkeys(("ea", "ci_low", "ci_high", "chance", "accuracy"))
    table = summary(models=("m",), datasets=("d",), regions=("r",), **empty, n=0)
    table = pl.concat([table, summary(models=("n",), datasets=("d",), regions=("r",), metrics=("pointing_game",))])
    lines = Page(render(table)).tables[0][2:]
    assert [text for text, _ in lines[0]][4:] == ["\u2013"] * 5
    assert lines[1][5][0] == "\u2013"  # a metric that this model was not scored with


HOSTILE = '<script>alert("x")</script>&\'"--><img src=x onerror=y>{{ 7*7 }}'


def test_hostile_names_stay_text() -> None:
    table = summary(models=(HOSTILE,), datasets=(HOSTILE,), regions=(HOSTILE,), metrics=("iou_coverage", HOSTILE))
    info = {
        **INFO,
        "command": HOSTILE,
        "versions": {HOSTILE: HOSTILE},
        "datasets": {HOSTILE: {"evidence": [HOSTILE]}},
        "experiment": {"name": HOSTILE},
    }
    section = Section(
        HOSTILE,
        [HOSTILE],
        [Table([HOSTILE], [[HOSTILE]], HOSTILE)],
        [Picture(b"<svg/>", HOSTILE, HOSTILE)],
        HOSTILE,
        galleries=[Gallery(HOSTILE, [Card(HOSTILE, False, [Picture(b"<svg/>", HOSTILE)], [HOSTILE])], HOSTILE)],
    )
    html = render(
        table, title=HOSTILE, subtitle=HOSTILE, info=info, sentences=[HOSTILE], sections=[section], labels={"x": "y"}
    )
    page = Page(html)
    assert "script" not in {tag for tag, _, _ in page.attributes}
    assert "<script" not in html
    assert "onerror" not in {name for _, name, _ in page.attributes}
    assert page.text.count(HOSTILE) > 16
    assert "49" not in page.text.replace(HOSTILE, "")


def test_the_page_holds_everything_it_shows() -> None:
    section = Section(
        "Looks",
        pictures=[
            Picture.of(example_grid(examples(images=1)), "what was looked at"),
            Picture.of(ea_bars(summary()), "bars", "A caption"),
            Picture(b"\x89PNG....", "a bitmap"),
        ],
    )
    html = render(sections=[section])
    page = Page(html)
    sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert [s.partition(";")[0] for s in sources] == ["data:image/svg+xml", "data:image/svg+xml", "data:image/png"]
    assert [v for t, n, v in page.attributes if (t, n) == ("img", "alt")] == ["what was looked at", "bars", "a bitmap"]
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<script", html)
    assert {name for _, name, _ in page.attributes} & {"onclick", "onload", "srcset"} == set()
    assert all(value.startswith("#") for _, name, value in page.attributes if name == "href")
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert len(html) < 10_000_000
    assert html == render(sections=[section])


def test_sections_show_their_tables() -> None:
    table = Table(["Name", "Ours", "Count", "Inside"], [["a", -0.25, 1234, True], ["b", None, 7, False]], "A caption")
    page = Page(render(sections=[Section("Beside", ["Some words."], [table], note="Small print.")]))
    beside, results = page.text.index("Beside"), page.text.index("Results")
    assert beside < results  # the table of results can be long
    assert [[text for text, _ in row] for row in page.tables[0]] == [
        ["Name", "Ours", "Count", "Inside"],
        ["a", "\u22120.250", "1,234", "yes"],
        ["b", "\u2013", "7", "no"],
    ]
    assert page.tables[0][1][1][1] == ["-0.25"]
    for words in ("Beside", "Some words.", "A caption", "Small print."):
        assert words in page.text
    with pytest.raises(UsageError, match="2 cells, expected 1"):
        Table(["one"], [[1, 2]])


def test_what_was_asked_and_how_to_do_it_again() -> None:
    text = Page(render(sentences=["First finding."], subtitle="Below")).text
    for words in (
        "A title",
        "Below",
        "First finding.",
        "same (10,000 images)",
        "vanilla_gradients (std:1)",
        "predicted class",
        "19,000 ok, 1,000 flat map",
        "2025-01-02 03:04:05 UTC",
        "ealign experiment mnist --out runs/mnist",
        "3.12.1",
        '"epochs": 4',
    ):
        assert words in text
    assert text.index("First finding.") < text.index("Results")
    assert "captum" not in text  # not installed


def test_toy_and_unfinished_runs_say_so() -> None:
    assert "toy data" not in Page(render()).text.lower()
    unfinished = {"one": {**INFO["evaluations"]["one"], "finished": None}}  # type: ignore[index]
    text = Page(render(info={**INFO, "toy": True, "evaluations": unfinished})).text
    assert "Toy data." in text
    assert "Not finished: honest on same." in text


def test_a_bare_record_and_an_empty_summary_still_make_a_page() -> None:
    page = Page(render(summary().clear(), info={}))
    assert page.tables == []
    assert "A title" in page.text
    with pytest.raises(UsageError, match="'ea' is missing"):
        render(summary().drop("ea"))
