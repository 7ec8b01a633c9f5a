"""Saliency methods: where a classifier looked, as a map over its input."""
