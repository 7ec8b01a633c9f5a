"""One geometry for image and annotation: equal to PIL and torchvision, and on the same pixels for both."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.geometry import Geometry
from explanation_alignment.sample import Boxes, Heatmap, Mask

sides = st.integers(1, 70)
INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


def random_mask(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, height, width]).random((height, width)) < 0.5


def noise(height: int, width: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """PIL's own NEAREST."""
    picture = Image.fromarray(mask.astype(np.uint8))
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST)).astype(bool)


def cropped(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Centre crop with zero padding and torchvision's documented rounding, on (H, W)."""
    top, left = max(height - values.shape[0], 0) // 2, max(width - values.shape[1], 0) // 2
    bottom, right = (max(height - values.shape[0], 0) + 1) // 2, (max(width - values.shape[1], 0) + 1) // 2
    values = np.pad(values, ((top, bottom), (left, right)))
    y, x = round((values.shape[0] - height) / 2), round((values.shape[1] - width) / 2)
    return values[y : y + height, x : x + width]


def shorter_side(height: int, width: int, side: int) -> tuple[int, int]:
    """The size after a resize of the shorter side, the longer one cut to whole pixels."""
    return (side, int(side * width / height)) if height <= width else (int(side * height / width), side)


class TestMasks:
    @settings(max_examples=300)
    @given(sides, sides, sides, sides)
    def test_squashed_as_pil_does(self, height: int, width: int, new_height: int, new_width: int) -> None:
        mask = random_mask(height, width)
        result = Geometry(resize=(new_height, new_width)).mask(mask)
        assert result.dtype == np.bool_
        assert np.array_equal(result, nearest(mask, new_height, new_width))

    @settings(max_examples=200)
    @given(sides, sides, sides)
    def test_resized_as_pil_does(self, height: int, width: int, side: int) -> None:
        mask = random_mask(height, width)
        assert np.array_equal(Geometry(resize=side).mask(mask), nearest(mask, *shorter_side(height, width, side)))

    @pytest.mark.parametrize("size", [(375, 500), (500, 333), (1024, 768), (218, 178), (512, 512), (28, 28)])
    @pytest.mark.parametrize("side", [224, 256, 235, 299])
    def test_resized_as_pil_does_at_common_sizes(self, size: tuple[int, int], side: int) -> None:
        mask = random_mask(*size)
        assert np.array_equal(Geometry(resize=side).mask(mask), nearest(mask, *shorter_side(*size, side)))

    @settings(max_examples=200)
    @given(sides, sides, sides, sides)
    def test_cropped_and_padded(self, height: int, width: int, new_height: int, new_width: int) -> None:
        mask = random_mask(height, width)
        result = Geometry(crop=(new_height, new_width)).mask(mask)
        assert np.array_equal(result, cropped(mask, new_height, new_width))

    def test_padding_is_not_annotated(self) -> None:
        result = Geometry(crop=(6, 8)).mask(np.ones((4, 4), dtype=bool))
        assert result.sum() == 16
        assert result[1:5, 2:6].all()

    def test_is_not_changed_in_place(self) -> None:
        mask = random_mask(20, 30)
        before = mask.copy()
        Geometry(resize=10, crop=(8, 8)).mask(mask)
        assert np.array_equal(mask, before)


class TestImages:
    @pytest.mark.parametrize("interpolation", INTERPOLATIONS)
    @pytest.mark.parametrize("size", [(37, 50), (50, 33), (64, 64), (20, 90)])
    def test_equals_torchvision(self, size: tuple[int, int], interpolation: str) -> None:
        image = noise(*size)
        expected = transforms.Compose(
            [transforms.Resize(32, InterpolationMode(interpolation)), transforms.CenterCrop((28, 40))]
        )(image)
        result = Geometry(resize=32, crop=(28, 40), interpolation=interpolation).image(image)
        assert result.size == (40, 28)
        assert result.tobytes() == expected.tobytes()

    @settings(max_examples=60)
    @given(sides, sides, sides, sides)
    def test_squash_equals_torchvision(self, height: int, width: int, new_height: int, new_width: int) -> None:
        image = noise(height, width)
        expected = transforms.Resize((new_height, new_width), InterpolationMode.BILINEAR)(image)
        result = Geometry(resize=(new_height, new_width)).image(image)
        assert (result.height, result.width) == (new_height, new_width)
        assert result.tobytes() == expected.tobytes()

    @settings(max_examples=60)
    @given(sides, sides, sides, sides)
    def test_crop_equals_torchvision(self, height: int, width: int, new_height: int, new_width: int) -> None:
        image = noise(height, width, "L")
        result = Geometry(crop=(new_height, new_width)).image(image)
        assert result.tobytes() == transforms.CenterCrop((new_height, new_width))(image).tobytes()
        assert np.array_equal(np.asarray(result), cropped(np.asarray(image), new_height, new_width))

    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "F", "I;16"])
    def test_keeps_the_mode(self, mode: str) -> None:
        image = noise(9, 11, "L").convert(mode) if mode == "I;16" else noise(9, 11, mode)
        result = Geometry(resize=6, crop=(8, 5)).image(image)
        assert (result.mode, result.size) == (mode, (5, 8))


GEOMETRIES = {
    "resize up": Geometry(resize=64, interpolation="nearest"),
    "resize down": Geometry(resize=21, interpolation="nearest"),
    "squash": Geometry(resize=(50, 23), interpolation="nearest"),
    "crop": Geometry(crop=(31, 27), interpolation="nearest"),
    "pad": Geometry(crop=(53, 64), interpolation="nearest"),
    "pad one side, crop the other": Geometry(crop=(61, 30), interpolation="nearest"),
    "resize and crop": Geometry(resize=57, crop=(48, 49), interpolation="nearest"),
    "squash and pad": Geometry(resize=(19, 40), crop=(33, 33), interpolation="nearest"),
    "cover": Geometry(resize=(44, 30), crop=(40, 27), interpolation="nearest", fit="cover"),
    "inside, with a border": Geometry(resize=(52, 52), crop=(52, 52), interpolation="nearest", fit="inside"),
    "inside, then crop": Geometry(resize=(60, 52), crop=(50, 44), interpolation="nearest", fit="inside"),
    "trim": Geometry(resize=40, crop=(37, 40), interpolation="nearest", trim=2),
    "trim and pad": Geometry(crop=(50, 51), interpolation="nearest", trim=1),
    "nothing": Geometry(interpolation="nearest"),
}


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
@pytest.mark.parametrize("size", [(40, 40), (36, 53), (47, 38)])
@pytest.mark.parametrize("corner", [(0, 3), (11, 17), (25, 23)])
class TestTheSamePixels:
    """A white square on black and its annotation."""

    def square(self, size: tuple[int, int], corner: tuple[int, int]) -> np.ndarray:
        mask = np.zeros(size, dtype=bool)
        mask[corner[0] : corner[0] + 11, corner[1] : corner[1] + 13] = True
        return mask

    def test_exactly_under_nearest(self, geometry: Geometry, size: tuple[int, int], corner: tuple[int, int]) -> None:
        mask = self.square(size, corner)
        image = geometry.image(Image.fromarray(np.uint8(255) * mask))
        assert np.array_equal(np.asarray(image) > 0, geometry.mask(mask))

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
    def test_up_to_the_edge_under_others(
        self, geometry: Geometry, size: tuple[int, int], corner: tuple[int, int], interpolation: str
    ) -> None:
        mask = self.square(size, corner)
        smooth = dataclasses.replace(geometry, interpolation=interpolation)
        bright = np.asarray(smooth.image(Image.fromarray(np.uint8(255) * mask).convert("RGB")))[..., 0] > 127
        result = smooth.mask(mask)
        assert result.any()
        assert not (bright & ~binary_dilation(result)).any()
        assert not (binary_erosion(result, border_value=1) & ~bright).any()


@pytest.mark.parametrize(
    ("geometry", "size", "alone"),
    [
        (Geometry(), (28, 30), True),
        (Geometry(resize=28), (28, 28), True),
        (Geometry(resize=28), (28, 30), True),
        (Geometry(resize=30), (28, 30), False),
        (Geometry(resize=28), (27, 28), False),
        (Geometry(resize=(28, 30)), (28, 30), True),
        (Geometry(resize=(28, 30)), (30, 28), False),
        (Geometry(crop=(28, 30)), (28, 30), True),
        (Geometry(crop=(28, 30)), (30, 28), False),
        (Geometry(crop=(28, 30)), (28, 31), False),
        (Geometry(crop=(28, 30)), (26, 30), False),
        (Geometry(resize=28, crop=(28, 28)), (28, 28), True),
        (Geometry(resize=28, crop=(28, 28)), (28, 29), False),
        (Geometry(resize=32, crop=(28, 28)), (28, 28), False),
        (Geometry(resize=28, interpolation="lanczos"), (28, 28), True),
    ],
)
def test_leaves_alone(geometry: Geometry, size: tuple[int, int], alone: bool) -> None:
    image, mask = noise(*size), random_mask(*size)
    result = geometry.image(image)
    unchanged = result.size == image.size and result.tobytes() == image.tobytes()
    assert geometry.leaves_alone(*size) is alone is unchanged
    assert np.array_equal(geometry.mask(mask), mask) is alone


small = st.integers(1, 12)
crops = st.none() | st.tuples(small, small)


def any_geometry(sizes: st.SearchStrategy[int], interpolations: list[str]) -> st.SearchStrategy[Geometry]:
    pairs, names = st.tuples(sizes, sizes), st.sampled_from(interpolations)
    trims = st.integers(0, 2)
    return st.one_of(
        st.builds(Geometry, st.none() | sizes | pairs, st.none() | pairs, names, trim=trims),
        st.builds(Geometry, pairs, st.none() | pairs, names, st.sampled_from(["cover", "inside"]), trim=trims),
    )


@settings(max_examples=300)
@given(any_geometry(small, INTERPOLATIONS), st.integers(5, 12), st.integers(5, 12))
def test_what_is_left_alone_stays_as_it_is(geometry: Geometry, height: int, width: int) -> None:
    image, mask = noise(height, width), random_mask(height, width)
    result, new_mask = geometry.image(image), geometry.mask(mask)
    assert new_mask.shape == (result.height, result.width)
    if geometry.leaves_alone(height, width):
        assert result.tobytes() == image.tobytes()
        assert np.array_equal(new_mask, mask)


@settings(max_examples=300)
@given(any_geometry(st.integers(1, 40), ["nearest"]), st.integers(5, 50), st.integers(5, 50), st.integers(0, 9))
def test_a_painted_square_and_its_mask_stay_on_the_same_pixels(
    geometry: Geometry, height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng([seed, height, width])
    (y0, y1), (x0, x1) = np.sort(rng.integers(0, height + 1, 2)), np.sort(rng.integers(0, width + 1, 2))
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    image = geometry.image(Image.fromarray(np.uint8(255) * mask).convert("RGB"))
    result = geometry.mask(mask)
    assert result.dtype == np.bool_
    assert np.array_equal(np.asarray(image)[..., 0] > 0, result)
    assert np.array_equal(geometry.boxes(Boxes(np.array([[x0, y0, x1, y1]]), height, width)), result)


@settings(max_examples=150)
@given(
    any_geometry(st.integers(24, 60), ["bilinear", "bicubic", "lanczos", "box", "hamming"]),
    st.integers(30, 80),
    st.integers(30, 80),
    st.integers(0, 9),
)
def test_a_smooth_square_covers_its_mask(geometry: Geometry, height: int, width: int, seed: int) -> None:
    """The thresholded image and the mask may differ by a pixel on each edge, no more."""
    rng = np.random.default_rng([seed, height, width])
    y, x = rng.integers(0, height - 20), rng.integers(0, width - 20)
    mask = np.zeros((height, width), dtype=bool)
    mask[y : y + 20, x : x + 20] = True
    bright = np.asarray(geometry.image(Image.fromarray(np.uint8(255) * mask))) > 127
    result = geometry.mask(mask)
    assume(result.any())
    rows, columns = result.any(axis=1).sum(), result.any(axis=0).sum()
    assume(min(rows, columns) > 2)
    bound = (rows - 2) * (columns - 2) / ((rows + 2) * (columns + 2))
    assert (bright & result).sum() / (bright | result).sum() >= bound


class TestHeatmaps:
    @settings(max_examples=150)
    @given(any_geometry(st.integers(8, 40), ["nearest", "lanczos"]), st.integers(20, 50), st.integers(20, 50))
    def test_stay_within_their_range_and_on_their_pixels(self, geometry: Geometry, height: int, width: int) -> None:
        strength = np.zeros((height, width), dtype=np.float32)
        strength[: height // 2] = 0.7
        result = geometry.heatmap(strength)
        assert result.dtype == np.float32
        assert result.shape == geometry.mask(strength > 0).shape
        assert result.min() >= 0
        assert result.max() <= np.float32(0.7001)
        inside = binary_erosion(geometry.mask(strength > 0), np.ones((3, 3)))
        outside = binary_erosion(geometry.mask(strength == 0), np.ones((3, 3)), border_value=1)
        assert (result[inside] > 0.349).all()
        assert (result[outside] < 0.351).all()

    @pytest.mark.parametrize("size", [(50, 37), (100, 100)])
    def test_equal_torchvision_on_tensors(self, size: tuple[int, int]) -> None:
        strength = np.random.default_rng(0).random((80, 60), dtype=np.float32)
        resized = transforms.Resize(size, InterpolationMode.BILINEAR, antialias=True)(torch.from_numpy(strength)[None])
        assert np.allclose(Geometry(resize=size).heatmap(strength), resized[0], atol=1e-5)

    def test_are_not_changed_in_place(self) -> None:
        strength = np.ones((6, 6), dtype=np.float32)
        Geometry().heatmap(strength)[:] = 0
        assert strength.all()


class TestBoxes:
    """The short way of boxes equals drawing them at the image's own size."""

    @settings(max_examples=300)
    @given(
        any_geometry(st.integers(1, 60), ["nearest"]),
        st.integers(5, 90),
        st.integers(5, 90),
        st.lists(st.lists(st.integers(-20, 110), min_size=4, max_size=4), max_size=4),
        st.sampled_from([np.int16, np.int32, np.int64]),
    )
    def test_equals_its_mask(
        self, geometry: Geometry, height: int, width: int, corners: list[list[int]], dtype: type
    ) -> None:
        boxes = Boxes(np.array(corners, dtype=dtype).reshape(-1, 4), height, width)  # also inverted and outside ones
        assert np.array_equal(geometry.boxes(boxes), geometry.mask(boxes.to_mask()))

    def test_every_edge_at_thousands_of_sizes_as_pil_does(self) -> None:
        rng = random.Random(0)
        for _ in range(3000):
            before, after = rng.randint(1, 2200), rng.randint(1, 700)
            start, end = sorted(rng.choices(range(before + 1), k=2))
            across = Geometry(resize=(1, after)).boxes(Boxes(np.array([[start, 0, end, 1]]), 1, before))
            drawn = np.zeros((1, before), dtype=bool)
            drawn[:, start:end] = True
            assert np.array_equal(across, nearest(drawn, 1, after)), (before, after, start, end)

    def test_huge_numbers_are_clipped(self) -> None:
        corners = np.array([[-(2**62), 10, 2**62, 20]])
        result = Geometry(resize=(40, 40)).boxes(Boxes(corners, 80, 80))
        assert np.argwhere(result.all(axis=1)).ravel().tolist() == [5, 6, 7, 8, 9]

    def test_annotation_takes_every_kind(self) -> None:
        geometry, mask = Geometry(resize=20, crop=(16, 18)), random_mask(31, 40)
        strength = np.random.default_rng(0).random((31, 40), dtype=np.float32)
        boxes = Boxes(np.array([[3, 4, 20, 30]]), 31, 40)
        assert np.array_equal(geometry.annotation(Mask(mask)), geometry.mask(mask))
        assert np.array_equal(geometry.annotation(Heatmap(strength)), geometry.mask(strength >= strength.max() / 2))
        assert np.array_equal(geometry.annotation(boxes), geometry.mask(boxes.to_mask()))


def tensor(image: Image.Image, geometry: Geometry, config: Mapping[str, Any]) -> torch.Tensor:
    """What the network gets: bytes under the geometry, normalised."""
    preprocessing = Preprocessing(tuple(config["input_size"]), geometry, tuple(config["mean"]), tuple(config["std"]))
    pixels = torch.from_numpy(np.array(geometry.image(image))).reshape(*geometry.crop, -1).permute(2, 0, 1)
    return preprocessing.normalise(pixels[None])[0]


@pytest.fixture
def create_transform() -> Callable[..., Callable[[Image.Image], torch.Tensor]]:
    from timm.data import create_transform

    return create_transform


class TestTimm:
    """Tensors equal those of timm's own evaluation transform, bit for bit."""

    @pytest.mark.parametrize("crop_mode", [None, "center", "squash", "border"])
    @pytest.mark.parametrize("crop_pct", [None, 0.875, 0.9, 0.95, 1.0])
    @pytest.mark.parametrize(
        ("size", "interpolation"),
        [((224, 224), "bicubic"), ((288, 288), "bilinear"), ((96, 128), "lanczos"), ((128, 96), "nearest")],
    )
    def test_settings(
        self,
        create_transform: Callable[..., Any],
        crop_mode: str | None,
        crop_pct: float | None,
        size: tuple[int, int],
        interpolation: str,
    ) -> None:
        config = {"input_size": (3, *size), "interpolation": interpolation, "crop_pct": crop_pct}
        config |= {"crop_mode": crop_mode, "mean": (0.48, 0.45, 0.41), "std": (0.22, 0.23, 0.24)}
        ours, theirs = Geometry.from_timm(config), create_transform(**config, is_training=False)
        for shape in ((149, 200), (200, 151), (130, 130), (60, 250), (400, 333)):
            image = noise(*shape)
            assert torch.equal(tensor(image, ours, config), theirs(image)), shape

    def test_border_pixels_and_grey_images(self, create_transform: Callable[..., Any]) -> None:
        config = {"input_size": (1, 96, 96), "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "border"}
        config |= {"mean": (0.3,), "std": (0.2,), "crop_border_pixels": 7}
        ours, theirs = Geometry.from_timm(config), create_transform(**config, is_training=False)
        for shape in ((100, 151), (151, 100), (20, 300)):
            image = noise(*shape, mode="L")
            assert torch.equal(tensor(image, ours, config), theirs(image)), shape

    def test_every_published_config(self, create_transform: Callable[..., Any]) -> None:
        import timm

        configs = {}
        for name in timm.list_pretrained():
            config = timm.get_pretrained_cfg(name).to_dict()
            keys = ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
            kept = {key: config[key] for key in keys if key in config}
            configs[str({**kept, "mean": None, "std": None})] = kept
        assert len(configs) > 50
        image = noise(97, 130)
        for config in configs.values():
            theirs = create_transform(**config, is_training=False)(image)
            assert torch.equal(tensor(image, Geometry.from_timm(config), config), theirs), config

    @pytest.mark.parametrize(
        ("config", "words"),
        [
            ({}, "input_size"),
            ({"input_size": (3, 8, 8), "naflex": True}, "fixed input_size"),
            ({"input_size": (3, 8, 8), "crop_mode": "centre"}, "did you mean 'center'"),
            ({"input_size": (3, 8, 8), "interpolation": "random"}, "unknown interpolation 'random'"),
        ],
    )
    def test_what_is_no_fixed_geometry(self, config: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            Geometry.from_timm(config)


class TestTorchvision:
    def test_every_published_preset(self) -> None:
        presets = {}
        for name in torchvision.models.list_models(module=torchvision.models):
            for weights in torchvision.models.get_model_weights(name):
                preset = weights.transforms()
                presets[str((preset.resize_size, preset.crop_size, preset.interpolation))] = preset
        assert len(presets) > 20
        for preset in presets.values():
            geometry = Geometry.from_torchvision(preset)
            config = {"input_size": (3, *geometry.crop), "mean": preset.mean, "std": preset.std}
            for shape in ((97, 130), (140, 99)):
                image = noise(*shape)
                assert torch.equal(tensor(image, geometry, config), preset(image)), preset

    def test_other_presets_are_refused(self) -> None:
        weights = torchvision.models.segmentation.FCN_ResNet50_Weights.DEFAULT
        with pytest.raises(UsageError, match="classification preset"):
            Geometry.from_torchvision(weights.transforms())


class TestSettings:
    def test_describe_holds_every_setting(self) -> None:
        geometry = Geometry(resize=(10, 12), crop=(8, 8), interpolation="bicubic")
        assert geometry.describe() == {"resize": (10, 12), "crop": (8, 8), "interpolation": "bicubic"}
        assert Geometry(**geometry.describe()) == geometry
        full = Geometry((10, 12), (8, 8), "bicubic", "inside", (1, 2, 3), 4)
        assert full.describe() == dataclasses.asdict(full)

    @given(any_geometry(small, INTERPOLATIONS))
    def test_described_through_json_is_the_same(self, geometry: Geometry) -> None:
        again = Geometry(**json.loads(json.dumps(geometry.describe())))
        assert again == geometry
        assert hash(again) == hash(geometry)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"interpolation": "cubic"}, "did you mean 'bicubic'"),
            ({"fit": "crop", "resize": (3, 3)}, "unknown fit 'crop'"),
            ({"fit": "inside", "resize": 3}, "goes with resize=.height, width."),
            ({"resize": 0}, "at least 1 pixel"),
            ({"crop": (3, 0)}, "at least 1 pixel"),
            ({"trim": -1}, "no negative trim"),
        ],
    )
    def test_without_meaning(self, given: dict[str, Any], words: str) -> None:
        with pytest.raises(UsageError, match=words) as caught:
            Geometry(**given)
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value, UnknownNameError) == ("unknown" in str(caught.value))

    def test_an_image_smaller_than_the_trim(self) -> None:
        for apply in (lambda: Geometry(trim=4).image(noise(8, 20)), lambda: Geometry(trim=4).mask(random_mask(8, 20))):
            with pytest.raises(UsageError, match="8 x 20 pixels has nothing left after trimming 4"):
                apply()

    def test_padding_has_its_color(self) -> None:
        result = np.asarray(Geometry(crop=(6, 5), fill=(9, 8, 7)).image(noise(4, 8)))
        assert result[0].tolist() == result[5].tolist() == [[9, 8, 7]] * 5
        assert np.array_equal(result[1:5], np.asarray(noise(4, 8))[:, 2:7])
        assert Geometry(crop=(6, 5), fill=(9,)).image(noise(4, 8)).getpixel((0, 0)) == (9, 9, 9)
        with pytest.raises(UsageError, match="3 values, the image is L"):
            Geometry(crop=(6, 5), fill=(9, 8, 7)).image(noise(4, 8, "L"))
