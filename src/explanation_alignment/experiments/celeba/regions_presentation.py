"""What is said and shown of a run that ranks the regions of a face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from explanation_alignment.experiments.celeba.protocol import METHODS
from explanation_alignment.experiments.celeba.regions_protocol import TEST_SETS, KeptOut
from explanation_alignment.experiments.celeba.regions_results import (
    accuracies,
    first_regions,
    models_of,
    region_results,
)
from explanation_alignment.reporting.content import Section, Table
from explanation_alignment.reporting.figures import ranking_bars, rankings_side_by_side, region_cutouts
from explanation_alignment.reporting.figures.region_ranking import RANKING_WORDS
from explanation_alignment.reporting.figures.reliance_bars import reliance_bars
from explanation_alignment.reporting.figures.sheet import PALETTE
from explanation_alignment.reporting.presentation import Illustration, Presentation, TerminalTable
from explanation_alignment.reporting.text import number, signed
from explanation_alignment.statistics.region_ranking import RANKINGS
from explanation_alignment.statistics.relying.region_reliance import reliance
from explanation_alignment.statistics.relying.words import MARGIN, MIN_FLIP, rule, sentences

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["present", "verdict_sentences"]

#: Verdicts worth a sentence each; the tables tell the others.
_FLAGS: Final = ("confirmed", "suspected", "not confirmed")
_METHOD_WORDS: Final = {"gradcam": "Grad-CAM", "vanilla_gradients": "vanilla-gradient"}
_MAX_VERDICTS: Final = 8


def present(run: Run) -> Presentation:
    """The experiment's report: what each ranking puts first, what the intervention says, the figures."""
    results, models = region_results(run), models_of(run)
    firsts = first_regions(run, results)
    found = reliance(run)
    tests = [test for test in TEST_SETS if test in results["test"].to_list()]
    names = dict(results.select("test", "dataset").unique().rows())
    methods = results["method"].unique(maintain_order=True).to_list()
    main = names[tests[0]]
    toy, evidence = bool(run.info["toy"]), run.evidence
    kept_out = KeptOut(**run.info["experiment"]["settings"]["data"]["kept_out"])
    illustrations = _cutouts(run, main, models, toy)
    bars = ranking_bars(results, dataset=main, models=models, evidence=evidence, toy=toy)
    paths = rankings_side_by_side(results, dataset=main, models=models, evidence=evidence, toy=toy)
    illustrations += [
        Illustration(
            "region_ranking",
            "Regions by rank",
            bars,
            "Bars of IoU minus that of a centred map by region, a panel a model and method, with intervals and ranks",
        ),
        Illustration(
            "four_rankings",
            "The same maps, ranked otherwise",
            paths,
            "The regions by rank under four statistics, with lines that follow a region",
        ),
        _reliance(found, main, methods[0], models, toy),
    ]
    return Presentation(
        title="Which part of the face do they rely on?",
        subtitle=f"{', '.join(models)} on {', '.join(names[test] for test in tests)}",
        sentences=[
            *_accuracy_sentences(run),
            *_ranking_sentences(firsts, tests[0], methods, models),
            *verdict_sentences(found, main, methods[0], models),
            kept_out.sentence(),
            *_image_sentences(run),
            rule(),
        ],
        illustrations=illustrations,
        sections=[_firsts_section(firsts), *(_ranking_section(results, found, test, names[test]) for test in tests)],
        tables=[
            _firsts_table(run, firsts, names),
            *(_ranking_table(results, found, names[tests[0]], method, models) for method in methods),
        ],
        without=("reliance",),
    )


# -------------------------------------------------------------------------------------------------- in words


def _accuracy_sentences(run: Run) -> list[str]:
    lines = []
    for (model,), part in accuracies(run).group_by("model", maintain_order=True):
        told = []
        for row in part.iter_rows(named=True):
            spread = "" if row["accuracy_sd"] is None else f" (± {number(row['accuracy_sd'])} over seeds)"
            told.append(f"{number(row['accuracy'])}{spread} on the {row['images']:,} {row['test']} test images")
        lines.append(f"{model} has accuracy {' and '.join(told)}.")
    return lines


def _ranking_sentences(firsts: pl.DataFrame, test: str, methods: Sequence[str], models: Sequence[str]) -> list[str]:
    """What the default ranking puts first, and what the others do, a sentence a method and model."""
    lines = []
    for method in methods:
        for model in models:
            rows = firsts.filter(test=test, method=method, model=model)
            told = {row["statistic"]: row for row in rows.iter_rows(named=True)}
            default = next((name for name in RANKINGS if name in told), None)
            if default is None:
                continue
            one = told.pop(default)
            others = _in_words([f"{RANKING_WORDS[name]} {row['region']}" for name, row in told.items()])
            maps = f"{model}'s {_METHOD_WORDS.get(method, method)} maps"
            lines.append(
                f"By {_spelled(default)}, {maps} rank {one['region']} first ({_worth(one)})"
                + (f"; by {others}." if others else ".")
            )
    return lines


def _spelled(statistic: str) -> str:
    return "IoU minus that of a centred map of the same size" if statistic == "excess" else RANKING_WORDS[statistic]


def _worth(row: Mapping[str, Any]) -> str:
    """What a first place is worth."""
    if row["seeds"] > 1:
        tau = "" if row["tau_mean"] is None else f", Kendall's tau between seeds {row['tau_mean']:.2f}"
        return f"in {row['times_first']} of {row['seeds']} seeds{tau}"
    low, high = row["rank_low"], row["rank_high"]
    return f"{100 * row['first']:.0f} % of resamples; rank {_range(low, high)}"


def _in_words(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def verdict_sentences(found: pl.DataFrame, dataset: str, method: str, models: Sequence[str]) -> list[str]:
    """What was flagged, region by region where there is room; counts of the rest.

    Args:
        found: a table of :func:`~explanation_alignment.statistics.relying.region_reliance.reliance`.
        dataset: the test set told of.
        method: the saliency method told of.
        models: their order.
    """
    rows = _in_order(found.filter(pl.col("dataset") == dataset, pl.col("method") == method), models)
    flagged = rows.filter(pl.col("verdict").is_in(_FLAGS))
    short = flagged.height <= _MAX_VERDICTS and flagged["seed"].n_unique() <= 1
    lines = sentences(flagged) if short else _flags_counted(flagged)
    counts = rows.filter(~pl.col("is_evidence"))["verdict"].value_counts(sort=True).rows()
    told = ", ".join(f"{n} {verdict}" for verdict, n in counts)
    where = f"{_METHOD_WORDS.get(method, method)} maps, {dataset}"
    return [*lines, f"Of all pairs of model, seed and region outside the evidence ({where}): {told}."]


def _flags_counted(flagged: pl.DataFrame) -> list[str]:
    """A line for each model, region and verdict: in how many seeds."""
    keys = ["model", "region", "verdict"]
    return [
        f"{model} and {region}: {verdict} in {part.height} seed{'' if part.height == 1 else 's'} (IoU over centre "
        f"{_span(part['excess'])}, predictions changed more than elsewhere {_span(part['flip_difference'])})."
        for (model, region, verdict), part in flagged.group_by(keys, maintain_order=True)
    ]


def _span(values: pl.Series) -> str:
    known = values.drop_nulls()
    if known.is_empty():
        return "-"
    low, high = float(min(known)), float(max(known))
    return signed(low) if number(low) == number(high) else f"{signed(low)} to {signed(high)}"


def _image_sentences(run: Run) -> list[str]:
    if run.info["experiment"]["settings"]["images"] != "aligned":
        return []
    return [
        "Images are CelebA's aligned pictures with CelebA-HQ's masks laid on their centre, about 10 px off, as "
        "published (published_pairing)."
    ]


# ---------------------------------------------------------------------------------------------------- figures


def _cutouts(run: Run, dataset: str, models: Sequence[str], toy: bool) -> list[Illustration]:
    """An image on which the models disagree, if one that all keep is among the examples."""
    examples = run.examples()
    if examples.is_empty():
        return []
    examples = examples.filter(pl.col("dataset") == dataset, pl.col("seed") == pl.col("seed").min())
    methods = pl.col("method").replace_strict({name: i for i, name in enumerate(METHODS)}, default=99)
    examples = examples.sort(methods, maintain_order=True)
    shared = examples.group_by("sample_id").agg(models=pl.col("model").n_unique(), told=pl.col("prediction").n_unique())
    most = shared.filter(pl.col("models") == pl.col("models").max())
    apart = most.filter(pl.col("told") > 1)
    chosen = examples.filter(pl.col("sample_id").is_in((most if apart.is_empty() else apart)["sample_id"].to_list()))
    if chosen.is_empty():
        return []
    names = run.info["datasets"][dataset]["class_names"]
    known = [model for model in models if model in chosen["model"].to_list()]
    figure = region_cutouts(chosen, models=known, class_names=names, toy=toy)
    alt = "One face with each of its regions cut out, and each model's binarized map on them with IoU and hit"
    return [Illustration("region_cutouts", "One face, region by region", figure, alt)]


def _reliance(found: pl.DataFrame, dataset: str, method: str, models: Sequence[str], toy: bool) -> Illustration:
    """The excess of the maps beside what exchanging a region changes, of the regions that either speaks of."""
    table = found.filter(pl.col("dataset") == dataset, pl.col("method") == method)
    above = pl.max_horizontal(pl.col("excess_high") - MARGIN, pl.col("flip_high") - MIN_FLIP)
    regions = table.group_by("region").agg(above=above.max(), evidence=pl.col("is_evidence").any())
    regions = regions.sort("evidence", "above", "region", descending=[True, True, False], nulls_last=True)
    told = regions.filter(pl.col("evidence") | (pl.col("above") > 0)).head(len(PALETTE))["region"].to_list()
    title = f"{_METHOD_WORDS.get(method, method)} maps, and what exchanging a region changes"
    figure = reliance_bars(table, models=models, regions=told or None, title=title, toy=toy)
    alt = (
        "Bars of IoU minus that of a centred map, and of predictions changed by exchanging a region, with the rule's "
        "thresholds; of the evidence, and of regions whose interval goes beyond one of them"
    )
    return Illustration("reliance_bars", "What the maps say, and what the intervention says", figure, alt)


# ----------------------------------------------------------------------------------------------------- tables


def _firsts_table(run: Run, firsts: pl.DataFrame, names: Mapping[str, str]) -> TerminalTable:
    """Which region each ranking puts first."""
    statistics = _statistics_of(firsts)
    accuracy = {(row["model"], row["test"]): row for row in accuracies(run).iter_rows(named=True)}
    rows = []
    for (test, method, model), part in firsts.group_by("test", "method", "model", maintain_order=True):
        told = {row["statistic"]: row for row in part.iter_rows(named=True)}
        known = accuracy[str(model), str(test)]
        spread = [] if known["accuracy_sd"] is None else [f"± {number(known['accuracy_sd'])}"]
        cells = [
            [told[name]["region"], *_short_worth(told[name])] if name in told else [_NOTHING] for name in statistics
        ]
        count = f"n {known['images'] * known['seeds']:,}"
        rows.append([[str(model), f"on {test}"], [str(method)], [number(known["accuracy"]), *spread, count], *cells])
    if max(firsts["seeds"]) > 1:
        worth = "in how many seeds it is first, mean Kendall's tau between seeds"
    else:
        worth = "in how much of the resamples it is first, and the ranks that the images allow"
    headings = ["model", "method", "accuracy", *(RANKING_WORDS[name] for name in statistics)]
    title = f"Which region is first? ({', '.join(names.values())})"
    return TerminalTable(title, headings, rows, f"a cell: the region of the best mean rank; {worth}")


def _short_worth(row: Mapping[str, Any]) -> list[str]:
    if row["seeds"] > 1:
        tau = [] if row["tau_mean"] is None else [f"tau {number(row['tau_mean'])}"]
        return [f"{row['times_first']} of {row['seeds']}", *tau]
    return [f"{100 * row['first']:.0f} %", f"rank {_range(row['rank_low'], row['rank_high'])}"]


def _ranking_table(
    results: pl.DataFrame, found: pl.DataFrame, dataset: str, method: str, models: Sequence[str]
) -> TerminalTable:
    """The regions of each model by the default ranking, what the others say, and the verdict."""
    table = results.filter(pl.col("dataset") == dataset, pl.col("method") == method)
    statistics = _statistics_of(table)
    default, *others = statistics
    several = table["seed"].n_unique() > 1
    verdicts = _verdicts(found.filter(pl.col("dataset") == dataset, pl.col("method") == method))
    rows = []
    for model in models:
        regions = _over_seeds(table.filter(pl.col("model") == model))
        for (region,), part in regions.group_by("region", maintain_order=True):
            told = {row["statistic"]: row for row in part.iter_rows(named=True)}
            rows.append(
                [
                    [model],
                    [str(region), *_counts(told[default])],
                    *_rank_cells(told[default], several=several),
                    *(_other_cell(told[name]) for name in others),
                    *verdicts.get((model, str(region)), ([_NOTHING], [_NOTHING])),
                ]
            )
    headings = ["model", "region", "rank", RANKING_WORDS[default], "first", *(RANKING_WORDS[name] for name in others)]
    spread = "mean ± SD over seeds" if several else "mean, 95 % interval"
    whose = "of the seeds" if several else "that the images allow (95 %)"
    note = (
        f"{RANKING_WORDS[default]}: {spread}; below the rank those {whose}; lift, IoU, hits: #rank, (a map that knows "
        "nothing); changed: predictions that exchanging the region changes, minus as many pixels elsewhere; n counts "
        "decisions"
    )
    return TerminalTable(f"Regions by rank: {dataset}, {method}", [*headings, "changed", "verdict"], rows, note)


_NOTHING: Final = "-"


def _statistics_of(table: pl.DataFrame) -> list[str]:
    present = table["statistic"].to_list()
    return [name for name in RANKINGS if name in present]


def _over_seeds(results: pl.DataFrame) -> pl.DataFrame:
    """One row a statistic and region, seeds taken together; regions by the default's mean rank."""
    single = pl.col("seed").n_unique() == 1
    table = results.group_by("statistic", "region").agg(
        pl.col("value", "chance", "first").mean(),
        sd=pl.col("value").std(),
        low=pl.when(single).then(pl.col("low").first()),
        high=pl.when(single).then(pl.col("high").first()),
        rank=pl.col("rank").mean(),
        rank_low=pl.when(single).then(pl.col("rank_low").first()).otherwise(pl.col("rank").min()),
        rank_high=pl.when(single).then(pl.col("rank_high").first()).otherwise(pl.col("rank").max()),
        times_first=(pl.col("rank") == 1).sum(),
        seeds=pl.col("rank").count(),
        unreliable=pl.col("unreliable").any(),
        n=pl.col("n").sum(),
        n_undefined=pl.col("n_undefined").sum(),
    )
    default = _statistics_of(results)[0]
    order = table.filter(pl.col("statistic") == default).select("region", _place=pl.col("rank"))
    return table.join(order, on="region", how="left").sort("_place", "region", nulls_last=True)


def _rank_cells(row: Mapping[str, Any], *, several: bool) -> list[list[str]]:
    """Rank, value and first place of the default ranking."""
    if row["rank"] is None:
        return [[_NOTHING]] * 3
    spread = f"± {number(row['sd'])}" if several else f"{signed(row['low'])} {signed(row['high'])}"
    first = f"{row['times_first']} of {row['seeds']}" if several else f"{100 * row['first']:.0f} %"
    mark = "*" if row["unreliable"] else ""
    ranks = [_rank(row["rank"]) + mark, _range(row["rank_low"], row["rank_high"])]
    return [ranks, [signed(row["value"]), spread], [first]]


def _counts(row: Mapping[str, Any]) -> list[str]:
    """Decisions with a score, and without one, of all seeds."""
    return [f"n {row['n']:,}", *([f"undef. {row['n_undefined']:,}"] if row["n_undefined"] else [])]


def _rank(rank: float) -> str:
    """A rank, or a mean of ranks to one place."""
    return f"{rank:.0f}" if rank == round(rank) else f"{rank:.1f}"


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _other_cell(row: Mapping[str, Any]) -> list[str]:
    if row["rank"] is None:
        return [_NOTHING]
    value = f"{row['value']:.2f}" if row["statistic"] == "lift" else number(row["value"])
    chance = "1" if row["statistic"] == "lift" else number(row["chance"])
    return [f"{value} #{_rank(row['rank'])}", f"({chance})"]


def _verdicts(found: pl.DataFrame) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """(model, region) -> what the exchange changed, and the verdict, over seeds."""
    cells = {}
    for (model, region), part in found.group_by("model", "region"):
        several = part.height > 1
        changed = part["flip_difference"].drop_nulls()
        if changed.is_empty():
            told = [_NOTHING]
        elif several:
            told = [signed(float(changed.to_numpy().mean())), f"{signed(min(changed))} {signed(max(changed))}"]
        else:
            told = [signed(changed[0]), f"{signed(part['flip_low'][0])} {signed(part['flip_high'][0])}"]
        counts = part["verdict"].value_counts(sort=True).rows()
        verdict = [f"{n} {word}" if n < part.height else word for word, n in sorted(counts)]
        cells[str(model), str(region)] = (told, verdict)
    return cells


def _firsts_section(firsts: pl.DataFrame) -> Section:
    headings = ["Test images", "Method", "Model", "Ranked by", "First region", "Seeds", "First in", "Of resamples"]
    columns = ["test", "method", "model", "statistic", "region", "seeds", "times_first", "first"]
    rest = ["rank_low", "rank_high", "tau_mean", "tau_min"]
    rows = firsts.with_columns(pl.col("statistic").replace(RANKING_WORDS)).select(*columns, *rest).rows()
    table = Table([*headings, "Rank from", "to", "Tau between seeds", "Least"], rows)
    return Section(
        "Which region is first",
        tables=[table],
        note="Ranks: those that the images allow at 95 %, in any seed. No reported numbers of this are known.",
    )


def _ranking_section(results: pl.DataFrame, found: pl.DataFrame, test: str, dataset: str) -> Section:
    """Every ranking of one test set, seed by seed, and what the regions' exchange changes."""
    table = results.filter(pl.col("test") == test)
    headings = ["Method", "Model", "Seed", "Ranked by", "Region", "Rank", "from", "to", "First", "Value", "from", "to"]
    columns = ["method", "model", "seed", "statistic", "region", "rank", "rank_low", "rank_high", "first"]
    shown = table.with_columns(pl.col("statistic").replace(RANKING_WORDS))
    rows = shown.select(*columns, "value", "low", "high", "chance", "n", "n_undefined").rows()
    ranking = Table([*headings, "Knows nothing", "n", "Without"], rows, "Rankings")
    judged = found.filter(pl.col("dataset") == dataset)
    names = ["Model", "Seed", "Method", "Region", "IoU minus null", "from", "to", "Changed", "Elsewhere", "from", "to"]
    picked = ["model", "seed", "method", "region", "excess", "excess_low", "excess_high", "flips", "elsewhere_flips"]
    verdicts = judged.select(*picked, "flip_low", "flip_high", "verdict").rows()
    return Section(
        f"All rankings on {dataset}",
        tables=[ranking, Table([*names, "Verdict"], verdicts, "What the models rely on")],
        note="First: share of resamples of the images in which the region is first. Without: decisions without a "
        "score, such as those of images that lack the region.",
    )


def _in_order(rows: pl.DataFrame, models: Sequence[str]) -> pl.DataFrame:
    place = pl.col("model").replace_strict({name: i for i, name in enumerate(models)}, return_dtype=pl.Int64)
    return rows.with_columns(_place=place).sort("_place", "seed", "rank", nulls_last=True).drop("_place")
