"""Maps over a slide: the values and classes that encoders give its patches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.reporting.inputs import Study
from her2pipe.reporting.slide_viewer import PatchValues


@dataclass(frozen=True)
class Layer:
    """A map: its name, patches as `PatchValues`, and the side of a patch, level-0 px."""

    name: str
    patches: PatchValues
    side_px0: int

    def to_json(self) -> dict[str, Any]:
        """Return the layer as the page reads it."""
        return {
            "name": self.name,
            "side": self.side_px0,
            "label": self.patches.label,
            "x": self.patches.coords[:, 0].tolist(),
            "y": self.patches.coords[:, 1].tolist(),
            "values": [round(float(value), 4) for value in self.patches.values],
            "classes": self.patches.classes.tolist(),
            "names": self.patches.names,
            "colours": self.patches.colours,
        }


def layers(slide: str, results: Path, encodings: Iterable[Path] = ()) -> list[Layer]:
    """Return the maps of a slide: of the encodings named, or of all in a study's results.

    Parameters
    ----------
    slide : str
        Name of the slide.
    results : Path
        Folder of a study's results; need not be there.
    encodings : iterable of Path
        Files to take in their place.
    """
    from her2pipe.store import read_encoding

    study_file = results / "manifest" / "study.json"
    study = Study.read(study_file) if study_file.exists() else Study()
    endpoint = endpoint_of(study.labels, "external")
    paths = list(encodings) or sorted((results / "encode").glob(f"*/*/*/{slide}.h5"))
    maps = []
    for path in paths:
        encoding = read_encoding(path, features=False)
        patches = PatchValues.of(encoding, endpoint)
        side = int(encoding.metadata.patch_size_level0)
        if len(patches.values) and side:
            maps.append(Layer(encoding.metadata.encoder or path.stem, patches, side))
    return maps
