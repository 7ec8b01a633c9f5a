"""Runs: what one evaluation writes, as a folder any tool can read."""
