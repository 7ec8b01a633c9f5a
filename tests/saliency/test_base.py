"""Saliency methods by name: what is read, its canonical text, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explanation_alignment.binarization import Binarization
from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.saliency.base import METHODS, MethodRequest


@pytest.mark.parametrize(
    ("text", "canonical", "binarization"),
    [
        ("vanilla_gradients", "vanilla_gradients", "std:1"),
        (" vanilla_gradients ( ) ", "vanilla_gradients", "std:1"),
        ("vanilla_gradients(binarize=otsu)", "vanilla_gradients", "otsu"),
        ("vanilla_gradients(binarize=std:1.0)", "vanilla_gradients", "std:1"),
        ("gradcam", "gradcam", "threshold:0.5"),
        ("gradcam(relu=false)", "gradcam", "threshold:0.5"),
        ("gradcam(relu=False, binarize=threshold:0.50)", "gradcam", "threshold:0.5"),
        ("gradcam(relu=True)", "gradcam(relu=true)", "threshold:0.5"),
        ("gradcam(layer=last_conv, binarize=threshold:0.4)", "gradcam(layer=last_conv)", "threshold:0.4"),
        ("gradcam(relu=true,layer=layer4.1)", "gradcam(layer=layer4.1,relu=true)", "threshold:0.5"),
        ("gradcam( binarize = area , relu = true , layer = a.b )", "gradcam(layer=a.b,relu=true)", "area"),
    ],
)
def test_parsing(text: str, canonical: str, binarization: str) -> None:
    request = MethodRequest.parse(text)
    assert request.canonical == canonical
    assert request.binarization == binarization
    assert MethodRequest.parse(str(request)) == request


def test_the_text_in_full() -> None:
    text = str(MethodRequest.parse("gradcam(relu=true, layer=layer4)"))
    assert text == "gradcam(binarize=threshold:0.5,layer=layer4,relu=true)"


def test_arguments_are_typed_and_defaults_dropped() -> None:
    assert MethodRequest.parse("gradcam(layer=x, relu=true)").arguments == {"layer": "x", "relu": True}
    assert MethodRequest.parse("gradcam(relu=false)").arguments == {}


def test_order_does_not_matter() -> None:
    words = ["layer=layer4", "relu=true", "binarize=percentile:90"]
    texts = {str(MethodRequest.parse(f"gradcam({','.join(order)})")) for order in itertools.permutations(words)}
    assert len(texts) == 1


@given(
    st.none() | st.from_regex(r"[a-z_][a-z0-9_.]{0,12}", fullmatch=True),
    st.booleans(),
    st.none()
    | st.sampled_from(["area", "otsu"])
    | st.floats(-5, 5).map("std:{:.17f}".format)
    | st.floats(0, 1).map("threshold:{!r}".format),
)
def test_the_canonical_text_reads_back(layer: str | None, relu: bool, binarize: str | None) -> None:
    given_words = {"layer": layer, "relu": str(relu), "binarize": binarize}
    words = [f"{key}={value}" for key, value in given_words.items() if value is not None]
    request = MethodRequest.parse(f"gradcam({', '.join(words)})")
    assert MethodRequest.parse(str(request)) == request
    assert str(MethodRequest.parse(str(request))) == str(request)
    assert MethodRequest.parse(request.canonical).canonical == request.canonical
    assert request.arguments.get("layer") == layer
    assert request.arguments.get("relu", False) is relu


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("grad_cam", UnknownNameError, r"unknown saliency method 'grad_cam'; did you mean 'gradcam' or"),
        ("vanilla_gradient", UnknownNameError, r"did you mean 'vanilla_gradients'"),
        ("x", UnknownNameError, r"unknown saliency method 'x'; known: .*gradcam.* and \d+ more"),
        ("GradCAM", UnknownNameError, "unknown saliency method 'GradCAM'"),
        (
            "gradcam(layers=x)",
            UnknownNameError,
            r"argument of saliency method gradcam 'layers'; did you mean 'layer'\?",
        ),
        ("gradcam(binarise=otsu)", UnknownNameError, r"'binarise'; did you mean 'binarize'\?"),
        ("vanilla_gradients(layer=x)", UnknownNameError, "argument of saliency method vanilla_gradients 'layer'"),
        ("gradcam(relu=yes)", UsageError, r"gradcam\(relu=...\): expected true or false, got 'yes'"),
        ("gradcam(relu)", UsageError, "cannot read 'relu' in saliency method"),
        ("gradcam(relu=true", UsageError, "cannot read saliency method"),
        ("gradcam(relu=true, relu=true)", UsageError, "gives 'relu' twice"),
        ("gradcam(binarize=st:1)", UnknownNameError, r"unknown binarization 'st'; did you mean '?std'?"),
        ("gradcam(binarize=threshold:2)", UsageError, "threshold:2 is out of range"),
        ("gradcam(binarize=std)", UsageError, "'std' needs a number"),
        ("", UsageError, "cannot read saliency method ''"),
    ],
)
def test_refused(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MethodRequest.parse(text)


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_is_whole(name: str) -> None:
    entry = METHODS[name]
    assert entry.summary
    assert entry.source
    assert entry.passes
    assert str(Binarization.parse(entry.default_binarization)) == entry.default_binarization
    request = MethodRequest.parse(name)
    assert (request.name, request.canonical, request.binarization) == (name, name, entry.default_binarization)
    assert all(argument.meaning for argument in entry.arguments.values())
    assert "binarize" not in entry.arguments
    for argument in entry.arguments.values():  # a default reads back as itself
        if argument.default is not None:
            word = str(argument.default).lower() if isinstance(argument.default, bool) else str(argument.default)
            assert argument.read(word, name) == argument.default
    if entry.kind == "own":
        assert callable(entry.load())


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("integrated_gradients(steps=50)", "integrated_gradients"),
        ("integrated_gradients(baseline=blur, steps=020)", "integrated_gradients(baseline=blur,steps=20)"),
        ("smoothgrad(noise=0.150)", "smoothgrad"),
        ("smoothgrad(noise=1.0)", "smoothgrad(noise=1)"),
        ("lime(segments=grid:4x4, ridge=1e0)", "lime(segments=grid:4)"),
        ("kernel_shap(segments=slic:050)", "kernel_shap(segments=slic:50)"),
        ("occlusion(window=16)", "occlusion(window=16)"),
        ("gradcam++(relu=true)", "gradcam++"),
        ("eigencam(centered=true,grid=7x7)", "eigencam(centered=true,grid=7)"),
        ("gradcam(grid=1x2)", "gradcam(grid=1x2)"),
    ],
)
def test_arguments_are_canonical(text: str, canonical: str) -> None:
    request = MethodRequest.parse(text)
    assert request.canonical == canonical
    assert MethodRequest.parse(canonical) == request


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("integrated_gradients(steps=0)", "whole number of at least 1, got '0'"),
        ("integrated_gradients(steps=ten)", "whole number"),
        ("integrated_gradients(baseline=blak)", r"unknown value of .*baseline.* 'blak'; did you mean 'black'"),
        ("smoothgrad(noise=2)", "a number from 0 to 1, got '2'"),
        ("smoothgrad(noise=nan)", "a number from 0 to 1"),
        ("rise(keep=0)", "a number above 0 to 1"),
        ("lime(segments=grid:1)", "expected N or HxW"),
        ("lime(segments=grid:1x1)", "with more than one cell, .* got '1x1'"),
        ("gradcam(grid=1x1)", "with more than one cell, .* got '1x1'"),
        ("gradcam(grid=1x01)", "with more than one cell"),
        ("lime(segments=slick:4)", "grid:N, grid:HxW or slic:N"),
        ("xrai(algorithm=best)", "known: fast, full"),
        ("guided_backprop(layer=x)", "unknown argument of saliency method guided_backprop 'layer'"),
    ],
)
def test_arguments_are_strict(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        MethodRequest.parse(text)
