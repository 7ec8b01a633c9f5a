"""The network of the published coloured-MNIST experiment."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from explanation_alignment.classifiers.classifier import Preprocessing

__all__ = ["DIGIT_PREPROCESSING", "DigitNetwork"]

#: 28 x 28, three channels, values in [0, 1].
DIGIT_PREPROCESSING = Preprocessing(input_size=(3, 28, 28))


class DigitNetwork(nn.Module):
    """Two convolutions and two linear layers on (B, 3, 28, 28) images; returns (B, 10) logits.

    Source: Bang, Boggust, Satyanarayan (eXCV 2024), experiment 1, where a log-softmax follows; here it
    is the loss's and the explained output's, not the network's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.relu2 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.dropout1 = nn.Dropout2d(0.25)
        self.fc1 = nn.Linear(9216, 128)
        self.relu3 = nn.ReLU()
        self.dropout2 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, 10) of (B, 3, 28, 28) float32 images."""
        features = self.relu2(self.conv2(self.relu1(self.conv1(images))))
        features = self.dropout1(self.pool(features)).flatten(1)
        return cast(torch.Tensor, self.fc2(self.dropout2(self.relu3(self.fc1(features)))))
