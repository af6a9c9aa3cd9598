"""Settings of methods, and of fitting the aggregations that learn."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from her2pipe.config.base import ALGORITHM, RULES, Name, Section, setting

# Published values of the other rules where they differ from those of CLAM, which are the defaults.
OWN: dict[str, dict[str, Any]] = {
    "slidegraph": {
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "dropout": 0.5,
        "step_slides": 8,
        "max_epochs": 300,
        "min_epochs": 0,
        "patience": 30,
        "best_epochs": 10,
    },
    "mlp": {"step_slides": 8, "min_epochs": 0},
}


def published(rule: Any) -> dict[str, Any]:
    """Return the fit settings of a rule that differ from the defaults."""
    return OWN.get(rule, {}) if isinstance(rule, str) else {}


class FitSettings(Section):
    """Fitting an aggregation; published values, of CLAM where no other rule is named."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    folds: int = setting(
        5, "inner folds by patient, each with a model of its own; 1: one hold-out", "", ge=1, le=20
    )
    holdout: float = setting(
        0.2, "folds 1: share of the training patients held out to stop by", "fraction", gt=0, lt=1
    )
    classes: Literal["binary", "levels"] = setting(
        "binary", "what is learnt: HER2 status, or the five levels (clam, mlp)"
    )
    learning_rate: float = setting(
        2e-4, "Adam's step size; slidegraph's own default is 1e-3", "", gt=0, lt=1
    )
    weight_decay: float = setting(
        1e-5, "Adam's weight decay; slidegraph's own default is 1e-4", "", ge=0, lt=1
    )
    dropout: float = setting(
        0.25, "share of units dropped; slidegraph's own default is 0.5", "", ge=0, lt=1
    )
    step_slides: int = setting(
        1, "slides per step; slidegraph's and mlp's own default is 8", "slides", ge=1
    )
    max_epochs: int = setting(
        200, "most passes over the slides; slidegraph's own default is 300", "epochs", ge=1
    )
    min_epochs: int = setting(
        50, "no early stop before; slidegraph's and mlp's own default is 0", "epochs", ge=0
    )
    patience: int = setting(
        20, "stop after so many without a better one; slidegraph's default is 30", "epochs", ge=1
    )
    best_epochs: int = setting(
        1, "epochs, best by the held-out slides, whose networks are kept; slidegraph's own"
        " default is 10", "", ge=1, le=50,
    )  # fmt: skip
    branch: Literal["single", "multi"] = setting(
        "single", "clam: one attention for all classes (SB), or one for each (MB)"
    )
    instances: int = setting(
        8, "clam: patches of highest and of lowest attention taught as instances", "patches", ge=1
    )
    subtyping: bool = setting(True, "clam: teach instances of the classes a slide is not of, too")
    bag_weight: float = setting(
        0.7, "clam: weight of the slide's loss; the rest is the instances'", "", gt=0, le=1
    )
    hidden: int = setting(256, "mlp: units of the hidden layer", "", ge=1, le=8192)
    step_patches: int = setting(512, "mlp: patches drawn of each slide in a step", "patches", ge=1)
    similarity_distance: float = setting(
        3e-3, "slidegraph: decay of similarity with distance", "1/px", gt=0
    )
    similarity_features: float = setting(
        1e-3, "slidegraph: decay of similarity with the features' distance", "", ge=0
    )
    radius_px: float = setting(
        2000.0, "slidegraph: patches farther apart are not alike", "scaled px", gt=0
    )
    merge_distance: float = setting(
        0.8, "slidegraph: patches merge up to this mean distance, 1 - similarity", "", ge=0, lt=1
    )
    edge_px: float = setting(4000.0, "slidegraph: edges are shorter than this", "scaled px", gt=0)
    graph_area_px0: float = setting(
        1e9, "slidegraph: slides are scaled to this area; in a study the default is"
        " tile.adaptive_area_px0", "level-0 px^2", gt=0,
    )  # fmt: skip
    fit_seed: int = setting(2025, "seed of folds, order and weights", "", ge=0)
    save_s: float = setting(
        60.0, "least time between two checkpoints a killed run goes on from", "s", ge=0
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to compute")


class Method(Section):
    """One row of the method table: an encoder and a rule of aggregation."""

    encoder: Name = setting(..., "name under `encoders`")
    aggregate: Literal[RULES] = setting("probabilistic", "rule of aggregation")
    cohorts: list[Name] = setting(
        [], "cohorts it scores; none named: all but those for pre-training", flag=False
    )
    fit: FitSettings = setting(
        FitSettings(), "the method's own settings over those of `fit`", flag=False
    )

    @model_validator(mode="after")
    def _levels_need_classes(self):
        if self.aggregate == "slidegraph" and self.fit.classes == "levels":
            raise ValueError("slidegraph ranks two classes: use fit.classes: binary, clam or mlp")
        return self
