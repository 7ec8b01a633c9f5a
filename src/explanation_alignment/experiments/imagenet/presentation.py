"""What is said and shown of a comparison of models on ImageNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.experiments.imagenet.protocol import CROPPED_REPORTED, METRICS, REGION
from explanation_alignment.experiments.imagenet.results import is_compared, methods_named, reported_beside, results
from explanation_alignment.metrics.registry import get_metric
from explanation_alignment.reporting.content import Section, Table
from explanation_alignment.reporting.figures.model_grid import model_grid
from explanation_alignment.reporting.figures.scatter import accuracy_scatter
from explanation_alignment.reporting.presentation import Illustration, Presentation, TerminalTable
from explanation_alignment.reporting.text import interval, number, signed
from explanation_alignment.statistics.comparing.equal_accuracy import (
    DIFFERENTLY_ALIGNED,
    equal_accuracy_sentences,
    equally_accurate,
)
from explanation_alignment.statistics.relations import FEW_MODELS, relate, relation_sentence

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["failure_sections", "failure_sentences", "pairs_of_models", "pairs_section", "pairs_table", "present"]

#: A difference of accuracy that would not matter, as a share.
MARGIN: Final = 0.01
#: What pairs are compared by; each further metric is corrected for.
_COMPARED: Final = ("iou_coverage", "pointing_game")
#: Lines of a table in a terminal; the report has them all.
_LINES: Final = 40
_PAIRS: Final = 12


def present(run: Run) -> Presentation:
    """The experiment's report: what was found and by which rule, the figures, the study's values beside ours."""
    table = results(run)
    toy = bool(run.info["toy"])
    images = int(table["n_images"].max() or 0)  # type: ignore[arg-type]
    pairs = pairs_of_models(run, table, methods_named(run, "gradcam"))
    source = "generated toy images" if toy else next(iter(run.info["datasets"]))
    return Presentation(
        title="Similar accuracy, different reasons?",
        subtitle=f"{table['model'].n_unique()} models on {images:,} images ({source}), Grad-CAM",
        sentences=[
            *_annotation_sentences(run, table),
            *(equal_accuracy_sentences(pairs, MARGIN) if pairs.height else []),
            *_relation_sentences(table),
            *failure_sentences(run),
        ],
        illustrations=[*_scatters(run, table, toy=toy), *_grid(run, table, toy=toy)],
        sections=[_whole_table(run, table), *pairs_section(pairs)],
        tables=[_tabulate(run, table), *pairs_table(pairs)],
    )


def pairs_of_models(run: Run, table: pl.DataFrame, methods: Sequence[str]) -> pl.DataFrame:
    """Every pair of models with its verdict; no row where there are fewer than two."""
    if table["model"].n_unique() < 2:
        return pl.DataFrame()
    return equally_accurate(
        run, margin=MARGIN, metrics=_COMPARED, methods=methods, regions=[REGION], common=True, all_pairs=True
    )


def _annotation_sentences(run: Run, table: pl.DataFrame) -> list[str]:
    """How many images have nothing to align with, and why."""
    fullest = table.sort("n_images", descending=True).row(0, named=True)
    cropped, absent, images = fullest["annotation_cropped"], fullest["no_annotation"], fullest["n_images"]
    crops = table["annotation_cropped"].n_unique() == 1 or table["n_images"].n_unique() > 1
    which = "" if crops else f" for {fullest['model']}"
    study = ""
    if is_compared(run):
        study = f" The study left out {CROPPED_REPORTED[0]} of {CROPPED_REPORTED[1]:,}."
    told = [
        f"Of {images:,} images {cropped:,} have no annotation left after the crop{which} and {absent:,} have none at "
        f"all; they count towards accuracy, not alignment.{study}"
    ]
    flat = table.filter(pl.col("flat_map") > 0).sort("flat_map", descending=True)
    if flat.height:
        worst = flat.row(0, named=True)
        told.append(
            f"{flat.height} models have flat maps, most {worst['model']} ({worst['flat_map']:,} images at "
            f"{worst['layer'] or 'its layer'}); they are left out of its alignment."
        )
    return told


def _relation_sentences(table: pl.DataFrame) -> list[str]:
    """Whether accuracy and alignment go together, over the models."""
    columns = table.select("model", accuracy=pl.col("top1") / 100, **{m: f"ea_{m}" for m in _COMPARED})
    try:
        rows = [
            relate(columns, predictor=metric).filter(statistic="spearman").row(0, named=True) for metric in _COMPARED
        ]
    except UsageError:
        return [f"How accuracy and alignment go together over models cannot be told from {table.height}."]
    if table.height >= FEW_MODELS:
        return [relation_sentence(row) for row in rows]
    values = [
        f"{get_metric(row['predictor']).label} {signed(row['coefficient'])}"
        for row in rows
        if row["coefficient"] is not None
    ]
    told = f" (Spearman: {', '.join(values)})" if values else ""
    return [f"With {table.height} models it cannot be told how accuracy and alignment go together{told}."]


def failure_sentences(run: Run, place: str = "failures") -> list[str]:
    """Which models failed, with the reason of the first."""
    failures: Mapping[str, str] = run.info.get(place, {})
    if not failures:
        return []
    first, reason = next(iter(failures.items()))
    others = "" if len(failures) == 1 else f" (first of {len(failures)})"
    return [f"Failed, and tried again by a command that asks for it: {first}{others}: {reason}"]


def failure_sections(run: Run, place: str = "failures", title: str = "Models that failed") -> list[Section]:
    """All of them with their reasons."""
    failures: Mapping[str, str] = run.info.get(place, {})
    return [Section(title, tables=[Table(["Model", "Reason"], list(failures.items()))])] if failures else []


def _scatters(run: Run, table: pl.DataFrame, *, toy: bool) -> list[Illustration]:
    shown = []
    for metric, name in (("iou_coverage", "accuracy_iou"), ("pointing_game", "accuracy_pointing_game")):
        label = get_metric(metric).label
        title = f"ImageNet accuracy and explanation alignment (Grad-CAM, {label})"
        try:
            figure = accuracy_scatter(table, metric, reported=reported_beside(table, metric), title=title, toy=toy)
        except UsageError:  # no model has a defined score
            continue
        alt = f"Points: each model's accuracy and its mean {label} of Grad-CAM, with 95 % intervals and chance"
        shown.append(Illustration(name, f"Accuracy and {label}", figure, alt))
    return shown


def _grid(run: Run, table: pl.DataFrame, *, toy: bool) -> list[Illustration]:
    examples = run.examples()
    if examples.is_empty():
        return []
    examples = examples.filter(pl.col("method").cast(pl.String).is_in(methods_named(run, "gradcam")))
    examples = examples.with_columns(method=pl.lit("gradcam"))  # published layers and found ones side by side
    names = next(iter(run.info["datasets"].values()))["class_names"]
    figure = model_grid(examples, table, class_names=names, title="The same images, seen by several models", toy=toy)
    alt = "Images down the side, models across: the annotation, the binarized Grad-CAM map, prediction, IoU and hit"
    return [Illustration("image_model_grid", "The same images, model by model", figure, alt)]


def _tabulate(run: Run, table: pl.DataFrame) -> TerminalTable:
    """A line a model, the most accurate first."""
    compared = is_compared(run)
    headings = ["model", "accuracy", "top 5", *(get_metric(metric).label for metric in METRICS)]
    rows = [_row(row) for row in table.head(_LINES).iter_rows(named=True)]
    left = "" if table.height <= _LINES else f"; the first {_LINES} of {table.height}, all in the report"
    study = "; the study's value, read off its figure" if compared else ""
    note = f"a cell: mean; 95 % interval; (a map that knows nothing){study}{left}"
    return TerminalTable(f"ImageNet: Grad-CAM, {REGION}", headings, rows, note)


def _row(row: Mapping[str, Any]) -> list[list[str]]:
    name = str(row["model"])
    cells = [[name[i : i + 26] for i in range(0, len(name), 26)]]
    for accuracy in ("top1", "top5"):
        bounds = (row[f"{accuracy}_low"], row[f"{accuracy}_high"])
        cells.append(
            ["-"]
            if row[accuracy] is None
            else [number(row[accuracy] / 100), interval(*(None if b is None else b / 100 for b in bounds))]
        )
    cells[1] += _study(row["reported_accuracy"])
    for metric in METRICS:
        value = row[f"ea_{metric}"]
        if value is None:
            cells.append(["-"])
            continue
        mark = "*" if row[f"ea_{metric}_unreliable"] else ""
        lines = [number(value) + mark, interval(row[f"ea_{metric}_low"], row[f"ea_{metric}_high"])]
        cells.append([*lines, f"({number(row[f'ea_{metric}_chance'])})", *_study(row.get(f"reported_{metric}"))])
    return cells


def _study(value: float | None) -> list[str]:
    return [] if value is None else [f"study {number(value)}"]


def _whole_table(run: Run, table: pl.DataFrame) -> Section:
    compared = is_compared(run) and reported_beside(table, "iou_coverage") is not None
    headings = ["Model", "Layer", "Accuracy", *(["Study"] if compared else []), "Top 5"]
    for metric in METRICS:
        headings += [
            get_metric(metric).label,
            *(["Study"] if compared and f"reported_{metric}" in table.columns else []),
        ]
    rows = []
    for row in table.iter_rows(named=True):
        cells = [row["model"], row["layer"], _share(row["top1"]), *([row["reported_accuracy"]] if compared else [])]
        cells.append(_share(row["top5"]))
        for metric in METRICS:
            reported = [row[f"reported_{metric}"]] if compared and f"reported_{metric}" in row else []
            cells += [row[f"ea_{metric}"], *reported]
        rows.append(cells)
    counts = ["Model", "Images", "Scored", "Annotation cropped", "No annotation", "Flat map", "Unreadable"]
    counted = table.select("model", "n_images", "ok", "annotation_cropped", "no_annotation", "flat_map", "error").rows()
    note = "The study's values were read off its figures, to about .002." if compared else None
    title = "All models, beside the study's values" if compared else "All models"
    return Section(title, tables=[Table(headings, rows), Table(counts, counted, "Images")], note=note)


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def pairs_table(pairs: pl.DataFrame) -> list[TerminalTable]:
    """The pairs that are equally accurate and differently aligned, the most different first."""
    found = pairs.filter(verdict=DIFFERENTLY_ALIGNED) if pairs.height else pairs
    if found.is_empty():
        return []
    rows = []
    for row in found.sort(pl.col("difference"), descending=True).head(_PAIRS).iter_rows(named=True):
        label = get_metric(row["metric"]).label
        rows.append(
            [
                [row["first"], f"{label} {number(row['mean_first'])}"],
                [row["second"], f"{label} {number(row['mean_second'])}"],
                [label],
                [signed(row["accuracy_difference"]), f"{signed(row['accuracy_low'])} {signed(row['accuracy_high'])}"],
                [signed(row["difference"]), f"{signed(row['ci_low'])} {signed(row['ci_high'])}"],
            ]
        )
    more = f"; the {_PAIRS} that differ most of {found.height}" if found.height > _PAIRS else ""
    return [
        TerminalTable(
            "Equally accurate, differently aligned",
            ["better aligned", "worse aligned", "metric", "accuracy", "alignment"],
            rows,
            f"differences with 95 % intervals; p corrected for every pair{more}",
        )
    ]


def pairs_section(pairs: pl.DataFrame) -> list[Section]:
    """All of them, for the report."""
    if pairs.is_empty():
        return []
    columns = ["metric", "first", "second", "mean_first", "mean_second", "difference", "ci_low", "ci_high", "p_holm"]
    columns += ["accuracy_first", "accuracy_second", "accuracy_difference", "accuracy_low", "accuracy_high"]
    found = pairs.filter(verdict=DIFFERENTLY_ALIGNED).select(columns)
    headings = ["Metric", "Better", "Worse", "EA", "EA", "Difference", "from", "to", "p (Holm)"]
    headings += ["Accuracy", "Accuracy", "Difference", "from", "to"]
    tables = [Table(headings, found.rows())] if found.height else []
    return [Section("Equally accurate, differently aligned", equal_accuracy_sentences(pairs, MARGIN), tables)]
