"""``ealign methods`` and ``metrics``: what there is."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

__all__ = ["methods", "metrics"]


class Format(StrEnum):
    """How to print."""

    text = "text"
    json = "json"


def methods(
    pattern: Annotated[
        str | None, typer.Argument(help="Only methods like this, by name or description; * and ? stand for letters.")
    ] = None,
    format: Annotated[Format, typer.Option(help="For people or for machines.")] = Format.text,
) -> None:
    """List the saliency methods: their arguments, defaults, cost and source.

    Example: ealign methods '*cam*'
    """
    import json

    from explanation_alignment.errors import UnknownNameError
    from explanation_alignment.saliency.base import COMMON_ARGUMENTS, METHODS
    from explanation_alignment.saliency.own_methods import installed

    chosen = [name for name, entry in METHODS.items() if _is_like(pattern, name, entry.summary, entry.source)]
    others = {name: point for name, point in installed().items() if _is_like(pattern, name, point.value)}
    if pattern is not None and not chosen and not others:
        raise UnknownNameError("saliency method", pattern, [*METHODS, *installed()])
    if format is Format.json:
        listed = [
            {
                "name": name,
                "summary": entry.summary,
                "kind": entry.kind,
                "passes": entry.passes,
                "signed": entry.signed,
                "explains_class": entry.explains_class,
                "binarization": entry.default_binarization,
                "extra": entry.extra,
                "source": entry.source,
                "arguments": {
                    key: {"default": argument.default, "meaning": argument.meaning}
                    for key, argument in {**entry.arguments, **COMMON_ARGUMENTS}.items()
                },
            }
            for name, entry in METHODS.items()
            if name in chosen
        ]
        typer.echo(json.dumps(listed, indent=2))
        return
    for kind, heading in _KINDS.items():
        entries = {name: METHODS[name] for name in chosen if METHODS[name].kind == kind}
        if entries:
            typer.secho(heading, fg="cyan")
        for name, entry in entries.items():
            sign = "signed" if entry.signed else "not negative"
            extra = f"; needs the extra {entry.extra}" if entry.extra else ""
            cost = "" if kind != "own" else f"; {entry.passes}"
            lines = (entry.summary, f"{sign}; binarized at {entry.default_binarization}{cost}{extra}", entry.source)
            _entry(name, *lines)
            for key, argument in entry.arguments.items():
                _argument(key, argument.default, argument.meaning)
    if others:
        typer.secho("registered by installed packages", fg="cyan")
    for name, point in others.items():
        _entry(name, point.value)
    typer.secho("every method takes", fg="cyan")
    for key, argument in COMMON_ARGUMENTS.items():
        _argument(key, argument.default, argument.meaning)
    typer.secho("your own: file:PATH.py:FUNCTION, a function of (classifier, images, targets)", fg="cyan")


#: What a method's passes are, as headings.
_KINDS = {
    "shared": "together in one forward and backward pass",
    "own": "with passes of their own",
    "none": "without a model: what chance and the image alone give",
}


def _is_like(pattern: str | None, *texts: str) -> bool:
    import fnmatch

    if pattern is None:
        return True
    words = pattern.lower()
    if set(words) & set("*?["):
        return fnmatch.fnmatchcase(texts[0].lower(), words)
    return any(words in text.lower() for text in texts)


def _argument(key: str, default: object, meaning: str) -> None:
    shown = "" if default is None else f" (default {str(default).lower() if isinstance(default, bool) else default})"
    typer.echo(f"    {key} = {meaning}{shown}")


def metrics() -> None:
    """List the alignment metrics.

    Example: ealign metrics
    """
    from explanation_alignment.metrics.registry import METRICS

    for name, metric in METRICS.items():
        _entry(name, metric.summary, f"heading {metric.label}; takes a {metric.needs}", metric.source)


def _entry(name: str, *lines: str) -> None:
    typer.secho(name, bold=True)
    for line in lines:
        typer.echo(f"    {line}")
