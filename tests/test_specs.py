"""Names with arguments: what is read, what is refused, and that the canonical text reads back as itself."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explanation_alignment.errors import UnknownNameError, UsageError
from explanation_alignment.specs import check_arguments, format_call, parse_bool, parse_call

names = st.from_regex(r"[A-Za-z0-9_.+-]+", fullmatch=True)
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True)
values = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text == text.strip()
)
blanks = st.text(" \t\n", max_size=3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gradcam", ("gradcam", {})),
        ("  gradcam\n", ("gradcam", {})),
        ("gradcam()", ("gradcam", {})),
        ("gradcam ( )", ("gradcam", {})),
        ("gradcam(layer=last_conv)", ("gradcam", {"layer": "last_conv"})),
        (
            " gradcam( layer = layer4.2 ,binarize=threshold:0.4 ) ",
            ("gradcam", {"layer": "layer4.2", "binarize": "threshold:0.4"}),
        ),
        ("a(b=c=d)", ("a", {"b": "c=d"})),
        ("a(b=two words)", ("a", {"b": "two words"})),
        ("timm.name-1+2_x", ("timm.name-1+2_x", {})),
    ],
)
def test_parse_call(text: str, expected: tuple[str, dict[str, str]]) -> None:
    assert parse_call(text, "saliency method") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot read saliency method ''; expected name or name(argument=value, ...)"),
        ("   ", "cannot read saliency method '   '; expected name or"),
        ("two words", "cannot read saliency method 'two words'"),
        ("name(a=1", "cannot read saliency method 'name(a=1'"),
        ("name a=1)", "cannot read saliency method"),
        ("name(a=1)b", "cannot read saliency method"),
        ("(a=1)", "cannot read saliency method"),
        ("name(a)", "cannot read 'a' in saliency method 'name(a)'; expected argument=value"),
        ("name(a=)", "cannot read 'a=' in saliency method"),
        ("name(=1)", "cannot read '=1' in saliency method"),
        ("name(a=1,)", "cannot read '' in saliency method"),
        ("name(,a=1)", "cannot read '' in saliency method"),
        ("name(,)", "cannot read '' in saliency method"),
        ("name(a=1, b=2, a=1)", "saliency method 'name(a=1, b=2, a=1)' gives 'a' twice"),
    ],
)
def test_parse_call_refuses(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_call(text, "saliency method")


def test_format_call_is_canonical() -> None:
    assert format_call("name", {}) == "name"
    assert format_call("name", {"b": 2, "a": "x", "c": True, "d": 0.5}) == "name(a=x,b=2,c=true,d=0.5)"


@given(names, st.dictionaries(keys, values, max_size=4))
def test_canonical_text_reads_back(name: str, arguments: dict[str, str]) -> None:
    text = format_call(name, arguments)
    assert parse_call(text, "method") == (name, arguments)
    assert format_call(*parse_call(text, "method")) == text


@given(names, st.dictionaries(keys, values, max_size=4), st.data())
def test_order_and_spaces_do_not_matter(name: str, arguments: dict[str, str], data: st.DataObject) -> None:
    def spaced(word: str) -> str:
        return data.draw(blanks) + word + data.draw(blanks)

    order = data.draw(st.permutations(list(arguments)))
    inside = ",".join(spaced(f"{spaced(key)}={spaced(arguments[key])}") for key in order)
    parsed = parse_call(f"{spaced(name)}({inside})", "method")
    assert format_call(*parsed) == format_call(name, arguments)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        name, arguments = parse_call(text, "method")
    except UsageError:
        return
    assert name
    assert all(key and value for key, value in arguments.items())


class TestCheckArguments:
    def test_known_ones_pass(self) -> None:
        check_arguments("method m", {"layer": 1}, {"layer": None, "relu": None})
        check_arguments("method m", {}, {})

    def test_unknown_ones_suggest_near_ones(self) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown argument of method m 'layers'; did you mean 'layer'\?"):
            check_arguments("method m", {"relu": 1, "layers": 1}, {"layer": None, "relu": None})

    def test_unknown_ones_list_the_known(self) -> None:
        with pytest.raises(UnknownNameError, match="'zzz'; known: layer, relu"):
            check_arguments("method m", {"zzz": 1}, {"relu": None, "layer": None})

    def test_none_taken(self) -> None:
        with pytest.raises(UsageError, match="method m takes no arguments, 'layer' was given"):
            check_arguments("method m", {"layer": 1}, {})


class TestParseBool:
    @pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("True", True), ("FALSE", False)])
    def test_words(self, text: str, value: bool) -> None:
        assert parse_bool(text, "relu") is value

    @pytest.mark.parametrize("text", ["yes", "1", "", "tru"])
    def test_other_words(self, text: str) -> None:
        with pytest.raises(UsageError, match=f"relu: expected true or false, got {text!r}"):
            parse_bool(text, "relu")


def test_a_wrong_name_is_a_wrong_use() -> None:
    error = UnknownNameError("dataset", "imagnet", ["imagenet", "coco"])
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert str(error) == "unknown dataset 'imagnet'; did you mean 'imagenet'?"


@pytest.mark.parametrize(
    ("given", "meant"),
    [("IMAGENET", ["imagenet", "imagenette"]), ("net", ["imagenet", "imagenette"]), ("co", []), ("xyz", [])],
)
def test_a_name_in_another_case_or_a_part_of_it_is_near_too(given: str, meant: list[str]) -> None:
    words = str(UnknownNameError("dataset", given, ["imagenette", "imagenet", "voc-coarse"]))
    if meant:
        assert words.endswith(f"did you mean {' or '.join(repr(name) for name in meant)}?")
    else:
        assert words.endswith("known: imagenet, imagenette, voc-coarse")
