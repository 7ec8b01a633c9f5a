"""Every class an image shows as a decision of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import explanation_alignment as ea
from explanation_alignment.datasets.base import Subset
from explanation_alignment.datasets.positives import PositiveLabels
from explanation_alignment.errors import UsageError
from toys import Patches, small_classifier, small_network


class Several(Patches):
    """Patches where an image shows 0, 1, 2 or 3 classes, each marked in its own quarter."""

    def positives(self) -> Sequence[Sequence[int]]:
        return [tuple(sorted({(place + step) % 4 for step in range(place % 4)})) for place in range(len(self))]

    def read_for(self, index: int, label: int) -> ea.Sample:
        sample = self[index]
        mask = np.zeros((12, 12), dtype=bool)
        mask[6 * (label // 2) :, 6 * (label % 2) :][:6, :6] = True
        return replace(sample, label=label, annotations={**sample.annotations, "patch": ea.Mask(mask)})


def test_an_image_has_a_sample_for_each_class_it_shows() -> None:
    dataset, view = Several(8), PositiveLabels(Several(8))
    shown = dataset.positives()
    assert len(view) == sum(map(len, shown)) == 12
    assert view.ids()[:3] == ("img/001#1", "img/002#2", "img/002#3")
    assert view.labels() == tuple(label for labels in shown for label in labels)
    assert view.attributes()["image"][:3] == ("img/001", "img/002", "img/002")
    assert view.accepted()[2] == (2, 3)
    sample = view[2]
    assert (sample.id, sample.label, sample.attributes["image"]) == ("img/002#3", 3, "img/002")
    patch = sample.annotations["patch"]
    assert patch is not None
    assert patch.to_mask()[6:, 6:].all()
    assert patch.to_mask().sum() == 36
    assert view.fingerprint not in (dataset.fingerprint, PositiveLabels(Several(9)).fingerprint)


def test_other_datasets_show_their_label_alone() -> None:
    view = PositiveLabels(Patches(5))
    assert view.labels() == (0, 1, 2, 3, 0)
    assert np.array_equal(np.asarray(view[3].image), np.asarray(Patches(5)[3].image))


def test_a_subset_keeps_what_its_dataset_knows() -> None:
    view = PositiveLabels(Subset(Several(8), ["img/003", "img/002"]))
    assert view.ids() == ("img/003#0", "img/003#1", "img/003#3", "img/002#2", "img/002#3")
    assert view[4].annotations["patch"].to_mask()[6:, 6:].all()  # type: ignore[union-attr]


def test_images_that_show_nothing_are_no_decisions() -> None:
    with pytest.raises(UsageError, match="no image of patches has a label"):
        PositiveLabels(Several(1))


def test_each_positive_class_is_explained_and_any_counts_as_correct(tmp_path: Path) -> None:
    classifier = small_classifier()
    options = {"batch_size": 5, "methods": ["vanilla_gradients"], "progress": False}
    run = ea.evaluate(classifier, Several(16), out=tmp_path / "positives", target="positives", **options)
    rows = run.scores().with_columns(pl.col("region", "target", "dataset").cast(pl.String)).filter(region="patch")
    assert rows["target"].unique().to_list() == ["positives"]
    assert rows["dataset"].unique().to_list() == ["patches~positives"]
    assert rows.height == 24
    shown = dict(zip(Several(16).ids(), Several(16).positives(), strict=True))
    for row in rows.iter_rows(named=True):
        assert row["correct"] == (row["prediction"] in shown[row["attr_image"]])
        assert row["sample_id"] == f"{row['attr_image']}#{row['label']}"
    # the map is that of the class: what target=INDEX gives for the same image
    for label in range(4):
        one = ea.evaluate(classifier, Several(16), out=tmp_path / "one", target=str(label), **options)
        other = one.scores().with_columns(pl.col("region", "target").cast(pl.String)).filter(region="patch")
        both = rows.filter(label=label).join(
            other.filter(target=str(label)), left_on="attr_image", right_on="sample_id", suffix="_one"
        )
        assert both.height == sum(label in classes for classes in shown.values())
        assert (both["salient_area"] == both["salient_area_one"]).all()
    assert run.summary(cluster="image")["n"].max() == 24


def test_confidences_of_classes_that_do_not_exclude_each_other_are_sigmoids(tmp_path: Path) -> None:
    network = small_network()
    classifier = ea.Classifier(network, ea.Preprocessing((3, 12, 12)), name="several", device="cpu", multi_label=True)
    rows = ea.evaluate(classifier, Several(8), out=tmp_path, target="positives", progress=False).scores()
    assert (rows["confidence"] > 0).all()
    single = ea.evaluate(small_classifier(), Patches(8), out=tmp_path / "single", progress=False).scores()
    assert rows["confidence"].max() > single["confidence"].max()


def test_interventions_are_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not with positives"):
        ea.evaluate(small_classifier(), Several(8), out=tmp_path, target="positives", intervene=True, progress=False)
