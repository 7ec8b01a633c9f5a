"""Differences between models, methods, regions, test sets, groups or runs: with interval, test and effect size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.statistics.chance import known_metric
from explanation_alignment.statistics.comparing.numbers import (
    Asked,
    SignTests,
    compare_block,
    compare_seeds,
    pairs_of,
)
from explanation_alignment.statistics.comparing.rows import (
    ACCURACY,
    BETWEEN,
    CELL,
    Block,
    Rows,
    blocks,
    check_images,
    one_run,
    two_runs,
)
from explanation_alignment.statistics.inputs import RunOrScores, as_run, score_rows, without_nulls
from explanation_alignment.statistics.intervals import MeanEstimator
from explanation_alignment.statistics.multiplicity import benjamini_hochberg, holm
from explanation_alignment.statistics.tables import metric_columns

__all__ = ["ACCURACY", "BETWEEN", "COMPARISON_SCHEMA", "compare", "unmatched"]

#: Columns of the table of :func:`compare`.
COMPARISON_SCHEMA: Final = pl.Schema(
    {
        "between": pl.String,
        "model": pl.String,
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
        "chance_first": pl.Float64,
        "chance_second": pl.Float64,
        "difference": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "p_value": pl.Float64,
        "p_holm": pl.Float64,
        "p_bh": pl.Float64,
        "effect_size": pl.Float64,
        "n": pl.Int64,
        "n_undefined": pl.Int64,
        "n_unshared": pl.Int64,
        "n_first_higher": pl.Int64,
        "n_second_higher": pl.Int64,
        "seeds": pl.Int64,
        "paired": pl.Boolean,
        "test": pl.String,
        "unreliable": pl.Boolean,
        "verdict": pl.String,
    }
)


def compare(
    run_or_scores: RunOrScores,
    other: RunOrScores | None = None,
    *,
    between: str = "model",
    metrics: Sequence[str] | None = None,
    reference: str | None = None,
    common: bool = False,
    paired: bool = True,
    over_seeds: bool = False,
    cluster: str | None = None,
    evidence: Sequence[str] | None = None,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """Compare means between models (methods, regions, ...), on the same images, or between groups or two runs.

    *The same images*: two models are compared over the decisions that both define, all else equal (seed, dataset,
    target, method, binarization, region; a method goes with its binarization). Both must have been evaluated on the
    same images. The interval is that of ``comparing.differences``; the test exchanges the two scores of an image
    (``comparing.permutation``); the effect size is the mean difference over the standard deviation of the differences
    (Cohen's d_z). *Groups* (an attribute, ``label``, ``correct``) hold different images: ``paired`` is false in their
    rows, the interval is of Welch's kind, the test exchanges the labels, and the effect size is the difference over the
    root mean square of the two standard deviations. *Two runs*: the second is what was before; the same evaluations in
    both are compared, and the verdict says better or worse.

    ``p_holm`` and ``p_bh`` are adjusted for the family of *all rows of the returned table*: ask for fewer metrics, or
    give fewer rows, and the family is smaller. Beside the metrics ``accuracy`` is compared where it can differ (models,
    seeds, datasets, groups), each image once.

    Args:
        run_or_scores: a run, its folder, or rows of its ``scores``.
        other: an earlier run, to look for what became worse; ``between`` and ``reference`` are then left out.
        between: ``model``, ``method``, ``binarization``, ``region``, ``dataset``, ``seed``; or what forms groups: an
            attribute (``hair`` or ``attr_hair``), ``label``, ``correct``.
        metrics: metric columns, and ``accuracy``; all by default.
        reference: compare everything with this one (everything minus the reference); every pair by default.
        common: where two were evaluated on different images, compare those they share instead of refusing;
            ``n_unshared`` counts the decisions left out.
        paired: whether decisions are matched by image; False compares two test sets of different images.
        over_seeds: one row a pair instead of one a seed: the mean of the seeds' differences, with Student's interval
            and test whose variance adds the spread of the difference over seeds and over images, so that they speak of
            other training runs and other images alike (conservative: what only a seed on an image shows counts in
            both).
        cluster: an attribute or ``label`` whose values hang together (frames of one film): these are drawn, flipped and
            counted as one instead of images; an image without a value stands for itself.
        evidence: the regions where more alignment is better; only for the verdicts on two runs. A run's own by default,
            every region for plain rows.
        level: nominal coverage of the intervals, and one minus it the level of the verdicts.
        n_resamples: drawn permutations.
        seed: seed of the draws; they depend on it and the set of images, not on the order of rows.

    Returns:
        A table with the columns and types of ``COMPARISON_SCHEMA``, a row per pair, cell and metric, sorted:
        ``between`` (``run`` for two runs), the cell (null where it is what is compared, or does not matter), ``first``
        and ``second``, their means and chance levels over the decisions compared, ``difference`` (first minus second),
        ``n`` decisions compared (of both groups together where unpaired), ``n_undefined`` left out since one of the two
        is undefined, ``n_first_higher`` and ``n_second_higher`` (null where unpaired), ``seeds`` (how many are
        averaged), ``test`` (what p comes from), ``unreliable`` (fewer than 30 images tell the two apart and the scores
        are no hits) and ``verdict``: ``higher``, ``lower``, ``no difference shown``; ``better``, ``worse``,
        ``no change shown`` for two runs; ``unknown`` where nothing is defined or nothing varies over seeds and images,
        so that there is no test (``over_seeds``). A difference is shown where ``p_holm``
        is below ``1 - level`` and the interval excludes 0.

    Raises:
        UsageError: there is nothing to compare, images or labels differ, or an argument means nothing.
        UnknownNameError: a metric, group, reference or cluster is not in the scores.
        RunError: a run cannot be read, or its rows repeat a decision.

    Example:
        >>> import polars as pl
        >>> scores = pl.DataFrame({
        ...     "model": ["a"] * 6 + ["b"] * 6, "seed": 0, "dataset": "d", "sample_id": list("uvwxyz") * 2,
        ...     "target": "predicted", "method": "gradcam", "binarization": "threshold:0.5", "region": "object",
        ...     "correct": True, "status": "ok", "iou_coverage": [0.5] * 6 + [0.25] * 6, "annotation_area": 4,
        ...     "salient_area": 4, "map_height": 4, "map_width": 4,
        ... })
        >>> compare(scores, metrics=["iou_coverage"]).select("first", "second", "difference", "p_value", "n").row(0)
        ('a', 'b', 0.25, 0.03125, 6)
    """
    MeanEstimator(level=level, n_resamples=n_resamples, seed=seed)  # refuses settings that mean nothing
    if over_seeds and (not paired or between == "seed"):
        raise UsageError("over_seeds averages over seeds: not between seeds, and only with paired images")
    asked = Asked(between, reference, common, paired, over_seeds, level, n_resamples, seed)
    if other is not None:
        if reference is not None:
            raise UsageError("reference is for comparisons within a run; two runs are compared with each other")
        if between != "model":
            raise UsageError(
                f"between ({between!r}) is for comparisons within a run; of two runs the same evaluations are "
                "compared: leave it out, or give one run"
            )
        run = as_run(run_or_scores)
        if evidence is None and run is not None:
            evidence = run.evidence
        tables = two_runs(_compared(run_or_scores), _compared(other), metrics, cluster)
        asked = Asked("run", "before", common, paired, over_seeds, level, n_resamples, seed)
        keys: tuple[str, ...] = CELL
    else:
        tables, compared = one_run(_compared(run_or_scores, between), between, metrics, cluster)
        grouped = between not in BETWEEN
        if grouped and over_seeds:
            raise UsageError(f"{between!r} forms groups of different images; over_seeds needs the same images")
        asked = Asked(compared, reference, common, paired and not grouped, over_seeds, level, n_resamples, seed)
        gone = {compared, "binarization"} if compared == "method" else {compared}
        keys = tuple(name for name in CELL if name not in gone)
    table = _compare_tables(tables, keys, asked)
    return _with_verdicts(table, level, evidence)


def _compared(given: RunOrScores, between: str = "run") -> pl.DataFrame:
    """The rows; nulls are compared with methods only, since they are the same for every model."""
    rows = score_rows(given).lazy().collect()
    return rows if between == "method" else without_nulls(rows)


def _compare_tables(tables: Sequence[Rows], keys: Sequence[str], asked: Asked) -> pl.DataFrame:
    if asked.reference is not None:
        known = sorted({name for table in tables for name in table.rows["_value"].unique()})
        if asked.reference not in known:
            raise UnknownNameError(f"{asked.between} to compare with", asked.reference, known)
    parts: list[pl.DataFrame] = []
    signs = SignTests(asked)
    for place, table in enumerate(tables):
        used = [name for name in keys if table.rows[name].null_count() < table.rows.height]
        of_seeds: dict[tuple[Any, ...], list[Block]] = {}
        for block in blocks(table, used, paired=asked.paired):
            first, second = pairs_of(block.names, asked.reference)
            if not first.size:
                continue
            if asked.paired:
                check_images(block, first, second, common=asked.common)
            if asked.over_seeds:
                without_seed = tuple(value for name, value in block.key.items() if name != "seed")
                of_seeds.setdefault(without_seed, []).append(block)
                continue
            for order, metric in enumerate(table.metrics):
                part = compare_block(block, metric, first, second, asked, signs, len(parts))
                parts.append(_framed(block.key, part, asked, metric, (place, order)))
        for seeds in of_seeds.values():
            for order, metric in enumerate(table.metrics):
                part = compare_seeds(seeds, metric, asked)
                key = {**seeds[0].key, "seed": None}
                parts.append(_framed(key, part, asked, metric, (place, order)))
    if not any(part.height for part in parts):
        raise UsageError(_nothing(tables, asked))
    signs.finish()
    for number, (p, test) in signs.results.items():
        parts[number] = parts[number].with_columns(p_value=pl.Series(p), test=pl.Series(test.tolist()))
    cell = [name for name in CELL if name in keys]
    whole = pl.concat(parts, how="diagonal_relaxed")
    # a part of the key that nothing compared has (the target, for accuracy alone) is in no block
    missing = {name: pl.lit(None, COMPARISON_SCHEMA[name]) for name in CELL if name not in whole.columns}
    return whole.with_columns(**missing).sort(
        "_table", *cell, "first", "second", "_metric", nulls_last=True, maintain_order=True
    )


def _nothing(tables: Sequence[Rows], asked: Asked) -> str:
    names = sorted({name for table in tables for name in table.rows["_value"].unique()})
    if asked.between == "run":
        return "the two runs have no evaluation in common (model, seed, dataset, target, method, binarization, region)"
    if len(names) < 2:
        others = [name for name in ("model", "method", "region", "dataset", "seed") if name != asked.between]
        return (
            f"nothing to compare: these scores hold one {asked.between} only ({names[0] if names else 'none'}); for "
            f"what they hold several of: between (--between) {', '.join(others)}"
        )
    if asked.over_seeds:
        return f"no two of {', '.join(names)} have two seeds in common; leave over_seeds (--over-seeds) out"
    return f"no two of {', '.join(names)} were evaluated alike (seed, dataset, target, method, binarization, region)"


def _framed(
    key: Mapping[str, Any], part: Mapping[str, Any], asked: Asked, metric: str, place: tuple[int, int]
) -> pl.DataFrame:
    cell = {name: pl.lit(value, COMPARISON_SCHEMA[name]) for name, value in key.items()}
    return pl.DataFrame(part).with_columns(
        between=pl.lit(asked.between),
        metric=pl.lit(metric),
        paired=pl.lit(asked.paired),
        _table=pl.lit(place[0]),
        _metric=pl.lit(place[1]),
        **cell,
    )


def _with_verdicts(table: pl.DataFrame, level: float, evidence: Sequence[str] | None) -> pl.DataFrame:
    floats = [name for name, kind in COMPARISON_SCHEMA.items() if kind == pl.Float64 and name in table.columns]
    table = table.with_columns(pl.col(floats).fill_nan(None))
    tested = table["p_value"].is_not_null().to_numpy()
    adjusted = {}
    for name, correct in (("p_holm", holm), ("p_bh", benjamini_hochberg)):
        values = np.full(table.height, np.nan)
        values[tested] = correct(table["p_value"].to_numpy()[tested])
        adjusted[name] = pl.Series(values).fill_nan(None)
    table = table.with_columns(**adjusted)
    shown = (pl.col("p_holm") < 1 - level) & ((pl.col("ci_low") > 0) | (pl.col("ci_high") < 0))
    runs = pl.col("between") == "run"
    # more alignment is better where the evidence is; elsewhere it is only more
    judged = runs & (
        pl.lit(True) if evidence is None else pl.col("region").is_null() | pl.col("region").is_in(list(evidence))
    )
    lower_is_better = [m for m in table["metric"].unique() if not _higher_is_better(m)]
    better = (pl.col("difference") > 0) ^ pl.col("metric").is_in(lower_is_better)
    verdict = (
        pl.when(pl.col("p_value").is_null())
        .then(pl.lit("unknown"))
        .when(~shown & runs)
        .then(pl.lit("no change shown"))
        .when(~shown)
        .then(pl.lit("no difference shown"))
        .when(judged)
        .then(pl.when(better).then(pl.lit("better")).otherwise(pl.lit("worse")))
        .otherwise(pl.when(pl.col("difference") > 0).then(pl.lit("higher")).otherwise(pl.lit("lower")))
    )
    return table.with_columns(verdict=verdict).select(COMPARISON_SCHEMA.names()).cast(dict(COMPARISON_SCHEMA))  # type: ignore[arg-type]


def _higher_is_better(metric: str) -> bool:
    known = known_metric(metric)
    return known is None or known.higher_is_better


def unmatched(now: RunOrScores, before: RunOrScores) -> list[str]:
    """What only one of two runs holds, and a comparison of the two therefore leaves out.

    Args:
        now: a run, its folder or rows.
        before: the other.

    Returns:
        Lines such as ``"only before: model resnet50, seed 0, ..."``; also metrics, and datasets that two runs declare
        with different content.

    Raises:
        RunError: a run cannot be read.
    """
    sides = [score_rows(given).lazy() for given in (now, before)]
    cells = [
        set(
            side.select(pl.col(name).cast(pl.String if name != "seed" else pl.Int64) for name in CELL)
            .unique()
            .collect()
            .rows()
        )
        for side in sides
    ]
    metrics = [metric_columns(side.collect_schema().names()) for side in sides]
    lines = []
    for name, mine, other in (("now", 0, 1), ("before", 1, 0)):
        for cell in sorted(cells[mine] - cells[other], key=str):
            words = ", ".join(f"{key} {value}" for key, value in zip(CELL, cell, strict=True))
            lines.append(f"only {name}: {words}")
        lines += [f"only {name}: metric {metric}" for metric in metrics[mine] if metric not in metrics[other]]
    runs = [as_run(given) for given in (now, before)]
    if runs[0] is not None and runs[1] is not None:
        datasets = [run.info.get("datasets", {}) for run in runs if run is not None]
        for name in sorted(set(datasets[0]) & set(datasets[1])):
            if datasets[0][name].get("fingerprint") != datasets[1][name].get("fingerprint"):
                lines.append(f"dataset {name} is not the same in both: its images, labels or annotations changed")
    return lines
