"""Numbers and survival: what a sheet says, what a dry run refuses, and how patients are split."""

import numpy as np
import pytest

from her2pipe.cohorts.sheet import load
from her2pipe.cohorts.split import assign_sides, deal_folds
from her2pipe.config import LabelSettings, SplitSettings
from her2pipe.config.cross_references import find_mistakes
from her2pipe.endpoints.base import NO_TARGET
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error

RCB = endpoint_of(LabelSettings(endpoint="number", column="rcb_index", unit="points"))
DEATH = endpoint_of(LabelSettings(endpoint="survival", time="months", event="died"))


def rows_of(tmp_path, columns, lines, patients=None):
    """Load a sheet of one slide a line, each of a patient of its own."""
    text = "\t".join(("slide", "path", "patient", *columns)) + "\n"
    for i, cells in enumerate(lines):
        patient = patients[i] if patients else f"P{i}"
        text += "\t".join((f"S{i}", f"x{i}", patient, *cells)) + "\n"
    (tmp_path / "sheet.tsv").write_text(text)
    return load(tmp_path / "sheet.tsv", check_files=False)


def mistakes_of(endpoint, rows):
    return [(each.what, each.where) for each in endpoint.sheet_mistakes(rows, "A.tsv")]


def test_a_number_is_read_or_its_lack_explained(tmp_path):
    rows = rows_of(tmp_path, ["rcb_index"], [["2.5"], ["0"], ["1,75"], ["NA"], ["high"]])
    assert [RCB.response(row) for row in rows] == [(2.5,), (0.0,), (1.75,), (), ()]
    assert [RCB.target(row).label for row in rows] == ["rcb_index"] * 3 + [None] * 2
    assert RCB.exclusion_reason(rows[3]) == "no number: no rcb_index"
    assert mistakes_of(RCB, rows) == [
        ("rcb_index of S4 is 'high', which is no number", "A.tsv line 6, column rcb_index")
    ]


def test_follow_up_is_read_or_its_lack_explained(tmp_path):
    lines = [["12.5", "1"], ["0", "0"], ["", "1"], ["-3", "1"], ["5", "dead"], ["7", "NA"]]
    rows = rows_of(tmp_path, ["months", "died"], lines)
    assert [DEATH.response(row) for row in rows] == [(12.5, 1.0), (0.0, 0.0), (), (), (), ()]
    assert [DEATH.target(row).label for row in rows[:2]] == ["event", "censored"]
    assert DEATH.exclusion_reason(rows[2]) == "no follow-up: no months"
    assert DEATH.outcomes(rows[0]) == {"time": 12.5, "event": True}
    assert mistakes_of(DEATH, rows) == [
        ("months of S3 is -3: no time that could have passed", "A.tsv line 5, column months"),
        ("died of S4 is 'dead'", "A.tsv line 6, column died"),
    ]


def test_a_patient_has_one_follow_up(tmp_path):
    lines = [["10", "1"], ["10", "1"], ["10", "0"]]
    rows = rows_of(tmp_path, ["months", "died"], lines, patients=["A", "A", "A"])
    assert mistakes_of(DEATH, rows) == [
        ("patient A has another follow-up on line 2", "A.tsv line 4, column died")
    ]


@pytest.mark.parametrize(
    ("endpoint", "columns", "lines", "message"),
    [
        (RCB, ["rcb_index"], [["3"], ["3.0"], [""]], "every slide has the rcb_index 3"),
        (RCB, ["other"], [["1"], ["2"]], "no slide has a rcb_index"),
        (DEATH, ["months", "died"], [["3", "0"], ["", "1"]], "no slide has an event"),
    ],
)
def test_a_development_cohort_without_anything_to_fit_is_refused(
    tmp_path, endpoint, columns, lines, message
):
    with pytest.raises(Her2Error, match=message):
        endpoint.validate_cohort(rows_of(tmp_path, columns, lines), "A.tsv")


def test_numbers_are_split_in_proportion_of_quartiles(tmp_path):
    """Of 40 patients, numbered, each quarter has a quarter of the validating ones."""
    order = np.random.default_rng(0).permutation(40)
    rows = rows_of(tmp_path, ["rcb_index"], [[str(v)] for v in order] + [[""]])
    stratum = RCB.strata(rows)
    assert [stratum(row) for row in rows] == [int(v) // 10 for v in order] + [NO_TARGET]
    sides = assign_sides(rows, SplitSettings(validation_fraction=0.2), stratum)
    kept = [order[i] // 10 for i in range(40) if sides[f"S{i}"] == "validation"]
    assert sorted(kept) == [0, 0, 1, 1, 2, 2, 3, 3]
    folds = deal_folds({row.patient: stratum(row) for row in rows[:40]}, 5, 1)
    for number in range(5):
        assert sorted(int(order[int(p[1:])]) // 10 for p in folds if folds[p] == number) == [
            *(0, 0, 1, 1, 2, 2, 3, 3)
        ]


def test_events_are_split_in_proportion(tmp_path):
    lines = [[str(i + 1), "1" if i % 4 == 0 else "0"] for i in range(40)]
    rows = rows_of(tmp_path, ["months", "died"], lines)
    sides = assign_sides(rows, SplitSettings(validation_fraction=0.2), DEATH.strata(rows))
    kept = [DEATH.target(row).label for row in rows if sides[row.slide] == "validation"]
    assert sorted(kept) == ["censored"] * 6 + ["event"] * 2


def test_a_score_is_the_output_itself():
    assert RCB.predict(np.array([2.25])).score == 2.25
    assert RCB.slide_caption({"score": "2.251", "measured": "3"}) == (
        "Predicted rcb_index 2.25 points; sheet: 3 points."
    )
    caption = DEATH.slide_caption({"score": "-0.5", "time": "12.0", "event": "True"})
    assert caption == "Predicted log hazard ratio -0.50; sheet: event at 12."


def test_what_makes_no_sense_beside_such_an_endpoint_is_found():
    study = {
        "labels": {"endpoint": "survival", "time": "months", "classes": ["a", "b"]},
        "cohorts": {
            "A": {"sheet": "A.tsv", "role": "development"},
            "N": {"sheet": "N.tsv", "role": "treatment"},
        },
        "encoders": {"e": {"architecture": "x"}, "f": {"task": "none"}},
        "methods": {"m": {"encoder": "f", "aggregate": "probabilistic"}},
    }
    found = {".".join(each.key): (each.what, each.fix) for each in find_mistakes(study)}
    assert found["labels.classes"] == (
        "labels.classes is given, but the endpoint is survival",
        "set labels.endpoint to class, or remove it",
    )
    assert found["encoders.e.task"][0] == (
        "encoder e is to classify, and survival has no classes of patches"
    )
    assert found["methods.m.aggregate"][0].startswith("method m ")
    assert "cohorts.N.role" in found
    with pytest.raises(ValueError, match="column must name a column"):
        LabelSettings(endpoint="number")


def test_a_dry_run_lists_every_mistake_of_the_sheets(tmp_path):
    from her2pipe.workflow.study import Study

    rows_of(tmp_path, ["months", "died"], [["5", "2"], ["-1", "0"], ["7", "1"]])
    study = {
        "labels": {"endpoint": "survival", "time": "months", "event": "died"},
        "cohorts": {"A": {"sheet": str(tmp_path / "sheet.tsv"), "role": "development"}},
        "encoders": {"net": {"architecture": "test_resnet", "task": "none", "input_px": 64}},
        "methods": {"M": {"encoder": "net", "aggregate": "clam"}},
    }
    with pytest.raises(Her2Error) as caught:
        Study.load(study, str(tmp_path / "study.yaml"), check_files=False)
    text = str(caught.value)
    assert "died of S0 is '2'" in text
    assert "months of S1 is -1" in text
