"""The outlines and colours a drawn face is made of, from back to front.

Coordinates of a face: the origin between the eyes, x to the picture's right, y down, the distance between the eyes as
unit. Only ``_mouth`` knows the smile, and only hair has the hair's colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "HAIR",
    "NO_PART",
    "SKIN",
    "Piece",
    "Points",
    "background",
    "mouth_corners",
    "nose_tip",
    "pieces",
]

Points: TypeAlias = NDArray[np.float64]
Color: TypeAlias = tuple[int, int, int]
Numbers: TypeAlias = Mapping[str, float]

#: What is background, or hides a face's parts.
NO_PART: Final = ""
HAIR: Final = {"black": (30, 25, 24), "blond": (218, 184, 112), "brown": (108, 70, 42), "grey": (158, 156, 154)}
SKIN: Final = ((246, 214, 190), (233, 190, 158), (214, 164, 128), (186, 132, 96), (140, 94, 64), (98, 64, 44))
_BROWS: Final = ((28, 23, 21), (70, 46, 30), (112, 82, 52), (150, 124, 88), (118, 116, 113))
_IRIS: Final = ((70, 45, 30), (60, 100, 140), (75, 105, 60), (40, 30, 25))
_ANGLES: Final = np.linspace(0, 2 * np.pi, 40, endpoint=False)
_CIRCLE: Final[Points] = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
#: Where the nose ends without a nod.
_NOSE_TIP: Final = 0.66


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A filled outline of one colour.

    Args:
        points: (N, 2) corners.
        color: red, green, blue.
        part: what its pixels are, ``NO_PART`` for none.
    """

    points: Points
    color: Color
    part: str


@dataclass(frozen=True, slots=True)
class _Paint:
    """Colours, drawn all at once, so that none depends on what is shown."""

    skin: Color
    shaded: Color
    hollow: Color
    beard: Color
    cheek: Color
    bag: Color
    hand: Color
    crease: Color
    lips: Color
    brow: Color
    iris: Color
    hair: Color
    makeup: Color
    cloth: Color
    metal: Color
    frame: Color
    hat: Color
    thing: Color

    @classmethod
    def draw(cls, rng: np.random.Generator, hair: str, person: Numbers, state: Numbers) -> _Paint:
        below = min(int(person["tone"]), len(SKIN) - 2)
        share = person["tone"] - below
        tone = (1 - share) * np.array(SKIN[below]) + share * np.array(SKIN[below + 1]) + rng.integers(-8, 9, 3)
        strand = np.array(HAIR[hair]) * rng.uniform(0.86, 1.1) + rng.integers(-9, 10, 3)
        lipstick, frame = rng.uniform((150, 10, 30), (215, 60, 100)), rng.integers(10, 90, 3)
        cloth, metal, hat, thing = (rng.integers(low, 236, 3) for low in (20, 140, 20, 10))
        powder = 0.55 * tone + 0.45 * rng.integers(20, 200, 3)
        brow = np.array(_BROWS[int(person["brow_color"])])
        stubble = 0.8 * tone + 0.2 * brow
        return cls(
            skin=_color(tone),
            shaded=_color(tone * 0.86),
            hollow=_color(tone * 0.6),
            beard=_color(stubble if state["beard"] == 1 else 0.85 * brow),
            cheek=_color(tone * (1.0, 0.84, 0.84)),
            bag=_color(tone * 0.9),
            hand=_color(tone * 0.97),
            crease=_color(tone * 0.74),
            lips=_color(lipstick if state["lipstick"] > 0 else tone * (0.84, 0.52, 0.52)),
            brow=_color(brow),
            iris=_IRIS[int(person["iris"])],
            hair=_color(strand),
            makeup=_color(powder),
            cloth=_color(cloth),
            metal=_color(metal),
            frame=_color(frame),
            hat=_color(hat),
            thing=_color(thing),
        )


def pieces(rng: np.random.Generator, hair: str, smile: float, person: Numbers, state: Numbers) -> list[Piece]:
    """Everything of a face but what is behind it.

    Args:
        rng: decides the colours.
        hair: one of ``HAIR``.
        smile: from -1, a frown, to 1.
        person: what stays the same in all pictures of a person, see ``Face.person``.
        state: what differs from picture to picture, see ``Face.state``.
    """
    paint = _Paint.draw(rng, hair, person, state)
    center = -0.25 * state["yaw"]
    return [
        *_behind(center, paint, person, state),
        *_head(center, paint, person, state),
        *_eyes(paint, person, state),
        *_nose(paint, person, state),
        *_mouth(paint.lips, smile, person, state),
        Piece(_front_hair(center, person, state), paint.hair, "hair"),
        *_lock(center, paint, person, state),
        *_worn(center, paint, person, state),
        *_held(center, paint, person, state),
    ]


def background(rng: np.random.Generator) -> list[Piece]:
    """A wall and what hangs on it."""
    whole = np.array([(-9.0, -9.0), (9.0, -9.0), (9.0, 9.0), (-9.0, 9.0)])
    base = rng.integers(20, 236, 3)
    drawn = [Piece(whole, _color(base), NO_PART)]
    for _ in range(int(rng.integers(3, 11))):
        color = _color(0.6 * base + 0.4 * rng.integers(0, 256, 3))
        x, y = rng.uniform(-2.6, 2.6), rng.uniform(-3.2, 3.2)
        wide, tall = rng.uniform(0.2, 1.6, 2)
        box = np.array([(x - wide, y - tall), (x + wide, y - tall), (x + wide, y + tall), (x - wide, y + tall)])
        drawn.append(Piece(_ellipse(x, y, wide, tall) if rng.random() < 0.5 else box, color, NO_PART))
    return drawn


def mouth_corners(person: Numbers, state: Numbers) -> Points:
    """(2, 2) the left and the right corner; they stay where they are in a smile, and the middle of the lips moves."""
    x, half = 0.25 * state["yaw"], person["mouth"] * (1 - 0.2 * abs(state["yaw"]))
    y = person["mouth_y"] + 0.03 * state["nod"]
    return np.array([(x - half, y), (x + half, y)])


def _mouth(lips: Color, smile: float, person: Numbers, state: Numbers) -> list[Piece]:
    """Lips, and teeth between them where the mouth is open; the only pieces that follow the smile."""
    (left, y), (right, _) = mouth_corners(person, state)
    t = np.linspace(-1, 1, 29)
    x = left + (right - left) * (t + 1) / 2
    belly = 1 - t**2
    line = y + 0.22 * smile * belly
    upper, lower = line - 0.35 * state["open"] * belly, line + 0.65 * state["open"] * belly
    bow = 0.025 * np.exp(-((t / 0.16) ** 2))
    top, bottom = upper - person["lips"] * belly**0.75 + bow, lower + 1.15 * person["lips"] * belly**0.75
    shade, dark = _color(np.array(lips) * 0.88), _color(np.array(lips) * 0.4)
    drawn = []
    if state["open"] > 0:
        drawn.append(Piece(_between(x, upper, lower), (62, 16, 20), "mouth"))
        teeth = upper + 0.5 * (lower - upper)
        drawn.append(Piece(_between(x[3:-3], upper[3:-3], teeth[3:-3]), (238, 234, 224), "mouth"))
    drawn.append(Piece(_between(x, top, upper), shade, "u_lip"))
    drawn.append(Piece(_between(x, lower, bottom), lips, "l_lip"))
    if state["open"] == 0:
        drawn.append(Piece(_between(x, line - 0.022, line), dark, "u_lip"))
        drawn.append(Piece(_between(x, line, line + 0.022), dark, "l_lip"))
    return drawn


def _behind(center: float, paint: _Paint, person: Numbers, state: Numbers) -> list[Piece]:
    """Hair behind the head, neck and cloth."""
    drawn = []
    if state["bun"] > 0:
        high = -1.22 - state["volume"]
        drawn.append(Piece(_ellipse(center + 0.3 * state["parting"], high, 0.42, 0.36), paint.hair, "hair"))
    if state["hair_length"] > 0:
        drawn.append(Piece(_back_hair(center, person, state), paint.hair, "hair"))
    drawn.append(Piece(np.array([(-0.62, 1.1), (0.62, 1.1), (0.72, 3.4), (-0.72, 3.4)]), paint.shaded, "neck"))
    if state["necklace"] > 0:
        across = np.linspace(-0.66, 0.66, 25)
        line = state["neckline"] - 0.06 - 0.1 * across**2 / 0.44
        drawn.append(Piece(_band(across, line, 0.035), paint.metal, "neck_l"))
    drawn.append(Piece(_cloth(state), paint.cloth, "cloth"))
    return drawn


def _head(center: float, paint: _Paint, person: Numbers, state: Numbers) -> list[Piece]:
    """Ears, skin, beard and cheeks."""
    drawn = []
    if state["hair_length"] == 0 or state["ears"] > 0:
        for side, part in ((-1, "l_ear"), (1, "r_ear")):
            drawn.append(Piece(_ellipse(center + side * (person["width"] + 0.03), 0.3, 0.14, 0.3), paint.shaded, part))
    outline = _outline(center, person, state)
    drawn.append(Piece(outline, paint.skin, "skin"))
    if state["rosy"] > 0:
        for side in (-1, 1):
            drawn.append(Piece(_ellipse(center + side * 0.72, 0.72, 0.2, 0.17), paint.cheek, "skin"))
    corners = mouth_corners(person, state)
    x, y = corners.mean(axis=0)
    if state["beard"] in (1, 4):
        lower = outline[outline[:, 1] > 0.55]
        t = np.linspace(-1, 1, 15)
        inner = np.stack([center + 0.93 * person["width"] * t, 0.97 - 0.42 * t**2], axis=1)
        drawn.append(Piece(np.concatenate([lower, inner]), paint.beard, "skin"))
    if state["beard"] in (2, 3):
        t = np.linspace(-1, 1, 15)
        drawn.append(Piece(_band(x + 0.38 * t, y - 0.2 + 0.1 * t**2, 0.13), paint.beard, "skin"))
    if state["beard"] == 3:
        drawn.append(Piece(_ellipse(x, (y + person["chin"]) / 2 + 0.14, 0.26, 0.2), paint.beard, "skin"))
    return drawn


def _outline(center: float, person: Numbers, state: Numbers) -> Points:
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    down = np.sin(angle)
    x = person["width"] * np.cos(angle) * (1 - person["jaw"] * np.clip(down, 0, 1) ** 2)
    low = person["chin"] + 0.03 * state["nod"] - 0.42
    return np.stack([center + x, 0.42 + np.where(down > 0, low, 1.42) * down], axis=1)


def _front_hair(center: float, person: Numbers, state: Numbers) -> Points:
    """From the left temple over the top of the head to the right one, and back along the forehead."""
    wide, tall = person["width"] + state["volume"], 1.42 + state["volume"]
    angle = np.linspace(np.pi - 0.05, 2 * np.pi + 0.05, 41)
    wave = 1 + 0.035 * state["wavy"] * np.sin(9 * angle)
    outer = np.stack([center + wide * wave * np.cos(angle), 0.2 + tall * wave * np.sin(angle)], axis=1)
    back = np.linspace(-0.25, 0.25 - np.pi, 33)
    t = np.cos(back)
    high = -person["forehead"] - 0.16 * np.cos(np.pi * (t - state["parting"]) / 2)
    fringe = (-0.46 if state["bangs"] > 0 else high) + 0.05 * state["nod"] + 0.04 * state["wavy"] * np.sin(14 * t)
    inner_y = np.maximum(0.42 + 0.94 * 1.42 * np.sin(back), fringe)
    return np.concatenate([outer, np.stack([center + 0.94 * person["width"] * t, inner_y], axis=1)])


def _back_hair(center: float, person: Numbers, state: Numbers) -> Points:
    """Hair behind the face, to the jaw or beyond the shoulders."""
    end = 1.45 if state["hair_length"] == 1 else 2.9
    y = np.linspace(-0.25, end, 24)
    wave = 0.07 * state["wavy"] * np.sin(5.5 * y)
    x = person["width"] + state["volume"] + 0.1 * np.clip(y, 0, 1.2) + wave
    x[-2:] -= (0.12, 0.35)
    return np.concatenate([np.stack([center - x, y], axis=1), np.stack([center + x, y], axis=1)[::-1]])


def _lock(center: float, paint: _Paint, person: Numbers, state: Numbers) -> list[Piece]:
    """A strand of hair that falls over an eye and the cheek."""
    if state["held"] != 4:
        return []
    side = state["side"]
    y = np.linspace(-0.85, 0.85, 13)
    x = center + side * (0.5 + 0.22 * np.sin(1.4 * (y + 0.85)))
    width = 0.16 * np.sqrt(np.clip((0.9 - y) / 1.7, 0, 1))
    shape = np.concatenate([np.stack([x - width, y], axis=1), np.stack([x + width, y], axis=1)[::-1]])
    return [Piece(shape, paint.hair, "hair")]


def _cloth(state: Numbers) -> Points:
    t = np.linspace(-0.6, 0.6, 13)
    neckline = np.stack([t, state["neckline"] - (state["neckline"] - state["shoulder"]) * (t / 0.6) ** 2], axis=1)
    right = [(1.5, state["shoulder"] + 0.2), (2.4, state["shoulder"] + 0.6), (2.9, 3.6)]
    left = [(-x, y) for x, y in reversed(right)]
    return np.concatenate([neckline, np.array(right), np.array(left)])


def _eyes(paint: _Paint, person: Numbers, state: Numbers) -> list[Piece]:
    tall = person["eye"] * state["lids"]
    gaze_x, gaze_y = 0.07 * state["gaze_x"], 0.3 * tall * state["gaze_y"]
    t = np.linspace(0, np.pi, 17)
    drawn = []
    for side, name in ((-1, "l"), (1, "r")):
        x = 0.5 * side
        if state["makeup"] > 0:
            drawn.append(Piece(_ellipse(x, -0.1, 0.27, 0.13), paint.makeup, "skin"))
        if state["bags"] > 0:
            across = np.linspace(-0.2, 0.2, 9)
            drawn.append(Piece(_band(x + across, tall + 0.09 - 0.9 * across**2, 0.04), paint.bag, "skin"))
        lid = np.stack([x - 0.23 * np.cos(t), -tall * np.sin(t) ** 0.8], axis=1)
        under = np.stack([x + 0.23 * np.cos(t), 0.85 * tall * np.sin(t) ** 0.8], axis=1)
        drawn.append(Piece(np.concatenate([lid, under]), (242, 240, 236), f"{name}_eye"))
        iris, pupil = 0.8 * min(0.1, 0.98 * tall), min(0.036, 0.45 * tall)
        drawn.append(Piece(_ellipse(x + gaze_x, gaze_y, iris, iris), paint.iris, f"{name}_eye"))
        drawn.append(Piece(_ellipse(x + gaze_x, gaze_y, pupil, pupil), (12, 12, 12), f"{name}_eye"))
        across = np.linspace(-0.3, 0.3, 15)
        line = -0.36 - state["brow_lift"] + person["arch"] * ((across / 0.3) ** 2 - 1)
        line = line + side * state["brow_tilt"] * across
        drawn.append(Piece(_band(across + x + 0.03 * side, line, person["brow"]), paint.brow, f"{name}_brow"))
    return drawn


def nose_tip(state: Numbers) -> Points:
    """(2,) where the nose's point is."""
    return np.array([0.35 * state["yaw"], _NOSE_TIP + 0.05 * state["nod"]])


def _nose(paint: _Paint, person: Numbers, state: Numbers) -> list[Piece]:
    wide, (tip, end) = person["nose"], nose_tip(state)
    right = [(0.07, 0.12), (0.1, 0.4), (wide, 0.62), (wide - 0.04, 0.74), (0.1, 0.8)]
    shape = np.array([*right, *((-x, y) for x, y in reversed(right))])
    shape *= (1, end / _NOSE_TIP)
    shape[:, 0] += tip * np.clip(shape[:, 1] / end, 0, 1)
    holes = [Piece(_ellipse(tip + side * 0.11, end + 0.09, 0.045, 0.025), paint.hollow, "nose") for side in (-1, 1)]
    return [Piece(shape, paint.shaded, "nose"), *holes]


def _worn(center: float, paint: _Paint, person: Numbers, state: Numbers) -> list[Piece]:
    """Earrings, glasses, a hat."""
    drawn = []
    if state["earrings"] > 0:
        away = person["width"] + 0.05
        drawn += [Piece(_ellipse(center + side * away, 0.74, 0.09, 0.13), paint.metal, "ear_r") for side in (-1, 1)]
    if state["glasses"] > 0:
        drawn.append(Piece(_band(np.array([-0.2, 0.2]), np.array([-0.05, -0.05]), 0.05), paint.frame, "eye_g"))
        for side in (-1, 1):
            outer = _ellipse(0.5 * side, 0.03, 0.38, 0.28)
            inner = _ellipse(0.5 * side, 0.03, 0.33, 0.23)
            ring = np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
            # dark lenses hide the eyes
            drawn.append(Piece(outer if state["glasses"] == 2 else ring, paint.frame, "eye_g"))
    if state["hat"] > 0:
        wide, volume = person["width"], state["volume"]
        t = np.linspace(np.pi, 2 * np.pi, 31)
        crown = np.stack([center + (wide + volume + 0.04) * np.cos(t), -0.62 + (0.78 + volume) * np.sin(t)], axis=1)
        brim = _ellipse(center, -0.62, wide + volume + 0.3, 0.14)
        drawn += [Piece(crown, paint.hat, "hat"), Piece(brim, _color(np.array(paint.hat) * 0.7), "hat")]
    return drawn


def _held(center: float, paint: _Paint, person: Numbers, state: Numbers) -> list[Piece]:
    """What is before the face: a hand at the cheek or under the chin, a microphone; hardly anything of the mouth."""
    side, kind = state["side"], state["held"]
    drawn = []
    if kind == 1:
        x = center + side * (person["width"] - 0.02)
        arm = np.array([(x - 0.26, 1.4), (x + 0.3, 1.4), (x + side * 0.5 + 0.3, 3.6), (x + side * 0.5 - 0.3, 3.6)])
        drawn += [Piece(arm, paint.hand, NO_PART), Piece(_ellipse(x, 1.2, 0.32, 0.42), paint.hand, NO_PART)]
        for finger, length in enumerate((0.5, 0.62, 0.58, 0.4)):
            middle = x + (finger - 1.5) * 0.15
            drawn.append(Piece(_ellipse(middle, 0.95 - 0.5 * length, 0.075, length), paint.hand, NO_PART))
            if finger:
                left, right = middle - 0.09, middle - 0.06
                crease = np.array([(left, 0.5), (right, 0.5), (right, 1.0), (left, 1.0)])
                drawn.append(Piece(crease, paint.crease, NO_PART))
    elif kind == 2:
        y = person["chin"] + 0.03 * state["nod"] - 0.06
        arm = np.array([(side * 0.2, y), (side * 0.9, y), (side * 1.4, 3.6), (side * 0.5, 3.6)])
        drawn.append(Piece(arm, paint.hand, NO_PART))
        for finger in range(3):
            drawn.append(Piece(_ellipse(side * 0.12, y + 0.16 * finger, 0.62, 0.095), paint.crease, NO_PART))
            drawn.append(Piece(_ellipse(side * 0.12, y - 0.012 + 0.16 * finger, 0.6, 0.08), paint.hand, NO_PART))
    elif kind == 3:
        x, y = side * (0.45 + 0.15 * state["reach"]), 1.58 - 0.14 * state["reach"]
        stick = np.array([(x - 0.1, y), (x + 0.1, y), (x + side * 0.6 + 0.1, 3.6), (x + side * 0.6 - 0.1, 3.6)])
        drawn += [Piece(stick, paint.thing, NO_PART), Piece(_ellipse(x, y, 0.24, 0.26), (38, 38, 42), NO_PART)]
        drawn.append(Piece(_ellipse(x - 0.08, y - 0.09, 0.07, 0.07), (92, 92, 98), NO_PART))
    return drawn


def _color(values: ArrayLike) -> Color:
    red, green, blue = np.clip(np.rint(np.asarray(values, dtype=np.float64)), 0, 255).astype(int).tolist()
    return red, green, blue


def _ellipse(x: float, y: float, wide: float, tall: float) -> Points:
    return _CIRCLE * (wide, tall) + (x, y)


def _band(x: Points, y: Points, thickness: float) -> Points:
    """A stripe along a line."""
    return _between(x, y - thickness / 2, y + thickness / 2)


def _between(x: Points, top: Points, bottom: Points) -> Points:
    """The area between two lines over the same x."""
    return np.concatenate([np.stack([x, top], axis=1), np.stack([x, bottom], axis=1)[::-1]])
