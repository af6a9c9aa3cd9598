"""Rules of aggregation: from a slide's patches to one slide score.

Each rule is a module of this package with `score` and `contributions`. A learnt one also has
`prepare`, what it makes of a slide; `fit`, which learns from prepared slides; and `predict`, which
gives one its class probabilities. Scoring needs no torch, whatever a rule was fitted with.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from her2pipe.config import FITTED, LEARNT, LEVELS, FitSettings, ScoreSettings
from her2pipe.errors import Her2Error
from her2pipe.files import file_digest, read_json, write_text

__all__ = [
    "FITTED", "LEARNT", "POSITIVE", "Bag", "Lesson", "Model", "SlideScore", "contributions",
    "load", "module", "save", "score",
]  # fmt: skip
POSITIVE = {"HER2+", *LEVELS[3:]}  # classes that count as HER2-positive


@dataclass(frozen=True)
class Bag:
    """One slide as aggregations see it.

    Attributes
    ----------
    slide : str
    coords : (N, 2) int32
        Top left corners of the patches `(x, y)`, level-0 px.
    side_px0 : int
        Side of a patch, level-0 px.
    width_px0, height_px0 : int
        Size of the slide, level-0 px.
    probabilities : (N, C) float32
        C is 0 for an encoder without classes.
    features : (N, d) float16
        d is 0 when they were not read.
    classes : list of str
        Names of the C columns.
    """

    slide: str
    coords: np.ndarray
    side_px0: int
    width_px0: int
    height_px0: int
    probabilities: np.ndarray
    features: np.ndarray
    classes: list[str]

    @classmethod
    def of(cls, encoding: dict[str, Any]) -> Bag:
        """Build a bag from what `store.read_encoding` returns."""
        about, coords = encoding["attributes"], encoding["coords"]
        sizes = [int(about.get(k, 0)) for k in ("patch_size_level0", "width_px0", "height_px0")]
        features = encoding.get("features", np.zeros((len(coords), 0), np.float16))
        classes = json.loads(about.get("classes", "[]"))
        return cls(
            str(about["slide"]), coords, *sizes, encoding["probabilities"], features, classes
        )

    def __len__(self) -> int:
        return len(self.coords)

    def check(self, path: str | Path) -> None:
        """Refuse numbers that are none; `path` is the encoding, for the message."""
        for name in ("probabilities", "features"):
            if bad := int((~np.isfinite(getattr(self, name))).sum()):
                raise Her2Error(
                    f"the encoding holds {bad} {name} that are not numbers",
                    str(path),
                    "delete it and encode again",
                )

    @property
    def positive(self) -> np.ndarray:
        """Probability of HER2+ of each patch, (N,) float64.

        Raises
        ------
        Her2Error
            When the encoder does not tell HER2+ from other classes.
        """
        if "HER2+" not in self.classes:
            raise Her2Error(
                f"the encoder of {self.slide} gives no probability of HER2+",
                "option --aggregate",
                f"use a rule that learns from features: {', '.join(LEARNT)}",
            )
        return self.probabilities[:, self.classes.index("HER2+")].astype(float)


@dataclass(frozen=True)
class SlideScore:
    """Score of one slide and what it was made of; None or NaN where a rule has no such part."""

    score: float
    level: str = ""
    tumour_patches: int | None = None
    stained_area: float = float("nan")
    mean_excess: float = float("nan")
    flag: str = ""


@dataclass(frozen=True)
class Lesson:
    """A slide to learn from: what its rule's `prepare` made of it, and its class."""

    slide: str
    prepared: Any
    target: int
    positive: bool


@dataclass(frozen=True)
class Model:
    """What `fit` learnt.

    Attributes
    ----------
    about : dict
        The folder's `model.json`: rule, classes, features, settings, threshold and so on.
    members : list of dict
        Arrays by name of each network of the ensemble; empty for a rule without any.
    """

    about: dict[str, Any]
    members: list[dict[str, np.ndarray]]

    @property
    def settings(self) -> FitSettings:
        """Settings the rule was fitted with."""
        known = FitSettings.model_fields
        return FitSettings(**{k: v for k, v in self.about["settings"].items() if k in known})

    @property
    def positive(self) -> list[int]:
        """Columns of the classes that count as HER2-positive."""
        return [i for i, name in enumerate(self.about["classes"]) if name in POSITIVE]

    def slide_score(self, p: np.ndarray) -> SlideScore:
        """Make a score of class probabilities (C,): that of HER2+, and the level where taught."""
        level = self.about["classes"][int(p.argmax())]
        score = float(np.clip(p[self.positive].sum(), 0, 1))
        return SlideScore(score, level if level in LEVELS else "")

    def call(self, score: float) -> str:
        """Return HER2+ when the score reaches the threshold of the training slides, else HER2-."""
        return "HER2+" if score >= self.about["threshold"] else "HER2-"


def score(rule: str, bag: Bag, settings: ScoreSettings, model: Model | None = None) -> SlideScore:
    """Score a slide by a rule's name.

    Raises
    ------
    Her2Error
        When the rule is learnt and there is no model, or one of another encoder's features.
    """
    if rule in LEARNT:
        _suit(rule, bag, model)
    if not len(bag):
        return SlideScore(float("nan"), flag="no_patches")
    return module(rule).score(bag, settings, model)


def contributions(
    rule: str, bag: Bag, settings: ScoreSettings, model: Model | None = None
) -> tuple[np.ndarray, str]:
    """Tell what each patch adds to the slide's score, for heat maps.

    Returns
    -------
    (N,) float32
        Probability of HER2+, attention, or node score.
    str
        What that is, as the label of an axis.
    """
    if rule in LEARNT:
        _suit(rule, bag, model)
    if not len(bag):
        return np.zeros(0, np.float32), ""
    value, label = module(rule).contributions(bag, settings, model)
    return np.asarray(value, np.float32), label


def load(rule: str, folder: str | Path) -> Model:
    """Load a folder written by `her2pipe fit`.

    Raises
    ------
    Her2Error
        When it is none, of another rule, or its files do not belong together.
    """
    folder = Path(folder)
    about = read_json(folder / "model.json", "a fitted aggregation")
    if about.get("rule") != rule:
        raise Her2Error(
            f"the model was fitted for the rule {about.get('rule', '(none)')}, not {rule}",
            str(folder / "model.json"),
            "give the folder that her2pipe fit wrote for this rule",
        )
    if rule not in LEARNT:
        return Model(about, [])
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_digest(weights) != about["digest"]:
        raise Her2Error(
            "model.safetensors is not the file that model.json describes",
            str(folder),
            "fit again, or copy both files together",
        )
    from safetensors.numpy import load_file

    members: list[dict[str, np.ndarray]] = [{} for _ in range(about["members"])]
    for name, values in load_file(weights).items():
        number, _, rest = name.partition(".")
        members[int(number)][rest] = values
    return Model(about, members)


def save(model: Model, folder: Path) -> None:
    """Write `model.json`, and `model.safetensors` of a rule with networks, into a folder."""
    about = model.about
    if model.members:
        from safetensors.numpy import save_file

        arrays = {
            f"{number}.{name}": np.ascontiguousarray(values)
            for number, member in enumerate(model.members)
            for name, values in member.items()
        }
        save_file(arrays, folder / "model.safetensors")
        about = {**about, "digest": file_digest(folder / "model.safetensors")}
    write_text(folder / "model.json", json.dumps(about, indent=1) + "\n")


def module(rule: str) -> ModuleType:
    """Return the module of a rule."""
    return importlib.import_module(f"her2pipe.aggregation.{rule}")


def _suit(rule: str, bag: Bag, model: Model | None) -> None:
    """Refuse a missing model, and features other than those it was fitted on."""
    if model is None:
        raise Her2Error(
            f"the rule {rule} is learnt and needs a model",
            "option --model",
            "give the folder written by her2pipe fit",
        )
    width = model.about["features"]
    if bag.features.shape[1] != width:
        raise Her2Error(
            f"slide {bag.slide} has {bag.features.shape[1]} features per patch,"
            f" the model was fitted on {width}",
            "encodings and model",
            "score with the encoder the rule was fitted on",
        )
