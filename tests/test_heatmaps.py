"""Real-valued human attention from the sample to the score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats
import torch
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.batches import iterate_batches
from explanation_alignment.geometry import Geometry
from explanation_alignment.saliency.baselines import sobel_maps
from toys import Patches, small_classifier

METRICS = ["heatmap_spearman", "heatmap_pearson", "heatmap_kl", "heatmap_similarity", "heatmap_nss"]


class Attended(Patches):
    """The patch as attention that fades from its first pixel; every fifth has none at all, every seventh a mask."""

    name = "attended"

    def __getitem__(self, index: int) -> ea.Sample:
        sample = super().__getitem__(index)
        mask = sample.annotations["patch"]
        assert isinstance(mask, ea.Mask)
        fading = mask.pixels * np.linspace(1, 0.25, 144, dtype=np.float32).reshape(12, 12)
        strength = np.zeros((12, 12), np.float32) if index % 5 == 4 else fading.astype(np.float32)
        patch = mask if index % 7 == 6 else ea.Heatmap(strength)
        return ea.Sample(
            sample.id, sample.image, sample.label, {**sample.annotations, "patch": patch}, sample.attributes
        )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, 1], [2, 4]], [[False, False], [True, True]]),
        ([[0, 0], [0, 0]], [[False, False], [False, False]]),
        ([[3, 3], [3, 3]], [[True, True], [True, True]]),
    ],
)
def test_a_heatmaps_mask_is_what_reaches_half_of_its_maximum(
    values: list[list[float]], expected: list[list[bool]]
) -> None:
    assert ea.Heatmap(np.array(values, np.float32)).to_mask().tolist() == expected


@pytest.mark.parametrize(
    "strength",
    [
        np.zeros((2, 2)),
        np.zeros(4, np.float32),
        np.full((2, 2), np.nan, np.float32),
        np.full((2, 2), -1, np.float32),
        np.full((2, 2), np.inf, np.float32),
    ],
)
def test_a_heatmap_is_finite_and_not_negative(strength: np.ndarray) -> None:
    with pytest.raises(ea.ExplanationAlignmentError, match=r"Heatmap\.strength: expected"):
        ea.Heatmap(strength)


def test_the_geometry_keeps_attention_on_its_pixels() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (30, 40), dtype=np.uint8)
    geometry = Geometry(resize=20, crop=(16, 24), interpolation="bilinear")
    moved = geometry.heatmap(picture.astype(np.float32))
    expected = np.asarray(geometry.image(Image.fromarray(picture)), dtype=np.float32)
    assert moved.shape == (16, 24)
    assert moved.dtype == np.float32
    assert np.abs(moved - expected).max() <= 1  # bytes are rounded after each of the two directions
    padded = Geometry(resize=None, crop=(40, 40), fill=(124, 116, 104)).heatmap(np.ones((30, 40), np.float32))
    assert padded[:5].max() == 0
    assert padded[5:35].min() == 1


def test_batches_hold_attention_only_when_asked_for() -> None:
    dataset = Attended(8)
    preprocessing = small_classifier().preprocessing
    [plain] = iterate_batches(dataset, dataset.ids(), [range(8)], preprocessing)
    assert plain.strengths is None
    [batch] = iterate_batches(dataset, dataset.ids(), [range(8)], preprocessing, strengths=True)
    assert batch.strengths is not None
    assert batch.strengths.shape == (2, 8, 12, 12)
    first = dataset[0].annotations["patch"]
    assert isinstance(first, ea.Heatmap)
    assert np.array_equal(batch.strengths[0, 0].numpy(), first.strength)
    assert torch.equal(batch.strengths[0, 6].bool(), batch.annotations[0, 6])


def test_scores_of_attention_in_a_run(tmp_path: Path) -> None:
    dataset = Attended(30)
    run = ea.evaluate(
        small_classifier(), dataset, ["sobel"], tmp_path / "run", metrics=["iou_coverage", *METRICS], progress=False
    )
    rows = run.scores().filter(pl.col("region") == "patch")
    nothing = rows.filter(
        pl.col("sample_id").is_in([f"img/{place:03d}" for place in range(4, 30, 5) if place % 7 != 6])
    )
    assert set(nothing["status"]) == {"annotation_cropped"}
    ok = rows.filter(pl.col("status") == "ok")
    assert all(ok[name].null_count() == 0 for name in METRICS)
    [batch] = iterate_batches(dataset, dataset.ids(), [[0]], small_classifier().preprocessing, strengths=True)
    own = small_classifier().preprocessing.normalise(batch.images)
    saliency = sobel_maps(own)[0].numpy().ravel()
    assert batch.strengths is not None
    attention = batch.strengths[0, 0].numpy().ravel()
    first = ok.row(0, named=True)
    assert first["heatmap_spearman"] == pytest.approx(scipy.stats.spearmanr(saliency, attention).statistic, abs=1e-5)
    assert first["heatmap_pearson"] == pytest.approx(np.corrcoef(saliency, attention)[0, 1], abs=1e-5)
    summary = run.summary()
    assert set(summary["metric"]) == {"iou_coverage", *METRICS}
