"""``ealign sanity``: the curve, the verdict, the figure, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import Ealign


@pytest.fixture
def model(tmp_path: Path) -> str:
    file = tmp_path / "model.py"
    file.write_text("from toys import small_classifier\n\n\ndef build():\n    return small_classifier()\n")
    return f"file:{file}:build"


def test_curve_verdict_and_figure(ealign: Ealign, model: str, data: str, tmp_path: Path) -> None:
    figure = tmp_path / "out" / "curve.png"
    methods = "--method sobel --method vanilla_gradients"
    done = ealign(f"sanity --model {model} {methods} --dataset {data} --sample 4 --figure {figure}")
    assert done.code == 0, done.err
    assert "sobel: its maps stay as they are" in done.out
    assert "vanilla_gradients: its maps depend on the model" in done.out
    assert "+1.00" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    with Image.open(figure) as picture:
        assert picture.size[0] > 500
    assert str(figure) in done.err


def test_images_from_files_and_json(
    ealign: Ealign, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)
    done = ealign(f"sanity --model {model} --method gradcam --image a.png --image b.png --steps 2 --format json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert [row["layers_randomised"] for row in rows] == [0, 2, 3]
    assert Path("sanity.png").is_file()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("", 2, "give --image or --dataset"),
        ("--image x.png --dataset y", 2, "give --image or --dataset"),
        ("--image absent.png", 1, "absent.png: not a readable image"),
        ("--image x.png --figure curve.pdf", 2, "expected a .png file"),
        ("--image large.png", 1, "comes out 20 x 20, the model takes 12 x 12"),
        ("--image small.png --method grad_cam", 2, "did you mean 'gradcam'"),
        ("--image small.png --method attention_rollout", 1, "has no attention"),
    ],
)
def test_wrong_use(
    options: str, code: int, words: str, ealign: Ealign, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, side in (("small.png", 12), ("large.png", 20)):
        Image.new("RGB", (side, side)).save(name)
    done = ealign(f"sanity --model {model} {options}")
    assert done.code == code
    assert words in done.err
    assert "Traceback" not in done.err
