"""What readers take away from the page: tables as TSV, figures as SVG and PDF, by stable ids.

The files lie in a folder beside the page. A page that is sent alone still holds its smaller tables
as data URIs, and its drawings, so that the browser saves those from itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from her2pipe.files import write_text
from her2pipe.reporting import html

FOLDER = "files"  # beside the page
MOST_EMBEDDED = 4096  # bytes of a table that the page itself holds
KINDS = ("svg", "pdf", "png")


@dataclass(frozen=True)
class Link:
    """A file to take away: what the link shows, its address, and the name it is saved under."""

    label: str
    address: str
    name: str


class Exits:
    """The ids of a page's tables and figures, and the files beside it.

    Parameters
    ----------
    blocks : iterable of Block
        All blocks of the page; of those that differ from run to run no file lies beside it.

    Attributes
    ----------
    files : dict
        Name of a file to its text or bytes, or to the path that it is a copy of.
    """

    def __init__(self, blocks: Iterable[html.Block] = ()) -> None:
        self.files: dict[str, str | bytes | Path] = {}
        self._ids: set[str] = set()
        varying = [block for block in html.walk(blocks) if isinstance(block, html.RunDependent)]
        self._varying = [block for each in varying for block in html.walk([each])]

    def identify(self, block: html.Table | html.Figure) -> str:
        """Return the id of a table or figure, which no other of the page has."""
        kind = "tab" if isinstance(block, html.Table) else "fig"
        return self.reserve(block.id or f"{kind}-{_short(block.caption)}")

    def reserve(self, wanted: str) -> str:
        """Return an id, with a number where the page has it already."""
        name, count = wanted, 1
        while name in self._ids:
            count += 1
            name = f"{wanted}-{count}"
        self._ids.add(name)
        return name

    def links(self, block: html.Table | html.Figure, name: str) -> list[Link]:
        """Return the links of a table or figure to what can be taken away of it."""
        if isinstance(block, html.Table):
            return [self._table(block, f"{name}.tsv")] if block.tsv else []
        links: list[Link] = []
        for kind in KINDS:
            content = _content(block, kind)
            if content is not None and (kind != "png" or not links):
                self.files[f"{name}.{kind}"] = content
                links.append(_link(kind.upper(), f"{name}.{kind}"))
        return links

    def _table(self, block: html.Table, name: str) -> Link:
        varies = any(block is each for each in self._varying)
        if not varies:
            self.files[name] = block.tsv
            if len(block.tsv.encode()) > MOST_EMBEDDED:
                return _link("TSV", name)
        address = "data:text/tab-separated-values;charset=utf-8," + quote(block.tsv, safe=",:;/()")
        return Link("TSV", address, name)

    def write(self, folder: Path) -> None:
        """Write all files into a folder beside the page, in place of those that were there."""
        beside = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        for name, content in self.files.items():
            if isinstance(content, Path):
                shutil.copyfile(content, beside / name)
            elif isinstance(content, bytes):
                (beside / name).write_bytes(content)
            else:
                write_text(beside / name, content)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)


def _content(figure: html.Figure, kind: str) -> str | bytes | Path | None:
    """Return a figure as a file of a kind: drawn by the page, marked, or as it was saved."""
    if kind in figure.files:
        return figure.files[kind]
    path = Path(f"{figure.source}.{kind}")
    if figure.source is None or not path.exists():
        return None
    if kind == "svg" and figure.mark:
        return html.mark_svg(path.read_text(encoding="utf-8"), figure.mark)
    return path


def _link(label: str, name: str) -> Link:
    return Link(label, f"{FOLDER}/{quote(name)}", name)


def _short(caption: str) -> str:
    """Return an id made of the beginning of a caption."""
    first = caption.split(". ")[0].removesuffix(".")
    return html.slug(first)[: html.ID_LENGTH].strip("-.").lower() or "unnamed"
