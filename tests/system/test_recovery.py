"""A small version of `bench/recovery.py`: what is planted is found, what is not is not."""

import importlib.util
from pathlib import Path

import pytest

from her2pipe.config import SplitSettings

BENCH = Path(__file__).parents[2] / "bench" / "recovery.py"


@pytest.fixture(scope="module")
def recovery():
    """Import the bench, which is no package."""
    import sys

    spec = importlib.util.spec_from_file_location("recovery", BENCH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["recovery"] = module  # its dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["recovery"]


def test_closed_forms(recovery):
    """Without gain nothing is known; a strong signal approaches the latent expression's own AUC."""
    assert recovery.true_auc(0.0) == 0.5
    assert 0.5 < recovery.true_auc(0.15) < recovery.true_auc(0.5) < recovery.true_auc(50.0) < 0.9
    assert recovery.site_auc() == pytest.approx(0.7)


@pytest.mark.slow
def test_site_leaks_through_folds_and_not_between_sites(recovery, monkeypatch):
    """Status depends on the site and nothing else: folds call sites, a site left out is chance."""
    monkeypatch.setitem(recovery.SCHEMES, "folds", SplitSettings(scheme="folds", folds=2))
    scenario = next(each for each in recovery.SCENARIOS if each.name == "site alone")
    results = {
        scheme: result
        for *_, scheme, result in recovery.study(scenario, seed=2, slides=100, patches=2)
    }
    assert results["folds"].auc().low > 0.5  # truth 0.7
    assert abs(results["site"].within() - 0.5) < 0.15  # truth 0.5, standard error 0.08
