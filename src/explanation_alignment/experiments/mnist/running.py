"""Trains the two models of coloured MNIST and explains them on every test set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explanation_alignment.experiments.beginning import check_seeds, experiment_record
from explanation_alignment.experiments.mnist.protocol import DEMO, METHODS, MODELS, Protocol

if TYPE_CHECKING:
    import torch

    from explanation_alignment.datasets.colored_mnist import InkImages
    from explanation_alignment.runs.reader import Run

__all__ = ["PaintedTraining", "run_experiment"]


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
        progress: show it on stderr: bars on a terminal, else a line an epoch of training.

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
    from explanation_alignment.experiments.training import Recipe, StepDecay, trained
    from explanation_alignment.runs.writer import RunWriter

    check_seeds(seeds)
    if protocol is None:
        protocol = DEMO if data_dir is None else Protocol()
    where = resolve_device(device)
    train_images = InkImages.load(data_dir, "train")
    test_images = InkImages.load(data_dir, "test")
    data = {"source": train_images.source, "train": train_images.digest(), "test": test_images.digest()}
    experiment = experiment_record("mnist", {**asdict(protocol), "data": data})
    RunWriter(out, experiment=experiment)  # refuses an unsuitable folder before any training
    recipe = Recipe(
        protocol.epochs,
        protocol.batch_size,
        "sgd",
        protocol.learning_rate,
        momentum=protocol.momentum,
        schedule=StepDecay(protocol.decay),
    )
    colorings = ["correlated", *(f"uncorrelated-{number + 1}" for number in range(protocol.permutations))]
    tests = [ColoredMNIST(coloring=coloring, images=test_images) for coloring in colorings]
    for seed in seeds:
        for model in MODELS:
            question = {"model": model, "network": "paper:mnist", "data": data["train"]}
            module = trained(
                DigitNetwork,
                PaintedTraining(train_images, model),
                recipe,
                question=question,
                checkpoint=Path(out) / "checkpoints" / f"{model}-seed{seed}.safetensors",
                seed=seed,
                device=where,
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


@dataclass(frozen=True, slots=True, eq=False)
class PaintedTraining:
    """Training data: ink whose block is painted as it is read.

    Args:
        ink: to paint and shuffle.
        coloring: ``"correlated"``; or ``"uncorrelated"``, which draws every block's colour anew each
            time an image is read.
    """

    ink: InkImages
    coloring: str

    @property
    def images(self) -> int:
        """Images an epoch."""
        return len(self.ink)

    def batches(
        self, generator: torch.Generator, batch_size: int, device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One shuffled epoch.

        Args:
            generator: on the CPU; decides the order and the colours.
            batch_size: images a batch.
            device: where the batches are made.

        Yields:
            (B, 3, 28, 28) float32 images in [0, 1] and (B,) int64 labels.
        """
        import torch

        from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING
        from explanation_alignment.datasets.colored_mnist import BLOCK_COLORS, paint_block

        ink, labels = self.ink.ink.to(device), self.ink.labels.to(device)
        for chosen in torch.split(torch.randperm(len(labels), generator=generator), batch_size):
            drawn = torch.randint(len(BLOCK_COLORS), chosen.shape, generator=generator).to(device)
            where = chosen.to(device)
            colors = labels[where] if self.coloring == "correlated" else drawn
            yield DIGIT_PREPROCESSING.normalise(paint_block(ink[where], colors)), labels[where]
