"""Doing one classifier, or a share of its samples: built and evaluated, in whichever process that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from explanation_alignment.classifiers.expansion import ModelSpec
from explanation_alignment.classifiers.load import load_classifier
from explanation_alignment.decoded import DEFAULT_LIMIT, DecodedCache, default_folder
from explanation_alignment.errors import ExplanationAlignmentError, first_line
from explanation_alignment.evaluation import evaluate
from explanation_alignment.progress import Bars
from explanation_alignment.saliency.base import Method
from explanation_alignment.sweeps.asking import Asked

__all__ = ["CacheAsked", "Doing", "Task", "reason_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is done at once: a classifier, on all of the samples or on a share of them.

    Args:
        model: the classifier.
        methods: its saliency methods.
        shard: the share, as for an evaluation.
        wait: for other processes that are at all that is left of it; else it fails with
            :class:`~explanation_alignment.runs.sharing.BusyError`.
    """

    model: ModelSpec
    methods: Sequence[Method]
    shard: str | None
    wait: bool = True

    def __str__(self) -> str:
        return str(self.model)


@dataclass(frozen=True, slots=True)
class CacheAsked:
    """Where decoded images are to be kept.

    Args:
        place: a folder, ``"auto"`` or ``"off"``; or the cache itself.
        limit: bytes everything in that folder may come to.
        several: whether several classifiers may share it, which ``"auto"`` goes by.
    """

    place: str | Path | DecodedCache
    limit: str | int = DEFAULT_LIMIT
    several: bool = True

    def opened(self, say: Callable[[str], None]) -> DecodedCache | None:
        """The cache; None for none.

        Args:
            say: told what is kept where, and why something is not.
        """
        if isinstance(self.place, DecodedCache):
            return self.place
        if self.place == "off" or (self.place == "auto" and (not self.several or default_folder() is None)):
            return None
        return DecodedCache(None if self.place == "auto" else self.place, self.limit, say)

    def elsewhere(self) -> CacheAsked:
        """The same for another process, which opens it for itself."""
        held = self.place
        return CacheAsked(held.folder, held.limit) if isinstance(held, DecodedCache) else self


@dataclass(frozen=True, slots=True, eq=False)
class Doing:
    """Does tasks of one sweep.

    Args:
        asked: what is asked of every classifier.
        cache: where decoded images are kept, or are to be.
    """

    asked: Asked
    cache: DecodedCache | CacheAsked | None

    def __call__(self, task: Task, bars: Bars, say: Callable[[str], None], /) -> str:
        """Do one task.

        Args:
            task: which.
            bars: shown how far it is.
            say: told what is worth knowing.

        Returns:
            The classifier's name in the tables.
        """
        asked, model = self.asked, task.model
        classifier = load_classifier(
            model.spec,
            model.weights,
            asked.device,
            model.name,
            input_size=model.input_size,
            preprocessing=model.preprocessing,
            precision=asked.precision,
        )
        evaluate(
            classifier,
            asked.dataset,
            task.methods,
            asked.out,
            target=asked.target,
            output=asked.output,
            metrics=asked.metrics,
            batch_size=asked.batch_size,
            chunk=asked.chunk,
            sample=asked.sample,
            seed=asked.seed,
            workers=asked.workers,
            shard=task.shard,
            max_errors=asked.max_errors,
            intervene=asked.intervene,
            experiment=asked.experiment,
            save_maps=asked.save_maps,
            progress=bars,
            cache=self.cache.opened(say) if isinstance(self.cache, CacheAsked) else self.cache,
            wait=task.wait,
        )
        return classifier.name


def reason_of(error: BaseException) -> str:
    """Why a classifier could not be evaluated, in a line."""
    words = first_line(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in words:
        return f"out of memory; give a smaller batch size ({words})"
    return words if isinstance(error, ExplanationAlignmentError) else f"{type(error).__name__}: {words}"
