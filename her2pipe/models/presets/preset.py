"""What is known of a published encoder."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from her2pipe.config.base import Fraction, Name, Section

Access = Literal["open", "request", "contact", "none"]
DATA_SETS = "datasets/"  # begins the name of a repository of the hub that is a data set


class Preset(Section):
    """A published encoder: how it is built, what it is fed, and where its weights are."""

    title: str = Field(..., description="its name as its authors write it")
    architecture: str = Field(..., description="timm's name, or that of a network of her2pipe")
    model_args: dict[str, Any] = Field({}, description="options of timm's network")
    input_px: int = Field(224, ge=16, description="side of the network's input")
    resize_px: int = Field(0, ge=0, description="side before the middle is cut; 0: no cut")
    interpolation: Literal["area", "bilinear", "bicubic"] = Field(..., description="of the resize")
    mean: list[Fraction] = Field(..., min_length=3, max_length=3, description="of R, G, B")
    std: list[Fraction] = Field(..., min_length=3, max_length=3, description="of R, G, B")
    pooling: Literal["head", "pooler", "cls", "mean", "cls+mean"] = Field(
        "head", description="of tokens, as the setting of an encoder"
    )
    features: str = Field("pooled", description="features kept: pooled, or a stage")
    width: int = Field(..., ge=1, description="features of a patch")
    parameters: int = Field(..., ge=1, description="of the network that gives them")
    mpp: float | None = Field(None, gt=0, description="um per pixel it is meant for; none: any")
    patch_px: int = Field(0, ge=0, description="side of a patch at that scale; 0: as resized")
    licence: str = Field(..., description="of the weights")
    non_commercial: bool = Field(..., description="whether licence or card forbid commercial use")
    access: Access = Field(
        ...,
        description="open; request (on the hub, with an account); contact (its authors); none:"
        " there are no weights",
    )
    citation: str = Field("", description="DOI, or arXiv number")
    weights: Literal["source", "imagenet", "none"] = Field(
        "source", description="source: the file below; imagenet: timm's of that tag; none: random"
    )
    task: Literal["none", "classify"] = Field("none", description="none: it is used frozen")
    hub: str = Field("", description="OWNER/NAME of the hub; datasets/OWNER/NAME of a data set")
    file: str = Field("", description="name of the weights file")
    revision: str = Field("", description="commit of the repository; empty: the newest")
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$", description="of the file")
    renaming: Literal["", "transformers", "conch"] = Field(
        "", description="how tensors of the file are named, where timm does not know it"
    )
    left_out: list[str] = Field(
        [], description="tensors of the file that are no part of the network, with * for any text"
    )
    unverified: list[str] = Field([], description="what sources disagree on, or do not say")
    name: Name = Field("", validate_default=False, description="its name here")

    @model_validator(mode="after")
    def _consistent(self):
        if self.weights == "source" and not (self.hub and self.file):
            raise ValueError("weights need hub and file, or weights: imagenet or none")
        if 0 < self.resize_px < self.input_px:
            raise ValueError("resize_px must be at least input_px")
        return self

    @property
    def stored_px(self) -> int:
        """Side of a patch as it is to be stored, px."""
        return self.patch_px or self.resize_px or self.input_px

    @property
    def view(self) -> str:
        """View that the encoder is meant for, such as `112um`; empty: any."""
        return f"{self.stored_px * self.mpp:g}um" if self.mpp else ""

    @property
    def is_foundation(self) -> bool:
        """Whether it was trained on pathology, with colours as scanned."""
        return self.weights == "source"

    def settings(self) -> dict[str, Any]:
        """Return the settings of an encoder that the preset stands for; those of `train`, and view.

        Frozen if it is a published encoder, whose colours then stay as scanned.
        """
        values: dict[str, Any] = {
            "architecture": self.architecture,
            "input_px": self.input_px,
            "interpolation": self.interpolation,
            "mean": self.mean,
            "std": self.std,
            "weights": self.weights,
            "task": self.task,
        }
        names = ("model_args", "resize_px", "features", "pooling")
        default = {name: type(self).model_fields[name].default for name in names}
        values |= {name: v for name in names if (v := getattr(self, name)) != default[name]}
        values |= {"stain_target": "none"} if self.is_foundation else {}
        return values | ({"view": self.view} if self.view else {})

    @property
    def repository(self) -> tuple[str, str]:
        """Name of the repository on the hub, and its kind: model or dataset."""
        kind = "dataset" if self.hub.startswith(DATA_SETS) else "model"
        return self.hub.removeprefix(DATA_SETS), kind
