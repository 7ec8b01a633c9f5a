"""Each metric against a plain reference, one decision at a time, written another way; and what is refused."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch

from explanation_alignment.errors import UsageError
from explanation_alignment.metrics import functional
from explanation_alignment.metrics.registry import METRICS

Pixels = list[tuple[int, int]]


def where(mask: np.ndarray) -> Pixels:
    return [(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)]


def by_value(s: np.ndarray) -> Pixels:
    """Pixels from the largest to the smallest, ties in row-major order."""
    return sorted(np.ndindex(s.shape), key=lambda p: (-s[p], p))


def ref_iou(b: np.ndarray, g: np.ndarray) -> float:
    return len(set(where(b)) & set(where(g))) / len(set(where(b)) | set(where(g))) if g.any() else math.nan


def ref_gtc(b: np.ndarray, g: np.ndarray) -> float:
    return float(np.mean([b[p] for p in where(g)])) if g.any() else math.nan


def ref_sc(b: np.ndarray, g: np.ndarray) -> float:
    return float(np.mean([g[p] for p in where(b)])) if g.any() and b.any() else math.nan


def ref_sc_continuous(s: np.ndarray, g: np.ndarray) -> float:
    mass = math.fsum(abs(x) for x in s.ravel())
    return math.fsum(abs(s[p]) for p in where(g)) / mass if g.any() and mass else math.nan


def ref_pointing(s: np.ndarray, g: np.ndarray, tolerance: float = 0) -> float:
    if not g.any() or s.min() == s.max():
        return math.nan
    y, x = by_value(s)[0]
    if tolerance == 0:
        return float(g[y, x])
    return float(any(math.hypot(y - v, x - u) < tolerance - 1e-9 for v, u in where(g)))


def ref_mass(s: np.ndarray, g: np.ndarray) -> float:
    mass = math.fsum(x for x in s.ravel() if x > 0)
    return math.fsum(s[p] for p in where(g) if s[p] > 0) / mass if g.any() and mass else math.nan


def ref_top(s: np.ndarray, g: np.ndarray, k: int | None = None) -> float:
    k = max(1, int(s.size * 0.05)) if k is None else k
    return sum(bool(g[p]) for p in by_value(s)[:k]) / k if g.any() else math.nan


def ref_rank(s: np.ndarray, g: np.ndarray) -> float:
    return ref_top(s, g, int(g.sum())) if g.any() else math.nan


def ref_auc(s: np.ndarray, g: np.ndarray) -> float:
    if not g.any() or g.all():
        return math.nan
    return float(np.mean([(a > b) + 0.5 * (a == b) for a in s[g] for b in s[~g]]))


def ref_ap(s: np.ndarray, g: np.ndarray) -> float:
    if not g.any() or g.all():
        return math.nan
    recall, score = 0.0, 0.0
    for threshold in sorted(set(s.ravel().tolist()), reverse=True):
        chosen = s >= threshold
        now = g[chosen].sum() / g.sum()
        score += (now - recall) * g[chosen].mean()
        recall = now
    return float(score)


def constant(*maps: np.ndarray) -> bool:
    return any(m.min() == m.max() for m in maps)


def ref_spearman(s: np.ndarray, a: np.ndarray) -> float:
    return math.nan if constant(s, a) else float(scipy.stats.spearmanr(s.ravel(), a.ravel()).statistic)


def ref_pearson(s: np.ndarray, a: np.ndarray) -> float:
    return math.nan if constant(s, a) else float(np.corrcoef(s.ravel(), a.ravel())[0, 1])


def ref_kl(s: np.ndarray, a: np.ndarray) -> float:
    s, a = np.maximum(s, 0), np.maximum(a, 0)
    if constant(s, a) or not s.any() or not a.any():
        return math.nan
    eps = np.finfo(float).eps
    pairs = zip((s / s.sum()).ravel(), (a / a.sum()).ravel(), strict=True)
    return sum(q * math.log(eps + q / (p + eps)) for p, q in pairs)


def ref_similarity(s: np.ndarray, a: np.ndarray) -> float:
    if constant(s, a):
        return math.nan
    first, second = ((m - m.min()) / (m.max() - m.min()) for m in (s, a))
    return sum(map(min, (first / first.sum()).ravel(), (second / second.sum()).ravel()))


def ref_nss(s: np.ndarray, a: np.ndarray) -> float:
    weights = np.maximum(a, 0)
    return (
        math.nan
        if constant(s, a) or not weights.any()
        else float(np.average((s - s.mean()) / s.std(), weights=weights))
    )


REFERENCES: dict[str, Callable[..., float]] = {
    "iou_coverage": ref_iou,
    "ground_truth_coverage": ref_gtc,
    "saliency_coverage": ref_sc,
    "saliency_coverage_continuous": ref_sc_continuous,
    "pointing_game": ref_pointing,
    "relevance_mass_accuracy": ref_mass,
    "relevance_rank_accuracy": ref_rank,
    "top_k_intersection": ref_top,
    "roc_auc": ref_auc,
    "average_precision": ref_ap,
    "heatmap_spearman": ref_spearman,
    "heatmap_pearson": ref_pearson,
    "heatmap_kl": ref_kl,
    "heatmap_similarity": ref_similarity,
    "heatmap_nss": ref_nss,
}


def cases() -> tuple[np.ndarray, np.ndarray]:
    """Forty small maps, half of them with many ties and some constant, beside masks from empty to full."""
    rng = np.random.default_rng(0)
    maps = np.concatenate([rng.normal(size=(20, 6, 8)), rng.integers(-2, 4, size=(20, 6, 8))])
    maps[[3, 23]], maps[24], maps[25] = 0.0, 2.0, -np.abs(maps[25]) - 1
    masks = rng.random((40, 6, 8)) < rng.random((40, 1, 1))
    masks[[5, 30]], masks[[6, 31]] = False, True
    return maps, masks


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in METRICS),
        ("pointing_game", {"tolerance": 1}),
        ("pointing_game", {"tolerance": 2}),
        ("pointing_game", {"tolerance": 2.3}),
        ("pointing_game", {"tolerance": 100}),
        ("top_k_intersection", {"k": 1}),
        ("top_k_intersection", {"k": 7}),
        ("top_k_intersection", {"k": 48}),
    ],
)
def test_every_metric_equals_its_reference(name: str, options: dict[str, float]) -> None:
    saliency, annotation = cases()
    metric = METRICS[name]
    if metric.needs == "mask":
        saliency = saliency > 0.5
    elif metric.needs == "heatmap":
        annotation = np.roll(saliency, 1, axis=0) * 0.5
    expected = [REFERENCES[name](s, g, **options) for s, g in zip(saliency, annotation, strict=True)]
    assert 0 < sum(map(math.isnan, expected)) < 20
    found = getattr(functional, name)(torch.from_numpy(saliency), torch.from_numpy(annotation), **options)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6 if metric.needs == "mask" else 1e-12, atol=1e-12)
    single = getattr(functional, name)(torch.from_numpy(saliency).float(), torch.from_numpy(annotation), **options)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=2e-5, atol=1e-6)


def test_the_first_of_several_maxima_counts() -> None:
    saliency = torch.tensor([[[0.0, 7.0], [7.0, 7.0]]])
    assert functional.pointing_game(saliency, torch.tensor([[[0, 1], [0, 0]]])).item() == 1
    assert functional.pointing_game(saliency, torch.tensor([[[0, 0], [1, 1]]])).item() == 0


def test_tolerance_is_strict() -> None:
    saliency, annotation = torch.zeros(1, 5, 5), torch.zeros(1, 5, 5)
    saliency[0, 0, 0] = annotation[0, 3, 4] = 1
    assert functional.pointing_game(saliency, annotation, tolerance=5).item() == 0
    assert functional.pointing_game(saliency, annotation, tolerance=5.01).item() == 1


def test_default_k_is_five_percent_rounded_down_and_at_least_one() -> None:
    saliency = torch.arange(100.0, 0, -1)[None, None]
    annotation = torch.zeros(1, 1, 100)
    annotation[0, 0, :3] = 1
    assert functional.top_k_intersection(saliency, annotation).item() == pytest.approx(3 / 5)
    assert functional.top_k_intersection(saliency[..., :9], annotation[..., :9]).item() == 1


def test_overlap_counts_the_pixels() -> None:
    rng = torch.Generator().manual_seed(0)
    mask, annotation = torch.rand(2, 4, 1, 9, 7, generator=rng) < 0.5
    counts = functional.overlap(mask, annotation)
    assert counts.pixels == 63
    assert counts.intersection.tolist() == (mask & annotation).sum((1, 2, 3)).tolist()
    assert counts.mask_area.tolist() == mask.sum((1, 2, 3)).tolist()
    assert counts.annotation_area.tolist() == annotation.sum((1, 2, 3)).tolist()
    for name in ("iou_coverage", "ground_truth_coverage", "saliency_coverage"):
        assert torch.equal(getattr(counts, name)().float(), getattr(functional, name)(mask, annotation))


def test_a_map_of_one_pixel() -> None:
    saliency, annotation = torch.tensor([[[2.0]], [[-1.0]], [[0.0]]]), torch.ones(3, 1, 1)
    expected = {"iou_coverage": [1, 1, 0], "ground_truth_coverage": [1, 1, 0], "saliency_coverage": [1, 1, math.nan]}
    expected |= {"saliency_coverage_continuous": [1, 1, math.nan], "relevance_mass_accuracy": [1, math.nan, math.nan]}
    expected |= {"relevance_rank_accuracy": [1, 1, 1], "top_k_intersection": [1, 1, 1]}
    for name, metric in METRICS.items():
        found = metric.function(saliency != 0 if metric.needs == "mask" else saliency, annotation)
        np.testing.assert_array_equal(found.numpy(), expected.get(name, [math.nan] * 3), err_msg=name)


def test_nss_divides_by_the_population_deviation() -> None:
    assert functional.heatmap_nss(torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[0.0, 1.0]]])).item() == 1


def test_heatmaps_of_any_scale() -> None:
    maps, human = torch.rand(3, 9, 9), torch.rand(3, 9, 9)
    for name in (n for n, m in METRICS.items() if m.needs == "heatmap"):
        function = getattr(functional, name)
        for scale in (1e-25, 1e25):
            torch.testing.assert_close(function(maps * scale, human / scale), function(maps, human))


MAPS, MASKS = torch.rand(2, 3, 4), torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.iou_coverage(MAPS, MASKS), "mask has values other than 0 and 1.*binarize"),
        (lambda: functional.iou_coverage(MASKS, MASKS[0]), r"annotation has shape \(3, 4\)"),
        (
            lambda: functional.saliency_coverage(MASKS, MASKS[:1]),
            r"annotation has shape \(1, 3, 4\); expected \(2, 3, 4\)",
        ),
        (lambda: functional.pointing_game(MASKS.int(), MASKS), "saliency has dtype torch.int32"),
        (lambda: functional.pointing_game(MAPS, MAPS), "annotation has values other than 0 and 1"),
        (lambda: functional.pointing_game(MAPS, MASKS / 0), "annotation has values other than 0 and 1"),
        (lambda: functional.pointing_game(MAPS, MASKS, tolerance=-1), "tolerance is -1"),
        (lambda: functional.pointing_game(MAPS, MASKS, tolerance=math.nan), "tolerance is nan"),
        (lambda: functional.pointing_game(MAPS, MASKS, tolerance="3"), "tolerance is '3'"),
        (lambda: functional.top_k_intersection(MAPS, MASKS, k=0), "k is 0; expected a whole number from 1 to 12"),
        (lambda: functional.top_k_intersection(MAPS, MASKS, k=13), "k is 13"),
        (lambda: functional.top_k_intersection(MAPS, MASKS, k=2.0), "k is 2.0"),
        (lambda: functional.heatmap_kl(MAPS, MASKS.bool()), "annotation has dtype torch.bool"),
        (lambda: functional.heatmap_kl(MAPS, MAPS.mT), r"annotation has shape \(2, 4, 3\); expected \(2, 3, 4\)"),
    ],
)
def test_wrong_input_is_named(call: Callable[[], torch.Tensor], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_all_metrics_are_public_and_referenced() -> None:
    assert set(REFERENCES) == set(METRICS) == set(functional.__all__) - {"Overlap", "overlap"}


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(functional).failed == 0
