"""Maps for the viewers of pathologists: GeoJSON for QuPath, an annotation store for TIAViz."""

from __future__ import annotations

import json
import sqlite3
import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.plotting.patch_map import PatchMap

NAMESPACE = uuid.UUID("5f0b7c1e-3d0a-4f57-9a1b-6f2d0c9e4a11")  # of the ids of patches
ARTEFACT_COLOURS = {"pen": [0, 158, 115], "blur": [86, 180, 233], "fold": [204, 121, 167]}
OTHER_ARTEFACT = [128, 128, 128]  # R, G, B, as those above
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
class _Tile:
    """One patch as a viewer shows it: its id, outline, class number (-1: none), and numbers."""

    key: str
    corner: tuple[int, int]
    side_px0: int
    number: int
    measurements: dict[str, float]

    @property
    def ring(self) -> list[tuple[int, int]]:
        """Closed outline, level-0 px."""
        (x, y), side = self.corner, self.side_px0
        return [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]


def _tiles(patches: PatchMap) -> Iterator[_Tile]:
    names = [f"p({name})" for name in patches.classes]
    side = int(patches.side_px0)
    for corner, p, number, value in zip(
        np.asarray(patches.coords).tolist(),
        np.asarray(patches.probabilities).tolist(),
        patches.class_numbers.tolist(),
        np.asarray(patches.values).tolist(),
        strict=True,
    ):
        x, y = map(int, corner)
        measurements = {name: round(each, 5) for name, each in zip(names, p, strict=True)}
        measurements["contribution"] = float(f"{value:.6g}")
        key = str(uuid.uuid5(NAMESPACE, f"{patches.slide} {x} {y} {side}"))
        yield _Tile(key, (x, y), side, number, measurements)


def _rgb(patches: PatchMap) -> list[tuple[int, ...]]:
    """Return the colour of each class, R, G and B of 0 to 255."""
    return [tuple(bytes.fromhex(colour[1:])) for colour in patches.colours]


def geojson(patches: PatchMap, artefacts: Mapping[str, np.ndarray] | None = None) -> str:
    """Return a map as QuPath (0.4 and later) opens it: a tile per patch, in level-0 px.

    Areas with artefacts are annotations of a class each, `Artefact: pen`, that can be hidden.

    Parameters
    ----------
    patches : PatchMap
    artefacts : mapping of str to (n, 2) int, optional
        Artefact to the corners of the patches that show it, level-0 px.

    References
    ----------
    RFC 7946; QuPath's own members are objectType, classification and measurements.
    """
    colours, lines = _rgb(patches), []
    for tile in _tiles(patches):
        properties: dict[str, Any] = {"objectType": "tile"}
        if tile.number >= 0:
            name, colour = patches.classes[tile.number], list(colours[tile.number])
            properties["classification"] = {"name": name, "color": colour}
        geometry = {"type": "Polygon", "coordinates": [tile.ring]}
        properties["measurements"] = tile.measurements
        feature = {
            "type": "Feature",
            "id": tile.key,
            "geometry": geometry,
            "properties": properties,
        }
        lines.append(json.dumps(feature, separators=(",", ":")))
    for name, corners in (artefacts or {}).items():
        lines += [
            json.dumps(feature, separators=(",", ":"))
            for feature in _areas(patches.slide, name, np.asarray(corners), int(patches.side_px0))
        ]
    metadata = json.dumps({"slide": patches.slide, "contribution": patches.label})[1:-1]
    body = ",\n".join(lines)
    return f'{{"type": "FeatureCollection", {metadata}, "features": [\n{body}\n]}}\n'


def _areas(slide: str, name: str, corners: np.ndarray, side: int) -> Iterator[dict[str, Any]]:
    """Yield the area of an artefact: a rectangle for each run of neighbours in a row."""
    runs: list[tuple[int, int, int]] = []  # top, left, right
    for y, x in sorted((int(y), int(x)) for x, y in corners.tolist()):
        if runs and runs[-1][0] == y and x <= runs[-1][2]:
            runs[-1] = (y, runs[-1][1], x + side)
        else:
            runs.append((y, x, x + side))
    colour = ARTEFACT_COLOURS.get(name, OTHER_ARTEFACT)
    for top, left, right in runs:
        bottom = top + side
        ring = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{slide} {name} {left} {top} {right}")),
            "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {
                "objectType": "annotation",
                "name": name,
                "classification": {"name": f"Artefact: {name}", "color": colour},
            },
        }


def write_annotations(patches: PatchMap, path: str | Path) -> None:
    """Write a map as an annotation store of tiatoolbox (SQLite), which TIAViz opens.

    A patch's `type` is its class, or "patch"; its `color` that of the class, 0 to 1.
    """
    metadata = {
        "version": "1.0.1",
        "compression": None,
        "compression_level": 9,
        "slide": patches.slide,
        "contribution": patches.label,
    }
    colours, rows, boxes = _rgb(patches), [], []
    for i, tile in enumerate(_tiles(patches), start=1):
        properties: dict[str, Any] = {"type": "patch"}
        if tile.number >= 0:
            colour = [round(level / 255, 4) for level in colours[tile.number]]
            properties = {"type": patches.classes[tile.number], "color": colour}
        text = json.dumps(properties | tile.measurements, separators=(",", ":"))
        outline = POLYGON.pack(1, 3, 1, 5, *np.ravel(tile.ring))
        (x, y), side = tile.corner, tile.side_px0
        half = side / 2
        area = float(side**2)
        rows.append((i, tile.key, "Polygon", x + half, y + half, outline, text, area))
        boxes.append((i, x, x + side, y, y + side))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = OFF")  # the folder is whole or not there
        connection.execute("BEGIN")
        for statement in TABLES.split(";")[:-1]:
            connection.execute(statement)
        pairs = [(key, json.dumps(value)) for key, value in metadata.items()]
        connection.executemany("INSERT INTO metadata VALUES (?, ?)", pairs)
        connection.executemany("INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.executemany("INSERT INTO rtree VALUES (?, ?, ?, ?, ?)", boxes)
        connection.execute("COMMIT")
    finally:
        connection.close()
