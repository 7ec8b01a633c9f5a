"""One geometry for image and annotation: equal to PIL and torchvision, and on the same pixels for both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from explanation_alignment.geometry import Geometry

sides = st.integers(1, 70)
INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "lanczos"]


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
        smooth = Geometry(geometry.resize, geometry.crop, interpolation)
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
resizes = st.none() | small | st.tuples(small, small)
crops = st.none() | st.tuples(small, small)


@settings(max_examples=200)
@given(st.builds(Geometry, resizes, crops, st.sampled_from(INTERPOLATIONS)), small, small)
def test_what_is_left_alone_stays_as_it_is(geometry: Geometry, height: int, width: int) -> None:
    image, mask = noise(height, width), random_mask(height, width)
    result, new_mask = geometry.image(image), geometry.mask(mask)
    assert new_mask.shape == (result.height, result.width)
    if geometry.leaves_alone(height, width):
        assert result.tobytes() == image.tobytes()
        assert np.array_equal(new_mask, mask)


def test_describe_holds_every_setting() -> None:
    geometry = Geometry(resize=(10, 12), crop=(8, 8), interpolation="bicubic")
    assert geometry.describe() == {"resize": (10, 12), "crop": (8, 8), "interpolation": "bicubic"}
    assert Geometry(**geometry.describe()) == geometry
