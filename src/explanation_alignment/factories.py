"""What a user's own Python file makes: ``file:PATH.py:FACTORY``, for classifiers and datasets alike."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explanation_alignment.errors import ExplanationAlignmentError, UnknownNameError, UsageError
from explanation_alignment.paths import not_found

__all__ = ["make_from_file"]


def make_from_file(
    kind: str,
    place: str,
    failure: type[ExplanationAlignmentError],
    call: Callable[[Callable[..., Any]], object] = lambda factory: factory(),
) -> object:
    """What a function in a Python file returns. The file is run, so it must be one that is trusted.

    It can import the files beside it, as a script can.

    Args:
        kind: what it makes, for the errors' words, such as ``"classifier"``.
        place: ``PATH.py:FACTORY``.
        failure: raised where the file is missing, or it or the function fails.
        call: calls the function.

    Raises:
        UsageError: ``place`` is not of that form.
        UnknownNameError: the file has no such function.
    """
    what = f"{kind} 'file:{place}'"
    path_text, colon, name = place.rpartition(":")
    path = Path(path_text)
    if not colon or not name or path.suffix != ".py":
        raise UsageError(f"{what}: expected file:PATH.py:FACTORY, such as file:my_file.py:build")
    if not path.is_file():
        raise not_found(failure, what, path_text, folder=False)
    unique = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
    spec = importlib.util.spec_from_file_location(f"ealign_user_{unique}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up
    beside = str(path.resolve().parent)
    if beside not in sys.path:
        sys.path.append(beside)  # it may import its neighbours, now or when it is called; last, so as to hide nothing
    try:
        spec.loader.exec_module(module)
        factory = getattr(module, name, None)
        if factory is None:
            names = [word for word in vars(module) if not word.startswith("_") and callable(getattr(module, word))]
            raise UnknownNameError(f"function in {path_text}", name, names)
        return call(factory)
    except ExplanationAlignmentError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        where = f" ({path.name}, line {lines[-1]})" if lines else ""
        raise failure(f"{what}: {type(error).__name__}: {error}{where}") from error
