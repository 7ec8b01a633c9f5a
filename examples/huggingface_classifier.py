"""A classifier of the transformers library: preprocessing, labels and Grad-CAM's layer are read from it.

The network here is a small vision transformer with random weights, built from a configuration and saved to a folder,
so that nothing is downloaded; `hf:google/vit-base-patch16-224` works the same way.

    python examples/huggingface_classifier.py [RUN]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers

import explanation_alignment as ea
from explanation_alignment.datasets.toy.folder import write

KINDS = ("disc", "octagon", "square", "triangle")


def save_network(folder: Path) -> None:
    """Stands for a model of the hub: a folder as ``save_pretrained`` writes it."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        image_size=64,
        patch_size=8,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        id2label=dict(enumerate(KINDS)),
        label2id={kind: index for index, kind in enumerate(KINDS)},
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def main(out: str = "runs/huggingface") -> ea.Run:
    """Save the network, generate images, evaluate, print."""
    work = Path(out).parent
    if not (work / "my_vit").is_dir():
        save_network(work / "my_vit")
    if not (work / "my_images").is_dir():
        write(work / "my_images", n=24, seed=0)
    classifier = ea.load_classifier(f"hf:{work / 'my_vit'}", device="cpu")
    dataset = ea.load_dataset("folder", work / "my_images")
    assert classifier.class_names == dataset.class_names, "labels of model and data must be in one order"
    methods = ["gradcam", "attention_rollout", "vanilla_gradients"]
    run = ea.evaluate(classifier, dataset, methods, out, progress=False)
    print(run.models().select("model", "family", "input_height", "layer"))
    print(run.summary(metrics=["iou_coverage"]).select("method", "ea", "ci_low", "ci_high", "chance", "n"))
    return run


if __name__ == "__main__":
    main(*sys.argv[1:])
