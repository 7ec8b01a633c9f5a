"""A person with a browser: sorts, filters, toggles, compares, follows links, downloads; nothing else is asked for.

Needs a Chromium: the one ``EALIGN_CHROMIUM`` names, else Debian's.
"""

from __future__ import annotations

import csv
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import uvicorn
from exploring import EVIL, IMAGES, scores

from explanation_alignment.explorer.app import create_app
from explanation_alignment.explorer.guarding import Guard, allowed_hosts

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

Page = sync_api.Page


def chromium() -> str:
    path = os.environ.get("EALIGN_CHROMIUM", "/usr/bin/chromium")
    if not Path(path).is_file():
        pytest.skip("no Chromium found; set EALIGN_CHROMIUM")
    return path


@pytest.fixture(scope="module")
def address(explored_run: Path) -> Iterator[str]:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    guarded = Guard(create_app([explored_run], patience=0, board_patience=60), allowed_hosts("127.0.0.1"))
    server = uvicorn.Server(uvicorn.Config(guarded, log_level="error", timeout_graceful_shutdown=1))  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)
    listening.close()


@dataclass
class Watched:
    """A page, what it asked for, and what its console said."""

    page: Page
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    path = chromium()
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def seen(browser: object, address: str) -> Iterator[Watched]:
    context = browser.new_context(base_url=address, viewport={"width": 1200, "height": 900})  # type: ignore[attr-defined]
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    watched = Watched(context.new_page())
    watched.page.set_default_timeout(30_000)
    watched.page.on("request", lambda request: watched.asked.append(request.url))
    watched.page.on("console", lambda message: watched.said.append(message.text))
    watched.page.on("pageerror", lambda error: watched.said.append(str(error)))
    yield watched
    assert watched.asked
    assert [url for url in watched.asked if not url.startswith(address + "/")] == []
    assert watched.said == []
    assert watched.page.title() != "taken"  # a model's name is a script that would do that
    context.close()


def numbers(page: Page, column: int) -> list[float]:
    cells = page.locator(f"tbody tr td:nth-of-type({column}) b").all_inner_texts()
    return [float(cell) for cell in cells]


def test_sort_the_leaderboard_and_go_to_a_models_decisions(seen: Watched) -> None:
    page = seen.page
    page.goto("/")
    page.get_by_role("link", name="IoU", exact=True).click()
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("IoU")
    first = numbers(page, 3)
    assert len(first) == 4
    assert first == sorted(first, reverse=True)
    page.get_by_role("link", name="IoU").first.click()
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("IoU")
    assert numbers(page, 3) == first[::-1]
    page.locator("tbody th a", has_text="good").first.click()
    assert urlsplit(page.url).path == "/gallery"
    assert f"{IMAGES} decisions" in page.locator("p.count").inner_text()


def test_filter_what_is_wrong_but_aligned(seen: Watched) -> None:
    page = seen.page
    page.goto("/gallery?model=good&region=object")
    page.get_by_role("link", name="wrong, but aligned").click()
    rows = scores().filter(model="good", region="object", correct=False)
    expected = rows.filter(rows["iou_coverage"] >= 0.2).height
    assert expected > 0
    assert f"{expected} decision" in page.locator("p.count").inner_text()
    assert page.locator(".card .verdict.wrong").count() == expected
    page.get_by_label("case").select_option("distractor")
    page.get_by_role("button", name="Apply").click()
    assert "No decision is like that" in page.locator("main").inner_text()


def layers_of(address: str) -> list[str]:
    return parse_qs(urlsplit(address).query).get("layer", [])


def test_open_a_decision_and_toggle_what_is_drawn(seen: Watched) -> None:
    page = seen.page
    page.goto("/gallery?model=good&region=object&pictured=1")
    page.locator(".card .shown").first.click()
    assert urlsplit(page.url).path == "/decision"
    assert page.locator("section.model").count() == 2
    assert EVIL in page.locator("main").inner_text()
    images = page.locator("section.model img")
    pictures = set()
    toggled = {
        "heat map": ["outline", "heat", "mask"],
        "binarized mask": ["outline", "heat"],
        "overlap": ["outline", "heat", "overlap"],
        "annotation outline": ["heat", "overlap"],
    }
    for name, layers in toggled.items():
        with page.expect_response(lambda answer: layers_of(answer.url) == layers) as drawn:  # noqa: B023
            page.get_by_label(name).click()
        assert drawn.value.ok
        pictures.add(drawn.value.body())
        assert layers_of(page.url) == layers
        assert layers_of(str(images.first.get_attribute("src"))) == layers
    assert len(pictures) == 4
    assert page.locator(".legend li:visible").count() == 2  # heat map and overlap are left
    page.reload()
    assert page.get_by_label("heat map").is_checked()
    assert not page.get_by_label("binarized mask").is_checked()
    sizes = images.evaluate_all("all => all.map(image => image.naturalWidth)")
    assert set(sizes) == {256}


def test_compare_two_models_and_follow_the_copied_link(seen: Watched, browser: object, address: str) -> None:
    page = seen.page
    page.goto("/")
    page.get_by_role("link", name="Two models").click()
    page.get_by_label("region").select_option("object")
    page.get_by_label("aligned from").fill("0.3")
    page.get_by_role("button", name="Apply").click()
    cell = page.locator("table.counts tbody tr:nth-child(1) td:nth-of-type(2) a")
    expected = int(cell.inner_text())
    cell.click()
    assert f"{expected} image" in page.locator("p.count").inner_text()
    assert page.locator(".couple").count() == min(expected, 24)
    page.get_by_role("button", name="Copy link").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url
    other = browser.new_context().new_page()  # type: ignore[attr-defined]
    other.goto(copied)
    assert other.locator("p.count").inner_text().split(".")[0] == page.locator("p.count").inner_text().split(".")[0]
    other.context.close()


def test_download_what_is_selected(seen: Watched) -> None:
    page = seen.page
    page.goto("/gallery?model=good&region=object&correct=no")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    assert download.value.suggested_filename == "run-decisions.csv"
    with Path(download.value.path()).open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    expected = scores().filter(model="good", region="object", correct=False)
    assert [row["sample_id"] for row in rows] == expected["sample_id"].to_list()


def test_select_points_by_drawing_around_them(seen: Watched) -> None:
    page = seen.page
    page.goto("/scatter")
    box = page.locator("svg.scatter").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 4, box["y"] + 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] - 4, steps=4)
    page.mouse.up()
    assert page.locator("[data-selected]").inner_text() == "2 selected"
    page.get_by_label("Select good").uncheck()
    page.get_by_role("button", name="Show the decisions").click()
    assert parse_qs(urlsplit(page.url).query)["model"] == [EVIL]
    page.goto("/scatter")
    page.locator(".point g").first.click()
    assert urlsplit(page.url).path == "/gallery"


def test_with_the_keyboard_alone(seen: Watched) -> None:
    page = seen.page
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "good":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/gallery?**")
    page.locator("select[name=correct]").focus()
    page.keyboard.press("w")  # wrong
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Apply").press("Enter")
    page.wait_for_url("**correct=no**")


@pytest.mark.parametrize("path", ["/", "/scatter", "/gallery?region=object", "/compare", "/help"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_narrow_windows_and_can_be_read(seen: Watched, path: str, scheme: str) -> None:
    page = seen.page
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    weakest = page.evaluate(CONTRAST)
    assert weakest["ratio"] >= 4.5, weakest


CONTRAST = """() => {
  const light = (text) => {
    const parts = text.match(/[\\d.]+/g).map(Number);
    const [r, g, b] = parts.slice(0, 3).map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return [.2126 * r + .7152 * g + .0722 * b, parts[3] ?? 1];
  };
  let worst = { ratio: 99 };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("svg, option, .unseen, .skip")) continue;
    let ground = element, back;
    while (ground) {
      back = light(getComputedStyle(ground).backgroundColor);
      if (back[1] > 0) break;
      ground = ground.parentElement;
    }
    const [one, other] = [light(getComputedStyle(element).color)[0], ground ? back[0] : 1];
    const ratio = (Math.max(one, other) + .05) / (Math.min(one, other) + .05);
    if (ratio < worst.ratio) worst = { ratio, text: walker.currentNode.textContent.trim().slice(0, 40) };
  }
  return worst;
}"""


def test_everything_works_without_scripts(browser: object, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    page.goto("/gallery?model=good&region=object&pictured=1")
    page.get_by_label("heat map").check()
    page.get_by_role("button", name="Apply").click()
    shown = parse_qs(urlsplit(str(page.locator(".card img").first.get_attribute("src"))).query)["layer"]
    assert shown == ["outline", "heat", "mask"]
    context.close()
