"""The tables of a run of the bias experiment: by model, test set and group, with the seeds as replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from explanation_alignment.experiments.celeba.losses import read_losses
from explanation_alignment.experiments.celeba.protocol import (
    COMMON,
    GROUPS,
    METHODS,
    MODELS,
    RARE,
    REPORTED,
    REPORTED_UNBIASED_ACCURACY,
    UNTRAINED,
    correlation_of,
    group_word,
)
from explanation_alignment.statistics.intervals import MeanEstimator, Scale, wilson_interval
from explanation_alignment.statistics.relying.region_reliance import reliance

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = [
    "BEFORE",
    "IOU",
    "QUANTITIES",
    "TESTS",
    "bias_results",
    "dose_response_results",
    "is_compared",
    "monotone_within_error",
    "performance",
    "seeds_of",
    "verdict_counts",
    "verdicts",
]

#: The test sets, as the tables call them.
TESTS: Final = ("biased", "unbiased", "hair")
#: The metric the study's numbers are of.
IOU: Final = "iou_coverage"
#: What the untrained network's numbers are called beside the others.
BEFORE: Final = "the network before training"
#: What the dose-response measures, in words.
QUANTITIES: Final[Mapping[str, str]] = {
    "accuracy common": "common groups (black smiling, blond not smiling)",
    "accuracy rare": "rare groups (black not smiling, blond smiling)",
    "excess mouth": "mouth",
    "excess hair": "hair",
}
#: What a group's rows are named in the summary.
_PREFIX: Final = "attr_group="
_WORDS: Final = tuple(group_word(group) for group in GROUPS)
#: Column -> its values in the order of the tables.
_ORDER: Final[Mapping[str, Sequence[str]]] = {
    "model": (*MODELS, UNTRAINED),
    "test": TESTS,
    "group": ("all", *_WORDS),
    "method": METHODS,
    "region": ("mouth", "hair"),
}


def bias_results(run: Run) -> pl.DataFrame:
    """Alignment of every model on every test set, whole and by group.

    Args:
        run: of this experiment.

    Returns:
        One row a model, test set (``test``), ``group`` (``all`` first), method, region and metric: ``ea``, the mean
        over seeds; ``sd_seeds``, the standard deviation of the seeds' means; ``ci_low`` and ``ci_high``, the 95 %
        interval over images where there is one seed; ``chance``, the analytic level; ``untrained``, what the network
        scores before training (where it was evaluated); ``excess``, the IoU minus that of a map at the centre of the
        same size; ``n`` scores, ``n_undefined`` undefined ones; ``reported``, the study's number where the images are
        CelebA's and it has one.
    """
    key = ["model", "test", "group", "method", "region", "metric"]
    summary = _by_test(run.summary(by=["group"]))
    single = pl.len() == 1
    table = summary.group_by(key).agg(
        pl.col("ea", "chance", "excess").mean(),
        sd_seeds=pl.col("ea").std(),
        ci_low=pl.when(single).then(pl.col("ci_low").first()),
        ci_high=pl.when(single).then(pl.col("ci_high").first()),
        n=pl.col("n").sum(),
        n_undefined=pl.col("n_undefined").sum(),
        seeds=pl.len(),
    )
    before = table.filter(pl.col("model") == UNTRAINED).select(*key[1:], untrained="ea")
    reported = _reported(run).select(
        "model",
        "test",
        "group",
        method=pl.lit(METHODS[0]),
        region=pl.lit("mouth"),
        metric=pl.lit("iou_coverage"),
        reported="iou_coverage",
    )
    table = table.join(before, on=key[1:], how="left").join(reported, on=key, how="left")
    return _sorted(table, ["method", "model", "test", "region", "group"], "metric")


def performance(run: Run) -> pl.DataFrame:
    """Accuracy and loss of every model on every test set, whole and by group.

    Args:
        run: of this experiment.

    Returns:
        One row a model, ``test`` and ``group``: ``accuracy`` and ``loss`` (cross-entropy of the label, nats), means
        over seeds, each with its standard deviation over seeds (``sd_accuracy``, ``sd_loss``) and, where there is one
        seed, the bounds of its 95 % interval over images (``accuracy_low``, ``loss_high``, ...); ``n`` decisions;
        ``reported``, the study's accuracy where there is one to compare with.
    """
    key = ["model", "test", "group"]
    summary = _by_test(run.summary(by=["group"], metrics=["iou_coverage"])).filter(
        pl.col("method") == METHODS[0], pl.col("region") == "mouth"
    )
    single = pl.len() == 1
    table = (
        summary.with_columns(images=pl.col("n") + pl.col("n_undefined"))
        .group_by(key)
        .agg(
            pl.col("accuracy").mean(),
            sd_accuracy=pl.col("accuracy").std(),
            n=pl.col("images").sum(),
            _single=single,
        )
    )
    low, high = wilson_interval(table["accuracy"].to_numpy() * table["n"].to_numpy(), table["n"].to_numpy())
    bounds = [
        pl.when("_single").then(pl.Series(name, values)).alias(name)
        for name, values in (("accuracy_low", low), ("accuracy_high", high))
    ]
    table = table.with_columns(bounds).drop("_single")
    table = table.join(_losses(run), on=key, how="left").join(
        _reported(run).select(*key, reported="accuracy"), on=key, how="left"
    )
    return _sorted(table, key)


def verdicts(run: Run) -> pl.DataFrame:
    """What every trained model relies on, seed by seed: :func:`~explanation_alignment.reliance` with ``test`` named.

    On the test images with masks of the hair, or the unbiased ones where there are none.
    """
    found = _by_test(reliance(run)).filter(pl.col("model") != UNTRAINED)
    test = "hair" if "hair" in found["test"] else "unbiased"
    return _sorted(found.filter(pl.col("test") == test), ["method", "model", "region"], "seed")


def verdict_counts(run: Run) -> pl.DataFrame:
    """How many seeds came to which verdict: one row a model, method, region and verdict."""
    table = verdicts(run).group_by("model", "method", "region", "verdict").agg(seeds=pl.len())
    table = table.with_columns(of=pl.col("seeds").sum().over("model", "method", "region"))
    return _sorted(table, ["method", "model", "region"], "verdict")


def dose_response_results(run: Run) -> pl.DataFrame:
    """Accuracy and alignment against the correlation of hair and smile in training.

    Args:
        run: of this experiment, with models of the dose-response.

    Returns:
        One row a ``correlation`` and ``quantity``: ``accuracy common`` and ``accuracy rare`` (on the unbiased test
        images, mean of the two groups each), ``excess mouth`` and ``excess hair`` (IoU of Grad-CAM minus that of a map
        of the same size at the centre, on the images with masks of the hair; the mouth on the unbiased ones where there
        are none). ``value`` is the mean over ``seeds``; ``low`` and ``high`` are a standard deviation over seeds away
        from it, or the 95 % interval where there is one seed; ``sd`` is that deviation; ``chance`` the level of what
        knows nothing, ``untrained`` that of the network before training. Empty without such models.
    """
    summary = _by_test(run.summary(by=["group"], metrics=["iou_coverage"])).filter(pl.col("method") == METHODS[0])
    doses = {model: correlation_of(model) for model in summary["model"].unique()}
    rates = _rates(summary)
    aligned = _excesses(summary)
    per_seed = pl.concat([rates, aligned], how="diagonal")
    single = pl.len() == 1
    table = per_seed.group_by("model", "quantity").agg(
        value=pl.col("value").mean(),
        sd=pl.col("value").std(),
        low=pl.when(single).then(pl.col("low").first()).otherwise(pl.col("value").mean() - pl.col("value").std()),
        high=pl.when(single).then(pl.col("high").first()).otherwise(pl.col("value").mean() + pl.col("value").std()),
        chance=pl.col("chance").mean(),
        seeds=pl.len(),
        n=pl.col("n").sum(),
    )
    before = table.filter(pl.col("model") == UNTRAINED).select("quantity", untrained="value")
    kept = table.filter(pl.col("model").is_in([model for model, dose in doses.items() if dose is not None]))
    named = {model: dose for model, dose in doses.items() if dose is not None}
    return (
        kept.with_columns(
            correlation=pl.col("model").replace_strict(named, default=None, return_dtype=pl.Float64),
        )
        .join(before, on="quantity", how="left")
        .drop("model")
        .select("quantity", "correlation", pl.exclude("quantity", "correlation"))
        .sort("quantity", "correlation")
    )


def monotone_within_error(table: pl.DataFrame, quantity: str, *, falls: bool) -> tuple[int, int]:
    """How many steps from a correlation to the next go the expected way, or back by no more than their error.

    The error of a step is twice the standard error of the difference of two means over seeds; where there is one seed,
    half of each interval's width, in quadrature.

    Args:
        table: from :func:`dose_response_results`.
        quantity: one of its quantities.
        falls: whether it is expected to fall.

    Returns:
        Such steps, and all steps.
    """
    rows = table.filter(pl.col("quantity") == quantity).sort("correlation")
    change = np.diff(rows["value"].to_numpy()) * (-1 if falls else 1)
    half = np.where(
        rows["sd"].is_not_null().to_numpy(),
        2 * rows["sd"].fill_null(0).to_numpy() / np.sqrt(rows["seeds"].to_numpy()),
        (rows["high"] - rows["low"]).fill_null(0).to_numpy() / 2,
    )
    return int((change >= -np.hypot(half[1:], half[:-1])).sum()), len(change)


def is_compared(run: Run) -> bool:
    """Whether the reported numbers may stand beside the run's: never beside those of generated faces."""
    return not run.info["toy"]


def seeds_of(run: Run) -> list[int]:
    """The seeds whose models are there, in order."""
    return sorted({item["question"]["seed"] for item in run.evaluations.values()})


def _by_test(table: pl.DataFrame) -> pl.DataFrame:
    """The table with ``test`` for the dataset and a group's own words."""
    test = pl.col("dataset").str.extract(r"^celeba-(biased|unbiased|hair)", 1)
    return table.with_columns(test=test, group=pl.col("group").str.strip_prefix(_PREFIX))


def _losses(run: Run) -> pl.DataFrame:
    """``loss``, ``sd_loss``, ``loss_low``, ``loss_high`` of each model, test set and group."""
    rows = read_losses(run)
    rows = pl.concat([rows.with_columns(group=pl.lit("all")), rows]) if len(rows) else rows
    estimator = MeanEstimator()
    records = []
    for (model, seed, dataset, group), part in rows.group_by("model", "seed", "dataset", "group", maintain_order=True):
        values = part.sort("sample_id")
        ones = np.ones((len(values), 1))
        estimate = estimator.estimate(
            values["sample_id"].to_list(),
            values["loss"].to_numpy()[:, None].copy(),
            ones,
            [len(values)],
            scales=[Scale()],
        )[0]
        records.append((model, seed, dataset, group, estimate.mean, estimate.low, estimate.high))
    schema = {"model": pl.String, "seed": pl.Int64, "dataset": pl.String, "group": pl.String}
    schema |= dict.fromkeys(("mean", "low", "high"), pl.Float64)
    single = pl.len() == 1
    return (
        _by_test(pl.DataFrame(records, schema=schema, orient="row"))
        .group_by("model", "test", "group")
        .agg(
            loss=pl.col("mean").mean(),
            sd_loss=pl.col("mean").std(),
            loss_low=pl.when(single).then(pl.col("low").first()),
            loss_high=pl.when(single).then(pl.col("high").first()),
        )
    )


def _reported(run: Run) -> pl.DataFrame:
    """The study's numbers as rows: model, test, group, ``accuracy``, ``iou_coverage``; none beside generated faces."""
    rows: list[tuple[str, str, str, float, float | None]] = [
        (model, "biased", group_word(group), numbers.accuracy, numbers.iou_coverage)
        for model, groups in REPORTED.items()
        for group, numbers in groups.items()
    ]
    rows.append(("unbiased", "unbiased", "all", REPORTED_UNBIASED_ACCURACY, None))
    names = ("model", "test", "group")
    schema = dict.fromkeys(names, pl.String()) | dict.fromkeys(("accuracy", "iou_coverage"), pl.Float64())
    return pl.DataFrame(rows if is_compared(run) else [], schema=schema, orient="row")


def _rates(summary: pl.DataFrame) -> pl.DataFrame:
    """Accuracy on the common and on the rare groups, each the mean of two groups of equal size, model by seed."""
    kinds = {group_word(group): "accuracy common" for group in COMMON}
    kinds |= {group_word(group): "accuracy rare" for group in RARE}
    table = (
        summary.filter(pl.col("test") == "unbiased", pl.col("region") == "mouth", pl.col("group").is_in(list(kinds)))
        .with_columns(
            quantity=pl.col("group").replace_strict(kinds, default=None), n=pl.col("n") + pl.col("n_undefined")
        )
        .group_by("model", "seed", "quantity")
        .agg(value=(pl.col("accuracy") * pl.col("n")).sum() / pl.col("n").sum(), n=pl.col("n").sum())
    )
    low, high = wilson_interval(table["value"].to_numpy() * table["n"].to_numpy(), table["n"].to_numpy())
    return table.with_columns(low=pl.Series(low), high=pl.Series(high), chance=0.5)


def _excesses(summary: pl.DataFrame) -> pl.DataFrame:
    """IoU over that of the centred map, of mouth and hair, model by seed."""
    test = "hair" if "hair" in summary["test"] else "unbiased"
    return summary.filter(pl.col("test") == test, pl.col("group") == "all").select(
        "model",
        "seed",
        quantity=pl.lit("excess ") + pl.col("region"),
        value="excess",
        low="excess_low",
        high="excess_high",
        chance=pl.lit(0.0),
        n="n",
    )


def _sorted(table: pl.DataFrame, names: Sequence[str], *further: str) -> pl.DataFrame:
    """The table in the experiment's own order of words; models of the dose-response by their correlation, last."""
    doses = {model: correlation_of(model) for model in table["model"].unique().to_list()}
    keys: list[pl.Expr] = []
    for name in names:
        places = {word: place for place, word in enumerate(_ORDER[name])}
        keys.append(pl.col(name).replace_strict(places, default=len(places), return_dtype=pl.Int64))
        if name == "model":
            keys.append(pl.col(name).replace_strict(doses, default=None, return_dtype=pl.Float64))
    return table.sort(*keys, *further, nulls_last=True)
