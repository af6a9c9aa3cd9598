"""Pseudonyms in place of the names of slides and patients, on a page that leaves the hospital.

Names are replaced in the finished blocks, whatever section wrote them: in the columns of slides and
patients, after the words slide and patient, and wherever a distinctive name stands as a word of its
own. Paths of files are left out. A pseudonym is made of the cohort and the place in its sheet, so
that it stays when a study is run again, and rows at the end of a sheet change no other's.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from her2pipe.reporting import html

HIDDEN_PATH = "(path)"
SHORTEST = 4  # characters of a name that is replaced wherever it stands
KEPT = (
    "image",
    "source",
    "files",
    "macro",
    "scene",
    "picture",
)  # fields that hold no text for readers
WORD = re.compile(r"[^\s,;:()\[\]{}\"'<>=|/\\]+")
NAMED = re.compile(r"\b(slides?|patients?|images?|cases?) ([^\s,;:()\[\]{}\"'<>=|]+)", re.I)
PATH = re.compile(
    r"(?<![\w.:/+-])(?:[A-Za-z]:)?[\\/](?:[^\s\"'<>|,;:()]+)"  # absolute
    r"|(?<![\w:/+])(?:[\w.~+ -]+[\\/])+[^\s\"'<>|,;:()/\\]+\."
    r"(?:svs|tiff?|ndpi|mrxs|scn|vsi|bif|jpe?g|png|npy|h5|tsv|csv|xlsx|ya?ml|json|zip|geojson)\b"
)


class Pseudonyms:
    """Pseudonyms of the slides and patients of a study.

    Parameters
    ----------
    ledger : iterable of dict
        One row per slide: slide, patient, cohort.
    """

    def __init__(self, ledger: Iterable[Mapping[str, str]]):
        self.slides: dict[str, str] = {}
        self.patients: dict[str, str] = {}
        numbers: dict[tuple[str, str], int] = {}
        for row in ledger:
            for kind, names in (("slide", self.slides), ("patient", self.patients)):
                if (name := row[kind]) and name not in names:
                    number = numbers[row["cohort"], kind] = (
                        numbers.get((row["cohort"], kind), 0) + 1
                    )
                    names[name] = f"{row['cohort']}-{kind}-{number}"
        self._all = self.patients | self.slides
        self._distinctive = {n: p for n, p in self._all.items() if len(n) >= SHORTEST}
        self._slugs = {html.slug(name): html.slug(p) for name, p in self._distinctive.items()}
        spaced = sorted((n for n in self._distinctive if not WORD.fullmatch(n)), key=len)
        self._spaced = spaced[::-1]  # a name that holds another first

    def in_text(self, text: str) -> str:
        """Return a text for readers without names and paths."""
        if text.startswith("data:"):
            return text
        for name in self._spaced:
            text = text.replace(name, self._distinctive[name])
        text = PATH.sub(HIDDEN_PATH, text)
        text = NAMED.sub(self._after_word, text)
        return WORD.sub(self._word, text)

    def _after_word(self, match: re.Match[str]) -> str:
        names = self.patients if match[1].lower().startswith("patient") else self._all
        name = match[2].rstrip(".")
        return f"{match[1]} {names.get(name, name)}{match[2][len(name) :]}"

    def _word(self, match: re.Match[str]) -> str:
        name = match[0].rstrip(".")
        return self._distinctive.get(name, name) + match[0][len(name) :]

    def in_id(self, name: str) -> str:
        """Return the id of a figure or table without names."""
        for slug, pseudonym in self._slugs.items():
            name = re.sub(rf"(?<![\w.+]){re.escape(slug)}(?![\w.+])", pseudonym, name)
        head, mark, last = name.rpartition("map-")
        return f"{head}{mark}{html.slug(self._all.get(last, last))}" if mark else name

    def in_block(self, block: html.Block) -> html.Block:
        """Return a block without names and paths."""
        if isinstance(block, html.Table):
            return self._table(block)
        changes = {}
        for field in dataclasses.fields(block):  # type: ignore[arg-type]
            if field.name == "id":
                changes["id"] = self.in_id(getattr(block, "id", ""))
            elif field.name not in KEPT and getattr(block, "macro", "") != "bokeh":
                changes[field.name] = self._value(getattr(block, field.name))
        return dataclasses.replace(block, **changes)  # type: ignore[type-var]

    def _table(self, block: html.Table) -> html.Table:
        by_column = [self._column(str(head["title"])) for head in block.head]
        rows = [
            [
                cell._replace(text=self._cell(cell.text, names), sort=self._cell(cell.sort, names))
                for cell, names in zip(row, by_column, strict=True)
            ]
            for row in block.rows
        ]
        lines = [line.split("\t") for line in block.tsv.split("\n")]
        columns = [self._column(key) for key in lines[0]]
        tsv = "\n".join(
            "\t".join(self._cell(text, names) for text, names in zip(line, columns, strict=False))
            for line in lines
        )
        groups = [self.in_text(name) for name in block.groups] if block.groups else block.groups
        return dataclasses.replace(
            block,
            caption=self.in_text(block.caption),
            rows=rows,
            groups=groups,
            tsv=tsv,
            id=self.in_id(block.id),
        )

    def _column(self, title: str) -> Mapping[str, str]:
        kinds = {"slide": self.slides, "image": self.slides, "case": self._all}
        return (kinds | {"patient": self.patients}).get(title.lower().removesuffix("s"), {})

    def _cell(self, text: str, names: Mapping[str, str]) -> str:
        return names[text] if text in names else self.in_text(text)

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return type(value)(self.in_text(value)) if type(value) is str else value
        if isinstance(value, html.Block):
            return self.in_block(value)
        if isinstance(value, Mapping):
            named = (("slide", self._all), ("patient", self.patients))
            exact = {k: names[value[k]] for k, names in named if value.get(k) in names}
            inner = {
                self._value(k) if isinstance(k, str) else k: v if k in KEPT else self._value(v)
                for k, v in value.items()
            }
            return type(value)(inner | exact)  # type: ignore[call-arg]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self._value, value))
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._value, value))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = [field.name for field in dataclasses.fields(value)]
            return dataclasses.replace(
                value, **{name: self._value(getattr(value, name)) for name in fields}
            )
        return HIDDEN_PATH if isinstance(value, Path) else value
