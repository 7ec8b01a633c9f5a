"""Where a run's numbers come from, in order: what was asked, of what, by which command, with what, when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from explanation_alignment.runs.compaction import finish_line
from explanation_alignment.runs.manifest import Manifest
from explanation_alignment.runs.parts import owed_rows, part_paths
from explanation_alignment.runs.reader import Run, open_run

__all__ = ["Provenance", "provenance"]

_SCHEMA: Final[dict[str, Any]] = {
    "evaluation": pl.String,
    "model": pl.String,
    "seed": pl.Int64,
    "dataset": pl.String,
    "target": pl.String,
    "samples": pl.Int64,
    "units": pl.Int64,
    "units_owed": pl.Int64,
    "started": pl.String,
    "finished": pl.String,
    "seconds": pl.Int64,
    "batch_size": pl.Int64,
    "device": pl.String,
    "statuses": pl.String,
    "weights": pl.String,
    "work_seconds": pl.Float64,
    "batch_sizes": pl.List(pl.Int64()),
    "peak_memory": pl.Int64,
    "peak_gpu_memory": pl.Int64,
}


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a run tells of itself; every table is for people and machines alike.

    Args:
        made: name -> text: when, by which command, of which experiment, with which versions, on what.
        toy: whether the data is generated.
        datasets: name, fingerprint, samples, classes, regions, evidence (String but for the counts).
        asked: what all evaluations were asked alike, name -> text, and what they differ in with every value there is.
        evaluations: a row an evaluation: key, samples, units there and owed, started, finished, seconds (0 of a run
            that took less than one; null while unfinished), batch size asked for, device, rows by status, weights
            digest; seconds of work on its units by all who worked, batch sizes used, and the most memory a process held
            and a GPU's, in bytes.
        sources: the runs a merged one was made of: run, created, command and what differs between their machines.
        sessions: the processes that wrote it where there were several, in the order they began: began, command, commit,
            and what differs from the first one's versions and machine.
        notes: what a merge left out.
        failures: model -> why it could not be evaluated.
    """

    made: Mapping[str, str]
    toy: bool
    datasets: pl.DataFrame
    asked: Mapping[str, str]
    evaluations: pl.DataFrame
    sources: tuple[Mapping[str, str], ...]
    sessions: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]
    failures: Mapping[str, str]


def provenance(run: Run | str | Path) -> Provenance:
    """Where a run's numbers come from.

    Args:
        run: the run or its folder.

    Raises:
        RunError: it is no run.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    info = opened.info
    merged = info.get("merged", {})
    return Provenance(
        made=_made(info),
        toy=bool(info["toy"]),
        datasets=pl.DataFrame(
            [
                {
                    "dataset": name,
                    "fingerprint": record["fingerprint"],
                    "samples": record["samples"],
                    "classes": len(record["class_names"]),
                    "regions": ", ".join(record["regions"]),
                    "evidence": ", ".join(record["evidence"]),
                }
                for name, record in info["datasets"].items()
            ],
            infer_schema_length=None,
        ),
        asked=dict(_asked(opened)),
        evaluations=pl.DataFrame(
            [_evaluation(opened, slug, item) for slug, item in opened.evaluations.items()], schema=_SCHEMA
        ),
        sources=tuple(
            {"run": one["run"], "evaluations": str(len(one["evaluations"])), **_made(one)}
            for one in merged.get("sources", ())
        ),
        sessions=tuple(_sessions(info)),
        notes=tuple(merged.get("notes", ())),
        failures={model: str(reason) for model, reason in info.get("failures", {}).items()},
    )


def _made(info: Mapping[str, Any]) -> dict[str, str]:
    experiment = info["experiment"]
    commit = next((one.get("commit") for one in info.get("sessions", {}).values()), None)
    packages = [f"{name} {version or 'unknown'}" for name, version in info["versions"].items()]
    hardware = info["hardware"]
    gpus = hardware.get("gpus") or "none"
    texts = {
        "made": info["created"],
        "by": info["command"],
        "experiment": None if experiment is None else ", ".join([experiment["name"], *_settings(experiment)]),
        "with": ", ".join(packages),
        "commit": commit,
        "on": f"{hardware.get('system')}, {hardware.get('cpus')} CPUs, {hardware.get('threads')} threads, GPUs: "
        + (", ".join(gpus) if isinstance(gpus, list) else str(gpus)),
    }
    return {name: text for name, text in texts.items() if text is not None}


def _sessions(info: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    sessions = sorted(info.get("sessions", {}).values(), key=lambda one: str(one["began"]))
    if len(sessions) < 2:
        return
    first = sessions[0]
    for one in sessions:
        told = {"began": one["began"], "by": one["command"]}
        if one.get("commit"):
            told["commit"] = one["commit"]
        for kind in ("versions", "hardware"):
            changed = [f"{name} {_text(value)}" for name, value in one[kind].items() if first[kind].get(name) != value]
            if changed:
                told[kind] = ", ".join(changed)
        yield told


def _settings(experiment: Mapping[str, Any]) -> Iterator[str]:
    def told(settings: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name, value in settings.items():
            if isinstance(value, Mapping):
                yield from told(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name} {_text(value)}"

    yield from told(experiment.get("settings", {}), "")


def _asked(run: Run) -> Iterator[tuple[str, str]]:
    """Everything that changes numbers, with all values it takes in the run; the key stands with the evaluations."""
    items = list(run.evaluations.values())
    questions = [item["question"] for item in items]
    yield "models", _distinct(question["model"] for question in questions)
    yield "datasets", _distinct(question["dataset"] for question in questions)
    yield (
        "methods",
        _distinct(
            f"{method['method']} ({method['binarization']}"
            + (f", layer {method['layer']}" if len(items) == 1 and method.get("layer") else "")
            + ")"
            for item in items
            for method in item["methods"]
        ),
    )
    yield "metrics", _distinct(metric for question in questions for metric in question["metrics"])
    yield "target", _distinct(question["target"] for question in questions)
    outputs = _distinct(question["output"] for question in questions if "output" in question)
    if outputs:
        yield "output", outputs
    maps = _distinct(method["maps"] for item in items for method in item["methods"] if "maps" in method)
    if maps:
        yield "maps", maps
    samples = (question["sample"] for question in questions)
    yield "sample", _distinct("all images" if sample is None else f"{sample} images" for sample in samples)
    yield "seed", _distinct(str(question["seed"]) for question in questions)
    told = {"model", "weights", "dataset", "dataset_fingerprint", "input_size", "geometry", "mean", "std"}
    told |= {"metrics", "target", "output", "sample", "seed"}
    inputs = [
        f"{'x'.join(map(str, question['input_size']))}, {_geometry(question['geometry'])}"
        for question in questions
        if "input_size" in question
    ]
    if inputs:
        yield "input", _distinct(inputs)
    for name in dict.fromkeys(name for question in questions for name in question if name not in told):
        yield name.replace("_", " "), _distinct(_text(question.get(name, "no")) for question in questions)


def _geometry(geometry: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in geometry.items() if value is not None)


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return "x".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text[:16] if re.fullmatch("[0-9a-f]{64}", text) else text


def _distinct(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _evaluation(run: Run, slug: str, item: Mapping[str, Any]) -> dict[str, Any]:
    question, details = item["question"], item["details"]
    regions = len(run.info["datasets"].get(question["dataset"], {}).get("regions", ()))
    finished = item["finished"]
    counts = item["status_counts"] or {}
    slug_lines = Manifest.of(run.path, slug).lines()
    work = item.get("work") or finish_line([lines[-1] for lines in slug_lines.values()])
    return {
        "evaluation": slug,
        **{name: question[name] for name in ("model", "seed", "dataset", "target", "weights")},
        "samples": details["samples"],
        "units": len(part_paths(run.path / "scores" / slug)),
        "units_owed": len(owed_rows(item, regions)),
        "started": item["started"],
        "finished": finished,
        "seconds": None if finished is None else _seconds(item["started"], finished),
        "batch_size": details.get("batch_size"),
        "device": details.get("device"),
        "statuses": ", ".join(f"{word} {count:,}" for word, count in counts.items()) or None,
        "work_seconds": work.get("seconds"),
        "batch_sizes": work.get("batch_sizes"),
        "peak_memory": work.get("peak_rss"),
        "peak_gpu_memory": work.get("peak_cuda"),
    }


def _seconds(start: str, end: str) -> int | None:
    """None where the clock was set back meanwhile."""
    seconds = round((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())
    return seconds if seconds >= 0 else None
