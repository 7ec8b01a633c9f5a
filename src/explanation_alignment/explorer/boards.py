"""The leaderboard of a run as it grows: plain means at once, intervals and chance levels when they are computed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from explanation_alignment.errors import ExplanationAlignmentError, first_line
from explanation_alignment.explorer.addresses.leaderboard import BoardState
from explanation_alignment.explorer.catalogue import Evaluation, Snapshot, collect_some
from explanation_alignment.runs.schema import NULL_METHODS
from explanation_alignment.statistics.leaderboards import leaderboard
from explanation_alignment.statistics.tables import no_main_target

__all__ = ["KEYS", "Board", "Boards", "chosen_rows", "explains"]

#: What tells rows of a leaderboard apart.
KEYS: Final = ("model", "seed", "dataset", "method", "binarization", "region")


@dataclass(frozen=True, slots=True, eq=False)
class Board:
    """A leaderboard.

    Args:
        table: as of :func:`~explanation_alignment.leaderboard` with all keys and methods; a plain one lacks intervals,
            chance levels and what is known of the models.
        stamp: of the snapshot it is of.
        whole: whether it has intervals and chance levels.
        problem: why it has none, or no rows either, if that is not for want of time.
    """

    table: pl.DataFrame
    stamp: str
    whole: bool
    problem: str | None = None


class Boards:
    """Makes the leaderboard of one run in a thread of its own, and has something to show meanwhile.

    Args:
        patience: seconds to wait for the whole board before a plain one is shown.
    """

    def __init__(self, patience: float = 0.3) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._last: Board | None = None
        self._work: _Work | None = None

    def begin(self, snapshot: Snapshot) -> None:
        """Start on the board of a snapshot, unless an earlier one is still being made."""
        with self._lock:
            made = self._last is not None and self._last.stamp == snapshot.stamp
            if snapshot.evaluations and not made and (self._work is None or self._work.done.is_set()):
                self._work = _Work(snapshot)
                threading.Thread(target=self._make, args=(self._work,), daemon=True).start()

    def of(self, snapshot: Snapshot) -> Board:
        """The board of a snapshot, whole if it can be had soon; else the last whole one, or a plain one.

        Raises:
            RunError: a part cannot be read.
        """
        if not snapshot.evaluations:
            return Board(pl.DataFrame(), snapshot.stamp, whole=True)
        self.begin(snapshot)
        work = self._work
        if work is not None:
            work.done.wait(self._patience)
        with self._lock:
            if self._last is not None and (self._last.stamp == snapshot.stamp or self._last.whole):
                return self._last
        if work is not None and work.snapshot.stamp == snapshot.stamp:
            work.begun.wait()
            if work.plain is not None:
                return work.plain
        return _plain(snapshot)

    def _make(self, work: _Work) -> None:
        snapshot = work.snapshot
        board: Board | None = None
        try:
            work.plain = _plain(snapshot)
            work.begun.set()
            table = leaderboard(snapshot.run, all_keys=True, methods=list(snapshot.vocabulary.methods))
            board = Board(table, snapshot.stamp, whole=True)
        except ExplanationAlignmentError as error:
            if work.plain is not None:
                board = replace(work.plain, problem=first_line(error))
        finally:  # whatever happens, nobody waits for ever
            with self._lock:
                self._last = board or self._last
            work.begun.set()
            work.done.set()


class _Work:
    """A board that is being made: its plain means come first."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.plain: Board | None = None
        self.begun, self.done = threading.Event(), threading.Event()


def chosen_rows(board: Board, state: BoardState) -> pl.DataFrame:
    """The rows of a board that a page shows, in their order; nulls last, ties in the order of the keys."""
    table = board.table
    if not table.width:
        return table
    wanted = {name: getattr(state, name) for name in ("family", *KEYS[1:])}
    for name, value in wanted.items():
        if value is not None:
            table = table.filter(pl.col(name) == value) if name in table.columns else table.clear()
    if state.find is not None:
        table = table.filter(pl.col("model").str.to_lowercase().str.contains(state.find.lower(), literal=True))
    if not state.nulls and any(explains(name) for name in table["method"].unique()):
        table = table.filter(pl.col("method").map_elements(explains, return_dtype=pl.Boolean))
    table = table.sort(*KEYS)
    if state.sort not in table.columns:
        return table
    return table.sort(state.sort, descending=state.descending, nulls_last=True, maintain_order=True)


def explains(method: str) -> bool:
    """Whether a method explains a model; those that do not stand for a map that knows nothing."""
    return method.partition("(")[0] not in NULL_METHODS


def _plain(snapshot: Snapshot) -> Board:
    """Means and counts alone, in the columns of a leaderboard; no rows where none of the targets is the main one."""
    targets = {one.target for one in snapshot.evaluations}
    main = next(iter(targets)) if len(targets) == 1 else "predicted"
    chosen = [one for one in snapshot.evaluations if one.target == main]
    with snapshot.run.reading():
        tables = collect_some([_means(one, snapshot.vocabulary.metrics) for one in chosen])
    empty = {name: pl.Int64() if name == "seed" else pl.String() for name in KEYS}
    table = pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame(schema=empty)
    problem = None if chosen or not targets else no_main_target(targets)
    return Board(table, snapshot.stamp, whole=False, problem=problem)


def _means(one: Evaluation, metrics: tuple[str, ...]) -> pl.LazyFrame:
    own = [name for name in metrics if name in one.schema]
    numbers = {name: pl.col(name).cast(pl.Float64).fill_nan(None) for name in own}
    named: dict[str, pl.Expr] = {}
    for name, values in numbers.items():
        named |= {
            f"ea_{name}": values.mean(),
            f"ea_{name}_n": values.count().cast(pl.Int64),
            f"ea_{name}_undefined": values.null_count().cast(pl.Int64),
        }
    keys = ["method", "binarization", "region"]
    return (
        one.scan()
        .with_columns(pl.col(keys).cast(pl.String))
        .group_by(keys)
        .agg(top1=100 * pl.col("correct").cast(pl.Float64).mean(), n_images=pl.len().cast(pl.Int64), **named)
        .with_columns(model=pl.lit(one.model), seed=pl.lit(one.seed, pl.Int64), dataset=pl.lit(one.dataset))
    )
