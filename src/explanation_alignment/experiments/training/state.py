"""What is kept of a training: its state after each epoch, so that it can go on, and the trained weights."""

from __future__ import annotations

import glob
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from explanation_alignment.errors import RunWarning, first_line
from explanation_alignment.experiments.training.recipe import Recipe
from explanation_alignment.runs.files import write_atomically

__all__ = [
    "Training",
    "answers",
    "read_state",
    "remove_half_written",
    "remove_leftovers",
    "restored",
    "resume_path",
    "write_checkpoint",
    "write_state",
]

#: Where a checkpoint says what it was trained to answer.
_QUESTION: Final = "explanation_alignment"


class Training:
    """A network in training, between two epochs: with all that decides how it goes on.

    Args:
        module: trained in place; on its device already.
        recipe: how.
        generator: on the CPU; decides the order of the images.

    Attributes:
        optimizer: torch.optim's, with the learning rate of the next epoch.
        epoch: epochs done.
    """

    def __init__(self, module: nn.Module, recipe: Recipe, generator: torch.Generator) -> None:
        self.module = module
        self.recipe = recipe
        self.generator = generator
        self.device = next(module.parameters()).device
        self.epoch = 0
        settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
        kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        if recipe.optimizer == "sgd":
            settings["momentum"] = recipe.momentum
        self.optimizer: torch.optim.Optimizer = kinds[recipe.optimizer](module.parameters(), **settings)

    def end_epoch(self) -> None:
        """Count an epoch and set the learning rate of the next one.

        The rate is multiplied in place, as torch's schedulers do, so that the optimizer's state is all there is to it.
        """
        self.epoch += 1
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] * self.recipe.schedule.factor_after(self.epoch)

    def state(self) -> dict[str, Any]:
        """Everything that decides how the training goes on: tensors and plain values."""
        state = {
            "epoch": self.epoch,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.generator.get_state(),
            "torch": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up where a state was kept; torch's global generators are set too.

        Raises:
            ValueError, RuntimeError, KeyError, TypeError: it is no state of such a training; the network may hold parts
                of it then.
        """
        if not isinstance(state["epoch"], int) or not 1 <= state["epoch"] <= self.recipe.epochs:
            raise ValueError(f"epoch {state['epoch']} of {self.recipe.epochs}")
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["order"])
        torch.set_rng_state(state["torch"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        self.epoch = state["epoch"]


def resume_path(checkpoint: Path) -> Path:
    """Where the state of an unfinished training is kept, beside the checkpoint it will end in."""
    return checkpoint.with_suffix(".resume.pt")


def write_state(checkpoint: Path, training: Training, asked: Mapping[str, Any]) -> None:
    """Keep a training's state with the question it answers, whole or not at all.

    Raises:
        RunError: if the file cannot be written.
    """
    content = {"question": _text(asked), **training.state()}

    def save(place: Path) -> None:
        try:
            with place.open("wb") as handle:
                torch.save(content, handle)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(first_line(error)) from error

    write_atomically(resume_path(checkpoint), save)


def read_state(checkpoint: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The state of an unfinished training that answers the same question; None if there is none.

    A file that is damaged (its checksums are compared), holds more than tensors and plain values, or answers another
    question is left alone with a warning.
    """
    path = resume_path(checkpoint)
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise TypeError(f"expected a dictionary, found {type(content).__name__}")
        question = content["question"]
    except Exception as error:  # zipfile, torch's unpickler and its readers each have their own
        _warn(path, f"cannot be read ({first_line(error)})")
        return None
    if question != _text(asked):
        _warn(path, "was kept by a training with other settings or data")
        return None
    return dict(content)


def restored(training: Training, checkpoint: Path, state: Mapping[str, Any]) -> bool:
    """Let a training take up a state; whether it could, with a warning if not."""
    try:
        training.restore(state)
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        _warn(resume_path(checkpoint), f"does not fit ({first_line(error)})")
        return False
    return True


def write_checkpoint(checkpoint: Path, module: nn.Module, asked: Mapping[str, Any]) -> None:
    """Keep trained weights with the question they answer, whole or not at all.

    Raises:
        RunError: if the file cannot be written.
    """
    state = {  # copies: tensors that share their memory are refused
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    metadata = {_QUESTION: _text(asked)}  # one entry: several come in any order

    def save(place: Path) -> None:
        try:
            save_file(state, place, metadata=metadata)
        except SafetensorError as error:  # a full disk among others
            raise OSError(first_line(error)) from error

    write_atomically(checkpoint, save)


def answers(checkpoint: Path, asked: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is there and was trained to answer this question."""
    if not checkpoint.is_file():
        return False
    try:
        with safe_open(checkpoint, framework="pt") as content:
            return bool((content.metadata() or {}).get(_QUESTION) == _text(asked))
    except (SafetensorError, OSError, ValueError):
        return False


def remove_leftovers(checkpoint: Path) -> None:
    """Remove the state, and what a process killed while writing left half written."""
    resume_path(checkpoint).unlink(missing_ok=True)
    remove_half_written(checkpoint)


def remove_half_written(checkpoint: Path) -> None:
    """Remove what a process killed while writing left; one process at a time trains for a checkpoint."""
    for path in (checkpoint, resume_path(checkpoint)):
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            left.unlink(missing_ok=True)


def _text(asked: Mapping[str, Any]) -> str:
    return json.dumps(asked, sort_keys=True)


def _warn(path: Path, reason: str) -> None:
    warnings.warn(f"{path} {reason}: training starts anew", RunWarning, stacklevel=3)
