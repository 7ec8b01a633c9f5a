"""Pictures a run does not hold are computed by a process of its own, or it is said why not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from exploring import explored
from starlette.testclient import TestClient

import explanation_alignment as ea
from explanation_alignment.errors import RunError, UsageError
from explanation_alignment.explorer.compute import _stay_offline
from explanation_alignment.explorer.computing import MOST_AT_ONCE, Computer, Job
from explanation_alignment.explorer.pictures import Examples, Key
from explanation_alignment.recomputation import evaluate_again

Visit = Callable[..., TestClient]
DATA = "colored_mnist(coloring=uncorrelated-2)"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tells how it was made, whose examples are cut down to a few."""
    out = tmp_path_factory.mktemp("computing") / "run"
    classifier = ea.load_classifier("paper:mnist", weights="random:3")
    ea.evaluate(classifier, ea.load_dataset(DATA), ["gradcam", "vanilla_gradients"], out, sample=60, progress=False)
    (slug,) = ea.open_run(out).evaluations
    for name in ("decisions", "maps", "images"):
        path = out / "examples" / slug / f"{name}.parquet"
        table = pl.read_parquet(path)
        table.filter(pl.col("sample_id").is_in(table["sample_id"].unique().sort()[:20].to_list())).write_parquet(path)
    info = json.loads((out / "run.json").read_text())
    info["command"] = f"ealign evaluate --model paper:mnist --weights random:3 --dataset '{DATA}' --out run"
    (out / "run.json").write_text(json.dumps(info))
    return out


@pytest.fixture
def computer() -> Iterator[Computer]:
    made = Computer()
    yield made
    made.close()


def finished(computer: Computer, run: Path, seconds: float = 120) -> Job:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        (job,) = computer.jobs(run)
        if job.state in ("done", "failed"):
            return job
        time.sleep(0.05)
    raise AssertionError("not computed in time")


def missing(run: Path) -> tuple[str, list[str]]:
    (slug,) = ea.open_run(run).evaluations
    shown = Examples(run / "examples").pictured(slug)
    names = ea.open_run(run).scores()["sample_id"].unique().sort()
    return slug, [name for name in names if name not in shown]


def test_computed_pictures_are_those_the_run_would_hold(digits: Path, visit: Visit, computer: Computer) -> None:
    slug, names = missing(digits)
    client = visit(digits, computer=computer)
    page = client.get(f"/gallery?region=digit&method=gradcam&sample={names[0]}")
    assert "Compute 1 missing picture" in page.text
    back = str(page.url).partition("8360")[2]
    form = {"run": "a", "back": back, "decision": json.dumps([slug, names[0]])}
    answer = client.post("/compute", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, back)
    assert "Computing pictures" in client.get(back).text
    assert client.get("/computing").json() == {"waiting": 1}
    job = finished(computer, digits)
    assert job.message == ""
    page = client.get(back)
    assert "Compute 1 missing" not in page.text
    assert "/picture?" in page.text
    (decision,) = pl.read_parquet(next(job.folder.glob("scores/*/*.parquet"))).filter(
        pl.col("method") == "gradcam", pl.col("region") == "digit"
    )["salient_area"]
    found = computer.source(digits).find(Key(slug, names[0], "gradcam", "threshold:0.5", "digit"))
    assert found is not None
    assert found.salient is not None
    assert found.salient.sum() == decision
    recorded = (
        ea.open_run(digits)
        .scores()
        .filter(pl.col("sample_id") == names[0], pl.col("method") == "gradcam", pl.col("region") == "digit")
    )
    assert recorded["salient_area"].to_list() == [decision]
    computer.close()
    assert not job.folder.parent.exists()


def test_what_cannot_be_rebuilt_is_said(visit: Visit, digits: Path, tmp_path: Path) -> None:
    run = ea.open_run(digits)
    (slug,) = run.evaluations
    info = json.loads((digits / "run.json").read_text())
    for change, words in (
        (("coloring=uncorrelated-2", "coloring=uncorrelated-3"), "has another fingerprint"),
        (("random:3", "random:4"), "another digest"),
    ):
        other = tmp_path / change[1].replace(":", "-")
        other.mkdir()
        (other / "models.parquet").write_bytes((digits / "models.parquet").read_bytes())
        (other / "run.json").write_text(json.dumps(info | {"command": info["command"].replace(*change)}))
        with pytest.raises(RunError, match=words):
            evaluate_again(ea.open_run(other), slug, missing(digits)[1][:1], tmp_path / "out")


def test_python_files_a_run_names_are_not_run_unasked(digits: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    (slug,) = ea.open_run(digits).evaluations
    for place in ("model", "dataset"):
        other = tmp_path / place
        other.mkdir()
        info = json.loads((digits / "run.json").read_text())
        models = pl.read_parquet(digits / "models.parquet")
        if place == "model":
            models = models.with_columns(spec=pl.lit(f"file:{trap}:build"))
        else:
            info["command"] = f"ealign evaluate --dataset file:{trap}:build"
        models.write_parquet(other / "models.parquet")
        (other / "run.json").write_text(json.dumps(info))
        with pytest.raises(RunError):
            evaluate_again(ea.open_run(other), slug, ["x"], tmp_path / "out", run_code=False)
    assert not (tmp_path / "sprung").exists()


def test_a_run_that_tells_nothing_fails_with_words(visit: Visit, tmp_path: Path, computer: Computer) -> None:
    path = explored(tmp_path / "run")
    client = visit(path, computer=computer)
    client.post("/compute", data={"decision": json.dumps(["e0", "image-9"]), "back": "//evil.example"})
    job = finished(computer, path)
    assert job.state == "failed"
    assert "Traceback" not in job.message
    assert "could not be computed" in client.get("/gallery?region=object&sample=image-9").text


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"decision": "no json"}, 400),
        ({"decision": '["../../e0", "x"]'}, 404),
        ({"decision": '[1, "x"]'}, 400),
        ({"decision": '["e0"]'}, 400),
        ({"run": "b", "decision": '["e0", "x"]'}, 400),
        ({"decision": json.dumps(["e0", "x" * 100_000])}, 400),
    ],
)
def test_what_is_sent_wrongly_computes_nothing(
    visit: Visit, explored_run: Path, computer: Computer, form: dict[str, str], status: int
) -> None:
    assert visit(explored_run, computer=computer).post("/compute", data=form).status_code == status
    assert computer.jobs(explored_run) == []


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"])
def test_the_way_back_stays_here(visit: Visit, explored_run: Path, back: str) -> None:
    answer = visit(explored_run).post("/compute", data={"back": back}, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_what_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: real(sleeping, **more))
    computer = Computer(timeout=0.3)
    computer.ask(tmp_path, "e0", ["x"])
    assert finished(computer, tmp_path, 20).message == "it took longer than 0.3 s"
    computer.close()


def test_so_many_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computer: Computer) -> None:
    monkeypatch.setattr(Computer, "_computed", lambda *_: time.sleep(0.2) or "")
    with pytest.raises(UsageError, match=f"at most {MOST_AT_ONCE}"):
        computer.ask(tmp_path, "e0", ["x"] * (MOST_AT_ONCE + 1))

    def ask_often() -> None:
        for _ in range(40):
            computer.ask(tmp_path, "e0", ["x"])

    with pytest.raises(UsageError, match="ask again"):
        ask_often()


def test_the_process_fetches_nothing() -> None:
    code = (
        "import sys, socket; from explanation_alignment.explorer.compute import _stay_offline; "
        "sys.addaudithook(_stay_offline); socket.create_connection(('127.0.0.1', 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "the explorer fetches nothing" in done.stderr
    with pytest.raises(OSError, match="fetches nothing"):
        _stay_offline("socket.connect", (None, ("10.0.0.1", 80)))
    _stay_offline("socket.connect", (None, "/run/a-socket-of-this-machine"))
