"""Exchanging a region: partners of another label, the control elsewhere, and the two columns of a run."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import explanation_alignment as ea
from explanation_alignment.interventions import elsewhere, exchanged, partners
from toys import Patches, small_classifier


@given(labels=st.lists(st.integers(0, 3), min_size=2, max_size=40), seed=st.integers(0, 5))
def test_a_partner_has_another_label_and_depends_on_its_own_sample_only(labels: list[int], seed: int) -> None:
    ids = [f"s{place}" for place in range(len(labels))]
    if len(set(labels)) == 1:
        with pytest.raises(ea.ExplanationAlignmentError, match="all have the same one"):
            partners(ids, labels, [0], seed)
        return
    places = list(range(len(labels)))
    together = partners(ids, labels, places, seed)
    assert all(labels[own] != labels[other] for own, other in zip(places, together, strict=True))
    assert together == [partners(ids, labels, [place], seed)[0] for place in places]


def test_every_image_of_another_label_can_be_drawn() -> None:
    labels = [0, 1, 2, 0, 1]
    drawn = {
        partners([f"{at}-{k}" for at in range(5)], labels, [1], seed)[0]
        for k, seed in itertools.product("ab", range(60))
    }
    assert drawn == {0, 2, 3}


def test_partners_are_labelled() -> None:
    assert set(partners(list("abcd"), [0, None, 1, None], [0, 1, 2, 3], 0)) <= {0, 2}
    with pytest.raises(ea.ExplanationAlignmentError, match="none has one"):
        partners(["a", "b"], [None, None], [0], 0)


@settings(max_examples=40)
@given(
    height=st.integers(2, 9),
    width=st.integers(2, 9),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_elsewhere_is_the_same_shape_where_it_meets_least(height: int, width: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = torch.from_numpy(rng.random((2, 3, height, width)) < share)
    avoid = torch.from_numpy(rng.random((2, 3, height, width)) < 0.3)
    moved = elsewhere(masks, avoid, ["a", "b", "c"], seed)
    for region, image in itertools.product(range(2), range(3)):
        mask, result = masks[region, image], moved[region, image]
        shifted = [torch.roll(mask, (r, c), (0, 1)) for r in range(height) for c in range(width)]
        met = [int((other & (mask | avoid[region, image])).sum()) for other in shifted]
        assert any(torch.equal(result, other) for other in shifted)
        assert int((result & (mask | avoid[region, image])).sum()) == min(met)
        one = (slice(region, region + 1), slice(image, image + 1))
        assert torch.equal(elsewhere(masks[one], avoid[one], ["abc"[image]], seed)[0, 0], result)


def test_a_corner_is_moved_off_itself_to_a_place_of_the_samples_own() -> None:
    mask = torch.zeros((1, 8, 28, 28), dtype=torch.bool)
    mask[..., :5, :5] = True
    moved = elsewhere(mask, torch.zeros_like(mask), list("abcdefgh"), 0)
    assert not (moved & mask).any()
    assert len({tuple(one.nonzero()[0].tolist()) for one in moved[0]}) > 4


def test_exchanged_takes_the_partners_pixels_where_the_mask_is() -> None:
    images, others = torch.zeros((2, 3, 4, 4)), torch.ones((2, 3, 4, 4))
    masks = torch.zeros((2, 4, 4), dtype=torch.bool)
    masks[0, 1, 2] = True
    result = exchanged(images, others, masks)
    assert result.sum() == 3
    assert (result[0, :, 1, 2] == 1).all()
    assert images.sum() == 0


class _Corner(nn.Module):
    """Reads nothing but the brightness of the upper left 3 x 3 pixels: four classes, 64 grey levels each."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        level = images[:, :, :3, :3].mean(dim=(1, 2, 3))[:, None] * self.scale
        return -((level - torch.tensor([0.125, 0.375, 0.625, 0.875])) ** 2)


class _Cued(Patches):
    """The corner's brightness gives the class away; the patch is what the class is about."""

    name = "cued"

    def __getitem__(self, index: int) -> ea.Sample:
        sample = super().__getitem__(index)
        pixels = np.array(sample.image)
        assert sample.label is not None
        pixels[:3, :3] = 32 + 64 * sample.label
        return ea.Sample(sample.id, Image.fromarray(pixels), sample.label, sample.annotations, sample.attributes)


def flips(rows: pl.DataFrame, region: str) -> Sequence[float | None]:
    part = rows.filter(pl.col("region") == region)
    return [part[name].mean() for name in ("exchange_flip", "elsewhere_flip")]  # type: ignore[misc]


def test_a_cue_that_decides_flips_every_decision_and_nothing_else_does(tmp_path: Path) -> None:
    classifier = ea.Classifier(_Corner(), ea.Preprocessing((3, 12, 12)), name="cornered", device="cpu")
    run = ea.evaluate(
        classifier, _Cued(40), ["vanilla_gradients"], tmp_path / "run", intervene=True, batch_size=7, progress=False
    )
    rows = run.scores()
    assert rows["correct"].all()
    by_corner, elsewhere_than_corner = flips(rows, "corner")
    assert by_corner == 1
    assert elsewhere_than_corner is not None
    assert elsewhere_than_corner < 0.2
    apart = rows.filter(pl.col("label") != 0)  # the first class's patch overlaps the corner
    by_patch, elsewhere_than_patch = flips(apart, "patch")
    assert by_patch == 0
    assert elsewhere_than_patch is not None
    assert elsewhere_than_patch > 0


def test_unread_partners_and_missing_annotations_are_null_and_batches_do_not_matter(tmp_path: Path) -> None:
    dataset = Patches(30, broken=[3, 8], bare=[1, 2])
    dataset.labels = lambda: [place % 4 for place in range(30)]  # type: ignore[attr-defined]
    tables = []
    for size in (4, 30):
        run = ea.evaluate(
            small_classifier(),
            dataset,
            ["sobel"],
            tmp_path / str(size),
            intervene=True,
            batch_size=size,
            progress=False,
        )
        tables.append(run.scores())
    first, second = tables
    assert first.select("sample_id", "region", "exchange_flip", "elsewhere_flip").equals(
        second.select("sample_id", "region", "exchange_flip", "elsewhere_flip")
    )
    bare = first.filter(pl.col("sample_id").is_in(["img/001", "img/002"]), pl.col("region") == "patch")
    assert bare["exchange_flip"].null_count() == bare.height
    broken = first.filter(pl.col("status") == "error")
    assert broken["exchange_flip"].null_count() == broken.height > 0
    others = partners(dataset.ids(), dataset.labels(), range(30), 0)  # type: ignore[attr-defined]
    for place, other in enumerate(others):
        row = first.filter(pl.col("sample_id") == f"img/{place:03d}", pl.col("region") == "corner")
        assert row["exchange_flip"].is_null().all() == (other in (3, 8) or place in (3, 8))


def test_an_evaluation_that_did_not_intervene_has_nulls_and_another_identity(tmp_path: Path) -> None:
    run = ea.evaluate(small_classifier(), Patches(), ["sobel"], tmp_path / "run", progress=False)
    assert run.scores()["exchange_flip"].null_count() == 46
    with pytest.raises(ea.ExplanationAlignmentError, match="intervene: null -> true"):
        ea.evaluate(small_classifier(), Patches(), ["sobel"], tmp_path / "run", intervene=True, progress=False)
