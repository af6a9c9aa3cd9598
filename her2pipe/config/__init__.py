"""Every setting, once: type, unit, range, default.

From these classes come the checks of a study file (`load`), the flags of each command and their
help, the `settings` attribute of every output (`flags`), and `studies/schema.json` (`schema`).

A name is imported from its module when it is first asked for: a step makes the classes of its own
settings, not those of all others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from her2pipe.config.aggregation import (
        FitSettings,
        Method,
        NetworkFitSettings,
        SharedFitSettings,
        TargetSettings,
    )
    from her2pipe.config.base import (
        ADAPTIVE,
        CLASSES,
        LEVELS,
        NAME_MOST,
        PLAIN_NAME,
        VIEW,
        WHOLE,
        Section,
    )
    from her2pipe.config.endpoints import LabelSettings
    from her2pipe.config.evaluation import (
        CompareSettings,
        DriftSettings,
        EvaluateSettings,
        PlausibilitySettings,
        QualitySettings,
    )
    from her2pipe.config.grid import GridSettings
    from her2pipe.config.load import Config
    from her2pipe.config.reporting import (
        GRADES,
        DescribeSettings,
        ExplainSettings,
        FigureSettings,
        HeatmapSettings,
        LedgerSettings,
        ReportSettings,
        SmallNumberSettings,
    )
    from her2pipe.config.slides import (
        Cohort,
        DrawSettings,
        ImagesSettings,
        PreflightSettings,
        RejectSettings,
        Scanner,
        SlidesSettings,
        SplitSettings,
        StainSettings,
        StudySettings,
        SynthesiseSettings,
        TileSettings,
        TissueSettings,
    )
    from her2pipe.config.training import (
        BundleSettings,
        CompatibilitySettings,
        DeploySettings,
        Encoder,
        EncodeSettings,
        Pretraining,
        PretrainSettings,
        ScoreSettings,
        TrainSettings,
        UnpackSettings,
    )

_NAMES = {  # by module
    "aggregation": (
        "FitSettings",
        "Method",
        "NetworkFitSettings",
        "SharedFitSettings",
        "TargetSettings",
    ),
    "base": (
        "ADAPTIVE",
        "CLASSES",
        "LEVELS",
        "NAME_MOST",
        "PLAIN_NAME",
        "VIEW",
        "WHOLE",
        "Section",
    ),
    "endpoints": ("LabelSettings",),
    "evaluation": (
        "CompareSettings",
        "DriftSettings",
        "EvaluateSettings",
        "PlausibilitySettings",
        "QualitySettings",
    ),
    "grid": ("GridSettings",),
    "load": ("Config",),
    "reporting": (
        "GRADES",
        "DescribeSettings",
        "ExplainSettings",
        "FigureSettings",
        "HeatmapSettings",
        "LedgerSettings",
        "ReportSettings",
        "SmallNumberSettings",
    ),
    "slides": (
        "Cohort",
        "DrawSettings",
        "ImagesSettings",
        "PreflightSettings",
        "RejectSettings",
        "Scanner",
        "SlidesSettings",
        "SplitSettings",
        "StainSettings",
        "StudySettings",
        "SynthesiseSettings",
        "TileSettings",
        "TissueSettings",
    ),
    "training": (
        "BundleSettings",
        "CompatibilitySettings",
        "DeploySettings",
        "Encoder",
        "EncodeSettings",
        "Pretraining",
        "PretrainSettings",
        "ScoreSettings",
        "TrainSettings",
        "UnpackSettings",
    ),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "ADAPTIVE",
    "CLASSES",
    "GRADES",
    "LEVELS",
    "NAME_MOST",
    "PLAIN_NAME",
    "STEPS",
    "VIEW",
    "WHOLE",
    "BundleSettings",
    "Cohort",
    "CompareSettings",
    "CompatibilitySettings",
    "Config",
    "DeploySettings",
    "DescribeSettings",
    "DrawSettings",
    "DriftSettings",
    "EncodeSettings",
    "Encoder",
    "EvaluateSettings",
    "ExplainSettings",
    "FigureSettings",
    "FitSettings",
    "GridSettings",
    "HeatmapSettings",
    "ImagesSettings",
    "LabelSettings",
    "LedgerSettings",
    "Method",
    "NetworkFitSettings",
    "PlausibilitySettings",
    "PreflightSettings",
    "PretrainSettings",
    "Pretraining",
    "QualitySettings",
    "RejectSettings",
    "ReportSettings",
    "Scanner",
    "ScoreSettings",
    "Section",
    "SharedFitSettings",
    "SlidesSettings",
    "SmallNumberSettings",
    "SplitSettings",
    "StainSettings",
    "StudySettings",
    "SynthesiseSettings",
    "TargetSettings",
    "TileSettings",
    "TissueSettings",
    "TrainSettings",
    "UnpackSettings",
]

STEPS = (
    "synthesise",
    "draw",
    "preflight",
    "tile",
    "pretrain",
    "train",
    "unpack",
    "encode",
    "fit",
    "quality",
    "score",
    "evaluate",
    "compare",
    "describe",
    "heatmap",
    "explain",
    "deploy",
    "bundle",
    "ledger",
    "report",
)


def __getattr__(name: str) -> Any:
    """Return a name of the modules below, imported when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
