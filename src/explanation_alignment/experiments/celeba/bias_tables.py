"""What the command prints of a run of the bias experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from explanation_alignment.experiments.celeba.bias_results import (
    BEFORE,
    IOU,
    QUANTITIES,
    is_compared,
    seeds_of,
    verdicts,
)
from explanation_alignment.experiments.celeba.protocol import GROUPS, METHODS, UNTRAINED, group_word
from explanation_alignment.reporting.presentation import TerminalTable
from explanation_alignment.reporting.text import interval, number, signed

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["terminal_tables"]

_METHOD_WORDS: Final = {"gradcam": "Grad-CAM", "vanilla_gradients": "vanilla gradients"}


def terminal_tables(
    run: Run, scores: pl.DataFrame, accuracy: pl.DataFrame, doses: pl.DataFrame, pair: Sequence[str]
) -> list[TerminalTable]:
    """The tables there is something to put into.

    Args:
        run: of this experiment.
        scores: from :func:`.bias_results.bias_results`.
        accuracy: from :func:`.bias_results.performance`.
        doses: from :func:`.bias_results.dose_response_results`.
        pair: those of the study's two models that were evaluated.
    """
    whisker = "± SD over seeds" if len(seeds_of(run)) > 1 else "95 % interval"
    study = "; the study's number" if is_compared(run) else ""
    tables = []
    if pair:
        tables.append(_accuracy_table(accuracy, pair, whisker + study))
        tables.append(_mouth_table(scores, [*pair, UNTRAINED], whisker, study))
        if "hair" in scores["test"]:
            tables.append(_hair_table(run, scores, [*pair, UNTRAINED], whisker))
    if len(doses):
        tables.append(_dose_table(doses, whisker))
    return tables


_GROUPS: Final = ("all", *(group_word(group) for group in GROUPS))
_GROUP_HEADINGS: Final = tuple(
    word.replace(" smiling", "\nsmiling").replace(" not\nsmiling", "\nnot smiling") for word in _GROUPS
)


def _accuracy_table(accuracy: pl.DataFrame, pair: Sequence[str], spread: str) -> TerminalTable:
    rows = []
    shown = accuracy.filter(pl.col("model").is_in(list(pair)))
    for (model, test), part in shown.group_by("model", "test", maintain_order=True):
        by_group = {row["group"]: row for row in part.iter_rows(named=True)}
        cells = [_accuracy_cell(by_group.get(group)) for group in _GROUPS]
        rows.append([[str(model)], [str(test)], *cells, _loss_cell(by_group["all"])])
    headings = ["trained on", "tested on", "accuracy", *_GROUP_HEADINGS[1:], "loss"]
    return TerminalTable("Accuracy and loss", headings, rows, f"a cell: mean; {spread}")


def _mouth_table(scores: pl.DataFrame, models: Sequence[str], whisker: str, study: str) -> TerminalTable:
    mouth = scores.filter(
        pl.col("method") == METHODS[0],
        pl.col("metric") == IOU,
        pl.col("region") == "mouth",
        pl.col("model").is_in(list(models)),
    )
    rows = []
    for (model, test), part in mouth.group_by("model", "test", maintain_order=True):
        by_group = {row["group"]: row for row in part.iter_rows(named=True)}
        rows.append([[str(model)], [str(test)], *(_score_cell(by_group.get(group)) for group in _GROUPS)])
    note = f"a cell: mean; {whisker}; (a map that knows nothing){study}; {UNTRAINED}: {BEFORE}"
    return TerminalTable("IoU with the mouth, Grad-CAM", ["trained on", "tested on", *_GROUP_HEADINGS], rows, note)


def _hair_table(run: Run, scores: pl.DataFrame, models: Sequence[str], whisker: str) -> TerminalTable:
    """Mouth beside hair, by method."""
    part = scores.filter(pl.col("test") == "hair", pl.col("group") == "all", pl.col("model").is_in(list(models)))
    found = verdicts(run)
    regions = part["region"].unique(maintain_order=True).to_list()
    rows = []
    for (method, model), own in part.group_by("method", "model", maintain_order=True):
        by_key = {(row["region"], row["metric"]): row for row in own.iter_rows(named=True)}
        cells = []
        for region in regions:
            cells += [_score_cell(by_key.get((region, IOU))), _score_cell(by_key.get((region, "pointing_game")))]
            changed = found.filter(pl.col("model") == model, pl.col("method") == method, pl.col("region") == region)[
                "flip_difference"
            ]
            cells.append(["-"] if changed.null_count() == len(changed) else [f"{100 * float(changed.mean()):.0f} %"])  # type: ignore[arg-type]
        rows.append([[str(model)], [_METHOD_WORDS.get(str(method), str(method))], *cells])
    headings = ["trained on", "method"]
    for region in regions:
        headings += [f"{region}\nIoU", f"{region}\nhits", f"{region}\nchanged"]
    name = next(name for name in run.info["datasets"] if name.startswith("celeba-hair"))
    note = (
        f"a cell: mean; {whisker}; (a map that knows nothing); changed: predictions that exchanging the region "
        "changes, minus as many pixels elsewhere"
    )
    return TerminalTable(f"Mouth or hair ({name})", headings, rows, note)


def _dose_table(doses: pl.DataFrame, whisker: str) -> TerminalTable:
    quantities = [name for name in QUANTITIES if name in doses["quantity"]]
    rows = []
    for (dose,), part in doses.group_by("correlation", maintain_order=True):
        by_name = {row["quantity"]: row for row in part.iter_rows(named=True)}
        rows.append([[f"{dose:g}"], *(_dose_cell(by_name[name], name) for name in quantities)])
    rows.sort(key=lambda row: float(row[0][0]))
    headings = ["correlation", *("accuracy" if name == "accuracy common" else name for name in quantities)]
    headings = [{"accuracy": "accuracy", "accuracy rare": "rare groups"}.get(name, name) for name in headings]
    note = (
        f"accuracy: on the common groups of the unbiased test images; excess: Grad-CAM's IoU minus a centred map's; "
        f"a cell: mean; {whisker}"
    )
    return TerminalTable("Against the correlation of hair and smile in training", headings, rows, note)


def _accuracy_cell(row: dict[str, Any] | None) -> list[str]:
    if row is None or row["accuracy"] is None:
        return ["-"]
    study = [] if row["reported"] is None else [f"study {number(row['reported'])}"]
    return [*_spread(row["accuracy"], row["sd_accuracy"], row["accuracy_low"], row["accuracy_high"]), *study]


def _loss_cell(row: dict[str, Any]) -> list[str]:
    return _spread(row["loss"], row["sd_loss"], row["loss_low"], row["loss_high"])


def _score_cell(row: dict[str, Any] | None) -> list[str]:
    if row is None or row["ea"] is None:
        return ["-"]
    chance = [] if row["chance"] is None else [f"({number(row['chance'])})"]
    study = [] if row["reported"] is None else [f"study {number(row['reported'])}"]
    return [*_spread(row["ea"], row["sd_seeds"], row["ci_low"], row["ci_high"]), *chance, *study]


def _dose_cell(row: dict[str, Any], quantity: str) -> list[str]:
    show = number if quantity.startswith("accuracy") else signed
    if row["value"] is None:
        return ["-"]
    if row["sd"] is not None:
        return [show(row["value"]), f"± {number(row['sd'])}"]
    return [show(row["value"]), f"{show(row['low'])} {show(row['high'])}"]


def _spread(value: float | None, sd: float | None, low: float | None, high: float | None) -> list[str]:
    if value is None:
        return ["-"]
    if sd is not None:
        return [number(value), f"± {number(sd)}"]
    return [number(value), interval(low, high)] if low is not None else [number(value)]
