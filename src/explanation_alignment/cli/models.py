"""``ealign models``: the classifiers that can be loaded by name."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final

import typer

from explanation_alignment.cli.display.tables import Format

__all__ = ["models"]

#: Lines a listing has unless all are asked for.
_LINES: Final = 45

#: How each kind is asked for.
_KINDS: Final = {
    "paper:timm": "paper:timm/NAME: the transfer study's list, with its weights; paper:timm stands for all",
    "paper:torchvision": "paper:torchvision/NAME: the ImageNet study's list, with its weights and crop",
    "torchvision": "torchvision:NAME, or torchvision:NAME.WEIGHTS such as resnet50.IMAGENET1K_V1",
    "timm": "timm:NAME, or timm:NAME.TAG such as resnet50.a1_in1k",
}


def models(
    pattern: Annotated[str | None, typer.Argument(help="Part of a name, or a pattern such as 'convnext*'.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.table,
) -> None:
    """List the classifiers that can be loaded by name, or search them.

    Example: ealign models "convnext*"
    """
    from explanation_alignment.classifiers.catalogue import list_classifiers
    from explanation_alignment.cli.display.tables import aside, new_table, print_for_machines, say, show_table

    entries = list_classifiers(pattern)
    if format is not Format.table:
        import polars as pl

        columns = {
            "spec": pl.String,
            "weights": pl.String,
            "input_size": pl.Int64,
            "parameters": pl.Float64,
            "note": pl.String,
        }
        rows = [{name: getattr(entry, name) for name in columns} for entry in entries]
        print_for_machines(pl.DataFrame(rows, schema=columns), format)
        return
    if pattern is None and not everything:
        counts = Counter(entry.kind for entry in entries)
        for kind, words in _KINDS.items():
            say(f"{counts[kind]:5d}  {words}")
        say("    -  hf:ORGANISATION/NAME or hf:FOLDER: image classifiers of the transformers library (extra: hf)")
        say("    -  file:PATH.py:FACTORY: a function of yours that returns an ea.Classifier")
        say("    -  paper:mnist: the published digit network, without weights")
        say("\nSearch: ealign models 'convnext*'.  Use: ealign evaluate --model SPEC --weights W,")
        say("where W is default (pretrained), random, random:SEED, or the path of a checkpoint.")
        return
    table = new_table("", ["spec", "pixels", "million parameters"], numbers_from=1)
    shown = entries if everything else entries[:_LINES]
    for entry in shown:
        size = "" if entry.input_size is None else str(entry.input_size)
        table.add_row(entry.spec, size, "" if entry.parameters is None else f"{entry.parameters:.2f}")
    show_table(table)
    for entry in shown if len(shown) <= _LINES // 3 else ():
        if entry.note:
            say(f"{entry.spec}: {entry.note} [{entry.weights}]", dim=True)
    if len(shown) < len(entries):
        aside(f"{len(entries) - len(shown)} more; narrow the pattern, or give --all")
