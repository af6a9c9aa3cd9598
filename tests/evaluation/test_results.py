"""metrics.json: one model, written and read by one module."""

import json
import shutil

import class_evaluations
import numpy as np
import pytest

from her2pipe.config import EvaluateSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.evaluation import metrics, results, write
from her2pipe.evaluation.metrics import Cohort
from her2pipe.files import write_table


def status_slides(n=24):
    """Slides of a treatment cohort, whose every part of the metrics is defined."""
    random, levels = np.random.default_rng(2), ("0", "1+", "2+/FISH-", "2+/FISH+", "3+")
    rows = []
    for i in range(n):
        level = i % 5
        rows.append(
            {
                "slide": f"S{i}",
                "patient": f"P{i // 2}",
                "score": 0.1 * level + random.uniform(),
                "level": levels[level],
                "positive": level > 2,
                "true_level": levels[level],
                "pcr": i % 3 == 0,
                "rcb": "0" if i % 3 == 0 else "II",
                "used": True,
                "exclusion_reason": "",
            }
        )
    return rows


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """An evaluation of response with every part but those of patches, as it was before writing."""
    folder, endpoint = tmp_path_factory.mktemp("evaluated"), endpoint_of(role="treatment")
    write_table(folder / "rows.tsv", endpoint.slide_columns, status_slides())
    slides = results.as_slides(results.read_table(folder / "rows.tsv"))
    settings = EvaluateSettings(resamples=100)
    computed = metrics.compute(Cohort(endpoint, slides, settings, slides, min_n=2))
    written = results.Metrics(
        method="TL-PA",
        cohort="NAT",
        role="treatment",
        slides=len(slides),
        evaluated=len(slides),
        exclusion_reasons={"excluded": 1},
        **computed.parts,
    )
    write.write_evaluation(folder, endpoint, slides, written, computed)
    return folder, written, slides


def test_metrics_are_read_as_they_were_written(evaluated):
    folder, written, slides = evaluated
    evaluation = results.read(folder)
    assert evaluation.metrics == written
    assert evaluation.metrics.numbers() == json.loads((folder / "metrics.json").read_text())
    assert evaluation.slides == slides
    assert (evaluation.method, evaluation.cohort, evaluation.role) == ("TL-PA", "NAT", "treatment")
    assert evaluation.endpoint.name == "response"
    assert evaluation.metrics.main() == written.pcr


def test_names_in_the_file_are_those_users_know(evaluated):
    folder, *_ = evaluated
    file = json.loads((folder / "metrics.json").read_text())
    assert file["left_out"] == {"excluded": 1}
    assert set(file) >= {
        "auc",
        "bootstrap",
        "levels",
        "pcr",
        "rcb",
        "operating_point",
        "calibration",
        "subgroups",
    }
    assert set(file["levels"]) >= {"n", "groups", "spearman", "dunn_holm", "kappa"}
    assert "patch" not in file  # there were no encodings
    assert "note" not in file["pcr"]  # what has a value has no note


@pytest.mark.slow
def test_metrics_of_classes_are_read_as_they_were_written(tmp_path):
    folder = class_evaluations.evaluation(tmp_path)
    evaluation = results.read(folder)
    assert evaluation.metrics.numbers() == class_evaluations.metrics(folder)
    assert evaluation.endpoint.targets == ("1+", "2+", "3+")
    assert evaluation.metrics.main() == evaluation.metrics.auc
    slide = evaluation.slides[0]
    assert sum(slide.probabilities) == pytest.approx(1, abs=1e-5)
    assert slide.target in evaluation.endpoint.targets
    excluded = next(s for s in evaluation.slides if not s.used)
    assert not excluded.is_scored
    assert excluded.probabilities is None


def test_a_file_of_another_version_is_refused(evaluated, tmp_path):
    folder = shutil.copytree(evaluated[0], tmp_path / "evaluated")
    path = folder / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"gini": 0.5}))
    with pytest.raises(Her2Error, match="not an evaluation of this version: gini"):
        results.read(folder)


def test_a_number_that_is_not_defined():
    area = results.Area(n=3, note="needs both classes")
    assert np.isnan(area.number)
    assert area.ends == {"value": None, "low": None, "high": None}
