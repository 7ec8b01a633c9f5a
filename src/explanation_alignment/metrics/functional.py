"""The alignment metrics as pure functions of batches: prediction first, annotation second, one score a decision.

Common to all: tensors are (B, H, W) or (B, 1, H, W), on any device; the result is (B,) on that device, float32, or
float64 if the prediction is. NaN in a result means undefined and nothing else; a saliency map with a NaN or an
infinity is undefined under every metric that sees it. Masks are bool, integer (nonzero) or float (0 and 1 only; the
check waits for the device). Saliency is floating. Wrong shapes, dtypes or values raise ``UsageError``. A positive
factor on S changes no score. Ties between pixels are taken in row-major order unless said otherwise.

Notation: S saliency map, B binary mask, G annotation mask, A real-valued annotation, |X| number of pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from explanation_alignment.binarization import Maps, as_mask, total
from explanation_alignment.errors import UsageError
from explanation_alignment.metrics.decisions import Decisions, Overlap

__all__ = [
    "Overlap",
    "average_precision",
    "ground_truth_coverage",
    "heatmap_kl",
    "heatmap_nss",
    "heatmap_pearson",
    "heatmap_similarity",
    "heatmap_spearman",
    "iou_coverage",
    "overlap",
    "pointing_game",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "roc_auc",
    "saliency_coverage",
    "saliency_coverage_continuous",
    "top_k_intersection",
]

#: MATLAB's eps, with which the MIT saliency benchmark keeps its logarithm finite.
_EPS = 2.0**-52


def overlap(mask: Tensor, annotation: Tensor) -> Overlap:
    """Count the pixels from which the three coverages follow.

    Args:
        mask: binarized maps B.
        annotation: masks G.

    Returns:
        ``Overlap(intersection, mask_area, annotation_area, pixels)``: |B&G|, |B| and |G| as (B,) int32, and H * W.
        Its methods ``iou_coverage``, ``ground_truth_coverage`` and ``saliency_coverage`` give the scores.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Example:
        >>> counts = overlap(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 1, 1]]]))
        >>> counts.intersection, counts.pixels
        (tensor([1], dtype=torch.int32), 3)
    """
    binary = as_mask(mask, "mask")
    return Overlap.of(binary, as_mask(annotation, "annotation", binary.shape))


def iou_coverage(mask: Tensor, annotation: Tensor) -> Tensor:
    """Intersection over union: |B&G| / |B or G|.

    Args:
        mask: binarized maps B (see ``binarize``).
        annotation: masks G.

    Returns:
        Scores (B,) in [0, 1], higher is better, symmetric; NaN where G is empty. 0 where only B is empty.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Source: Boggust et al., Shared Interest, CHI 2022.

    Example:
        >>> iou_coverage(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 1, 1]]]))
        tensor([0.3333])
    """
    return _result(overlap(mask, annotation).iou_coverage(), mask)


def ground_truth_coverage(mask: Tensor, annotation: Tensor) -> Tensor:
    """Share of the annotation that is salient: |B&G| / |G|.

    Args:
        mask: binarized maps B.
        annotation: masks G.

    Returns:
        Scores (B,) in [0, 1], higher is better; NaN where G is empty.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Source: Boggust et al., Shared Interest, CHI 2022.

    Example:
        >>> ground_truth_coverage(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 1, 1]]]))
        tensor([0.5000])
    """
    return _result(overlap(mask, annotation).ground_truth_coverage(), mask)


def saliency_coverage(mask: Tensor, annotation: Tensor) -> Tensor:
    """Share of the salient pixels that are annotated: |B&G| / |B|.

    Args:
        mask: binarized maps B.
        annotation: masks G.

    Returns:
        Scores (B,) in [0, 1], higher is better; NaN where B or G is empty.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Source: Boggust et al., Shared Interest, CHI 2022.

    Example:
        >>> saliency_coverage(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 1, 1]]]))
        tensor([0.5000])
    """
    return _result(overlap(mask, annotation).saliency_coverage(), mask)


def saliency_coverage_continuous(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Share of the absolute mass that is annotated: sum(|S|*G) / sum(|S|), without a threshold.

    Args:
        saliency: maps S.
        annotation: masks G.

    Returns:
        Scores (B,) in [0, 1], higher is better; NaN where G is empty, S is 0 everywhere or not finite.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Source: the continuous form of ``saliency_coverage``; on maps >= 0 the energy-based pointing game of Wang et al.,
    Score-CAM, CVPR workshops 2020.

    Example:
        >>> saliency_coverage_continuous(torch.tensor([[[-1.0, 1.0, 2.0]]]), torch.tensor([[[1, 0, 0]]]))
        tensor([0.2500])
    """
    return _result(_decisions(saliency, annotation).saliency_coverage_continuous(), saliency)


def pointing_game(saliency: Tensor, annotation: Tensor, tolerance: float = 0) -> Tensor:
    """Whether the map's maximum hits the annotation: 1 or 0.

    With tolerance 0, a hit is that the first (row-major) maximum of S lies in G. With tolerance t > 0, that some pixel
    of G has dx^2 + dy^2 < t^2 (strictly) from it.

    Args:
        saliency: maps S.
        annotation: masks G.
        tolerance: t, in pixels of the map.

    Returns:
        Scores (B,), 0 or 1, higher is better; NaN where G is empty, or S constant or not finite.

    Raises:
        UsageError: a shape or dtype is wrong, a float mask has values other than 0 and 1, or the tolerance is not a
            number >= 0.

    Source: Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018; the tolerance as in TorchRay.

    Example:
        >>> saliency, annotation = torch.tensor([[[0.0, 9.0, 1.0]]]), torch.tensor([[[1, 0, 0]]])
        >>> pointing_game(saliency, annotation), pointing_game(saliency, annotation, tolerance=1.5)
        (tensor([0.]), tensor([1.]))
    """
    return _result(_decisions(saliency, annotation).pointing_game(tolerance), saliency)


def relevance_mass_accuracy(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Share of the positive mass that is annotated: sum(S+ * G) / sum(S+), S+ = max(S, 0).

    Args:
        saliency: maps S.
        annotation: masks G.

    Returns:
        Scores (B,) in [0, 1], higher is better; NaN where G is empty, or S has nothing positive or is not finite.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Source: Arras et al., CLEVR-XAI, Information Fusion 2022, there for maps >= 0.

    Example:
        >>> relevance_mass_accuracy(torch.tensor([[[-1.0, 1.0, 3.0]]]), torch.tensor([[[1, 1, 0]]]))
        tensor([0.2500])
    """
    return _result(_decisions(saliency, annotation).relevance_mass_accuracy(), saliency)


def relevance_rank_accuracy(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Share of the |G| largest pixels of S that lie in G.

    Args:
        saliency: maps S.
        annotation: masks G.

    Returns:
        Scores (B,) in [0, 1], higher is better; NaN where G is empty or S not finite.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Source: Arras et al., CLEVR-XAI, Information Fusion 2022.

    Example:
        >>> relevance_rank_accuracy(torch.tensor([[[5.0, 1.0, 3.0]]]), torch.tensor([[[1, 1, 0]]]))
        tensor([0.5000])
    """
    return _result(_decisions(saliency, annotation).relevance_rank_accuracy(), saliency)


def top_k_intersection(saliency: Tensor, annotation: Tensor, k: int | None = None) -> Tensor:
    """Share of the k largest pixels of S that lie in G.

    Args:
        saliency: maps S.
        annotation: masks G.
        k: how many pixels; by default 5 % of the map, rounded down, at least 1.

    Returns:
        Scores (B,) in [0, 1], higher is better; NaN where G is empty or S not finite. It cannot reach 1 where G has
        fewer than k pixels.

    Raises:
        UsageError: a shape or dtype is wrong, a float mask has values other than 0 and 1, or k is not from 1 to H * W.

    Source: Theiner et al., Interpretable semantic photo geolocation, 2021.

    Example:
        >>> top_k_intersection(torch.tensor([[[5.0, 1.0, 3.0]]]), torch.tensor([[[1, 1, 0]]]), k=2)
        tensor([0.5000])
    """
    return _result(_decisions(saliency, annotation).top_k_intersection(k), saliency)


def roc_auc(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Area under the ROC curve of S as a score for G, over pixels.

    The probability that a pixel of G is more salient than one outside, ties counting half.

    Args:
        saliency: maps S.
        annotation: masks G.

    Returns:
        Scores (B,) in [0, 1], higher is better, 0.5 by chance; NaN where G is empty or full, or S not finite.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Source: Fawcett, An introduction to ROC analysis, 2006; as ``sklearn.metrics.roc_auc_score``.

    Example:
        >>> roc_auc(torch.tensor([[[5.0, 1.0, 3.0]]]), torch.tensor([[[1, 0, 1]]]))
        tensor([1.])
    """
    return _result(_decisions(saliency, annotation).roc_auc(), saliency)


def average_precision(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Average precision of S as a score for G, over pixels: sum over thresholds of (R_n - R_(n-1)) * P_n.

    Equal values are one threshold; there is no interpolation.

    Args:
        saliency: maps S.
        annotation: masks G.

    Returns:
        Scores (B,) in [0, 1], higher is better; NaN where G is empty or full, or S not finite.

    Raises:
        UsageError: a shape or dtype is wrong, or a float mask has values other than 0 and 1.

    Source: Manning et al., Introduction to information retrieval, 2008; as ``sklearn.metrics.average_precision_score``.

    Example:
        >>> average_precision(torch.tensor([[[5.0, 1.0, 3.0]]]), torch.tensor([[[0, 0, 1]]]))
        tensor([0.5000])
    """
    return _result(_decisions(saliency, annotation).average_precision(), saliency)


def heatmap_spearman(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Rank correlation over pixels of S with human attention A; ties share their mean rank.

    Args:
        saliency: maps S.
        annotation: real-valued maps A, floating.

    Returns:
        Scores (B,) in [-1, 1], higher is better, symmetric; NaN where S or A is constant or not finite.

    Raises:
        UsageError: a shape or dtype is wrong.

    Source: Spearman, The proof and measurement of association between two things, 1904.

    Example:
        >>> heatmap_spearman(torch.tensor([[[1.0, 2.0, 9.0]]]), torch.tensor([[[0.1, 0.2, 0.3]]]))
        tensor([1.])
    """
    maps, human, defined = _heatmaps(saliency, annotation)
    return _result(torch.where(defined, _correlation(_ranks(maps), _ranks(human)), torch.nan), saliency)


def heatmap_pearson(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Linear correlation over pixels of S with human attention A (CC).

    Args:
        saliency: maps S.
        annotation: real-valued maps A, floating.

    Returns:
        Scores (B,) in [-1, 1], higher is better, symmetric; NaN where S or A is constant or not finite.

    Raises:
        UsageError: a shape or dtype is wrong.

    Source: Bylinskii et al., What do different evaluation metrics tell us about saliency models?, TPAMI 2018.

    Example:
        >>> heatmap_pearson(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[6.0, 4.0, 2.0]]]))
        tensor([-1.])
    """
    maps, human, defined = _heatmaps(saliency, annotation)
    return _result(torch.where(defined, _correlation(maps, human), torch.nan), saliency)


def heatmap_kl(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the map from human attention: sum(a * log(eps + a / (s + eps))).

    s and a are the positive parts of S and A divided by their sums; eps = 2^-52.

    Args:
        saliency: maps S.
        annotation: real-valued maps A, floating.

    Returns:
        Scores (B,) >= 0 (0 where s = a, at most about 36), lower is better; NaN where S or A is constant, not finite,
        or has nothing positive.

    Raises:
        UsageError: a shape or dtype is wrong.

    Source: Bylinskii et al., TPAMI 2018, and the MIT saliency benchmark's code, there for maps >= 0.

    Example:
        >>> heatmap_kl(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([0.2877])
    """
    maps, human, defined = _heatmaps(saliency, annotation)
    s, a = (_distribution(m.scaled.clamp(min=0)) for m in (maps, human))
    # eps makes the divergence of a map from itself a rounding error below 0.
    divergence = total(a * torch.log(_EPS + a / (s + _EPS))).clamp(min=0)
    return _result(torch.where(defined & (maps.high > 0) & (human.high > 0), divergence, torch.nan), saliency)


def heatmap_similarity(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Histogram intersection: sum(min(s, a)), s and a being S and A less their minimum, divided by their sums.

    Args:
        saliency: maps S.
        annotation: real-valued maps A, floating.

    Returns:
        Scores (B,) in [0, 1], higher is better, symmetric; NaN where S or A is constant or not finite.

    Raises:
        UsageError: a shape or dtype is wrong.

    Source: Bylinskii et al., TPAMI 2018, and the MIT saliency benchmark's code.

    Example:
        >>> heatmap_similarity(torch.tensor([[[0.0, 1.0, 3.0]]]), torch.tensor([[[0.0, 3.0, 1.0]]]))
        tensor([0.5000])
    """
    maps, human, defined = _heatmaps(saliency, annotation)
    s, a = (_distribution(m.scaled - m.low[:, None, None] * m.scale) for m in (maps, human))
    return _result(torch.where(defined, total(torch.minimum(s, a)).clamp(max=1), torch.nan), saliency)


def heatmap_nss(saliency: Tensor, annotation: Tensor) -> Tensor:
    """Normalised scanpath saliency: the standardised S averaged with A as weights.

    sum(A+ * (S - mean) / std) / sum(A+), with the population's standard deviation and A+ = max(A, 0). With a binary A,
    this is the mean at the fixations.

    Args:
        saliency: maps S.
        annotation: real-valued maps A, floating.

    Returns:
        Scores (B,), unbounded, higher is better, 0 by chance; NaN where S or A is constant, not finite, or A has
        nothing positive.

    Raises:
        UsageError: a shape or dtype is wrong.

    Source: Peters et al., Components of bottom-up gaze allocation in natural images, 2005; Bylinskii et al., 2018.

    Example:
        >>> heatmap_nss(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([1.])
    """
    maps, human, defined = _heatmaps(saliency, annotation)
    weights = _distribution(human.scaled.clamp(min=0))
    score = total(weights * maps.deviation / maps.std)
    return _result(torch.where(defined & (human.high > 0), score, torch.nan), saliency)


def _decisions(saliency: Tensor, annotation: Tensor) -> Decisions:
    maps = Maps.of(saliency)
    return Decisions(maps, as_mask(annotation, "annotation", maps.values.shape))


def _heatmaps(saliency: Tensor, annotation: Tensor) -> tuple[Maps, Maps, Tensor]:
    """Both as maps, and where neither is flat (B,)."""
    maps, human = Maps.of(saliency), Maps.of(annotation, "annotation")
    if human.values.shape != maps.values.shape:
        raise UsageError(
            f"annotation has shape {tuple(annotation.shape)}; expected {tuple(saliency.shape)}, "
            "the shape of the saliency maps"
        )
    return maps, human, ~(maps.flat | human.flat)


def _ranks(maps: Maps) -> Maps:
    """Each pixel's rank, ties sharing their mean, as maps."""
    ranks = torch.empty_like(maps.double_ranks).scatter_(1, maps.descending[1], maps.double_ranks)
    return Maps(ranks.to(maps.dtype).view(maps.values.shape))


def _correlation(first: Maps, second: Maps) -> Tensor:
    covariance = total(first.deviation * second.deviation) / first.pixels
    return (covariance / (first.std * second.std)[:, 0, 0]).clamp(-1, 1)


def _distribution(mass: Tensor) -> Tensor:
    return mass / total(mass)[:, None, None]


def _result(score: Tensor, prediction: Tensor) -> Tensor:
    return score.to(torch.float64 if prediction.dtype == torch.float64 else torch.float32)
