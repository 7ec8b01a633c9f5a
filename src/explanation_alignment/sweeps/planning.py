"""What is to be done of a sweep, cut into tasks, and what came of them, recorded in the run."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from explanation_alignment.classifiers.expansion import ModelSpec
from explanation_alignment.errors import DatasetError
from explanation_alignment.evaluation import units
from explanation_alignment.evaluation.question import dataset_record, is_toy, parse_methods
from explanation_alignment.executors.base import Done
from explanation_alignment.runs.parts import has_scores
from explanation_alignment.runs.sharing import BusyError
from explanation_alignment.runs.writer import RunWriter
from explanation_alignment.saliency.base import Method
from explanation_alignment.sampling import sample_order
from explanation_alignment.sweeps.asking import Asked
from explanation_alignment.sweeps.doing import Task, reason_of
from explanation_alignment.sweeps.requests import is_finished, record_failure, record_request, request_digest
from explanation_alignment.sweeps.watching import SweepWatch, TogetherWatch

__all__ = ["Sweep", "shares"]

#: Tasks there are for each that can be done at once, at least: so that none waits long for the last.
_TASKS_A_SLOT = 2


class Sweep:
    """What is left to do of a sweep, and what came of it.

    Args:
        asked: what is asked of every classifier.
        chosen: the classifiers, each with its methods.
        apart: whether other processes do the tasks, for which the run is made before.

    Raises:
        UsageError: what is asked cannot mean anything, whatever the classifier.
        RunError: the run cannot be written, or is another kind of run.
    """

    def __init__(self, asked: Asked, chosen: Mapping[ModelSpec, Sequence[Method]], *, apart: bool) -> None:
        self._asked, self._chosen = asked, chosen
        self._requests = {model: parse_methods(methods) for model, methods in chosen.items()}
        self._shown = asked.shown()
        self._question = asked.question(self._shown)
        self._left: collections.Counter[ModelSpec] = collections.Counter()  # tasks that are not over
        self._failed: dict[ModelSpec, str] = {}
        self._put_off: collections.deque[Task] = collections.deque()  # others are at all that is left of these
        self._units = units.cut(sample_order(self._shown, self._shown.ids(), asked.sample, asked.seed), units.UNIT_SIZE)
        self.images = sum(len(places) for unit, places in self._units.items() if units.in_shard(unit, asked.shard))
        self._writer: RunWriter | None = None
        # a single one that fails leaves no folder
        if apart or len(chosen) > 1 or (asked.out / "run.json").is_file():
            self._writer = self._open()
            with self._writer.updating() as info:  # whose failures these are, if there will be nothing else
                record = dataset_record(self._shown, count_classes=asked.sample is not None)
                info["datasets"].setdefault(self._shown.name, record)

    def tasks(self, slots: int, watch: SweepWatch | TogetherWatch) -> Iterator[Task]:
        """What is to be done; a classifier that is finished when its turn comes is passed over.

        Args:
            slots: how many tasks can be done at once.
            watch: told what is passed over.
        """
        wanted = 1 if slots == 1 else -(-_TASKS_A_SLOT * slots // len(self._chosen))
        owned = [unit for unit in self._units if units.in_shard(unit, self._asked.shard)]
        for model, methods in self._chosen.items():
            if self._is_finished(model):
                self._note(model, None)
                watch.skip(str(model))
                continue
            parts = shares(self._asked.shard, max(1, min(wanted, len(owned))))
            self._left[model] = len(parts)
            for part in parts:
                yield Task(model, methods, part, wait=slots > 1 or len(self._chosen) == 1)
        while self._put_off:
            task = self._put_off.popleft()
            if self._is_finished(task.model):
                self._note(task.model, None)
                watch.skip(str(task))
            else:
                yield task

    def record(self, done: Done[Task], watch: SweepWatch | TogetherWatch) -> None:
        """Keep what came of a task; where there is one classifier alone, or none could go on, its error is raised."""
        model = done.task.model
        if isinstance(done.error, BusyError) and not done.task.wait and isinstance(watch, SweepWatch):
            self._put_off.append(replace(done.task, wait=True))
            watch.put_off(str(model))
            return
        self._left[model] -= 1
        if done.error is not None:
            if len(self._chosen) == 1 or isinstance(done.error, DatasetError):
                begun = (self._asked.out / "run.json").is_file() and not has_scores(self._asked.out)
                if len(self._chosen) == 1 and begun:  # for who looks at what is there
                    self._writer = self._writer or self._open()
                    self._note(model, reason_of(done.error))
                raise done.error
            if os.environ.get("EALIGN_DEBUG"):
                watch.note(done.trace)
            self._failed.setdefault(model, reason_of(done.error))
        else:
            self._writer = self._writer or self._open()
            self._keep_request(model, done.value)
        if self._left[model]:
            return
        reason = self._failed.get(model)
        self._note(model, reason)
        watch.end(str(model), reason or "", failed=reason is not None)

    def _keep_request(self, model: ModelSpec, name: str | None) -> None:
        """Note which request the evaluations of a classifier answer, by its name in the tables."""
        request = request_digest(model, self._question)
        if request is not None:
            key = {"model": name, "seed": self._asked.seed, "dataset": self._shown.name, "target": self._asked.target}
            record_request(self._known(), request, key)

    def _open(self) -> RunWriter:
        return RunWriter(self._asked.out, experiment=self._asked.experiment, toy=is_toy(self._asked.dataset))

    def _known(self) -> RunWriter:
        assert self._writer is not None, "a run is made before anything is recorded in it"
        return self._writer

    def _is_finished(self, model: ModelSpec) -> bool:
        request = request_digest(model, self._question)
        if self._writer is None or request is None:
            return False
        regions = len(self._asked.dataset.regions)
        asked = self._asked
        return is_finished(self._writer, request, self._requests[model], regions, asked.shard, asked.save_maps)

    def _note(self, model: ModelSpec, reason: str | None) -> None:
        """Keep why a classifier failed, or forget that it ever did."""
        record_failure(self._known(), model, self._shown.name, reason)


def shares(shard: str | None, parts: int) -> list[str | None]:
    """A shard, or everything, cut into so many shards that have no unit in common and all of its units together.

    Example:
        >>> shares("2/3", 2)
        ['2/6', '5/6']
    """
    if parts == 1:
        return [shard]
    place, _, count = (shard or "1/1").partition("/")
    return [f"{int(place) + int(count) * part}/{int(count) * parts}" for part in range(parts)]
