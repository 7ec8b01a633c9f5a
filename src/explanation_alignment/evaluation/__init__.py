"""The loop: the only place where dataset, classifier, saliency methods and metrics meet.

The samples are cut into fixed units (``units``); a unit is read in batches (``reading``), each explained with one
forward and one backward pass and scored on the classifier's device (``deciding``), and written as one part of the run
(``tabulating``).
"""

from explanation_alignment.evaluation.running import DEFAULT_METHODS, evaluate

__all__ = ["DEFAULT_METHODS", "evaluate"]
