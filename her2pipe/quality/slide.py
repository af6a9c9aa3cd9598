"""Quality of one slide, in numbers: what its patch store says of tissue, artefacts, stain and file.

Nothing is decoded: `tile` measures, and what it leaves in the store is put together here. Stores
of an older version lack some of it, which is then empty.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from her2pipe.stain.optical_density import EOSIN, HAEMATOXYLIN, angle_deg, unit

if TYPE_CHECKING:
    from her2pipe.stain.profile import Profile
    from her2pipe.store import PatchStore, SlidePatches


class Quantity(NamedTuple):
    """What is measured of a slide: in a word or two, in full, and its unit."""

    name: str
    title: str
    unit: str = ""

    def format(self, value: float) -> str:
        """Format a value with its unit: `haematoxylin 1.2 OD`, `angle of the stains 31°`."""
        space = "" if self.unit in ("", "°") else " "
        return f"{self.name} {value:.4g}{space}{self.unit}"


# How a slide looks: what drift compares with other slides, and `cohort` with those of its cohort.
APPEARANCE = {
    "mpp": Quantity("scale", "Scale of the slide", "µm/px"),
    "haematoxylin_angle": Quantity("haematoxylin hue", "Angle of haematoxylin from Ruifrok's", "°"),
    "counterstain_angle": Quantity(
        "second stain hue", "Angle of the second stain from Ruifrok's eosin", "°"
    ),
    "stain_angle": Quantity("angle of the stains", "Angle between the two stains", "°"),
    "haematoxylin": Quantity("haematoxylin", "Strength of haematoxylin", "OD"),
    "counterstain": Quantity("second stain", "Strength of the second stain", "OD"),
    "variance": Quantity("patch variance", "Mean grey-level variance of patches", "levels²"),
}
# Numbers of the attribute `quality` of a store that stand in the table as they are.
OF_STORE = ("tissue_mm2", "background_level", "jpeg_quality", "sharpness")
COUNTS = ("cells", "outside", "background", "white", "dropped")


def appearance(slide: SlidePatches) -> dict[str, float]:
    """Measure how a slide looks; what it does not have, or what says nothing of it, is left out.

    Parameters
    ----------
    slide : PatchStore or PackedImage
        One slide that is not excluded, or an image.
    """
    values: dict[str, float | None] = {"mpp": slide.metadata.mpp or None}
    if profile := own_stain(slide):
        reference = unit(np.array([HAEMATOXYLIN, EOSIN]))
        vectors = zip(profile.matrix, reference, strict=True)
        angles = [angle_deg(vector, other) for vector, other in vectors]
        values |= {"haematoxylin_angle": angles[0], "counterstain_angle": angles[1]}
        values |= {"stain_angle": profile.angle_deg}
        strengths = map(float, profile.max_concentration)
        values |= dict(zip(("haematoxylin", "counterstain"), strengths, strict=True))
    if len(slide):
        values["variance"] = float(np.mean(slide.variance, dtype=float))
    return {k: v for k, v in values.items() if v is not None and math.isfinite(v)}


def own_stain(slide: SlidePatches) -> Profile | None:
    """Return the stain profile estimated on the slide; None where another stands in, or is none."""
    from her2pipe.stain.profile import Profile

    profile = Profile.from_dict(stain) if (stain := slide.stain) else None
    return profile if profile and not (profile.keeps_colours or profile.fallback) else None


def measure(store: PatchStore) -> dict[str, Any]:
    """Measure a slide: one row of the quality table, without flags.

    Returns
    -------
    dict
        Column to value; None where it is not known. `{detector}` counts the patches that a detector
        marks, None where it could judge none, `accepted` those that none marks; `{detector}_share`
        is the share of all patches. Of an excluded slide only what its header says.
    """
    metadata, quality = store.metadata, _of_slide(store.metadata.quality)
    row: dict[str, Any] = {
        "slide": metadata.slide,
        "status": metadata.status,
        "scanner": metadata.scanner,
        "reader": metadata.reader,
        "view": metadata.view,
        "mpp": metadata.mpp or None,
        "objective": metadata.objective or None,
        **{name: quality.get(name) for name in OF_STORE},
    }
    if store.exclusion_reason:
        return row | {"reason": store.exclusion_reason}
    count = len(store)
    row |= {name: getattr(metadata, name) for name in COUNTS}
    row |= {"patches": count, "uncovered": _uncovered(store, quality)}
    if store.reason_names:
        row["accepted"] = count - int(store.rejected(store.reason_names).sum())
        for name in store.reason_names:
            if not np.isfinite(store.quality[name]).any():  # its patches are too small to judge
                row |= {name: None, f"{name}_share": None}
                continue
            row[name] = int(store.rejected((name,)).sum())
            row[f"{name}_share"] = row[name] / count
    return row | {name: v for name, v in appearance(store).items() if name != "mpp"}


def _of_slide(text: str) -> dict[str, Any]:
    """Return the numbers that `tile` measured on the whole slide; none in an older store."""
    try:
        values = json.loads(text or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _uncovered(store: PatchStore, quality: dict[str, Any]) -> float | None:
    """Return the share of the tissue that lies where no patch fits."""
    lost, tissue = (quality.get(k) for k in ("tissue_lost_to_grid_mm2", "tissue_mm2"))
    if lost is not None and tissue:
        return float(lost) / float(tissue)
    return store.metadata.edge_tissue
