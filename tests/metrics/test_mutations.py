"""The checks notice when the arithmetic changes: every comparison turned, and other slips a hand could make.

The package is imported anew from changed source, in memory; the files stay as they are. The checks are test functions
of the neighbouring modules, run as they stand.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import itertools
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

PACKAGE = "explanation_alignment"
TESTS = Path(__file__).parent.parent
SOURCE = TESTS.parent / "src" / PACKAGE

#: Test functions that between them notice every mutation below, as file -> names; quick and without fixtures.
CHECKS = {
    "metrics/test_functional_metrics.py": (
        "test_every_metric_equals_its_reference",
        "test_the_first_of_several_maxima_counts",
        "test_tolerance_is_strict",
        "test_default_k_is_five_percent_rounded_down_and_at_least_one",
        "test_heatmaps_of_any_scale",
        "test_a_map_of_one_pixel",
        "test_wrong_input_is_named",
    ),
    "parity/test_shared_interest.py": ("test_check_vectors",),
    "test_binarization.py": (
        "test_every_rule_equals_a_loop",
        "test_standard_deviation_is_the_populations",
        "test_a_pixel_at_the_threshold_is_salient",
        "test_the_maximum_is_salient_at_threshold_1",
        "test_area_takes_ties_in_row_major_order",
        "test_area_of_empty_and_full_annotations",
        "test_a_constant_map_is_salient_everywhere",
        "test_a_non_finite_map_has_no_salient_pixel_and_harms_no_other",
        "test_scale_does_not_matter",
        "test_scale_does_not_matter_in_double_precision",
        "test_full_masks_are_counted_in_full",
        "test_canonical_text",
        "test_wrong_text_is_refused",
        "test_wrong_input_is_named",
    ),
    "metrics/test_scoring.py": ("test_values_equal_the_functions", "test_nothing_waits_for_the_device"),
    "metrics/test_center.py": (
        "test_the_order_is_by_distance_then_row_by_row",
        "test_center_iou_equals_the_slow_formula",
        "test_wrong_sizes_are_named",
    ),
    "parity/test_torchray.py": (
        "test_a_pixel_at_the_tolerance_is_a_miss",
        "test_the_centre_may_lie_between_pixels",
        "test_nothing_annotated_is_no_trial",
        "test_a_tolerance_is_a_distance",
    ),
}

#: Where to look first.
NEAREST = {
    "binarization.py": ("test_binarization.py",),
    "metrics/decisions.py": ("metrics/test_functional_metrics.py",),
    "metrics/functional.py": ("metrics/test_functional_metrics.py",),
    "metrics/center.py": ("metrics/test_center.py", "parity/test_torchray.py"),
}

TURNED = {ast.GtE: ast.Gt, ast.Gt: ast.GtE, ast.LtE: ast.Lt, ast.Lt: ast.LtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
SIGNS = {ast.GtE: ">=", ast.Gt: ">", ast.LtE: "<=", ast.Lt: "<", ast.Eq: "==", ast.NotEq: "!="}


@dataclass(frozen=True)
class Mutation:
    """Part of a module's source and what stands there instead.

    ``number`` counts the module's comparisons, None is plain text; ``function`` is where a comparison stands.
    """

    module: str
    before: str
    after: str
    number: int | None = None
    function: str = ""

    def __str__(self) -> str:
        return f"{self.module} {self.function}: {self.before} -> {self.after}"

    @property
    def key(self) -> tuple[str, str, str]:
        return self.function, self.before, self.after

    def apply(self, source: str) -> ast.Module:
        if self.number is None:
            assert source.count(self.before) == 1, f"{self.before!r} stands {source.count(self.before)} times"
            return ast.parse(source.replace(self.before, self.after))
        tree = ast.parse(source)
        _, node, place = list(comparisons(tree))[self.number]
        node.ops[place] = TURNED[type(node.ops[place])]()
        return tree


def comparisons(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.Compare, int]]:
    """Every comparison of sizes or equality with its function's name; one entry for each sign of a chain."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Compare):
            yield from ((function, node, place) for place, sign in enumerate(node.ops) if type(sign) in TURNED)
        yield from comparisons(node, node.name if isinstance(node, ast.FunctionDef) else function)


def turned(module: str) -> list[Mutation]:
    source = (SOURCE / module).read_text()
    return [
        Mutation(module, ast.unparse(node), SIGNS[TURNED[type(node.ops[place])]], number, function)
        for number, (function, node, place) in enumerate(comparisons(ast.parse(source)))
    ]


#: Comparisons that can be turned without changing any score, each with the reason.
EQUIVALENT = {
    ("blocks", "first.device.type == 'cpu'", "!="): "only how many maps are worked on together",
    ("at", "values.ndim >= places.ndim", ">"): "of as many axes, both lead alike",
    ("scale", "size > 0", ">="): "a map of zeros stays one at any scale",
    ("ground_truth_coverage", "self.annotation_area > 0", ">="): "of nothing annotated, 0 / 0 is NaN too",
    ("saliency_coverage", "self.mask_area > 0", ">="): "of nothing salient, 0 / 0 is NaN too",
    ("_mass_share", "whole > 0", ">="): "without mass, 0 / 0 is NaN too",
    ("roc_auc", "rest > 0", ">="): "with everything annotated, 0 / 0 is NaN too",
    ("heatmap_kl", "human.high > 0", ">="): "without mass, 0 / 0 is NaN too",
    ("heatmap_kl", "maps.high > 0", ">="): "without mass, 0 / 0 is NaN too",
    ("heatmap_nss", "human.high > 0", ">="): "without mass, 0 / 0 is NaN too",
}

#: Slips in the arithmetic: module -> what stands there, what could.
WRITTEN = {
    "binarization.py": [
        ("(square - mean.square())", "((square - mean.square()) * self.pixels / (self.pixels - 1))"),
        ("maps.mean + value * maps.std", "maps.mean - value * maps.std"),
        ("torch.lerp(low, high, value)", "value * high"),
        ("torch.ge(some, least", "torch.gt(some, least"),
        (
            "row = self._row_highs.max(-1).indices",
            "row = self._row_highs.shape[-1] - 1 - self._row_highs.flip(-1).max(-1).indices",
        ),
        (
            "best_row[:, 0].max(-1).indices",
            "(best_row.shape[-1] - 1 - best_row[:, 0].flip(-1).max(-1).indices)",
        ),
        ("descending=True, stable=True", "descending=False, stable=True"),
        ("place = value * (maps.pixels - 1) / 100", "place = value * maps.pixels / 100"),
        ("return between.argmax(1) + 1", "return between.argmax(1)"),
        ("_COUNTED: Final = 1024", "_COUNTED: Final = 4096"),
    ],
    "metrics/decisions.py": [
        ("self.mask_area + self.annotation_area - self.intersection", "self.mask_area + self.annotation_area"),
        ("_share(self.intersection, self.mask_area,", "_share(self.intersection, self.annotation_area,"),
        (
            "_share(self.intersection, self.annotation_area, self",
            "_share(self.intersection, self.mask_area, self",
        ),
        ("self.maps.scaled.abs()", "self.maps.scaled"),
        ("self.maps.scaled.clamp(min=0)", "self.maps.scaled"),
        ("dy.square() + dx.square()", "dy.abs() + dx.abs()"),
        ("math.ceil(tolerance**2)", "math.floor(tolerance**2)"),
        ("self.maps.pixels * 5 // 100", "-(-self.maps.pixels * 5 // 100)"),
        ("area * (area + 1)", "area * (area - 1)"),
        ("last = self.maps.ties[1]", "last = self.maps.ties[0]"),
    ],
    "metrics/functional.py": [
        ("torch.minimum(s, a)", "torch.maximum(s, a)"),
        ("a / (s + _EPS)", "s / (a + _EPS)"),
        ("human.scaled.clamp(min=0)", "human.scaled"),
        ("m.scaled - m.low[:, None, None] * m.scale", "m.scaled"),
    ],
    "metrics/center.py": [
        (
            "2 * np.arange(height, dtype=np.int64) - (height - 1)",
            "2 * np.arange(height, dtype=np.int64) - height",
        ),
        ("areas - whole * size", "areas - whole"),
        ("math.ceil(4 * tolerance**2)", "math.ceil(tolerance**2)"),
    ],
}

MUTATIONS = [
    mutation
    for module, slips in WRITTEN.items()
    for mutation in (*turned(module), *(Mutation(module, *slip) for slip in slips))
]


class Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from changed source, past the cache of bytecode, and writes nothing."""

    mutation: Mutation | None = None

    def get_code(self, fullname: str) -> types.CodeType:
        source = Path(self.path).read_text()
        tree = ast.parse(source) if self.mutation is None else self.mutation.apply(source)
        return compile(ast.fix_missing_locations(tree), self.path, "exec")


class Finder:
    """Hands the one changed module of the package to ``Changed``, leaving all others to Python."""

    def __init__(self, mutation: Mutation) -> None:
        self.mutation = mutation
        self.name = f"{PACKAGE}." + mutation.module.removesuffix(".py").replace("/", ".")

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> Any:
        if name != self.name:
            return None
        loader = Changed(name, str(SOURCE / self.mutation.module))
        loader.mutation = self.mutation
        return importlib.util.spec_from_loader(name, loader, origin=loader.path)


@contextmanager
def package_with(mutation: Mutation | None) -> Iterator[None]:
    """Forget the package, import it changed on the way in, and put the original back on the way out."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == PACKAGE}
    finder = None if mutation is None else Finder(mutation)
    for name in kept:
        del sys.modules[name]
    if finder is not None:
        sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        if finder is not None:
            sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        sys.modules.update(kept)


def calls(function: Any) -> Iterator[dict[str, Any]]:
    """The arguments of every case of a parametrized test."""
    axes = []
    for mark in getattr(function, "pytestmark", ()):
        assert mark.name == "parametrize", mark
        names, cases = mark.args[:2]
        names = names.split(",") if isinstance(names, str) else names
        names = [name.strip() for name in names]
        axes.append([dict(zip(names, case if len(names) > 1 else (case,), strict=True)) for case in cases])
    for chosen in itertools.product(*axes):
        yield {name: value for part in chosen for name, value in part.items()}


def first_failure(module_changed: str) -> str | None:
    """Run the checks against the package as it is imported now, the likeliest first; what fails first, or None."""
    for file in sorted(CHECKS, key=lambda file: file not in NEAREST[module_changed]):
        names = CHECKS[file]
        name = f"checks_of_{Path(file).stem}"
        spec = importlib.util.spec_from_file_location(name, TESTS / file)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            for name in names:
                function = getattr(module, name)
                for arguments in calls(function):
                    function(**arguments)
        except (Exception, pytest.fail.Exception) as error:
            return f"{file}: {name}: {type(error).__name__}: {error}"
        finally:
            del sys.modules[spec.name]
    return None


@pytest.fixture(autouse=True)
def _same_random_numbers() -> Iterator[None]:
    state = torch.get_rng_state()
    torch.manual_seed(0)
    yield
    torch.set_rng_state(state)


def test_the_checks_pass_on_the_source_as_it_is() -> None:
    with package_with(None):
        assert first_failure("binarization.py") is None


@pytest.mark.parametrize("mutation", [m for m in MUTATIONS if m.key not in EQUIVALENT], ids=str)
def test_the_checks_fail_on_a_mutation(mutation: Mutation) -> None:
    changed = mutation.apply((SOURCE / mutation.module).read_text())  # what cannot be applied proves nothing
    assert ast.unparse(changed) != ast.unparse(ast.parse((SOURCE / mutation.module).read_text()))
    with package_with(mutation):
        assert first_failure(mutation.module) is not None, f"survived: {mutation}"


def test_there_is_no_reason_for_a_comparison_there_is_not() -> None:
    assert set(EQUIVALENT) <= {mutation.key for mutation in MUTATIONS}
    assert len(MUTATIONS) > 80


def test_files_are_as_they_were_and_the_package_is_back() -> None:
    from explanation_alignment.metrics import functional

    assert Path(functional.__file__) == SOURCE / "metrics" / "functional.py"
    assert functional.iou_coverage(torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 1, 1]]])).item() == pytest.approx(
        1 / 3
    )
