"""Methods that follow a transformer's attention from its output back to the patches.

Attention is taken where it is computed: from ``scaled_dot_product_attention``, which timm, torchvision and transformers
call, by computing it openly while the pass runs; and where timm's own modules compute it, at their attention dropout.
Afterwards everything is as it was.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional as F

from explanation_alignment.errors import ModelError
from explanation_alignment.saliency.class_activation import upsampled
from explanation_alignment.saliency.passes import Explained

__all__ = ["attention_rollout", "generic_attention"]

#: More tokens than this before the patches there are in no known model.
_MOST_PREFIX: Final = 16
_ONE_AT_A_TIME: Final = threading.RLock()


def attention_rollout(explained: Explained) -> torch.Tensor:
    """Attention rollout (Abnar and Zuidema 2020, eq. 1): the product over layers of (mean head + identity) / 2.

    Returns:
        (B, H, W): how much of each patch reaches the class token; without one, the mean over the patches.

    Raises:
        ModelError: the network has no attention over all patches.
    """
    maps = []
    for part in explained.parts():
        with torch.no_grad(), _watching(explained) as seen:
            part.classifier.logits(part.images)
        layers = _layers(part, seen)
        tokens = layers[0].shape[-1]
        identity = torch.eye(tokens, device=part.images.device)
        flow = identity.expand(len(part.images), -1, -1)
        for attention in layers:
            mixed = (attention.mean(dim=1) + identity) / 2
            flow = (mixed / mixed.sum(dim=-1, keepdim=True)) @ flow
        maps.append(_to_pixels(part, flow))
    return torch.cat(maps)


def generic_attention(explained: Explained) -> torch.Tensor:
    """Attention weighted by its gradient (Chefer, Gur, Wolf 2021): self-attention's case of their rules.

    Per layer the mean over heads of the positive part of gradient times attention (eq. 5) is added to the relevance,
    multiplied with it (eq. 6).

    Returns:
        (B, H, W), for the explained class: the relevance of each patch for the class token; without one, the mean over
        the patches.

    Raises:
        ModelError: the network has no attention over all patches.
    """
    maps = []
    for part in explained.parts():
        images = part.images.detach().requires_grad_()
        with torch.enable_grad(), _watching(explained) as seen:
            objective = part.all_outputs(images).gather(1, part.targets[:, None]).sum()
        layers = _layers(part, seen)
        gradients = torch.autograd.grad(objective, layers, allow_unused=True)
        relevance = torch.eye(layers[0].shape[-1], device=images.device).expand(len(images), -1, -1)
        for attention, gradient in zip(layers, gradients, strict=True):
            if gradient is not None:
                relevance = relevance + (gradient * attention.detach()).relu().mean(dim=1) @ relevance
        maps.append(_to_pixels(part, relevance))
    return torch.cat(maps)


@contextmanager
def _watching(explained: Explained) -> Iterator[list[torch.Tensor]]:
    """Collects the attention matrices (B, heads, to, from) of the passes inside, in their order."""
    seen: list[torch.Tensor] = []

    def open_attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        if is_causal or enable_gqa:
            return fused(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -math.inf) if hidden else scores + attn_mask
        attention = scores.softmax(dim=-1)
        seen.append(attention)
        return attention @ value

    def after_dropout(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        seen.append(output)

    with _ONE_AT_A_TIME, ExitStack() as stack:
        fused = F.scaled_dot_product_attention
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        for part in explained.classifier.module.modules():
            dropout: Any = getattr(part, "attn_drop", None)
            if isinstance(dropout, nn.Module):
                stack.callback(dropout.register_forward_hook(after_dropout).remove)
        stack.callback(setattr, F, "scaled_dot_product_attention", fused)
        F.scaled_dot_product_attention = open_attention
        yield seen


def _layers(explained: Explained, seen: list[torch.Tensor]) -> list[torch.Tensor]:
    """The attention matrices if all are over the same tokens of whole images."""
    name, images = explained.classifier.name, len(explained.images)
    if not seen:
        raise ModelError(f"{name} has no attention that can be watched; attention methods need a vision transformer")
    odd = next((each for each in seen if each.ndim != 4 or each.shape != (images, *each.shape[1:])), None)
    if odd is None:
        odd = next((each for each in seen if each.shape[-2:] != (seen[0].shape[-1],) * 2), None)
    if odd is not None:
        raise ModelError(
            f"{name} has attention of shape {tuple(odd.shape)} for {images} images: not over all patches in every "
            "layer (windows, stages or pooling), so it cannot be followed; take a class activation map"
        )
    _prefix_and_grid(explained, seen[0].shape[-1])
    return seen


def _prefix_and_grid(explained: Explained, tokens: int) -> tuple[int, tuple[int, int]]:
    """How many tokens stand before the patches, and the patches' (rows, columns)."""
    known = getattr(explained.classifier.module, "num_prefix_tokens", None)
    height, width = explained.size
    for prefix in [known] if isinstance(known, int) else range(_MOST_PREFIX + 1):
        patches = tokens - prefix
        rows = round(math.sqrt(max(patches, 0) * height / width))
        if rows > 1 and patches % rows == 0 and abs(patches // rows - rows * width / height) < 1:
            return prefix, (rows, patches // rows)
    raise ModelError(
        f"{explained.classifier.name}: {tokens} tokens are no grid of patches of a {height} x {width} image, whatever "
        "stands before them"
    )


def _to_pixels(explained: Explained, flow: torch.Tensor) -> torch.Tensor:
    """From (B, tokens, tokens) what reaches the output, as maps (B, H, W)."""
    prefix, (rows, columns) = _prefix_and_grid(explained, flow.shape[-1])
    module = explained.classifier.module
    pooled = getattr(module, "global_pool", None)
    by_token = prefix > 0 and (pooled in ("token", "") or not isinstance(pooled, str))
    if by_token:
        heads = 2 if hasattr(module, "head_dist") and prefix > 1 else 1  # a distilled one reads a second token
        reached = flow[:, :heads].mean(dim=1)
    else:
        reached = flow[:, prefix:].mean(dim=1)
    return upsampled(reached[:, prefix:].view(len(flow), rows, columns).to(torch.float32), explained.size)
