"""What registry and property table say of each metric, held against its function."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from property_table import ALL, OF_HEATMAPS, OF_MASKS, OF_SALIENCY, PROPERTIES
from sklearn.metrics import average_precision_score
from torch import Tensor

from explanation_alignment.binarization import binarize
from explanation_alignment.metrics.registry import METRICS, Metric, get_metric

quick = settings(max_examples=20, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(1, 6), st.integers(2, 7), st.integers(2, 7))


def each(metrics: list[Metric]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return pytest.mark.parametrize("metric", metrics, ids=lambda m: m.name)


def batch(metric: Metric, seed: int, size: tuple[int, int, int] = (6, 5, 7)) -> tuple[Tensor, Tensor]:
    """Prediction and annotation as the metric takes them; small whole numbers, so that there are ties."""
    rng = torch.Generator().manual_seed(seed)
    saliency = torch.randint(-3, 6, size, generator=rng).float()
    if metric.needs == "heatmap":
        return saliency, torch.randint(0, 9, size, generator=rng).float()
    annotation = torch.rand(size, generator=rng) < torch.rand(size[0], 1, 1, generator=rng)
    return (saliency > 1 if metric.needs == "mask" else saliency), annotation


def same(first: Tensor, second: Tensor, tolerance: float = 0.0) -> None:
    torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance, equal_nan=True)


@each(ALL)
@quick
@given(seed=seeds, size=sizes)
def test_shape_dtype_and_range(metric: Metric, seed: int, size: tuple[int, int, int]) -> None:
    scores = metric.function(*batch(metric, seed, size))
    assert scores.shape == size[:1]
    assert scores.dtype == torch.float32
    defined = scores[~scores.isnan()]
    low, high = metric.range
    assert ((defined >= low) & (defined <= high)).all()
    if metric.binary:
        assert ((defined == 0) | (defined == 1)).all()


@each(ALL)
def test_only_binary_metrics_are_only_0_and_1(metric: Metric) -> None:
    scores = metric.function(*batch(metric, 0, (6, 10, 12)))
    assert metric.binary == bool(((scores == 0) | (scores == 1) | scores.isnan()).all())


@each(ALL)
@quick
@given(seed=seeds)
def test_agreement_is_better_than_its_opposite(metric: Metric, seed: int) -> None:
    if metric.needs == "heatmap":
        annotation = batch(metric, seed)[1]
        best, worst = metric.function(annotation, annotation), metric.function(9 - annotation, annotation)
    else:
        annotation = torch.zeros(2, 6, 6, dtype=torch.bool)
        annotation[:, seed % 3 : seed % 3 + 3, 1:4] = True
        kind = (lambda m: m) if metric.needs == "mask" else (lambda m: m.float())
        # Two pixels away from the annotation, so that a tolerance does not bridge the gap.
        best, worst = metric.function(kind(annotation), annotation), metric.function(kind(~annotation), annotation)
        if metric.arguments.get("tolerance"):
            far = torch.zeros_like(annotation)
            far[:, :, -1] = True
            worst = metric.function(kind(far), annotation)
    assert ((best > worst) if metric.higher_is_better else (best < worst)).all()
    bound = metric.range[1] if metric.higher_is_better else metric.range[0]
    if math.isfinite(bound):
        same(best, torch.full_like(best, bound), 1e-6)
        assert ((best >= metric.range[0]) & (best <= metric.range[1])).all()


@each(OF_MASKS + OF_HEATMAPS)
@quick
@given(seed=seeds)
def test_symmetric_metrics_are_symmetric(metric: Metric, seed: int) -> None:
    prediction, annotation = batch(metric, seed)
    if metric.symmetric:
        prediction[prediction.flatten(1).sum(1) == 0, 0, 0] = 1  # where nothing is salient, swapping empties G
        annotation[annotation.flatten(1).sum(1) == 0, 0, 0] = 1
        same(metric.function(prediction, annotation), metric.function(annotation, prediction), 1e-6)


@each([m for m in OF_MASKS + OF_HEATMAPS if not m.symmetric])
def test_others_are_not(metric: Metric) -> None:
    prediction, annotation = batch(metric, 0)
    one, other = metric.function(prediction, annotation), metric.function(annotation, prediction)
    assert not torch.allclose(one, other, equal_nan=True)


@each(ALL)
@quick
@given(seed=seeds, exponent=st.integers(-80, 80))
def test_a_positive_factor_on_the_map_changes_nothing(metric: Metric, seed: int, exponent: int) -> None:
    assert metric.scale_invariant
    saliency, annotation = batch(METRICS["pointing_game"], seed) if metric.needs == "mask" else batch(metric, seed)
    predict = (lambda s: binarize(s, "std:1")) if metric.needs == "mask" else (lambda s: s)
    expected = metric.function(predict(saliency), annotation)
    same(metric.function(predict(saliency * 2.0**exponent), annotation), expected)
    same(metric.function(predict(saliency * 1e-25), annotation), expected, 1e-5)
    same(metric.function(predict(saliency * 1e25), annotation), expected, 1e-5)


@each(OF_MASKS + OF_SALIENCY)
def test_an_empty_annotation_is_undefined(metric: Metric) -> None:
    prediction, annotation = batch(metric, 3)
    assert metric.function(prediction, torch.zeros_like(annotation)).isnan().all()


@each(ALL)
@quick
@given(seed=seeds)
def test_everything_annotated_alike(metric: Metric, seed: int) -> None:
    prediction, annotation = batch(metric, seed)
    prediction[:, 0, :2] = torch.tensor([1, 0])  # something is salient, not everything, and something is positive
    full = PROPERTIES[metric.name].full
    assert (full == "nan") == ("full_annotation" in metric.undefined)
    scores = metric.function(prediction, torch.ones_like(annotation))
    share = prediction.double().mean((1, 2)).float()
    same(scores, {"nan": share * math.nan, "one": torch.ones_like(share), "salient_share": share}[full], 1e-6)


@each(OF_MASKS)
def test_an_empty_mask_is_undefined_where_the_registry_says_so(metric: Metric) -> None:
    prediction, annotation = batch(metric, 3)
    annotation[:, 0, 0] = True
    scores = metric.function(torch.zeros_like(prediction), annotation)
    same(scores, torch.full_like(scores, math.nan if "empty_binarization" in metric.undefined else 0.0))


@each(OF_SALIENCY + OF_HEATMAPS)
def test_a_map_or_heatmap_without_anything_positive(metric: Metric) -> None:
    saliency, annotation = batch(metric, 3)
    annotation[:, 0, 0] = 1
    annotation[:, 0, 1] = 0
    undefined = metric.function(-saliency.abs() - torch.eye(5, 7), annotation).isnan()
    if metric.needs == "heatmap":
        undefined |= metric.function(saliency, -annotation).isnan()
    assert undefined.all() == undefined.any() == ("no_positive_mass" in metric.undefined)


@each(ALL)
@quick
@given(seed=seeds, value=st.sampled_from([0.1, 3.0, 1e-30]))
def test_a_constant_map(metric: Metric, seed: int, value: float) -> None:
    saliency, annotation = torch.full((6, 5, 7), value), batch(metric, seed)[1]
    annotation[:, 0, 0], annotation[:, -1, -1] = 1, 0
    constant = PROPERTIES[metric.name].constant
    prediction = binarize(saliency, "std:1") if metric.needs == "mask" else saliency
    scores = metric.function(prediction, annotation)
    flat = annotation.flatten(1).float()
    share = flat.mean(1)
    if constant == "first":
        k = {"relevance_rank_accuracy": flat.sum(1).long()}.get(metric.base)
        k = torch.full((6,), int(metric.arguments.get("k", 1))) if k is None else k
        expected = torch.stack([row[:n].mean() for row, n in zip(flat, k.tolist(), strict=True)])
    elif constant == "everywhere":
        expected = metric.function(torch.ones_like(saliency), annotation)
    else:
        expected = {"nan": share * math.nan, "share": share, "half": torch.full_like(share, 0.5)}[constant]
    same(scores, expected, 1e-6)
    if metric.needs == "heatmap":
        assert metric.function(annotation, saliency).isnan().all()


@each(OF_SALIENCY + OF_HEATMAPS)
@quick
@given(seed=seeds)
def test_only_the_order_of_the_saliency_counts_where_the_table_says_so(metric: Metric, seed: int) -> None:
    saliency, annotation = batch(metric, seed)
    expected = metric.function(saliency, annotation)
    for bent in (saliency.double().exp().float(), saliency**3, torch.where(saliency > 1, saliency * 9, saliency)):
        found = metric.function(bent, annotation)
        if PROPERTIES[metric.name].order_only:
            same(found, expected)
    if not PROPERTIES[metric.name].order_only:
        assert not torch.allclose(metric.function(saliency**3, annotation), expected, equal_nan=True)


@each(OF_SALIENCY + OF_HEATMAPS)
@quick
@given(seed=seeds, shift=st.sampled_from([-50.0, -3.0, 2.0, 1000.0]))
def test_adding_a_constant_changes_nothing_where_the_table_says_so(metric: Metric, seed: int, shift: float) -> None:
    saliency, annotation = batch(metric, seed)
    if PROPERTIES[metric.name].shift:
        same(metric.function(saliency + shift, annotation), metric.function(saliency, annotation), 1e-6)


@each([m for m in OF_SALIENCY + OF_HEATMAPS if not PROPERTIES[m.name].shift])
def test_adding_a_constant_changes_the_others(metric: Metric) -> None:
    saliency, annotation = batch(metric, 0)
    found = metric.function(saliency + 2, annotation)
    assert not torch.allclose(found, metric.function(saliency, annotation), equal_nan=True)


@each(OF_HEATMAPS)
@quick
@given(seed=seeds, factor=st.sampled_from([1e-25, 0.3, 7.0, 1e25]))
def test_the_scale_of_human_attention_does_not_matter(metric: Metric, seed: int, factor: float) -> None:
    assert PROPERTIES[metric.name].annotation_scale
    saliency, annotation = batch(metric, seed)
    same(metric.function(saliency, annotation * factor), metric.function(saliency, annotation), 1e-5)


@each(ALL)
@quick
@given(seed=seeds, order=st.permutations(range(35)))
def test_moving_the_pixels_of_both_alike(metric: Metric, seed: int, order: list[int]) -> None:
    prediction, annotation = batch(metric, seed)
    properties = PROPERTIES[metric.name]
    if properties.ties == "first":  # where ties are broken by place, there must be none
        prediction = prediction + torch.arange(35).view(5, 7) / 100
    moved = [tensor.flatten(1)[:, order].view(6, 5, 7) for tensor in (prediction, annotation)]
    if properties.place:  # distances count: only the symmetries of the grid are left
        moved = [tensor.flip(1, 2).mT for tensor in (prediction, annotation)]
    same(metric.function(*moved), metric.function(prediction, annotation), 1e-6)


@each([m for m in OF_SALIENCY if PROPERTIES[m.name].ties == "first"])
@quick
@given(seed=seeds)
def test_the_first_of_tied_pixels_counts(metric: Metric, seed: int) -> None:
    saliency, annotation = batch(metric, seed)
    falling = saliency - torch.arange(35).view(5, 7) / 100
    same(metric.function(saliency, annotation), metric.function(falling, annotation))


@each([m for m in OF_SALIENCY + OF_HEATMAPS if m.base == "roc_auc"])
@quick
@given(seed=seeds)
def test_ties_count_half_in_roc_auc(metric: Metric, seed: int) -> None:
    saliency, annotation = batch(metric, seed)
    best, worst = (metric.function(saliency + sign * annotation / 100, annotation) for sign in (1, -1))
    same(metric.function(saliency, annotation), (best + worst) / 2, 1e-6)


@each(ALL)
@settings(max_examples=60)
@given(seed=seeds, pixels=st.lists(st.integers(0, 34), min_size=2, max_size=2, unique=True))
def test_more_saliency_where_there_is_more_annotation_is_never_worse(
    metric: Metric, seed: int, pixels: list[int]
) -> None:
    """Monotonicity: of two pixels, the one with more annotation gets the larger saliency of the two."""
    prediction, annotation = batch(metric, seed)
    if metric.needs != "mask":
        prediction = prediction.clamp(min=0)
        prediction[:, 0, 0] += 1  # no map without anything positive
    if not PROPERTIES[metric.name].monotone_with_ties:
        prediction = prediction + torch.randperm(35, generator=torch.Generator().manual_seed(seed)).view(5, 7) / 100
    before = metric.function(prediction, annotation)
    moved, attention = prediction.flatten(1).clone(), annotation.flatten(1).float()
    one, other = pixels
    saliency = moved[:, pixels].clone()
    wrong = (attention[:, one] - attention[:, other]) * (saliency[:, 0].float() - saliency[:, 1].float()) < 0
    moved[:, one] = torch.where(wrong, saliency[:, 1], saliency[:, 0])
    moved[:, other] = torch.where(wrong, saliency[:, 0], saliency[:, 1])
    after = metric.function(moved.view_as(prediction), annotation)
    assert torch.equal(before.isnan(), after.isnan())
    gain = (after - before).nan_to_num(0) * (1 if metric.higher_is_better else -1)
    assert gain.min() > -1e-5


def test_average_precision_with_ties_can_fall_when_the_map_improves() -> None:
    # Not the arithmetic but the definition: scikit-learn's numbers are the same.
    annotation = torch.tensor([[[1, 0, 0, 1, 1]]])
    before, after = torch.tensor([[[0.0, 2, 1, 0, 0]]]), torch.tensor([[[1.0, 2, 0, 0, 0]]])
    scores = [METRICS["average_precision"].function(saliency, annotation).item() for saliency in (before, after)]
    assert scores == pytest.approx([0.6, 17 / 30], rel=1e-6)
    theirs = [average_precision_score(annotation.ravel(), saliency.ravel()) for saliency in (before, after)]
    assert scores == pytest.approx(theirs, rel=1e-6)


@each(OF_SALIENCY + OF_HEATMAPS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_map_is_undefined_and_harms_no_other(metric: Metric, bad: float) -> None:
    saliency, annotation = batch(metric, 4)
    expected = metric.function(saliency, annotation)
    saliency[2, 1, 1] = bad
    scores = metric.function(saliency, annotation)
    assert scores[2].isnan()
    rest = [0, 1, 3, 4, 5]
    same(scores[rest], expected[rest])
    if metric.needs == "heatmap":
        assert metric.function(annotation, saliency)[2].isnan()


@each(ALL)
@quick
@given(seed=seeds, order=st.permutations(range(6)))
def test_a_score_depends_on_its_own_decision_only(metric: Metric, seed: int, order: list[int]) -> None:
    prediction, annotation = batch(metric, seed)
    scores = metric.function(prediction, annotation)
    same(metric.function(prediction[order], annotation[order]), scores[order])
    alone = [metric.function(prediction[i : i + 1], annotation[i : i + 1]) for i in range(6)]
    same(torch.cat(alone), scores)


@each(ALL)
def test_dtypes_and_shapes_of_the_prediction(metric: Metric) -> None:
    prediction, annotation = batch(metric, 5)
    expected = metric.function(prediction, annotation)
    same(metric.function(prediction[:, None], annotation[:, None]), expected)
    same(metric.function(prediction[:, None], annotation), expected)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        scores = metric.function(prediction.to(dtype), annotation)
        assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        same(scores.float(), expected, 1e-6)


@each(OF_HEATMAPS)
def test_dtypes_of_a_heatmap(metric: Metric) -> None:
    saliency, annotation = batch(metric, 5)
    expected = metric.function(saliency, annotation)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        same(metric.function(saliency, annotation.to(dtype)), expected, 1e-6)
        assert metric.function(saliency.half(), annotation.to(dtype)).dtype == torch.float32
    same(metric.function(saliency, annotation[:, None]), expected)


DEVICES = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]


@each(ALL)
@pytest.mark.parametrize("device", DEVICES)
def test_scores_stay_on_the_device(metric: Metric, device: str) -> None:
    prediction, annotation = batch(metric, 5)
    scores = metric.function(prediction.to(device), annotation.to(device))
    assert scores.device.type == device
    assert scores.shape == (6,)
    if device != "meta":
        same(scores.cpu(), metric.function(prediction, annotation), 1e-6)


@each(OF_MASKS + OF_SALIENCY)
def test_dtypes_of_the_annotation(metric: Metric) -> None:
    prediction, annotation = batch(metric, 5)
    expected = metric.function(prediction, annotation)
    for other in (annotation.byte() * 255, annotation.long() * -3, annotation.float(), annotation.half()):
        same(metric.function(prediction, other), expected)


@each(ALL)
def test_an_empty_batch_has_no_scores(metric: Metric) -> None:
    prediction, annotation = batch(metric, 5)
    assert metric.function(prediction[:0], annotation[:0]).shape == (0,)


@each(ALL)
def test_inputs_are_left_alone_and_gradients_not_followed(metric: Metric) -> None:
    prediction, annotation = batch(metric, 6)
    before = prediction.clone(), annotation.clone()
    if metric.needs != "mask":
        prediction = prediction.requires_grad_()
    assert not metric.function(prediction, annotation).requires_grad
    assert torch.equal(prediction, before[0])
    assert torch.equal(annotation, before[1])


def expected_by_chance(keyword: str, b: int, g: int, n: int) -> float:
    if keyword == "hypergeometric":
        overlap = np.arange(min(b, g) + 1)
        return float(np.sum(scipy.stats.hypergeom(n, g, b).pmf(overlap) * overlap / (b + g - overlap)))
    return {"salient_share": b / n, "annotated_share": g / n, "half": 0.5, "zero": 0.0}[keyword]


@each([m for m in ALL if m.chance is not None])
def test_a_map_that_knows_nothing_scores_the_chance_level(metric: Metric) -> None:
    rng = torch.Generator().manual_seed(7)
    b, g, n, maps = 20, 13, 64, 3000
    saliency = torch.rand(maps, n, generator=rng).argsort(1).view(maps, 8, 8).float()  # every order alike
    annotation = torch.zeros(maps, 8, 8)
    annotation.flatten(1)[:, 5 : 5 + g] = 1
    prediction = saliency >= n - b if metric.needs == "mask" else saliency
    scores = metric.function(prediction, annotation).double()
    error = scores.std() / math.sqrt(maps)
    assert abs(scores.mean() - expected_by_chance(str(metric.chance), b, g, n)) < 4 * error + 1e-9


def test_a_tolerance_has_no_chance_level_and_any_k_has() -> None:
    assert get_metric("pointing_game(tolerance=15)").chance is None
    assert get_metric("top_k_intersection(k=9)").chance == METRICS["top_k_intersection"].chance == "annotated_share"
