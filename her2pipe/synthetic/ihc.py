"""Drawing of HER2 immunohistochemistry: the same synthetic section, stained a second time.

`he` shows HER2 by morphology alone; here the very cells of that section get a membranous DAB
stain, and a pale counterstain. What a cell shows follows the severity it has on the H&E section,
as ASCO/CAP words it: 0, no or hardly any staining; 1+, faint and incomplete; 2+, weak to moderate,
complete in many cells; 3+, intense and complete. Severities 2 and 3 are both 2+ (FISH- and FISH+).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from her2pipe.config import Scanner, SynthesiseSettings
from her2pipe.synthetic.he import Components, Drawing, Section, cut_section, expose
from her2pipe.synthetic.tissue_layout import blur, noise, value_at

# What a membrane shows at each severity; from 2 to 3.3 it is 2+, which FISH has to decide.
LEVELS = (0, 1, 2, 3.3, 4)
DENSITY = (0.05, 0.22, 0.52, 0.72, 1.75)  # DAB of the membrane, OD
COMPLETE = (0.04, 0.34, 0.72, 0.82, 0.985)  # share of its length that is stained
HALF_UM = (0.42, 0.45, 0.55, 0.62, 0.90)  # half its thickness, um
CYTOPLASM = (0.015, 0.05, 0.10, 0.13, 0.24)  # DAB of the cell's body, OD


@dataclass(frozen=True)
class Pair:
    """One section under both stains, pixel on pixel."""

    he: Drawing
    ihc: Drawing


def draw_pair(seed: int, severity: float, settings: SynthesiseSettings, scanner: Scanner) -> Pair:
    """Draw a section as H&E and as HER2 slide; equal arguments give equal pixels.

    Parameters are those of `he.draw`, and its H&E is that of `he.draw`.
    """
    section = cut_section(seed, severity, settings, scanner)
    _, _, light, staining, ihc_light = np.random.default_rng(seed).spawn(5)
    stains = (section.haematoxylin, scanner.hematoxylin), (section.eosin, scanner.eosin)
    he = expose(light, section, stains, scanner)
    return Pair(he, _draw_ihc(staining, ihc_light, section, scanner))


def draw_ihc(
    seed: int, severity: float, settings: SynthesiseSettings, scanner: Scanner, blank: bool = False
) -> Drawing:
    """Draw a HER2 slide, as `he.draw` draws an H&E slide of the same section."""
    section = cut_section(seed, severity, settings, scanner, blank)
    staining, light = np.random.default_rng(seed).spawn(5)[3:]
    return _draw_ihc(staining, light, section, scanner)


def _draw_ihc(
    staining: np.random.Generator, light: np.random.Generator, section: Section, scanner: Scanner
) -> Drawing:
    """Stain a section for HER2 and expose it."""
    haematoxylin, dab = immunostain(staining, section)
    stains = (haematoxylin, scanner.counterstain), (dab, scanner.dab)
    return expose(light, section, stains, scanner)


def immunostain(rng: np.random.Generator, section: Section) -> tuple[np.ndarray, np.ndarray]:
    """Stain a section for HER2: concentrations of haematoxylin and DAB, float32 (H, W), OD."""
    if section.components is None:
        return section.haematoxylin, section.eosin
    components, um = section.components, section.um
    tint = np.exp(rng.normal(0, (0.08, 0.08))).astype(np.float32)  # no two runs stain alike
    dab = _membranes(rng, components, um) * components.tissue
    stamped, body = components.nuclei, components.body
    fibres = components.fibres * (1 - body)
    grain = 1 + 0.35 * noise(rng, dab.shape, 2.4, smooth=False)
    rim = stamped - blur(stamped, 1.1 * um)  # chromatin stands out without eosin
    nuclei = np.maximum(np.minimum(stamped, 1.5) * 0.5 + 0.3 * rim * (stamped > 0.1), 0)
    ground = np.maximum(grain, 0) * (0.11 * fibres + 0.055 * body)
    haematoxylin = np.maximum(nuclei, ground) * components.tissue
    dab += 0.03 * fibres * components.tissue
    return (haematoxylin * tint[0]).astype(np.float32), (dab * tint[1]).astype(np.float32)


def _membranes(rng: np.random.Generator, components: Components, um: float) -> np.ndarray:
    """Stain membranes and, faintly, the cells' bodies: DAB, (H, W) float32, OD."""
    shape = components.body.shape
    cell = _cell_numbers(rng, components, um)
    centres = components.centres
    level = value_at(components.level, centres) + rng.normal(0, 0.28, len(centres))
    each = [np.interp(level, LEVELS, y) for y in (DENSITY, COMPLETE, HALF_UM, CYTOPLASM)]
    density, complete, half, body = (
        np.concatenate([[0], values]).astype(np.float32)[cell] for values in each
    )
    border = np.zeros(shape, np.uint8)
    border[:, 1:] |= cell[:, 1:] != cell[:, :-1]
    border[1:] |= cell[1:] != cell[:-1]
    away = cv2.distanceTransform(1 - border, cv2.DIST_L2, 5) / um
    tilt = 1 + 0.22 * noise(rng, shape, 5 * um, smooth=False)  # membranes stand aslant in places
    half = np.maximum(half * tilt, 0.3)
    # Gaps: noise along the membrane, its ranks made even, against the share that is stained.
    rough = noise(rng, shape, 2.6 * um, smooth=False) + 0.7 * noise(rng, shape, 7 * um)
    rank = 0.5 + 0.5 * np.tanh(rough * 0.75)
    stained = np.clip((complete - rank) * 5 + 0.5, 0, 1)
    line = np.exp(-((away / np.maximum(half, 0.1)) ** 2)) * stained * density
    line *= np.clip(1 + 0.16 * noise(rng, shape, 1.3, smooth=False), 0.4, 1.8)
    inner = body * (1 - 0.6 * np.minimum(components.nuclei, 1)) * components.body
    inner *= np.clip(1 + 0.25 * noise(rng, shape, 2.0, smooth=False), 0, 2)
    return blur(line + inner, 0.75)


def _cell_numbers(rng: np.random.Generator, components: Components, um: float) -> np.ndarray:
    """Give each px, (H, W) int32, the number of its tumour cell, from 1; 0 where none is."""
    seeds = np.ones(components.body.shape, np.uint8)
    x, y = components.centres.astype(int).T
    seeds[y, x] = 0
    _, labels = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    number = np.zeros(labels.max() + 1, np.float32)
    number[labels[y, x]] = np.arange(1, len(x) + 1)
    dy, dx = (noise(rng, seeds.shape, 4 * um) * 0.55 * um for _ in range(2))
    rows, columns = np.indices(seeds.shape, np.float32)
    cell = cv2.remap(number[labels], columns + dx, rows + dy, cv2.INTER_NEAREST)
    return np.where(components.body > 0.5, cell, 0).astype(np.int32)
