"""A classifier around a module in hand: its normalisation, its identity, and the state it is put into and back."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from explanation_alignment.classifiers.classifier import Classifier, Preprocessing, weights_digest
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
from explanation_alignment.errors import UsageError


def small() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 2))


class TestNormalise:
    @pytest.mark.parametrize(
        ("mean", "std"),
        [
            ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ((0.0, 0.0, 0.0), (1.0, 0.5, 1.0)),
            ((0.5, 0.0, 0.0), (1.0, 1.0, 1.0)),
        ],
    )
    def test_equals_torchvision(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        images = torch.randint(0, 256, (2, 3, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        before = images.clone()
        result = Preprocessing((3, 5, 4), mean=mean, std=std).normalise(images)
        expected = v2.functional.normalize(v2.functional.to_dtype(images, torch.float32, scale=True), mean, std)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
        assert torch.equal(images, before)

    @pytest.mark.parametrize("setting", [{"mean": (0.5,)}, {"std": (1.0, 1.0)}])
    def test_one_value_a_channel(self, setting: dict[str, tuple[float, ...]]) -> None:
        (name,) = setting
        with pytest.raises(UsageError, match=f"Preprocessing.{name}: expected 3 values"):
            Preprocessing((3, 5, 4), **setting)


class TestIdentity:
    def test_of_a_module_in_hand(self) -> None:
        classifier = Classifier(DigitNetwork(), DIGIT_PREPROCESSING, ["a"] * 10, device="cpu")
        assert classifier.name == "DigitNetwork"
        assert classifier.spec == "module:explanation_alignment.classifiers.digit_network.DigitNetwork"
        assert classifier.class_names == ("a",) * 10
        assert (classifier.family, classifier.device) == (None, torch.device("cpu"))

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda net: net[0].weight.data[0, 0, 0, 0].add_(1e-3), id="a weight"),
            pytest.param(lambda net: net[1].running_mean.add_(1), id="a statistic"),
            pytest.param(lambda net: net.double(), id="the precision"),
            pytest.param(lambda net: net.__setitem__(2, nn.Dropout(0.1)), id="a setting"),
            pytest.param(lambda net: net.append(nn.ReLU()), id="a layer without weights"),
        ],
    )
    def test_digest_changes(self, change: Callable[[nn.Module], object]) -> None:
        module = small()
        before = weights_digest(module)
        change(module)
        assert weights_digest(module) != before

    def test_digest_does_not_change_otherwise(self) -> None:
        module = small()
        digest = weights_digest(module)
        assert weights_digest(copy.deepcopy(module).eval()) == digest
        strided = copy.deepcopy(module)
        strided[4].weight.data = strided[4].weight.data.t().contiguous().t()
        assert weights_digest(strided.requires_grad_(False)) == digest


class TestExplaining:
    @pytest.mark.parametrize("fails", [False, True])
    def test_state_is_as_found(self, fails: bool) -> None:
        module = small().train()
        module[1].eval()
        module[0].bias.requires_grad_(False)

        def state() -> tuple[list[bool], list[bool]]:
            return [part.training for part in module.modules()], [p.requires_grad for p in module.parameters()]

        classifier, before = Classifier(module, Preprocessing((3, 8, 8)), device="cpu"), state()
        try:
            with classifier.explaining() as inside:
                assert inside is module
                assert not any(state()[0] + state()[1])
                assert not fails or 1 / 0
        except ZeroDivisionError:
            assert fails
        assert state() == before
