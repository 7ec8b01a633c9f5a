"""The pages of README, docs, examples and notebooks as tests read them: their blocks, commands, links and anchors."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import typer.main

from explanation_alignment.cli.app import app

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        *(ROOT / "tests").rglob("*.md"),
    ]
)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
#: What the site makes itself (docs/_site/pages.py), so that no file is there to link to.
GENERATED = {"reference/commands.md", *(f"notebooks/{notebook.stem}.md" for notebook in NOTEBOOKS)}

#: ``# needs: ImageNet`` in a block, at the end of a command or on a line of its own at the top: read, not run.
_NEEDS = re.compile(r"#\s*needs:\s*(.+?)\s*$")
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ ]*$", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and what it needs beside the repository, if it says so."""

    language: str
    text: str
    needs: str | None


@dataclass(frozen=True)
class Command:
    """A line of a shell block: its words, and what it needs, if it says so."""

    line: str
    words: list[str]
    needs: str | None


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """A page's text; of a notebook its cells, code in fences."""
    if page.suffix != ".ipynb":
        return page.read_text(encoding="utf-8")
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for text, kind in texts)


def blocks(page: Path, *languages: str) -> list[Block]:
    found = []
    for language, text in _FENCE.findall(text_of(page)):
        first = _NEEDS.match(text.partition("\n")[0])
        found.append(Block(language, text, first.group(1) if first else None))
    return [block for block in found if not languages or block.language in languages]


def commands(block: Block) -> list[Command]:
    """The commands of a shell block, continued lines joined, parts of ``&&`` apart."""
    found = []
    for line in block.text.replace("\\\n", " ").splitlines():
        needs = _NEEDS.search(line)
        for part in line[: needs.start() if needs else None].split(" && "):
            words = shlex.split(part, comments=True)
            if words:
                found.append(Command(" ".join(part.split()), words, block.needs or (needs.group(1) if needs else None)))
    return found


@lru_cache
def application() -> Any:
    return typer.main.get_command(app)


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command of the application that words without ``ealign`` call, and the rest of them."""
    found, rest = application(), list(words)
    while rest and hasattr(found, "commands"):
        if rest[0] not in found.commands:
            break
        found = found.commands[rest.pop(0)]
    return found, rest


def all_commands() -> Iterator[tuple[list[str], Any]]:
    """Every command of the application with the words that call it."""

    def below(group: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, [*path, name])
            else:
                yield [*path, name], command

    yield from below(application(), [])


def example_of(command: Any) -> str | None:
    """The example at the end of a command's help, without ``ealign``."""
    match = re.search(r"Example: ealign (.+)$", " ".join(f"{command.help} {command.epilog or ''}".split()))
    return match.group(1) if match else None


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text_of(page))


def links(page: Path) -> list[str]:
    """Targets of the links and pictures of a page."""
    return re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", re.sub(r"`[^`\n]*`", "", prose(page)))


def anchors(page: Path) -> set[str]:
    """What headings of a page can be linked to by, as the site and code hosts make it of them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)\s*#*$", prose(page), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        found.add(slug)
        found.add(re.sub(r"-+", "-", slug))  # Python-Markdown joins what several blanks leave
    return found
