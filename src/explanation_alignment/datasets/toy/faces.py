"""Parametric faces for the stand-ins of CelebA and CelebAMask-HQ: drawn, with every part and point known.

A face depends on the seed and its number only, so that both stand-ins show the same one. Coordinates of a face: the
origin between the eyes, x to the picture's right, y down, the distance between the eyes as unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from explanation_alignment.datasets.reading.celeba_files import ATTRIBUTES, PARTS, crop_corners

__all__ = ["Face", "hq_order"]

Points = NDArray[np.float64]
Color = tuple[int, int, int]

#: (height, width) of an aligned picture.
_ALIGNED: Final = (218, 178)
#: Pictures are drawn so many times larger, for smooth edges.
_SCALE: Final = 3
_HAIR: Final = {"black": (30, 25, 24), "blond": (218, 184, 112), "brown": (108, 70, 42), "grey": (158, 156, 154)}
_SKIN: Final = ((246, 214, 190), (233, 190, 158), (214, 164, 128), (186, 132, 96), (140, 94, 64), (98, 64, 44))
#: Hair colour and smile of 20 faces: of each of the four groups of the bias experiment four.
_GROUPS: Final = tuple(
    (color, smiling)
    for color, count in (("black", 4), ("blond", 4), ("brown", 1), ("grey", 1))
    for smiling in (True, False)
    for _ in range(count)
)
#: Partition of ten faces in a row: 0 train, 1 valid, 2 test.
_PARTITION: Final = (0, 0, 2, 0, 0, 2, 0, 1, 0, 2)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A filled outline of one colour; ``part`` is None where the part below it stays what it is."""

    points: Points
    color: Color
    part: str | None


@dataclass(frozen=True, eq=False)
class Face:
    """One face.

    Args:
        seed: of the whole set.
        number: 1, 2, ..., that of its CelebA file.
    """

    seed: int
    number: int
    pieces: list[_Piece] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", self._draw())

    @property
    def partition(self) -> int:
        """0 train, 1 valid, 2 test."""
        return _PARTITION[(self.number - 1) % len(_PARTITION)]

    @property
    def identity(self) -> int:
        """Number of the person; two pictures show the same one, both in the same partition."""
        block, slot = divmod(self.number - 1, len(_PARTITION))
        return 1 + slot + len(_PARTITION) * (block // 2)

    @cached_property
    def group(self) -> tuple[str, bool]:
        """Hair colour, and whether it smiles: in fixed shares within each partition, and independent of all else."""
        block, slot = divmod(self.number - 1, len(_PARTITION))
        turn, place = divmod(block, len(_GROUPS))
        order = np.random.default_rng([self.seed, 1, slot, turn]).permutation(len(_GROUPS))
        return _GROUPS[order[place]]

    @cached_property
    def person(self) -> dict[str, float]:
        """What stays the same in all pictures of a person."""
        rng = np.random.default_rng([self.seed, 2, self.identity])
        uniform = rng.uniform
        return {
            "male": float(rng.random() < 0.45),
            "tone": float(rng.integers(len(_SKIN))),
            "width": uniform(1.02, 1.26),
            "chin": uniform(1.78, 1.98),
            "jaw": uniform(0.12, 0.38),
            "brow": uniform(0.07, 0.15),
            "arch": uniform(0.0, 0.14),
            "eye": uniform(0.065, 0.125),
            "iris": float(rng.integers(4)),
            "nose": uniform(0.19, 0.32),
            "lips": uniform(0.075, 0.14),
            "mouth": uniform(0.38, 0.45),
            "mouth_y": uniform(1.04, 1.16),
        }

    @cached_property
    def state(self) -> dict[str, float]:
        """What differs from picture to picture."""
        rng = np.random.default_rng([self.seed, 3, self.number])
        uniform, male = rng.uniform, self.person["male"] > 0
        long = rng.choice(3, p=(0.85, 0.1, 0.05) if male else (0.15, 0.35, 0.5))
        smile = uniform(0.35, 1.0) if self.group[1] else (uniform(-1.0, -0.2), uniform(-0.2, 0.1))[rng.integers(2)]
        return {
            "smile": smile,
            "open": uniform(0.04, 0.13) * (rng.random() < 0.5),
            "hair_length": float(long),
            "volume": uniform(0.14, 0.34),
            "bangs": float(rng.random() < 0.3),
            "wavy": float(rng.random() < 0.4),
            "parting": uniform(-0.45, 0.45),
            "yaw": uniform(-0.3, 0.3),
            "glasses": float(rng.choice(3, p=(0.86, 0.09, 0.05))),
            "hat": float(long > 0 and rng.random() < 0.12),
            "earrings": float(not male and rng.random() < 0.35),
            "necklace": float(not male and rng.random() < 0.3),
            "lipstick": float(not male and rng.random() < 0.5),
            "rosy": float(not male and rng.random() < 0.2),
            "shadow": float(male and rng.random() < 0.2),
            "neckline": uniform(1.98, 2.14),
            "shoulder": uniform(1.72, 1.9),
            "apart": uniform(36.5, 40.0),
            "x": 89.0 + uniform(-2.5, 2.5),
            "y": 112.0 + uniform(-2.5, 2.5),
            "turn": np.deg2rad(uniform(-5.0, 5.0)),
            "light_x": uniform(-0.1, 0.1),
            "light_y": uniform(-0.06, 0.06),
            "light": uniform(0.86, 1.12),
            "grain": uniform(2.0, 6.0),
        }

    def attributes(self) -> dict[str, bool]:
        """The 40 attributes, as the picture shows them; what is never drawn is False."""
        person, state, (hair, smiling) = self.person, self.state, self.group
        shown = {
            "5_o_Clock_Shadow": state["shadow"] > 0,
            "Arched_Eyebrows": person["arch"] > 0.09,
            "Bangs": state["bangs"] > 0 and not state["hat"],
            "Big_Lips": person["lips"] > 0.115,
            "Big_Nose": person["nose"] > 0.27,
            "Black_Hair": hair == "black",
            "Blond_Hair": hair == "blond",
            "Brown_Hair": hair == "brown",
            "Bushy_Eyebrows": person["brow"] > 0.12,
            "Chubby": person["width"] > 1.2,
            "Eyeglasses": state["glasses"] > 0,
            "Gray_Hair": hair == "grey",
            "Male": person["male"] > 0,
            "Mouth_Slightly_Open": state["open"] > 0,
            "Narrow_Eyes": person["eye"] < 0.08,
            "No_Beard": not state["shadow"],
            "Oval_Face": person["width"] < 1.1,
            "Pale_Skin": person["tone"] == 0,
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
        person, state = self.person, self.state
        mouth_x, half, corner_y = 0.25 * state["yaw"], self._mouth_half, person["mouth_y"] - self._curve
        points = [
            (-0.5, 0.0),
            (0.5, 0.0),
            (0.35 * state["yaw"], 0.66),
            (mouth_x - half, corner_y),
            (mouth_x + half, corner_y),
        ]
        return (self._to_aligned(np.array(points)) - 0.5).reshape(-1)

    def aligned(self) -> NDArray[np.uint8]:
        """The aligned picture, (218, 178, 3) uint8."""
        return self._render(self._matrix, _ALIGNED)[0]

    def square(self, size: int) -> NDArray[np.uint8]:
        """CelebA-HQ's picture of it, (size, size, 3) uint8."""
        return self._render(self._square_matrix(size), (size, size))[0]

    def aligned_parts(self) -> dict[str, NDArray[np.bool_]]:
        """The visible parts on the aligned picture, each (218, 178) bool; parts that cannot be seen are left out."""
        return _by_part(self._marks(self._matrix, _ALIGNED))

    def parts(self, size: int) -> dict[str, NDArray[np.bool_]]:
        """The visible parts on CelebA-HQ's square, each (size, size) bool; parts that cannot be seen are left out."""
        return _by_part(self._marks(self._square_matrix(size), (size, size)))

    @property
    def _curve(self) -> float:
        """How far the corners of the mouth lie above its middle line, halved."""
        return 0.115 * self.state["smile"]

    @property
    def _mouth_half(self) -> float:
        return self.person["mouth"] + 0.06 * self.state["smile"]

    @property
    def _matrix(self) -> NDArray[np.float64]:
        """(2, 3) from the face's coordinates to pixels of the aligned picture, 0 being the first pixel's corner."""
        state = self.state
        cos, sin = state["apart"] * np.cos(state["turn"]), state["apart"] * np.sin(state["turn"])
        return np.array([[cos, -sin, state["x"]], [sin, cos, state["y"]]])

    def _to_aligned(self, points: Points) -> Points:
        return points @ self._matrix[:, :2].T + self._matrix[:, 2]

    def _square_matrix(self, size: int) -> NDArray[np.float64]:
        corner, right, below = crop_corners(self.landmarks())
        inverse = np.linalg.inv(np.column_stack([right, below]) / size)
        whole = inverse @ self._matrix
        whole[:, 2] -= inverse @ corner
        return whole

    def _marks(self, matrix: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
        """(H, W) uint8, the place of the part at each pixel's centre, from 1; 0 for none."""
        picture = Image.new("L", (size[1] * _SCALE, size[0] * _SCALE))
        draw = ImageDraw.Draw(picture)
        for piece in self.pieces:
            if piece.part is not None:
                draw.polygon(_corners(piece.points, matrix), fill=1 + PARTS.index(piece.part))
        return np.asarray(picture)[_SCALE // 2 :: _SCALE, _SCALE // 2 :: _SCALE]

    def _render(
        self, matrix: NDArray[np.float64], size: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The picture (H, W, 3) and its parts (H, W)."""
        canvas = Image.new("RGB", (size[1] * _SCALE, size[0] * _SCALE))
        draw = ImageDraw.Draw(canvas)
        for piece in self.pieces:
            draw.polygon(_corners(piece.points, matrix), fill=piece.color)
        marks = self._marks(matrix, size)
        pixels = np.asarray(canvas.reduce(_SCALE)).astype(np.float32)
        rng, state = np.random.default_rng([self.seed, 4, self.number]), self.state
        (a, b), (c, d) = np.linalg.inv(matrix[:, :2]).tolist()
        rows = np.arange(size[0], dtype=np.float32)[:, None] + (0.5 - float(matrix[1, 2]))
        columns = np.arange(size[1], dtype=np.float32)[None, :] + (0.5 - float(matrix[0, 2]))
        x, y = a * columns + b * rows, c * columns + d * rows
        light = state["light"] + state["light_x"] * x + state["light_y"] * (y - 0.5)
        flesh = np.isin(marks, [1 + PARTS.index(part) for part in ("skin", "nose", "neck")])
        light -= flesh * 0.13 * np.clip(x**2 + ((y - 0.5) / 1.3) ** 2, 0, 1.6)
        strands = np.sin(
            rng.uniform(22, 34) * x + rng.uniform(1, 4) * np.sin(rng.uniform(1, 3) * y) + rng.uniform(0, 6)
        )
        light += (marks == 1 + PARTS.index("hair")) * rng.uniform(0.08, 0.2) * strands
        angle = rng.uniform(0, np.pi)
        weave = np.sign(np.sin(rng.uniform(6, 24) * (np.cos(angle) * x + np.sin(angle) * y)))
        light += (marks == 1 + PARTS.index("cloth")) * rng.uniform(0.0, 0.25) * weave
        grain = rng.normal(0, state["grain"], (*size, 1)).astype(np.float32)
        return np.clip(pixels * light[:, :, None] + grain, 0, 255).astype(np.uint8), marks

    def _draw(self) -> list[_Piece]:
        """Everything there is to draw, from back to front."""
        person, state = self.person, self.state
        rng = np.random.default_rng([self.seed, 5, self.number])
        tone = np.array(_SKIN[int(person["tone"])]) + rng.integers(-8, 9, 3)
        skin, dark, red = _color(tone), _color(tone * 0.86), _color(tone * (0.92, 0.66, 0.64))
        hair = _color(np.array(_HAIR[self.group[0]]) + rng.integers(-9, 10, 3))
        center = -0.25 * state["yaw"]
        pieces = _background(rng)
        if state["hair_length"] > 0:
            pieces.append(_Piece(self._back_hair(center), hair, "hair"))
        pieces.append(_Piece(np.array([(-0.62, 1.1), (0.62, 1.1), (0.72, 3.4), (-0.72, 3.4)]), dark, "neck"))
        if state["necklace"] > 0:
            low = state["neckline"] - 0.06
            across = np.linspace(-0.66, 0.66, 25)
            pieces.append(
                _Piece(_band(across, low - 0.1 * across**2 / 0.44, 0.035), _color(rng.integers(150, 256, 3)), "neck_l")
            )
        pieces.append(_Piece(self._cloth(), _color(rng.integers(20, 236, 3)), "cloth"))
        ears = state["hair_length"] == 0 or rng.random() < 0.3
        for side, part in ((-1, "l_ear"), (1, "r_ear")):
            if ears:
                ear = _ellipse(center + side * (person["width"] + 0.03), 0.3, 0.14, 0.3)
                pieces.append(_Piece(ear, dark, part))
        pieces.append(_Piece(self._outline(center), skin, "skin"))
        if state["shadow"] > 0:
            pieces.append(_Piece(self._stubble(center), _color(tone * 0.78), None))
        if state["rosy"] > 0:
            for side in (-1, 1):
                cheek = _ellipse(center + side * 0.7, 0.75, 0.26, 0.18)
                pieces.append(_Piece(cheek, _color(tone * (1.0, 0.84, 0.84)), None))
        pieces += self._eyes(rng, hair) + self._nose(dark, _color(tone * 0.6))
        lips = _color(rng.uniform((150, 10, 30), (215, 60, 100))) if state["lipstick"] > 0 else red
        pieces += self._mouth(lips)
        pieces.append(_Piece(self._front_hair(center), hair, "hair"))
        if state["earrings"] > 0:
            gold = _color(rng.integers(140, 256, 3))
            pieces += [
                _Piece(_ellipse(center + side * (person["width"] + 0.05), 0.74, 0.09, 0.13), gold, "ear_r")
                for side in (-1, 1)
            ]
        pieces += self._glasses(rng)
        if state["hat"] > 0:
            pieces += self._hat(center, _color(rng.integers(20, 220, 3)))
        return pieces

    def _outline(self, center: float) -> Points:
        person = self.person
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        down = np.sin(angle)
        x = person["width"] * np.cos(angle) * (1 - person["jaw"] * np.clip(down, 0, 1) ** 2)
        return np.stack([center + x, 0.42 + np.where(down > 0, person["chin"] - 0.42, 1.42) * down], axis=1)

    def _stubble(self, center: float) -> Points:
        """The lower face, less its upper part; the mouth is drawn over it."""
        outline = self._outline(center)
        return outline[outline[:, 1] > 0.8]

    def _front_hair(self, center: float) -> Points:
        """From the left temple over the top of the head to the right one, and back along the forehead."""
        person, state = self.person, self.state
        wide, tall = person["width"] + state["volume"], 1.42 + state["volume"]
        angle = np.linspace(np.pi - 0.05, 2 * np.pi + 0.05, 41)
        wave = 1 + 0.035 * state["wavy"] * np.sin(9 * angle)
        outer = np.stack([center + wide * wave * np.cos(angle), 0.2 + tall * wave * np.sin(angle)], axis=1)
        bangs = state["bangs"] > 0
        back = np.linspace(-0.25, 0.25 - np.pi, 33)
        t = np.cos(back)
        fringe = -0.46 if bangs else -0.78 - 0.16 * np.cos(np.pi * (t - state["parting"]) / 2)
        fringe = fringe + 0.04 * state["wavy"] * np.sin(14 * t)
        inner_y = np.maximum(0.42 + 0.94 * 1.42 * np.sin(back), fringe)
        return np.concatenate([outer, np.stack([center + 0.94 * person["width"] * t, inner_y], axis=1)])

    def _back_hair(self, center: float) -> Points:
        """Hair behind the face, to the jaw or beyond the shoulders."""
        person, state = self.person, self.state
        end = 1.45 if state["hair_length"] == 1 else 2.9
        y = np.linspace(-0.25, end, 24)
        wave = 0.07 * state["wavy"] * np.sin(5.5 * y)
        x = person["width"] + state["volume"] + 0.1 * np.clip(y, 0, 1.2) + wave
        x[-2:] -= (0.12, 0.35)
        return np.concatenate([np.stack([center - x, y], axis=1), np.stack([center + x, y], axis=1)[::-1]])

    def _cloth(self) -> Points:
        state = self.state
        t = np.linspace(-0.6, 0.6, 13)
        neckline = np.stack([t, state["neckline"] - (state["neckline"] - state["shoulder"]) * (t / 0.6) ** 2], axis=1)
        right = [(1.5, state["shoulder"] + 0.2), (2.4, state["shoulder"] + 0.6), (2.9, 3.6)]
        left = [(-x, y) for x, y in reversed(right)]
        return np.concatenate([neckline, np.array(right), np.array(left)])

    def _eyes(self, rng: np.random.Generator, hair: Color) -> list[_Piece]:
        person = self.person
        iris = ((70, 45, 30), (60, 100, 140), (75, 105, 60), (40, 30, 25))[int(person["iris"])]
        brow = _color(np.array(hair) * 0.72)
        pieces = []
        for side, name in ((-1, "l"), (1, "r")):
            x = 0.5 * side
            t = np.linspace(0, np.pi, 17)
            lid = np.stack([x - 0.23 * np.cos(t), -person["eye"] * np.sin(t) ** 0.8], axis=1)
            under = np.stack([x + 0.23 * np.cos(t), 0.85 * person["eye"] * np.sin(t) ** 0.8], axis=1)
            pieces.append(_Piece(np.concatenate([lid, under]), (242, 240, 236), f"{name}_eye"))
            pieces.append(_Piece(_ellipse(x, 0.0, 0.085, 0.88 * person["eye"]), iris, None))
            pieces.append(_Piece(_ellipse(x, 0.0, 0.04, min(0.04, 0.8 * person["eye"])), (12, 12, 12), None))
            across = np.linspace(-0.3, 0.3, 15)
            line = -0.36 + person["arch"] * ((across / 0.3) ** 2 - 1)
            pieces.append(_Piece(_band(across + x + 0.03 * side, line, person["brow"]), brow, f"{name}_brow"))
        return pieces

    def _nose(self, color: Color, nostril: Color) -> list[_Piece]:
        wide, tip = self.person["nose"], 0.35 * self.state["yaw"]
        right = [(0.07, 0.12), (0.1, 0.4), (wide, 0.62), (wide - 0.04, 0.74), (0.1, 0.8)]
        shape = np.array([*right, *((-x, y) for x, y in reversed(right))])
        shape[:, 0] += tip * np.clip(shape[:, 1] / 0.66, 0, 1)
        holes = [_Piece(_ellipse(tip + side * 0.11, 0.75, 0.045, 0.025), nostril, None) for side in (-1, 1)]
        return [_Piece(shape, color, "nose"), *holes]

    def _mouth(self, lips: Color) -> list[_Piece]:
        person, state = self.person, self.state
        t = np.linspace(-1, 1, 29)
        x = 0.25 * state["yaw"] + self._mouth_half * t
        line = person["mouth_y"] + self._curve * (1 - 2 * t**2)
        belly = 1 - t**2
        upper, lower = line - 0.35 * state["open"] * belly, line + 0.65 * state["open"] * belly
        bow = 0.025 * np.exp(-((t / 0.16) ** 2))
        top, bottom = upper - person["lips"] * belly**0.75 + bow, lower + 1.15 * person["lips"] * belly**0.75
        shade = _color(np.array(lips) * 0.9)
        pieces = []
        if state["open"] > 0:
            pieces.append(_Piece(_between(x, upper, lower), (62, 16, 20), "mouth"))
            teeth = upper + 0.5 * (lower - upper)
            pieces.append(_Piece(_between(x[3:-3], upper[3:-3], teeth[3:-3]), (238, 234, 224), None))
        pieces.append(_Piece(_between(x, top, upper), shade, "u_lip"))
        pieces.append(_Piece(_between(x, lower, bottom), lips, "l_lip"))
        if state["open"] == 0:
            pieces.append(_Piece(_between(x, line - 0.012, line + 0.012), _color(np.array(lips) * 0.5), None))
        return pieces

    def _glasses(self, rng: np.random.Generator) -> list[_Piece]:
        kind = self.state["glasses"]
        if kind == 0:
            return []
        frame = _color(rng.integers(10, 90, 3))
        pieces = [_Piece(_band(np.array([-0.2, 0.2]), np.array([-0.05, -0.05]), 0.05), frame, "eye_g")]
        for side in (-1, 1):
            outer = _ellipse(0.5 * side, 0.03, 0.38, 0.28)
            if kind == 2:  # dark lenses hide the eyes
                pieces.append(_Piece(outer, frame, "eye_g"))
                continue
            inner = _ellipse(0.5 * side, 0.03, 0.33, 0.23)
            ring = np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
            pieces.append(_Piece(ring, frame, "eye_g"))
        return pieces

    def _hat(self, center: float, color: Color) -> list[_Piece]:
        wide, volume = self.person["width"], self.state["volume"]
        t = np.linspace(np.pi, 2 * np.pi, 31)
        crown = np.stack([center + (wide + volume + 0.04) * np.cos(t), -0.62 + (0.78 + volume) * np.sin(t)], axis=1)
        brim = _ellipse(center, -0.62, wide + volume + 0.3, 0.14)
        return [_Piece(crown, color, "hat"), _Piece(brim, _color(np.array(color) * 0.7), "hat")]


def hq_order(seed: int, n: int) -> list[int]:
    """Numbers of the CelebA files that CelebA-HQ's indices 0, 1, ... of a stand-in were cut from."""
    order = 1 + np.random.default_rng([seed, 6]).permutation(n)
    return [int(number) for number in order]


def _background(rng: np.random.Generator) -> list[_Piece]:
    whole = np.array([(-9.0, -9.0), (9.0, -9.0), (9.0, 9.0), (-9.0, 9.0)])
    base = rng.integers(20, 236, 3)
    pieces = [_Piece(whole, _color(base), None)]
    for _ in range(int(rng.integers(3, 11))):
        color = _color(0.6 * base + 0.4 * rng.integers(0, 256, 3))
        x, y = rng.uniform(-2.6, 2.6), rng.uniform(-3.2, 3.2)
        wide, tall = rng.uniform(0.2, 1.6, 2)
        box = np.array([(x - wide, y - tall), (x + wide, y - tall), (x + wide, y + tall), (x - wide, y + tall)])
        pieces.append(_Piece(_ellipse(x, y, wide, tall) if rng.random() < 0.5 else box, color, None))
    return pieces


def _color(values: ArrayLike) -> Color:
    red, green, blue = np.clip(np.rint(np.asarray(values, dtype=np.float64)), 0, 255).astype(int).tolist()
    return red, green, blue


def _ellipse(x: float, y: float, wide: float, tall: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + wide * np.cos(angle), y + tall * np.sin(angle)], axis=1)


def _by_part(marks: NDArray[np.uint8]) -> dict[str, NDArray[np.bool_]]:
    return {part: marks == place for place, part in enumerate(PARTS, 1) if (marks == place).any()}


def _band(x: Points, y: Points, thickness: float) -> Points:
    """A stripe along a line."""
    return _between(x, y - thickness / 2, y + thickness / 2)


def _between(x: Points, top: Points, bottom: Points) -> Points:
    """The area between two lines over the same x."""
    return np.concatenate([np.stack([x, top], axis=1), np.stack([x, bottom], axis=1)[::-1]])


def _corners(points: Points, matrix: NDArray[np.float64]) -> list[tuple[float, float]]:
    """An outline on the enlarged picture, as PIL counts: whole numbers are centres of pixels."""
    moved = (points @ matrix[:, :2].T + matrix[:, 2]) * _SCALE - 0.5
    return [(x, y) for x, y in moved.tolist()]
