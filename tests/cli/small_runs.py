"""A small evaluated run of untrained networks."""

from __future__ import annotations

from pathlib import Path

import explanation_alignment as ea
from toys import Patches, small_classifier


def evaluated(out: Path, *, models: int = 5, intervene: bool = True) -> Path:
    """Networks on 40 images with two regions, of which the patch is the evidence."""
    for seed in range(models):
        classifier = small_classifier(seed, name=f"m{seed}")
        methods = ["vanilla_gradients", "gradcam"]
        ea.evaluate(classifier, Patches(40), methods, out, intervene=intervene, progress=False)
    return out
