"""A unit in the face of what runs out or dies: in batches of half the size, or without processes that decode ahead."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from explanation_alignment.batches import lost_worker
from explanation_alignment.errors import ModelError, RunWarning, first_line
from explanation_alignment.evaluation.deciding import Decider, Scored

__all__ = ["in_memory", "is_out_of_memory", "scored_in_memory", "too_large"]

T = TypeVar("T")

#: How allocators put it that raise no error of their own kind.
_WORDS = ("can't allocate memory", "out of memory", "cudnn_status_alloc_failed", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is that memory ran out, on the CPU or elsewhere."""
    seen = 0
    while error is not None and seen < 16:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False


def too_large(classifier: str, reason: str) -> ModelError:
    """The error for a classifier that cannot take a single image in the memory there is."""
    return ModelError(
        f"{classifier}: out of memory with one image at once ({reason}); give --device cpu, or a smaller --input-size"
    )


def scored_in_memory(
    decider: Decider, places: Sequence[int], done: Callable[[Scored], None], anew: Callable[[], None]
) -> tuple[list[Scored], Decider]:
    """The scored batches of a unit, all of one size.

    Args:
        decider: explains and scores.
        places: of the unit's samples.
        done: called with every batch; may raise KeyboardInterrupt, where a command was asked to stop.
        anew: called where they begin anew.

    Returns:
        The batches, and the decider that managed: what comes next need not fail first.

    Raises:
        ModelError: one image alone does not fit.
    """

    def attempt(decider: Decider) -> list[Scored]:
        scored = []
        for part in decider.scored(places):
            scored.append(part)
            done(part)
        return scored

    return in_memory(attempt, decider, len(places), anew)


def in_memory(
    attempt: Callable[[Decider], T], decider: Decider, images: int, anew: Callable[[], None] = lambda: None
) -> tuple[T, Decider]:
    """What an attempt gives: made again, from the start, in batches of half the size whenever memory runs out.

    Where a process that decodes ahead dies, this one decodes from then on; nothing depends on it.

    Args:
        attempt: what is to be done.
        decider: explains and scores.
        images: how many there are.
        anew: called before every further attempt.

    Returns:
        What came of it, and the decider that managed.

    Raises:
        ModelError: one image alone does not fit.
    """
    while True:
        try:
            return attempt(decider), decider
        except Exception as error:
            lost, reason = lost_worker(error), first_line(error)
            if not lost and not is_out_of_memory(error):
                raise
        anew()  # here, since the error above holds on to what filled the memory
        decider = _alone(decider, reason) if lost else _smaller(decider, images, reason)


def _alone(decider: Decider, reason: str) -> Decider:
    warnings.warn(
        f"{decider.classifier.name}: a process that decoded images died, going on without ({reason})",
        RunWarning,
        stacklevel=2,
    )
    decider.explainer.forget()
    return replace(decider, reading=replace(decider.reading, workers=0))


def _smaller(decider: Decider, images: int, reason: str) -> Decider:
    batch, chunk = min(decider.reading.batch_size, images), decider.explainer.chunk
    own_passes = any(request.entry.kind not in ("shared", "none") for request in decider.requests)
    if batch == 1 and (chunk == 1 or not own_passes):
        raise too_large(decider.classifier.name, reason)
    decider.explainer.forget()
    decider.explainer.chunk = max(1, chunk // 2)
    gc.collect()
    if decider.classifier.device.type == "cuda":
        torch.cuda.empty_cache()
    smaller = max(1, batch // 2)
    warnings.warn(
        f"{decider.classifier.name}: out of memory with batches of {batch}, going on with {smaller} ({reason})",
        RunWarning,
        stacklevel=2,
    )
    return replace(decider, reading=replace(decider.reading, batch_size=smaller))
