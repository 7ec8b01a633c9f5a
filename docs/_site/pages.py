"""Pages of the site that are made when it is built: the commands, and the notebooks with their figures."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from explanation_alignment.cli.app import app

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
_EXAMPLE = re.compile(r"\s*Example: (ealign .+)$", re.DOTALL)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        page, pictures = notebook_page(notebook)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=page))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def commands_page() -> str:
    """Every command with its options, from the application itself."""
    parts = ["# Commands", "Options that every command has: `--help`; before the command: `--debug`, `--version`."]
    for path, command in commands_of(typer.main.get_command(app), ()):
        text, example = words_of(command)
        parts += [f"## ealign {' '.join(path)}", text]
        if example:
            parts.append(f"```sh\n{example}\n```")
        context = command.make_context(" ".join(path), [], resilient_parsing=True)
        records = [one.get_help_record(context) for one in command.params]
        lines = [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in filter(None, records)]
        if lines:
            parts.append("\n".join(["| | |", "|---|---|", *lines]))
    return "\n\n".join(part for part in parts if part) + "\n"


def commands_of(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands below a group, each with the words it is called by."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*path, name))
        else:
            yield (*path, name), command


def words_of(command: Any) -> tuple[str, str]:
    """What a command's help says, and its example."""
    text = f"{command.help or ''}\n\n{command.epilog or ''}"
    match = _EXAMPLE.search(text)
    if match is None:
        return text.strip(), ""
    return text[: match.start()].strip(), " ".join(match.group(1).split())


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, and the pictures in it by file name."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts, pictures = list[str](), dict[str, bytes]()
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source.replace("](../docs/", "](../").replace(".ipynb)", ".md)"))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Figure {len(pictures)}]({name})")
            elif "text/markdown" in data:
                parts.append("".join(data["text/markdown"]))
            elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
                plain = _COLOURS.sub("", text)
                parts.append(f"```text\n{plain}\n```")
        if len(parts) == 2:  # below the title and the first words
            parts.insert(1, f"*The notebook is `notebooks/{path.name}`.*")
    return "\n\n".join(parts) + "\n", pictures
