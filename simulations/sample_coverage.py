"""How often the interval of a class-balanced sample holds the mean of all images of the dataset, by design.

Every design is one dataset whose images' scores, correctness and annotations are fixed; samples differ by their seed.
Beside the estimate for the whole dataset stands the sample's plain mean with the interval of images drawn from an
endless supply, which is what rows without the dataset's class counts get.

    python simulations/sample_coverage.py [--repetitions 300]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import polars as pl

from explanation_alignment.sampling import sample_order
from explanation_alignment.statistics import summarise

UNEQUAL = tuple(int(size) for size in np.random.default_rng(1).integers(10, 400, 30))


@dataclass(frozen=True)
class Design:
    """Classes of these sizes, a sample of so many images, class means that far apart."""

    sizes: tuple[int, ...]
    sample: int
    between: float
    undefined: float = 0.0
    hits: bool = False


DESIGNS = (
    Design((100,) * 20, 200, 0.0),
    Design((100,) * 20, 200, 0.2),
    Design((100,) * 20, 1000, 0.2),
    Design((50,) * 100, 100, 0.2),
    Design((50,) * 100, 50, 0.2),
    Design(UNEQUAL, 20, 0.2),
    Design(UNEQUAL, 45, 0.2),
    Design(UNEQUAL, 150, 0.2),
    Design(UNEQUAL, 300, 0.2, undefined=0.2),
    Design(UNEQUAL, 300, 0.2, hits=True),
    Design((100,) * 4, 40, 0.2, hits=True),
    Design((20,) * 10, 20, 0.2, hits=True),
)


class Images:
    """A dataset of which only ids and labels are asked."""

    name = "d"

    def __init__(self, labels: list[int]) -> None:
        self._labels = labels

    def ids(self) -> list[str]:
        return [f"i{place:06d}" for place in range(len(self))]

    def labels(self) -> list[int]:
        return self._labels

    def __len__(self) -> int:
        return len(self._labels)


def line(design: Design, repetitions: int) -> str:
    rng = np.random.default_rng(0)
    sizes = np.array(design.sizes)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    means = np.clip(0.4 + design.between * rng.standard_normal(len(sizes)), 0.08, 0.92)
    if len(set(design.sizes)) > 1:  # larger classes score higher: the plain mean of a balanced sample misses that
        means = np.sort(means)[np.argsort(np.argsort(sizes, kind="stable"))]
    mean = means[labels]
    scores = rng.beta(4 * mean, 4 * (1 - mean))
    if design.hits:
        scores = (rng.random(len(labels)) < mean).astype(np.float64)
    defined = rng.random(len(labels)) >= design.undefined
    truth = scores[defined].mean()
    images, name = Images(labels.tolist()), "pointing_game" if design.hits else "iou_coverage"
    ids = np.array(images.ids())
    populations = {("m", 0, "d", "predicted"): [*design.sizes, 0]}
    tables = []
    for seed in range(repetitions):
        at = np.array(sample_order(images, images.ids(), design.sample, seed))  # type: ignore[arg-type]
        rows = pl.DataFrame(
            {"sample_id": ids[at], "label": labels[at], name: np.where(defined[at], scores[at], np.nan)}
        )
        rows = rows.with_columns(
            pl.col(name).fill_nan(None),
            pl.lit("m").alias("model"),
            pl.lit(0).alias("seed"),
            pl.lit("d").alias("dataset"),
            pl.lit("predicted").alias("target"),
            *(pl.lit("x").alias(column) for column in ("method", "binarization", "region")),
            pl.lit(True).alias("correct"),
            pl.lit("ok").alias("status"),
            *(pl.lit(4).alias(column) for column in ("annotation_area", "salient_area", "map_height", "map_width")),
        )
        for kind, known in (("whole", populations), ("plain", None)):
            tables.append(summarise(rows, populations=known).with_columns(kind=pl.lit(kind)))
    table = pl.concat(tables).with_columns(
        held=(pl.col("ci_low") <= truth) & (pl.col("ci_high") >= truth), width=pl.col("ci_high") - pl.col("ci_low")
    )
    told = [f"{len(sizes)} classes of {sizes.min()} to {sizes.max()}, {len(labels)} images, sample {design.sample}"]
    told += [f"undefined {design.undefined}"] * (design.undefined > 0) + ["hits"] * design.hits
    words = f"{', '.join(told)}, between {design.between}:"
    for kind in ("whole", "plain"):
        part = table.filter(kind=kind)
        words += f"  {kind} held {part['held'].mean():.3f} width {part['width'].mean():.4f}"
        words += f" off by {part['ea'].mean() - truth:+.4f}"
    return f"{words}; unreliable {table.filter(kind='whole')['unreliable'].mean():.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=300)
    repetitions = parser.parse_args().repetitions
    for design in DESIGNS:
        print(line(design, repetitions), flush=True)


if __name__ == "__main__":
    main()
