"""Where class activation maps look, family by family: against measured facts, one small model a family."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest
import torch

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.layers import find_layer
from explanation_alignment.classifiers.load import load_classifier
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.single_pass import SinglePass


@dataclass(frozen=True)
class Fact:
    """What was measured on a model: its input and, in the order of the network, its last feature maps."""

    name: str
    size: int
    layer: str
    shape: tuple[int, int, int]
    layout: str
    prefix: int = 0
    slow: bool = False


# The deepest of the network's own stages that has a gradient at every patch, or, where the library's forward_features
# gives a map with one, that map, which lies behind the stages.
FACTS = [
    Fact("resnet10t.c3_in1k", 176, "layer4", (512, 6, 6), "NCHW"),
    Fact("convnext_zepto_rms_ols.ra4_e3600_r224_in1k", 224, "stages", (256, 7, 7), "NCHW"),
    Fact("tinynet_e.in1k", 106, "bn2", (1280, 4, 4), "NCHW"),
    Fact("mobilenetv3_small_050.lamb_in1k", 224, "blocks", (288, 7, 7), "NCHW"),
    Fact("regnetx_002.pycls_in1k", 224, "s4", (368, 7, 7), "NCHW"),
    Fact("dla46x_c.in1k", 224, "level5", (256, 7, 7), "NCHW"),
    Fact("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 224, "blocks.10", (192, 14, 14), "tokens", 1),
    Fact("deit_small_distilled_patch16_224.fb_in1k", 224, "blocks.10", (384, 14, 14), "tokens", 2, slow=True),
    Fact("eva02_tiny_patch14_336.mim_in22k_ft_in1k", 336, "norm", (192, 24, 24), "tokens", 1, slow=True),
    Fact("convit_tiny.fb_in1k", 224, "blocks.10", (192, 14, 14), "tokens", 1, slow=True),
    Fact("swin_tiny_patch4_window7_224.ms_in1k", 224, "norm", (768, 7, 7), "NHWC", slow=True),
    Fact("swinv2_cr_tiny_ns_224.sw_in1k", 224, "stages", (768, 7, 7), "NCHW", slow=True),
    Fact("mambaout_femto.in1k", 224, "stages", (288, 7, 7), "NHWC"),
    Fact("resmlp_12_224.fb_in1k", 224, "norm", (384, 14, 14), "tokens"),
    Fact("cait_xxs24_224.fb_dist_in1k", 224, "blocks", (192, 14, 14), "tokens", slow=True),
    Fact("xcit_nano_12_p16_224.fb_in1k", 224, "blocks.11", (128, 14, 14), "tokens"),
    Fact("volo_d1_224.sail_in1k", 224, "network.4", (384, 14, 14), "NHWC", slow=True),
    Fact("tnt_s_legacy_patch16_224.in1k", 224, "blocks.10[1]", (384, 14, 14), "tokens", 1, slow=True),
    Fact("coat_tiny.in1k", 224, "parallel_blocks.4[3]", (152, 7, 7), "tokens", 1, slow=True),
    Fact("coat_lite_tiny.in1k", 224, "serial_blocks4.0", (320, 7, 7), "tokens", 1),
    Fact("crossvit_tiny_240.in1k", 240, "blocks.2.blocks.1", (192, 14, 14), "tokens", 1),
    Fact("pit_ti_224.in1k", 224, "transformers.2.blocks.2", (256, 7, 7), "tokens", 1),
    Fact("levit_128s.fb_dist_in1k", 224, "stages", (384, 4, 4), "tokens"),
    Fact("twins_svt_small.in1k", 224, "norm", (512, 7, 7), "tokens", slow=True),
    Fact("mvitv2_tiny.fb_in1k", 224, "norm", (768, 7, 7), "tokens", slow=True),
    Fact("hiera_tiny_224.mae_in1k_ft_in1k", 224, "blocks.11", (768, 7, 7), "tokens", slow=True),
    Fact("sequencer2d_s.in1k", 224, "norm", (384, 16, 16), "NHWC", slow=True),
    Fact("efficientformer_l1.snap_dist_in1k", 224, "norm", (448, 7, 7), "tokens"),
    Fact("nest_tiny_jx.goog_in1k", 224, "norm", (384, 14, 14), "NHWC", slow=True),
    Fact("gcvit_xxtiny.in1k", 224, "stages", (512, 7, 7), "NCHW", slow=True),
    Fact("maxvit_rmlp_pico_rw_256.sw_in1k", 256, "norm", (256, 8, 8), "NCHW", slow=True),
    Fact("ghostnet_100.in1k", 224, "blocks", (960, 7, 7), "NCHW"),
    Fact("hrnet_w18_small.gluon_in1k", 224, "final_layer", (2048, 7, 7), "NCHW", slow=True),
    Fact("legacy_xception.tf_in1k", 299, "act4", (2048, 10, 10), "NCHW", slow=True),
    Fact("vit_base_patch16_siglip_224.webli", 224, "norm", (768, 14, 14), "tokens", slow=True),
    Fact("vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k", 256, "blocks", (512, 16, 16), "tokens", 4, slow=True),
    Fact("vgg11_bn.tv_in1k", 224, "features", (512, 7, 7), "NCHW", slow=True),
]


def random_timm(name: str) -> Classifier:
    return load_classifier(f"timm:{name}", "random", device="cpu")


@pytest.mark.parametrize(
    "fact", [pytest.param(fact, id=fact.name, marks=pytest.mark.slow if fact.slow else ()) for fact in FACTS]
)
def test_the_layer_is_the_measured_one(fact: Fact) -> None:
    classifier = random_timm(fact.name)
    assert classifier.preprocessing.input_size == (3, fact.size, fact.size)
    layer = find_layer(classifier)
    found = (layer.name, layer.shape, layer.layout, layer.prefix_tokens)
    assert found == (fact.layer, fact.shape, fact.layout, fact.prefix)
    gc.collect()


@pytest.mark.parametrize(
    "name",
    [
        "test_vit.r160_in1k",
        "test_resnet.r160_in1k",
        "test_convnext.r160_in1k",
        "test_mambaout",
        "levit_128s.fb_dist_in1k",
    ],
)
def test_a_map_lies_where_the_gradient_and_the_activation_do(name: str) -> None:
    """Grad-CAM by another way: the activation's patches are read by the network's own hook, patch by patch."""
    classifier = random_timm(name)
    layer = find_layer(classifier)
    channels, height, width = layer.shape
    images = torch.rand(2, *classifier.preprocessing.input_size, generator=torch.Generator().manual_seed(3))
    with SinglePass(classifier, [MethodRequest.parse("gradcam")]) as explainer:
        maps = explainer(images, torch.zeros(2, dtype=torch.int64)).maps[0]
    kept = {}
    hook = layer.module.register_forward_hook(lambda _module, _inputs, output: kept.update(output=output))
    with classifier.explaining() as module:
        logits = module(images.requires_grad_())
    hook.remove()
    (gradient,) = torch.autograd.grad(logits.max(dim=1).values.sum(), kept["output"])
    activation = kept["output"].detach()
    coarse, weights = torch.zeros(2, height, width), torch.zeros(2, channels)
    places = {
        (row, column): {
            "NCHW": (slice(None), slice(None), row, column),
            "NHWC": (slice(None), row, column),
            "tokens": (slice(None), layer.prefix_tokens + row * width + column),
        }[layer.layout]
        for row in range(height)
        for column in range(width)
    }
    for place in places.values():
        weights += gradient[place] / (height * width)
    for (row, column), place in places.items():
        coarse[:, row, column] = (activation[place] * weights).sum(dim=1)
    expected = torch.nn.functional.interpolate(coarse[:, None], size=maps.shape[1:], mode="bilinear")[:, 0]
    scale = expected.abs().amax()
    torch.testing.assert_close(maps / scale, expected / scale, rtol=1e-4, atol=1e-5)


def test_an_image_s_patch_moves_the_map_s_patch() -> None:
    """Rows are rows and columns columns: what changes in an image's corner changes most in the map's corner."""
    classifier = random_timm("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    layer = find_layer(classifier, "patch_embed")
    image = torch.zeros(1, 3, 224, 224)
    changed = image.clone()
    changed[:, :, 16 * 2 : 16 * 3, 16 * 5 : 16 * 6] = 1
    kept = []
    hook = layer.module.register_forward_hook(lambda _module, _inputs, output: kept.append(layer.feature_map(output)))
    with torch.no_grad(), classifier.explaining() as module:
        module(torch.cat([image, changed]))
    hook.remove()
    difference = (kept[0][0] - kept[0][1]).abs().sum(dim=0)
    assert difference.nonzero().tolist() == [[2, 5]]


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_resnet.r160_in1k"])
def test_nothing_is_left_behind(name: str) -> None:
    classifier = random_timm(name)
    module = classifier.module.train()
    for number, parameter in enumerate(module.parameters()):
        parameter.requires_grad_(number % 2 == 0)

    def state() -> list[object]:
        return [
            (path, part.training, len(part._forward_hooks), len(part._forward_pre_hooks))
            for path, part in module.named_modules()
        ] + [(path, p.requires_grad, p.grad is None, p._version) for path, p in module.named_parameters()]

    before = state()
    images = torch.rand(2, *classifier.preprocessing.input_size)
    with SinglePass(
        classifier, [MethodRequest.parse("gradcam"), MethodRequest.parse("vanilla_gradients")]
    ) as explainer:
        result = explainer(images, torch.zeros(2, dtype=torch.int64))
    assert state() == before
    assert not any(tensor.requires_grad for tensor in [result.logits, *result.maps])


def test_memory_is_flat_over_many_batches() -> None:
    """Live tensors are counted, since the process's memory moves by itself."""
    classifier = random_timm("test_vit.r160_in1k")
    images = torch.rand(1, *classifier.preprocessing.input_size)
    labels = torch.zeros(1, dtype=torch.int64)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    counts = []
    with SinglePass(
        classifier, [MethodRequest.parse("gradcam"), MethodRequest.parse("vanilla_gradients")]
    ) as explainer:
        for batch in range(41):
            explainer(images, labels)
            if batch % 20 == 0:
                counts.append(tensors())
    assert counts[1] == counts[2]


@pytest.mark.slow
def test_memory_is_flat_over_a_thousand_batches() -> None:
    import resource

    classifier = random_timm("test_resnet.r160_in1k")
    images = torch.rand(4, *classifier.preprocessing.input_size)
    labels = torch.zeros(4, dtype=torch.int64)
    with SinglePass(
        classifier, [MethodRequest.parse("gradcam"), MethodRequest.parse("vanilla_gradients")]
    ) as explainer:
        for batch in range(1000):
            explainer(images, labels)
            if batch == 200:
                early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early < 10_000  # KiB
