"""Manifest: the files a step that sums up a study reads, and what each is of.

`compare` and `report` read the outputs of hundreds of jobs. They find them in a table, whatever the
paths are: one row per output, with the method, encoder, view, cohort and batch it belongs to.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from her2pipe.errors import Her2Error
from her2pipe.files import read_table, table_text


@dataclass(frozen=True)
class Item:
    """One row: the step whose output it is (or `sheet`, `benchmark`), what it is of, its path.

    Columns that do not apply are empty. Of a pre-training `encoder` is its name; of patch stores
    `path` is their folder.
    """

    kind: str
    method: str = ""
    encoder: str = ""
    view: str = ""
    cohort: str = ""
    batch: str = ""
    path: str = ""


COLUMNS = tuple(field.name for field in fields(Item))


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest, in the order of the study."""

    items: tuple[Item, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> Manifest:
        """Read a manifest.

        Raises
        ------
        Her2Error
            When the file is missing or has other columns.
        """
        rows = read_table(path)
        if rows and set(rows[0]) != set(COLUMNS):
            raise Her2Error(
                "this is no manifest", str(path), f"its columns are {', '.join(COLUMNS)}"
            )
        return cls(tuple(Item(**row) for row in rows))

    def to_text(self) -> str:
        """Return the manifest as its file holds it."""
        return table_text(COLUMNS, map(asdict, self.items))

    def select(self, kind: str, **columns: str) -> list[Item]:
        """Return the rows of one kind whose columns have the given values."""
        return [
            item
            for item in self.items
            if item.kind == kind and all(getattr(item, k) == v for k, v in columns.items())
        ]

    def paths(self, kind: str, **columns: str) -> list[str]:
        """Return the paths of the rows that `select` returns."""
        return [item.path for item in self.select(kind, **columns)]

    def digest(self) -> str:
        """Return the fingerprint of all rows, hex, 16 characters."""
        return hashlib.sha256(repr(self.items).encode()).hexdigest()[:16]
