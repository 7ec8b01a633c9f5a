"""What CelebA and CelebAMask-HQ share: their lists, their image folders, part masks, and the crop between the two.

Sources: Liu et al., Deep Learning Face Attributes in the Wild (ICCV 2015); Lee et al., MaskGAN (CVPR 2020); the crop is
that of Karras et al., Progressive Growing of GANs (ICLR 2018), appendix C.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.arguments import as_names, known_name
from explanation_alignment.datasets.reading.files import IMAGE_SUFFIXES, data_folder, inside, open_image
from explanation_alignment.errors import DatasetError, UsageError

__all__ = [
    "ATTRIBUTES",
    "LANDMARKS",
    "PARTS",
    "SPLITS",
    "PartMasks",
    "attribute_table",
    "carry_back",
    "class_names_of",
    "crop_corners",
    "digest",
    "evidence_for",
    "find_list",
    "hair_color",
    "hq_root",
    "identity_table",
    "image_table",
    "landmark_table",
    "lay_on_center",
    "listed",
    "mapping_table",
    "mask_folder",
    "needed_list",
    "partition_table",
    "read_list",
    "several",
]

_ATTRIBUTE_WORDS = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair "
    "Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male "
    "Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks "
    "Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace "
    "Wearing_Necktie Young"
)
#: The 40 attributes, in the order of the published list.
ATTRIBUTES: Final = tuple(_ATTRIBUTE_WORDS.split())
#: The five points of a face as pixels; left is the picture's left.
LANDMARKS: Final = tuple(
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
_PART_WORDS = "skin l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r nose mouth u_lip l_lip neck neck_l cloth hair hat"
#: The parts CelebAMask-HQ has masks of; the published 19 classes are these and the background.
PARTS: Final = tuple(_PART_WORDS.split())
#: Folders of the mask archive hold so many images each.
IMAGES_PER_FOLDER: Final = 2000
SPLITS: Final = ("train", "valid", "test")
_MASK_FOLDERS: Final = ("CelebAMask-HQ-mask-anno", "CelebAMaskHQ-mask-anno")

#: What a person would accept as the reason for an attribute; for the others no region is evidence.
_EVIDENCE: Final = {
    "mouth": ("Smiling", "Mouth_Slightly_Open", "Big_Lips", "Wearing_Lipstick"),
    "eyes": ("Narrow_Eyes", "Eyeglasses"),
    "eye_g": ("Eyeglasses",),
    "nose": ("Big_Nose", "Pointy_Nose"),
    "hair": ("Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair", "Straight_Hair", "Wavy_Hair"),
    "hat": ("Wearing_Hat",),
    "ear_r": ("Wearing_Earrings",),
    "neck_l": ("Wearing_Necklace",),
}
#: Regions that are evidence for what another one is.
_KINDS: Final = {
    "hair_hq_pairing": "hair",
    "eye": "eyes",
    "l_eye": "eyes",
    "r_eye": "eyes",
    "u_lip": "mouth",
    "l_lip": "mouth",
    "mouth_inside": "mouth",
}
_IMAGE_NAME = re.compile(r"[^,\s]+\.(?:jpe?g|png)", re.IGNORECASE)
_PART_FILE = re.compile(r"(\d{5,9})_(\w+)\.png")
#: Names of problems listed one by one; more are counted.
_LISTED: Final = 1000


def several(value: str | Sequence[str], what: str, known: Sequence[str]) -> tuple[str, ...]:
    """Different words there are, given as ``"a+b"`` or as a list.

    Raises:
        UnknownNameError: another one.
        UsageError: none, or one twice.
    """
    words = as_names(value, what)
    if not words:
        raise UsageError(f"{what}: expected one or more, joined by +")
    return tuple(known_name(word, what, known) for word in words)


def class_names_of(label: str) -> tuple[str, str]:
    """The two classes of an attribute, False first."""
    return f"not {label}", label


def evidence_for(label: str, regions: Sequence[str]) -> tuple[str, ...]:
    """Those of the regions a person would accept as the reason for an attribute; none for most attributes."""
    return tuple(region for region in regions if label in _EVIDENCE.get(_KINDS.get(region, region), ()))


def find_list(folders: Iterable[Path], stem: str) -> Path | None:
    """The first of ``stem.txt`` and ``stem.csv`` that is there, in these folders or their ``Anno`` and ``Eval``."""
    for folder in folders:
        for place in (folder, folder / "Anno", folder / "Eval"):
            for suffix in (".txt", ".csv"):
                if (place / f"{stem}{suffix}").is_file():
                    return place / f"{stem}{suffix}"
    return None


def read_list(path: Path, columns: Sequence[str] = ()) -> pl.DataFrame:
    """A list with one image a row, as text.

    Reads the published form (fields divided by runs of spaces; perhaps a first line with the count; perhaps a header,
    which may leave out the image's column) and exports with commas.

    Args:
        path: a ``.csv`` file has commas, any other runs of spaces.
        columns: names of the columns where the file has no header.

    Raises:
        DatasetError: it is no UTF-8 text, has rows of unequal length or none, or not as many as its first line says.
    """
    try:
        text = inside(path.parent, path.name).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path.name}: no UTF-8 text (byte {error.start}); expected the published list") from error
    except OSError as error:
        raise DatasetError(f"{path.name}: cannot be read ({error})") from error
    commas = path.suffix.lower() == ".csv"
    lines = [line if commas else ",".join(line.split()) for line in text.splitlines() if line.strip()]
    count = int(lines.pop(0)) if lines and re.fullmatch(r"\d{1,12}", lines[0]) else None
    header = list(columns)
    first = lines[0].split(",")[0].strip(' "') if lines else ""
    if lines and not first.isdecimal() and not _IMAGE_NAME.fullmatch(first):
        header = [name.strip(' "') for name in lines.pop(0).split(",")]
    if not lines:
        raise DatasetError(f"{path.name}: no rows; expected one an image")
    if count is not None and count != len(lines):
        raise DatasetError(
            f"{path.name}: its first line says {count} rows, it has {len(lines)}; was the download cut short?"
        )
    width = lines[0].count(",") + 1
    if len(header) == width - 1:
        header = ["image_id", *header]
    if len(header) != width or len(set(header)) != width:
        raise DatasetError(f"{path.name}: {width} fields a row, {len(header)} named: {', '.join(header)[:80]}")
    try:
        table = pl.read_csv(
            io.BytesIO("\n".join(lines).encode()), has_header=False, new_columns=header, infer_schema=False
        )
    except pl.exceptions.PolarsError as error:
        raise DatasetError(f"{path.name}: rows of unequal length ({str(error).splitlines()[0]})") from error
    gaps = table.select(pl.any_horizontal(pl.all().is_null()).alias("gap"))["gap"]
    if table.height != len(lines) or gaps.any():
        row = int(gaps.arg_max() or 0) + 1
        raise DatasetError(f"{path.name}: row {row} has not all of the {width} fields")
    return table.with_columns(pl.all().str.strip_chars())


def _stem(column: str = "image_id") -> pl.Expr:
    return pl.col(column).str.replace(r"\.[A-Za-z]{2,5}$", "").alias("stem")


def _by_image(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    """The table keyed by file name without suffix."""
    if "image_id" not in table.columns:
        table = table.rename({table.columns[0]: "image_id"})
    table = table.select(_stem(), pl.exclude("image_id"))
    twice = table.filter(pl.col("stem").is_duplicated())["stem"]
    if len(twice):
        raise DatasetError(f"{path.name}: lists {twice[0]!r} more than once")
    return table


def _whole_numbers(path: Path, table: pl.DataFrame, columns: Sequence[str], low: int, high: int) -> pl.DataFrame:
    numbers = table.with_columns(pl.col(list(columns)).cast(pl.Int64, strict=False))
    wrong = numbers.select(
        pl.any_horizontal(~pl.col(list(columns)).is_between(low, high).fill_null(False)).alias("wrong")
    )["wrong"]
    if wrong.any():
        row = table.row(int(wrong.arg_max() or 0), named=True)
        shown = ", ".join(f"{name} {row[name]}" for name in columns)[:80]
        raise DatasetError(f"{path.name}: {row['stem']!r} has {shown}; expected whole numbers {low} to {high}")
    return numbers


def attribute_table(path: Path) -> pl.DataFrame:
    """``stem`` and a Boolean column an attribute; 1 is True, -1 and 0 are False.

    Raises:
        DatasetError: the list is damaged or has other values.
    """
    table = _by_image(path, read_list(path))
    names = table.columns[1:]
    return _whole_numbers(path, table, names, -1, 1).with_columns(pl.col(names) > 0)


def landmark_table(path: Path) -> pl.DataFrame:
    """``stem`` and the ten coordinates in pixels (Int32), null where one is no finite number.

    Raises:
        DatasetError: the list is damaged or lacks a coordinate.
    """
    table = _by_image(path, read_list(path))
    missing = [name for name in LANDMARKS if name not in table.columns]
    if missing:
        raise DatasetError(f"{path.name}: no column {missing[0]!r}; expected {', '.join(LANDMARKS)}")
    values = pl.col(LANDMARKS).cast(pl.Float64, strict=False)
    return table.select("stem", pl.when(values.is_finite() & (values.abs() < 1e6)).then(values.round(0)).cast(pl.Int32))


def partition_table(path: Path) -> pl.DataFrame:
    """``stem`` and ``partition``: 0 train, 1 valid, 2 test.

    Raises:
        DatasetError: the list is damaged or has other values.
    """
    table = _by_image(path, read_list(path, ("image_id", "partition")))
    table = table.select("stem", pl.col(table.columns[1]).alias("partition"))
    return _whole_numbers(path, table, ("partition",), 0, 2).with_columns(pl.col("partition").cast(pl.Int8))


def identity_table(path: Path) -> pl.DataFrame:
    """``stem`` and ``identity``: the number of the person.

    Raises:
        DatasetError: the list is damaged.
    """
    table = _by_image(path, read_list(path, ("image_id", "identity")))
    table = table.select("stem", pl.col(table.columns[1]).alias("identity"))
    return _whole_numbers(path, table, ("identity",), 0, 10**9)


def mapping_table(path: Path) -> pl.DataFrame:
    """``index``, in CelebA-HQ, and ``stem``, the CelebA picture it was cut from.

    Raises:
        DatasetError: the list is damaged, or lists an index twice.
    """
    table = read_list(path, ("idx", "orig_idx", "orig_file"))
    if not {"idx", "orig_file"} <= set(table.columns):
        raise DatasetError(f"{path.name}: expected columns idx, orig_idx, orig_file, got {', '.join(table.columns)}")
    table = table.select(_stem("orig_file"), pl.col("idx").alias("index"))
    table = _whole_numbers(path, table, ("index",), 0, 10**8)
    if table["index"].is_duplicated().any():
        raise DatasetError(f"{path.name}: lists an index more than once")
    return table.select("index", "stem")


def hq_root(data_dir: str | Path | None, dataset: str) -> Path:
    """The folder of CelebAMask-HQ, where it or one beside its files is given.

    Raises:
        DatasetError: there is none.
    """
    given = data_folder(data_dir, dataset)
    beside = [given.parent] if given.name in ("CelebA-HQ-img", *_MASK_FOLDERS) else []
    for folder in (given, given / "CelebAMask-HQ", *beside):
        if (folder / "CelebA-HQ-img").is_dir() or any((folder / name).is_dir() for name in _MASK_FOLDERS):
            return folder
    raise DatasetError(
        f"{dataset}: no CelebA-HQ-img or CelebAMask-HQ-mask-anno in {given}; expected the unpacked archive: "
        "CelebA-HQ-img/0.jpg, CelebAMask-HQ-mask-anno/0/00000_hair.png, CelebA-HQ-to-CelebA-mapping.txt"
    )


def mask_folder(root: Path) -> Path:
    """The folder of the masks below :func:`hq_root`.

    Raises:
        DatasetError: there is none.
    """
    for name in _MASK_FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise DatasetError(f"no folder {_MASK_FOLDERS[0]} in {root}; expected {_MASK_FOLDERS[0]}/0/00000_hair.png")


def needed_list(folders: Sequence[Path], stem: str, dataset: str, tree: str) -> Path:
    """:func:`find_list`, for a list that cannot be missing.

    Raises:
        DatasetError: it is.
    """
    found = find_list(folders, stem)
    if found is None:
        raise DatasetError(f"{dataset}: no {stem}.txt (or .csv) in {folders[0]}, its Anno or Eval; expected {tree}")
    return found


def hair_color(table: pl.DataFrame) -> list[str | None]:
    """``black`` or ``blond`` where one of the two attributes is set, else ``other``; None without the attributes."""
    if not {"Black_Hair", "Blond_Hair"} <= set(table.columns):
        return [None] * table.height
    black, blond = pl.col("Black_Hair"), pl.col("Blond_Hair")
    color = pl.when(black & ~blond).then(pl.lit("black")).when(blond & ~black).then(pl.lit("blond"))
    return table.select(color.otherwise(pl.lit("other")).alias("color"))["color"].to_list()


def image_table(folder: Path) -> pl.DataFrame:
    """``stem``, ``file`` and ``bytes`` of a folder's images, from one look at it; of two suffixes the first counts.

    Raises:
        DatasetError: it cannot be read.
    """
    names: list[str] = []
    sizes: list[int] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.name.startswith("."):
                    names.append(entry.name)
                    sizes.append(_size(entry))
    except OSError as error:
        raise DatasetError(f"{folder.name}: cannot be read ({error})") from error
    table = pl.DataFrame({"file": names, "bytes": sizes}, schema={"file": pl.String, "bytes": pl.Int64})
    return table.sort("file").select(_stem("file"), "file", "bytes").unique("stem", keep="first", maintain_order=True)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link that leads nowhere; reading it tells
        return -1


def digest(table: pl.DataFrame) -> str:
    """SHA-256 of a table of plain columns, hex: much faster than its text, the same on every machine."""
    sha = hashlib.sha256()
    for column in table:
        sha.update(f"{column.name} {column.dtype} {len(column)}\n".encode())
        if column.dtype == pl.String:
            sha.update("\n".join("\0" if value is None else value for value in column.to_list()).encode())
            continue
        sha.update(np.packbits(column.is_null().to_numpy()).tobytes())
        sha.update(column.cast(pl.Int64).fill_null(0).to_numpy().astype("<i8").tobytes())
    return sha.hexdigest()


def crop_corners(landmarks: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.float64]:
    """Where CelebA-HQ's square lies on the picture the landmarks belong to.

    CelebA-HQ cut it from the pictures in the wild. Its rule moves, turns and grows with the face, and the aligned
    picture is the wild one moved, turned and grown; so the aligned landmarks give its place on the aligned picture, to
    within their rounding to whole pixels.

    Args:
        landmarks: (10,) pixels in the order of ``LANDMARKS``.

    Returns:
        (3, 2) float64: upper left corner, the side to the right, the side down; pixels, (0, 0) being the corner of the
        first pixel.

    Raises:
        DatasetError: the points are not a face's.
    """
    points = np.asarray(landmarks, dtype=np.float64).reshape(5, 2)
    eyes, mouth = (points[0] + points[1]) / 2 + 0.5, (points[3] + points[4]) / 2 + 0.5
    across, down = points[1] - points[0], mouth - eyes
    right = across + np.array([down[1], -down[0]])
    length = np.hypot(*right)
    if not length > 0:
        raise DatasetError(f"landmarks {points.astype(int).tolist()} are not a face's")
    right = right / length * max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down))
    below = np.array([-right[1], right[0]])
    center = eyes + 0.1 * down
    return np.stack([center - right - below, 2 * right, 2 * below])


def carry_back(mask: NDArray[np.bool_], landmarks: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of CelebA-HQ's square, put back where the square was cut from, by PIL's nearest neighbour.

    Args:
        mask: (S, S) bool over the whole square.
        landmarks: (10,) pixels on the picture.
        size: the picture's (height, width).

    Returns:
        (height, width) bool; False outside the square, where nothing was annotated.

    Raises:
        DatasetError: the points are not a face's.
    """
    corner, right, below = crop_corners(landmarks)
    inverse = np.linalg.inv(np.column_stack([right / mask.shape[1], below / mask.shape[0]]))
    offset = -inverse @ corner
    moved = Image.fromarray(mask.astype(np.uint8) * 255).transform(
        (size[1], size[0]),
        Image.Transform.AFFINE,
        (*inverse[0], offset[0], *inverse[1], offset[1]),
        resample=Image.Resampling.NEAREST,
    )
    return np.asarray(moved) > 0


def lay_on_center(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A square mask laid on a picture's central square: what resizing both to one side and cropping both does.

    The published pairing of CelebAMask-HQ masks with aligned CelebA pictures; about 10 px off at 224 x 224, since the
    two are cut differently.

    Args:
        mask: (S, S) bool.
        size: the picture's (height, width).

    Returns:
        (height, width) bool; False outside the central square.
    """
    height, width = size
    side = min(size)
    top, left = (height - side) // 2, (width - side) // 2
    laid = np.zeros(size, dtype=np.bool_)
    square = Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.NEAREST)
    laid[top : top + side, left : left + side] = np.asarray(square) > 0
    return laid


@dataclass(frozen=True, slots=True)
class PartMasks:
    """The part masks of CelebAMask-HQ: which there are, from one look at each folder.

    Args:
        folder: ``CelebAMask-HQ-mask-anno``.
        present: for each index the parts it has, as bits in the order of ``PARTS``; indices not there have none.
        sizes: for each index a digest of the sizes of its files.
        strays: problems with files that belong to no image or part.
    """

    folder: Path
    present: dict[int, int]
    sizes: dict[int, str]
    strays: tuple[Problem, ...]

    @classmethod
    def scan(cls, folder: Path) -> PartMasks:
        """Look through the folders ``0``, ``1``, ... of 2,000 images each.

        Raises:
            DatasetError: there are none.
        """
        place_of = {part: place for place, part in enumerate(PARTS)}
        present: dict[int, int] = {}
        sizes: dict[int, list[tuple[int, int]]] = {}
        strays: list[Problem] = []
        folders = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name.isdecimal())
        if not folders:
            raise DatasetError(f"{folder.name}: no folders 0, 1, ... of masks in {folder}; expected 0/00000_hair.png")
        for name in folders:
            with os.scandir(folder / name) as entries:
                for entry in entries:
                    match = _PART_FILE.fullmatch(entry.name)
                    place = place_of.get(match.group(2)) if match else None
                    index = int(match.group(1)) if match else -1
                    if place is None or name != str(index // IMAGES_PER_FOLDER):
                        if entry.name.lower().endswith(IMAGE_SUFFIXES):
                            strays.append(_stray(f"{name}/{entry.name}", place, index))
                        continue
                    present[index] = present.get(index, 0) | 1 << place
                    sizes.setdefault(index, []).append((place, _size(entry)))
        digests = {index: str(sorted(found)) for index, found in sizes.items()}
        return cls(folder, present, digests, tuple(sorted(strays, key=lambda problem: problem.message)))

    def has(self, index: int, part: str) -> bool:
        """Whether a part has a mask."""
        return bool(self.present.get(index, 0) >> PARTS.index(part) & 1)

    def read(self, index: int, part: str) -> NDArray[np.bool_]:
        """A part's mask, (H, W) bool at the file's own size; any value above 0 counts.

        Raises:
            DatasetError: it cannot be read.
        """
        path = inside(self.folder, f"{index // IMAGES_PER_FOLDER}/{index:05d}_{part}.png")
        return np.asarray(open_image(path).convert("L")) > 0


def _stray(name: str, place: int | None, index: int) -> Problem:
    if place is not None:
        message = f"mask {name} belongs into folder {index // IMAGES_PER_FOLDER}; it is not read"
    else:
        message = f"mask {name} is of no known part; expected NNNNN_part.png with one of {', '.join(PARTS[:3])}, ..."
    return Problem("orphan_annotation", None, message)


def listed(kind: str, names: Sequence[str], message: str, *, by_sample: bool = True) -> list[Problem]:
    """A problem for each name, up to 1,000, and one that counts the rest.

    Args:
        kind: the problem's kind.
        names: what it concerns.
        message: with ``{}`` where the name goes.
        by_sample: whether the names are sample ids.
    """
    problems = [Problem(kind, name if by_sample else None, message.format(name)) for name in names[:_LISTED]]
    if len(names) > _LISTED:
        left = len(names) - _LISTED
        problems.append(Problem(kind, None, f"and {left:,} more of the kind", count=left))
    return problems
