"""Pairs of models that are as accurate as each other and yet differ in explanation alignment.

Accuracy alone would not tell such models apart: what alignment adds is there to see. "As accurate" is more than "no
difference shown", which few images always give: the interval of the difference must lie within a margin.

With m models and n images every count that a pair's accuracy rests on is a product of (m, n) and (n, m) matrices, and
one evaluation is read at a time, so that memory holds a few (n, m) matrices and time grows with the number of pairs
only in the tests of alignment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.errors import RunError, UnknownNameError, UsageError
from explanation_alignment.runs.parts import has_scores
from explanation_alignment.runs.schema import NULL_METHODS
from explanation_alignment.statistics.chance import chance_levels, metric_label
from explanation_alignment.statistics.comparing.differences import paired_hits
from explanation_alignment.statistics.comparing.numbers import Asked, SignTests, compare_block, pairs_of
from explanation_alignment.statistics.comparing.permutation import mcnemar_test
from explanation_alignment.statistics.comparing.rows import Block, check_images
from explanation_alignment.statistics.inputs import RunOrScores, as_run, score_rows
from explanation_alignment.statistics.intervals import MeanEstimator
from explanation_alignment.statistics.multiplicity import holm
from explanation_alignment.statistics.tables import CELL, areas_of, metric_columns, scale_of

__all__ = [
    "DIFFERENTLY_ALIGNED",
    "EQUAL_ACCURACY_SCHEMA",
    "VERDICTS",
    "equal_accuracy_sentences",
    "equally_accurate",
    "images_to_tell",
]

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

#: The verdict on the pairs this is about.
DIFFERENTLY_ALIGNED: Final = "differently aligned"
#: What is said of a pair.
VERDICTS: Final = (
    DIFFERENTLY_ALIGNED,
    "no difference shown",
    "different accuracy",
    "too wide to tell",
    "unknown",
)

#: Columns of the table of :func:`equally_accurate`.
EQUAL_ACCURACY_SCHEMA: Final = pl.Schema(
    {
        "seed": pl.Int64,
        "dataset": pl.String,
        "target": pl.String,
        "method": pl.String,
        "binarization": pl.String,
        "region": pl.String,
        "metric": pl.String,
        "first": pl.String,
        "second": pl.String,
        "mean_first": pl.Float64,
        "mean_second": pl.Float64,
        "difference": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "p_value": pl.Float64,
        "p_holm": pl.Float64,
        "n": pl.Int64,
        "n_undefined": pl.Int64,
        "unreliable": pl.Boolean,
        "accuracy_first": pl.Float64,
        "accuracy_second": pl.Float64,
        "accuracy_difference": pl.Float64,
        "accuracy_low": pl.Float64,
        "accuracy_high": pl.Float64,
        "accuracy_p": pl.Float64,
        "n_accuracy": pl.Int64,
        "verdict": pl.String,
    }
)

_KEYS: Final = tuple(name for name in CELL if name != "model")
_OF_ACCURACY: Final = ("seed", "dataset")
_AREAS: Final = ("salient_area", "annotation_area", "map_height", "map_width")


def equally_accurate(
    run_or_scores: RunOrScores,
    *,
    margin: float = 0.01,
    metrics: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
    common: bool = False,
    all_pairs: bool = False,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """Pairs of models with the same accuracy, as far as can be told, and clearly different explanation alignment.

    Two models are *equally accurate* where McNemar's exact test on the same images shows no difference (p, not
    corrected, at least ``1 - level``) and the interval of the difference lies within ``margin`` on either side of 0.
    Where the test shows none but the interval is wider, there are too few images to tell. Their alignment *differs*
    where ``p_holm`` is below ``1 - level`` and the interval excludes 0. Tests and intervals are those of
    :func:`~explanation_alignment.statistics.comparing.comparison.compare`, corrected (Holm) for every pair of every
    cell and metric asked for, whatever its accuracy.

    Args:
        run_or_scores: a run, its folder, or rows of its ``scores``. A run is read an evaluation at a time.
        margin: the difference of accuracy that would not matter, as a share: 0.01 is one percentage point.
        metrics: those alone; all by default. Fewer metrics, regions and methods are corrected for less.
        models: those alone.
        datasets: those alone.
        methods: those alone; all that explain a model by default.
        regions: those alone.
        common: where two were evaluated on different images, compare those they share instead of refusing.
        all_pairs: return every pair with its verdict.
        level: nominal coverage of the intervals, and one minus it the level of the tests.
        n_resamples: drawn permutations.
        seed: seed of the draws.

    Returns:
        The columns of ``EQUAL_ACCURACY_SCHEMA``, a row a pair, cell and metric, from the largest difference in
        alignment to the smallest within each metric: the cell; ``first`` (the one with the higher mean) and ``second``;
        their means over the ``n`` decisions that both define, ``difference``, its interval (null where the two are not
        equally accurate: it is not computed) and p-values; then the same of accuracy, over ``n_accuracy`` images; and
        one of ``VERDICTS``: ``differently aligned``; ``no difference shown``, equally accurate, and alike as far as can
        be told; ``different accuracy``, even where it is by less than the margin; ``too wide to tell``; ``unknown``
        where nothing is defined in both.

    Raises:
        UsageError: fewer than two models, images or labels differ, or an argument means nothing.
        UnknownNameError: there is no such metric, model, dataset, method or region.
        RunError: a run cannot be read, or its rows repeat a decision.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> right, images = rng.random(2000) < 0.8, [f"image {i}" for i in range(2000)]
        >>> scores = pl.concat([pl.DataFrame({
        ...     "model": name, "seed": 0, "dataset": "d", "sample_id": images, "target": "predicted",
        ...     "method": "gradcam", "binarization": "threshold:0.5", "region": "object", "correct": right,
        ...     "status": "ok", "iou_coverage": share * rng.random(2000), "annotation_area": 4, "salient_area": 4,
        ...     "map_height": 4, "map_width": 4,
        ... }) for name, share in (("honest", 0.9), ("cheating", 0.4))])
        >>> equally_accurate(scores).select("first", "second", "accuracy_difference", "verdict").row(0)
        ('honest', 'cheating', 0.0, 'differently aligned')
    """
    MeanEstimator(level=level, n_resamples=n_resamples, seed=seed)  # refuses settings that mean nothing
    if not 0 < margin < 0.5:
        raise UsageError(f"margin is a share between 0 and 0.5, such as 0.01 for one percentage point; got {margin}")
    asked = Asked("model", None, common, True, False, level, n_resamples, seed)
    source = _Source(run_or_scores, metrics, dict(zip(_CHOSEN, (models, datasets, methods, regions), strict=True)))
    parts = [part for cell in source.cells() for part in _compared(source, cell, asked, margin)]
    if not parts:
        raise UsageError("nothing to compare: no two models were evaluated alike (seed, dataset, target, method, ...)")
    table = _with_verdicts(pl.concat(parts), margin, level)
    order = {name: i for i, name in enumerate(source.metrics)}
    table = (
        table.with_columns(_metric=pl.col("metric").replace_strict(order, return_dtype=pl.Int64))
        .sort("_metric", "difference", "first", "second", descending=[False, True, False, False], nulls_last=True)
        .select(EQUAL_ACCURACY_SCHEMA.names())
        .cast(dict(EQUAL_ACCURACY_SCHEMA))  # type: ignore[arg-type]
    )
    return table if all_pairs else table.filter(pl.col("verdict") == DIFFERENTLY_ALIGNED)


_CHOSEN: Final = ("model", "dataset", "method", "region")


def images_to_tell(table: pl.DataFrame, margin: float) -> int | None:
    """How many images it takes at least before any two models can be shown to be equally accurate.

    Args:
        table: from :func:`equally_accurate` with ``all_pairs``.
        margin: as it was given there.

    Returns:
        About as many images as make the narrowest interval as wide as the margin on both sides; None where one is
        narrow enough already, so that it is the models that decide.
    """
    half = (pl.col("accuracy_high") - pl.col("accuracy_low")) / 2
    narrowest = table.select(n=pl.col("n_accuracy"), half=half).drop_nulls().sort("half").head(1)
    if narrowest.is_empty() or narrowest["half"].item() <= margin:
        return None
    return math.ceil(float(narrowest["n"].item()) * (float(narrowest["half"].item()) / margin) ** 2)


def equal_accuracy_sentences(table: pl.DataFrame, margin: float) -> list[str]:
    """What was found, counted, in plain words.

    Args:
        table: from :func:`equally_accurate` with ``all_pairs``.
        margin: as it was given there.
    """
    metrics: list[str] = table["metric"].unique(maintain_order=True).to_list()
    points = f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"
    lines = []
    for metric in metrics:
        counts = dict(table.filter(metric=metric).group_by("verdict").agg(pl.len()).iter_rows())
        found, alike = counts.get(DIFFERENTLY_ALIGNED, 0), counts.get("no difference shown", 0)
        lines.append(
            f"{metric_label(metric)}: of {sum(counts.values()):,} pairs {found + alike:,} are equally accurate "
            f"(within {points}); {found:,} of these differ in alignment."
        )
    one = table.filter(metric=metrics[0]) if metrics else table
    counts = dict(one.group_by("verdict").agg(pl.len()).iter_rows())
    if wide := counts.get("too wide to tell", 0):
        lines.append(
            f"For {wide:,} pairs it cannot be told: no difference of accuracy shows, and its interval is too wide for "
            "the margin. More images, or a wider margin, would decide."
        )
    images = images_to_tell(table, margin)
    if images is not None:
        lines.append(
            f"With so few images no two models can be shown to be equally accurate; it takes about {images:,}."
        )
    if counts.get("unknown"):
        lines.append(f"For {counts['unknown']:,} pairs nothing is known: no decision that both define.")
    return lines


# ------------------------------------------------------------------------------------------------ what is read


@dataclass(frozen=True, slots=True)
class _Cell:
    """All else equal: the key, the models there, and the parts whose rows hold them."""

    key: Mapping[str, Any]
    models: Sequence[str]
    parts: Sequence[int]


class _Source:
    """The scores, an evaluation at a time."""

    def __init__(
        self, given: RunOrScores, metrics: Sequence[str] | None, chosen: Mapping[str, Sequence[str] | None]
    ) -> None:
        run = as_run(given)
        if run is None:
            self._parts = [score_rows(given).lazy()]
        else:
            written = [s for s in run.evaluations if has_scores(run.path, s)]
            if not written:
                raise run.no_scores()
            self._parts = [run.scan_scores([slug]) for slug in written]
        self._columns = [part.collect_schema().names() for part in self._parts]
        missing = [name for name in (*CELL, "sample_id", "correct", *_AREAS) if name not in self._columns[0]]
        if missing:
            raise RunError(f"these are not the scores of a run: column {missing[0]!r} is missing")
        known = metric_columns({name for names in self._columns for name in names})
        for metric in metrics or ():
            if metric not in known:
                raise UnknownNameError("metric of these scores", metric, known)
        self.metrics = known if metrics is None else [name for name in known if name in metrics]
        self._words = pl.col(*(name for name in CELL if name != "seed")).cast(pl.String)
        keys = [
            part.select(self._words, pl.col("seed").cast(pl.Int64)).unique().collect().with_columns(_part=pl.lit(i))
            for i, part in enumerate(self._parts)
        ]
        table = pl.concat(keys)
        for column, wanted in chosen.items():
            names = table[column].unique().to_list()
            for name in wanted or ():
                if name not in names:
                    raise UnknownNameError(f"{column} of this run", name, [str(n) for n in names])
            if wanted:
                table = table.filter(pl.col(column).is_in(list(wanted)))
        if not chosen["method"]:
            explaining = table.filter(~pl.col("method").str.split("(").list.first().is_in(NULL_METHODS))
            table = table if explaining.is_empty() else explaining
        self._table = table
        self._accuracy: tuple[tuple[Any, ...], Block] | None = None  # the last one; cells come sorted

    def cells(self) -> Iterator[_Cell]:
        """The cells with two models at least, in order."""
        parts = self._table.partition_by(list(_KEYS), as_dict=True)
        for key, part in sorted(parts.items(), key=lambda item: [(v is not None, v) for v in item[0]]):
            models = part["model"].unique().sort().to_list()
            if len(models) > 1:
                yield _Cell(dict(zip(_KEYS, key, strict=True)), models, part["_part"].unique().sort().to_list())

    def _rows(self, part: int, key: Mapping[str, Any], models: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
        """The rows of a part with this key: ``model``, ``sample_id``, ``_label`` and the columns it has of those."""
        names = self._columns[part]
        wanted = [name for name in columns if name in names]
        label = pl.col("label").cast(pl.String) if "label" in names else pl.lit(None, pl.String)
        rows = self._parts[part].filter(
            pl.col("model").cast(pl.String).is_in(list(models)),
            *(
                pl.col(name).cast(pl.Int64 if name == "seed" else pl.String).eq_missing(pl.lit(value))
                for name, value in key.items()
            ),
        )
        return rows.select(pl.col("model").cast(pl.String), "sample_id", *wanted, label.alias("_label")).collect()

    def accuracy(self, cell: _Cell) -> Block:
        """Whether each model is right, for each image once; NaN where its decision failed."""
        key = {name: cell.key[name] for name in _OF_ACCURACY}
        identity = (*key.values(), tuple(cell.models))
        if self._accuracy is None or self._accuracy[0] != identity:
            parts = [
                self._rows(part, key, cell.models, ["correct"])
                .group_by("model", "sample_id")
                .agg(  # a row of the image may have failed where another did not
                    pl.col("correct").max().cast(pl.Float64), pl.col("_label").drop_nulls().first()
                )
                for part in cell.parts
            ]
            self._accuracy = identity, _block(key, cell.models, parts, {"correct": "accuracy"})
        return self._accuracy[1]

    def alignment(self, cell: _Cell) -> Block:
        """Each model's scores of each image."""
        parts = []
        for part in cell.parts:
            rows = self._rows(part, cell.key, cell.models, [*self.metrics, *_AREAS])
            areas = areas_of(rows)
            levels = {f"_chance {m}": pl.Series(chance_levels(m, *areas)) for m in self.metrics if m in rows.columns}
            parts.append(rows.with_columns(**levels).drop(_AREAS))
        return _block(cell.key, cell.models, parts, {name: name for name in self.metrics})


def _block(
    key: Mapping[str, Any], models: Sequence[str], parts: Sequence[pl.DataFrame], columns: Mapping[str, str]
) -> Block:
    """The parts side by side; ``columns`` says under which names their columns go."""
    where = ", ".join(str(value) for value in key.values() if value is not None)
    ids = pl.concat([part.select("sample_id") for part in parts]).to_series().unique().sort()
    shape = (ids.len(), len(models))
    present = np.zeros(shape, bool)
    scores = {name: np.full(shape, np.nan) for name in columns.values()}
    chance = {name: np.full(shape, np.nan) for name in columns.values()}
    words = pl.Enum(pl.concat([part.select("_label") for part in parts]).to_series().drop_nulls().unique().sort())
    labels = np.full(shape[0], -1, np.int64)  # unknown
    for part in parts:
        row = part["sample_id"].cast(pl.Enum(ids)).to_physical().to_numpy().astype(np.int64)
        column = part["model"].cast(pl.Enum(list(models))).to_physical().to_numpy().astype(np.int64)
        place = row * shape[1] + column
        repeated = np.unique(place).size < place.size or bool(present[row, column].any())
        if repeated:
            raise RunError(f"an image has several rows in {where}; a decision, method and region has one row")
        own = part["_label"].cast(words).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        new = (labels[row] < 0) & (own >= 0)
        labels[row[new]] = own[new]
        clash = np.flatnonzero((labels[row] != own) & (own >= 0))
        if clash.size:
            raise UsageError(
                f"image {part['sample_id'][int(clash[0])]!r} has different labels in what is compared ({where}): the "
                "ids are the same, the images are not"
            )
        present[row, column] = True
        for name, under in columns.items():
            if name in part.columns:
                scores[under][row, column] = part[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
                if f"_chance {name}" in part.columns:
                    chance[under][row, column] = part[f"_chance {name}"].to_numpy()
    return Block(key, models, ids.to_list(), np.arange(shape[0]), present, scores, chance)


# --------------------------------------------------------------------------------------------------- numbers


def _compared(source: _Source, cell: _Cell, asked: Asked, margin: float) -> Iterator[pl.DataFrame]:
    """The pairs of one cell, a table a metric; without what is corrected for the whole table."""
    first, second = pairs_of(cell.models, None)
    alignment = source.alignment(cell)
    check_images(alignment, first, second, common=asked.common)
    decisions = source.accuracy(cell)
    accuracy = _hit_counts(decisions.scores["accuracy"], first, second)
    found = paired_hits(*accuracy, asked.level)
    p, _ = mcnemar_test(accuracy[1], accuracy[2])
    p = np.where(accuracy[3] > 0, p, np.nan)
    equal = (p >= 1 - asked.level) & (found.low >= -margin) & (found.high <= margin)
    names = np.array(cell.models)
    for metric in source.metrics:
        scores = alignment.scores[metric]
        known = ~np.isnan(scores)
        means, n, shared = _means(scores, known, alignment.present, first, second)
        numbers: dict[str, Any] = {
            "mean_first": means[0],
            "mean_second": means[1],
            "difference": means[0] - means[1],
            "ci_low": np.full(first.size, np.nan),
            "ci_high": np.full(first.size, np.nan),
            "p_value": _p_values(alignment, metric, first, second, n, asked),
            "n": n,
            "n_undefined": shared - n,
            "unreliable": np.zeros(first.size, bool),
        }
        chosen = np.flatnonzero(equal & (n > 0))
        if chosen.size:
            waiting = SignTests(asked)  # never run: these pairs are tested among all others
            told = compare_block(alignment, metric, first[chosen], second[chosen], asked, waiting, 0)
            for name in ("ci_low", "ci_high", "unreliable"):
                numbers[name][chosen] = told[name]
        table = pl.DataFrame(
            {
                "first": names[first],
                "second": names[second],
                **numbers,
                "accuracy_first": found.first,
                "accuracy_second": found.second,
                "accuracy_difference": found.first - found.second,
                "accuracy_low": found.low,
                "accuracy_high": found.high,
                "accuracy_p": p,
                "n_accuracy": accuracy[3].astype(np.int64),
            }
        )
        key = {name: pl.lit(value, EQUAL_ACCURACY_SCHEMA[name]) for name, value in cell.key.items()}
        yield table.with_columns(metric=pl.lit(metric), **key)


def _hit_counts(hits: _Floats, first: _Ints, second: _Ints) -> tuple[_Floats, _Floats, _Floats, _Floats]:
    """(pairs,) images that both hit, only the first, only the second, and images that both decide."""
    known = (~np.isnan(hits)).astype(np.float64)
    right = np.nan_to_num(hits)
    both, of_one, n = right.T @ right, right.T @ known, known.T @ known
    pair = (first, second)
    return both[pair], of_one[pair] - both[pair], of_one[second, first] - both[pair], n[pair]


def _means(
    scores: _Floats, known: NDArray[np.bool_], present: NDArray[np.bool_], first: _Ints, second: _Ints
) -> tuple[tuple[_Floats, _Floats], _Ints, _Ints]:
    """Means over what both define, how many these are, and how many decisions both have."""
    defined, there = known.astype(np.float64), present.astype(np.float64)
    sums, counts = np.nan_to_num(scores).T @ defined, defined.T @ defined
    n = counts[first, second]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[first, second] / n, sums[second, first] / n
    shared = (there.T @ there)[first, second]
    return means, np.rint(n).astype(np.int64), np.rint(shared).astype(np.int64)


def _p_values(block: Block, metric: str, first: _Ints, second: _Ints, n: _Ints, asked: Asked) -> _Floats:
    """Tests of every pair, as ``compare`` makes them."""
    if scale_of(metric).binary:
        _, first_only, second_only, images = _hit_counts(block.scores[metric], first, second)
        p, _ = mcnemar_test(first_only, second_only)
        return np.where(images > 0, p, np.nan)
    signs = SignTests(asked)
    signs.add(0, block, block.scores[metric], first, second, n)
    signs.finish()
    return signs.results[0][0]


def _with_verdicts(table: pl.DataFrame, margin: float, level: float) -> pl.DataFrame:
    """Adjusted for the whole table, the higher mean first."""
    floats = [name for name, kind in table.schema.items() if kind == pl.Float64]
    table = table.with_columns(pl.col(floats).fill_nan(None))
    tested = table["p_value"].is_not_null().to_numpy()
    adjusted = np.full(table.height, np.nan)
    adjusted[tested] = holm(table["p_value"].to_numpy()[tested])
    table = table.with_columns(p_holm=pl.Series(adjusted).fill_nan(None))
    inside = (pl.col("accuracy_low") >= -margin) & (pl.col("accuracy_high") <= margin)
    differs = (pl.col("p_holm") < 1 - level) & ((pl.col("ci_low") > 0) | (pl.col("ci_high") < 0))
    verdict = (
        pl.when(pl.col("p_value").is_null() | pl.col("accuracy_p").is_null())
        .then(pl.lit("unknown"))
        .when(pl.col("accuracy_p") < 1 - level)
        .then(pl.lit("different accuracy"))
        .when(~inside)
        .then(pl.lit("too wide to tell"))
        .when(differs)
        .then(pl.lit(DIFFERENTLY_ALIGNED))
        .otherwise(pl.lit("no difference shown"))
    )
    table = table.with_columns(verdict=verdict)
    swapped = pl.col("difference") < 0
    exchanged: dict[str, pl.Expr] = {}
    for one, two in (("first", "second"), ("mean_first", "mean_second"), ("accuracy_first", "accuracy_second")):
        exchanged |= {
            one: pl.when(swapped).then(two).otherwise(one),
            two: pl.when(swapped).then(one).otherwise(two),
        }
    for low, high in (("ci_low", "ci_high"), ("accuracy_low", "accuracy_high")):
        exchanged |= {
            low: pl.when(swapped).then(0 - pl.col(high)).otherwise(low),
            high: pl.when(swapped).then(0 - pl.col(low)).otherwise(high),
        }
    for name in ("difference", "accuracy_difference"):
        exchanged[name] = pl.when(swapped).then(0 - pl.col(name)).otherwise(name)
    return table.with_columns(**exchanged)
