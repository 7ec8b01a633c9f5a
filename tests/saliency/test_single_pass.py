"""Maps of one forward and one backward pass: equal to captum's, one image at a time or many, and without a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import captum.attr
import pytest
import torch
import torchvision
from torch import Tensor, nn

from explanation_alignment.classifiers.classifier import Classifier, Preprocessing
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.single_pass import PassResult, SinglePass, gradcam, vanilla_gradients

CLASSES = 10


def random_images(count: int, size: int = 28, seed: int = 0) -> Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(seed))


def spread(module: nn.Module, last: nn.Linear, images: Tensor) -> nn.Module:
    """The module in evaluation mode with its last bias moved so that these images are not all of one class."""
    with torch.no_grad():
        logits = module.eval()(images)
        last.bias -= logits.mean(dim=0)
        assert len(module(images).argmax(dim=1).unique()) > 1
    return module


def digit_network() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DigitNetwork()
    return Classifier(spread(network, network.fc2, random_images(6)), DIGIT_PREPROCESSING, device="cpu")


def resnet() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.resnet18(weights=None, num_classes=CLASSES)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):  # as if it had been trained: no neutral statistics
                nn.init.uniform_(part.running_mean, -0.1, 0.1)
                nn.init.uniform_(part.running_var, 0.5, 1.5)
    return Classifier(spread(network, network.fc, random_images(6, 64)), Preprocessing((3, 64, 64)), device="cpu")


def explain(
    classifier: Classifier, images: Tensor, *methods: str, labels: Tensor | None = None, **settings: str
) -> PassResult:
    requests = [MethodRequest.parse(method) for method in methods]
    labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    with SinglePass(classifier, requests, **settings) as explainer:
        return explainer(images, labels)


def captum_saliency(module: nn.Module, images: Tensor, target: Tensor) -> Tensor:
    return captum.attr.Saliency(module.eval()).attribute(images.clone().requires_grad_(), target).sum(dim=1)


def captum_gradcam(
    module: nn.Module, layer: nn.Module, images: Tensor, target: Tensor, *, relu: bool = False
) -> Tensor:
    method = captum.attr.LayerGradCam(module.eval(), layer)
    cam = method.attribute(images.clone(), target, relu_attributions=relu, attr_dim_summation=True)
    return captum.attr.LayerAttribution.interpolate(cam, images.shape[2:], "bilinear")[:, 0].detach()


def assert_maps_close(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-5 of each map's largest value."""
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    assert not ours.requires_grad
    scale = theirs.abs().amax(dim=(1, 2), keepdim=True)
    assert (scale > 0).any()
    scale = scale.where(scale > 0, 1)  # Grad-CAM with ReLU may be zero everywhere
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5)


class LogSoftmax(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images).log_softmax(dim=1)


NETWORKS = [
    pytest.param(digit_network, 28, "pool", id="digit network"),
    pytest.param(resnet, 64, "layer4", id="resnet18"),
]


@pytest.mark.parametrize(("build", "size", "layer"), NETWORKS)
class TestAgainstCaptum:
    def test_vanilla_gradients(self, build: Callable[[], Classifier], size: int, layer: str) -> None:
        classifier, images = build(), random_images(6, size)
        result = explain(classifier, images, "vanilla_gradients")
        with torch.no_grad():
            logits = classifier.module.eval()(images)
        torch.testing.assert_close(result.logits, logits)
        assert torch.equal(result.prediction, logits.argmax(dim=1))
        assert torch.equal(result.target, result.prediction)
        assert (result.maps[0] >= 0).all()
        assert_maps_close(result.maps[0], captum_saliency(classifier.module, images, result.target))

    @pytest.mark.parametrize("relu", [False, True])
    def test_gradcam(self, build: Callable[[], Classifier], size: int, layer: str, relu: bool) -> None:
        classifier, images = build(), random_images(6, size)
        result = explain(classifier, images, f"gradcam(relu={relu})")
        found = classifier.module.get_submodule(layer)
        expected = captum_gradcam(classifier.module, found, images, result.target, relu=relu)
        assert (expected < 0).any() or relu
        assert_maps_close(result.maps[0], expected)

    def test_gradcam_elsewhere_and_both_at_once(self, build: Callable[[], Classifier], size: int, layer: str) -> None:
        classifier, images = build(), random_images(6, size)
        other = {"pool": "conv1", "layer4": "layer2.0.bn1"}[layer]
        methods = [f"gradcam(layer={other})", "vanilla_gradients", "gradcam", f"gradcam(layer={other},relu=true)"]
        result = explain(classifier, images, *methods)
        module, inner = classifier.module, classifier.module.get_submodule(other)
        assert_maps_close(result.maps[0], captum_gradcam(module, inner, images, result.target))
        assert_maps_close(result.maps[1], captum_saliency(module, images, result.target))
        expected = captum_gradcam(module, module.get_submodule(layer), images, result.target)
        assert_maps_close(result.maps[2], expected)
        assert_maps_close(result.maps[3], captum_gradcam(module, inner, images, result.target, relu=True))

    def test_log_prob(self, build: Callable[[], Classifier], size: int, layer: str) -> None:
        classifier, images = build(), random_images(6, size)
        result = explain(classifier, images, "vanilla_gradients", "gradcam", output="log_prob")
        logit = explain(classifier, images, "vanilla_gradients", "gradcam")
        assert torch.equal(result.prediction, logit.prediction)
        torch.testing.assert_close(result.logits, logit.logits)
        wrapped = LogSoftmax(classifier.module)
        assert_maps_close(result.maps[0], captum_saliency(wrapped, images, result.target))
        found = classifier.module.get_submodule(layer)
        assert_maps_close(result.maps[1], captum_gradcam(wrapped, found, images, result.target))
        for ours, other in zip(result.maps, logit.maps, strict=True):
            assert not torch.allclose(ours, other, rtol=1e-2)

    def test_each_image_s_own_prediction_is_explained(
        self, build: Callable[[], Classifier], size: int, layer: str
    ) -> None:
        classifier, images = build(), random_images(6, size)
        for output in ("logit", "log_prob"):
            together = explain(classifier, images, "vanilla_gradients", "gradcam", output=output)
            assert len(together.prediction.unique()) > 1
            for place in range(len(images)):
                alone = explain(classifier, images[place : place + 1], "vanilla_gradients", "gradcam", output=output)
                assert alone.prediction.item() == together.prediction[place].item()
                for ours, other in zip(together.maps, alone.maps, strict=True):
                    assert_maps_close(ours[place : place + 1], other)

    def test_targets(self, build: Callable[[], Classifier], size: int, layer: str) -> None:
        classifier, images = build(), random_images(6, size)
        labels = torch.tensor([3, 1, 4, 1, 5, 9])
        found = classifier.module.get_submodule(layer)
        for target, classes in (
            ("label", labels),
            ("7", torch.full((6,), 7)),
            ("0", torch.zeros(6, dtype=torch.int64)),
        ):
            result = explain(classifier, images, "vanilla_gradients", "gradcam", labels=labels, target=target)
            assert torch.equal(result.target, classes)
            assert_maps_close(result.maps[0], captum_saliency(classifier.module, images, classes))
            assert_maps_close(result.maps[1], captum_gradcam(classifier.module, found, images, classes))


class Activated(nn.Module):
    """conv -> activation -> conv -> activation -> linear, the activations in place or not."""

    def __init__(self, inplace: bool, *, functional: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.act1, self.act2 = nn.ReLU(inplace=inplace), nn.ReLU(inplace=inplace)
        self.fc = nn.Linear(8 * 64, CLASSES)
        self._inplace, self._functional = inplace, functional

    def forward(self, images: Tensor) -> Tensor:
        features = self.bn(self.conv2(self.act1(self.conv1(images))))
        features = nn.functional.relu(features, inplace=self._inplace) if self._functional else self.act2(features)
        return self.fc(features.flatten(1))


def activated(inplace: bool, *, functional: bool = False) -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Activated(inplace, functional=functional)
    return Classifier(network, Preprocessing((3, 8, 8)), device="cpu")


class TestInPlace:
    """A later module that works in place does not change a layer's map."""

    @pytest.mark.parametrize("functional", [False, True])
    @pytest.mark.parametrize("layers", [["conv1"], ["bn"], ["conv2"], ["act1"], ["conv1", "bn", "act1"]])
    def test_maps_are_those_of_the_network_that_does_not(self, layers: Sequence[str], functional: bool) -> None:
        methods = ["vanilla_gradients", *(f"gradcam(layer={layer})" for layer in layers)]
        careful, hasty = (activated(inplace, functional=functional) for inplace in (False, True))
        requests = [MethodRequest.parse(method) for method in methods]
        with SinglePass(careful, requests) as one, SinglePass(hasty, requests) as other:
            for seed in range(3):  # batch after batch, of changing size
                images = random_images(2 + seed, 8, seed)
                expected, result = (each(images, torch.zeros(len(images), dtype=torch.int64)) for each in (one, other))
                torch.testing.assert_close(result.logits, expected.logits)
                for ours, theirs in zip(result.maps, expected.maps, strict=True):
                    assert_maps_close(ours, theirs)
                for name, ours in zip(layers, result.maps[1:], strict=True):
                    layer = careful.module.get_submodule(name)
                    assert_maps_close(ours, captum_gradcam(careful.module, layer, images, result.target))

    def test_the_layer_found_gives_the_same_map(self) -> None:
        images = random_images(3, 8)
        (ours,), (theirs,) = (explain(activated(inplace), images, "gradcam").maps for inplace in (True, False))
        assert_maps_close(ours, theirs)


class TestRefused:
    def test_output(self) -> None:
        with pytest.raises(UsageError, match="output: expected 'logit' or 'log_prob', got 'prob'"):
            SinglePass(digit_network(), [], output="prob")

    @pytest.mark.parametrize("target", ["predict", "", "-1", "1.0", "label "])
    def test_target(self, target: str) -> None:
        with pytest.raises(UsageError, match=f"target: expected 'predicted', 'label' or a class index, got {target!r}"):
            SinglePass(digit_network(), [], target=target)

    def test_a_class_that_is_not_there(self) -> None:
        classifier = digit_network()
        with pytest.raises(UsageError, match=r"target 10: DigitNetwork has classes 0\.\.9"):
            explain(classifier, random_images(2), "vanilla_gradients", target="10")

    @pytest.mark.parametrize("label", [10, -1])
    def test_a_label_that_is_no_class(self, label: int) -> None:
        with pytest.raises(UsageError, match=rf"{label}.*DigitNetwork has classes 0\.\.9"):
            explain(
                digit_network(), random_images(2), "vanilla_gradients", labels=torch.tensor([0, label]), target="label"
            )

    def test_a_layer_that_is_not_there(self) -> None:
        with pytest.raises(ModelError, match="layer 'pol' does not exist; try pool"):
            explain(digit_network(), random_images(1), "gradcam(layer=pol)")

    def test_outputs_that_are_no_logits(self) -> None:
        classifier = Classifier(nn.Conv2d(3, 4, 3), DIGIT_PREPROCESSING, name="conv", device="cpu")
        with pytest.raises(
            ModelError, match=r"conv returned \(2, 4, 26, 26\), expected logits of shape \(2, classes\)"
        ):
            explain(classifier, random_images(2), "vanilla_gradients")

    def test_a_network_without_gradients(self) -> None:
        class Frozen(DigitNetwork):
            @torch.no_grad()
            def forward(self, images: Tensor) -> Tensor:
                return super().forward(images)

        for method in ("vanilla_gradients", "gradcam"):
            with pytest.raises(ModelError, match="Frozen"):
                explain(Classifier(Frozen(), DIGIT_PREPROCESSING, device="cpu"), random_images(2), method)


class TestNoTrace:
    def traces(self, module: nn.Module) -> list[tuple[object, ...]]:
        return [
            (name, part.training, len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks))
            for name, part in module.named_modules()
        ] + [(name, part.requires_grad, part.grad is None) for name, part in module.named_parameters()]

    def network(self) -> Classifier:
        classifier = resnet()
        classifier.module.train()
        classifier.module.layer3.eval()
        classifier.module.conv1.weight.requires_grad_(False)
        return classifier

    def test_after_success(self) -> None:
        classifier = self.network()
        before, digest = self.traces(classifier.module), classifier.weights_digest()
        explain(classifier, random_images(2, 64), "vanilla_gradients", "gradcam", "gradcam(layer=layer2)")
        assert self.traces(classifier.module) == before
        assert classifier.weights_digest() == digest  # batch norm's statistics among them

    def test_while_explaining_the_module_evaluates(self) -> None:
        classifier = self.network()
        with SinglePass(classifier, [MethodRequest.parse("gradcam")]) as explainer:
            assert not any(part.training for part in classifier.module.modules())
            assert not any(parameter.requires_grad for parameter in classifier.module.parameters())
            assert {name: layer.name for name, layer in explainer.layers.items()} == {"gradcam": "layer4"}

    @pytest.mark.parametrize("methods", [["gradcam", "gradcam(layer=absent)"], ["gradcam(layer=fc)"]])
    def test_after_failing_to_enter(self, methods: list[str]) -> None:
        classifier = self.network()
        before = self.traces(classifier.module)
        with pytest.raises(ModelError):
            explain(classifier, random_images(2, 64), *methods)
        assert self.traces(classifier.module) == before

    def test_after_a_failing_batch(self) -> None:
        classifier = self.network()
        before = self.traces(classifier.module)
        with (
            pytest.raises(ModelError, match=r"fails on a 4x64x64 input: .*channels"),
            SinglePass(classifier, [MethodRequest.parse("gradcam")]) as explainer,
        ):
            explainer(torch.zeros(2, 4, 64, 64), torch.zeros(2, dtype=torch.int64))
        assert self.traces(classifier.module) == before
        result = explain(classifier, random_images(2, 64), "gradcam")
        assert result.maps[0].shape == (2, 64, 64)

    def test_the_images_are_left_alone(self) -> None:
        images = random_images(2)
        before = images.clone()
        explain(digit_network(), images, "vanilla_gradients")
        assert torch.equal(images, before)
        assert not images.requires_grad
        assert images.grad is None

    def test_works_where_gradients_are_off(self) -> None:
        classifier, images = digit_network(), random_images(2)
        expected = explain(classifier, images, "vanilla_gradients", "gradcam")
        with torch.no_grad():
            result = explain(classifier, images, "vanilla_gradients", "gradcam")
        for ours, theirs in zip(result.maps, expected.maps, strict=True):
            assert torch.equal(ours, theirs)

    def test_can_be_entered_again(self) -> None:
        classifier, images, labels = digit_network(), random_images(2), torch.zeros(2, dtype=torch.int64)
        explainer = SinglePass(classifier, [MethodRequest.parse("gradcam")])
        with explainer:
            first = explainer(images, labels).maps[0]
        with explainer:
            assert torch.equal(explainer(images, labels).maps[0], first)


def test_no_methods_only_predict() -> None:
    classifier, images = digit_network(), random_images(2)
    result = explain(classifier, images)
    assert result.maps == []
    assert torch.equal(result.prediction, result.logits.argmax(dim=1))


def test_methods_that_differ_in_binarization_share_a_map() -> None:
    result = explain(digit_network(), random_images(2), "gradcam(binarize=otsu)", "gradcam", "vanilla_gradients")
    assert len(result.maps) == 3
    assert torch.equal(result.maps[0], result.maps[1])


@pytest.mark.parametrize("output", ["logit", "log_prob"])
def test_one_forward_and_one_backward_pass(output: str) -> None:
    classifier = digit_network()
    requests = [MethodRequest.parse(text) for text in ("vanilla_gradients", "gradcam", "gradcam(layer=conv1)")]
    images, labels = random_images(3), torch.zeros(3, dtype=torch.int64)
    calls = {"forward": 0, "backward": 0}
    with SinglePass(classifier, requests, output=output) as explainer:
        explainer(images, labels)

        def count(key: str) -> None:
            calls[key] += 1

        first = classifier.module.conv1
        first.register_forward_hook(lambda *_: count("forward"))
        first.register_full_backward_hook(lambda *_: count("backward"))
        explainer(images, labels)
    assert calls == {"forward": 1, "backward": 1}


class TestByHand:
    """The two formulas on numbers small enough to follow."""

    def test_vanilla_gradients(self) -> None:
        gradient = torch.tensor([[[[1.0, -2.0]], [[-3.0, 0.0]], [[0.5, 0.25]]]])
        assert vanilla_gradients(gradient).tolist() == [[[4.5, 2.25]]]

    def test_gradcam(self) -> None:
        activation = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]]])
        gradient = torch.tensor([[[[4.0, 0.0], [0.0, 0.0]], [[-2.0, -2.0], [-2.0, -2.0]]]])  # means 1 and -2
        assert gradcam(activation, gradient, (2, 2)).tolist() == [[[-1.0, 2.0], [3.0, 4.0]]]
        assert gradcam(activation, gradient, (2, 2), relu=True).tolist() == [[[0.0, 2.0], [3.0, 4.0]]]

    def test_upsampling_is_bilinear_without_aligned_corners(self) -> None:
        activation, gradient = torch.tensor([[[[0.0, 1.0]]]]), torch.ones(1, 1, 1, 2)
        assert gradcam(activation, gradient, (1, 4)).tolist() == [[[0.0, 0.25, 0.75, 1.0]]]

    def test_relu_comes_before_upsampling(self) -> None:
        activation, gradient = torch.tensor([[[[-1.0, 1.0]]]]), torch.ones(1, 1, 1, 2)
        assert gradcam(activation, gradient, (1, 4), relu=True).tolist() == [[[0.0, 0.25, 0.75, 1.0]]]
