"""Saliency methods against captum, pytorch-grad-cam, and references written another way."""

from __future__ import annotations

import itertools
import math
import warnings

import captum.attr
import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn import functional as F

import explanation_alignment as ea
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.class_activation import eigencam, gradcam_plus_plus, hirescam, xgradcam
from explanation_alignment.saliency.explainer import Explainer
from explanation_alignment.saliency.passes import Explained, baseline_images, generators
from explanation_alignment.saliency.surrogates import segment_places
from saliency_networks import CLASSES, SIDE, classifier, images

CLASS_OF_EACH = [2, 0, 4]
BATCH = 3
NAMES = ["a", "b", "c"]


def explain(method: str, of: ea.Classifier | None = None, *, output: str = "logit") -> Tensor:
    with Explainer(
        of or classifier("convnet"), [MethodRequest.parse(method)], target="label", output=output
    ) as explainer:
        return explainer(images(BATCH), torch.tensor(CLASS_OF_EACH), NAMES).maps[0]


def explained(of: ea.Classifier | None = None) -> Explained:
    return Explained(of or classifier("convnet"), images(BATCH), torch.tensor(CLASS_OF_EACH), NAMES)


def network() -> nn.Module:
    return classifier("convnet").module.eval()


def black() -> Tensor:
    preprocessing = classifier("convnet").preprocessing
    values = [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
    return torch.tensor(values)[None, :, None, None].expand(BATCH, -1, SIDE, SIDE)


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """Within a share of each map's largest value."""
    assert ours.shape == theirs.shape
    scale = theirs.detach().abs().amax(dim=(1, 2), keepdim=True)
    assert (scale > 0).all()
    torch.testing.assert_close(ours / scale, (theirs.detach() / scale).float(), rtol=0, atol=tolerance)


class TestAgainstCaptum:
    def test_input_x_gradient(self) -> None:
        theirs = captum.attr.InputXGradient(network()).attribute(
            images(BATCH).requires_grad_(), torch.tensor(CLASS_OF_EACH)
        )
        assert_close(explain("input_x_gradient"), theirs.abs().sum(dim=1))
        assert_close(explain("input_x_gradient(signed=true)"), theirs.sum(dim=1))

    def test_integrated_gradients(self) -> None:
        method = captum.attr.IntegratedGradients(network())
        theirs = method.attribute(images(BATCH), black(), torch.tensor(CLASS_OF_EACH), n_steps=20)
        assert_close(explain("integrated_gradients(steps=20)"), theirs.abs().sum(dim=1))

    def test_guided_backprop(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it sets hooks
            theirs = captum.attr.GuidedBackprop(network()).attribute(
                images(BATCH).requires_grad_(), torch.tensor(CLASS_OF_EACH)
            )
        assert_close(explain("guided_backprop(signed=true)"), theirs.sum(dim=1))

    def test_guided_gradcam(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            method = captum.attr.GuidedGradCam(network(), network().conv2)
            theirs = method.attribute(
                images(BATCH).requires_grad_(), torch.tensor(CLASS_OF_EACH), interpolate_mode="bilinear"
            )
        assert_close(explain("guided_gradcam(layer=conv2)"), theirs.abs().sum(dim=1))

    def test_deeplift(self) -> None:
        """No activation function beside the max-pooling: there captum's contributions do not add up to the change."""
        plain = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 5, 3),
            nn.Tanh(),
            nn.Conv2d(5, 5, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(720, CLASSES),
        )
        of = seeded(plain)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            theirs = captum.attr.DeepLift(of.module.eval()).attribute(
                images(BATCH), black(), torch.tensor(CLASS_OF_EACH)
            )
        assert_close(explain("deeplift(signed=true)", of), theirs.sum(dim=1), 1e-3)

    def test_occlusion(self) -> None:
        covers = {"black": black(), "mean": images(BATCH).mean(dim=(2, 3), keepdim=True).expand(-1, -1, SIDE, SIDE)}
        with torch.no_grad():
            for name, cover in covers.items():
                ours = explain(f"occlusion(window=6,stride=4,baseline={name})")
                assert_close(ours, windows_by_hand(cover, 6, 4))


def windows_by_hand(cover: Tensor, window: int, stride: int) -> Tensor:
    """Every window covered, one after another; the last one of a row or column may be cut off at the edge."""
    module, total, count = network(), torch.zeros(BATCH, SIDE, SIDE), torch.zeros(SIDE, SIDE)
    starts = range(0, stride * (math.ceil((SIDE - window) / stride) + 1), stride)
    whole = module(images(BATCH))[range(BATCH), CLASS_OF_EACH]
    for top, left in itertools.product(starts, starts):
        covered = images(BATCH)
        place = (..., slice(top, top + window), slice(left, left + window))
        covered[place] = cover[place]
        total[place] += (whole - module(covered)[range(BATCH), CLASS_OF_EACH])[:, None, None]
        count[place[1:]] += 1
    return total / count


def seeded(module: nn.Module) -> ea.Classifier:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in module.parameters():
            parameter.normal_(std=1.5 / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 0.1)
    return ea.Classifier(module, classifier("convnet").preprocessing, name="seeded", device="cpu")


class TestAgainstPytorchGradCam:
    @pytest.mark.parametrize(
        ("ours", "theirs"),
        [
            ("gradcam", "GradCAM"),
            ("gradcam++", "GradCAMPlusPlus"),
            ("layercam", "LayerCAM"),
            ("hirescam", "HiResCAM"),
            ("xgradcam", "XGradCAM"),
        ],
    )
    @pytest.mark.parametrize("layer", ["act2", "act3"])
    def test_up_to_the_scaling_of_each_map(self, ours: str, theirs: str, layer: str) -> None:
        assert_affine(explain(f"{ours}(layer={layer},relu=true)"), self.theirs(theirs, layer))

    def test_eigencam_up_to_its_sign(self) -> None:
        activation = torch.randn((BATCH, 6, 5, 7), generator=torch.Generator().manual_seed(9))
        theirs = torch.from_numpy(get_2d_projection(activation.numpy()))
        for one, other in zip(eigencam(activation, centered=True), theirs, strict=True):
            torch.testing.assert_close(one, other * (1 if (one * other).sum() > 0 else -1), rtol=1e-4, atol=1e-5)
            assert one.flatten()[one.abs().argmax()] > 0

    def test_eigencam_centers_where_it_is_asked_to(self) -> None:
        kept = {}
        handle = network().act2.register_forward_hook(lambda *given: kept.update(it=given[2].detach()))
        with torch.no_grad():
            network()(images(BATCH))
        handle.remove()
        for centered in (True, False):
            cells = eigencam(kept["it"], centered=centered)[:, None]
            expected = F.interpolate(cells, size=(SIDE, SIDE), mode="bilinear")[:, 0]
            assert_close(explain(f"eigencam(layer=act2,centered={centered})"), expected)

    def theirs(self, name: str, layer: str) -> Tensor:
        targets = [ClassifierOutputTarget(place) for place in CLASS_OF_EACH]
        with getattr(pytorch_grad_cam, name)(network(), [network().get_submodule(layer)]) as method:
            for parameter in network().parameters():
                parameter.requires_grad_(True)
            maps = torch.from_numpy(method(input_tensor=images(BATCH), targets=targets))
        network().zero_grad(set_to_none=True)
        return maps


def residual(ours: Tensor, theirs: Tensor) -> float:
    """How far theirs is from a * ours + b with a > 0, as a share of its spread."""
    x, y = ours.flatten().double(), theirs.flatten().double()
    x, y = x - x.mean(), y - y.mean()
    slope = (x @ y) / (x @ x).clamp(min=1e-30)
    return float((y - slope.clamp(min=0) * x).norm() / y.norm())


def assert_affine(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.flatten(1).std(dim=1).amax() > 0
    for one, other in zip(ours, theirs, strict=True):
        if other.std() == 0:  # nothing is positive
            assert (one == 0).all()
        else:
            assert residual(one, other) < 2e-3


class TestFormulasByHand:
    def test_gradcam_plus_plus_follows_equation_19(self) -> None:
        generator = torch.Generator().manual_seed(2)
        activation = torch.rand((2, 3, 4, 4), generator=generator, dtype=torch.float64)
        gradient = torch.randn((2, 3, 4, 4), generator=generator, dtype=torch.float64)
        square, cube = gradient**2, gradient**3
        alpha = square / (2 * square + activation.sum((2, 3), keepdim=True) * cube)
        weight = (alpha * gradient.clamp(min=0)).sum((2, 3), keepdim=True)
        torch.testing.assert_close(gradcam_plus_plus(activation, gradient), (weight * activation).sum(1))

    @pytest.mark.parametrize("scale", [1e-25, 1.0])
    def test_gradcam_plus_plus_of_tiny_gradients_is_no_other_map(self, scale: float) -> None:
        generator = torch.Generator().manual_seed(2)
        activation, gradient = (torch.rand((1, 3, 4, 4), generator=generator) for _ in range(2))
        assert (gradcam_plus_plus(activation, gradient * scale) > 0).all()

    def test_eigencam_is_a_projection_on_the_first_singular_vector(self) -> None:
        for shape in ((2, 5, 3, 3), (2, 3, 6, 5)):  # fewer places than channels, and more
            activation = torch.randn(shape, generator=torch.Generator().manual_seed(4))
            for centered in (False, True):
                for ours, one in zip(eigencam(activation, centered=centered), activation, strict=True):
                    rows = one.flatten(1).T.double().numpy()
                    rows = rows - rows.mean(axis=0) if centered else rows
                    projected = rows @ np.linalg.svd(rows)[2][0]
                    projected *= np.sign(projected[np.abs(projected).argmax()])
                    np.testing.assert_allclose(ours.flatten().numpy(), projected, atol=1e-5)

    def test_eigencam_of_tiny_activations(self) -> None:
        activation = torch.rand((1, 3, 4, 4), generator=torch.Generator().manual_seed(4))
        torch.testing.assert_close(eigencam(activation * 1e-25) * 1e25, eigencam(activation), rtol=1e-4, atol=1e-5)

    def test_channels_that_sum_to_nothing_have_no_weight(self) -> None:
        activation = torch.tensor([[[[1.0, -1.0]], [[1.0, 3.0]]]])
        gradient = torch.tensor([[[[5.0, 5.0]], [[1.0, 1.0]]]])
        assert xgradcam(activation, gradient).tolist() == [[[1.0, 3.0]]]

    def test_hirescam_of_what_cancels_is_flat_and_not_rounding(self) -> None:
        activation = torch.tensor([[[[1.0, 2.0]], [[1.0, 2.0]]]])
        gradient = torch.tensor([[[[1.0, -2.0]], [[-1.0, 2.0 + 1e-6]]]])
        assert hirescam(activation, gradient).tolist() == [[[0.0, 0.0]]]
        gradient[0, 1, 0, 1] = 3
        assert hirescam(activation, gradient).tolist() == [[[0.0, 2.0]]]


class Shared(nn.Module):
    """ReLUs every way they can be called: a module used twice, in place, and as functions."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3), nn.Conv2d(6, 4, 3)
        self.fc = nn.Linear(4 * 28 * 28, CLASSES)
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.reused = nn.ReLU(inplace=way == "in place")
        self.way = way

    def relu(self, features: Tensor, place: int) -> Tensor:
        if self.way == "modules":
            return self.relus[place](features)
        if self.way == "functions":
            return (F.relu(features), torch.relu(features), features.relu())[place]
        if self.way == "functions in place":
            return (F.relu(features, inplace=True), torch.relu_(features), features.relu_())[0 if place == 0 else place]
        return self.reused(features)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv1(images)
        for place, conv in enumerate((self.conv2, self.conv3)):
            features = conv(self.relu(features, place))
        return self.fc(self.relu(features, 2).flatten(1))


class TestRectifiers:
    @pytest.mark.parametrize("method", ["guided_backprop(signed=true)", "deeplift(signed=true)"])
    @pytest.mark.parametrize("way", ["functions", "reused", "in place"])
    def test_however_a_relu_is_called_the_map_is_that_of_modules(self, method: str, way: str) -> None:
        expected = explain(method, seeded(Shared("modules")))
        assert not torch.allclose(expected, explain("integrated_gradients(steps=1,signed=true)", seeded(Shared(way))))
        assert_close(explain(method, seeded(Shared(way))), expected, 1e-5)

    @pytest.mark.parametrize("way", ["modules", "functions", "in place"])
    def test_contributions_add_up_to_the_change_of_the_output(self, way: str) -> None:
        of = seeded(Shared(way))
        with torch.no_grad():
            change = (of.module(images(BATCH)) - of.module(black()))[range(BATCH), CLASS_OF_EACH]
        torch.testing.assert_close(explain("deeplift(signed=true)", of).sum((1, 2)), change, rtol=1e-3, atol=1e-3)

    def test_overlapping_max_pooling_and_a_torchvision_resnet(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            resnet = torchvision.models.resnet18(num_classes=CLASSES)
        of = ea.Classifier(resnet, classifier("convnet").preprocessing, device="cpu")
        with torch.no_grad():
            change = (resnet.eval()(images(BATCH)) - resnet(black()))[range(BATCH), CLASS_OF_EACH]
        torch.testing.assert_close(explain("deeplift(signed=true)", of).sum((1, 2)), change, rtol=1e-2, atol=1e-3)

    def test_log_prob_is_refused(self) -> None:
        with pytest.raises(UsageError, match="deeplift explains logits"):
            explain("deeplift", output="log_prob")

    def test_a_network_without_relu_is_refused(self) -> None:
        plain = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(1800, CLASSES))
        with pytest.raises(ModelError, match="has no ReLU"):
            explain("guided_backprop", seeded(plain))


class TestNoiseAndPaths:
    def test_smoothgrad_is_the_mean_over_the_samples_own_noise(self) -> None:
        batch, module = images(BATCH), network()
        for squared in (False, True):
            mean = torch.zeros_like(batch)
            for place, stream in enumerate(generators(explained(), 5)):
                for _ in range(4):
                    spread = 0.2 * (batch[place].max() - batch[place].min())
                    noisy = batch[place] + spread * torch.randn(batch[place].shape, generator=stream)
                    noisy = noisy[None].requires_grad_()
                    gradient = torch.autograd.grad(module(noisy)[0, CLASS_OF_EACH[place]], noisy)[0][0]
                    mean[place] += (gradient**2 if squared else gradient) / 4
            method = f"smoothgrad(samples=4,noise=0.2,seed=5,squared={squared})"
            assert_close(explain(method), mean.abs().sum(dim=1))

    def test_no_noise_is_the_gradient(self) -> None:
        assert_close(explain("smoothgrad(samples=2,noise=0)"), explain("vanilla_gradients"))

    def test_gradient_shap_without_noise_tends_to_integrated_gradients(self) -> None:
        expected = explain("integrated_gradients(steps=60,signed=true)")
        few, many = (explain(f"gradient_shap(samples={n},noise=0,signed=true)") for n in (4, 400))
        error = [float((maps - expected).norm() / expected.norm()) for maps in (few, many)]
        assert error[1] < 0.1
        assert error[1] < error[0] / 4

    @pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
    def test_integrated_gradients_add_up_to_the_change(self, baseline: str) -> None:
        start, module = baseline_images(explained(), baseline), network()
        with torch.no_grad():
            change = (module(images(BATCH)) - module(start))[range(BATCH), CLASS_OF_EACH]
        ours = explain(f"integrated_gradients(steps=200,signed=true,baseline={baseline})")
        torch.testing.assert_close(ours.sum((1, 2)), change, rtol=0.02, atol=0.02)

    def test_baselines(self) -> None:
        torch.testing.assert_close(baseline_images(explained(), "black"), black())
        mean = baseline_images(explained(), "mean")
        torch.testing.assert_close(mean[:, :, 0, 0], images(BATCH).mean(dim=(2, 3)))
        blurred = baseline_images(explained(), "blur")
        assert (blurred.flatten(2).std(2) < images(BATCH).flatten(2).std(2)).all()


class TestMasks:
    def test_rise_weights_its_masks_by_the_class_s_probability(self) -> None:
        """A class that is likely only where a corner is shown has its largest values there."""

        class Corner(nn.Module):
            def forward(self, batch: Tensor) -> Tensor:
                seen = batch[:, :, :8, :8].mean(dim=(1, 2, 3))
                return torch.stack([8 * seen, torch.zeros_like(seen)], dim=1)

        of = ea.Classifier(Corner(), ea.Preprocessing((3, SIDE, SIDE)), device="cpu")
        with Explainer(of, [MethodRequest.parse("rise(masks=400,cells=4)")], target="0") as explainer:
            maps = explainer(torch.ones(2, 3, SIDE, SIDE), torch.zeros(2, dtype=torch.int64), ["a", "b"]).maps[0]
        for one in maps:
            assert one[:8, :8].mean() > one[12:, 12:].mean() + 2 * one[12:, 12:].std()
            assert 0 <= one.min() <= one.max() <= 1

    def test_scorecam_channel_by_channel(self) -> None:
        module, batch = network(), images(BATCH)
        kept = {}
        handle = module.act3.register_forward_hook(lambda *given: kept.update(it=given[2].detach()))
        with torch.no_grad():
            module(batch)
            activation = kept["it"]
            handle.remove()
            maps = []
            for place in range(BATCH):
                scores = []
                for channel in activation[place]:
                    mask = F.interpolate(channel[None, None], size=(SIDE, SIDE), mode="bilinear")[0, 0]
                    if mask.max() > mask.min():
                        mask = (mask - mask.min()) / (mask.max() - mask.min())
                    scores.append(module((batch[place] * mask)[None])[0, CLASS_OF_EACH[place]])
                weights = torch.stack(scores).softmax(0)
                cells = (weights[:, None, None] * activation[place]).sum(0).relu()
                maps.append(F.interpolate(cells[None, None], size=(SIDE, SIDE), mode="bilinear")[0, 0])
        assert_close(explain("scorecam(layer=act3)"), torch.stack(maps))


class TestSurrogates:
    def values(self, maps: Tensor, side: int) -> Tensor:
        """A value a segment of a grid, (B, side * side); they are constant in it."""
        places = segment_places(explained(), f"grid:{side}").flatten(1)
        flat = maps.flatten(1).double()
        sums = torch.zeros(BATCH, side * side, dtype=torch.float64).scatter_add_(1, places, flat)
        counts = torch.zeros_like(sums).scatter_add_(1, places, torch.ones_like(flat))
        torch.testing.assert_close((sums / counts).gather(1, places), flat, rtol=1e-4, atol=1e-6)
        return sums / counts

    def outputs(self, shown: Tensor, side: int, baseline: str = "mean") -> Tensor:
        """(B, selections) with only these segments shown."""
        cover, places = baseline_images(explained(), baseline), segment_places(explained(), f"grid:{side}")[0]
        results = []
        with torch.no_grad():
            for selection in shown:
                inputs = torch.where(selection[places], images(BATCH), cover)
                results.append(network()(inputs)[range(BATCH), CLASS_OF_EACH])
        return torch.stack(results, dim=1).double()

    def test_kernel_shap_is_exact_where_every_selection_fits(self) -> None:
        side, count = 2, 4
        every = torch.tensor(list(itertools.product((False, True), repeat=count)))
        value = {tuple(each.tolist()): out for each, out in zip(every, self.outputs(every, side).T, strict=True)}
        expected = torch.zeros(BATCH, count, dtype=torch.float64)
        for order in itertools.permutations(range(count)):  # the definition: mean marginal contribution over all orders
            shown = [False] * count
            for segment in order:
                before = value[tuple(shown)]
                shown[segment] = True
                expected[:, segment] += (value[tuple(shown)] - before) / math.factorial(count)
        ours = self.values(explain(f"kernel_shap(segments=grid:{side},samples=14)"), side)
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)

    def test_sampled_kernel_shap_adds_up_and_comes_near(self) -> None:
        ends = self.outputs(torch.tensor([[False] * 9, [True] * 9]), 3)
        exact = self.values(explain("kernel_shap(segments=grid:3,samples=510)"), 3)
        sampled = self.values(explain("kernel_shap(segments=grid:3,samples=200)"), 3)
        torch.testing.assert_close(sampled.sum(1), ends[:, 1] - ends[:, 0], rtol=1e-4, atol=1e-5)
        assert float((sampled - exact).norm() / exact.norm()) < 0.2

    def test_lime_is_scikit_learn_s_weighted_ridge(self) -> None:
        samples, side = 30, 3
        ours = self.values(explain(f"lime(segments=grid:{side},samples={samples},ridge=2,width=0.4,seed=3)"), side)
        for place, stream in enumerate(generators(explained(), 3)):
            shown = torch.randint(0, 2, (samples, side * side), generator=stream).bool()
            shown[0] = True
            outputs = self.outputs(shown, side)[place].numpy()
            cosine = np.sqrt(shown.sum(1).numpy() / side**2)
            weights = np.sqrt(np.exp(-((1 - cosine) ** 2) / 0.4**2))
            fitted = Ridge(alpha=2).fit(shown.double().numpy(), outputs, sample_weight=weights)
            np.testing.assert_allclose(ours[place].numpy(), fitted.coef_, rtol=1e-3, atol=1e-5)

    def test_superpixels(self) -> None:
        places = segment_places(explained(), "slic:12")
        assert places.shape == (BATCH, SIDE, SIDE)
        assert all(4 <= len(one.unique()) <= 30 for one in places)
        maps = explain("kernel_shap(segments=slic:6,samples=40)")
        assert maps.isfinite().all()

    @pytest.mark.parametrize("method", ["lime(segments=slic:9,samples=20)", "kernel_shap(segments=slic:9,samples=20)"])
    def test_superpixels_of_one_image_do_not_depend_on_its_neighbours(self, method: str) -> None:
        batch = images(3)
        batch[1] = 0.5  # one segment
        requests = [MethodRequest.parse(method)]
        with Explainer(classifier("convnet"), requests, target="1") as explainer:
            labels = torch.zeros(3, dtype=torch.int64)
            together = explainer(batch, labels, NAMES).maps[0]
            for place in range(3):
                alone = explainer(batch[[place]], labels[:1], [NAMES[place]]).maps[0]
                torch.testing.assert_close(alone, together[[place]], rtol=1e-3, atol=1e-5)

    def test_a_grid_finer_than_the_image_is_refused(self) -> None:
        with pytest.raises(UsageError, match="finer than the 32 x 32 pixels"):
            explain("lime(segments=grid:33)")


class TestAttention:
    def test_rollout_from_matrices_by_hand(self) -> None:
        of = classifier("vit")
        attentions = self.attentions(of.module.eval())
        flow = torch.eye(17).expand(BATCH, 17, 17)
        for attention in attentions:
            mixed = attention.mean(1) + torch.eye(17)
            flow = mixed / mixed.sum(-1, keepdim=True) @ flow
        cells = flow[:, 0, 1:].reshape(BATCH, 1, 4, 4)
        expected = F.interpolate(cells, size=(SIDE, SIDE), mode="bilinear")[:, 0]
        assert_close(explain("attention_rollout", of), expected)

    def attentions(self, module: nn.Module) -> list[Tensor]:
        """The matrices from each block's own weights: softmax of queries times keys."""
        found, handles = [], []

        def hook(attention: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            tokens = inputs[0]
            batch, count, width = tokens.shape
            heads = attention.num_heads
            query, key, _ = attention.qkv(tokens).reshape(batch, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            found.append((query @ key.transpose(-2, -1) / (width // heads) ** 0.5).softmax(-1).detach())

        for block in module.blocks:
            handles.append(block.attn.register_forward_pre_hook(hook))
        with torch.no_grad():
            module(images(BATCH))
        for handle in handles:
            handle.remove()
        return found

    @pytest.mark.parametrize("method", ["attention_rollout", "generic_attention"])
    def test_fused_and_open_attention_give_the_same_map(self, method: str) -> None:
        of = classifier("vit")
        expected = explain(method, of)
        try:
            for block in of.module.blocks:
                block.attn.fused_attn = False
            assert_close(explain(method, of), expected)
        finally:
            for block in of.module.blocks:
                block.attn.fused_attn = True

    def test_generic_attention_against_finite_differences(self) -> None:
        """One layer: relevance of a patch is the mean over heads of max(0, gradient x attention), by its definition."""
        of = classifier("vit")
        blocks = of.module.blocks
        of.module.blocks = blocks[:1]
        try:
            ours = explain("generic_attention", of)
            attention = self.attentions(of.module)[0].requires_grad_()
            block = of.module.blocks[0]
            outputs = self.with_attention(of.module.eval(), block, attention)
            objective = outputs[range(BATCH), CLASS_OF_EACH].sum()
            gradient = torch.autograd.grad(objective, attention)[0]
        finally:
            of.module.blocks = blocks
        cells = (gradient * attention).clamp(min=0).mean(1)[:, 0, 1:].reshape(BATCH, 1, 4, 4).detach()
        assert_close(ours, F.interpolate(cells, size=(SIDE, SIDE), mode="bilinear")[:, 0])

    def with_attention(self, module: nn.Module, block: nn.Module, attention: Tensor) -> Tensor:
        """The network with a block's attention matrix given."""

        def forward(tokens: Tensor, *_: object, **__: object) -> Tensor:
            batch, count, width = tokens.shape
            heads = block.attn.num_heads
            value = block.attn.qkv(tokens).reshape(batch, count, 3, heads, width // heads).permute(2, 0, 3, 1, 4)[2]
            return block.attn.proj((attention @ value).transpose(1, 2).reshape(batch, count, width))

        original = block.attn.forward
        block.attn.forward = forward
        try:
            return module(images(BATCH))
        finally:
            block.attn.forward = original

    def test_a_torchvision_transformer(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = torchvision.models.VisionTransformer(
                image_size=SIDE, patch_size=8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48, num_classes=CLASSES
            )
            nn.init.normal_(network.heads.head.weight)
        of = ea.Classifier(network, ea.Preprocessing((3, SIDE, SIDE)), device="cpu")
        for method in ("attention_rollout", "generic_attention"):
            maps = explain(method, of)
            assert (maps >= 0).all()
            assert maps.flatten(1).std(1).min() > 0


@pytest.mark.parametrize("method", ["lime(segments=slic:9)", "kernel_shap(segments=slic:9)", "xrai(steps=2)"])
def test_images_of_one_colour(method: str) -> None:
    """One segment, or none: the whole change is its, or the map is flat; nothing fails."""
    batch = torch.ones(2, 3, SIDE, SIDE)
    with Explainer(classifier("convnet"), [MethodRequest.parse(method)]) as explainer:
        maps = explainer(batch, torch.zeros(2, dtype=torch.int64), ["a", "b"]).maps[0]
    assert maps.shape == (2, SIDE, SIDE)
    assert maps.isfinite().all()
