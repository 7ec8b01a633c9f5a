"""What is said and shown of a run of the bias experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explanation_alignment.experiments.celeba.bias_figures import illustrations
from explanation_alignment.experiments.celeba.bias_results import (
    bias_results,
    dose_response_results,
    performance,
    seeds_of,
    verdicts,
)
from explanation_alignment.experiments.celeba.bias_sections import sections
from explanation_alignment.experiments.celeba.bias_tables import terminal_tables
from explanation_alignment.experiments.celeba.bias_words import (
    data_sentences,
    dose_sentences,
    pair_sentences,
    reliance_sentences,
)
from explanation_alignment.experiments.celeba.protocol import MODELS
from explanation_alignment.reporting.presentation import Presentation

if TYPE_CHECKING:
    from explanation_alignment.runs.reader import Run

__all__ = ["present"]


def present(run: Run) -> Presentation:
    """The experiment's report: what was found and by which rule, the figures, the study's numbers beside ours."""
    scores, accuracy = bias_results(run), performance(run)
    found, doses = verdicts(run), dose_response_results(run)
    pair = [model for model in MODELS if model in accuracy["model"]]
    toy = bool(run.info["toy"])
    source = "generated faces" if toy else "CelebA"
    kinds = ["two models" if len(pair) == 2 else "one model"] if pair else []
    kinds += [f"{doses['correlation'].n_unique()} correlations of hair and smile"] if len(doses) else []
    said = [*pair_sentences(scores, accuracy, pair), *dose_sentences(doses)]
    return Presentation(
        title="Is a smile told by the mouth, or by the colour of the hair?",
        subtitle=f"{source}: {' and '.join(kinds)}, seeds {', '.join(map(str, seeds_of(run)))}",
        sentences=[*said, *reliance_sentences(run, found, pair), *data_sentences(run)],
        illustrations=illustrations(run, scores, accuracy, found, doses, pair),
        sections=sections(run, scores, accuracy, doses),
        tables=terminal_tables(run, scores, accuracy, doses, pair),
        reliance=found,
    )
