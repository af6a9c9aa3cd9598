"""Settings of what is made of the scores: evaluate, compare, heatmap, ledger, report."""

from __future__ import annotations

from her2pipe.config.base import ALGORITHM, Name, Section, setting


class EvaluateSettings(Section):
    """Statistics of one method on one cohort."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    confidence: float = setting(0.95, "level of the confidence intervals", "", gt=0.5, lt=1)


class CompareSettings(Section):
    """The method table."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)


class HeatmapSettings(Section):
    """Slide overlays."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    methods: list[Name] = setting(
        [], "methods whose maps are drawn; none named: the first one", flag=False
    )
    opacity: float = setting(0.55, "opacity of the map over the slide", "", gt=0, le=1)


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
