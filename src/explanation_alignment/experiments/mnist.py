"""Coloured MNIST: which of two models learned the digit, and which the coloured block?

Source: Bang, Boggust, Satyanarayan (eXCV 2024), experiment 1. One network is trained on images whose
block has the class's colour, one on images whose block has any colour; both are explained on both
kinds of test images. An uncorrelated test set is one permutation of the class colours without fixed
points; what the correlated model does there depends on the permutation, so there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from explanation_alignment.errors import UsageError
from explanation_alignment.reporting.figures import ea_bars, example_grid
from explanation_alignment.reporting.html import Section, Table
from explanation_alignment.reporting.presentation import Illustration, Presentation
from explanation_alignment.reporting.text import interval, number
from explanation_alignment.statistics.relying.region_reliance import reliance
from explanation_alignment.statistics.relying.words import rule, sentences

if TYPE_CHECKING:
    import torch

    from explanation_alignment.datasets.colored_mnist import InkImages
    from explanation_alignment.runs.reader import Run

__all__ = [
    "DEMO",
    "METHODS",
    "MODELS",
    "REPORTED",
    "Protocol",
    "Reported",
    "present",
    "results",
    "run_experiment",
    "tabulate",
    "training_batches",
]

#: The two models, by the data they are trained on.
MODELS: Final = ("uncorrelated", "correlated")
METHODS: Final = ("vanilla_gradients", "gradcam")


@dataclass(frozen=True, slots=True)
class Protocol:
    """Every number of the experiment; the defaults are the published protocol.

    Args:
        epochs: passes over the training images.
        batch_size: training images a step.
        learning_rate: of SGD in the first epoch.
        momentum: of SGD.
        decay: factor on the learning rate after each epoch.
        permutations: uncorrelated test sets.

    Raises:
        UsageError: for a number out of range.
    """

    epochs: int = 4
    batch_size: int = 64
    learning_rate: float = 0.01
    momentum: float = 0.5
    decay: float = 0.7
    permutations: int = 5

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "permutations"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "decay"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum: expected 0 up to below 1, got {self.momentum}")


#: For the 1,297 small training digits of the demo, which need more passes and larger steps.
DEMO: Final = Protocol(epochs=24, batch_size=32, learning_rate=0.03, momentum=0.9, decay=0.93)


@dataclass(frozen=True, slots=True)
class Reported:
    """What the study's notebook printed for one model, kind of test data and region (vanilla gradients)."""

    accuracy: float
    iou_coverage: float
    pointing_game: float


#: (model, kind of test data, region) -> the reported numbers; single runs vary (docs/experiments.md).
REPORTED: Final[Mapping[tuple[str, str, str], Reported]] = {
    ("uncorrelated", "uncorrelated", "digit"): Reported(0.981, 0.294, 0.698),
    ("uncorrelated", "correlated", "digit"): Reported(0.981, 0.294, 0.699),
    ("correlated", "uncorrelated", "digit"): Reported(0.461, 0.087, 0.048),
    ("correlated", "correlated", "digit"): Reported(0.996, 0.153, 0.214),
    ("uncorrelated", "uncorrelated", "block"): Reported(0.980, 0.0014, 0.000),
    ("uncorrelated", "correlated", "block"): Reported(0.981, 0.0017, 0.000),
    ("correlated", "uncorrelated", "block"): Reported(0.455, 0.222, 0.937),
    ("correlated", "correlated", "block"): Reported(0.996, 0.144, 0.613),
}


def run_experiment(
    data_dir: str | Path | None,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    protocol: Protocol | None = None,
    device: str | None = None,
    eval_batch_size: int = 128,
    progress: bool = True,
) -> Run:
    """Train both models for every seed, explain them on every test set, into one run.

    Trained models are kept in ``out/checkpoints`` and reused when the same is asked again; more seeds
    make the run grow.

    Args:
        data_dir: folder with the official IDX files, or None for scikit-learn's bundled digits.
        out: the run folder.
        seeds: of training.
        protocol: the experiment's numbers; default the published ones (:data:`DEMO` for the digits).
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        eval_batch_size: images explained at once.
        progress: show progress bars, if stderr is a terminal.

    Returns:
        The run.

    Raises:
        UsageError: for numbers out of range or a device there is not.
        DatasetError: for missing or damaged files.
        RunError: if ``out`` cannot be written or holds another run.
    """
    from explanation_alignment.classifiers.classifier import Classifier, resolve_device
    from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
    from explanation_alignment.datasets.colored_mnist import ColoredMNIST, InkImages
    from explanation_alignment.evaluation import evaluate
    from explanation_alignment.experiments.training import Schedule, trained
    from explanation_alignment.runs.writer import RunWriter

    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UsageError(
            f"seeds: expected different whole numbers from 0 on, got {', '.join(map(str, seeds)) or 'none'}"
        )
    if protocol is None:
        protocol = DEMO if data_dir is None else Protocol()
    where = resolve_device(device)
    train_images = InkImages.load(data_dir, "train")
    test_images = InkImages.load(data_dir, "test")
    data = {"source": train_images.source, "train": train_images.digest(), "test": test_images.digest()}
    experiment = {"name": "mnist", "settings": {**asdict(protocol), "data": data}}
    RunWriter(out, experiment=experiment)  # refuses an unsuitable folder before any training
    schedule = Schedule(protocol.epochs, protocol.batch_size, protocol.learning_rate, protocol.momentum, protocol.decay)
    colorings = ["correlated", *(f"uncorrelated-{number + 1}" for number in range(protocol.permutations))]
    tests = [ColoredMNIST(coloring=coloring, images=test_images) for coloring in colorings]
    for seed in seeds:
        for model in MODELS:
            question = {"model": model, "network": "paper:mnist", "data": data["train"]}
            module = trained(
                DigitNetwork,
                training_batches(train_images, model, where),
                schedule,
                question=question,
                checkpoint=Path(out) / "checkpoints" / f"{model}-seed{seed}.safetensors",
                seed=seed,
                device=where,
                images=len(train_images),
                title=f"training {model} (seed {seed})",
                progress=progress,
            )
            classifier = Classifier(
                module,
                DIGIT_PREPROCESSING,
                test_images.class_names,
                name=model,
                spec="paper:mnist",
                family="cnn",
                device=where,
            )
            for test in tests:
                run = evaluate(
                    classifier,
                    test,
                    METHODS,
                    out,
                    output="log_prob",
                    batch_size=eval_batch_size,
                    seed=seed,
                    experiment=experiment,
                    progress=progress,
                )
    return run


def training_batches(
    images: InkImages, coloring: str, device: torch.device
) -> Callable[[torch.Generator, int], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """A function that yields one shuffled epoch.

    Args:
        images: to paint and shuffle.
        coloring: ``"correlated"``; or ``"uncorrelated"``, which draws every block's colour anew each
            time an image is read.
        device: where the batches are made.

    Returns:
        From a CPU generator and a batch size to batches of (B, 3, 28, 28) float32 images in [0, 1]
        and (B,) int64 labels.
    """
    import torch

    from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING
    from explanation_alignment.datasets.colored_mnist import BLOCK_COLORS, paint_block

    ink, labels = images.ink.to(device), images.labels.to(device)

    def batches(generator: torch.Generator, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for chosen in torch.split(torch.randperm(len(labels), generator=generator), batch_size):
            drawn = torch.randint(len(BLOCK_COLORS), chosen.shape, generator=generator).to(device)
            where = chosen.to(device)
            colors = labels[where] if coloring == "correlated" else drawn
            yield DIGIT_PREPROCESSING.normalise(paint_block(ink[where], colors)), labels[where]

    return batches


def results(run: Run) -> pl.DataFrame:
    """The run's table as the study prints it: the permutations and the seeds as replicates.

    Args:
        run: of this experiment.

    Returns:
        One row a model, kind of test data (``test``), method, region and metric: ``ea``, the mean over
        test sets and seeds; ``ci_low`` and ``ci_high``, the 95 % interval over images where there is
        one test set and one seed; ``sd_permutations``, the standard deviation over the permutations
        (mean over seeds); ``sd_seeds``, that of the seeds' means; ``chance``; the same for
        ``accuracy``; ``n`` decisions, ``n_undefined`` scores; ``reported``, the study's number where
        the images are MNIST's and the study has one.
    """
    summary = run.summary().filter(pl.col("group") == "all")
    key = ["model", "test", "method", "region", "metric"]
    per_seed = (
        summary.with_columns(
            test=pl.when(pl.col("dataset").str.contains("-uncorrelated-", literal=True))
            .then(pl.lit("uncorrelated"))
            .otherwise(pl.lit("correlated"))
        )
        .group_by(*key, "seed")
        .agg(
            pl.col("ea", "accuracy", "chance").mean(),
            pl.col("ci_low", "ci_high").first(),
            pl.col("n", "n_undefined").sum(),
            sets=pl.len(),
            sd_permutations=pl.col("ea").std(),
            accuracy_sd_permutations=pl.col("accuracy").std(),
        )
    )
    single = (pl.len() == 1) & (pl.col("sets").first() == 1)
    table = per_seed.group_by(key).agg(
        pl.col("ea", "accuracy", "chance", "sd_permutations", "accuracy_sd_permutations").mean(),
        sd_seeds=pl.col("ea").std(),
        accuracy_sd_seeds=pl.col("accuracy").std(),
        ci_low=pl.when(single).then(pl.col("ci_low").first()),
        ci_high=pl.when(single).then(pl.col("ci_high").first()),
        n=pl.col("n").sum(),
        n_undefined=pl.col("n_undefined").sum(),
    )
    known = _compared(run)
    reported = pl.DataFrame(
        [
            {"model": model, "test": test, "region": region, "method": METHODS[0], "metric": metric, "reported": value}
            | {"accuracy_reported": numbers.accuracy}
            for (model, test, region), numbers in REPORTED.items()
            for metric, value in asdict(numbers).items()
            if metric != "accuracy" and known
        ],
        schema=dict.fromkeys(key, pl.String) | {"reported": pl.Float64, "accuracy_reported": pl.Float64},
    )
    order = {name: place for place, name in enumerate((*MODELS, *METHODS, *run.evidence, "block"))}
    ranks = [pl.col(name).replace_strict(order, default=99) for name in ("model", "method", "region")]
    table = table.join(reported, on=key, how="left").with_columns(
        pl.col("accuracy_reported").max().over("model", "test", "method", "region")  # whatever the metric
    )
    return table.sort(ranks[1], ranks[0], "test", ranks[2], "metric")


def _compared(run: Run) -> bool:
    """Whether the reported numbers may stand beside the run's: only for the images they were measured on."""
    source: str = run.info["experiment"]["settings"]["data"]["source"]
    return source == "mnist"


def present(run: Run) -> Presentation:
    """The experiment's report: what was found and by which rule, the figures, the study's numbers beside ours."""
    summary = run.summary()
    test_sets = summary["dataset"].unique().sort().to_list()
    correlated = next(name for name in test_sets if name.endswith("-correlated"))
    permuted = [name for name in test_sets if name != correlated]
    # the test sets hold the same images and differ in the block's colour alone: together they are the intervention
    pairs = {"block": [(correlated, name) for name in permuted]}
    found = reliance(run, pairs=pairs, pool=["dataset"])
    told = found.filter(pl.col("method") == METHODS[0])
    if told["seed"].n_unique() > 1:  # the evidence of every seed is in the table; a page's top has room for verdicts
        told = told.filter(~pl.col("is_evidence"))
    table = results(run)
    examples = run.examples().filter(
        pl.col("method") == METHODS[0],
        pl.col("dataset").is_in([correlated, permuted[0]]),
        pl.col("seed") == summary["seed"].min(),
    )
    class_names = run.info["datasets"][correlated]["class_names"]
    source = run.info["experiment"]["settings"]["data"]["source"]
    return Presentation(
        title=f"Which model learned the {run.evidence[0]}?",
        subtitle=f"Coloured MNIST ({source}): two models, {len(test_sets)} test sets",
        sentences=[*_accuracy_sentences(table), *sentences(told), rule()],
        illustrations=[
            Illustration(
                "examples",
                "What the maps show",
                example_grid(examples, class_names=class_names, max_columns=5),
                "Test images with their annotations and binarized vanilla-gradient maps, a line a model and test set",
            ),
            Illustration(
                "ea_by_model",
                "Explanation alignment by model and region",
                ea_bars(summary, "iou_coverage", models=MODELS, regions=[*run.evidence, "block"]),
                "Bars of the mean IoU by model, region and test set, with intervals and chance levels",
            ),
        ],
        sections=[_comparison(table, compared=_compared(run)), _verdicts(found)],
    )


def _accuracy_sentences(table: pl.DataFrame) -> list[str]:
    """What happens to each model's accuracy when the block stops giving the class away."""
    accuracy = {
        (row["model"], row["test"]): row["accuracy"]
        for row in table.select("model", "test", "accuracy").unique().iter_rows(named=True)
    }
    return [
        f"The model trained on {model} blocks has accuracy {accuracy[model, 'correlated']:.3f} where the block's "
        f"colour gives the class away and {accuracy[model, 'uncorrelated']:.3f} where it does not."
        for model in MODELS
    ]


def _comparison(table: pl.DataFrame, *, compared: bool) -> Section:
    note = (
        "The study's numbers are single runs of its notebook; with seed and permutation the correlated model's values "
        "move by .05 IoU and .25 hits."
        if compared
        else "The study's numbers are not shown: they were measured on MNIST, these are other images."
    )
    headings = ["Trained on", "Tested on", "Method", "Region", "Accuracy", *(["Study"] if compared else [])]
    for label in ("IoU", "Hits"):
        headings += [label, "SD of sets", "SD of seeds", "Chance", *(["Study"] if compared else [])]
    rows = []
    for key, part in table.group_by("model", "test", "method", "region", maintain_order=True):
        by_metric = {row["metric"]: row for row in part.iter_rows(named=True)}
        first = part.row(0, named=True)
        cells = [*key, first["accuracy"], *([first["accuracy_reported"]] if compared else [])]
        for metric in ("iou_coverage", "pointing_game"):
            row = by_metric[metric]
            cells += [row["ea"], row["sd_permutations"], row["sd_seeds"], row["chance"]]
            cells += [row["reported"]] if compared else []
        rows.append(cells)
    return Section(
        "All test sets, beside the study's numbers" if compared else "All test sets",
        tables=[Table(headings, rows)],
        note=note,
    )


def _verdicts(found: pl.DataFrame) -> Section:
    headings = [
        "Model",
        "Seed",
        "Method",
        "Region",
        "IoU minus null",
        "from",
        "to",
        "Null",
        "Predictions changed",
        "from",
        "to",
    ]
    columns = ["model", "seed", "method", "region", "excess", "excess_low", "excess_high", "null"]
    rows = found.select(*columns, "flips", "flip_low", "flip_high", "verdict").rows()
    return Section("What the models rely on", [rule()], [Table([*headings, "Verdict"], rows)])


def tabulate(run: Run, method: str) -> tuple[list[str], list[list[list[str]]]]:
    """The experiment's table for one saliency method, for people.

    Args:
        run: of this experiment.
        method: ``"vanilla_gradients"`` or ``"gradcam"``.

    Returns:
        The headings, and the rows; a cell is a list of lines: the mean; its 95 % interval over images
        (one test set, one seed) or its standard deviation over permutations or, where there are several,
        seeds; the chance level in brackets; the study's number where there is one to compare with.
    """
    table = results(run).filter(pl.col("method") == method)
    regions = table["region"].unique(maintain_order=True).to_list()
    columns = [(region, metric) for region in regions for metric in ("iou_coverage", "pointing_game")]
    words = {"iou_coverage": "IoU", "pointing_game": "hits"}
    headings = ["trained on", "tested on", "accuracy", *(f"{region} {words[metric]}" for region, metric in columns)]
    rows = []
    for (model, test), part in table.group_by("model", "test", maintain_order=True):
        first = part.row(0, named=True)
        accuracy = _lines(first["accuracy"], None, None, first["accuracy_sd_permutations"], first["accuracy_sd_seeds"])
        if first["accuracy_reported"] is not None:
            accuracy.append(f"study {number(first['accuracy_reported'])}")
        rows.append([[str(model)], [str(test)], accuracy, *(_score_cell(part, *column) for column in columns)])
    return headings, rows


def _score_cell(part: pl.DataFrame, region: str, metric: str) -> list[str]:
    row = part.filter(pl.col("region") == region, pl.col("metric") == metric).row(0, named=True)
    study = [] if row["reported"] is None else [f"study {number(row['reported'])}"]
    value = _lines(row["ea"], row["ci_low"], row["ci_high"], row["sd_permutations"], row["sd_seeds"])
    return [*value, f"({number(row['chance'])})", *study]


def _lines(
    value: float | None, low: float | None, high: float | None, sd_permutations: float | None, sd_seeds: float | None
) -> list[str]:
    if value is None:
        return ["-"]
    if sd_seeds is not None:
        return [number(value), f"± {number(sd_seeds)}"]
    if sd_permutations is not None:
        return [number(value), f"± {number(sd_permutations)}"]
    return [number(value), interval(low, high)] if low is not None else [number(value)]
