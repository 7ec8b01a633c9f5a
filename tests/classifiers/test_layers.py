"""Where class activation maps look: the layer that is found, the ones that are refused, and that no trace is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torchvision
from torch import nn

from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
from explanation_alignment.classifiers.layers import CamLayer, find_layer
from explanation_alignment.errors import ModelError, RunWarning, UsageError

SIZE = 8


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def classifier(module: nn.Module, size: int = SIZE, **arguments: object) -> Classifier:
    return Classifier(module, Preprocessing((3, size, size)), name="net", device="cpu", **arguments)


class Net(nn.Module):
    """Two convolutions to (B, 6, 8, 8) and (B, 4, 8, 8), then ``head``, with any further modules by name."""

    def __init__(self, head: Callable[[Net, torch.Tensor], torch.Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        for name, part in parts.items():
            self.add_module(name, part)
        self._head = head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._head(self, self.second(self.first(images).tanh()))


def net(head: Callable[[Net, torch.Tensor], torch.Tensor], **parts: nn.Module) -> Classifier:
    return classifier(Net(head, **parts))


def plain() -> Classifier:
    return net(lambda _, features: features.flatten(2).square().mean(dim=2))


def refuses(asked: Classifier, layer: str | None, *messages: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_layer(asked, layer)
    for words in (asked.name, *messages):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


class TestFound:
    def test_in_the_digit_network(self) -> None:
        network = DigitNetwork()
        layer = find_layer(Classifier(network, DIGIT_PREPROCESSING, device="cpu"))
        assert isinstance(layer, CamLayer)
        assert (layer.name, layer.shape) == ("pool", (64, 12, 12))
        assert layer.module is network.pool

    def test_in_a_resnet(self) -> None:
        network = torchvision.models.resnet18(weights=None)
        layer = find_layer(classifier(network, 64))
        assert (layer.name, layer.shape) == ("layer4", (512, 2, 2))
        assert layer.module is network.layer4

    def test_is_the_last(self) -> None:
        layer = find_layer(plain())
        assert (layer.name, layer.shape) == ("second", (4, 8, 8))

    def test_is_the_outermost_of_those_with_one_output(self) -> None:
        inner = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh())
        module = nn.Sequential(nn.Sequential(nn.Sequential(inner)), nn.Flatten(), nn.Linear(4 * SIZE * SIZE, 3))
        assert find_layer(classifier(module)).name == "0"

    def test_is_the_first_of_equals_with_one_output(self) -> None:
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.Identity(), nn.Dropout(), nn.Flatten(), nn.Linear(4 * SIZE * SIZE, 3)
        )
        assert find_layer(classifier(module)).name == "0"

    def test_has_more_than_one_patch(self) -> None:
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Flatten()
        )
        layer = find_layer(classifier(module))
        assert (layer.name, layer.shape) == ("1", (4, 8, 8))

    def test_one_row_of_patches_will_do(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 4, (SIZE, 3), padding=(0, 1)), nn.Flatten(), nn.Linear(4 * SIZE, 3))
        assert find_layer(classifier(module)).shape == (4, 1, 8)

    def test_is_the_last_whose_every_patch_is_reached(self) -> None:
        middle = net(lambda self, features: self.whole(features)[:, :, 4, 4], whole=nn.Conv2d(4, 3, 17, padding=8))
        refuses(middle, "whole", "has a gradient that reaches 1 of 64 patches")
        assert find_layer(middle).name == "second"

    def test_is_the_same_whether_a_later_module_works_in_place(self) -> None:
        def build(inplace: bool) -> Classifier:
            torch.manual_seed(0)
            return net(lambda self, features: self.relu(features).mean(dim=(2, 3)), relu=nn.ReLU(inplace=inplace))

        assert find_layer(build(inplace=True)).name == find_layer(build(inplace=False)).name

    def test_moves_no_global_generator(self) -> None:
        asked = plain()
        before = torch.get_rng_state()
        find_layer(asked)
        assert torch.equal(torch.get_rng_state(), before)


class TestNamed:
    def test_last_conv_is_the_last_registered(self) -> None:
        layer = find_layer(plain(), "last_conv")
        assert (layer.name, layer.shape) == ("second", (4, 8, 8))
        resnet = classifier(torchvision.models.resnet18(weights=None), 64)
        assert find_layer(resnet, "last_conv").name == "layer4.1.conv2"

    @pytest.mark.parametrize(("path", "channels"), [("layer2", 128), ("layer4.0.conv1", 512), ("maxpool", 64)])
    def test_path(self, path: str, channels: int) -> None:
        network = torchvision.models.resnet18(weights=None)
        layer = find_layer(classifier(network, 64), path)
        assert (layer.name, layer.shape[0]) == (path, channels)
        assert layer.module is network.get_submodule(path)

    def test_a_container_hands_on_its_last_module_s_output(self) -> None:
        network = DigitNetwork()
        assert find_layer(Classifier(network, DIGIT_PREPROCESSING, device="cpu"), "dropout1").name == "dropout1"


class Tokens(nn.Module):
    """Patches of 2 x 2 as tokens behind ``prefix`` others; one block, then the head reads ``read`` of the tokens."""

    def __init__(self, prefix: int, read: str = "first") -> None:
        super().__init__()
        self.prefix, self.read = prefix, read
        self.patch = nn.Conv2d(3, 6, 2, stride=2)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 5)
        self.first = nn.Parameter(torch.randn(1, prefix, 6))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(images).flatten(2).transpose(1, 2)
        tokens = self.norm(self.blocks(torch.cat([self.first.expand(len(images), -1, -1), tokens], dim=1)))
        return self.head(tokens[:, 0] if self.read == "first" else tokens.mean(dim=1))


class Block(nn.Module):
    """A transformer's block: its attention's parts have shapes like feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(6)
        self.qkv = nn.Linear(6, 18)
        self.proj = nn.Linear(6, 6)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(self.norm1(tokens)).chunk(3, dim=2)
        return tokens + self.proj((query @ key.transpose(1, 2)).softmax(dim=2) @ value)


class TestLayouts:
    @pytest.mark.parametrize("prefix", [1, 2, 5])
    def test_behind_the_last_block_only_the_class_token_counts(self, prefix: int) -> None:
        layer = find_layer(classifier(Tokens(prefix)))
        assert (layer.name, layer.layout, layer.prefix_tokens) == ("blocks.0", "tokens", prefix)
        assert (layer.shape, layer.grid) == ((6, 4, 4), (4, 4))

    @pytest.mark.parametrize("prefix", [0, 1])
    def test_where_all_tokens_are_read_the_last_is_taken(self, prefix: int) -> None:
        layer = find_layer(classifier(Tokens(prefix, read="all")))
        assert (layer.name, layer.prefix_tokens) == ("norm", prefix)

    def test_a_block_s_input_is_the_one_before_s_output(self) -> None:
        asked = classifier(Tokens(1))
        layer = find_layer(asked, "blocks.1:input")
        assert (layer.name, layer.side, layer.module) == ("blocks.1:input", "input", asked.module.blocks[1])
        assert layer.shape == find_layer(asked).shape

    @pytest.mark.parametrize("size", [(8, 8), (16, 8), (8, 20)])
    @pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens"])
    def test_every_layout_gives_the_same_map(self, layout: str, size: tuple[int, int]) -> None:
        class Layouts(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.patch = nn.Conv2d(3, 6, 2, stride=2)
                self.here = nn.Identity()

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                features = self.patch(images)
                if layout == "NHWC":
                    features = features.permute(0, 2, 3, 1)
                elif layout == "tokens":
                    features = torch.nn.functional.pad(features.flatten(2).transpose(1, 2), (0, 0, 3, 0))
                return self.here(features + 0).square().flatten(1).cumsum(dim=1)[:, -3:]

        network = Layouts()
        layer = find_layer(Classifier(network, Preprocessing((3, *size)), device="cpu"), "here")
        assert (layer.layout, layer.prefix_tokens) == (layout, 3 if layout == "tokens" else 0)
        images = torch.rand(2, 3, *size)
        captured = []
        network.here.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
        network(images)
        assert torch.equal(layer.feature_map(captured[0]), network.patch(images))

    @pytest.mark.parametrize("channels", [9, 16, 25, 30])  # 9, 16 and 25 would be grids of tokens
    def test_a_flattened_map_keeps_its_channels(self, channels: int) -> None:
        module = nn.Sequential(
            nn.Conv2d(3, channels, 3), nn.Flatten(2), nn.Softplus(), nn.Flatten(), nn.Linear(channels * 36, 3)
        )
        asked = classifier(module)
        layer = find_layer(asked, "2")
        assert (layer.shape, layer.layout) == ((channels, 6, 6), "NCL")
        captured = torch.rand(2, channels, 36)
        assert torch.equal(layer.feature_map(captured), captured.view(2, channels, 6, 6))
        assert find_layer(asked).shape == (channels, 6, 6)

    def test_as_many_channels_as_patches_are_taken_for_tokens(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 16, 2, stride=2), nn.Flatten(2), nn.Flatten(), nn.Linear(256, 3))
        assert find_layer(classifier(module), "1").layout == "tokens"

    def test_one_of_several_tensors(self) -> None:
        class Two(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.ones(()))

            def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
                return features * self.scale, features[:, :, ::2, ::2] * 2, 3

        two = net(lambda self, features: sum(each.mean(dim=(2, 3)) for each in self.two(features)[:2]), two=Two())
        layer = find_layer(two)
        assert (layer.name, layer.index, layer.shape) == ("two[1]", 1, (4, 4, 4))
        assert find_layer(two, "two[0]").shape == (4, 8, 8)
        assert find_layer(two, "two").name == "two[1]"
        refuses(two, "two[7]", "layer 'two[7]' with output no tensor is no feature map")

    def test_pooled_tokens_are_no_map(self) -> None:
        pooled = net(lambda self, features: self.pool(features.flatten(2)).flatten(1), pool=nn.AdaptiveAvgPool1d(1))
        assert find_layer(pooled).name == "second"

    @pytest.mark.parametrize("words", ["", "a:b", "a[", "blocks.0:input[1]x"])
    def test_words_that_are_no_layer(self, words: str) -> None:
        with pytest.raises(UsageError, match="expected a module's path"):
            find_layer(plain(), words)


class TestGiven:
    def test_by_a_function(self) -> None:
        asked = plain()
        assert find_layer(asked, lambda module: module.first).name == "first"
        assert find_layer(asked, lambda module: "first").name == "first"
        own = CamLayer("mine", asked.module.first, (6, 8, 8))
        assert find_layer(asked, lambda module: own) is own
        refuses(asked, lambda module: nn.Conv2d(3, 4, 1), "the layer given, a Conv2d, is none of its modules")

    def test_the_first_input_is_taken_unless_another_is_named(self) -> None:
        asked = plain()
        own = CamLayer("mine", asked.module.second, (6, 8, 8), side="input")
        assert find_layer(asked, lambda module: own) is own

    def test_a_function_s_layer_is_probed_too(self) -> None:
        partial = net(lambda _, features: features[:, :, :5, :3].mean(dim=(2, 3)))
        own = CamLayer("mine", partial.module.second, (4, 8, 8))
        refuses(partial, lambda module: own, "layer 'mine' has a gradient that reaches 15 of 64 patches")

    def test_by_the_classifier_itself(self) -> None:
        asked = classifier(plain().module, cam_layer="first")
        assert find_layer(asked).name == "first"
        assert find_layer(asked, "second").name == "second"

    def test_the_published_choice(self) -> None:
        asked = classifier(plain().module, paper_layer="first")
        assert find_layer(asked, "paper").name == "first"
        assert find_layer(classifier(plain().module, paper_layer="last_conv"), "paper").name == "second"
        refuses(plain(), "paper", "has no published layer")

    def test_a_published_choice_of_a_single_patch_is_kept_with_a_warning(self) -> None:
        pooled = net(
            lambda self, f: self.last(self.pool(f)).flatten(1), pool=nn.AdaptiveAvgPool2d(1), last=nn.Conv2d(4, 3, 1)
        )
        with pytest.warns(RunWarning, match="has a single patch: its maps say little"):
            layer = find_layer(pooled, "last_conv")
        assert (layer.name, layer.shape, layer.problem) == ("last", (3, 1, 1), "has a single patch")
        refuses(pooled, "last", "is no feature map")


class TestRefused:
    def test_unknown_path(self) -> None:
        refuses(plain(), "secnd", "layer 'secnd' does not exist; try second")
        refuses(plain(), "x", "layer 'x' does not exist; try ", "first", "second")

    def test_unused(self) -> None:
        unused = net(lambda _, features: features.mean(dim=(2, 3)), spare=nn.Conv2d(4, 4, 1))
        refuses(unused, "spare", "layer 'spare' is not used in the forward pass")
        refuses(unused, "last_conv", "layer 'spare' is not used in the forward pass", "second")
        assert find_layer(unused).name == "second"

    def test_no_conv(self) -> None:
        refuses(classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4))), "last_conv", "has no Conv2d")

    def test_no_feature_map_at_all(self) -> None:
        module = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4), nn.ReLU(), nn.Linear(4, 3))
        refuses(classifier(module), None, "no layer's output is a feature map", "pass layer=PATH")

    def test_called_more_than_once(self) -> None:
        reused = net(lambda self, features: self.act(self.act(features)).mean(dim=(2, 3)), act=nn.Tanh())
        refuses(reused, "act", "layer 'act' with output (4, 4, 8, 8) is called 2 times in one forward pass", "second")
        assert find_layer(reused).name == "second"

    def test_off_the_path(self) -> None:
        def head(self: Net, features: torch.Tensor) -> torch.Tensor:
            self.side(features)
            return features.mean(dim=(2, 3))

        aside = net(head, side=nn.Conv2d(4, 4, 1))
        refuses(aside, "side", "layer 'side' with output (4, 4, 8, 8) does not lead to the output", "second")
        with pytest.warns(RunWarning, match="'side' .* does not lead to the output: its maps say little"):
            assert find_layer(aside, "last_conv").problem == "does not lead to the output"
        assert find_layer(aside).name == "second"

    def test_a_single_patch(self) -> None:
        pooled = net(lambda self, features: self.pool(features).flatten(1), pool=nn.AdaptiveAvgPool2d(1))
        refuses(pooled, "pool", "(4, 4, 1, 1) is no feature map (B, C, h, w)", "with more than one patch", "second")

    def test_a_vector(self) -> None:
        vector = net(lambda self, features: self.fc(features.flatten(1)), fc=nn.Linear(4 * SIZE * SIZE, 5))
        refuses(vector, "fc", "layer 'fc' with output (4, 5) is no feature map (B, C, h, w)", "second")

    def test_a_gradient_that_is_not_finite(self) -> None:
        infinite = net(lambda _, features: (features * 0).sqrt().mean(dim=(2, 3)))
        refuses(infinite, "second", "layer 'second' with output (4, 4, 8, 8) has a gradient that is not finite")
        refuses(infinite, None, "no layer's output is a feature map", "the gradient reaches everywhere")
        here_and_there = net(lambda _, features: features.sqrt().mean(dim=(2, 3)))  # of negatives too
        refuses(here_and_there, "second", "has a gradient that is not finite")

    def test_a_gradient_that_does_not_reach_every_patch(self) -> None:
        partial = net(lambda _, features: features[:, :, :5, :3].mean(dim=(2, 3)))
        refuses(partial, "second", "has a gradient that reaches 15 of 64 patches", "leave it out to have one found")
        flat = net(lambda _, features: (features * 0).mean(dim=(2, 3)))
        refuses(flat, "second", "has a gradient that reaches 0 of 64 patches")

    @pytest.mark.parametrize("inplace", [False, True])
    def test_a_gradient_that_ends_in_a_dead_activation(self, inplace: bool) -> None:
        dead = net(lambda self, features: self.relu(features).mean(dim=(2, 3)), relu=nn.ReLU(inplace=inplace))
        nn.init.constant_(dead.module.second.bias, -100)
        refuses(dead, "second", "has a gradient that reaches 0 of 64 patches")

    def test_outputs_that_are_no_logits(self) -> None:
        refuses(net(lambda _, features: features), None, "returned (4, 4, 8, 8), expected logits of shape (4, classes)")
        refuses(net(lambda _, features: features.mean(dim=(0, 1))), None, "returned (8, 8), expected logits")
        refuses(net(lambda _, features: {"logits": features}), None, "returned dict with logits, expected logits")
        refuses(net(lambda _, features: "cat"), None, "returned str, expected logits", "Classifier(outputs=...)")

    def test_class_names_of_another_number(self) -> None:
        module = plain().module
        refuses(classifier(module, class_names=["a", "b"]), None, "has 4 outputs, its class_names are 2")

    def test_another_input_size(self) -> None:
        module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(7, 3))
        refuses(classifier(module), None, "fails on a 3x8x8 input: ")

    @pytest.mark.parametrize("error", [ValueError("wrong size"), AssertionError("wrong size"), RuntimeError()])
    def test_a_network_that_fails(self, error: Exception) -> None:
        def head(_: Net, features: torch.Tensor) -> torch.Tensor:
            raise error

        refuses(net(head), None, "fails on a 3x8x8 input")

    def test_no_gradient_at_all(self) -> None:
        detached = net(lambda _, features: features.detach().mean(dim=(2, 3)))
        refuses(detached, None, "returned logits without a gradient; take torch.no_grad and detach out of it")
        refuses(detached, "second", "returned logits without a gradient")


def traces(module: nn.Module) -> list[tuple[object, ...]]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [
        (name, part.training, *(len(getattr(part, kind)) for kind in hooks)) for name, part in module.named_modules()
    ] + [(name, part.requires_grad, part.grad is None) for name, part in module.named_parameters()]


@pytest.mark.parametrize("layer", [None, "last_conv", "first", "absent", "spare"])
@pytest.mark.parametrize("fails", [False, True])
def test_no_trace_is_left(layer: str | None, fails: bool) -> None:
    def head(_: Net, features: torch.Tensor) -> torch.Tensor:
        return features.mean(dim=(2, 3)) @ torch.zeros(9 if fails else 4, 3).add(1)

    asked = net(head, norm=nn.BatchNorm2d(4), spare=nn.Linear(2, 2))
    asked.module.train()
    asked.module.norm.eval()
    asked.module.first.bias.requires_grad_(False)
    before, state = traces(asked.module), {k: v.clone() for k, v in asked.module.state_dict().items()}
    if fails or layer in ("absent", "spare"):
        refuses(asked, layer)
    else:
        find_layer(asked, layer)
    assert traces(asked.module) == before
    for name, value in asked.module.state_dict().items():
        assert torch.equal(value, state[name])


def test_batch_norm_s_statistics_stay() -> None:
    network = torchvision.models.resnet18(weights=None).train()
    before = network.bn1.running_mean.clone()
    find_layer(classifier(network, 64))
    assert network.training
    assert torch.equal(network.bn1.running_mean, before)
