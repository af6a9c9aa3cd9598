"""Settings of what is made of the scores: evaluate, compare, heatmap, ledger, report."""

from __future__ import annotations

from her2pipe.config.base import ALGORITHM, Name, Section, setting


class EvaluateSettings(Section):
    """Statistics of one method on one cohort."""

    algorithm: int = setting(2, ALGORITHM, ge=2, le=2)
    confidence: float = setting(0.95, "level of the confidence intervals", "", gt=0.5, lt=1)


class CompareSettings(Section):
    """The method table."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)


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


class LedgerSettings(Section):
    """The account of every slide."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)


class ReportSettings(Section):
    """The study's page."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    gallery: int = setting(4, "heat maps shown per cohort", "slides", ge=0)
