"""Descriptions of trained networks: `model.json`, as it is written and read everywhere.

Nothing here needs torch, so that a page or a table can be made of models where torch is missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from her2pipe.config.base import Section
from her2pipe.errors import Her2Error
from her2pipe.files import read_json, read_record, write_record, write_text

if TYPE_CHECKING:
    from her2pipe.stain.profile import Profile

FILE = "model.json"
RESTORE = "restore the folder as it was written, or train again"
# Versions of her2pipe's own networks, raised when one computes otherwise from equal weights. One
# beyond the first stands in the params of the jobs that train such a network, so that they, and no
# others, run again; a model of another version is refused.
VERSIONS = {
    "ather2": 2,  # 2: convolutions padded as TensorFlow's "same"; batch norm with Keras's constants
    "pruneff4": 2,  # 2: batch norm of the head with Keras's constants
}

S = TypeVar("S", bound=Section)


def version_of(architecture: str) -> int:
    """Return the version of a network's code; 1 of those that never changed."""
    return VERSIONS.get(architecture, 1)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ParameterCount(_Record):
    """Parameters of a network."""

    trainable: int
    total: int


class TargetScale(_Record):
    """Mean and spread of what a regression was trained on, one per output."""

    names: list[str]
    unit: str
    mean: list[float]
    std: list[float]


class PatchConditions(_Record):
    """How the patches were cut that a network or an aggregation was trained on.

    Attributes
    ----------
    views : list of str
        Views of these patches.
    view : str
        The one view it is to be used on, as a bundle states it; empty where none is stated.
    patch_px : list of int
        Sides of stored patches, px.
    adaptive_area_px0, adaptive_side_px0 : float or None
        Of the adaptive view (Eq. 1), level-0 px^2 and px; None where no patch is of that view.
    side_px0, side_um, mpp : pair of float, or None
        Least and largest side of a patch on the slide, level-0 px and microns, and microns per
        level-0 px; None where unknown, or of images, which are taken whole.
    magnifications : list of float
        Objectives of the slides, where they are known.
    stain_method, stain_digest : str
        How stains were estimated, and the target that patches were brought to; empty where unknown.
    """

    views: list[str] = []
    view: str = ""
    patch_px: list[int] = []
    adaptive_area_px0: float | None = None
    adaptive_side_px0: float | None = None
    side_px0: tuple[float, float] | None = None
    side_um: tuple[float, float] | None = None
    mpp: tuple[float, float] | None = None
    magnifications: list[float] = []
    stain_method: str = ""
    stain_digest: str = ""


class ModelDescription(_Record):
    """All that must be known of a network to use it, to repeat it, and to report on it."""

    # how it is built and fed
    task: str = "classify"
    architecture: str = ""
    version: int = 1  # of the network's code, see `version_of`
    stages: int = 0  # first stages kept; 0: all
    model_args: dict[str, Any] = {}  # options of timm's network
    pooling: str = "head"  # of tokens
    input_px: int = 0
    resize_px: int = 0  # before the middle is cut at input_px; 0: no cut
    interpolation: str = "area"
    mean: list[float] = []  # of the input, RGB in 0 to 1
    std: list[float] = []
    stage: str = "pooled"  # what of it is kept as features
    features: int = 0  # width of these
    parameters: ParameterCount | None = None
    mmacs: float | None = None  # multiply-adds of one patch, millions; counted of frozen networks
    versions: dict[str, str] = {}
    # whose weights it has or started from
    preset: str = ""  # name of the published encoder, see `her2pipe encoders`
    licence: str = ""  # of these weights
    non_commercial: bool = False  # whether the licence forbids commercial use
    citation: str = ""  # DOI or arXiv number
    # what its outputs are
    classes: list[str] = []
    outputs: int | None = None  # of the head; None: one per class
    targets: TargetScale | None = None  # of a regression
    # what it was trained on
    start: dict[str, Any] = {}  # weights, their name or digest, images: where training started
    images: dict[str, Any] = {}  # of a pre-training: source, digest, sizes, exclusion_reasons
    train_views: list[str] = []
    patches: PatchConditions | None = None  # None of older models
    stain: dict[str, Any] = {}  # profile that patches are brought to
    stain_digest: str = ""
    training_set: list[dict[str, Any]] = []  # patches by side, view and class
    training_set_digest: str = ""
    fold: str = ""  # inner fold whose slides it was trained without, as 2of5
    split: str = ""  # split of the development cohort whose test side it has not seen, as 2of5
    class_weights: list[float] | None = None
    copies: list[Any] | None = None  # images that come more than once on one side
    settings: dict[str, Any] = {}
    digest: str = ""  # of the weights file

    @classmethod
    def read(cls, folder: str | Path) -> ModelDescription:
        """Read the description of the model in a folder.

        Raises
        ------
        Her2Error
            When there is none, or it is not what was written here.
        """
        path = Path(folder) / FILE
        data = read_record(path, "a trained model", RESTORE)
        try:
            return cls(**data)
        except (ValidationError, TypeError) as error:
            raise Her2Error(
                f"not a trained model: {error}", str(path), "give the folder of a model of her2pipe"
            ) from None

    def write(self, folder: str | Path) -> None:
        """Write the fields that were given, and a digest of them, into a model's folder."""
        write_record(Path(folder) / FILE, self.model_dump(mode="json", exclude_unset=True))

    def having(self, **changes: Any) -> ModelDescription:
        """Return the description with some fields changed, or with None, left out."""
        kept = self.model_dump(exclude_unset=True) | changes
        return ModelDescription(**{k: v for k, v in kept.items() if v is not None})

    @property
    def head_outputs(self) -> int:
        """Outputs of the network's head."""
        return len(self.classes) if self.outputs is None else self.outputs

    @property
    def starting_weights(self) -> str:
        """Where training started, in words: with the exact name of published weights."""
        if self.task == "none" and self.start.get("weights") == "none":
            return f"random numbers, seed {self.settings.get('train_seed')}: a stand-in"
        weights, name = self.start.get("weights") or "", self.start.get("name")
        return f"{weights} ({name})" if name else str(weights)

    def stain_target(self, folder: str | Path) -> Profile:
        """Return the stain profile that patches are brought to.

        Parameters
        ----------
        folder : path
            Where the model is, for the message.

        Raises
        ------
        Her2Error
            When it is not the one the encoder was trained with.
        """
        from her2pipe.stain.profile import Profile

        profile = Profile.from_dict(self.stain)
        if profile.digest() != self.stain_digest:
            raise Her2Error(
                "the stain target is not the one the encoder was trained with",
                f"{folder}/{FILE}",
                "train again, or restore the model's own description",
            )
        return profile

    def section(self, kind: type[S]) -> S:
        """Return one section of the settings the network was trained with."""
        values = {name: self.settings[name] for name in kind.model_fields if name in self.settings}
        return kind(**values)


class DeploymentDescription(_Record):
    """What must be known to use a deployed network's files: `deploy.json`."""

    encoder: str
    architecture: str = ""
    model_digest: str = ""
    classes: list[str] = []
    input: dict[str, Any] = {}
    outputs: dict[str, str] = {}
    stain: dict[str, Any] = {}
    files: dict[str, str] = {}  # file: its digest
    counted: dict[str, str] = {}  # column of deploy.tsv: what it counts
    versions: dict[str, str] = {}
    settings: dict[str, Any] = {}

    @classmethod
    def read(cls, folder: str | Path) -> DeploymentDescription:
        """Read the description of the files in a folder."""
        return cls(**read_json(Path(folder) / "deploy.json", "a deployed network"))

    def write(self, folder: str | Path) -> None:
        """Write the description into a folder."""
        text = json.dumps(self.model_dump(mode="json"), indent=1)
        write_text(Path(folder) / "deploy.json", text + "\n")
