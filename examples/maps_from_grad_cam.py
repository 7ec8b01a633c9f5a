"""Score maps that pytorch-grad-cam made.

pip install grad-cam
python examples/maps_from_grad_cam.py [RUN]
"""

from __future__ import annotations

import sys

import torch
from pytorch_grad_cam import GradCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import explanation_alignment as ea


def main(out: str = "runs/grad-cam", count: int = 40) -> list[ea.Run]:
    """Explain digits with pytorch-grad-cam, a target for each image, and score the maps."""
    dataset = ea.load_dataset("colored_mnist")
    few = dataset.subset(dataset.ids()[:count])
    classifier = ea.load_classifier("paper:mnist", "random", device="cpu")  # yours: any module
    network = classifier.module.eval()
    images = classifier.preprocessing.normalise(few.read_batch(range(count)).images)
    with torch.no_grad():
        predicted = network(images).argmax(dim=1)

    runs = []
    for method in (GradCAM, LayerCAM):
        with method(model=network, target_layers=[network.pool]) as cam:
            # one target an image: a single one would explain the first image only
            maps = cam(input_tensor=images, targets=[ClassifierOutputTarget(int(index)) for index in predicted])
        run = ea.score(
            dict(zip(few.ids(), maps, strict=True)),
            few,
            f"{out}-{method.__name__.lower()}",  # a run holds one set of maps under a model's name
            model="digits",
            method=method.__name__.lower(),
            binarization="threshold:0.5",  # its maps are cut at 0 and scaled to 0..1, each for itself
            predictions=dict(zip(few.ids(), predicted.tolist(), strict=True)),
            geometry=ea.Geometry(resize=(28, 28)),
            progress=False,
        )
        columns = ["method", "region", "ea", "ci_low", "ci_high", "chance", "n"]
        print(run.summary(metrics=["iou_coverage"]).select(columns))
        runs.append(run)
    return runs


if __name__ == "__main__":
    main(*sys.argv[1:])
