"""The published model lists: which models, with the weights of the time.

Source: Bang, Boggust, Satyanarayan (eXCV 2024): 195 timm models in the CIFAR-100 transfer, 22 of torchvision in the
ImageNet comparison.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from explanation_alignment.errors import UnknownNameError

__all__ = ["LISTS", "ListName", "PublishedModel", "expand_published", "published_models"]

ListName: TypeAlias = Literal["timm", "torchvision"]
LISTS: Final[tuple[ListName, ...]] = ("timm", "torchvision")


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One model of a published list.

    Args:
        name: as published.
        weights: the weights' exact name: timm's with its tag, or torchvision's model and weights, ``NAME.TAG``.
        family: ``"cnn"``, ``"transformer"`` or ``"other"``.
        input_size: side of the square input in pixels.
        cam_layer: the published Grad-CAM layer: ``"last_conv"`` or a module's path.
        parameters: millions of parameters, None where the list does not say.
        note: what to know about the name or the weights.
    """

    name: str
    weights: str
    family: str
    input_size: int
    cam_layer: str
    parameters: float | None = None
    note: str = ""

    @property
    def architecture(self) -> str:
        """The weights' name without their tag."""
        return self.weights.partition(".")[0]

    @property
    def tag(self) -> str:
        """The weights' tag."""
        return self.weights.partition(".")[2]


@lru_cache
def published_models(list_name: ListName) -> Mapping[str, PublishedModel]:
    """A published list, by the models' published names, in its order."""
    file = files("explanation_alignment.classifiers") / "data" / f"paper_{list_name}_models.csv"
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    made = _timm if list_name == "timm" else _torchvision
    return MappingProxyType({model.name: model for model in map(made, rows)})


def expand_published(spec: str) -> tuple[str, ...]:
    """The specs that one spec stands for: ``paper:timm`` and ``paper:torchvision`` are lists, others themselves.

    A list can be narrowed with a pattern: ``paper:timm/resnet*``.

    Raises:
        UnknownNameError: if a pattern fits no model of the list.
    """
    list_name, slash, pattern = spec.removeprefix("paper:").partition("/")
    known: dict[str, ListName] = {name: name for name in LISTS}
    if (
        not spec.startswith("paper:")
        or list_name not in known
        or (slash and not any(sign in pattern for sign in "*?["))
    ):
        return (spec,)
    names = published_models(known[list_name])
    chosen = [name for name in names if fnmatchcase(name, pattern or "*")]
    if not chosen:
        raise UnknownNameError(f"published {list_name} model", pattern, names)
    return tuple(f"paper:{list_name}/{name}" for name in chosen)


def _timm(row: Mapping[str, str]) -> PublishedModel:
    note = row["note"] + (f" ({row['weights_0_6']})" if row["weights_0_6"] and "weights_0_6" in row["note"] else "")
    return PublishedModel(
        name=row["paper_name"],
        weights=row["timm_name"],
        family=row["family"],
        input_size=int(row["input_size"]),
        cam_layer="last_conv",
        parameters=float(row["params_millions"]),
        note=note.replace("weights_0_6", "others"),
    )


def _torchvision(row: Mapping[str, str]) -> PublishedModel:
    # The study put every one of them through the same crop, whatever its weights were trained for.
    return PublishedModel(
        name=row["model"],
        weights=f"{row['model']}.{row['weights_default']}",
        family="cnn",
        input_size=224,
        cam_layer=row["paper_gradcam_layer"],
    )
