"""An address says all of a page, and what means nothing is refused with words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.explorer.addresses.comparison import CompareState, Side
from explanation_alignment.explorer.addresses.decision import DecisionState
from explanation_alignment.explorer.addresses.fields import LAYERS, OUTCOMES, SIZES
from explanation_alignment.explorer.addresses.gallery import Filters, GalleryState
from explanation_alignment.explorer.addresses.leaderboard import BoardState, ScatterState
from explanation_alignment.explorer.addresses.vocabulary import Vocabulary
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.statistics.shared_interest_cases import CASES

NAMES = ("plain", "a&b=c", "<b>", "ä ö", "x#y", "%41", "+ +")
KNOWN = Vocabulary(
    models=NAMES,
    families=("cnn",),
    seeds=(0, 1),
    datasets=dict.fromkeys(NAMES, ()),
    targets=("predicted", "label"),
    methods=dict.fromkeys(NAMES, ("std:1", "otsu")),
    regions=dict.fromkeys(NAMES, ("plain",)),
    metrics=("iou_coverage", "pointing_game(tolerance=15)"),
    attributes=NAMES,
)
RUNS = {"a": KNOWN, "b": KNOWN}


def maybe(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | values


names = st.sampled_from(NAMES)
layer_sets = st.sets(st.sampled_from(LAYERS)).map(lambda chosen: tuple(name for name in LAYERS if name in chosen))
numbers = st.floats(-1e6, 1e6).map(lambda value: float(f"{value:.10g}"))
filters = st.builds(
    Filters,
    run=st.sampled_from("ab"),
    models=st.lists(names, unique=True).map(tuple),
    seed=maybe(st.integers(-5, 5)),
    dataset=maybe(names),
    target=maybe(st.sampled_from(KNOWN.targets)),
    method=maybe(names),
    binarization=maybe(st.sampled_from(("std:1", "otsu"))),
    region=maybe(names),
    label=maybe(st.integers(0, 999)),
    prediction=maybe(st.integers(0, 999)),
    correct=maybe(st.booleans()),
    status=maybe(st.sampled_from(STATUSES)),
    case=maybe(st.sampled_from(CASES)),
    metric=st.sampled_from(KNOWN.metrics),
    low=maybe(numbers),
    sample=maybe(st.text(min_size=1, max_size=20)),
    pictured=st.booleans(),
    attributes=st.dictionaries(names, st.text(min_size=1, max_size=8)).map(lambda d: tuple(sorted(d.items()))),
)
pages = {"page": st.integers(1, 10**9), "size": st.sampled_from(SIZES), "layers": layer_sets}
sides = st.builds(
    Side,
    run=st.sampled_from("ab"),
    model=maybe(names),
    seed=maybe(st.integers(0, 9)),
    method=maybe(names),
    binarization=maybe(st.just("otsu")),
)
galleries = st.builds(
    GalleryState,
    chosen=filters,
    sort=st.sampled_from(("confidence", "iou_coverage")),
    descending=st.booleans(),
    **pages,
)
comparisons = st.builds(
    CompareState,
    a=sides,
    b=sides,
    dataset=maybe(names),
    region=maybe(names),
    metric=maybe(st.sampled_from(KNOWN.metrics)),
    threshold=numbers,
    a_outcome=maybe(st.sampled_from(OUTCOMES)),
    b_outcome=maybe(st.sampled_from(OUTCOMES)),
    sort=st.just("difference"),
    descending=st.booleans(),
    **pages,
)
decisions = st.builds(
    DecisionState,
    run=st.sampled_from("ab"),
    dataset=names,
    sample=st.text(min_size=1, max_size=30),
    region=maybe(names),
    target=maybe(st.sampled_from(KNOWN.targets)),
    page=st.integers(1, 99),
    layers=layer_sets,
)
boards = st.builds(
    BoardState,
    run=st.sampled_from("ab"),
    find=maybe(st.text(min_size=1, max_size=9)),
    family=maybe(st.just("cnn")),
    seed=maybe(st.integers(0, 9)),
    dataset=maybe(names),
    nulls=st.booleans(),
    sort=st.sampled_from(("top1", "model", "ea_iou_coverage", "ea_iou_coverage_adjusted")),
    descending=st.booleans(),
)
scatters = st.builds(ScatterState, run=st.sampled_from("ab"), dataset=maybe(names), method=maybe(names))


@given(st.one_of(galleries, comparisons, decisions, boards, scatters))
def test_what_an_address_says_is_what_it_was_made_of(state: GalleryState) -> None:
    from urllib.parse import parse_qsl, urlsplit

    query = urlsplit(state.address()).query
    assert type(state).read(parse_qsl(query, keep_blank_values=True), RUNS) == state


SIDE = Side("b", "plain", 1, "plain", "otsu")
CHOSEN = Filters(
    "b", ("plain", "x#y"), 0, "plain", "label", "plain", "otsu", "plain", 3, 0, False, "ok", "human aligned"
)
BOUNDS = Filters(metric="iou_coverage", low=0.25, high=1.0, sample="7", pictured=True, attributes=(("plain", "null"),))


@pytest.mark.parametrize(
    ("state", "address"),
    [
        (GalleryState(), "/gallery"),
        (GalleryState(descending=False), "/gallery"),
        (
            GalleryState(CHOSEN, "picture"),
            "/gallery?run=b&model=plain&model=x%23y&seed=0&dataset=plain&target=label&method=plain&binarization=otsu"
            "&region=plain&class=3&predicted=0&correct=no&status=ok&case=human+aligned&sort=picture",
        ),
        (
            GalleryState(BOUNDS, "iou_coverage", False, 2, 48, ()),
            "/gallery?metric=iou_coverage&min=0.25&max=1&sample=7&pictured=1&attr_plain=null&sort=iou_coverage&order=asc"
            "&page=2&size=48&layer=none",
        ),
        (DecisionState(dataset="plain", sample="7"), "/decision?dataset=plain&sample=7"),
        (
            DecisionState("b", "plain", "7", "plain", "label", 2, ("heat",)),
            "/decision?run=b&dataset=plain&sample=7&region=plain&target=label&page=2&layer=heat",
        ),
        (BoardState(), "/?sort=top1&order=desc"),
        (
            BoardState("b", "a", "cnn", 1, "plain", "plain", "otsu", "plain", True, "model", False),
            "/?run=b&find=a&family=cnn&seed=1&dataset=plain&method=plain&binarization=otsu&region=plain&nulls=1&sort=model"
            "&order=asc",
        ),
        (ScatterState(), "/scatter"),
        (
            ScatterState("b", "plain", "plain", "otsu", "plain", "iou_coverage"),
            "/scatter?run=b&dataset=plain&method=plain&binarization=otsu&region=plain&metric=iou_coverage",
        ),
        (CompareState(), "/compare?b_run=a"),
        (
            CompareState(
                SIDE, SIDE, "plain", "label", "plain", "iou_coverage", 0.5, "undefined", "undefined", "picture"
            ),
            "/compare?a_run=b&a_model=plain&a_seed=1&a_method=plain&a_binarization=otsu&b_run=b&b_model=plain&b_seed=1"
            "&b_method=plain&b_binarization=otsu&dataset=plain&target=label&region=plain&metric=iou_coverage&threshold=0.5"
            "&a_outcome=undefined&b_outcome=undefined&sort=picture",
        ),
    ],
)
def test_addresses_keep_their_order_and_leave_out_what_is_usual(state: GalleryState, address: str) -> None:
    assert state.address() == address


def test_the_largest_number_comes_first_and_the_first_word() -> None:
    assert BoardState.read([("sort", "ea_iou_coverage")], RUNS).descending
    assert not BoardState.read([("sort", "model")], RUNS).descending
    assert BoardState.read([("sort", "model"), ("order", "desc")], RUNS).descending


def test_the_second_model_is_of_the_second_run_where_there_are_two() -> None:
    assert CompareState.read([], RUNS).b.run == "b"
    assert CompareState.read([], {"a": KNOWN}).b.run == "a"
    with pytest.raises(UsageError, match="unknown run 'b'"):
        CompareState.read([("b_run", "b")], {"a": KNOWN})
    with pytest.raises(UsageError, match="a_seed='x': expected a whole number"):
        CompareState.read([("a_seed", "x")], RUNS)


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("model", "plane")], "did you mean 'plain'"),
        ([("modell", "plain")], "did you mean 'model'"),
        ([("run", "c")], "unknown run 'c'"),
        ([("page", "0")], "from 1 to"),
        ([("page", "9" * 30)], "whole number"),
        ([("page", "1e3")], "whole number"),
        ([("page", "\u0663")], "whole number"),
        ([("size", "1000000")], "number of decisions a page"),
        ([("metric", "iou_coverage"), ("min", "nan")], "expected a number"),
        ([("metric", "iou_coverage"), ("max", "inf")], "expected a number"),
        ([("metric", "iou_coverage"), ("min", "0.5"), ("max", "0.2")], "more than max"),
        ([("min", "0.5")], "need a metric"),
        ([("sort", "sample_id; drop")], "column to sort by"),
        ([("dataset", "plain"), ("dataset", "x#y")], "given 2 times"),
        ([("attr_nothing", "1")], "unknown attribute"),
        ([("case", "cheater")], "unknown case"),
        ([("layer", "lasso")], "unknown layer"),
        ([("correct", "maybe")], "unknown correct"),
        ([("sample", "x" * 2000)], "1,000 characters"),
        ([("model", "plain")] * 500, "at most 400"),
    ],
)
def test_what_means_nothing_is_refused(pairs: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        GalleryState.read(pairs, RUNS)


def test_empty_fields_of_a_form_are_left_open() -> None:
    assert GalleryState.read([("model", ""), ("min", ""), ("attr_plain", ""), ("nonsense", "")], RUNS) == GalleryState()


def test_what_is_ticked_twice_counts_once() -> None:
    pairs = [
        ("model", "x#y"),
        ("model", "plain"),
        ("model", "x#y"),
        ("layer", "mask"),
        ("layer", "heat"),
        ("layer", "mask"),
    ]
    state = GalleryState.read(pairs, RUNS)
    assert state.chosen.models == ("x#y", "plain")
    assert state.layers == ("heat", "mask")


def test_no_layer_at_all_is_not_the_usual_layers() -> None:
    assert GalleryState.read([("layer", "none")], RUNS).layers == ()
    assert GalleryState.read([], RUNS).layers == ("outline", "mask")


def test_two_models_share_what_they_are_compared_on() -> None:
    other = Vocabulary(models=("m",), datasets={"elsewhere": ()}, metrics=("heatmap_kl", "iou_coverage"))
    with pytest.raises(UnknownNameError, match="dataset of both"):
        CompareState.read([("dataset", "plain")], {"a": KNOWN, "b": other})
    with pytest.raises(UnknownNameError, match="metric of both"):
        CompareState.read([("metric", "heatmap_kl")], {"a": other, "b": other})


def test_a_decision_needs_dataset_and_sample() -> None:
    with pytest.raises(UsageError, match="a dataset and a sample"):
        DecisionState.read([("dataset", "plain")], RUNS)
