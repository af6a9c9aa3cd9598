"""Drift: how slides differ from those a method was developed on, measured slide by slide.

A bundle keeps the distribution of each quantity over its training slides; new slides are measured
likewise, and a value outside the range of the distribution is flagged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from her2pipe.bundles.description import Distribution
from her2pipe.config import CLASSES, DriftSettings
from her2pipe.quality.slide import APPEARANCE, Quantity, appearance

if TYPE_CHECKING:
    from her2pipe.store import Encodings, SlidePatches

NON_TUMOUR = CLASSES[-1]
NORMAL_90 = 3.2897  # standard deviations between the 5 % and 95 % quantiles of a normal one


QUANTITIES = APPEARANCE | {
    "patches": Quantity("patches", "Patches of the slide"),
    "tumour_share": Quantity("tumour share", "Share of patches that are called tumour"),
    "score": Quantity("score", "Score"),
}


def quantities(
    slide: SlidePatches, classes: Sequence[str], probabilities: np.ndarray, score: float | None
) -> dict[str, float]:
    """Measure a slide; what it does not have, or what says nothing of it, is left out.

    Parameters
    ----------
    slide : PatchStore or PackedImage
        One slide that is not excluded, or an image, which has one patch and so no shares.
    classes : sequence of str
        Classes of patches.
    probabilities : (N, C) float
        Of each patch.
    score : float or None
        The method's.
    """
    from her2pipe.store import PatchStore

    values: dict[str, float | None] = {**appearance(slide), "score": score}
    if isinstance(slide, PatchStore):
        values["patches"] = float(len(slide))
        if NON_TUMOUR in classes and len(probabilities):
            is_tumour = probabilities.argmax(axis=1) != list(classes).index(NON_TUMOUR)
            values["tumour_share"] = float(is_tumour.mean())
    known = {name: value for name, value in values.items() if value is not None}
    return {name: known[name] for name in QUANTITIES if math.isfinite(known.get(name, math.nan))}


def measure(
    stores: Sequence[str | Path], encodings: Encodings, scores: Mapping[str, float | None]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Measure the slides of patch stores that are scored, one after the other.

    Parameters
    ----------
    stores : sequence of path
        Patch stores, or folders of them.
    encodings : Encodings
        Of the same slides.
    scores : mapping of str to float
        Score of each slide that is measured.
    """
    from her2pipe import store as files

    for path in files.encodings(stores):
        with files.PatchStore(path) as store:
            for slide in files.slides_of(store):
                name = slide.metadata.slide
                if name not in scores or slide.exclusion_reason or name not in encodings:
                    continue
                encoding = encodings[name]
                classes, p = encoding.metadata.classes, encoding.probabilities
                yield name, quantities(slide, classes, p, scores[name])


class Range(NamedTuple):
    """Values that are taken as within the development slides' distribution, both ends included."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, (int, float)) and self.low <= value <= self.high


def usual_range(distribution: Distribution, drift: DriftSettings) -> Range | None:
    """Return the range outside which a value is flagged; None where too few slides give none.

    From the 1 % to the 99 % quantile, widened on either side by `drift.widen` standard deviations,
    as the 5 % and 95 % quantiles of a normal distribution give them, and at least by
    `drift.tolerance` times the median.
    """
    if distribution.n < drift.slides_min:
        return None
    spread = (distribution.q95 - distribution.q05) / NORMAL_90
    margin = max(drift.widen * spread, drift.tolerance * abs(distribution.q50))
    return Range(distribution.q01 - margin, distribution.q99 + margin)


def out_of_range(
    values: Mapping[str, float], reference: Mapping[str, Distribution], drift: DriftSettings
) -> list[str]:
    """Name the quantities of a slide that lie outside the development slides', with both.

    >>> known = Distribution(n=50, mean=5, sd=1, q01=3, q05=3.5, q50=5, q95=6.5, q99=7)
    >>> out_of_range({"score": 9.0}, {"score": known}, DriftSettings())
    ['score 9 (2.088 to 7.912)']
    """
    notes = []
    for name, quantity in QUANTITIES.items():
        limits = usual_range(reference[name], drift) if name in reference else None
        if limits is None or name not in values or values[name] in limits:
            continue
        ends = f"{limits.low:.4g} to {limits.high:.4g}"
        notes.append(f"{quantity.format(values[name])} ({ends})")
    return notes
