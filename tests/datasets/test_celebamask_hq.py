"""CelebAMask-HQ: masks of parts, the published regions, the pairing with CelebA, and the stand-in."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from test_celeba import POINTS, write_lists

import explanation_alignment as ea
from explanation_alignment.datasets.celebamask_hq import PUBLISHED_REGIONS, CelebAMaskHQ
from explanation_alignment.datasets.reading.celeba_files import ATTRIBUTES, PARTS, carry_back, lay_on_center
from explanation_alignment.datasets.toy import celeba as toy_celeba
from explanation_alignment.datasets.toy import celebamask_hq as toy_hq
from explanation_alignment.datasets.toy.faces import draw_faces, hq_order
from explanation_alignment.errors import DatasetError, UnknownNameError, UsageError

Mask8 = NDArray[np.bool_]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("faces")
    toy_celeba.write(folder / "celeba", 14, 4)
    toy_hq.write(folder / "hq", 14, 4)
    return folder / "celeba", folder / "hq"


def block(rows: slice, columns: slice) -> Mask8:
    mask = np.zeros((8, 8), dtype=bool)
    mask[rows, columns] = True
    return mask


#: Masks of image 0, 8 x 8 for an image of 16 x 16; image 2001 has hair alone.
MASKS = {
    "hair": block(slice(0, 2), slice(0, 8)),
    "l_brow": block(slice(2, 3), slice(1, 3)),
    "r_brow": block(slice(2, 3), slice(5, 7)),
    "l_eye": block(slice(3, 4), slice(1, 3)),
    "nose": block(slice(4, 5), slice(3, 5)),
    "mouth": block(slice(6, 7), slice(3, 5)),
    "u_lip": block(slice(5, 6), slice(2, 6)),
    "l_lip": block(slice(7, 8), slice(2, 6)),
    "skin": block(slice(3, 8), slice(1, 7)),
}


@pytest.fixture
def hq(tmp_path: Path) -> Path:
    """The unpacked archive with images 0 and 2001, cut from 000003.jpg and 000002.jpg."""
    root = tmp_path / "CelebAMask-HQ"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    for index, side in ((0, 16), (2001, 16)):
        Image.new("RGB", (side, side), (90, 90, 90)).save(root / "CelebA-HQ-img" / f"{index}.jpg")
    for folder in ("0", "1"):
        (root / "CelebAMask-HQ-mask-anno" / folder).mkdir(parents=True)
    for part, mask in MASKS.items():
        save_mask(root, 0, part, mask)
    save_mask(root, 2001, "hair", MASKS["hair"])
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "idx    orig_idx    orig_file\n0        2     000003.jpg\n2001         1        000002.jpg\n"
    )
    values = " ".join("1" if name == "Smiling" else "-1" for name in ATTRIBUTES)
    (root / "CelebAMask-HQ-attribute-anno.txt").write_text(
        f"2\n{' '.join(ATTRIBUTES)}\n0.jpg  {values}\n2001.jpg  {' '.join(['-1'] * 40)}\n"
    )
    return root


def save_mask(root: Path, index: int, part: str, mask: Mask8) -> None:
    path = root / "CelebAMask-HQ-mask-anno" / str(index // 2000) / f"{index:05d}_{part}.png"
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def doubled(mask: Mask8) -> Mask8:
    return np.repeat(np.repeat(mask, 2, axis=0), 2, axis=1)


def masks_of(sample: ea.Sample) -> dict[str, Mask8 | None]:
    return {name: None if one is None else one.to_mask() for name, one in sample.annotations.items()}


class TestRegions:
    def test_the_published_seven_are_unions_at_the_images_own_size(self, hq: Path) -> None:
        dataset = CelebAMaskHQ(hq)
        assert dataset.regions == ("hair", "eye", "mouth", "neck", "nose", "skin", "cloth")
        assert dataset.evidence == ("mouth",)
        assert dataset.ids() == ("00000", "02001")
        assert dataset.labels() == (1, 0)
        assert dataset.attributes()["celeba_file"] == ("000003.jpg", "000002.jpg")
        masks = masks_of(dataset[0])
        expected = {
            "hair": MASKS["hair"],
            "eye": MASKS["l_brow"] | MASKS["r_brow"] | MASKS["l_eye"],
            "mouth": MASKS["l_lip"] | MASKS["u_lip"] | MASKS["mouth"],
            "nose": MASKS["nose"],
            "skin": MASKS["skin"],
        }
        for name, mask in expected.items():
            assert np.array_equal(masks[name], doubled(mask)), name
        assert masks["neck"] is masks["cloth"] is None

    def test_absent_parts_have_no_annotation(self, hq: Path) -> None:
        masks = masks_of(CelebAMaskHQ(hq)[1])
        assert [name for name, mask in masks.items() if mask is not None] == ["hair"]

    def test_all_parts_and_the_background(self, hq: Path) -> None:
        dataset = CelebAMaskHQ(hq, regions="parts")
        assert len(dataset.regions) == 19
        assert dataset.evidence == ("mouth_inside", "u_lip", "l_lip")
        masks = masks_of(dataset[0])
        for part in PARTS:
            name = "mouth_inside" if part == "mouth" else part
            there = masks[name]
            assert (there is not None) == (part in MASKS)
            if there is not None:
                assert np.array_equal(there, doubled(MASKS[part]))
        covered = np.logical_or.reduce(list(MASKS.values()))
        assert np.array_equal(masks["background"], doubled(~covered))

    def test_regions_can_be_chosen(self, hq: Path) -> None:
        dataset = CelebAMaskHQ(hq, regions="mouth+l_lip")
        assert dataset.regions == ("mouth", "l_lip")
        assert CelebAMaskHQ(hq, regions=["mouth", "l_lip"]).fingerprint == dataset.fingerprint
        assert CelebAMaskHQ(hq, regions="l_lip", label="Wearing_Hat").evidence == ()
        assert CelebAMaskHQ(hq, regions="hair+hat", label="Wearing_Hat").evidence == ("hat",)
        with pytest.raises(UnknownNameError, match="did you mean"):
            CelebAMaskHQ(hq, regions="mouths")

    def test_any_value_above_0_counts_in_any_kind_of_png(self, hq: Path) -> None:
        path = hq / "CelebAMask-HQ-mask-anno" / "0" / "00000_hair.png"
        faint = Image.fromarray(MASKS["hair"].astype(np.uint8))
        colored = Image.merge("RGB", [faint.point(lambda value: value * 255)] * 3)
        indexed = colored.quantize(2)
        for picture in (faint, colored, indexed, faint.point(lambda value: value * 255).convert("1")):
            picture.save(path)
            assert np.array_equal(masks_of(CelebAMaskHQ(hq)[0])["hair"], doubled(MASKS["hair"]))

    def test_images_of_1024_take_masks_of_512(self, hq: Path) -> None:
        Image.new("RGB", (1024, 1024)).save(hq / "CelebA-HQ-img" / "0.jpg")
        mask = np.random.default_rng(0).random((512, 512)) < 0.5
        save_mask(hq, 0, "hair", mask)
        sample = CelebAMaskHQ(hq, regions="hair")[0]
        assert sample.image.size == (1024, 1024)
        assert np.array_equal(masks_of(sample)["hair"], doubled(mask))

    def test_masks_that_do_not_fit_are_errors_of_their_sample(self, hq: Path) -> None:
        dataset = CelebAMaskHQ(hq)
        save_mask(hq, 0, "l_eye", np.ones((4, 4), dtype=bool))
        with pytest.raises(DatasetError, match=r"00000: the masks of .* differ in size"):
            dataset[0]
        save_mask(hq, 0, "l_eye", MASKS["l_eye"])
        save_mask(hq, 0, "nose", np.ones((8, 4), dtype=bool))
        with pytest.raises(DatasetError, match="not square"):
            dataset[0]
        Image.new("RGB", (16, 20)).save(hq / "CelebA-HQ-img" / "2001.jpg")
        with pytest.raises(DatasetError, match="16 x 20 pixels"):
            dataset[1]

    @pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"text"])
    def test_a_damaged_mask_is_an_error_of_its_sample(self, hq: Path, content: bytes) -> None:
        (hq / "CelebAMask-HQ-mask-anno" / "0" / "00000_nose.png").write_bytes(content)
        dataset = CelebAMaskHQ(hq)
        with pytest.raises(DatasetError, match=r"00000_nose\.png"):
            dataset[0]
        assert dataset[1].id == "02001"


class TestFiles:
    @pytest.mark.parametrize("below", ["", "..", "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"])
    def test_the_folder_one_up_or_down_is_found(self, hq: Path, below: str) -> None:
        place = hq.parent if below == ".." else hq / below
        assert CelebAMaskHQ(place).fingerprint == CelebAMaskHQ(hq).fingerprint

    def test_what_is_missing_is_named(self, hq: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(DatasetError, match="no CelebA-HQ-img or CelebAMask-HQ-mask-anno"):
            CelebAMaskHQ(tmp_path / "empty")
        with pytest.raises(DatasetError, match="give the folder"):
            CelebAMaskHQ(None)
        (hq / "CelebA-HQ-to-CelebA-mapping.txt").rename(hq / "mapping.txt")
        with pytest.raises(DatasetError, match=r"no CelebA-HQ-to-CelebA-mapping\.txt"):
            CelebAMaskHQ(hq)
        (hq / "mapping.txt").rename(hq / "CelebA-HQ-to-CelebA-mapping.txt")
        shutil.rmtree(hq / "CelebAMask-HQ-mask-anno")
        with pytest.raises(DatasetError, match="no folder CelebAMask-HQ-mask-anno"):
            CelebAMaskHQ(hq)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            pytest.param("idx orig_idx orig_file\n0 2 3.jpg\n0 1 2.jpg\n", "more than once", id="index twice"),
            pytest.param("idx orig_idx orig_file\n0 2 3.jpg\nx 1 2.jpg\n", "whole numbers", id="no number"),
            pytest.param("a b c\n0 2 3.jpg\n", "expected .*idx, orig_idx, orig_file", id="other columns"),
        ],
    )
    def test_a_damaged_mapping_is_refused(self, hq: Path, content: str, message: str) -> None:
        (hq / "CelebA-HQ-to-CelebA-mapping.txt").write_text(content)
        with pytest.raises(DatasetError, match=message):
            CelebAMaskHQ(hq)

    def test_problems_are_found(self, hq: Path) -> None:
        assert CelebAMaskHQ(hq).problems() == []
        (hq / "CelebA-HQ-img" / "2001.jpg").rename(hq / "CelebA-HQ-img" / "7.jpg")
        save_mask(hq, 12, "hair", MASKS["hair"])
        folder = hq / "CelebAMask-HQ-mask-anno"
        (folder / "0" / "00000_beard.png").touch()
        (folder / "1" / "02001_hair.png").rename(folder / "0" / "02001_hair.png")
        dataset = CelebAMaskHQ(hq)
        found = [(problem.kind, problem.sample_id) for problem in dataset.problems()]
        assert found == [
            ("missing_image", "02001"),
            ("orphan_image", None),
            ("missing_annotation", "02001"),
            ("orphan_annotation", None),
            ("orphan_annotation", None),
            ("orphan_annotation", None),
        ]
        messages = " ".join(problem.message for problem in dataset.problems())
        for words in ("7.jpg", "masks of 00012", "00000_beard.png", "belongs into folder 1"):
            assert words in messages
        with pytest.raises(DatasetError, match="02001: no image"):
            dataset[1]

    def test_a_copy_elsewhere_is_the_same_and_a_change_is_not(self, hq: Path, tmp_path: Path) -> None:
        first = CelebAMaskHQ(hq).fingerprint
        copy = tmp_path / "other" / "faces"
        shutil.copytree(hq, copy)
        assert CelebAMaskHQ(copy).fingerprint == first
        save_mask(copy, 0, "hair", np.random.default_rng(0).random((8, 8)) < 0.5)
        assert CelebAMaskHQ(copy).fingerprint != first
        (copy / "CelebAMask-HQ-mask-anno" / "0" / "00000_nose.png").unlink()
        assert len({CelebAMaskHQ(copy).fingerprint, first, CelebAMaskHQ(hq, label="Male").fingerprint}) == 3

    def test_it_can_be_pickled(self, hq: Path) -> None:
        dataset = CelebAMaskHQ(hq)
        again = pickle.loads(pickle.dumps(dataset))
        assert np.array_equal(masks_of(again[0])["hair"], masks_of(dataset[0])["hair"])


ROWS = {"000001.jpg": (True, 0), "000002.jpg": (False, 0), "000003.jpg": (True, 2)}


class TestCelebA:
    def test_the_split_is_that_of_the_picture_it_was_cut_from(self, hq: Path, tmp_path: Path) -> None:
        celeba = write_lists(tmp_path / "celeba", ROWS)
        dataset = CelebAMaskHQ(hq, celeba_dir=celeba)
        assert dataset.attributes()["split"] == ("test", "train")
        assert CelebAMaskHQ(hq, celeba_dir=str(celeba), split="train").ids() == ("02001",)
        assert CelebAMaskHQ(hq).attributes()["split"] == (None, None)
        with pytest.raises(UsageError, match="celeba_dir"):
            CelebAMaskHQ(hq, split="test")
        shutil.copy(celeba / "Eval" / "list_eval_partition.txt", hq)
        assert CelebAMaskHQ(hq, split="test").ids() == ("00000",)

    def test_aligned_pictures_take_masks_in_the_pairing_asked_for(self, hq: Path, tmp_path: Path) -> None:
        celeba = write_lists(tmp_path / "celeba", ROWS)
        published = CelebAMaskHQ(hq, images="aligned", celeba_dir=celeba)
        crop = CelebAMaskHQ(hq, images="aligned", pairing="crop", celeba_dir=celeba)
        assert published.name == "celebamask_hq-published_pairing"
        assert crop.name == "celebamask_hq-aligned"
        assert len({published.fingerprint, crop.fingerprint, CelebAMaskHQ(hq).fingerprint}) == 3
        assert published[0].image.size == (178, 218)
        nose = MASKS["nose"]
        assert np.array_equal(masks_of(published[0])["nose"], lay_on_center(nose, (218, 178)))
        assert np.array_equal(masks_of(crop[0])["nose"], carry_back(nose, np.array(POINTS), (218, 178)))
        assert masks_of(published[0])["neck"] is None

    def test_wrong_combinations_say_what_to_give(self, hq: Path) -> None:
        with pytest.raises(UsageError, match="celeba_dir"):
            CelebAMaskHQ(hq, images="aligned")
        with pytest.raises(UsageError, match="pairing is for images=aligned"):
            CelebAMaskHQ(hq, pairing="crop")
        with pytest.raises(UsageError, match="hq"):
            CelebAMaskHQ(hq, images="square")

    def test_missing_points_fail_their_sample_under_the_crop_alone(self, hq: Path, tmp_path: Path) -> None:
        points = {"000003.jpg": (*POINTS[:9], "nan")}
        celeba = write_lists(tmp_path / "celeba", ROWS, points=points)
        crop = CelebAMaskHQ(hq, images="aligned", pairing="crop", celeba_dir=celeba)
        with pytest.raises(DatasetError, match="landmarks"):
            crop[0]
        assert [problem.kind for problem in crop.problems() if problem.sample_id == "00000"] == ["bad_box"]
        assert CelebAMaskHQ(hq, images="aligned", celeba_dir=celeba)[0].id == "00000"


class TestToy:
    def test_it_loads_under_both_spellings_and_says_so(self, toys: tuple[Path, Path]) -> None:
        for name in ("celebamask_hq", "celebamask-hq"):
            dataset = ea.load_dataset(name, toys[1])
            assert isinstance(dataset, CelebAMaskHQ)
            assert dataset.toy
        assert len(dataset) == 14
        assert dataset.regions == tuple(PUBLISHED_REGIONS)
        assert dataset.problems() == []

    def test_masks_lie_right_on_the_square_pictures_and_off_on_the_aligned_ones(self, toys: tuple[Path, Path]) -> None:
        square = CelebAMaskHQ(toys[1], regions="nose")
        published = CelebAMaskHQ(toys[1], images="aligned", celeba_dir=toys[0], regions="nose")
        crop = CelebAMaskHQ(toys[1], images="aligned", pairing="crop", celeba_dir=toys[0], regions="nose")
        faces, overlaps, distances = draw_faces(14, 4), [], []
        for index, number in enumerate(hq_order(4, 14)):
            face = faces[number - 1]
            assert square.attributes()["celeba_file"][index] == f"{number:06d}.jpg"
            assert square.labels()[index] == int(face.group[1])
            assert overlap(masks_of(square[index])["nose"], face.parts(512)["nose"]) > 0.93
            aligned = face.aligned_parts()["nose"]
            assert overlap(masks_of(crop[index])["nose"], aligned) > 0.85
            overlaps.append(overlap(masks_of(published[index])["nose"], aligned))
            off = center(masks_of(published[index])["nose"]) - center(aligned)
            distances.append(np.hypot(*off) * 256 / 178)
        assert np.mean(overlaps) < 0.6
        assert 5 < np.mean(distances) < 15
        assert max(distances) < 25

    def test_generated_and_real_files_are_not_mixed(self, toys: tuple[Path, Path], tmp_path: Path) -> None:
        celeba = write_lists(tmp_path / "celeba", ROWS)
        with pytest.raises(UsageError, match="generated"):
            CelebAMaskHQ(toys[1], celeba_dir=celeba)

    def test_the_layout_is_the_published_one(self, toys: tuple[Path, Path]) -> None:
        lines = (toys[1] / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()
        assert lines[0] == "idx    orig_idx    orig_file"
        index, original, file = lines[1].split()
        assert (int(index), f"{int(original) + 1:06d}.jpg") == (0, file)
        assert (toys[1] / "CelebAMask-HQ-mask-anno" / "0" / "00000_skin.png").is_file()
        assert (toys[1] / "CelebAMask-HQ-attribute-anno.txt").read_text().splitlines()[2].startswith("0.jpg ")

    def test_the_same_seed_writes_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            toy_hq.write(tmp_path / name, 2, 5)
        files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
        assert len(files) > 20
        for file in files:
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def overlap(one: Mask8 | None, other: Mask8) -> float:
    assert one is not None
    return float((one & other).sum() / (one | other).sum())


def center(mask: Mask8 | None) -> NDArray[np.float64]:
    assert mask is not None
    return np.argwhere(mask).mean(axis=0)
