"""What is said and shown of a CIFAR-100 transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.cifar100_transfer.protocol import METRICS
from explanation_alignment.experiments.cifar100_transfer.results import (
    METHODS,
    TRANSFER_FAILURES,
    alignments,
    features_of,
    results,
)
from explanation_alignment.experiments.imagenet.presentation import failure_sections, failure_sentences
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.reporting.content import Section, Table
from explanation_alignment.reporting.figures.relation import relation_plot
from explanation_alignment.reporting.figures.scatter import accuracy_scatter
from explanation_alignment.reporting.presentation import Illustration, Presentation, TerminalTable
from explanation_alignment.reporting.text import interval, number, signed
from explanation_alignment.statistics.relations import FEW_MODELS, relate, relation_sentence

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from explanation_alignment.runs.reader import Run

__all__ = ["CONTROLS", "PREDICTORS", "present", "relations"]

#: What might explain transfer, and the words for it.
PREDICTORS: Final = {
    "iou_coverage_gradients": "IoU of vanilla gradients",
    "pointing_game_gradients": "hits of vanilla gradients",
    "iou_coverage_gradcam": "IoU of Grad-CAM (CNNs)",
}
#: What is held fixed: alignment should tell more than that a model is accurate or large.
CONTROLS: Final = ("accuracy", "parameters")
_WORDS: Final = {**PREDICTORS, "one_shot": "one-shot accuracy", "parameters": "size"}
_METHOD_WORDS: Final = {"vanilla_gradients": "vanilla gradients", "gradcam": "Grad-CAM"}
#: Lines of a table in a terminal; the report has them all.
_LINES: Final = 40


def present(run: Run) -> Presentation:
    """The experiment's report: transfer beside alignment and accuracy, the four figures, the relation."""
    toy = bool(run.info["toy"])
    kinds = features_of(run)
    boards = alignments(run)
    tables = {kind: results(run, kind, boards) for kind in kinds}
    found = {kind: relations(table) for kind, table in tables.items()}
    transfer = run.info.get("transfer", {"dataset": "cifar100", "samples": 0})
    source = "generated toy images" if toy else f"ImageNet and {transfer['dataset']}"
    models = boards["vanilla_gradients"]["model"].n_unique()
    most = run.info["experiment"]["settings"]["max_iter"]
    return Presentation(
        title="Do aligned models transfer better?",
        subtitle=f"{models} models, {source}",
        sentences=[
            *(
                sentence
                for kind in kinds
                for sentence in _sentences(kind, tables[kind], found[kind], most, several=len(kinds) > 1)
            ),
            *failure_sentences(run),
            *failure_sentences(run, TRANSFER_FAILURES),
        ],
        illustrations=[
            *_accuracy_figures(boards, toy=toy),
            *(figure for kind in kinds for figure in _transfer_figures(boards, kind, tables[kind], toy=toy)),
        ],
        sections=[
            *(_section(kind, tables[kind], found[kind]) for kind in kinds),
            *failure_sections(run, TRANSFER_FAILURES, "Models whose transfer failed"),
        ],
        tables=[item for kind in kinds for item in (_tabulate(kind, tables[kind]), *_related(kind, found[kind]))],
    )


def relations(table: pl.DataFrame) -> pl.DataFrame:
    """Whether alignment goes with one-shot accuracy, over models: on its own, and at equal accuracy and size.

    Args:
        table: from :func:`~explanation_alignment.experiments.cifar100_transfer.results.results`.

    Returns:
        The columns of :func:`~explanation_alignment.statistics.relations.relate` without Pearson's coefficient, for
        each of ``PREDICTORS`` that at least four models have.
    """
    parts = []
    for predictor in PREDICTORS:
        chosen = table.filter(pl.col(predictor).is_not_null())
        try:
            parts.append(relate(chosen, outcome="one_shot", predictor=predictor, controls=CONTROLS))
        except UsageError:  # too few models to relate anything
            continue
    return pl.concat(parts).filter(pl.col("statistic") != "pearson") if parts else pl.DataFrame()


def _sentences(features: str, table: pl.DataFrame, found: pl.DataFrame, most: int, *, several: bool) -> list[str]:
    """What can be said of the relation, and what of single models must be known."""
    known = table.drop_nulls("one_shot")
    told = [f"Regressions on {features}:"] if several else []
    if found.is_empty():
        told.append(f"Whether alignment goes with transfer cannot be told from {known.height} models.")
    else:
        partial = found.filter(statistic="partial spearman")
        few = partial.filter(pl.col("n_models") < FEW_MODELS)
        for row in partial.filter(pl.col("n_models") >= FEW_MODELS).iter_rows(named=True):
            told.append(_spelled(relation_sentence(row)))
        for row in few.iter_rows(named=True):
            told.append(_undecided(row))
    own = known.filter(pl.col("own_size"))
    if own.height:
        told.append(
            f"{own.height} of {known.height} models refuse the size of the others and were given their own: "
            f"{_listed(own['model'].to_list())}."
        )
    open_ended = known.filter(pl.col("not_converged") > 0)
    if open_ended.height:
        told.append(
            f"Of {open_ended.height} models not every regression converged within {most:,} iterations: "
            f"{_listed(open_ended['model'].to_list())}."
        )
    return told


def _undecided(row: Mapping[str, Any]) -> str:
    """What a handful of models says: nothing that could be trusted."""
    words = PREDICTORS[row["predictor"]]
    start = (
        f"With {row['n_models']} models it cannot be told whether transfer rises with the {words}, beyond accuracy "
        "and size"
    )
    if row["coefficient"] is None:
        return f"{start}."
    bounds = "" if row["ci_low"] is None else f", {signed(row['ci_low'])} to {signed(row['ci_high'])}"
    return f"{start} (partial Spearman {signed(row['coefficient'])}{bounds})."


def _spelled(sentence: str) -> str:
    for name, words in _WORDS.items():
        sentence = sentence.replace(name.replace("_", " "), words)
    return sentence


def _listed(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _accuracy_figures(boards: Mapping[str, pl.DataFrame], *, toy: bool) -> list[Illustration]:
    """ImageNet accuracy against alignment by vanilla gradients."""
    table = boards["vanilla_gradients"]
    shown = []
    for metric, name in (("iou_coverage", "accuracy_iou"), ("pointing_game", "accuracy_pointing_game")):
        label = get_metric(metric).label
        figure = _scatter(table, metric, f"ImageNet accuracy and alignment: vanilla gradients, {label}", toy=toy)
        alt = f"Points: each model's ImageNet accuracy and its mean {label} of vanilla gradients"
        shown += [Illustration(name, f"ImageNet accuracy and {label}", figure, alt)] if figure is not None else []
    return shown


def _transfer_figures(
    boards: Mapping[str, pl.DataFrame], features: str, table: pl.DataFrame, *, toy: bool
) -> list[Illustration]:
    """One-shot accuracy against alignment, and what is left of it at equal accuracy and size."""
    ending = "" if features == "logits" else f"_{features}"
    known = table.drop_nulls("one_shot").select("model", "one_shot", "one_shot_low", "one_shot_high", "n_test")
    shown = []
    for method, word in METHODS.items():
        board = boards[method]
        if method == "gradcam":
            board = board.filter(family="cnn")
        board = board.join(known, on="model", how="inner", maintain_order="left").with_columns(
            top1=100 * pl.col("one_shot"),
            top1_low=100 * pl.col("one_shot_low"),
            top1_high=100 * pl.col("one_shot_high"),
            n_images=pl.col("n_test"),
        )
        families = "CNNs only" if method == "gradcam" else "all families"
        title = f"Transfer and alignment: {_METHOD_WORDS[method]}, {families}"
        figure = _scatter(board, "iou_coverage", title, toy=toy)
        if figure is None:
            continue
        figure.axes[0].set_xlabel(
            f"CIFAR-100 one-shot accuracy ({features}; bar: 95 % interval over draws)", fontsize=9
        )
        alt = f"Points: each model's one-shot accuracy and its mean IoU of {_METHOD_WORDS[method]} on ImageNet"
        heading = f"One-shot accuracy and IoU of {_METHOD_WORDS[method]}" + (f" ({features})" if ending else "")
        shown.append(Illustration(f"one_shot_{word}{ending}", heading, figure, alt))
    predictor = next(iter(PREDICTORS))
    names = {"one_shot": "one-shot accuracy", predictor: PREDICTORS[predictor], "parameters": "size"}
    try:
        plot = relation_plot(
            table.drop_nulls(["one_shot", predictor]).rename(names),
            outcome=names["one_shot"],
            predictor=names[predictor],
            controls=[names.get(name, name) for name in CONTROLS],
            title="Transfer and alignment, at equal accuracy and size",
            toy=toy,
        )
    except UsageError:  # too few models; the sentences say so
        return shown
    alt = "Ranks of one-shot accuracy against ranks of IoU, both less what accuracy and size explain of them"
    heading = "Does alignment predict transfer beyond accuracy and size?"
    return [*shown, Illustration(f"relation{ending}", heading, plot, alt)]


def _scatter(table: pl.DataFrame, metric: str, title: str, *, toy: bool) -> Figure | None:
    try:
        return accuracy_scatter(table, metric, title=title, toy=toy)
    except UsageError:  # no model has both values
        return None


def _tabulate(features: str, table: pl.DataFrame) -> TerminalTable:
    """A line a model, the best transfer first."""
    headings = ["model", "kind", "size", "accuracy", "one-shot", "IoU, grad.", "hit, grad.", "IoU, Grad-CAM"]
    rows = [_row(row) for row in table.head(_LINES).iter_rows(named=True)]
    draws = int(table["draws"].max() or 0)  # type: ignore[arg-type]
    left = "" if table.height <= _LINES else f"; the first {_LINES} of {table.height}, all in the report"
    chance = table.select((1 / pl.col("n_classes")).max()).item()
    note = (
        f"one-shot: mean and SD of {draws} draw{'s' if draws != 1 else ''} of the training images, {features}, chance "
        f"{number(chance)}; size: of CIFAR-100's images, +: the model's own; accuracy: on ImageNet; others: mean, 95 % "
        f"interval, (chance){left}"
    )
    return TerminalTable("CIFAR-100 transfer and ImageNet alignment", headings, rows, note)


def _row(row: Mapping[str, Any]) -> list[list[str]]:
    name = str(row["model"])
    size = "-" if row["transfer_size"] is None else f"{row['transfer_size']}{'+' if row['own_size'] else ''}"
    shot = [number(row["one_shot"]), *([] if row["one_shot_sd"] is None else [f"SD {number(row['one_shot_sd'])}"])]
    cells = [
        [name[i : i + 24] for i in range(0, len(name), 24)],
        [row["family"]],
        [size],
        [number(row["accuracy"])],
        shot,
    ]
    for column in PREDICTORS:
        if row[column] is None:
            cells.append(["-"])
            continue
        bounds = interval(row[f"{column}_low"], row[f"{column}_high"])
        cells.append([number(row[column]), bounds, f"({number(row[f'{column}_chance'])})"])
    return cells


def _related(features: str, found: pl.DataFrame) -> list[TerminalTable]:
    """The relation analysis, a line a predictor and statistic."""
    if found.is_empty():
        return []
    rows = []
    for row in found.iter_rows(named=True):
        value = [signed(row["coefficient"])] if row["coefficient"] is not None else ["-"]
        if row["ci_low"] is not None:
            value.append(f"{signed(row['ci_low'])} {signed(row['ci_high'])}")
        without = [] if row["influential_model"] is None else [row["influential_model"], signed(row["without_it"])]
        caution = [row["caution"].partition(":")[0]] if row["caution"] else []
        rows.append(
            [
                [PREDICTORS[row["predictor"]]],
                ["accuracy, size" if row["controls"] else "nothing"],
                [str(row["n_models"]), *caution],
                value,
                ["-" if row["p_value"] is None else f"{row['p_value']:.3f}"],
                without or ["-"],
            ]
        )
    headings = ["alignment", "held fixed", "models", "Spearman", "p", "without the most influential"]
    note = "95 % intervals, bootstrapped over models; p by permutation; a relation is not a cause"
    return [TerminalTable(f"Does alignment go with one-shot accuracy ({features})?", headings, rows, note)]


def _section(features: str, table: pl.DataFrame, found: pl.DataFrame) -> Section:
    columns = {
        "model": "Model",
        "family": "Kind",
        "parameters": "Parameters",
        "transfer_size": "Size",
        "own_size": "Own size",
        "one_shot": "One-shot",
        "one_shot_sd": "SD",
        "one_shot_low": "from",
        "one_shot_high": "to",
        "draws": "Draws",
        "not_converged": "Not converged",
        "accuracy": "ImageNet",
    }
    columns |= {
        f"{metric}_{word}": f"{get_metric(metric).label}, {_METHOD_WORDS[method]}"
        for method, word in METHODS.items()
        for metric in METRICS
    }
    tables = [Table(list(columns.values()), table.select(*columns).rows())]
    if found.height:
        names = ["predictor", "controls", "statistic", "coefficient", "ci_low", "ci_high", "p_value", "n_models"]
        names += ["influential_model", "without_it", "caution"]
        headings = ["Alignment", "Held fixed", "Statistic", "Value", "from", "to", "p", "Models"]
        headings += ["Most influential", "without it", "Caution"]
        tables.append(Table(headings, found.select(names).rows(), "Relation to one-shot accuracy, over models"))
    note = (
        "One-shot accuracy has no reported values to stand beside: the study's models were in training mode while they "
        "embedded."
    )
    return Section(f"All models, regressions on {features}", tables=tables, note=note)
