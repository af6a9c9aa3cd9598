"""Drawing of synthetic breast tissue: maps of stain concentration, then light through them.

Everything is drawn on a canvas of about 0.5 um per pixel and enlarged for a 40x slide, where real
scans are just as soft. Grids and `um` are those of `tissue_layout`. A `Section` can be stained
again: `ihc` does so for HER2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from her2pipe.config import Scanner, SynthesiseSettings
from her2pipe.synthetic.tissue_layout import (
    COARSE,
    PLAN,
    Fat,
    Region,
    band_by_band,
    blur,
    fill,
    lattice,
    layout_tissue,
    noise,
    partition,
    regrid,
    trace,
    value_at,
)

MPP = {20: 0.4990, 40: 0.2520}  # what Aperio scanners write for these objectives
ENLARGE = {20: 1, 40: 2}  # canvas to level 0
GLASS = 243.0  # grey level of empty glass
STAMP_PX = 28  # side of a pre-drawn nucleus, whose radius is a third of it

Staining = tuple[np.ndarray, Sequence[float]]  # (H, W) float32 concentration, OD in R, G, B


@dataclass(frozen=True)
class Drawing:
    """One synthetic slide, and where its tumour is."""

    image: np.ndarray  # (H, W, 3) uint8, RGB, level 0
    mpp: float  # um per level-0 px
    regions: list[Region]  # tumour regions in level-0 px
    tumour: np.ndarray  # (H / enlarge, W / enlarge) bool, where tumour was drawn
    enlarge: int


@dataclass(frozen=True, eq=False)
class Section:
    """A section of tissue, stained with haematoxylin and eosin; maps are (H, W) of the canvas."""

    haematoxylin: np.ndarray  # float32, concentration
    eosin: np.ndarray  # float32, concentration
    tumour: np.ndarray  # uint8, where tumour is
    regions: list[Region]  # tumour regions, canvas px
    um: float  # canvas px per um
    components: Components | None  # None: glass only


class Components(NamedTuple):
    """What a section is made of, to stain it again."""

    tissue: np.ndarray  # float32 (H, W), 0 to 1: how much tissue there is
    nuclei: np.ndarray  # float32 (H, W): haematoxylin of the nuclei alone
    collagen: np.ndarray  # float32 (H, W): eosin of fibres, as if they were everywhere
    gap: np.ndarray  # float32 (H, W), 0 to 1: gaps in nests of tumour cells
    fat: np.ndarray  # float32 (H, W), 0 to 1: how much fat there is
    body: np.ndarray  # float32 (H, W), 0 to 1: bodies of tumour cells
    centres: np.ndarray  # float64 (n, 2): tumour cells, x and y
    level: np.ndarray  # float32 (H / COARSE, W / COARSE): severity shown

    @property
    def fibres(self) -> np.ndarray:
        """Collagen, as eosin shows it, (H, W) float32; none in gaps and fat."""
        return self.collagen * (1 - self.gap) * (1 - self.fat)


def draw(
    seed: int, severity: float, settings: SynthesiseSettings, scanner: Scanner, blank: bool = False
) -> Drawing:
    """Draw one slide; equal arguments give equal pixels.

    Parameters
    ----------
    seed : int
        Seed of the geometry and of all noise, >= 0.
    severity : float
        HER2 severity, 0 to 4, expressed by the morphology of the tumour.
    settings : SynthesiseSettings
        Size of the field.
    scanner : Scanner
        Magnification, stains and outline of the tissue.
    blank : bool
        Draw empty glass.
    """
    section = cut_section(seed, severity, settings, scanner, blank)
    stains = (section.haematoxylin, scanner.hematoxylin), (section.eosin, scanner.eosin)
    _, _, light = np.random.default_rng(seed).spawn(3)
    return expose(light, section, stains, scanner)


def cut_section(
    seed: int, severity: float, settings: SynthesiseSettings, scanner: Scanner, blank: bool = False
) -> Section:
    """Lay out tissue and stain it.

    Parameters are those of `draw`; of the scanner, outline and magnification are used.
    """
    layout_rng, cells_rng = np.random.default_rng(seed).spawn(2)
    um = 1 / (MPP[scanner.objective] * ENLARGE[scanner.objective])
    size_um = np.array([settings.height_um, settings.width_um]) * layout_rng.uniform(0.8, 1.2, 2)
    shape = tuple(int(n) for n in np.maximum(np.round(size_um * um / 16), 4) * 16)
    if blank:
        haematoxylin, eosin = np.zeros((2, *shape), np.float32)
        return Section(haematoxylin, eosin, np.zeros(shape, np.uint8), [], um, None)
    tissue, plan, fat = layout_tissue(layout_rng, shape, scanner.shape, um)
    regions = trace(plan)
    return _stain(cells_rng, tissue, fill(regions, shape), fat, regions, severity, um)


# --- components: concentrations of haematoxylin and eosin ----------------------------------------


def _fibres(
    rng: np.random.Generator, shape: Sequence[int], um: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw wavy collagen: eosin (canvas), and the fibres' direction (coarse, radians)."""
    side = 1024  # of the cloth that is laid in waves over the canvas, again and again
    thin = noise(rng, (side, side // 8), 1.6, smooth=False)
    bundle = noise(rng, (side // 9, side // 60), 1)
    thin, bundle = (regrid(f, (side, side), smooth=True) for f in (thin, bundle))
    cloth = noise(rng, (side, side), 2.5, smooth=False)

    def weave(cloth, thin, bundle):
        eosin = 0.6 + 0.13 * thin + 0.2 * bundle + 0.1 * cloth
        cleft = np.clip((-1.15 - bundle - 0.25 * thin) * 3.5, 0, 1)  # bundles part on drying
        cloth[:] = np.clip(eosin * (1 - 0.93 * cleft), 0.02, 2)

    band_by_band(weave, cloth, thin, bundle)
    small, grain = [n // COARSE for n in shape], um / COARSE
    y, x = np.mgrid[: small[0], : small[1]].astype(np.float32) * COARSE
    bend = noise(rng, small, 90 * grain) * 20 * um + noise(rng, small, 28 * grain) * 4 * um
    angle = rng.uniform(0, np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = x * cos + y * sin, y * cos - x * sin + bend
    x_map, y_map = (regrid(each.astype(np.float32), shape) for each in (along, across))
    dy, dx = np.gradient(across)
    woven = cv2.remap(cloth, x_map, y_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return woven, np.arctan2(-dx, dy)


def _stain(
    rng: np.random.Generator,
    tissue: np.ndarray,
    tumour: np.ndarray,
    fat: Fat,
    regions: list[Region],
    severity: float,
    um: float,
) -> Section:
    """Fill the tissue with fibres and cells, and stain it; maps are (H, W) of the canvas."""
    shape, small, grain = tissue.shape, [n // COARSE for n in tissue.shape], um / COARSE
    shown = severity + rng.normal(0, 0.3)  # what this slide shows of its severity
    each = shown + rng.normal(0, 0.35, len(regions))
    level = fill(regions, shape, COARSE, each + 10)  # severities may be negative, glass is 0
    level = np.where(level > 0, level - 10, shown) + 0.3 * noise(rng, small, 60 * grain)
    level = blur(np.clip(level, -0.5, 4.5), 2)
    nest = np.abs(noise(rng, small, 34 * grain)) - (0.2 - 0.035 * level)
    lumen = (0.95 + 0.3 * level) - noise(rng, small, 17 * grain)
    eosin, direction = _fibres(rng, shape, um)
    eosin *= regrid(1 + 0.16 * noise(rng, small, 60 * grain), shape)
    collagen, haematoxylin = eosin.copy(), np.full(shape, 0.04, np.float32)
    at = lattice(rng, shape, 11.6 * um, 0.17)
    share = np.clip(0.5 + 0.115 * level, 0.3, 0.97) * (np.minimum(nest, lumen) > 0)
    at = at[(value_at(tumour, at, 1) > 0) & (rng.random(len(at)) < value_at(share, at))]
    body, gap = _cytoplasm(rng, haematoxylin, eosin, tumour, at, level, nest, lumen, um)

    def add_fat(haematoxylin, eosin, amount, wall):
        eosin += amount * (wall - eosin)
        haematoxylin *= 1 - amount

    band_by_band(add_fat, haematoxylin, eosin, *fat)
    bank, nuclei = _nucleus_bank(rng), np.zeros(shape, np.float32)
    _tumour_nuclei(rng, nuclei, bank, at, value_at(level, at), um)
    stroma = (tissue > 0.6) & (tumour == 0) & (fat.amount < 0.1)
    _fibroblast_nuclei(rng, nuclei, bank, stroma, direction, um)
    _lymphocytes(rng, nuclei, bank, stroma, um)
    tint = np.exp(rng.normal(0, (0.08, 0.1))).astype(np.float32)  # no two slides stain alike

    def add_nuclei(haematoxylin, eosin, tissue, nuclei):
        inside = np.minimum(nuclei * 1.4, 1)
        tissue[:] = np.maximum(tissue, inside * (tissue > 0.3))
        haematoxylin[:] = np.maximum(haematoxylin, nuclei) * tissue * tint[0]
        eosin[:] = eosin * (1 - 0.55 * inside) * tissue * tint[1]

    band_by_band(add_nuclei, haematoxylin, eosin, tissue, nuclei)
    components = Components(tissue, nuclei, collagen, gap, fat.amount, body, at, level)
    return Section(haematoxylin, eosin, tumour, regions, um, components)


def _cytoplasm(
    rng: np.random.Generator,
    haematoxylin: np.ndarray,
    eosin: np.ndarray,
    tumour: np.ndarray,
    at: np.ndarray,
    level: np.ndarray,
    nest: np.ndarray,
    lumen: np.ndarray,
    um: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the bodies of the tumour cells into both maps; return where they and gaps are."""
    plan = tuple(n // PLAN for n in tumour.shape)
    away, border = partition(at / PLAN, plan)
    body = np.clip((12 * um / PLAN - away) / (2.5 * um / PLAN), 0, 1)
    rough = noise(rng, plan, 2.2, smooth=False)
    pink = 0.33 + 0.08 * rough + 0.34 * blur(border, 0.6)
    blue = 0.08 + 0.04 * regrid(level, plan) + 0.05 * rough
    loose = np.clip(3 * regrid(noise(rng, level.shape, 9), plan) - 1.5, 0, 1)
    rim = regrid(nest, plan, smooth=True)  # nests shrink off the stroma on drying, in places
    gap = np.clip(regrid(lumen, plan, smooth=True) * -9, 0, 1)
    gap = blur(np.maximum(gap, np.clip(1.2 - np.abs(rim) * 22, 0, 1) * loose), 0.8)
    body, pink, blue, gap = (
        regrid(field.astype(np.float32), tumour.shape) for field in (body, pink, blue, gap)
    )

    def colour(haematoxylin, eosin, pink, blue, inside, body, gap):
        cell, torn = body * inside, 1 - 0.95 * gap * inside
        for stain, tint in ((eosin, pink), (haematoxylin, blue)):
            stain += cell * (tint - stain)
            stain *= torn
        body[:] = cell * (1 - gap)
        gap *= inside

    band_by_band(colour, haematoxylin, eosin, pink, blue, blur(tumour, 1.2), body, gap)
    return body, gap


def _nucleus_bank(rng: np.random.Generator, count: int = 48) -> np.ndarray:
    """Draw nuclei, (count, STAMP_PX, STAMP_PX) float32, from bland to atypical."""
    y, x = (np.mgrid[:STAMP_PX, :STAMP_PX] + 0.5) / STAMP_PX * 3 - 1.5
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    bank = np.zeros((count, STAMP_PX, STAMP_PX), np.float32)
    for index, atypia in enumerate(np.linspace(0, 1, count)):
        waves = rng.normal(0, 0.02 + 0.07 * atypia, 4) / np.sqrt([1, 1.5, 2, 3])
        phases = rng.uniform(0, 2 * np.pi, 4)
        edge = 1 + sum(waves[k] * np.cos((k + 2) * angle + phases[k]) for k in range(4))
        rim = np.exp(-(((radius - edge) / 0.2) ** 2))
        grain = noise(rng, radius.shape, 5.5 - 2 * atypia)
        texture = 0.84 + (0.07 + 0.17 * atypia) * grain + 0.22 * rim
        for _ in range(int(rng.integers(0, 2 + 2 * atypia))):  # nucleoli
            at = rng.uniform(-0.45, 0.45, 2)
            texture += (0.25 + 0.3 * atypia) * np.exp(-(np.hypot(x - at[0], y - at[1]) ** 2) / 0.03)
        bank[index] = np.clip((edge - radius) * 4.5 + 0.5, 0, 1) * np.clip(texture, 0.3, 1.6)
    return bank


def _stamp(
    canvas: np.ndarray,
    stamps: np.ndarray,
    points: np.ndarray,
    long_px: np.ndarray,
    broad_px: np.ndarray,
    angle: np.ndarray,
    depth: np.ndarray,
) -> None:
    """Stamp nuclei on the canvas, the deeper stain winning where they meet.

    Parameters
    ----------
    canvas : (H, W) float32
    stamps : (n, STAMP_PX, STAMP_PX) float32
    points : (n, 2) float64
    long_px, broad_px : (n,) float
        Diameters, canvas px.
    angle : (n,) float
        Of the long axis, radians.
    depth : (n,) float
        Strength of the stain.
    """
    sides = np.ceil(np.maximum(long_px, broad_px) * 0.75).astype(int) * 2 + 1
    corners = np.floor(points).astype(int) - sides[:, None] // 2
    a, b = (STAMP_PX / 1.5 / px for px in (long_px, broad_px))  # a stamp shows 1.5 diameters
    cos, sin = np.cos(angle), np.sin(angle)
    rows = np.array([[a * cos, a * sin], [-b * sin, b * cos]])
    rows = np.moveaxis(rows, 2, 0)  # (n, 2, 2), canvas to stamp
    shifts = (STAMP_PX - 1) / 2 - rows @ (points - corners)[:, :, None]
    maps, flags = np.concatenate([rows, shifts], 2), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = ((corners >= 0) & (corners + sides[:, None] <= canvas.shape[::-1])).all(1)
    for k in np.flatnonzero(inside):
        (x, y), side = corners[k], int(sides[k])
        window = canvas[y : y + side, x : x + side]
        nucleus = cv2.warpAffine(stamps[k], maps[k], (side, side), flags=flags)
        np.maximum(window, nucleus * depth[k], out=window)


def _tumour_nuclei(
    rng: np.random.Generator,
    canvas: np.ndarray,
    bank: np.ndarray,
    at: np.ndarray,
    level: np.ndarray,
    um: float,
) -> None:
    """Stamp the nuclei of the tumour: larger, darker and more unlike with severity."""
    level, n = np.clip(level, 0, 4.5), len(at)
    size = (6.4 + 0.72 * level) * np.exp(rng.normal(0, 0.07 + 0.04 * level)) * um
    stretch = np.exp(np.abs(rng.normal(0, 0.05 + 0.015 * level)))
    atypia = np.clip(level / 4 + rng.normal(0, 0.22, n), 0, 1)
    depth = (0.92 + 0.1 * level) * np.exp(rng.normal(0, 0.1 + 0.025 * level))
    stamps = bank[np.round(atypia * (len(bank) - 1)).astype(int)]
    _stamp(canvas, stamps, at, size * stretch, size / stretch, rng.uniform(0, np.pi, n), depth)


def _fibroblast_nuclei(
    rng: np.random.Generator,
    canvas: np.ndarray,
    bank: np.ndarray,
    stroma: np.ndarray,
    direction: np.ndarray,
    um: float,
) -> None:
    """Stamp the nuclei of fibroblasts, along the fibres."""
    at = lattice(rng, stroma.shape, 20 * um, 0.3)
    at = at[value_at(stroma, at, 1) & (rng.random(len(at)) < 0.55)]
    n = len(at)
    long_px, broad_px = rng.uniform(9, 17, n) * um, rng.uniform(2.4, 3.8, n) * um
    stamps = bank[rng.integers(0, len(bank) // 2, n)]
    angle = rng.normal(value_at(direction, at), 0.2)
    _stamp(canvas, stamps, at, long_px, broad_px, angle, rng.uniform(0.95, 1.5, n))


def _lymphocytes(
    rng: np.random.Generator,
    canvas: np.ndarray,
    bank: np.ndarray,
    stroma: np.ndarray,
    um: float,
) -> None:
    """Stamp crowds of lymphocytes, which do not depend on severity."""
    small = [n // COARSE for n in stroma.shape]
    crowd = noise(rng, small, 40 * um / COARSE) + rng.uniform(-2.0, -0.9)
    at = lattice(rng, stroma.shape, 7.5 * um, 0.25)
    at = at[value_at(stroma, at, 1) & (rng.random(len(at)) < np.clip(value_at(crowd, at), 0, 0.7))]
    n = len(at)
    long_px, angle = rng.uniform(5, 6.4, n) * um, rng.uniform(0, np.pi, n)
    stamps, broad_px = bank[rng.integers(0, len(bank) // 2, n)], long_px * rng.uniform(0.85, 1, n)
    _stamp(canvas, stamps, at, long_px, broad_px, angle, rng.uniform(1.5, 1.9, n))


# --- light ---------------------------------------------------------------------------------------


def expose(
    rng: np.random.Generator,
    section: Section,
    stains: tuple[Staining, Staining],
    scanner: Scanner,
) -> Drawing:
    """Send light through a section's stains (Beer-Lambert) and read it out with a little noise.

    Parameters
    ----------
    rng : numpy.random.Generator
    section : Section
    stains : two of Staining
        Concentrations over the canvas, and the stain's optical density in R, G, B.
    scanner : Scanner
        Magnification and strength; its own stains are not used.
    """
    (first, a), (second, b) = stains
    enlarge = ENLARGE[scanner.objective]
    image = np.empty((*first.shape, 3), np.uint8)

    def shine(image, first, second):
        channels = []
        for od in zip(a, b, strict=True):
            weights = [-each * scanner.strength for each in od]
            density = cv2.addWeighted(first, weights[0], second, weights[1], 0)
            channels.append((cv2.exp(density) * GLASS).astype(np.uint8))
        cv2.merge(channels, image)

    band_by_band(shine, image, first, second)
    if enlarge > 1:
        image = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    brighter, darker = _grain(rng)
    for y in range(0, image.shape[0], 256):
        for x in range(0, image.shape[1], 256):
            block, (v, u) = image[y : y + 256, x : x + 256], rng.integers(0, 512, 2)
            window = np.s_[v : v + block.shape[0], u : u + block.shape[1]]
            cv2.add(block, brighter[window], block)
            cv2.subtract(block, darker[window], block)
    regions = [
        ((outline + 0.5) * enlarge, [(hole + 0.5) * enlarge for hole in holes])
        for outline, holes in section.regions
    ]
    mpp = MPP[scanner.objective]
    return Drawing(image, mpp, regions, section.tumour.astype(bool), enlarge)


def _grain(rng: np.random.Generator, side: int = 768) -> tuple[np.ndarray, np.ndarray]:
    """Draw the camera's noise: what it adds and what it takes, (side, side, 3) uint8 each."""
    brighter, darker = np.empty((2, side, side, 3), np.uint8)

    def draw_noise(brighter, darker):
        levels = rng.normal(0, 1.6, brighter.shape).round()
        brighter[:] = np.maximum(levels, 0)
        darker[:] = np.maximum(-levels, 0)

    band_by_band(draw_noise, brighter, darker)
    return brighter, darker
