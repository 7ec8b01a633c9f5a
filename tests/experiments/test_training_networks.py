"""Networks to train: which head they get, and that what was trained can be loaded again by its spec."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import explanation_alignment as ea
from explanation_alignment.classifiers.face_network import FACE_PREPROCESSING, FaceNetwork
from explanation_alignment.classifiers.load import load_classifier
from explanation_alignment.errors import ModelError, UnknownNameError, UsageError
from explanation_alignment.experiments.training import build_network

#: timm's with its own way to exchange a head, torchvision's with a linear and with a convolutional one, and ours.
SPECS = [
    "timm:test_resnet",
    "timm:test_vit",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:squeezenet1_1",
    "toy:faces",
]


def logits(module: nn.Module, preprocessing: ea.Preprocessing) -> torch.Tensor:
    images = torch.rand(2, *preprocessing.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output: torch.Tensor = module.eval()(images)
    return output


@pytest.mark.parametrize("spec", SPECS)
def test_a_fresh_head_has_as_many_outputs_as_there_are_classes_and_loads_again(spec: str, tmp_path: Path) -> None:
    network, preprocessing = build_network(spec, "fresh", 2, "random")
    expected = logits(network, preprocessing)
    assert expected.shape == (2, 2)
    save_file(network.state_dict(), tmp_path / "trained.safetensors")
    again = load_classifier(spec, str(tmp_path / "trained.safetensors"), "cpu")
    assert torch.equal(logits(again.module, again.preprocessing), expected)
    assert again.preprocessing == preprocessing


@pytest.mark.parametrize("spec", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_the_imagenet_head_is_kept(spec: str) -> None:
    network, preprocessing = build_network(spec, "imagenet", 2, "random:3")
    assert logits(network, preprocessing).shape == (2, 1000)
    assert torch.equal(
        logits(network, preprocessing), logits(load_classifier(spec, "random:3", "cpu").module, preprocessing)
    )


def test_a_fresh_head_leaves_the_rest_of_the_weights() -> None:
    kept = load_classifier("timm:test_resnet", "random:3", "cpu").module.state_dict()
    fresh = build_network("timm:test_resnet", "fresh", 5, "random:3")[0].state_dict()
    changed = [name for name in kept if not torch.equal(kept[name], fresh[name])]
    assert set(kept) == set(fresh)
    assert changed == ["fc.weight", "fc.bias"]


def test_what_is_random_is_drawn_from_the_global_generator() -> None:
    def drawn(seed: int, weights: str) -> dict[str, torch.Tensor]:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build_network("timm:test_resnet", "fresh", 2, weights)[0].state_dict()

    def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
        names = ("conv1.0.weight", "stem.conv1.weight", "fc.weight")
        return {name for name in names if name in one and not torch.equal(one[name], other[name])}

    assert not differ(drawn(1, "random"), drawn(1, "random"))
    assert len(differ(drawn(1, "random"), drawn(2, "random"))) == 2
    assert differ(drawn(1, "random:7"), drawn(2, "random:7")) == {"fc.weight"}  # the head alone is new


def test_size_and_preprocessing_can_be_given() -> None:
    assert build_network("timm:test_vit", "fresh", 2, "random", input_size=64)[1].input_size == (3, 64, 64)
    own = ea.Preprocessing((3, 48, 48), ea.Geometry(resize=(48, 48)))
    network, preprocessing = build_network("timm:test_resnet", "fresh", 2, "random", preprocessing=own)
    assert preprocessing == own
    assert logits(network, own).shape == (2, 2)


def test_what_cannot_be_meant() -> None:
    with pytest.raises(UnknownNameError, match="unknown head 'frehs'; did you mean 'fresh'"):
        build_network("timm:test_resnet", "frehs")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="classes: expected at least 2, got 1"):
        build_network("timm:test_resnet", "fresh", 1)
    with pytest.raises(UsageError, match="toy:faces has 2 outputs and so no ImageNet head to keep; give head 'fresh'"):
        build_network("toy:faces", weights="random")
    with pytest.raises(UsageError, match="toy:faces is trained from scratch; give 'random' or a checkpoint"):
        build_network("toy:faces")


def test_without_a_network_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(ModelError, match=r"could not be fetched \(no route to host\); give weights=PATH"):
        build_network("torchvision:resnet18")


def test_a_network_without_a_head_to_exchange(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch, explanation_alignment as ea\n"
        "class Own(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.zeros(3, 7))\n"
        "    def reset_parameters(self): pass\n"
        "    def forward(self, images): return images.mean((2, 3)) @ self.weight\n"
        "def build(): return ea.Classifier(Own(), ea.Preprocessing((3, 8, 8)), device='cpu')\n"
    )
    with pytest.raises(ModelError, match=r"no head could be exchanged, it still has 7 outputs; give file:PATH\.py"):
        build_network(f"file:{tmp_path / 'own.py'}:build", "fresh")


class TestFaceNetwork:
    def test_what_it_is(self) -> None:
        classifier = load_classifier("toy:faces", "random", "cpu")
        assert isinstance(classifier.module, FaceNetwork)
        assert (classifier.name, classifier.spec, classifier.family) == ("faces", "toy:faces", "cnn")
        assert classifier.preprocessing == FACE_PREPROCESSING
        assert classifier.class_names is None
        assert classifier.weights_digest() == load_classifier("toy:faces", "random", "cpu").weights_digest()

    def test_unknown_toys(self) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown toy classifier 'facse'; did you mean 'faces'"):
            load_classifier("toy:facse", "random")

    def test_shows_the_part_of_a_face_that_the_published_crop_shows(self) -> None:
        geometry, published = FACE_PREPROCESSING.geometry, ea.Geometry(resize=256, crop=(224, 224))
        assert isinstance(geometry.resize, int)
        assert isinstance(published.resize, int)
        assert geometry.crop is not None
        assert geometry.crop[0] / geometry.resize == pytest.approx(224 / published.resize, abs=0.005)

    def test_class_activation_maps_look_at_cells_of_four_pixels(self) -> None:
        from explanation_alignment.classifiers.layers import find_layer

        assert find_layer(load_classifier("toy:faces", "random", "cpu")).grid == (16, 16)

    def test_a_cell_sees_nothing_but_what_is_around_it(self) -> None:
        network = FaceNetwork().eval()
        cells: list[torch.Tensor] = []
        network.relu4.register_forward_hook(lambda _, __, output: cells.append(output[0, :, 8, 8].sum()))
        images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        network(images)
        cells[0].backward()
        assert images.grad is not None
        rows, columns = images.grad.abs().sum((0, 1)).nonzero().T
        for seen in (rows, columns):  # the cell itself is pixels 32 to 35
            assert 32 - 7 <= seen.min() <= 32
            assert 35 <= seen.max() <= 35 + 7

    def test_the_whole_image_has_a_gradient(self) -> None:
        network = FaceNetwork().eval()
        images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        network(images)[0, 0].backward()
        assert images.grad is not None
        assert (images.grad.abs().sum(1) > 0).float().mean() > 0.9
