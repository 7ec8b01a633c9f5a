"""Questions to the rows of a run: which decisions, in which order, how many, and these few in full.

A selection is found with the columns its filters and its order need, and kept as the places of its rows; a page reads
only the parts that hold its rows. So it takes little memory whatever the run's size. Knows nothing of a web.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from explanation_alignment.errors import RunError
from explanation_alignment.explorer.addresses.comparison import CompareState, Side
from explanation_alignment.explorer.addresses.fields import OUTCOMES
from explanation_alignment.explorer.addresses.gallery import Filters
from explanation_alignment.explorer.catalogue import Evaluation, Part, Snapshot, collect_some, heights
from explanation_alignment.runs.schema import ATTRIBUTE_PREFIX, STATUSES
from explanation_alignment.statistics.chance import chance_levels
from explanation_alignment.statistics.shared_interest_cases import CASE_COLUMNS, CASES, case_of

__all__ = ["Pairs", "Questions", "Selection", "chances", "outcome"]

#: Places of rows that are kept for later pages, over all answers.
_KEPT_PLACES: Final = 8_000_000
_KEPT_ANSWERS: Final = 64
#: Rows that are read at once for a download.
_CHUNK: Final = 100_000
#: Evaluations that are scanned together.
_SCANNED: Final = 32

_Answer = TypeVar("_Answer", "Selection", "Pairs")

_WORDS: Final = ("model", "dataset", "target", "method", "binarization", "region", "status")
_NEEDED: Final = pl.Schema(
    [
        ("_evaluation", pl.UInt32()),
        ("_row", pl.UInt32()),
        ("_value", pl.Float32()),
        ("_correct", pl.Boolean()),
        ("_status", pl.Enum(STATUSES)),
        ("_sort", pl.Float32()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The rows that filters choose.

    Args:
        places: columns ``_evaluation`` (which of the snapshot's) and ``_row`` (which of its rows), in their order.
        metric: what the mean is of; None where there is no metric.
        mean: of the metric over the rows; None where no score is defined.
        defined: rows with a score.
        undefined: rows without, by status; ``ok`` where the metric's own rule leaves it undefined.
        correct: rows with a right prediction.
        decided: rows of which it is known whether the prediction is right.
    """

    places: pl.DataFrame
    metric: str | None
    mean: float | None
    defined: int
    undefined: Mapping[str, int]
    correct: int
    decided: int

    @property
    def total(self) -> int:
        """How many rows."""
        return self.places.height


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Two models on the same images.

    Args:
        places: columns ``_a_evaluation``, ``_a_row``, ``_b_evaluation``, ``_b_row``, ``a``, ``b`` (outcomes) and
            ``difference`` (a's score minus b's), in their order.
        counts: (outcome of a, outcome of b) -> images, whatever cell was chosen.
        only_a: images that b has no row of.
        only_b: images that a has no row of.
    """

    places: pl.DataFrame
    counts: Mapping[tuple[str, str], int]
    only_a: int
    only_b: int

    @property
    def total(self) -> int:
        """Images both have."""
        return sum(self.counts.values())


class Questions:
    """Answers questions to snapshots, and keeps the answers for their next pages. Several threads may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._selections: OrderedDict[tuple[object, ...], Selection] = OrderedDict()
        self._pairs: OrderedDict[tuple[object, ...], Pairs] = OrderedDict()
        self._heights: dict[Part, int] = {}

    def select(
        self,
        snapshot: Snapshot,
        chosen: Filters,
        sort: str | None = None,
        descending: bool = True,
        pictured: Mapping[str, frozenset[str]] | None = None,
    ) -> Selection:
        """The rows that filters choose, in an order; rows that tie stay in the order of the run, nulls come last.

        Args:
            snapshot: of the run.
            chosen: the filters.
            sort: a column; None for the order of the run.
            descending: the largest first.
            pictured: evaluation -> samples with a picture, for the filter of that name.

        Raises:
            RunError: a part cannot be read.
        """
        shown = frozenset((pictured or {}).items()) if chosen.pictured or sort == "picture" else None
        key = (snapshot.stamp, chosen, sort, descending, shown)
        with self._lock:
            if key in self._selections:
                self._selections.move_to_end(key)
                return self._selections[key]
        metric = chosen.metric or next(iter(snapshot.vocabulary.metrics), None)
        frames = []
        for place, one in enumerate(snapshot.evaluations):
            own = (pictured or {}).get(one.slug, frozenset())
            condition = _condition(chosen, one, own)
            if condition is not None:
                frames.append(one.scan().filter(condition).select(_needed(one, place, metric, sort, own)))
        found = _collected(snapshot, frames) if frames else pl.DataFrame(schema=_NEEDED)
        selection = _selection(found, metric, sort is not None, descending)
        with self._lock:
            _keep(self._selections, key, selection)
        return selection

    def rows(self, snapshot: Snapshot, places: pl.DataFrame) -> pl.DataFrame:
        """Rows in full, in the order of their places.

        Args:
            snapshot: the places are of.
            places: columns ``_evaluation`` and ``_row``.

        Returns:
            Every column of the run, null where an evaluation lacks it, words as String, then ``case`` (null where a
            metric it needs is missing) and ``_slug``, the evaluation.

        Raises:
            RunError: a part cannot be read.
        """
        frames = []
        with snapshot.run.reading():
            for (place,), part in places.group_by("_evaluation", maintain_order=True):
                one = snapshot.evaluations[int(place)]
                ends = np.cumsum(heights(one.parts, self._heights))
                for number, wanted in _by_part(part["_row"].to_numpy(), ends):
                    start = int(ends[number - 1]) if number else 0
                    scan = pl.scan_parquet(
                        one.parts[number].path, row_index_name="_row", row_index_offset=start, glob=False
                    )
                    chosen = scan.filter(pl.col("_row").is_in(wanted.tolist()))
                    frames.append(_in_full(chosen, one).with_columns(_evaluation=pl.lit(place, pl.UInt32)))
            if not frames:
                words = {name: pl.String() for name in (*snapshot.columns, "case", "_slug")}
                return pl.DataFrame(schema=words | {"case": pl.Enum(CASES)})
            table = pl.concat(collect_some(frames), how="diagonal_relaxed")
        ordered = places.select(pl.col("_evaluation", "_row").cast(pl.UInt32)).join(
            table.with_columns(pl.col("_row").cast(pl.UInt32)),
            on=["_evaluation", "_row"],
            how="left",
            maintain_order="left",
        )
        lacking = {name: kind for name, kind in snapshot.columns.items() if name not in ordered.columns}
        whole = ordered.with_columns(pl.lit(None, kind).alias(name) for name, kind in lacking.items())
        return whole.select(*snapshot.columns, "case", "_slug")

    def chunks(self, snapshot: Snapshot, places: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The same rows, as many at a time as memory bears.

        More than fit at once come in the order of the run, so that each part is read once.
        """
        if places.height > _CHUNK:
            places = places.sort("_evaluation", "_row")
        for start in range(0, places.height, _CHUNK):
            yield self.rows(snapshot, places.slice(start, _CHUNK))

    def decision(self, snapshot: Snapshot, dataset: str, sample: str, target: str | None = None) -> pl.DataFrame:
        """Every row of one image, in the order of the run; of the columns of :meth:`rows` those of its evaluations.

        Raises:
            RunError: a part cannot be read, or no evaluation has such a sample.
        """
        frames = [
            _in_full(one.scan().filter(pl.col("sample_id") == sample), one)
            for one in snapshot.evaluations
            if one.dataset == dataset and target in (None, one.target)
        ]
        with snapshot.run.reading():
            tables = [table for table in collect_some(frames) if table.height]
        if not tables:
            raise RunError(f"{dataset} has no decision on a sample {sample!r} in this run")
        table = pl.concat(tables, how="diagonal_relaxed")
        known = [name for name in snapshot.columns if name in table.columns]
        return table.select(*known, "case", "_slug")

    def compare(self, a: Snapshot, b: Snapshot, state: CompareState, pictured: frozenset[str] = frozenset()) -> Pairs:
        """Two models on the images both have.

        Args:
            a: the run of one side.
            b: of the other; may be the same.
            state: nothing in it may be open: models, seeds, methods, dataset, target, region and metric are named.
            pictured: samples with pictures of both, for the order by them.

        Raises:
            RunError: a part cannot be read.
        """
        key = (a.stamp, b.stamp, state.but(page=1, size=24, layers=()), pictured if state.sort == "picture" else None)
        with self._lock:
            if key in self._pairs:
                self._pairs.move_to_end(key)
                return self._pairs[key]
        left, right = _side(a, state.a, state, "a"), _side(b, state.b, state, "b")
        both = left.join(right, on="sample_id", how="inner", maintain_order="left")
        counts = {(str(x), str(y)): int(n) for x, y, n in both.group_by("a", "b").len().iter_rows()}
        for name, wanted in (("a", state.a_outcome), ("b", state.b_outcome)):
            if wanted is not None:
                both = both.filter(pl.col(name) == wanted)
        both = both.with_columns(difference=pl.col("_a_value") - pl.col("_b_value"))
        if state.sort is not None:
            order = _has_picture(pictured) if state.sort == "picture" else pl.col("difference")
            both = both.sort(order, descending=state.descending, nulls_last=True, maintain_order=True)
        places = both.select("_a_evaluation", "_a_row", "_b_evaluation", "_b_row", "a", "b", "difference")
        shared = sum(counts.values())
        pairs = Pairs(places, counts, left.height - shared, right.height - shared)
        with self._lock:
            _keep(self._pairs, key, pairs)
        return pairs

    def side_by_side(self, a: Snapshot, b: Snapshot, places: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The rows of both models, a row an image: what both share, then ``a_`` and ``b_`` columns and the outcomes."""
        for start in range(0, max(places.height, 1), _CHUNK):
            part = places.slice(start, _CHUNK)
            sides = []
            for name, snapshot in (("a", a), ("b", b)):
                rows = self.rows(snapshot, part.select(_evaluation=f"_{name}_evaluation", _row=f"_{name}_row"))
                own = [
                    column
                    for column in rows.columns
                    if column in ("model", "seed", "method", "binarization", "prediction")
                ]
                own += ["confidence", "correct", "status", *(m for m in a.vocabulary.metrics if m in rows.columns)]
                sides.append(rows.select(pl.col(own).name.prefix(f"{name}_")))
                if name == "a":
                    shared = rows.select("dataset", "sample_id", "target", "region", "label")
            last = part.select("difference", a_outcome="a", b_outcome="b")
            yield pl.concat([shared, *sides, last], how="horizontal")


def chances(rows: pl.DataFrame, metric: str) -> list[float | None]:
    """What a map that knows nothing would score in each row; None where that is not determined."""
    salient, annotated = (rows[name].cast(pl.Float64).to_numpy() for name in ("salient_area", "annotation_area"))
    pixels = rows["map_height"].cast(pl.Float64).to_numpy() * rows["map_width"].cast(pl.Float64).to_numpy()
    return [None if np.isnan(value) else float(value) for value in chance_levels(metric, salient, annotated, pixels)]


def outcome(value: str, correct: str, threshold: float) -> pl.Expr:
    """What came of a decision, one of ``OUTCOMES``: right or wrong, and whether its score reaches the threshold.

    Args:
        value: column of the scores, float32, compared at that precision.
        correct: column of whether the prediction is right.
        threshold: the least score that counts as looking at the right place.
    """
    aligned = pl.col(value) >= pl.lit(threshold, pl.Float32)
    right = pl.when(aligned).then(pl.lit(OUTCOMES[0])).otherwise(pl.lit(OUTCOMES[1]))
    wrong = pl.when(aligned).then(pl.lit(OUTCOMES[2])).otherwise(pl.lit(OUTCOMES[3]))
    known = pl.col(value).is_not_null() & pl.col(correct).is_not_null()
    decided = pl.when(pl.col(correct)).then(right).otherwise(wrong)
    return pl.when(known).then(decided).otherwise(pl.lit(OUTCOMES[4])).cast(pl.Enum(OUTCOMES))


# ------------------------------------------------------------------------------------------------------- parts


def _keep(kept: OrderedDict[tuple[object, ...], _Answer], key: tuple[object, ...], answer: _Answer) -> None:
    """Keep an answer, and forget the oldest where there are too many."""
    kept[key] = answer
    while len(kept) > 1 and (len(kept) > _KEPT_ANSWERS or sum(o.places.height for o in kept.values()) > _KEPT_PLACES):
        kept.popitem(last=False)


def _needed(
    one: Evaluation, place: int, metric: str | None, sort: str | None, pictured: frozenset[str] = frozenset()
) -> list[pl.Expr]:
    """The place of a row, and what is counted and sorted by."""
    return [
        pl.lit(place, pl.UInt32).alias("_evaluation"),
        pl.col("_row").cast(pl.UInt32),
        _number(metric, one).alias("_value"),
        pl.col("correct").cast(pl.Boolean).alias("_correct"),
        pl.col("status").cast(pl.String).cast(pl.Enum(STATUSES), strict=False).alias("_status"),
        (_has_picture(pictured) if sort == "picture" else _number(sort, one)).alias("_sort"),
    ]


def _has_picture(pictured: frozenset[str]) -> pl.Expr:
    """1 where a sample is among these, else 0."""
    return pl.col("sample_id").is_in(sorted(pictured)).cast(pl.Float32)


def _number(name: str | None, one: Evaluation) -> pl.Expr:
    """A column as float32 without NaN; null where the evaluation has none."""
    if name is None or name not in one.schema:
        return pl.lit(None, pl.Float32)
    return pl.col(name).cast(pl.Float32).fill_nan(None)


def _condition(chosen: Filters, one: Evaluation, pictured: frozenset[str]) -> pl.Expr | None:
    """Which rows of an evaluation are chosen; None where none can be."""
    whole = {"seed": one.seed, "dataset": one.dataset, "target": one.target}
    if any(getattr(chosen, name) not in (None, value) for name, value in whole.items()):
        return None
    if (chosen.models and one.model not in chosen.models) or (chosen.pictured and not pictured):
        return None
    if chosen.region is not None and chosen.region not in one.regions:
        return None
    pairs = [pair for pair in one.methods if chosen.method in (None, pair[0])]
    if not any(chosen.binarization in (None, pair[1]) for pair in pairs):
        return None
    terms = [pl.lit(True)]
    for name in ("method", "binarization", "region", "status"):
        if (value := getattr(chosen, name)) is not None:
            terms.append(pl.col(name) == value)
    for name, number in (("label", chosen.label), ("prediction", chosen.prediction)):
        if number is not None:
            terms.append(pl.col(name) == number)
    if chosen.correct is not None:
        terms.append(pl.col("correct") == chosen.correct)
    if chosen.case is not None:
        if any(name not in one.schema for name in CASE_COLUMNS):
            return None
        terms.append(case_of() == pl.lit(chosen.case, pl.Enum(CASES)))
    if chosen.low is not None:
        terms.append(_number(chosen.metric, one) >= pl.lit(chosen.low, pl.Float32))
    if chosen.high is not None:
        terms.append(_number(chosen.metric, one) <= pl.lit(chosen.high, pl.Float32))
    if chosen.sample is not None:
        terms.append(pl.col("sample_id").str.contains(chosen.sample, literal=True))
    if chosen.pictured:
        terms.append(pl.col("sample_id").is_in(sorted(pictured)))
    for name, text in chosen.attributes:
        if ATTRIBUTE_PREFIX + name not in one.schema:
            return None
        terms.append(pl.col(ATTRIBUTE_PREFIX + name).cast(pl.String).fill_null("null") == text)
    return pl.all_horizontal(terms)


def _collected(snapshot: Snapshot, frames: Sequence[pl.LazyFrame]) -> pl.DataFrame:
    with snapshot.run.reading():
        groups = [frames[start : start + _SCANNED] for start in range(0, len(frames), _SCANNED)]
        return pl.concat([pl.concat(group).collect() for group in groups])


def _selection(found: pl.DataFrame, metric: str | None, sorted_: bool, descending: bool) -> Selection:
    if sorted_:
        found = found.sort("_sort", descending=descending, nulls_last=True, maintain_order=True)
    values, correct = found["_value"].drop_nulls(), found["_correct"].drop_nulls()
    without = found.filter(pl.col("_value").is_null())["_status"].value_counts() if metric else pl.DataFrame()
    return Selection(
        places=found.select("_evaluation", "_row"),
        metric=metric,
        mean=float(values.cast(pl.Float64).mean()) if values.len() else None,  # type: ignore[arg-type]
        defined=values.len(),
        undefined={str(status or "unknown"): int(n) for status, n in without.iter_rows()},
        correct=int(correct.sum()),
        decided=correct.len(),
    )


def _by_part(rows: NDArray[np.uint32], ends: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.uint32]]]:
    """Number of each part that holds any of the rows, and those it holds."""
    part = np.searchsorted(ends, rows, side="right")
    for number in np.unique(part):
        yield int(number), rows[part == number]


def _in_full(scan: pl.LazyFrame, one: Evaluation) -> pl.LazyFrame:
    """All columns, words as String, with the case and the evaluation."""
    case = case_of() if all(name in one.schema for name in CASE_COLUMNS) else pl.lit(None, pl.Enum(CASES))
    words = [pl.col(name).cast(pl.String) for name in _WORDS]
    return scan.with_columns(case.alias("case"), pl.lit(one.slug).alias("_slug")).with_columns(words)


def _side(snapshot: Snapshot, side: Side, state: CompareState, name: str) -> pl.DataFrame:
    """Sample, place, score and outcome of one model's rows."""
    chosen = Filters(
        models=(str(side.model),),
        seed=side.seed,
        dataset=state.dataset,
        target=state.target,
        method=side.method,
        binarization=side.binarization,
        region=state.region,
    )
    frames = []
    for place, one in enumerate(snapshot.evaluations):
        condition = _condition(chosen, one, frozenset())
        if condition is not None:
            needed = _needed(one, place, state.metric, None)[:4]
            frames.append(one.scan().filter(condition).select("sample_id", *needed))
    empty = pl.DataFrame(schema={"sample_id": pl.String, **{key: _NEEDED[key] for key in list(_NEEDED)[:4]}})
    rows = _collected(snapshot, frames) if frames else empty
    rows = rows.with_columns(outcome("_value", "_correct", state.threshold).alias(name)).unique(
        "sample_id", keep="first", maintain_order=True
    )
    named = {f"_{part}": f"_{name}_{part}" for part in ("evaluation", "row", "value")}
    return rows.drop("_correct").rename(named)
