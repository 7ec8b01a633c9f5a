"""The published experiments: one file each, with its protocol, its figures and the reported numbers.

``training`` holds what they share. The experiment modules import torch only where they train, so that
reports of their runs can be made without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["EXPERIMENTS"]

#: An experiment's name, as run.json has it -> its module, whose ``present(run)`` makes the report's words and figures.
EXPERIMENTS: Final[Mapping[str, str]] = {"mnist": "explanation_alignment.experiments.mnist"}
