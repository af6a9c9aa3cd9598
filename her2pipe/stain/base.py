"""How a slide's stains are estimated: what all methods share, and where they differ."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from her2pipe.config import StainSettings
from her2pipe.errors import Her2Error
from her2pipe.registry import STAIN_METHODS, Citation
from her2pipe.stain.optical_density import (
    EOSIN,
    HAEMATOXYLIN,
    angle_deg,
    lasso,
    tissue,
    to_optical_density,
    unit,
)
from her2pipe.stain.profile import Profile


class StainMethod(ABC):
    """One way to estimate stains; a subclass registers itself: `@STAIN_METHODS.register("name")`.

    Attributes
    ----------
    stains : (str, str)
        Names of the two stains.
    reference : float64 (2, 3)
        Ruifrok's vectors of them, which stand in for a slide's own where those cannot be estimated.
    citations : tuple of Citation
        Works to cite.
    settings : tuple of str
        Settings of `stain` that only this method and its like use.
    keeps_colours : bool
        Whether patches are shown as they were scanned.
    second_stands_in : bool
        Whether an implausible second vector alone is replaced by the reference; otherwise both.
    """

    stains: ClassVar[tuple[str, str]] = ("haematoxylin", "eosin")
    reference: ClassVar[np.ndarray] = unit(np.array([HAEMATOXYLIN, EOSIN]))
    citations: ClassVar[tuple[Citation, ...]] = ()
    settings: ClassVar[tuple[str, ...]] = ()
    keeps_colours: ClassVar[bool] = False
    second_stands_in: ClassVar[bool] = False

    @abstractmethod
    def vectors(self, od: np.ndarray, settings: StainSettings) -> np.ndarray:
        """Estimate the stain vectors.

        Parameters
        ----------
        od : float64 (n, 3), optical density of tissue pixels
        settings : StainSettings

        Returns
        -------
        float64 (2, 3), unit vectors in the order of `stains`; two equal rows when nothing can be
        estimated
        """

    def maximum(self, od: np.ndarray, matrix: np.ndarray, settings: StainSettings) -> np.ndarray:
        """Measure the maximum concentrations, float64 (2,), OD."""
        return np.percentile(lasso(od, matrix), settings.stain_percentile, axis=0)

    def implausibility(self, stain: int, vector: np.ndarray, settings: StainSettings) -> str:
        """Return why the vector of a stain, 0 or 1, cannot be right; empty when it can."""
        return ""

    def objective(self, od: np.ndarray, matrix: np.ndarray, settings: StainSettings) -> float:
        """Return what the estimate minimises, mean per pixel, OD^2; NaN without such a thing."""
        return math.nan

    def estimate(self, rgb: np.ndarray, settings: StainSettings) -> Profile:
        """Estimate the stains of one slide from pixels of its tissue and glass, uint8 (n, 3)."""
        method = settings.stain_method
        index = np.flatnonzero(tissue(rgb, settings))
        if len(index) > settings.stain_pixels:
            random = np.random.default_rng(settings.stain_seed)
            index = index[random.choice(len(index), settings.stain_pixels, False, shuffle=False)]
        od = to_optical_density(rgb[index])
        if (n := len(od)) < settings.stain_pixels_min:
            return self._fallback(
                od, settings, f"{n} tissue pixels, under {settings.stain_pixels_min}"
            )
        matrix = self.vectors(od, settings)
        maximum = self.maximum(od, matrix, settings)
        reason, only_second = self._degeneracy(matrix, maximum, settings)
        if only_second and self.second_stands_in:
            matrix[1] = self.reference[1]
            maximum = self.maximum(od, matrix, settings)
            return Profile(matrix, maximum, method, pixels=n, fallback=reason)
        if reason:
            return self._fallback(od, settings, reason)
        return Profile(matrix, maximum, method, self.objective(od, matrix, settings), pixels=n)

    def _degeneracy(
        self, matrix: np.ndarray, maximum: np.ndarray, settings: StainSettings
    ) -> tuple[str, bool]:
        """Return what is wrong with an estimate, or nothing; and whether only the second is."""
        if not (np.isfinite(matrix).all() and np.isfinite(maximum).all()):
            return "the estimate is not finite", False
        if (angle := angle_deg(*matrix)) < settings.stain_angle_min:
            least = settings.stain_angle_min
            return f"vectors {angle:.1f} degrees apart, less than {least:g}", False
        for stain, name in enumerate(self.stains):
            if maximum[stain] < settings.stain_concentration_min:
                return f"{name} is absent: maximum {maximum[stain]:.3f} OD", stain == 1
            if reason := self.implausibility(stain, matrix[stain], settings):
                return reason, stain == 1
        return "", False

    def _fallback(self, od: np.ndarray, settings: StainSettings, reason: str) -> Profile:
        """Describe a slide by the reference vectors, scaled to what tissue there is."""
        maximum = self.reference_maximum(settings)
        if len(od) >= settings.stain_pixels_min:
            measured = self.maximum(od, self.reference, settings)
            # An absent stain keeps the reference: scaling noise up to a full stain would invent it.
            present = measured >= settings.stain_concentration_min
            maximum = np.where(present, measured, np.array(settings.stain_reference_max))
        method = settings.stain_method
        return Profile(self.reference, maximum, method, pixels=len(od), fallback=reason)

    def reference_maximum(self, settings: StainSettings) -> np.ndarray:
        """Return the maximum concentrations assumed of a slide without tissue, float64 (2,), OD."""
        return np.array(settings.stain_reference_max)


def estimate(rgb: np.ndarray, settings: StainSettings) -> Profile:
    """Estimate the stains of one slide from pixels all over its tissue, uint8 (..., 3).

    Where there is too little tissue, or the two stains cannot be separated, Ruifrok's vectors stand
    in and `fallback` says why.

    Raises
    ------
    Her2Error
        When the pixels are not 8-bit RGB.
    """
    if rgb.dtype != np.uint8 or rgb.shape[-1:] != (3,):
        what = f"pixels are {rgb.dtype} of shape {rgb.shape}"
        raise Her2Error(what, "stain estimation", "give 8-bit RGB, the last axis its three colours")
    method: StainMethod = STAIN_METHODS[settings.stain_method]()
    return method.estimate(rgb.reshape(-1, 3), settings)
