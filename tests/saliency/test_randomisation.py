"""Sanity: whether maps change when the model's weights are randomised; the model is as it was afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from scipy import stats

import explanation_alignment as ea
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.explainer import Explainer
from toys import Patches, small_classifier


def pixels(count: int = 6) -> torch.Tensor:
    data = Patches(count)
    return torch.stack([torch.from_numpy(np.array(data[place].image)).permute(2, 0, 1) for place in range(count)])


def test_a_method_that_ignores_the_model_is_found_out() -> None:
    check = ea.sanity(small_classifier(), pixels(), ["sobel", "vanilla_gradients", "center"], steps=3)
    by_method = check.curve.partition_by("method", as_dict=True)
    for name in ("sobel", "center"):
        assert by_method[(name,)]["spearman"].to_list() == pytest.approx([1] * 4)
        assert by_method[(name,)]["ssim"].to_list() == pytest.approx([1] * 4)
        assert "does not explain this model" in check.verdicts()[name]
    gradients = by_method[("vanilla_gradients",)]
    assert gradients["spearman"][0] == pytest.approx(1)
    assert abs(gradients["spearman"][-1]) < 0.5
    assert "depend on the model" in check.verdicts()["vanilla_gradients"]


def test_layers_are_randomised_from_the_output_down() -> None:
    check = ea.sanity(small_classifier(), pixels(2), ["gradcam"], steps=12)
    assert list(check.layers) == ["5", "2", "0"]
    assert check.curve["layer"].to_list() == [None, "5", "2", "0"]
    assert check.curve["layers_randomised"].to_list() == [0, 1, 2, 3]
    few = ea.sanity(small_classifier(), pixels(2), ["gradcam"], steps=1).curve
    assert few["layers_randomised"].to_list() == [0, 3]


def transformer(kind: str) -> ea.Classifier:
    models = torchvision.models
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "vit":
            module = models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=3)
        else:
            module = models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=3)
    return ea.Classifier(module, ea.Preprocessing((3, 32, 32)), name=kind, device="cpu")


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_at_the_end_every_weight_is_random_whether_its_module_is_called_or_not(kind: str) -> None:
    classifier = transformer(kind)
    before = {name: parameter.clone() for name, parameter in classifier.module.named_parameters()}
    kept: list[set[str]] = []

    def looking(classifier: ea.Classifier, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        now = dict(classifier.module.named_parameters())
        kept.append({name for name in now if torch.equal(now[name], before[name])})
        return images[:, 0]

    ea.sanity(classifier, torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), [looking], steps=1)
    assert kept == [set(before), set()]


def test_a_network_s_own_tokens_come_last_and_have_a_name() -> None:
    check = ea.sanity(
        transformer("vit"), torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), ["vanilla_gradients"]
    )
    layers = list(check.layers)
    assert (layers[0], layers[-2:]) == ("heads.head", ["conv_proj", "class_token"])
    blocks = [f"encoder.layers.encoder_layer_{at}" for at in (1, 0)]
    places = [layers.index(name) for name in (*(f"{block}.self_attention" for block in blocks), "encoder")]
    assert places == sorted(places)
    assert all(check.curve["layer"].drop_nulls() != "")


def test_the_first_step_leaves_the_lower_layers_alone() -> None:
    """Only the last layer is random at step 1: the map is that of the same network with another last layer."""
    classifier, batch = small_classifier(), pixels(2)
    check = ea.sanity(classifier, batch, ["vanilla_gradients"], steps=3, seed=4)
    other = small_classifier()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in other.module[5].parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(parameter.mean() + parameter.std(unbiased=False) * drawn)
    prediction = classifier.module(classifier.preprocessing.normalise(batch)).argmax(dim=1)
    expected = []
    for network, target in ((classifier, "label"), (other, "label")):
        with Explainer(network, [MethodRequest.parse("vanilla_gradients")], target=target) as explainer:
            images = network.preprocessing.normalise(batch)
            expected.append(explainer(images, prediction, ["0", "1"]).maps[0].flatten(1).numpy())
    ranks = [stats.spearmanr(*pair).statistic for pair in zip(*expected, strict=True)]
    assert check.curve["spearman"][1] == pytest.approx(np.mean(ranks), abs=1e-4)


def test_the_model_is_restored_even_if_it_fails() -> None:
    classifier = small_classifier()
    digest = classifier.weights_digest()
    ea.sanity(classifier, pixels(2), ["gradcam"], steps=2)
    assert classifier.weights_digest() == digest
    calls = []

    def failing(classifier: ea.Classifier, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(classifier.weights_digest())
        if len(calls) > 1:
            raise KeyError
        return images[:, 0]

    with pytest.raises(ModelError, match="KeyError"):
        ea.sanity(classifier, pixels(2), [failing], steps=2)
    assert calls[1] != digest
    assert classifier.weights_digest() == digest


def test_the_same_seed_gives_the_same_curve_and_another_one_another() -> None:
    first, again, other = (
        ea.sanity(small_classifier(), pixels(2), ["vanilla_gradients"], steps=2, seed=seed).curve for seed in (0, 0, 1)
    )
    assert first.equals(again)
    assert not first.equals(other)


def test_flat_maps_have_no_correlation() -> None:
    check = ea.sanity(small_classifier(), torch.zeros(2, 3, 12, 12, dtype=torch.uint8), ["sobel"], steps=1)
    assert check.curve["spearman"].to_list() == [None, None]
    assert check.curve["n"].to_list() == [0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": torch.zeros(2, 3, 12, 12)}, "expected .* uint8"),
        ({"steps": 0}, "at least 1"),
        ({"target": "label"}, "no labels"),
        ({"methods": "gradcam"}, "expected a list"),
        ({"ids": ["a"]}, "ids: expected one for each of 2 images, got 1"),
        ({"images": torch.zeros(2, 1, 12, 12, dtype=torch.uint8)}, r"takes 3 channels, got \(2, 1, 12, 12\)"),
        ({"methods": ["gradcam", "gradcam(binarize=otsu)"]}, "expected different"),
    ],
)
def test_refused(changes: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {"images": pixels(2), "methods": ["gradcam"], **changes}
    with pytest.raises(UsageError, match=message):
        ea.sanity(small_classifier(), **settings)
