"""A small generated stand-in for CelebA: its folders, its lists with their runs of spaces, drawn faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from explanation_alignment.datasets.reading.celeba_files import ATTRIBUTES, LANDMARKS
from explanation_alignment.datasets.toy.faces import Face
from explanation_alignment.datasets.toy.painting import save_jpeg, start_toy

__all__ = ["attribute_lines", "write"]


def write(folder: Path, n: int, seed: int) -> None:
    """Write ``Anno``, ``Eval`` and ``Img/img_align_celeba``.

    Faces with black and with blond hair, smiling and not, are a fifth each; of ten in a row six are for training, one
    for validation, three for testing. The stand-in of CelebAMask-HQ with the same seed shows the same faces.

    Raises:
        UsageError: the folder is not empty.
    """
    start_toy(folder, "celeba", n, seed)
    for name in ("Anno", "Eval"):
        (folder / name).mkdir()
    names = [f"{number:06d}.jpg" for number in range(1, n + 1)]
    attributes: list[dict[str, bool]] = []
    points: list[str] = [str(n), f"{' '.join(LANDMARKS)} "]
    partition: list[str] = []
    people: list[str] = []
    for number, name in enumerate(names, 1):
        face = Face(seed, number)
        save_jpeg(folder / "Img" / "img_align_celeba" / name, face.aligned())
        attributes.append(face.attributes())
        first, *others = np.rint(face.landmarks()).astype(int).tolist()
        points.append(f"{name}{first:4d}" + "".join(f"{value:5d}" for value in others) + " ")
        partition.append(f"{name} {face.partition}")
        people.append(f"{name} {face.identity}")
    _save(folder / "Anno" / "list_attr_celeba.txt", attribute_lines(names, attributes))
    _save(folder / "Anno" / "list_landmarks_align_celeba.txt", points)
    _save(folder / "Anno" / "identity_CelebA.txt", people)
    _save(folder / "Eval" / "list_eval_partition.txt", partition)


def attribute_lines(names: Sequence[str], attributes: Sequence[dict[str, bool]]) -> list[str]:
    """The list of attributes: the count, the header with a space behind it, and values 1 and -1 in columns."""
    rows = [
        name + " " + " ".join(f"{1 if values[attribute] else -1:2d}" for attribute in ATTRIBUTES)
        for name, values in zip(names, attributes, strict=True)
    ]
    return [str(len(names)), " ".join(ATTRIBUTES) + " ", *rows]


def _save(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
