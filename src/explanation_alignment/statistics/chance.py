"""What a map that knows nothing would score, and what the best map of that size could: analytic, per decision.

With ``b`` salient pixels, ``g`` annotated pixels and ``N`` pixels in all, a map that knows nothing is any map with
its pixels shuffled: each of the ``N!`` orders is equally likely. Every formula here is the exact expectation under
that null, but for the IoU of large maps, where the sum is replaced by its own Taylor series (relative error below
1e-6, see :func:`expected_iou`). A level that the areas do not determine is NaN, never a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from explanation_alignment.errors import UsageError
from explanation_alignment.metrics.registry import Metric, get_metric

__all__ = [
    "adjusted_for_chance",
    "ceiling_levels",
    "chance_levels",
    "expected_iou",
    "known_metric",
    "levels_of",
    "metric_label",
]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

#: Up to this standard deviation of the overlap the sum over its distribution is taken; beyond it, the series.
_EXACT_SIGMA: Final = 10.0
#: Cells of one block of the (triples, overlaps) table, so that memory stays near 10 MB.
_BLOCK_CELLS: Final = 1 << 18
#: Cells that are worked on at once within a block.
_CACHED_CELLS: Final = 1 << 14


def expected_iou(salient_area: ArrayLike, annotation_area: ArrayLike, pixels: ArrayLike) -> _Floats:
    """Expected IoU of a random set of ``salient_area`` pixels with a fixed set of ``annotation_area`` pixels.

    ``E[X / (b + g - X)]`` with the overlap ``X ~ Hypergeometric(N, g, b)``. Where the standard deviation of ``X`` is
    at most 10 the sum is taken over its support (cut at 8 standard deviations + 12); beyond it the expectation is the
    Taylor series at the mean with the exact central moments up to the fourth order, whose relative error is below
    1e-6 there.

    Args:
        salient_area: ``b``, pixels of the binarized map; integers, any shape.
        annotation_area: ``g``, pixels of the annotation; broadcasts with ``salient_area``.
        pixels: ``N``, pixels of the map (height times width); broadcasts.

    Returns:
        float64 array of the broadcast shape; 0 where ``b`` or ``g`` is 0 (and not both), NaN where both are 0.

    Raises:
        ValueError: an area is negative or larger than the map.
    """
    b, g, n = np.broadcast_arrays(
        np.asarray(salient_area, np.int64), np.asarray(annotation_area, np.int64), np.asarray(pixels, np.int64)
    )
    shape = b.shape
    b, g, n = b.ravel(), g.ravel(), n.ravel()
    if b.size == 0:
        return np.zeros(shape)
    _check_areas(b, g, n)
    # the IoU is symmetric in b and g, and the same areas return again and again: each triple is computed once
    small, large = np.minimum(b, g), np.maximum(b, g)
    one, row = _distinct(n, large, small)
    return _iou_of_triples(small[one], large[one], n[one])[row].reshape(shape)


def _distinct(*columns: _Ints) -> tuple[_Ints, _Ints]:
    """A row of each combination of values, the combinations in order, and of every row which combination it has.

    The columns hold no negative numbers. One number stands for a combination, since rows of several sort slowly; where
    it would pass 64 bits, what was joined so far is numbered anew by its rank, which is less than the number of rows.
    """
    code, span = np.zeros(columns[0].shape, np.int64), 1
    for column in columns:
        values = int(column.max()) + 1
        if span * values > np.iinfo(np.int64).max:
            known, code = np.unique(code, return_inverse=True)
            span = known.size
        code, span = code * values + column, span * values
    found, row = np.unique(code, return_inverse=True)
    one = np.empty(found.size, np.int64)
    one[row] = np.arange(row.size)
    return one, row


def _iou_of_triples(b: _Ints, g: _Ints, n: _Ints) -> _Floats:
    """:func:`expected_iou` for distinct triples, ``b <= g``."""
    result = np.full(b.shape, np.nan)
    result[g > 0] = 0.0
    live = np.flatnonzero(b > 0)
    mean = b[live] * (g[live] / n[live])
    variance = mean * (1 - g[live] / n[live]) * (n[live] - b[live]) / np.maximum(n[live] - 1, 1)
    summed = variance <= _EXACT_SIGMA**2
    for choice, compute in ((summed, _iou_summed), (~summed, _iou_series)):
        chosen = live[choice]
        if chosen.size:
            result[chosen] = compute(b[chosen], g[chosen], n[chosen], mean[choice], variance[choice])
    return result


def _iou_summed(b: _Ints, g: _Ints, n: _Ints, mean: _Floats, variance: _Floats) -> _Floats:
    reach = 8 * np.sqrt(variance) + 12
    first = np.maximum(np.floor(mean - reach).astype(np.int64), np.maximum(0, b + g - n))
    last = np.minimum(np.ceil(mean + reach).astype(np.int64), b)
    log_factorial = gammaln(np.arange(int(n.max()) + 1) + 1.0)
    width = last - first + 1
    order = np.argsort(width, kind="stable")  # rows of about one width share a block: little of it is padding
    result = np.empty(b.shape)
    start = 0
    while start < order.size:
        stop = min(order.size, start + max(1, _BLOCK_CELLS // int(width[order[start]])))
        block = order[start:stop]
        start = stop
        steps = np.arange(int(width[block].max()))
        # a few rows at a time, which stay in the processor's cache; each is summed as in the whole block
        rows = max(1, _CACHED_CELLS // steps.size)
        for part in range(0, block.size, rows):
            chosen = block[part : part + rows]
            result[chosen] = _summed(b[chosen], g[chosen], n[chosen], first[chosen], last[chosen], steps, log_factorial)
    return result


def _summed(b: _Ints, g: _Ints, n: _Ints, first: _Ints, last: _Ints, steps: _Ints, log_factorial: _Floats) -> _Floats:
    """The sum over overlaps from first to last, in as many steps as the widest row needs."""
    x = first[:, None] + steps[None, :]
    inside = x <= last[:, None]
    x = np.minimum(x, last[:, None])
    bb, gg, nn = b[:, None], g[:, None], n[:, None]
    log_weight = -(log_factorial[x] + log_factorial[gg - x] + log_factorial[bb - x] + log_factorial[nn - gg - bb + x])
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True)) * inside
    ratio: _Floats = (weight * (x / (bb + gg - x))).sum(axis=1) / weight.sum(axis=1)
    return ratio


def _iou_series(b: _Ints, g: _Ints, n: _Ints, mean: _Floats, variance: _Floats) -> _Floats:
    # f(x) = x / (s - x) has the k-th derivative k! s / (s - x)^(k + 1), so E f = f(mu) + s sum_k m_k / (s - mu)^(k + 1)
    bb, gg, nn = b.astype(np.float64), g.astype(np.float64), n.astype(np.float64)
    gap = bb + gg - mean
    third = variance * (nn - 2 * gg) * (nn - 2 * bb) / (nn * (nn - 2))
    # excess kurtosis of the hypergeometric distribution, as in its standard references
    inner = nn * (nn + 1) - 6 * gg * (nn - gg) - 6 * bb * (nn - bb)
    numerator = (nn - 1) * nn**2 * inner + 6 * bb * gg * (nn - gg) * (nn - bb) * (5 * nn - 6)
    excess = numerator / (bb * gg * (nn - gg) * (nn - bb) * (nn - 2) * (nn - 3))
    fourth = variance**2 * (3 + excess)
    total = bb + gg
    return mean / gap + total * (variance / gap**3 + third / gap**4 + fourth / gap**5)


def _share(part: _Ints, whole: _Ints) -> _Floats:
    share: _Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return share


_Level = Callable[[_Ints, _Ints, _Ints], _Floats]

#: the registry's word for a metric's chance level -> the level of (b, g, N)
_CHANCE: Final[dict[str, _Level]] = {
    "hypergeometric": expected_iou,
    "salient_share": lambda b, g, n: _share(b, n),
    "annotated_share": lambda b, g, n: _share(g, n),
    "half": lambda b, g, n: np.full(b.shape, 0.5),
    "zero": lambda b, g, n: np.zeros(b.shape),
}

#: what the two areas allow at best, where that is less than the metric's maximum
_CEILING: Final[dict[str, _Level]] = {
    "iou_coverage": lambda b, g, n: _share(np.minimum(b, g), np.maximum(b, g)),
    "ground_truth_coverage": lambda b, g, n: _share(np.minimum(b, g), g),
    "saliency_coverage": lambda b, g, n: _share(np.minimum(b, g), b),
}


def known_metric(name: str) -> Metric | None:
    """The registered metric of a column's name; None for a column of somebody else's making."""
    try:
        return get_metric(name)
    except UsageError:
        return None


def metric_label(name: str) -> str:
    """A metric's short heading; its own name where it is not registered."""
    known = known_metric(name)
    return known.label if known else name


class _Areas:
    """Areas of decisions as whole numbers, where they are known; what several levels need is made once."""

    def __init__(self, b: ArrayLike, g: ArrayLike, n: ArrayLike) -> None:
        self._areas = np.broadcast_arrays(
            np.asarray(b, np.float64), np.asarray(g, np.float64), np.asarray(n, np.float64)
        )
        self.shape = self._areas[0].shape
        self._made: dict[bool, tuple[NDArray[np.bool_], list[_Ints]]] = {}
        self._applied: dict[_Level, _Floats] = {}

    def of(self, level: _Level, *, salient_needed: bool) -> _Floats:
        """``level`` where its areas are known, NaN elsewhere; not to be written to."""
        if level not in self._applied:
            known, areas = self._known(salient_needed)
            result = np.full(self.shape, np.nan)
            result[known] = level(*areas)
            self._applied[level] = result
        return self._applied[level]

    def _known(self, salient_needed: bool) -> tuple[NDArray[np.bool_], list[_Ints]]:
        if salient_needed not in self._made:
            salient, annotated, pixels = self._areas
            known = np.isfinite(annotated) & np.isfinite(pixels)
            sure = np.isfinite(salient)
            if salient_needed:
                known &= sure
            salient = salient[known] if salient_needed else np.where(sure, salient, 0)[known]
            areas = [area.astype(np.int64) for area in (salient, annotated[known], pixels[known])]
            _check_areas(*areas)
            self._made[salient_needed] = known, areas
        return self._made[salient_needed]


def _check_areas(b: _Ints, g: _Ints, n: _Ints) -> None:
    if b.size and (min(b.min(), g.min(), n.min()) < 0 or (b > n).any() or (g > n).any()):
        raise ValueError("areas must lie between 0 and the map's pixels")


def chance_levels(metric: str, salient_area: ArrayLike, annotation_area: ArrayLike, pixels: ArrayLike) -> _Floats:
    """What a map with its pixels shuffled scores on average, per decision.

    ``ground_truth_coverage``: b/N; ``saliency_coverage``, ``pointing_game``, ``relevance_mass_accuracy``,
    ``relevance_rank_accuracy``, ``top_k_intersection``: g/N; ``roc_auc``: 1/2; correlations: 0; ``iou_coverage``:
    :func:`expected_iou`. Which of these a metric has is written in ``explanation_alignment.metrics.registry``.

    Args:
        metric: a metric's column name, with arguments or without (``"pointing_game(tolerance=15)"``).
        salient_area: ``b`` per decision, pixels; NaN where unknown.
        annotation_area: ``g`` per decision, pixels; broadcasts.
        pixels: ``N`` per decision; broadcasts.

    Returns:
        float64 array of the broadcast shape; NaN where an area is unknown or the areas do not determine the level (all
        of a metric without one, such as a pointing game with a tolerance).

    Raises:
        ValueError: an area is negative or larger than the map.
    """
    return _chance_of(metric, _Areas(salient_area, annotation_area, pixels))


def _chance_of(metric: str, areas: _Areas) -> _Floats:
    known = known_metric(metric)
    kind = None if known is None else known.chance
    level = _nowhere if kind is None else _CHANCE[kind]
    return areas.of(level, salient_needed=kind in ("hypergeometric", "salient_share"))


def ceiling_levels(metric: str, salient_area: ArrayLike, annotation_area: ArrayLike, pixels: ArrayLike) -> _Floats:
    """The best score that a binarized map of ``b`` pixels can reach on an annotation of ``g``, per decision.

    ``iou_coverage``: min(b, g)/max(b, g); ``ground_truth_coverage``: min(b, g)/g; ``saliency_coverage``: min(b, g)/b;
    the metric's maximum for the others that have a chance level. Arguments, result and errors as in
    :func:`chance_levels`.
    """
    return _ceiling_of(metric, _Areas(salient_area, annotation_area, pixels))


def _ceiling_of(metric: str, areas: _Areas) -> _Floats:
    known = known_metric(metric)
    if known is None or known.chance is None:
        return areas.of(_nowhere, salient_needed=False)
    if known.base in _CEILING:
        return areas.of(_CEILING[known.base], salient_needed=True)
    best = known.range[1]
    return areas.of(lambda b, g, n: np.full(b.shape, best), salient_needed=False)


def levels_of(
    metrics: Sequence[str], salient_area: ArrayLike, annotation_area: ArrayLike, pixels: ArrayLike
) -> dict[str, tuple[_Floats, _Floats]]:
    """:func:`chance_levels` and :func:`ceiling_levels` of several metrics; what they share is computed once.

    Returns:
        Metric -> chance and ceiling; metrics of one kind may share an array.
    """
    areas = _Areas(salient_area, annotation_area, pixels)
    return {metric: (_chance_of(metric, areas), _ceiling_of(metric, areas)) for metric in metrics}


def _nowhere(b: _Ints, g: _Ints, n: _Ints) -> _Floats:
    return np.full(b.shape, np.nan)


def adjusted_for_chance(ea: float | None, chance: float | None, ceiling: float | None) -> float | None:
    """``(ea - chance) / (ceiling - chance)``: 0 is chance, 1 the best that the areas allow.

    Returns:
        The adjusted value, or None where one of the three is missing or the ceiling equals chance.
    """
    if ea is None or chance is None or ceiling is None or ceiling == chance:
        return None
    return (ea - chance) / (ceiling - chance)
