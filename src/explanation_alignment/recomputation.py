"""Computes some of a run's decisions anew and compares them with what it holds.

Classifier and dataset are rebuilt from what the run records of them; each must have the digest that was recorded, or it
is not used.
"""

from __future__ import annotations

import collections
import random
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
from scipy.stats import binom

from explanation_alignment.errors import ExplanationAlignmentError, RunError, first_line
from explanation_alignment.runs.identity import describe_difference
from explanation_alignment.runs.parts import has_scores
from explanation_alignment.runs.reader import Run
from explanation_alignment.runs.verification import Finding
from explanation_alignment.specs import format_call, parse_call

if TYPE_CHECKING:
    from explanation_alignment.classifiers.classifier import Classifier
    from explanation_alignment.sample import AnnotatedDataset

__all__ = ["MOVED_RATE", "Recomputed", "evaluate_again", "recompute_decisions"]

#: The share of rows that floating point may move where batches or devices differ: at most one in 2,000.
MOVED_RATE: Final = 1 / 2000
#: More moved rows than so rarely come about at that rate are wrong.
_IMPROBABLE: Final = 1e-3
#: How far real numbers may lie apart through rounding alone.
_ROUNDING: Final = 1e-4
#: How many salient pixels a threshold that rounding moved may take in or leave out.
_PIXELS: Final = 2
_KEY: Final = ("sample_id", "method", "binarization", "region")
#: What a dataset's name in tables ends with where another dataset was made of it.
_SHUFFLED, _POSITIVES = "~shuffled", "~positives"


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What came of it.

    Args:
        decisions: how many decisions were computed anew.
        rows: how many rows these are.
        moved: rows that differ by no more than a threshold moved by rounding explains.
        different: a line for every row that differs by more: its evaluation and what differs.
        skipped: evaluation or method -> why it was not computed anew.
    """

    decisions: int = 0
    rows: int = 0
    moved: int = 0
    different: tuple[tuple[str, str], ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    def findings(self) -> Iterator[Finding]:
        """The same as findings: serious where rows differ, or nothing could be computed."""
        for place, words in self.different:
            yield Finding(place, words)
        if self.moved:
            improbable = binom.sf(self.moved - 1, self.rows, MOVED_RATE) < _IMPROBABLE
            words = f"{self.moved} of {self.rows} rows computed anew moved by a pixel; at most one in 2,000 may"
            yield Finding("scores", words, serious=bool(improbable))
        for place, reason in self.skipped.items():
            yield Finding(place, f"not computed anew: {reason}", serious=self.decisions == 0)


def recompute_decisions(
    run: Run,
    decisions: int,
    *,
    models: Sequence[str] | None = None,
    seed: int = 0,
    data_dir: str | Path | None = None,
    datasets: Sequence[str | AnnotatedDataset] = (),
    classifiers: Mapping[str, Classifier] | None = None,
    weights: str | None = None,
    device: str | None = None,
) -> Recomputed:
    """Compute seeded random decisions of a run anew, by the same loop, and compare their rows.

    Labels, predictions, statuses, annotated areas and attributes must be the same, real numbers up to 1e-4; a row whose
    salient area is up to two pixels off, with scores that this explains, has moved. Outcomes of exchanges are not
    compared: their partners are drawn from the whole dataset. What cannot be rebuilt is skipped with its reason: maps
    made elsewhere, methods from somebody's own file, classifiers and datasets whose digest is not the recorded one.

    Args:
        run: the run; it is only read.
        decisions: how many to draw, over all evaluations that have rows.
        models: only those of these.
        seed: decides which.
        data_dir: folder with the dataset's files.
        datasets: datasets, or names with arguments as for :func:`~explanation_alignment.load_dataset`; tried before
            what the run's command named.
        classifiers: model's name -> classifier, in place of building it.
        weights: as for :func:`~explanation_alignment.load_classifier`, tried before what the run tells.
        device: to compute on; ``"auto"`` by default.
    """
    known = dict(classifiers or {})
    skipped: dict[str, str] = {}
    drawn = _draw(run, decisions, models, seed, skipped)
    different: list[tuple[str, str]] = []
    counts: collections.Counter[str] = collections.Counter()
    sources = _Datasets(run, data_dir, datasets)
    for slug, ids in drawn.items():
        item = run.evaluations[slug]
        try:
            with run.reading():
                old = run.scan_scores([slug]).filter(pl.col("sample_id").is_in(ids)).collect()
            _check_source(item)
            methods = _methods(item, slug, skipped)
            dataset = sources.of(item["question"])
            model = item["question"]["model"]
            classifier = known[model] if model in known else _classifier(run, item, weights, device)
            _check_weights(classifier, item["question"])
            with tempfile.TemporaryDirectory(prefix="ealign-verify-") as folder:
                again = _evaluated(classifier, dataset, item, ids, methods, folder).scores()
            new = again.with_columns(pl.col(pl.Categorical).cast(pl.String))
        except _UnknownError as error:
            skipped[slug] = str(error)
            continue
        except ExplanationAlignmentError as error:
            skipped[slug] = first_line(error)
            continue
        old = old.with_columns(pl.col(pl.Categorical).cast(pl.String))
        pairs = [(method["method"], method["binarization"]) for method in item["methods"]]
        asked = [pair for pair in pairs if f"{slug}, {pair[0]}" not in skipped]
        old = old.filter(pl.any_horizontal((pl.col("method") == m) & (pl.col("binarization") == b) for m, b in asked))
        counts["decisions"] += len(ids)
        counts["rows"] += old.height
        for row, words in _differences(old, new):
            if words is None:
                counts["moved"] += 1
            else:
                place = ", ".join(str(value) for value in row)
                different.append((f"scores/{slug}", f"computed anew, {place}: {words}"))
    return Recomputed(counts["decisions"], counts["rows"], counts["moved"], tuple(different), skipped)


def evaluate_again(
    run: Run,
    slug: str,
    ids: Sequence[str],
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    datasets: Sequence[str] = (),
    device: str | None = None,
    run_code: bool = True,
) -> Run:
    """Compute decisions of an evaluation anew, asked the same, into a run of their own.

    Args:
        run: the run; it is only read.
        slug: the evaluation.
        ids: of the samples.
        out: folder of the new run.
        data_dir: folder with the dataset's files, where the run does not tell it.
        datasets: names with arguments, tried before what the run's command named.
        device: to compute on; ``"auto"`` by default.
        run_code: whether Python files that the run names (``file:...``) may be run.

    Returns:
        The new run, with all that can be asked by name of the evaluation's methods.

    Raises:
        RunError: classifier or dataset cannot be rebuilt as they were; the message says what is missing.
        ExplanationAlignmentError: whatever an evaluation can end with.
    """
    item = run.evaluations[slug]
    try:
        _check_source(item)
        methods = _methods(item, slug, {})
        dataset = _Datasets(run, data_dir, datasets, run_code=run_code).of(item["question"])
        classifier = _classifier(run, item, None, device, run_code=run_code)
        _check_weights(classifier, item["question"])
        return _evaluated(classifier, dataset, item, ids, methods, out)
    except _UnknownError as error:
        raise RunError(str(error)) from error


def _check_source(item: Mapping[str, Any]) -> None:
    if "covers" in item["question"]:
        raise _UnknownError("its maps were made elsewhere; `ealign score` again compares them")
    if any("maps" in method for method in item["methods"]):
        raise _UnknownError("it was scored from maps that another run kept; `ealign score` again compares them")


class _UnknownError(Exception):
    """Something that the run does not tell, or not as it was; the text says what to do."""


def _draw(
    run: Run, decisions: int, models: Sequence[str] | None, seed: int, skipped: dict[str, str]
) -> dict[str, list[str]]:
    """Evaluation -> ids of the samples to compute anew; every decision is as likely as any other.

    Evaluations whose rows cannot be read are noted in ``skipped``.
    """
    chosen = {
        slug: int(item["details"]["samples"])
        for slug, item in run.evaluations.items()
        if (models is None or item["question"]["model"] in models) and has_scores(run.path, slug)
    }
    total = sum(chosen.values())
    places = random.Random(seed).sample(range(total), min(decisions, total))
    drawn: dict[str, list[str]] = {}
    start = 0
    for slug, count in chosen.items():
        own = [place - start for place in places if start <= place < start + count]
        start += count
        if own:
            try:
                with run.reading():
                    ids = run.scan_scores([slug]).select(pl.col("sample_id").unique().sort()).collect()["sample_id"]
            except RunError as error:
                skipped[slug] = first_line(error)
                continue
            drawn[slug] = sorted({ids[place] for place in own if place < ids.len()})
    return {slug: ids for slug, ids in drawn.items() if ids}


def _methods(item: Mapping[str, Any], slug: str, skipped: dict[str, str]) -> list[str]:
    """The methods as they can be asked for again."""
    methods = []
    for method in item["methods"]:
        if "source" in method:
            skipped[f"{slug}, {method['method']}"] = "a method of somebody's own; only its digest is recorded"
            continue
        name, arguments = parse_call(method["method"], "saliency method")
        methods.append(format_call(name, {**arguments, "binarize": method["binarization"]}))
    if not methods:
        raise _UnknownError("none of its methods can be asked for by name")
    return methods


class _Datasets:
    """Finds the dataset that an evaluation was asked on, among what is given and what the run tells."""

    def __init__(
        self,
        run: Run,
        data_dir: str | Path | None,
        given: Sequence[str | AnnotatedDataset],
        *,
        run_code: bool = True,
    ) -> None:
        self._run, self._data_dir, self._given, self._run_code = run, data_dir, given, run_code
        self._found: dict[str, AnnotatedDataset] = {}

    def of(self, question: Mapping[str, Any]) -> AnnotatedDataset:
        """The dataset with the recorded fingerprint.

        Raises:
            _UnknownError: there is none; the message says what was tried.
        """
        wanted: str = question["dataset_fingerprint"]
        if wanted in self._found:
            return self._found[wanted]
        tried: list[str] = []
        seen: set[tuple[str, str]] = set()
        for one, folder in self._candidates(question["dataset"]):
            if isinstance(one, str):
                if (one, str(folder)) in seen:
                    continue
                seen.add((one, str(folder)))
            try:
                dataset = self._made(one, folder, question["dataset"])
                if self._fingerprint(dataset, question) == wanted:
                    self._found[wanted] = dataset
                    return dataset
                tried.append(f"{one if isinstance(one, str) else one.name} has another fingerprint")
            except ExplanationAlignmentError as error:
                tried.append(first_line(error))
        reasons = "; ".join(dict.fromkeys(tried)) or "the run does not tell how it was opened"
        raise _UnknownError(
            f"dataset {question['dataset']} ({wanted[:8]}) was not found: {reasons}; give --dataset with its arguments "
            "and --data-dir"
        )

    def _candidates(self, name: str) -> Iterator[tuple[str | AnnotatedDataset, str | Path | None]]:
        """What may be the dataset, each with the folder it was opened with, the likeliest first."""
        from explanation_alignment.datasets import DATASETS

        commands = [(one.get("--dataset"), one.get("--data-dir")) for one in _commands(self._run)]
        told = dict.fromkeys(folder for _, folder in commands if folder is not None)
        folders: Sequence[str | Path | None] = [self._data_dir] if self._data_dir is not None else [*told] or [None]
        for one in self._given:
            yield from ((one, folder) for folder in (folders if isinstance(one, str) else [None]))
        for spec, folder in commands:
            if spec is not None and (self._run_code or not spec.startswith("file:")):
                yield spec, folder if self._data_dir is None else self._data_dir
        bare = name.partition("~")[0]
        if bare in DATASETS:
            yield from ((bare, folder) for folder in folders)

    @staticmethod
    def _made(one: str | AnnotatedDataset, folder: str | Path | None, name: str) -> AnnotatedDataset:
        from explanation_alignment.datasets import load_dataset
        from explanation_alignment.datasets.shuffled import ShuffledAnnotations

        dataset = load_dataset(one, folder) if isinstance(one, str) else one
        shuffled = _SHUFFLED in name and _SHUFFLED not in dataset.name
        return ShuffledAnnotations(dataset) if shuffled else dataset

    @staticmethod
    def _fingerprint(dataset: AnnotatedDataset, question: Mapping[str, Any]) -> str:
        """As the run recorded it: with target ``positives`` it is the dataset of positives that was evaluated."""
        if question["target"] != "positives":
            return dataset.fingerprint
        from explanation_alignment.datasets.positives import PositiveLabels

        return PositiveLabels(dataset).fingerprint


def _commands(run: Run) -> Iterator[dict[str, str]]:
    """The options of the commands that made the run, or made it grow, the last value of each."""
    info = run.info
    told = [info, *info.get("merged", {}).get("sources", ()), *info.get("sessions", {}).values()]
    texts = dict.fromkeys(one["command"] for one in told if one.get("command"))
    for text in texts:
        try:
            words = shlex.split(text)
        except ValueError:
            continue
        options: dict[str, str] = {}
        for word, following in zip(words, [*words[1:], ""], strict=True):
            name, equals, value = word.partition("=")
            if name.startswith("--"):
                options[name] = value if equals else following
        yield options


def _classifier(
    run: Run, item: Mapping[str, Any], weights: str | None, device: str | None, *, run_code: bool = True
) -> Classifier:
    """The classifier of an evaluation, with the recorded weights.

    Raises:
        _UnknownError: it cannot be built, or not with these weights.
    """
    from explanation_alignment.classifiers.classifier import Preprocessing
    from explanation_alignment.classifiers.load import load_classifier
    from explanation_alignment.geometry import Geometry

    question = item["question"]
    row = run.models().filter(model=question["model"], seed=question["seed"])
    if row.is_empty():
        raise _UnknownError(f"models.parquet has no row for {question['model']}")
    spec: str = row["spec"][0]
    if spec.startswith("module:"):
        raise _UnknownError(
            f"{question['model']} was made in Python; give it to ea.verify(..., classifiers={{name: it}})"
        )
    if spec.startswith("file:") and not run_code:
        raise _UnknownError(f"{question['model']} is made by a Python file ({spec}), which is not run unasked")
    preprocessing = Preprocessing(
        tuple(question["input_size"]),
        Geometry(**question["geometry"]),
        tuple(question["mean"]),
        tuple(question["std"]),
    )
    tried: list[str] = []
    for one in _weights(run, question["model"], weights):
        for own in (None, preprocessing):  # its own first: giving it can make another network of some
            try:
                made = load_classifier(
                    spec,
                    one,
                    device,
                    question["model"],
                    preprocessing=own,
                    precision=question.get("precision", "fp32"),
                )
            except ExplanationAlignmentError as error:
                tried.append(first_line(error))
                break
            if made.weights_digest() == question["weights"]:
                if made.preprocessing != preprocessing:
                    made.preprocessing = preprocessing
                return made
        else:
            tried.append(f"weights {one} have another digest")
    raise _UnknownError(
        f"{question['model']} ({spec}) cannot be built with weights {question['weights'][:8]}: "
        f"{'; '.join(dict.fromkeys(tried))}; give --weights"
    )


def _weights(run: Run, model: str, given: str | None) -> Iterator[str]:
    """What may have been asked for as weights, the likeliest first; what may be fetched comes last."""
    if given is not None:
        yield given
    for command in _commands(run):
        if "--weights" in command:
            yield command["--weights"]
    tag = model.rpartition(".")[2]
    if tag.startswith("random-") and tag.removeprefix("random-").lstrip("-").isdecimal():
        yield f"random:{tag.removeprefix('random-')}"
    yield from map(str, sorted((run.path / "checkpoints").glob("*.safetensors")))
    yield from ("random", "default")


def _check_weights(classifier: Classifier, question: Mapping[str, Any]) -> None:
    if classifier.weights_digest() != question["weights"]:
        raise _UnknownError(f"the {question['model']} given has other weights than were evaluated")


def _evaluated(
    classifier: Classifier,
    dataset: AnnotatedDataset,
    item: Mapping[str, Any],
    ids: Sequence[str],
    methods: list[str],
    folder: str | Path,
) -> Run:
    """These samples, computed anew into a run in the folder."""
    from explanation_alignment.datasets.base import Subset
    from explanation_alignment.evaluation import evaluate

    question = item["question"]
    if question["target"] == "positives":  # a sample for each class of an image: the image is what can be chosen
        ids = list(dict.fromkeys(name.rpartition("#")[0] for name in ids))
    run = evaluate(
        classifier,
        Subset(dataset, ids),
        methods,
        folder,
        target=question["target"],
        output=question["output"],
        metrics=question["metrics"],
        batch_size=item["details"]["batch_size"],
        seed=question["seed"],
        max_errors=len(ids) + 1,
        progress=False,
    )
    (again,) = run.evaluations.values()
    left_out = ("dataset_fingerprint", "sample", "intervene")
    asked, recorded = (
        {name: value for name, value in one.items() if name not in left_out} for one in (again["question"], question)
    )
    if asked != recorded:
        raise _UnknownError(f"it cannot be asked the same again ({describe_difference(recorded, asked)})")
    return run


def _differences(old: pl.DataFrame, new: pl.DataFrame) -> Iterator[tuple[tuple[Any, ...], str | None]]:
    """Key of each row that differs, and how; None where a threshold moved by rounding explains it."""
    skip = {"exchange_flip", "elsewhere_flip", "model", "seed", "dataset", "target", *_KEY}
    columns = [name for name in old.columns if name in new.columns and name not in skip]
    both = old.join(new, on=list(_KEY), how="left", suffix="_new").sort(_KEY)
    for row in both.iter_rows(named=True):
        key = tuple(row[name] for name in _KEY)
        if row["map_height_new"] is None:
            yield key, "no such row was computed"
            continue
        far = [name for name in columns if _apart(row[name], row[f"{name}_new"])]
        if not far:
            continue
        hard = [name for name in far if not _may_move(old.schema[name], name)]
        if not hard and _moved(row, far):
            yield key, None
        else:
            name = (hard or far)[0]
            yield key, f"{name} is {_short(row[name])}, computed {_short(row[f'{name}_new'])}"


def _apart(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) > _ROUNDING
    return one != other


def _may_move(kind: pl.DataType, name: str) -> bool:
    """Whether rounding may move it: scores and salient areas may, what is said of image and decision may not."""
    return name == "salient_area" or (kind == pl.Float32 and name != "confidence")


def _moved(row: Mapping[str, Any], far: Sequence[str]) -> bool:
    """Whether all that lies apart is what a few salient pixels more or less come to."""
    one, other = row["salient_area"], row["salient_area_new"]
    if one is None or other is None or not 0 < abs(one - other) <= _PIXELS:
        return False
    least = max(1, min(one, other, row["annotation_area"] or 1))
    pairs = [(row[name], row[f"{name}_new"]) for name in far if name != "salient_area"]
    if any(a is None or b is None for a, b in pairs):
        return False
    return all(abs(a - b) <= 2 * _PIXELS / least for a, b in pairs)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
