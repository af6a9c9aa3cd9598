"""What there is to learn for each task of an encoder: images, what is told of each, the objective.

A lesson looks the same to the step that trains, whatever is learnt: numbered images in patch
stores, each with a stain profile, and columns of whatever the objective wants to know of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from her2pipe.cohorts.labels import classes_of
from her2pipe.cohorts.sheet import Row
from her2pipe.config import LabelSettings, SplitSettings, TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.stain.profile import Profile, median
from her2pipe.store import PatchStore
from her2pipe.training import contrastive, dab_regression, dataloader, registered_pairs, sampling
from her2pipe.training.loop import Classes, Objective

SIDES = ("train", "validation")
NOTHING = dict.fromkeys(SIDES, np.zeros((0, 3), int))
TABLE = ("side", "view", "kind", "available", "used", "slides", "patients")


@dataclass(frozen=True, eq=False)
class Lesson:
    """What there is to learn from."""

    stores: list[PatchStore]  # where the images are
    profiles: list[Profile]  # stains that images may have
    target: Profile  # stains that images are brought to
    account: list[dict]  # every slide of the sheet, and why it teaches nothing
    items: dict[str, np.ndarray]  # side to (N, 3) int: store, patch, profile
    told: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict)  # side to (N, ...) each
    objective: Objective | None = None  # None: nothing is learnt
    classes: list[str] = field(default_factory=list)
    outputs: int = 0  # of the network's head
    stage: str = "pooled"  # what of the network is kept as features
    table: list[dict] = field(default_factory=list)  # what was drawn, by side, view and kind
    digest: str = ""  # of what was drawn to train with
    facts: dict[str, Any] = field(default_factory=dict)  # more for the model's description
    tables: dict[str, list[dict]] = field(default_factory=dict)  # more for the model's folder
    order: Callable[[str, np.random.Generator], np.ndarray] | None = None  # None: any

    def arrange(self, side: str, epoch: int | None, random: np.random.Generator) -> np.ndarray:
        """Return the order of a side's images, (N,) int: shuffled if an epoch is given."""
        if self.order:
            return self.order(side, random)
        count = len(self.items[side])
        return np.arange(count) if epoch is None else random.permutation(count)

    def finish(self, model: torch.nn.Module) -> None:
        """Prepare the trained network for use."""
        if scale := self.facts.get("targets"):
            dab_regression.in_od(model, np.array(scale["mean"]), np.array(scale["std"]))


@dataclass(frozen=True, eq=False)
class Cohort:
    """The development cohort, opened."""

    stores: list[PatchStore]
    rows: Sequence[Row]
    sides: dict[str, str]  # slide to side
    train: TrainSettings
    labels: LabelSettings = sampling.STATUS

    @property
    def slides(self) -> list[str]:
        """Slide of each store."""
        return [str(store.attributes["slide"]) for store in self.stores]

    def why_not(self) -> list[str]:
        """Tell of each store why it teaches nothing; empty when it does."""
        by_slide = {row.slide: row for row in self.rows}
        told = self.train.task, self.labels, self.train.tumour_min
        return [sampling.unused(store, by_slide, *told) for store in self.stores]

    def common(self, teachers: Sequence[int]) -> dict[str, Any]:
        """Return what every lesson has; the colours' target is that of the teaching stores."""
        profiles = [dataloader.profile(store) if len(store) else None for store in self.stores]
        if self.train.stain_target != "median":
            with PatchStore(self.train.stain_target) as reference:
                target = dataloader.profile(reference)
        elif len(teachers):
            target = median([profiles[i] for i in teachers])
        else:
            raise Her2Error(
                "no slide of the training side has colours to take the median of",
                "the development cohort's stores and sheet",
                "look into the ledger why its slides are excluded, or set stain_target to a store",
            )
        account = sampling.account(self.rows, self.sides, self.stores, self.train, self.labels)
        return {
            "stores": self.stores,
            "profiles": [profile or target for profile in profiles],
            "target": target,
            "account": account,
        }

    def teachers(self, side: str = "train") -> list[int]:
        """Return the numbers of the stores that teach, of one side."""
        why, slides = self.why_not(), self.slides
        return [i for i, s in enumerate(slides) if not why[i] and self.sides[s] == side]


def classify(cohort: Cohort) -> Lesson:
    """Learn the classes of patches: those of annotated HER2 slides, or of the study."""
    rows, classes = {row.slide: row for row in cohort.rows}, list(classes_of(cohort.labels))
    table, drawn = sampling.draw(
        cohort.stores, cohort.rows, cohort.sides, cohort.train, cohort.labels
    )
    told = {side: (part[:, 2],) for side, part in drawn.items()}
    if not cohort.labels.told:
        positive = np.array([bool(rows[s].positive) if s in rows else False for s in cohort.slides])
        told = {side: (*told[side], positive[part[:, 0]]) for side, part in drawn.items()}
    weights = None
    if cohort.train.class_weights == "balanced":
        weights = sampling.class_weights(drawn["train"][:, 2], len(classes))
    return Lesson(
        **cohort.common(np.unique(drawn["train"][:, 0])),
        items={side: part[:, [0, 1, 0]] for side, part in drawn.items()},
        told=told,
        objective=Classes(
            classes,
            weights,
            watched="" if cohort.labels.told else "HER2+",
            macro=cohort.labels.told,
        ),
        classes=classes,
        outputs=len(classes),
        stage=cohort.train.features,
        table=table,
        digest=sampling.digest(cohort.stores, drawn["train"]),
        facts={"class_weights": weights} if weights else {},
    )


def nothing(cohort: Cohort) -> Lesson:
    """Learn nothing: the network stays as it starts, and only colours are looked at."""
    found = cohort.common(cohort.teachers())
    return Lesson(**found, items=NOTHING, stage=cohort.train.features)


def same_slide(cohort: Cohort) -> Lesson:
    """Learn to tell slides apart, from every patch of every slide."""
    rows = {row.slide: row for row in cohort.rows}
    slides = sorted({row.slide for row in cohort.rows})
    patients = sorted({row.patient for row in cohort.rows})
    items, told, owns, table = {}, {}, {}, []
    for side in SIDES:
        blocks = [
            np.stack([np.full(n, i), np.arange(n), np.full(n, i)], axis=1)
            for i in cohort.teachers(side)
            if (n := len(cohort.stores[i]))
        ]
        items[side] = np.concatenate(blocks) if blocks else NOTHING[side]
        own = [cohort.slides[i] for i in items[side][:, 0]]
        numbers = np.array([slides.index(s) for s in own], int)
        kin = np.array([patients.index(rows[s].patient) for s in own], int)
        told[side] = numbers, kin
        owns[side] = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
        views = np.array([str(cohort.stores[i].attributes["view"]) for i in items[side][:, 0]])
        for view in np.unique(views):
            here = views == view
            count = {"available": int(here.sum()), "used": int(here.sum())}
            count |= {"slides": len(set(numbers[here])), "patients": len(set(kin[here]))}
            table.append({"side": side, "view": view, "kind": "tissue"} | count)
    if len(np.unique(told["train"][1])) < 2:
        raise Her2Error(
            "fingerprints need slides of at least two patients on the training side",
            "the development cohort's stores and sheet",
            "look into the ledger why its slides are excluded",
        )

    def order(side: str, random: np.random.Generator) -> np.ndarray:
        return contrastive.pairs(owns[side], random, cohort.train.slide_patches)

    return Lesson(
        **cohort.common(cohort.teachers()),
        items=items,
        told=told,
        objective=contrastive.SameSlide(cohort.train.temperature),
        table=table,
        digest=sampling.digest(cohort.stores, items["train"]),
        order=order,
    )


def dab(cohort: Cohort, split: SplitSettings, scratch: Path, threads: int) -> Lesson:
    """Learn the DAB density of H&E patches from registered pairs, packed into a scratch store."""
    train, found = cohort.train, cohort.common(cohort.teachers())
    reference = next((store for store in cohort.stores if len(store)), None)
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
    told = {side: (np.float32((part - mean) / std),) for side, part in packed.dab.items()}
    table = []
    for side in SIDES:
        rows = [row for row in packed.account if row.get("side") == side and row["used"]]
        count = {"available": sum(row["tiles"] for row in rows), "used": len(packed.items[side])}
        count |= {"slides": len(rows), "patients": len({row["group"] for row in rows})}
        table.append({"side": side, "view": f"{train.pair_px} px", "kind": "pairs"} | count)
    targets = {"names": list(dab_regression.STATISTICS), "unit": "OD"}
    targets |= {"mean": mean.tolist(), "std": std.tolist()}
    found |= {"stores": [PatchStore(scratch / "pairs.h5")], "profiles": packed.profiles}
    return Lesson(
        **found,
        items=packed.items,
        told=told,
        objective=dab_regression.Densities(),
        outputs=len(dab_regression.STATISTICS),
        stage="outputs",
        table=table,
        digest=sampling.digest(found["stores"], packed.items["train"]),
        facts={"targets": targets},
        tables={"pairs": packed.account},
    )
