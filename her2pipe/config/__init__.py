"""Every setting, once: type, unit, range, default.

From these classes come the checks of a study file, the flags of each command and their help,
the `settings` attribute of every output (all in `settings.py`), and `studies/schema.json`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from her2pipe.config.base import CLASSES, LEVELS, PLAIN_NAME, VIEW, Name, Section
from her2pipe.config.models import (
    Encoder,
    EncodeSettings,
    Method,
    Pretraining,
    PretrainSettings,
    ScoreSettings,
    TrainSettings,
)
from her2pipe.config.results import (
    CompareSettings,
    EvaluateSettings,
    HeatmapSettings,
    LedgerSettings,
    ReportSettings,
)
from her2pipe.config.slides import (
    Cohort,
    Scanner,
    SlidesSettings,
    SplitSettings,
    StainSettings,
    StudySettings,
    SynthesiseSettings,
    TileSettings,
)

__all__ = [
    "CLASSES",
    "LEVELS",
    "PLAIN_NAME",
    "STEPS",
    "VIEW",
    "Cohort",
    "CompareSettings",
    "Config",
    "EncodeSettings",
    "Encoder",
    "EvaluateSettings",
    "HeatmapSettings",
    "LedgerSettings",
    "Method",
    "PretrainSettings",
    "Pretraining",
    "ReportSettings",
    "Scanner",
    "ScoreSettings",
    "Section",
    "SlidesSettings",
    "SplitSettings",
    "StainSettings",
    "StudySettings",
    "SynthesiseSettings",
    "TileSettings",
    "TrainSettings",
]

STEPS = (
    "synthesise",
    "tile",
    "pretrain",
    "train",
    "encode",
    "score",
    "evaluate",
    "compare",
    "heatmap",
    "ledger",
    "report",
)


class Config(Section):
    """A study file."""

    study: StudySettings = StudySettings()
    cohorts: dict[Name, Cohort] = Field(..., min_length=1)
    slides: SlidesSettings = SlidesSettings()
    split: SplitSettings = SplitSettings()
    stain: StainSettings = StainSettings()
    synthesise: SynthesiseSettings = SynthesiseSettings()
    tile: TileSettings = TileSettings()
    pretrain: PretrainSettings = PretrainSettings()
    pretrainings: dict[Name, Pretraining] = {}
    train: TrainSettings = TrainSettings()
    encoders: dict[Name, Encoder] = Field(..., min_length=1)
    encode: EncodeSettings = EncodeSettings()
    methods: dict[Name, Method] = Field(..., min_length=1)
    score: ScoreSettings = ScoreSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    compare: CompareSettings = CompareSettings()
    heatmap: HeatmapSettings = HeatmapSettings()
    ledger: LedgerSettings = LedgerSettings()
    report: ReportSettings = ReportSettings()

    @model_validator(mode="before")
    @classmethod
    def _named_over_shared(cls, data: Any) -> Any:
        """Lay the settings of each encoder over those of `train`, and of each pre-training."""
        if not isinstance(data, dict):
            return data
        for shared, several in (("train", "encoders"), ("pretrain", "pretrainings")):
            common, named = data.get(shared) or {}, data.get(several)
            if isinstance(common, dict) and isinstance(named, dict):
                merged = {
                    k: {**common, **(v or {})} if isinstance(v or {}, dict) else v
                    for k, v in named.items()
                }
                data = {**data, several: merged}
        return {
            k: {} if v is None and k not in ("cohorts", "encoders", "methods") else v
            for k, v in data.items()
        }
