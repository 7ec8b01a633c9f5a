"""Every saliency method on a convolutional network, a ViT and a Swin keeps one contract."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from explanation_alignment.errors import ModelError
from explanation_alignment.saliency.base import METHODS, MethodRequest
from explanation_alignment.saliency.explainer import Explainer
from saliency_networks import CLASSES, NETWORKS, SIDE, classifier, images

#: Arguments that make a method quick enough for a test. Their numbers are no multiples of the chunk of 3 that tests
#: take, so that a chunk ends amid an image's inputs.
QUICK = {
    "integrated_gradients": "steps=7",
    "smoothgrad": "samples=4",
    "gradient_shap": "samples=4",
    "occlusion": "window=8",
    "rise": "masks=40",
    "lime": "samples=20,segments=grid:3",
    "kernel_shap": "samples=20,segments=grid:3",
    "xrai": "steps=3,algorithm=fast",
}
#: What a method cannot explain, and what it says.
REFUSED = {
    ("attention_rollout", "convnet"): "has no attention",
    ("generic_attention", "convnet"): "has no attention",
    ("attention_rollout", "swin"): "not over all patches",
    ("generic_attention", "swin"): "not over all patches",
    ("guided_backprop", "vit"): "uses GELU",
    ("guided_backprop", "swin"): "uses GELU",
    ("guided_gradcam", "vit"): "uses GELU",
    ("guided_gradcam", "swin"): "uses GELU",
    ("deeplift", "vit"): "does not hold where layers multiply or normalise",
    ("deeplift", "swin"): "does not hold where layers multiply or normalise",
}
#: Maps that are 0 by the method's own definition.
FLAT = {("hirescam", "vit"): "its layer goes into a layer norm only, to which the gradient is orthogonal"}

CASES = [(name, network) for name in METHODS for network in NETWORKS]
ALLOWED = [case for case in CASES if case not in REFUSED]
#: Without those that take seconds and differ from the same method on another network by the network alone.
QUICK_ENOUGH = [case for case in ALLOWED if case not in {("xrai", "vit"), ("xrai", "swin")}]
COUNT = 4


def request(name: str) -> MethodRequest:
    return MethodRequest.parse(f"{name}({QUICK[name]})" if name in QUICK else name)


def some(name: str) -> list[int]:
    """The images to explain: fewer by what takes half a second an image."""
    return [0, 1] if name == "xrai" else list(range(COUNT))


def explain(
    name: str,
    network: str,
    places: list[int],
    labels: list[int] | None = None,
    *,
    chunk: int = 64,
    output: str = "logit",
) -> torch.Tensor:
    """Maps of some of the same images, for their predictions or for labels given."""
    target = "predicted" if labels is None else "label"
    with Explainer(classifier(network), [request(name)], target=target, chunk=chunk, output=output) as explainer:
        given = torch.zeros(len(places), dtype=torch.int64) if labels is None else torch.tensor(labels)
        return explainer(images(COUNT)[places], given, [f"id {place}" for place in places]).maps[0]


def assert_same(ours: torch.Tensor, other: torch.Tensor) -> None:
    scale = other.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    torch.testing.assert_close(ours / scale, other / scale, rtol=0, atol=2e-4)


def test_the_images_are_of_several_classes() -> None:
    for network in NETWORKS:
        assert len(classifier(network).module.eval()(images(COUNT)).argmax(dim=1).unique()) > 1


@pytest.mark.parametrize(("name", "network"), ALLOWED)
def test_shape_values_and_sign(name: str, network: str) -> None:
    maps = explain(name, network, some(name))
    assert maps.shape == (len(some(name)), SIDE, SIDE)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert not maps.requires_grad
    if not METHODS[name].signed:
        assert (maps >= 0).all()
    spread = maps.flatten(1).amax(dim=1) - maps.flatten(1).amin(dim=1)
    assert (spread == 0).all() if (name, network) in FLAT else (spread > 0).any()


@pytest.mark.parametrize(("name", "network"), QUICK_ENOUGH)
def test_a_map_depends_on_its_sample_alone_whatever_the_batch_and_the_chunk(name: str, network: str) -> None:
    places = some(name)
    together = explain(name, network, places)
    assert_same(explain(name, network, [places[-2]]), together[[-2]])
    assert_same(explain(name, network, [places[-1], 0], chunk=3), together[[-1, 0]])


@pytest.mark.parametrize("name", [name for name, network in ALLOWED if network == "convnet"])
def test_an_image_the_network_is_not_finite_for_leaves_the_others_their_maps(name: str) -> None:
    model, batch, labels, ids = classifier("convnet"), images(3), torch.zeros(3, dtype=torch.int64), ["a", "b", "c"]
    batch[1, :, 2, 3] = bright = 50.0

    def overflow(_: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return torch.where((inputs[0] >= bright / 2).flatten(1).any(dim=1)[:, None, None, None], torch.nan, output)

    with Explainer(model, [request(name)], target="label") as explainer:
        expected = explainer(batch[[0, 2]], labels[:2], ["a", "c"]).maps[0]
        hook = model.module.conv1.register_forward_hook(overflow)
        try:
            found = explainer(batch, labels, ids).maps[0]
        finally:
            hook.remove()
    assert_same(found[[0, 2]], expected)
    if "cam" in name and name != "hirescam":  # whose sums that rounding could have left are 0
        assert not found[1].isfinite().any()


@pytest.mark.parametrize("name", ["smoothgrad", "gradient_shap"])
def test_draws_are_the_same_wherever_a_chunk_ends(name: str) -> None:
    maps = []
    for chunk in (64, 10, 1):
        with Explainer(classifier("convnet"), [MethodRequest.parse(f"{name}(samples=25)")], chunk=chunk) as explainer:
            maps.append(explainer(images(3), torch.zeros(3, dtype=torch.int64), ["a", "b", "c"]).maps[0])
    assert_same(maps[1], maps[0])
    assert_same(maps[2], maps[0])


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if entry.kind == "own"])
def test_no_more_inputs_at_once_than_a_chunk(name: str) -> None:
    network = "vit" if "attention" in name else "convnet"
    sizes: list[int] = []
    model = classifier(network)
    with Explainer(model, [request(name)], chunk=3) as explainer:
        hook = model.module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
        try:
            explainer(images(COUNT), torch.zeros(COUNT, dtype=torch.int64), ["a", "b", "c", "d"])
        finally:
            hook.remove()
    assert sizes[0] == COUNT  # the shared pass
    assert sizes[1:]
    assert max(sizes[1:]) <= 3


@pytest.mark.parametrize(("name", "network"), QUICK_ENOUGH)
def test_each_image_s_own_class_is_explained(name: str, network: str) -> None:
    places = some(name)
    classes = [0, 3, 1, 4][: len(places)]
    mixed = explain(name, network, places, classes)
    for place in places[:2]:
        assert_same(explain(name, network, [place], [classes[place]]), mixed[[place]])
    others = explain(name, network, places, [(each + 1) % CLASSES for each in classes])
    if METHODS[name].explains_class and (name, network) not in FLAT:
        assert not torch.allclose(mixed, others, rtol=1e-3)
    else:
        torch.testing.assert_close(mixed, others)


@pytest.mark.parametrize(("name", "network"), CASES)
def test_the_model_and_torch_are_as_they_were(name: str, network: str) -> None:
    model = classifier(network)
    attention, digest, traces = F.scaled_dot_product_attention, model.weights_digest(), traces_of(network)
    batch = images(COUNT)[:2]
    before = batch.clone()
    try:
        model.module.train()
        with Explainer(model, [request(name)]) as explainer:
            explainer(batch, torch.zeros(2, dtype=torch.int64), ["a", "b"])
    except ModelError:
        assert (name, network) in REFUSED
    assert all(part.training for part in model.module.modules())
    model.module.eval()
    assert F.scaled_dot_product_attention is attention
    assert torch.backends.mha.get_fastpath_enabled()
    assert model.weights_digest() == digest
    assert traces_of(network) == traces
    assert torch.equal(batch, before)
    assert not batch.requires_grad


def traces_of(network: str) -> list[object]:
    module = classifier(network).module
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    parts: list[object] = [
        (name, getattr(part, "fused_attn", None), *(len(getattr(part, hook)) for hook in hooks))
        for name, part in module.named_modules()
    ]
    return [*parts, *((name, p.requires_grad, p.grad is None) for name, p in module.named_parameters())]


@pytest.mark.parametrize(("name", "network"), sorted(REFUSED))
def test_what_cannot_be_explained_is_refused_in_words(name: str, network: str) -> None:
    with pytest.raises(ModelError, match=REFUSED[name, network]):
        explain(name, network, [0, 1])


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    for name in ("smoothgrad", "gradient_shap", "rise", "lime", "kernel_shap"):
        explain(name, "convnet", [0])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["smoothgrad", "gradient_shap", "rise", "lime", "kernel_shap"])
def test_another_seed_and_another_id_give_other_draws(name: str) -> None:
    model, batch = classifier("convnet"), images(1)
    maps = []
    for seed, sample_id in ((0, "a"), (0, "b"), (1, "a"), (0, "a")):
        asked = MethodRequest.parse(f"{name}({QUICK[name]},seed={seed})")
        with Explainer(model, [asked]) as explainer:
            maps.append(explainer(batch, torch.zeros(1, dtype=torch.int64), [sample_id]).maps[0])
    assert torch.equal(maps[0], maps[3])
    assert not torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].explains_class and name != "deeplift"])
def test_log_prob_is_explained_where_it_is_asked_for(name: str) -> None:
    network = "vit" if name == "generic_attention" else "convnet"
    logit, log_prob = (explain(name, network, [0, 1], output=output) for output in ("logit", "log_prob"))
    if name == "rise":  # weighted by the probability whatever is explained, as published
        assert torch.equal(logit, log_prob)
    else:
        assert not torch.allclose(logit, log_prob, rtol=1e-3)
