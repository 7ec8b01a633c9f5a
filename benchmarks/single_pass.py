"""The two published methods with the default metrics: against a bare loop, and against the usual way.

All have the same images in memory, network, batch size and threads, and take turns.

- ours: the whole of ``evaluate``: layer found and probed, bytes normalised, predictions, two maps, binarized, metrics,
  Parquet, examples. Examples explain up to 200 decisions once more, which weighs less the more images there are;
  ``--without-examples`` leaves them out.
- bare: a forward pass and an input gradient over tensors that are ready, parameter gradients off, nothing else.
- usual: a forward pass for the prediction, captum's Saliency and LayerGradCam with their own, maps to NumPy, and each
  one's three coverages and pointing game there, image by image; in a process of its own, with the C library's allocator
  as it comes and the network as it was built, as a script would.

    python benchmarks/single_pass.py [--models resnet50,mobilenetv3_large_100,vit_small_patch16_224] [--images 512]
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from unittest import mock

import captum.attr
import numpy as np
import timm
import torch

import explanation_alignment as ea
from common import compare
from explanation_alignment.classifiers.layers import find_layer
from explanation_alignment.cli.memory import keep_freed_memory
from explanation_alignment.sample import SampleBatch

MODELS = "resnet50,mobilenetv3_large_100,vit_small_patch16_224"
METHODS = ("vanilla_gradients", "gradcam")
#: Against the bare loop, at most; against the usual way in throughput, at least.
BOUNDS = (1.10, 2.5)


class InMemory:
    """Random smooth images with a random box each, all in memory."""

    name, regions, evidence = "in memory", ("object",), ("object",)

    def __init__(self, count: int, side: int, classes: int) -> None:
        rng = np.random.default_rng(0)
        coarse = torch.from_numpy(rng.integers(0, 256, (count, 3, 14, 14), dtype=np.uint8))
        self.images = torch.nn.functional.interpolate(coarse.float(), size=(side, side), mode="bilinear").to(
            torch.uint8
        )
        self.labels = torch.from_numpy(rng.integers(0, classes, count))
        self.masks = torch.zeros((count, side, side), dtype=torch.bool)
        for place, (top, left, height, width) in enumerate(rng.integers(side // 8, side // 2, (count, 4))):
            self.masks[place, top : top + height, left : left + width] = True
        self.class_names = tuple(str(place) for place in range(classes))
        self.fingerprint = f"in memory {count} {side} {classes}"

    def __len__(self) -> int:
        return len(self.images)

    def ids(self) -> list[str]:
        return [str(place) for place in range(len(self))]

    def attributes(self) -> Mapping[str, Sequence[str]]:
        return {}

    def __getitem__(self, place: int) -> ea.Sample:
        from PIL import Image

        picture = Image.fromarray(self.images[place].permute(1, 2, 0).numpy())
        return ea.Sample(str(place), picture, int(self.labels[place]), {"object": ea.Mask(self.masks[place].numpy())})

    def read_batch(self, indices: Sequence[int]) -> SampleBatch:
        places = list(indices)
        ids = [str(place) for place in places]
        return SampleBatch(ids, self.images[places], self.labels[places], {"object": self.masks[places]})


def usual_scores(saliency: np.ndarray, mask: np.ndarray, salient: np.ndarray) -> tuple[float, ...]:
    """Three coverages and the pointing game of one image, in NumPy."""
    both = np.logical_and(salient, mask).sum()
    hit = mask.flat[saliency.argmax()]
    return both / np.logical_or(salient, mask).sum(), both / mask.sum(), both / max(salient.sum(), 1), float(hit)


@contextlib.contextmanager
def examples(wanted: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if not wanted:
            module = "explanation_alignment.evaluation.running"
            stack.enter_context(mock.patch(f"{module}.choose_examples", return_value=[]))
            stack.enter_context(mock.patch(f"{module}.write_examples"))
        yield


def built(model: str, count: int) -> tuple[ea.Classifier, InMemory, torch.Tensor]:
    """The network, the images, and the same as tensors that are ready."""
    configuration = timm.get_pretrained_cfg(model)
    side = configuration.input_size[1]
    preprocessing = ea.Preprocessing((3, side, side), std=(0.25,) * 3)
    classifier = ea.load_classifier(f"timm:{model}", "random", "cpu", preprocessing=preprocessing)
    dataset = InMemory(count, side, configuration.num_classes)
    return classifier, dataset, classifier.preprocessing.normalise(dataset.images)


def usual_way(orders: Connection, model: str, count: int, batch_size: int, threads: int) -> None:
    """Evaluates the usual way whenever it is told to, until it is told to end."""
    torch.set_num_threads(threads)
    classifier, dataset, floats = built(model, count)
    cam = find_layer(classifier)
    saliency = captum.attr.Saliency(classifier.module)
    gradcam = captum.attr.LayerGradCam(classifier.module, cam.module)
    at_input = cam.side == "input"
    orders.send("ready")
    while orders.recv():
        for start in range(0, count, batch_size):
            images, masks = floats[start : start + batch_size], dataset.masks[start : start + batch_size].numpy()
            with torch.no_grad():
                chosen = classifier.module(images).argmax(dim=1)
            gradients = saliency.attribute(images.clone().requires_grad_(), chosen).sum(dim=1).numpy()
            cells = gradcam.attribute(
                images.clone().requires_grad_(), chosen, attribute_to_layer_input=at_input, attr_dim_summation=False
            )
            cells = cam.feature_map(cells).sum(dim=1, keepdim=True)
            maps = captum.attr.LayerAttribution.interpolate(cells, images.shape[2:], "bilinear")[:, 0]
            for gradient, cam_map, mask in zip(gradients, maps.detach().numpy(), masks, strict=True):
                usual_scores(gradient, mask, gradient >= gradient.mean() + gradient.std())
                low, high = cam_map.min(), cam_map.max()
                usual_scores(cam_map, mask, cam_map >= low + 0.5 * (high - low))
        orders.send("done")


def lines(model: str, count: int, batch_size: int, repetitions: int, with_examples: bool) -> list[str]:
    classifier, dataset, floats = built(model, count)
    spawning = multiprocessing.get_context("spawn")
    orders, theirs = spawning.Pipe()
    arguments = (theirs, model, count, batch_size, torch.get_num_threads())
    other = spawning.Process(target=usual_way, args=arguments, daemon=True)
    other.start()
    orders.recv()

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder, examples(with_examples):
            ea.evaluate(classifier, dataset, METHODS, folder, batch_size=batch_size, progress=False)

    def bare() -> None:
        with classifier.explaining() as module:
            for images in floats.split(batch_size):
                images = images.clone().requires_grad_()
                output = module(images)
                torch.autograd.grad(output.gather(1, output.argmax(dim=1, keepdim=True)).sum(), images)

    def usual() -> None:
        orders.send(True)
        orders.recv()

    name = f"{model}, {count} images"
    slower = compare(ours, bare, repetitions)
    faster = compare(usual, ours, repetitions)
    orders.send(False)
    other.join()
    ratios = sorted(a / b for a, b in zip(faster.ours, faster.other, strict=True))
    return [
        slower.line(name, BOUNDS[0]),
        f"{name:<34} throughput over the usual way {faster.ratio:5.2f} x "
        f"(from {ratios[0]:.2f} to {ratios[-1]:.2f}; bound {BOUNDS[1]})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS, help="timm names, separated by commas")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--without-examples", action="store_true", help="no second explanation of 200 decisions")
    options = parser.parse_args()
    kept = keep_freed_memory()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, freed memory kept: {kept}, batch size "
        f"{options.batch_size}, median of {options.repetitions}, examples: {not options.without_examples}"
    )
    for model in options.models.split(","):
        for line in lines(model, options.images, options.batch_size, options.repetitions, not options.without_examples):
            print(line, flush=True)


if __name__ == "__main__":
    main()
