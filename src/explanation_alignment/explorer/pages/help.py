"""What the numbers mean."""

from __future__ import annotations

from collections.abc import Mapping

from explanation_alignment.explorer.catalogue import Snapshot
from explanation_alignment.explorer.house import Page
from explanation_alignment.statistics.chance import known_metric
from explanation_alignment.statistics.shared_interest_cases import HIGH, LOW

__all__ = ["help_page"]


def help_page(snapshots: Mapping[str, Snapshot]) -> Page:
    """The metrics of these runs, the cases, the statuses and what is drawn."""
    names = dict.fromkeys(name for snapshot in snapshots.values() for name in snapshot.vocabulary.metrics)
    metrics = []
    for name in names:
        known = known_metric(name)
        summary = "a metric of somebody's own" if known is None else known.summary
        metrics.append({"name": name, "summary": summary, "chance": _CHANCE[known.chance if known else None]})
    return Page("help.html.j2", "What the numbers mean", {"metrics": metrics, "low": LOW, "high": HIGH})


_CHANCE = {
    None: "not determined by the areas",
    "salient_share": "the share of the image that is salient",
    "annotated_share": "the share of the image that is annotated",
    "hypergeometric": "the IoU to expect of as many pixels drawn at random",
    "half": ".5",
    "zero": "0",
}
