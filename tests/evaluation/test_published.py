"""What bench/published.md says follows from the paper's own numbers."""

import math
from pathlib import Path

import pytest

from her2pipe.config import CompareSettings, TrainSettings
from her2pipe.evaluation import method_table
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


def test_mean_and_population_sd_of_the_external_cohorts():
    external = {name: method_table.PUBLISHED_AUC["TL-PA"][name] for name in "BCD"}
    table = [
        Evaluation(
            Metrics(method="TL-PA", cohort=name, role="external", auc=Area(value=auc, variance=0)),
            [],
            [],
            Path(),
        )
        for name, auc in external.items()
    ]
    (row,) = method_table.table2(method_table.Study(table, CompareSettings())).rows
    assert round(row["external_mean"], 3) == 0.763
    assert round(row["external_sd"], 3) == 0.009
    for name in ("external_mean", "external_sd"):
        assert row[name] == pytest.approx(row[f"published_{name}"], abs=0.005)


def test_which_n_the_printed_p_values_belong_to():
    assert round(spearman_p(0.37, 74), 3) == round(spearman_p(0.37, 76), 3) == 0.001
    assert spearman_p(0.37, 150) < 1e-5
    assert spearman_p(0.45, 62) < 0.0003
    assert spearman_p(0.45, 55) == pytest.approx(0.0006, abs=0.00005)
