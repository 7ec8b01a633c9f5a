"""A small generated stand-in for CelebA: its folders, its lists with their runs of spaces, drawn faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from explanation_alignment.datasets.reading.celeba_files import ATTRIBUTES, LANDMARKS
from explanation_alignment.datasets.toy.face_groups import check_shares
from explanation_alignment.datasets.toy.faces import Face, draw_faces
from explanation_alignment.datasets.toy.painting import in_parallel, save_jpeg, start_toy

__all__ = ["attribute_lines", "changed_shares", "write"]

#: Faces that are worth a process.
_ENOUGH: Final = 128


def write(
    folder: Path,
    n: int,
    seed: int,
    correlation: float = 0.0,
    other_hair: float = 0.2,
    *,
    workers: int | None = None,
) -> None:
    """Write ``Anno``, ``Eval`` and ``Img/img_align_celeba``.

    Of ten faces in a row six are for training, one for validation, three for testing. In each partition the first k
    faces hold of every group its share of k, rounded up or down. The stand-in of CelebAMask-HQ with the same seed and
    shares shows the same faces; smaller ones show the first of a larger one.

    Args:
        folder: a new or empty one.
        n: faces.
        seed: another seed, other faces.
        correlation: phi between hair (black or blond) and smile, -1 to 1: of the faces with black or blond hair
            (1 + correlation) / 4 are black and smiling, as many blond and not smiling.
        other_hair: share of faces with brown or grey hair, 0 to below 1; their smile is independent of it.
        workers: processes to draw in; None for as many as there are CPUs. The files do not depend on it.

    Raises:
        UsageError: the folder is not empty, or for numbers there cannot be.
    """
    check_shares(correlation, other_hair)
    start_toy(folder, "celeba", n, seed, changed_shares(correlation, other_hair))
    for name in ("Anno", "Eval"):
        (folder / name).mkdir()
    pictures = folder / "Img" / "img_align_celeba"
    faces = draw_faces(n, seed, correlation, other_hair)
    names = [_name(face) for face in faces]
    in_parallel(partial(_write_picture, pictures), faces, enough=_ENOUGH, workers=workers)
    points: list[str] = [str(n), f"{' '.join(LANDMARKS)} "]
    for name, face in zip(names, faces, strict=True):
        first, *others = np.rint(face.landmarks()).astype(int).tolist()
        points.append(f"{name}{first:4d}" + "".join(f"{value:5d}" for value in others) + " ")
    lists = {
        "Anno/list_attr_celeba.txt": attribute_lines(names, [face.attributes() for face in faces]),
        "Anno/list_landmarks_align_celeba.txt": points,
        "Anno/identity_CelebA.txt": [f"{name} {face.identity}" for name, face in zip(names, faces, strict=True)],
        "Eval/list_eval_partition.txt": [f"{name} {face.partition}" for name, face in zip(names, faces, strict=True)],
    }
    for path, lines in lists.items():
        (folder / path).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def changed_shares(correlation: float, other_hair: float) -> Mapping[str, float]:
    """Options of the command, where they are not left as they are."""
    given = {"correlation": (correlation, 0.0), "other-hair": (other_hair, 0.2)}
    return {name: value for name, (value, usual) in given.items() if value != usual}


def attribute_lines(names: Sequence[str], attributes: Sequence[dict[str, bool]]) -> list[str]:
    """The list of attributes: the count, the header with a space behind it, and values 1 and -1 in columns."""
    rows = [
        name + " " + " ".join(f"{1 if values[attribute] else -1:2d}" for attribute in ATTRIBUTES)
        for name, values in zip(names, attributes, strict=True)
    ]
    return [str(len(names)), " ".join(ATTRIBUTES) + " ", *rows]


def _name(face: Face) -> str:
    return f"{face.number:06d}.jpg"


def _write_picture(folder: Path, face: Face) -> None:
    save_jpeg(folder / _name(face), replace(face).aligned())  # the copy takes its pieces along when it goes
