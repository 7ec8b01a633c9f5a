"""``ealign datasets``: what there is, whether files are sound, and generated stand-ins."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from explanation_alignment.cli.options import Quiet
from explanation_alignment.errors import UsageError

if TYPE_CHECKING:
    from explanation_alignment.datasets.checking.check import CheckReport
    from explanation_alignment.datasets.checking.problems import Problem
    from explanation_alignment.geometry import Geometry

__all__ = ["app"]

app = typer.Typer(help="Datasets there are; check files; write generated stand-ins.\n\nExample: ealign datasets")

#: Problems shown, of those that are wrong and of those worth a look, unless all are asked for.
_SHOWN: Final = 20
#: Classes shown, the largest ones.
_CLASSES: Final = 10


class Format(StrEnum):
    """How to print."""

    text = "text"
    json = "json"


@app.callback(invoke_without_command=True)
def _datasets(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        _print_list(None)


@app.command(name="list")
def list_datasets(
    pattern: Annotated[
        str | None, typer.Argument(help="Only names like this; * and ? stand for letters, plain text for a part.")
    ] = None,
) -> None:
    """List the datasets that can be loaded by name, with their arguments.

    Example: ealign datasets list 'co*'
    """
    _print_list(pattern)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Name, also with arguments: 'imagenet(split=val)'; or file:PY:FACTORY.")],
    folder: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="Folder with its files; none where it needs none.")
    ] = None,
    geometry: Annotated[
        str, typer.Option(help="RESIZE,CROP in pixels, RESIZE also HxW to squash: tells what is cropped away.")
    ] = "256,224",
    sheet: Annotated[
        Path | None, typer.Option(help="Contact sheet to write.", show_default="NAME-DIR-check.png here")
    ] = None,
    no_sheet: Annotated[bool, typer.Option("--no-sheet", help="Write no contact sheet.")] = False,
    sample: Annotated[int | None, typer.Option(help="Read only so many samples, spread over the classes.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which samples are read and drawn.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that read.", min=0)] = 0,
    all_problems: Annotated[bool, typer.Option("--all", help=f"List all problems, not {_SHOWN} of each kind.")] = False,
    format: Annotated[Format, typer.Option(help="For people or for machines.")] = Format.text,
    quiet: Quiet = False,
) -> None:
    """Read a dataset and say what it holds and what is wrong; exit code 1 if something is.

    A contact sheet shows samples with their annotations drawn.

    Example: ealign datasets check celeba data/celeba
    """
    import json

    from explanation_alignment.datasets import load_dataset
    from explanation_alignment.datasets.checking.check import check_dataset

    if sheet is not None and no_sheet:
        raise UsageError("give --sheet or --no-sheet, not both")
    if sample is not None and sample < 1:
        raise UsageError(f"--sample: expected at least 1, got {sample}")
    chosen = _geometry(geometry)
    place = None if no_sheet else _sheet_place(sheet, name, folder)
    dataset = load_dataset(name, folder)
    report = check_dataset(dataset, chosen, sample=sample, seed=seed, workers=workers, progress=not quiet)
    if place is not None and report.samples:
        from explanation_alignment.datasets.checking.contact_sheet import draw_contact_sheet
        from explanation_alignment.runs.files import write_atomically

        picture = draw_contact_sheet(dataset, seed=seed)
        write_atomically(place, lambda temporary: picture.save(temporary, "PNG"))
    if format is Format.json:
        content = {**report.to_dict(), "sheet": str(place) if place is not None and report.samples else None}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        _print_report(report, all_problems)
        if place is not None and report.samples:
            typer.echo(f"\ncontact sheet  {place}")
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def toy(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty folder to write to.")],
    n: Annotated[int, typer.Option("--n", help="Images, in each split where the files have several.", min=1)] = 60,
    seed: Annotated[int, typer.Option(help="Another seed, other images.", min=0)] = 0,
    correlation: Annotated[
        float | None,
        typer.Option(help="Faces: phi between hair (black or blond) and smile, -1 to 1; else 0.", metavar="PHI"),
    ] = None,
    other_hair: Annotated[
        float | None,
        typer.Option(help="Faces: share with brown or grey hair, 0 to below 1; else 0.2.", metavar="SHARE"),
    ] = None,
    classes: Annotated[int | None, typer.Option(help="ImageNet: 4 to 12 classes; else 4.")] = None,
) -> None:
    """Write a small generated stand-in in the layout of the real files, to try things on.

    Example: ealign datasets toy celeba data/toy-celeba --n 2000 --correlation 0.9
    """
    import shlex

    from explanation_alignment.datasets import DATASETS, find_dataset

    known, entry = find_dataset(name)
    given = {"correlation": correlation, "other_hair": other_hair, "classes": classes}
    arguments = {key: value for key, value in given.items() if value is not None}
    for key in arguments:
        if key not in entry.toy_arguments:
            having = [other for other in DATASETS if key in DATASETS[other].toy_arguments]
            option = key.replace("_", "-")
            raise UsageError(f"--{option}: the stand-in of {known} has none; those of {', '.join(having)} do")
    entry.write_toy(folder, n, seed, **arguments)
    typer.echo(f"{folder}: generated images in the layout of {known}; not data")
    typer.echo(f"next  ealign datasets check {shlex.join([known, str(folder)])}")


def _print_list(pattern: str | None) -> None:
    import fnmatch
    import textwrap

    from explanation_alignment.datasets import DATASETS
    from explanation_alignment.errors import UnknownNameError

    wanted = None if pattern is None else pattern.replace("-", "_").lower()
    if wanted is not None and not any(letter in wanted for letter in "*?["):
        wanted = f"*{wanted}*"
    shown = [name for name in DATASETS if wanted is None or fnmatch.fnmatchcase(name, wanted)]
    if pattern is not None and not shown:
        raise UnknownNameError("dataset", pattern, DATASETS)
    for name in shown:
        entry = DATASETS[name]
        typer.secho(name, bold=True)
        arguments = [f"{key} = {meaning}" for key, meaning in entry.arguments.items()]
        origin = [f"{word}: {text}" for word, text in (("from", entry.source), ("licence", entry.licence)) if text]
        for line in (entry.summary, *arguments, *origin):
            typer.echo(textwrap.fill(line, 96, initial_indent="    ", subsequent_indent="      "))
    if pattern is None:
        typer.echo("arguments go into the name: 'folder(mask_suffix=_mask,size=scale)'")
        typer.echo("any other: file:PATH.py:FACTORY, a function in your own file that returns a dataset")


def _geometry(text: str) -> Geometry:
    import re

    from explanation_alignment.geometry import Geometry

    match = re.fullmatch(
        r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?,([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text.replace(" ", "")
    )
    if match is None:
        raise UsageError(f"--geometry: expected RESIZE,CROP such as 256,224 or 224x224,224, got {text!r}")
    resize, squash, crop, width = (None if group is None else int(group) for group in match.groups())
    assert resize is not None
    assert crop is not None
    return Geometry(resize=resize if squash is None else (resize, squash), crop=(crop, width or crop))


def _sheet_place(sheet: Path | None, name: str, folder: Path | None) -> Path:
    """Where the contact sheet goes: never among the dataset's own files, which it would join."""
    import re

    short = re.sub(r"\.py:", "-", re.sub(r"^file:(.*[/\\])?", "", name))
    short += "" if folder is None else f"-{folder.resolve().name}"  # the check of another folder is another sheet
    place = sheet or Path(f"{re.sub(r'[^A-Za-z0-9_.]+', '-', short).strip('-')}-check.png")
    if place.suffix.lower() != ".png":
        raise UsageError(f"--sheet: expected a .png file, got {str(place)!r}")
    if folder is not None and folder.is_dir() and place.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"the contact sheet {str(place)!r} would lie in the dataset's folder; give --sheet FILE or --no-sheet"
        )
    return place


def _print_report(report: CheckReport, all_problems: bool) -> None:
    from explanation_alignment.cli.display.tables import new_table, say, show_table

    say(f"{report.dataset}" + ("  (generated toy data)" if report.toy else ""))
    read = "all looked at" if report.checked == report.samples else f"{report.checked:,} of them looked at"
    sizes = ""
    if report.sizes is not None:
        low_h, low_w, high_h, high_w = report.sizes
        same = (low_h, low_w) == (high_h, high_w)
        sizes = f"{low_h} x {low_w}" if same else f"heights {low_h} to {high_h}, widths {low_w} to {high_w}"
    facts = {
        "samples": f"{report.samples:,}, {read}" + (f", {report.unreadable:,} unreadable" if report.unreadable else ""),
        "images": sizes and f"{sizes} pixels",
        "classes": _classes_line(report),
        "fingerprint": report.fingerprint[:16],
    }
    for key, text in facts.items():
        if text:
            say(_hanging(f"{key:<12} {text}", 13))
    for note in report.notes:
        say(_hanging(f"{'note':<12} {note}", 13), dim=True)
    if report.regions:
        resize, crop = (_size_words(report.geometry[key]) for key in ("resize", "crop"))
        headings = ["region", "annotated", "none", "empty", "full", "cropped", "area 5 %", "median", "95 %"]
        table = new_table("annotations", headings, numbers_from=1)
        for region in report.regions:
            areas = [f"{100 * share:.2g} %" for share in region.area] or ["-"] * 3
            counts = (region.annotated, region.missing, region.empty, region.full, region.cropped)
            table.add_row(
                region.region + (" (evidence)" if region.evidence else ""), *(f"{count:,}" for count in counts), *areas
            )
        say("")
        show_table(table)
        say(
            f"none: not annotated; cropped: nothing left after resize {resize}, crop {crop} (an evaluation uses the "
            "model's own, --geometry gives another here); area: of the image",
            dim=True,
        )
    _print_problems(report.problems, all_problems)


def _size_words(size: object) -> str:
    return " x ".join(map(str, size)) if isinstance(size, tuple) else "none" if size is None else str(size)


def _hanging(text: str, indent: int) -> str:
    """Text at a hundred columns whose further lines stand under its beginning; ids and paths stay whole."""
    import textwrap

    return textwrap.fill(
        text, 100, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def _classes_line(report: CheckReport) -> str:
    ranked = sorted(report.classes.items(), key=lambda item: -item[1])
    parts = [f"{name}: {count:,}" for name, count in ranked[:_CLASSES]]
    if len(ranked) > _CLASSES:
        parts.append(f"and {len(ranked) - _CLASSES:,} more down to {ranked[-1][1]:,}")
    if report.empty_classes:
        parts.append(f"{report.empty_classes:,} without a sample")
    if report.unlabelled:
        parts.append(f"{report.unlabelled:,} samples without a label")
    return ", ".join(parts)


def _print_problems(problems: tuple[Problem, ...], all_problems: bool) -> None:
    import collections

    from explanation_alignment.cli.display.tables import say

    serious = [problem for problem in problems if problem.serious]
    minor = [problem for problem in problems if not problem.serious]
    for heading, found in (("wrong", serious), ("worth a look", minor)):
        if not found:
            continue
        kinds: collections.Counter[str] = collections.Counter()
        for problem in found:
            kinds[problem.kind] += problem.count
        counts = ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
        say(f"\n{heading}: {counts}")
        shown = found if all_problems else found[:_SHOWN]
        for problem in shown:
            subject = "" if problem.sample_id is None else f"{problem.sample_id}: "
            say(_hanging(f"  {problem.kind}  {subject}{problem.message}", 4))
        if len(shown) < len(found):
            say(f"  and {len(found) - len(shown):,} more; --all lists them")
    if not serious:
        say("\nnothing is wrong")
