"""The manual as tests read it: its pages, their blocks of code, the commands that they name."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```$", re.M | re.S)
INLINE = re.compile(r"`(?:\.venv/bin/)?(her2pipe [a-z][^`]*)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: language, what follows it, text without indentation."""

    page: str
    language: str
    options: str
    text: str


def pages():
    """Return README and the pages of the manual, by their paths in the repository."""
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}


def blocks(language):
    """Return all fenced blocks of a language."""
    found = []
    for page, text in pages().items():
        for indent, name, options, body in FENCE.findall(text):
            if name == language:
                body = re.sub(f"^{indent}", "", body, flags=re.M)
                found.append(Block(page, name, options.strip(), body))
    return found


def shell_lines():
    """Return each command line of the blocks of shell, in words, with its page."""
    lines = []
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                lines.append((block.page, words))
    return lines


def inline_commands():
    """Return each command of her2pipe that stands in a sentence, in words, with its page."""
    lines = []
    for page, text in pages().items():
        for line in INLINE.findall(FENCE.sub("", text)):
            lines.append((page, shlex.split(" ".join(line.split()))))
    return lines
