"""Settings of what shows and describes results: heatmap, describe, explain, ledger, report."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from her2pipe.config.base import ALGORITHM, Name, Section, setting

GRADES = ("I", "II", "III", "IV", "V")


class HeatmapSettings(Section):
    """Slide overlays."""

    algorithm: int = setting(3, ALGORITHM, ge=3, le=3)
    methods: list[Name] = setting(
        [], "methods whose maps are drawn; none named: the first one", flag=False
    )
    opacity: float = setting(0.55, "opacity of the map over the slide", "", gt=0, le=1)
    viewers: bool = setting(
        True, "write each map for QuPath (GeoJSON) and TIAViz (annotation store), too"
    )


class DescribeSettings(Section):
    """Features of patches by grade of p(HER2+)."""

    algorithm: int = setting(2, ALGORITHM, ge=2, le=2)
    encoders: list[Name] = setting(
        [],
        "encoders whose patches are described; none named: the first method's that is no bundle",
        flag=False,
    )
    cohorts: list[Name] = setting(
        [], "cohorts whose patches are described; none named: all", flag=False
    )
    grades: tuple[float, float, float, float, float] = setting(
        (0.33, 0.4, 0.5, 0.6, 0.7), "lowest p(HER2+) of grades I to V; below I: no grade", "0 to 1"
    )
    patches: int = setting(
        200,
        "patches described per grade, drawn evenly from the slides",
        "patches",
        ge=1,
        choice=True,
    )
    patches_min: int = setting(
        5, "a grade with fewer described patches is drawn, but not tested", "patches", ge=2
    )
    describe_seed: int = setting(2025, "seed of the sample", "", ge=0)
    normalise: bool = setting(
        True,
        "describe patches in the encoder's stain target, as it saw them; false: as scanned",
        choice=True,
    )
    entropy_levels: int = setting(
        256, "levels a channel is cut into for entropy", "", ge=2, choice=True
    )
    glcm_levels: int = setting(
        32, "levels a channel is cut into for co-occurrence", "", ge=2, le=256, choice=True
    )
    nuclei_mpp: float = setting(
        0.5,
        "resolution at which nuclei are segmented, or the patch's own if coarser",
        "um/px",
        gt=0,
        le=2,
        choice=True,
    )
    nuclei_floor: float = setting(
        0.25,
        "least haematoxylin of a nucleus, as a share of the slide's maximum; the threshold is"
        " Otsu's, but never lower",
        "fraction",
        gt=0,
        lt=1,
        choice=True,
    )
    nuclei_blur_um: float = setting(
        0.5, "spread of the blur before each step", "um", gt=0, le=5, choice=True
    )
    nuclei_open_um: float = setting(
        1.2, "width of the opening: removes what is narrower", "um", ge=0, le=10, choice=True
    )
    nuclei_spacing_um: float = setting(
        1.5, "least distance of two nuclei", "um", gt=0, le=20, choice=True
    )
    nuclei_dark_um: float = setting(
        6.0,
        "watershed depth of the slide's darkest haematoxylin: touching nuclei are separated"
        " where distance to the background plus darkness is least",
        "um",
        ge=0,
        le=50,
        choice=True,
    )
    nuclei_area_um2: tuple[float, float] = setting(
        (8.0, 400.0), "smallest and largest area of a nucleus", "um^2", choice=True
    )
    alpha: float = setting(
        0.05,
        "a feature is selected when Dunn's P of any two grades, unadjusted as published, is below"
        " this; what remains after Holm is counted beside it",
        "",
        gt=0,
        lt=1,
    )
    boxes: int = setting(20, "most features drawn as box plots", "features", ge=1, le=24)
    examples: int = setting(6, "example patches shown per grade", "patches", ge=1, le=12)

    @model_validator(mode="after")
    def _agree(self):
        low, *_, high = self.grades
        if list(self.grades) != sorted(set(self.grades)) or low < 0 or high >= 1:
            raise ValueError("grades must ascend within 0 to 1")
        if self.patches < self.patches_min:
            raise ValueError("patches must be at least patches_min, or no grade is ever tested")
        if not 0 < self.nuclei_area_um2[0] < self.nuclei_area_um2[1]:
            raise ValueError("nuclei_area_um2 must be a smaller and a larger area")
        return self


class ExplainSettings(Section):
    """Where in a patch a network sees evidence for a class (Grad-CAM)."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    encoders: list[Name] = setting(
        [], "encoders whose evidence is drawn; none named: none", flag=False
    )
    layers: dict[Name, str] = setting(
        {}, "encoder to the module whose maps are looked at; others: chosen by map_min", flag=False
    )
    map_min: int = setting(
        6,
        "the deepest stage is looked at whose map has so many cells a side",
        "cells",
        ge=1,
        choice=True,
    )
    target: str = setting(
        "", "class whose evidence is drawn; empty: the likeliest of each slide, by mean probability"
    )
    tiles: int = setting(
        6, "patches drawn of each slide, those of highest probability", "patches", ge=1, le=12
    )
    whole: bool = setting(True, "draw the evidence over the whole slide, too")
    opacity: float = setting(0.5, "opacity of the evidence over the picture", "", gt=0, le=1)
    batch_patches: int = setting(32, "patches per pass", "patches", ge=1)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to compute")


class LedgerSettings(Section):
    """The account of every slide."""

    algorithm: int = setting(2, ALGORITHM, ge=2, le=2)


class SmallNumberSettings(Section):
    """When numbers are too small for intervals, box plots and tests."""

    min_n: int = setting(
        5,
        "a group of fewer slides, or of fewer patients, is drawn as points and gets a note in place"
        " of interval, box plot and test",
        "slides",
        ge=1,
        choice=True,
    )


class FigureSettings(Section):
    """In which formats figures are written, beside PNG and SVG."""

    figure_pdf: bool = setting(
        # A quarter of a second of processor time each: about two for a method on a cohort.
        False,
        "write the figures of evaluate and compare as PDF, too, in which text stays text",
        choice=True,
    )


class ReportSettings(SmallNumberSettings, FigureSettings):
    """The study's page."""

    algorithm: int = setting(3, ALGORITHM, ge=3, le=3)
    primary: str = setting(
        "",
        "method whose result the page opens with; empty: the first, or of classes that of the"
        " highest macro-AUC on internal validation slides",
    )
    gallery: int = setting(4, "heat maps shown per cohort", "slides", ge=0)
    zoom_px: int = setting(
        2048, "longer side of the slides one can zoom into; 0: no viewer", "px", ge=0, le=8192
    )
    methods: list[Name] = setting(
        [],
        "methods whose figures are shown cohort by cohort; none named: the primary one",
        flag=False,
    )
    identifiers: bool = setting(
        True, "name slides and patients as the sheets do; false: by pseudonyms, and no paths"
    )
    core_watts: float = setting(
        12.0,
        "power of one busy processor core with its share of memory and cooling, for the estimate of"
        " energy",
        "W",
        gt=0,
        le=200,
        choice=True,
    )
