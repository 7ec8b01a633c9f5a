"""Whether a run is whole and consistent: its parts, rows, models, examples and summary, from its files alone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from explanation_alignment.errors import RunError, UnknownNameError, UsageError, first_line
from explanation_alignment.runs.examples import MAX_EXAMPLES, read_examples
from explanation_alignment.runs.identity import digest
from explanation_alignment.runs.manifest import Manifest, bytes_problem
from explanation_alignment.runs.parts import owed_rows, part_files, part_paths, read_part
from explanation_alignment.runs.reader import Run, open_run, read_kept_summary
from explanation_alignment.runs.row_rules import REQUIRED, rules_of
from explanation_alignment.runs.schema import KEY_COLUMNS, SUMMARY_SCHEMA

if TYPE_CHECKING:
    from explanation_alignment.classifiers.classifier import Classifier
    from explanation_alignment.recomputation import Recomputed
    from explanation_alignment.sample import AnnotatedDataset

__all__ = ["Finding", "Verification", "verify"]

#: How far a number of the kept summary may lie from the same number made again: BLAS sums in another order elsewhere.
_SUMMARY_TOLERANCE: Final = 1e-9
#: Units that a message names.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing, about a run.

    Args:
        place: the file or folder, relative to the run.
        message: what is there and what was expected, in one line.
        serious: whether the run is not what it says; off for what is only worth knowing.
    """

    place: str
    message: str
    serious: bool = True


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at, and what was found.

    Args:
        evaluations: how many evaluations were looked at.
        parts: how many parts were there.
        parts_read: of how many the rows were read, too.
        rows: how many rows these hold.
        findings: what was found, in the order of the run's folders.
        recomputed: what came of computing decisions anew; None unless asked for.
    """

    evaluations: int
    parts: int
    parts_read: int
    rows: int
    findings: tuple[Finding, ...]
    recomputed: Recomputed | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.serious for finding in self.findings)


def verify(
    run: Run | str | Path,
    *,
    sample: int | None = None,
    models: Sequence[str] | None = None,
    seed: int = 0,
    recompute: int | None = None,
    data_dir: str | Path | None = None,
    datasets: Sequence[str | AnnotatedDataset] = (),
    classifiers: Mapping[str, Classifier] | None = None,
    weights: str | None = None,
    device: str | None = None,
) -> Verification:
    """Look whether a run is what it says; its files are only read.

    Of every part the name, the stamp, the number of rows and the hash; that each unit owed is there and no other; of
    the rows that keys are unique, statuses, nulls, areas and scores agree
    (:mod:`~explanation_alignment.runs.row_rules`), and counts by status are those recorded; that run.json is consistent
    in itself; that models.parquet has each model with its weights' digest; that examples are decisions of the scores;
    that the kept summary is that of the scores.

    With ``recompute`` some decisions are computed anew and compared, see
    :func:`~explanation_alignment.recomputation.recompute_decisions`.

    Args:
        run: the run or its folder.
        sample: read the rows of only so many parts, drawn by the seed; rules that need a whole evaluation (counts, a
            key in two parts, the summary's numbers) then hold for what is read only. None for all.
        models: only the evaluations of these.
        seed: decides which parts and decisions are drawn.
        recompute: how many decisions to compute anew; None for none.
        data_dir: folder with the dataset's files, for ``recompute``.
        datasets: datasets, or their names with arguments, where the run does not tell them.
        classifiers: model's name -> classifier, where its spec cannot build it.
        weights: as for :func:`~explanation_alignment.load_classifier`, where the run does not tell them.
        device: to compute on.

    Raises:
        RunError: it is no run, or run.json cannot be read.
        UnknownNameError: there is no such model in it.
        UsageError: a count is below 1.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    for name, count in (("sample", sample), ("recompute", recompute)):
        if count is not None and count < 1:
            raise UsageError(f"{name}: expected at least 1, got {count}")
    chosen = _chosen(opened, models)
    drawn = _drawn(opened, chosen, sample, seed)
    watch = _Watch(opened, chosen, drawn)
    findings = list(watch.findings())
    result = Verification(len(chosen), watch.parts, watch.parts_read, watch.rows, tuple(findings))
    if recompute is None:
        return result
    from explanation_alignment.recomputation import recompute_decisions

    again = recompute_decisions(
        opened,
        recompute,
        models=models,
        seed=seed,
        data_dir=data_dir,
        datasets=datasets,
        classifiers=classifiers or {},
        weights=weights,
        device=device,
    )
    return replace(result, findings=(*findings, *again.findings()), recomputed=again)


def _chosen(run: Run, models: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(item["question"]["model"] for item in run.evaluations.values()))
    for name in models or ():
        if name not in known:
            raise UnknownNameError("model of this run", name, known)
    return [slug for slug, item in run.evaluations.items() if models is None or item["question"]["model"] in models]


def _drawn(run: Run, slugs: Sequence[str], sample: int | None, seed: int) -> set[Path] | None:
    """The parts whose rows are read; None for all."""
    if sample is None:
        return None
    paths = [path for slug in slugs for path in part_files(run.path / "scores" / slug)]
    return set(random.Random(seed).sample(paths, min(sample, len(paths))))


class _Watch:
    """Goes through a run and counts what it looked at."""

    def __init__(self, run: Run, slugs: Sequence[str], drawn: set[Path] | None) -> None:
        self._run, self._slugs, self._drawn = run, slugs, drawn
        self.parts = self.parts_read = self.rows = 0

    def findings(self) -> Iterator[Finding]:
        yield from self._record()
        for slug in self._slugs:
            yield from self._evaluation(slug)
        yield from self._strangers()
        yield from self._models()
        yield from self._summary()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._run.path).as_posix()

    def _record(self) -> Iterator[Finding]:
        """What run.json says, against itself."""
        datasets = self._run.info["datasets"]
        holders: dict[tuple[Any, ...], str] = {}
        for slug, item in self._run.evaluations.items():
            question, place = item["question"], f"run.json, {slug}"
            identity = digest({**question, "methods": item["methods"]})
            if identity != item["identity"] or not slug.endswith(f"--{identity[:8]}"):
                yield Finding(place, f"its question and methods make identity {identity[:8]}, it is recorded otherwise")
            record = datasets.get(question["dataset"])
            if record is None:
                yield Finding(place, f"its dataset {question['dataset']} is not recorded")
            elif record["fingerprint"] != question["dataset_fingerprint"]:
                yield Finding(
                    place,
                    f"evaluated on {question['dataset']} {question['dataset_fingerprint'][:8]}, recorded is "
                    f"{record['fingerprint'][:8]}: evaluations of that name are not of one dataset",
                )
            if record is not None and bool(record["toy"]) != bool(self._run.info["toy"]):
                yield Finding(place, f"{question['dataset']} is toy: {record['toy']}, the run {self._run.info['toy']}")
            for method in item["methods"]:
                names = ("model", "seed", "dataset", "target")
                key = (*(question[name] for name in names), method["method"], method["binarization"])
                other = holders.setdefault(key, slug)
                if other != slug:
                    yield Finding(place, f"{method['method']} with {method['binarization']} is in {other}, too")

    def _evaluation(self, slug: str) -> Iterator[Finding]:
        item, folder = self._run.evaluations[slug], self._run.path / "scores" / slug
        record = self._run.info["datasets"].get(item["question"]["dataset"])
        if record is None:
            return
        owed = owed_rows(item, len(record["regions"]))
        paths, files = part_paths(folder), part_files(folder)
        self.parts += len(files)
        sound: list[Path] = []
        lines = Manifest.of(self._run.path, slug).lines()
        for path in files:
            problem = _problem(path, owed, item["identity"])
            if problem:
                yield Finding(self._name(path), problem)
                continue
            sound.append(path)
            known = lines.get(path.name, [])
            if known and (problem := bytes_problem(path, known, thorough=True)):
                yield Finding(self._name(path), problem)
            elif lines and not known:
                yield Finding(self._name(path), "the manifest has no line of it, so its bytes are not known", False)
        missing = [unit for unit in owed if unit not in paths]
        if missing:
            named = ", ".join(f"unit-{unit:06d}" for unit in missing[:_NAMED])
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            state = "recorded as finished, " if item["finished"] is not None else ""
            yield Finding(
                self._name(folder),
                f"{state}{len(missing)} of {len(owed)} units are not there ({named}{more}); the command that made the "
                "run does what is missing",
            )
        elif item["finished"] is None:
            yield Finding(
                self._name(folder),
                "all units are there, examples and counts are not; the command that made the run adds them",
                serious=False,
            )
        for path in sorted(folder.glob("*")):
            if path not in files:
                yield Finding(self._name(path), "no part of the evaluation; may be removed", serious=False)
        read = [path for path in sound if self._drawn is None or path in self._drawn]
        rows, unreadable = _rows(read)
        yield from (Finding(self._name(path), words) for path, words in unreadable)
        if rows is not None:
            self.parts_read += len(read) - len(unreadable)
            self.rows += rows.height
            yield from self._rules(item, record["regions"], rows)
            whole = self._drawn is None and not missing and len(sound) - len(unreadable) == len(files)
            if whole and item["status_counts"] is not None:
                counts = dict(rows["status"].value_counts().iter_rows())
                if counts != item["status_counts"]:
                    words = f"rows by status are {_counts(counts)}, recorded {_counts(item['status_counts'])}"
                    yield Finding(f"run.json, {slug}", words)
            yield from self._examples(slug, rows if whole else None)

    def _rules(self, item: Mapping[str, Any], regions: Sequence[str], rows: pl.DataFrame) -> Iterator[Finding]:
        from explanation_alignment.statistics.tables import metric_columns

        columns = [name for name in rows.columns if name != "_file"]
        absent = [name for name in (*REQUIRED, *item["question"]["metrics"]) if name not in columns]
        if absent:
            yield Finding(self._name(Path(rows["_file"][0]).parent), f"its parts lack the columns {', '.join(absent)}")
            return
        rules = rules_of(item, regions, columns, metric_columns(columns))
        broken = rows.select(
            "_file", "sample_id", *(rule.broken.fill_null(False).alias(f"_{at}") for at, rule in enumerate(rules))
        )
        for at, rule in enumerate(rules):
            found = broken.filter(pl.col(f"_{at}")).group_by("_file", maintain_order=True)
            for (file,), part in found:
                first = part["sample_id"][0]
                yield Finding(self._name(Path(str(file))), f"{part.height:,} rows {rule.words}; first {first}")

    def _examples(self, slug: str, rows: pl.DataFrame | None) -> Iterator[Finding]:
        folder = self._run.path / "examples" / slug
        place = self._name(folder)
        if not folder.is_dir():
            finished = self._run.evaluations[slug]["finished"] is not None
            if finished and list(self._run.evaluations).index(slug) < MAX_EXAMPLES:
                yield Finding(place, "no examples of this evaluation", serious=False)
            return
        try:
            examples = read_examples(folder)
        except (OSError, pl.exceptions.PolarsError) as error:
            yield Finding(place, f"cannot be read ({first_line(error)})")
            return
        for name in ("image", "saliency"):
            absent = examples[name].null_count() if name in examples.columns else examples.height
            if absent:
                yield Finding(place, f"{absent} of {examples.height} examples have no {name}")
        if rows is None:
            return
        key = [name for name in KEY_COLUMNS if name != "seed"]
        words = [name for name in key if name != "sample_id"]
        examples = examples.with_columns(pl.col(words).cast(pl.String))
        strange = examples.join(rows, on=key, how="anti", nulls_equal=True)
        if strange.height:
            yield Finding(
                place, f"{strange.height} examples are of no row of the scores; first {strange['sample_id'][0]}"
            )
        shared = [name for name in rows.columns if name in examples.columns and name not in (*key, "_file")]
        both = examples.join(rows, on=key, how="inner", nulls_equal=True, suffix="_scored")
        for name in shared:
            one, other = both[name], both[f"{name}_scored"]
            if one.dtype != other.dtype:
                one, other = one.cast(pl.String), other.cast(pl.String)
            different = int(one.ne_missing(other).sum())
            if different:
                yield Finding(place, f"{different} examples have another {name} than the scores")

    def _strangers(self) -> Iterator[Finding]:
        """Folders that belong to no evaluation: other tools would read them with the rest."""
        for kind in ("scores", "examples"):
            for folder in sorted((self._run.path / kind).glob("*")):
                if folder.name not in self._run.evaluations:
                    holds = any(folder.glob("*.parquet")) if folder.is_dir() else True
                    yield Finding(self._name(folder), "run.json has no such evaluation", serious=holds)

    def _models(self) -> Iterator[Finding]:
        if not self._slugs:
            return
        try:
            models = self._run.models()
            known = {(row["model"], row["seed"]): row["weights_digest"] for row in models.iter_rows(named=True)}
        except (RunError, pl.exceptions.PolarsError) as error:
            yield Finding("models.parquet", f"cannot be read ({first_line(error)})")
            return
        if len(known) != models.height:
            yield Finding("models.parquet", "a model and seed have more than one row")
        asked: dict[tuple[str, int], list[str]] = {}
        maps: set[tuple[str, int]] = set()
        for question in (self._run.evaluations[slug]["question"] for slug in self._slugs):
            key = (question["model"], question["seed"])
            asked.setdefault(key, []).append(question["weights"])
            if "covers" in question:  # maps made elsewhere have a digest for each dataset, the row that of one
                maps.add(key)
        for (model, seed), weights in asked.items():
            if (model, seed) not in known:
                yield Finding("models.parquet", f"no row for {model}, seed {seed}")
                continue
            own = known[model, seed]
            others = [one for one in dict.fromkeys(weights) if one != own]
            if (model, seed) in maps and own in weights:
                continue
            for other in others:
                yield Finding(
                    "models.parquet", f"{model}, seed {seed}, has weights {str(own)[:8]}, evaluated were {other[:8]}"
                )

    def _summary(self) -> Iterator[Finding]:
        """The kept summary, against the scores."""
        from explanation_alignment.statistics.summary import summarise

        path = self._run.path / "summary.parquet"
        if not path.is_file():
            return
        kept, stamps = read_kept_summary(path)
        old = [slug for slug in self._slugs if stamps.get(slug) != self._run.stamp(slug)]
        if old:
            several = len({item["question"]["target"] for item in self._run.evaluations.values()}) > 1
            yield Finding(
                "summary.parquet",
                f"made from other scores than there are, of {len(old)} evaluations; first {old[0]}; "
                f"`ealign show` {'removes it: of several targets none is kept' if several else 'renews it'}",
            )
        if self._drawn is not None:
            return
        for slug in self._slugs:
            if slug in old or not part_paths(self._run.path / "scores" / slug):
                continue
            try:
                again = summarise(self._run.scan_scores([slug]), populations=self._run.populations)
            except (RunError, ValueError, pl.exceptions.PolarsError):
                continue  # what is wrong with its parts has been said
            wrong = _summary_difference(kept.filter(slug=slug).drop("slug"), again)
            if wrong:
                yield Finding("summary.parquet", f"{slug}: {wrong}")


def _problem(path: Path, owed: Mapping[int, int], identity: str) -> str:
    """What a part's name, stamp and length say against it; empty for nothing."""
    try:
        return read_part(path).problem(owed, identity)
    except RunError as error:
        return str(error).removeprefix(f"{path}: ")


def _rows(paths: Sequence[Path]) -> tuple[pl.DataFrame | None, list[tuple[Path, str]]]:
    """All rows of parts, words as String, with the file in ``_file``; and the parts that cannot be read or joined."""
    tables: list[pl.DataFrame] = []
    unreadable: list[tuple[Path, str]] = []
    for path in paths:
        try:
            table = pl.read_parquet(path, glob=False).with_columns(pl.lit(str(path)).alias("_file"))
        except (OSError, pl.exceptions.PolarsError) as error:
            unreadable.append((path, f"cannot be read ({first_line(error)})"))
            continue
        table = table.with_columns(pl.col(pl.Categorical).cast(pl.String))
        if tables and table.schema != tables[0].schema:
            others = {*table.schema.items()} ^ {*tables[0].schema.items()}
            names = ", ".join(sorted({name for name, _ in others}))
            unreadable.append((path, f"its columns are not those of the parts before it: {names}"))
            continue
        tables.append(table)
    return (pl.concat(tables) if tables else None), unreadable


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{word} {counts[word]}" for word in sorted(counts)) or "none"


def _summary_difference(kept: pl.DataFrame, again: pl.DataFrame) -> str:
    """How a kept summary differs from the same made anew; empty where it does not."""
    names = SUMMARY_SCHEMA.names()
    key, numbers = names[: names.index("ea")], names[names.index("ea") :]
    kept, again = kept.sort(key), again.sort(key)
    if not kept.select(key).equals(again.select(key)):
        return f"{kept.height} rows, the scores make {again.height}, or other groups"
    for name in numbers:
        one, other = kept[name], again[name]
        if one.dtype == pl.Float64:
            differ = (one - other).abs() > _SUMMARY_TOLERANCE * (1 + other.abs())
            differ = differ.fill_null(False) | (one.is_null() != other.is_null())
        else:
            differ = one.ne_missing(other)
        place = differ.arg_max() if differ.any() else None
        if place is not None:
            row = again.row(place, named=True)
            return (
                f"{name} of {row['method']}, {row['region']}, {row['metric']} is {one[place]}, expected {other[place]}"
            )
    return ""
