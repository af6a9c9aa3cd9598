"""Patients are the unit: copies of slides change nothing, unless they are of new patients."""

import numpy as np
import pytest

from her2pipe import stats
from her2pipe.config import LEVELS, CompareSettings, EvaluateSettings
from her2pipe.endpoints.her2_status import Her2Status
from her2pipe.evaluation import binary, method_table, pairwise
from her2pipe.evaluation.metrics import Cohort
from her2pipe.evaluation.results import Evaluation, Metrics, Slide

COPIES = 4
PATIENTS = 48


def slides(seed, copies=1, new_patients=False, method=0):
    """Slides of a cohort with levels, scores and calls, each entered so many times."""
    random = np.random.default_rng(seed)
    levels = random.integers(5, size=PATIENTS)
    noise = np.random.default_rng([seed, method]).normal(0, 0.25, PATIENTS)
    scores = np.clip(0.1 + 0.1 * levels + noise, 0, 0.67).round(3)
    called = np.searchsorted([0.15, 0.25, 0.35, 0.45], scores)
    return [
        Slide(
            slide=f"S{i}.{k}",
            patient=f"P{i}.{k}" if new_patients else f"P{i}",
            score=scores[i],
            level=LEVELS[called[i]],
            target=("HER2-", "HER2+")[int(levels[i] >= 3)],
            positive=levels[i] >= 3,
            true_level=LEVELS[levels[i]],
            subgroups={"scanner": "AT2"},
            used=True,
        )
        for i in range(PATIENTS)
        for k in range(copies)
    ]


def numbers(copies, new_patients=False):
    """Intervals, as (low, high), and P values, by name, of everything the cohort gets."""
    ways = copies, new_patients
    settings = EvaluateSettings(resamples=300, subgroups=["scanner"])
    cohorts = [Cohort(Her2Status(), slides(seed, *ways), settings) for seed in (1, 2, 3)]
    parts = {}
    for analysis in (
        binary.status_area,
        binary.resampled_area,
        binary.level_groups,
        binary.operating_point,
        binary.calibration,
        binary.auc_by_subgroup,
    ):
        parts |= analysis(cohorts[0]).parts
    estimates = {
        "AUC": parts["auc"],
        "AUC, resampled": parts["bootstrap"],
        "subgroup": parts["subgroups"][0],
        "accuracy of levels": parts["levels"].accuracy,
        "kappa": parts["levels"].kappa,
        "rho": parts["levels"].spearman,
        "accuracy": parts["operating_point"].accuracy,
        "sensitivity": parts["operating_point"].sensitivity,
        "specificity": parts["operating_point"].specificity,
    }
    intervals = {name: (e.low, e.high) for name, e in estimates.items()}
    intervals["AUC, logit"] = parts["auc"].logit_low, parts["auc"].logit_high
    shown = parts["calibration"].as_it_is
    intervals["calibration, third bin"] = shown.low[2], shown.high[2]
    mean = method_table.external_mean([binary.area(cohort) for cohort in cohorts], 0.95)
    intervals["external mean"] = mean["external_low"], mean["external_high"]
    evaluations = [
        Evaluation(Metrics(method=f"m{m}", cohort="B"), slides(1, *ways, method=m), [], None)
        for m in (0, 1)
    ]
    (pair,) = pairwise.delong(evaluations, "m0")
    intervals["difference"] = pair.low, pair.high
    right = [np.array([s.true_level == s.level for s in e.slides]) for e in evaluations]
    patients = [s.patient for s in evaluations[0].slides]
    p = {
        "difference": pair.p,
        "rho": parts["levels"].spearman.p,
        "McNemar": stats.mcnemar(*right, patients).p,
        "McNemar, mid-P": stats.mcnemar(*right, patients).mid_p,
        "Dunn": parts["levels"].dunn_unadjusted.p[1][3],
    }
    return intervals, p


@pytest.fixture(scope="module")
def once():
    return numbers(1)


def test_copies_under_their_patient_change_nothing(once):
    """At most 2 % of an interval's width, or of a P."""
    intervals, p = numbers(COPIES)
    changed = {
        name: (low, high, *intervals[name])
        for name, (low, high) in once[0].items()
        if np.abs(np.subtract(intervals[name], (low, high))).max() > 0.02 * (high - low)
    }
    assert changed == {}
    assert p == pytest.approx(once[1], rel=0.02)


def test_copies_as_new_patients_narrow_every_interval(once):
    """By about a half; P of what is there fall."""
    intervals, p = numbers(COPIES, new_patients=True)
    narrowed = {
        name: (ends[1] - ends[0]) / (once[0][name][1] - once[0][name][0])
        for name, ends in intervals.items()
    }
    assert {name for name, ratio in narrowed.items() if not 0.4 < ratio < 0.65} == set()
    assert {name for name in p if once[1][name] < 0.5 and not p[name] < once[1][name]} == set()


def test_two_and_two_slides_that_a_score_separates():
    """Never 1.000 (1.000 to 1.000): Clopper and Pearson's interval of 2 of 2, and why."""
    few = [
        Slide(slide=f"S{i}", patient=f"P{i}", score=i / 10, positive=i > 1, used=True)
        for i in range(4)
    ]
    cohort = Cohort(Her2Status(), few, EvaluateSettings(), min_n=1)
    area = binary.area(cohort)
    assert (area.value, area.high, area.interval) == (1, 1, "exact (Clopper-Pearson)")
    assert area.low == area.logit_low == pytest.approx(0.025**0.5)
    assert area.interval_note == (
        "the scores separate the classes, which has no estimated variance: the interval is exact, "
        "of 2 pairs of slides"
    )
    resampled = binary.resampled_area(cohort).parts["bootstrap"]
    assert (resampled.low, resampled.high) == (area.low, 1)
    mean = method_table.external_mean([area, area], 0.95)
    assert mean["external_low"] == pytest.approx(1 - (1 - area.low) / 2**0.5)
    assert mean["external_interval"] == "exact (Clopper-Pearson)"
    same = [slide.model_copy(update={"score": 0.3}) for slide in few]
    area = binary.area(Cohort(Her2Status(), same, EvaluateSettings(), min_n=1))
    assert (area.value, area.low, area.high) == pytest.approx(
        (0.5, 0.025**0.5 / 2, 1 - 0.025**0.5 / 2)
    )
    assert area.interval_note.startswith("all scores are equal")


def test_ranks_are_tested_by_patient():
    """Dunn's and the rank-sum test are of patients' means; a patient counts in its last group."""
    doubled = [
        slide.model_copy(update={"score": slide.score + 0.01 * k, "pcr": slide.positive})
        for slide in slides(5)
        for k in (-1, 1)
    ]
    doubled[0] = doubled[0].model_copy(update={"true_level": "3+"})
    cohort = Cohort(Her2Status(), doubled, EvaluateSettings(resamples=100))
    levels = binary.level_groups(cohort).parts["levels"]
    groups = {name: [] for name in LEVELS}
    for i, slide in enumerate(slides(5)):
        groups["3+" if i == 0 else slide.true_level].append(slide.score)
    assert levels.tested == "patients' means"
    assert levels.tested_groups == {name: len(scores) for name, scores in groups.items()}
    assert np.array(levels.dunn_holm.p) == pytest.approx(stats.dunn(groups, "holm").to_numpy())
    response = binary.response(cohort).parts["pcr"]
    by_outcome = [[s.score for s in slides(5) if s.positive is side] for side in (False, True)]
    assert response.rank_sum_p == pytest.approx(stats.mann_whitney(*by_outcome).p)
    assert response.tested == "patients' means"


def test_pairs_and_compare_settings_name_their_tests():
    """Columns of compare say what was used, with one slide per patient and with several."""
    for copies, name in ((1, "DeLong"), (2, "Obuchowski, by patient")):
        evaluations = [
            Evaluation(Metrics(method=f"m{m}", cohort="B"), slides(1, copies, method=m), [], None)
            for m in (0, 1)
        ]
        (pair,) = pairwise.delong(evaluations, "m0", CompareSettings().confidence)
        assert (pair.interval, pair.n, pair.patients) == (name, 48 * copies, 48)
