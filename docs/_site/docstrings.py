"""Roles in docstrings, such as :func:`~package.module.name`, as the site shows them: the name, as code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:func|class|meth|data|mod|attr|exc):`([^`]+)`")


class Roles(Extension):
    """Replaces roles by code."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of whatever was found."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(_as_code, obj.docstring.value)


def _as_code(match: re.Match[str]) -> str:
    name = match.group(1)
    return f"`{name.rpartition('.')[2] if name.startswith(('~', '.')) else name}`"
