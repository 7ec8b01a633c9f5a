"""The classifiers that can be loaded by name, without building one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from explanation_alignment.classifiers.paper import LISTS, published_models
from explanation_alignment.errors import UnknownNameError

__all__ = ["CatalogueEntry", "list_classifiers"]


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One classifier that :func:`~explanation_alignment.load_classifier` takes.

    Args:
        spec: what to ask for.
        weights: the exact name of its weights; None where only random ones or a checkpoint will do.
        input_size: side of the input in pixels, as pretrained; None where it is not recorded.
        parameters: millions of parameters; None where it is not recorded.
        note: what to know about it.
    """

    spec: str
    weights: str | None
    input_size: int | None
    parameters: float | None
    note: str = ""

    @property
    def kind(self) -> str:
        """What comes before the colon, and the list for published models: ``timm``, ``paper:torchvision``, ..."""
        kind, _, rest = self.spec.partition(":")
        return f"{kind}:{rest.partition('/')[0]}" if kind == "paper" else kind


def list_classifiers(pattern: str | None = None) -> list[CatalogueEntry]:
    """The published lists, torchvision's models and timm's, each with every set of weights.

    Args:
        pattern: keep those whose spec, name or weights fit it, with the signs ``*``, ``?`` and ``[]``; words without
            such a sign may stand anywhere in them. Capitals do not matter.

    Raises:
        UnknownNameError: if none fits.
    """
    entries = [*_published(), *_torchvision(), *_timm()]
    if pattern is None:
        return entries
    wanted = pattern.lower()
    if not any(sign in wanted for sign in "*?["):
        wanted = f"*{wanted}*"
    fitting = [
        entry
        for entry in entries
        if any(fnmatchcase(words.lower(), wanted) for words in (entry.spec, _name(entry), entry.weights or ""))
    ]
    if not fitting:
        raise UnknownNameError("classifier", pattern, {_name(entry).partition(".")[0] for entry in entries})
    return fitting


def _name(entry: CatalogueEntry) -> str:
    return entry.spec.partition(":")[2].rpartition("/")[2]


def _published() -> Iterator[CatalogueEntry]:
    for list_name in LISTS:
        for model in published_models(list_name).values():
            yield CatalogueEntry(
                f"paper:{list_name}/{model.name}", model.weights, model.input_size, model.parameters, model.note
            )


def _torchvision() -> Iterator[CatalogueEntry]:
    from torchvision.models import get_model_weights

    from explanation_alignment.classifiers.torchvision_models import torchvision_models

    for name in torchvision_models():
        for weights in get_model_weights(name):
            size = weights.transforms.keywords["crop_size"]
            millions = round(weights.meta["num_params"] / 1e6, 2)
            spec = f"torchvision:{name}.{weights.name}"
            yield CatalogueEntry(spec, f"{name}.{weights.name}", size, millions)


def _timm() -> Iterator[CatalogueEntry]:
    import timm

    parameters = {model.weights: model.parameters for model in published_models("timm").values()}
    pretrained = timm.list_models(pretrained=True)
    with_weights = {name.partition(".")[0] for name in pretrained}
    for name in sorted([*pretrained, *(set(timm.list_models()) - with_weights)]):
        config = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
        size = config.input_size[-1] if config is not None and config.input_size else None
        known = name if name.partition(".")[0] in with_weights else None
        yield CatalogueEntry(f"timm:{name}", known, size, parameters.get(name))
