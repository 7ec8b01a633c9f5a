"""Number for number with Quantus 0.5.3, where it has the metric: maps >= 0 without ties, its only clean ground."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from explanation_alignment.metrics import functional

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its imports say about others is not ours to judge
        import quantus
except ImportError:
    pytest.skip("Quantus 0.5.3 is not installed", allow_module_level=True)

SIZES = [(12, 17), (64, 64), (224, 224)]


def cases(size: tuple[int, int], B: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Positive maps without ties beside masks of 1 to almost all pixels."""
    rng = np.random.default_rng(size)
    pixels = size[0] * size[1]
    maps = np.stack([rng.permutation(pixels) + 1.0 for _ in range(B)]).reshape(B, *size) ** 1.5
    share = np.linspace(0, 0.98, B)
    masks = np.stack([rng.permutation(pixels) < max(1, s * pixels) for s in share]).reshape(B, *size)
    return maps, masks


def theirs(name: str, maps: np.ndarray, masks: np.ndarray, **arguments: object) -> np.ndarray:
    """What Quantus says of each decision, by its public call."""
    metric = getattr(quantus, name)(normalise=False, abs=True, disable_warnings=True, **arguments)
    return np.array(
        metric(
            model=None,
            x_batch=np.zeros((len(maps), 3, *maps.shape[1:])),
            y_batch=np.zeros(len(maps), int),
            a_batch=maps[:, None],
            s_batch=masks[:, None].astype(float),
            channel_first=True,
            device="cpu",
        ),
        dtype=float,
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("ours", "name"),
    [
        (functional.relevance_mass_accuracy, "RelevanceMassAccuracy"),
        (functional.relevance_rank_accuracy, "RelevanceRankAccuracy"),
        (functional.roc_auc, "AUC"),
        (functional.saliency_coverage_continuous, "AttributionLocalisation"),
        (functional.pointing_game, "PointingGame"),
    ],
)
def test_equals_quantus(ours: Callable[..., torch.Tensor], name: str, size: tuple[int, int]) -> None:
    maps, masks = cases(size)
    found = ours(torch.from_numpy(maps), torch.from_numpy(masks))
    np.testing.assert_allclose(found.numpy(), theirs(name, maps, masks), rtol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("k", [1, 30, 203])
def test_top_k_equals_quantus(size: tuple[int, int], k: int) -> None:
    maps, masks = cases(size)
    found = functional.top_k_intersection(torch.from_numpy(maps), torch.from_numpy(masks), k=k)
    np.testing.assert_allclose(found.numpy(), theirs("TopKIntersection", maps, masks, k=k), rtol=1e-12)


def test_top_k_equals_quantus_at_its_own_k() -> None:
    maps, masks = cases((224, 224))
    found = functional.top_k_intersection(torch.from_numpy(maps), torch.from_numpy(masks), k=1000)
    np.testing.assert_allclose(found.numpy(), theirs("TopKIntersection", maps, masks), rtol=1e-12)


def test_signed_maps_are_where_quantus_differs() -> None:
    # It divides by the sum of signed values; here the positive part is the mass.
    maps, masks = np.array([[[3.0, -2.0], [1.0, -1.0]]]), np.array([[[True, False], [False, False]]])
    metric = quantus.RelevanceMassAccuracy(normalise=False, abs=False, disable_warnings=True)
    assert metric.evaluate_instance(maps[0], masks[0]) == 3.0
    assert functional.relevance_mass_accuracy(torch.from_numpy(maps), torch.from_numpy(masks)).item() == 0.75


def test_ties_are_where_quantus_differs() -> None:
    # Any of several maxima may hit there; here the first counts.
    maps, masks = np.array([[[5.0, 5.0]]]), np.array([[[False, True]]])
    maps = np.concatenate([maps, np.array([[[0.0, 1.0]]])], axis=1)
    masks = np.concatenate([masks, np.zeros((1, 1, 2), bool)], axis=1)
    metric = quantus.PointingGame(normalise=False, abs=False, disable_warnings=True)
    assert metric.evaluate_instance(maps[0], masks[0])
    assert functional.pointing_game(torch.from_numpy(maps), torch.from_numpy(masks)).item() == 0
