"""What every loop over units owes, whatever computes them: evaluations, maps from elsewhere, maps that a run kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fault_children import Deadly
from test_damaged import ERRORS, hungry

import explanation_alignment as ea
from explanation_alignment import stopping
from explanation_alignment.errors import RunError, RunWarning
from explanation_alignment.evaluation import running, units
from explanation_alignment.runs.sharing import share
from explanation_alignment.scoring import external_maps
from toys import Patches, small_classifier

UNIT = 8


@pytest.fixture(autouse=True)
def _units_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_SIZE", UNIT)
    monkeypatch.setattr(external_maps, "_UNIT_SIZE", UNIT)


class Interrupting(Patches):
    """Somebody presses Ctrl-C while the given image is read."""

    def __init__(self, at: int) -> None:
        super().__init__(24)
        self._at: int | None = at

    def __getitem__(self, index: int) -> ea.Sample:
        if index == self._at:
            self._at = None
            os.kill(os.getpid(), signal.SIGINT)
        return super().__getitem__(index)


Go = Callable[..., ea.Run]


def evaluating(data: Patches, folder: Path, **options: Any) -> ea.Run:
    return ea.evaluate(small_classifier(), data, out=folder / "run", batch_size=4, progress=False, **options)


def scoring(data: Patches, folder: Path, **options: Any) -> ea.Run:
    maps = {name: np.random.default_rng(at).random((12, 12)) for at, name in enumerate(data.ids())}
    return ea.score(maps, data, out=folder / "run", progress=False, **options)


def scoring_anew(data: Patches, folder: Path, **options: Any) -> ea.Run:
    kept = folder / "kept"
    if not kept.exists():
        whole = Patches(len(data))
        whole.fingerprint = data.fingerprint
        ea.evaluate(small_classifier(), whole, out=kept, save_maps="float32", progress=False)
    return ea.score(kept, data, out=folder / "run", progress=False, **options)


LOOPS = pytest.mark.parametrize("go", [evaluating, scoring, scoring_anew], ids=lambda go: go.__name__)


@LOOPS
def test_a_unit_whose_last_batch_was_under_way_is_written_before_a_command_stops(go: Go, tmp_path: Path) -> None:
    data = Interrupting(at=UNIT - 1)
    with pytest.raises(KeyboardInterrupt), stopping.signals_taken():
        go(data, tmp_path)
    assert [path.name for path in sorted((tmp_path / "run").glob("scores/*/*.parquet"))] == ["unit-000000.parquet"]
    assert not go(data, tmp_path).unfinished


def test_a_unit_is_given_up_between_its_batches(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), stopping.signals_taken():
        evaluating(Interrupting(at=UNIT + 1), tmp_path)
    assert len(list((tmp_path / "run").glob("scores/*/*.parquet"))) == 1


def test_maps_that_a_run_kept_are_given_up_between_batches_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explanation_alignment.scoring.kept_loop._BATCH_SIZE", 4)
    data = Interrupting(at=UNIT + 1)
    read: list[int] = []
    monkeypatch.setattr(Patches, "__getitem__", _counting(read, Patches.__getitem__))
    with pytest.raises(KeyboardInterrupt), stopping.signals_taken():
        scoring_anew(data, tmp_path)
    assert read[-1] == UNIT + 3
    assert len(list((tmp_path / "run").glob("scores/*/*.parquet"))) == 1


def _counting(read: list[int], original: Callable[..., ea.Sample]) -> Callable[..., ea.Sample]:
    def call(self: Patches, index: int) -> ea.Sample:
        read.append(index)
        return original(self, index)

    return call


@LOOPS
def test_what_was_refused_for_its_errors_is_refused_again(go: Go, tmp_path: Path) -> None:
    data = Patches(24, broken=[0, 8, 9])
    for _ in range(2):
        with pytest.raises(RunError, match=r"^3 samples .*could not be read \(limit 2\).*raise --max-errors"):
            go(data, tmp_path, max_errors=2)
    run = go(data, tmp_path, max_errors=3)
    assert not run.unfinished
    assert run.summary()["n"].max() == 21


@LOOPS
def test_a_unit_of_nothing_but_errors_is_not_kept_where_they_are_too_many(go: Go, tmp_path: Path) -> None:
    data = Patches(24, broken=range(8, 16))
    with pytest.raises(RunError, match=r"8 samples .*first: img/008"):
        go(data, tmp_path, max_errors=2)
    names = [path.name for path in sorted((tmp_path / "run").glob("scores/*/*.parquet"))]
    assert names == ["unit-000000.parquet"]


def test_a_process_that_reads_ahead_of_kept_maps_may_die(tmp_path: Path) -> None:
    with pytest.warns(RunWarning, match="a process that read ahead died, going on without"):
        there = scoring_anew(Deadly(), tmp_path / "a", workers=1)
    assert there.scores().equals(scoring_anew(Patches(), tmp_path / "b").scores())


def test_pictures_at_the_end_are_made_in_batches_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that has no unit left to do, and so has not met the limit itself."""

    def go(out: str) -> ea.Run:
        return ea.evaluate(
            hungry(2, ERRORS[0]), Patches(), ["vanilla_gradients"], tmp_path / out, batch_size=8, progress=False
        )

    def killed(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(running, "end_evaluation", killed)
    with pytest.warns(RunWarning, match=r"going on with (4|2) "), pytest.raises(SystemExit):
        go("killed")
    monkeypatch.undo()
    monkeypatch.setattr(units, "UNIT_SIZE", UNIT)
    with pytest.warns(RunWarning, match=r"going on with (4|2) "):
        resumed = go("killed")
    with pytest.warns(RunWarning, match=r"going on with (4|2) "):
        whole = go("whole")
    assert not resumed.unfinished
    assert resumed.examples().equals(whole.examples())


def test_maps_that_a_killed_process_left_half_written_go_at_the_end(tmp_path: Path) -> None:
    run = evaluating(Patches(), tmp_path, save_maps="uint8")
    (folder,) = run.path.glob("maps/*")
    there = {path.name for path in folder.iterdir()}
    (folder / ".unit-000001.parquet.4711-beef.tmp").write_bytes(b"half")
    evaluating(Patches(), tmp_path, save_maps="uint8")
    assert {path.name for path in folder.iterdir()} == there


def test_what_others_have_seen_to_meanwhile_is_not_claimed_anyway() -> None:
    lacking, claimed = {0, 1}, list[tuple[int, bool]]()

    def claim(unit: int, _owed: object, *, anyway: bool) -> object:
        claimed.append((unit, anyway))
        return nullcontext() if anyway else None

    def compute(_unit: int) -> None:
        lacking.clear()  # this one, and another process the other

    evaluation: Any = SimpleNamespace(claim=claim, missing=lambda _owed: [])
    share(evaluation, {0: 1, 1: 1}, [0, 1], compute, also=lambda: set(lacking))
    assert claimed == [(0, True), (1, False)]


@pytest.mark.parametrize(
    "call",
    [
        "ea.score({name: np.eye(12) for name in data.ids()}, data, out=out, workers=1, progress=False)",
        "ea.evaluate(small_classifier(), data, ['vanilla_gradients'], out, batch_size=1, workers=1, progress=False)",
    ],
    ids=["score", "evaluate"],
)
def test_reading_ahead_holds_no_file_open_for_a_sample(call: str, tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import resource
        import numpy as np
        import explanation_alignment as ea
        from toys import Patches, small_classifier
        data, out = Patches(260), {str(tmp_path / "run")!r}
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        {call}
        """
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_nested_gentle_work_stops_at_the_end_of_the_outermost() -> None:
    seen = list[str]()

    def work() -> None:
        with stopping.signals_taken(), stopping.gently():
            with stopping.gently():
                os.kill(os.getpid(), signal.SIGINT)
            seen.append("after the inner one")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen
