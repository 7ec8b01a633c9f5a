"""Images of one's own with boxes in a CSV file: from the folder to the report.

    python examples/csv_of_boxes.py [RUN]

The same from the command line, once the folder and a file with the model are there:

    ealign datasets check folder my_birds
    ealign evaluate --model file:my_model.py:build --dataset folder --data-dir my_birds --out runs/birds
    ealign report runs/birds
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import explanation_alignment as ea
from explanation_alignment.datasets.checking.check import check_dataset


def write_folder(folder: Path, count: int = 24) -> None:
    """Stands for your images: FOLDER/images/*.png, and FOLDER/boxes.csv with a row a box."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    with (folder / "boxes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "class", "x0", "y0", "x1", "y1"])  # x1 and y1 are the first pixels outside
        for number in range(count):
            pixels = rng.integers(0, 90, (64, 80, 3), dtype=np.uint8)
            kind = number % 2
            for _ in range(1 + number % 3):  # some images show several birds
                x, y = int(rng.integers(4, 50)), int(rng.integers(4, 40))
                pixels[y : y + 16, x : x + 20, 2 * kind] += 150
                table.writerow([f"{number}.png", ("owl", "wren")[kind], x, y, x + 20, y + 16])
            Image.fromarray(pixels).save(folder / "images" / f"{number}.png")


def my_network() -> nn.Module:
    """Stands for yours."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 2),
    )


def main(out: str = "runs/birds") -> ea.Run:
    """Write the folder, check it, evaluate the network, write the report."""
    folder = Path(out).parent / "my_birds"
    if not folder.is_dir():
        write_folder(folder)
    dataset = ea.load_dataset("folder", folder)
    assert check_dataset(dataset).ok
    preprocessing = ea.Preprocessing((3, 56, 56), geometry=ea.Geometry(resize=64, crop=(56, 56)))
    classifier = ea.Classifier(my_network(), preprocessing, dataset.class_names, name="mine", device="cpu")
    run = ea.evaluate(classifier, dataset, ["gradcam", "vanilla_gradients"], out, progress=False)
    print(run.summary().select("method", "metric", "ea", "ci_low", "ci_high", "chance", "n", "accuracy"))
    print(ea.report(run))
    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
