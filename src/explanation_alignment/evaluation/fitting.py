"""Whether a classifier and a dataset can belong together, asked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from explanation_alignment.batches import wrong_size
from explanation_alignment.classifiers.classifier import EXPECTED, Classifier
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.sample import AnnotatedDataset

__all__ = ["check_classifier", "label_without_output", "refuse_misfit", "spare_outputs"]

#: Names an error shows of a list of classes.
_SHOWN: Final = 5


def check_classifier(given: object) -> None:
    """Refuse what is no classifier, such as a network on its own.

    Raises:
        UsageError: with what to make of it.
    """
    if not isinstance(given, Classifier):
        raise UsageError(f"classifier: got {type(given).__name__}, {EXPECTED}")


def refuse_misfit(classifier: Classifier, outputs: int, dataset: AnnotatedDataset, order: Sequence[int]) -> None:
    """Refuse a label without an output, classes in another order, and images that do not get the size.

    Labels are looked at where the dataset tells them without reading its samples; of another each batch is. Of the
    images the first one is: one of another size than the rest has a row that says so.

    Args:
        classifier: whose outputs.
        outputs: how many it has.
        dataset: what it is to decide on.
        order: places of the samples to be read; none to leave the images' size to their rows.

    Raises:
        ModelError: a sample's label has no output, or both name the same classes in another order.
        UsageError: the geometry does not lead to the classifier's input size.
    """
    labels = getattr(dataset, "labels", None)
    largest = max((label for label in labels() if label is not None), default=0) if callable(labels) else 0
    if largest >= outputs:
        raise label_without_output(classifier.name, outputs, dataset.name, largest)
    _refuse_order(classifier, dataset)
    _refuse_size(classifier, dataset, order)


def _refuse_order(classifier: Classifier, dataset: AnnotatedDataset) -> None:
    """Labels are places among the outputs, so the same classes have to come in the same order.

    Lists that differ say nothing: ImageNet's kite is a bird, COCO's is flown.
    """
    outputs, labels = classifier.class_names or (), dataset.class_names
    mine, theirs = _folded(outputs), _folded(labels)
    if mine == theirs or sorted(mine) != sorted(theirs):
        return
    place = next(place for place, name in enumerate(mine) if name != theirs[place])
    raise ModelError(
        f"{classifier.name} and {dataset.name} number their classes otherwise: {place} is {outputs[place]!r} among the "
        f"outputs and {labels[place]!r} among the labels (outputs: {_listed(outputs)}; labels: {_listed(labels)}); "
        "give the dataset that order, such as folder(classes=classes.txt), or the classifier its true names"
    )


def _folded(names: Sequence[str]) -> list[str]:
    return [str(name).strip().casefold() for name in names]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(str, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")


def _refuse_size(classifier: Classifier, dataset: AnnotatedDataset, order: Sequence[int]) -> None:
    geometry, (_, height, width) = classifier.preprocessing.geometry, classifier.preprocessing.input_size
    if geometry.crop == (height, width) or not order:  # whatever comes in
        return
    try:
        sample = dataset[order[0]]
        given = geometry.size(sample.image.height, sample.image.width)
    except Exception:  # whatever a damaged image raises; its row says what
        return
    if given != (height, width):
        raise UsageError(wrong_size(sample.id, given, (height, width)))


def label_without_output(classifier: str, outputs: int, dataset: str, label: int) -> ModelError:
    """The error for a sample whose label is none of the classifier's outputs."""
    return ModelError(
        f"{dataset} has the label {label}, {classifier} has outputs 0..{outputs - 1}: it was trained on other classes, "
        "or numbers them otherwise"
    )


def spare_outputs(classifier: Classifier, outputs: int, dataset: AnnotatedDataset) -> str | None:
    """Words on outputs that are none of the dataset's classes, where nothing says what they are; None for none."""
    classes = len(dataset.class_names)
    if classifier.class_names is not None or not 0 < classes < outputs:
        return None
    return (
        f"{classifier.name} has {outputs} outputs, {dataset.name} has {classes} classes: "
        "a prediction of another output counts as wrong"
    )
