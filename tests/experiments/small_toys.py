"""The toy data and models of the experiments over many models, smaller still."""

from __future__ import annotations

import pytest

from explanation_alignment.experiments.imagenet import toy_models
from explanation_alignment.experiments.training import Recipe

MODELS = tuple(f"timm:test_{name}" for name in ("efficientnet", "convnext", "byobnet", "resnet", "vit"))


def make_small(patch: pytest.MonkeyPatch, models: tuple[str, ...] = MODELS) -> None:
    """Fewer images, and trainings of one epoch."""
    patch.setattr(toy_models, "TOY_MODELS", models)
    patch.setattr(toy_models, "RECIPE", Recipe(1, 12, "adamw", 2e-3))
    patch.setattr(toy_models, "_TRAINING_IMAGES", 24)
    patch.setattr(toy_models, "_TEST_IMAGES", 26)
    patch.setattr(toy_models, "_CIFAR_IMAGES", 200)
