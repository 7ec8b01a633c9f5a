"""The numbers of the ImageNet comparison, and what the study reported."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from explanation_alignment.errors import UsageError

__all__ = [
    "CROPPED_REPORTED",
    "EXPERIMENT",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "METRICS",
    "REGION",
    "TOY",
    "Protocol",
    "Reported",
    "reported_values",
]

#: As run.json has it.
EXPERIMENT: Final = "imagenet"
METRICS: Final = ("iou_coverage", "ground_truth_coverage", "saliency_coverage", "pointing_game")
REGION: Final = "object"
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
#: Images the study found without annotation after the crop, and of how many.
CROPPED_REPORTED: Final = (185, 50_000)


@dataclass(frozen=True, slots=True)
class Protocol:
    """Every number of the experiment; the defaults are the published protocol.

    Args:
        resize: length of the shorter side in pixels, for every model.
        crop: side of the centre crop in pixels, for every model.
        mean: subtracted from the values in [0, 1], one a channel.
        std: divided by, one a channel.
        binarize: how Grad-CAM's maps are binarized.

    Raises:
        UsageError: for sizes that mean nothing.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    binarize: str = "threshold:0.5"

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1 pixel, got {getattr(self, name)}")

    def methods(self, *, published_layer: bool) -> tuple[str, ...]:
        """Grad-CAM at the published layer, or for models without one at the last feature map there is."""
        layer = "layer=paper, " if published_layer else ""
        return (f"gradcam({layer}binarize={self.binarize})",)


#: For the small generated images.
TOY: Final = Protocol(resize=110, crop=96)


@dataclass(frozen=True, slots=True)
class Reported:
    """What the study's figures show of one model, read off to about .002."""

    accuracy: float
    iou_coverage: float
    pointing_game: float


@lru_cache
def reported_values() -> Mapping[str, Reported]:
    """The study's values by the published models' names; Grad-CAM, the whole validation set."""
    file = files("explanation_alignment.classifiers") / "data" / "paper_torchvision_models.csv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    columns = ("figure_accuracy", "figure_gradcam_iou", "figure_pointing_game")
    return MappingProxyType({row["model"]: Reported(*(float(row[name]) for name in columns)) for row in rows})
