"""``ealign demo``: the whole way in minutes, without a download."""

from __future__ import annotations

from pathlib import Path

from explanation_alignment.cli.options import Device, Out, Quiet

__all__ = ["demo"]


def demo(out: Out = Path("ealign-demo"), device: Device = "auto", quiet: Quiet = False) -> None:
    """Train two small digit models and show which one cheats. Minutes, no download.

    The data is scikit-learn's bundled handwritten digits with a coloured block in the corner. One model
    sees blocks whose colour gives the class away, the other blocks of any colour.

    Example: ealign demo --out runs/demo
    """
    from explanation_alignment.cli.display.results import print_experiment
    from explanation_alignment.cli.memory import keep_freed_memory
    from explanation_alignment.experiments.mnist.running import run_experiment

    keep_freed_memory()
    print_experiment(run_experiment(None, out, device=device, progress=not quiet))
