"""The sample of graded patches that is described: measured slide by slide from patch stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from her2pipe.config import GRADES, DescribeSettings
from her2pipe.errors import Her2Error
from her2pipe.patch_features.features import MeasuredPatch, areas_in_um, measure
from her2pipe.patch_features.grades import GradedSlide
from her2pipe.stain.profile import Profile
from her2pipe.store import PatchStore
from her2pipe.store.patches import PatchMetadata

COLUMNS = ("slide", "patch", "x", "y", "p", "grade")  # of features.tsv, before the features
Patch = tuple[str, int]  # slide, and place of the patch in its store


@dataclass
class Sample:
    """The patches that were drawn and measured.

    Attributes
    ----------
    rows : list of dict
        Rows of features.tsv; areas of nuclei are in um^2 where every slide has a resolution.
    examples : dict
        Patches to show, in the order drawn, by grade.
    mpps : dict
        um per px of the patches, by slide; None where it is not known.
    sizes_px : set
        Sides of the patches.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    examples: dict[str, list[tuple[dict[str, Any], MeasuredPatch]]] = field(default_factory=dict)
    mpps: dict[str, float | None] = field(default_factory=dict)
    sizes_px: set[int] = field(default_factory=set)

    @property
    def area_unit(self) -> Literal["um^2", "px^2"]:
        """Unit of the nuclei's areas."""
        return "px^2" if None in self.mpps.values() else "um^2"

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the values of features, (N,) float each."""
        return {name: np.array([row[name] for row in self.rows], float) for name in names}

    def slides(self) -> list[str]:
        """Return the slide of each row."""
        return [row["slide"] for row in self.rows]

    def grades(self) -> np.ndarray:
        """Return the grade of each row, (N,) int."""
        return np.array([GRADES.index(row["grade"]) for row in self.rows], int)


def measure_sample(
    drawn: Sequence[tuple[str, int, int]],
    slides: Mapping[str, GradedSlide],
    stores: Mapping[str, Path],
    target: Profile | None,
    settings: DescribeSettings,
) -> Sample:
    """Measure the patches that were drawn, slide by slide.

    Parameters
    ----------
    drawn : list of (slide, patch, grade)
        As `grades.sample` returns them.
    slides : dict
        Graded slides by name.
    stores : dict
        Patch stores by slide.
    target : Profile or None
        Stains to normalise to before texture is measured; None: as scanned.
    settings : DescribeSettings

    Raises
    ------
    Her2Error
        A store is missing, or holds other patches than the encoding.
    """
    shown: set[Patch] = set()
    for number in range(len(GRADES)):
        of_grade = [(slide, patch) for slide, patch, grade in drawn if grade == number]
        shown |= set(of_grade[: settings.examples])
    by_slide: dict[str, list[int]] = {}
    for slide, patch, _ in drawn:
        by_slide.setdefault(slide, []).append(patch)
    sample = Sample()
    examples: dict[Patch, tuple[dict[str, Any], MeasuredPatch]] = {}
    for name in [name for name in slides if name in by_slide]:
        with _open_store(stores, name, slides[name].coords) as store:
            sample.sizes_px.add(store.metadata.patch_size)
            sample.mpps[name] = mpp = _patch_mpp(store.metadata)
            profile = Profile.from_dict(store.stain)
            for patch in sorted(by_slide[name]):
                measured = measure(store.pixels(patch), profile, target, mpp, settings)
                sample.rows.append(_row(name, patch, slides[name], measured.features))
                if (name, patch) in shown:
                    examples[name, patch] = sample.rows[-1], measured
    known = {name: mpp for name, mpp in sample.mpps.items() if mpp is not None}
    if len(known) == len(sample.mpps):
        for row in sample.rows:
            row |= areas_in_um(row, known[row["slide"]])
    for slide, patch, grade in drawn:  # in the order drawn
        if (slide, patch) in examples:
            sample.examples.setdefault(GRADES[grade], []).append(examples[slide, patch])
    return sample


def _patch_mpp(store: PatchMetadata) -> float | None:
    """Return the um per px of a store's patches; None where the slide has no resolution."""
    return store.mpp * store.patch_size_level0 / store.patch_size if store.mpp else None


def _row(
    name: str, patch: int, slide: GradedSlide, features: Mapping[str, float]
) -> dict[str, Any]:
    """Return a row of features.tsv."""
    return {
        "slide": name,
        "patch": patch,
        "x": int(slide.coords[patch, 0]),
        "y": int(slide.coords[patch, 1]),
        "p": float(slide.p[patch]),
        "grade": GRADES[slide.grades[patch]],
        **features,
    }


def _open_store(stores: Mapping[str, Path], slide: str, coords: np.ndarray) -> PatchStore:
    """Open the store of a slide.

    Raises
    ------
    Her2Error
        When there is none, or it holds other patches than the encoding.
    """
    if slide not in stores:
        raise Her2Error(
            f"slide {slide} has an encoding, but no patch store is given",
            "option --stores",
            "give the stores the encodings were made of",
        )
    store = PatchStore(stores[slide])
    if not np.array_equal(store.coords, coords):
        store.close()
        raise Her2Error(
            f"the store of {slide} holds other patches than its encoding",
            str(stores[slide]),
            "give the stores the encodings were made of, or encode again",
        )
    return store
