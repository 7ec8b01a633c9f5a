"""README, docs, examples and notebooks, read: every block parses, every option exists, every link leads somewhere.

What they say to run is run in tests/docs.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

import explanation_alignment as ea
from documents import (
    GENERATED,
    NOTEBOOKS,
    PAGES,
    ROOT,
    Command,
    all_commands,
    anchors,
    blocks,
    commands,
    example_of,
    find_command,
    links,
    page_id,
    prose,
)

DOCS = ROOT / "docs"
EVERYTHING = [*PAGES, *NOTEBOOKS]
LANGUAGES = {"python", "sh", "text", "toml", "json", "yaml", "latex", "bibtex", "sql", "html", "csv"}


def check_command(words: list[str]) -> None:
    """Have the application read a command's options and arguments, without running it."""
    found, rest = find_command(words)
    assert not hasattr(found, "commands") or not rest, f"no such command: ealign {shlex.join(words)}"
    if not hasattr(found, "commands"):
        found.make_context(found.name, rest)


def ealign_of(command: Command) -> list[str] | None:
    """A command's words after ``ealign``; None where it is another program's."""
    return command.words[1:] if Path(command.words[0]).name == "ealign" else None


def test_there_is_something_to_read() -> None:
    assert len(PAGES) > 25
    assert len(NOTEBOOKS) == 5
    assert blocks(ROOT / "README.md", "python")
    assert blocks(ROOT / "README.md", "sh")


@pytest.mark.parametrize("page", EVERYTHING, ids=page_id)
def test_blocks_parse(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.language!r}: {block.text[:60]}"
        if block.language == "python":
            tree = ast.parse(block.text)
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ea":
                    assert node.attr in ea.__all__, f"ea.{node.attr}"
        if block.language == "sh":
            assert commands(block)


@pytest.mark.parametrize("page", EVERYTHING, ids=page_id)
def test_commands_exist_with_their_options(page: Path) -> None:
    for block in blocks(page, "sh"):
        for command in commands(block):
            if (words := ealign_of(command)) is not None:
                check_command(words)
    for line in re.findall(r"^    (ealign .+)$", prose(page), flags=re.MULTILINE):
        check_command(shlex.split(re.split(r"\s{2,}", line)[0])[1:])  # words beside it, after blanks, explain


@pytest.mark.parametrize("page", EVERYTHING, ids=page_id)
def test_commands_in_sentences_exist(page: Path) -> None:
    """`ealign show --sort` in a sentence is no whole command; its words and options exist nevertheless."""
    text = re.sub(r"^    .*$", "", prose(page), flags=re.MULTILINE)
    for line in re.findall(r"`ealign ([^`]+)`", text):
        words = shlex.split(" ".join(line.split()))
        found, rest = find_command([word for word in words if word not in ("COMMAND", "--help", "--debug")])
        options = {name for one in found.params for name in (*one.opts, *one.secondary_opts)}
        given = [word for word in rest if word.startswith("--")]
        assert set(given) <= options, f"ealign {line}: {set(given) - options}"
        assert not hasattr(found, "commands") or not rest or "|" in line, f"ealign {line}"


@pytest.mark.parametrize("page", EVERYTHING, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            parts = urlsplit(target)
            assert parts.scheme in ("https", "mailto"), target
            assert parts.scheme == "mailto" or re.fullmatch(r"[\w.-]+\.[a-z]{2,}", parts.netloc), target
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{target}: no such file"
        assert place.is_relative_to(ROOT), f"{target}: outside the repository"
        if anchor:
            assert anchor in anchors(place), f"{target}: no such heading"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=page_id)
def test_pages_of_the_site_link_within_it(page: Path) -> None:
    for target in links(page):
        if not re.match(r"[a-z]+:", target):
            place = (page.parent / target.partition("#")[0]).resolve()
            assert place.is_relative_to(DOCS), f"{target}: not on the site; name it in words"


def test_the_site_lists_every_page_once() -> None:
    def pages(entry: object) -> list[str]:
        if isinstance(entry, dict):
            entry = list(entry.values())
        return [page for item in entry for page in pages(item)] if isinstance(entry, list) else [str(entry)]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} | GENERATED
    assert sorted(listed) == sorted(there), "mkdocs.yml: nav"


def test_the_reference_names_all_that_is_public() -> None:
    text = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    named = {place.rpartition(".")[2] for place in re.findall(r"^::: ([\w.]+)$", text, flags=re.MULTILINE)}
    assert set(ea.__all__) - named == {"ExplanationAlignmentError", "metrics"}  # of the modules errors and metrics
    for place in re.findall(r"^::: ([\w.]+)$", text, flags=re.MULTILINE):
        module, _, name = place.rpartition(".")
        if name in ea.__all__ and name != "metrics":
            assert getattr(importlib.import_module(module), name) is getattr(ea, name), place


def test_every_command_has_one_example() -> None:
    for words, command in all_commands():
        example = example_of(command)
        assert example is not None, words
        assert shlex.split(example)[: len(words)] == words
        check_command(shlex.split(example))
