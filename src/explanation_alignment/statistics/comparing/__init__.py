"""Differences between models, methods, regions, groups and runs, and how sure they are."""
