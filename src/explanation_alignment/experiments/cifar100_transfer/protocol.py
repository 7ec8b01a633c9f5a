"""The numbers of the CIFAR-100 transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from explanation_alignment.errors import UnknownNameError, UsageError

__all__ = ["EXPERIMENT", "FEATURES", "METRICS", "REGION", "TOY", "Features", "Protocol", "check_features"]

#: As run.json has it.
EXPERIMENT: Final = "cifar100-transfer"
METRICS: Final = ("iou_coverage", "pointing_game")
REGION: Final = "object"

#: What of a model an image becomes: its outputs, as published, or what its last layer is given.
Features: TypeAlias = Literal["logits", "penultimate"]
FEATURES: Final[tuple[Features, ...]] = get_args(Features)


@dataclass(frozen=True, slots=True)
class Protocol:
    """Every number of the experiment; the defaults are the published protocol.

    Args:
        resize: length of the shorter side of CIFAR-100's images in pixels.
        crop: side of the centre crop in pixels. A model that refuses it gets its own size, resized in proportion.
        mean: subtracted from the values in [0, 1], one a channel: CIFAR-100's, for every model.
        std: divided by, one a channel.
        images_per_class: training images of each class; the others test.
        max_iter: iterations of the logistic regression at most.

    Raises:
        UsageError: for numbers out of range.
    """

    resize: int = 256
    crop: int = 224
    mean: tuple[float, float, float] = (0.5071, 0.4867, 0.4408)
    std: tuple[float, float, float] = (0.2675, 0.2565, 0.2761)
    images_per_class: int = 1
    max_iter: int = 1000

    def __post_init__(self) -> None:
        for name in ("resize", "crop", "images_per_class", "max_iter"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, got {getattr(self, name)}")

    def methods(self, kind: str) -> tuple[str, ...]:
        """Vanilla gradients; for convolutional networks also Grad-CAM at the last registered ``Conv2d``."""
        gradcam = ("gradcam(layer=last_conv, binarize=threshold:0.5)",) if kind == "cnn" else ()
        return ("vanilla_gradients(binarize=std:1)", *gradcam)


#: For the small generated images. On the outputs of models that know twelve classes the regressions would go on for the
#: thousand iterations without telling more.
TOY: Final = Protocol(resize=73, crop=64, max_iter=50)


def check_features(features: str) -> Features:
    """The features meant.

    Raises:
        UnknownNameError: there are none of that name.
    """
    for known in FEATURES:
        if features == known:
            return known
    raise UnknownNameError("kind of features", features, FEATURES)
