"""Training patches: their classes, the fractions drawn, and which slides are excluded and why."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from her2pipe.cohorts.sheet import Row
from her2pipe.cohorts.split import HELD_OUT
from her2pipe.config import CLASSES, TrainSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.errors import Her2Error
from her2pipe.store import SlidePatches

SIDES = ("train", "validation")
NO_ITEMS = np.zeros((0, 3), int)
TABLE = ("side", "view", "kind", "available", "used", "slides", "patients")


@dataclass(frozen=True, eq=False)
class DevelopmentSet:
    """The development cohort, its stores opened.

    Attributes
    ----------
    stores : sequence of SlidePatches
        Several of a slide, if it was tiled in several views.
    rows : sequence of Row
    sides : dict
        Slide to `train` or `validation`; those of other sides, `test` or `held out`, are not used.
    train : TrainSettings
    endpoint : Endpoint
    reject : sequence of str
        Artefacts whose patches are left out.
    """

    stores: Sequence[SlidePatches]
    rows: Sequence[Row]
    sides: Mapping[str, str]
    train: TrainSettings
    endpoint: Endpoint
    reject: Sequence[str] = ()

    @property
    def slides(self) -> list[str]:
        """Slide of each store."""
        return [store.metadata.slide for store in self.stores]

    @property
    def row_of(self) -> dict[str, Row]:
        """Row of the sheet by slide."""
        return {row.slide: row for row in self.rows}

    def kept(self, store: SlidePatches) -> np.ndarray:
        """Return which patches of a store are not left out, (N,) bool."""
        return ~store.rejected(self.reject)

    def exclusion_reasons(self) -> list[str]:
        """Return of each store why its patches are not used; empty where they are."""
        rows = self.row_of
        return [self._exclusion_reason(store, rows) for store in self.stores]

    def _exclusion_reason(self, store: SlidePatches, rows: Mapping[str, Row]) -> str:
        row = rows.get(store.metadata.slide)
        if row is None:
            return "not in the sheet"
        if (side := self.sides[row.slide]) not in SIDES:
            return "kept for testing" if side == "test" else side
        if store.exclusion_reason:
            return f"excluded: {store.exclusion_reason}"
        kept = self.kept(store)
        if not kept.any():
            return f"excluded: all {len(store)} patches rejected"
        if self.train.task == "fingerprint" and kept.sum() < 2:
            return "only one patch"
        if self.train.task != "classify":  # no label and no annotation is needed
            return ""
        return self.endpoint.exclusion_reason(row) or self.endpoint.patches_exclusion_reason(
            store.tumour[kept], self.train.tumour_min
        )

    def training_stores(self, side: str = "train") -> list[int]:
        """Return the numbers of the stores of one side whose patches are used."""
        reasons, slides = self.exclusion_reasons(), self.slides
        return [i for i, s in enumerate(slides) if not reasons[i] and self.sides[s] == side]

    def manifest(self) -> list[dict[str, str]]:
        """List every slide of the sheet: its side, and why it is not used, if so."""
        reasons = dict(zip(self.slides, self.exclusion_reasons(), strict=True))
        reasons |= {slide: HELD_OUT for slide, side in self.sides.items() if side == HELD_OUT}
        return [
            {
                "slide": row.slide,
                "side": self.sides[row.slide],
                "exclusion_reason": reasons.get(row.slide, "no store given"),
            }
            for row in self.rows
        ]


def draw(data: DevelopmentSet) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Draw the training and validation patches, each of the class its endpoint gives it.

    Of each view and class a fraction is drawn, the same for validation.

    Returns
    -------
    table : list of dict
        Patches available and used, slides and patients, by side, view and class (Table 1).
    items : dict
        `train` and `validation` to (N, 3) int: store, patch, class.

    Raises
    ------
    Her2Error
        When a class has no training patch.
    """
    rows, slides, train = data.row_of, data.slides, data.train
    classes = data.endpoint.patch_classes
    random = np.random.default_rng(train.train_seed)
    table: list[dict[str, Any]] = []
    drawn: dict[str, list[np.ndarray]] = {side: [] for side in SIDES}
    for (side, view, number), blocks in sorted(_patches_by_class(data).items()):
        block = np.concatenate(blocks)
        fraction = train.fractions.get(view, {}).get(classes[number], 1.0)
        used = math.floor(fraction * len(block) + 1e-9)
        chosen = block[np.sort(random.choice(len(block), used, replace=False))]
        drawn[side].append(chosen)
        sources = {slides[i] for i in np.unique(chosen[:, 0])}
        table.append(
            {
                "side": side,
                "view": view,
                "kind": classes[number],
                "available": len(block),
                "used": used,
                "slides": len(sources),
                "patients": len({rows[slide].patient for slide in sources}),
            }
        )
    items = {side: np.concatenate(b) if b else NO_ITEMS for side, b in drawn.items()}
    present = set(items["train"][:, 2].tolist())
    if lacking := [name for number, name in enumerate(classes) if number not in present]:
        raise Her2Error(
            f"no training patch of class {', '.join(lacking)}",
            "the development cohort's stores and sheet",
            data.endpoint.training_needs,
        )
    return table, items


def _patches_by_class(data: DevelopmentSet) -> dict[tuple[str, str, int], list[np.ndarray]]:
    """Sort the patches of every slide that is used: (side, view, class) to blocks of items."""
    rows, reasons = data.row_of, data.exclusion_reasons()
    blocks: dict[tuple[str, str, int], list[np.ndarray]] = {}
    for number, (store, slide) in enumerate(zip(data.stores, data.slides, strict=True)):
        label = None if reasons[number] else data.endpoint.target(rows[slide]).label
        if label is None:
            continue
        targets = data.endpoint.patch_targets(label, store.tumour, data.train.tumour_min)
        targets = np.where(data.kept(store), targets, -1)
        for target in np.unique(targets[targets >= 0]):
            patches = np.flatnonzero(targets == target)
            block = np.stack(
                [np.full_like(patches, number), patches, np.full_like(patches, target)], axis=1
            )
            key = (data.sides[slide], store.metadata.view, int(target))
            blocks.setdefault(key, []).append(block)
    return blocks


def format_table(table: Sequence[Mapping[str, Any]], classes: Sequence[str] = CLASSES) -> str:
    """Write the drawn table as Table 1 of the paper: a line per crop size, a column per class.

    Entries give the patches available and, in brackets, those used; then slides and patients.
    """
    lines = []
    for side in SIDES:
        by_view_and_class = {(r["view"], r["kind"]): r for r in table if r["side"] == side}
        views = sorted({view for view, _ in by_view_and_class}, key=lambda v: (len(v), v))
        for view in views:
            entries = []
            for name in classes:
                row = by_view_and_class.get((view, name))
                entries.append(f"{row['available']:,} ({row['used']:,})" if row else "0 (0)")
                entries.append(f"{row['slides']}/{row['patients']}" if row else "0/0")
            lines.append([side, view, *entries])
    heads = [text for name in classes for text in (name, "slides/patients")]
    grid = [["side", "size", *heads], *lines]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return "\n".join(
        "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True))
        for line in grid
    )


def digest(stores: Sequence[SlidePatches], items: np.ndarray) -> str:
    """Return the SHA-256 of slide, view, patch and class of each item, first 16 characters."""
    used = sorted(
        f"{stores[s].metadata.slide}/{stores[s].metadata.view}/{p}/{k}"
        for s, p, k in items.tolist()
    )
    return hashlib.sha256("\n".join(used).encode()).hexdigest()[:16]


def class_weights(labels: np.ndarray, classes: int = len(CLASSES)) -> list[float]:
    """Return weights that give every class the same total: N / (C N_c)."""
    count = np.bincount(labels, minlength=classes)
    return [float(len(labels) / (len(count) * max(n, 1))) for n in count]
