"""Roles of cohorts in a study of two development cohorts and one for pre-training."""

import pytest

from her2pipe.config import load, roles


@pytest.fixture
def study():
    cohort = {"sheet": "x.tsv", "kind": "images"}
    return load.check(
        {
            "cohorts": {
                "A": cohort | {"role": "development"},
                "B": cohort | {"role": "development"},
                "C": cohort | {"role": "external"},
                "P": cohort | {"role": "pretraining"},
            },
            "pretrain": {"architecture": "resnet10t"},
            "pretrainings": {"p": {"images": "P"}},
            "train": {"architecture": "resnet10t"},
            "encoders": {"a": {}, "b": {"develop": "B", "pretrain": "p"}},
            "methods": {"M": {"encoder": "a"}, "N": {"encoder": "b", "cohorts": ["C", "B"]}},
        },
        "study.yaml",
    )


def test_an_encoder_is_trained_on_its_own_cohort_or_the_first(study):
    assert [roles.development(study, name) for name in "ab"] == ["A", "B"]
    assert [roles.pretraining(study, name) for name in "ab"] == ["", "P"]


def test_a_method_scores_its_own_cohorts_in_the_order_of_the_study_or_all(study):
    assert [roles.scored(study, name) for name in "MN"] == [["A", "B", "C"], ["B", "C"]]


def test_the_development_cohort_of_another_encoder_is_external(study):
    assert [roles.role(study, "M", name) for name in "ABC"] == [
        *("development", "external", "external"),
    ]
    assert roles.role(study, "N", "B") == "development"


def test_what_is_tested_is_not_trained_on(study):
    assert roles.tested_cohorts(study) == {"A": {"B", "C"}, "B": {"C"}, "P": {"B", "C"}}
