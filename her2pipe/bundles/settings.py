"""Settings of a study that decide what a slide is scored."""

from __future__ import annotations

from typing import Any

from her2pipe.config import Config

# Sections, and of each the settings that do not decide it.
SECTIONS: dict[str, tuple[str, ...]] = {
    "slides": ("reader", "on_bad_slide"),
    "images": ("pack_images",),
    "stain": (),
    "tissue": ("tissue_file", "tissue_weights"),
    "tile": ("overview_px", "edge_noted", "outside_noted"),
    "labels": (),
    "score": (),
}


def score_settings(study: Config) -> dict[str, dict[str, Any]]:
    """Return the settings by section, as a study file has them."""
    sections = {}
    for name, others in SECTIONS.items():
        values = getattr(study, name).model_dump(mode="json")
        sections[name] = {k: v for k, v in values.items() if k not in ("algorithm", *others)}
    return sections
