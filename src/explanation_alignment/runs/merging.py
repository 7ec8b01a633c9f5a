"""Joins runs into a new one: shards of one evaluation done in different folders, and different evaluations.

Nothing is computed anew: parts are copied as they are, or cut by method where two runs share only some of theirs.
"""

from __future__ import annotations

import collections
import filecmp
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa
from filelock import FileLock, Timeout

from explanation_alignment.errors import RunError, UsageError, first_line
from explanation_alignment.runs.compaction import compact, finish_line
from explanation_alignment.runs.environment import command_line
from explanation_alignment.runs.examples import trim_examples
from explanation_alignment.runs.failures import asked_words, failure_name, failure_parts
from explanation_alignment.runs.files import write_atomically, write_frame, write_json
from explanation_alignment.runs.identity import describe_difference, digest
from explanation_alignment.runs.manifest import Manifest, bytes_problem, line_of
from explanation_alignment.runs.parts import (
    owed_rows,
    part_files,
    part_name,
    part_paths,
    read_part,
    read_units,
    stamped,
    units_of,
    write_part,
)
from explanation_alignment.runs.reader import Run, open_run
from explanation_alignment.runs.schema import FORMAT_VERSION, KEY_COLUMNS

__all__ = ["merge"]

_KEY: Final = ("model", "seed", "dataset", "target")
#: What run.json always holds; anything else is taken over where all sources agree.
_KNOWN: Final = frozenset(
    {
        "format_version",
        "created",
        "command",
        "toy",
        "experiment",
        "versions",
        "hardware",
        "datasets",
        "evaluations",
        "failures",
        "merged",
        "sessions",
    }
)
#: Folders of a source that are not taken over and cannot be made again from the tables.
_LEFT: Final = ("checkpoints", "maps")
#: What a manifest's line says of the file alone; the rest, how it came about, is taken over.
_OF_THE_FILE: Final = frozenset({"file", "rows", "bytes", "mtime_ns", "sha256"})
_EXAMPLES: Final = ("decisions", "maps", "images")

_Method = tuple[str, str]


def merge(runs: Sequence[str | Path | Run], out: str | Path) -> Run:
    """Join runs into a new one, which is like any other: it can be shown, resumed and made to grow.

    Evaluations of different questions stand beside each other. Of the same question (a model, seed, dataset and target,
    asked alike) the units are joined, as of ``--shard``; a unit that several runs hold is taken once if its rows are
    the same in all. Where runs share only some methods of a question, the shared ones become an evaluation of their
    own. ``models.parquet`` and examples are joined, the summary is made when first read. The sources are only read.

    What was left out or could not be kept is said in ``run.info["merged"]["notes"]``; ``run.info["merged"]["sources"]``
    has each source's command, versions and hardware.

    Args:
        runs: two or more run folders.
        out: the new folder; it must not exist, or be empty. It appears when it is whole: an interrupted merge leaves
            nothing there, and the same call starts clean.

    Returns:
        The merged run.

    Raises:
        UsageError: fewer than two runs, or one of them twice.
        RunError: the runs cannot be one (generated and real data; one question answered differently; different
            questions under the same key; different weights or dataset content under one name), a part is damaged, or
            ``out`` cannot be written.
    """
    sources = [run if isinstance(run, Run) else open_run(run) for run in runs]
    out = Path(out)
    _check_places(sources, out)
    datasets = _datasets(sources)
    notes: list[str] = []
    evaluations = [one for entries in _by_key(sources).values() for one in _joined(entries, notes)]
    models = _models(sources)
    content = _content(sources, datasets, evaluations, models, notes)
    with _folder_in_the_making(out) as place:
        for one in evaluations:
            content["evaluations"][one.slug] = _write(one, place, notes)
        shutil.rmtree(place / ".work", ignore_errors=True)
        notes[:] = dict.fromkeys(notes)
        trim_examples(place / "examples", list(content["evaluations"]))
        if models is not None:
            write_frame(place / "models.parquet", models)
        write_json(place / "run.json", content)
    return open_run(out)


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    """An evaluation of a source, with its parts."""

    source: Run
    slug: str
    item: Mapping[str, Any]
    parts: Mapping[int, Path]

    @property
    def lines(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """What its manifest says of its parts."""
        return Manifest.of(self.source.path, self.slug).lines()

    @property
    def regions(self) -> int:
        """How many regions its dataset has."""
        return len(self.source.info["datasets"][self.item["question"]["dataset"]]["regions"])

    @property
    def examples(self) -> Path:
        """Where its examples are, if it has any."""
        return self.source.path / "examples" / self.slug


@dataclass(frozen=True, slots=True, eq=False)
class _Joined:
    """An evaluation of the new run: some methods of one question, from one or more entries."""

    slug: str
    identity: str
    methods: Sequence[Mapping[str, Any]]
    entries: Sequence[_Entry]
    parts: Mapping[int, _Entry]
    owed: Mapping[int, int]

    @property
    def pairs(self) -> set[_Method]:
        return set(map(_pair, self.methods))


def _check_places(sources: Sequence[Run], out: Path) -> None:
    if len(sources) < 2:
        raise UsageError(f"merge: expected at least two runs, got {len(sources)}")
    places = [source.path.resolve() for source in sources]
    for place, count in collections.Counter(places).items():
        if count > 1:
            raise UsageError(f"merge: {place} was given {count} times")
    target = out.resolve()
    if any(target == place or place in target.parents or target in place.parents for place in places):
        raise UsageError(f"merge: {out} is, holds, or lies in one of the runs to merge; choose another --out")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise RunError(f"{out} is there already and not empty; a merge makes a new run, choose another --out")


def _datasets(sources: Sequence[Run]) -> dict[str, Mapping[str, Any]]:
    """The records of the datasets, each with all that any source tells of it."""
    kinds = {bool(source.info["toy"]): source for source in sources}
    if len(kinds) > 1:
        raise RunError(f"{kinds[True].path} holds generated (toy) data, {kinds[False].path} real data; never one run")
    seen: dict[str, tuple[Run, Mapping[str, Any]]] = {}
    for source in sources:
        for name, record in source.info["datasets"].items():
            first, known = seen.setdefault(name, (source, record))
            shared = known.keys() & record.keys()  # a later version may tell more
            if any(known[part] != record[part] for part in shared):
                raise RunError(
                    f"{first.path} and {source.path} hold different data under the name {name} "
                    f"({describe_difference(known, record)}); they cannot be one run"
                )
            seen[name] = (first, {**known, **record})
    return {name: record for name, (_, record) in seen.items()}


def _by_key(sources: Iterable[Run]) -> dict[tuple[Any, ...], list[_Entry]]:
    """The evaluations that were begun in earnest, by their key."""
    found: dict[tuple[Any, ...], list[_Entry]] = {}
    for source in sources:
        for slug, item in source.evaluations.items():
            parts = part_paths(source.path / "scores" / slug)
            if not parts and item["finished"] is not None:
                raise RunError(
                    f"{source.path / 'scores' / slug} holds no parts of a finished evaluation; see `ealign verify`"
                )
            if parts:  # else begun, and given up before anything was written
                key = tuple(item["question"][name] for name in _KEY)
                found.setdefault(key, []).append(_Entry(source, slug, item, parts))
    return found


def _joined(entries: Sequence[_Entry], notes: list[str]) -> Iterator[_Joined]:
    """The evaluations of one key: one for each set of methods that the same entries hold."""
    first = entries[0]
    question = first.item["question"]
    for entry in entries[1:]:
        if entry.item["question"] != question:
            difference = describe_difference(_flat(question), _flat(entry.item["question"]))
            raise RunError(
                f"{first.source.path} and {entry.source.path} hold {question['model']} on {question['dataset']} "
                f"(seed {question['seed']}, target {question['target']}) asked differently ({difference}); "
                "they cannot be one run"
            )
    described: dict[_Method, Mapping[str, Any]] = {}
    holders: dict[_Method, list[int]] = {}
    for number, entry in enumerate(entries):
        for method in entry.item["methods"]:
            known = described.setdefault(_pair(method), method)
            if known != method:
                other = entries[holders[_pair(method)][0]]
                raise RunError(
                    f"{other.source.path} and {entry.source.path} hold {' with '.join(_pair(method))} of "
                    f"{question['model']} on {question['dataset']} differently ({describe_difference(known, method)})"
                )
            holders.setdefault(_pair(method), []).append(number)
    together: dict[tuple[int, ...], list[_Method]] = {}
    for pair, numbers in holders.items():
        together.setdefault(tuple(numbers), []).append(pair)
    for places, pairs in together.items():
        yield _one([entries[place] for place in places], [described[pair] for pair in pairs], notes)


def _one(entries: Sequence[_Entry], methods: Sequence[Mapping[str, Any]], notes: list[str]) -> _Joined:
    """Some methods of one question: their units, each from the first entry that holds it whole."""
    first = entries[0]
    sizes = {int(entry.item["details"]["unit_size"]) for entry in entries}
    if len(sizes) > 1:
        raise RunError(
            f"{' and '.join(str(entry.source.path) for entry in entries)} cut {first.item['question']['model']} on "
            f"{first.item['question']['dataset']} into units of {' and '.join(map(str, sorted(sizes)))} samples; "
            "evaluate one of them anew"
        )
    # an entry that holds these methods and no others keeps its order of them, and with it its identity
    whole = [entry for entry in entries if len(entry.item["methods"]) == len(methods)]
    methods = whole[0].item["methods"] if whole else methods
    identity = digest({**first.item["question"], "methods": list(methods)})
    sound: dict[int, list[_Entry]] = {}
    damaged: dict[int, str] = {}
    for entry in entries:
        problems = {path: _problem(entry, path) for path in set(entry.parts.values())}
        for unit, path in entry.parts.items():
            if problems[path]:
                damaged[unit] = problems[path]
            else:
                sound.setdefault(unit, []).append(entry)
    for unit, problem in damaged.items():
        if unit not in sound:
            raise RunError(f"{problem}; the command that made that run renews it, see `ealign verify`")
        notes.append(f"{problem}; taken from {sound[unit][0].source.path}")
    pairs = set(map(_pair, methods))
    for unit, holders in sound.items():
        for other in holders[1:]:
            difference = _difference(holders[0], other, unit, pairs)
            if difference:
                raise RunError(
                    f"{holders[0].parts[unit]} and {other.parts[unit]} answer the same question and differ: "
                    f"{difference}; leave one of the runs out, or find out which is right (`ealign verify --recompute`)"
                )
    name = first.slug.rpartition("--")[0]
    owed = owed_rows({**first.item, "methods": methods}, first.regions)
    parts = {unit: _preferred(sound[unit], identity) for unit in sorted(sound)}
    return _Joined(f"{name}--{identity[:8]}", identity, methods, entries, parts, owed)


def _problem(entry: _Entry, path: Path) -> str:
    """What speaks against a part of an entry, with its path; empty for nothing."""
    try:
        problem = read_part(path).problem(owed_rows(entry.item, entry.regions), entry.item["identity"])
    except RunError as error:
        return str(error)
    problem = problem or bytes_problem(path, entry.lines.get(path.name, []), thorough=True)
    return f"{path}: {problem}" if problem else ""


def _preferred(holders: Sequence[_Entry], identity: str) -> _Entry:
    """An entry whose part can be copied as it is, else the first."""
    return next((entry for entry in holders if entry.item["identity"] == identity), holders[0])


def _difference(one: _Entry, other: _Entry, unit: int, pairs: set[_Method]) -> str:
    """How two parts of a unit differ in the rows of these methods; empty where they do not."""
    paths = (one.parts[unit], other.parts[unit])
    if paths[0].name == paths[1].name and filecmp.cmp(*paths, shallow=False):
        return ""
    key = [name for name in KEY_COLUMNS if name not in _KEY]
    tables = [_rows_of(path, unit).filter(_is_of(pairs)).sort(key) for path in paths]
    columns = [table.columns for table in tables]
    if set(columns[0]) != set(columns[1]):
        return f"the columns {', '.join(sorted({*columns[0]} ^ {*columns[1]}))} are in one only"
    left, right = tables[0], tables[1].select(columns[0])
    if left.equals(right):
        return ""
    if not left.select(key).equals(right.select(key)):
        return "they hold different samples"
    where = pl.DataFrame({name: left[name].ne_missing(right[name]) for name in columns[0]})
    rows = where.select(pl.any_horizontal(pl.all()).arg_true()).to_series().to_list()
    column = next(name for name in columns[0] if where[name][rows[0]])
    place = ", ".join(str(value) for value in left.select(key).row(rows[0]))
    values = f"{left[column][rows[0]]} and {right[column][rows[0]]}"
    return f"{len(rows)} of {left.height} rows, first {place}: {column} is {values}"


def _read(path: Path, which: pl.Expr | None = None) -> pl.DataFrame:
    """A table's rows, words as String."""
    try:
        table = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path}: cannot be read ({first_line(error)}); see `ealign verify`") from error
    table = table.with_columns(pl.col(pl.Categorical).cast(pl.String))
    return table if which is None else table.filter(which)


@lru_cache(maxsize=2)
def _units(path: Path, _size: int, _time: int) -> Mapping[int, pa.Table]:
    return dict(read_units(path))


def _unit(path: Path, unit: int) -> pa.Table:
    """A unit's rows of a part that may hold several."""
    stat = path.stat()
    return _units(path, stat.st_size, stat.st_mtime_ns)[unit]


def _rows_of(path: Path, unit: int) -> pl.DataFrame:
    """The same, words as String."""
    table = pl.from_arrow(_unit(path, unit))
    assert isinstance(table, pl.DataFrame)
    return table.with_columns(pl.col(pl.Categorical).cast(pl.String))


def _is_of(pairs: set[_Method]) -> pl.Expr:
    same = [(pl.col("method") == method) & (pl.col("binarization") == rule) for method, rule in sorted(pairs)]
    return pl.any_horizontal(same)


def _write(one: _Joined, place: Path, notes: list[str]) -> dict[str, Any]:
    """Write an evaluation's parts and examples; its entry in run.json."""
    folder, manifest = place / "scores" / one.slug, Manifest.of(place, one.slug)
    counts: collections.Counter[str] = collections.Counter()
    copied: set[Path] = set()
    for unit, entry in one.parts.items():
        source = entry.parts[unit]
        counts.update(_rows_of(source, unit).filter(_is_of(one.pairs))["status"].to_list())
        if source in copied:
            continue
        lines = entry.lines.get(source.name, [])
        told = {name: value for name, value in lines[-1].items() if name not in _OF_THE_FILE} if lines else {}
        first_unit, last_unit = units_of(source)
        whole = all(one.parts.get(other) is entry for other in range(first_unit, last_unit + 1))
        target = folder / (source.name if whole else part_name(unit))
        if whole and entry.item["identity"] == one.identity:
            copied.add(source)
            write_atomically(target, partial(shutil.copyfile, source))
        else:
            target = folder / part_name(unit)
            table = _cut(source, one, unit)
            told = _share(told, table, read_part(source).rows)
            write_atomically(target, partial(write_part, table))
        manifest.append(line_of(target, target.name, read_part(target).rows, told))
    first = one.entries[0].item
    finished = [entry.item["finished"] for entry in one.entries if entry.item["finished"] is not None]
    complete = one.parts.keys() == one.owed.keys()
    if complete:
        compact(folder, manifest, one.identity, one.owed)
    work = finish_line(manifest.keep(part_files(folder)))
    has_examples = _join_examples(one, place / "examples" / one.slug)
    what = f"{first['question']['model']} on {first['question']['dataset']}"
    if not complete:
        notes.append(
            f"{what}: {len(one.parts)} of {len(one.owed)} units are there; the command that made it, with this run as "
            "--out, does the rest"
        )
    elif not finished:
        notes.append(
            f"{what}: all units are there, examples are not, since no run had the whole of it; the command that made "
            "it, with this run as --out, adds them"
        )
    elif not has_examples:
        notes.append(f"{what}: no run has examples of it")
    return {
        "identity": one.identity,
        "question": first["question"],
        "methods": list(one.methods),
        "details": first["details"],
        "started": min(entry.item["started"] for entry in one.entries),
        "finished": max(finished) if finished and complete else None,
        "status_counts": dict(counts) if finished and complete else None,
        **({"work": work} if finished and complete and work else {}),
    }


def _share(told: Mapping[str, Any], table: pa.Table, rows: int) -> dict[str, Any]:
    """What a manifest's line tells of a part of so many rows, for those of it that were cut out."""
    share = dict(told)
    if "seconds" in told:
        share["seconds"] = round(told["seconds"] * table.num_rows / rows, 3)
    if "unread" in told:
        names = zip(table["sample_id"].to_pylist(), table["status"].to_pylist(), strict=True)
        # a sample without a map from elsewhere has the same status and was read
        share["unread"] = min(told["unread"], len({name for name, status in names if status == "error"}))
    return share


def _cut(source: Path, one: _Joined, unit: int) -> pa.Table:
    """The rows of some methods of a unit, as a part of its own."""
    table, wanted = _unit(source, unit), one.pairs
    names = zip(table["method"].to_pylist(), table["binarization"].to_pylist(), strict=True)
    return stamped(table.filter([pair in wanted for pair in names]), one.identity, unit)


def _join_examples(one: _Joined, target: Path) -> bool:
    """Copy the longest list of examples there is; whether there is one."""
    longest: tuple[int, _Entry] | None = None
    for entry in one.entries:
        if all((entry.examples / f"{stem}.parquet").is_file() for stem in _EXAMPLES):
            length = _read(entry.examples / "decisions.parquet")["rank"].n_unique()
            if longest is None or length > longest[0]:
                longest = length, entry
    if longest is None:
        return False
    source = longest[1].examples
    for stem in _EXAMPLES:
        table = _read(source / f"{stem}.parquet", None if stem == "images" else _is_of(one.pairs))
        write_frame(target / f"{stem}.parquet", table)
    return True


def _content(
    sources: Sequence[Run],
    datasets: Mapping[str, Any],
    evaluations: Sequence[_Joined],
    models: pl.DataFrame | None,
    notes: list[str],
) -> dict[str, Any]:
    """run.json of the new run, its evaluations to be filled in."""
    infos = [source.info for source in sources]
    experiments = [info["experiment"] for info in infos]
    experiment = experiments[0] if all(each == experiments[0] for each in experiments) else None
    if experiment is None and any(experiments):
        names = dict.fromkeys("none" if each is None else str(each["name"]) for each in experiments)
        other = next(each for each in experiments if each != experiments[0])
        settings = len(names) == 1 and describe_difference(_flat(experiments[0]), _flat(other))
        notes.append(f"the runs are of different experiments ({settings or ', '.join(names)}); this one is of none")
    for source in sources:
        left = [name for name in _LEFT if (source.path / name).is_dir()]
        if left:
            notes.append(f"{source.path}: {' and '.join(left)} were not taken over")
    failures = _failures(infos, datasets, evaluations, models)
    others: dict[str, Any] = {}
    for name in sorted({name for info in infos for name in info} - _KNOWN):
        values = [info[name] for info in infos if name in info]
        if all(value == values[0] for value in values):
            others[name] = values[0]
        else:
            notes.append(f"the runs differ in {name}, which was left out")
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "toy": infos[0]["toy"],
        "experiment": experiment,
        "versions": _agreed([info["versions"] for info in infos]),
        "hardware": _agreed([info["hardware"] for info in infos]),
        "datasets": dict(datasets),
        "evaluations": {},
        "sessions": {name: one for info in infos for name, one in info.get("sessions", {}).items()},
        **({"failures": failures} if failures else {}),
        **others,
        "merged": {"sources": [one for source in sources for one in _origins(source)], "notes": notes},
    }


def _failures(
    infos: Sequence[Mapping[str, Any]],
    datasets: Mapping[str, Any],
    evaluations: Sequence[_Joined],
    models: pl.DataFrame | None,
) -> dict[str, str]:
    """What failed in any of the runs and was evaluated in none, by its name in the new run."""
    specs: dict[tuple[str, int], str] = {}
    if models is not None:
        specs = {(row["model"], row["seed"]): row["spec"] for row in models.iter_rows(named=True)}
    evaluated = set()
    for one in evaluations:
        model, seed, dataset = (one.entries[0].item["question"][name] for name in ("model", "seed", "dataset"))
        if (model, seed) in specs:
            evaluated.add((asked_words(specs[model, seed], model), dataset))
    failures: dict[str, str] = {}
    for info in infos:
        for name, reason in info.get("failures", {}).items():
            asked, dataset = failure_parts(name, info["datasets"])
            if (asked, dataset) not in evaluated:
                failures[failure_name(asked, dataset, datasets)] = reason
    return failures


def _origins(source: Run) -> list[dict[str, Any]]:
    """What a source says of how it was made; of a merged run, what its own sources said."""
    if "merged" in source.info:
        return list(source.info["merged"]["sources"])
    told = ("created", "command", "experiment", "versions", "hardware")
    details = {slug: item["details"] for slug, item in source.evaluations.items()}
    return [{"run": str(source.path), **{name: source.info[name] for name in told}, "evaluations": details}]


def _agreed(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all records say; where they differ, everything that is said, as text."""
    agreed = {}
    for name in dict.fromkeys(name for record in records for name in record):
        values = [record.get(name) for record in records]
        same = all(value == values[0] for value in values)
        agreed[name] = values[0] if same else ", ".join(dict.fromkeys(str(value) for value in values))
    return agreed


def _models(sources: Sequence[Run]) -> pl.DataFrame | None:
    """The rows of models.parquet joined; layers of the same model are named together."""
    tables = [(source, source.models()) for source in sources if (source.path / "models.parquet").is_file()]
    if not tables:
        return None
    seen: dict[tuple[Any, ...], tuple[Run, Mapping[str, Any]]] = {}
    layers: dict[tuple[Any, ...], set[str]] = {}
    for source, table in tables:
        for row in table.iter_rows(named=True):
            key = (row["model"], row["seed"])
            other, known = seen.setdefault(key, (source, row))
            if known["weights_digest"] != row["weights_digest"]:
                raise RunError(
                    f"{other.path} and {source.path} hold different weights under the name {row['model']} "
                    f"(seed {row['seed']}); give one of them another --name"
                )
            layers.setdefault(key, set()).update(name for name in (row["layer"] or "").split(", ") if name)
    whole = pl.concat([table for _, table in tables], how="diagonal_relaxed")
    whole = whole.unique(["model", "seed"], keep="first", maintain_order=True)
    joined = [", ".join(sorted(layers[key])) or None for key in whole.select("model", "seed").iter_rows()]
    return whole.with_columns(layer=pl.Series(joined, dtype=pl.String)).sort("model", "seed")


@contextmanager
def _folder_in_the_making(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place when the block ends without an error, and goes otherwise."""
    place, lock = out.with_name(f".{out.name}.merging"), out.with_name(f".{out.name}.merging.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            shutil.rmtree(place, ignore_errors=True)  # of a merge that was killed
            try:
                place.mkdir()
                yield place
                if out.is_dir():
                    out.rmdir()
                place.rename(out)
            finally:
                shutil.rmtree(place, ignore_errors=True)
                lock.unlink(missing_ok=True)
    except Timeout:
        raise RunError(f"{out} is being made by another merge; wait for it, or choose another --out") from None
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}") from error


def _pair(method: Mapping[str, Any]) -> _Method:
    return method["method"], method["binarization"]


def _flat(question: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in question.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat
