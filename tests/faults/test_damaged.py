"""Damaged parts and manifests, full disks, full memory, stale leases: found, named, and mended by the same command."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from fault_children import IMAGES, UNIT, Deadly, evaluated
from torch import nn

import explanation_alignment as ea
from explanation_alignment.errors import ModelError, RunError, RunWarning
from explanation_alignment.evaluation import units
from explanation_alignment.runs import leases
from explanation_alignment.runs.leases import Leases
from toys import Patches, small_classifier


def score_bytes(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(run.rglob("scores/*/*"))}


@pytest.fixture(autouse=True)
def _units_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "UNIT_SIZE", UNIT)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve units, compacted."""
    before, out = units.UNIT_SIZE, tmp_path_factory.mktemp("damaged") / "many"
    evaluated(str(out))
    units.UNIT_SIZE = before
    return out


def few(out: Path, **options: Any) -> ea.Run:
    """Three units, each a file."""
    given = {"classifier": small_classifier(), "batch_size": 4, "progress": False, **options}
    return ea.evaluate(dataset=Patches(), out=out, **given)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    before, out = units.UNIT_SIZE, tmp_path_factory.mktemp("damaged") / "three"
    units.UNIT_SIZE = UNIT
    few(out)
    units.UNIT_SIZE = before
    return out


def flip(path: Path) -> None:
    """Other bytes under the same size and time."""
    stat, content = path.stat(), bytearray(path.read_bytes())
    for at in range(400, 440):
        content[at] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "no Parquet": lambda path: path.write_bytes(b"x" * path.stat().st_size),
    "bytes flipped under an intact footer": flip,
    "another unit's": lambda path: shutil.copy(path.with_name("unit-000002.parquet"), path),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_named_and_computed_anew(three: Path, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(three, run)
    (part,) = run.glob("scores/*/unit-000001.parquet")
    DAMAGE[damage](part)
    assert not ea.verify(run).ok
    with pytest.warns(RunWarning, match=r"unit-000001\.parquet: .*; it is computed anew"):
        few(run)
    assert score_bytes(run) == score_bytes(three)
    assert ea.verify(run).findings == ()


@pytest.mark.parametrize("damage", ["truncated", "empty", "bytes flipped under an intact footer"])
def test_a_damaged_compacted_part_is_named_and_computed_anew(many: Path, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(many, run)
    (part,) = run.glob("scores/*/units-*.parquet")
    DAMAGE[damage](part)
    assert not ea.verify(run).ok
    with pytest.warns(RunWarning, match=r"units-000000-000011\.parquet: .*; it is computed anew"):
        evaluated(str(run))
    assert score_bytes(run) == score_bytes(many)
    assert ea.verify(run).findings == ()


def test_of_a_damaged_compacted_part_whole_row_groups_are_kept(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explanation_alignment.runs.compaction._GROUP_ROWS", UNIT * 4 * 3)
    run = tmp_path / "run"
    evaluated(str(run))
    (part,) = run.glob("scores/*/units-*.parquet")
    flip(part)  # in the first of four row groups, three units each
    seen: list[int] = []
    first = units.scored_in_memory
    monkeypatch.setattr(units, "scored_in_memory", lambda *given: (seen.append(1), first(*given))[1])
    with pytest.warns(RunWarning, match="computed anew"):
        evaluated(str(run))
    assert len(seen) == 3
    assert ea.open_run(run).scores().equals(ea.open_run(many).scores())


def test_bytes_that_were_written_over_are_found_without_hashing_the_rest(three: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(three, run)
    from explanation_alignment.runs.writer import EvaluationWriter, RunWriter

    ((slug, item),) = ea.open_run(run).evaluations.items()
    evaluation = EvaluationWriter(RunWriter(run), slug, item)
    owed = {0: 32, 1: 32, 2: 28}
    assert evaluation.missing(owed) == []
    (part,) = run.glob("scores/*/unit-000001.parquet")
    flip(part)
    assert evaluation.missing(owed) == []  # believed: neither size nor time tell
    os.utime(part)
    assert evaluation.missing(owed) == [1]
    flip(part)  # as it was, with another time
    assert evaluation.missing(owed) == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe not json\n", b'{"file": "unit-000000.parquet", "by', b"[1, 2]\n"])
def test_a_damaged_manifest_costs_no_rows(three: Path, tmp_path: Path, content: bytes) -> None:
    run = tmp_path / "run"
    shutil.copytree(three, run)
    (manifest,) = run.glob("manifest/*.jsonl")
    manifest.write_bytes(content)
    (part,) = run.glob("scores/*/unit-000001.parquet")
    flip(part)  # the pages' own checksums tell, where there is no hash
    with pytest.warns(RunWarning, match=r"unit-000001\.parquet"):
        few(run)
    assert score_bytes(run) == score_bytes(three)
    assert ea.verify(run).ok


def test_a_run_of_an_earlier_version_is_taken_as_it_is(many: Path, tmp_path: Path) -> None:
    from explanation_alignment.runs import writer

    run = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "compact", lambda *_: None)
        evaluated(str(run))
    shutil.rmtree(run / "manifest")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "format_version": 1}))
    assert len(list(run.glob("scores/*/unit-*.parquet"))) == 12
    assert ea.verify(run).findings == ()
    assert ea.open_run(run).scores().height == IMAGES * 4
    evaluated(str(run))
    assert score_bytes(run) == score_bytes(many)
    merged = ea.merge([run, many], tmp_path / "merged")
    assert merged.scores().height == IMAGES * 4


def test_other_versions_are_warned_of_where_units_are_missing(three: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(three, run)
    info = json.loads((run / "run.json").read_text())
    for session in info["sessions"].values():
        session["versions"]["torch"] = "1.0"
    (run / "run.json").write_text(json.dumps(info))
    few(run)  # nothing to do, nothing to say
    next(run.glob("scores/*/unit-000001.parquet")).unlink()
    from explanation_alignment.runs import environment

    environment._SESSIONS[os.getpid()] = "another"
    with pytest.warns(RunWarning, match=r"parts are of other versions \(torch 1\.0 -> "):
        few(run)
    page = ea.provenance(run)
    assert len(page.sessions) == 2
    assert any("torch" in session.get("versions", "") for session in page.sessions)


def refuse(error: int) -> Callable[..., None]:
    def call(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    return call


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("place", ["os.fsync", "pyarrow.parquet.write_table"])
def test_a_disk_that_refuses_leaves_nothing_half_written(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, place: str
) -> None:
    run = tmp_path / "run"
    few(run, shard="1/3")
    before = score_bytes(run)
    with monkeypatch.context() as patch:
        patch.setattr(place, refuse(error))
        with pytest.raises(RunError, match=rf"cannot write .*{os.strerror(error)}.*the same command then goes on"):
            few(run)
    assert score_bytes(run) == before
    assert not [path for path in run.rglob("*") if path.suffix in (".tmp", ".lease")]
    few(run)
    assert score_bytes(run) == score_bytes(three)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=72k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(three: Path, small_disk: Path) -> None:
    run = small_disk / "run"
    with pytest.raises(RunError, match=r"No space left on device; make room, the same command then goes on"):
        few(run)
    assert not [path for path in run.rglob("*") if path.suffix in (".tmp", ".lease")]
    for path in run.glob("scores/*/*.parquet"):
        pl.read_parquet(path)
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    few(run)
    assert score_bytes(run) == score_bytes(three)


class Hungry(nn.Module):
    """A network that takes no more than so many images."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.inner = small_classifier().module
        self.most, self.error = most, error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise self.error
        out: torch.Tensor = self.inner(images)
        return out

    def extra_repr(self) -> str:
        return ""


def hungry(most: int, error: Exception) -> ea.Classifier:
    return ea.Classifier(Hungry(most, error), ea.Preprocessing((3, 12, 12)), name="small", device="cpu")


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize(
    ("error", "most", "methods"),
    [
        (ERRORS[0], 4, ["vanilla_gradients", "gradcam"]),  # where CAMs look is found with four images
        (ERRORS[1], 1, ["vanilla_gradients"]),
        (ERRORS[2], 2, ["vanilla_gradients"]),
    ],
)
def test_where_memory_runs_out_batches_are_halved_and_that_is_recorded(
    tmp_path: Path, error: Exception, most: int, methods: list[str]
) -> None:
    with pytest.warns(RunWarning, match=r"out of memory with batches of (8|4|2), going on with (4|2|1) ") as said:
        run = few(tmp_path / "run", classifier=hungry(most, error), batch_size=16, methods=methods)
    assert len(said) == {4: 1, 2: 2, 1: 3}[most]
    (item,) = run.evaluations.values()
    assert item["work"]["batch_sizes"] == [most]
    asked = few(tmp_path / "asked", classifier=hungry(most, error), batch_size=most, methods=methods)
    assert run.scores().equals(asked.scores())
    assert run.examples().equals(asked.examples())
    assert ea.provenance(run).evaluations["batch_sizes"].to_list() == [[most]]


TOO_LARGE = r"small: out of memory with one image at once .*--input-size"


@pytest.mark.parametrize("error", ERRORS)
def test_a_network_that_one_image_is_too_much_for_ends_with_what_to_do(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(ModelError, match=TOO_LARGE):
        few(tmp_path / "run", classifier=hungry(0, error), methods=["vanilla_gradients"])
    assert not (tmp_path / "run").exists()


def test_or_for_which_it_becomes_too_much_later(tmp_path: Path) -> None:
    class Filling(Hungry):
        """Somebody else takes the memory after the first image."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = super().forward(images)
            self.most = 0
            return logits

    classifier = ea.Classifier(Filling(1, ERRORS[0]), ea.Preprocessing((3, 12, 12)), name="small", device="cpu")
    with pytest.warns(RunWarning, match="going on with"), pytest.raises(ModelError, match=TOO_LARGE):
        few(tmp_path / "run", classifier=classifier, methods=["vanilla_gradients"])


def test_other_errors_are_no_lack_of_memory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="small fails on a 3x12x12 input: bad shape"):
        few(tmp_path / "run", classifier=hungry(0, RuntimeError("bad shape")), methods=["vanilla_gradients"])


@pytest.mark.parametrize(
    ("broken", "limit", "stops"), [(3, 3, False), (3, 2, True), (2, 0.1, False), (3, 0.1, True), (1, 0, True)]
)
def test_so_many_errors_as_allowed_and_one_more(tmp_path: Path, broken: int, limit: float, stops: bool) -> None:
    data = Patches(20, broken=[at * 8 for at in range(broken)])  # one a unit

    def go() -> ea.Run:
        return ea.evaluate(small_classifier(), data, out=tmp_path, max_errors=limit, progress=False)

    if not stops:
        assert not go().unfinished
        return
    with pytest.raises(RunError, match=rf"{broken} samples of patches could not be read \(limit {limit:g}\)"):
        go()


def test_errors_that_were_met_before_count_too(tmp_path: Path) -> None:
    def go(**given: Any) -> ea.Run:
        data = Patches(20, broken=[0, 8])
        return ea.evaluate(small_classifier(), data, out=tmp_path, max_errors=1, progress=False, **given)

    go(shard="1/3")
    with pytest.raises(RunError, match=r"2 samples of patches could not be read \(limit 1\), first: img/008"):
        go()


def test_a_process_that_decodes_ahead_may_die(three: Path, tmp_path: Path) -> None:
    with pytest.warns(RunWarning, match=r"small: a process that decoded images died, going on without \(DataLoader"):
        ea.evaluate(small_classifier(), Deadly(), out=tmp_path / "run", batch_size=4, workers=1, progress=False)
    assert score_bytes(tmp_path / "run") == score_bytes(three)
    maps = {name: np.random.default_rng(at).random((12, 12)) for at, name in enumerate(Patches().ids())}
    with pytest.warns(RunWarning, match="a process that read ahead died, going on without"):
        ea.score(maps, Deadly(), out=tmp_path / "maps", workers=1, progress=False)
    ea.score(maps, Patches(), out=tmp_path / "alone", progress=False)
    assert score_bytes(tmp_path / "maps") == score_bytes(tmp_path / "alone")


def not_finite(classifier: ea.Classifier, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    maps = images.mean(dim=1)
    maps[0, 3, 3], maps[1, 0, 0] = torch.nan, torch.inf
    return maps


def test_maps_that_are_not_finite_are_flat_and_have_no_score(tmp_path: Path) -> None:
    rows = few(tmp_path / "run", methods=[not_finite], batch_size=8).scores()
    flat = rows.filter(pl.col("status").cast(pl.String) == "flat_map")
    assert sorted(set(flat["sample_id"])) == [f"img/{at:03d}" for at in (0, 1, 8, 9, 16, 17)]
    assert flat["iou_coverage"].null_count() == flat.height
    assert rows.filter(pl.col("status").cast(pl.String) == "ok")["iou_coverage"].null_count() == 0


def lease_of(folder: Path, **changed: Any) -> Path:
    holder = {"host": leases._host(), "pid": os.getpid(), "started": leases._started(os.getpid()), "token": "t"}
    path = folder / "unit-000000.lease"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(holder | changed))
    return path


def test_a_lease_is_held_until_it_is_let_go_of(tmp_path: Path) -> None:
    one, other = Leases(tmp_path), Leases(tmp_path)
    held = one.claim("unit-000000")
    assert held is not None
    with held:
        assert other.claim("unit-000000") is None
        assert other.claim("unit-000001") is not None
    assert other.claim("unit-000000") is not None


@pytest.mark.parametrize(
    "holder", [{"pid": 2**22 + 1}, {"started": 1}, {"token": "of a block that never ended"}], ids=str
)
def test_the_lease_of_a_process_that_no_longer_runs_is_taken_over_at_once(
    tmp_path: Path, holder: dict[str, Any]
) -> None:
    lease_of(tmp_path, **holder)
    assert Leases(tmp_path).claim("unit-000000") is not None


def test_a_lease_of_elsewhere_is_stale_when_it_is_no_longer_touched_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    path = lease_of(tmp_path, host="elsewhere", pid=1)
    watching = Leases(tmp_path)
    for clock in (2e9, 0, 1e9, 4e9):  # clocks jump, and every touch moves the time
        os.utime(path, (clock, clock))
        now[0] += leases.STALE_AFTER - 1
        assert watching.claim("unit-000000") is None
    now[0] += leases.STALE_AFTER - 1
    assert watching.claim("unit-000000") is None
    now[0] += 2
    assert watching.claim("unit-000000") is not None


def test_a_lease_that_says_nothing_grows_old_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    lease_of(tmp_path).write_bytes(b"\x00half")
    watching = Leases(tmp_path)
    assert watching.claim("unit-000000") is None
    now[0] += leases.STALE_AFTER + 1
    assert watching.claim("unit-000000") is not None
