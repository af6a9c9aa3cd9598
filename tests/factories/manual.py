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


def table_columns():
    """Return the columns that the manual lists of each table, by a pattern of its path."""
    text = pages()["docs/reference/columns.md"]
    tables = {}
    for path, body in re.findall(r"^### (\S+)\n(.*?)(?=^##|\Z)", text, re.M | re.S):
        names = [
            n for row in re.findall(r"^\| (`.*?`) \|", body, re.M) for n in row[1:-1].split("`, `")
        ]
        also = re.findall(r"`(\w+\.tsv)`", body)
        for file in (path, *(f"{path.rpartition('/')[0]}/{name}" for name in also)):
            tables[_pattern(file)] = [_pattern(name) for name in names]
    return tables


def unlisted_columns(results):
    """Return the columns of all tables of a study that the manual does not list.

    Those of the page (`report/files`) have the page's own headings.
    """
    tables, missing = table_columns(), []
    for file in sorted(results.rglob("*.tsv")):
        path = file.relative_to(results).as_posix()
        if path.startswith("report/files/"):
            continue
        columns = [listed for pattern, listed in tables.items() if re.fullmatch(pattern, path)]
        if not columns:
            missing.append(path)
            continue
        for name in file.read_text(encoding="utf-8").splitlines()[0].split("\t"):
            if not any(re.fullmatch(each, name) for listed in columns for each in listed):
                missing.append(f"{path}: {name}")
    return missing


def _pattern(text):
    """Return an expression in which names in braces stand for any."""
    return re.sub(r"\\\{\w+\\\}", ".+", re.escape(text))
