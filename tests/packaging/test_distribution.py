"""What is built to be installed: content of wheel and source archive, extras, versions; a fresh environment (slow)."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import explanation_alignment
from documents import ROOT

pytest.importorskip("hatchling", reason="hatchling is not installed")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = f"explanation_alignment-{PROJECT['version']}"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t", "wheel", "-t", "sdist"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def wheel_of(dist: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(dist / f"{NAME}-py3-none-any.whl")


def test_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    names = set(wheel_of(dist).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"explanation_alignment", f"{NAME}.dist-info"}
    source = ROOT / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "explanation_alignment").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("explanation_alignment/")} == files
    assert "explanation_alignment/py.typed" in names
    assert not [name for name in names if "test" in Path(name).name or name.endswith((".parquet", ".png", ".gz"))]


@pytest.mark.parametrize("name", [f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz"])
def test_what_is_built_is_small(dist: Path, name: str) -> None:
    assert (dist / name).stat().st_size < 2_000_000


def test_source_archive_holds_what_a_change_needs(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for path in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "mkdocs.yml",
    ):
        assert path in names
    for folder in ("src", "tests", "docs", "examples", "notebooks", "benchmarks", "simulations"):
        assert any(name.startswith(f"{folder}/") for name in names), folder


def test_metadata(dist: Path) -> None:
    wheel = wheel_of(dist)
    metadata = email.message_from_bytes(wheel.read(f"{NAME}.dist-info/METADATA"))
    assert metadata["Version"] == explanation_alignment.__version__ == PROJECT["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert wheel.read(f"{NAME}.dist-info/entry_points.txt").decode().split() == [
        "[console_scripts]", "ealign", "=", "explanation_alignment.cli:main",
    ]  # fmt: skip


def test_extras_named_in_errors_and_docs_are_there() -> None:
    text = "".join(
        path.read_text(encoding="utf-8")
        for folder, kind in (("src", "*.py"), ("docs", "*.md"))
        for path in (ROOT / folder).rglob(kind)
    )
    named = {name for group in re.findall(r"explanation-alignment\[([\w,-]+)\]", text) for name in group.split(",")}
    assert named
    assert named <= set(PROJECT["optional-dependencies"])


def test_requirements_have_a_lower_bound_and_do_not_contradict() -> None:
    lowest: dict[str, set[str]] = {}
    for line in [
        *PROJECT["dependencies"],
        *(one for extra in PROJECT["optional-dependencies"].values() for one in extra),
    ]:
        requirement = Requirement(line)
        assert any(bound.operator in (">=", "==") for bound in requirement.specifier) or not requirement.specifier, line
        lowest.setdefault(requirement.name, set()).add(str(requirement.specifier))
    several = {name: bounds for name, bounds in lowest.items() if len(bounds) > 1}
    assert not several, several


def test_citation_names_this_version_and_the_study() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == explanation_alignment.__version__
    assert citation["license"] == PROJECT["license"]
    study = citation["references"][0]
    assert study["title"] in (ROOT / "README.md").read_text().replace("\n", " ")
    assert [author["family-names"] for author in study["authors"]] == ["Bang", "Boggust", "Satyanarayan"]


@pytest.mark.slow
def test_wheel_in_a_fresh_environment_runs_the_demo(dist: Path, tmp_path: Path) -> None:
    """Downloads what the package needs: takes minutes, and the package registry."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    wheel = next(dist.glob("*.whl"))

    def run(*command: object) -> str:
        done = subprocess.run(
            [str(word) for word in command], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    run(python, "-m", "pip", "install", "--quiet", wheel)
    told = run(tmp_path / "env" / "bin" / "ealign", "demo", "--quiet")
    assert "report" in told
    assert (tmp_path / "ealign-demo" / "report.html").is_file()
    extras = ",".join(PROJECT["optional-dependencies"])
    run(python, "-m", "pip", "install", "--quiet", "--dry-run", f"{wheel}[{extras}]")  # they resolve together
