"""Training a classifier for an experiment: seeded, with progress, resumable, kept as a checkpoint and reused."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F

from explanation_alignment.classifiers.load import load_weights, seed_of
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.experiments.training.data import TrainingData
from explanation_alignment.experiments.training.recipe import Precision, Recipe, check_precision
from explanation_alignment.experiments.training.state import (
    Training,
    answers,
    read_state,
    remove_half_written,
    remove_leftovers,
    restored,
    write_checkpoint,
    write_state,
)
from explanation_alignment.progress import progress_bars

__all__ = ["fit", "trained"]

#: Steps between looks at the loss; each look waits for the device.
_LOOK_EVERY: Final = 20


def trained(
    build: Callable[[], nn.Module],
    data: TrainingData,
    recipe: Recipe,
    *,
    question: Mapping[str, Any],
    checkpoint: Path,
    seed: int,
    device: torch.device,
    title: str,
    precision: Precision = "fp32",
    progress: bool = True,
    outline: Callable[[], nn.Module] | None = None,
) -> nn.Module:
    """The network of a checkpoint that answers the same question, or a newly trained one.

    After each epoch the training's state is kept beside the checkpoint (``NAME.resume.pt``), and removed at the end. A
    training that was killed, at whatever moment, goes on from there: on a CPU with the same number of threads it ends
    in the very same weights as one that was not. One process at a time may train for a checkpoint.

    Args:
        build: makes the untrained network; called with torch's generator seeded.
        data: what to train on.
        recipe: how.
        question: what else decides the weights (data, network, ...), beside recipe, precision, seed and the kind of
            device; plain values. ``model`` names the model, and decides its random numbers together with the seed.
        checkpoint: the .safetensors file to reuse or write.
        seed: of the weights, the order and the dropout.
        device: where to train.
        title: what the progress says.
        precision: ``"bf16"`` runs the network and the loss under autocast; weights and their updates stay float32.
        progress: show it on stderr: a bar on a terminal, else a line an epoch.
        outline: makes the same network without the weights it starts from, to be filled from a checkpoint; default
            ``build``. It saves a download where nothing is to be trained.

    Returns:
        The trained network on ``device``, in evaluation mode.

    Raises:
        ModelError: if the loss stops being finite, when nothing is kept; or what the network returns are no logits.
        RunError: if the checkpoint or the state cannot be written.
        UsageError: for another precision, a question that names no model or a checkpoint of another kind.
        DatasetError: whatever the data raises.
    """
    check_precision(precision)
    if "model" not in question:
        raise UsageError(f"question: expected the model's name under 'model', got {', '.join(question) or 'nothing'}")
    if checkpoint.suffix != ".safetensors":
        raise UsageError(f"checkpoint: expected a .safetensors file, got {checkpoint}")
    settings = {"recipe": asdict(recipe), "precision": precision, "seed": seed, "device": device.type}
    asked: dict[str, Any] = json.loads(json.dumps({**question, **settings}))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if answers(checkpoint, asked):
            _seed(question, seed)
            module = (outline or build)().to(device)
            load_weights(module, checkpoint)
            remove_leftovers(checkpoint)
            return module.eval()
        remove_half_written(checkpoint)
        training = _begin(build, recipe, question, seed, device)
        state = read_state(checkpoint, asked)
        if state is not None and not restored(training, checkpoint, state):
            training = _begin(build, recipe, question, seed, device)
        del state  # as large as the network and the optimizer together

        def keep() -> None:
            if training.epoch < recipe.epochs:
                write_state(checkpoint, training, asked)

        try:
            fit(training, data, title=title, precision=precision, progress=progress, after_epoch=keep)
        except ModelError:
            remove_leftovers(checkpoint)  # they would lead to the same end
            raise
        write_checkpoint(checkpoint, training.module, asked)
        remove_leftovers(checkpoint)
    return training.module.eval()


def fit(
    training: Training,
    data: TrainingData,
    *,
    title: str,
    precision: Precision = "fp32",
    progress: bool = True,
    after_epoch: Callable[[], object] = lambda: None,
) -> None:
    """Train in place until the recipe's last epoch is done.

    Args:
        training: from its first epoch, or from wherever it stands.
        data: what to train on.
        title: as in :func:`trained`, as are ``precision`` and ``progress``.
        precision: see there.
        progress: see there.
        after_epoch: called when an epoch is done and found sound.

    Raises:
        ModelError: if the loss or a weight stops being finite, or what the network returns are no logits.
    """
    check_precision(precision)
    epochs, images = training.recipe.epochs, data.images
    started, first = time.monotonic(), training.epoch
    training.module.train()
    with progress_bars(enabled=progress) as bars:
        bar = bars.add_task(title, total=images * epochs, completed=first * images, note="")

        def look(seen: int, loss: float, accuracy: float) -> None:
            note = f"epoch {training.epoch + 1}/{epochs}  loss {loss:.3f}  accuracy {accuracy:.3f}"
            bars.update(bar, completed=training.epoch * images + seen, note=note)

        while training.epoch < epochs:
            where = f"epoch {training.epoch + 1}/{epochs}"
            loss, accuracy = _epoch(training, data, f"{title}, {where}", precision, look)
            look(images, loss, accuracy)
            training.end_epoch()
            after_epoch()
            if progress and bars.disable:  # no terminal: a log is better served by lines
                spent = time.monotonic() - started
                left = spent / (training.epoch - first) * (epochs - training.epoch)
                sys.stderr.write(
                    f"{title}: {where}, loss {loss:.3f}, accuracy {accuracy:.3f}, {_clock(spent)} spent, "
                    f"about {_clock(left)} left\n"
                )
                sys.stderr.flush()


def _seed(question: Mapping[str, Any], seed: int) -> None:
    torch.manual_seed(seed_of(f"{question['model']} {seed}"))


def _begin(
    build: Callable[[], nn.Module], recipe: Recipe, question: Mapping[str, Any], seed: int, device: torch.device
) -> Training:
    """A training before its first epoch."""
    _seed(question, seed)
    module = build().to(device)
    return Training(module, recipe, torch.Generator().manual_seed(seed_of(f"{question['model']} order {seed}")))


def _epoch(
    training: Training,
    data: TrainingData,
    where: str,
    precision: Precision,
    look: Callable[[int, float, float], None],
) -> tuple[float, float]:
    """Train for one epoch; its mean loss and accuracy over the images, as they were when each was seen."""
    module, optimizer, device = training.module, training.optimizer, training.device
    total, hits = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    seen = 0
    batches = data.batches(training.generator, training.recipe.batch_size, device)
    for step, (inputs, labels) in enumerate(batches):
        optimizer.zero_grad()
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = _logits(module, inputs)
                if step % _LOOK_EVERY == 0:
                    _check_labels(labels, logits.shape[1], where)
                loss = F.cross_entropy(logits, labels)
            loss.backward()  # type: ignore[no-untyped-call]
        except torch.cuda.OutOfMemoryError as error:
            raise ModelError(
                f"{where}: {len(labels)} images a step do not fit into the memory of {device}; lower the batch size"
            ) from error
        optimizer.step()
        seen += len(labels)
        right = (logits.detach().argmax(1) == labels).sum()
        total += loss.detach() * len(labels)
        hits += right
        if step % _LOOK_EVERY == 0:
            value = loss.item()
            _check_finite(value, where, training)
            look(seen, value, right.item() / len(labels))
    mean = total.item() / seen
    _check_finite(mean, where, training)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values()):
        raise _exploded("a weight is not finite", where, training)
    return mean, hits.item() / seen


def _logits(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """What a network says of images; some return their logits among other things."""
    output = module(inputs)
    logits = output if isinstance(output, torch.Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(inputs) or logits.shape[1] < 2:
        told = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(output).__name__
        raise ModelError(
            f"{type(module).__name__} returned {told}, expected logits of shape ({len(inputs)}, at least 2)"
        )
    return logits


def _check_labels(labels: torch.Tensor, outputs: int, where: str) -> None:
    """Before the loss is: on a GPU a label out of range ends the process's use of it."""
    if int(labels.max()) >= outputs:
        raise ModelError(f"{where}: the data has label {int(labels.max())}, the network {outputs} outputs")


def _check_finite(loss: float, where: str, training: Training) -> None:
    if not math.isfinite(loss):
        raise _exploded(f"the loss is {loss}", where, training)


def _exploded(what: str, where: str, training: Training) -> ModelError:
    rate = training.optimizer.param_groups[0]["lr"]
    return ModelError(f"{where}: {what} at learning rate {rate:g}; try a lower learning rate")


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
