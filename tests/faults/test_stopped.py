"""Commands that are asked to stop: they finish their batch, leave nothing half done, and go on later."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from pathlib import Path

import pytest
from fault_children import commanded, started

import explanation_alignment as ea


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    path = tmp_path / "data.py"
    path.write_text(
        textwrap.dedent(
            """
            from pathlib import Path
            from fault_children import Slow

            class Told(Slow):
                pause = 0.02

                def __getitem__(self, index):
                    Path(__file__).with_name("reading").touch()
                    return super().__getitem__(index)

            def data():
                return Told(96)
            """
        )
    )
    (tmp_path / "net.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import replace
            import explanation_alignment as ea
            from toys import small_classifier

            def build():
                classifier = small_classifier()  # with a crop no image is looked at before the first batch
                classifier.preprocessing = replace(classifier.preprocessing, geometry=ea.Geometry(crop=(12, 12)))
                return classifier
            """
        )
    )
    return path


def arguments(folder: Path, out: str) -> list[str]:
    dataset, model = f"file:{folder / 'data.py'}:data", f"file:{folder / 'net.py'}:build"
    return ["evaluate", "--model", model, "--dataset", dataset, "--out", str(folder / out), "--batch-size", "4"]


def wait_for_a_batch(folder: Path) -> None:
    """Until an image is read: not between two units, where a command stops at once."""
    deadline = time.monotonic() + 900
    (folder / "reading").unlink(missing_ok=True)
    while not (folder / "reading").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_command_that_is_asked_to_stop_ends_its_batch_and_says_how_to_go_on(
    data_file: Path, number: int, code: int
) -> None:
    folder, words = data_file.parent, data_file.parent / "words"
    child = started(commanded, arguments(folder, "run"), str(words))
    deadline = time.monotonic() + 900
    while len(list(folder.glob("run/scores/*/unit-*.parquet"))) < 2:
        assert time.monotonic() < deadline, words.read_text()
        assert child.is_alive(), words.read_text()
        time.sleep(0.01)
    wait_for_a_batch(folder)
    os.kill(child.pid, number)
    child.join(900)
    said = words.read_text()
    assert child.exitcode == code, said
    assert "stopping at the end of this batch" in said
    assert "the same command again goes on from there" in said
    assert "Traceback" not in said
    stopped = ea.open_run(folder / "run")
    assert stopped.unfinished
    assert 0 < stopped.scores().height < 96 * 4
    assert not [path for path in (folder / "run").rglob("*") if path.suffix in (".tmp", ".lease")]
    for out in ("run", "whole"):
        again = started(commanded, arguments(folder, out), str(words))
        again.join(900)
        assert again.exitcode == 0, words.read_text()
    resumed, whole = (next((folder / out).glob("scores/*/*.parquet")).read_bytes() for out in ("run", "whole"))
    assert resumed == whole


def test_a_second_signal_stops_at_once(data_file: Path) -> None:
    folder, words = data_file.parent, data_file.parent / "words"
    (folder / "data.py").write_text(data_file.read_text().replace("0.02", "90"))
    child = started(commanded, arguments(folder, "run"), str(words))
    wait_for_a_batch(folder)
    began = time.monotonic()
    os.kill(child.pid, signal.SIGINT)
    time.sleep(0.5)
    assert child.is_alive()
    os.kill(child.pid, signal.SIGINT)
    child.join(900)
    assert child.exitcode == 130
    assert time.monotonic() - began < 300  # a batch is four images of ninety seconds
    assert not list(folder.glob("run/.work/*/*.lease"))
