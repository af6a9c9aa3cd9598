"""Annotations of drawn slides: tumour regions as QuPath and Aperio ImageScope export them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence

import numpy as np

from her2pipe.synthetic.tissue_layout import Region

NAMESPACE = uuid.UUID("7d0a4c70-5f0e-4d6b-9e0b-3a1c8f1f2b11")  # of the ids of drawn regions


def geojson_text(regions: Sequence[Region], seed: int) -> str:
    """Write regions as QuPath exports them; the smallest ones share a MultiPolygon.

    Parameters
    ----------
    regions : list of (outline, holes)
        Rings (n, 2) float64 in level-0 px, largest region first.
    seed : int
        Names the regions.
    """
    polygons = [[_closed(ring) for ring in (outline, *holes)] for outline, holes in regions]
    single = max(len(polygons) - 2, 1)
    geometries: list[tuple[str, list]] = [("Polygon", polygon) for polygon in polygons[:single]]
    if polygons[single:]:
        geometries.append(("MultiPolygon", polygons[single:]))
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{seed} {index}")),
            "geometry": {"type": geometry, "coordinates": coordinates},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
            },
        }
        for index, (geometry, coordinates) in enumerate(geometries)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def _closed(ring: np.ndarray) -> list[list[float]]:
    """Repeat the first point at the end, as GeoJSON asks."""
    return np.round([*ring, ring[0]], 2).tolist()


def xml_text(regions: Sequence[Region], mpp: float) -> str:
    """Write regions as Aperio ImageScope does, holes as negative regions.

    Parameters
    ----------
    regions : list of (outline, holes)
        Rings (n, 2) float64 in level-0 px.
    mpp : float
        um per level-0 px.
    """
    lines = [
        f'<Annotations MicronsPerPixel="{mpp:.6f}">',
        '\t<Annotation Id="1" Name="Tumor" ReadOnly="0" Type="4" LineColor="255" Visible="1">',
        "\t\t<Regions>",
    ]
    number = 0
    for outline, holes in regions:
        number += 1
        parent = number
        lines += _xml_region(outline, number, 0, 0)
        for hole in holes:
            number += 1
            lines += _xml_region(hole, number, 1, parent)
    lines += ["\t\t</Regions>", "\t</Annotation>", "</Annotations>", ""]
    return "\r\n".join(lines)


def _xml_region(ring: np.ndarray, number: int, negative: int, parent: int) -> list[str]:
    return [
        f'\t\t\t<Region Id="{number}" Type="0" Zoom="1" NegativeROA="{negative}" '
        f'InputRegionId="{parent}" Analyze="1" DisplayId="{number}">',
        "\t\t\t\t<Vertices>",
        *(f'\t\t\t\t\t<Vertex X="{x:.2f}" Y="{y:.2f}" Z="0"/>' for x, y in ring),
        "\t\t\t\t</Vertices>",
        "\t\t\t</Region>",
    ]
