"""A classifier: a network, what it wants its images to look like, and what its outputs mean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from explanation_alignment.classifiers.fixed_normalisation import FixedNormalisation
from explanation_alignment.errors import ExplanationAlignmentError, ModelError, UsageError, first_line
from explanation_alignment.geometry import Geometry

if TYPE_CHECKING:
    from explanation_alignment.classifiers.feature_maps import CamLayer

__all__ = ["EXPECTED", "PRECISIONS", "Classifier", "Preprocessing", "resolve_device", "weights_digest"]

#: What is said where something else is given for a classifier.
EXPECTED: Final = "expected ea.Classifier; wrap a module: ea.Classifier(module, ea.Preprocessing((3, H, W), ...))"

#: What a network may be run in.
PRECISIONS: Final = ("fp32", "bf16")
#: Kinds of specs whose networks are known to take images in any memory format: all of them were tried.
_ANY_FORMAT: Final = ("timm", "torchvision", "paper", "toy")


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
        module: maps (B, C, H, W) float32 images to (B, classes) logits, on their own or among other outputs. One
            logit, (B, 1) or (B,), is a binary head: see :meth:`logits`.
        preprocessing: what its images go through first.
        class_names: name of each class, or None if they have none.
        name: its name in tables, part of a row's key; default the module's class name.
        spec: what :func:`load_classifier` was asked for, if it was.
        family: a word to group models by, such as ``"cnn"``.
        device: ``"auto"`` (a GPU if there is one), or any torch device.
        outputs: which of several outputs are the logits: a place in a tuple, or a name. Default: ``logits`` where
            there are outputs by name, else the first tensor.
        multi_label: whether classes do not exclude each other, so that each logit has a probability of its own.
        cam_layer: where class activation maps look unless a method says otherwise: a layer's name or a function of
            the module, as :func:`~explanation_alignment.classifiers.layers.find_layer` takes them.
        paper_layer: what ``layer=paper`` means: a layer's name, ``"last_conv"``, or None if nothing was published.
        notes: what was done to the network that its reader should know.
        precision: ``"fp32"``, or ``"bf16"`` to run the network under autocast; logits and maps are float32 either way.
        channels_last: whether the network gets its images with their channels side by side in memory. Convolutions are
            quicker so, on a CPU and in bf16; numbers change by rounding. A network that calls ``view`` on its feature
            maps may refuse it. Default: where that helps, and the spec says that it is timm's, torchvision's or ours.

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
        outputs: int | str | None = None,
        multi_label: bool = False,
        cam_layer: str | Callable[[nn.Module], str | nn.Module | CamLayer] | None = None,
        paper_layer: str | None = None,
        notes: Sequence[str] = (),
        precision: str = "fp32",
        channels_last: bool | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"precision: expected {' or '.join(PRECISIONS)}, got {precision!r}")
        self.device = resolve_device(device)
        self.module = module.to(self.device)
        self.preprocessing = preprocessing
        self.class_names = None if class_names is None else tuple(class_names)
        self.name = name or type(module).__name__
        self.spec = spec or f"module:{type(module).__module__}.{type(module).__qualname__}"
        self.family = family
        self.outputs = outputs
        self.multi_label = multi_label
        self.cam_layer = cam_layer
        self.paper_layer = paper_layer
        self.notes = tuple(notes)
        self.precision = precision
        if channels_last is None:
            helps = self.device.type == "cpu" or precision == "bf16"
            channels_last = helps and self.spec.partition(":")[0] in _ANY_FORMAT
        self.channels_last = channels_last
        self._one_logit = False  # known from the first forward pass

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """What the network says of images: one number a class.

        A binary head's one logit x becomes the two classes' -x/2 and x/2: their softmax is the sigmoid of x, and
        either class has a gradient.

        Args:
            images: (B, C, H, W) float32, as the network takes them, on its device.

        Returns:
            (B, classes) floating, part of the graph where there is one.

        Raises:
            ModelError: if the network fails, or returns anything else, saying what. That memory ran out stays as it is.
        """
        taken = images.to(memory_format=torch.channels_last) if self.channels_last else images
        try:
            with (
                torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"),
                FixedNormalisation(),
            ):
                output = self.module(taken)
        except (ExplanationAlignmentError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # timm asserts, transformers raises ValueError, torch RuntimeError
            if self.channels_last and "view size is not compatible" in str(error):
                raise ModelError(
                    f"{self.name} takes no images with channels last: it calls view on its feature maps; "
                    "give Classifier(channels_last=False)"
                ) from error
            shape = "x".join(str(side) for side in images.shape[1:])
            raise ModelError(f"{self.name} fails on a {shape} input: {first_line(error)}") from error
        logits = self._chosen(output)
        if self.precision == "bf16" and isinstance(logits, torch.Tensor):
            logits = logits.to(torch.float32)
        if isinstance(logits, torch.Tensor) and logits.shape in ((len(images),), (len(images), 1)):
            self._one_logit = True
            half = logits.reshape(-1, 1) / 2
            logits = torch.cat([-half, half], dim=1)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != len(images):
            raise ModelError(
                f"{self.name} returned {_words(output)}, expected logits of shape ({len(images)}, classes)"
                f"{'' if isinstance(output, torch.Tensor) else '; say which with Classifier(outputs=...)'}"
            )
        if images.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise ModelError(f"{self.name} returned logits without a gradient; take torch.no_grad and detach out of it")
        if self.class_names is not None and logits.shape[1] != len(self.class_names):
            raise ModelError(f"{self.name} has {logits.shape[1]} outputs, its class_names are {len(self.class_names)}")
        return logits

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, classes) probabilities of (B, classes) logits that :meth:`logits` gave.

        Their softmax, or each one's sigmoid if multi-label; a binary head's two classes exclude each other either way.
        """
        return logits.sigmoid() if self.multi_label and not self._one_logit else logits.softmax(dim=1)

    def _chosen(self, output: Any) -> Any:
        """The logits among a network's outputs."""
        if self.outputs is not None:
            try:
                return output[self.outputs]
            except (KeyError, IndexError, TypeError):
                raise ModelError(f"{self.name} returned {_words(output)}, without outputs={self.outputs!r}") from None
        if isinstance(output, torch.Tensor):
            return output
        if isinstance(output, Mapping) and "logits" in output:
            return output["logits"]
        if hasattr(output, "logits"):
            return output.logits
        if isinstance(output, tuple | list):
            return next((item for item in output if isinstance(item, torch.Tensor)), None)
        return None

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


def _words(output: Any) -> str:
    """What a network returned, in words for an error."""
    if isinstance(output, torch.Tensor):
        return str(tuple(output.shape))
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(str, output)) or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {', '.join(map(_words, output)) or 'nothing'}"
    return type(output).__name__


def weights_digest(module: nn.Module) -> str:
    """SHA-256 over a module's structure (its printed form) and every tensor of its state, hex."""
    sha = hashlib.sha256(repr(module).encode())
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
