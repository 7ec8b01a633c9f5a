"""Networks to be trained: a classifier's by its spec, with the head the training wants."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, get_args

import torch
from torch import nn

from explanation_alignment.classifiers.checkpoints import head_of
from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
from explanation_alignment.classifiers.load import load_classifier
from explanation_alignment.errors import ModelError, UnknownNameError, UsageError

__all__ = ["Head", "build_network"]

Head: TypeAlias = Literal["imagenet", "fresh"]

#: Outputs an ImageNet head has at least.
_IMAGENET_CLASSES: Final = 1000


def build_network(
    spec: str,
    head: Head = "imagenet",
    classes: int = 2,
    weights: str = "default",
    *,
    input_size: int | None = None,
    preprocessing: Preprocessing | None = None,
) -> tuple[nn.Module, Preprocessing]:
    """A network to train, on the CPU.

    What is random is drawn from torch's global generator, so that the seed of the training decides it.

    Args:
        spec: as :func:`~explanation_alignment.classifiers.load.load_classifier` takes it.
        head: ``"imagenet"`` keeps the pretrained head with all its outputs, of which training uses the first
            ``classes``, as the published study does; ``"fresh"`` puts an untrained head of ``classes`` outputs there.
        classes: of the training data.
        weights: to start from: ``"default"`` (pretrained), ``"random"``, ``"random:SEED"`` or a checkpoint's path.
        input_size: side in pixels of the square input, instead of the model's own.
        preprocessing: instead of the model's own.

    Returns:
        The network, and what its images go through.

    Raises:
        UsageError: for a spec, head or number of classes that cannot mean anything.
        ModelError: if it cannot be built, its weights cannot be fetched, or it has no head that could be exchanged.

    Example:
        >>> network, preprocessing = build_network("timm:test_resnet", "fresh", weights="random")
        >>> network(torch.zeros(1, *preprocessing.input_size)).shape
        torch.Size([1, 2])
    """
    if head not in get_args(Head):
        raise UnknownNameError("head", str(head), get_args(Head))
    if classes < 2:
        raise UsageError(f"classes: expected at least 2, got {classes}")
    if weights == "random":
        weights = f"random:{int(torch.randint(2**31, ()))}"
    classifier = load_classifier(spec, weights, "cpu", input_size=input_size, preprocessing=preprocessing)
    if head == "fresh":
        _exchange_head(classifier, classes)
    outputs = _outputs(classifier)
    if head == "imagenet" and outputs < max(classes, _IMAGENET_CLASSES):
        raise UsageError(f"{spec} has {outputs} outputs and so no ImageNet head to keep; give head 'fresh'")
    if head == "fresh" and outputs != classes:
        raise ModelError(
            f"{spec}: no head could be exchanged, it still has {outputs} outputs; give file:PATH.py:FACTORY, a "
            f"function that returns it with {classes}"
        )
    return classifier.module, classifier.preprocessing


def _exchange_head(classifier: Classifier, classes: int) -> None:
    """An untrained head of as many outputs as there are classes, where the network lets itself be given one."""
    module: Any = classifier.module
    classifier.class_names = None
    if callable(getattr(module, "reset_classifier", None)):  # timm's own way
        module.reset_classifier(classes)
        return
    _, before = head_of(module)
    for name, part in list(module.named_modules()):  # auxiliary heads too
        made: nn.Module
        if isinstance(part, nn.Linear) and part.out_features == before:
            made = nn.Linear(part.in_features, classes, bias=part.bias is not None)
        elif isinstance(part, nn.Conv2d) and part.out_channels == before and part.kernel_size == (1, 1):
            made = nn.Conv2d(part.in_channels, classes, 1, bias=part.bias is not None)
        else:
            continue
        owner, _, own = name.rpartition(".")
        setattr(module.get_submodule(owner), own, made)


def _outputs(classifier: Classifier) -> int:
    """How many logits the network gives for an image."""
    with classifier.explaining(), torch.no_grad():
        return classifier.logits(torch.zeros(1, *classifier.preprocessing.input_size)).shape[1]
