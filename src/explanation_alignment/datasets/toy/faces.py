"""Parametric faces for the stand-ins of CelebA and CelebAMask-HQ: drawn, with every part and point known.

A face depends on the seed, its number and its group only, so that both stand-ins show the same one. The smile is seen
at the mouth and nowhere else, the hair's colour in the hair; all else is independent of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from explanation_alignment.datasets.reading.celeba_files import ATTRIBUTES, PARTS, crop_corners
from explanation_alignment.datasets.toy.face_groups import Group, draw_groups, identity_of, partition_of
from explanation_alignment.datasets.toy.face_shapes import (
    NO_PART,
    SKIN,
    Piece,
    Points,
    background,
    mouth_corners,
    nose_tip,
    pieces,
)

__all__ = ["Face", "draw_faces", "hq_order"]

#: (height, width) of an aligned picture.
_ALIGNED: Final = (218, 178)
#: Pictures are drawn so many times larger, for smooth edges; an odd number, so that pixels have a centre.
_SCALE: Final = 3
#: A part's place in masks; 0 is none.
_PLACES: Final = {NO_PART: 0, **{part: place for place, part in enumerate(PARTS, 1)}}
_FLESH: Final = np.array([part in ("skin", "nose", "neck") for part in _PLACES], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Face:
    """One face.

    Args:
        seed: of the whole set.
        number: 1, 2, ..., that of its CelebA file.
        group: hair colour (black, blond, brown, grey), and whether it smiles; nothing else depends on it.
    """

    seed: int
    number: int
    group: Group

    @property
    def partition(self) -> int:
        """0 train, 1 valid, 2 test."""
        return partition_of(self.number)

    @property
    def identity(self) -> int:
        """Number of the person; two pictures show the same one, both in the same partition."""
        return identity_of(self.number)

    @cached_property
    def smile(self) -> float:
        """From -1, a frown, over 0 to 1."""
        rng = np.random.default_rng([self.seed, 7, self.number, self.group[1]])
        if self.group[1]:
            return rng.uniform(0.5, 1.0)
        return rng.uniform(-0.9, -0.35) if rng.random() < 0.5 else rng.uniform(-0.3, 0.0)

    @cached_property
    def person(self) -> dict[str, float]:
        """What stays the same in all pictures of a person."""
        rng = np.random.default_rng([self.seed, 2, self.identity])
        uniform = rng.uniform
        return {
            "male": float(rng.random() < 0.45),
            "tone": uniform(0, len(SKIN) - 1),
            "width": uniform(1.02, 1.26),
            "chin": uniform(1.8, 2.0),
            "jaw": uniform(0.12, 0.38),
            "forehead": uniform(0.68, 0.9),
            "brow": uniform(0.07, 0.15),
            "brow_color": float(rng.integers(5)),
            "arch": uniform(0.0, 0.14),
            "eye": uniform(0.075, 0.13),
            "iris": float(rng.integers(4)),
            "nose": uniform(0.19, 0.32),
            "lips": uniform(0.07, 0.12),
            "mouth": uniform(0.37, 0.42),
            "mouth_y": uniform(1.12, 1.22),
        }

    @cached_property
    def state(self) -> dict[str, float]:
        """What differs from picture to picture, whatever hair and mouth do."""
        rng = np.random.default_rng([self.seed, 3, self.number])
        uniform, chance, male = rng.uniform, rng.random, self.person["male"] > 0
        long = rng.choice(3, p=(0.85, 0.1, 0.05) if male else (0.15, 0.35, 0.5))
        return {
            "open": uniform(0.05, 0.13) * (chance() < 0.5),
            "hair_length": float(long),
            "volume": uniform(0.14, 0.34),
            "bangs": float(chance() < 0.3),
            "wavy": float(chance() < 0.4) * uniform(0.5, 1.3),
            "parting": uniform(-0.45, 0.45),
            "bun": float(not male and chance() < 0.12),
            "ears": float(chance() < 0.3),
            "yaw": uniform(-0.4, 0.4),
            "nod": uniform(-1.0, 1.0),
            "lids": uniform(0.65, 1.15),
            "gaze_x": uniform(-1.0, 1.0),
            "gaze_y": uniform(-1.0, 1.0),
            "brow_lift": uniform(-0.03, 0.06),
            "brow_tilt": uniform(-0.2, 0.2),
            "glasses": float(rng.choice(3, p=(0.84, 0.1, 0.06))),
            "hat": float(long > 0 and chance() < 0.12),
            "held": float(rng.choice(5, p=(0.72, 0.07, 0.07, 0.07, 0.07))),
            "side": float(rng.choice((-1, 1))),
            "reach": uniform(-1.0, 1.0),
            "earrings": float(not male and chance() < 0.35),
            "necklace": float(not male and chance() < 0.3),
            "lipstick": float(not male and chance() < 0.5),
            "makeup": float(not male and chance() < 0.25),
            "rosy": float(not male and chance() < 0.2),
            "bags": float(chance() < 0.2),
            "beard": float(male and rng.choice(5, p=(0.55, 0.16, 0.08, 0.08, 0.13))),
            "neckline": uniform(2.05, 2.2),
            "shoulder": uniform(1.75, 1.95),
            "apart": uniform(34.0, 39.5),
            "x": 89.0 + uniform(-5.0, 5.0),
            "y": 112.0 + uniform(-4.0, 4.0),
            "turn": np.deg2rad(uniform(-6.0, 6.0)),
            "light_x": uniform(-0.15, 0.15),
            "light_y": uniform(-0.08, 0.08),
            "light": uniform(0.8, 1.12),
            "warmth": uniform(-0.06, 0.06),
            "contrast": uniform(0.8, 1.05),
            "shade": uniform(0.1, 0.32) * (chance() < 0.35),
            "shade_turn": uniform(0, 2 * np.pi),
            "shade_edge": uniform(-0.7, 0.7),
            "blur": uniform(0.014, 0.026) * (chance() < 0.1),
            "grain": uniform(2.0, 8.0),
        }

    def attributes(self) -> dict[str, bool]:
        """The 40 attributes, as the picture shows them; what is never drawn is False."""
        person, state, (hair, smiling) = self.person, self.state, self.group
        shown = {
            "5_o_Clock_Shadow": state["beard"] == 1,
            "Arched_Eyebrows": person["arch"] > 0.09,
            "Bags_Under_Eyes": state["bags"] > 0,
            "Bangs": state["bangs"] > 0 and not state["hat"],
            "Big_Lips": person["lips"] > 0.1,
            "Big_Nose": person["nose"] > 0.27,
            "Black_Hair": hair == "black",
            "Blond_Hair": hair == "blond",
            "Blurry": state["blur"] > 0,
            "Brown_Hair": hair == "brown",
            "Bushy_Eyebrows": person["brow"] > 0.12,
            "Chubby": person["width"] > 1.2,
            "Eyeglasses": state["glasses"] > 0,
            "Goatee": state["beard"] == 3,
            "Gray_Hair": hair == "grey",
            "Heavy_Makeup": state["makeup"] > 0,
            "Male": person["male"] > 0,
            "Mouth_Slightly_Open": state["open"] > 0,
            "Mustache": state["beard"] in (2, 3),
            "Narrow_Eyes": person["eye"] * state["lids"] < 0.07,
            "No_Beard": state["beard"] == 0,
            "Oval_Face": person["width"] < 1.1,
            "Pale_Skin": person["tone"] < 0.5,
            "Receding_Hairline": person["forehead"] > 0.85 and not state["bangs"] and not state["hat"],
            "Rosy_Cheeks": state["rosy"] > 0,
            "Smiling": smiling,
            "Straight_Hair": not state["wavy"],
            "Wavy_Hair": state["wavy"] > 0,
            "Wearing_Earrings": state["earrings"] > 0,
            "Wearing_Hat": state["hat"] > 0,
            "Wearing_Lipstick": state["lipstick"] > 0,
            "Wearing_Necklace": state["necklace"] > 0,
            "Young": hair != "grey",
        }
        return {name: bool(shown.get(name, False)) for name in ATTRIBUTES}

    def landmarks(self) -> Points:
        """(10,) the five points on the aligned picture in pixels, 0 being the centre of the first pixel."""
        points = np.array([(-0.5, 0.0), (0.5, 0.0), nose_tip(self.state), *mouth_corners(self.person, self.state)])
        return (points @ self._matrix[:, :2].T + self._matrix[:, 2] - 0.5).reshape(-1)

    def aligned(self) -> NDArray[np.uint8]:
        """The aligned picture, (218, 178, 3) uint8."""
        return self._render(self._matrix, _ALIGNED)

    def square(self, size: int) -> NDArray[np.uint8]:
        """CelebA-HQ's picture of it, (size, size, 3) uint8."""
        return self._render(self._square_matrix(size), (size, size))

    def aligned_parts(self) -> dict[str, NDArray[np.bool_]]:
        """The visible parts on the aligned picture, each (218, 178) bool; parts that cannot be seen are left out."""
        return _by_part(self._marks(self._drawn(self._matrix, _ALIGNED)))

    def parts(self, size: int) -> dict[str, NDArray[np.bool_]]:
        """The visible parts on CelebA-HQ's square, each (size, size) bool; parts that cannot be seen are left out."""
        return _by_part(self._marks(self._drawn(self._square_matrix(size), (size, size))))

    @cached_property
    def pieces(self) -> list[Piece]:
        """Everything there is to draw, from back to front."""
        behind = background(np.random.default_rng([self.seed, 8, self.number]))
        rng = np.random.default_rng([self.seed, 5, self.number])
        return behind + pieces(rng, self.group[0], self.smile, self.person, self.state)

    @property
    def _matrix(self) -> NDArray[np.float64]:
        """(2, 3) from the face's coordinates to pixels of the aligned picture, 0 being the first pixel's corner."""
        state = self.state
        cos, sin = state["apart"] * np.cos(state["turn"]), state["apart"] * np.sin(state["turn"])
        return np.array([[cos, -sin, state["x"]], [sin, cos, state["y"]]])

    def _square_matrix(self, size: int) -> NDArray[np.float64]:
        corner, right, below = crop_corners(self.landmarks())
        inverse = np.linalg.inv(np.column_stack([right, below]) / size)
        whole = inverse @ self._matrix
        whole[:, 2] -= inverse @ corner
        return whole

    def _drawn(self, matrix: NDArray[np.float64], size: tuple[int, int]) -> Image.Image:
        """The place in ``pieces`` of what is seen, on a grey picture ``_SCALE`` times as large."""
        picture = Image.new("L", (size[1] * _SCALE, size[0] * _SCALE))
        draw = ImageDraw.Draw(picture)
        points = np.concatenate([piece.points for piece in self.pieces])
        # as PIL counts, whole numbers are centres of pixels
        flat = ((points @ matrix[:, :2].T + matrix[:, 2]) * _SCALE - 0.5).reshape(-1).tolist()
        begin = 0
        for place, piece in enumerate(self.pieces):
            end = begin + 2 * len(piece.points)
            draw.polygon(flat[begin:end], fill=place)
            begin = end
        return picture

    def _marks(self, drawn: Image.Image) -> NDArray[np.uint8]:
        """(H, W) uint8, the place of the part at each pixel's centre, from 1; 0 for none."""
        places = np.array([_PLACES[piece.part] for piece in self.pieces], dtype=np.uint8)
        marks: NDArray[np.uint8] = places[np.asarray(drawn)[_SCALE // 2 :: _SCALE, _SCALE // 2 :: _SCALE]]
        return marks

    def _render(self, matrix: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
        """The picture, (H, W, 3)."""
        drawn, state = self._drawn(matrix, size), self.state
        marks = self._marks(drawn)
        drawn.putpalette([value for piece in self.pieces for value in piece.color])
        canvas = drawn.convert("RGB").reduce(_SCALE)
        if state["blur"] > 0:
            unit = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
            canvas = canvas.filter(ImageFilter.GaussianBlur(state["blur"] * unit))
        rng = np.random.default_rng([self.seed, 4, self.number])
        (a, b), (c, d) = np.linalg.inv(matrix[:, :2]).tolist()
        rows = np.arange(size[0], dtype=np.float32)[:, None] + (0.5 - float(matrix[1, 2]))
        columns = np.arange(size[1], dtype=np.float32)[None, :] + (0.5 - float(matrix[0, 2]))
        x, y = a * columns + b * rows, c * columns + d * rows
        light = state["light"] + state["light_x"] * x + state["light_y"] * (y - 0.5)
        light -= _FLESH[marks] * np.clip(0.13 * x**2 + 0.077 * (y - 0.5) ** 2, 0, 0.21)
        if state["shade"] > 0:
            cos, sin = math.cos(state["shade_turn"]), math.sin(state["shade_turn"])
            across = cos * x + sin * (y - 0.6) - state["shade_edge"]
            light -= state["shade"] * np.clip(0.5 + 2.5 * across, 0, 1)
        fine, bend, slow, shift, strong = rng.uniform((22, 1, 1, 0, 0.08), (34, 4, 3, 6, 0.2)).tolist()
        hair = marks == _PLACES["hair"]
        light[hair] += strong * np.sin(fine * x[hair] + bend * np.sin(slow * y[hair]) + shift)
        angle, fine, strong = rng.uniform((0, 6, 0), (np.pi, 24, 0.25)).tolist()
        cloth = marks == _PLACES["cloth"]
        light[cloth] += strong * np.sign(np.sin(fine * (math.cos(angle) * x[cloth] + math.sin(angle) * y[cloth])))
        grain = rng.standard_normal((*size, 1), dtype=np.float32) * np.float32(state["grain"])
        warm = state["contrast"] * np.array([1 + state["warmth"], 1, 1 - state["warmth"]])
        pixels = np.asarray(canvas).astype(np.float32) * (light[:, :, None] * warm.astype(np.float32))
        pixels += grain + np.float32(110 * (1 - state["contrast"]))
        picture: NDArray[np.uint8] = np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
        return picture


def draw_faces(n: int, seed: int, correlation: float = 0.0, other_hair: float = 0.2) -> list[Face]:
    """Faces 1 to n, their groups in exact shares within each partition; nothing is drawn yet.

    Args:
        n: how many.
        seed: another seed, other faces.
        correlation: phi between hair (black or blond) and smile, -1 to 1.
        other_hair: share of brown and grey hair, 0 to below 1.

    Raises:
        UsageError: for shares there cannot be.
    """
    groups = draw_groups(n, seed, correlation, other_hair)
    return [Face(seed, number, group) for number, group in enumerate(groups, 1)]


def hq_order(seed: int, n: int) -> list[int]:
    """Numbers of the CelebA files that CelebA-HQ's indices 0, 1, ... of a stand-in were cut from."""
    order = 1 + np.random.default_rng([seed, 6]).permutation(n)
    return [int(number) for number in order]


def _by_part(marks: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    present = np.bincount(marks.reshape(-1), minlength=len(_PLACES))
    return {part: marks == place for part, place in _PLACES.items() if place and present[place]}
