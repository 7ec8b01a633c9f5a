"""``ealign verify``: whether a run is what it says."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from explanation_alignment.cli.options import OptionalDataDir, RunPath

if TYPE_CHECKING:
    from explanation_alignment.runs.verification import Finding, Verification

__all__ = ["verify"]

#: Findings that are shown of each kind unless all are asked for.
_SHOWN = 20


def verify(
    run: RunPath,
    sample: Annotated[int | None, typer.Option(help="Read the rows of only so many parts, drawn by the seed.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model's evaluations; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which parts and decisions are drawn.")] = 0,
    recompute: Annotated[
        int | None, typer.Option(help="Compute so many decisions anew, with the models and data, and compare.")
    ] = None,
    data_dir: OptionalDataDir = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="With --recompute: a dataset with its arguments; repeatable.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="With --recompute: default, random, random:SEED or a checkpoint.")
    ] = None,
    device: Annotated[str, typer.Option(help="With --recompute: auto, cpu, cuda, ...")] = "auto",
    all_findings: Annotated[bool, typer.Option("--all", help="List every finding.")] = False,
) -> None:
    """Look whether every part, row, example and number of a run is what it says; exit code 1 where not.

    Example: ealign verify runs/imagenet --recompute 20 --data-dir data/imagenet
    """
    from explanation_alignment.errors import UsageError
    from explanation_alignment.runs.verification import verify as verify_run

    if recompute is None and (data_dir or dataset or weights or device != "auto"):
        raise UsageError("--data-dir, --dataset, --weights and --device are for --recompute N; give it, too")
    found = verify_run(
        run,
        sample=sample,
        models=model,
        seed=seed,
        recompute=recompute,
        data_dir=data_dir,
        datasets=dataset or (),
        weights=weights,
        device=device,
    )
    _print(found, all_findings)
    if not found.ok:
        raise typer.Exit(1)


def _print(found: Verification, everything: bool) -> None:
    from explanation_alignment.cli.display.tables import say
    from explanation_alignment.statistics.counted import counted

    read = "" if found.parts_read == found.parts else f", {found.parts_read:,} of them read whole"
    say(f"{counted(found.evaluations, 'evaluation')}, {counted(found.parts, 'part')}{read}: {found.rows:,} rows")
    if found.recomputed is not None:
        say(f"computed anew: {found.recomputed.decisions:,} decisions, {found.recomputed.rows:,} rows")
    serious = [finding for finding in found.findings if finding.serious]
    minor = [finding for finding in found.findings if not finding.serious]
    for heading, findings in (("wrong", serious), ("worth knowing", minor)):
        if findings:
            say(f"\n{heading}: {len(findings):,}")
            _print_findings(findings, everything)
    if not serious:
        say("nothing is wrong")


def _print_findings(findings: list[Finding], everything: bool) -> None:
    from explanation_alignment.cli.display.tables import say

    for finding in findings if everything else findings[:_SHOWN]:
        text = f"  {finding.place}: {finding.message}"
        say(textwrap.fill(text, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))
    if not everything and len(findings) > _SHOWN:
        say(f"  and {len(findings) - _SHOWN:,} more; --all lists them")
