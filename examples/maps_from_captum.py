"""Score maps that captum made: integrated gradients, and Grad-CAM at a layer.

python examples/maps_from_captum.py [RUN]
"""

from __future__ import annotations

import sys

import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam

import explanation_alignment as ea


def main(out: str = "runs/captum", count: int = 40) -> list[ea.Run]:
    """Explain digits with captum, one target an image, and score the maps."""
    dataset = ea.load_dataset("colored_mnist")
    few = dataset.subset(dataset.ids()[:count])
    classifier = ea.load_classifier("paper:mnist", "random", device="cpu")  # yours: any module
    network = classifier.module.eval()
    images = classifier.preprocessing.normalise(few.read_batch(range(count)).images)
    with torch.no_grad():
        predicted = network(images).argmax(dim=1)

    steps = IntegratedGradients(network).attribute(images, target=predicted, n_steps=16, internal_batch_size=64)
    layer = LayerGradCam(network, network.pool).attribute(images, target=predicted)
    maps = {
        # captum keeps channels and signs; a map is (H, W)
        "integrated_gradients": steps.abs().sum(dim=1),
        # signed, of the layer's size; upsampled as Grad-CAM's authors do
        "layer_gradcam": LayerAttribution.interpolate(layer, (28, 28), interpolate_mode="bilinear")[:, 0],
    }
    runs = []
    for method, found in maps.items():
        run = ea.score(
            dict(zip(few.ids(), found.detach(), strict=True)),
            few,
            f"{out}-{method}",  # a run holds one set of maps under a model's name
            model="digits",
            method=method,
            binarization="threshold:0.5" if "gradcam" in method else "std:1",
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
