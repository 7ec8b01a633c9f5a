"""What a reader should take from a run, in plain words: only what its statistics support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.reporting.cells import cell
from explanation_alignment.reporting.figures import metric_label
from explanation_alignment.reporting.material import Material
from explanation_alignment.statistics.comparing.words import sentences as compared_words
from explanation_alignment.statistics.relations import MIN_MODELS, relate, relation_sentence
from explanation_alignment.statistics.relying.region_reliance import VERDICTS
from explanation_alignment.statistics.relying.words import sentences as reliance_words

__all__ = ["findings", "reliance_findings"]

#: Lines of results told one by one; of more, the two ends.
_TOLD: Final = 4
#: Differences told one by one.
_DIFFERENCES: Final = 3
#: Sentences about reliance that a reader can take in at the top of a page.
_MAX_SENTENCES: Final = 12
#: Verdicts worth a sentence where there is no room for all.
_FLAGS: Final = ("confirmed", "suspected", "not confirmed")


def findings(material: Material) -> list[str]:
    """Accuracy and alignment beside chance, who differs, how the two go together, and what models rely on."""
    reliance = material.reliance
    several = material.several_methods
    detailed = [
        *_comparison(material),
        *(reliance_findings(reliance, name_method=several) if reliance is not None else []),
    ]
    if detailed and material.bounds_note:
        detailed.append(material.bounds_note.replace("Shown:", "Compared and ranked:"))
    told = [*_results(material), *_relation(material), *detailed]
    if told and several:
        told.append(f"Alignment is told of {material.method_words}, the first method asked for; Results has all.")
    return told


def reliance_findings(found: pl.DataFrame, *, name_method: bool = False) -> list[str]:
    """What the models rely on, as far as a page's top has room: all of it, else what was flagged, and how much.

    Args:
        found: from :func:`~explanation_alignment.statistics.relying.region_reliance.reliance`.
        name_method: whether to name the saliency method even if it is the only one there.
    """
    if found.height >= _MAX_SENTENCES and (found["verdict"] == "evidence").all():
        return []  # where nothing else is annotated there is nothing else to rely on
    told = found if found.height < _MAX_SENTENCES else found.filter(pl.col("verdict").is_in(_FLAGS))
    if told.height == found.height:
        return reliance_words(told, name_method=name_method)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in _counts(found["verdict"]))
    rest = f"Of {found.height} pairs of model and region, with seeds, datasets and methods apart: {counts}."
    # a longer list nobody reads; the table tells it
    listed = reliance_words(told, name_method=name_method) if told.height < _MAX_SENTENCES else []
    return [*listed, f"{rest} ealign reliance lists them with their evidence."]


def _counts(verdicts: pl.Series) -> list[tuple[str, int]]:
    """How often each verdict occurs, in the order of ``VERDICTS``; those that do not, left out."""
    found = verdicts.to_list()
    return [(verdict, found.count(verdict)) for verdict in VERDICTS if verdict in found]


def _results(material: Material) -> list[str]:
    """Each line of the main view; where there are many, the ends of both rankings."""
    method, binarization = material.method
    metric = material.metric
    if material.board is None:
        return []
    board = material.board.filter(
        pl.col("method") == method,
        pl.col("binarization") == binarization,
        pl.col("region") == material.regions[0],
        pl.col("dataset").is_in(material.datasets),
    )
    if board.is_empty() or f"ea_{metric}" not in board.columns:
        return []
    several = board["dataset"].n_unique() > 1
    if board.height <= _TOLD:
        return [_line(material, row, metric, several=several) for row in board.iter_rows(named=True)]
    ends = []
    for column, words in (("top1", "accuracy"), (f"ea_{metric}", f"{metric_label(metric)} with {material.regions[0]}")):
        ranked = board.drop_nulls(column).sort(column, "model", "dataset")
        if ranked.is_empty():
            continue
        scale = 100 if column == "top1" else 1
        low, high = (_end(ranked.row(place, named=True), column, scale, several=several) for place in (0, -1))
        ends.append(f"{words} from {low} to {high}")
    count = f"{board['model'].n_unique():,} models" + (f" on {board['dataset'].n_unique()} datasets" if several else "")
    return [f"{count} ({material.method_words}): {'; '.join(ends)}."] if ends else []


def _end(row: Mapping[str, Any], column: str, scale: int, *, several: bool) -> str:
    where = f" on {row['dataset']}" if several else ""
    seed = f", seed {row['seed']}" if row["seed"] not in (None, 0) else ""
    return f"{_number(row[column] / scale)} ({row['model']}{where}{seed})"


def _line(material: Material, row: Mapping[str, Any], metric: str, *, several: bool) -> str:
    """One model's accuracy and alignment with intervals, and how the latter lies to chance."""
    where = f" on {row['dataset']}" if several else ""
    subject = f"{row['model']}{where}"
    level = f"{100 * material.level:g} %"
    told = (
        [f"{subject} has an accuracy of {_with_bounds(row, 'top1', 100)} over {row['n_images']:,} images"]
        if row["top1"] is not None
        else []
    )
    name, label, region = f"ea_{metric}", metric_label(metric), material.regions[0]
    if row[name] is None:
        told.append(
            f"no {label} with {region} is defined" if told else f"{subject}: no {label} with {region} is defined"
        )
        return f"{'; '.join(told)}."
    what = f"the mean {label} of its {material.method[0]} maps with {region} is {_with_bounds(row, name, 1)}"
    chance = row[f"{name}_chance"]
    if chance is not None:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        beyond = low is not None and (low > chance or high < chance)
        lies = ("above" if low > chance else "below") if beyond else "not clearly different from"
        what += f", {lies} the {_number(chance)} of a map that knows nothing"
    count = f"{row[f'{name}_n']:,} decisions" + (
        f", {row[f'{name}_undefined']:,} undefined" if row[f"{name}_undefined"] else ""
    )
    unreliable = "; too little stands behind its interval" if row[f"{name}_unreliable"] else ""
    told.append(f"{what} ({count}{unreliable}; in brackets {level} intervals)")
    return f"{'; '.join(told)}."


def _with_bounds(row: Mapping[str, Any], name: str, scale: int) -> str:
    value, low, high = (row[key] for key in (name, f"{name}_low", f"{name}_high"))
    bounds = "" if low is None else f" ({_number(low / scale)} to {_number(high / scale)})"
    return f"{_number(value / scale)}{bounds}"


def _number(value: float) -> str:
    return cell(value).text


def _relation(material: Material) -> list[str]:
    """Whether accuracy and alignment go together over models, where there are enough of them."""
    if material.summary["model"].n_unique() < MIN_MODELS or len(material.datasets) > 1:
        return []
    try:
        table = relate(material.run, predictor=material.metric, method=material.method[0], region=material.regions[0])
    except UsageError:
        return []
    spearman = table.filter(pl.col("statistic") == "spearman")
    return [relation_sentence(row) for row in spearman.head(1).iter_rows(named=True)]


def _comparison(material: Material) -> list[str]:
    compared = material.comparison
    if compared is None:
        return []
    words = compared_words(compared.table, limit=_DIFFERENCES)
    return [f"Between {compared.between}s, on the same images: {words[0]}", *words[1:]]
