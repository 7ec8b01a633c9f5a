"""What is said of a run of the bias experiment, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from explanation_alignment.experiments.celeba.bias_results import IOU, monotone_within_error, verdict_counts
from explanation_alignment.experiments.celeba.protocol import COMMON, METHODS, RARE, UNTRAINED, group_word
from explanation_alignment.reporting.text import number, signed
from explanation_alignment.statistics.relying.region_reliance import reliance
from explanation_alignment.statistics.relying.words import rule, sentences

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["data_sentences", "dose_sentences", "pair_sentences", "reliance_sentences"]


#: Standard deviation over seeds of an accuracy from which on their mean says little.
_SEEDS_DISAGREE: Final = 0.2


def pair_sentences(scores: pl.DataFrame, accuracy: pl.DataFrame, pair: Sequence[str]) -> list[str]:
    """Accuracy on common and rare groups, and where the maps lie."""
    said = []
    for model in pair:
        common, rare = (_mean_accuracy(accuracy, model, groups) for groups in (COMMON, RARE))
        said.append(
            f"The {model} model is right on {number(common)} of the faces of the groups that are common in the biased "
            f"training images and on {number(rare)} of the rare ones (unbiased test images)."
        )
    test = "hair" if "hair" in scores["test"] else "unbiased"
    for region in scores.filter(pl.col("test") == test)["region"].unique(maintain_order=True):
        part = scores.filter(
            pl.col("test") == test,
            pl.col("region") == region,
            pl.col("group") == "all",
            pl.col("method") == METHODS[0],
            pl.col("metric") == IOU,
        )
        told = [f"{number(_of(part, model, 'ea'))} ({model})" for model in pair]
        if not told:
            continue
        before = _of(part, UNTRAINED, "ea")
        beside = [f"{number(_of(part, pair[0], 'chance'))} by chance"]
        beside += [f"{number(before)} before training"] if before is not None else []
        said.append(
            f"Grad-CAM maps have an IoU of {' and '.join(told)} with the {region}; {', '.join(beside)} "
            f"({_test_words(test)})."
        )
    return said


def dose_sentences(doses: pl.DataFrame) -> list[str]:
    """From the weakest to the strongest correlation, and whether the way there goes one way."""
    if doses["correlation"].n_unique() < 2:
        return []
    ends = doses["correlation"].unique().sort().to_list()
    low, high = ends[0], ends[-1]
    said = []
    for quantity, words, falls in (
        ("accuracy rare", "accuracy on the rare groups", True),
        ("excess mouth", "the mouth's IoU above a centred map's", True),
        ("excess hair", "the hair's IoU above a centred map's", False),
    ):
        part = doses.filter(pl.col("quantity") == quantity)
        if part.is_empty():
            continue
        values = part["value"].to_list()
        good, steps = monotone_within_error(doses, quantity, falls=falls)
        show = number if quantity.startswith("accuracy") else signed
        said.append(
            f"From correlation {low:g} to {high:g} {words} goes from {show(values[0])} to {show(values[-1])}; "
            f"{good} of {steps} steps {'fall' if falls else 'rise'}, or stay within their error."
        )
    torn = doses.filter(pl.col("quantity") == "accuracy rare", pl.col("sd") > _SEEDS_DISAGREE)
    if len(torn):
        where = ", ".join(f"{row['correlation']:g} (SD {number(row['sd'])})" for row in torn.iter_rows(named=True))
        said.append(
            f"The seeds disagree on the rare groups at correlation {where}. More --epochs, into another run, tell "
            "models that had not finished learning from models that rely on the hair."
        )
    return said


def reliance_sentences(run: Run, found: pl.DataFrame, pair: Sequence[str]) -> list[str]:
    """The verdicts of all seeds together for the two models, how many single seeds agree, and the rule."""
    told = []
    datasets = found["dataset"].unique().to_list()
    if pair:
        pooled = reliance(run, pool=["seed"]).filter(
            pl.col("method") == METHODS[0], pl.col("dataset").is_in(datasets), pl.col("model").is_in(list(pair))
        )
        ranks = {model: place for place, model in enumerate(pair)}
        told += sentences(pooled.sort(pl.col("model").replace_strict(ranks, default=None), "region"))
    counts = verdict_counts(run).filter(pl.col("method") == METHODS[0], pl.col("verdict") != "evidence")
    several = counts.filter(pl.col("of") > 1)
    if len(several):
        each = [
            f"{row['model']} {row['region']} {row['verdict']} in {row['seeds']} of {row['of']}"
            for row in several.iter_rows(named=True)
        ]
        told.append(f"Seed by seed: {'; '.join(each)}.")
    elif not pair and len(counts):
        each = [f"{row['model']} {row['region']} {row['verdict']}" for row in counts.iter_rows(named=True)]
        told.append(f"Verdicts: {'; '.join(each)}.")
    if not len(counts):
        masks = run.info["experiment"]["settings"]["data"]["hair_pairing"] is not None
        why = "The hair is not judged yet" if masks else "No masks of the hair were given (--hq-dir)"
        told.append(f"{why}, so nothing is said of the hair.")
    elif found["intervention"].is_not_null().any():
        told.append(
            "A region is exchanged with what lies at the same place of a face of the other label, whatever its hair: "
            "on test images of which half have each colour, about half of the exchanges bring the same colour."
        )
    return [*told, rule()]


def data_sentences(run: Run) -> list[str]:
    """Who was trained on and who tested."""
    data = run.info["experiment"]["settings"]["data"]
    shared = data["persons_in_training_and_test"]
    if shared is None:
        persons = "Training and test images are of CelebA's own partitions; whether they share persons is not known"
    elif shared:
        persons = f"{shared:,} persons are in training and test images"
    else:
        persons = "No person of the training images is in a test set"
    pairing = {
        None: "",
        "hq": "; hair and mouth are masks on the pictures they were drawn on (CelebA-HQ's)",
        "crop": "; hair masks were carried back to the aligned pictures",
        "published": "; hair masks lie on the aligned pictures' centre as published, about 10 px off",
    }[data["hair_pairing"]]
    return [f"{persons}{pairing}."]


def _mean_accuracy(accuracy: pl.DataFrame, model: str, groups: Sequence[tuple[str, bool]]) -> float | None:
    """Accuracy on the unbiased test images of some groups, which are of equal size."""
    part = accuracy.filter(
        pl.col("model") == model, pl.col("test") == "unbiased", pl.col("group").is_in([group_word(g) for g in groups])
    )
    return None if part.is_empty() else float(part["accuracy"].sum() / len(part))


def _of(table: pl.DataFrame, model: str, column: str) -> float | None:
    part = table.filter(pl.col("model") == model)
    return None if part.is_empty() else part[column][0]


def _test_words(test: str) -> str:
    return "unbiased test images with masks of the hair" if test == "hair" else f"{test} test images"
