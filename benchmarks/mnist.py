"""Coloured MNIST against bare PyTorch loops: training, and evaluation with vanilla gradients.

Both sides have the same images in memory, network, batch size and threads, and take turns. The bare
training loop has its images ready as float tensors and shuffles them; ours paints them as it goes. The
bare evaluation is a forward pass and an input gradient with parameter gradients off, nothing else; ours
is the whole of ``evaluate``: reading, explaining, binarizing, four metrics on two regions, Parquet,
examples.

    python benchmarks/mnist.py --data-dir DIR [--profile] [--default-malloc]

The process keeps the memory it frees, as every command does; --default-malloc shows what that is worth.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch.nn import functional as F

import explanation_alignment as ea
from common import compare
from explanation_alignment.classifiers.digit_network import DIGIT_PREPROCESSING, DigitNetwork
from explanation_alignment.cli.memory import keep_freed_memory
from explanation_alignment.datasets.colored_mnist import ColoredMNIST, InkImages
from explanation_alignment.experiments.mnist.protocol import Protocol
from explanation_alignment.experiments.mnist.running import PaintedTraining
from explanation_alignment.experiments.training import Recipe, Training, fit

TRAIN_IMAGES = 9_600


def subset(images: InkImages, count: int) -> InkImages:
    return InkImages(images.source, images.split, images.ink[:count], images.labels[:count], images.class_names)


def training(data_dir: Path | None, repetitions: int) -> str:
    protocol = Protocol()
    images = subset(InkImages.load(data_dir, "train"), TRAIN_IMAGES)
    data = PaintedTraining(images, "uncorrelated")
    recipe = Recipe(1, protocol.batch_size, "sgd", protocol.learning_rate, momentum=protocol.momentum)
    painted = ColoredMNIST(coloring="correlated", images=images).read_batch(range(len(images))).images
    floats, labels = painted.float() / 255, images.labels

    def ours() -> None:
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        fit(Training(DigitNetwork(), recipe, generator), data, title="", progress=False)

    def bare() -> None:
        torch.manual_seed(0)
        network = DigitNetwork().train()
        optimizer = torch.optim.SGD(network.parameters(), lr=protocol.learning_rate, momentum=protocol.momentum)
        for chosen in torch.randperm(len(labels)).split(protocol.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(floats[chosen]), labels[chosen]).backward()
            optimizer.step()

    return compare(ours, bare, repetitions).line(f"training, {len(images):,} images", 1.2)


def evaluation(data_dir: Path | None, batch_size: int, methods: list[str], repetitions: int) -> str:
    dataset = ColoredMNIST(data_dir, coloring="uncorrelated-1")
    torch.manual_seed(0)
    classifier = ea.Classifier(DigitNetwork(), DIGIT_PREPROCESSING, dataset.class_names, name="digits", device="cpu")
    floats = dataset.read_batch(range(len(dataset))).images.float() / 255

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            ea.evaluate(classifier, dataset, methods, folder, output="log_prob", batch_size=batch_size, progress=False)

    def bare() -> None:
        network = classifier.module.eval()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        for images in floats.split(batch_size):
            images = images.clone().requires_grad_()
            output = F.log_softmax(network(images), dim=1)
            chosen = output.argmax(dim=1, keepdim=True)
            torch.autograd.grad(output.gather(1, chosen).sum(), images)

    name = f"evaluation, {len(dataset):,} images, {' + '.join(methods)}"
    return compare(ours, bare, repetitions).line(name, 1.3)


def profiled(data_dir: Path | None, batch_size: int) -> str:
    """Where an evaluation's time goes, by operator."""
    dataset = ColoredMNIST(data_dir, coloring="uncorrelated-1")
    classifier = ea.Classifier(DigitNetwork(), DIGIT_PREPROCESSING, dataset.class_names, name="digits", device="cpu")
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        ea.evaluate(
            classifier, dataset, ["vanilla_gradients", "gradcam"], folder, batch_size=batch_size, progress=False
        )
    return profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=42)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="official IDX files; default scikit-learn's digits")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="also print where an evaluation's time goes")
    parser.add_argument("--default-malloc", action="store_true", help="leave the C library's allocator alone")
    options = parser.parse_args()
    kept = not options.default_malloc and keep_freed_memory()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, freed memory kept: {kept}, "
        f"median of {options.repetitions}"
    )
    print(training(options.data_dir, options.repetitions), flush=True)
    for methods in (["vanilla_gradients"], ["vanilla_gradients", "gradcam"]):
        print(evaluation(options.data_dir, options.batch_size, methods, options.repetitions), flush=True)
    if options.profile:
        print(profiled(options.data_dir, options.batch_size))


if __name__ == "__main__":
    main()
