"""Every page answers, says its denominators, escapes what a run says, and refuses what it should."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
from exploring import ATTRIBUTE, EVIL, explored, scores
from PIL import Image
from starlette.testclient import TestClient

import explanation_alignment as ea
from explanation_alignment.explorer import downloads
from explanation_alignment.explorer.downloads import csv_pieces, file_name
from explanation_alignment.explorer.guarding import Guard, allowed_hosts

Visit = Callable[..., TestClient]
EVERY = ("/", "/scatter", "/gallery?region=object", "/compare", "/help", "/decision?dataset=d&sample=image-1")


class Seen(HTMLParser):
    """What a browser would take from a page: elements, addresses, labels, ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside: list[str] = []
        self.unlabelled: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("input", "img", "link", "meta", "br", "hr"):
            named = "label" in self.inside or "aria-label" in dict(attrs) or dict(attrs).get("type") == "hidden"
            if tag == "input" and not named:
                self.unlabelled.append(dict(attrs))
            return
        if tag == "select" and "label" not in self.inside:
            self.unlabelled.append(dict(attrs))
        self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.text += data

    def form(self, action: str) -> tuple[list[tuple[str, str]], dict[str, list[str]]]:
        """What a form sends as it is, and what its lists offer."""
        start = next(i for i, (tag, found) in enumerate(self.tags) if tag == "form" and found.get("action") == action)
        end = next((i for i, (tag, _) in enumerate(self.tags) if tag == "form" and i > start), len(self.tags))
        sent: dict[str, str] = {}
        several: list[tuple[str, str]] = []
        offered: dict[str, list[str]] = {}
        name = ""
        for tag, found in self.tags[start:end]:
            if tag == "select":
                name = str(found["name"])
                offered[name] = []
            elif tag == "option":
                offered[name].append(str(found["value"]))
                if "selected" in found or name not in sent:
                    sent[name] = str(found["value"])
            elif tag == "input" and (found.get("type") != "checkbox" or "checked" in found):
                several.append((str(found["name"]), found.get("value") or ""))
        return [*several, *sent.items()], offered

    def addresses(self, tag: str = "a", attribute: str = "href") -> list[str]:
        return [str(found[attribute]) for name, found in self.tags if name == tag and attribute in found]


@pytest.mark.parametrize("address", EVERY)
def test_pages_answer_and_are_made_for_everybody(visit: Visit, explored_run: Path, address: str) -> None:
    answer = visit(explored_run).get(address)
    assert answer.status_code == 200
    page = Seen(answer.text)
    names = [name for name, _ in page.tags]
    assert ("html", {"lang": "en"}) in page.tags
    assert names.count("h1") == names.count("main") == 1
    assert "#content" in page.addresses()
    assert page.unlabelled == []
    assert all(found.get("alt") for name, found in page.tags if name == "img")
    assert all("style" not in found for _, found in page.tags)  # the policy of the page forbids it
    assert not any(name.startswith("on") for _, found in page.tags for name in found)
    for tag, attribute in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href"), ("form", "action")):
        assert all(found.startswith(("/", "#")) for found in page.addresses(tag, attribute))


@pytest.mark.parametrize("address", EVERY)
def test_markup_in_a_runs_names_stays_text(visit: Visit, explored_run: Path, address: str) -> None:
    answer = visit(explored_run).get(address)
    assert [found for name, found in Seen(answer.text).tags if name == "script"] == [
        {"src": "/static/explorer.js", "defer": None}
    ]
    assert "onerror" not in {key for _, found in Seen(answer.text).tags for key in found}
    if address in ("/", "/compare", "/decision?dataset=d&sample=image-1"):
        assert EVIL in Seen(answer.text).text or EVIL in str(Seen(answer.text).tags)
    for name, value in (
        ("content-security-policy", "default-src 'self';"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
    ):
        assert answer.headers[name].startswith(value)


def test_every_link_of_every_page_leads_somewhere(visit: Visit, explored_run: Path) -> None:
    client = visit(explored_run)
    known, waiting = set(EVERY), list(EVERY)
    for _ in range(45):
        if not waiting:
            break
        answer = client.get(waiting.pop(0))
        assert answer.status_code == 200, answer.url
        if "html" in answer.headers["content-type"]:
            for found in (*Seen(answer.text).addresses(), *Seen(answer.text).addresses("img", "src")):
                if found.startswith("/") and found not in known:
                    known.add(found)
                    waiting.append(found)
    assert len(known) > 100


def test_numbers_are_the_summarys(visit: Visit, explored_run: Path) -> None:
    text = Seen(visit(explored_run).get("/?find=good&region=object").text).text
    row = ea.open_run(explored_run).summary().filter(model="good", region="object", metric="iou_coverage")
    score = f"{row['ea'][0]:.3f}".removeprefix("0")
    assert score in text
    assert f"chance {row['chance'][0]:.3f}".replace("0.", ".") in text
    assert f"n {row['n'][0]}, undefined {row['n_undefined'][0]}" in text


def test_the_gallery_says_how_many(visit: Visit, explored_run: Path) -> None:
    page = Seen(visit(explored_run).get("/gallery?model=good&region=object").text)
    rows = scores().filter(pl.col("model") == "good", pl.col("region") == "object")
    defined = rows["iou_coverage"].drop_nulls()
    assert f"{rows.height} decisions" in page.text
    assert f"(n {defined.len()}, flat map {rows.height - defined.len()})" in page.text
    assert f"{defined.mean():.3f}".removeprefix("0") in page.text


def test_a_gallery_asked_for_without_anything_begins_with_the_best(visit: Visit, explored_run: Path) -> None:
    answer = visit(explored_run).get("/gallery", follow_redirects=False)
    assert answer.status_code == 303
    assert "region=object" in answer.headers["location"]
    assert "method=vanilla_gradients" in answer.headers["location"]


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/gallery?model=nobody", 400, "unknown model"),
        ("/gallery?page=" + "9" * 40, 400, "whole number"),
        ("/gallery?page=-1", 400, "from 1 to"),
        ("/gallery?metric=iou_coverage&min=nan", 400, "expected a number"),
        ("/gallery?metric=iou_coverage&min=-inf", 400, "expected a number"),
        ("/gallery?evil=" + EVIL, 400, "unknown field"),
        ("/?sort=rm", 400, "column to sort by"),
        ("/decision?dataset=d&sample=../../../etc/passwd", 404, "no decision on a sample"),
        ("/decision?dataset=../d&sample=x", 400, "unknown dataset"),
        ("/nowhere", 404, "no such page"),
        ("/static/../app.py", 404, ""),
        ("/static/%2e%2e/app.py", 404, ""),
        ("/static/..%2fapp.py", 404, ""),
        ("/gallery?" + "&".join(["model=good"] * 4000), 414, "longer than"),
        ("/gallery?" + "&".join(["model=good"] * 500), 400, "at most 400"),
    ],
)
def test_what_is_asked_wrongly_is_refused_with_words(
    visit: Visit, explored_run: Path, address: str, status: int, words: str
) -> None:
    answer = visit(explored_run).get(address)
    assert answer.status_code == status
    assert words in Seen(answer.text).text
    assert "Traceback" not in answer.text


def test_a_page_beyond_the_last_is_the_last(visit: Visit, explored_run: Path) -> None:
    text = Seen(visit(explored_run).get("/gallery?region=object&page=1000000000").text).text
    assert "There is no page 1,000,000,000; this is the last." in text
    assert "page 4 of 4" in text


# ---------------------------------------------------------------------------------------------------- pictures


def picture(sample: str, **changed: str) -> str:
    fields = {"evaluation": "e0", "sample": sample, "method": "vanilla_gradients", "binarization": "std:1"}
    return "/picture?" + urlencode(fields | {"region": "object"} | changed)


def test_pictures_are_drawn_for_samples_whose_ids_are_paths(visit: Visit, explored_run: Path) -> None:
    for name in ("image-1", "../../etc/passwd"):
        answer = visit(explored_run).get(picture(name))
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size == (256, 256)


@pytest.mark.parametrize(
    "address",
    [
        picture("nobody"),
        picture("image-30"),
        picture("image-1", evaluation="../e0"),
        picture("image-1", evaluation="e9"),
        picture("image-1", run="b"),
        "/picture",
    ],
)
def test_no_picture_is_no_fault(visit: Visit, explored_run: Path, address: str) -> None:
    assert visit(explored_run).get(address).status_code == 404


def test_examples_that_lead_out_of_the_run_are_not_read(visit: Visit, tmp_path: Path, explored_run: Path) -> None:
    path = explored(tmp_path / "run")
    for name in ("images", "maps", "decisions"):
        place = path / "examples" / "e0" / f"{name}.parquet"
        place.unlink()
        place.symlink_to(explored_run / "examples" / "e0" / place.name)
    answer = visit(path).get(picture("image-1"))
    assert answer.status_code == 404
    assert "leads out of the run" in answer.text


def test_a_folder_of_examples_that_leads_out_of_the_run_is_not_read(visit: Visit, tmp_path: Path) -> None:
    path = explored(tmp_path / "run")
    (path / "examples").rename(tmp_path / "outside")
    (path / "examples").symlink_to(tmp_path / "outside")
    answer = visit(path).get(picture("image-1"))
    assert answer.status_code == 404
    assert "leads out of the run" in answer.text


# --------------------------------------------------------------------------------------------------- downloads


def test_the_download_is_the_selection(visit: Visit, explored_run: Path) -> None:
    answer = visit(explored_run).get("/gallery.csv?region=object&sort=iou_coverage&correct=yes")
    assert answer.headers["content-disposition"] == 'attachment; filename="run-decisions.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    expected = (
        scores()
        .filter(pl.col("region") == "object", "correct")
        .sort("iou_coverage", descending=True, nulls_last=True, maintain_order=True)
    )
    assert [row["sample_id"] for row in rows] == expected["sample_id"].to_list()
    values = [float(row["iou_coverage"]) if row["iou_coverage"] else None for row in rows]
    assert values == pytest.approx(expected["iou_coverage"].to_list(), nan_ok=True)


def test_formulas_are_words_in_a_download(visit: Visit, explored_run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(visit(explored_run).get("/gallery.csv?region=object").text)))
    assert {row[f"attr_{ATTRIBUTE}"] for row in rows} == {"'=1+1", "plain"}
    table = pl.DataFrame({"text": ["=1", "+1", "-1", "@a", "\t=1", "  =1", "\uff1d1", "fine", None], "n": -1.5})
    lines = list(csv.reader(io.StringIO(b"".join(csv_pieces([table, table])).decode())))
    assert [line[0] for line in lines[1:10]] == ["'=1", "'+1", "'-1", "'@a", "'\t=1", "'  =1", "'\uff1d1", "fine", ""]
    assert {line[1] for line in lines[1:]} == {"-1.5"}
    assert len(lines) == 1 + 2 * table.height


def test_a_download_is_bounded_and_says_so(visit: Visit, explored_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explanation_alignment.explorer.app.MOST_ROWS", 7)
    monkeypatch.setattr(downloads, "MOST_ROWS", 7)
    answer = visit(explored_run).get("/gallery.csv?region=object")
    assert len(answer.text.splitlines()) == 8
    assert "first-7-of-80" in answer.headers["content-disposition"]
    assert file_name("x", 'a"\r\nb/../ü', 1) == "a---b------x.csv"


def test_nothing_selected_downloads_a_heading(visit: Visit, explored_run: Path) -> None:
    answer = visit(explored_run).get("/gallery.csv?sample=nowhere")
    assert answer.status_code == 200
    assert answer.text.splitlines()[0].startswith("model,seed,dataset")
    assert len(answer.text.splitlines()) == 1


def test_boards_and_pairs_download(visit: Visit, explored_run: Path) -> None:
    client = visit(explored_run)
    board = list(csv.DictReader(io.StringIO(client.get("/leaderboard.csv?region=object").text)))
    assert [row["model"] for row in board] == ["good", EVIL] or [row["model"] for row in board] == [EVIL, "good"]
    pairs = list(csv.DictReader(io.StringIO(client.get("/compare.csv?region=object").text)))
    assert len(pairs) == 40
    assert {"a_iou_coverage", "b_iou_coverage", "difference", "a_outcome"} <= set(pairs[0])


# ---------------------------------------------------------------------------------------------------- guarding


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8360", "evil.example:8360", "", "[::2]:1"])
def test_other_names_for_this_machine_are_refused(visit: Visit, explored_run: Path, host: str) -> None:
    answer = visit(explored_run).get("/", headers={"host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8360", "localhost", "LOCALHOST:80", "[::1]:8360"])
def test_its_own_names_are_answered(visit: Visit, explored_run: Path, host: str) -> None:
    assert visit(explored_run).get("/help", headers={"host": host}).status_code == 200


def test_a_server_for_everybody_takes_numeric_addresses_only(explored_run: Path) -> None:
    guard = Guard(lambda *_: None, allowed_hosts("0.0.0.0"), addresses=True)  # type: ignore[arg-type, return-value]
    assert guard._is_ours("192.168.1.20:8360")
    assert not guard._is_ours("evil.example:8360")
    assert not Guard(lambda *_: None, allowed_hosts("127.0.0.1"))._is_ours("192.168.1.20")  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("DELETE", {}, 405),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
    ],
)
def test_other_sites_may_link_and_no_more(
    visit: Visit, explored_run: Path, method: str, headers: dict[str, str], status: int
) -> None:
    address = "/compute" if method == "POST" else "/help"
    assert visit(explored_run).request(method, address, headers=headers).status_code == status


# ------------------------------------------------------------------------------------------------- kinds of run


def test_toy_data_says_so_on_every_page(visit: Visit, tmp_path: Path, explored_run: Path) -> None:
    toy = explored(tmp_path / "toy", toy=True)
    for address in (*EVERY, "/nowhere", "/gallery?model=nobody"):
        assert "Toy data" in Seen(visit(toy).get(address).text).text
        assert "Toy data" not in Seen(visit(explored_run).get(address).text).text
    assert "Toy data in toy." in Seen(visit(explored_run, toy).get("/").text).text


def test_unfinished_runs_say_so(visit: Visit, tmp_path: Path) -> None:
    path = explored(tmp_path / "run")
    info = json.loads((path / "run.json").read_text())
    info["evaluations"]["e1"]["finished"] = None
    info["failures"] = {"timm:none": "no such <b>model</b>"}
    (path / "run.json").write_text(json.dumps(info))
    text = Seen(visit(path).get("/").text).text
    assert "Not finished: 1 evaluation of run" in text
    assert "no such <b>model</b>" in text


@pytest.mark.parametrize("address", ["/", "/scatter", "/gallery", "/compare", "/help"])
def test_a_run_without_decisions_yet(visit: Visit, tmp_path: Path, address: str) -> None:
    path = explored(tmp_path / "run")
    for part in path.glob("scores/*/*.parquet"):
        part.unlink()
    answer = visit(path).get(address)
    assert answer.status_code == 200
    if address != "/help":
        assert "Load the page again" in answer.text


def test_a_run_grows_while_it_is_looked_at(visit: Visit, tmp_path: Path) -> None:
    path = explored(tmp_path / "run")
    client = visit(path)
    assert "80 decisions" in client.get("/gallery?region=object").text
    scores(("good",)).with_columns(sample_id="later-" + pl.col("sample_id")).write_parquet(
        path / "scores" / "e0" / "unit-00001.parquet"
    )
    assert "120 decisions" in client.get("/gallery?region=object").text
    (path / "run.json").unlink()
    assert client.get("/").status_code == 404


def test_two_runs_on_the_same_images(visit: Visit, tmp_path: Path, explored_run: Path) -> None:
    other = explored(tmp_path / "other", ("third",))
    client = visit(explored_run, other)
    text = Seen(client.get("/compare?region=object").text).text
    assert "good" in text
    assert "third (run other)" in text
    assert "40 images both have" in text
    info = json.loads((other / "run.json").read_text())
    info["datasets"]["d"]["fingerprint"] = "another"
    (other / "run.json").write_text(json.dumps(info))
    assert "may not be the same image" in client.get("/compare?region=object").text
    assert "third" in client.get("/gallery?run=b&region=object&size=12").text


def test_two_runs_without_an_image_in_common(visit: Visit, tmp_path: Path, explored_run: Path) -> None:
    other = explored(tmp_path / "other", ("third",))
    for part in other.glob("scores/*/*.parquet"):
        pl.read_parquet(part).with_columns(dataset=pl.lit("e").cast(pl.Categorical)).write_parquet(part)
    text = (other / "run.json").read_text().replace('"dataset": "d"', '"dataset": "e"').replace('"d": {', '"e": {')
    (other / "run.json").write_text(text)
    client = visit(explored_run, other)
    assert client.get("/compare").url.query == b"b_run=a&sort=picture"
    answer = client.get("/compare?a_run=a&b_run=b")
    assert answer.status_code == 400
    assert "no decisions on the same dataset" in answer.text


def test_two_models_without_pictures_are_compared(visit: Visit, tmp_path: Path) -> None:
    path = explored(tmp_path / "run")
    shutil.rmtree(path / "examples")
    client = visit(path)
    links = [found for found in Seen(client.get("/").text).addresses() if found.startswith("/compare?")]
    for address in ("/compare", "/compare?sort=picture&order=asc", *links):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert "40 images both have" in answer.text


@pytest.mark.parametrize("run", ["a", "b"])
def test_a_run_of_several_targets_without_a_main_one(
    visit: Visit, tmp_path: Path, explored_run: Path, run: str
) -> None:
    path = explored(tmp_path / "several", targets=("label", "3"))
    client = visit(*((path,) if run == "a" else (explored_run, path)))
    own = {} if run == "a" else {"run": "b"}
    answer = client.get("/gallery", params=own)
    assert answer.status_code == 200
    assert "160 decisions" in answer.text
    for address in ("/", "/scatter"):
        answer = client.get(address, params=own)
        assert answer.status_code == 200
        text = " ".join(Seen(answer.text).text.split())
        assert "Nothing is ranked: the decisions were explained for several targets (3, label)" in text
        assert "Means alone" not in text
        (link,) = [found for found in Seen(answer.text).addresses() if found == "/gallery" + "?run=b" * (run == "b")][
            1:
        ]
        assert client.get(link).status_code == 200
    assert client.get("/leaderboard.csv", params=own).status_code == 200


def with_methods(path: Path, methods: dict[str, tuple[str, ...]], **columns: pl.Expr) -> Path:
    """The same rows for each method and binarization, with further columns."""
    pairs = [(method, binarization) for method, several in methods.items() for binarization in several]
    for part in path.glob("scores/*/*.parquet"):
        rows = pl.read_parquet(part).with_columns(pl.col("method", "binarization").cast(pl.String), **columns)
        every = [rows.with_columns(method=pl.lit(method), binarization=pl.lit(name)) for method, name in pairs]
        pl.concat(every).write_parquet(part)
    info = json.loads((path / "run.json").read_text())
    for item in info["evaluations"].values():
        item["methods"] = [{"method": method, "binarization": name} for method, name in pairs]
    (path / "run.json").write_text(json.dumps(info))
    return path


@pytest.mark.parametrize(
    "methods",
    [
        {"vanilla_gradients": ("std:1",), "gradcam": ("threshold:0.5",)},
        {"vanilla_gradients": ("std:1", "otsu"), "gradcam": ("threshold:0.5", "threshold:0.3")},
    ],
)
@pytest.mark.parametrize("page", ["/scatter", "/compare"])
def test_every_choice_that_a_form_offers_is_answered(
    visit: Visit, tmp_path: Path, page: str, methods: dict[str, tuple[str, ...]]
) -> None:
    path = with_methods(explored(tmp_path / "run", images=12), methods, heatmap_kl=pl.lit(0.5, pl.Float32))
    fewer = explored(tmp_path / "fewer", ("third",), images=12)
    info = json.loads((fewer / "run.json").read_text().replace('"block"', '"other"'))
    (fewer / "run.json").write_text(json.dumps(info))
    for part in fewer.glob("scores/*/*.parquet"):
        pl.read_parquet(part).filter(pl.col("region") == "object").write_parquet(part)
    for runs in ((path,), (path, fewer)):
        client = visit(*runs)
        starts = [page]
        if page == "/compare" and len(runs) == 1:
            cells = [found for found in Seen(client.get(page).text).addresses() if "a_outcome" in found]
            starts += cells[:1]
            starts += [found for found in Seen(client.get("/").text).addresses() if found.startswith("/compare?")][-1:]
        for start in starts:
            sent, offered = Seen(client.get(start).text).form(page)
            assert client.get(page, params=dict(sent)).status_code == 200
            there = dict(sent)
            for name in {*offered} - {"a_run", "b_run", "a_outcome", "b_outcome", "sort", "order", "size"}:
                for value in {*offered[name]} - {there[name]}:
                    params = [(key, value if key == name else was) for key, was in sent]
                    answer = client.get(page, params=params)
                    if there.get("a_binarization") and name == "a_method":  # a row of the leaderboard names both
                        assert answer.status_code == 200 or "leave one of them open" in answer.text
                    else:
                        assert answer.status_code == 200, (start, name, value)
            if page == "/compare":
                assert "heatmap_kl" not in offered["metric"]
                assert len(runs) == 1 or start != page or offered["region"] == [""]  # object, which both have


def test_a_form_shows_what_follows_from_the_rest(visit: Visit, tmp_path: Path) -> None:
    methods = {"vanilla_gradients": ("std:1", "otsu"), "gradcam": ("threshold:0.5",)}
    client = visit(with_methods(explored(tmp_path / "run"), methods))
    sent, offered = Seen(client.get("/scatter").text).form("/scatter")
    assert offered["binarization"] == ["", "otsu"]
    assert ("binarization", "") in sent
    page = client.get("/scatter?binarization=otsu&method=vanilla_gradients")
    sent, offered = Seen(page.text).form("/scatter")
    assert offered["binarization"] == ["", "std:1", "otsu"]
    assert ("binarization", "otsu") in sent
    assert "binarization" not in Seen(client.get("/scatter?method=gradcam").text).form("/scatter")[1]
    page = client.get("/compare?a_method=vanilla_gradients&a_binarization=otsu&region=block")
    sent, offered = Seen(page.text).form("/compare")
    assert ("a_binarization", "otsu") in sent
    assert ("region", "block") in sent
    assert "vanilla_gradients (otsu)" in page.text


@pytest.mark.parametrize("run", ["a", "b"])
@pytest.mark.parametrize("asked", ["", "layer=heat", "sort=confidence", "layer=heat&sort=confidence", "model=good"])
def test_a_gallery_is_cleared(visit: Visit, explored_run: Path, run: str, asked: str) -> None:
    client = visit(explored_run, explored_run)
    start = f"/gallery?region=object&{asked}" + "&run=b" * (run == "b")
    (clear,) = [found for found in Seen(client.get(start).text).addresses() if found.endswith("region=")]
    answer = client.get(clear)
    assert answer.status_code == 200
    assert "160 decisions" in answer.text


def test_a_picture_says_what_is_known_of_the_prediction(visit: Visit, tmp_path: Path) -> None:
    path = explored(tmp_path / "run", ("good", "bare"))
    part = next((path / "scores" / "e1").glob("*.parquet"))
    rows = pl.read_parquet(part)
    nothing = [pl.lit(None, rows.schema[name]).alias(name) for name in ("prediction", "correct", "confidence")]
    rows.with_columns(nothing).write_parquet(part)
    client = visit(path)
    for model, known in (("bare", {"undecided"}), ("good", {"right", "wrong"})):
        page = Seen(client.get(f"/gallery?region=object&pictured=1&model={model}").text)
        said = [str(found["alt"]) for tag, found in page.tags if tag == "img"]
        assert len(said) == 5
        assert {re.split("[;:,]", one.split(": predicted ")[1])[1].strip() for one in said} <= known
        for one in said:
            assert ("wrong: " in one) == ("wrong" in one)


def test_what_has_pictures_can_come_first(visit: Visit, explored_run: Path) -> None:
    client = visit(explored_run)
    asked = {"model": "good", "region": "object", "sort": "picture", "size": "12"}
    first = re.findall(r'<(img|span class="no-picture")', client.get("/gallery", params=asked).text)
    assert first == ["img"] * 5 + ['span class="no-picture"'] * 7
    last = re.findall(r'<(img|span class="no-picture")', client.get("/gallery", params={**asked, "order": "asc"}).text)
    assert last == ['span class="no-picture"'] * 12
    assert "/gallery?model=good" in client.get("/").text
    couples = re.findall(r'<(img|span class="no-picture")', client.get("/compare").text)
    assert couples[:10] == ["img"] * 10
    assert "img" not in couples[10:]
    assert couples != re.findall(r'<(img|span class="no-picture")', client.get("/compare?region=object").text)
