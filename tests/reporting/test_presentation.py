"""What a report says at its top, as far as there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

import explanation_alignment as ea
from explanation_alignment.reporting.presentation import present
from explanation_alignment.statistics.relying.words import rule, sentences
from toys import Patches, small_classifier


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("presentation") / "run"
    ea.evaluate(small_classifier(), Patches(), ["vanilla_gradients"], out, intervene=True, progress=False)
    return out


def test_a_small_run_is_told_whole(run: Path) -> None:
    assert list(present(ea.open_run(run)).sentences) == [*sentences(ea.reliance(run)), rule(metric="iou_coverage")]


def test_a_large_run_is_told_by_its_verdicts(run: Path) -> None:
    for seed in range(1, 7):
        classifier = small_classifier(seed, name=f"m{seed}")
        ea.evaluate(classifier, Patches(), ["vanilla_gradients"], run, intervene=True, progress=False)
    found = ea.reliance(run)
    assert found.height == 14
    *flagged, counted, stated = present(ea.open_run(run)).sentences
    assert stated == rule(metric="iou_coverage")
    assert counted.startswith("Of 14 pairs of model and region")
    assert "7 evidence" in counted
    flags = found.filter(found["verdict"].is_in(["confirmed", "suspected", "not confirmed"]))
    assert flagged == sentences(flags)
