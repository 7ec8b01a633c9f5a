"""Scores saliency maps that are there already, computed elsewhere or kept by a run; no model is needed."""
