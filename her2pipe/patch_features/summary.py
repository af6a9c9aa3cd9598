"""What was described of a cohort: counts by grade, resolution, colours and notes (about.json)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from her2pipe.config import GRADES, DescribeSettings
from her2pipe.patch_features.grades import GradedSlide
from her2pipe.patch_features.sample import Sample
from her2pipe.stain.profile import Profile

INDEPENDENCE = (
    "patches of one slide count as independent, as published: P is smaller for it; the same test on"
    " slide means is beside it"
)
SLIDES_NAMED = 3  # slides without resolution that a note names


class GradeCounts(BaseModel):
    """Patches of one grade."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    lowest_p: float = Field(alias="from")
    highest_p: float = Field(alias="to")
    patches: int
    described: int
    slides: int  # with described patches

    def bounds(self, grade: str) -> str:
        """Return the bounds of p in words of a figure."""
        if grade == GRADES[-1]:
            return f"p ≥ {self.lowest_p:g}"
        return f"{self.lowest_p:g} ≤ p < {self.highest_p:g}"


class Summary(BaseModel):
    """Summary of the described patches of one cohort."""

    model_config = ConfigDict(frozen=True)

    algorithm: int
    encoder: str
    cohort: str
    slides: int
    ungraded: int  # patches without a grade
    grades: dict[str, GradeCounts]
    described: int  # patches
    features: int
    selected: int  # features with Dunn's P below alpha between two grades
    selected_holm: int  # those that have it after Holm
    slide_means_selected: int  # features selected by the same test on slide means
    slide_means_selected_holm: int
    patch_px: list[int]
    patch_mpp: tuple[float, float] | None  # least and most, um per px
    area_unit: Literal["um^2", "px^2"]
    colours: str
    stain_digest: str
    notes: list[str]
    settings: dict[str, Any]

    @property
    def title(self) -> str:
        """Title of the figures."""
        return f"{self.cohort}, graded by {self.encoder}".strip(", ")

    def as_dict(self) -> dict[str, Any]:
        """Return what about.json holds."""
        return self.model_dump(mode="json", by_alias=True)


def summarise(
    cohort: str,
    encoder: str,
    slides: Mapping[str, GradedSlide],
    sample: Sample,
    ranked: Sequence[Mapping[str, Any]],
    target: Profile | None,
    settings: DescribeSettings,
) -> Summary:
    """Summarise what was described, and what is too little for a test."""
    counts = count_grades(slides, sample.rows, settings.grades)
    known = sorted(mpp for mpp in sample.mpps.values() if mpp is not None)
    return Summary(
        algorithm=settings.algorithm,
        encoder=encoder,
        cohort=cohort,
        slides=len(slides),
        ungraded=int(sum(np.sum(slide.grades < 0) for slide in slides.values())),
        grades=counts,
        described=len(sample.rows),
        features=len(ranked),
        selected=_above_zero(ranked, "pairs"),
        selected_holm=_above_zero(ranked, "pairs_holm"),
        slide_means_selected=_above_zero(ranked, "slide_means_pairs"),
        slide_means_selected_holm=_above_zero(ranked, "slide_means_pairs_holm"),
        patch_px=sorted(sample.sizes_px),
        patch_mpp=(known[0], known[-1]) if known else None,
        area_unit=sample.area_unit,
        colours="the encoder's stain target" if target else "as scanned",
        stain_digest=target.digest() if target else "",
        notes=[
            *notes_on_tests(counts, ranked, settings),
            INDEPENDENCE,
            *notes_on_resolution(sample.mpps, settings.nuclei_mpp),
        ],
        settings=settings.model_dump(mode="json"),
    )


def _above_zero(rows: Sequence[Mapping[str, Any]], key: str) -> int:
    return sum(bool(row.get(key)) for row in rows)


def count_grades(
    slides: Mapping[str, GradedSlide], rows: Sequence[Mapping[str, Any]], lowest: Sequence[float]
) -> dict[str, GradeCounts]:
    """Count patches and described patches (rows of features.tsv) by grade."""
    bounds, counts = (*lowest, 1.0), {}
    for number, grade in enumerate(GRADES):
        of_grade = [row for row in rows if row["grade"] == grade]
        counts[grade] = GradeCounts(
            lowest_p=bounds[number],
            highest_p=bounds[number + 1],
            patches=int(sum(np.sum(slide.grades == number) for slide in slides.values())),
            described=len(of_grade),
            slides=len({row["slide"] for row in of_grade}),
        )
    return counts


def notes_on_tests(
    counts: Mapping[str, GradeCounts],
    ranked: Sequence[Mapping[str, Any]],
    settings: DescribeSettings,
) -> list[str]:
    """Say which grades have too few patches to be tested, and when no feature differs."""
    notes = []
    for grade, count in counts.items():
        if count.described < settings.patches_min:
            few = f"{count.described} patches" if count.described else "no patch"
            notes.append(f"grade {grade} has {few}, fewer than {settings.patches_min}: not tested")
    if not any("P" in row for row in ranked):
        notes.append("no feature could be tested: fewer than two grades have enough patches")
    elif not any(row.get("selected") for row in ranked):
        notes.append("no feature differs between any two grades")
    return notes


def notes_on_resolution(mpps: Mapping[str, float | None], nuclei_mpp: float) -> list[str]:
    """Say which slides have no resolution, and what follows for the areas of nuclei."""
    unknown = [slide for slide, mpp in mpps.items() if mpp is None]
    if not unknown:
        return []
    named = ", ".join(unknown[:SLIDES_NAMED])
    named += " and others" if len(unknown) > SLIDES_NAMED else ""
    return [
        f"{len(unknown)} of {len(mpps)} slides have no resolution ({named}): areas of nuclei"
        f" are in px of the patch, and those slides were taken for {nuclei_mpp:g}"
        " um per px of it"
    ]
