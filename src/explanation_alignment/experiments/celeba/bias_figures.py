"""The figures of a run of the bias experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from explanation_alignment.experiments.celeba.bias_results import BEFORE, IOU, QUANTITIES, seeds_of
from explanation_alignment.experiments.celeba.protocol import GROUPS, METHODS, correlation_of, group_word
from explanation_alignment.reporting.figures import dose_response, example_grid, group_bars, reliance_bars
from explanation_alignment.reporting.presentation import Illustration

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["illustrations"]

#: What the two labels are called under a face.
_CLASSES: Final = ("unsmiling", "smiling")
#: Examples of a group in the figure.
_EXAMPLES: Final = 3


def illustrations(
    run: Run,
    scores: pl.DataFrame,
    accuracy: pl.DataFrame,
    found: pl.DataFrame,
    doses: pl.DataFrame,
    pair: Sequence[str],
) -> list[Illustration]:
    """The figures there is something to draw in.

    Args:
        run: of this experiment.
        scores: from :func:`.bias_results.bias_results`.
        accuracy: from :func:`.bias_results.performance`.
        found: from :func:`.bias_results.verdicts`.
        doses: from :func:`.bias_results.dose_response_results`.
        pair: those of the study's two models that were evaluated.
    """
    toy = bool(run.info["toy"])
    examples = _examples(run, pair)
    told = found.filter(pl.col("method") == METHODS[0])
    shown = []
    if not examples.is_empty():
        shown.append(_example_figure(examples, toy))
    if pair:
        shown.append(_group_figure(_bars(scores, accuracy, pair), pair, len(seeds_of(run)) > 1, toy))
    if len(told):
        shown.append(_reliance_figure(told, toy))
    if doses["correlation"].n_unique() > 1:
        shown.append(_dose_figure(doses, toy))
    return shown


def _example_figure(examples: pl.DataFrame, toy: bool) -> Illustration:
    return Illustration(
        "examples",
        "What the maps show, group by group",
        example_grid(examples, class_names=_CLASSES, max_columns=_EXAMPLES, toy=toy),
        "Test faces of each group with outlines of the annotations and binarized Grad-CAM maps, a line a model and "
        "group",
    )


def _group_figure(bars: pl.DataFrame, pair: Sequence[str], several_seeds: bool, toy: bool) -> Illustration:
    spread = "one standard deviation over seeds to either side" if several_seeds else "95 % interval over images"
    return Illustration(
        "groups",
        "Accuracy and alignment with the mouth, by group",
        group_bars(
            bars,
            models=pair,
            labels={"biased": "trained on biased faces", "unbiased": "trained on unbiased faces"},
            title="By group: accuracy, and IoU of Grad-CAM with the mouth",
            note=f"Whisker: {spread}.",
            before=BEFORE,
            toy=toy,
        ),
        "Bars of accuracy and of Grad-CAM's IoU with the mouth, by group and model, with chance levels",
    )


def _reliance_figure(told: pl.DataFrame, toy: bool) -> Illustration:
    return Illustration(
        "reliance",
        "What the models rely on",
        reliance_bars(told, title="Which region decides? Grad-CAM, and the exchange of regions", toy=toy),
        "Bars of each region's IoU above a centred map's and of the predictions its exchange changes, by model",
    )


def _dose_figure(doses: pl.DataFrame, toy: bool) -> Illustration:
    panels = {
        "accuracy": ["accuracy common", "accuracy rare"],
        "IoU minus that of a map at the centre": [name for name in QUANTITIES if name.startswith("excess")],
    }
    panels = {heading: [name for name in names if name in doses["quantity"]] for heading, names in panels.items()}
    fewest, most = (int(value) for value in doses.select(pl.min("seeds"), pl.max("seeds").alias("most")).row(0))
    spread = "one standard deviation over seeds" if most > 1 else "95 % interval over images"
    spread += " (95 % interval where there is one)" if fewest == 1 < most else ""
    return Illustration(
        "dose_response",
        "Against the correlation of hair and smile in training",
        dose_response(
            doses,
            panels,
            dose="correlation of black hair and smile in training (phi)",
            title="What a model learns, by how strongly hair and smile go together",
            labels=QUANTITIES,
            note=f"Means of {_count(fewest, most)}; error bars: {spread}.",
            before=BEFORE,
            toy=toy,
        ),
        "Curves of accuracy on common and rare groups and of the IoU of mouth and hair above a centred map's, against "
        "the correlation in training",
    )


def _count(fewest: int, most: int) -> str:
    number_of = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"{number_of} seed{'s' if most > 1 else ''}"


def _examples(run: Run, pair: Sequence[str]) -> pl.DataFrame:
    """Decisions of the first seed, as many of each group and model as there are, the group in place of the dataset."""
    kept = run.examples()
    if kept.is_empty():
        return kept
    models = list(pair) or _ends(kept["model"].cast(pl.String).unique().to_list())
    words = pl.col("model", "dataset", "sample_id").cast(pl.String)
    kept = kept.with_columns(words).filter(
        pl.col("method").cast(pl.String) == METHODS[0], pl.col("model").is_in(models)
    )
    kept = kept.filter(pl.col("seed") == kept["seed"].min())
    wanted = len(models) * len(GROUPS)
    for prefix in ("celeba-hair", "celeba-unbiased", "celeba-biased", "celeba-"):
        part = kept.filter(pl.col("dataset").str.starts_with(prefix))
        if part.select("model", "attr_group").n_unique() == wanted:
            break
    shared = part.group_by("sample_id").agg(models=pl.col("model").n_unique().cast(pl.Int64))
    places = {group_word(group): place for place, group in enumerate(GROUPS)}
    return (
        part.join(shared, on="sample_id", maintain_order="left")
        .sort(
            pl.col("model").replace_strict({model: place for place, model in enumerate(models)}, default=None),
            pl.col("attr_group").replace_strict(places, default=None),
            -pl.col("models"),
            maintain_order=True,
        )
        .with_columns(dataset=pl.col("attr_group"))
    )


def _ends(models: Sequence[str]) -> list[str]:
    """The models of the weakest and the strongest correlation."""
    doses = sorted((dose, model) for model in models if (dose := correlation_of(model)) is not None)
    return [model for _, model in dict.fromkeys([doses[0], doses[-1]])] if doses else []


def _bars(scores: pl.DataFrame, accuracy: pl.DataFrame, pair: Sequence[str]) -> pl.DataFrame:
    """The rows of the group bars: whole and by group, on the biased and the unbiased test images."""
    kept = [pl.col("test").is_in(["unbiased", "biased"]), pl.col("model").is_in(list(pair))]
    rates = accuracy.filter(*kept).select(
        "test",
        "group",
        "model",
        measure=pl.lit("accuracy"),
        value="accuracy",
        low=_bound("accuracy", "sd_accuracy", "accuracy_low", -1),
        high=_bound("accuracy", "sd_accuracy", "accuracy_high", 1),
        chance=pl.lit(0.5),
        before=pl.lit(None, pl.Float64),
    )
    mouth = scores.filter(
        *kept, pl.col("method") == METHODS[0], pl.col("metric") == IOU, pl.col("region") == "mouth"
    ).select(
        "test",
        "group",
        "model",
        measure=pl.lit("IoU with the mouth"),
        value="ea",
        low=_bound("ea", "sd_seeds", "ci_low", -1),
        high=_bound("ea", "sd_seeds", "ci_high", 1),
        chance="chance",
        before="untrained",
    )
    tests = pl.col("test").replace_strict({"unbiased": 0, "biased": 1}, default=None)
    return pl.concat([rates, mouth]).sort(tests, maintain_order=True).with_columns(pl.col("test") + " test images")


def _bound(value: str, sd: str, bound: str, side: int) -> pl.Expr:
    """An end of a whisker: a standard deviation over seeds away, or the interval's where there is one seed."""
    return pl.when(pl.col(sd).is_not_null()).then(pl.col(value) + side * pl.col(sd)).otherwise(pl.col(bound))
