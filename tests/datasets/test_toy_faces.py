"""The drawn faces: exact shares, a smile at the mouth alone, hair's colour in the hair alone, variety in all else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import explanation_alignment as ea
from explanation_alignment.datasets import DATASETS, find_dataset
from explanation_alignment.datasets.celeba import mouth_boxes
from explanation_alignment.datasets.celebamask_hq import CelebAMaskHQ
from explanation_alignment.datasets.reading.celeba_files import PARTS
from explanation_alignment.datasets.reading.files import TOY_MARKER
from explanation_alignment.datasets.toy import celeba as toy_celeba
from explanation_alignment.datasets.toy import celebamask_hq as toy_hq
from explanation_alignment.datasets.toy.face_groups import draw_groups, partition_of
from explanation_alignment.datasets.toy.faces import Face, draw_faces, hq_order
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.geometry import Geometry

#: What the bias experiment does with an aligned picture.
PUBLISHED = Geometry(resize=256, crop=(224, 224))
MOUTH = ("u_lip", "l_lip", "mouth")
SIZE = (218, 178)


def flipped(face: Face) -> Face:
    return replace(face, group=(face.group[0], not face.group[1]))


def dyed(face: Face) -> Face:
    return replace(face, group=({"black": "blond"}.get(face.group[0], "black"), face.group[1]))


def plain(face: Face, **state: float) -> Face:
    """The same face with another state."""
    changed = replace(face)
    changed.__dict__["state"] = {**face.state, **state}
    return changed


def union(parts: dict[str, NDArray[np.bool_]], names: Sequence[str], size: tuple[int, int] = SIZE) -> NDArray[np.bool_]:
    return np.logical_or.reduce([parts[name] for name in names if name in parts] or [np.zeros(size, dtype=bool)])


def around_mouth(face: Face) -> tuple[slice, slice]:
    """Rows and columns of the lower face, from the points alone: 3/5 and 5/8 of the mouth's width around its middle."""
    corners = face.landmarks().reshape(5, 2)[3:]
    (x, y), width = corners.mean(axis=0), np.hypot(*(corners[1] - corners[0]))
    top, left = int(y - 0.6 * width), int(x - 0.62 * width)
    return slice(top, int(y + 0.65 * width) + 2), slice(left, int(x + 0.62 * width) + 2)


@cache
def many(correlation: float = 0.0) -> list[Face]:
    return draw_faces(4000, 11, correlation)


class TestGroups:
    @given(st.integers(1, 130), st.integers(0, 3), st.sampled_from([-1, -0.4, 0, 0.123, 0.5, 0.9, 0.98, 1]), st.data())
    def test_every_beginning_of_every_partition_holds_each_group_its_share_rounded(
        self, n: int, seed: int, correlation: float, data: st.DataObject
    ) -> None:
        other = data.draw(st.sampled_from([0, 0.05, 0.2, 0.37]))
        groups = draw_groups(n, seed, correlation, other)
        exact = {
            (color, smiling): (1 - Fraction(str(other))) * (1 + sign * Fraction(str(correlation))) / 4
            for color, smiling, sign in (
                ("black", True, 1),
                ("black", False, -1),
                ("blond", True, -1),
                ("blond", False, 1),
            )
        }
        exact |= {
            (color, smiling): Fraction(str(other)) / 4 for color in ("brown", "grey") for smiling in (True, False)
        }
        for partition in range(3):
            counts: Counter[tuple[str, bool]] = Counter()
            members = [group for number, group in enumerate(groups, 1) if partition_of(number) == partition]
            for k, group in enumerate(members, 1):
                counts[group] += 1
                for one, share in exact.items():
                    assert math.floor(share * k) <= counts[one] <= math.ceil(share * k), (k, one, share)

    @pytest.mark.parametrize(("correlation", "other"), [(0.98, 0.0), (-0.5, 0.2), (0.0, 0.2), (1.0, 0.0), (-1.0, 0.1)])
    def test_phi_is_the_correlation_in_every_partition(self, correlation: float, other: float) -> None:
        groups = draw_groups(4000, 5, correlation, other)
        for partition in range(3):
            held = [group for number, group in enumerate(groups, 1) if partition_of(number) == partition]
            pairs = np.array([(color == "black", smiling) for color, smiling in held if color in ("black", "blond")])
            assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(correlation, abs=4 * 2 / len(pairs))
            assert len(held) - len(pairs) == pytest.approx(other * len(held), abs=4)

    def test_a_smaller_stand_in_is_the_beginning_of_a_larger_one(self) -> None:
        for correlation in (0.0, 0.9):
            whole = draw_groups(700, 2, correlation)
            for n in (1, 9, 10, 333, 334, 699):
                assert draw_groups(n, 2, correlation) == whole[:n]
        assert draw_groups(700, 3) != draw_groups(700, 2)

    def test_the_order_is_not_a_rhythm(self) -> None:
        for other in (0.0, 0.2):
            groups = [
                group for number, group in enumerate(draw_groups(4000, 1, 0.0, other), 1) if partition_of(number) == 0
            ]
            for step in (2, 4, 5, 20):
                for begin in range(step):
                    counts = Counter(group for group in groups[begin::step] if group[0] in ("black", "blond"))
                    assert len(counts) == 4
                    assert stats.chisquare(list(counts.values())).pvalue > 1e-4

    def test_two_pictures_of_a_person_are_in_one_partition_and_not_of_one_group(self) -> None:
        people: dict[int, list[Face]] = {}
        for face in many():
            people.setdefault(face.identity, []).append(face)
        assert all(len(pair) == 2 and pair[0].partition == pair[1].partition for pair in people.values())
        assert all(pair[0].person == pair[1].person and pair[0].state != pair[1].state for pair in people.values())
        pairs = Counter((one.group[1], other.group[1]) for one, other in people.values())
        assert stats.chi2_contingency([[pairs[a, b] for b in (True, False)] for a in (True, False)]).pvalue > 1e-3

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"correlation": 1.01}, "-1 to 1, got 1.01"),
            ({"correlation": -2}, "-1 to 1"),
            ({"correlation": math.nan}, "-1 to 1, got nan"),
            ({"other_hair": 1.0}, "0 to below 1, got 1"),
            ({"other_hair": -0.1}, "0 to below 1"),
            ({"other_hair": math.nan}, "0 to below 1, got nan"),
        ],
    )
    def test_what_is_no_share_is_refused_before_anything_is_written(
        self, tmp_path: Path, arguments: dict[str, float], words: str
    ) -> None:
        for module in (toy_celeba, toy_hq):
            with pytest.raises(UsageError, match=words):
                module.write(tmp_path / "new", 4, 0, **arguments)
        assert not (tmp_path / "new").exists()


class TestOneCue:
    """The smile is at the mouth and nowhere else, and hair's colour in the hair."""

    def test_points_and_therefore_boxes_and_the_square_do_not_follow_the_smile(self) -> None:
        for face in many()[:300]:
            assert np.array_equal(face.landmarks(), flipped(face).landmarks())

    def test_a_flipped_smile_changes_no_pixel_outside_the_mouth(self) -> None:
        for face in many()[:60]:
            one, other = face.aligned(), flipped(face).aligned()
            changed = (one != other).any(axis=2)
            rows, columns = around_mouth(face)
            assert changed[rows, columns].sum() > 40
            changed[rows, columns] = False
            assert not changed.any(), face
            lips = union(face.aligned_parts(), MOUTH) | union(flipped(face).aligned_parts(), MOUTH)
            if not face.state["blur"]:
                near = ndimage.binary_dilation(lips, iterations=2)
                assert not ((one != other).any(axis=2) & ~near).any(), face

    def test_nor_on_the_square_picture_nor_in_its_masks(self) -> None:
        for face in many()[:20]:
            lips = union(face.parts(256), MOUTH, (256, 256)) | union(flipped(face).parts(256), MOUTH, (256, 256))
            reach = 5 if face.state["blur"] else 2
            near = ndimage.binary_dilation(lips, iterations=reach)
            assert not ((face.square(256) != flipped(face).square(256)).any(axis=2) & ~near).any(), face
            one, other = face.parts(256), flipped(face).parts(256)
            for part in set(one) - set(MOUTH):
                assert not ((one[part] != other[part]) & ~lips).any()

    def test_another_colour_of_hair_changes_the_hair_alone_and_the_mask_is_where(self) -> None:
        overlaps = []
        for face in [face for face in many()[:40] if not face.state["blur"]]:
            hair = face.parts(128)["hair"]
            assert np.array_equal(hair, dyed(face).parts(128)["hair"])
            changed = (face.square(128) != dyed(face).square(128)).any(axis=2)
            # a pixel is the mean of nine; any of them may be hair
            fine = ndimage.binary_dilation(face.parts(384)["hair"], structure=np.ones((3, 3)))
            assert not (changed & ~fine.reshape(128, 3, 128, 3).any(axis=(1, 3))).any(), face
            overlaps.append((changed & hair).sum() / hair.sum())
        assert min(overlaps) > 0.99

    @pytest.mark.parametrize("correlation", [0.0, 0.9])
    def test_attributes_and_everything_drawn_are_independent_of_smile_and_of_hair(self, correlation: float) -> None:
        faces = many(correlation)
        causes = {
            "smile": np.array([face.group[1] for face in faces]),
            "black": np.array([face.group[0] == "black" for face in faces]),
            "other": np.array([face.group[0] in ("brown", "grey") for face in faces]),
        }
        drawn = {f"person {key}": [face.person[key] for face in faces] for key in faces[0].person}
        drawn |= {f"state {key}": [face.state[key] for face in faces] for key in faces[0].state}
        points = np.stack([face.landmarks() for face in faces])
        drawn |= {f"point {place}": points[:, place].tolist() for place in range(10)}
        attributes = [face.attributes() for face in faces]
        groups = {"Smiling", "Young", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"}
        drawn |= {name: [float(shown[name]) for shown in attributes] for name in attributes[0] if name not in groups}
        varied = {name: np.array(values) for name, values in drawn.items() if len(set(values)) > 1}
        assert len(varied) > 80
        for name, values in varied.items():
            for cause, there in causes.items():
                one, other = values[there], values[~there]
                kinds = np.unique(values)
                if len(kinds) <= 6:
                    table = [[(part == kind).sum() for kind in kinds] for part in (one, other)]
                    p = stats.chi2_contingency(table).pvalue
                else:
                    p = stats.ks_2samp(one, other).pvalue
                assert p > 1e-5, (name, cause, p)

    def test_brows_have_colours_of_their_own(self) -> None:
        colors = [next(piece.color for piece in face.pieces if piece.part == "l_brow") for face in many()[:120]]
        black = np.array([face.group[0] == "black" for face in many()[:120]])
        brightness = np.array(colors).sum(axis=1)
        assert len(set(colors)) == 5
        assert stats.mannwhitneyu(brightness[black], brightness[~black]).pvalue > 1e-3


@cache
def grey_pictures(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pictures at 32 x 32 in grey, each (N, 1024), as they are and with the mouth painted over."""
    shown, hidden = [], []
    for face in draw_faces(n, seed):
        pixels = face.aligned()
        for pictures in (shown, hidden):
            small = Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX)
            pictures.append(np.asarray(small, dtype=np.float64).reshape(-1))
            pixels[around_mouth(face)] = 128
    return np.stack(shown), np.stack(hidden)


def probe(pictures: NDArray[np.float64], faces: Sequence[Face]) -> float:
    """How often a linear classifier finds the smile of people it has not seen."""
    smiles, people = np.array([face.group[1] for face in faces]), [face.identity for face in faces]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=500))
    return float((cross_val_predict(model, pictures, smiles, cv=GroupKFold(5), groups=people) == smiles).mean())


class TestProbe:
    """What a linear classifier finds in pictures of 32 x 32; no correlation of smile and hair."""

    @pytest.mark.parametrize("n", [800, pytest.param(2000, marks=pytest.mark.slow)])
    def test_the_smile_with_the_mouth_and_not_without(self, n: int) -> None:
        shown, hidden = grey_pictures(n, 21)
        faces = draw_faces(n, 21)
        assert probe(hidden, faces) == pytest.approx(0.5, abs=0.05)
        assert probe(shown, faces) > (0.6 if n < 2000 else 0.65)

    def test_a_leak_where_there_is_one(self) -> None:
        faces, pictures = draw_faces(800, 21), grey_pictures(800, 21)[1].copy()
        pictures[[face.group[1] for face in faces], :8] += 40  # a corner a little brighter where they smile
        assert probe(pictures, faces) > 0.6


class TestMouth:
    def test_it_covers_at_most_4_percent_and_stays_within_the_crop(self) -> None:
        points = np.rint(np.stack([face.landmarks() for face in many()])).astype(int)
        boxes = mouth_boxes(points)[:, 0]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert areas.max() < 0.04 * SIZE[0] * SIZE[1]
        assert areas.min() > 0.004 * SIZE[0] * SIZE[1]
        extremes = {*np.argsort(areas)[-10:].tolist()}
        extremes |= {int(place(boxes[:, column])) for column in range(4) for place in (np.argmin, np.argmax)}
        for index in extremes:
            mask = np.zeros(SIZE, dtype=bool)
            x0, y0, x1, y1 = boxes[index]
            mask[y0:y1, x0:x1] = True
            cropped = PUBLISHED.mask(mask)
            assert cropped.mean() <= 0.04
            assert cropped.sum() == pytest.approx(mask.sum() * (256 / 178) ** 2, rel=0.06)

    def test_the_points_are_at_its_corners_and_its_middle_moves_as_the_smile_says(self) -> None:
        shares, bends = [], []
        for face in many()[:120]:
            upright = plain(face, turn=0.0, held=0.0)
            parts, points = upright.aligned_parts(), upright.landmarks()
            lips = union(parts, MOUTH)
            columns = np.flatnonzero(lips.any(axis=0))
            assert abs(columns[0] - points[6]) < 2
            assert abs(columns[-1] - points[8]) < 2
            rows = np.flatnonzero(lips[:, (columns[0] + columns[-1]) // 2])
            bends.append((rows.mean() - points[7], face.smile, face.group[1]))
            (box,) = mouth_boxes(np.rint(points).astype(int)[None])[0]
            shares.append(lips[box[1] : box[3], box[0] : box[2]].sum() / lips.sum())
        low, smile, smiling = np.array(bends).T
        assert stats.pearsonr(low, smile).statistic > 0.9
        assert low[smiling == 1].min() > low[smiling == 0].max()
        assert np.mean(shares) > 0.9
        assert min(shares) > 0.6

    def test_smiles_and_frowns_come_in_all_strengths_with_room_between(self) -> None:
        smiles = np.array([face.smile for face in many()])
        smiling = np.array([face.group[1] for face in many()])
        assert 0.5 <= smiles[smiling].min() < 0.52
        assert 0.98 < smiles[smiling].max() <= 1
        assert -0.9 <= smiles[~smiling].min() < -0.88
        assert -0.02 < smiles[~smiling].max() <= 0

    def test_a_smile_can_be_seen_at_64_pixels(self) -> None:
        differences = []
        for face in many()[:60]:
            one, other = (
                np.asarray(PUBLISHED.image(Image.fromarray(each.aligned())).resize((64, 64)).convert("L"), dtype=float)
                for each in (face, flipped(face))
            )
            differences.append(np.abs(one - other).max())
        # of 255 levels, where grain of single pixels has long been averaged away
        assert np.median(differences) > 30
        assert np.quantile(differences, 0.05) > 10

    def test_what_is_held_before_the_face_leaves_it_to_be_seen(self) -> None:
        for face in [face for face in many() if face.state["held"]][:60]:
            seen = union(face.aligned_parts(), MOUTH).sum()
            assert seen > 0.75 * union(plain(face, held=0.0).aligned_parts(), MOUTH).sum()


class TestVariety:
    def test_all_parts_are_drawn_somewhere(self) -> None:
        seen: set[str] = set()
        for face in draw_faces(60, 2):
            seen |= set(face.parts(64))
        assert seen == set(PARTS)

    def test_all_that_can_be_worn_held_or_grown_is_there_and_all_four_lights(self) -> None:
        states = [face.state for face in many()[:500]]
        for name, kinds in {"held": 5, "glasses": 3, "hair_length": 3, "beard": 5, "hat": 2, "side": 2}.items():
            assert len({state[name] for state in states}) == kinds
        for name in ("shade", "blur", "bun", "bags", "makeup", "rosy", "open"):
            assert 0.02 < np.mean([state[name] > 0 for state in states]) < 0.7
        pictures = np.stack([face.aligned().mean(axis=(0, 1)) for face in many()[:60]])
        assert pictures.std(axis=0).min() > 20

    def test_pose_and_scale_vary(self) -> None:
        points = np.stack([face.landmarks() for face in many()[:500]]).reshape(-1, 5, 2)
        apart = np.hypot(*(points[:, 1] - points[:, 0]).T)
        assert apart.max() / apart.min() > 1.14
        assert np.degrees(np.arctan2(*(points[:, 1] - points[:, 0]).T[::-1])).std() > 3
        assert points[:, 3:].mean(axis=1).std(axis=0).min() > 2

    @pytest.mark.parametrize("held", [1, 2, 3])
    def test_what_is_held_hides_parts_and_is_none_itself(self, held: int) -> None:
        hidden = 0
        for face in [face for face in many() if face.state["held"] == held][:5]:
            bare = plain(face, held=0.0)
            with_it, without = union(face.parts(256), PARTS, (256, 256)), union(bare.parts(256), PARTS, (256, 256))
            assert not (with_it & ~without).any()
            hidden += int((without & ~with_it).sum())
            changed = (face.square(256) != bare.square(256)).any(axis=2)
            assert (without & ~with_it & changed).sum() > 0.9 * (without & ~with_it).sum()
        assert hidden > 500


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


class TestWriting:
    def test_same_seed_and_number_are_the_same_face_in_both_whatever_their_sizes(self, tmp_path: Path) -> None:
        shares = {"correlation": 0.8, "other_hair": 0.05}
        toy_celeba.write(tmp_path / "celeba", 40, 7, **shares)
        toy_hq.write(tmp_path / "hq", 12, 7, **shares)
        aligned = ea.load_dataset("celeba(split=all)", tmp_path / "celeba")
        square = CelebAMaskHQ(tmp_path / "hq", celeba_dir=tmp_path / "celeba")
        faces = draw_faces(40, 7, **shares)
        for index, name in enumerate(square.attributes()["celeba_file"]):
            place = list(aligned.ids()).index(str(name).removesuffix(".jpg"))
            assert place + 1 == hq_order(7, 12)[index]
            for attribute, values in square.attributes().items():
                if attribute in aligned.attributes():
                    assert values[index] == aligned.attributes()[attribute][place], attribute
            difference = np.asarray(square[index].image, dtype=int) - faces[place].square(512)
            assert np.abs(difference).mean() < 8  # what JPEG does to grain
            assert np.abs(np.asarray(aligned[place].image, dtype=int) - faces[place].aligned()).mean() < 8

    def test_the_marker_tells_how_it_was_written(self, tmp_path: Path) -> None:
        toy_celeba.write(tmp_path / "a", 1, 2)
        toy_celeba.write(tmp_path / "b", 1, 2, correlation=0.75, other_hair=0.0)
        toy_hq.write(tmp_path / "c", 1, 2, -0.5)
        ends = {name: (tmp_path / name / TOY_MARKER).read_text().split("DIR ")[1] for name in "abc"}
        assert ends["a"] == "--n 1 --seed 2\n"
        assert ends["b"] == "--n 1 --seed 2 --correlation 0.75 --other-hair 0\n"
        assert ends["c"] == "--n 1 --seed 2 --correlation -0.5\n"

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_files_do_not_depend_on_the_number_of_processes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module, n in ((toy_celeba, 9), (toy_hq, 3)):
            monkeypatch.setattr(module, "_ENOUGH", 1)
            for workers in (1, 2, 3):
                module.write(tmp_path / f"{module.__name__} {workers}", n, 1, workers=workers)
            one, *others = (contents(tmp_path / f"{module.__name__} {workers}") for workers in (1, 2, 3))
            assert all(other == one for other in others)

    def test_other_groups_leave_pictures_of_the_same_group_as_they_are(self) -> None:
        one, other = draw_faces(60, 3), draw_faces(60, 3, 0.9, 0.0)
        same = [number for number in range(60) if one[number].group == other[number].group]
        assert 5 < len(same) < 50
        for number in same[:5]:
            assert np.array_equal(one[number].aligned(), other[number].aligned())

    def test_arguments_reach_the_stand_in_and_others_are_refused(self, tmp_path: Path) -> None:
        find_dataset("celeba")[1].write_toy(tmp_path / "celeba", 20, 0, correlation=1, other_hair=0)
        columns = ea.load_dataset("celeba(split=all)", tmp_path / "celeba").attributes()
        assert set(zip(columns["hair_color"], columns["Smiling"], strict=True)) == {("black", True), ("blond", False)}
        with pytest.raises(UnknownNameError, match="did you mean 'correlation'"):
            find_dataset("celeba")[1].write_toy(tmp_path / "new", 20, 0, correlatoin=1)
        for name, entry in DATASETS.items():
            if not entry.toy_arguments:
                with pytest.raises(UsageError, match="takes no arguments"):
                    entry.write_toy(tmp_path / name, 2, 0, correlation=1)
        assert not (tmp_path / "new").exists()
