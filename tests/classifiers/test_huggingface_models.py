"""``hf:``: tiny random networks saved to a folder, and processors' settings read as the processors themselves act."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import explanation_alignment as ea
from explanation_alignment.classifiers.huggingface_models import read_processor
from explanation_alignment.classifiers.layers import find_layer
from explanation_alignment.classifiers.load import load_classifier
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.single_pass import SinglePass

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

CLASSES = {"id2label": {0: "cat", 1: "dog", 2: "owl"}, "label2id": {"cat": 0, "dog": 1, "owl": 2}}


def networks() -> dict[str, Any]:
    sizes = {"image_size": 32, **CLASSES}
    return {
        "vit": lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(
                hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=37, patch_size=8, **sizes
            )
        ),
        "resnet": lambda: transformers.ResNetForImageClassification(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], **CLASSES)
        ),
        "swin": lambda: transformers.SwinForImageClassification(
            transformers.SwinConfig(embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4, patch_size=4, **sizes)
        ),
    }


@pytest.fixture(params=["vit", "resnet", "swin"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save(networks()[request.param](), tmp_path / request.param)
    return tmp_path / request.param


def save(network: Any, folder: Path) -> None:
    network.save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


WHERE = {
    "vit": ("vit.layers.1", (24, 4, 4), "tokens", 1),
    "resnet": ("resnet[last_hidden_state]", (16, 4, 4), "NCHW", 0),
    "swin": ("swin.layernorm", (32, 4, 4), "tokens", 0),
}


class TestFolders:
    def test_a_saved_network(self, folder: Path) -> None:
        classifier = load_classifier(f"hf:{folder}", device="cpu")
        assert (classifier.name, classifier.family) == (folder.name, folder.name)
        assert classifier.class_names == ("cat", "dog", "owl")
        assert classifier.preprocessing.input_size == (3, 32, 32)
        own = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
        images = torch.rand(2, 3, 32, 32)
        with torch.no_grad(), classifier.explaining():
            torch.testing.assert_close(classifier.logits(images), own(images).logits)

    def test_its_layer_and_maps(self, folder: Path) -> None:
        classifier = load_classifier(f"hf:{folder}", device="cpu")
        layer = find_layer(classifier)
        found = (layer.name, layer.shape, layer.layout, layer.prefix_tokens)
        assert found[1:] == WHERE[folder.name][1:]
        assert found[0].split(".")[0].split("[")[0] == WHERE[folder.name][0].split(".")[0].split("[")[0]
        with SinglePass(classifier, [MethodRequest.parse("gradcam")]) as explainer:
            maps = explainer(torch.rand(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64)).maps[0]
        assert maps.shape == (2, 32, 32)
        assert bool((maps.flatten(1).amax(dim=1) > maps.flatten(1).amin(dim=1)).all())

    def test_random_weights_and_checkpoints(self, folder: Path, tmp_path: Path) -> None:
        spec = f"hf:{folder}"
        default, random = (load_classifier(spec, weights, device="cpu") for weights in ("default", "random"))
        assert random.name == f"{folder.name}.random"
        digests = {default.weights_digest(), random.weights_digest()}
        assert len(digests) == 2
        torch.save(random.module.state_dict(), tmp_path / "w.pth")
        assert load_classifier(spec, str(tmp_path / "w.pth"), device="cpu").weights_digest() in digests
        assert load_classifier(spec, "random", device="cpu").weights_digest() == random.weights_digest()

    def test_one_logit_is_a_binary_head(self, tmp_path: Path) -> None:
        config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=1)
        save(transformers.ResNetForImageClassification(config), tmp_path)
        classifier = load_classifier(f"hf:{tmp_path}", device="cpu")
        assert classifier.logits(torch.rand(2, 3, 32, 32)).shape == (2, 2)

    def test_a_multi_label_head(self, tmp_path: Path) -> None:
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], problem_type="multi_label_classification", **CLASSES
        )
        save(transformers.ResNetForImageClassification(config), tmp_path)
        assert load_classifier(f"hf:{tmp_path}", device="cpu").multi_label


class TestRefused:
    def test_no_such_folder(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(ModelError, match=r"could not be loaded .*; expected an image classifier") as caught:
            load_classifier(f"hf:{tmp_path / 'empty'}", device="cpu")
        assert "\n" not in str(caught.value)

    def test_no_preprocessing(self, tmp_path: Path) -> None:
        networks()["resnet"]().save_pretrained(tmp_path)
        with pytest.raises(ModelError, match=r"its preprocessing could not be read .*give preprocessing="):
            load_classifier(f"hf:{tmp_path}", device="cpu")
        own = ea.Preprocessing((3, 32, 32), ea.Geometry((32, 32)))
        assert load_classifier(f"hf:{tmp_path}", device="cpu", preprocessing=own).preprocessing == own

    def test_without_transformers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)  # which makes an import of it fail
        with pytest.raises(UsageError, match=r"needs transformers; install it with: .*explanation-alignment\[hf\]"):
            load_classifier("hf:any/thing")


def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 43, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((86, 62), Image.Resampling.BICUBIC)


class TestProcessors:
    @pytest.mark.parametrize(
        "settings",
        [
            {"size": {"height": 24, "width": 32}},
            {"size": {"height": 24, "width": 24}, "resample": 3, "image_mean": [0.1, 0.2, 0.3]},
            {"size": {"height": 24, "width": 24}, "do_normalize": False},
        ],
    )
    def test_a_vit_s(self, settings: dict[str, Any]) -> None:
        self.same(transformers.ViTImageProcessor(**settings))

    def same(self, processor: Any) -> None:
        preprocessing = read_processor(processor.to_dict(), "hf:x")
        theirs = processor(photo(), return_tensors="pt")["pixel_values"][0]
        pixels = np.array(preprocessing.geometry.image(photo()))
        ours = preprocessing.normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
        assert preprocessing.input_size == tuple(theirs.shape)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)  # half a byte, in units of the standard deviation

    @pytest.mark.parametrize(
        ("settings", "resize", "crop"),
        [
            ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}, 256, (224, 224)),
            (
                {
                    "size": {"shortest_edge": 224},
                    "do_center_crop": True,
                    "crop_size": {"height": 224, "width": 200},
                    "resample": 3,
                },
                224,
                (224, 200),
            ),
            ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}, 256, (224, 224)),
            (
                {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}, "crop_pct": 0.95},
                235,
                (224, 224),
            ),
            ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}, (384, 384), None),
        ],
    )
    def test_geometries(self, settings: dict[str, Any], resize: object, crop: object) -> None:
        means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        geometry = read_processor({**settings, **means}, "hf:x").geometry
        assert (geometry.resize, geometry.crop) == (resize, crop)

    def test_another_size(self) -> None:
        settings = {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224, "do_normalize": False}
        result = read_processor(settings, "hf:x", (112, 112))
        assert (result.input_size, result.geometry.resize, result.geometry.crop) == ((3, 112, 112), 128, (112, 112))

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"size": {"shortest_edge": 256}}, "leads to no fixed size"),
            ({"do_resize": False}, "leads to no fixed size"),
            ({"size": {"longest_edge": 256}}, "leads to no fixed size"),
            ({"size": {"height": 9, "width": 9}, "rescale_factor": 1 / 127.5}, "another factor than 1/255"),
            ({"size": {"height": 9, "width": 9}, "do_rescale": False}, "another factor than 1/255"),
            ({"size": {"height": 9, "width": 9}, "crop_pct": 0.9}, "crop_pct is not known here"),
            ({"size": {"height": 9, "width": 9}, "image_mean": [0.5], "image_std": [0.5]}, "no mean and std"),
        ],
    )
    def test_what_is_no_fixed_affine_map_is_refused(self, settings: dict[str, Any], words: str) -> None:
        with pytest.raises(ModelError, match=f"hf:x: .*{words}.*; give preprocessing="):
            read_processor(settings, "hf:x")
