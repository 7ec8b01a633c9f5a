"""Means of a class-balanced sample as estimates for the whole dataset it was drawn from.

Within each class the images were drawn with equal chance and without replacement, so each class is a stratum. An image
stands for as many images as its class has for each one drawn, w = M_h / n_h; the mean is the ratio of the weighted
sums, and its variance that of a stratified sample with the finite population correction (Cochran 1977, Sampling
Techniques, sections 5.4 and 6.11), for the linearised residuals z = w (sum - mean * count)::

    V = sum over classes h of (1 - n_h / M_h) n_h / (n_h - 1) sum over its images of (z - mean z)^2 / (sum of w count)^2

An image outside of a group belongs to its class with z = 0, as in any domain of a sample. Classes with one image drawn
say nothing of how their images vary: they are taken together as one stratum, whose variance contains that between the
classes and so is never too small on average (section 5A.12). Where the sample is smaller than the number of classes, a
class is in it with a chance that grows with its size, since classes come in the order of their first image in one
random order of all: 1 - exp(-M_h t) with t such that these add up to the number of classes drawn (successive sampling;
Rosen 1972, Annals of Mathematical Statistics 43); w is divided by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq

from explanation_alignment.statistics.intervals import Estimate, MeanEstimator, Moments, Scale

__all__ = ["DESIGN_KEY", "Design", "Populations", "design_of", "estimate_sampled", "stratified_moments"]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

#: What a sample is drawn for: once a model, seed, dataset and target.
DESIGN_KEY: Final = ("model", "seed", "dataset", "target")
#: A value of the key -> how many images of each class the dataset has, those without a label last.
Populations: TypeAlias = Mapping[tuple[Any, ...], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Design:
    """How the images of rows were drawn.

    Args:
        weight: (rows,) float64, how many images of the dataset an image stands for; NaN where all images are there.
        stratum: (rows,) int64, place in the next two.
        drawn: (strata,) float64, images drawn.
        left: (strata,) float64, share of the stratum's images that were not.
    """

    weight: _Floats
    stratum: _Ints
    drawn: _Floats
    left: _Floats


def design_of(rows: pl.DataFrame, populations: Populations) -> Design | None:
    """The design of rows of ``scores``.

    An image that could not be read counts as not drawn.

    Args:
        rows: with the key's columns, ``sample_id``, ``label`` and ``status``.
        populations: of those that are samples.

    Returns:
        None where none of the rows is of a sample.
    """
    weight, stratum = np.full(rows.height, np.nan), np.full(rows.height, -1, dtype=np.int64)
    drawn: list[float] = []
    left: list[float] = []
    for key, counts in populations.items():
        same = pl.all_horizontal(pl.col(name) == value for name, value in zip(DESIGN_KEY, key, strict=True))
        mine = rows.with_row_index("_row").filter(same)
        if mine.is_empty():
            continue
        none = len(counts) - 1
        known = mine.select(
            "_row", "sample_id", pl.col("label").fill_null(none).cast(pl.Int64), _read=pl.col("status") != "error"
        ).with_columns(pl.col("_read").any().over("sample_id"))
        images = known.filter("_read").unique("sample_id")
        classes = np.bincount(images["label"].to_numpy(), minlength=len(counts))
        weights, codes, sizes, shares = _strata(classes, np.asarray(counts, dtype=np.int64))
        place, label = known["_row"].to_numpy(), known["label"].to_numpy()
        weight[place] = np.where(known["_read"].to_numpy(), weights[label], 0.0)
        stratum[place] = codes[label] + len(drawn)
        drawn += sizes
        left += shares
    if not drawn:
        return None
    return Design(weight, stratum, np.array(drawn), np.array(left))


def _strata(drawn: _Ints, there: _Ints) -> tuple[_Floats, _Ints, list[float], list[float]]:
    """Of each class its weight and stratum; of each stratum the images drawn and the share left.

    Args:
        drawn: (classes,) images drawn of each.
        there: (classes,) images the dataset has of each.
    """
    some = drawn > 0
    chance = np.ones(len(drawn))
    if (there[~some] > 0).any() and some.sum() > 1:
        goal, sizes = float(some.sum()), there[there > 0].astype(np.float64)
        rate = brentq(lambda t: float((1 - np.exp(-sizes * t)).sum()) - goal, 0.0, 60.0)
        chance = 1 - np.exp(-there * rate)
    weights = np.divide(there, drawn * chance, out=np.zeros(len(drawn)), where=some & (there > 0))
    single = (drawn == 1) & ((there > 1) | ~(there[~some] == 0).all())
    several = np.flatnonzero(some & ~single)
    codes = np.zeros(len(drawn), dtype=np.int64)
    codes[several] = np.arange(len(several))
    sizes_of, of = drawn[several].astype(np.float64), there[several].astype(np.float64)
    if single.sum() == 1 and len(several):  # alone it would say nothing of how it varies
        codes[single] = 0
        sizes_of[0] += 1
        of[0] += there[single][0]
    elif single.any():
        codes[single] = len(several)
        sizes_of = np.append(sizes_of, single.sum())
        of = np.append(of, there[single].sum() + there[~some].sum())
    return weights, codes, sizes_of.tolist(), (1 - np.minimum(sizes_of / of, 1)).tolist()


def stratified_moments(values: _Floats, weight: _Floats, stratum: _Ints, design: Design) -> Moments:
    """What the values of a sample's images amount to, for the whole dataset.

    Args:
        values: (images, columns) float64, NaN where undefined.
        weight: (images,) of each image.
        stratum: (images,) likewise.
        design: with the strata.
    """
    defined = ~np.isnan(values)
    known = np.where(defined, values, 0.0)
    total = weight @ defined
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(total > 0, (weight @ known) / total, np.nan)
    residual = weight[:, None] * np.where(defined, known - np.nan_to_num(mean), 0.0)
    codes, place = np.unique(stratum, return_inverse=True)
    drawn, left = design.drawn[codes], design.left[codes]
    here = np.zeros((len(codes), len(values)))
    here[place, np.arange(len(values))] = 1.0
    centre = (here @ residual) / drawn[:, None]
    off = residual - centre[place]  # of the images here; the others of a stratum have no residual of their own
    outside = drawn - here.sum(axis=1)
    factor = np.where(drawn > 1, left * drawn / np.maximum(drawn - 1, 1), 0.0)
    square = factor @ (here @ off**2 + outside[:, None] * centre**2)
    third = factor @ (here @ off**3 - outside[:, None] * centre**3)
    fourth = (factor**2) @ (here @ off**4 + outside[:, None] * centre**4)
    units = defined.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.where(total > 0, square / total**2, 0.0)
        skewness = np.where(square > 0, third / square**1.5, 0.0)
        behind = np.where(fourth > 0, square**2 / fourth, 0.0)
    freedom = np.clip(float((drawn - 1)[left > 0].sum()), 1, np.maximum(units - 1, 1)).astype(np.float64)
    return Moments(
        mean=mean,
        n=units.astype(np.float64),
        units=units,
        seeds=np.minimum(units, 1),
        variance=variance,
        added=np.zeros(len(mean)),
        skewness=skewness,
        behind_variance=behind,
        single=np.zeros(len(mean), dtype=np.bool_),
        freedom=freedom,
    )


def estimate_sampled(
    design: Design,
    cell: _Ints,
    cells: int,
    columns: Sequence[_Floats],
    scales: Sequence[Scale],
    estimator: MeanEstimator,
) -> dict[int, list[Estimate]]:
    """Estimates for those cells whose rows are a sample's: cell -> an estimate a column.

    Args:
        design: of the rows.
        cell: (rows,) int64, which cell a row belongs to; a cell holds an image once.
        cells: how many cells there are.
        columns: (rows,) float64 values each, NaN where undefined.
        scales: what values each column can take.
        estimator: its level counts; nothing is resampled.
    """
    order = np.argsort(cell, kind="stable")
    bounds = np.searchsorted(cell[order], np.arange(cells + 1))
    result = {}
    for c in range(cells):
        rows = order[bounds[c] : bounds[c + 1]]
        if not len(rows) or np.isnan(design.weight[rows]).any():
            continue
        values = np.stack([column[rows] for column in columns], axis=1)
        moments = stratified_moments(values, design.weight[rows], design.stratum[rows], design)
        informative = (np.nan_to_num(values) != 0).sum(axis=0)
        number = np.full(len(columns), len(rows))
        result[c] = estimator.estimate_moments(moments, number, scales, informative)
    return result
