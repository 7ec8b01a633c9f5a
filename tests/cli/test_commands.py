from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import typer.main

import explanation_alignment as ea
from command_line import Ealign
from explanation_alignment.cli.app import app

QUICK = "--digits --epochs 1 --permutations 1 --quiet"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "run"
    command = [sys.executable, "-m", "explanation_alignment", "experiment", "mnist", "--out", str(out), *QUICK.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Coloured MNIST (digits): vanilla_gradients" in done.stdout
    assert "report" in done.stdout
    return out


def test_help_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['ealign', '--help']\n"
        "from explanation_alignment.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'polars', 'matplotlib', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    fastest = 1e9
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        fastest = min(fastest, time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    for command in ("demo", "experiment", "evaluate", "show", "report", "methods", "metrics", "datasets"):
        assert command in done.stdout


def test_every_command_has_an_example_that_parses(ealign: Ealign) -> None:
    group = typer.main.get_command(app)
    commands = {name: command for name, command in group.commands.items() if name != "experiment"}
    for parent in ("experiment", "datasets"):
        commands |= {f"{parent} {name}": item for name, item in group.commands[parent].commands.items()}
    for name, command in commands.items():
        words = " ".join(f"{command.help} {command.epilog or ''}".split())
        example = re.search(r"Example: ealign (.+)$", words)
        assert example is not None, name
        assert example.group(1).startswith(name)
        arguments = shlex.split(example.group(1).removeprefix(name))
        command.make_context(name, arguments)  # raises for an option there is not
        assert ealign(f"{name} --help").code == 0


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("experiment mnist", 2, "--data-dir"),
        ("experiment mnist --digits --data-dir x", 2, "--data-dir"),
        ("experiment mnist --data-dir nowhere", 2, "no folder"),
        ("experiment mnist --digits --seed 0 --seeds 1,2", 2, "not both"),
        ("experiment mnist --digits --seeds 1,x", 2, "whole numbers"),
        ("experiment mnist --digits --epochs 0 --out {tmp}/run", 2, "epochs"),
        ("experiment mnist --digits --device tpu --out {tmp}/run", 2, "device"),
        ("experiment mnist --digits --out {tmp}/file", 1, "cannot use"),
        ("experiment minst", 2, "mnist"),
        ("show {tmp}", 2, "holds no run.json"),
        ("report {tmp}/nowhere", 2, "no folder"),
        ("evaluate --model papr:mnist --dataset colored_mnist --out {tmp}/run", 2, "paper"),
        ("evaluate --model paper:mnist --dataset colored_mnist --out {tmp}/run", 2, "random"),
        ("evaluate --model paper:mnist --weights random --dataset colored_minst --out {tmp}/run", 2, "colored_mnist"),
        (
            "evaluate --model paper:mnist --weights random --dataset colored_mnist --method gradcm --out {tmp}/run",
            2,
            "gradcam",
        ),
        (
            "evaluate --model paper:mnist --weights random --dataset colored_mnist --output p --out {tmp}/run",
            2,
            "log_prob",
        ),
    ],
)
def test_mistakes(ealign: Ealign, tmp_path: Path, line: str, code: int, words: str) -> None:
    (tmp_path / "file").write_text("precious")
    done = ealign(line.format(tmp=tmp_path))
    assert done.code == code, done
    assert words in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert done.out == ""
    assert (tmp_path / "file").read_text() == "precious"
    assert not (tmp_path / "run").exists()


def test_a_misspelt_metric_is_told_before_seconds_are_spent(tmp_path: Path) -> None:
    program = """
import sys
from explanation_alignment.cli.app import main

sys.argv = ["ealign", "evaluate", "--model", "m", "--dataset", "d", "--out", "o", "--metric", "iou_covrage"]
try:
    main()
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]
    assert "did you mean 'iou_coverage'" in done.stderr


def test_an_error_is_one_or_two_lines(ealign: Ealign, tmp_path: Path) -> None:
    assert ealign(f"show {tmp_path}").err.count("\n") <= 2


def test_debug_shows_the_traceback(ealign: Ealign, tmp_path: Path) -> None:
    with pytest.raises(ea.ExplanationAlignmentError):
        ealign(f"--debug show {tmp_path}")


def test_show_formats_hold_the_summary(ealign: Ealign, run: Path) -> None:
    summary = ea.open_run(run).summary()
    assert json.loads(ealign(f"show {run} --format json").out) == summary.to_dicts()
    csv = pl.read_csv(ealign(f"show {run} --format csv").out.encode(), schema=summary.schema)
    assert csv.equals(summary)
    markdown = ealign(f"show {run} --format markdown").out.strip().splitlines()
    assert len(markdown) == summary.height + 2
    latex = ealign(f"show {run} --format latex").out
    assert latex.count(r"\\") == summary.height + 1
    assert r"iou\_coverage" in latex


@pytest.mark.parametrize(
    "by", ["model", "method", "region", "dataset", "seed", "correct", "block_color", "attr_block_color"]
)
def test_show_tables_fit_a_hundred_columns(ealign: Ealign, run: Path, by: str) -> None:
    done = ealign(f"show {run} --by {by}")
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 100
    for value in ("uncorrelated", "vanilla_gradients", "block"):
        assert value in done.out
    some = ea.open_run(run).summary().filter(metric="iou_coverage").row(0, named=True)
    assert f"{some['ea']:.3f}".lstrip("0") in done.out


def test_show_provenance(ealign: Ealign, run: Path) -> None:
    info = json.loads(ealign(f"show {run} --provenance --format json").out)
    assert info["experiment"]["name"] == "mnist"
    assert info["command"].split()[1:3] == ["experiment", "mnist"]


def test_another_question_in_the_same_out_is_refused(ealign: Ealign, run: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*.parquet"))
    done = ealign(f"experiment mnist --digits --epochs 2 --permutations 1 --quiet --out {run}")
    assert done.code == 1
    assert "settings.epochs: 1 -> 2" in " ".join(done.err.split())
    done = ealign(
        f"evaluate --model paper:mnist --weights random --name correlated --dataset colored_mnist --out {run}"
    )
    assert done.code == 1
    assert sorted((path, path.stat().st_mtime_ns) for path in run.rglob("*.parquet")) == before


def test_evaluate_then_report(ealign: Ealign, tmp_path: Path) -> None:
    line = f"evaluate --model paper:mnist --weights random --dataset colored_mnist --sample 40 --out {tmp_path}/run"
    done = ealign(f"{line} --method vanilla_gradients --method 'gradcam(layer=last_conv)' --quiet")
    assert done.code == 0, done.err
    assert "gradcam(layer=last_conv)" in "".join(done.out.split())
    page = Path(ealign(f"report {tmp_path}/run").out.strip())
    assert page == tmp_path / "run/report.html"
    assert "gradcam(layer=last_conv)" in page.read_text()


@pytest.mark.parametrize(
    ("command", "names"), [("methods", "gradcam"), ("metrics", "pointing_game"), ("datasets", "colored_mnist")]
)
def test_listings(ealign: Ealign, command: str, names: str) -> None:
    done = ealign(command)
    assert done.code == 0
    assert names in done.out
