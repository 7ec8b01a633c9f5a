"""What a pattern, a list and a file of classifiers stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm

import explanation_alignment as ea
from explanation_alignment.errors import ModelError, UnknownNameError, UsageError


def test_a_pattern_stands_for_pretrained_names_with_their_tags() -> None:
    found = ea.expand_spec("timm:convnext_at*")
    assert found
    assert {spec.removeprefix("timm:") for spec in found} == set(timm.list_models("convnext_at*", pretrained=True))
    assert all("." in spec for spec in found)


@pytest.mark.parametrize("weights", ["random", "random:3"])
def test_and_for_architectures_where_weights_are_random(weights: str) -> None:
    found = ea.expand_spec("timm:test_vit*", weights)
    assert set(found) == {f"timm:{name}" for name in timm.list_models("test_vit*")}
    assert "timm:test_vit" in found


def test_tags_may_be_held_against_too() -> None:
    found = ea.expand_spec("timm:*.fb_in22k_ft_in1k")
    assert len(found) > 5
    assert all(spec.endswith(".fb_in22k_ft_in1k") for spec in found)


def test_torchvision() -> None:
    assert ea.expand_spec("torchvision:resnet??") == tuple(f"torchvision:resnet{size}" for size in (18, 34, 50))


def test_one_name_stands_for_itself() -> None:
    for spec in ("timm:resnet18", "hf:a/b", "file:a*b.py:build", "paper:mnist", "nonsense"):
        assert ea.expand_spec(spec) == (spec,)


def test_what_fits_nothing_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"pretrained timm model 'convnxt_tiny\*'; did you mean 'convnext_tiny'"):
        ea.expand_spec("timm:convnxt_tiny*")
    with pytest.raises(UnknownNameError, match="torchvision model 'resnt"):
        ea.expand_spec("torchvision:resnt*")
    with pytest.raises(UsageError, match="patterns go with timm:"):
        ea.expand_spec("hf:microsoft/*")
    with pytest.raises(UsageError, match="a checkpoint is for one classifier"):
        ea.expand_spec("timm:test_vit*", "weights.safetensors")


def test_a_file_holds_specs_weights_and_comments(tmp_path: Path) -> None:
    (tmp_path / "models.txt").write_text(
        "\ufeff# a comment\n\ntimm:resnet18\n  timm:test_vit   random:3   # another seed\n"
        "paper:timm/ssl_*18 default\n'file:my dir/a#b.py:build' \"my weights.pt\"\n"
    )
    assert ea.expand_models(str(tmp_path / "models.txt"), "random") == [
        ea.ModelSpec("timm:resnet18", "random"),
        ea.ModelSpec("timm:test_vit", "random:3"),
        ea.ModelSpec("paper:timm/ssl_resnet18"),
        ea.ModelSpec("file:my dir/a#b.py:build", "my weights.pt"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timm:a b c\n", r"line 1: expected KIND:NAME and perhaps weights, got 'timm:a b c'"),
        ("timm:a\nresnet18\n", "line 2: expected KIND:NAME"),
        ("others.txt\n", "line 1: expected KIND:NAME"),
        ("timm:'a\n", "line 1: No closing quotation"),
        ("# nothing\n", "there is none in it"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "models.txt").write_text(text)
    with pytest.raises(UsageError, match=message):
        ea.expand_models(str(tmp_path / "models.txt"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no file .*nowhere\.txt"):
        ea.expand_models(str(tmp_path / "nowhere.txt"))


def test_order_is_kept_and_each_is_there_once() -> None:
    told: list[str] = []
    found = ea.expand_models(
        ["timm:test_vit2", "timm:test_vit*", ea.ModelSpec("timm:test_vit3", "random"), "timm:test_vit2"],
        "random",
        say=told.append,
    )
    names = [model.spec for model in found]
    assert names[0] == "timm:test_vit2"
    assert sorted(names) == sorted(f"timm:{name}" for name in timm.list_models("test_vit*"))
    assert told == [f"timm:test_vit*: {len(names)} classifiers"]
    assert [str(model) for model in found[:1]] == ["timm:test_vit2 (random)"]


def test_none_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        ea.expand_models([])
