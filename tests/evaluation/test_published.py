"""What bench/published.md says follows from the paper's own numbers."""

import math
from pathlib import Path

import pytest

from her2pipe.config import CompareSettings, TrainSettings
from her2pipe.evaluation import method_table, table2
from her2pipe.evaluation.results import Area, Evaluation, Metrics


def spearman_p(rho, n):
    from scipy.special import stdtr

    return 2 * stdtr(n - 2, -rho * math.sqrt((n - 2) / (1 - rho**2)))


def test_cohorts_add_up():
    assert 175 + 191 + 74 + 76 + 62 == 578


def test_table_1_fractions():
    """Patches used of those there are, by crop size and kind."""
    used = {
        "1024": {
            "HER2-": (63_464, 90_664),
            "HER2+": (68_084, 97_264),
            "Non-tumour": (69_744, 142_336),
        },
        "2048": {
            "HER2-": (15_441, 15_441),
            "HER2+": (16_149, 16_149),
            "Non-tumour": (15_313, 21_877),
        },
    }
    fractions = TrainSettings().fractions
    for view, kinds in used.items():
        for kind, (some, every) in kinds.items():
            assert fractions[view][kind] == pytest.approx(some / every, abs=0.001)


@pytest.mark.parametrize("method", ["TL-PA", "TL-SlideGraph+", "TL-CLAM", "ResNet50-CLAM"])
def test_mean_and_population_sd_of_the_external_cohorts(method):
    """Table 2 gives, of each method's published AUCs of B, C and D, the mean and SD published."""
    aucs = table2.published_aucs()[method]
    evaluations = [
        Evaluation(
            Metrics(method=method, cohort=name, role="external", auc=area(aucs[name].auc)),
            [],
            [],
            Path(),
        )
        for name in "BCD"
    ]
    (row,) = table2.table2(method_table.Study(evaluations, CompareSettings())).rows
    for name in ("external_mean", "external_sd"):
        assert row[name] == pytest.approx(row[f"published_{name}"], abs=0.005)
    if method == "TL-PA":
        assert round(row["external_mean"], 3) == 0.763
        assert round(row["external_sd"], 3) == 0.009


def test_a_stand_in_is_labelled():
    evaluations = [
        Evaluation(Metrics(method=name, cohort="B", role="external", auc=area(0.6)), [], [], Path())
        for name in ("TL-PA", "Valieris")
    ]
    stand_ins = {"Valieris": "ResNet50 in place of another"}
    study = method_table.Study(evaluations, CompareSettings(), stand_ins=stand_ins)
    labels = {row["method"]: row["stand_in"] for row in table2.table2(study).rows}
    assert labels == {"TL-PA": "", "Valieris": "ResNet50 in place of another"}


def area(value):
    return Area(value=value, variance=0)


def test_all_eight_methods_have_their_published_internal_auc():
    expected = {
        "TL-PA": 0.75,
        "TL-SlideGraph+": 0.68,
        "TL-CLAM": 0.57,
        "ResNet50-CLAM": 0.74,
        "Farahmand": 0.81,
        "Rawat": 0.71,
        "DAB-SlideGraph+": 0.75,
        "Valieris": 0.61,
    }
    internal = {name: aucs["A"] for name, aucs in table2.published_aucs().items()}
    assert {name: auc.auc for name, auc in internal.items()} == expected
    own = {name for name, auc in internal.items() if "its own paper" in auc.note}
    assert own == {"Farahmand", "Rawat", "DAB-SlideGraph+", "Valieris"}
    assert [internal[name].sd for name in ("DAB-SlideGraph+", "Valieris")] == [0.02, 0.01]


def test_which_n_the_printed_p_values_belong_to():
    assert round(spearman_p(0.37, 74), 3) == round(spearman_p(0.37, 76), 3) == 0.001
    assert spearman_p(0.37, 150) < 1e-5
    assert spearman_p(0.45, 62) < 0.0003
    assert spearman_p(0.45, 55) == pytest.approx(0.0006, abs=0.00005)
