"""The page in a browser: charts are drawn, nothing is fetched, dark and paper, keyboard, hostile names.

The browser is Debian's chromium, or the one that EALIGN_CHROMIUM names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run

import explanation_alignment as ea

HOSTILE = '<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\'{{ 7*7 }}'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.skip("playwright is not installed")
    path = os.environ.get("EALIGN_CHROMIUM", "/usr/bin/chromium")
    if not Path(path).is_file():
        pytest.skip("no chromium; set EALIGN_CHROMIUM")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Visit:
    """A page that was opened, and what it did."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def _is_complaint(said: Any) -> bool:
    # Vega-Lite tells that lines of a fixed height do not fill a page, which is meant
    return said.type in ("error", "warning") and 'Dropping "fit-y"' not in said.text


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    opened = []

    def go(path: Path, **options: Any) -> Visit:
        context = browser.new_context(**options)
        context.set_offline(True)
        seen = Visit(context.new_page())
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("console", lambda said: seen.complaints.append(said.text) if _is_complaint(said) else None)
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("dialog", lambda dialog: seen.complaints.append("dialog"))
        seen.page.goto(path.resolve().as_uri())
        charts = seen.page.locator("script.spec").count()
        seen.page.wait_for_function(f"document.querySelectorAll('.plot[data-drawn] svg').length === {charts}")
        opened.append(context)
        return seen

    yield go
    for context in opened:
        context.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ea.report(made_run(tmp_path_factory.mktemp("browser") / "run", attributes={"hair": ("dark", "fair")}))


def test_charts_are_drawn_without_a_request_or_a_complaint(visit: Any, report: Path) -> None:
    seen = visit(report)
    assert seen.page.locator("script.spec").count() >= 8
    for plot in seen.page.locator(".plot").all():
        assert plot.locator("svg .mark-symbol path, svg .mark-rect path").count() > 0
        assert plot.get_attribute("role") == "graphics-document"
        assert plot.get_attribute("aria-label")
    assert [url for url in seen.requests if not url.startswith("data:")] == [report.resolve().as_uri()]
    assert seen.complaints == []


def test_what_is_picked_is_drawn(visit: Any, report: Path) -> None:
    plot = visit(report).page.locator(".plot").first

    def drawn() -> set[str]:
        points = plot.locator("svg .mark-symbol path[aria-label]").all()
        return {point.get_attribute("aria-label") for point in points}

    before = drawn()
    assert before
    plot.locator("label", has_text="Metric").locator("select").select_option("hit")
    plot.page.wait_for_timeout(200)
    assert drawn() != before
    assert all("Metric: hit" in label for label in drawn())


def test_a_point_tells_its_numbers(visit: Any, report: Path) -> None:
    page = visit(report).page
    plot = page.locator(".plot").nth(1)
    plot.scroll_into_view_if_needed()
    plot.locator("svg .mark-symbol path").first.hover(force=True)
    tip = page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    for word in ("Model", "Family", "Parameters", "Accuracy", "Chance"):
        assert word in tip.inner_text()


def test_dark_light_and_paper(visit: Any, report: Path) -> None:
    def colours(seen: Visit) -> tuple[str, str, str]:
        return tuple(  # type: ignore[return-value]
            seen.page.evaluate(
                """() => [getComputedStyle(document.body).backgroundColor,
                    getComputedStyle(document.querySelector('.plot .role-axis-label text')).fill,
                    getComputedStyle(document.querySelector('.plot .mark-symbol path')).fill]"""
            )
        )

    light, dark = (visit(report, color_scheme=scheme) for scheme in ("light", "dark"))
    assert colours(light)[:2] == ("rgb(255, 255, 255)", "rgb(89, 99, 110)")
    assert colours(dark)[:2] == ("rgb(21, 25, 30)", "rgb(154, 165, 177)")
    assert colours(light)[2] != colours(dark)[2]
    dark.page.emulate_media(media="print", color_scheme="dark")
    assert colours(dark)[:2] == ("rgb(255, 255, 255)", "rgb(68, 68, 68)")


def test_on_paper_tables_are_unfolded_and_it_becomes_a_pdf(visit: Any, report: Path) -> None:
    page = visit(report).page
    folded = page.locator("details[data-print]")
    assert folded.count() > 3
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details[data-print]:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    content = page.pdf(prefer_css_page_size=True)
    assert content.startswith(b"%PDF")
    assert len(content) > 50_000


def test_nothing_is_wider_than_a_telephone(visit: Any, report: Path) -> None:
    page = visit(report, viewport={"width": 400, "height": 800}).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_everything_can_be_reached_by_keyboard(visit: Any, report: Path) -> None:
    page = visit(report).page
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        what = page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className")
        reached.add(what)
        if what.startswith("SUMMARY"):
            break
    assert {"A.", "SELECT."} <= reached
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open") is True


def test_every_picture_and_chart_has_words(visit: Any, report: Path) -> None:
    page = visit(report).page
    assert page.locator("img").count() > 20
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    assert page.locator(".plot:not([aria-label])").count() == 0
    for select in page.locator("select").all():
        assert select.evaluate("element => element.closest('label') !== null || element.labels.length > 0")


def test_hostile_names_run_nothing(visit: Any, tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run",
        models=(HOSTILE, f"b {HOSTILE}"),
        regions=(HOSTILE,),
        evidence=(HOSTILE,),
        datasets=(HOSTILE, "other"),
        class_names=(HOSTILE, "b"),
        families=(HOSTILE,),
    )
    seen = visit(ea.report(run))
    plot = seen.page.locator(".plot").nth(1)
    plot.scroll_into_view_if_needed()
    plot.locator("svg .mark-symbol path").first.hover(force=True)
    tip = seen.page.locator("#vg-tooltip-element.visible")
    tip.wait_for()
    assert HOSTILE in tip.inner_text()
    assert seen.page.evaluate("window.pwned") is None
    assert seen.complaints == []
    assert len(seen.requests) == sum(url.startswith("data:") for url in seen.requests) + 1
