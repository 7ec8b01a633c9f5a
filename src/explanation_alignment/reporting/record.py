"""What a run's record tells on the page: what was asked and of what, warnings, how to reproduce and to cite it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from explanation_alignment.reporting.cells import shown_as
from explanation_alignment.reporting.content import Table

__all__ = ["CITATION", "facts", "fingerprints", "known", "settings", "software", "warnings"]

#: The study that explanation alignment comes from.
CITATION: Final = (
    "H. Bang, A. Boggust, A. Satyanarayan: Explanation Alignment: Quantifying the Correctness of Model Reasoning At "
    "Scale. eXCV workshop at ECCV 2024."
)

#: Names of one kind a line has room for.
_NAMED: Final = 12
#: Models whose weights are listed.
_WEIGHTS: Final = 250


def facts(info: Mapping[str, Any], words: Mapping[str, str]) -> list[tuple[str, str]]:
    """What was asked and of what, as pairs of a word and its text; what the record lacks is left out."""
    evaluations = list((info.get("evaluations") or {}).values())
    questions = [e.get("question") or {} for e in evaluations]
    datasets = info.get("datasets") or {}
    experiment = info.get("experiment") or {}
    pairs = [
        ("Experiment", str(experiment.get("name") or "")),
        ("Models", _listed(shown_as(q["model"], words) for q in questions if "model" in q)),
        ("Data", _listed(_dataset_fact(str(n), d, words) for n, d in datasets.items())),
        ("Evidence", _listed(r for d in datasets.values() for r in d.get("evidence") or ())),
        ("Methods", _listed(_method_fact(m, words) for e in evaluations for m in e.get("methods") or ())),
        ("Explained", _listed(f"{q['target']} class" for q in questions if "target" in q)),
        ("Sample", _listed(f"{q['sample']:,} images" for q in questions if isinstance(q.get("sample"), int))),
        ("Seeds", _listed(str(q["seed"]) for q in questions if "seed" in q)),
        ("Score rows", _status_fact(evaluations)),
        ("Made", str(info.get("created") or "").replace("T", " ").replace("+00:00", " UTC")),
    ]
    return [(name, text) for name, text in pairs if text]


def warnings(info: Mapping[str, Any]) -> list[str]:
    """What a reader must know before any number: what is unfinished, and what failed."""
    told = []
    unfinished = [e for e in (info.get("evaluations") or {}).values() if "finished" in e and e["finished"] is None]
    if unfinished:
        named = _listed(f"{e['question'].get('model')} on {e['question'].get('dataset')}" for e in unfinished)
        told.append(f"Not finished: {named}. The numbers below cover what was done; the same command again goes on.")
    failures = info.get("failures") or {}
    if failures:
        told.append(f"Failed and not among the numbers below: {_listed(map(str, failures))}.")
    return told


def known(values: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The pairs that hold something."""
    return [(str(k), _plain(v)) for k, v in (values or {}).items() if v not in (None, [], "")]


def settings(info: Mapping[str, Any]) -> str | None:
    """The experiment's settings as JSON."""
    experiment = info.get("experiment")
    return json.dumps(experiment, indent=2, ensure_ascii=False, default=str) if experiment else None


def software(info: Mapping[str, Any]) -> str:
    """This software and the run, as a reference."""
    version = (info.get("versions") or {}).get("explanation-alignment")
    made = str(info.get("created") or "").partition("T")[0]
    parts = ["explanation-alignment" + (f" {version}" if version else ""), *([f"run of {made}"] if made else [])]
    return f"{', '.join(parts)}."


def fingerprints(info: Mapping[str, Any]) -> list[Table]:
    """The digests that tell whether two runs were of the same images and weights."""
    datasets = [
        [name, record.get("samples"), str(record["fingerprint"])[:16]]
        for name, record in (info.get("datasets") or {}).items()
        if record.get("fingerprint")
    ]
    questions = [item.get("question") or {} for item in (info.get("evaluations") or {}).values()]
    weights = {(q["model"], q.get("seed"), str(q["weights"])[:16]): None for q in questions if q.get("weights")}
    rows = list(weights)[:_WEIGHTS]
    note = f"The first {_WEIGHTS} of {len(weights)}." if len(weights) > _WEIGHTS else None
    tables = []
    if datasets:
        tables.append(Table(["Data", "Images", "Fingerprint"], datasets, "Data: which images, labels and annotations"))
    if rows:
        tables.append(Table(["Model", "Seed", "Digest"], rows, "Models: which weights", note))
    return tables


def _listed(items: Iterable[str]) -> str:
    """Each once, as many as there is room for."""
    distinct = list(dict.fromkeys(items))
    more = len(distinct) - _NAMED
    return ", ".join(distinct[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _dataset_fact(name: str, record: Mapping[str, Any], words: Mapping[str, str]) -> str:
    size = next((record[k] for k in ("n", "size", "samples", "length") if isinstance(record.get(k), int)), None)
    return shown_as(name, words) + ("" if size is None else f" ({size:,} images)")


def _method_fact(method: Mapping[str, Any], words: Mapping[str, str]) -> str:
    binarization = method.get("binarization")
    return shown_as(method.get("method"), words) + (f" ({binarization})" if binarization else "")


def _status_fact(evaluations: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for evaluation in evaluations:
        for status, n in (evaluation.get("status_counts") or {}).items():
            counts[status] = counts.get(status, 0) + n
    return ", ".join(f"{n:,} {status.replace('_', ' ')}" for status, n in counts.items() if n)


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
