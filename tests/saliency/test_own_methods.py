"""Saliency methods of the user's own: functions in hand, in files, and of installed packages."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
import torch

import explanation_alignment as ea
from explanation_alignment.errors import ModelError, RunError, UnknownNameError, UsageError
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.explainer import Explainer
from toys import Patches, small_classifier


def brightness(classifier: ea.Classifier, images: torch.Tensor, targets: torch.Tensor, power: float = 1.0) -> object:
    """How bright a pixel is."""
    return images.mean(dim=1).abs() ** power


def maps_of(method: object, count: int = 3) -> torch.Tensor:
    images = torch.rand((count, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    with Explainer(small_classifier(), [MethodRequest.parse(method)]) as explainer:
        return explainer(images, torch.zeros(count, dtype=torch.int64), [str(i) for i in range(count)]).maps[0]


def test_a_function_in_hand_goes_through_an_evaluation(tmp_path: Path) -> None:
    run = ea.evaluate(small_classifier(), Patches(), [brightness, "gradcam"], tmp_path / "run", progress=False)
    rows = run.scores()
    assert sorted(rows["method"].unique()) == ["brightness", "gradcam"]
    patch = rows.filter((rows["method"] == "brightness") & (rows["region"] == "patch"))
    assert patch["iou_coverage"].mean() > 0.9  # the patch is what is bright
    (record,) = run.evaluations.values()
    sources = {method["method"]: method.get("source") for method in record["methods"]}
    assert sources["gradcam"] is None
    assert len(sources["brightness"]) == 64


def test_another_source_under_the_same_name_is_another_method(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = "def mine(classifier, images, targets):\n    return images.mean(dim=1){}\n"
    file.write_text(text.format(""))
    method = f"file:{file}:mine"
    ea.evaluate(small_classifier(), Patches(), [method], tmp_path / "run", progress=False)
    file.write_text(text.format(" ** 2"))
    with pytest.raises(RunError, match=r"holds .*mine.* differently"):
        ea.evaluate(small_classifier(), Patches(), [method], tmp_path / "run", progress=False)


def test_a_file_with_arguments_grid_and_binarization(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def mine(classifier, images, targets, power=1.0, deep=False):\n    return images.mean(dim=1) ** power\n"
    )
    request = MethodRequest.parse(f"file:{file}:mine(power=2, binarize=otsu, grid=3, deep=true)")
    assert request.canonical == "mine(deep=true,grid=3,power=2.0)"
    assert request.binarization == "otsu"
    assert request.settings == {"power": 2.0, "deep": True}
    one, two = (maps_of(f"file:{file}:mine(power={power})") for power in (1, 2))
    torch.testing.assert_close(one**2, two)


def test_an_installed_method(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("bright", f"{__name__}:brightness", "explanation_alignment.methods")
    monkeypatch.setattr("explanation_alignment.saliency.own_methods.entry_points", lambda group: [point])
    assert MethodRequest.parse("bright(power=2)").canonical == "bright(power=2.0)"
    assert torch.equal(maps_of("bright"), maps_of(brightness))
    with pytest.raises(UnknownNameError, match="did you mean 'bright'"):
        MethodRequest.parse("brigth")
    missing = importlib.metadata.EntryPoint("bright", "no_such_module:function", "explanation_alignment.methods")
    monkeypatch.setattr("explanation_alignment.saliency.own_methods.entry_points", lambda group: [missing])
    with pytest.raises(ModelError, match=r"'bright' .* cannot be loaded"):
        MethodRequest.parse("bright")


def test_the_default_binarization_is_the_function_s() -> None:
    def own(classifier: object, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return images[:, 0]

    assert MethodRequest.parse(own).binarization == "std:1"
    own.default_binarization = "percentile:90"  # type: ignore[attr-defined]
    assert MethodRequest.parse(own).binarization == "percentile:90"


def test_the_function_cannot_change_what_others_see() -> None:
    def greedy(classifier: object, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        images.zero_()
        targets.zero_()
        return images[:, 0]

    images = torch.rand((2, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    requests = [MethodRequest.parse(method) for method in (greedy, "sobel")]
    with Explainer(small_classifier(), requests) as explainer:
        _, edges = explainer(images, torch.zeros(2, dtype=torch.int64), ["a", "b"]).maps
    assert (edges > 0).any()


def wrong_shape(classifier: object, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return images


def failing(classifier: object, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    raise KeyError("layer")


def too_few(images: torch.Tensor) -> torch.Tensor:
    return images


def without_default(classifier: object, images: torch.Tensor, targets: torch.Tensor, power: float) -> torch.Tensor:
    return images


def gradcam(classifier: object, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return images


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (wrong_shape, ModelError, r"wrong_shape returned \(3, 3, 12, 12\), expected real maps \(3, 12, 12\)"),
        (failing, ModelError, "failing failed: KeyError: 'layer'"),
        (too_few, UsageError, "expected a function of"),
        (without_default, UsageError, "need defaults"),
        (gradcam, UsageError, "name of a registered method"),
        (lambda classifier, images, targets: images, UsageError, "give the function a name"),
        (7, UsageError, "expected names or functions, got 7"),
        ("file:mine.py", UsageError, "expected file:PATH.py:FUNCTION"),
        ("file:absent.py:mine", ModelError, "no file 'absent.py'"),
    ],
)
def test_what_is_no_method_is_refused(method: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        maps_of(method)


def test_a_function_without_source_is_refused() -> None:
    names: dict[str, object] = {}
    exec("def typed(classifier, images, targets): return images[:, 0]", names)
    with pytest.raises(UsageError, match="its source cannot be found"):
        MethodRequest.parse(names["typed"])


def test_the_record_of_a_run_is_json(tmp_path: Path) -> None:
    run = ea.evaluate(small_classifier(), Patches(8), [brightness], tmp_path / "run", progress=False)
    assert "brightness" in json.dumps(run.info)
