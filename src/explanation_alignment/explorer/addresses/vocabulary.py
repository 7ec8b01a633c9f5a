"""What an address may name; anything else is an error that names the nearest, never a guess."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from explanation_alignment.metrics.registry import METRICS

__all__ = ["Vocabulary", "rising"]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the addresses of a run may name.

    Args:
        models: in the order of the run, as all of these.
        families: of the models, where known.
        seeds: of training.
        datasets: dataset -> names of its classes.
        targets: what was explained.
        methods: method -> its binarizations.
        regions: region -> the datasets that have it.
        evidence: the regions a person would accept as the reason.
        metrics: columns with scores.
        attributes: names, without prefix.
    """

    models: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    datasets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    @property
    def binarizations(self) -> tuple[str, ...]:
        """Of any method."""
        return tuple(dict.fromkeys(name for names in self.methods.values() for name in names))


def rising(metrics: Iterable[str]) -> tuple[str, ...]:
    """The metrics whose scores rise with agreement; somebody's own are taken to."""
    bases = {name: METRICS.get(name.partition("(")[0]) for name in metrics}
    return tuple(name for name, metric in bases.items() if metric is None or metric.higher_is_better)
