"""Layers' tensors in a forward pass: inputs and outputs, alone or among others, whatever is done to them in place."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from explanation_alignment.classifiers.capture import LayerCapture
from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
from explanation_alignment.classifiers.feature_maps import CamLayer, layout_of, replaced, tensors_in
from explanation_alignment.errors import ModelError


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Hands(nn.Module):
    """A convolution whose output goes through ``wrap``, and on after ``unwrap``; a ReLU in place follows."""

    def __init__(self, wrap: Any = lambda x: x, unwrap: Any = lambda x: x, inplace: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.hand = Call(wrap)
        self.unwrap = unwrap
        self.relu = nn.ReLU(inplace=inplace)
        self.fc = nn.Linear(4 * 64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.unwrap(self.hand(self.conv(images).tanh()))).flatten(1))


class Call(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, value: Any) -> Any:
        return self.function(value)


WRAPS = [
    (lambda x: x * 2, lambda x: x, None),
    (lambda x: (x * 2, 3), lambda x: x[0], 0),
    (lambda x: [None, x * 2], lambda x: x[1], 1),
    (lambda x: {"map": x * 2}, lambda x: x["map"], "map"),
    (lambda x: Pair(x, x * 2), lambda x: x.second, 1),
]


def run(inplace: bool, wrap: Any, unwrap: Any, layer: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = Hands(wrap, unwrap, inplace)
    classifier = Classifier(network, Preprocessing((3, 8, 8)), device="cpu")
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    module = network.get_submodule(layer.pop("path"))
    with LayerCapture(classifier, [CamLayer("it", module, (4, 8, 8), **layer)]) as capture:
        for _ in range(2):
            logits = capture.forward(images)
        tensor = capture.tensors["it"]
        (gradient,) = torch.autograd.grad(logits.square().sum(), tensor)
        return tensor.detach().clone(), gradient


@pytest.mark.parametrize(("wrap", "unwrap", "index"), WRAPS)
@pytest.mark.parametrize("at", ["hand", "relu"])
def test_is_the_same_whether_a_later_module_works_in_place(wrap: Any, unwrap: Any, index: Any, at: str) -> None:
    layer = {"path": at, "index": index} if at == "hand" else {"path": at, "side": "input", "index": 0}
    plain, inplace = (run(way, wrap, unwrap, dict(layer)) for way in (False, True))
    torch.testing.assert_close(plain, inplace, rtol=0, atol=0)
    assert bool((plain[0] < 0).any())  # the ReLU's output it is not


def test_another_s_pass_is_not_held() -> None:
    network = Hands()
    classifier = Classifier(network, Preprocessing((3, 8, 8)), device="cpu")
    with LayerCapture(classifier, [CamLayer("it", network.hand, (4, 8, 8))]) as capture:
        network(torch.rand(1, 3, 8, 8))
        network(torch.rand(1, 3, 8, 8))
        assert not capture.tensors
    assert not network.hand._forward_hooks


@pytest.mark.parametrize(("times", "words"), [(0, "is not used in the forward pass"), (2, "is called more than once")])
def test_a_layer_is_called_once(times: int, words: str) -> None:
    class Repeats(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.fc = nn.Tanh(), nn.Linear(192, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            for _ in range(times):
                images = self.act(images)
            return self.fc(images.flatten(1))

    network = Repeats()
    classifier = Classifier(network, Preprocessing((3, 8, 8)), device="cpu")
    layer = CamLayer("act", network.act, (3, 8, 8))
    with LayerCapture(classifier, [layer]) as capture, pytest.raises(ModelError, match=f"layer 'act' {words}"):
        capture.forward(torch.rand(1, 3, 8, 8))
    assert not network.act._forward_hooks


@pytest.mark.parametrize(
    "value", [(1, torch.ones(1)), [torch.ones(1)], {"a": torch.ones(1), "b": 2}, Pair(torch.ones(1), torch.ones(2))]
)
def test_replacing_leaves_the_value_alone(value: Any) -> None:
    for index, tensor in tensors_in(value):
        new = replaced(value, index, torch.zeros(3))
        assert type(new) is type(value)
        assert dict(tensors_in(new))[index].shape == (3,)
        assert dict(tensors_in(value))[index] is tensor


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((4, 96, 14, 14), (224, 224), (96, 14, 14, "NCHW", 0)),
        ((4, 14, 14, 96), (224, 224), (96, 14, 14, "NHWC", 0)),
        ((4, 8, 8, 8), (64, 64), (8, 8, 8, "NCHW", 0)),
        ((4, 16, 8, 96), (256, 128), (96, 16, 8, "NHWC", 0)),
        ((4, 12, 197, 64), (224, 224), (12, 197, 64, "NCHW", 0)),  # of no shape that is known: uncertain
        ((4, 197, 64), (224, 224), (64, 14, 14, "tokens", 1)),
        ((4, 201, 64), (224, 224), (64, 14, 14, "tokens", 5)),
        ((4, 129, 64), (256, 128), (64, 16, 8, "tokens", 1)),
        ((4, 120, 64), (250, 130), (64, 15, 8, "tokens", 0)),
        ((4, 1, 64), (224, 224), None),
        ((4, 64, 1), (224, 224), None),
        ((4, 64, 1, 1), (224, 224), None),
        ((4, 1000), (224, 224), None),
    ],
)
def test_layouts_are_read_off_shapes(shape: tuple[int, ...], size: tuple[int, int], expected: object) -> None:
    found = layout_of(shape, size)
    assert (found and (found.channels, found.height, found.width, found.layout, found.prefix_tokens)) == expected
    assert found is None or found.certain == (shape != (4, 12, 197, 64))


def test_what_the_network_says_of_its_tokens_comes_first() -> None:
    found = layout_of((4, 20, 8), (32, 32), prefix_tokens=4)
    assert found is not None
    assert (found.prefix_tokens, found.height) == (4, 4)
    assert layout_of((4, 17, 8), (32, 32), prefix_tokens=4) == layout_of((4, 17, 8), (32, 32))
