"""ROC AUC and average precision against scikit-learn, with and without ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from explanation_alignment.metrics import functional


@pytest.mark.parametrize(
    ("ours", "theirs"), [("roc_auc", roc_auc_score), ("average_precision", average_precision_score)]
)
@pytest.mark.parametrize("levels", [2, 7, None], ids=["two values", "many ties", "no ties"])
@pytest.mark.parametrize("share", [0.002, 0.2, 0.97])
def test_equals_scikit_learn(ours: str, theirs: object, levels: int | None, share: float) -> None:
    rng = np.random.default_rng(0)
    size = (8, 40, 50)
    saliency = rng.normal(size=size) if levels is None else rng.integers(0, levels, size=size).astype(float)
    annotation = rng.random(size) < share
    annotation[:, 0, 0], annotation[:, -1, -1] = True, False
    expected = [theirs(g.ravel(), s.ravel()) for s, g in zip(saliency, annotation, strict=True)]
    found = getattr(functional, ours)(torch.from_numpy(saliency), torch.from_numpy(annotation))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
