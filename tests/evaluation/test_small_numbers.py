"""What rests on too few slides keeps its value, and has a note in place of interval and P."""

import numpy as np

from her2pipe.config import EvaluateSettings
from her2pipe.endpoints.her2_status import Her2Status
from her2pipe.evaluation import metrics, results
from her2pipe.evaluation.metrics import Cohort
from her2pipe.evaluation.results import Area, Correlation, Groups, PatchArea, Reliability, Slide
from her2pipe.evaluation.small_numbers import without_intervals

ENDS = {"value": 0.8, "low": 0.6, "high": 1.0, "interval": "DeLong"}


def test_the_smaller_class_and_the_patients_decide():
    area = Area(n=20, positives=4, patients=20, logit_low=0.5, logit_high=0.9, **ENDS)
    few = without_intervals(area, 5)
    assert (few.value, few.low, few.logit_high, few.interval) == (0.8, None, None, None)
    assert few.interval_note == "no interval: fewer than 5 slides: 4"
    assert "low" not in few.model_dump(exclude_unset=True)
    assert without_intervals(area, 4) == area
    patches = PatchArea(n=900, positives=450, patients=3, accuracy={"n": 900, **ENDS}, **ENDS)
    few = without_intervals(patches, 5)
    assert few.low is few.accuracy.low is None


def test_a_rank_correlation_of_few_has_no_p():
    rho = Correlation(rho=0.9, p=0.04, low=0.1, high=1.0)
    few = without_intervals(Groups(n=4, groups={"0": 2, "3+": 2}, spearman=rho), 5)
    assert (few.spearman.rho, few.spearman.p, few.spearman.low) == (0.9, None, None)


def test_bins_of_few_slides_have_no_interval():
    bins = Reliability(predicted=[0.1, 0.9], observed=[0, 1], low=[0, 0.7], high=[0.5, 1], n=[2, 9])
    few = without_intervals(bins, 5)
    assert (few.low, few.high, few.n) == ([None, 0.7], [None, 1], [2, 9])


def slides(n, positives, levels=()):
    random = np.random.default_rng(n)
    return [
        Slide(
            slide=f"S{i}",
            patient=f"P{i}",
            score=round(random.uniform(), 3),
            positive=i < positives,
            true_level=levels[i % len(levels)] if levels else None,
            used=True,
        )
        for i in range(n)
    ]


def numbers_of(part):
    """Every part of some metrics, however deep."""
    if isinstance(part, results.Part):
        yield part
        part = [getattr(part, name) for name in part.model_fields_set]
    elif isinstance(part, dict):
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from numbers_of(inner)


def test_of_four_slides_nothing_has_an_interval_or_a_p():
    """No number of a whole evaluation, and no P of a test."""
    cohort = Cohort(
        Her2Status(), slides(4, 2, ("0", "3+")), EvaluateSettings(resamples=100), slides(4, 2)
    )
    parts = list(numbers_of(metrics.compute(cohort).parts))
    assert len(parts) >= 10
    for part in parts:
        for name in ("low", "logit_low", "p", "rank_sum_p", "dunn_unadjusted"):
            value = getattr(part, name, None)
            assert value is None or set(value) == {None}, part


def test_one_class_alone_has_no_f1_and_no_ratio():
    """The note says why, and every n counts what the number is made of."""
    every = Cohort(Her2Status(), slides(13, 13), EvaluateSettings(resamples=100), is_fitted=True)
    point = metrics.compute(every).parts["operating_point"]
    note = "needs both classes: all 13 slides are positive"
    for name in ("f1", "balanced_accuracy", "ppv", "lr_positive"):
        assert getattr(point, name).note == note
    assert (point.sensitivity.n, point.specificity.n) == (13, 0)
