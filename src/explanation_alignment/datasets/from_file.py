"""A dataset of the user's own: what a function in a Python file returns."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from explanation_alignment.errors import DatasetError, UsageError
from explanation_alignment.factories import make_from_file
from explanation_alignment.specs import check_arguments, parse_call

if TYPE_CHECKING:
    from explanation_alignment.sample import AnnotatedDataset

__all__ = ["dataset_from_file"]

_PLACE = re.compile(r"(.+\.py):(\w+\s*(?:\(.*\))?)", re.DOTALL)
_NAMES: Final = ("class_names", "regions", "evidence")
_METHODS: Final = ("ids", "attributes", "__len__", "__getitem__")


def dataset_from_file(place: str, data_dir: str | Path | None, arguments: Mapping[str, Any]) -> AnnotatedDataset:
    """Run a Python file and call one of its functions; the file must be one that is trusted.

    Args:
        place: ``PATH.py:FACTORY``, also with arguments as text: ``my_data.py:build(split=val)``.
        data_dir: passed on as a ``Path`` if the function has a parameter of that name.
        arguments: passed on by name; they win over those in ``place``.

    Raises:
        UsageError: the place cannot be read, or the function takes no such argument.
        DatasetError: the file is missing, it or the function fails, or what it returns lacks something.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise UsageError(f"dataset 'file:{place}': expected file:PATH.py:FACTORY")
    name, written = parse_call(match.group(2), "dataset")
    what = f"dataset 'file:{match.group(1)}:{name}'"

    def call(factory: Callable[..., Any]) -> object:
        parameters = inspect.signature(factory).parameters
        given = {**written, **arguments}
        folder = parameters.get("data_dir")
        if all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
            check_arguments(f"{what}: {name}()", given, {key: key for key in parameters if key != "data_dir"})
        if data_dir is not None:
            if folder is None:
                raise UsageError(f"{what}: {name}() has no parameter data_dir, {str(data_dir)!r} was given")
            given["data_dir"] = Path(data_dir)
        elif folder is not None and folder.default is inspect.Parameter.empty:
            raise DatasetError(f"{what}: give the folder its files are in (--data-dir, data_dir=)", exit_code=2)
        made = factory(**given)
        _check_protocol(made, f"{what}: {name}() returned {type(made).__name__}")
        return made

    return cast("AnnotatedDataset", make_from_file("dataset", f"{match.group(1)}:{name}", DatasetError, call))


def _check_protocol(made: Any, what: str) -> None:
    """Refuse what is no annotated dataset, with words on what it lacks."""
    missing = [name for name in ("name", *_NAMES, "fingerprint", *_METHODS) if not hasattr(made, name)]
    if missing:
        raise DatasetError(f"{what}, which lacks {', '.join(missing)}; expected an object as ea.AnnotatedDataset")
    wrong = [f"{name}: expected text" for name in ("name", "fingerprint") if not isinstance(getattr(made, name), str)]
    wrong += [f"{name}: expected a list of names" for name in _NAMES if not _are_names(getattr(made, name))]
    wrong += [f"{name}: expected a method" for name in _METHODS if not callable(getattr(made, name))]
    if not wrong and not set(made.evidence) <= set(made.regions):
        wrong = ["evidence: expected names of regions"]
    if wrong:
        raise DatasetError(f"{what}; {'; '.join(wrong)}")


def _are_names(value: object) -> bool:
    return not isinstance(value, str) and hasattr(value, "__iter__") and all(isinstance(name, str) for name in value)
