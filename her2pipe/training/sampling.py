"""Which patches teach: their classes, the fractions drawn, and the account of both."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from her2pipe.cohorts.labels import class_of, classes_of
from her2pipe.cohorts.sheet import Row
from her2pipe.config import CLASSES, LabelSettings, TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.store import PatchStore

STATUS = LabelSettings()  # a study of HER2 status


def unused(
    store: PatchStore,
    rows: Mapping[str, Row],
    task: str = "classify",
    labels: LabelSettings = STATUS,
    tumour_min: float = 0.5,
) -> str:
    """Tell why a slide teaches nothing; empty when it does."""
    row = rows.get(str(store.attributes["slide"]))
    if row is None:
        return "not in the sheet"
    if store.excluded:
        return f"excluded: {store.excluded}"
    if task == "fingerprint" and len(store) < 2:
        return "only one patch"
    if task != "classify":  # no label and no annotation is needed
        return ""
    if labels.told:
        if why := class_of(row, labels)[1]:
            return f"no class: {why}"
        outside = len(store) and (store.tumour < tumour_min).all()  # not where there is none
        return f"no patch has {tumour_min:g} of its area inside the annotation" if outside else ""
    if row.positive is None:
        return f"no binary status: {row.exclusion_reason}"
    return "no tumour annotation" if np.isnan(store.tumour).all() else ""


def account(
    rows: Sequence[Row],
    sides: Mapping[str, str],
    stores: Sequence[PatchStore],
    train: TrainSettings,
    labels: LabelSettings = STATUS,
) -> list[dict[str, str]]:
    """List every slide of the sheet: its side, and why it teaches nothing if so."""
    by_slide = {row.slide: row for row in rows}
    told = train.task, labels, train.tumour_min
    why = {str(s.attributes["slide"]): unused(s, by_slide, *told) for s in stores}
    return [
        {"slide": r.slide, "side": sides[r.slide], "unused": why.get(r.slide, "no store given")}
        for r in rows
    ]


def draw(
    stores: Sequence[PatchStore],
    rows: Sequence[Row],
    sides: Mapping[str, str],
    train: TrainSettings,
    labels: LabelSettings = STATUS,
) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Draw the training and validation patches.

    A patch is Non-tumour below `tumour_min`, and has its slide's class from there on. In a study of
    classes every patch has its slide's class; where the slide is annotated, those below
    `tumour_min` are left out. Of each view and class a fraction is drawn, the same for validation.

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
    by_slide = {row.slide: row for row in rows}
    found = _kinds(stores, by_slide, sides, train, labels)
    names = classes_of(labels)
    random = np.random.default_rng(train.train_seed)
    table, drawn = [], {"train": [], "validation": []}
    for (side, view, kind), blocks in sorted(found.items()):
        block = np.concatenate(blocks)
        fraction = train.fractions.get(view, {}).get(names[kind], 1.0)
        used = math.floor(fraction * len(block) + 1e-9)
        chosen = block[np.sort(random.choice(len(block), used, replace=False))]
        drawn[side].append(chosen)
        slides = {str(stores[i].attributes["slide"]) for i in np.unique(chosen[:, 0])}
        table.append(
            {
                "side": side,
                "view": view,
                "kind": names[kind],
                "available": len(block),
                "used": used,
                "slides": len(slides),
                "patients": len({by_slide[s].patient for s in slides}),
            }
        )
    items = {k: np.concatenate(v) if v else np.zeros((0, 3), int) for k, v in drawn.items()}
    classes = np.unique(items["train"][:, 2])
    if len(classes) < len(names):
        lacking = [name for k, name in enumerate(names) if k not in classes]
        raise Her2Error(
            f"no training patch of class {', '.join(lacking)}",
            "the development cohort's stores and sheet",
            "training needs slides of every class on the training side"
            if labels.told
            else "training needs annotated slides of both HER2 classes on the training side",
        )
    return table, items


def _kinds(stores, by_slide, sides, train, labels) -> dict[tuple[str, str, int], list[np.ndarray]]:
    """Sort the patches of every slide that teaches: (side, view, class) to blocks of items."""
    why = {
        str(s.attributes["slide"]): unused(s, by_slide, "classify", labels, train.tumour_min)
        for s in stores
    }
    found: dict[tuple[str, str, int], list[np.ndarray]] = {}
    for number, store in enumerate(stores):
        slide = str(store.attributes["slide"])
        if why[slide]:
            continue
        kinds = _classes(store, by_slide[slide], train, labels)
        for kind in np.unique(kinds[kinds >= 0]):
            patches = np.flatnonzero(kinds == kind)
            block = np.stack(
                [np.full_like(patches, number), patches, np.full_like(patches, kind)], axis=1
            )
            key = (sides[slide], str(store.attributes["view"]), int(kind))
            found.setdefault(key, []).append(block)
    return found


def _classes(store, row: Row, train: TrainSettings, labels: LabelSettings) -> np.ndarray:
    """Return the number of each patch's class, (N,) int; -1 where it teaches nothing."""
    inside = store.tumour >= train.tumour_min
    if not labels.told:
        return np.where(inside, int(row.positive), 2)
    own = labels.classes.index(class_of(row, labels)[0])
    return np.where(inside | np.isnan(store.tumour), own, -1)


def layout(table: Sequence[Mapping], classes: Sequence[str] = CLASSES) -> str:
    """Lay the drawn table out as Table 1 of the paper: a line per crop size, a column per class.

    Cells give the patches available and, in brackets, those used; then slides and patients.
    """
    lines = []
    for side in ("train", "validation"):
        own = {(row["view"], row["kind"]): row for row in table if row["side"] == side}
        views = sorted({view for view, _ in own}, key=lambda view: (len(view), view))
        for view in views:
            cells = []
            for kind in classes:
                row = own.get((view, kind))
                cells.append(f"{row['available']:,} ({row['used']:,})" if row else "0 (0)")
                cells.append(f"{row['slides']}/{row['patients']}" if row else "0/0")
            lines.append([side, view, *cells])
    heads = [text for kind in classes for text in (kind, "slides/patients")]
    grid = [["side", "size", *heads], *lines]
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in grid
    )


def digest(stores: Sequence[PatchStore], items: np.ndarray) -> str:
    """Return the SHA-256 of slide, view, patch and class of each item, first 16 characters."""
    used = sorted(
        f"{stores[s].attributes['slide']}/{stores[s].attributes['view']}/{p}/{k}"
        for s, p, k in items.tolist()
    )
    return hashlib.sha256("\n".join(used).encode()).hexdigest()[:16]


def class_weights(labels: np.ndarray, classes: int = len(CLASSES)) -> list[float]:
    """Return weights that give every class the same say: N / (C N_c)."""
    count = np.bincount(labels, minlength=classes)
    return [float(len(labels) / (len(count) * max(n, 1))) for n in count]
