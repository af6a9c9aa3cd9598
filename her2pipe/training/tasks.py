"""The training set of each task of an encoder: images, their targets, the objective.

A training set looks the same to the step that trains, whatever the task: numbered images in patch
stores, each with a stain profile, and columns of whatever the objective needs to know of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.config import SplitSettings, StainSettings
from her2pipe.errors import Her2Error
from her2pipe.models.base import Network
from her2pipe.registry import STAIN_METHODS
from her2pipe.stain.profile import Profile, median
from her2pipe.store import PatchStore, SlidePatches
from her2pipe.training import contrastive, dataloader, registered_pairs, sampling
from her2pipe.training import dab_regression as dab
from her2pipe.training.objectives import Classification, Objective
from her2pipe.training.sampling import NO_ITEMS, SIDES, DevelopmentSet


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Images of both sides, their targets, and the objective.

    Attributes
    ----------
    stores : sequence of SlidePatches
        Where the images are.
    profiles : list of Profile
        Stains that images may have.
    stain_target : Profile
        Stains that images are brought to.
    manifest : list of dict
        Every slide of the sheet, and why it is not used, if so.
    items : dict
        Side to (N, 3) int: store, patch, profile.
    targets : dict
        Side to columns, (N, ...) each, for the objective.
    objective : Objective or None
        None: nothing is trained.
    classes : list of str
    outputs : int
        Of the network's head.
    stage : str
        What of the network is kept as features.
    table : list of dict
        Images available and used, by side, view and class.
    digest : str
        Of the training images.
    metadata : dict
        More for the model's description.
    tables : dict
        More tables for the model's folder.
    order : callable or None
        `order(side, random)` returns the order of a side's images; None: any.
    """

    stores: Sequence[SlidePatches]
    profiles: list[Profile]
    stain_target: Profile
    manifest: list[dict[str, str]]
    items: dict[str, np.ndarray]
    targets: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)
    objective: Objective | None = None
    classes: list[str] = field(default_factory=list)
    outputs: int = 0
    stage: str = "pooled"
    table: list[dict[str, Any]] = field(default_factory=list)
    digest: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    order: Callable[[str, np.random.Generator], np.ndarray] | None = None

    def arrange(self, side: str, epoch: int | None, random: np.random.Generator) -> np.ndarray:
        """Return the order of a side's images, (N,) int: shuffled if an epoch is given."""
        if self.order:
            return self.order(side, random)
        count = len(self.items[side])
        return np.arange(count) if epoch is None else random.permutation(count)

    def finish(self, model: Network) -> None:
        """Prepare the trained network for use."""
        if scale := self.metadata.get("targets"):
            dab.scale_to_od(model, np.array(scale["mean"]), np.array(scale["std"]))


def _colours(data: DevelopmentSet, training_stores: Sequence[int]) -> dict[str, Any]:
    """Return what every training set has; the stain target is that of the training stores."""
    profiles = [dataloader.profile(store) if len(store) else None for store in data.stores]
    used = [profiles[i] for i in training_stores]
    if data.train.stain_target == "none":
        as_scanned = StainSettings(stain_method="none")
        target = STAIN_METHODS["none"]().estimate(np.zeros((0, 3), np.uint8), as_scanned)
    elif data.train.stain_target != "median":
        with PatchStore(data.train.stain_target) as reference:
            target = dataloader.profile(reference)
    elif used:
        target = median([profile for profile in used if profile is not None])
    else:
        raise Her2Error(
            "no slide of the training side has colours to take the median of",
            "the development cohort's stores and sheet",
            "look into the ledger why its slides are excluded, or set stain_target to a store",
        )
    return {
        "stores": data.stores,
        "profiles": [profile or target for profile in profiles],
        "stain_target": target,
        "manifest": data.manifest(),
    }


def classify(data: DevelopmentSet) -> TrainingSet:
    """Train on the classes of patches."""
    endpoint, classes = data.endpoint, list(data.endpoint.patch_classes)
    table, drawn = sampling.draw(data)
    targets: dict[str, tuple[np.ndarray, ...]] = {s: (part[:, 2],) for s, part in drawn.items()}
    if endpoint.positive_patch_class:
        rows = data.row_of
        labels = [endpoint.target(rows[s]).label if s in rows else None for s in data.slides]
        positive = np.array([label in endpoint.positive for label in labels], bool)
        targets = {s: (*targets[s], positive[part[:, 0]]) for s, part in drawn.items()}
    weights = None
    if data.train.class_weights == "balanced":
        weights = sampling.class_weights(drawn["train"][:, 2], len(classes))
    return TrainingSet(
        **_colours(data, np.unique(drawn["train"][:, 0]).tolist()),
        items={side: part[:, [0, 1, 0]] for side, part in drawn.items()},
        targets=targets,
        objective=Classification(
            classes,
            weights,
            positive_class=endpoint.positive_patch_class,
            macro=not endpoint.positive_patch_class,
        ),
        classes=classes,
        outputs=len(classes),
        stage=data.train.features,
        table=table,
        digest=sampling.digest(data.stores, drawn["train"]),
        metadata={"class_weights": weights} if weights else {},
    )


def frozen_features(data: DevelopmentSet) -> TrainingSet:
    """Train nothing: the network stays as it starts, and only colours are looked at."""
    colours = _colours(data, data.training_stores())
    items = dict.fromkeys(SIDES, NO_ITEMS)
    return TrainingSet(**colours, items=items, stage=data.train.features)


def slide_contrastive(data: DevelopmentSet) -> TrainingSet:
    """Train to find patches of the same slide, from every patch of every slide."""
    rows = data.row_of
    slides = sorted({row.slide for row in data.rows})
    patients = sorted({row.patient for row in data.rows})
    items: dict[str, np.ndarray] = {}
    targets: dict[str, tuple[np.ndarray, ...]] = {}
    by_slide: dict[str, list[np.ndarray]] = {}
    table: list[dict[str, Any]] = []
    for side in SIDES:
        patches = {i: np.flatnonzero(data.kept(data.stores[i])) for i in data.training_stores(side)}
        blocks = [
            np.stack([np.full_like(kept, i), kept, np.full_like(kept, i)], axis=1)
            for i, kept in patches.items()
        ]
        items[side] = np.concatenate(blocks) if blocks else NO_ITEMS
        sources = [data.slides[i] for i in items[side][:, 0]]
        slide = np.array([slides.index(s) for s in sources], int)
        patient = np.array([patients.index(rows[s].patient) for s in sources], int)
        targets[side] = slide, patient
        by_slide[side] = [np.flatnonzero(slide == number) for number in np.unique(slide)]
        views = np.array([data.stores[i].metadata.view for i in items[side][:, 0]])
        for view in np.unique(views):
            here = views == view
            count = {"available": int(here.sum()), "used": int(here.sum())}
            count |= {"slides": len(set(slide[here])), "patients": len(set(patient[here]))}
            table.append({"side": side, "view": view, "kind": "tissue"} | count)
    if len(np.unique(targets["train"][1])) < 2:
        raise Her2Error(
            "fingerprints need slides of at least two patients on the training side",
            "the development cohort's stores and sheet",
            "look into the ledger why its slides are excluded",
        )

    def order(side: str, random: np.random.Generator) -> np.ndarray:
        return contrastive.pairs(by_slide[side], random, data.train.slide_patches)

    return TrainingSet(
        **_colours(data, data.training_stores()),
        items=items,
        targets=targets,
        objective=contrastive.SameSlide(data.train.temperature),
        table=table,
        digest=sampling.digest(data.stores, items["train"]),
        order=order,
    )


def dab_regression(
    data: DevelopmentSet, split: SplitSettings, scratch: Path, threads: int
) -> TrainingSet:
    """Train on the DAB density of H&E patches of registered pairs, packed into a scratch store."""
    train, colours = data.train, _colours(data, data.training_stores())
    reference = next((store for store in data.stores if len(store)), None)
    if reference is None:
        raise Her2Error(
            "every slide of the development cohort is excluded",
            "the development cohort's stores",
            "look into the ledger why",
        )
    if train.pairs == registered_pairs.SYNTHETIC:
        source: registered_pairs.Source = registered_pairs.Drawn(
            train.synthetic_pairs, train.train_seed
        )
    else:
        source = registered_pairs.Folder(train.pairs)
    sides = source.divide(split.validation_fraction, split.split_seed)
    cutter = registered_pairs.Cutter.like(reference, train.pair_px, train.input_px)
    scratch.mkdir(parents=True, exist_ok=True)
    packed = registered_pairs.pack(source, sides, cutter, scratch / "pairs.h5", threads)
    mean, std = packed.dab["train"].mean(0), packed.dab["train"].std(0)
    std = np.where(std > 1e-6, std, 1)  # a statistic that never varies is not to be blown up
    targets: dict[str, tuple[np.ndarray, ...]] = {
        side: (((values - mean) / std).astype(np.float32),) for side, values in packed.dab.items()
    }
    table: list[dict[str, Any]] = []
    for side in SIDES:
        rows = [row for row in packed.manifest if row.get("side") == side and row["used"]]
        count = {"available": sum(row["tiles"] for row in rows), "used": len(packed.items[side])}
        count |= {"slides": len(rows), "patients": len({row["group"] for row in rows})}
        table.append({"side": side, "view": f"{train.pair_px} px", "kind": "pairs"} | count)
    scale: dict[str, Any] = {"names": list(dab.STATISTICS), "unit": "OD"}
    scale |= {"mean": mean.tolist(), "std": std.tolist()}
    stores: list[SlidePatches] = [PatchStore(scratch / "pairs.h5")]
    return TrainingSet(
        **colours | {"stores": stores, "profiles": packed.profiles},
        items=packed.items,
        targets=targets,
        objective=dab.Densities(),
        outputs=len(dab.STATISTICS),
        stage="outputs",
        table=table,
        digest=sampling.digest(stores, packed.items["train"]),
        metadata={"targets": scale},
        tables={"pairs": packed.manifest},
    )
