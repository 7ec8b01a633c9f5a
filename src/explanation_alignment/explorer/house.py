"""What the pages of one session share: the runs, their boards, answers, pictures, and what computes more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explanation_alignment.errors import RunError
from explanation_alignment.explorer.boards import Boards
from explanation_alignment.explorer.catalogue import Catalogue, Snapshot
from explanation_alignment.explorer.computing import Computer
from explanation_alignment.explorer.pictures import Examples, Key, PictureCache, Pictures, Source, compose
from explanation_alignment.explorer.queries import Questions
from explanation_alignment.explorer.state import RUNS, Vocabulary

__all__ = ["House", "Page"]


@dataclass(frozen=True, slots=True)
class Page:
    """What a template is filled with.

    Args:
        template: its name.
        title: of the page.
        content: what it shows.
    """

    template: str
    title: str
    content: Mapping[str, Any] = field(default_factory=dict)


class House:
    """One session's runs.

    Args:
        runs: one or two folders.
        computer: computes pictures that they do not hold.
        patience: seconds for which a run is taken to be as it was.
        board_patience: seconds to wait for intervals before a page is shown without.

    Raises:
        RunError: a folder is no run.
    """

    def __init__(
        self, runs: Sequence[Path], computer: Computer, *, patience: float = 1.0, board_patience: float = 0.3
    ) -> None:
        self.computer = computer
        self.questions = Questions()
        self._catalogues = {name: Catalogue(path, patience) for name, path in zip(RUNS, runs, strict=False)}
        self.boards = {name: Boards(board_patience) for name in self._catalogues}
        for name, catalogue in self._catalogues.items():
            self.boards[name].begin(catalogue.now())
        self._drawn = PictureCache()
        # where pictures come from, in this order; maps that a run stores whole would be one more source
        self._sources: dict[str, tuple[Source, ...]] = {
            name: (Examples(path / "examples"), computer.source(path)) for name, path in zip(RUNS, runs, strict=False)
        }

    def snapshots(self) -> dict[str, Snapshot]:
        """The runs as they are."""
        return {name: catalogue.now() for name, catalogue in self._catalogues.items()}

    def vocabularies(self, snapshots: Mapping[str, Snapshot]) -> dict[str, Vocabulary]:
        """What an address may name, for each run."""
        return {name: snapshot.vocabulary for name, snapshot in snapshots.items()}

    def pictured(self, run: str, slug: str) -> frozenset[str]:
        """Samples of an evaluation that can be shown."""
        return frozenset().union(*(source.pictured(slug) for source in self._sources[run]))

    def picture(self, run: str, key: Key, layers: tuple[str, ...]) -> bytes | None:
        """A decision's picture as PNG; None where there is none."""
        place = (run, key, layers)
        if (kept := self._drawn.get(place)) is not None:
            return kept
        for source in self._sources[run]:
            found: Pictures | None = source.find(key)
            if found is not None and found.shape is not None:
                drawn = compose(found, layers)
                self._drawn.put(place, drawn)
                return drawn
        return None

    def run_path(self, run: str) -> Path:
        """The folder of a run."""
        return self._catalogues[run].now().run.path

    def evaluation(self, run: str, slug: str) -> str:
        """The slug, if it is an evaluation of the run.

        Raises:
            RunError: it is none.
        """
        if slug not in self._catalogues[run].now().by_slug:
            raise RunError(f"this run has no evaluation {slug!r}")
        return slug
