"""The parts of a report, a file each: every one is made of a run's tables, and left out where the run lacks them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from explanation_alignment.reporting.sections.case_shares import case_section
from explanation_alignment.reporting.sections.comparisons import comparison_section
from explanation_alignment.reporting.sections.decisions import decision_section
from explanation_alignment.reporting.sections.failures import failure_section
from explanation_alignment.reporting.sections.groups import (
    class_section,
    correctness_section,
    group_section,
    size_section,
)
from explanation_alignment.reporting.sections.means import mean_section
from explanation_alignment.reporting.sections.models import scatter_section
from explanation_alignment.reporting.sections.regions import reliance_section

if TYPE_CHECKING:
    from explanation_alignment.reporting.content import Section
    from explanation_alignment.reporting.material import Material

__all__ = ["SECTIONS", "sections_of"]

#: Name -> what makes the section, in the order of the page; None where the run has nothing to show there.
SECTIONS: Final[Mapping[str, Callable[[Material], Section | None]]] = {
    "means": mean_section,
    "decisions": decision_section,  # what the numbers are of, before more numbers
    "scatter": scatter_section,
    "correctness": correctness_section,
    "groups": group_section,
    "classes": class_section,
    "sizes": size_section,
    "cases": case_section,
    "reliance": reliance_section,
    "comparisons": comparison_section,
    "failures": failure_section,
}


def sections_of(material: Material, without: Iterable[str] = ()) -> list[Section]:
    """The sections that the run has something to show in.

    Args:
        material: of the run.
        without: names of sections to leave out.
    """
    skipped = set(without)
    made = (make(material) for name, make in SECTIONS.items() if name not in skipped)
    return [section for section in made if section is not None]
