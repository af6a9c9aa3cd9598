"""The flow of slides and the table of cohorts, worked out by hand."""

from collections import Counter

import pytest

from her2pipe.cohorts.sheet import Row
from her2pipe.config import LabelSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.reporting import flowchart
from her2pipe.reporting.flowchart import Flow


def ledger(n):
    return [{"slide": f"S{i}", "patient": "P", "status": "scored", "reason": ""} for i in range(n)]


def slide(name, exclusion_reason="", positive="", pcr=""):
    return {"slide": name, "exclusion_reason": exclusion_reason, "positive": positive, "pcr": pcr}


def test_flow_adds_up():
    """Each slide is in one place: excluded, training, label unknown, evaluated."""
    rows = ledger(5)
    rows[0] |= {"status": "excluded", "reason": "unreadable: cut short"}
    slides = [
        slide("S0", "excluded: unreadable", "True"),
        slide("S1", "training slide", "True"),
        slide("S2", "no binary status: IHC 2+ without ISH"),
        slide("S3", "", "True", "False"),
        slide("S4", "", "False"),
    ]
    flow = flowchart.flow_counts(Flow("A", role="development"), rows, slides, endpoint_of())
    assert flow.excluded == Counter({"unreadable": 1})
    assert flow.unknown == Counter({"IHC 2+ without ISH": 1})
    assert list(flow.evaluated.items()) == [("HER2-positive", 1), ("HER2-negative", 1)]
    counts = flow.counts()
    assert [counts[k] for k in ("slides", "excluded", "training", "unknown", "evaluated")] == [
        5,
        1,
        1,
        1,
        2,
    ]
    response = endpoint_of(role="treatment")
    flow = flowchart.flow_counts(Flow("A", role="treatment"), rows, slides, response)
    assert list(flow.evaluated.items()) == [("non-pCR", 1), ("pCR", 0)]
    assert flow.unknown == Counter({"pCR not known": 2})
    assert flow.role == "neoadjuvant treatment"
    with pytest.raises(Her2Error, match="different slides"):
        flowchart.flow_counts(Flow("A"), rows, slides[1:], endpoint_of())


def test_flow_by_class():
    slides = [
        {"slide": "S0", "exclusion_reason": "", "true_class": "3+"},
        {"slide": "S1", "exclusion_reason": "no class: ihc is 0: not a class", "true_class": ""},
        {"slide": "S2", "exclusion_reason": "training slide", "true_class": "1+"},
    ]
    endpoint = endpoint_of(LabelSettings(endpoint="class", classes=["1+", "3+"]), "treatment")
    flow = flowchart.flow_counts(Flow("A"), ledger(3), slides, endpoint)
    assert list(flow.evaluated.items()) == [("1+", 0), ("3+", 1)]
    assert flow.unknown == Counter({"ihc is 0: not a class": 1})
    assert flow.training.total() == 1


def test_medians_and_shares_by_hand():
    rows = [
        Row(str(i), "x", f"P{i}", 1, positive=p) for i, p in enumerate((True, False, None, True))
    ]
    scans = [
        {"mpp": m, "objective": o, "width_px0": 1000, "height_px0": h, "patches": n}
        for m, o, h, n in (
            (0.25, 40.0, 1000, 10),
            (0.5, 20.0, 3000, 20),
            (float("nan"), None, 2000, 60),
        )
    ]
    table = flowchart.describe_cohorts({"A": rows}, {"A": scans}, endpoint_of())
    lines = {(row["group"], row["label"]): row["A"] for row in table}
    assert lines["HER2 status", "positive"] == "2 (67 %)"
    assert lines["HER2 status", "not known"] == "1"
    assert lines["Magnification", "40x"] == "1"
    assert lines["Magnification", "not in the header"] == "1"
    assert lines["Scan", "slide size, megapixels, median (range)"] == "2.0 (1.0 to 3.0)"
    assert lines["Scan", "resolution, µm/px, median (range)"] == "0.375 (0.250 to 0.500)"
    assert not any(group == "ER" for group, _ in lines)  # nobody knows it: no rows of dashes


def test_images_are_named_as_such():
    slides, images = {"kind": "slides"}, {"kind": "images"}
    assert flowchart.image_note({"A": slides, "B": {}}) == ""
    note = flowchart.image_note({"A": slides, "B": images, "C": images})
    assert "in cohort B, C is one image" in note
    assert "in this study is one image" in flowchart.image_note({"B": images})


def test_patients_in_several_cohorts_are_stated():
    ledger = [
        {"patient": patient, "cohort": cohort}
        for cohort, patients in (("C", "PQQ"), ("D", "QR"), ("NAT", "S"))
        for patient in patients
    ]
    (block,) = flowchart.shared_patients(ledger)
    assert "cohorts C and D: 1 patient." in block.text
    assert flowchart.shared_patients(ledger[:3]) == []


def test_the_flow_counts_patients_at_every_stage():
    """Two slides of one patient: one trains, the other is evaluated; the figure says both."""
    rows = ledger(2)
    slides = [slide("S0", "training slide", "True"), slide("S1", "", "True")]
    flow = flowchart.flow_counts(Flow("A", role="development"), rows, slides, endpoint_of())
    flow.methods = {"m": 1, "n": 1}
    texts = [" ".join(box.lines) for box in flowchart._boxes(flow)]
    assert texts == [
        "Cohort A development Assessed: 2 slides, 1 patient",
        "Scored: 2 slides, 1 patient",
        "Split: not evaluated: 1 slide, 1 patient 1 training slide",
        "Evaluated for HER2 status: 1 slide, 1 patient 1 HER2-positive 0 HER2-negative",
        "Analysed each of 2 methods: 1 slide",
    ]
