"""A classifier around a module in hand: its normalisation, its identity, and the state it is put into and back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from explanation_alignment.classifiers.classifier import Classifier, Preprocessing, weights_digest
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
from explanation_alignment.errors import ModelError, UsageError


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


class Flattening(nn.Module):
    """Looks at its feature maps' memory, as many a script does."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 4, 3), nn.Linear(144, 2)
        self.seen: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.is_contiguous(memory_format=torch.channels_last))
        return self.head(self.features(images).view(len(images), -1))


class TestChannelsLast:
    @pytest.mark.parametrize(
        ("spec", "precision", "wanted"),
        [
            ("timm:resnet18", "fp32", True),
            ("torchvision:resnet18", "bf16", True),
            ("paper:timm/resnet18", "fp32", True),
            ("toy:faces", "fp32", True),
            ("hf:org/name", "fp32", False),
            ("file:a.py:build", "fp32", False),
            (None, "fp32", False),
        ],
    )
    def test_only_of_networks_that_are_known_to_take_it(self, spec: str | None, precision: str, wanted: bool) -> None:
        classifier = Classifier(small(), Preprocessing((3, 8, 8)), spec=spec, precision=precision, device="cpu")
        assert classifier.channels_last is wanted

    def test_numbers_are_those_of_the_other_format(self) -> None:
        images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        found = []
        for channels_last in (False, True):
            classifier = Classifier(small(), Preprocessing((3, 8, 8)), device="cpu", channels_last=channels_last)
            inputs = images.clone().requires_grad_()
            with classifier.explaining():
                logits = classifier.logits(inputs)
                (gradient,) = torch.autograd.grad(logits[:, 0].sum(), inputs)
            assert gradient.shape == images.shape
            found.append((logits.detach(), gradient))
        torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)

    def test_a_network_that_views_its_maps_is_left_alone_or_told_of(self) -> None:
        module, images = Flattening(), torch.rand(4, 3, 8, 8)
        Classifier(module, Preprocessing((3, 8, 8)), device="cpu").logits(images)
        assert module.seen == [False]
        with pytest.raises(ModelError, match=r"calls view on its feature maps; give Classifier\(channels_last=False\)"):
            Classifier(module, Preprocessing((3, 8, 8)), device="cpu", channels_last=True).logits(images)
        assert module.seen == [False, True]


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


class Returns(nn.Module):
    """A linear network on (B, 3, 8, 8) images whose output goes through a function."""

    def __init__(self, classes: int, wrap: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.fc, self.wrap = nn.Linear(192, classes), wrap

    def forward(self, images: torch.Tensor) -> object:
        return self.wrap(self.fc(images.flatten(1)))


class Named(NamedTuple):
    aux: torch.Tensor
    logits: torch.Tensor


class TestLogits:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def logits(self, classes: int, wrap: Callable[[torch.Tensor], object], **arguments: object) -> torch.Tensor:
        self.module = Returns(classes, wrap)
        return Classifier(self.module, Preprocessing((3, 8, 8)), name="net", device="cpu", **arguments).logits(
            self.images
        )

    @pytest.mark.parametrize(
        ("wrap", "arguments"),
        [
            (lambda x: x, {}),
            (lambda x: (x, x * 0), {}),
            (lambda x: [3, x, x * 0], {}),
            (lambda x: {"aux": x * 0, "logits": x}, {}),
            (lambda x: Named(x * 0, x), {}),
            (lambda x: (x * 0, x), {"outputs": 1}),
            (lambda x: {"aux": x * 0, "out": x}, {"outputs": "out"}),
        ],
    )
    def test_are_chosen_among_outputs(
        self, wrap: Callable[[torch.Tensor], object], arguments: dict[str, object]
    ) -> None:
        result = self.logits(5, wrap, **arguments)
        assert torch.equal(result, self.module.fc(self.images.flatten(1)))

    @pytest.mark.parametrize("multi_label", [False, True])
    @pytest.mark.parametrize("wrap", [lambda x: x, lambda x: x[:, 0]])
    def test_one_logit_is_two_classes(self, wrap: Callable[[torch.Tensor], object], multi_label: bool) -> None:
        images = self.images.clone().requires_grad_()
        classifier = Classifier(
            Returns(1, wrap), Preprocessing((3, 8, 8)), ("no", "yes"), device="cpu", multi_label=multi_label
        )
        logits = classifier.logits(images)
        single = classifier.module.fc(images.flatten(1))[:, 0]
        torch.testing.assert_close(classifier.probabilities(logits)[:, 1], single.sigmoid())
        torch.testing.assert_close(logits[:, 1] - logits[:, 0], single)
        for index in (0, 1):
            (gradient,) = torch.autograd.grad(logits[:, index].sum(), images, retain_graph=True)
            assert bool(gradient.any())

    def test_labels_that_do_not_exclude_each_other(self) -> None:
        classifier = Classifier(Returns(3, lambda x: x), Preprocessing((3, 8, 8)), device="cpu", multi_label=True)
        logits = torch.tensor([[0.0, 2.0, -2.0]])
        torch.testing.assert_close(classifier.probabilities(logits), 1 / (1 + torch.exp(-logits)))

    @pytest.mark.parametrize(
        ("wrap", "arguments", "words"),
        [
            (lambda x: (x,), {"outputs": 3}, r"returned tuple of \(4, 5\), without outputs=3"),
            (lambda x: {"a": x}, {"outputs": "b"}, "returned dict with a, without outputs='b'"),
            (lambda x: {"a": x}, {}, r"returned dict with a, expected logits of shape \(4, classes\); say which"),
            (lambda x: (), {}, "returned tuple of nothing, expected logits"),
            (lambda x: x[None], {}, r"returned \(1, 4, 5\), expected logits"),
            (lambda x: x, {"class_names": ["a"] * 3}, "has 5 outputs, its class_names are 3"),
        ],
    )
    def test_anything_else_is_refused(self, wrap: object, arguments: dict[str, object], words: str) -> None:
        with pytest.raises(ModelError, match=f"net .*{words}|net {words}"):
            self.logits(5, wrap, **arguments)

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("mat1 and mat2 cannot be multiplied\nmore"),
            AssertionError("Input height (8) doesn't match"),
            ValueError("mat1"),
        ],
    )
    def test_a_network_that_fails_says_on_what(self, error: Exception) -> None:
        with pytest.raises(ModelError, match=r"^net fails on a 3x8x8 input: (mat1|Input)[^\n]*$") as caught:
            self.logits(5, raising(error))
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize(
        "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), ModelError("a hook's own words")]
    )
    def test_memory_that_runs_out_and_our_own_errors_pass_as_they_are(self, error: Exception) -> None:
        with pytest.raises(type(error)) as caught:
            self.logits(5, raising(error))
        assert caught.value is error


def raising(error: Exception) -> Callable[[torch.Tensor], object]:
    def fail(_: torch.Tensor) -> object:
        raise error

    return fail
