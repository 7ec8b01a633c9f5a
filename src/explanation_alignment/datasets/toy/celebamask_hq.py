"""A small generated stand-in for CelebAMask-HQ: its folders, its lists, drawn faces with a mask for every part."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from explanation_alignment.datasets.reading.celeba_files import IMAGES_PER_FOLDER
from explanation_alignment.datasets.toy.celeba import attribute_lines
from explanation_alignment.datasets.toy.faces import Face, hq_order
from explanation_alignment.datasets.toy.painting import save_jpeg, save_png, start_toy

__all__ = ["write"]

#: Sides in pixels; the real ones are 1024 and 512.
IMAGE_SIDE: Final = 512
MASK_SIDE: Final = 256


def write(folder: Path, n: int, seed: int) -> None:
    """Write ``CelebA-HQ-img``, ``CelebAMask-HQ-mask-anno`` and the two lists.

    Pictures and masks are half as large as the real ones. The faces are those of the stand-in of CelebA with the same
    seed and at least as many images, in another order, each cut as CelebA-HQ cuts it.

    Raises:
        UsageError: the folder is not empty.
    """
    start_toy(folder, "celebamask_hq", n, seed)
    mapping = ["idx    orig_idx    orig_file"]
    attributes: list[dict[str, bool]] = []
    for index, number in enumerate(hq_order(seed, n)):
        face = Face(seed, number)
        save_jpeg(folder / "CelebA-HQ-img" / f"{index}.jpg", face.square(IMAGE_SIDE))
        masks = folder / "CelebAMask-HQ-mask-anno" / str(index // IMAGES_PER_FOLDER)
        for part, mask in face.parts(MASK_SIDE).items():
            save_png(masks / f"{index:05d}_{part}.png", mask)
        mapping.append(f"{index:<9d}{number - 1:<12d}{number:06d}.jpg")
        attributes.append(face.attributes())
    names = [f"{index}.jpg" for index in range(n)]
    for name, lines in (
        ("CelebA-HQ-to-CelebA-mapping.txt", mapping),
        ("CelebAMask-HQ-attribute-anno.txt", attribute_lines(names, attributes)),
    ):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
