"""Settings of synthetic images: draw."""

from __future__ import annotations

from her2pipe.config.base import ALGORITHM, Section, setting


class DrawSettings(Section):
    """Synthetic images, cut from synthetic sections at 20x."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    image_px: int = setting(256, "side of an image", "px", ge=32, le=1024)
    section_um: float = setting(
        450.0, "side of the section that images are cut from; it varies by 20 %", "um", ge=100,
        le=2000,
    )  # fmt: skip
