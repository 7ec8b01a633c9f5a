"""Every model of the published lists: it is the one that was published, and it can be explained.

With random weights, since theirs are not at hand; what is checked is the architecture, its own input and where its
class activation maps come from. One model a time is built, so any machine can run this: ``pytest -m slow -k NAME``.
"""

from __future__ import annotations

import csv
import gc
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.load import expand_spec, load_classifier
from explanation_alignment.classifiers.paper import published_models
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.single_pass import SinglePass

DATA = Path(load_classifier.__code__.co_filename).parent / "data"


def rows(name: str, key: str) -> dict[str, dict[str, str]]:
    with (DATA / f"paper_{name}_models.csv").open(newline="") as file:
        return {row[key]: row for row in csv.DictReader(file)}


TIMM = rows("timm", "paper_name")
TORCHVISION = rows("torchvision", "model")

#: Small ones of different families, explained in every run of the tests.
QUICK = ("dla60x_c", "lcnet_050", "tinynet_a", "coat_lite_tiny", "gmixer_24_224", "resmlp_12_224", "halonet26t")


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    yield
    gc.collect()


def slow_but(names: dict[str, dict[str, str]], quick: tuple[str, ...]) -> list[object]:
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


def explain(classifier: Classifier, method: str) -> torch.Tensor:
    """Maps of two images of seeded noise, as the network takes them."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (2, *classifier.preprocessing.input_size), generator=generator, dtype=torch.uint8)
    with SinglePass(classifier, [MethodRequest.parse("vanilla_gradients"), MethodRequest.parse(method)]) as explainer:
        result = explainer(classifier.preprocessing.normalise(pixels), torch.zeros(2, dtype=torch.int64))
    assert result.logits.shape == (2, 1000)
    return torch.stack(result.maps)


def assert_say_something(maps: torch.Tensor) -> None:
    assert bool(torch.isfinite(maps).all())
    values = maps.double().flatten(2)  # untrained, some have gradients of 1e-23
    assert bool((values.amax(dim=2) > values.amin(dim=2)).all())


@pytest.mark.parametrize("name", slow_but(TIMM, QUICK))
def test_timm_model(name: str) -> None:
    row = TIMM[name]
    classifier = load_classifier(f"paper:timm/{name}", "random", device="cpu")
    assert round(classifier.parameters / 1e6, 2) == pytest.approx(float(row["params_millions"]), abs=0.0101)
    size = int(row["input_size"])
    assert classifier.preprocessing.input_size == (3, size, size)
    geometry = classifier.preprocessing.geometry
    assert (geometry.crop, geometry.interpolation) == ((size, size), row["interpolation"])
    scaled = math.floor(size / float(row["crop_pct"]))
    assert geometry.resize == (scaled if row["crop_mode"] == "center" else (scaled, scaled))
    assert (classifier.family, classifier.paper_layer) == (row["family"], "last_conv")
    assert classifier.class_names is not None
    assert len(classifier.class_names) == 1000
    assert_say_something(explain(classifier, "gradcam"))


@pytest.mark.parametrize("name", slow_but(TORCHVISION, ("resnet50",)))
def test_torchvision_model(name: str) -> None:
    row = TORCHVISION[name]
    classifier = load_classifier(f"paper:torchvision/{name}", "random", device="cpu")
    assert classifier.parameters == weights_of(name).meta["num_params"]
    assert classifier.preprocessing.input_size == (3, 224, 224)
    assert classifier.preprocessing.geometry.describe() == {
        "resize": 256,
        "crop": (224, 224),
        "interpolation": "bilinear",
    }
    layer = classifier.module.get_submodule(row["paper_gradcam_layer"])
    assert type(layer).__name__ == row["layer_type"]
    assert_say_something(explain(classifier, "gradcam"))
    assert_say_something(explain(classifier, "gradcam(layer=paper)"))


def weights_of(name: str) -> object:
    from torchvision.models import get_model_weights

    return get_model_weights(name)[TORCHVISION[name]["weights_default"]]


def test_the_lists_are_whole() -> None:
    assert (len(published_models("timm")), len(published_models("torchvision"))) == (195, 22)
    assert expand_spec("paper:timm") == tuple(f"paper:timm/{name}" for name in TIMM)
    assert expand_spec("paper:torchvision") == tuple(f"paper:torchvision/{name}" for name in TORCHVISION)


def test_the_weights_exist_under_their_exact_names() -> None:
    import timm

    known = set(timm.list_models(pretrained=True))
    assert [model.weights for model in published_models("timm").values() if model.weights not in known] == []
    for name in TORCHVISION:
        assert weights_of(name) is not None


def test_the_published_layer_is_flat_where_the_study_s_was() -> None:
    """The last convolution of a VGG-like head has a single patch; asked for as published it warns, and is flat."""
    classifier = load_classifier("paper:timm/lcnet_050", "random", device="cpu")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        maps = explain(classifier, "gradcam(layer=paper)")
    assert any("its maps say little, as in the published study" in str(one.message) for one in caught)
    per_image = maps[1].flatten(1)
    assert torch.equal(per_image.amax(dim=1), per_image.amin(dim=1))
    assert_say_something(maps[:1])
