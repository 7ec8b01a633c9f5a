"""The saliency methods there are, and how one is asked for by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from explanation_alignment.errors import UnknownNameError
from explanation_alignment.specs import check_arguments, format_call, parse_bool, parse_call

__all__ = ["METHODS", "MethodEntry", "MethodRequest", "Output"]

#: What is differentiated: the explained class's logit or its log-softmax.
Output: TypeAlias = Literal["logit", "log_prob"]


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """One registered saliency method.

    Args:
        summary: one line on what it does.
        default_binarization: used where the request names none.
        signed: whether its maps can be negative.
        passes: what it costs, in words.
        source: the paper it comes from.
        arguments: argument name -> (default, what it may be).
    """

    summary: str
    default_binarization: str
    signed: bool
    passes: str
    source: str
    arguments: Mapping[str, tuple[object, str]]


#: Every saliency method that can be asked for by name.
METHODS: Final[Mapping[str, MethodEntry]] = {
    "vanilla_gradients": MethodEntry(
        summary="|d output / d input|, summed over channels",
        default_binarization="std:1",
        signed=False,
        passes="one forward and backward, shared",
        source="Simonyan, Vedaldi, Zisserman 2014",
        arguments={},
    ),
    "gradcam": MethodEntry(
        summary="activations of a layer weighted by their mean gradient, bilinearly upsampled",
        default_binarization="threshold:0.5",
        signed=True,
        passes="one forward and backward, shared",
        source="Selvaraju et al. 2017; without its ReLU, as in the published study",
        arguments={
            "layer": (None, "last_conv | a module's path; left out: the last feature map, found and probed"),
            "relu": (False, "true | false: keep only the positive part"),
        },
    ),
}


@dataclass(frozen=True, slots=True)
class MethodRequest:
    """A saliency method with its arguments and the binarization of its maps.

    Args:
        name: a key of :data:`METHODS`.
        arguments: the arguments that differ from their defaults.
        binarization: canonical binarization.
    """

    name: str
    arguments: Mapping[str, object]
    binarization: str

    @classmethod
    def parse(cls, text: str) -> MethodRequest:
        """Read ``name(argument=value, ..., binarize=SPEC)``.

        Raises:
            UnknownNameError: for a method or argument there is not.
            UsageError: for anything else that cannot be read.
        """
        from explanation_alignment.binarization import Binarization

        name, given = parse_call(text, "saliency method")
        if name not in METHODS:
            raise UnknownNameError("saliency method", name, METHODS)
        entry = METHODS[name]
        check_arguments(f"saliency method {name}", given, {**entry.arguments, "binarize": None})
        binarization = str(Binarization.parse(given.pop("binarize", entry.default_binarization)))
        arguments: dict[str, object] = {}
        for key, word in given.items():
            default = entry.arguments[key][0]
            value = parse_bool(word, f"{name}({key}=...)") if isinstance(default, bool) else word
            if value != default:
                arguments[key] = value
        return cls(name, arguments, binarization)

    @property
    def canonical(self) -> str:
        """The method with its arguments, as it stands in the ``method`` column."""
        return format_call(self.name, self.arguments)

    def __str__(self) -> str:
        return format_call(self.name, {**self.arguments, "binarize": self.binarization})
