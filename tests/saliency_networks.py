"""Three small networks of different kinds, untrained but not neutral, for tests of saliency methods."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import timm
import torch
from torch import Tensor, nn

import explanation_alignment as ea

SIDE = 32
CLASSES = 5


class ConvNet(nn.Module):
    """Convolution, batch norm, ReLU modules used once, overlapping max-pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.act1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.conv2, self.act2 = nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU()
        self.conv3, self.act3 = nn.Conv2d(12, 10, 3, padding=1), nn.ReLU()
        self.fc = nn.Linear(10 * 8 * 8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.act1(self.bn1(self.conv1(images))))
        features = self.act3(self.conv3(self.act2(self.conv2(features))))
        return self.fc(features.flatten(1))


def convnet() -> nn.Module:
    return ConvNet()


def vit() -> nn.Module:
    return timm.models.vision_transformer.VisionTransformer(
        img_size=SIDE, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=CLASSES
    )


def swin() -> nn.Module:
    return timm.models.swin_transformer.SwinTransformer(
        img_size=SIDE, patch_size=2, window_size=4, embed_dim=12, depths=(2, 1), num_heads=(2, 2), num_classes=CLASSES
    )


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"convnet": convnet, "vit": vit, "swin": swin}


@functools.cache
def classifier(name: str) -> ea.Classifier:
    """One classifier a name, with weights and biases larger than at initialisation, so that classes differ."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = NETWORKS[name]()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=1.2 / parameter[0].numel() ** 0.5)
                else:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            last = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
            last.bias -= network.eval()(images(8)).mean(dim=0)
    preprocessing = ea.Preprocessing((3, SIDE, SIDE), mean=(0.5, 0.4, 0.45), std=(0.2, 0.25, 0.22))
    return ea.Classifier(network, preprocessing, name=name, device="cpu")


def images(count: int, seed: int = 0) -> Tensor:
    """Normalised images with some structure, (count, 3, SIDE, SIDE)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, 6, 6), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    return (smooth + 0.2 * torch.rand((count, 3, SIDE, SIDE), generator=generator) - 0.5) / 0.25
