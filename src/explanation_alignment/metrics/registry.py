"""What each alignment metric is: its name, heading, range, properties and source. Imports no torch.

The functions themselves are looked up in ``functional`` on first use, so that statistics, reports and the command
line can ask for a name or a heading without it.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, cast

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.specs import check_arguments, format_call, parse_call

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DEFAULT_METRICS", "METRICS", "Metric", "Parameter", "get_metric"]

#: The metrics an evaluation writes unless told otherwise.
DEFAULT_METRICS: Final = ("iou_coverage", "ground_truth_coverage", "saliency_coverage", "pointing_game")

#: The score to expect from a map that knows nothing, with b salient, g annotated and N pixels in all:
#: ``salient_share`` b/N, ``annotated_share`` g/N, ``hypergeometric`` the expected IoU of b random pixels.
Chance = Literal["salient_share", "annotated_share", "hypergeometric", "half", "zero"]

#: Why a score can be undefined though there is an annotation and the map is not flat.
Reason = Literal["empty_binarization", "full_annotation", "no_positive_mass"]


@dataclass(frozen=True)
class Parameter:
    """An argument a metric takes.

    Args:
        default: its value when not given; None where it depends on the map.
        minimum: the smallest value allowed.
        integer: whether only whole numbers are.
        keeps_chance: whether the metric's chance level holds for other values too.
    """

    default: float | None
    minimum: float
    integer: bool
    keeps_chance: bool

    def read(self, value: object, what: str) -> float:
        """The value as a number, an int where it is whole, so that 15 and 15.0 are one metric.

        Raises:
            UsageError: it is not a number of this kind.
        """
        try:
            number = math.nan if isinstance(value, bool) else float(cast("float | str", value))
        except (TypeError, ValueError):
            number = math.nan
        if not self.minimum <= number < math.inf or (self.integer and not number.is_integer()):
            kind = "a whole number" if self.integer else "a number"
            raise UsageError(f"{what} is {value!r}; expected {kind} of at least {self.minimum:g}")
        return int(number) if number.is_integer() else number


@dataclass(frozen=True)
class Metric:
    """One alignment metric; ``METRICS`` holds them all.

    Args:
        name: canonical name, a column of a run: ``pointing_game``, ``pointing_game(tolerance=15)``.
        label: a short column heading.
        needs: what the function takes beside the annotation mask: a binarized ``mask``, the real-valued ``saliency``;
            or ``heatmap``: the saliency, with a real-valued annotation.
        summary: one line for people.
        source: where it comes from.
        range: smallest and largest possible value.
        binary: whether a score is either 0 or 1, so that the mean is a proportion.
        higher_is_better: the direction of agreement.
        symmetric: whether swapping prediction and annotation changes nothing.
        scale_invariant: whether multiplying S by a positive number changes nothing.
        undefined: the reasons why it can be undefined where the status is ``ok``.
        chance: which analytic chance level it has, if any.
        parameters: the arguments it takes.
        arguments: the arguments given, those equal to the default left out.
    """

    name: str
    label: str
    needs: Literal["mask", "saliency", "heatmap"]
    summary: str
    source: str
    range: tuple[float, float] = (0.0, 1.0)
    binary: bool = False
    higher_is_better: bool = True
    symmetric: bool = False
    scale_invariant: bool = True
    undefined: tuple[Reason, ...] = ()
    chance: Chance | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict, repr=False, compare=False)
    arguments: Mapping[str, float] = field(default_factory=dict, repr=False, compare=False)

    def with_arguments(self, values: Mapping[str, object]) -> Metric:
        """The same metric with other arguments, given as numbers or text; None and defaults change nothing.

        Raises:
            UnknownNameError: it has no such argument.
            UsageError: it takes none at all, or a value is out of range.
        """
        check_arguments(f"metric {self.base}", values, self.parameters)
        arguments = {
            name: self.parameters[name].read(value, f"{name} of metric {self.base}")
            for name, value in sorted(values.items())
            if value is not None
        }
        arguments = {name: value for name, value in arguments.items() if value != self.parameters[name].default}
        registered = METRICS[self.base]
        if not arguments:
            return registered
        return replace(
            registered,
            name=format_call(self.base, arguments),
            label=f"{registered.label}@{','.join(map(str, arguments.values()))}",
            chance=registered.chance if all(self.parameters[name].keeps_chance for name in arguments) else None,
            arguments=arguments,
        )

    @property
    def base(self) -> str:
        """The name without arguments, which is the function's in ``functional``."""
        return self.name.partition("(")[0]

    @property
    def function(self) -> Callable[..., Tensor]:
        """The function of (prediction, annotation), arguments bound; imports torch on first use."""
        module = importlib.import_module("explanation_alignment.metrics.functional")
        function = cast("Callable[..., Tensor]", getattr(module, self.base))
        return functools.partial(function, **self.arguments) if self.arguments else function


def get_metric(spec: str | Metric) -> Metric:
    """The metric of a name, with arguments if any: ``iou_coverage``, ``pointing_game(tolerance=15)``.

    Raises:
        UnknownNameError: there is no such metric, or it has no such argument.
        UsageError: the text cannot be read, or a value is out of range.

    Example:
        >>> get_metric("pointing_game(tolerance=15.0)").name
        'pointing_game(tolerance=15)'
        >>> get_metric("pointing_game(tolerance=0)").name
        'pointing_game'
    """
    if isinstance(spec, Metric):
        return spec
    name, words = parse_call(spec, "metric")
    if name not in METRICS:
        headings = {metric.label.casefold(): metric.name for metric in METRICS.values()}
        raise UnknownNameError("metric", name, METRICS, meant=headings.get(name.casefold()))
    return METRICS[name].with_arguments(words)


_SHARED_INTEREST: Final = "Boggust et al., Shared Interest, CHI 2022"
_CLEVR_XAI: Final = "Arras et al., CLEVR-XAI, Information Fusion 2022"
_MIT: Final = "Bylinskii et al., What do different evaluation metrics tell us about saliency models?, TPAMI 2018"

#: Every metric by name, in the order in which they are shown.
METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for metric in (
        Metric(
            name="iou_coverage",
            label="IoU",
            needs="mask",
            summary="salient and annotated pixels in common, over those in either",
            source=_SHARED_INTEREST,
            symmetric=True,
            chance="hypergeometric",
        ),
        Metric(
            name="ground_truth_coverage",
            label="GTC",
            needs="mask",
            summary="share of the annotated pixels that are salient",
            source=_SHARED_INTEREST,
            chance="salient_share",
        ),
        Metric(
            name="saliency_coverage",
            label="SC",
            needs="mask",
            summary="share of the salient pixels that are annotated",
            source=_SHARED_INTEREST,
            undefined=("empty_binarization",),
            chance="annotated_share",
        ),
        Metric(
            name="saliency_coverage_continuous",
            label="SC cont.",
            needs="saliency",
            summary="share of the map's absolute mass that is annotated",
            source="continuous saliency_coverage; on maps >= 0 the energy-based pointing game, Wang et al., 2020",
            chance="annotated_share",
        ),
        Metric(
            name="pointing_game",
            label="hit",
            needs="saliency",
            summary="whether the map's maximum is annotated, or within the tolerance in pixels of what is",
            source="Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018",
            binary=True,
            chance="annotated_share",
            parameters={"tolerance": Parameter(default=0, minimum=0, integer=False, keeps_chance=False)},
        ),
        Metric(
            name="relevance_mass_accuracy",
            label="mass",
            needs="saliency",
            summary="share of the map's positive mass that is annotated",
            source=_CLEVR_XAI,
            undefined=("no_positive_mass",),
            chance="annotated_share",
        ),
        Metric(
            name="relevance_rank_accuracy",
            label="rank",
            needs="saliency",
            summary="share of the largest pixels, as many as are annotated, that are annotated",
            source=_CLEVR_XAI,
            chance="annotated_share",
        ),
        Metric(
            name="top_k_intersection",
            label="top-k",
            needs="saliency",
            summary="share of the k largest pixels (5 % of the map) that are annotated",
            source="Theiner et al., Interpretable semantic photo geolocation, 2021",
            chance="annotated_share",
            parameters={"k": Parameter(default=None, minimum=1, integer=True, keeps_chance=True)},
        ),
        Metric(
            name="roc_auc",
            label="AUC",
            needs="saliency",
            summary="probability that an annotated pixel is more salient than another",
            source="Fawcett, An introduction to ROC analysis, 2006",
            undefined=("full_annotation",),
            chance="half",
        ),
        Metric(
            name="average_precision",
            label="AP",
            needs="saliency",
            summary="precision averaged over recall, the map as a score for annotated pixels",
            source="Manning et al., Introduction to information retrieval, 2008, section 8.4",
            undefined=("full_annotation",),
        ),
        Metric(
            name="heatmap_spearman",
            label="Spearman",
            needs="heatmap",
            summary="rank correlation with human attention",
            source="Spearman, 1904",
            range=(-1.0, 1.0),
            symmetric=True,
            chance="zero",
            undefined=("full_annotation",),
        ),
        Metric(
            name="heatmap_pearson",
            label="Pearson",
            needs="heatmap",
            summary="linear correlation with human attention (CC)",
            source=_MIT,
            range=(-1.0, 1.0),
            symmetric=True,
            chance="zero",
            undefined=("full_annotation",),
        ),
        Metric(
            name="heatmap_kl",
            label="KL",
            needs="heatmap",
            summary="Kullback-Leibler divergence of the map from human attention",
            source=_MIT,
            range=(0.0, float("inf")),
            higher_is_better=False,
            undefined=("full_annotation", "no_positive_mass"),
        ),
        Metric(
            name="heatmap_similarity",
            label="SIM",
            needs="heatmap",
            summary="histogram intersection with human attention",
            source=_MIT,
            symmetric=True,
            undefined=("full_annotation",),
        ),
        Metric(
            name="heatmap_nss",
            label="NSS",
            needs="heatmap",
            summary="standardised saliency, averaged with human attention as weights",
            source=_MIT,
            range=(float("-inf"), float("inf")),
            undefined=("full_annotation", "no_positive_mass"),
        ),
    )
}
