"""Fitting aggregations: folds, how slides are dealt into steps, and areas of few slides."""

import math

import numpy as np
import pytest
import torch

from her2pipe.aggregation.base import AGGREGATIONS, TrainingSlide
from her2pipe.aggregation.clam import Clam
from her2pipe.aggregation.fitting import _Batches, area, assign_folds
from her2pipe.aggregation.networks import (
    balanced,
    packs,
    positive_targets,
    standardiser,
    stratified,
)
from her2pipe.config import LabelSettings, NetworkFitSettings
from her2pipe.endpoints.lookup import endpoint_of


def slides(classes, per_patient=1):
    """Slides whose classes are given by a letter each, so many of a patient."""
    return [
        TrainingSlide(f"S{i}", f"P{i // per_patient}", "0+".index(c), None)
        for i, c in enumerate(classes)
    ]


def test_folds_are_of_patients_and_of_both_classes():
    patients = {f"S{i}": f"P{i // 3}" for i in range(30)}  # three slides each
    fold = assign_folds(slides("0+" * 15, 3), NetworkFitSettings(folds=5))
    by_patient = {p: {fold[s] for s, q in patients.items() if q == p} for p in patients.values()}
    assert all(len(numbers) == 1 for numbers in by_patient.values())
    assert sorted(next(iter(n)) for n in by_patient.values()) == sorted([*range(5)] * 2)
    mixed = assign_folds(slides("0" * 11 + "+" * 7), NetworkFitSettings(folds=3))
    for names in ("S0 S1 S2 S3 S4 S5 S6 S7 S8 S9 S10", "S11 S12 S13 S14 S15 S16 S17"):
        numbers = [mixed[slide] for slide in names.split()]
        assert max(map(numbers.count, range(3))) - min(map(numbers.count, range(3))) <= 1


def test_one_fold_holds_a_share_out():
    fold = assign_folds(slides("0" * 10 + "+" * 5), NetworkFitSettings(folds=1))
    assert sum(fold[f"S{i}"] == 0 for i in range(10)) == 2
    assert sum(fold[f"S{i}"] == 0 for i in range(10, 15)) == 1
    assert set(fold.values()) == {0, -1}


def test_area_by_hand():
    positive = np.array([True, False, True, False])
    assert area(positive, np.array([0.9, 0.1, 0.4, 0.4])) == pytest.approx(3.5 / 4)
    assert math.isnan(area(np.array([True, True]), np.array([0.1, 0.2])))


def test_targets_whose_probability_is_tested():
    two = LabelSettings(endpoint="class", classes=["a", "b"])
    assert positive_targets(endpoint_of()) == [1]
    assert positive_targets(endpoint_of(levels=True)) == [3, 4]
    assert positive_targets(endpoint_of(two)) == [1]
    assert positive_targets(endpoint_of(LabelSettings(endpoint="class"))) == []  # macro-AUC


def test_balanced_draws_each_class_as_often():
    targets = np.array([0] * 90 + [1] * 10)
    random = np.random.default_rng(1)
    drawn = np.concatenate([np.concatenate(balanced(targets, 8, random)) for _ in range(50)])
    assert len(drawn) == 5000
    assert targets[drawn].mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(("negative", "positive"), [(40, 40), (50, 14), (61, 2), (3, 2)])
def test_stratified_steps_hold_both_classes(negative, positive):
    targets = np.array([0] * negative + [1] * positive)
    steps = stratified(targets, 8, np.random.default_rng(1))
    assert len(steps) == max(1, round(len(targets) / 8))
    assert all(set(targets[step]) == {0, 1} for step in steps)
    assert set(np.concatenate(steps)) == set(range(len(targets)))  # nobody is left out
    sizes = [len(step) for step in steps]
    assert max(sizes) - min(sizes) <= 1


def test_the_standardiser_is_of_all_rows():
    parts = [np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([[5.0, 5.0]])]
    mean, std = standardiser(parts)
    assert mean.tolist() == [3, 5]
    assert std == pytest.approx([np.std([1, 3, 5]), 1])  # a constant column stays


def test_packs_hold_small_slides_together_in_order():
    slides = [torch.zeros(n, 1) for n in (3, 4, 20, 2, 2, 7)]
    sizes = [[len(slide) for slide in pack] for pack in packs(slides, most=10)]
    assert sizes == [[3, 4], [20], [2, 2], [7]]


def test_slides_stay_on_a_device_within_its_room():
    """Two of three slides of 64 bytes fit; what is drawn of a slide is never kept."""
    random = np.random.default_rng(1)
    inputs = [random.normal(size=(8, 2)).astype(np.float16) for _ in range(3)]
    held = [TrainingSlide(f"S{i}", f"P{i}", i % 2, each) for i, each in enumerate(inputs)]
    sides, settings = {"train": held, "validation": held}, AGGREGATIONS["clam"].Settings()
    batches = _Batches(Clam, sides, settings, 1, torch.device("cpu"), 130e-6)
    (first, targets), (again, _) = (next(iter(batches("validation", None))) for _ in range(2))
    assert targets.tolist() == [0, 1, 0]
    assert [a is b for a, b in zip(first, again, strict=True)] == [True, True, False]
    assert all(np.array_equal(a, b) for a, b in zip(again, inputs, strict=True))
    drawn = AGGREGATIONS["clam"].Settings(step_patches=3)
    batches = _Batches(Clam, sides, drawn, 1, torch.device("cpu"), 1.0)
    for epoch in (1, 2):
        for (bag,), _ in batches("train", epoch):
            rows = bag.half().tolist()
            assert any(all(row in each.tolist() for row in rows) for each in inputs)
            assert len(rows) == 3
