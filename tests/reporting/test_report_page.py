"""Reports of whole runs: their numbers, what they leave out, and runs that lack something."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from made_runs import made_run
from page_parser import Page

import explanation_alignment as ea
from explanation_alignment.errors import RunError
from explanation_alignment.metrics.registry import DEFAULT_METRICS
from explanation_alignment.reporting.charts import look
from explanation_alignment.reporting.charts.files import chart_library
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.sections.case_shares import case_section
from explanation_alignment.runs.reader import Run
from explanation_alignment.statistics import undefined_reasons

HOSTILE = "<script>alert(1)</script>&\"'--><img src=x onerror=alert(1)>{{ 7*7 }}</script><!--"


def page_of(run: Run) -> tuple[Page, str]:
    html = ea.report(run).read_text(encoding="utf-8")
    return Page(html), html


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_run(tmp_path_factory.mktemp("report") / "run", attributes={"hair": ("dark", "fair")})


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return page_of(run)[0]


def headline(page: Page) -> int:
    return next(i for i, caption in enumerate(page.captions) if caption.startswith("Accuracy and explanation"))


def test_every_number_of_the_headline_table_is_the_summarys(run: Run, page: Page) -> None:
    rows = page.body(headline(page))
    lines = run.summary().partition_by("model", "region", maintain_order=True)
    for row, part in zip(rows, lines, strict=True):
        numbers = [[float(value) for value in values] for _, values in row[3:]]
        expected = [part["accuracy"][0]]
        assert numbers[1] == expected
        for place, metric in enumerate(part.iter_rows(named=True)):
            assert numbers[2 + 2 * place] == [metric["ea"], metric["ci_low"], metric["ci_high"]]
            assert numbers[3 + 2 * place] == [metric["chance"], metric["adjusted"]]
        assert len(numbers) == 2 + 2 * part.height
        counts = sorted(set(part["n"])), sorted(set(part["n_undefined"]))
        told = numbers[0]
        own = undefined_reasons(run.scores()).filter(model=part["model"][0], region=part["region"][0])
        if own["reason"].n_unique() == 1:  # the reason says how many
            counts = counts[:1]
        ends = [value for values in counts for value in ([values[0], values[-1]] if len(values) > 1 else values)]
        assert told[: len(ends)] == ends
        # below it the reasons, which together make up what is undefined
        own = undefined_reasons(run.scores()).filter(model=part["model"][0], region=part["region"][0])
        spans = own.group_by("reason", maintain_order=True).agg(pl.col("n").unique().sort())
        assert told[len(ends) :] == [
            n for values in spans["n"] for n in (values if len(values) < 2 else values[[0, -1]])
        ]
        assert all(word.replace("_", " ") in row[3][0] for word in own["reason"])


def test_every_chart_stands_above_its_own_numbers(page: Page) -> None:
    assert len(page.charts) >= 8
    tables = [i for i, _ in enumerate(page.tables) if page.captions[i].startswith("The numbers")]
    assert len(tables) == len(page.charts)
    for chart, place in zip(page.charts, tables, strict=True):
        rows = chart["datasets"]["rows"]
        name = next(name for name in ("value", "share") if name in rows[0])
        drawn = [row[name] for row in rows]
        shown = [{float(f"{float(value):.6g}") for _, values in row for value in values} for row in page.body(place)]
        assert len(drawn) == len(shown)
        assert all(value in numbers for value, numbers in zip(drawn, shown, strict=True))


def test_charts_are_told_in_words_and_colours_are_the_pages_own(page: Page) -> None:
    css = (Path(look.__file__).parents[1] / "templates/report.css").read_text()
    for chart in page.charts:
        assert len(chart["description"]) > 20
        used = set(re.findall(r"var\(--([a-z0-9-]+)\)", str(chart)))
        assert used <= set(look.LIGHT)
    for name, colour in look.LIGHT.items():
        assert re.search(rf"--{name}: {colour};", css, flags=re.IGNORECASE), name


def test_the_sections_of_a_run_that_has_everything(page: Page) -> None:
    assert page.headings == [
        "Results",
        "Alignment by model",
        "Decisions to look at",
        "Accuracy and alignment",
        "Right and wrong decisions",
        "By group: hair",
        "By class",
        "By size of the annotation",
        "The eight cases",
        "Regions, ranked by reliance",
        "Compared on the same images: models",
        "What is missing, and why",
        "Reproduce",
        "Cite",
    ]
    anchors = {value for _, name, value in page.attributes if name == "id"}
    links = [value for _, name, value in page.attributes if name == "href"]
    assert links
    assert all(link.removeprefix("#") in anchors for link in links)
    assert len([value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]) > 20


def test_where_there_is_one_region_none_is_ranked(tmp_path: Path) -> None:
    page, _ = page_of(made_run(tmp_path / "run", regions=("digit",), evidence=("digit",)))
    assert "Only the evidence (digit) is annotated" in page.text
    assert "Reliance on digit" in page.headings
    assert not any("ranked" in heading for heading in page.headings)


def test_the_page_names_its_scripts_and_nothing_else_may_run_or_be_fetched(run: Run) -> None:
    page, html = page_of(run)
    [policy] = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content") and "none" in value]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert html.count(chart_library()) == 1  # however many charts there are
    own = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"https?:|url\(|@import|<link", own)
    assert len(html.encode()) < 10_000_000


def test_figures_are_written_as_png_and_svg(run: Run, page: Page) -> None:
    names = {path.stem for path in (run.path / "figures").iterdir()}
    assert {"ea_by_model", "accuracy_and_alignment", "cases", "reliance_maps", "examples"} <= names
    for name in names:
        assert (run.path / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (run.path / f"figures/{name}.svg").read_text()
        assert "<svg" in svg
        assert "var(--" not in svg


def test_hostile_names_and_messages_stay_text(tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run",
        models=(HOSTILE, f"b{HOSTILE}"),
        datasets=(HOSTILE,),
        regions=(HOSTILE,),
        evidence=(HOSTILE,),
        class_names=(HOSTILE, "b"),
        attributes={HOSTILE: (HOSTILE, "x", "y")},
        failures={HOSTILE: HOSTILE},
        broken={3: HOSTILE},
        families=(HOSTILE,),
    )
    page, html = page_of(run)
    assert html.count("<script") == len(page.charts) + 3  # charts, their configuration, the library, what draws
    assert "onerror" not in {name for _, name, _ in page.attributes}
    assert {"img", "script", "table"} >= {tag for tag, name, _ in page.attributes if name == "src"} | {"script"}
    assert page.text.count(HOSTILE) > 20
    assert any(HOSTILE in row["model"] for chart in page.charts for row in chart["datasets"]["rows"] if "model" in row)
    assert {path.name for path in (run.path / "figures").iterdir()} == {
        f"{path.stem}{end}" for path in (run.path / "figures").iterdir() for end in (".png", ".svg")
    }


def test_toy_and_unfinished_runs_and_failures_say_so(tmp_path: Path) -> None:
    failures = {"huge": "out of memory"}
    run = made_run(
        tmp_path / "run", toy=True, unfinished=("cheating",), failures=failures, broken={2: "torn file"}, examples=0
    )
    page, _ = page_of(run)
    for words in (
        "Toy data.",
        "Not finished: cheating on same.",
        "Failed and not among the numbers below: huge.",
        "out of memory",
        "torn file",
    ):
        assert words in page.text
    assert all("say nothing about real images" in " ".join(chart["title"]["text"]) for chart in page.charts)
    assert "Generated toy data" in (run.path / "figures/ea_by_model.svg").read_text()


def test_a_run_without_any_defined_score_says_why(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", undefined=1, examples=3)
    page, _ = page_of(run)
    [chart] = page.charts  # accuracy is known all the same
    assert {row["what"] for row in chart["datasets"]["rows"]} == {"accuracy"}
    assert "no IoU with digit is defined" in page.text
    assert "40 flat map" in page.text
    assert "Decisions to look at" not in page.headings


def test_one_decision_of_one_model(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", models=("only",), n=1, undefined=0, examples=0, regions=("digit",))
    page, _ = page_of(run)
    assert "Accuracy and alignment" not in page.headings  # one point tells nothing
    assert not any(heading.startswith("Compared") for heading in page.headings)
    assert "Decisions to look at" not in page.headings
    assert "too little stands behind its interval" in page.text


def test_methods_are_compared_where_there_is_one_model(tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run", models=("only",), methods=(("vanilla_gradients", "std:1"), ("gradcam", "area")), examples=0
    )
    assert "Compared on the same images: methods" in page_of(run)[0].headings


def test_seeds_are_taken_together_and_said(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", seeds=(0, 1, 2), examples=0)
    page, _ = page_of(run)
    assert "A model's seeds are taken together" in page.text
    means = next(chart for chart in page.charts if "Mean explanation alignment of 2" in chart["description"])
    pooled = run.summary(pool_seeds=True).filter(pl.col("metric") == "iou_coverage", pl.col("region") == "digit")
    drawn = {
        r["line"]: r["value"] for r in means["datasets"]["rows"] if r["metric"] == "IoU" and r["region"] == "digit"
    }
    assert drawn == {row["model"]: float(f"{row['ea']:.6g}") for row in pooled.iter_rows(named=True)}


def test_decisions_explained_for_another_class_are_shown_as_such(tmp_path: Path) -> None:
    page, _ = page_of(made_run(tmp_path / "run", target="label", examples=0))
    assert {"Results", "Right and wrong decisions", "The eight cases"} <= set(page.headings)
    assert "label class" in page.text


def test_a_run_of_several_targets_without_a_main_one_has_a_page(tmp_path: Path) -> None:
    made = made_run(tmp_path / "run", target="label", examples=0)
    info = json.loads((made.path / "run.json").read_text())
    info["evaluations"]["evaluation-1"]["question"]["target"] = "3"
    (made.path / "run.json").write_text(json.dumps(info))
    for path in (made.path / "scores" / "evaluation-1").glob("*.parquet"):
        pl.read_parquet(path).with_columns(target=pl.lit("3").cast(pl.Categorical)).write_parquet(path)
    page, _ = page_of(ea.open_run(made.path))
    assert "Right and wrong decisions" in page.headings
    assert "Accuracy and alignment" not in page.headings


@pytest.mark.parametrize("count", [45, pytest.param(195, marks=pytest.mark.slow)])
def test_many_models_stay_readable_and_small(tmp_path: Path, count: int) -> None:
    models = [f"family{i % 9}_{i:03}.a1_in1k" for i in range(count)]
    run = made_run(
        tmp_path / "run", models=models, regions=("object",), evidence=("object",), n=12, examples=1,
        methods=(("gradcam", "threshold:0.5"), ("vanilla_gradients", "std:1")), families=("a", "b", "c"),
    )  # fmt: skip
    page, html = page_of(run)
    assert len(html.encode()) < 10_000_000
    assert len(page.body(headline(page))) == 2 * count
    assert all(len(chart["datasets"]["rows"]) <= 800 for chart in page.charts)
    scatter = next(chart for chart in page.charts if f"of {count} models" in chart["description"])
    assert {row["model"] for row in scatter["datasets"]["rows"]} == set(models)
    for words in (f"of {count}; all are among the results above", f"Shown: 12 of {count} models", "ealign compare RUN"):
        assert words in page.text


def test_decisions_without_a_case_are_counted_before_rows_are_left_out(tmp_path: Path) -> None:
    run = made_run(
        tmp_path, models=[f"m{i}" for i in range(6)], seeds=range(4), datasets=["a", "b"], regions=["digit", "block"],
        evidence=["digit", "block"], n=12, undefined=0.3, examples=0,
    )  # fmt: skip
    lost = run.scores()["iou_coverage"].null_count()
    note = case_section(Material(run)).note  # type: ignore[union-attr]
    assert f"{lost:,} decisions have no score and no case" in str(note)


def test_bars_left_out_for_want_of_scores_count_as_well(tmp_path: Path) -> None:
    run = made_run(tmp_path, n=12, undefined=0.3, examples=0)
    material = Material(run)
    none = pl.col("model") == "cheating"
    material.shown_rows = run.scores().with_columns(  # type: ignore[misc]
        *(pl.when(~none).then(pl.col(name)).alias(name) for name in DEFAULT_METRICS),
        status=pl.when(none).then(pl.lit("flat_map")).otherwise(pl.col("status").cast(pl.String)),
    )
    lost = material.shown_rows["iou_coverage"].null_count()
    note = case_section(material).note  # type: ignore[union-attr]
    assert f"{lost:,} decisions have no score and no case" in str(note)


def test_regions_and_differences_left_out_are_said(tmp_path: Path) -> None:
    regions = [f"part {place}" for place in range(8)]
    run = made_run(
        tmp_path, models=[f"m{i}" for i in range(6)], seeds=[0], datasets=[f"set {i}" for i in range(8)],
        regions=regions, evidence=regions, n=6, examples=0, metrics=("iou_coverage",),
    )  # fmt: skip
    page, _ = page_of(run)
    assert "Shown: 6 of 8 regions of the evidence, the first." in page.text
    assert "The first 800 of 840 rows; ealign compare RUN --all shows all." in page.text


def test_many_classes_are_told_by_their_ends(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", n=120, class_names=[f"class {i}" for i in range(50)], examples=0)
    page, _ = page_of(run)
    classes = next(chart for chart in page.charts if "by class" in chart["description"])
    assert len({row["line"] for row in classes["datasets"]["rows"]}) == 30
    assert "of 50; ealign show RUN --by class shows all" in page.text


def test_an_attribute_that_divides_as_the_classes_do_is_shown_once(tmp_path: Path) -> None:
    attributes = {"digit": ("0", "1", "2", "3"), "hair": ("dark", "fair", "grey")}
    page, _ = page_of(made_run(tmp_path / "run", attributes=attributes, examples=0))
    assert {"By class", "By group: hair"} <= set(page.headings)


def test_what_is_annotated_is_told_in_percent(page: Page) -> None:
    sizes = next(chart for chart in page.charts if "by annotated" in chart["description"])
    lines = {row["line"] for row in sizes["datasets"]["rows"]}
    assert {"5\u201315 %", "15\u201335 %"} <= lines
    assert not any("-" in line for line in lines)


@pytest.mark.usefixtures("page")
def test_the_same_run_gives_the_same_page_and_figures(run: Run) -> None:
    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in [run.path / "report.html", *(run.path / "figures").iterdir()]}

    before = files()
    (run.path / "report.html").unlink()
    ea.report(run.path)
    assert files() == before


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        ea.report(tmp_path)
