"""What can be wrong with a dataset's files."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Problem"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth looking at, in a dataset's files.

    Args:
        kind: what kind of thing, such as ``"missing_image"``, ``"orphan_annotation"`` or ``"bad_box"``.
        sample_id: the sample it concerns; None where it is about a file or folder.
        message: what is there and what was expected, in one line.
        serious: whether it makes a check fail; off for what is only worth saying.
        count: how many files or samples it stands for.
    """

    kind: str
    sample_id: str | None
    message: str
    serious: bool = True
    count: int = 1
