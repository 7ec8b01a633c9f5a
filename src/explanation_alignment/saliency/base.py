"""How a saliency method is asked for: by name with arguments, or as a function of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from explanation_alignment.errors import UnknownNameError
from explanation_alignment.saliency.arguments import parse_grid
from explanation_alignment.saliency.catalogue import COMMON_ARGUMENTS, METHODS, MethodEntry
from explanation_alignment.specs import check_arguments, format_call, parse_call

__all__ = ["COMMON_ARGUMENTS", "METHODS", "Method", "MethodEntry", "MethodRequest", "Output"]

#: What is differentiated: the explained class's logit or its log-softmax.
Output: TypeAlias = Literal["logit", "log_prob"]
#: A saliency method as it can be asked for: its text, or a function (classifier, images, targets) -> (B, H, W) maps.
Method: TypeAlias = str | Callable[..., Any]


@dataclass(frozen=True, slots=True)
class MethodRequest:
    """A saliency method with its arguments and the binarization of its maps.

    Args:
        name: a key of :data:`METHODS`, or the name of a method of the user's own.
        arguments: the arguments that differ from their defaults.
        binarization: canonical binarization.
        entry: what is known of the method.
        source: digest of the source of a method of the user's own, hex; None for a registered one.
    """

    name: str
    arguments: Mapping[str, object]
    binarization: str
    entry: MethodEntry
    source: str | None = None

    @classmethod
    def parse(cls, method: Method) -> MethodRequest:
        """Read ``name(argument=value, ..., binarize=SPEC)``, ``file:PATH.py:FUNCTION(...)``, or take a function.

        Raises:
            UnknownNameError: for a method or argument there is not.
            UsageError: for anything else that cannot be read.
        """
        from explanation_alignment.binarization import Binarization

        entry: MethodEntry
        source, given = None, dict[str, str]()
        if not isinstance(method, str):
            from explanation_alignment.saliency.own_methods import from_function

            own = from_function(method)
            name, entry, source = own.name, own.entry, own.source
        elif method.lstrip().startswith("file:"):
            from explanation_alignment.saliency.own_methods import from_file

            own, given = from_file(method.strip())
            name, entry, source = own.name, own.entry, own.source
        else:
            name, given = parse_call(method, "saliency method")
            if name in METHODS:
                entry = METHODS[name]
            else:
                from explanation_alignment.saliency.own_methods import from_entry_point, installed

                others = installed()
                if name not in others:
                    raise UnknownNameError("saliency method", name, [*METHODS, *others])
                own = from_entry_point(others[name])
                entry, source = own.entry, own.source
        known = {**entry.arguments, **COMMON_ARGUMENTS}
        check_arguments(f"saliency method {name}", given, known)
        binarization = str(Binarization.parse(given.pop("binarize", entry.default_binarization)))
        arguments = {key: known[key].read(word, f"{name}({key}=...)") for key, word in given.items()}
        changed = {key: value for key, value in arguments.items() if value != known[key].default}
        return cls(name, changed, binarization, entry, source)

    @property
    def settings(self) -> dict[str, Any]:
        """Every argument of the method itself, defaults included."""
        return {key: self.arguments.get(key, argument.default) for key, argument in self.entry.arguments.items()}

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of cells the map is averaged over first, or None."""
        return parse_grid(str(self.arguments["grid"])) if "grid" in self.arguments else None

    @property
    def canonical(self) -> str:
        """The method with its arguments, as it stands in the ``method`` column."""
        return format_call(self.name, self.arguments)

    def __str__(self) -> str:
        return format_call(self.name, {**self.arguments, "binarize": self.binarization})
