"""Settings of cohorts whose rows are images, not slides."""

from __future__ import annotations

from typing import Literal

from her2pipe.config.base import Section, setting


class ImagesSettings(Section):
    """How images become patches: each is one patch, and keeps its colours."""

    pack_images: int = setting(
        512, "images per patch store, about; the number of stores is a power of two", "images",
        False, ge=1,
    )  # fmt: skip
    shape: Literal["stretch", "crop", "pad"] = setting(
        "stretch",
        "how an image becomes square: stretch (all of it, as the published networks were fed),"
        " crop (its middle), or pad (with white)",
    )
