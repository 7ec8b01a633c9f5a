"""Many classifiers on one dataset: one after another, each built, evaluated and freed; what fails is recorded."""

from explanation_alignment.sweeps.running import evaluate_models

__all__ = ["evaluate_models"]
