"""Corrections for several tests, against the definitions written another way and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from explanation_alignment.errors import UsageError
from explanation_alignment.statistics.multiplicity import benjamini_hochberg, holm

families = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]).tolist() == [1, 1]
    assert holm([]).size == benjamini_hochberg([]).size == 0


@given(families)
def test_holm_rejects_what_the_stepwise_procedure_rejects(p: list[float]) -> None:
    adjusted = holm(p)
    for level in (0.01, 0.05, 0.2):
        order = sorted(range(len(p)), key=lambda i: p[i])
        rejected = set()
        for rank, i in enumerate(order):
            if p[i] * (len(p) - rank) > level:
                break
            rejected.add(i)
        assert {i for i in range(len(p)) if adjusted[i] <= level} == rejected


@given(families)
def test_bounds_and_order(p: list[float]) -> None:
    strict, lenient = holm(p), benjamini_hochberg(p)
    assert (np.asarray(p) <= lenient + 1e-15).all()
    assert (lenient <= strict + 1e-12).all()
    assert (strict <= np.minimum(1, np.asarray(p) * len(p)) + 1e-12).all() or len(p) > 1
    assert lenient.tolist() == pytest.approx(false_discovery_control(p).tolist())
    assert (np.diff(strict[np.argsort(p, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
@pytest.mark.parametrize("p", [[-0.1], [1.1], [float("nan")], [[0.1]]])
def test_what_is_no_probability_is_refused(correct: object, p: object) -> None:
    with pytest.raises(UsageError, match="0 to 1"):
        correct(p)  # type: ignore[operator]
