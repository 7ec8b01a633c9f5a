"""A classifier: a network, what it wants its images to look like, and what its outputs mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from explanation_alignment.errors import UsageError
from explanation_alignment.geometry import Geometry

__all__ = ["Classifier", "Preprocessing", "resolve_device", "weights_digest"]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What happens to an image before the network sees it.

    Args:
        input_size: (channels, height, width) the network receives.
        geometry: the resize and crop that lead to that height and width.
        mean: subtracted from the values in [0, 1], one a channel.
        std: divided by, one a channel.

    Raises:
        UsageError: if mean or std do not have one value a channel.
    """

    input_size: tuple[int, int, int]
    geometry: Geometry = field(default_factory=Geometry)
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.input_size[0]:
                raise UsageError(f"Preprocessing.{name}: expected {self.input_size[0]} values, got {values}")

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Bytes to the network's input.

        Args:
            images: (B, C, H, W) uint8.

        Returns:
            (B, C, H, W) float32 on the same device.
        """
        values = images.to(torch.float32).div_(255)
        if any(self.mean):
            values.sub_(values.new_tensor(self.mean)[:, None, None])
        if any(value != 1 for value in self.std):
            values.div_(values.new_tensor(self.std)[:, None, None])
        return values


class Classifier:
    """A network with its preprocessing, class names and identity.

    Args:
        module: maps (B, C, H, W) float32 images to (B, classes) logits.
        preprocessing: what its images go through first.
        class_names: name of each output, or None if they have none.
        name: its name in tables, part of a row's key; default the module's class name.
        spec: what :func:`load_classifier` was asked for, if it was.
        family: a word to group models by, such as ``"cnn"``.
        device: ``"auto"`` (a GPU if there is one), or any torch device.

    Attributes:
        module: the ``nn.Module``, on ``device``.
    """

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Preprocessing,
        class_names: Sequence[str] | None = None,
        *,
        name: str | None = None,
        spec: str | None = None,
        family: str | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.module = module.to(self.device)
        self.preprocessing = preprocessing
        self.class_names = None if class_names is None else tuple(class_names)
        self.name = name or type(module).__name__
        self.spec = spec or f"module:{type(module).__module__}.{type(module).__qualname__}"
        self.family = family

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    def weights_digest(self) -> str:
        """SHA-256 over the network's structure and every tensor of its state, hex."""
        return weights_digest(self.module)

    @contextmanager
    def explaining(self) -> Iterator[nn.Module]:
        """The module in evaluation mode with parameter gradients off; both as found afterwards."""
        modes = [(part, part.training) for part in self.module.modules()]
        flags = [(parameter, parameter.requires_grad) for parameter in self.module.parameters()]
        try:
            self.module.eval()
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield self.module
        finally:
            for part, training in modes:
                part.training = training
            for parameter, wanted in flags:
                parameter.requires_grad_(wanted)


def resolve_device(device: str | torch.device | None) -> torch.device:
    """The device meant by ``"auto"`` (or None), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...

    Raises:
        UsageError: for a device torch does not know or this machine does not have.
    """
    if device is None or device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"device {str(device)!r} cannot be used here; choose auto, cpu or cuda") from error
    return chosen


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over a module's structure (its printed form) and every tensor of its state, hex."""
    sha = hashlib.sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
