"""One's own images: a folder of them, with masks, heatmaps, tables or files of annotation tools beside them."""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from explanation_alignment.datasets.base import IndexedDataset
from explanation_alignment.datasets.checking.problems import Problem
from explanation_alignment.datasets.reading.annotation_tools import TOOLS, read_label_studio, read_labelme, read_via
from explanation_alignment.datasets.reading.arguments import as_choice, as_names, as_pairs, known_name
from explanation_alignment.datasets.reading.files import (
    cached_table,
    data_folder,
    fingerprint_of,
    inside,
    is_toy,
    open_image,
)
from explanation_alignment.datasets.reading.folder_layout import (
    KINDS,
    UNREADABLE,
    ImageNames,
    Source,
    file_digests,
    find_images,
    find_source,
    match_maps,
    stem_of,
)
from explanation_alignment.datasets.reading.folder_tables import Columns, Parsed, read_shape_records
from explanation_alignment.datasets.reading.image_index import folder_states
from explanation_alignment.datasets.reading.pixels import MAP_SUFFIXES, heatmap_from, mask_from, read_values
from explanation_alignment.datasets.reading.shapes import SHAPE_SCHEMA, Shapes
from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.paths import not_found
from explanation_alignment.sample import Annotation, AttributeValue, Heatmap, Mask, Sample

__all__ = ["Folder"]

_CLASSES_FILE: Final = "classes.txt"
#: Classes whose names the description has, at most.
_NAMED: Final = 20
_WHOLE: Final = re.compile(r"\d{1,9}")
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_NUMBER: Final = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


class Folder(IndexedDataset):
    """Images of one's own with annotations beside them. What lies where is found out, said, and can be told.

    Annotations are one of: ``masks`` (pictures or arrays of the images' names), ``heatmaps`` (the same with real
    values), ``table`` (CSV or JSON with boxes or polygons), or files of ``labelme``, ``via``, ``label_studio``.
    Labels come from a table's column, else from the folders the images lie in. An image's id is its path below the
    folder of images without suffix (with it where two would be the same).

    What more than one reading fits is refused with the arguments that tell them apart; :meth:`description` says what
    was found.

    Args:
        data_dir: the folder everything is in.
        images: folder of the images below it; left out: ``images``, the only one beside masks, or the folder itself.
        annotations: which of the kinds above; left out: found out.
        source: the folder or file the annotations are in; left out: found out.
        labels: ``folders``, ``shapes`` (the label is what the image's shapes are called), ``none``, or a table's path;
            left out: a table's column, else folders, else none.
        classes: the classes in the order of the classifier's outputs: a text file with one a line, or a sequence; left
            out: ``classes.txt`` where there is one, else the folders' or labels' names in order. A column of whole
            numbers holds class indices.
        regions: the regions to take, joined by ``+``; left out: all there are.
        evidence: the regions a person would accept as the reason; left out: ``object`` where there is one, else all
            (but ``__ignore__``).
        layout: how masks lie: ``same`` (as the images) or ``regions`` (a folder a region); ``auto`` finds out.
        mask_suffix: what stands after the image's name in a mask's, such as ``_mask``; left out: usual ones are tried.
        mask_values: numbers that belong to the mask (``1+3``), or to a region each (``person:15+dog:12``); left out:
            all that are not 0.
        mask_threshold: instead, numbers of at least this; left out: 128 for masks saved as JPEG or WebP.
        size: ``same`` (a mask of another size than its image is an error) or ``scale``.
        orientation: ``apply`` or ``ignore`` the camera's orientation (EXIF); left out: applied for annotation tools,
            which show images turned, ignored otherwise.
        image_column: of a table; left out: found by its name.
        label_column: of a table, or the attribute of an annotation tool's image; ``none`` for none.
        region_column: of a table, or the attribute of an annotation tool's shape; ``none``: all are region ``object``.
        box_columns: four columns joined by ``+``, or one that holds four numbers.
        box_format: ``xyxy`` or ``xywh``; left out: told by the columns' names.
        polygon_column: of a table.
        coordinates: of a table: ``pixels`` or ``fractions`` of the image's width and height.
        attributes: columns to keep as attributes joined by ``+``, or ``none``; left out: all others that say the same
            in every row of an image.
        dataset_name: its name in tables; left out: the folder's.

    Raises:
        UsageError: for another value of an argument, or where more than one reading fits.
        DatasetError: for missing or damaged files.
    """

    def __init__(
        self,
        data_dir: str | Path | None,
        *,
        images: str | None = None,
        annotations: str | None = None,
        source: str | None = None,
        labels: str | None = None,
        classes: str | Sequence[str] | None = None,
        regions: str | Iterable[str] = (),
        evidence: str | Iterable[str] = (),
        layout: str = "auto",
        mask_suffix: str | None = None,
        mask_values: str | int | Sequence[int] | Mapping[str, Any] | None = None,
        mask_threshold: str | float | None = None,
        size: str = "same",
        orientation: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        region_column: str | None = None,
        box_columns: str | Iterable[str] = (),
        box_format: str | None = None,
        polygon_column: str | None = None,
        coordinates: str = "pixels",
        attributes: str | Iterable[str] | None = None,
        dataset_name: str | None = None,
    ) -> None:
        root = data_folder(data_dir, "folder")
        kind = None if annotations in (None, "auto") else as_choice(annotations, "annotations", KINDS)
        columns = Columns(
            image=image_column,
            label=label_column,
            region=region_column,
            box=as_names(box_columns, "box_columns"),
            polygon=polygon_column,
            box_format=None if box_format is None else as_choice(box_format, "box_format", ("xyxy", "xywh")),
            fractions=as_choice(coordinates, "coordinates", ("pixels", "fractions")) == "fractions",
        )
        self._layout = as_choice(layout, "layout", ("auto", "same", "regions"))
        self._ending, self._ending_found = mask_suffix, ""
        self._scale = as_choice(size, "size", ("same", "scale")) == "scale"
        self._values = _mask_values(mask_values)
        self._threshold = _threshold(mask_threshold)
        if self._values and self._threshold is not None:
            raise UsageError("give mask_values= or mask_threshold=, not both")
        table_of_labels = None if labels in (None, "auto", "folders", "shapes", "none") else str(labels)
        self._folder = find_images(root, images)
        self._source = find_source(
            root, self._folder, annotations=kind, source=source, labels=table_of_labels, columns=columns
        )
        kind = self._source.kind
        turn = kind in TOOLS if orientation is None else as_choice(orientation, "orientation", ("apply", "ignore"))
        self._turn = turn in (True, "apply")
        if labels in ("folders", "shapes", "none") and kind not in ("table", *TOOLS):
            self._source = Source(kind, self._source.path, None, self._source.passed_over)
        self._said: list[str] = []
        self.unmatched: tuple[str, ...] = ()  # masks and heatmaps that match no image
        self._found_problems: list[Problem] = []

        on_disk, sizes = self._images_on_disk()
        by_folder = labels == "folders"
        told = self._told_by_table(columns, on_disk, by_folder or labels == "none")
        parsed = self._parsed_shapes(columns) if kind in ("table", *TOOLS) else None
        if parsed is not None and labels == "shapes":
            parsed = _labelled_by_shapes(parsed)
        files, texts, others = self._samples(on_disk, told, parsed, by_folder, labels == "none")
        ids = _sample_ids(files)
        self._files, self._there = files, [file in sizes for file in files]
        shapes, maps, found = self._annotations(files, parsed)
        chosen = as_names(regions, "regions") or found
        for region in chosen:
            known_name(region, "region", found)
        accepted = as_names(evidence, "evidence") or _default_evidence(chosen)
        for region in accepted:
            known_name(region, "region", chosen)
        names, numbers = _class_indices(texts, _given_classes(root, classes), by_folder or self._by_folder)
        kept = _attributes(others, attributes)
        fingerprint = self._digest(ids, files, sizes, numbers, kept, shapes, maps)
        self._shapes = None if shapes is None else Shapes(shapes, len(files))
        self._maps = {key: file for key, (file, _) in maps.items()}
        super().__init__(
            name=dataset_name or root.absolute().name,
            class_names=names,
            regions=chosen,
            evidence=accepted,
            ids=ids,
            labels=numbers,
            attributes=kept,
            fingerprint=fingerprint_of(fingerprint, names, ",".join(chosen), ",".join(accepted)),
            toy=is_toy(root),
        )
        self._say_what_there_is(root)

    # What there is -------------------------------------------------------------------------------------------------

    def _images_on_disk(self) -> tuple[list[str], dict[str, int]]:
        """Paths of the images, without masks that lie among them, and their sizes in bytes."""
        states = folder_states(self._folder)
        files: list[str] = states["file"].to_list()
        sizes = dict(zip(files, states["bytes"].to_list(), strict=True))
        source = self._source
        if source.kind in ("masks", "heatmaps"):
            if source.path == self._folder:
                if not self._ending:
                    raise UsageError(
                        "folder: images and masks are in one folder; say what stands after a mask's name: mask_suffix="
                    )
                files = [file for file in files if not stem_of(file).endswith(self._ending)]
            elif source.path.is_relative_to(self._folder):
                below = source.path.relative_to(self._folder).as_posix() + "/"
                files = [file for file in files if not file.startswith(below)]
        if not files:
            raise DatasetError(f"folder: no images in {self._folder}")
        return files, sizes

    def _told_by_table(self, columns: Columns, on_disk: Sequence[str], unlabelled: bool) -> Parsed | None:
        """The table of labels, if there is one beside the annotations."""
        path = self._source.labels
        if path is None:
            return None
        plain = Columns(image=columns.image, label="none" if unlabelled else columns.label)
        parsed = read_shape_records(path, plain)
        if not unlabelled and columns.label != "none" and not parsed.images["label"].is_not_null().any():
            raise DatasetError(
                f"{path.name}: no column of labels among {', '.join(parsed.images.columns[2:])}; name it with "
                "label_column=, or pass labels=none"
            )
        return parsed

    def _parsed_shapes(self, columns: Columns) -> Parsed:
        kind, path = self._source.kind, self._source.path
        own = Columns(**{**_as_dict(columns), "label": "none"}) if self._source.labels else columns
        region, label = own.region, own.label
        if kind == "labelme":
            names = folder_states(path, (".json",))["file"].to_list()
            files = [(name, inside(path, name)) for name in names]
        else:
            files = [(path.name, path)]

        @functools.cache
        def parse() -> Parsed:
            if kind == "table":
                return read_shape_records(path, own)
            if kind == "labelme":
                return read_labelme(files, region_column=region, label_column=label)
            read = read_via if kind == "via" else read_label_studio
            return read(path, region_column=region, label_column=label)

        what, places = f"folder {kind} {own}", [place for _, place in files]
        return Parsed(
            cached_table(f"{what} images", places, lambda: parse().images),
            cached_table(f"{what} shapes", places, lambda: parse().shapes),
        )

    def _samples(
        self, on_disk: Sequence[str], told: Parsed | None, parsed: Parsed | None, by_folder: bool, unlabelled: bool
    ) -> tuple[list[str], list[str | None], dict[str, list[str | None]]]:
        """Which images are samples, their labels as text, and further columns.

        A table of labels or of shapes decides which; with annotation tools and masks it is the images that are there.
        """
        finder = ImageNames(on_disk)
        deciding = told or (parsed if self._source.kind == "table" else None)
        naming = told or parsed
        rows = [] if naming is None else naming.images.to_dicts()
        row_of: dict[str, dict[str, Any]] = {}
        for row in rows:
            place = finder.find(row["image"])
            file = row["image"].replace("\\", "/") if place is None else on_disk[place]
            if place is None:
                self._found_problems.append(
                    Problem("missing_image", stem_of(file), f"{row['image']}: no such image in {self._folder.name}/")
                )
            earlier = row_of.setdefault(file, row)
            if earlier is not row and earlier["image"] != row["image"]:
                self._tell_two_names(file, earlier["image"], row["image"])
            if earlier is not row and earlier["label"] != row["label"]:
                raise DatasetError(
                    f"folder: {file!r} is named twice, with the labels {earlier['label']} and {row['label']}"
                )
        files = (
            list(row_of) if deciding is not None else [*on_disk, *(file for file in row_of if file not in set(on_disk))]
        )
        left = len(set(on_disk) - set(files))
        if left:
            name = (self._source.labels or self._source.path).name
            self._said.append(f"left out: {left} images that {name} does not name")
        texts: list[str | None] = [row_of.get(file, {}).get("label") for file in files]
        self._by_folder = by_folder or (not unlabelled and not any(texts) and all("/" in file for file in files))
        if unlabelled:
            texts = [None] * len(files)
        elif self._by_folder:
            flat = next((file for file in files if "/" not in file), None)
            if flat is not None:
                raise DatasetError(f"folder: labels=folders, but {flat!r} lies in no folder below {self._folder.name}/")
            texts = [file.partition("/")[0] for file in files]
        names = [] if naming is None else naming.images.columns[2:]
        return files, texts, {name: [row_of.get(file, {}).get(name) for file in files] for name in names}

    def _annotations(
        self, files: Sequence[str], parsed: Parsed | None
    ) -> tuple[pl.DataFrame | None, dict[tuple[int, str], tuple[str, str]], tuple[str, ...]]:
        """Shapes with their images' places, or (image's place, region) -> (file, digest); and the regions."""
        if parsed is None:
            return None, *self._matched_maps(files)
        finder = ImageNames(files)
        place_of = {name: finder.find(name) for name in parsed.shapes["image"].unique().to_list()}
        for name in sorted(name for name, place in place_of.items() if place is None):
            self._found_problems.append(
                Problem("orphan_annotation", None, f"{self._source.path.name}: shapes for {name!r}, which is no sample")
            )
        first_name: dict[int, str] = {}
        for name, place in sorted(place_of.items()):
            if place is not None and first_name.setdefault(place, name) != name:
                self._tell_two_names(files[place], first_name[place], name)
        placed = (
            parsed.shapes.with_columns(pl.col("image").replace_strict(place_of, return_dtype=pl.Int64()).alias("place"))
            if place_of
            else parsed.shapes.with_columns(pl.lit(None, dtype=pl.Int64()).alias("place"))
        )
        placed = placed.filter(pl.col("place").is_not_null()).sort("place", maintain_order=True)
        regions = tuple(sorted(placed["region"].unique().to_list()))
        if not regions:
            raise DatasetError(f"folder: {self._source.path.name} holds no shape for any image")
        return placed, {}, regions

    def _tell_two_names(self, file: str, one: str, other: str) -> None:
        one, other = sorted((one, other))
        told = Problem("two_names", stem_of(file), f"{one!r} and {other!r} are both taken for {file}")
        if told not in self._found_problems:
            self._found_problems.append(told)

    def _matched_maps(self, files: Sequence[str]) -> tuple[dict[tuple[int, str], tuple[str, str]], tuple[str, ...]]:
        source = self._source
        states = folder_states(source.path, MAP_SUFFIXES)
        if source.path == self._folder:
            marked = [stem_of(file).endswith(self._ending or "") for file in states["file"].to_list()]
            states = states.filter(pl.Series(marked, dtype=pl.Boolean()))
        digests = file_digests(source.path, states)
        maps: list[str] = states["file"].to_list()
        region = "attention" if source.kind == "heatmaps" else "object"
        matched = match_maps(
            files, maps, layout=self._layout, ending=self._ending, region=region, source=source.path.name + "/"
        )
        self._ending_found = matched.ending
        self.unmatched = matched.orphans
        folders = sorted({file.rpartition("/")[0] for file in files})
        for file in matched.orphans:
            said = f"{source.path.name}/{file}: there is no image of that name{_folder_meant(file, folders)}"
            self._found_problems.append(Problem("orphan_annotation", None, said))
            if file == matched.orphans[0]:
                self._said.append(f"files that match no image: {len(matched.orphans)}, such as {said}")
        for (image, _), place in sorted(matched.places.items()):
            if digests[place].startswith(UNREADABLE):
                self._found_problems.append(
                    Problem("unreadable_annotation", stem_of(files[image]), f"{maps[place]}: {digests[place]}")
                )
        found = {key: (maps[place], digests[place]) for key, place in matched.places.items()}
        named = [name for name, _ in self._values if name]
        if not named:
            return found, matched.regions
        if matched.by_region or source.kind == "heatmaps":
            raise UsageError("mask_values with names is for masks that hold all regions in one file")
        regions = tuple(dict.fromkeys(named))
        return {(place, name): entry for (place, _), entry in found.items() for name in regions}, regions

    def _digest(
        self,
        ids: Sequence[str],
        files: Sequence[str],
        sizes: Mapping[str, int],
        labels: Sequence[int | None],
        attributes: Mapping[str, Sequence[AttributeValue]],
        shapes: pl.DataFrame | None,
        maps: Mapping[tuple[int, str], tuple[str, str]],
    ) -> str:
        samples = pl.DataFrame(
            {"id": list(ids), "bytes": [sizes.get(file) for file in files], "label": list(labels)},
            schema={"id": pl.String(), "bytes": pl.Int64(), "label": pl.Int64()},
        )
        columns = [f"{name}={list(values)}" for name, values in attributes.items()]
        drawn = pl.DataFrame(schema=SHAPE_SCHEMA) if shapes is None else shapes.drop("image")
        masks = pl.DataFrame(
            [(place, region, digest) for (place, region), (_, digest) in sorted(maps.items())],
            schema={"place": pl.Int64(), "region": pl.String(), "digest": pl.String()},
            orient="row",
        )
        lossy = [Path(file).suffix.lower() for _, (file, _) in sorted(maps.items())]
        return fingerprint_of(
            "folder", self._source.kind, self._turn, self._scale, self._values, self._threshold, columns, lossy,
            tables=[samples, drawn, masks],
        )  # fmt: skip

    # What is said about it -----------------------------------------------------------------------------------------

    def _say_what_there_is(self, root: Path) -> None:
        def place(path: Path) -> str:
            relative = path.relative_to(root).as_posix()
            return "the folder itself" if relative == "." else relative + ("/" if path.is_dir() else "")

        labelled = sum(label is not None for label in self.labels())
        if not labelled:
            where = "none"
        elif self._by_folder:
            where = f"by folder, {self._classes_in_words()}"
        else:
            told_by = self._source.labels or self._source.path
            named = told_by.name if told_by.is_file() else f"files of {self._source.kind}"
            where = f"from {named}, {self._classes_in_words()}"
        marked = self._marked()
        what = "shapes in " if self._shapes is not None else "a file for "
        lines = [
            f"images: {len(self)} in {place(self._folder)}",
            f"labels: {where}" + (f"; {len(self) - labelled} images have none" if 0 < labelled < len(self) else ""),
            f"annotations: {self._source.kind} in {place(self._source.path)}",
            *(f"region {name}: {what}{marked[name]} of {len(self)} images" for name in self.regions),
            f"evidence: {', '.join(self.evidence)}",
            "camera orientation (EXIF): "
            + ("applied" if self._turn else "ignored; orientation=apply where the masks were drawn on turned photos"),
        ]
        if self._ending_found:
            lines.append(f"masks are named like images with {self._ending_found!r} after the name")
        if self.attributes():
            lines.append(f"attributes: {', '.join(self.attributes())}")
        if self._source.passed_over:
            lines.append(f"not used: {', '.join(self._source.passed_over)}")
        self.notes = (*lines, *self._said)

    def _classes_in_words(self) -> str:
        """How many there are, and their names in the order of their numbers."""
        names = self.class_names
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"{len(names)} classes ({', '.join(names[:_NAMED])}{more})"

    def _marked(self) -> Counter[str]:
        """Region -> how many images have something for it."""
        if self._shapes is None:
            return Counter(region for _, region in self._maps)
        return self._shapes.count_images()

    def description(self) -> str:
        """What was found and how it is read, a line each."""
        return "\n".join(self.notes)

    def problems(self) -> list[Problem]:
        """What is wrong with the files, as far as their index tells."""
        found = list(self._found_problems)
        ids = self.ids()
        if self._shapes is not None:
            found += [
                Problem(kind, ids[place], message, serious) for kind, place, message, serious in self._shapes.problems()
            ]
            with_something = self._shapes.places()
        else:
            with_something = {place for place, _ in self._maps}
        bare = [name for place, name in enumerate(ids) if place not in with_something]
        if bare:
            found.append(
                Problem(
                    "orphan_image",
                    None,
                    f"{len(bare)} images have no annotation, such as {bare[0]!r}",
                    serious=False,
                    count=len(bare),
                )
            )
        return found

    # Reading -------------------------------------------------------------------------------------------------------

    def _read(self, index: int) -> Sample:
        if not self._there[index]:
            raise DatasetError(f"{self._files[index]}: no such image in {self._folder.name}/")
        image = open_image(inside(self._folder, self._files[index]), apply_orientation=self._turn)
        size = (image.height, image.width)
        if self._shapes is not None:
            annotations: dict[str, Annotation | None] = {
                region: self._shapes.draw(index, region, *size) for region in self.regions
            }
        else:
            annotations = self._read_maps(index, size)
        return Sample(
            id=self.ids()[index],
            image=image,
            label=self.labels()[index],
            annotations=annotations,
            attributes={key: values[index] for key, values in self.attributes().items()},
        )

    def _read_maps(self, index: int, size: tuple[int, int]) -> dict[str, Annotation | None]:
        values: dict[str, Any] = {}
        annotations: dict[str, Annotation | None] = {}
        for region in self.regions:
            file = self._maps.get((index, region))
            if file is None:
                annotations[region] = None
                continue
            if file not in values:
                values[file] = read_values(inside(self._source.path, file))
            annotations[region] = self._map(values[file], file, region, size)
        return annotations

    def _map(self, values: Any, file: str, region: str, size: tuple[int, int]) -> Mask | Heatmap | None:
        if self._source.kind == "heatmaps":
            return heatmap_from(values, file, size=size, scale=self._scale)
        chosen = [value for name, value in self._values if name in ("", region)]
        mask = mask_from(values, file, threshold=self._threshold, chosen=chosen, size=size, scale=self._scale)
        named = any(name for name, _ in self._values)  # a file for all regions has some of them only
        return None if named and not mask.pixels.any() else mask


def _default_evidence(regions: Sequence[str]) -> tuple[str, ...]:
    """``object`` where there is one, else all but those that annotation tools mark as none (``__ignore__``)."""
    if "object" in regions:
        return ("object",)
    return tuple(region for region in regions if not region.startswith("__")) or tuple(regions)


def _mask_values(given: str | int | Sequence[int] | Mapping[str, Any] | None) -> tuple[tuple[str, int], ...]:
    """Pairs of region (empty for every region) and number."""
    if given is None or given == "":
        return ()
    if isinstance(given, Mapping) or (isinstance(given, str) and ":" in given):
        pairs = as_pairs(given, "mask_values")
    elif isinstance(given, (int, str)):
        pairs = tuple(("", part) for part in as_names(str(given), "mask_values"))
    else:
        pairs = tuple(("", str(value)) for value in given)
    try:
        return tuple((name, int(value)) for name, value in pairs)
    except ValueError:
        raise UsageError(
            f"mask_values: expected whole numbers (1+3) or pairs (person:15+dog:12), got {given!r}"
        ) from None


def _threshold(given: str | float | None) -> float | None:
    if given is None:
        return None
    try:
        return float(given)
    except ValueError:
        raise UsageError(f"mask_threshold: expected a number, got {given!r}") from None


def _as_dict(columns: Columns) -> dict[str, Any]:
    return {name: getattr(columns, name) for name in columns.__slots__}


def _labelled_by_shapes(parsed: Parsed) -> Parsed:
    """The label of an image is what its shapes are called; their region is ``object``."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for image, region in parsed.shapes.select("image", "region").iter_rows():
        kinds[image].add(region)
    for image, names in kinds.items():
        if len(names) > 1:
            raise DatasetError(
                f"folder: labels=shapes, but the shapes of {image!r} are called {', '.join(sorted(names)[:3])}: "
                "an image has one label"
            )
    labels = [next(iter(kinds[image])) if image in kinds else None for image in parsed.images["image"].to_list()]
    return Parsed(
        parsed.images.with_columns(pl.Series("label", labels, dtype=pl.String())),
        parsed.shapes.with_columns(pl.lit("object").alias("region")),
    )


def _folder_meant(file: str, folders: Sequence[str]) -> str:
    """Words on a mask's folder that no image's folder is called like, but one nearly is."""
    own = file.rpartition("/")[0]
    if not own or own in folders:
        return ""
    near = {folder.casefold(): folder for folder in folders if folder}
    found = difflib.get_close_matches(own.casefold(), near, n=1)
    return f"; images lie in {near[found[0]]!r}, not in {own!r}" if found else ""


def _given_classes(root: Path, classes: str | Sequence[str] | None) -> list[str] | None:
    if classes is not None and not isinstance(classes, str):
        names = [str(name) for name in classes]
    else:
        path = inside(root, classes or _CLASSES_FILE)
        if not path.is_file():
            if classes is None:
                return None
            raise not_found(DatasetError, "folder: classes=", classes, below=root, folder=False)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise DatasetError(f"{path.name}: not UTF-8 text; save the file as UTF-8") from None
        names = [line.strip() for line in lines if line.strip()]
    if not names or len(set(names)) < len(names):
        raise UsageError(
            f"classes: expected different names, one a line, got {len(names)} ({len(set(names))} different)"
        )
    return names


def _class_indices(
    texts: Sequence[str | None], given: list[str] | None, by_folder: bool
) -> tuple[list[str], list[int | None]]:
    """Class names and every image's class index.

    Names give indices by their place. Whole numbers in a column are indices; as names of folders they are names like
    any other, in the order of their text, as torchvision has it.
    """
    there = {text for text in texts if text is not None}
    numeric = bool(there) and not by_folder and all(_WHOLE.fullmatch(text) for text in there)
    if given is not None and not there <= set(given):
        if not numeric or max(map(int, there)) >= len(given):
            stranger = sorted(there - set(given))[0]
            raise DatasetError(
                f"folder: label {stranger!r} is none of the {len(given)} classes ({', '.join(given[:5])}, ...)"
            )
        return given, [None if text is None else int(text) for text in texts]
    if given is None and numeric:
        top = max(map(int, there))
        if top >= 1_000_000:
            raise DatasetError(
                f"folder: label {top}: numbers that large are no class indices; give their order in classes="
            )
        return [str(number) for number in range(top + 1)], [None if text is None else int(text) for text in texts]
    names = given if given is not None else sorted(there)
    index_of = {name: place for place, name in enumerate(names)}
    return names, [None if text is None else index_of[text] for text in texts]


def _attributes(
    others: Mapping[str, Sequence[str | None]], wanted: str | Iterable[str] | None
) -> dict[str, list[AttributeValue]]:
    if wanted == "none":
        return {}
    names = list(others) if wanted in (None, "auto") else list(as_names(wanted, "attributes"))
    for name in names:
        known_name(name, "attribute", others)
    return {name: _typed(others[name]) for name in names}


def _typed(texts: Sequence[str | None]) -> list[AttributeValue]:
    """A column as truth values, whole numbers or numbers where all its values are, else as text.

    What a number would not be written back as is text: ``001``, ``1_0``, more than 18 digits, infinity.
    """
    given = {text for text in texts if text is not None}
    if given and {text.lower() for text in given} <= {"true", "false"}:
        return [None if text is None else text.lower() == "true" for text in texts]
    if given and all(_INTEGER.fullmatch(text) for text in given):
        return [None if text is None else int(text) for text in texts]
    numbers = {text for text in given if text.lower() != "nan"}  # which stands for no value
    if numbers and all(_NUMBER.fullmatch(text) and math.isfinite(float(text)) for text in numbers):
        return [None if text is None or text not in numbers else float(text) for text in texts]
    return list(texts)


def _sample_ids(files: Sequence[str]) -> list[str]:
    stems = [stem_of(file).replace("\\", "/") for file in files]
    return stems if len(set(stems)) == len(stems) else [file.replace("\\", "/") for file in files]
