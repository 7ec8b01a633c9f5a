"""Does a saliency method depend on the model it explains? Its weights are randomised layer by layer.

Cascading randomisation from the output down (Adebayo et al., Sanity checks for saliency maps, 2018, section 4.1): a map
that stays as it was explains the image, not the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import polars as pl
import torch
from torch import nn

from explanation_alignment.classifiers.classifier import Classifier
from explanation_alignment.errors import ModelError, UsageError
from explanation_alignment.metrics.functional import heatmap_spearman
from explanation_alignment.saliency.base import Method, MethodRequest, Output
from explanation_alignment.saliency.explainer import Explainer
from explanation_alignment.saliency.passes import DEFAULT_CHUNK

__all__ = ["SANITY_SCHEMA", "SanityCheck", "sanity"]

#: Columns of ``SanityCheck.curve``.
SANITY_SCHEMA: Final = pl.Schema(
    {
        "method": pl.String,
        "step": pl.Int32,
        "layer": pl.String,
        "layers_randomised": pl.Int32,
        "spearman": pl.Float64,
        "ssim": pl.Float64,
        "n": pl.Int32,
    }
)
#: Rank correlation with the original map above which it counts as unchanged, and below which as another one.
UNCHANGED, CHANGED = 0.9, 0.5
_SSIM_WINDOW: Final = 11


@dataclass(frozen=True, slots=True, eq=False)
class SanityCheck:
    """How maps change when the model's weights are randomised from the output down.

    Args:
        model: the classifier's name.
        curve: a row a method and step, columns of ``SANITY_SCHEMA``: ``layer`` is the last one randomised, null at step
            0; ``spearman`` the mean over images of the rank correlation of |map| with the original's; ``ssim`` that of
            the structural similarity, each map scaled to its own range; ``n`` the images where the original map and
            this one are not flat.
        layers: the randomised layers, from the output down; a network's own parameters, such as a class token, stand
            under their names.
    """

    model: str
    curve: pl.DataFrame
    layers: Sequence[str]

    def verdicts(self) -> dict[str, str]:
        """Method -> what the curve says of it, in a sentence."""
        words = {}
        for method in self.curve["method"].unique(maintain_order=True):
            steps = self.curve.filter(pl.col("method") == method)
            words[method] = _verdict(steps["spearman"].to_list(), steps["layer"].to_list())
        return words


def sanity(
    classifier: Classifier,
    images: torch.Tensor,
    methods: Sequence[Method] = ("vanilla_gradients", "gradcam"),
    *,
    ids: Sequence[str] | None = None,
    target: str = "predicted",
    output: Output = "logit",
    steps: int = 12,
    seed: int = 0,
    batch_size: int = 16,
    chunk: int = DEFAULT_CHUNK,
) -> SanityCheck:
    """Compare a method's maps with those of the same model after randomising its weights, layer by layer.

    The explained classes stay those of the original model. The model is as it was afterwards, whatever happens.

    Args:
        classifier: the model.
        images: (N, C, H, W) uint8, after the classifier's geometry.
        methods: saliency methods, as in :func:`~explanation_alignment.evaluate`.
        ids: N names, for methods that draw at random; default the images' numbers.
        target: the explained class: ``"predicted"`` or a class index as text.
        output: what is explained.
        steps: points of the curve after the first, spread evenly over the layers; the last has all randomised.
        seed: of the random weights.
        batch_size: images explained at once.
        chunk: inputs at once where a method makes many of an image.

    Raises:
        UsageError: for arguments that cannot mean anything.
        ModelError: if the classifier cannot be explained, or has no weights.
    """
    if images.ndim != 4 or images.dtype != torch.uint8 or not len(images):
        raise UsageError(f"images: expected (N, C, H, W) uint8, got {tuple(images.shape)} {images.dtype}")
    if steps < 1 or batch_size < 1:
        raise UsageError(f"steps and batch_size: expected at least 1, got {steps} and {batch_size}")
    if target == "label":
        raise UsageError("target: expected 'predicted' or a class index; there are no labels here")
    if isinstance(methods, str) or not methods:
        raise UsageError("methods: expected a list of one or more methods")
    requests = [MethodRequest.parse(method) for method in methods]
    if len({request.canonical for request in requests}) < len(requests):
        raise UsageError("methods: expected different ones; binarization makes no difference here")
    channels = classifier.preprocessing.input_size[0]
    if images.shape[1] != channels:
        raise UsageError(f"images: {classifier.name} takes {channels} channels, got {tuple(images.shape)}")
    names = [str(place) for place in range(len(images))] if ids is None else list(ids)
    if len(names) != len(images):
        raise UsageError(f"ids: expected one for each of {len(images)} images, got {len(names)}")
    layers = _layers_from_the_output(classifier, images[:1])
    if not layers:
        raise ModelError(f"{classifier.name} has no weights to randomise")
    stops = sorted({math.ceil(len(layers) * step / steps) for step in range(1, steps + 1)})
    generator = torch.Generator().manual_seed(seed)
    with _restoring(classifier.module):
        with Explainer(classifier, requests, output=output, target=target, chunk=chunk) as explainer:
            original, explained = _maps(explainer, classifier, images, names, None, batch_size)
        # The layers that maps look at stay those of the original model.
        with Explainer(classifier, requests, output=output, target="label", chunk=chunk) as explainer:
            found = [_compare(requests, original, original, 0, None, 0)]
            for step, stop in enumerate(stops, start=1):
                for _, owners in layers[([0, *stops][step - 1]) : stop]:
                    for module in owners:
                        _randomise(module, generator)
                maps, _ = _maps(explainer, classifier, images, names, explained, batch_size)
                found.append(_compare(requests, original, maps, step, layers[stop - 1][0], stop))
    rows = [row for each in zip(*found, strict=True) for row in each]
    return SanityCheck(classifier.name, pl.DataFrame(rows, schema=SANITY_SCHEMA), [name for name, _ in layers])


def _layers_from_the_output(classifier: Classifier, image: torch.Tensor) -> list[tuple[str, list[nn.Module]]]:
    """Modules with parameters, the one that is called last first, so that a module comes after what is inside it.

    Some modules are never called: attention reads the weights of its projections. They go with the nearest module
    around them that is.
    """
    order: list[str] = []
    with classifier.explaining() as module:
        parts = dict(module.named_modules())
        handles = [
            part.register_forward_pre_hook(lambda *_, name=name: None if name in order else order.append(name))
            for name, part in parts.items()
        ]
        try:
            with torch.no_grad():
                classifier.logits(classifier.preprocessing.normalise(image.to(classifier.device)))
        finally:
            for handle in handles:
                handle.remove()
    layers: dict[str, list[nn.Module]] = {name: [] for name in reversed(order)}
    for name, part in parts.items():
        if any(True for _ in part.parameters(recurse=False)):
            while name not in layers:
                name = name.rpartition(".")[0]
            layers[name].append(part)
    return [(name or _own_names(module), owners) for name, owners in layers.items() if owners]


def _own_names(module: nn.Module) -> str:
    """What stands for a network's own name, which is empty: its own parameters, or its kind."""
    return ", ".join(name for name, _ in module.named_parameters(recurse=False)) or type(module).__name__


@contextmanager
def _restoring(module: nn.Module) -> Iterator[None]:
    """Every parameter and buffer as it was, afterwards."""
    kept = [(tensor, tensor.detach().clone()) for tensor in (*module.parameters(), *module.buffers())]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)


def _randomise(module: nn.Module, generator: torch.Generator) -> None:
    """Normal values with each tensor's own mean and spread; of a constant one, a spread of a fiftieth of its size.

    The weights' distribution stays, so that activations keep their order of magnitude; only what was learned goes.
    """
    with torch.no_grad():
        for parameter in module.parameters(recurse=False):
            values = parameter.detach().float()
            spread = values.std(unbiased=False) if values.numel() > 1 else values.new_zeros(())
            spread = torch.where(spread > 0, spread, 0.02 * values.abs().mean().clamp(min=1e-3))
            drawn = torch.randn(parameter.shape, generator=generator).to(parameter.device)
            parameter.copy_((values.mean() + spread * drawn).to(parameter.dtype))


def _maps(
    explainer: Explainer,
    classifier: Classifier,
    images: torch.Tensor,
    ids: Sequence[str],
    targets: torch.Tensor | None,
    batch_size: int,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """One (N, H, W) a method, and the explained classes (N,)."""
    parts, explained = [], []
    for start in range(0, len(images), batch_size):
        place = slice(start, start + batch_size)
        batch = classifier.preprocessing.normalise(images[place].to(classifier.device))
        labels = torch.zeros(len(batch), dtype=torch.int64, device=batch.device) if targets is None else targets[place]
        result = explainer(batch, labels, ids[place])
        parts.append(result.maps)
        explained.append(result.target)
    return [torch.cat(maps) for maps in zip(*parts, strict=True)], torch.cat(explained)


def _compare(
    requests: Sequence[MethodRequest],
    original: Sequence[torch.Tensor],
    maps: Sequence[torch.Tensor],
    step: int,
    layer: str | None,
    randomised: int,
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for request, before, after in zip(requests, original, maps, strict=True):
        first, second = before.abs(), after.abs()
        spearman = heatmap_spearman(second, first).double()
        usable = spearman.isfinite()
        similar = _ssim(_to_range(first), _to_range(second)).double()[usable]
        rows.append(
            {
                "method": request.canonical,
                "step": step,
                "layer": layer,
                "layers_randomised": randomised,
                "spearman": float(spearman[usable].mean()) if usable.any() else None,
                "ssim": float(similar.mean()) if usable.any() else None,
                "n": int(usable.sum()),
            }
        )
    return rows


def _to_range(maps: torch.Tensor) -> torch.Tensor:
    """Each map scaled to 0..1; a constant one to 0."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)


def _ssim(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Structural similarity of maps in 0..1, (N,)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    values = structural_similarity_index_measure(
        first[:, None], second[:, None], data_range=1.0, kernel_size=_SSIM_WINDOW, reduction="none"
    )
    assert isinstance(values, torch.Tensor)
    return values.reshape(len(first))


def _verdict(spearman: Sequence[float | None], layers: Sequence[str | None]) -> str:
    last = spearman[-1]
    if last is None:
        return "its maps are flat once the weights are random: they depend on the model"
    if last > UNCHANGED:
        return (
            f"its maps stay as they are (rank correlation {last:.2f} with every weight random): it does not explain "
            "this model"
        )
    if last > CHANGED:
        return (
            f"its maps change little (rank correlation {last:.2f} with every weight random): much of them is the "
            "image, not the model"
        )
    first = next(at for at, value in enumerate(spearman) if value is not None and value <= CHANGED)
    return (
        f"its maps depend on the model: rank correlation {last:.2f} at the end, below {CHANGED} from {layers[first]} on"
    )
