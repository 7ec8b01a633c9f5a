"""Training for experiments: the recipe, the data, the network, and a loop that can be killed and goes on.

The names load on first use: a recipe needs no torch, and a report of a run no more than that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explanation_alignment.experiments.training.data import DatasetTraining as DatasetTraining
    from explanation_alignment.experiments.training.data import TrainingData as TrainingData
    from explanation_alignment.experiments.training.loop import fit as fit
    from explanation_alignment.experiments.training.loop import trained as trained
    from explanation_alignment.experiments.training.networks import build_network as build_network
    from explanation_alignment.experiments.training.recipe import Recipe as Recipe
    from explanation_alignment.experiments.training.recipe import StepDecay as StepDecay
    from explanation_alignment.experiments.training.state import Training as Training

_HOMES = {
    "DatasetTraining": "data",
    "Recipe": "recipe",
    "StepDecay": "recipe",
    "Training": "state",
    "TrainingData": "data",
    "build_network": "networks",
    "fit": "loop",
    "trained": "loop",
}

__all__ = ["DatasetTraining", "Recipe", "StepDecay", "Training", "TrainingData", "build_network", "fit", "trained"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
