"""What the pages of one session share: the runs, their boards, answers, pictures, and what computes more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explanation_alignment.errors import RunError
from explanation_alignment.explorer.addresses.fields import RUNS
from explanation_alignment.explorer.addresses.vocabulary import Vocabulary
from explanation_alignment.explorer.boards import Boards
from explanation_alignment.explorer.catalogue import Catalogue, Snapshot
from explanation_alignment.explorer.computing import Computer
from explanation_alignment.explorer.kept_maps import KeptMaps
from explanation_alignment.explorer.pictures import Examples, Key, PictureCache, Pictures, Source, compose
from explanation_alignment.explorer.queries import Questions

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
        self._sources: dict[str, tuple[Source, ...]] = {
            name: (Examples(path / "examples"), computer.source(path)) for name, path in zip(RUNS, runs, strict=False)
        }
        self._kept = {name: KeptMaps(path) for name, path in zip(RUNS, runs, strict=False)}

    def snapshots(self) -> dict[str, Snapshot]:
        """The runs as they are."""
        return {name: catalogue.now() for name, catalogue in self._catalogues.items()}

    def vocabularies(self, snapshots: Mapping[str, Snapshot]) -> dict[str, Vocabulary]:
        """What an address may name, for each run."""
        return {name: snapshot.vocabulary for name, snapshot in snapshots.items()}

    def pictured(self, run: str, slug: str) -> frozenset[str]:
        """Samples of an evaluation that can be shown."""
        return frozenset().union(*(source.pictured(slug) for source in self._sources[run]))

    def mapped(self, run: str, slug: str) -> bool:
        """Whether an evaluation's maps were kept: a decision without a picture can then be shown as its map."""
        return self._kept[run].there(slug)

    def picture(self, run: str, key: Key, layers: tuple[str, ...]) -> bytes | None:
        """A decision's picture as PNG; None where there is none.

        The layers lie over the image where it is known, else over the map that was kept.
        """
        place = (run, key, layers)
        if (drawn := self._drawn.get(place)) is not None:
            return drawn
        for source in self._sources[run]:
            found: Pictures | None = source.find(key)
            if found is not None and found.shape is not None:
                return self._composed(place, found, layers)
        alone = (*place, "map")  # of its own, since the image may come later
        if (drawn := self._drawn.get(alone)) is not None:
            return drawn
        found = self._kept[run].find(key)
        return None if found is None else self._composed(alone, found, layers)

    def _composed(self, place: object, pictures: Pictures, layers: tuple[str, ...]) -> bytes:
        drawn = compose(pictures, layers)
        self._drawn.put(place, drawn)
        return drawn

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
