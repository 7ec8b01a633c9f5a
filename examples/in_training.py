"""Explanation alignment in a plain training loop: a metric beside the loss, every epoch.

The images show a bright square somewhere (the evidence) whose colour tells the class. A second network learns from the
same images with a mark in the corner that tells the class as well: both become accurate, and the maps of the second
leave the square. One training is one draw; other seeds show how far such numbers lie apart.

    python examples/in_training.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection

import explanation_alignment as ea

SIDE = 32


def images_of(count: int, *, marked: bool, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Stands for your data: images (B, 3, H, W) in [0, 1], labels (B,) and masks (B, H, W) of the evidence."""
    images = 0.3 * torch.rand(count, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, 2, (count,), generator=generator)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for place in range(count):
        top, left = torch.randint(8, SIDE - 9, (2,), generator=generator).tolist()
        masks[place, top : top + 8, left : left + 8] = True
        images[place, 2 * labels[place], top : top + 8, left : left + 8] += 0.2  # a little redder, or bluer
        if marked:
            images[place, 2 * labels[place], :6, :6] = 1.0  # as red, or as blue, as can be
    return images, labels, masks


def small_network() -> nn.Module:
    """Stands for yours: images to logits (B, classes)."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 2),
    )


def explain(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, classes), and maps (B, H, W): the size of the predicted logit's gradient at every pixel."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = network(images)
        chosen = logits.gather(1, logits.argmax(dim=1, keepdim=True)).sum()
    return logits.detach(), torch.autograd.grad(chosen, images)[0].abs().sum(dim=1)


def train(*, marked: bool, epochs: int = 6, seed: int = 0) -> list[dict[str, float]]:
    """Train a network and return, for every epoch, its accuracy and alignment on the validation images."""
    generator = torch.Generator().manual_seed(seed)
    images, labels, _ = images_of(256, marked=marked, generator=generator)
    validation, answers, masks = images_of(128, marked=marked, generator=generator)
    torch.manual_seed(seed)
    network = small_network()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    alignment = MetricCollection({"iou": ea.metrics.IoUCoverage("std:1"), "hits": ea.metrics.PointingGame()})
    history = []
    for _ in range(epochs):
        network.train()
        for batch in torch.randperm(len(images), generator=generator).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
        network.eval()
        right = 0
        for batch in torch.arange(len(validation)).split(32):
            logits, maps = explain(network, validation[batch])
            right += int((logits.argmax(dim=1) == answers[batch]).sum())
            alignment.update(maps, masks[batch])
        values = {name: float(value) for name, value in alignment.compute().items()}
        history.append({"accuracy": right / len(validation), **values})
        alignment.reset()  # else the next epoch is averaged with this one
    return history


def main() -> None:
    """Train both and print what was logged."""
    for marked in (False, True):
        print("with a mark in the corner" if marked else "without a mark")
        for epoch, values in enumerate(train(marked=marked)):
            print(f"  epoch {epoch}", *(f"{name} {value:.2f}" for name, value in values.items()))


if __name__ == "__main__":
    main()
