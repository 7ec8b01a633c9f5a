"""``timm:`` and ``torchvision:``: exact weights in the name, the model's own preprocessing, what can differ from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import explanation_alignment as ea
from explanation_alignment.classifiers.layers import find_layer
from explanation_alignment.classifiers.load import load_classifier
from explanation_alignment.classifiers.random_weights import wake_zero_matrices
from explanation_alignment.errors import ModelError, UnknownNameError, UsageError


def load(spec: str, weights: str = "random", **arguments: Any) -> ea.Classifier:
    return load_classifier(spec, weights, device="cpu", **arguments)


def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((332, 244), Image.Resampling.BICUBIC)


def as_input(classifier: ea.Classifier, image: Image.Image) -> torch.Tensor:
    pixels = np.array(classifier.preprocessing.geometry.image(image))
    return classifier.preprocessing.normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]


class TestPreprocessing:
    @pytest.mark.parametrize(
        "name", ["resnet10t.c3_in1k", "test_vit.r160_in1k", "tinynet_e.in1k", "lcnet_050.ra2_in1k"]
    )
    def test_is_timm_s(self, name: str) -> None:
        classifier = load(f"timm:{name}")
        transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=classifier.module))
        torch.testing.assert_close(as_input(classifier, photo()), transform(photo()), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
    def test_is_torchvision_s(self, name: str) -> None:
        classifier = load(f"torchvision:{name}")
        transform = torchvision.models.get_model_weights(name)["DEFAULT"].transforms()
        torch.testing.assert_close(as_input(classifier, photo()), transform(photo()), rtol=0, atol=1e-5)

    def test_another_input_size_keeps_the_share_of_the_image(self) -> None:
        for spec in ("timm:resnet10t", "timm:test_vit", "torchvision:resnet18"):
            own, other = load(spec), load(spec, input_size=96)
            assert other.preprocessing.input_size == (3, 96, 96)
            resize, crop = own.preprocessing.geometry.resize, own.preprocessing.geometry.crop
            assert isinstance(resize, int)
            assert isinstance(other.preprocessing.geometry.resize, int)
            assert crop is not None
            assert other.preprocessing.geometry.resize / 96 == pytest.approx(resize / crop[0], rel=0.02)
            grid = find_layer(other).grid
            assert grid[0] == grid[1] < find_layer(own).grid[0] or spec == "timm:test_vit"
            assert other.logits(as_input(other, photo())[None]).shape == (1, 1000)

    def test_can_be_given(self) -> None:
        own = ea.Preprocessing((3, 64, 64), ea.Geometry((64, 64)), (0.1, 0.2, 0.3), (1.0, 1.0, 2.0))
        for spec in ("timm:test_resnet", "torchvision:resnet18", "paper:mnist"):
            assert load(spec, preprocessing=own).preprocessing == own

    def test_sizes_that_cannot_be(self) -> None:
        with pytest.raises(UsageError, match="input_size: expected at least 1 pixel, got 0"):
            load("timm:resnet10t", input_size=0)
        with pytest.raises(UsageError, match="give one of them"):
            load("timm:resnet10t", input_size=8, preprocessing=ea.Preprocessing((3, 8, 8)))
        with pytest.raises(ModelError, match=r"timm:levit_128s cannot be built with \{'img_size': \(9, 9\)\}|fails on"):
            find_layer(load("timm:levit_128s", input_size=9))


class TestNames:
    def test_of_random_weights_are_no_pretrained_ones(self) -> None:
        assert load("timm:resnet10t").name == "resnet10t.random"
        assert load("timm:resnet10t.c3_in1k", "random:3").name == "resnet10t.random-3"
        assert load("torchvision:resnet18").name == "resnet18.random"

    def test_of_published_models_are_the_published_ones(self) -> None:
        classifier = load("paper:timm/ssl_resnet18")
        assert (classifier.name, classifier.family) == ("ssl_resnet18.random", "cnn")
        assert load("paper:timm/ssl_resnet18", name="mine").name == "mine"

    @pytest.mark.parametrize(
        ("spec", "asked", "name"),
        [
            ("timm:resnet10t", "resnet10t", "resnet10t.c3_in1k"),
            ("timm:resnet18.tv_in1k", "resnet18.tv_in1k", "resnet18.tv_in1k"),
            ("timm:tv_resnet34", "tv_resnet34", "resnet34.tv_in1k"),
            ("paper:timm/tinynet_a", "tinynet_a.in1k", "tinynet_a"),
            ("paper:timm/ssl_resnet18", "resnet18.fb_ssl_yfcc100m_ft_in1k", "ssl_resnet18"),
        ],
    )
    def test_of_timm_s_weights_have_their_tag(
        self, monkeypatch: pytest.MonkeyPatch, spec: str, asked: str, name: str
    ) -> None:
        calls = []
        create = timm.create_model

        def without_download(model_name: str, pretrained: bool = False, **settings: Any) -> nn.Module:
            calls.append((model_name, pretrained))
            return create(model_name, pretrained=False, **settings)

        monkeypatch.setattr(timm, "create_model", without_download)
        assert load(spec, "default").name == name
        assert calls == [(asked, True)]

    @pytest.mark.parametrize(
        ("spec", "name", "tag"),
        [
            ("torchvision:resnet18", "resnet18.IMAGENET1K_V1", "IMAGENET1K_V1"),
            ("torchvision:mobilenet_v2", "mobilenet_v2.IMAGENET1K_V2", "IMAGENET1K_V2"),
            ("torchvision:mobilenet_v2.IMAGENET1K_V1", "mobilenet_v2.IMAGENET1K_V1", "IMAGENET1K_V1"),
            ("paper:torchvision/resnet50", "resnet50", "IMAGENET1K_V2"),
        ],
    )
    def test_of_torchvision_s_weights_have_theirs(
        self, monkeypatch: pytest.MonkeyPatch, spec: str, name: str, tag: str
    ) -> None:
        fetched = []

        def state_dict(weights: Any, *_: object, **__: object) -> dict[str, torch.Tensor]:
            fetched.append(weights.name)
            architecture = spec.replace("paper:torchvision/", "torchvision:").partition(":")[2].partition(".")[0]
            return torchvision.models.get_model(architecture, weights=None).state_dict()

        monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", state_dict)
        assert load(spec, "default").name == name
        assert fetched == [tag]

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("timm:resnet5O", "unknown timm model 'resnet5O'; did you mean 'resnet50'"),
            ("timm:resnet50.a1_in1", "unknown weights of timm's resnet50 'a1_in1'; did you mean 'a1_in1k'"),
            ("torchvision:resnet5O", "unknown torchvision model 'resnet5O'; did you mean 'resnet50'"),
            (
                "torchvision:resnet50.V1",
                "unknown weights of torchvision's resnet50 'V1'; known: DEFAULT, IMAGENET1K_V1",
            ),
            ("paper:timm/resnet5O", "unknown published timm model 'resnet5O'; did you mean 'resnet152'"),
            ("paper:torchvision/resnet5O", "unknown published torchvision model 'resnet5O'; did you mean 'resnet50'"),
            ("paper:tim/resnet50", "unknown published classifier 'tim/resnet50'"),
        ],
    )
    def test_unknown_ones_get_the_nearest(self, spec: str, words: str) -> None:
        with pytest.raises(UnknownNameError, match=re.escape(words)):
            load(spec)

    @pytest.mark.parametrize("spec", ["paper:timm", "paper:timm/", "paper:torchvision"])
    def test_a_list_is_no_classifier(self, spec: str) -> None:
        with pytest.raises(UsageError, match=f"{spec} is a list of (195|22) classifiers; load one, such as paper:"):
            load(spec)

    def test_lists_expand(self) -> None:
        assert len(ea.expand_spec("paper:timm")) == 195
        assert ea.expand_spec("paper:timm/ssl_*18") == ("paper:timm/ssl_resnet18",)
        for spec in ("timm:resnet50", "paper:mnist", "paper:timm/resnet18", "file:paper:timm"):
            assert ea.expand_spec(spec) == (spec,)
        with pytest.raises(UnknownNameError, match="unknown published timm model 'x\\*'"):
            ea.expand_spec("paper:timm/x*")


class TestDownloads:
    @pytest.mark.parametrize("spec", ["timm:resnet10t", "torchvision:resnet18", "paper:timm/tinynet_a"])
    def test_a_failed_one_says_what_to_do(self, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
        def fails(*_: object, **__: object) -> None:
            raise OSError("no route to host\nand more")

        monkeypatch.setattr(timm, "create_model", fails)
        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fails)
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fails)
        with pytest.raises(ModelError) as caught:
            load(spec, "default")
        expected = f"{spec}: its weights could not be fetched (no route to host); give weights=PATH of a checkpoint"
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)

    def test_a_model_without_pretrained_weights(self) -> None:
        with pytest.raises(ModelError, match=r"its weights could not be fetched \(.*[Nn]o pretrained weights exist"):
            load("timm:test_mambaout", "default")


class TestRandom:
    def test_is_the_same_everywhere(self) -> None:
        torch.manual_seed(1)
        one = load("timm:test_vit").weights_digest()
        torch.manual_seed(2)
        assert load("timm:test_vit").weights_digest() == one
        assert load("timm:test_vit", "random:1").weights_digest() != one
        assert load("timm:test_vit", "random:1").weights_digest() == load("timm:test_vit", "random:1").weights_digest()

    def test_moves_no_global_generator(self) -> None:
        before = torch.get_rng_state()
        load("torchvision:resnet18")
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_head_of_zeros_is_woken_and_said(self) -> None:
        assert not bool(timm.create_model("mixer_s32_224").head.weight.any())
        classifier = load("timm:mixer_s32_224")
        assert classifier.notes == ("head.weight started at zero, drawn from N(0, 0.02)",)
        assert float(classifier.module.head.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
        assert not bool(classifier.module.head.bias.any())

    def test_only_matrices_of_zeros_are_touched(self) -> None:
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 4), nn.BatchNorm1d(4))
        nn.init.zeros_(module[1].weight)
        nn.init.zeros_(module[2].weight)
        nn.init.constant_(module[0].weight, 1e-30)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        assert wake_zero_matrices(module) == ["1.weight"]
        after = module.state_dict()
        assert [name for name in before if not torch.equal(before[name], after[name])] == ["1.weight"]


class TestCheckpoints:
    @pytest.mark.parametrize("spec", ["timm:resnet10t", "torchvision:resnet18", "paper:timm/ssl_resnet18"])
    def test_go_in(self, tmp_path: Path, spec: str) -> None:
        random = load(spec, "random:1")
        save_file(random.module.state_dict(), tmp_path / "w.safetensors")
        loaded = load(spec, str(tmp_path / "w.safetensors"))
        assert loaded.weights_digest() == random.weights_digest()
        assert "random" not in loaded.name
        assert loaded.class_names is not None

    @pytest.mark.parametrize("spec", ["timm:resnet10t", "torchvision:resnet18", "torchvision:squeezenet1_1"])
    def test_of_other_classes_make_a_head_for_them(self, tmp_path: Path, spec: str) -> None:
        name = spec.partition(":")[2]
        library = timm.create_model if spec.startswith("timm") else torchvision.models.get_model
        torch.save({"state_dict": library(name, num_classes=3).state_dict()}, tmp_path / "w.pth")
        loaded = load(spec, str(tmp_path / "w.pth"))
        assert loaded.class_names is None
        assert loaded.logits(torch.zeros(1, *loaded.preprocessing.input_size)).shape == (1, 3)

    @pytest.mark.parametrize("place", ["state_dict", "model", "model_state_dict"])
    @pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
    def test_of_wrapped_networks(self, tmp_path: Path, place: str, prefix: str) -> None:
        random = load("timm:test_resnet", "random:1")
        state = {prefix + name: value for name, value in random.module.state_dict().items()}
        torch.save({place: state, "epoch": 3}, tmp_path / "w.pth")
        assert load("timm:test_resnet", str(tmp_path / "w.pth")).weights_digest() == random.weights_digest()

    def test_that_do_not_fit_are_named(self, tmp_path: Path) -> None:
        torch.save(load("timm:resnet10t").module.state_dict(), tmp_path / "w.pth")
        with pytest.raises(ModelError, match=r"w.pth does not fit ResNet: missing conv1.weight; .* and \d+ more$"):
            load("torchvision:resnet18", str(tmp_path / "w.pth"))
