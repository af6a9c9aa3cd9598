"""What of a slide is out of range: a flag of one word, and the reason in a sentence.

Flags say what a pathologist should look at. They stand in the table of scores, and change none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from her2pipe.config import PlausibilitySettings, QualitySettings
from her2pipe.quality.flags import Flag

PEN = "pen"
# What a detector marks, for a reason; others go by their name.
ARTEFACTS = {
    "pen": "pen or ink on {} of the patches",
    "blur": "{} of the patches are out of focus",
    "fold": "folds, or tissue too dense to see through, in {} of the patches",
    "bubble": "air bubbles or the edge of the coverslip in {} of the patches",
}


def of_slide(row: Mapping[str, Any], settings: QualitySettings) -> list[Flag]:
    """Flag what of a slide is out of range; nothing of one that is excluded, or not known.

    >>> of_slide({"slide": "S", "status": "ok", "mpp": 28.97, "patches": 40}, QualitySettings())
    [Flag(name='scale', reason='wrong scale: 28.97 um/px, coarser than 1.1 um/px (10x)')]
    """
    return [] if row["status"] == "excluded" else list(_of_slide(row, settings))


def _of_slide(row: Mapping[str, Any], settings: QualitySettings) -> Iterator[Flag]:
    scale, tissue, patches = row.get("mpp"), row.get("tissue_mm2"), row.get("patches")
    uncovered, glass, jpeg = (
        row.get(name) for name in ("uncovered", "background_level", "jpeg_quality")
    )
    if scale and scale > settings.mpp_max:
        about_10x = " (10x)" if 0.9 < settings.mpp_max < 1.2 else ""
        coarsest = f"{settings.mpp_max:g} um/px{about_10x}"
        yield Flag("scale", f"wrong scale: {scale:.4g} um/px, coarser than {coarsest}")
    if tissue is not None and tissue < settings.tissue_min_mm2:
        yield Flag("tissue", f"little tissue: {tissue:.2g} mm2")
    if patches is not None and patches < settings.patches_min:
        yield Flag("patches", f"few patches: {patches}")
    if uncovered is not None and uncovered >= settings.uncovered_max:
        yield Flag("uncovered", f"{uncovered:.0%} of the tissue is covered by no patch")
    for name, share in artefacts(row).items():
        limit = settings.pen_share_max if name == PEN else settings.artefact_share_max
        if share > limit:
            yield Flag(name, ARTEFACTS.get(name, name + " in {} of the patches").format(_of(share)))
    if glass is not None and glass < settings.background_min:
        yield Flag("background", f"dark background: glass at grey level {glass:.0f} of 255")
    if jpeg is not None and jpeg < settings.jpeg_quality_min:
        yield Flag("compression", f"strong compression: JPEG quality {jpeg:.0f}")


def artefacts(row: Mapping[str, Any]) -> dict[str, float]:
    """Return detector to the share of a slide's patches that it marks."""
    return {
        name.removesuffix("_share"): float(value)
        for name, value in row.items()
        if name.endswith("_share") and value not in (None, "")
    }


def _of(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "less than 1%"


def of_score(
    row: Mapping[str, Any],
    settings: PlausibilitySettings,
    mpp: float | None = None,
    model_mpp: tuple[float, float] | None = None,
) -> list[Flag]:
    """Flag a score that its slide may not bear out.

    Parameters
    ----------
    row : mapping
        Of the table of scores.
    settings : PlausibilitySettings
    mpp : float, optional
        Scale of the slide, um/px.
    model_mpp : (float, float), optional
        Least and largest scale of the slides that the encoder was trained on, um/px.
    """
    flags = []
    tumour, area = row.get("tumour_patches"), row.get("stained_area")
    if tumour is not None and 0 < tumour < settings.tumour_patches_min:  # none: flag no_tumour
        flags.append(Flag("few_tumour", f"the score rests on {tumour} tumour patches"))
    if area is not None and area > settings.stained_area_max:
        flags.append(
            Flag(
                "area",
                f"more patches are stained than called tumour (stained area {area:.2f}): some"
                " stained patches are called non-tumour",
            )
        )
    if mpp and model_mpp and all(model_mpp):
        least, most = model_mpp
        if not least / settings.scale_ratio_max <= mpp <= most * settings.scale_ratio_max:
            ends = f"{least:.3g} to {most:.3g}" if least < most else f"{least:.3g}"
            flags.append(
                Flag("scale", f"wrong scale: {mpp:.4g} um/px, the encoder was trained on {ends}")
            )
    return flags
