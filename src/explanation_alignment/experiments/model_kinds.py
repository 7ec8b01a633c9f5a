"""The three kinds of models the study tells apart: convolutional networks, transformers, and others.

The lists of published models say it of each; of other models it is read off the module of timm or torchvision that
defines them. Needs neither.
"""

from __future__ import annotations

from typing import Final

__all__ = ["KINDS", "kind_of"]

KINDS: Final = ("cnn", "transformer", "other")

_CNNS: Final = (
    "alexnet byobnet convmixer convnext cspnet csatv2 densenet dla dpn efficientnet ghostnet googlenet hardcorenas "
    "hgnet hrnet inception inception_next inception_resnet_v2 inception_v3 inception_v4 mambaout mnasnet mobilenetv2 "
    "mobilenetv3 mobilenetv5 nasnet nfnet pnasnet rdnet regnet repghost res2net resnest resnet resnetv2 rexnet "
    "selecsls senet shufflenetv2 sknet squeezenet starnet tresnet vgg vovnet xception xception_aligned"
)
_TRANSFORMERS: Final = (
    "beit cait coat crossvit davit deit eva gcvit hiera mvitv2 naflexvit pit pvt_v2 swin_transformer "
    "swin_transformer_v2 swin_transformer_v2_cr tiny_vit tnt twins vision_transformer vision_transformer_relpos "
    "vision_transformer_sam visformer vitamin volo xcit"
)


def kind_of(family: str | None) -> str:
    """The kind of a model by what a run records as its family.

    Args:
        family: one of the three kinds, or the name of the module that defines the model; None where nothing is known.

    Returns:
        ``"cnn"``, ``"transformer"`` or ``"other"``: hybrids, perceptrons, and what is not known.

    Example:
        >>> kind_of("resnet"), kind_of("swin_transformer"), kind_of("mlp_mixer"), kind_of("transformer")
        ('cnn', 'transformer', 'other', 'transformer')
    """
    if family in KINDS:
        return str(family)
    if family in _CNNS.split():
        return "cnn"
    return "transformer" if family in _TRANSFORMERS.split() else "other"
