"""A small network for faces of 64 pixels, to be trained from scratch in a minute on a CPU."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.geometry import Geometry

__all__ = ["FACE_PREPROCESSING", "FaceNetwork"]

#: 64 x 64, three channels, values in [0, 1]; the part of the face that the published 224 of 256 pixels show.
FACE_PREPROCESSING = Preprocessing(input_size=(3, 64, 64), geometry=Geometry(resize=73, crop=(64, 64)))


class FaceNetwork(nn.Module):
    """Four convolutions and a linear layer on (B, 3, 64, 64) images; returns (B, 2) logits.

    Our own. A cell of the last map sees 10 x 10 pixels around itself, since the last two convolutions do not look
    aside: what it says stands where it was seen, and a map points at the mouth instead of beside it. There are
    16 x 16 cells, of which a mouth covers about three by two; networks of stride 32, with 2 x 2 cells, learn nothing
    at this size. The mean of a map hardly notices so little of a face, its maximum does: their average learns from
    the maximum and gives every cell a gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(32, 64, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(64)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(64, 128, 1, bias=False)
        self.norm4 = nn.BatchNorm2d(128)
        self.relu4 = nn.ReLU()
        self.head = nn.Linear(128, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2) of (B, 3, 64, 64) float32 images."""
        features = self.pool1(self.relu1(self.norm1(self.conv1(images))))
        features = self.pool2(self.relu2(self.norm2(self.conv2(features))))
        features = self.relu3(self.norm3(self.conv3(features)))
        features = self.relu4(self.norm4(self.conv4(features)))
        pooled = (features.mean(dim=(2, 3)) + features.amax(dim=(2, 3))) / 2
        return cast(torch.Tensor, self.head(pooled))
