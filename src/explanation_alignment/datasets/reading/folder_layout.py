"""What is in a folder of images and annotations: which files hold what, told by their names and first lines."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from explanation_alignment.datasets.reading.annotation_tools import TOOLS, kind_of_json
from explanation_alignment.datasets.reading.files import IMAGE_SUFFIXES, cached_table, inside
from explanation_alignment.datasets.reading.folder_tables import (
    Columns,
    has_shapes,
    image_column,
    read_json_file,
    read_records,
)
from explanation_alignment.datasets.reading.image_index import NOT_READ, folder_states, states_digest
from explanation_alignment.datasets.reading.pixels import ARRAY_SUFFIXES
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.paths import not_found

__all__ = ["KINDS", "UNREADABLE", "ImageNames", "Source", "file_digests", "find_images", "find_source", "match_maps"]

#: What annotations can be.
KINDS: Final = ("masks", "heatmaps", "table", *TOOLS)
_IMAGE_FOLDERS: Final = ("images", "image", "imgs", "img", "jpegimages")
_MASK_FOLDERS: Final = ("masks", "mask", "segmentations", "segmentation", "ground_truth", "gt")
_HEATMAP_FOLDERS: Final = ("heatmaps", "heatmap", "attention", "attention_maps", "attention_map")
_TOOL_FOLDERS: Final = ("annotations", "annotation", "labels", "json", "labelme")
_TABLE_SUFFIXES: Final = (".csv", ".tsv", ".json", ".jsonl")
_MASK_ENDINGS: Final = ("_mask", "-mask", "_segmentation", "_seg", "_gt", "_label", "_annotation", "_map", "_heatmap")
_READERS: Final = 4
#: How the digest of a file begins that cannot be read; the reason follows.
UNREADABLE: Final = "unreadable: "


@dataclass(frozen=True, slots=True)
class Source:
    """Where the annotations are.

    Args:
        kind: one of ``KINDS``.
        path: the folder or file they are in.
        labels: a table with labels beside them, or None.
        passed_over: tables that were not used, in words.
    """

    kind: str
    path: Path
    labels: Path | None
    passed_over: tuple[str, ...] = ()


def find_images(root: Path, given: str | None) -> Path:
    """The folder of images: as given, else the one below ``root`` that bears a usual name, else the only one beside a
    folder of masks or heatmaps whatever its name, else ``root``.

    Raises:
        DatasetError: there is no such folder.
        UsageError: several bear a usual name.
    """
    if given is not None:
        folder = inside(root, given) if given not in (".", "./") else root
        if not folder.is_dir():
            raise not_found(DatasetError, "folder: images=", given, below=root)
        return folder
    found = _folders_named(root, _IMAGE_FOLDERS)
    if len(found) > 1:
        raise UsageError(f"folder: images could be in {_names(found)}; pass images=")
    return found[0] if found else _beside_maps(root) or root


def _beside_maps(root: Path) -> Path | None:
    """The one folder beside masks or heatmaps, unless images lie in ``root`` or it is a class the masks have too."""
    maps = _folders_named(root, (*_MASK_FOLDERS, *_HEATMAP_FOLDERS))
    known = {*maps, *_folders_named(root, _TOOL_FOLDERS)}
    others = [path for path in root.iterdir() if path.is_dir() and path not in known and path.name[0] not in "._"]
    if not maps or len(others) != 1 or any((folder / others[0].name).is_dir() for folder in maps):
        return None
    bare = any(path.suffix.lower() in IMAGE_SUFFIXES for path in root.iterdir() if path.is_file())
    return None if bare else others[0]


def find_source(
    root: Path, images: Path, *, annotations: str | None, source: str | None, labels: str | None, columns: Columns
) -> Source:
    """Where annotations and labels are.

    Args:
        root: the dataset's folder.
        images: the folder of images.
        annotations: their kind, or None to find out.
        source: the folder or file they are in, below ``root``, or None to find out.
        labels: a table of labels below ``root``, or None to find out whether there is one.
        columns: names of columns, to know a table of boxes by.

    Raises:
        UsageError: more than one answer; the message lists what to pass.
        DatasetError: no annotations are found.
    """
    tables = {path: _kind_of_table(path, columns) for path in _tables_in(root)}
    told = None if labels is None else _file(root, labels, "labels")
    if source is not None:
        path = inside(root, source) if source not in (".", "./") else root
        if not path.exists():
            raise not_found(DatasetError, "folder: source=", source, below=root, folder=Path(source).suffix == "")
        found = [(annotations or _kind_of(path, columns, source), path)]
    else:
        found = [
            *_folders(root, images),
            *((kind, path) for path, kind in tables.items() if kind in KINDS and kind != "labelme"),
        ]
        found = [(kind, path) for kind, path in found if annotations in (None, kind) and path != told]
    if len(found) > 1:
        options = "; ".join(f"annotations={kind},source={_relative(root, path)}" for kind, path in found)
        raise UsageError(f"folder: annotations could be one of several; pass one of: {options}")
    if not found:
        if "coco" in tables.values():
            path = next(path for path, kind in tables.items() if kind == "coco")
            raise UsageError(
                f"folder: {path.name} is in COCO's format: use the dataset coco with annotations={path.name}"
            )
        wanted = f"{annotations} " if annotations else ""
        raise DatasetError(
            f"folder: no {wanted}annotations found in {root}. Looked for a folder masks/ or heatmaps/, a CSV or JSON "
            "with boxes or polygons, and files of labelme, VIA or Label Studio; if they have another name: "
            "folder(annotations=masks,source=NAME)"
        )
    kind, path = found[0]
    candidates = [table for table, what in tables.items() if what == "labels" and table != path]
    if told is None and len(candidates) > 1:
        raise UsageError(f"folder: labels could be in {_names(candidates)}; pass labels=, or labels=none")
    told = told or (candidates[0] if candidates else None)
    rest = [f"{table.name} ({what or 'no column of images'})" for table, what in tables.items()]
    used = {path.name, told.name if told else ""}
    return Source(kind, path, told, tuple(text for text in rest if text.partition(" ")[0] not in used))


def _folders(root: Path, images: Path) -> list[tuple[str, Path]]:
    found = [("masks", path) for path in _folders_named(root, _MASK_FOLDERS)]
    found += [("heatmaps", path) for path in _folders_named(root, _HEATMAP_FOLDERS)]
    for folder in dict.fromkeys([*_folders_named(root, _TOOL_FOLDERS), images, root]):
        if folder == root:
            names = [folder / name for name in _regular(folder, deep=False)[:1]]
        else:
            names = [folder / name for name in _regular(folder)[:1]]
        if names and kind_of_json(_content(names[0])) == "labelme":
            found.append(("labelme", folder))
    return found


def _regular(folder: Path, *, deep: bool = True) -> list[str]:
    """The JSON files of a folder that may be read."""
    states = folder_states(folder, (".json",), deep=deep)
    files: list[str] = states.filter(pl.col("bytes") >= 0)["file"].to_list()
    return files


def _kind_of(path: Path, columns: Columns, source: str) -> str:
    if path.is_file():
        kind = _kind_of_table(path, columns)
        if kind == "labelme":
            raise UsageError(f"folder: source={source!r} is one file of labelme's; pass the folder they are in")
        if kind not in KINDS:
            raise UsageError(f"folder: source={source!r} holds no annotations (found: {kind or 'nothing known'})")
        return kind
    if len(folder_states(path, ARRAY_SUFFIXES)):
        return "heatmaps"
    if len(folder_states(path, (".json",))) and not len(folder_states(path, IMAGE_SUFFIXES)):
        return "labelme"
    return "masks"


def _kind_of_table(path: Path, columns: Columns) -> str | None:
    """What a CSV or JSON file holds: one of ``KINDS``, ``labels``, ``coco``, or None."""
    if path.suffix.lower() == ".json":
        kind = kind_of_json(_content(path))
        if kind != "records":
            return kind
    table = read_records(path)
    names = {name.lstrip("#") for name in table.columns}
    if {"filename", "region_shape_attributes"} <= names:
        return "via"
    if image_column(table) is None and (columns.image is None or columns.image not in table.columns):
        return None
    named = [name for name in (*columns.box, columns.polygon) if name]
    plain = columns if all(name in table.columns for name in named) else Columns()
    return "table" if has_shapes(table, plain) else "labels"


def _content(path: Path) -> object:
    try:
        return read_json_file(path)
    except DatasetError:
        return None  # asked only what it is; reading it in earnest tells what is wrong


def _tables_in(root: Path) -> list[Path]:
    """CSV and JSON files in the folder; a JSON file beside an image of its name is that image's own."""
    files = [path for path in root.iterdir() if path.is_file() and not path.name.startswith(".")]
    pictured = {path.stem for path in files if path.suffix.lower() in IMAGE_SUFFIXES}
    tables = sorted(path for path in files if path.suffix.lower() in _TABLE_SUFFIXES and path.stem not in pictured)
    return [inside(root, path.name) for path in tables]


def _folders_named(root: Path, names: Sequence[str]) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name.lower() in names)


def _file(root: Path, given: str, argument: str) -> Path:
    path = inside(root, given)
    if not path.is_file():
        raise not_found(DatasetError, f"folder: {argument}=", given, below=root, folder=False)
    return path


def _relative(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _names(paths: Iterable[Path]) -> str:
    return " or ".join(path.name for path in paths)


class ImageNames:
    """Finds the image an annotation file means: the one whose path ends most like the name written there.

    Annotation files name images by paths of the machine they were made on, by bare names, with and without suffix. A
    name is only ever looked up among the files that are there, never opened. Where the name and the file both have
    folders, at least one has to be the same: ``cats/001.png`` is not ``dogs/001.png``.

    Args:
        files: paths below the folder of images, with forward slashes.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self._files = files
        self._exact = {file: place for place, file in enumerate(files)}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for place, file in enumerate(files):
            name = file.rpartition("/")[2]
            self._by_name[name].append(place)
            self._by_name[stem_of(name)].append(place)

    def find(self, written: str) -> int | None:
        """The place of the image meant, or None where there is none, or several fit as well as each other."""
        path = written.replace("\\", "/")
        path = path.removeprefix("./")
        if path in self._exact:
            return self._exact[path]
        parts = path.split("/")
        parents = set(parts[:-1])
        fitting = [
            place
            for place in self._by_name.get(parts[-1], [])
            if not parents or "/" not in self._files[place] or parents & set(self._files[place].split("/")[:-1])
        ]
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        scores = [_same_end(parts[:-1], self._files[place].split("/")[:-1]) for place in fitting]
        best = max(scores)
        chosen = [place for place, score in zip(fitting, scores, strict=True) if score == best]
        return chosen[0] if len(chosen) == 1 else None


def _same_end(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if left != right:
            break
        count += 1
    return count


def stem_of(file: str) -> str:
    """A path without the suffix of an image or array; other dots belong to the name."""
    head, dot, suffix = file.rpartition(".")
    known = f".{suffix.lower()}" in (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES)
    return head if dot and head and known else file


@dataclass(frozen=True, slots=True)
class MatchedMaps:
    """Masks or heatmaps and the images they belong to.

    Args:
        places: (place of the image, region) -> place among the files.
        regions: their names, sorted.
        by_region: whether the first folder is the region.
        ending: what stands after the image's name in theirs.
        orphans: files without an image.
    """

    places: Mapping[tuple[int, str], int]
    regions: tuple[str, ...]
    by_region: bool
    ending: str
    orphans: tuple[str, ...]


def match_maps(
    images: Sequence[str], files: Sequence[str], *, layout: str, ending: str | None, region: str, source: str
) -> MatchedMaps:
    """Find every mask's image: the one of the same path without suffix, or of the same name where names are unique.

    Args:
        images: paths below the folder of images.
        files: paths below the folder of masks.
        layout: ``same`` (as the images lie), ``regions`` (a folder a region, in it as the images lie) or ``auto``.
        ending: what stands between an image's name and a mask's suffix; None tries none and usual ones and
            takes what fits most files, none where it is even.
        region: the name of the region where folders name none.
        source: what errors call the folder.

    Raises:
        UsageError: both layouts fit.
        DatasetError: no mask belongs to an image, or two belong to the same.
    """
    full, bare = _stem_places(images)
    endings = ("", *_MASK_ENDINGS) if ending is None else (ending,)
    # Whole paths first: only where none fits may masks lie flat beside images in folders.
    best = _Fit({}, "", False)
    for names in (full, bare):
        for tried in endings:
            fit = _fit(files, names, tried, layout, source)
            if len(fit.places) > len(best.places):
                best = fit
        if best.places:
            break
    else:
        example = f", such as {files[0]!r}" if files else ""
        raise DatasetError(
            f"folder: none of the {len(files)} files in {source}{example} has the name of an image"
            f"{f', such as {images[0]!r}' if images else ''}; if something stands after the name, pass mask_suffix="
        )
    places: dict[tuple[int, str], int] = {}
    orphans = []
    for place, file in enumerate(files):
        image = best.places.get(place)
        if image is None:
            orphans.append(file)
            continue
        key = (image, file.partition("/")[0] if best.by_region else region)
        if key in places:
            raise DatasetError(
                f"folder: {source} has two files for {images[image]!r}: {files[places[key]]!r}, {file!r}"
            )
        places[key] = place
    regions = tuple(sorted({name for _, name in places}))
    return MatchedMaps(places, regions, best.by_region, best.ending, tuple(orphans))


@dataclass(frozen=True, slots=True)
class _Fit:
    """What one way of reading the names gives: place of a file -> place of its image."""

    places: Mapping[int, int]
    ending: str
    by_region: bool


def _fit(files: Sequence[str], names: Mapping[str, int], ending: str, layout: str, source: str) -> _Fit:
    same = {place: _place_of(file, names, ending) for place, file in enumerate(files)}
    inner = {place: _place_of(file.partition("/")[2], names, ending) for place, file in enumerate(files) if "/" in file}
    hits = {
        "same": {place: image for place, image in same.items() if image is not None},
        "regions": {place: image for place, image in inner.items() if image is not None},
    }
    if layout == "auto" and hits["same"] and hits["regions"]:
        raise UsageError(
            f"folder: {source} fits both as images lie and as a folder a region; pass layout=same or layout=regions"
        )
    chosen = layout if layout != "auto" else ("regions" if hits["regions"] else "same")
    return _Fit(hits[chosen], ending, chosen == "regions")


def _stem_places(images: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Places by path without suffix, and by bare name where that is unique."""
    stems = [stem_of(file) for file in images]
    full = {stem: place for place, stem in enumerate(stems)}
    if len(full) < len(stems):
        twice = next(stem for stem, count in Counter(stems).items() if count > 1)
        raise DatasetError(f"folder: two images are called {twice!r}, so masks of that name could mean either")
    names = [stem.rpartition("/")[2] for stem in stems]
    counts = Counter(names)
    return full, {name: place for place, name in enumerate(names) if counts[name] == 1}


def _place_of(file: str, names: Mapping[str, int], ending: str) -> int | None:
    stem = stem_of(file)
    if not stem.endswith(ending):
        return None
    return names.get(stem.removesuffix(ending) if ending else stem)


def file_digests(folder: Path, states: pl.DataFrame) -> list[str]:
    """A digest of every file's content, or ``UNREADABLE`` and why; kept until one of them changes."""
    files: list[str] = states["file"].to_list()
    sizes: list[int] = states["bytes"].to_list()

    def digest(file: str, size: int) -> str:
        if size < 0:
            return UNREADABLE + NOT_READ
        try:
            return hashlib.sha256((folder / file).read_bytes()).hexdigest()
        except OSError as error:
            return f"{UNREADABLE}{error.strerror}"

    def digests() -> pl.DataFrame:
        with ThreadPoolExecutor(_READERS) as readers:
            return pl.DataFrame({"digest": list(readers.map(digest, files, sizes))}, schema={"digest": pl.String()})

    table = cached_table(f"file_digests 2 {folder.absolute()} {states_digest(states)}", [], digests)
    found: list[str] = table["digest"].to_list()
    return found
