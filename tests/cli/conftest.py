"""``ealign`` called within the test's own process."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from command_line import Done, Ealign
from explanation_alignment.cli.app import main


@pytest.fixture
def ealign(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ealign:
    def call(line: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["ealign", *shlex.split(line)])
        monkeypatch.setenv("EALIGN_DEBUG", "")  # --debug sets it; gone with the test
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Twelve patches, as a dataset from a file."""
    file = tmp_path / "data.py"
    file.write_text("from toys import Patches\n\n\ndef build():\n    return Patches(12)\n")
    return f"file:{file}:build"
