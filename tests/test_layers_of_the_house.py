"""Which parts of the package may know which: what reads a run's tables needs no torch."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import explanation_alignment
from explanation_alignment import errors, explorer, reporting, runs, specs, statistics

TABLES = [statistics, reporting, explorer, runs]


@pytest.mark.parametrize("package", TABLES, ids=lambda package: package.__name__.split(".")[-1])
def test_what_reads_tables_imports_no_torch(package: object) -> None:
    path, name = package.__path__, package.__name__  # type: ignore[attr-defined]
    modules = [module.name for module in pkgutil.walk_packages(path, f"{name}.")]
    assert len(modules) > 3
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", [explanation_alignment, errors, specs], ids=lambda module: module.__name__)
def test_what_every_command_needs_imports_neither_torch_nor_polars(module: object) -> None:
    code = f"import sys, {module.__name__}; sys.exit(bool({{'torch', 'polars'}} & set(sys.modules)))"  # type: ignore[attr-defined]
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
