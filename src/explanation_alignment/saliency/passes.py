"""What a method with passes of its own is given, and the ways of running the network that several of them share.

Inputs at once are bounded by ``chunk``: a method expands its images into many inputs and hands them on in pieces.
Random draws belong to a sample: each has a generator of its own, seeded by its id, and draws one input after another,
so that a map depends neither on the batch its image came in nor on ``chunk``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as T

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.saliency.base import Output

__all__ = ["DEFAULT_CHUNK", "Explained", "baseline_images", "generators", "over_channels"]

#: Inputs at once unless another number is asked for.
DEFAULT_CHUNK = 64


@dataclass(frozen=True, slots=True, eq=False)
class Explained:
    """A batch of images with the classes to explain.

    Args:
        classifier: in evaluation mode, parameter gradients off.
        images: (B, C, H, W) float32, as the network takes them, on its device.
        targets: (B,) int64, the explained classes.
        ids: B sample ids.
        output: what is explained of a class: its logit or its log-softmax.
        chunk: inputs at once, at most.
        shared: what the method takes from the shared pass, B long; None if nothing.
    """

    classifier: Classifier
    images: torch.Tensor
    targets: torch.Tensor
    ids: Sequence[str]
    output: Output = "logit"
    chunk: int = DEFAULT_CHUNK
    shared: torch.Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images, pixels."""
        return self.images.shape[2], self.images.shape[3]

    def parts(self, expanded: int = 1) -> Iterator[Explained]:
        """The batch in pieces, each so small that ``expanded`` inputs an image fit into a chunk, or of one image."""
        length = max(1, self.chunk // expanded)
        for start in range(0, len(self.images), length):
            place = slice(start, start + length)
            yield replace(
                self,
                images=self.images[place],
                targets=self.targets[place],
                ids=self.ids[place],
                shared=None if self.shared is None else self.shared[place],
            )

    def all_outputs(self, images: torch.Tensor) -> torch.Tensor:
        """(N, classes): every class's explained output of N inputs, part of the graph where there is one."""
        logits = self.classifier.logits(images)
        return logits if self.output == "logit" else F.log_softmax(logits, dim=1)

    def outputs(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(N,): the explained output of N inputs, without a graph."""
        with torch.no_grad():
            return self.all_outputs(images).gather(1, targets[:, None])[:, 0]

    def probabilities(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(N,): the probability of each input's class."""
        with torch.no_grad():
            return self.classifier.probabilities(self.classifier.logits(images)).gather(1, targets[:, None])[:, 0]

    def gradients(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W): the gradient of the explained output at N inputs."""
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            objective = self.all_outputs(images).gather(1, targets[:, None]).sum()
        return torch.autograd.grad(objective, images)[0]

    def expanded(self, count: int) -> Iterator[tuple[torch.Tensor, list[int]]]:
        """``count`` inputs an image, image by image, in chunks.

        Yields:
            For each chunk of N inputs the place of each one's image in the batch, (N,) int64 on the images' device, and
            the number of each input among those of its image.
        """
        total = len(self.images) * count
        for start in range(0, total, self.chunk):
            every = range(start, min(total, start + self.chunk))
            yield torch.tensor([each // count for each in every], device=self.images.device), [e % count for e in every]

    def forward_scores(
        self,
        count: int,
        make: Callable[[torch.Tensor, list[int]], torch.Tensor],
        score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """(B, count) float64: the output of ``count`` inputs an image.

        Args:
            count: inputs an image.
            make: from the places and numbers of a chunk to its inputs (N, C, H, W).
            score: another score of inputs and targets than :meth:`outputs`.
        """
        score = score or self.outputs
        values = [score(make(which, step), self.targets[which]) for which, step in self.expanded(count)]
        return torch.cat(values).view(len(self.images), count).double()


def generators(explained: Explained, seed: int, purpose: str = "") -> list[torch.Generator]:
    """A generator a sample, on the CPU, seeded by its id, ``seed`` and what is drawn from it alone.

    A generator is for one kind of draw: a chunk makes all of one kind before the next.
    """
    texts = (f"{purpose}{seed} {name}" for name in explained.ids)
    digests = (hashlib.sha256(text.encode(errors="surrogateescape")).digest() for text in texts)
    return [torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1) for digest in digests]


def baseline_images(explained: Explained, kind: str) -> torch.Tensor:
    """What stands for "nothing there", (B, C, H, W), as the network takes its images.

    Args:
        explained: whose images.
        kind: ``black``: the bytes 0 after normalisation; ``mean``: each image's mean colour; ``blur``: each image under
            a Gaussian with a standard deviation of a sixteenth of its shorter side.
    """
    images = explained.images
    if kind == "mean":
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    if kind == "blur":
        height, width = explained.size
        sigma = max(min(height, width) / 16, 0.5)
        reach = min(int(3 * sigma), (min(height, width) - 1) // 2)
        blurred: torch.Tensor = T.gaussian_blur(images, [2 * reach + 1, 2 * reach + 1], [sigma, sigma])
        return blurred
    black = torch.zeros(1, images.shape[1], 1, 1, dtype=torch.uint8, device=images.device)
    return explained.classifier.preprocessing.normalise(black).expand_as(images)


def over_channels(values: torch.Tensor, *, signed: bool) -> torch.Tensor:
    """(B, C, H, W) -> (B, H, W): the sum over channels, of absolute values unless ``signed``."""
    return values.sum(dim=1) if signed else values.abs().sum(dim=1)
