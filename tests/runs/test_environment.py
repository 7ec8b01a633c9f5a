"""What a run records of the process that made it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from small_shards import evaluated

import explanation_alignment as ea

_SAY = "from explanation_alignment.runs.environment import command_line; print(command_line())"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "study").mkdir()
    for name in ("my_study.py", "ealign", "study/__main__.py", "study/__init__.py", "study/one.py"):
        (folder / name).write_text("" if name.endswith("__init__.py") else _SAY)
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["my_study.py", "--out", "a b"], "python my_study.py --out 'a b'"),
        (["ealign", "evaluate", "--n", "3"], "ealign evaluate --n 3"),  # as an installed command is started
        (["-m", "study", "--n", "3"], "python -m study --n 3"),
        (["-m", "study.one"], "python -m study.one"),
    ],
)
def test_the_command_is_recorded_as_a_shell_takes_it(here: Path, words: list[str], told: str) -> None:
    done = subprocess.run([sys.executable, *words], cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told
    assert shlex.split(told)[-1] == words[-1]


def test_this_package_run_as_a_module_is_its_command(tmp_path: Path) -> None:
    parts = [str(evaluated(tmp_path / f"part{number}", shard=f"{number}/2").path) for number in (1, 2)]
    words = ["merge", *parts, "--out", str(tmp_path / "all")]
    subprocess.run([sys.executable, "-m", "explanation_alignment", *words], capture_output=True, check=True)
    assert ea.open_run(tmp_path / "all").info["command"] == shlex.join(["ealign", *words])
