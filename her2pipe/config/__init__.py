"""Every setting, once: type, unit, range, default.

From these classes come the checks of a study file (`load`), the flags of each command and their
help, the `settings` attribute of every output (`flags`), and `studies/schema.json` (`schema`).
"""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from her2pipe.config.aggregation import (
    FitSettings,
    Method,
    NetworkFitSettings,
    SharedFitSettings,
    TargetSettings,
    over_shared,
    with_bundled_encoders,
)
from her2pipe.config.base import (
    ADAPTIVE,
    CLASSES,
    LEVELS,
    NAME_MOST,
    PLAIN_NAME,
    VIEW,
    WHOLE,
    Name,
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
    over_shared_training,
)

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


def _methods_or_grid(schema: dict[str, Any]) -> None:
    """Let a study file have methods, or a grid that makes them."""
    schema["required"].remove("methods")
    schema["anyOf"] = [{"required": ["methods"]}, {"required": ["grid"]}]


def _over(common: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    return {**common, **named}


class Config(Section):
    """A study file."""

    model_config = ConfigDict(json_schema_extra=_methods_or_grid)

    study: StudySettings = Field(default_factory=StudySettings)
    cohorts: dict[Name, Cohort] = Field(..., min_length=1)
    labels: LabelSettings = Field(default_factory=LabelSettings)
    slides: SlidesSettings = Field(default_factory=SlidesSettings)
    images: ImagesSettings = Field(default_factory=ImagesSettings)
    split: SplitSettings = Field(default_factory=SplitSettings)
    stain: StainSettings = Field(default_factory=StainSettings)
    tissue: TissueSettings = Field(default_factory=TissueSettings)
    synthesise: SynthesiseSettings = Field(default_factory=SynthesiseSettings)
    draw: DrawSettings = Field(default_factory=DrawSettings)
    preflight: PreflightSettings = Field(default_factory=PreflightSettings)
    tile: TileSettings = Field(default_factory=TileSettings)
    pretrain: PretrainSettings = Field(default_factory=PretrainSettings)
    pretrainings: dict[Name, Pretraining] = Field({})
    train: TrainSettings = Field(default_factory=TrainSettings)
    encoders: dict[Name, Encoder] = Field({})
    unpack: UnpackSettings = Field(default_factory=UnpackSettings)
    encode: EncodeSettings = Field(default_factory=EncodeSettings)
    compatibility: CompatibilitySettings = Field(default_factory=CompatibilitySettings)
    fit: SharedFitSettings = Field(default_factory=SharedFitSettings)
    methods: dict[Name, Method] = Field(..., min_length=1)
    grid: GridSettings = Field(default_factory=GridSettings)
    quality: QualitySettings = Field(default_factory=QualitySettings)
    score: ScoreSettings = Field(default_factory=ScoreSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    drift: DriftSettings = Field(default_factory=DriftSettings)
    compare: CompareSettings = Field(default_factory=CompareSettings)
    describe: DescribeSettings = Field(default_factory=DescribeSettings)
    heatmap: HeatmapSettings = Field(default_factory=HeatmapSettings)
    explain: ExplainSettings = Field(default_factory=ExplainSettings)
    deploy: DeploySettings = Field(default_factory=DeploySettings)
    bundle: BundleSettings = Field(default_factory=BundleSettings)
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    report: ReportSettings = Field(default_factory=ReportSettings)

    @model_validator(mode="before")
    @classmethod
    def _named_over_shared(cls, data: Any) -> Any:
        """Lay the settings of each encoder over those of `train`, and of each pre-training."""
        if not isinstance(data, dict):
            return data
        data = with_bundled_encoders(data)
        for shared, several in (("train", "encoders"), ("pretrain", "pretrainings")):
            common, named = data.get(shared) or {}, data.get(several)
            if isinstance(common, dict) and isinstance(named, dict):
                lay = over_shared_training if several == "encoders" else _over
                merged = {
                    k: lay(common, v or {}) if isinstance(v or {}, dict) else v
                    for k, v in named.items()
                }
                data = {**data, several: merged}
        if isinstance(data.get("methods"), dict):
            data = {**data, "methods": over_shared(data)}
        return {
            k: {} if v is None and k not in ("cohorts", "methods") else v for k, v in data.items()
        }
