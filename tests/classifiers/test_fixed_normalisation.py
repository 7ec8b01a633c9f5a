"""Batch normalisation in evaluation: the same outputs and gradients as PyTorch's own, and no input kept."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import explanation_alignment as ea
from explanation_alignment.classifiers.fixed_normalisation import FixedNormalisation


def layer(kind: type[nn.modules.batchnorm._BatchNorm], channels: int, affine: bool = True) -> nn.Module:
    """A layer with statistics and weights of its own, in evaluation, its weights wanting no gradient."""
    generator = torch.Generator().manual_seed(channels)
    module = kind(channels, affine=affine)
    module.running_mean.copy_(torch.randn(channels, generator=generator))
    module.running_var.copy_(torch.rand(channels, generator=generator) + 0.1)
    if affine:
        nn.init.normal_(module.weight, generator=generator)
        nn.init.normal_(module.bias, generator=generator)
    return module.eval().requires_grad_(False)


def gradient(module: nn.Module, images: torch.Tensor, *, fixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    images = images.clone().requires_grad_()
    if fixed:
        with FixedNormalisation():
            output = module(images)
    else:
        output = module(images)
    weights = torch.linspace(-1, 1, output.numel()).reshape(output.shape)
    return output.detach(), torch.autograd.grad((output * weights).sum(), images)[0]


def nodes(output: torch.Tensor) -> set[str]:
    """Names of the nodes of a graph."""
    names, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None:
            names.add(type(node).__name__)
            waiting.extend(before for before, _ in node.next_functions)
    return names


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 4),
    channels=st.integers(1, 9),
    side=st.integers(0, 5),
    affine=st.booleans(),
    last=st.booleans(),
)
def test_outputs_are_the_same_bits_and_gradients_the_same(
    batch: int, channels: int, side: int, affine: bool, last: bool
) -> None:
    images = torch.randn(batch, channels, *([side, side + 1] if side else []))
    kind = nn.BatchNorm2d if side else nn.BatchNorm1d
    if side and last:
        images = images.to(memory_format=torch.channels_last)
    module = layer(kind, channels, affine)
    (usual, expected), (output, found) = (gradient(module, images, fixed=fixed) for fixed in (False, True))
    assert torch.equal(output, usual)
    assert output.stride() == usual.stride()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_the_input_is_not_kept_for_the_backward_pass() -> None:
    module, images = layer(nn.BatchNorm2d, 3), torch.randn(2, 3, 4, 4, requires_grad=True)
    kept: list[torch.Size] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), FixedNormalisation():
        module(images)
    assert kept == [torch.Size([3, 1, 1])]


@pytest.mark.parametrize("why", ["in training", "weights want gradients", "no running statistics", "nothing followed"])
def test_all_else_goes_its_usual_way(why: str) -> None:
    module = nn.BatchNorm2d(3, track_running_stats=why != "no running statistics").eval().requires_grad_(False)
    images = torch.randn(2, 3, 4, 4, requires_grad=why != "nothing followed")
    if why == "in training":
        module.train()
    if why == "weights want gradients":
        module.requires_grad_(True)
    with FixedNormalisation():
        output = module(images)
    assert "_FixedBackward" not in nodes(output)
    assert torch.equal(output, module.eval()(images)) or why == "in training"


def test_gradients_of_gradients_flow() -> None:
    module, images = layer(nn.BatchNorm2d, 2), torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    module.double()

    def fixed(values: torch.Tensor) -> torch.Tensor:
        with FixedNormalisation():
            return module(values).pow(3)

    assert torch.autograd.gradcheck(fixed, images)
    assert torch.autograd.gradgradcheck(fixed, images)


def test_vmap_and_autocast_are_served() -> None:
    module, images = layer(nn.BatchNorm2d, 2), torch.randn(5, 1, 2, 3, 3)

    def summed(values: torch.Tensor) -> torch.Tensor:
        with FixedNormalisation():
            return module(values).square().sum()

    each = torch.vmap(torch.func.grad(summed))(images)
    together = torch.func.grad(summed)(images[:, 0])
    torch.testing.assert_close(each[:, 0], together)
    halved = images[:, 0].to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16), FixedNormalisation():
        output = module(halved)
    assert output.dtype is module(halved).dtype
    assert torch.autograd.grad(output.sum(), halved)[0].dtype is torch.bfloat16


@pytest.mark.parametrize("spec", ["timm:resnet10t", "timm:mobilenetv3_small_050", "torchvision:shufflenet_v2_x0_5"])
def test_a_networks_input_gradients_are_as_without(spec: str) -> None:
    classifier = ea.load_classifier(spec, "random", "cpu")
    images = torch.rand(2, *classifier.preprocessing.input_size, generator=torch.Generator().manual_seed(0))

    def input_gradient(through: object) -> torch.Tensor:
        taken = images.clone().requires_grad_()
        with classifier.explaining() as module:
            formatted = taken.to(memory_format=torch.channels_last)
            logits = classifier.logits(taken) if through == "classifier" else module(formatted)
        assert ("_FixedBackward" in nodes(logits)) == (through == "classifier")
        return torch.autograd.grad(logits[:, 3].sum(), taken)[0]

    expected = input_gradient("module")
    scale = expected.abs().max()
    torch.testing.assert_close(input_gradient("classifier") / scale, expected / scale, rtol=0, atol=1e-5)


def test_in_place_activations_after_it_change_no_gradient() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), layer(nn.BatchNorm2d, 4), nn.ReLU(inplace=True)).requires_grad_(False)
    images = torch.randn(2, 3, 6, 6)
    (_, expected), (_, found) = (gradient(module, images, fixed=fixed) for fixed in (False, True))
    torch.testing.assert_close(found, expected)
