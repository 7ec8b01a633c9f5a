"""Classifiers: a network with its preprocessing, by name or from a module in hand."""
