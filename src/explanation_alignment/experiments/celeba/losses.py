"""What a classifier's answers cost: the cross-entropy of the right label, image by image, beside a run's scores."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from explanation_alignment.runs.files import write_frame

if TYPE_CHECKING:
    from explanation_alignment.classifiers.classifier import Classifier
    from explanation_alignment.experiments.celeba.draws import GroupedFaces
    from explanation_alignment.runs.reader import Run

__all__ = ["LOSS_SCHEMA", "read_losses", "write_losses"]

#: Columns of a table of losses.
LOSS_SCHEMA: Final = pl.Schema(
    {
        "model": pl.String,
        "seed": pl.Int64,
        "dataset": pl.String,
        "sample_id": pl.String,
        "group": pl.String,
        "loss": pl.Float64,
    }
)
_KEY: Final = "explanation_alignment.losses"


def write_losses(
    classifier: Classifier, dataset: GroupedFaces, out: str | Path, *, seed: int, batch_size: int, workers: int = 0
) -> None:
    """Write ``out/losses/<model>--<dataset>--seed<N>.parquet``, unless it is there for these weights and images.

    Args:
        classifier: whose answers.
        dataset: the images, with their labels; one that cannot be read has no row.
        out: the run folder.
        seed: part of every row's key.
        batch_size: images at once.
        workers: processes that decode ahead.

    Raises:
        RunError: the file cannot be written.
    """
    import torch
    from torch.nn import functional as F

    from explanation_alignment.batches import iterate_batches

    name = re.sub(r"[^\w.-]+", "_", f"{classifier.name}--{dataset.name}--seed{seed}")
    path = Path(out) / "losses" / f"{name}.parquet"
    stamp = json.dumps([classifier.weights_digest(), dataset.fingerprint])
    if _stamp(path) == stamp:
        return
    ids: list[str] = []
    losses: list[torch.Tensor] = []
    places = list(range(len(dataset)))
    batches = [places[start : start + batch_size] for start in range(0, len(places), batch_size)]
    read = iterate_batches(dataset, dataset.ids(), batches, classifier.preprocessing, workers=workers)
    with classifier.explaining(), torch.no_grad():
        for batch in read:
            known = [place for place in range(len(batch.ids)) if place not in batch.errors]
            if not known:
                continue
            images = classifier.preprocessing.normalise(batch.images[known].to(classifier.device))
            labels = batch.labels[known].to(classifier.device)
            losses.append(F.cross_entropy(classifier.logits(images).float(), labels, reduction="none").cpu())
            ids += [batch.ids[place] for place in known]
    group_of = dict(zip(dataset.ids(), dataset.groups, strict=True))
    table = pl.DataFrame(
        {
            "model": [classifier.name] * len(ids),
            "seed": [seed] * len(ids),
            "dataset": [dataset.name] * len(ids),
            "sample_id": ids,
            "group": [group_of[name] for name in ids],
            "loss": torch.cat(losses).double().tolist() if losses else [],
        },
        schema=LOSS_SCHEMA,
    )
    write_frame(path, table, {_KEY: stamp})


def read_losses(run: Run) -> pl.DataFrame:
    """All losses of a run, with the columns of ``LOSS_SCHEMA``; empty where it has none."""
    tables = [pl.read_parquet(path, glob=False) for path in sorted((run.path / "losses").glob("*.parquet"))]
    return pl.concat(tables) if tables else pl.DataFrame(schema=LOSS_SCHEMA)


def _stamp(path: Path) -> str | None:
    """What a kept table was made of; None where there is none that can be read."""
    try:
        return pl.read_parquet_metadata(path).get(_KEY)
    except (OSError, pl.exceptions.PolarsError):
        return None
