"""What a page shows where its address leaves something open: what the run has first, the evidence before the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from explanation_alignment.errors import UsageError
from explanation_alignment.explorer.addresses.comparison import CompareState, Side
from explanation_alignment.explorer.addresses.gallery import Filters, GalleryState
from explanation_alignment.explorer.addresses.leaderboard import BoardState, ScatterState
from explanation_alignment.explorer.addresses.vocabulary import rising
from explanation_alignment.explorer.boards import Board, chosen_rows, explains
from explanation_alignment.explorer.catalogue import Evaluation, Snapshot

__all__ = ["compare_chosen", "gallery_first", "scatter_chosen"]


def gallery_first(snapshot: Snapshot, board: Board, run: str) -> GalleryState:
    """The gallery of the leaderboard's first row, on the evidence."""
    rows = chosen_rows(board, BoardState(run=run))
    if not rows.height:
        return GalleryState(chosen=Filters(run=run))
    evidence = [row for row in rows.iter_rows(named=True) if row["region"] in snapshot.vocabulary.evidence]
    first = evidence[0] if evidence else rows.row(0, named=True)
    chosen = Filters(
        run=run,
        models=(first["model"],),
        seed=first["seed"],
        dataset=first["dataset"],
        method=first["method"],
        binarization=snapshot.binarization(first["method"], first["binarization"]),
        region=first["region"],
    )
    return GalleryState(chosen=chosen, sort="picture")


def scatter_chosen(state: ScatterState, snapshot: Snapshot) -> ScatterState:
    """The state with nothing open, as far as the run has it."""
    known = snapshot.vocabulary
    for one in snapshot.evaluations:
        pairs = [pair for pair in one.methods if state.method in (None, pair[0])]
        pairs = [pair for pair in pairs if state.binarization in (None, pair[1])]
        pairs.sort(key=lambda pair: not explains(pair[0]))
        regions = [name for name in known.regions if name in one.regions and state.region in (None, name)]
        if state.dataset in (None, one.dataset) and pairs and regions:
            return state.but(
                dataset=one.dataset,
                method=pairs[0][0],
                binarization=pairs[0][1],
                region=regions[0],
                metric=state.metric or next(iter(known.metrics), None),
            )
    raise UsageError(
        "no evaluation of this run has this dataset, method, binarization and region together; leave one of them open"
    )


def compare_chosen(state: CompareState, snapshots: Mapping[str, Snapshot]) -> CompareState:
    """The state with nothing open.

    Raises:
        UsageError: the two have no images in common.
    """
    left, right = snapshots[state.a.run], snapshots[state.b.run]
    for one, other in _pairs(state, left, right):
        regions = [name for name in left.vocabulary.regions if name in one.regions and name in other.regions]
        regions = [name for name in regions if state.region in (None, name)]
        metrics = [name for name in rising(left.vocabulary.metrics) if name in one.schema and name in other.schema]
        metrics = [name for name in metrics if state.metric in (None, name)]
        if regions and metrics:
            a = _filled(state.a, one, None)
            return state.but(
                a=a,
                b=_filled(state.b, other, a),
                dataset=one.dataset,
                target=one.target,
                region=regions[0],
                metric=metrics[0],
            )
    raise UsageError(
        "these two have no decisions on the same dataset, target, region and metric; leave one of them open"
    )


def _pairs(state: CompareState, left: Snapshot, right: Snapshot) -> Iterator[tuple[Evaluation, Evaluation]]:
    """Evaluations that can be set side by side: of different models with the same seed, of others, the same twice."""
    ones, others = (
        [one for one in snapshot.evaluations if _fits(side, one, state)]
        for side, snapshot in ((state.a, left), (state.b, right))
    )
    by_data: dict[tuple[str, str], list[Evaluation]] = {}
    for other in others:
        by_data.setdefault((other.dataset, other.target), []).append(other)
    same_run = state.a.run == state.b.run
    for wanted in (0, 1, 2):
        for one in ones:
            for other in by_data.get((one.dataset, one.target), ()):
                same = same_run and (one.model, one.seed) == (other.model, other.seed)
                rank = 2 if same else 0 if one.seed == other.seed else 1
                if rank == wanted:
                    yield one, other


def _fits(side: Side, one: Evaluation, state: CompareState) -> bool:
    whole = ((side.model, one.model), (side.seed, one.seed), (state.dataset, one.dataset), (state.target, one.target))
    if any(wanted not in (None, value) for wanted, value in whole):
        return False
    return any(side.method in (None, m) and side.binarization in (None, b) for m, b in one.methods)


def _filled(side: Side, one: Evaluation, model: Side | None) -> Side:
    """A side with its evaluation's names; the method of the other side where it has it."""
    pairs = [(m, b) for m, b in one.methods if side.method in (None, m) and side.binarization in (None, b)]
    pairs.sort(key=lambda pair: (model is None or pair != (model.method, model.binarization), not explains(pair[0])))
    return Side(run=side.run, model=one.model, seed=one.seed, method=pairs[0][0], binarization=pairs[0][1])
