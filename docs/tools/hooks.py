"""What MkDocs calls while it builds the manual: pages that are made, not written.

Settings and commands come from the program itself (`reference.py`); performance, published numbers,
changes and how to contribute are files beside the manual, where they are also read without it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

TOOLS = Path(__file__).parent
ROOT = TOOLS.parents[1]
sys.path.insert(0, str(TOOLS))

import reference  # noqa: E402

BESIDE = {
    "performance.md": "bench/RESULTS.md",
    "published.md": "bench/published.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"  # what was new once is no answer
PARTS = "<!-- parts of metrics.json -->"
FETCHED = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)="(?:https?:)?//[^"]+')
CANONICAL = re.compile(r'<link rel="canonical"[^>]*>')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    made = {name: (ROOT / path).read_text(encoding="utf-8") for name, path in BESIDE.items()}
    made["changelog.md"] = UNSEARCHED + made["changelog.md"]
    made["reference/settings.md"] = reference.settings()
    made["reference/commands.md"] = reference.commands()
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Fill in what the program knows of `metrics.json`."""
    return markdown.replace(PARTS, reference.metrics()) if PARTS in markdown else markdown


def on_post_page(output: str, page: object, config: MkDocsConfig) -> str:
    """Refuse a page that would fetch something from elsewhere when it is shown."""
    if fetched := FETCHED.findall(CANONICAL.sub("", output)):
        raise PluginError(f"{page}: fetches {fetched[0]}")
    return output
