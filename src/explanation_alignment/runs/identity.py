"""What makes two evaluations the same: a digest over everything that changes numbers, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["NUMERICS_VERSION", "describe_difference", "digest"]

#: Raised whenever a change of ours moves a score or adds to what a row holds; part of every identity.
NUMERICS_VERSION: Final = 3


def digest(question: Mapping[str, Any]) -> str:
    """SHA-256 of a question's canonical JSON, hex; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(question, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def describe_difference(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Where two questions differ, as ``name: recorded -> asked`` joined by semicolons.

    Long digests are cut to their first eight characters.
    """
    return "; ".join(
        f"{key}: {_short(recorded.get(key))} -> {_short(asked.get(key))}"
        for key in sorted({*recorded, *asked})
        if recorded.get(key) != asked.get(key)
    )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    is_digest = len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
    return text[:8] if is_digest else text
