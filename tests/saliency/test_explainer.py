"""Several methods at once: shared pass, nulls without a model, a common grid."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import explanation_alignment as ea
from explanation_alignment.saliency.base import METHODS, MethodRequest
from explanation_alignment.saliency.baselines import center_maps, random_maps, sobel_maps
from explanation_alignment.saliency.explainer import Explainer, average_over_grid
from explanation_alignment.saliency.single_pass import SinglePass
from toys import Patches, small_classifier


def requests(*texts: str) -> list[MethodRequest]:
    return [MethodRequest.parse(text) for text in texts]


def test_maps_come_in_the_order_asked_for_and_are_those_of_their_sources() -> None:
    classifier, images = small_classifier(), torch.rand((3, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    ids, labels = ["a", "b", "c"], torch.zeros(3, dtype=torch.int64)
    asked = requests("random(seed=4)", "gradcam", "center", "vanilla_gradients", "sobel")
    with Explainer(classifier, asked) as explainer:
        maps = explainer(images, labels, ids).maps
        assert torch.equal(explainer.predict(images), classifier.module(images).argmax(1))
    with SinglePass(classifier, requests("gradcam", "vanilla_gradients")) as both:
        cam, gradients = both(images, labels).maps
    expected = [random_maps(ids, 12, 12, 4), cam, center_maps(3, 12, 12), gradients, sobel_maps(images)]
    for one, other in zip(maps, expected, strict=True):
        assert torch.equal(one, other)


def test_a_grid_averages_cells_and_leaves_the_mean() -> None:
    maps = torch.arange(2 * 12 * 12, dtype=torch.float32).view(2, 12, 12)
    cells = maps.view(2, 3, 4, 2, 6).mean(dim=(2, 4))
    result = average_over_grid(maps, (3, 2))
    assert result.shape == maps.shape
    assert torch.allclose(result[:, 0, 0], cells[:, 0, 0])  # beyond the first centre nothing is interpolated
    assert torch.allclose(result[:, -1, -1], cells[:, -1, -1])
    between = (cells[:, 0] + cells[:, 1]) / 2  # rows 3 and 4 lie around the border of the first two cells
    assert torch.allclose((result[:, 3] + result[:, 4])[:, 0] / 2, between[:, 0])


def test_a_grid_is_part_of_the_method_and_two_grids_live_in_one_run(tmp_path: Path) -> None:
    run = ea.evaluate(
        small_classifier(),
        Patches(),
        ["vanilla_gradients", "vanilla_gradients(grid=3x3)", "vanilla_gradients(grid=4x3)", "gradcam(grid=3)"],
        tmp_path / "run",
        progress=False,
    )
    assert sorted(run.scores()["method"].unique().to_list()) == [
        "gradcam(grid=3)",
        "vanilla_gradients",
        "vanilla_gradients(grid=3)",
        "vanilla_gradients(grid=4x3)",
    ]


@pytest.mark.parametrize("grid", ["0", "1", "3x", "x3", "2x2x2", "a", "-3"])
def test_no_grid(grid: str) -> None:
    with pytest.raises(ea.ExplanationAlignmentError, match="grid: expected N or HxW"):
        MethodRequest.parse(f"sobel(grid={grid})")


def test_a_grid_finer_than_the_map_is_refused() -> None:
    with pytest.raises(ea.ExplanationAlignmentError, match="finer than the 12 x 12 pixels"):
        Explainer(small_classifier(), requests("gradcam(grid=13)"))


def test_the_nulls_go_through_the_same_loop_and_score_chance(tmp_path: Path) -> None:
    run = ea.evaluate(small_classifier(), Patches(200), ["random", "center", "sobel"], tmp_path / "run", progress=False)
    rows = run.scores()
    patch = rows.filter(pl.col("region") == "patch")
    random = patch.filter(pl.col("method") == "random")
    summary = run.summary().filter(pl.col("method") == "random", pl.col("region") == "patch")
    for metric, ea_value, chance in summary.select("metric", "ea", "chance").iter_rows():
        spread = float(np.std(random[metric].to_numpy()) / np.sqrt(random.height))
        assert abs(ea_value - chance) < 4 * spread, metric
    center = patch.filter(pl.col("method") == "center")
    assert (center["iou_coverage"] - center["center_iou"]).abs().max() == 0  # `area` binarization: the very same pixels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("random(seed=-1)", "whole number"),
        ("random(seed=x)", "whole number"),
        ("center(seed=1)", "unknown argument of saliency method center 'seed'"),
    ],
)
def test_arguments_of_the_nulls(text: str, message: str) -> None:
    with pytest.raises(ea.ExplanationAlignmentError, match=message):
        MethodRequest.parse(text)


def test_the_chunk_is_no_part_of_the_question(tmp_path: Path) -> None:
    methods = ["smoothgrad(samples=3)", "occlusion(window=4)"]
    first = ea.evaluate(small_classifier(), Patches(9), methods, tmp_path / "run", chunk=2, progress=False).scores()
    again = ea.evaluate(small_classifier(), Patches(9), methods, tmp_path / "run", chunk=50, progress=False)
    assert again.scores().equals(first)
    fresh = ea.evaluate(small_classifier(), Patches(9), methods, tmp_path / "other", chunk=50, progress=False).scores()
    close = (fresh["iou_coverage"] - first["iou_coverage"]).abs() < 0.05  # rounding may move a pixel
    assert close.fill_null(True).all()
    with pytest.raises(ea.ExplanationAlignmentError, match="chunk: expected at least 1"):
        ea.evaluate(small_classifier(), Patches(9), methods, tmp_path / "run", chunk=0, progress=False)


def test_every_shared_method_takes_one_forward_and_one_backward_together() -> None:
    classifier, images = small_classifier(), torch.rand((3, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    names = [name for name, entry in METHODS.items() if entry.kind == "shared"]
    assert len(names) == 8
    calls = {"forward": 0, "backward": 0}

    def count(key: str) -> None:
        calls[key] += 1

    with Explainer(classifier, requests(*names)) as explainer:
        first = classifier.module[0]
        handles = [
            first.register_forward_hook(lambda *_: count("forward")),
            first.register_full_backward_hook(lambda *_: count("backward")),
        ]
        explainer(images, torch.zeros(3, dtype=torch.int64), ["a", "b", "c"])
        for handle in handles:
            handle.remove()
    assert calls == {"forward": 1, "backward": 1}
    assert set(explainer.layers) == {*names} - {"vanilla_gradients", "input_x_gradient"}


def test_layers_of_methods_with_passes_of_their_own_are_known() -> None:
    with Explainer(small_classifier(), requests("scorecam(layer=1)", "smoothgrad", "scorecam")) as explainer:
        assert {name: layer.name for name, layer in explainer.layers.items()} == {
            "scorecam(layer=1)": "1",
            "scorecam": "3",
        }


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("attention_rollout", {}, "has no attention"),
        ("guided_gradcam", {}, "has no ReLU"),
        ("deeplift", {"output": "log_prob"}, "deeplift explains logits"),
        ("occlusion(window=13)", {}, "a window within 12 x 12 pixels"),
        ("lime(segments=grid:13)", {}, "finer than the 12 x 12 pixels"),
        ("gradcam(layer=absent)", {}, "does not exist"),
    ],
)
def test_what_cannot_serve_is_refused_before_a_run_begins(
    method: str, settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    classifier = small_classifier()
    with pytest.raises(ea.ExplanationAlignmentError, match=message):
        ea.evaluate(classifier, Patches(4), [method], tmp_path / "run", progress=False, **settings)
    assert not (tmp_path / "run").exists()
    assert all(parameter.requires_grad for parameter in classifier.module.parameters())


def test_without_the_extra_xrai_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "saliency.core", None)
    with pytest.raises(ea.ExplanationAlignmentError, match=r"xrai needs .*explanation-alignment\[xrai\]"):
        Explainer(small_classifier(), requests("xrai")).__enter__()
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ea.ExplanationAlignmentError, match=r"slic:9 needs .*explanation-alignment\[xrai\]"):
        Explainer(small_classifier(), requests("lime(segments=slic:9)")).__enter__()
