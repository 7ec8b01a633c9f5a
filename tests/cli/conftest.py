"""``ealign`` called within the test's own process."""

from __future__ import annotations

import shlex
import sys

import pytest

from command_line import Done, Ealign
from explanation_alignment.cli.app import main


@pytest.fixture
def ealign(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ealign:
    def call(line: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["ealign", *shlex.split(line)])
        monkeypatch.delenv("EALIGN_DEBUG", raising=False)
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *capsys.readouterr())

    return call
