"""Slides against the others of their cohort: robust z of what is measured, outliers, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from her2pipe.config import QualitySettings
from her2pipe.quality.flags import Flag, add
from her2pipe.quality.limits import of_slide
from her2pipe.quality.slide import APPEARANCE, COUNTS, OF_STORE, Quantity

COMPARED = APPEARANCE | {
    "background_level": Quantity("glass", "Grey level of the glass", "of 255"),
    "jpeg_quality": Quantity("JPEG quality", "JPEG quality of the slide's tiles"),
    "sharpness": Quantity("sharpness", "Fine texture over darkness, of the slide's sharp patches"),
}
# Columns of the table, but for those of detectors, which stand behind `accepted`.
SLIDE = ("slide", "patient", "status", "flag", "reason", "scanner", "reader", "view")
FILE = ("mpp", "objective", *OF_STORE, "uncovered", *COUNTS, "patches", "accepted")
STAIN = tuple(name for name in APPEARANCE if name != "mpp")
Z = tuple(f"z_{name}" for name in COMPARED)
NORMAL_MAD = 1.482602218505602  # standard deviations of a normal distribution per MAD
NORMAL_MEAN = 1.2533141373155001  # the same per mean absolute deviation, sqrt(pi / 2)


def robust_z(values: Sequence[float | None]) -> list[float | None]:
    """Return each value's distance from the median in units of the spread of most of them.

    The spread is 1.4826 times the median absolute deviation, which far-off values do not move;
    where more than half of the values are equal, 1.2533 times the mean one. None stays None.

    References
    ----------
    Iglewicz & Hoaglin 1993, How to detect and handle outliers, ASQC Quality Press.

    >>> robust_z([1, 2, 3, 4, 100])[-1] == (100 - 3) / NORMAL_MAD
    True
    """
    known = np.array([v for v in values if v is not None], float)
    if not len(known):
        return [None] * len(values)
    centre = float(np.median(known))
    distances = np.abs(known - centre)
    spread = NORMAL_MAD * float(np.median(distances)) or NORMAL_MEAN * float(distances.mean())
    return [None if v is None else (v - centre) / spread if spread else 0.0 for v in values]


def compare(rows: Sequence[dict[str, Any]], settings: QualitySettings) -> list[list[Flag]]:
    """Add the robust z of what is compared to each row, and return the flags of each.

    Excluded slides are not compared, and have no z. In a cohort of fewer than
    `quality.outlier_slides` slides that have a value, none is an outlier in it.
    """
    notes: list[list[str]] = [[] for _ in rows]
    for name, quantity in COMPARED.items():
        values = [_value(row, name) for row in rows]
        known = [v for v in values if v is not None]
        if not known:
            continue
        centre = float(np.median(known))
        for i, z in enumerate(robust_z(values)):
            rows[i][f"z_{name}"] = z
            value = values[i]
            if z is None or value is None or len(known) < settings.outlier_slides:
                continue
            far = abs(value - centre) > settings.outlier_tolerance * abs(centre)
            if far and abs(z) > settings.outlier_z:
                notes[i].append(f"{quantity.format(value)} (median {centre:.4g}, robust z {z:.1f})")
    return [
        [Flag("outlier", f"unlike the cohort's other slides: {', '.join(note)}")] if note else []
        for note in notes
    ]


def _value(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    return None if row["status"] == "excluded" or value is None else float(value)


def tabulate(rows: Sequence[dict[str, Any]], settings: QualitySettings) -> tuple[str, ...]:
    """Flag the slides of a cohort, each by itself and against the others; return the columns.

    Parameters
    ----------
    rows : sequence of dict
        As `slide.measure` returns them; gain `flag`, `reason` and the robust z.
    settings : QualitySettings
    """
    for row, outlier in zip(rows, compare(rows, settings), strict=True):
        add(row, [*of_slide(row, settings), *outlier])
        if row["status"] == "excluded":
            row["flag"] = "excluded"
    shares = [n for row in rows for n in row if n.endswith("_share")]
    detectors = list(dict.fromkeys(name.removesuffix("_share") for name in shares))
    return (
        *SLIDE,
        *FILE,
        *(column for name in detectors for column in (name, f"{name}_share")),
        *STAIN,
        *Z,
    )
