"""The maps of several methods for a batch: of the pass they share, of passes of their own, and without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import torch
from torch.nn import functional as F

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.classifiers.layers import CamLayer
from explanation_alignment.errors import ExplanationAlignmentError, ModelError, UsageError, first_line
from explanation_alignment.saliency.base import METHODS, MethodRequest, Output
from explanation_alignment.saliency.baselines import baseline_maps
from explanation_alignment.saliency.own_methods import OwnEntry
from explanation_alignment.saliency.passes import DEFAULT_CHUNK, Explained
from explanation_alignment.saliency.single_pass import PassResult, SinglePass

__all__ = ["Explainer", "average_over_grid"]


class Explainer(AbstractContextManager["Explainer"]):
    """Explains batches by all the methods asked for. Use as a context manager, as ``SinglePass``.

    Args:
        classifier: whose decisions are explained.
        methods: the maps wanted.
        output: what is differentiated, ``"logit"`` or ``"log_prob"`` (log-softmax).
        target: ``"predicted"``, ``"label"``, or a class index as text.
        chunk: inputs at once, at most, of methods with passes of their own; changes memory and speed only.

    Raises:
        UsageError: for another output or target, a chunk below 1, or a grid finer than the classifier's input; on
            entering, if the target is no class of the network.
        ModelError: on entering, if a layer or a method cannot serve.
    """

    def __init__(
        self,
        classifier: Classifier,
        methods: Sequence[MethodRequest],
        *,
        output: Output = "logit",
        target: str = "predicted",
        chunk: int = DEFAULT_CHUNK,
    ) -> None:
        if chunk < 1:
            raise UsageError(f"chunk: expected at least 1 input at once, got {chunk}")
        _, height, width = classifier.preprocessing.input_size
        for method in methods:
            if method.grid is not None and (method.grid[0] > height or method.grid[1] > width):
                raise UsageError(f"{method.canonical}: the grid is finer than the {height} x {width} pixels of its map")
        self._classifier = classifier
        self._methods = list(methods)
        self._output: Output = output
        self._chunk = chunk
        self._outputs = 0  # known from the probe
        self._shared: list[MethodRequest] = []
        self._place: dict[int, int] = {}  # of a method -> where the shared pass has what it needs
        for at, method in enumerate(self._methods):
            wanted = method if method.entry.kind == "shared" else _needed(method)
            if wanted is not None:
                self._place[at] = len(self._shared)
                self._shared.append(wanted)
        self._pass = SinglePass(classifier, self._shared, output=output, target=target)

    @property
    def layers(self) -> Mapping[str, CamLayer]:
        """Method -> the layer its map comes from, known after entering."""
        found = self._pass.layers
        return {
            self._methods[at].canonical: found[self._shared[place].canonical]
            for at, place in self._place.items()
            if self._shared[place].canonical in found
        }

    @property
    def outputs(self) -> int:
        """How many classes the classifier has, known after entering."""
        return self._outputs

    @property
    def chunk(self) -> int:
        """Inputs at once, at most, of methods with passes of their own; may be changed while it is in use."""
        return self._chunk

    @chunk.setter
    def chunk(self, inputs: int) -> None:
        self._chunk = inputs

    def forget(self) -> None:
        """Let go of what a pass that failed has left in memory."""
        self._pass.forget()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._pass)
            if not self._outputs:
                self._outputs = self._probe()
            stack.pop_all()  # leaves with this one
        return self

    def _probe(self) -> int:
        """Have methods refuse a classifier or arguments they cannot serve, before anything is explained.

        Returns:
            How many outputs the classifier has.
        """
        generator = torch.Generator().manual_seed(0)
        shape = (1, *self._classifier.preprocessing.input_size)
        noise = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(self._classifier.device)
        images = self._classifier.preprocessing.normalise(noise)
        outputs = self._pass.outputs(images)
        target = torch.zeros(1, dtype=torch.int64, device=images.device)
        explained = Explained(self._classifier, images, target, ["probe"], self._output, self._chunk)
        for method in self._methods:
            probe = method.entry.load_probe()
            if probe is not None:
                probe(explained, **method.settings)
        return outputs

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pass.__exit__(kind, error, trace)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, ids: Sequence[str]) -> PassResult:
        """Explain one batch.

        Args:
            images: (B, C, H, W) float32, as the network takes them, on its device.
            labels: (B,) int64 on the same device; read only where ``target`` is ``"label"``.
            ids: the ids of the B samples.

        Raises:
            ModelError: if the network's output is not (B, classes), or a method cannot explain it.
            UsageError: if the target is no class of the network.
        """
        result = self._pass(images, labels)
        explained = Explained(self._classifier, images.detach(), result.target, ids, self._output, self._chunk)
        maps = []
        for at, method in enumerate(self._methods):
            shared = result.maps[self._place[at]] if at in self._place else None
            if method.entry.kind == "none":
                one = baseline_maps(method.name, images, ids, int(str(method.arguments.get("seed", 0))))
            elif method.entry.kind == "shared":
                assert shared is not None
                one = shared
            elif isinstance(method.entry, OwnEntry):
                one = _users_maps(method, method.entry, explained)
            else:
                one = method.entry.load()(replace(explained, shared=shared), **method.settings)
            maps.append(one if method.grid is None else average_over_grid(one, method.grid))
        return replace(result, maps=maps)

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """The class with the largest logit, (B,) int64, without explaining it; images as in a call."""
        return self._pass.predict(images)


def _needed(method: MethodRequest) -> MethodRequest | None:
    """What a method with passes of its own wants of the shared one."""
    if method.entry.needs is None:
        return None
    layer = {"layer": method.settings["layer"]} if method.settings.get("layer") is not None else {}
    arguments = layer | ({"relu": True} if method.entry.needs == "gradcam" else {})
    return MethodRequest(method.entry.needs, arguments, method.binarization, METHODS["gradcam"])


def _users_maps(method: MethodRequest, entry: OwnEntry, explained: Explained) -> torch.Tensor:
    """What a function of the user's own returns, checked and on its way like any other map."""
    assert entry.given is not None
    images, targets = explained.images.clone(), explained.targets.clone()
    try:
        given: Any = entry.given(explained.classifier, images, targets, **method.settings)
        maps = torch.as_tensor(given).detach()
    except ExplanationAlignmentError:
        raise
    except Exception as error:
        raise ModelError(
            f"saliency method {method.name} failed: {type(error).__name__}: {first_line(error)}"
        ) from error
    expected = (len(images), *explained.size)
    if tuple(maps.shape) != expected or maps.is_complex():
        raise ModelError(f"saliency method {method.name} returned {tuple(maps.shape)}, expected real maps {expected}")
    return maps.to(explained.images.device, torch.float32)


def average_over_grid(maps: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Maps averaged over a grid of cells and brought back to their size, so that all share one resolution.

    A 7 x 7 class activation map cannot follow an outline that a 24 x 24 one can, and pixelwise gradients can most of
    all; on a common grid that advantage is gone.

    Args:
        maps: (B, H, W), floating.
        grid: (rows, columns) of cells, as even as the size allows (``adaptive_avg_pool2d``).

    Returns:
        (B, H, W): the cells' means, bilinearly interpolated between their centres (``align_corners=False``).
    """
    cells = F.adaptive_avg_pool2d(maps[:, None], grid)
    size = (maps.shape[1], maps.shape[2])
    return F.interpolate(cells, size=size, mode="bilinear", align_corners=False)[:, 0]
