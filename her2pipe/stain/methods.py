"""Stain normalisation: two stain vectors per slide, then a map from colour to colour.

A slide is described once, by a `Profile`; normalising is then a pure map of single pixels from it
to a target's: V = ln 255 - ln max(I, 1); H = argmin |V - H W|^2, H >= 0, with the slide's vectors
W; H' = H times target maximum / slide maximum; I' = 255 exp(-H' W'), with the target's. H has no
L1 term here: it finds the vectors, but shrinking concentrations by it would bleach the picture.
As published, the part of V that two stains cannot explain (noise, pigment, ink) is dropped. Glass
stays glass; a slide mapped to its own profile is unchanged where its colours mix its two stains.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from her2pipe.config import StainSettings
from her2pipe.errors import Her2Error

# Ruifrok and Johnston 2001, Anal. Quant. Cytol. Histol. 23:291 (PMID 11531144).
HAEMATOXYLIN, EOSIN, DAB = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)

_LEVEL = np.arange(256) / 255
_OPTICAL_DENSITY = np.log(255.0) - np.log(np.maximum(np.arange(256), 1))
# sRGB to linear light (IEC 61966-2-1), times the share of each channel in CIE luminance Y.
_LINEAR = np.where(_LEVEL <= 0.04045, _LEVEL / 12.92, ((_LEVEL + 0.055) / 1.055) ** 2.4)
_LUMINANCE = (np.array([[0.2126], [0.7152], [0.0722]]) * _LINEAR).astype(np.float32)
_KNOWN = np.uint32(0xFF000000)
_CHUNK_PX = 1 << 15


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    return math.degrees(math.acos(min(1.0, max(-1.0, float((a * b).sum())))))


def _reference(method: str) -> np.ndarray:
    """Return the Ruifrok vectors of a method's two stains, float64 (2, 3)."""
    return _unit(np.array([HAEMATOXYLIN, DAB if method == "macenko-dab" else EOSIN]))


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
            object.__setattr__(self, "angle_deg", _angle_deg(*self.matrix))

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


def optical_density(rgb: np.ndarray) -> np.ndarray:
    """Convert uint8 levels of any shape to optical density, float64, natural logarithm."""
    return _OPTICAL_DENSITY[rgb]


def tissue(rgb: np.ndarray, settings: StainSettings) -> np.ndarray:
    """Tell tissue from glass and from black ink or void: uint8 (n, 3) to bool (n,)."""
    red, green, blue = (_LUMINANCE[c].take(rgb[:, c]) for c in range(3))
    lightness = 100 * settings.stain_luminosity_max
    # CIE 15: L = 116 Y^(1/3) - 16, so a limit on L is one on Y, and no pixel needs a root.
    limit = ((lightness + 16) / 116) ** 3 if lightness > 8 else lightness / 903.3
    return (red + green + blue < limit) & (rgb > settings.stain_black_max).any(axis=1)


def lasso(od: np.ndarray, matrix: np.ndarray, sparsity: float = 0.0) -> np.ndarray:
    """Solve the two-variable non-negative lasso of every pixel: concentrations (n, 2), OD.

    min 1/2 |v - h W|^2 + sparsity (h1 + h2), h >= 0. With a = w1.v - sparsity, b = w2.v -
    sparsity and g = w1.w2, the free solution is p = (a - g b) / (1 - g^2) and its mirror q. If
    q < 0 the solution lies on h2 = 0, where h1 = max(a, 0); and q < 0 exactly when a < p. So
    h1 = max(0, min(p, a)) and h2 = max(0, min(q, b)), without a branch.

    Parameters
    ----------
    od : float64 (n, 3), optical density
    matrix : float64 (2, 3), unit, non-negative, different rows
    sparsity : float, weight of the L1 term, OD; 0 gives non-negative least squares

    References
    ----------
    Vahadane et al. 2016, doi 10.1109/TMI.2016.2529665, Eq. 5 with W fixed.
    """
    return np.stack(_lasso(np.ascontiguousarray(od.T), matrix, sparsity), axis=1)


def _lasso(v, matrix, sparsity):
    """Solve `lasso` for planes (3, n): two arrays (n,)."""
    # Sums are written out, here and below: BLAS may split them differently on another machine,
    # and a profile must come out the same to the last bit.
    a, b = (w[0] * v[0] + w[1] * v[1] + w[2] * v[2] - sparsity for w in matrix)
    g = float((matrix[0] * matrix[1]).sum())
    k = 1 / max(1 - g * g, 1e-12)
    h1, h2 = np.minimum((a - g * b) * k, a), np.minimum((b - g * a) * k, b)
    return np.maximum(h1, 0, out=h1), np.maximum(h2, 0, out=h2)


def objective(od: np.ndarray, matrix: np.ndarray, sparsity: float) -> float:
    """Return Vahadane's objective at the best concentrations, mean per pixel, OD^2."""
    h = lasso(od, matrix, sparsity)
    residual = od - h[:, :1] * matrix[0] - h[:, 1:] * matrix[1]
    return float((0.5 * (residual**2).sum(axis=1) + sparsity * h.sum(axis=1)).mean())


def vahadane(od: np.ndarray, settings: StainSettings) -> np.ndarray:
    """Estimate stain vectors by sparse non-negative factorisation.

    Concentrations are solved exactly, then each vector in turn given all else, clipped at zero
    and scaled to length one. Neither step can raise the objective. It starts from the Ruifrok
    vectors and draws no random number.

    Parameters
    ----------
    od : float64 (n, 3), optical density of tissue pixels
    settings : StainSettings, for sparsity, tolerance and most alternations

    Returns
    -------
    float64 (2, 3), unit vectors, haematoxylin (the larger red density) first

    References
    ----------
    Vahadane et al. 2016, doi 10.1109/TMI.2016.2529665, Eq. 4 to 6.
    """
    v, matrix, last = np.ascontiguousarray(od.T), _reference("vahadane"), math.inf
    total = float((v * v).sum())
    for _ in range(settings.stain_iterations):
        h = np.stack(_lasso(v, matrix, settings.stain_sparsity))
        gram, cross = np.einsum("in,jn->ij", h, h), np.einsum("in,cn->ic", h, v)
        fit = total - 2 * (cross * matrix).sum() + (gram * (matrix @ matrix.T)).sum()
        value = fit / 2 + settings.stain_sparsity * h.sum()
        if last - value <= settings.stain_tolerance * value:
            break
        last = value
        for j in (0, 1):
            if gram[j, j] > 0:  # a stain that no pixel holds says nothing about its vector
                w = np.maximum(matrix[j] + (cross[j] - gram[j] @ matrix) / gram[j, j], 0)
                matrix[j] = _unit(w) if w.any() else matrix[j]
    return _in_order(matrix, "vahadane")


def macenko(od: np.ndarray, settings: StainSettings) -> np.ndarray:
    """Estimate stain vectors as the extreme directions in the plane of largest variance.

    Takes and returns what `vahadane` does; two equal rows when nothing can be estimated.

    References
    ----------
    Macenko et al. 2009, doi 10.1109/ISBI.2009.5193250, section 2.
    """
    dense = od[(od >= settings.macenko_beta).all(axis=1)]
    if len(dense) < 3:
        return _unit(np.ones((2, 3)))
    centred = dense - dense.mean(axis=0)
    _, vectors = np.linalg.eigh(np.einsum("ni,nj->ij", centred, centred))
    first, second = vectors[:, 2], vectors[:, 1]
    first = first if first.sum() > 0 else -first  # keeps the angles away from the cut at 180
    x, y = (dense[:, 0] * u[0] + dense[:, 1] * u[1] + dense[:, 2] * u[2] for u in (first, second))
    alpha = settings.macenko_alpha
    angles = np.percentile(np.arctan2(y, x), [alpha, 100 - alpha])[:, None]
    matrix = _unit(np.maximum(np.cos(angles) * first + np.sin(angles) * second, 1e-12))
    return _in_order(matrix, settings.stain_method)


def _in_order(matrix: np.ndarray, method: str) -> np.ndarray:
    """Put haematoxylin first."""
    match = matrix @ _reference(method).T
    swap = matrix[0, 0] < matrix[1, 0]
    if method == "macenko-dab":
        swap = match[0, 0] + match[1, 1] < match[0, 1] + match[1, 0]
    return matrix[::-1].copy() if swap else matrix


def estimate(rgb: np.ndarray, settings: StainSettings) -> Profile:
    """Estimate the stains of one slide from pixels all over its tissue, uint8 (..., 3).

    Where there is too little tissue, or stains cannot be told apart, Ruifrok's vectors stand in and
    `fallback` says why; where DAB alone is too faint, only its vector does.
    """
    if rgb.dtype != np.uint8 or rgb.shape[-1:] != (3,):
        what = f"pixels are {rgb.dtype} of shape {rgb.shape}"
        raise Her2Error(what, "stain estimation", "give 8-bit RGB, the last axis its three colours")
    method = settings.stain_method
    if method == "none":
        return Profile(_reference(method), np.array(settings.stain_reference_max), method)
    pixels = rgb.reshape(-1, 3)
    index = np.flatnonzero(tissue(pixels, settings))
    if len(index) > settings.stain_pixels:
        random = np.random.default_rng(settings.stain_seed)
        index = index[random.choice(len(index), settings.stain_pixels, False, shuffle=False)]
    od = optical_density(pixels[index])
    if (n := len(od)) < settings.stain_pixels_min:
        return _fallback(od, settings, f"{n} tissue pixels, under {settings.stain_pixels_min}")
    matrix = (vahadane if method == "vahadane" else macenko)(od, settings)
    maximum = _maximum(od, matrix, settings)
    reason = _degenerate(matrix, maximum, settings)
    if reason.startswith("DAB"):  # too faint to learn a vector from; haematoxylin is not
        matrix[1] = _reference(method)[1]
        return Profile(matrix, _maximum(od, matrix, settings), method, pixels=n, fallback=reason)
    if reason:
        return _fallback(od, settings, reason)
    value = objective(od, matrix, settings.stain_sparsity) if method == "vahadane" else math.nan
    return Profile(matrix, maximum, method, value, pixels=n)


def _maximum(od: np.ndarray, matrix: np.ndarray, settings: StainSettings) -> np.ndarray:
    """Measure the maximum concentrations, float64 (2,), OD."""
    maximum = np.percentile(lasso(od, matrix), settings.stain_percentile, axis=0)
    if settings.stain_method == "macenko-dab":
        # The same for every slide: scaling each one's DAB would give a 1+ the brown of a 3+.
        maximum[1] = settings.macenko_dab_max
    return maximum


def _degenerate(matrix: np.ndarray, maximum: np.ndarray, settings: StainSettings) -> str:
    """Say what is wrong with an estimate, or nothing."""
    if not (np.isfinite(matrix).all() and np.isfinite(maximum).all()):
        return "the estimate is not finite"
    if (angle := _angle_deg(*matrix)) < settings.stain_angle_min:
        return f"vectors {angle:.1f} degrees apart, less than {settings.stain_angle_min:g}"
    dab, reference = settings.stain_method == "macenko-dab", _reference(settings.stain_method)
    farthest = settings.macenko_angle_max, settings.macenko_dab_angle_max
    for i, name in enumerate(("haematoxylin", "DAB" if dab else "eosin")):
        if maximum[i] < settings.stain_concentration_min:
            return f"{name} is absent: maximum {maximum[i]:.3f} OD"
        if dab and (angle := _angle_deg(matrix[i], reference[i])) > farthest[i]:
            return f"{name} {angle:.0f} degrees from its reference vector"
    return ""


def _fallback(od: np.ndarray, settings: StainSettings, reason: str) -> Profile:
    """Describe a slide by the reference vectors, scaled to what tissue there is."""
    matrix, maximum = _reference(settings.stain_method), np.array(settings.stain_reference_max)
    if len(od) >= settings.stain_pixels_min:
        own = _maximum(od, matrix, settings)
        # An absent stain keeps the reference: scaling noise up to a full stain would invent it.
        maximum = np.where(own >= settings.stain_concentration_min, own, maximum)
    elif settings.stain_method == "macenko-dab":
        maximum[1] = settings.macenko_dab_max
    return Profile(matrix, maximum, settings.stain_method, pixels=len(od), fallback=reason)


def median(profiles: Sequence[Profile]) -> Profile:
    """Return the median of several slides' profiles, a cohort's target.

    Fallback profiles count only where there is no other. Raises `Her2Error` for no profile, or
    different methods.
    """
    methods = sorted({p.method for p in profiles})
    if len(methods) != 1:
        what = f"a target needs profiles of one stain_method, got {', '.join(methods) or 'none'}"
        raise Her2Error(what, "stain target", "tile the training slides with one stain_method")
    own = [p for p in profiles if not p.fallback]
    used = own or list(profiles)
    return Profile(
        _unit(np.median([p.matrix for p in used], axis=0)),
        np.median([p.max_concentration for p in used], axis=0),
        methods[0],
        pixels=sum(p.pixels for p in used),
        fallback="" if own else f"no slide has stains of its own: {used[0].fallback}",
    )


def _check_pair(source: Profile, target: Profile) -> bool:
    """Refuse profiles that do not belong together; tell whether there is anything to do."""
    if source.method != target.method:
        what = f"a slide profiled by {source.method} meets a target made by {target.method}"
        raise Her2Error(what, "stain normalisation", "tile by the method of the model's target")
    return source.method != "none"


def _closed_form(rgb: np.ndarray, source: Profile, target: Profile) -> np.ndarray:
    """Map colours uint8 (n, 3) one by one, in float32."""
    matrix, scale = source.matrix.astype(np.float32), target.max_concentration
    t = (target.matrix * -(scale / source.max_concentration)[:, None]).astype(np.float32)
    table, out = _OPTICAL_DENSITY.astype(np.float32), np.empty_like(rgb)
    for start in range(0, len(rgb), _CHUNK_PX):  # small enough for a processor's cache
        chunk = slice(start, start + _CHUNK_PX)
        h1, h2 = _lasso(table.take(rgb[chunk].T), matrix, 0.0)
        for c in range(3):
            out[chunk, c] = np.exp(h1 * t[0, c] + h2 * t[1, c]) * np.float32(255) + 0.5
    return out


def normalise(rgb: np.ndarray, source: Profile, target: Profile) -> np.ndarray:
    """Map an image, uint8 (..., 3), from a slide's stains to the target's, in closed form.

    Raises `Her2Error` if the two profiles were made by different methods.

    References
    ----------
    Vahadane et al. 2016, doi 10.1109/TMI.2016.2529665, Eq. 13.
    """
    if not _check_pair(source, target):
        return rgb.copy()
    return _closed_form(rgb.reshape(-1, 3), source, target).reshape(rgb.shape)


class ColourMap:
    """`normalise` for many patches of one slide.

    Results are kept in a table of all 2^24 colours, filled as they are met: to the bit the closed
    form, and a patch like those before costs one gather. At most 64 MB, taken where touched.
    """

    def __init__(self, source: Profile, target: Profile):
        self._active, self._pair = _check_pair(source, target), (source, target)
        self._table = np.zeros(1 << 24 if self._active else 0, dtype="<u4")

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Map an image, uint8 (..., 3)."""
        import cv2

        if not self._active or rgb.size == 0:
            return rgb.copy()
        row = np.ascontiguousarray(rgb).reshape(1, -1, 3)
        index = cv2.cvtColor(row, cv2.COLOR_RGB2RGBA).view("<u4").ravel() & ~_KNOWN
        value = self._table.take(index, mode="clip")
        new = np.flatnonzero(value < _KNOWN)  # the fourth byte of a colour already met is 255
        if len(new):
            mapped = _closed_form(row[0, new], *self._pair)
            value[new] = cv2.cvtColor(mapped[None], cv2.COLOR_RGB2RGBA).view("<u4").ravel()
            self._table[index[new]] = value[new]
        rgba = value.view(np.uint8).reshape(1, -1, 4)
        return cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB).reshape(rgb.shape)


def normalise_batch(batch, source, target: Profile):
    """Map a batch of images on the device it lies on, without waiting for the host.

    Returns float32 (B, 3, H, W), levels 0 to 255, not rounded. Element-wise operations only:
    neither TF32 nor autocast touches them.

    Parameters
    ----------
    batch : torch.Tensor, uint8 or float (B, 3, H, W), levels 0 to 255
    source : Profile; or, for an image each, a tuple of torch.Tensor on the batch's device, float32
        `matrix` (B, 2, 3) and `max_concentration` (B, 2), of profiles made by the target's method
    target : Profile
    """
    if isinstance(source, Profile):
        active = _check_pair(source, target)
        w, most = source.matrix.tolist(), source.max_concentration.tolist()
    else:
        active = target.method != "none"
        w = [[source[0][:, i, c, None, None] for c in range(3)] for i in (0, 1)]
        most = [source[1][:, i, None, None] for i in (0, 1)]
    if not active:
        return batch.float()
    wanted = zip(target.matrix.tolist(), target.max_concentration.tolist(), most, strict=True)
    t = [[-x * m / s for x in row] for row, m, s in wanted]
    red, green, blue = (math.log(255.0) - batch.float().clamp(min=1).log()).unbind(1)
    a, b = (red * x + green * y + blue * z for x, y, z in w)
    g = sum(x * y for x, y in zip(*w, strict=True))
    k = 1 / (1 - g * g)
    h1 = ((a - b * g) * k).minimum(a).clamp_(min=0)
    h2 = ((b - a * g) * k).minimum(b).clamp_(min=0)
    out = batch.new_empty(batch.shape, dtype=red.dtype)
    for c in range(3):
        out[:, c] = (h1 * t[0][c] + h2 * t[1][c]).exp_().mul_(255)
    return out
