"""The saliency methods there are by name: what each takes, costs and comes from. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from explanation_alignment.saliency.arguments import Argument, choice, flag, grid_sides, number, segments, text, whole

__all__ = ["COMMON_ARGUMENTS", "METHODS", "Kind", "MethodEntry"]

#: ``shared``: from the one forward and backward pass that all such methods share; ``own``: passes of its own, for the
#: class known from the first; ``none``: no model.
Kind: TypeAlias = Literal["shared", "own", "none"]


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """One registered saliency method.

    Args:
        summary: one line on what it does.
        default_binarization: used where the request names none.
        signed: whether its maps can be negative under its default arguments.
        passes: what it costs, in words.
        source: the paper it comes from, and whose implementation it is.
        arguments: what it takes.
        kind: where its maps come from.
        function: ``module:function`` that makes the maps of an ``own`` method, imported when first used.
        needs: what an ``own`` method takes from the shared pass: the name of one of its formulas.
        extra: the installation extra it needs beyond the ordinary dependencies.
        explains_class: whether another class gives another map.
        probe: ``module:function`` called with one image of noise before anything is explained, so that what cannot
            serve is refused before a run begins; takes what ``function`` takes.
    """

    summary: str
    default_binarization: str
    signed: bool
    passes: str
    source: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    kind: Kind = "shared"
    function: str = ""
    needs: str | None = None
    extra: str | None = None
    explains_class: bool = True
    probe: str = ""

    def load(self) -> Callable[..., Any]:
        """The function that makes an ``own`` method's maps."""
        return _imported(self.function)

    def load_probe(self) -> Callable[..., Any] | None:
        """The function that says beforehand what cannot serve, if there is one."""
        return _imported(self.probe) if self.probe else None


def _imported(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


_HOME: Final = "explanation_alignment.saliency"
_SHARED: Final = "one forward and backward, shared"
_LAYER: Final = Argument(
    None, "last_conv | paper | a module's path; left out: the last feature map, found and probed", text
)
_SEED: Final = Argument(0, "a whole number: other random draws, one stream a sample", whole())
_SIGNED: Final = Argument(False, "true | false: sum over the channels with sign, not of absolute values", flag)


def _relu(default: bool) -> Argument:
    return Argument(default, "true | false: keep only the positive part", flag)


def _baseline(default: str, *more: str) -> Argument:
    words = ("black", "mean", "blur", *more)
    return Argument(
        default, f"{' | '.join(words)}: black, the image's mean colour, or the image blurred", choice(*words)
    )


_SEGMENTS: Final = Argument(
    "grid:7", "grid:N | grid:HxW | slic:N: cells of a grid, or superpixels (extra xrai)", segments
)


def _cam(summary: str, source: str, *, relu: bool = False, **changes: Any) -> MethodEntry:
    return MethodEntry(
        summary=summary,
        default_binarization="threshold:0.5",
        signed=not relu,
        passes=_SHARED,
        source=source,
        **{"arguments": {"layer": _LAYER, "relu": _relu(relu)}, **changes},
    )


#: Every saliency method that can be asked for by name.
METHODS: Final[Mapping[str, MethodEntry]] = MappingProxyType(
    {
        "vanilla_gradients": MethodEntry(
            summary="|d output / d input|, summed over channels",
            default_binarization="std:1",
            signed=False,
            passes=_SHARED,
            source="Simonyan, Vedaldi, Zisserman 2014",
        ),
        "input_x_gradient": MethodEntry(
            summary="|input times its gradient|, summed over channels; the input as the network takes it",
            default_binarization="std:1",
            signed=False,
            passes=_SHARED,
            source="Shrikumar, Greenside, Kundaje 2017, section 2.2",
            arguments={"signed": _SIGNED},
        ),
        "gradcam": _cam(
            "activations of a layer weighted by their mean gradient, bilinearly upsampled",
            "Selvaraju et al. 2017; without its ReLU, as in the published study",
        ),
        "gradcam++": _cam(
            "Grad-CAM whose weights favour the places where the gradient is positive",
            "Chattopadhay et al. 2018",
            relu=True,
        ),
        "layercam": _cam(
            "activations weighted place by place by their positive gradient", "Jiang et al. 2021", relu=True
        ),
        "hirescam": _cam("activations times their gradient, summed over channels", "Draelos and Carin 2020"),
        "xgradcam": _cam(
            "activations weighted by their gradient's mean, taken where they are active", "Fu et al. 2020"
        ),
        "eigencam": _cam(
            "the first principal component of a layer's activations: no class in it",
            "Muhammad and Yeasin 2020; the sign is that of the entry largest in size",
            arguments={
                "layer": _LAYER,
                "relu": _relu(False),
                "centered": Argument(False, "true | false: take each channel's mean off first", flag),
            },
            explains_class=False,
        ),
        "integrated_gradients": MethodEntry(
            summary="gradients along the straight path from a baseline to the image, times the difference",
            default_binarization="std:1",
            signed=False,
            passes="steps forward and backward",
            source="Sundararajan, Taly, Yan 2017; captum",
            arguments={
                "steps": Argument(50, "a whole number: points of the Gauss-Legendre rule", whole(1)),
                "baseline": _baseline("black"),
                "signed": _SIGNED,
            },
            kind="own",
            function=f"{_HOME}.gradients:integrated_gradients",
        ),
        "smoothgrad": MethodEntry(
            summary="the mean gradient of noisy copies of the image, or the mean of its square",
            default_binarization="std:1",
            signed=False,
            passes="samples forward and backward",
            source="Smilkov et al. 2017; squared: Hooker et al. 2019",
            arguments={
                "samples": Argument(25, "a whole number: noisy copies", whole(1)),
                "noise": Argument(0.15, "0 to 1: standard deviation, as a share of the image's range", number(0, 1)),
                "squared": Argument(False, "true | false: the mean of squares, summed over channels", flag),
                "signed": _SIGNED,
                "seed": _SEED,
            },
            kind="own",
            function=f"{_HOME}.gradients:smoothgrad",
        ),
        "gradient_shap": MethodEntry(
            summary="gradients at random points between baseline and noisy image, times the difference",
            default_binarization="std:1",
            signed=False,
            passes="samples forward and backward",
            source="Lundberg and Lee 2017; Erion et al. 2021 (expected gradients)",
            arguments={
                "samples": Argument(25, "a whole number: random points", whole(1)),
                "noise": Argument(0.09, "0 to 1: standard deviation, as a share of the image's range", number(0, 1)),
                "baseline": _baseline("black"),
                "signed": _SIGNED,
                "seed": _SEED,
            },
            kind="own",
            function=f"{_HOME}.gradients:gradient_shap",
        ),
        "deeplift": MethodEntry(
            summary="contributions to the output's difference from a baseline (rescale rule); checked to add up to it",
            default_binarization="std:1",
            signed=False,
            passes="one forward and backward of image and baseline",
            source="Shrikumar, Greenside, Kundaje 2017, eq. 7 to 11",
            arguments={"baseline": _baseline("black"), "signed": _SIGNED},
            kind="own",
            function=f"{_HOME}.rectifiers:deeplift",
            probe=f"{_HOME}.rectifiers:deeplift",
        ),
        "guided_backprop": MethodEntry(
            summary="the gradient with its negative part cut off at every ReLU; says little of the class",
            default_binarization="std:1",
            signed=False,
            passes="one forward and backward",
            source="Springenberg et al. 2015",
            arguments={"signed": _SIGNED},
            kind="own",
            function=f"{_HOME}.rectifiers:guided_backprop",
            probe=f"{_HOME}.rectifiers:guided_backprop",
        ),
        "guided_gradcam": MethodEntry(
            summary="guided backpropagation times Grad-CAM (with its ReLU)",
            default_binarization="std:1",
            signed=False,
            passes="one forward and backward, beside the shared one",
            source="Selvaraju et al. 2017, section 3.2",
            arguments={"layer": _LAYER, "signed": _SIGNED},
            kind="own",
            function=f"{_HOME}.rectifiers:guided_gradcam",
            probe=f"{_HOME}.rectifiers:check_rectifiers",
            needs="gradcam",
        ),
        "occlusion": MethodEntry(
            summary="how much the output falls when a window is covered, averaged over the windows at a pixel",
            default_binarization="std:1",
            signed=True,
            passes="one forward a window position (169 for 224 pixels)",
            source="Zeiler and Fergus 2014; captum",
            arguments={
                "window": Argument(None, "pixels; left out: a seventh of the shorter side", whole(1)),
                "stride": Argument(None, "pixels; left out: half the window", whole(1)),
                "baseline": _baseline("black"),
            },
            kind="own",
            function=f"{_HOME}.perturbation:occlusion",
            probe=f"{_HOME}.perturbation:window_and_stride",
        ),
        "scorecam": MethodEntry(
            summary="activations weighted by what the image masked with them scores (softmax over channels)",
            default_binarization="threshold:0.5",
            signed=False,
            passes="one forward a channel of the layer",
            source="Wang et al. 2020",
            arguments={"layer": _LAYER, "relu": _relu(True)},
            kind="own",
            function=f"{_HOME}.perturbation:scorecam",
            needs="activations",
        ),
        "rise": MethodEntry(
            summary="random smooth masks averaged, weighted by the class's probability behind each",
            default_binarization="std:1",
            signed=False,
            passes="masks forward",
            source="Petsiuk, Das, Saenko 2018",
            arguments={
                "masks": Argument(1000, "a whole number; the paper takes 4000 and more", whole(1)),
                "cells": Argument(7, "a whole number: cells a side of the coarse mask", whole(2)),
                "keep": Argument(0.5, "0 to 1: share of the cells that stay", number(0, 1, above=True)),
                "seed": _SEED,
            },
            kind="own",
            function=f"{_HOME}.perturbation:rise",
        ),
        "lime": MethodEntry(
            summary="a weighted ridge regression of the output on which segments are shown",
            default_binarization="std:1",
            signed=True,
            passes="samples forward",
            source="Ribeiro, Singh, Guestrin 2016",
            arguments={
                "samples": Argument(500, "a whole number: random selections of segments", whole(2)),
                "segments": _SEGMENTS,
                "baseline": _baseline("mean"),
                "width": Argument(
                    0.25, "0 to 10: width of the kernel over the cosine distance", number(0, 10, above=True)
                ),
                "ridge": Argument(1, "0 to 1e6: penalty on the weights", number(0, 1e6, above=True)),
                "seed": _SEED,
            },
            kind="own",
            function=f"{_HOME}.surrogates:lime",
            probe=f"{_HOME}.surrogates:check_segments",
        ),
        "kernel_shap": MethodEntry(
            summary="Shapley values of segments; exact where all their selections fit into samples",
            default_binarization="std:1",
            signed=True,
            passes="samples forward",
            source="Lundberg and Lee 2017, theorem 2; pairs of complements: Covert and Lee 2021",
            arguments={
                "samples": Argument(500, "a whole number: selections of segments, in pairs of complements", whole(2)),
                "segments": _SEGMENTS,
                "baseline": _baseline("mean"),
                "seed": _SEED,
            },
            kind="own",
            function=f"{_HOME}.surrogates:kernel_shap",
            probe=f"{_HOME}.surrogates:check_segments",
        ),
        "xrai": MethodEntry(
            summary="segments of the image ranked by integrated gradients from black and white",
            default_binarization="std:1",
            signed=True,
            passes="2 x steps forward and backward, then seconds of CPU an image",
            source="Kapishnikov et al. 2019; PAIR's saliency",
            arguments={
                "steps": Argument(50, "a whole number: points of the path", whole(1)),
                "algorithm": Argument("full", "full | fast: PAIR's two", choice("full", "fast")),
            },
            kind="own",
            function=f"{_HOME}.ranked_segments:xrai",
            probe=f"{_HOME}.ranked_segments:check_installed",
            extra="xrai",
        ),
        "attention_rollout": MethodEntry(
            summary="attention to the patches, followed through all layers: no class in it",
            default_binarization="threshold:0.5",
            signed=False,
            passes="one forward",
            source="Abnar and Zuidema 2020; heads averaged",
            kind="own",
            function=f"{_HOME}.attention:attention_rollout",
            probe=f"{_HOME}.attention:attention_rollout",
            explains_class=False,
        ),
        "generic_attention": MethodEntry(
            summary="attention times its positive gradient, followed through all layers",
            default_binarization="threshold:0.5",
            signed=False,
            passes="one forward and backward",
            source="Chefer, Gur, Wolf 2021 (generic attention explainability), eq. 5 and 6",
            kind="own",
            function=f"{_HOME}.attention:generic_attention",
            probe=f"{_HOME}.attention:generic_attention",
        ),
        "random": MethodEntry(
            summary="random values, seeded by the sample's id: a map that knows nothing",
            default_binarization="area",
            signed=False,
            passes="none",
            source="an empirical null",
            arguments={"seed": Argument(0, "a whole number: other random maps", whole())},
            kind="none",
            explains_class=False,
        ),
        "center": MethodEntry(
            summary="a Gaussian at the centre of the image: a map that knows only that objects stand in the middle",
            default_binarization="area",
            signed=False,
            passes="none",
            source="an empirical null",
            kind="none",
            explains_class=False,
        ),
        "sobel": MethodEntry(
            summary="edges of the image: a map that knows the image and no class",
            default_binarization="std:1",
            signed=False,
            passes="none",
            source="an empirical null; Adebayo et al., Sanity checks for saliency maps, 2018",
            kind="none",
            explains_class=False,
        ),
    }
)

#: What every method takes.
COMMON_ARGUMENTS: Final[Mapping[str, Argument]] = MappingProxyType(
    {
        "grid": Argument(
            None, "N or HxW: average the map over so many cells first, so that methods share a resolution", grid_sides
        ),
        "binarize": Argument(None, "std:K | threshold:T | percentile:Q | area | otsu; left out: the method's own"),
    }
)
