"""What every aggregation is made of: a slide's patches, its score, and what was fitted.

An aggregation is a class that registers itself in a module of this package, or in one of a plugin:

    @AGGREGATIONS.register("max")
    class Max(Aggregation): ...

The class answers what it needs and serves; an instance scores the slides of one endpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from her2pipe.config import LEVELS, LabelSettings, ScoreSettings
from her2pipe.config.aggregation import AGGREGATIONS as AGGREGATIONS
from her2pipe.config.aggregation import FitSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import file_digest, read_record, write_record
from her2pipe.models.description import PatchConditions
from her2pipe.registry import Citation

if TYPE_CHECKING:
    from her2pipe.store import Encoding

CLASSES_ONLY = frozenset({"classes"})
ALL_KINDS = frozenset({"classes", "number", "survival"})  # of endpoints, see `Endpoint.kind`


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
    def of(cls, encoding: Encoding) -> Bag:
        """Build a bag from what `store.read_encoding` returns."""
        metadata = encoding.metadata
        return cls(
            metadata.slide,
            encoding.coords,
            metadata.patch_size_level0,
            metadata.width_px0,
            metadata.height_px0,
            encoding.probabilities,
            encoding.features,
            list(metadata.classes),
        )

    def __len__(self) -> int:
        return len(self.coords)

    def probability(self, name: str) -> np.ndarray:
        """Return the probability of one of `classes` of each patch, (N,) float64."""
        return self.probabilities[:, self.classes.index(name)].astype(float)

    def validate(self, path: str | Path) -> None:
        """Refuse values that are not numbers; `path` is the encoding, for the message.

        Raises
        ------
        Her2Error
            When the encoding is damaged.
        """
        for name in ("probabilities", "features"):
            if bad := int((~np.isfinite(getattr(self, name))).sum()):
                raise Her2Error(
                    f"the encoding holds {bad} {name} that are not numbers",
                    str(path),
                    "delete it and encode again",
                )


@dataclass(frozen=True)
class SlideScore:
    """Score of one slide and what it was made of; None or NaN where there is no such part.

    Attributes
    ----------
    score : float
    level, call, flag : str
        See `endpoints.base.Prediction`; an aggregation has flags of its own.
    margin : float or None
    tumour_patches : int or None
    stained_area, mean_excess : float
        Of probabilistic aggregation, fraction and probability.
    class_probabilities : (C,) float or None
        Probabilities of the endpoint's targets, where its table of scores has them.
    """

    score: float
    level: str = ""
    call: str = ""
    flag: str = ""
    margin: float | None = None
    tumour_patches: int | None = None
    stained_area: float = float("nan")
    mean_excess: float = float("nan")
    class_probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class TrainingSlide:
    """A slide to fit on.

    Attributes
    ----------
    slide : str
    patient : str
    target : int
        Index of its label among the endpoint's targets.
    inputs : Any
        What its aggregation's `prepare` made of it, or its score where a threshold is fitted.
    response : tuple of float
        What is fitted where there are no classes: the number, or time and event (1 or 0).
    stratum : int or None
        Of its label for inner folds; None: the target.
    """

    slide: str
    patient: str
    target: int
    inputs: Any
    response: tuple[float, ...] = ()
    stratum: int | None = None


class FitMetadata(BaseModel):
    """What `model.json` says of a fitted aggregation.

    `classes` are the targets it predicts, `features` is the width of a patch's features, `members`
    the number of networks, `split_name` the split that it was fitted for, `slides` the number of
    training slides of each target, `held_out_by` where threshold and held-out scores come from
    (`held_out.py`), `epochs` those of a fit to all training slides, which no slide stopped, `c` the
    inverse strength of a regression's penalty, `patches` how the patches were cut.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    aggregation: str
    classes: list[str]
    features: int
    encoder: str = ""
    encoder_digest: str = ""
    settings: dict[str, Any] = {}
    split: dict[str, Any] = {}
    split_name: str = ""
    slides: dict[str, int] = {}
    versions: dict[str, str] = {}
    held_out_by: str = ""
    epochs: list[int] = []
    c: float | None = None
    training_set_digest: str = ""
    members: int = 0
    parameters: int = 0
    threshold: float | None = None
    patches: PatchConditions | None = None
    digest: str = ""


Arrays = dict[str, np.ndarray]  # weights of one network, by name


@dataclass(frozen=True)
class FittedModel:
    """What `her2pipe fit` wrote: its description, and the weights of each network, if any."""

    metadata: FitMetadata
    members: list[Arrays]


class Aggregation(ABC):
    """How patches become a slide's score.

    Attributes
    ----------
    name : str
        As registered; set by the registry's decorator of the class.
    family : str
        What kind it is, as Table 2 of Li et al. 2025 names kinds: `Attention-based`.
    reads : str
        What of a patch it reads: class probabilities, or features.
    kinds : frozenset of str
        Kinds of endpoints it serves, see `Endpoint.kind`.
    fits : str
        What `her2pipe fit` determines: nothing, a threshold, or weights, without which there is no
        score.
    gives_probability : bool
        Whether a score is a probability of the positive target.
    contributes_probability : bool
        Whether contributions of patches are probabilities, or ranks of classes, of 0 to 1.
    Settings : type of FitSettings or None
        Settings of `fit`; None where there is nothing to fit.
    citations : tuple of Citation
        Works to cite.

    Parameters
    ----------
    endpoint : Endpoint
    settings : ScoreSettings, optional
    model : FittedModel, optional

    Raises
    ------
    Her2Error
        When it does not suit the endpoint, or has no model but needs one.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = "Rule-based"
    reads: ClassVar[Literal["probabilities", "features"]] = "probabilities"
    kinds: ClassVar[frozenset[str]] = CLASSES_ONLY
    fits: ClassVar[Literal["", "threshold", "weights"]] = ""
    gives_probability: ClassVar[bool] = True
    contributes_probability: ClassVar[bool] = True
    Settings: ClassVar[type[FitSettings] | None] = None
    citations: ClassVar[tuple[Citation, ...]] = ()

    def __init__(
        self,
        endpoint: Endpoint,
        settings: ScoreSettings | None = None,
        model: FittedModel | None = None,
    ):
        if reason := self.suits(endpoint):
            raise Her2Error(reason, "option --aggregate", "choose another aggregation")
        if model is None and self.fits == "weights":
            raise Her2Error(
                f"the aggregation {self.name} is fitted and needs a model",
                "option --model",
                "give the folder written by her2pipe fit",
            )
        self.endpoint, self.model = endpoint, model
        self.settings = ScoreSettings() if settings is None else settings

    @classmethod
    def suits(cls, endpoint: Endpoint) -> str:
        """Return why the aggregation cannot serve an endpoint; empty where it can."""
        if endpoint.kind in cls.kinds:
            return ""
        what = {"number": "a number", "survival": "survival"}.get(endpoint.kind, endpoint.kind)
        return (
            f"the aggregation {cls.name} gives probabilities of classes, and cannot predict {what}"
        )

    @classmethod
    def is_fitted(cls, endpoint: Endpoint) -> bool:
        """Whether there is something to fit for an endpoint."""
        return cls.fits == "weights" or (cls.fits == "threshold" and bool(endpoint.positive))

    @classmethod
    def endpoint_for(cls, labels: LabelSettings, fit: FitSettings | None = None) -> Endpoint:
        """Return the endpoint of a study, as the settings of `fit` want it."""
        levels = getattr(fit, "targets", "binary") == "levels"
        endpoint = endpoint_of(labels, levels=levels)
        if levels and endpoint.targets != LEVELS:
            raise Her2Error(
                "levels are of HER2 status; the study has classes of its own",
                "option --targets",
                "leave targets out",
            )
        return endpoint

    @classmethod
    def fitted_settings(cls, model: FittedModel) -> FitSettings:
        """Return the settings that a model was fitted with.

        Not the number of the algorithm that fitted it: models of earlier ones score as they did.
        """
        settings = cls.Settings or FitSettings
        known = settings.model_fields.keys() - {"algorithm"}
        try:
            return settings(**{k: v for k, v in model.metadata.settings.items() if k in known})
        except ValidationError as error:
            raise Her2Error(
                f"the settings of the fitted model are damaged, or of another version: {error}",
                "model.json",
                "fit again",
            ) from None

    @property
    def threshold(self) -> float | None:
        """Score from which on a slide is called positive, where one was fitted."""
        return self.model.metadata.threshold if self.model else None

    def score(self, bag: Bag) -> SlideScore:
        """Score a slide.

        Raises
        ------
        Her2Error
            When the encoding does not suit endpoint or model.
        """
        self.validate(bag)
        return self._score(bag) if len(bag) else SlideScore(float("nan"), flag="no_patches")

    def contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return what each patch adds to the slide's score, for heat maps.

        Returns
        -------
        (N,) float32
            Probability, attention, or node score.
        str
            What that is, as the label of an axis.
        """
        self.validate(bag)
        if not len(bag):
            return np.zeros(0, np.float32), ""
        values, label = self._contributions(bag)
        return np.asarray(values, np.float32), label

    def validate(self, bag: Bag) -> None:
        """Refuse a slide that the aggregation cannot read."""
        if self.reads == "probabilities":
            if len(bag):
                self.endpoint.validate_classes(bag.classes, f"encoding of {bag.slide}")
        elif self.model and bag.features.shape[1] != self.model.metadata.features:
            raise Her2Error(
                f"slide {bag.slide} has {bag.features.shape[1]} features per patch,"
                f" the model was fitted on {self.model.metadata.features}",
                "encodings and model",
                "score with the encoder the aggregation was fitted on",
            )

    @abstractmethod
    def _score(self, bag: Bag) -> SlideScore:
        """Score a slide that has patches."""

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return what each patch adds; by default as its endpoint sees its probabilities."""
        return self.endpoint.patch_contributions(bag.probabilities, bag.classes)

    def predicted(
        self, p: np.ndarray, classes: Sequence[str] | None = None, **parts: Any
    ) -> SlideScore:
        """Make a score of class probabilities, (C,), as the endpoint does.

        `classes` names those of patches; without it `p` is of the endpoint's targets. `parts` are
        further fields of the score.
        """
        prediction = self.endpoint.predict(p, classes, self.threshold)
        return SlideScore(**asdict(prediction), class_probabilities=p, **parts)


def scorer(
    name: str,
    labels: LabelSettings,
    settings: ScoreSettings | None = None,
    folder: str | Path | None = None,
) -> Aggregation:
    """Return the aggregation of a study, with what `her2pipe fit` wrote into a folder, if given.

    Raises
    ------
    Her2Error
        When the aggregation does not suit the study, or the folder not the aggregation.
    """
    aggregation = AGGREGATIONS[name]
    model = load(name, folder) if folder else None
    fit = aggregation.fitted_settings(model) if model else None
    return aggregation(aggregation.endpoint_for(labels, fit), settings, model)


def load(name: str, folder: str | Path) -> FittedModel:
    """Load a folder written by `her2pipe fit`.

    Raises
    ------
    Her2Error
        When it is none, of another aggregation, or its files do not belong together.
    """
    folder = Path(folder)
    values = read_record(
        folder / "model.json",
        "a fitted aggregation",
        "restore the folder as it was written, or fit again",
    )
    if values.get("aggregation") != name:
        raise Her2Error(
            f"the model was fitted for the aggregation {values.get('aggregation', '(none)')},"
            f" not {name}",
            str(folder / "model.json"),
            "give the folder that her2pipe fit wrote for this aggregation",
        )
    try:
        metadata = FitMetadata.model_validate(values)
    except ValidationError as error:
        raise Her2Error(
            f"damaged or not ours: {error}", str(folder / "model.json"), "fit again"
        ) from None
    if not metadata.members:
        return FittedModel(metadata, [])
    weights = folder / "model.safetensors"
    if not weights.is_file() or file_digest(weights) != metadata.digest:
        raise Her2Error(
            "model.safetensors is not the file that model.json describes",
            str(folder),
            "fit again, or copy both files together",
        )
    members: list[Arrays] = [{} for _ in range(metadata.members)]
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        for key, array in load_file(weights).items():
            number, _, name = key.partition(".")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{key} holds values that are not numbers")
            members[int(number)][name] = array
    except (SafetensorError, ValueError, IndexError, TypeError) as error:
        raise Her2Error(
            f"the weights are damaged: {error}", str(weights), "fit again, or restore a copy"
        ) from None
    return FittedModel(metadata, members)


def save(model: FittedModel, folder: Path) -> None:
    """Write `model.json`, and `model.safetensors` where there are networks, into a folder."""
    metadata = model.metadata
    if model.members:
        from safetensors.numpy import save_file

        arrays = {
            f"{number}.{name}": np.ascontiguousarray(values)
            for number, member in enumerate(model.members)
            for name, values in member.items()
        }
        save_file(arrays, folder / "model.safetensors")
        digest = file_digest(folder / "model.safetensors")
        metadata = metadata.model_copy(update={"digest": digest})
    write_record(folder / "model.json", metadata.model_dump(mode="json", exclude_unset=True))
