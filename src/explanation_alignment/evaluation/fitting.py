"""Whether a classifier and a dataset can belong together, asked before anything is written."""

from __future__ import annotations

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.sample import AnnotatedDataset

__all__ = ["label_without_output", "refuse_misfit", "spare_outputs"]


def refuse_misfit(classifier: Classifier, outputs: int, dataset: AnnotatedDataset, target: str) -> None:
    """Refuse a label or a target that the classifier has no output for.

    Labels are looked at where the dataset tells them without reading its samples; of another each batch is.

    Args:
        classifier: whose outputs.
        outputs: how many it has.
        dataset: what it is to decide on.
        target: the explained class, as asked.

    Raises:
        ModelError: a sample's label has no output.
        UsageError: the target has none.
    """
    if target.isdecimal() and int(target) >= outputs:
        raise UsageError(f"target {target}: {classifier.name} has classes 0..{outputs - 1}")
    labels = getattr(dataset, "labels", None)
    largest = max((label for label in labels() if label is not None), default=0) if callable(labels) else 0
    if largest >= outputs:
        raise label_without_output(classifier.name, outputs, dataset.name, largest)


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
