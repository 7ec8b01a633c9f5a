"""The memory curve: resident memory of a process that explains batch after batch with both published methods.

Nothing may pile up: no graph, no hook, no map. Prints the resident memory every tenth of the way; with ``--leak`` keeps
every graph on purpose, which shows what the curve would look like.

    python benchmarks/memory.py [--model resnet18] [--side 64] [--batches 1000] [--batch-size 8] [--leak]
"""

from __future__ import annotations

import argparse
import gc
import os
from pathlib import Path

import timm
import torch

import explanation_alignment as ea
from explanation_alignment.cli.memory import keep_freed_memory
from explanation_alignment.saliency.base import MethodRequest
from explanation_alignment.saliency.explainer import Explainer

METHODS = ("vanilla_gradients", "gradcam")


def resident() -> float:
    """MiB of this process in memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18", help="timm name")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--leak", action="store_true", help="keep every graph")
    options = parser.parse_args()
    keep_freed_memory()
    shape = (3, options.side, options.side)
    torch.manual_seed(0)
    network = timm.create_model(options.model, pretrained=False).eval()
    classifier = ea.Classifier(network, ea.Preprocessing(shape), name=options.model, device="cpu")
    kept = []
    labels, ids = torch.zeros(options.batch_size, dtype=torch.int64), list(map(str, range(options.batch_size)))
    requests = [MethodRequest.parse(method) for method in METHODS]
    before = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    with Explainer(classifier, requests) as explainer:
        for batch in range(options.batches + 1):
            if batch % max(1, options.batches // 10) == 0:
                gc.collect()
                print(f"batch {batch:6d}  resident {resident():8.1f} MiB", flush=True)
            images = torch.rand(options.batch_size, *shape)
            if options.leak:
                kept.append(network(images.requires_grad_()))
            explainer(images, labels, ids)
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in network.modules())
    flags = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    print(f"hooks left: {hooks}; gradients of parameters as found: {flags == before}")


if __name__ == "__main__":
    main()
