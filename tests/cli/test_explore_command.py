"""``ealign explore``: what it prints, what it refuses, and that it ends when it is told to."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from command_line import Ealign
from explanation_alignment.explorer import serving
from model_runs import model_scores, write_models


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_models(tmp_path / "run", [model_scores("m", [True, False], [0.5, 0.1])])


def test_what_is_no_run_is_said(ealign: Ealign, tmp_path: Path, run: Path) -> None:
    done = ealign(f"explore {tmp_path / 'none'} --no-browser")
    assert (done.code, done.out) == (2, "")
    assert "run: no folder" in done.err
    assert "is not a run" in ealign(f"explore {run} {tmp_path} --no-browser").err


def test_a_port_in_use_is_said_and_the_next_is_taken_where_none_was_asked_for(
    ealign: Ealign, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = ealign(f"explore {run} --no-browser --port {port}")
        assert done.code == 1
        assert f"port {port} is in use" in done.err
        monkeypatch.setattr(serving, "_PORT", port)
        with serving._listen("127.0.0.1", None) as listening:
            assert listening.getsockname()[1] > port


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("--port 70000", 2, "expected a number from 1 to 65535"),
        ("--host 203.0.113.7", 1, "cannot listen on 203.0.113.7"),
        ("--host no.such.name.invalid", 1, "cannot listen on"),
    ],
)
def test_what_cannot_be_listened_on(ealign: Ealign, run: Path, options: str, code: int, words: str) -> None:
    done = ealign(f"explore {run} --no-browser {options}")
    assert done.code == code
    assert words in done.err


def test_a_missing_extra_is_named(ealign: Ealign, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = ealign(f"explore {run} --no-browser")
    assert done.code == 1
    assert "pip install 'explanation-alignment[explorer]'" in done.err


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_interrupted(run: Path, ending: signal.Signals) -> None:
    command = [sys.executable, "-m", "explanation_alignment", "explore", str(run), "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        address = server.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert "default-src 'self'" in answer.headers["content-security-policy"]
            assert b"Leaderboard" in answer.read()
        other = urllib.request.Request(address, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="421") as refused:
            urllib.request.urlopen(other, timeout=60)
        refused.value.close()
    finally:
        server.send_signal(ending)
        out, err = server.communicate(timeout=30)
    assert server.returncode == 0
    assert out == ""
    assert err.strip() == "Ctrl-C ends it"
