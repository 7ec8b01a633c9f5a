"""The published experiments: a folder each, with its protocol, its running, its results and what is shown of them.

``training`` holds what they share. Only what trains or evaluates imports torch, so that reports of their runs can be
made without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["EXPERIMENTS"]

#: An experiment's name, as run.json has it -> the module whose ``present(run)`` makes the report's words and figures.
EXPERIMENTS: Final[Mapping[str, str]] = {
    "mnist": "explanation_alignment.experiments.mnist.presentation",
    "celeba-bias": "explanation_alignment.experiments.celeba.bias_presentation",
    "celeba-regions": "explanation_alignment.experiments.celeba.regions_presentation",
    "imagenet": "explanation_alignment.experiments.imagenet.presentation",
    "cifar100-transfer": "explanation_alignment.experiments.cifar100_transfer.presentation",
}
