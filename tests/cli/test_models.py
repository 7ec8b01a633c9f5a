"""``ealign models`` and its Python form: what there is, found by part of a name or a pattern."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import explanation_alignment as ea
from explanation_alignment.cli.app import app
from explanation_alignment.errors import UnknownNameError


def models(*words: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["models", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout, result.stderr


def test_without_a_pattern_it_says_what_kinds_there_are() -> None:
    out, _ = models()
    for words in (
        "195  paper:timm/NAME",
        "22  paper:torchvision/NAME",
        "torchvision:NAME",
        "timm:NAME",
        "hf:",
        "file:",
    ):
        assert words in out
    assert len(out.splitlines()) < 15
    assert max(map(len, out.splitlines())) <= 100


def test_a_pattern_finds_specs_with_size_and_parameters() -> None:
    out, err = models("convnext_base*")
    lines = out.splitlines()
    assert any(line.split() == ["paper:timm/convnext_base", "224", "88.59"] for line in lines)
    assert any(line.split() == ["torchvision:convnext_base.IMAGENET1K_V1", "224", "88.59"] for line in lines)
    assert any(line.startswith("timm:convnext_base.fb_in1k") for line in lines)
    assert all("convnext_base" in line for line in lines if ":" in line.split()[0])
    assert max(map(len, lines)) <= 100
    assert not err


def test_long_lists_are_cut_and_said_to_be() -> None:
    out, err = models("resnet")
    assert len(out.splitlines()) <= 50
    more = int(err.split()[0])
    everything, nothing = models("resnet", "--all")
    assert len(everything.splitlines()) == len(out.splitlines()) + more
    assert not nothing


def test_json_has_all_of_them() -> None:
    rows = json.loads(models("--format", "json")[0])
    assert len(rows) == len(ea.list_classifiers())
    assert len({row["spec"] for row in rows}) == len(rows)
    assert set(rows[0]) == {"spec", "weights", "input_size", "parameters", "note"}


def test_part_of_a_name_is_enough_and_capitals_do_not_matter() -> None:
    specs = [entry.spec for entry in ea.list_classifiers("ResNet10T")]
    assert specs == ["timm:resnet10t.c3_in1k"]
    assert {entry.spec for entry in ea.list_classifiers("torchvision:alex*")} == {"torchvision:alexnet.IMAGENET1K_V1"}
    # by its weights' name too
    assert "paper:timm/tf_efficientnet_b0" in {entry.spec for entry in ea.list_classifiers("tf_efficientnet_b0.ns*")}


def test_a_note_is_shown_where_few_are_listed() -> None:
    out, _ = models("ig_resnext")
    assert "the library's alias loaded the 32x8d" in " ".join(out.split())
    assert "resnext101_32x8d.fb_wsl_ig1b_ft_in1k" in out


def test_unknown_ones_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown classifier 'resnet5O'; did you mean 'resnet50'"):
        ea.list_classifiers("resnet5O")


@pytest.mark.slow
def test_every_spec_listed_is_one_that_loads_by_that_name() -> None:
    from explanation_alignment.classifiers.timm_models import check_name

    for entry in ea.list_classifiers():
        if entry.kind == "timm":
            check_name(entry.spec.partition(":")[2])
