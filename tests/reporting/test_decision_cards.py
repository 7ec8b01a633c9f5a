"""Decisions on a report: which are chosen, and what their pictures show."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_runs import SIDE, made_run
from PIL import Image

from explanation_alignment.reporting.cells import cell, p_value
from explanation_alignment.reporting.decision_cards import card_of, decisions_of
from explanation_alignment.reporting.figures.sheet import OUTLINES
from explanation_alignment.reporting.material import Material
from explanation_alignment.reporting.sections.decisions import decision_section

TIMES = 224 // SIDE


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(made_run(tmp_path_factory.mktemp("cards") / "run", examples=30, undefined=0.15))


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_both_ends_of_right_and_wrong_decisions(material: Material) -> None:
    section = decision_section(material)
    assert section is not None
    kept = decisions_of(material).drop_nulls("iou_coverage")
    most: list[str] = []
    for gallery in section.galleries:
        which, word = gallery.title.split(" aligned, ")
        part = kept.filter(pl.col("correct") == (word == "right"))
        ranked = part.sort("iou_coverage", descending=which == "Most").unique("sample_id", keep="first")
        ranked = ranked.sort("iou_coverage", descending=which == "Most")
        told = [card.lines[0] for card in gallery.cards]
        if which == "Least":  # no image is on both sides
            ranked = ranked.filter(~pl.col("sample_id").is_in(most))
        most = ranked["sample_id"].head(len(told)).to_list()
        expected = [f"digit: IoU {cell(value).text}" for value in ranked["iou_coverage"].head(len(told))]
        assert [line.partition(", ")[0] for line in told] == expected
        assert all(card.right is (word == "right") for card in gallery.cards)
        assert all(word in card.heading for card in gallery.cards)
    for one, two in ((0, 1), (2, 3)):
        images = [{card.lines[-1] for card in section.galleries[place].cards} for place in (one, two)]
        assert not images[0] & images[1]  # nothing is both the most and the least aligned


def test_the_map_and_the_outlines_lie_where_they_are(material: Material) -> None:
    row = next(row for row in decisions_of(material).iter_rows(named=True) if row["status"] == "ok")
    image, overlay = (pixels(picture.data) for picture in card_of(material, row).pictures)
    assert image.shape == overlay.shape == (SIDE * TIMES, SIDE * TIMES, 3)
    with Image.open(io.BytesIO(row["saliency"])) as saved:
        saliency = np.asarray(saved)
    # the digit's mask is rows 2 to 7, columns 3 to 8, the block's a row further down, and its outline lies above
    digit, block = (np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) for colour in OUTLINES[:2])
    # a palette of 256 colours moves them a little
    assert np.abs(overlay[2 * TIMES, 3 * TIMES : 9 * TIMES] - digit).max() < 40
    assert np.abs(overlay[2 * TIMES : 3 * TIMES, 3 * TIMES] - digit).max() < 40
    assert np.abs(overlay[3 * TIMES : 9 * TIMES, 3 * TIMES] - block).max() < 40
    middles = overlay[TIMES // 2 :: TIMES, TIMES // 2 :: TIMES]
    tint = middles[..., 0] - middles[..., 2]  # orange is more red than blue
    away = np.ones((SIDE, SIDE), bool)
    away[1:11, 2:10] = False
    with Image.open(io.BytesIO(row["salient"])) as saved:
        salient = np.asarray(saved.convert("L")) > 0
    inside, outside = away & salient, away & ~salient
    for part in (inside, outside):
        assert np.corrcoef(tint[part], saliency[part])[0, 1] > 0.95
    assert tint[inside].min() > tint[outside].max() + 30  # where the salient area ends is seen


def test_a_map_without_a_salient_area_is_drawn_as_it_is(material: Material) -> None:
    row = next(row for row in decisions_of(material).iter_rows(named=True) if row["status"] == "ok")
    overlay = pixels(card_of(material, row | {"salient": None}).pictures[1].data)
    with Image.open(io.BytesIO(row["saliency"])) as saved:
        saliency = np.asarray(saved)
    middles = overlay[TIMES // 2 :: TIMES, TIMES // 2 :: TIMES]
    away = np.ones((SIDE, SIDE), bool)
    away[1:11, 2:10] = False
    assert np.corrcoef((middles[..., 0] - middles[..., 2])[away], saliency[away])[0, 1] > 0.98


def test_a_flat_map_is_said_and_not_drawn(material: Material) -> None:
    row = next(row for row in decisions_of(material).iter_rows(named=True) if row["status"] == "flat_map")
    card = card_of(material, row)
    assert card.lines[0] == "digit: flat map"
    overlay = pixels(card.pictures[1].data)
    assert np.ptp(overlay[-TIMES:, -TIMES:], axis=2).max() < 12  # grey, where no outline is


def test_a_run_without_pictures_has_none(tmp_path: Path) -> None:
    material = Material(made_run(tmp_path / "run", examples=0))
    assert decisions_of(material).is_empty()
    assert decision_section(material) is None


def test_what_is_small_is_not_called_nothing() -> None:
    assert cell(0.0002).text == "<0.001"
    assert cell(0.0).text == "0.000"
    assert cell(0.0002).value == "0.0002"
    assert cell(float("nan")).text == cell(None).text == "\u2013"
    assert (cell(-0.25).text, cell(1234).text, cell(True).text) == ("\u22120.250", "1,234", "yes")


def test_a_p_value_is_never_nothing() -> None:
    assert (p_value(0.0).text, p_value(0.0).value) == ("<0.001", "0.0")
    assert cell(p_value(0.25)) == cell(0.25)
    assert p_value(None).kind == "none"
