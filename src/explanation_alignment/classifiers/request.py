"""What is asked of a classifier beside its name: its weights, and what is to differ from its own preprocessing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from explanation_alignment.classifiers.classifier import Preprocessing
from explanation_alignment.errors import ModelError, UsageError, first_line

__all__ = ["Request", "build_error"]


@dataclass(frozen=True, slots=True)
class Request:
    """A classifier as it was asked for.

    Args:
        spec: the whole spec, for the errors' words.
        weights: which kind.
        seed: of random weights, beside the spec; None for plain ``random``.
        path: of the checkpoint, if that is the kind.
        input_size: (height, width) in pixels instead of the classifier's own.
        preprocessing: instead of the classifier's own.
    """

    spec: str
    weights: Literal["default", "random", "checkpoint"]
    seed: int | None = None
    path: Path | None = None
    input_size: tuple[int, int] | None = None
    preprocessing: Preprocessing | None = None

    @classmethod
    def read(
        cls, spec: str, weights: str, input_size: int | None = None, preprocessing: Preprocessing | None = None
    ) -> Self:
        """Read what :func:`~explanation_alignment.classifiers.load.load_classifier` is given.

        Raises:
            UsageError: for words or a size that cannot mean anything.
        """
        if input_size is not None and input_size < 1:
            raise UsageError(f"input_size: expected at least 1 pixel, got {input_size}")
        if input_size is not None and preprocessing is not None:
            raise UsageError("input_size and preprocessing: give one of them; preprocessing has an input size")
        size = preprocessing.input_size[1:] if preprocessing is not None else None
        if input_size is not None:
            size = (input_size, input_size)
        if weights == "default" or weights == "random":
            return cls(spec, "default" if weights == "default" else "random", None, None, size, preprocessing)
        if weights.startswith("random:"):
            if not re.fullmatch(r"random:-?[0-9]+", weights):
                raise UsageError(f"weights {weights!r}: expected random:SEED with a whole number")
            return cls(spec, "random", int(weights.removeprefix("random:")), None, size, preprocessing)
        return cls(spec, "checkpoint", None, Path(weights), size, preprocessing)

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's path, where that is the kind of weights."""
        assert self.path is not None
        return self.path

    @property
    def seed_text(self) -> str:
        """What random weights are seeded from."""
        return self.spec if self.seed is None else f"{self.spec} {self.seed}"

    def named(self, architecture: str, tag: str) -> str:
        """A name that tells pretrained from random weights, and those of different seeds."""
        if self.weights == "checkpoint":
            return architecture
        if self.weights == "random":
            tag = "random" if self.seed is None else f"random-{self.seed}"
        return f"{architecture}.{tag}" if tag else architecture


def build_error(request: Request, settings: Mapping[str, object], error: BaseException, *, fetched: bool) -> ModelError:
    """What to say where a library could not build a classifier.

    Args:
        request: what was asked for.
        settings: what the library was given beside the name.
        error: what it raised; libraries and their download clients each have their own.
        fetched: whether weights were to be fetched.
    """
    if fetched:
        return ModelError(
            f"{request.spec}: its weights could not be fetched ({first_line(error)}); give weights=PATH of a "
            "checkpoint, or 'random'"
        )
    return ModelError(f"{request.spec} cannot be built with {settings or 'its settings'}: {first_line(error)}")
