"""The web application: which address is answered with what."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from explanation_alignment import __version__
from explanation_alignment.errors import ExplanationAlignmentError, UsageError
from explanation_alignment.explorer.addresses.comparison import CompareState
from explanation_alignment.explorer.addresses.decision import DecisionState
from explanation_alignment.explorer.addresses.fields import DEFAULT_LAYERS, LAYERS, RUNS, SIZES, SORTS
from explanation_alignment.explorer.addresses.gallery import GalleryState
from explanation_alignment.explorer.addresses.leaderboard import BoardState, ScatterState
from explanation_alignment.explorer.catalogue import Snapshot
from explanation_alignment.explorer.computing import Computer
from explanation_alignment.explorer.downloads import MOST_ROWS, csv_pieces, file_name
from explanation_alignment.explorer.house import House, Page
from explanation_alignment.explorer.pages.board import board_page, board_table, scatter_page
from explanation_alignment.explorer.pages.comparison import compare_page, compared
from explanation_alignment.explorer.pages.gallery import decision_page, first_gallery, gallery_page, selected
from explanation_alignment.explorer.pages.help import help_page
from explanation_alignment.explorer.pictures import COLOURS, Key
from explanation_alignment.explorer.rendering import environment
from explanation_alignment.reporting.text import TOY_WARNING
from explanation_alignment.runs.schema import STATUSES
from explanation_alignment.statistics.shared_interest_cases import CASES

__all__ = ["create_app"]

#: Bytes of a request to compute that are read.
_MOST_ASKED: Final = 65_536
_S = TypeVar("_S", BoardState, ScatterState, GalleryState, DecisionState, CompareState)

Pairs = list[tuple[str, str]]


def create_app(
    runs: Sequence[str | Path],
    *,
    computer: Computer | None = None,
    patience: float = 1.0,
    board_patience: float = 0.3,
) -> Starlette:
    """The application over one or two runs; a :class:`~explanation_alignment.explorer.guarding.Guard` goes around it.

    Args:
        runs: their folders.
        computer: computes pictures that they do not hold; one that knows no more than the runs by default.
        patience: seconds for which a run is taken to be as it was.
        board_patience: seconds to wait for intervals before a page is shown without.

    Raises:
        RunError: a folder is no run.
    """
    pages = _Pages(
        House([Path(run) for run in runs], computer or Computer(), patience=patience, board_patience=board_patience)
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        pages.house.computer.close()

    routes = [
        Route("/", pages.board),
        Route("/scatter", pages.scatter),
        Route("/gallery", pages.gallery),
        Route("/decision", pages.decision),
        Route("/compare", pages.compare),
        Route("/help", pages.help),
        Route("/picture", pages.picture),
        Route("/leaderboard.csv", pages.board_csv),
        Route("/gallery.csv", pages.gallery_csv),
        Route("/compare.csv", pages.compare_csv),
        Route("/compute", pages.compute, methods=["POST"]),
        Route("/computing", pages.computing),
        Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
    ]
    handlers: Mapping[Any, Callable[..., Response]] = {
        ExplanationAlignmentError: pages.problem,
        HTTPException: pages.not_found,
        Exception: pages.fault,
    }
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


class _Pages:
    """Answers requests; each method is an address."""

    def __init__(self, house: House) -> None:
        self.house = house

    def board(self, request: Request) -> Response:
        snapshots, state = self._read(request, BoardState)
        return self._page(request, board_page(self.house, snapshots, state), snapshots, state.run)

    def scatter(self, request: Request) -> Response:
        snapshots, state = self._read(request, ScatterState)
        return self._page(request, scatter_page(self.house, snapshots, state), snapshots, state.run)

    def gallery(self, request: Request) -> Response:
        snapshots, state = self._read(request, GalleryState)
        asked = {name for name, _ in _pairs(request)}
        if asked <= {"run"} and snapshots[state.chosen.run].evaluations:
            first = first_gallery(self.house, snapshots, state.chosen.run)
            if first != state:  # else it leads here again
                return RedirectResponse(first.address(), 303)
        return self._page(request, gallery_page(self.house, snapshots, state), snapshots, state.chosen.run)

    def decision(self, request: Request) -> Response:
        snapshots, state = self._read(request, DecisionState)
        return self._page(request, decision_page(self.house, snapshots, state), snapshots, state.run)

    def compare(self, request: Request) -> Response:
        snapshots, state = self._read(request, CompareState)
        if not _pairs(request):
            state = state.but(sort="picture")
        try:
            page = compare_page(self.house, snapshots, state)
        except UsageError:
            if _pairs(request) or len(snapshots) == 1:
                raise
            return RedirectResponse(
                f"/compare?b_run={RUNS[0]}&sort=picture", 303
            )  # two runs that have no images in common
        return self._page(request, page, snapshots, state.a.run)

    def help(self, request: Request) -> Response:
        snapshots = self.house.snapshots()
        return self._page(request, help_page(snapshots), snapshots, RUNS[0])

    def picture(self, request: Request) -> Response:
        """A PNG; 404 where there is none."""
        fields = dict(_pairs(request))
        run = fields.get("run", RUNS[0])
        snapshots = self.house.snapshots()
        if run not in snapshots or fields.get("evaluation") not in snapshots[run].by_slug:
            return Response("no such evaluation", 404, media_type="text/plain")
        names = ("evaluation", "sample", "method", "binarization", "region")
        given = [value for name, value in _pairs(request) if name == "layer"]
        layers = tuple(name for name in LAYERS if name in given) if given else DEFAULT_LAYERS
        drawn = self.house.picture(run, Key(*(fields.get(name, "") for name in names)), layers)
        if drawn is None:
            return Response("no picture of this decision", 404, media_type="text/plain")
        return Response(drawn, media_type="image/png", headers={"cache-control": "private, max-age=300"})

    def board_csv(self, request: Request) -> Response:
        snapshots, state = self._read(request, BoardState)
        table = board_table(self.house, snapshots, state)
        return _download(csv_pieces([table]), "leaderboard", snapshots[state.run], table.height)

    def gallery_csv(self, request: Request) -> Response:
        snapshots, state = self._read(request, GalleryState)
        snapshot = snapshots[state.chosen.run]
        selection = selected(self.house, snapshot, state)
        places = selection.places.head(MOST_ROWS)
        if not places.height:
            empty = self.house.questions.rows(snapshot, places)
            return _download(csv_pieces([empty]), "decisions", snapshot, 0)
        pieces = csv_pieces(self.house.questions.chunks(snapshot, places))
        return _download(pieces, "decisions", snapshot, selection.total)

    def compare_csv(self, request: Request) -> Response:
        snapshots, asked = self._read(request, CompareState)
        state, pairs = compared(self.house, snapshots, asked)
        table = self.house.questions.side_by_side(
            snapshots[state.a.run], snapshots[state.b.run], pairs.places.head(MOST_ROWS)
        )
        return _download(csv_pieces(table), "comparison", snapshots[state.a.run], pairs.places.height)

    async def compute(self, request: Request) -> Response:
        """Have pictures computed, and go back to where that was asked."""
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > _MOST_ASKED:
                raise UsageError("more was sent than a page of the explorer asks for")
        fields = parse_qsl(body.decode("utf-8", "replace"), max_num_fields=400)
        run = next((value for name, value in fields if name == "run"), RUNS[0])
        if run not in self.house.snapshots():
            raise UsageError(f"there is no run {run!r}")
        wanted: dict[str, list[str]] = {}
        for name, value in fields:
            if name == "decision":
                slug, sample = _slug_and_sample(value)
                wanted.setdefault(self.house.evaluation(run, slug), []).append(sample)
        for slug, samples in wanted.items():
            self.house.computer.ask(self.house.run_path(run), slug, samples)
        back = next((value for name, value in fields if name == "back"), "/")
        return RedirectResponse(back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/", 303)

    def computing(self, request: Request) -> Response:
        """How many decisions are still being computed."""
        jobs = [job for run in self.house.snapshots() for job in self.house.computer.jobs(self.house.run_path(run))]
        waiting = sum(len(job.samples) for job in jobs if job.state in ("waiting", "working"))
        return JSONResponse({"waiting": waiting}, headers={"cache-control": "no-store"})

    # ------------------------------------------------------------------------------------------------ problems

    def problem(self, request: Request, error: Exception) -> Response:
        """What a user can get wrong, and what a run can lack."""
        used_wrongly = isinstance(error, UsageError)
        return self._said(request, 400 if used_wrongly else 404, str(error))

    def not_found(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        return self._said(request, status, "There is no such page.")

    def fault(self, request: Request, error: Exception) -> Response:
        return self._said(request, 500, "Something went wrong that should not have; the terminal shows what.")

    def _said(self, request: Request, status: int, words: str) -> Response:
        try:
            snapshots = self.house.snapshots()
        except ExplanationAlignmentError:
            return Response(words, status, media_type="text/plain")
        page = Page("problem.html.j2", "Not shown", {"words": words, "status": status})
        return self._page(request, page, snapshots, RUNS[0], status)

    # --------------------------------------------------------------------------------------------------- parts

    def _read(self, request: Request, kind: type[_S]) -> tuple[dict[str, Snapshot], _S]:
        snapshots = self.house.snapshots()
        return snapshots, kind.read(_pairs(request), self.house.vocabularies(snapshots))

    def _page(
        self, request: Request, page: Page, snapshots: Mapping[str, Snapshot], run: str, status: int = 200
    ) -> Response:
        shown = snapshots[run]
        unfinished = sum(not one.finished for one in shown.evaluations)
        html = (
            environment()
            .get_template(page.template)
            .render(
                **page.content,
                title=page.title,
                here=request.url.path,
                address=request.url.path + (f"?{request.url.query}" if request.url.query else ""),
                runs={name: snapshot.name for name, snapshot in snapshots.items()},
                run=run,
                known=shown.vocabulary,
                vocabularies=self.house.vocabularies(snapshots),
                decisions_there=bool(shown.evaluations),
                toy=TOY_WARNING,
                toys=[snapshot.name for snapshot in snapshots.values() if snapshot.toy],
                unfinished=unfinished or len(shown.run.unfinished),
                failures=shown.run.failures,
                version=__version__,
                layer_names=LAYERS,
                colours=COLOURS,
                cases=CASES,
                statuses=STATUSES,
                sorts=SORTS,
                sizes=SIZES,
                most_rows=MOST_ROWS,
            )
        )
        return HTMLResponse(html, status, headers={"cache-control": "no-store"})


def _pairs(request: Request) -> Pairs:
    return [(str(name), str(value)) for name, value in request.query_params.multi_items()]


def _slug_and_sample(text: str) -> tuple[str, str]:
    """What the button for pictures sends for each decision: a JSON pair."""
    try:
        slug, sample = json.loads(text)
    except (TypeError, ValueError):
        slug = sample = None
    if not (isinstance(slug, str) and isinstance(sample, str)):
        raise UsageError("a decision to compute is an evaluation and a sample")
    return slug, sample


def _download(pieces: Iterator[bytes], what: str, snapshot: Snapshot, total: int) -> Response:
    name = file_name(what, snapshot.name, total)
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return StreamingResponse(pieces, media_type="text/csv; charset=utf-8", headers=headers)
