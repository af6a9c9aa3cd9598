"""Whether patches are such as a network or an aggregation was made for.

The same slide is scored otherwise when it is cut in another view, at another scale, or brought to
other colours. So a model keeps how its patches were cut, and what uses it compares. What a model of
an older version does not say is not compared.

Patches of another view, size or stain method are a mistake of the study, and refused. A single
slide of another scale in the model's own view is that slide's matter: it is excluded with the
reason (`OtherScaleError`), and stops no cohort.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from her2pipe.config import ADAPTIVE, WHOLE, CompatibilitySettings, TileSettings
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.models.description import PatchConditions

if TYPE_CHECKING:
    from her2pipe.aggregation.base import FittedModel
    from her2pipe.store import EncodingMetadata, PatchMetadata

log = logging.getLogger(__name__)
MICRONS = "um"
KEEPS_COLOURS = "none"  # the stain method of patches that keep their own
AREA_ROUNDING = 1e-6  # relative


class OtherScaleError(BadSlideError):
    """A slide is of a scale that the model was not made for, in a view that it was made for."""


@dataclass(frozen=True)
class Patches:
    """How the patches of one slide were cut; None, 0 and empty where it is not known.

    Attributes
    ----------
    slide, view : str
    patch_px : int
        Side of a stored patch, px: that which was asked for, as far as it is known, where squares
        are smaller and stored as they are.
    side_px0, mpp, objective : float or None
        Side of a patch on the slide, level-0 px; microns per level-0 px; scan magnification.
    adaptive_area_px0, adaptive_side_px0 : float or None
        Of Eq. 1; None where the view is another.
    stain_method, stain_digest : str
        How stains were estimated; of an encoding, also the target that patches were brought to.
    """

    slide: str
    view: str
    patch_px: int = 0
    side_px0: float | None = None
    mpp: float | None = None
    objective: float | None = None
    adaptive_area_px0: float | None = None
    adaptive_side_px0: float | None = None
    stain_method: str = ""
    stain_digest: str = ""

    @classmethod
    def of_store(cls, metadata: PatchMetadata, stain: dict[str, Any]) -> Patches:
        """Describe the patches of a store, or of one image of a pack."""
        patches = cls(
            *_geometry(metadata),
            *adaptive(metadata),
            str(stain.get("method", "")),
        )
        if not patches.is_not_resized:
            return patches
        return replace(patches, patch_px=_settings(metadata).get("patch_px", patches.patch_px))

    @classmethod
    def of_encoding(cls, metadata: EncodingMetadata) -> Patches:
        """Describe the patches that an encoding was made of."""
        return cls(
            *_geometry(metadata),
            metadata.adaptive_area_px0,
            metadata.adaptive_side_px0,
            str(metadata.stain.get("method", "")),
            metadata.stain_digest,
        )

    @property
    def is_not_resized(self) -> bool:
        """Whether patches are the slide's own pixels, as where its squares are small."""
        return bool(self.patch_px) and self.patch_px == self.side_px0

    @property
    def side_um(self) -> float | None:
        """Side of a patch on the slide, microns; None where the scale is not known."""
        return self.side_px0 * self.mpp if self.side_px0 and self.mpp else None


def _geometry(
    metadata: PatchMetadata | EncodingMetadata,
) -> tuple[str, str, int, float | None, float | None, float | None]:
    """Return slide, view, patch size, side on the slide, scale and objective."""
    side_px0 = None if metadata.view == WHOLE else float(metadata.patch_size_level0) or None
    scale = metadata.mpp or None, metadata.objective or None
    return metadata.slide, metadata.view, metadata.patch_size, side_px0, *scale


def _settings(metadata: PatchMetadata) -> dict[str, Any]:
    """Return the settings that a store was cut by; none where it does not say."""
    try:
        settings = json.loads(metadata.settings)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def adaptive(metadata: PatchMetadata) -> tuple[float | None, float | None]:
    """Return area and side of Eq. 1 by which a store was cut; None of another view."""
    if metadata.view != ADAPTIVE:
        return None, None
    settings = _settings(metadata)
    if "patch_px" not in settings:  # it does not say how
        return None, None
    tile = TileSettings()
    area = settings.get("adaptive_area_px0", tile.adaptive_area_px0)
    return float(area), float(settings.get("adaptive_side_px0", tile.adaptive_side_px0))


def conditions(patches: Iterable[Patches], view: str = "") -> PatchConditions | None:
    """Return what slides' patches have in common; None without any.

    Parameters
    ----------
    patches : iterable of Patches
    view : str
        The one view that the model is to be used on, where it is stated.
    """
    listed = list(patches)
    if not listed:
        return None
    methods = {each.stain_method for each in listed} - {"", KEEPS_COLOURS}
    digests = {each.stain_digest for each in listed}
    return PatchConditions(
        views=sorted({each.view for each in listed if each.view}),
        view=view,
        patch_px=_stored_px(listed),
        adaptive_area_px0=_common([each.adaptive_area_px0 for each in listed]),
        adaptive_side_px0=_common([each.adaptive_side_px0 for each in listed]),
        side_px0=_span([each.side_px0 for each in listed]),
        side_um=_span([each.side_um for each in listed]),
        mpp=_span([each.mpp for each in listed]),
        magnifications=sorted({each.objective for each in listed if each.objective}),
        stain_method=methods.pop() if len(methods) == 1 else "",
        stain_digest=digests.pop() if len(digests) == 1 else "",
    )


def _stored_px(listed: Sequence[Patches]) -> list[int]:
    """Return the sides that patches were to be stored at; of smaller squares the largest side."""
    sides = {each.patch_px for each in listed if each.patch_px}
    resized = {each.patch_px for each in listed if each.patch_px and not each.is_not_resized}
    return sorted(resized | {max(sides)} if sides else sides)


def _has_stored_px(expected: PatchConditions, patches: Patches) -> bool:
    """Return whether patches are stored at an expected side, or are smaller and as the slide is.

    Where no square was larger than stored, the side that was asked for may be any larger one.
    """
    if not expected.patch_px or not patches.patch_px or patches.patch_px in expected.patch_px:
        return True
    most = max(expected.patch_px)
    if patches.patch_px < most:
        return patches.is_not_resized
    return expected.side_px0 is not None and expected.side_px0[1] == most


def _common(values: Sequence[float | None]) -> float | None:
    known = {value for value in values if value is not None}
    return known.pop() if len(known) == 1 else None


def _span(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value]
    return (min(known), max(known)) if known else None


def mismatches(expected: PatchConditions, patches: Patches, tolerance: float) -> list[str]:
    """Say in what patches are others than a model was made for; nothing where they are not.

    Parameters
    ----------
    expected : PatchConditions
    patches : Patches
    tolerance : float
        How much larger or smaller patches of a fixed view may be on the slide, relative.
    """
    differences = []
    if expected.view and not same_view(expected.view, patches.view) and patches.view:
        differences.append(f"view {patches.view}, not {expected.view}")
    if not _has_stored_px(expected, patches):
        sizes = " or ".join(map(str, expected.patch_px))
        differences.append(f"patches stored at a patch size of {patches.patch_px} px, not {sizes}")
    for name, what in (
        ("adaptive_area_px0", "adaptive area {:g} level-0 px^2, not {:g}"),
        ("adaptive_side_px0", "adaptive side {:g} level-0 px, not {:g}"),
    ):
        value, known = getattr(patches, name), getattr(expected, name)
        if value and known and abs(value / known - 1) > AREA_ROUNDING:
            differences.append(what.format(value, known))
    method, known_method = patches.stain_method, expected.stain_method
    if method and known_method and method not in (known_method, KEEPS_COLOURS):
        differences.append(f"stain method {method}, not {known_method}")
    if expected.stain_digest and patches.stain_digest not in ("", expected.stain_digest):
        differences.append("patches brought to another stain target")
    return differences or _scale(expected, patches, tolerance)


def same_view(view: str, other: str) -> bool:
    """Return whether two views are one, however they are spelt: 256um and 256.0um."""
    if view.endswith(MICRONS) and other.endswith(MICRONS):
        return float(view.removesuffix(MICRONS)) == float(other.removesuffix(MICRONS))
    return view == other


def is_fixed(view: str) -> bool:
    """Return whether the side of a view's patches is the same on every slide."""
    return view not in ("", ADAPTIVE, WHOLE)


def _knows(expected: PatchConditions, view: str) -> bool:
    """Return whether a view is one of those that a model was made for."""
    return any(same_view(known, view) for known in (expected.view, *expected.views) if known)


def _scale(expected: PatchConditions, patches: Patches, tolerance: float) -> list[str]:
    """Compare the size of patches of a fixed view with those a model was made with.

    Adaptive patches are as large as their slide asks for, and may be larger or smaller than any
    before; in the view that a model is to be used on, microns are what they are.
    """
    if not is_fixed(patches.view) or (expected.view and patches.view.endswith(MICRONS)):
        return []
    return _size(expected, patches, tolerance)


def _size(expected: PatchConditions, patches: Patches, tolerance: float) -> list[str]:
    """Compare sides of patches on the slide, in microns where these are known."""
    for side, span, unit in (
        (patches.side_um, expected.side_um, "um"),
        (patches.side_px0, expected.side_px0, "level-0 px"),
    ):
        if side and span:
            low, high = span[0] / (1 + tolerance), span[1] * (1 + tolerance)
            if low <= side <= high:
                return []
            ends = f"{span[0]:.4g} to {span[1]:.4g}" if span[0] < span[1] else f"{span[0]:.4g}"
            scale = f" ({patches.mpp:.3g} um/px)" if patches.mpp else ""
            return [
                f"patches of view {patches.view} are {side:.4g} {unit} a side on the"
                f" slide{scale}, those it was made with {ends}"
            ]
    return []


def _remark_on_adaptive(
    expected: PatchConditions, patches: Patches, settings: CompatibilitySettings
) -> None:
    """Log that adaptive patches are of a size that a model of fixed views never saw."""
    if patches.view == ADAPTIVE and not expected.view and ADAPTIVE not in expected.views:
        for text in _size(expected, patches, settings.scale_tolerance):
            log.warning("%s: %s", patches.slide, text)


def remark_on_unknown(expected: PatchConditions | None, model: str) -> None:
    """Log that a model does not say what patches it was made for."""
    if expected is None:
        log.info(
            "the %s is of a version that does not say how its patches were cut: these are not"
            " compared",
            model,
        )


def check(
    expected: PatchConditions | None,
    patches: Patches,
    settings: CompatibilitySettings,
    where: str | Path,
    model: str,
) -> str:
    """Refuse patches that a model was not made for; where that is allowed, say in what they differ.

    Parameters
    ----------
    expected : PatchConditions or None
        Of the model; None of an older one.
    patches : Patches
    settings : CompatibilitySettings
    where : path
        File of the patches or encodings, for the message.
    model : str
        What they are for, as `encoder results/train/net`.

    Returns
    -------
    str
        The differences, in words; empty where there is none.

    Raises
    ------
    OtherScaleError
        When the slide alone is to blame; `what` is the reason to exclude it.
    Her2Error
    """
    if expected is None:
        return ""
    differences = mismatches(expected, patches, settings.scale_tolerance)
    if not differences:
        _remark_on_adaptive(expected, patches, settings)
        return ""
    text = "; ".join(differences)
    if not settings.allow_mismatch:
        kind = model.partition(" ")[0]
        fix = (
            "tile and encode it as the model's slides were, or allow it by --allow-mismatch"
            " (compatibility.allow_mismatch), which flags every score"
        )
        if differences == _scale(expected, patches, settings.scale_tolerance) and _knows(
            expected, patches.view
        ):
            raise OtherScaleError(
                f"other scale than the {kind}'s: {text}", f"{where}, {model}", fix
            )
        raise Her2Error(
            f"slide {patches.slide} does not suit the {kind}: {text}", f"{where}, {model}", fix
        )
    log.warning("%s does not suit the %s: %s", patches.slide, model, text)
    return text


def check_encoding(
    metadata: EncodingMetadata,
    model: FittedModel | None,
    settings: CompatibilitySettings,
    path: str | Path,
) -> str:
    """Refuse an encoding that an aggregation was not fitted for; where allowed, say why.

    Parameters
    ----------
    metadata : EncodingMetadata
    model : FittedModel or None
        None of an aggregation that is not fitted.
    settings : CompatibilitySettings
    path : path
        Of the encoding, for the message.

    Returns
    -------
    str
        In what the patches differ from those the encoder, or the aggregation, was made for.

    Raises
    ------
    OtherScaleError
        When the slide is of another scale than the aggregation's.
    Her2Error
        When it is of another encoder, or of other patches than are allowed.
    """
    if not model:
        return metadata.mismatch
    fitted = model.metadata
    if fitted.encoder_digest != metadata.model_digest:
        raise Her2Error(
            f"slide {metadata.slide} was encoded by another model than the aggregation was"
            " fitted on",
            str(path),
            "encode and fit with the same encoder",
        )
    name = f"aggregation {fitted.aggregation}"
    patches = Patches.of_encoding(metadata)
    text = check(fitted.patches, patches, settings, path, name)
    return "; ".join(dict.fromkeys(filter(None, (metadata.mismatch, text))))


class SameEncoder:
    """Sees to it that all encodings of a call are of one encoder, brought to one stain target."""

    def __init__(self) -> None:
        self._first: EncodingMetadata | None = None

    def check(self, metadata: EncodingMetadata, path: str | Path) -> None:
        """Refuse an encoding of another encoder than those before.

        Raises
        ------
        Her2Error
        """
        first = self._first = self._first or metadata
        names = ("model_digest", "stain_digest")
        if any(getattr(first, name) != getattr(metadata, name) for name in names):
            raise Her2Error(
                f"slides {first.slide} and {metadata.slide} were encoded by different models",
                str(path),
                "score the encodings of one encoder at a time",
            )
