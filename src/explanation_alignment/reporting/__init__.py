"""Figures and the HTML report of a run. Reads tables only; imports no torch."""
