"""Maps for the viewers of pathologists: GeoJSON for QuPath, an annotation store for TIAViz."""

from __future__ import annotations

import json
import sqlite3
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAMESPACE = uuid.UUID("5f0b7c1e-3d0a-4f57-9a1b-6f2d0c9e4a11")  # of the ids of patches
POLYGON = struct.Struct("<BIII10d")  # well-known binary: little-endian, polygon, one ring of five
# Layout 1.0.1 of tiatoolbox's SQLiteStore. Written here, for its import alone takes longer than
# all the maps of a batch, and its keys and times would differ at every run.
TABLES = """
CREATE TABLE metadata (key TEXT UNIQUE, value TEXT);
CREATE VIRTUAL TABLE rtree USING rtree(id, min_x, max_x, min_y, max_y);
CREATE TABLE annotations (
    id INTEGER PRIMARY KEY, key TEXT UNIQUE, objtype TEXT, cx FLOAT NOT NULL, cy FLOAT NOT NULL,
    geometry BLOB, properties TEXT, area FLOAT NOT NULL
);
"""


@dataclass(frozen=True)
class Map:
    """What was found in the patches of one slide.

    Attributes
    ----------
    slide : str
    coords : (N, 2) int
        Top left corners `(x, y)`, level-0 px.
    side_px0 : int
        Side of a patch, level-0 px.
    classes : list of str
        May be empty.
    colours : list of (int, int, int)
        Colour of each class, RGB, 0 to 255.
    probabilities : (N, C) float
    contribution : (N,) float
        What the patch adds to the slide's score.
    meaning : str
        What a contribution is: p(HER2+), attention, ...
    """

    slide: str
    coords: np.ndarray
    side_px0: int
    classes: Sequence[str]
    colours: Sequence[tuple[int, int, int]]
    probabilities: np.ndarray
    contribution: np.ndarray
    meaning: str

    def __iter__(self) -> Iterator[tuple[str, tuple[int, int], int, dict[str, float]]]:
        """Yield each patch: its id, its corner, the number of its class (-1: none), its numbers."""
        kinds = self.probabilities.argmax(1) if self.classes else np.full(len(self.coords), -1)
        names = [f"p({name})" for name in self.classes]
        for corner, p, kind, value in zip(
            self.coords.tolist(), self.probabilities.tolist(), kinds.tolist(),
            self.contribution.tolist(), strict=True,
        ):  # fmt: skip
            x, y = map(int, corner)
            numbers = {name: round(each, 5) for name, each in zip(names, p, strict=True)}
            numbers["contribution"] = float(f"{value:.6g}")
            key = str(uuid.uuid5(NAMESPACE, f"{self.slide} {x} {y} {self.side_px0}"))
            yield key, (x, y), kind, numbers

    def ring(self, corner: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the closed outline of a patch, level-0 px."""
        (x, y), side = corner, int(self.side_px0)
        return [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]


def geojson(found: Map) -> str:
    """Write a map as QuPath (0.4 and later) opens it: a tile per patch, in level-0 px.

    References
    ----------
    RFC 7946; QuPath's own members are objectType, classification and measurements.
    """
    lines = []
    for key, corner, kind, numbers in found:
        properties: dict[str, Any] = {"objectType": "tile"}
        if kind >= 0:
            name, colour = found.classes[kind], list(found.colours[kind])
            properties["classification"] = {"name": name, "color": colour}
        geometry = {"type": "Polygon", "coordinates": [found.ring(corner)]}
        properties["measurements"] = numbers
        feature = {"type": "Feature", "id": key, "geometry": geometry, "properties": properties}
        lines.append(json.dumps(feature, separators=(",", ":")))
    about = json.dumps({"slide": found.slide, "contribution": found.meaning})[1:-1]
    body = ",\n".join(lines)
    return f'{{"type": "FeatureCollection", {about}, "features": [\n{body}\n]}}\n'


def write_annotations(found: Map, path: str | Path) -> None:
    """Write a map as an annotation store of tiatoolbox (SQLite), which TIAViz opens.

    A patch's `type` is its class, or "patch"; its `color` that of the class, 0 to 1.
    """
    about = {"version": "1.0.1", "compression": None, "compression_level": 9,
             "slide": found.slide, "contribution": found.meaning}  # fmt: skip
    side = int(found.side_px0)
    rows, boxes = [], []
    for number, (key, (x, y), kind, numbers) in enumerate(found, start=1):
        known: dict[str, Any] = {"type": found.classes[kind] if kind >= 0 else "patch"}
        if kind >= 0:
            known["color"] = [round(level / 255, 4) for level in found.colours[kind]]
        text = json.dumps(known | numbers, separators=(",", ":"))
        outline = POLYGON.pack(1, 3, 1, 5, *np.ravel(found.ring((x, y))))
        half = side / 2
        rows.append((number, key, "Polygon", x + half, y + half, outline, text, float(side**2)))
        boxes.append((number, x, x + side, y, y + side))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF")  # the folder is whole or not there
        connection.execute("BEGIN")
        for statement in TABLES.split(";")[:-1]:
            connection.execute(statement)
        pairs = [(key, json.dumps(value)) for key, value in about.items()]
        connection.executemany("INSERT INTO metadata VALUES (?, ?)", pairs)
        connection.executemany("INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO rtree VALUES (?, ?, ?, ?, ?)", boxes)
        connection.execute("COMMIT")
    finally:
        connection.close()
