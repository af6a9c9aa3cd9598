"""The 39 features of a patch: 36 of colour and texture, 3 of its nuclei."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from her2pipe.config import DescribeSettings
from her2pipe.patch_features import nuclei, texture
from her2pipe.stain.normalise import normalise
from her2pipe.stain.profile import Profile

UNITS = texture.UNITS | nuclei.UNITS
NAMES = tuple(UNITS)
UNITS_WITHOUT_MPP = UNITS | {"cells_area_mean": "px²", "cells_area_var": "px⁴"}


@dataclass(frozen=True)
class MeasuredPatch:
    """A patch and its features.

    Attributes
    ----------
    image : (h, w, 3) uint8
        In the colours whose texture was measured.
    nuclei : Nuclei
    features : dict
        Value by name, as `NAMES`; areas of nuclei are in px^2 of the patch.
    mpp : float or None
        um per px of the patch.
    """

    image: np.ndarray
    nuclei: nuclei.Nuclei
    features: dict[str, float]
    mpp: float | None


def measure(
    scanned: np.ndarray,
    profile: Profile,
    target: Profile | None,
    mpp: float | None,
    settings: DescribeSettings,
) -> MeasuredPatch:
    """Measure one patch: nuclei on the slide's own stains, texture in the target's colours.

    Parameters
    ----------
    scanned : (h, w, 3) uint8
    profile : Profile
        Stains of the slide.
    target : Profile or None
        Stains to normalise to before texture is measured; None: as scanned.
    mpp : float or None
        um per px of the patch.
    settings : DescribeSettings
    """
    image = normalise(scanned, profile, target) if target else scanned
    segmented = nuclei.segment(scanned, profile, mpp, settings)
    features = texture.texture(image, settings) | segmented.measure()
    return MeasuredPatch(image, segmented, features, mpp)


def areas_in_um(features: Mapping[str, float], mpp: float) -> dict[str, float]:
    """Return the areas of nuclei in um^2, their variance in um^4, of features in px."""
    return {
        "cells_area_mean": features["cells_area_mean"] * mpp**2,
        "cells_area_var": features["cells_area_var"] * mpp**4,
    }
