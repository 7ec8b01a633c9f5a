"""Training a classifier for an experiment: seeded, with progress, kept as a checkpoint and reused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from explanation_alignment.classifiers.load import load_weights, seed_of
from explanation_alignment.errors import ModelError
from explanation_alignment.progress import progress_bars
from explanation_alignment.runs.files import write_atomically

__all__ = ["Schedule", "fit", "trained"]

#: Steps between looks at the loss; each look waits for the device.
_LOOK_EVERY: Final = 20
#: Where a checkpoint says what it was trained to answer.
_QUESTION: Final = "explanation_alignment"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a network is trained: SGD with momentum on the negative log-likelihood, step decay.

    Args:
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: of the first epoch.
        momentum: of SGD.
        decay: factor on the learning rate after each epoch.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    decay: float


def trained(
    build: Callable[[], nn.Module],
    batches: Callable[[torch.Generator, int], Iterator[tuple[torch.Tensor, torch.Tensor]]],
    schedule: Schedule,
    *,
    question: Mapping[str, Any],
    checkpoint: Path,
    seed: int,
    device: torch.device,
    images: int,
    title: str,
    progress: bool = True,
) -> nn.Module:
    """The network of a checkpoint that answers the same question, or a newly trained one.

    Args:
        build: makes the untrained network; called with torch's generator seeded.
        batches: given a generator and a batch size, yields one epoch's shuffled (images (B, C, H, W)
            float32, labels (B,) int64) on ``device``.
        schedule: how to train.
        question: what else decides the weights (data, network, ...), beside schedule, seed and the
            kind of device.
        checkpoint: the .safetensors file to reuse or write.
        seed: of the weights, the order and the dropout.
        device: where to train.
        images: images an epoch, for the progress bar.
        title: what the progress bar says.
        progress: show it, if stderr is a terminal.

    Returns:
        The trained network on ``device``, in evaluation mode.

    Raises:
        ModelError: if the loss stops being finite; nothing is written then.
    """
    asked = {**question, **asdict(schedule), "seed": seed, "device": device.type}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(f"{question['model']} {seed}"))
        module = build().to(device)
        if _answers(checkpoint, asked):
            load_weights(module, checkpoint)
        else:
            generator = torch.Generator().manual_seed(seed_of(f"{question['model']} order {seed}"))
            fit(module, lambda: batches(generator, schedule.batch_size), schedule, images, title, progress=progress)
            state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
            metadata = {_QUESTION: json.dumps(asked, sort_keys=True)}  # one entry: several come in any order
            write_atomically(checkpoint, lambda place: save_file(state, place, metadata=metadata))
    return module.eval()


def fit(
    module: nn.Module,
    epoch_batches: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]],
    schedule: Schedule,
    images: int,
    title: str,
    *,
    progress: bool = True,
) -> None:
    """Train a network in place; see :func:`trained` for the arguments.

    Raises:
        ModelError: if the loss stops being finite.
    """
    optimizer = torch.optim.SGD(module.parameters(), lr=schedule.learning_rate, momentum=schedule.momentum)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, schedule.decay)
    module.train()
    with progress_bars(enabled=progress) as bars:
        bar = bars.add_task(title, total=images * schedule.epochs, note="")
        for epoch in range(1, schedule.epochs + 1):
            seen = 0
            for step, (inputs, labels) in enumerate(epoch_batches()):
                optimizer.zero_grad()
                logits = module(inputs)
                loss = F.cross_entropy(logits, labels)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                seen += len(labels)
                if step % _LOOK_EVERY == 0:
                    value, accuracy = loss.item(), (logits.argmax(1) == labels).float().mean().item()
                    if not math.isfinite(value):
                        raise ModelError(f"{title}: the loss is {value} in epoch {epoch}; try a lower learning rate")
                    note = f"epoch {epoch}/{schedule.epochs}  loss {value:.3f}  accuracy {accuracy:.3f}"
                    bars.update(bar, completed=(epoch - 1) * images + seen, note=note)
            bars.update(bar, completed=epoch * images)
            decay.step()


def _answers(checkpoint: Path, asked: Mapping[str, Any]) -> bool:
    if not checkpoint.is_file():
        return False
    try:
        with safe_open(checkpoint, framework="pt") as content:
            return bool(json.loads((content.metadata() or {}).get(_QUESTION, "null")) == asked)
    except (SafetensorError, OSError, ValueError):
        return False
