"""From what is asked for to single classifiers: names, patterns, published lists, and text files of all these."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from explanation_alignment.classifiers.paper import expand_published
from explanation_alignment.errors import ModelError, UnknownNameError, UsageError, first_line
from explanation_alignment.paths import not_found

if TYPE_CHECKING:
    from explanation_alignment.classifiers.classifier import Preprocessing

__all__ = ["ModelSpec", "expand_models", "expand_spec", "identify_weights"]

_SIGNS: Final = "*?["
#: A comment in a file: from a # that begins the line or a word.
_COMMENT: Final = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A classifier as :func:`~explanation_alignment.load_classifier` takes it.

    Args:
        spec: such as ``"timm:resnet50.a1_in1k"``.
        weights: ``"default"``, ``"random"``, ``"random:SEED"``, or the path of a checkpoint.
        input_size: side in pixels of the square input, instead of its own.
        preprocessing: instead of its own.
        name: its name in tables; the one it gives itself by default.
    """

    spec: str
    weights: str = "default"
    input_size: int | None = None
    preprocessing: Preprocessing | None = None
    name: str | None = None

    def __str__(self) -> str:
        return self.spec if self.weights == "default" else f"{self.spec} ({self.weights})"


def identify_weights(weights: str) -> str:
    """What decides a classifier's weights, told without building it: words as they are, a checkpoint as its digest.

    Args:
        weights: ``"default"``, ``"random"``, ``"random:SEED"``, or the path of a checkpoint.

    Returns:
        The words, or the SHA-256 of the file, hex.

    Raises:
        ModelError: the file cannot be read.
    """
    if weights in ("default", "random") or weights.startswith("random:"):
        return weights
    try:
        with Path(weights).open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"weights {weights!r}: cannot be read ({first_line(error)})") from error


def expand_models(
    asked: str | ModelSpec | Sequence[str | ModelSpec],
    weights: str = "default",
    *,
    say: Callable[[str], None] = lambda _: None,
) -> list[ModelSpec]:
    """The classifiers that specs, patterns, published lists and files stand for, in that order, each once.

    Args:
        asked: what :func:`expand_spec` takes; a text file of that, one a line, with weights after it where they differ
            and ``#`` before comments; or single classifiers with their weights.
        weights: of all that do not say otherwise.
        say: told how many classifiers a pattern, list or file stands for.

    Raises:
        UnknownNameError: a pattern fits nothing.
        UsageError: nothing is asked for, or a line cannot be read.
        ModelError: a file cannot be read.
    """
    found: dict[ModelSpec, None] = {}
    for one in [asked] if isinstance(asked, str | ModelSpec) else asked:
        models = [one] if isinstance(one, ModelSpec) else _expanded(one, weights)
        found.update(dict.fromkeys(models))
        if isinstance(one, str) and [model.spec for model in models] != [one]:
            say(f"{one}: {len(models)} classifier{'' if len(models) == 1 else 's'}")
    if not found:
        raise UsageError("models: expected at least one, such as timm:resnet50")
    return list(found)


def _expanded(text: str, weights: str) -> list[ModelSpec]:
    path = Path(text).expanduser()
    if not text.endswith(".txt"):
        return [ModelSpec(spec, weights) for spec in expand_spec(text, weights)]
    if not path.is_file():
        raise not_found(ModelError, "list of classifiers", text, folder=False)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"list of classifiers {text}: cannot be read ({first_line(error)})") from error
    models = []
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(_COMMENT.sub("", line))
        except ValueError as error:
            raise UsageError(f"{text}, line {number}: {error}") from error
        if not words:
            continue
        spec, own, more = words[0], words[1] if len(words) > 1 else weights, words[2:]
        if more or ":" not in spec or spec.endswith(".txt"):
            raise UsageError(f"{text}, line {number}: expected KIND:NAME and perhaps weights, got {line.strip()!r}")
        models += [ModelSpec(each, own) for each in expand_spec(spec, own)]
    if not models:
        raise UsageError(f"list of classifiers {text}: there is none in it")
    return models


def expand_spec(spec: str, weights: str = "default") -> tuple[str, ...]:
    """The specs that one spec stands for: a published list or a pattern for several, anything else for itself.

    ``paper:timm`` and ``paper:torchvision`` are lists, narrowed by ``paper:timm/resnet*``; ``timm:convnext*`` and
    ``torchvision:resnet*`` are patterns with the signs ``*``, ``?`` and ``[]``, for timm held against the names
    of its pretrained weights, ``NAME.TAG``, and where the weights are random against those of its architectures.

    Args:
        spec: what is asked for.
        weights: of the classifiers, as for :func:`~explanation_alignment.load_classifier`.

    Raises:
        UnknownNameError: a pattern fits nothing.
        UsageError: a pattern where there are no names to hold it against, or for a checkpoint.
    """
    published = expand_published(spec)
    kind, _, pattern = spec.partition(":")
    if published != (spec,) or kind == "file" or not any(sign in pattern for sign in _SIGNS):
        return published
    if kind not in ("timm", "torchvision"):
        raise UsageError(f"{spec!r}: patterns go with timm:, torchvision:, paper:timm/ and paper:torchvision/")
    if weights != "default" and weights != "random" and not weights.startswith("random:"):
        raise UsageError(f"{spec!r}: a checkpoint is for one classifier; name it")
    names = _timm(pretrained=weights == "default") if kind == "timm" else _torchvision()
    fitting = tuple(f"{kind}:{name}" for name in names if fnmatchcase(name, pattern))
    if not fitting:
        known = {name.partition(".")[0] for name in names}
        raise UnknownNameError(f"{'pretrained ' * (weights == 'default')}{kind} model", pattern, known)
    return fitting


def _timm(*, pretrained: bool) -> list[str]:
    import timm

    names: list[str] = timm.list_models(pretrained=pretrained)
    return names


def _torchvision() -> list[str]:
    from explanation_alignment.classifiers.torchvision_models import torchvision_models

    return list(torchvision_models())
