"""The notebooks: what is kept of them is whole and small, and each runs from top to bottom, at a small size."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from documents import NOTEBOOKS, ROOT, blocks, page_id

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")

#: What is put behind a notebook's cell of parameters: small numbers, the same way through.
SMALL_FACES = """
from dataclasses import replace
from explanation_alignment.experiments.celeba.protocol import TOY
from explanation_alignment.experiments.celeba.regions_protocol import REGIONS_TOY

SEEDS = (0,)
TRAINING = replace(TOY, resize=36, crop=32, epochs=1, batch_size=16)
TRAINING = replace(TRAINING, train_per_group=12, test_per_group=6, hair_per_group=2)
"""
SMALL_MODELS = """
from explanation_alignment.experiments.imagenet import toy_models
from explanation_alignment.experiments.training import Recipe

toy_models.TOY_MODELS = tuple(f"timm:test_{name}" for name in ("efficientnet", "convnext", "resnet", "vit"))
toy_models.RECIPE = Recipe(1, 12, "adamw", 2e-3)
toy_models._TRAINING_IMAGES, toy_models._TEST_IMAGES, toy_models._CIFAR_IMAGES = 24, 26, 200
"""
SMALL = {
    "mnist_spurious_experiment": """
from explanation_alignment.experiments.mnist.protocol import Protocol
PROTOCOL = Protocol(epochs=1, permutations=1)
""",
    "celeba_bias_experiment": SMALL_FACES + "PROTOCOL = TRAINING\n",
    "celeba_mask_feature_ranking": SMALL_FACES + "PROTOCOL = replace(REGIONS_TOY, test_per_group=3)\n",
    "cifar100_transfer_learning": SMALL_MODELS + "DRAWS = 2\n",
    "imagenet_model_comparison": SMALL_MODELS,
}


def cells(notebook: Path) -> list[dict[str, Any]]:
    return list(json.loads(notebook.read_text(encoding="utf-8"))["cells"])


def code(notebook: Path) -> list[dict[str, Any]]:
    return [cell for cell in cells(notebook) if cell["cell_type"] == "code"]


def test_the_five_are_there_under_their_names() -> None:
    assert sorted(SMALL) == sorted(notebook.stem for notebook in NOTEBOOKS)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=page_id)
def test_what_is_kept_was_run_in_order_without_an_error(notebook: Path) -> None:
    assert [cell["execution_count"] for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    for cell in code(notebook):
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
    pictures = [
        output for cell in code(notebook) for output in cell["outputs"] if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 2


def test_what_is_kept_is_small_and_of_no_machine() -> None:
    assert sum(notebook.stat().st_size for notebook in NOTEBOOKS) < 2_000_000
    for notebook in NOTEBOOKS:
        text = notebook.read_text(encoding="utf-8")
        for trace in ("/work/", "/home/", "/root/", "/tmp/", "site-packages"):
            assert trace not in text, (notebook.name, trace)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=page_id)
def test_it_says_what_to_conclude_and_what_not(notebook: Path) -> None:
    words = "\n".join("".join(cell["source"]) for cell in cells(notebook) if cell["cell_type"] == "markdown")
    assert words.startswith("# ")
    assert "## What to conclude, and what not" in words
    assert "**Not**" in words


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=page_id)
def test_one_path_at_the_top_sets_real_data(notebook: Path) -> None:
    [parameters] = [cell for cell in code(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert parameters == code(notebook)[0]
    tree = ast.parse("".join(parameters["source"]))
    names = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    folders = [value for name, value in names.items() if name.endswith("_DIR")]
    assert folders
    assert all(isinstance(value, ast.Constant) and value.value is None for value in folders)


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(notebook, marks=[] if notebook.stem == "mnist_spurious_experiment" else pytest.mark.slow)
        for notebook in NOTEBOOKS
    ],
    ids=page_id,
)
def test_it_runs_from_top_to_bottom(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    found = nbformat.read(notebook, 4)
    place = next(i for i, cell in enumerate(found.cells) if "parameters" in cell.metadata.get("tags", []))
    found.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALL[notebook.stem]))
    patient = {"timeout": 1800, "startup_timeout": 600}  # seconds a cell, and for the kernel: machines may be busy
    nbclient.NotebookClient(found, **patient, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        kind
        for cell in found.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for kind in output.get("data", {})
    ]
    assert shown.count("image/png") >= 2
    assert len(list((tmp_path / "runs").glob("*/report.html"))) == 1
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=page_id)
def test_it_is_thin(notebook: Path) -> None:
    """A notebook calls the library; what is worth more than a few lines belongs there."""
    lengths = [len(block.text.splitlines()) for block in blocks(notebook, "python")]
    assert max(lengths) <= 45
    assert sum(lengths) <= 120
