"""Judging a fit: on labels without meaning it finds nothing, whatever its features have seen."""

import numpy as np
import pytest
import torch

from her2pipe import stats
from her2pipe.aggregation.base import AGGREGATIONS, Bag, FitMetadata, TrainingSlide
from her2pipe.aggregation.fitting import assign_folds, fit_aggregation
from her2pipe.aggregation.held_out import held_out_by
from her2pipe.aggregation.inner_folds import Fitter, Fold, fit_by_folds, typical_epochs
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.training.checkpoint import Checkpoint
from her2pipe.training.loop import EpochStates

FOLDS, PATCHES, WIDTH, SLIDES = 2, 8, 8, 40
COORDS = np.stack([np.arange(PATCHES) % 4, np.arange(PATCHES) // 4], 1).astype(np.int32) * 512
LEARNT = {  # steps large enough to learn in a few epochs
    "clam": {"max_epochs": 2, "min_epochs": 1, "learning_rate": 2e-3},
    "slidegraph": {"max_epochs": 8, "learning_rate": 2e-2, "best_epochs": 3},
    "mlp": {"max_epochs": 6, "learning_rate": 2e-2, "hidden": 16},
}
TARGETS = np.arange(SLIDES) % 2


def settings(name, **more):
    return AGGREGATIONS[name].Settings(folds=FOLDS, device="cpu", **(LEARNT[name] | more))


def training_slides(name, fit, shift, seed=5):
    """Slides of noise, that of each shifted by `shift` along the first features."""
    random = np.random.default_rng(seed)
    slides = []
    for i, (target, step) in enumerate(zip(TARGETS, shift, strict=True)):
        features = random.normal(size=(PATCHES, WIDTH))
        features[:, :3] += step
        bag = Bag(
            *(f"S{i}", COORDS, 512, 31_623, 31_623, np.zeros((PATCHES, 0), np.float32)),
            *(features.astype(np.float16), []),
        )
        inputs = AGGREGATIONS[name].prepare(bag, fit)
        slides.append(TrainingSlide(f"S{i}", f"P{i}", int(target), inputs))
    return slides


def fitter(name, fit, folder):
    metadata = FitMetadata(
        aggregation=name,
        classes=list(endpoint_of().targets),
        features=WIDTH,
        settings=fit.model_dump(mode="json"),
    )
    return Fitter(AGGREGATIONS[name], endpoint_of(), fit, metadata, Checkpoint(folder, "x"))


def held_out_area(result):
    scores = [result.scores[f"S{i}"] for i in range(SLIDES)]
    return stats.auc(TARGETS == 1, scores)


def in_sample(seen):
    """Shifts of an encoder that learnt the labels of the slides it was trained on, by heart."""
    return np.where(seen, np.where(TARGETS == 1, 1.5, -1.5), 0.0)


def judged(name, folder, shift_of_fold, with_encoders):
    """Fit by folds; `shift_of_fold` gives the slides' shifts by the encoder of a fold."""
    fit = settings(name)
    all_slides = training_slides(name, fit, shift_of_fold(None))
    number_of = assign_folds(all_slides, fit)

    def fold_of(number):
        held_out = np.array([number_of[f"S{i}"] == number for i in range(SLIDES)])
        shift = shift_of_fold(held_out if with_encoders else None)
        slides = training_slides(name, fit, shift) if with_encoders else all_slides
        parts = ([s for s, h in zip(slides, held_out, strict=True) if h == side] for side in (0, 1))
        return Fold(*parts)

    return fit_by_folds(fitter(name, fit, folder), FOLDS, fold_of, all_slides * with_encoders)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNT)
def test_labels_without_meaning_are_not_found_on_held_out_slides(name, tmp_path):
    """By a frozen encoder, and by encoders of folds that know their training slides by heart."""

    def nothing(held_out):
        return np.zeros(SLIDES)

    def by_heart(held_out):
        return in_sample(np.ones(SLIDES, bool) if held_out is None else ~held_out)

    for place, (shift, with_encoders) in enumerate([(nothing, False), (by_heart, True)]):
        area = held_out_area(judged(name, tmp_path / str(place), shift, with_encoders))
        assert area.low < 0.5 < area.high, (with_encoders, area.value)
    # The same folds by one encoder that has seen all slides are what must not be believed.
    naive = held_out_area(judged(name, tmp_path / "naive", by_heart, with_encoders=False))
    assert naive.value > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNT)
def test_a_planted_effect_is_found(name, tmp_path):
    def planted(held_out):
        return np.where(TARGETS == 1, 1.0, 0.0)

    for with_encoders in (False, True):
        result = judged(name, tmp_path / str(with_encoders), planted, with_encoders)
        assert held_out_area(result).value > 0.8
        kept = LEARNT[name].get("best_epochs", 1)
        assert len(result.members) == (len(result.epochs) if with_encoders else FOLDS * kept)
        model = fitter(name, settings(name), tmp_path).scorer(result.members)
        fresh = training_slides(name, settings(name), planted(None), seed=6)
        scores = [model.score_inputs(slide.inputs).score for slide in fresh]
        assert stats.auc(TARGETS == 1, scores).value > 0.8
        # A probability: the planted slides are on either side of one half, most of them.
        assert np.mean((np.array(scores) > 0.5) == (TARGETS == 1)) > 0.7


def test_epochs_of_all_slides_are_the_medians_of_the_folds():
    assert typical_epochs([[12], [5], [9]]) == [9]
    # Sorted they are 3 7 9, 2 4 8 and 5 6 10; a fit that kept fewer has the best of the others.
    assert typical_epochs([[9, 3, 7], [4, 2, 8], [10, 6, 5]]) == [3, 6, 9]
    assert typical_epochs([[9, 3, 7], [4]]) == [7]  # of 9 and 4: 6.5


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epochs"), [("clam", 1), ("slidegraph", 3)])
def test_weights_that_were_kept_are_those_of_a_second_training(name, epochs, tmp_path):
    """Kept within memory, of no epoch, or of the first one alone: the scores are the same.

    So they are where two processes fit the folds, to the last bit of every weight.
    """
    results = []
    for megabytes, processes in ((0, 1), (0.004, 2), (1000, 1), (1000, 2)):
        fit = settings(name, max_epochs=epochs, patience=2, keep_mb=megabytes)
        slides = training_slides(name, fit, np.zeros(SLIDES))[:12]
        parts = [Fold(slides[4:], slides[:4]), Fold(slides[:8], slides[8:])]
        by_folds = fitter(name, fit, tmp_path / f"{megabytes}-{processes}")
        by_folds.checkpoint.claim()
        results.append(fit_by_folds(by_folds, FOLDS, parts.__getitem__, processes=processes))
        by_folds.checkpoint.check()
    first, *others = results
    for other in others:
        assert other.scores == first.scores
        assert other.history == first.history
        for one, another in zip(first.members, other.members, strict=True):
            assert all(np.array_equal(one[key], another[key]) for key in one)


def test_epochs_are_kept_from_the_first_as_far_as_memory_goes():
    model = torch.nn.Linear(5, 5)  # 120 bytes
    states = EpochStates(300e-6)
    for epoch in (1, 2, 3):
        states.add(epoch, model)
    assert list(states.by_epoch) == [1, 2]
    resumed = EpochStates(300e-6)
    resumed.add(2, model)  # of a run that was resumed after the first
    assert not resumed.by_epoch


def test_scores_of_a_graph_are_scaled_by_its_training_slides(tmp_path):
    name, fit = "slidegraph", settings("slidegraph")
    slides = training_slides(name, fit, np.where(TARGETS == 1, 1.0, 0.0))
    aggregation, checkpoint = AGGREGATIONS[name], Checkpoint(tmp_path, "x")
    result = fit_aggregation(aggregation, slides, (), endpoint_of(), fit, 1, checkpoint, (2, 5))
    assert (result.epochs, len(result.history)) == ([2, 5], 5)
    scorer = fitter(name, fit, tmp_path).scorer(result.members)
    values = np.array([scorer.decisions(slide.inputs) for slide in slides])
    assert values.mean(0) == pytest.approx([0, 0], abs=1e-5)
    assert values.std(0) == pytest.approx([1, 1], rel=1e-5)
    scaled = [aggregation.recalibrated(member, 2.0, -1.0) for member in result.members]
    again = fitter(name, fit, tmp_path).scorer(scaled)
    assert again.decisions(slides[0].inputs) == pytest.approx(2 * values[0] - 1, abs=1e-5)


@pytest.mark.parametrize(
    ("aggregation", "task", "cross_fit", "source"),
    [
        ("clam", "classify", "internal", "internal validation"),
        ("clam", "fingerprint", "encoder", "inner folds with encoders of their own"),
        ("clam", "none", "encoder", "inner folds"),
        ("slidegraph", "density", "internal", "inner folds"),
        ("mean", "classify", "internal", "internal validation"),
        ("mean", "classify", "encoder", "inner folds with encoders of their own"),
        ("mean", "", "internal", "training slides"),
        ("probabilistic", "classify", "encoder", ""),
    ],
)
def test_what_judges_a_fit(aggregation, task, cross_fit, source):
    assert held_out_by(AGGREGATIONS[aggregation], task, cross_fit) == source
