"""Methods that a study names as encoders times aggregations."""

from pathlib import Path

import pytest

from her2pipe.config import load
from her2pipe.errors import Her2Error

FROZEN = {"task": "none", "architecture": "resnet18"}
STUDY = {
    "cohorts": {"A": {"sheet": "a.tsv", "role": "development"}},
    "encoders": {"one": FROZEN, "two": FROZEN},
    "grid": {"aggregates": ["linear_probe", "clam"]},
}


def refused(change):
    with pytest.raises(Her2Error) as caught:
        load.check(STUDY | change, "study.yaml")
    return str(caught.value)


def test_every_encoder_has_every_aggregation():
    study = load.check(STUDY | {"fit": {"folds": 2, "c_values": [1]}}, "study.yaml")
    assert [(name, m.encoder, m.aggregate) for name, m in study.methods.items()] == [
        ("one+linear_probe", "one", "linear_probe"),
        ("one+clam", "one", "clam"),
        ("two+linear_probe", "two", "linear_probe"),
        ("two+clam", "two", "clam"),
    ]
    assert study.methods["one+linear_probe"].fit.c_values == [1]
    assert {method.fit.folds for method in study.methods.values()} == {2}


def test_the_grid_comes_after_methods_that_are_written_out():
    more = {
        "methods": {"mine": {"encoder": "two", "aggregate": "mlp"}},
        "grid": {"encoders": ["two"], "aggregates": ["clam"]},
        "compare": {"reference": "two+clam"},
    }
    assert list(load.check(STUDY | more, "study.yaml").methods) == ["mine", "two+clam"]


def test_mistakes_of_a_grid_are_of_the_grid():
    unknown = refused({"grid": {"encoders": ["three"], "aggregates": ["clam"]}})
    assert "unknown encoder: three" in unknown
    assert "key grid.encoders" in unknown
    assert "did you mean clam? use one of: abmil" in refused({"grid": {"aggregates": ["clamp"]}})
    assert "names no aggregation" in refused({"grid": {"encoders": ["one"]}})
    of_classes = refused({"grid": {"encoders": ["one"], "aggregates": ["mean"]}})
    assert "method one+mean averages probabilities of classes" in of_classes
    assert "key grid.aggregates" in of_classes
    twice = refused({"methods": {"one+clam": {"encoder": "two", "aggregate": "clam"}}})
    assert "the grid makes the method one+clam, which methods has, too" in twice
    assert "unknown key encoder" in refused({"grid": {"encoder": ["one"], "aggregates": ["clam"]}})


def test_the_study_of_encoders_is_a_grid_that_names_its_licences():
    from her2pipe.workflow.preflight import _licences
    from her2pipe.workflow.study import Study

    settings = load.load(Path(__file__).parents[2] / "studies" / "encoders.yaml")
    assert len(settings.methods) == 2 * len(settings.encoders) == 20
    assert {encoder.task for encoder in settings.encoders.values()} == {"none"}
    (note,) = _licences(Study(settings, "encoders.yaml", {}, {}, {}))
    assert "uni (CC-BY-NC-ND-4.0), " in note
    assert "resnet50" not in note
    assert "h-optimus-0" not in note
