"""Many models for an experiment: read from what a user typed, tried one after another, failures recorded."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from explanation_alignment.classifiers.expansion import ModelSpec, expand_models
from explanation_alignment.classifiers.paper import ListName, published_models
from explanation_alignment.errors import DatasetError, RunError, UnknownNameError, UsageError, first_line

if TYPE_CHECKING:
    from explanation_alignment.classifiers.classifier import Preprocessing
    from explanation_alignment.runs.writer import RunWriter

__all__ = ["attempts", "requested_models"]


def requested_models(
    models: Sequence[str],
    list_name: ListName,
    weights: str = "default",
    *,
    preprocessing: Preprocessing | None = None,
) -> list[ModelSpec]:
    """The models a user means, each once, in the order given.

    Args:
        models: what :func:`~explanation_alignment.expand_models` takes, and, without a colon, names or patterns of the
            published list (``resnet*``); each may be several joined by commas.
        list_name: the experiment's published list.
        weights: of all that do not say otherwise.
        preprocessing: of all of them, instead of their own.

    Raises:
        UsageError: for none.
        UnknownNameError: where a name or pattern fits nothing.
        ModelError: where a file of models cannot be read.
    """
    known = published_models(list_name)
    asked: list[str] = []
    for piece in (piece.strip() for text in models for piece in text.split(",")):
        if ":" in piece or piece.endswith(".txt"):
            asked.append(piece)
        elif piece:
            chosen = [name for name in known if fnmatchcase(name, piece)]
            if not chosen:
                raise UnknownNameError(
                    f"model of paper:{list_name} (others: timm:NAME, torchvision:NAME)", piece, known
                )
            asked += [f"paper:{list_name}/{name}" for name in chosen]
    if not asked:
        raise UsageError(f"--models: expected names, patterns or specs, such as paper:{list_name} or resnet*")
    found = expand_models(asked, weights)
    for model in found:
        kind, _, rest = model.spec.partition(":")
        list_of, _, name = rest.partition("/")
        if kind == "paper" and list_of == list_name and name not in known:
            raise UnknownNameError(f"published {list_name} model", name, known)
    if preprocessing is None:
        return found
    return list(dict.fromkeys(ModelSpec(model.spec, model.weights, None, preprocessing) for model in found))


def attempts(
    models: Sequence[ModelSpec], writer: RunWriter, place: str, doing: str, *, progress: bool
) -> Iterator[tuple[ModelSpec, AbstractContextManager[None]]]:
    """Each model with a context in which it may fail; why it did is kept in run.json.

    Args:
        models: to try.
        writer: of the run.
        place: key of run.json that maps models to the reasons they failed for.
        doing: what is done, for the line on stderr.
        progress: whether there is such a line.
    """
    for number, model in enumerate(models, 1):
        if progress:
            sys.stderr.write(f"[{number}/{len(models)}] {doing} {model}\n")
            sys.stderr.flush()
        yield model, _recorded(writer, place, str(model))


@contextmanager
def _recorded(writer: RunWriter, place: str, name: str) -> Iterator[None]:
    """Keep in run.json why the block failed, or forget that it ever did."""
    reason = None
    try:
        yield
    except (DatasetError, RunError):
        raise  # every other model would fail as well
    except Exception as error:  # a network can fail in any way
        reason = first_line(error)
    with writer.updating() as info:
        failures = {key: value for key, value in info.get(place, {}).items() if key != name}
        if reason is not None:
            failures[name] = reason
            sys.stderr.write(f"failed: {name}: {reason}\n")
        if failures or place in info:
            info[place] = failures
