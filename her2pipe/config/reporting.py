"""Settings of what shows the results: heatmap, explain, ledger, report."""

from __future__ import annotations

from typing import Literal

from her2pipe.config.base import ALGORITHM, Name, Section, setting


class HeatmapSettings(Section):
    """Slide overlays."""

    algorithm: int = setting(2, ALGORITHM, ge=2, le=2)
    methods: list[Name] = setting(
        [], "methods whose maps are drawn; none named: the first one", flag=False
    )
    opacity: float = setting(0.55, "opacity of the map over the slide", "", gt=0, le=1)
    viewers: bool = setting(
        True, "write each map for QuPath (GeoJSON) and TIAViz (annotation store), too"
    )


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
        6, "the deepest stage is looked at whose map has so many cells a side", "cells", ge=1
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

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)


class ReportSettings(Section):
    """The study's page."""

    algorithm: int = setting(2, ALGORITHM, ge=2, le=2)
    gallery: int = setting(4, "heat maps shown per cohort", "slides", ge=0)
    zoom_px: int = setting(
        2048, "longer side of the slides one can zoom into; 0: no viewer", "px", ge=0, le=8192
    )
    methods: list[Name] = setting(
        [], "methods whose figures are shown cohort by cohort; none named: the first", flag=False
    )
