"""The command ``ealign``: one file a command, each a thin layer over a public function."""

from __future__ import annotations

from explanation_alignment.cli.app import main

__all__ = ["main"]
