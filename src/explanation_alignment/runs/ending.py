"""Ends an evaluation all of whose rows are there: pictures are kept, rows counted, the end recorded."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import polars as pl

from explanation_alignment.runs.examples import Example, choose_examples, examples_each, trim_examples, write_examples
from explanation_alignment.runs.writer import EvaluationWriter, RunWriter

if TYPE_CHECKING:
    from explanation_alignment.sample import AnnotatedDataset

__all__ = ["end_evaluation", "examples_wanted"]


def end_evaluation(
    writer: RunWriter,
    evaluation: EvaluationWriter,
    dataset: AnnotatedDataset,
    metric: str,
    pictures: Callable[[Sequence[str]], Iterable[Example]],
) -> None:
    """Keep examples, unless they are kept already, count the rows, record the end.

    Args:
        writer: of the run.
        evaluation: which is ended.
        dataset: what was evaluated; examples are chosen by the scores on the first region of its evidence.
        metric: by which scores.
        pictures: the pictures of the decisions on these samples, in their order.
    """
    rows = pl.read_parquet(evaluation.files, glob=False)
    folder = writer.path / "examples" / evaluation.slug
    if not (folder / "decisions.parquet").is_file() and evaluation.record["finished"] is None:
        region = [*dataset.evidence, *dataset.regions][0]
        chosen = choose_examples(rows, metric, region, examples_wanted(writer))
        if chosen:  # none where no sample could be read
            write_examples(folder, pictures(chosen), rows)
    with writer.updating() as info:
        trim_examples(writer.path / "examples", list(info["evaluations"]))
    counts = collections.Counter(rows["status"].cast(pl.String).to_list())
    evaluation.finish(counts)  # last: whoever is killed before it does all of this again


def examples_wanted(writer: RunWriter) -> int:
    """How many examples each evaluation of a run may keep."""
    with writer.updating() as info:
        return examples_each(len(info["evaluations"]))
