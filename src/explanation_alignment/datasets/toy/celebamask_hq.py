"""A small generated stand-in for CelebAMask-HQ: its folders, its lists, drawn faces with a mask for every part."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from explanation_alignment.datasets.reading.celeba_files import IMAGES_PER_FOLDER
from explanation_alignment.datasets.toy.celeba import attribute_lines, changed_shares
from explanation_alignment.datasets.toy.face_groups import check_shares
from explanation_alignment.datasets.toy.faces import Face, draw_faces, hq_order
from explanation_alignment.datasets.toy.painting import in_parallel, save_jpeg, save_png, start_toy

__all__ = ["write"]

#: Sides in pixels; the real ones are 1024 and 512.
IMAGE_SIDE: Final = 512
MASK_SIDE: Final = 256
#: Faces that are worth a process.
_ENOUGH: Final = 24


def write(
    folder: Path,
    n: int,
    seed: int,
    correlation: float = 0.0,
    other_hair: float = 0.2,
    *,
    workers: int | None = None,
) -> None:
    """Write ``CelebA-HQ-img``, ``CelebAMask-HQ-mask-anno`` and the two lists.

    Pictures and masks are half as large as the real ones. The faces are those of the stand-in of CelebA with the same
    seed and shares and at least as many images, in another order, each cut as CelebA-HQ cuts it.

    Args:
        folder: a new or empty one.
        n: faces.
        seed: another seed, other faces.
        correlation: phi between hair (black or blond) and smile, see :func:`.celeba.write`.
        other_hair: share of faces with brown or grey hair.
        workers: processes to draw in; None for as many as there are CPUs. The files do not depend on it.

    Raises:
        UsageError: the folder is not empty, or for numbers there cannot be.
    """
    check_shares(correlation, other_hair)
    start_toy(folder, "celebamask_hq", n, seed, changed_shares(correlation, other_hair))
    known = draw_faces(n, seed, correlation, other_hair)
    faces = [known[number - 1] for number in hq_order(seed, n)]
    in_parallel(partial(_write_face, folder), list(enumerate(faces)), enough=_ENOUGH, workers=workers)
    mapping = ["idx    orig_idx    orig_file"]
    mapping += [f"{index:<9d}{face.number - 1:<12d}{face.number:06d}.jpg" for index, face in enumerate(faces)]
    names = [f"{index}.jpg" for index in range(n)]
    for name, lines in (
        ("CelebA-HQ-to-CelebA-mapping.txt", mapping),
        ("CelebAMask-HQ-attribute-anno.txt", attribute_lines(names, [face.attributes() for face in faces])),
    ):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_face(folder: Path, indexed: tuple[int, Face]) -> None:
    index, face = indexed[0], replace(indexed[1])  # the copy takes its pieces along when it goes
    save_jpeg(folder / "CelebA-HQ-img" / f"{index}.jpg", face.square(IMAGE_SIDE))
    masks = folder / "CelebAMask-HQ-mask-anno" / str(index // IMAGES_PER_FOLDER)
    for part, mask in face.parts(MASK_SIDE).items():
        save_png(masks / f"{index:05d}_{part}.png", mask)
