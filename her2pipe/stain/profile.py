"""The two stains of a slide, and the median of many as a target."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from her2pipe.errors import Her2Error
from her2pipe.registry import STAIN_METHODS
from her2pipe.stain.optical_density import angle_deg, unit


@dataclass(frozen=True, eq=False)
class Profile:
    """The two stains of a slide: haematoxylin, then eosin or DAB."""

    matrix: np.ndarray  # float64 (2, 3): unit optical-density vectors over R, G, B
    max_concentration: np.ndarray  # float64 (2,): what counts as the strongest stain, OD
    method: str  # the stain_method it was estimated by
    objective: float = math.nan  # Vahadane's, mean per pixel, OD^2; NaN for other methods
    angle_deg: float = math.nan  # between the vectors; measured when not given
    pixels: int = 0  # tissue pixels used
    fallback: str = ""  # empty, or why the Ruifrok vectors stand in for the slide's own

    def __post_init__(self):
        for name, shape, least in (("matrix", (2, 3), 0), ("max_concentration", (2,), 1e-9)):
            value = np.array(getattr(self, name), dtype=np.float64)
            if value.shape != shape or not np.isfinite(value).all() or value.min() < least:
                what = f"{name} is {value.tolist()}"
                fix = f"give numbers >= {least:g} of shape {shape}"
                raise Her2Error(what, "stain profile", fix)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        if math.isnan(self.angle_deg):
            object.__setattr__(self, "angle_deg", angle_deg(*self.matrix))

    @property
    def keeps_colours(self) -> bool:
        """Whether slides of this method are shown as they were scanned."""
        return STAIN_METHODS[self.method].keeps_colours

    def as_dict(self) -> dict[str, Any]:
        """Return the profile as values that JSON keeps exactly."""
        arrays = {k: getattr(self, k).tolist() for k in ("matrix", "max_concentration")}
        value = None if math.isnan(self.objective) else self.objective
        return {**self.__dict__, **arrays, "objective": value}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Profile:
        """Rebuild a profile from `as_dict`."""
        value = values.get("objective")
        return cls(**{**values, "objective": math.nan if value is None else value})

    def digest(self) -> str:
        """Return a hex digest of all that decides colours: method, vectors, concentrations."""
        numbers = np.concatenate([self.matrix.ravel(), self.max_concentration]).astype("<f8")
        return hashlib.sha256(self.method.encode() + b"\0" + numbers.tobytes()).hexdigest()


def median(profiles: Sequence[Profile]) -> Profile:
    """Return the median of several slides' profiles, a cohort's target.

    Fallback profiles count only where there is no other.

    Raises
    ------
    Her2Error
        For no profile, or different methods.
    """
    methods = sorted({p.method for p in profiles})
    if len(methods) != 1:
        what = f"a target needs profiles of one stain_method, got {', '.join(methods) or 'none'}"
        raise Her2Error(what, "stain target", "tile the training slides with one stain_method")
    estimated = [p for p in profiles if not p.fallback]
    used = estimated or list(profiles)
    return Profile(
        unit(np.median([p.matrix for p in used], axis=0)),
        np.median([p.max_concentration for p in used], axis=0),
        methods[0],
        pixels=sum(p.pixels for p in used),
        fallback="" if estimated else f"no slide has stains of its own: {used[0].fallback}",
    )
