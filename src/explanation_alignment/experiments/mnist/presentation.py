"""What is said and shown of a run of coloured MNIST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from explanation_alignment.experiments.mnist.protocol import METHODS, MODELS
from explanation_alignment.experiments.mnist.results import is_compared, results
from explanation_alignment.reporting.content import Section, Table
from explanation_alignment.reporting.figures import ea_bars, example_grid
from explanation_alignment.reporting.presentation import Illustration, Presentation, TerminalTable
from explanation_alignment.reporting.text import interval, number
from explanation_alignment.statistics.relying.region_reliance import reliance
from explanation_alignment.statistics.relying.words import rule, sentences

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["present"]


def present(run: Run) -> Presentation:
    """The experiment's report: what was found and by which rule, the figures, the study's numbers beside ours."""
    summary = run.summary()
    test_sets = summary["dataset"].unique().sort().to_list()
    correlated = [name for name in test_sets if name.endswith("-correlated")]  # none yet where the run was stopped
    permuted = [name for name in test_sets if name not in correlated]
    # the test sets hold the same images and differ in the block's colour alone: together they are the intervention
    pairs = [(one, other) for one in correlated for other in permuted]
    found = reliance(run, pairs={"block": pairs} if pairs else None, pool=["dataset"])
    told = found.filter(pl.col("method") == METHODS[0])
    if told["seed"].n_unique() > 1:  # the evidence of every seed is in the table; a page's top has room for verdicts
        told = told.filter(~pl.col("is_evidence"))
    table = results(run)
    source = run.info["experiment"]["settings"]["data"]["source"]
    models = [name for name in MODELS if name in summary["model"]]
    return Presentation(
        title=f"Which model learned the {run.evidence[0]}?",
        subtitle=f"Coloured MNIST ({source}): {_counted(len(models), 'model')}, {_counted(len(test_sets), 'test set')}",
        sentences=[*_accuracy_sentences(table), *sentences(told), rule()],
        illustrations=[
            *_examples(run, [*correlated, *permuted][:2]),
            Illustration(
                "ea_by_model",
                "Explanation alignment by model and region",
                ea_bars(summary, "iou_coverage", models=models, regions=[*run.evidence, "block"]),
                "Bars of the mean IoU by model, region and test set, with intervals and chance levels",
            ),
        ],
        sections=[_comparison(table, compared=is_compared(run))],
        tables=[_tabulate(run, method) for method in METHODS],
        reliance=found,
    )


def _counted(number_of: int, noun: str) -> str:
    word = {1: "one", 2: "two"}.get(number_of, str(number_of))
    return f"{word} {noun}" + ("" if number_of == 1 else "s")


def _examples(run: Run, test_sets: Sequence[str]) -> list[Illustration]:
    """Decisions of the first seed; none before the first evaluation has ended."""
    kept = run.examples()
    if not kept.is_empty():
        kept = kept.filter(
            pl.col("method") == METHODS[0],
            pl.col("dataset").is_in(test_sets),
            pl.col("seed") == pl.col("seed").min(),
        )
    if kept.is_empty():
        return []
    class_names = run.info["datasets"][test_sets[0]]["class_names"]
    return [
        Illustration(
            "examples",
            "What the maps show",
            example_grid(kept, class_names=class_names, max_columns=5),
            "Test images with their annotations and binarized vanilla-gradient maps, a line a model and test set",
        )
    ]


def _accuracy_sentences(table: pl.DataFrame) -> list[str]:
    """What happens to each model's accuracy when the block stops giving the class away."""
    accuracy = {
        (row["model"], row["test"]): row["accuracy"]
        for row in table.select("model", "test", "accuracy").unique().iter_rows(named=True)
    }
    where = {"correlated": "where the block's colour gives the class away", "uncorrelated": "where it does not"}
    if "correlated" not in table["test"]:
        where["uncorrelated"] = "where the block's colour does not give the class away"
    said: list[str] = []
    for model in MODELS:
        told = [f"{accuracy[model, test]:.3f} {words}" for test, words in where.items() if (model, test) in accuracy]
        if told:
            said.append(f"The model trained on {model} blocks has accuracy {' and '.join(told)}.")
    return said


def _comparison(table: pl.DataFrame, *, compared: bool) -> Section:
    note = (
        "The study's numbers are single runs of its notebook; with seed and permutation the correlated model's values "
        "move by .05 IoU and .25 hits."
        if compared
        else "The study's numbers are not shown: they were measured on MNIST, these are other images."
    )
    headings = ["Trained on", "Tested on", "Method", "Region", "Accuracy", *(["Study"] if compared else [])]
    for label in ("IoU", "Hits"):
        headings += [label, "SD of sets", "SD of seeds", "Chance", *(["Study"] if compared else [])]
    rows = []
    for key, part in table.group_by("model", "test", "method", "region", maintain_order=True):
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        first = part.row(0, named=True)
        cells = [*key, first["accuracy"], *([first["accuracy_reported"]] if compared else [])]
        for metric in ("iou_coverage", "pointing_game"):
            row = by_metric[metric]
            cells += [row["ea"], row["sd_permutations"], row["sd_seeds"], row["chance"]]
            cells += [row["reported"]] if compared else []
        rows.append(cells)
    return Section(
        "All test sets, beside the study's numbers" if compared else "All test sets",
        tables=[Table(headings, rows)],
        note=note,
    )


def _tabulate(run: Run, method: str) -> TerminalTable:
    """The experiment's table for one saliency method.

    A cell's lines: the mean; its 95 % interval over images (one test set, one seed) or its standard deviation over
    permutations or, where there are several, seeds; the chance level in brackets; the study's number where there is
    one to compare with.
    """
    source = run.info["experiment"]["settings"]["data"]["source"]
    study = "; the study's number" if is_compared(run) else ""  # the only images it can be compared on
    table = results(run).filter(pl.col("method") == method)
    uncertainty = "± SD over seeds" if table["sd_seeds"].is_not_null().any() else "95 % interval, or ± SD over sets"
    regions = table["region"].unique(maintain_order=True).to_list()
    columns = [(region, metric) for region in regions for metric in ("iou_coverage", "pointing_game")]
    words = {"iou_coverage": "IoU", "pointing_game": "hits"}
    headings = ["trained on", "tested on", "accuracy", *(f"{region} {words[metric]}" for region, metric in columns)]
    rows = []
    for (model, test), part in table.group_by("model", "test", maintain_order=True):
        first = part.row(0, named=True)
        accuracy = _lines(first["accuracy"], None, None, first["accuracy_sd_permutations"], first["accuracy_sd_seeds"])
        if first["accuracy_reported"] is not None:
            accuracy.append(f"study {number(first['accuracy_reported'])}")
        rows.append([[str(model)], [str(test)], accuracy, *(_score_cell(part, *column) for column in columns)])
    note = f"a cell: mean; {uncertainty}; (a map that knows nothing){study}"
    return TerminalTable(f"Coloured MNIST ({source}): {method}", headings, rows, note)


def _score_cell(part: pl.DataFrame, region: str, metric: str) -> list[str]:
    row = part.filter(pl.col("region") == region, pl.col("metric") == metric).row(0, named=True)
    study = [] if row["reported"] is None else [f"study {number(row['reported'])}"]
    value = _lines(row["ea"], row["ci_low"], row["ci_high"], row["sd_permutations"], row["sd_seeds"])
    return [*value, f"({number(row['chance'])})", *study]


def _lines(
    value: float | None, low: float | None, high: float | None, sd_permutations: float | None, sd_seeds: float | None
) -> list[str]:
    if value is None:
        return ["-"]
    if sd_seeds is not None:
        return [number(value), f"± {number(sd_seeds)}"]
    if sd_permutations is not None:
        return [number(value), f"± {number(sd_permutations)}"]
    return [number(value), interval(low, high)] if low is not None else [number(value)]
