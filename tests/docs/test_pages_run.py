"""What README and docs say to run is run: their Python and their commands, a page at a time and in its order.

A line or a block that says ``# needs: ...`` is read in tests/test_docs.py and not run here.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from pathlib import Path

import pytest
from workspace import make_masters, provide

from documents import PAGES, Block, all_commands, blocks, commands, example_of, page_id
from explanation_alignment.cli.app import main

#: Commands that go on until they are stopped; their own tests start and stop them.
ENDLESS = {"explore"}
#: Commands whose exit code 1 is an answer: a claim that does not hold, a run that became worse, a model that failed.
ANSWERS = {"assert", "compare", "datasets check", "verify"}
#: Examples of --help that take real data or minutes; their commands are run at a small size in the tests named.
ELSEWHERE = {
    "demo": "tests/packaging, in a fresh environment",
    "experiment mnist": "tests/cli/test_commands.py",
    "experiment imagenet": "tests/cli/test_experiments_over_models.py",
    "experiment cifar100-transfer": "tests/cli/test_experiments_over_models.py",
    "experiment celeba-bias": "tests/cli/test_celeba_bias_command.py",
    "experiment celeba-regions": "tests/cli/test_celeba_regions_command.py",
    "datasets toy": "two thousand faces; tests/contract/test_datasets.py writes fewer",
}


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masters")
    make_masters(folder)
    return folder


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EALIGN_CACHE_DIR", str(tmp_path / ".cache"))
    return tmp_path


def call(words: list[str], masters: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Run ``ealign`` with these words; what it reads is there."""
    provide(words, masters)
    monkeypatch.setattr(sys, "argv", ["ealign", *words])
    code = 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than this machine has
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    err = capsys.readouterr().err
    named = " ".join(words)
    allowed = {0, 1} if any(named.startswith(answer) for answer in ANSWERS) else {0}
    assert code in allowed, f"ealign {shlex.join(words)}\n{err}\n(if it needs data, say so behind it: # needs: WHAT)"
    assert code == 0 or "error:" not in err, f"ealign {shlex.join(words)}\n{err}"


def runnable(page: Path) -> list[Block]:
    return [block for block in blocks(page, "python", "sh") if block.needs is None]


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=page_id)
def test_page_runs(
    page: Path, desk: Path, masters: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {"__name__": "page"}
    for block in runnable(page):
        if block.language == "python":
            exec(compile(block.text, page_id(page), "exec"), names)
            continue
        for command in commands(block):
            program = Path(command.words[0]).name
            if command.needs is None and program == "ealign" and command.words[1] not in ENDLESS | {"demo"}:
                call(command.words[1:], masters, monkeypatch, capsys)


@pytest.mark.parametrize(
    "words", [words for words, _ in all_commands() if " ".join(words) not in ELSEWHERE and words[0] not in ENDLESS],
    ids=" ".join,
)  # fmt: skip
def test_example_of_the_help_runs(
    words: list[str], desk: Path, masters: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = example_of({" ".join(path): command for path, command in all_commands()}[" ".join(words)])
    assert example is not None
    call(shlex.split(example), masters, monkeypatch, capsys)
