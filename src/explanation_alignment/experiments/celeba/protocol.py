"""The numbers of the experiment on CelebA: what is drawn, how the networks are trained, and what the study reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.experiments.training.recipe import Precision, Recipe, StepDecay, check_precision

__all__ = [
    "COMMON",
    "GROUPS",
    "METHODS",
    "MODELS",
    "RARE",
    "REPORTED",
    "REPORTED_UNBIASED_ACCURACY",
    "TOY",
    "UNTRAINED",
    "Group",
    "HairPairing",
    "Protocol",
    "Reported",
    "correlation_model",
    "correlation_of",
    "group_word",
]

#: The two models, by the data they are trained on.
MODELS: Final = ("unbiased", "biased")
#: The network as it is before training: what maps show that owe nothing to the data.
UNTRAINED: Final = "untrained"
METHODS: Final = ("gradcam", "vanilla_gradients")

#: Hair colour, and whether it smiles.
Group: TypeAlias = tuple[str, bool]
GROUPS: Final[tuple[Group, ...]] = (("black", True), ("black", False), ("blond", True), ("blond", False))
#: Groups that nearly all of the biased training images are of.
COMMON: Final[tuple[Group, ...]] = (("black", True), ("blond", False))
RARE: Final[tuple[Group, ...]] = (("black", False), ("blond", True))

HairPairing: TypeAlias = Literal["hq", "crop", "published"]

_CORRELATION: Final = "correlation-"


def group_word(group: Group) -> str:
    """``black smiling``, ``black not smiling``, ...: a group as tables and figures call it."""
    hair, smiling = group
    return f"{hair} {'smiling' if smiling else 'not smiling'}"


def correlation_model(correlation: float) -> str:
    """The name of the model trained on faces with that correlation between hair and smile."""
    return f"{_CORRELATION}{correlation:g}"


def correlation_of(model: str) -> float | None:
    """The correlation a model's name tells; None where it is not a model of the dose-response."""
    return float(model.removeprefix(_CORRELATION)) if model.startswith(_CORRELATION) else None


@dataclass(frozen=True, slots=True)
class Protocol:
    """Every number of the experiment; the defaults are the published protocol.

    Args:
        network: the classifier to train, as :func:`~explanation_alignment.load_classifier` takes it.
        weights: what training starts from: ``"default"`` (pretrained), ``"random"``, or a checkpoint.
        head: ``"imagenet"`` keeps the pretrained head and all its outputs, of which training uses the first two;
            ``"fresh"`` puts an untrained one of two outputs there.
        layer: where Grad-CAM looks; None for the network's last feature map, which for a ResNet-50 is the published
            one, the output of its last residual block.
        resize: pixels of an image's shorter side before the crop.
        crop: side of the square the network sees.
        epochs: passes over the training images.
        batch_size: training images a step.
        learning_rate: of Adam in the first epoch.
        weight_decay: of Adam.
        decay: factor on the learning rate ...
        decay_after: ... after each of these epochs.
        precision: ``"auto"`` trains in mixed precision (bf16) on a GPU and in fp32 elsewhere.
        train_per_group: unbiased training images of each of the four groups; the biased ones are twice as many of each
            common group.
        train_rare_share: biased training images of a rare group, as a share of those of a common one.
        test_per_group: unbiased test images of each group; the biased ones are twice as many of each common group.
        test_rare_share: biased test images of a rare group, as a share of those of a common one.
        hair_per_group: test images with a mask of the hair, of each group.
        draw_seed: decides which images are drawn.

    Raises:
        UsageError: for a number out of range.
    """

    network: str = "torchvision:resnet50.IMAGENET1K_V2"
    weights: str = "default"
    head: Literal["imagenet", "fresh"] = "imagenet"
    layer: str | None = None
    resize: int = 256
    crop: int = 224
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    decay: float = 0.2
    decay_after: tuple[int, ...] = (2, 5)
    precision: Precision | Literal["auto"] = "auto"
    train_per_group: int = 5000
    train_rare_share: float = 0.01
    test_per_group: int = 500
    test_rare_share: float = 0.1
    hair_per_group: int = 180
    draw_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("resize", "crop", "train_per_group", "test_per_group", "hair_per_group"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("train_rare_share", "test_rare_share"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name}: expected more than 0, up to 1, got {getattr(self, name)}")
        if self.head not in ("imagenet", "fresh"):
            raise UnknownNameError("head", str(self.head), ("imagenet", "fresh"))
        if self.precision != "auto":
            check_precision(self.precision)
        if self.draw_seed < 0:
            raise UsageError(f"draw_seed: expected at least 0, got {self.draw_seed}")
        object.__setattr__(self, "decay_after", tuple(self.decay_after))
        self.recipe()  # refuses what cannot be trained with

    def recipe(self) -> Recipe:
        """How the networks are trained."""
        return Recipe(
            self.epochs,
            self.batch_size,
            "adam",
            self.learning_rate,
            weight_decay=self.weight_decay,
            schedule=StepDecay(self.decay, after=self.decay_after),
        )

    def biased(self, per_group: int, rare_share: float) -> dict[Group, int]:
        """Images of each group in biased data: two common groups, two rare ones."""
        common = 2 * per_group
        return dict.fromkeys(COMMON, common) | dict.fromkeys(RARE, max(1, round(common * rare_share)))

    def training_counts(self, model: str) -> dict[Group, int]:
        """Training images of each group, for ``"unbiased"``, ``"biased"`` or a model of the dose-response.

        A correlation c (the phi coefficient of black hair and smile) is a share of (1 + c) / 4 for each common group
        and (1 - c) / 4 for each rare one, of as many images as the unbiased model has.

        Raises:
            UsageError: the correlation is not in 0 to 1.
            UnknownNameError: for another model.
        """
        if model == "unbiased":
            return dict.fromkeys(GROUPS, self.train_per_group)
        if model == "biased":
            return self.biased(self.train_per_group, self.train_rare_share)
        correlation = correlation_of(model)
        if correlation is None:
            raise UnknownNameError("model of this experiment", model, [*MODELS, correlation_model(0.8)])
        if not 0 <= correlation <= 1:
            raise UsageError(f"correlation of hair and smile: expected 0 to 1, got {correlation:g}")
        common = round(self.train_per_group * (1 + correlation))
        counts = dict.fromkeys(COMMON, common) | dict.fromkeys(RARE, 2 * self.train_per_group - common)
        return {group: count for group, count in counts.items() if count}


#: For generated faces of 64 pixels and a small network that learns them from scratch within a minute. The shares of the
#: training groups are the published ones; a rare group of the biased test images is larger, for narrower intervals.
TOY: Final = Protocol(
    network="toy:faces",
    weights="random",
    head="fresh",
    resize=73,
    crop=64,
    epochs=8,
    batch_size=64,
    learning_rate=2e-3,
    decay_after=(6,),
    train_per_group=1000,
    test_per_group=150,
    test_rare_share=0.25,
    hair_per_group=60,
)


@dataclass(frozen=True, slots=True)
class Reported:
    """What the study's notebook printed for one model and group of the biased test images (Grad-CAM, mouth)."""

    accuracy: float
    iou_coverage: float


def _by_group(iou: tuple[float, ...], accuracy: tuple[float, ...]) -> dict[Group, Reported]:
    return {group: Reported(*pair) for group, pair in zip(GROUPS, zip(accuracy, iou, strict=True), strict=True)}


#: model -> group -> the reported numbers, on the biased test images.
REPORTED: Final[Mapping[str, Mapping[Group, Reported]]] = {
    "unbiased": _by_group((0.135, 0.083, 0.142, 0.109), (0.923, 0.91, 0.89, 0.926)),
    "biased": _by_group((0.00095, 0.00006, 0.0045, 0.0023), (0.998, 0.10, 0.45, 0.998)),
}
#: Reported accuracy of the unbiased model on the unbiased test images. (The IoU printed there contradicts its groups.)
REPORTED_UNBIASED_ACCURACY: Final = 0.9155
