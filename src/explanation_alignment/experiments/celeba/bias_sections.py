"""The report's sections for a run of the bias experiment: its tables, the study's numbers beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from explanation_alignment.experiments.celeba.bias_results import IOU, is_compared
from explanation_alignment.reporting.content import Section, Table

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["sections"]


def sections(run: Run, scores: pl.DataFrame, accuracy: pl.DataFrame, doses: pl.DataFrame) -> list[Section]:
    """Accuracy and scores in full, and which faces were drawn; arguments as for the figures."""
    shown = [_accuracy_section(run, accuracy), _scores_section(run, scores)]
    if len(doses):
        headings = [
            "Quantity",
            "Correlation",
            "Mean",
            "SD of seeds",
            "from",
            "to",
            "Chance",
            "Before training",
            "Seeds",
        ]
        columns = ["quantity", "correlation", "value", "sd", "low", "high", "chance", "untrained", "seeds"]
        table = Table(headings, doses.select(columns).rows())
        shown.append(Section("Against the correlation of hair and smile in training", tables=[table]))
    draws = run.info["experiment"]["settings"]["data"]["draws"]
    rows = [[name, *text.split(" faces ")] for name, text in draws.items()]
    note = "Which faces, by id: draws/ in the run's folder. Draws are nested: a larger one holds a smaller one."
    shown.append(Section("Which faces were drawn", tables=[Table(["Set", "Faces", "SHA-256"], rows)], note=note))
    return shown


def _accuracy_section(run: Run, accuracy: pl.DataFrame) -> Section:
    study = is_compared(run)
    headings = [
        "Trained on",
        "Tested on",
        "Group",
        "Accuracy",
        "SD of seeds",
        "from",
        "to",
        *(["Study"] if study else []),
    ]
    columns = ["model", "test", "group", "accuracy", "sd_accuracy", "accuracy_low", "accuracy_high"]
    columns += ["reported"] if study else []
    table = Table(
        [*headings, "Loss", "SD of seeds", "Decisions"], accuracy.select(*columns, "loss", "sd_loss", "n").rows()
    )
    return Section("Accuracy and loss", tables=[table], note=_study_note(run))


def _scores_section(run: Run, scores: pl.DataFrame) -> Section:
    study = is_compared(run)
    headings = ["Trained on", "Tested on", "Group", "Method", "Region", "IoU", "SD of seeds", "Chance"]
    headings += ["Before training", "Above centre", *(["Study"] if study else []), "Hits", "Scores", "Undefined"]
    rows = []
    for _, part in scores.group_by("method", "model", "test", "region", "group", maintain_order=True):
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        row, hits = by_metric[IOU], by_metric["pointing_game"]
        cells = [row[name] for name in ("model", "test", "group", "method", "region", "ea", "sd_seeds", "chance")]
        cells += [row["untrained"], row["excess"], *([row["reported"]] if study else [])]
        rows.append([*cells, hits["ea"], row["n"], row["n_undefined"]])
    return Section("IoU and pointing game", tables=[Table(headings, rows)], note=_study_note(run))


def _study_note(run: Run) -> str:
    if not is_compared(run):
        return "The study's numbers are not shown: they were measured on CelebA, these are generated faces."
    return (
        "The study's numbers are single runs of its notebook, on its biased test images; between two of its runs a "
        "group's IoU moved by a factor of 2.8."
    )
