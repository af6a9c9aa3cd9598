"""The page of a study of classes: what it tells, and of which slides."""

import copy
import re

import class_study as classes
import pytest
from page_reader import Reader

from her2pipe.cli import main
from her2pipe.files import read_table
from her2pipe.reporting import findings, flowchart, gradcam, html, kinds, slide_viewer


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    return folder, classes.study(folder)


@pytest.fixture(scope="module")
def text(made):
    folder, words = made
    assert main(["report", *map(str, [folder / "index.html", *words, "--zoom-px", "64"])]) == 0
    return (folder / "index.html").read_text()


@pytest.fixture(scope="module")
def page_of(text):
    return Reader(text)


def test_it_has_the_chapters_of_classes(page_of, text):
    heads = [head for level, head in page_of.headings if level == 2]
    assert heads == [
        "Summary", "Cohorts and slides", "Methods compared", "Results by cohort", "Heat maps",
        "Grad-CAM", "Training", "Throughput", "Settings, versions, citations",
    ]  # fmt: skip
    assert "p(HER2+)" not in text
    assert "HER2-positive" not in text
    for kind in ("Figure", "Table"):
        found = [int(m[1]) for c in page_of.captions if (m := re.match(rf"{kind} (\d+)\.", c))]
        assert found == list(range(1, len(found) + 1))


def test_the_summary_tells_the_best_on_internal_slides(made, page_of):
    head, *rows = page_of.table("Errors to a neighbour")
    areas = {(r["method"], r["cohort"]): r for r in read_table(made[0] / "compare" / "classes.tsv")}
    assert float(areas["Good", "A"]["macro_auc"]) > float(areas["Poor", "A"]["macro_auc"])
    for row in rows:
        found, own = dict(zip(head, row, strict=True)), areas["Good", row[0]]
        numbers = [float(own[f"macro_auc{end}"]) for end in ("", "_low", "_high")]
        assert found["Macro-AUC"] == "{:.3f} ({:.3f} to {:.3f})".format(*numbers)
        assert found["n, slides"] == own["n"]
    text = " ".join("".join(page_of.text).split())
    assert "Of 2 methods, Good has the highest macro-AUC on the internal validation slides" in text
    assert "Each of the 2 encoders learnt from 270 patches" in text


def evaluated(method, cohort, role, value):
    return {"method": method, "cohort": cohort, "role": role, "auc": {"value": value, "n": 9}}


def test_the_best_is_not_chosen_on_the_slides_it_is_told_of():
    found = [
        evaluated("a", "A", "development", 0.9), evaluated("a", "B", "external", 0.6),
        evaluated("b", "A", "development", 0.8), evaluated("b", "B", "external", 0.95),
    ]  # fmt: skip
    told = kinds.summary(found, "95 %")
    assert told["best"] == "a"
    assert "On cohort B the highest is that of b, 0.950" in " ".join(told["told"])
    found[0]["auc"] = found[2]["auc"] = {"note": "one class"}
    assert kinds.summary(found, "95 %")["best"] == "b"  # nothing else is known


def test_networks_pairs_and_areas_are_told(made, page_of):
    head, *rows = page_of.table("Time per tile, ms")
    row = dict(zip(head, rows[0], strict=True))
    assert (row["Network"], row["Parameters"], row["Tiles"]) == ("alexnet", "57,000,000", "24")
    assert row["Time per tile, ms"] == "40.0"  # 25 a second
    head, *rows = page_of.table("1+")
    assert [row[:2] for row in rows] == [["Good", "A"], ["Good", "B"], ["Poor", "A"], ["Poor", "B"]]
    head, *rows = page_of.table("McNemar's P")
    assert [row[:3] for row in rows] == [["Good", "Poor", "A"], ["Good", "Poor", "B"]]
    pairs = read_table(made[0] / "compare" / "pairs.tsv")
    assert rows[1][head.index("P")] == html.p_value(pairs[1]["p"])


def test_every_slide_is_accounted_for(page_of):
    head, *rows = page_of.table("Label not known")
    for row in rows:
        found = dict(zip(head, row, strict=True))
        counts = [int(found[k]) for k in ("Excluded", "Training", "Label not known", "Evaluated")]
        assert sum(counts) == int(found["Slides"])
        assert found["Label not known"] == "1"
    text = " ".join(" ".join(page_of.text).split())
    assert "ihc is 0: not a class of this study: 1" in text
    assert "Evaluated for class: 28 1+:" in text
    share = {row[0]: row[1:] for row in page_of.table("Characteristic")}
    assert "2+" in share
    assert share["not known"] == ["1", "1"]


def test_numbers_of_tiles_slides_and_patients(page_of):
    rows = {row[0]: row[1:] for row in page_of.table("Measure")}
    assert rows["n"][1].isdigit()
    assert all(re.fullmatch(r"\d\.\d{3} \(.* to .*\)", cell) for cell in rows["Macro-AUC"])
    assert re.fullmatch(r"no error|\d+ of \d+ \(\d+ %\)", rows["Errors to a neighbouring class"][1])


def test_slides_for_fish_are_listed_the_closest_first(made, page_of):
    slides = read_table(made[0] / "evaluate" / "Good" / "A" / "slides.tsv")
    flagged = {r["slide"] for r in slides if r["flag"] == "reflex" and r["used"] == "True"}
    tables = [t for t in page_of.tables if t[0][-1].strip() == "Margin"]
    assert {row[0].strip() for row in tables[0][1:]} == flagged
    margins = [float(row[-1]) for row in tables[0][1:]]
    assert margins == sorted(margins)
    caption = next(c for c in page_of.captions if "Slides for reflex FISH" in c)
    assert "called 2+, or whose two likeliest classes differ by less than 0.1" in caption


def test_captions_tell_test_interval_and_n(page_of):
    wanted = {
        "ROC curve of each class against the others, slides: Good, cohort B": "n = 28 slides (1+:",
        "ROC curve of each class against the others, tiles: Good, cohort B": "n = 336 tiles",
        "Class called against the class of the sheet, slides: Good, cohort B": "95 % interval",
        "Expected class by the class of the sheet, slides: Good": "Dunn's test, P after Holm: 1+ v",
        "Each method against each other on the slides that both call": "McNemar's exact test",
        "Macro-AUC of each method on each cohort": "over resampled patients",
    }
    for start, inside in wanted.items():
        assert any(start in c and inside in c for c in page_of.captions), start


def test_grad_cam_of_slides_chosen_as_the_heat_maps(made, text, page_of):
    found = [c for c in page_of.captions if "Grad-CAM, Selvaraju et al. 2017" in c]
    maps = [c for c in page_of.captions if "Left, the slide" in c]
    names = [[re.search(r"slide ([^,]+),", c)[1] for c in each] for each in (found, maps)]
    assert len(found) == 4
    assert names[0] == names[1]
    assert "Called" in found[0]
    whole = [c for c in page_of.captions if "The same evidence over the slide" in c]
    assert len(whole) == 1  # that of the others was not drawn
    assert 'href="#overlays"' in text
    folder = made[0] / "explain" / "Good" / "B" / "0of1"
    assert len(gradcam.pictures([str(folder)], [], 1)) == 2
    assert gradcam.pictures([], [], 4) == []


def test_two_runs_differ_in_their_times_alone(made, text):
    folder, words = made
    file = next((folder / "benchmarks").rglob("*.tsv"))
    kept = file.read_text()
    file.write_text(kept.replace("2.5", "9.5"))
    table = folder / "compare" / "tile_timing.tsv"
    times = table.read_text()
    table.write_text(times.replace("40.0", "90.0"))
    assert main(["report", *map(str, [folder / "x.html", *words, "--zoom-px", "64"])]) == 0
    file.write_text(kept)
    table.write_text(times)
    other, cut = (
        (folder / "x.html").read_text(),
        re.compile("<!-- timings.*?<!-- /timings -->", re.S),
    )
    assert other != text
    assert cut.sub("", other) == cut.sub("", text)


def test_patches_are_coloured_by_what_the_study_asks():
    import numpy as np

    p = np.array([[0.5, 0.25, 0.25], [0, 0, 1]])
    value, what, ends = slide_viewer.shown(p, classes.NAMES, True)
    assert value.tolist() == [0.375, 1]  # 0.25 of the way for half of it, and the whole way
    assert (what, ends) == ("expected class", ("1+", "3+"))
    assert slide_viewer.shown(p, classes.NAMES, False)[0].tolist() == [0.5, 1]
    assert slide_viewer.shown(p, ["HER2-", "HER2+", "x"], None)[0].tolist() == [0.25, 0]
    assert slide_viewer.shown(p, [], None)[0] == []


def test_notes_stand_in_place_of_numbers():
    e = {
        "method": "m", "cohort": "B", "role": "external", "classes": ["1+", "2+"], "slides": 2,
        "evaluated": 2, "images": {}, "table": [], "metrics": {}, "reflex": {"n": 0},
        "units": {"slide": {"n": 2, "macro_auc": {"note": "needs both classes"}, "per_class": {
            "1+": {"n": 2, "auc": {"note": "needs both"}}}}},
    }  # fmt: skip
    part = findings.results([e], [], "95 %", {})[0]["cohorts"][0]
    cells = [[cell.text for cell in row] for row in part["main"]["rows"]]
    assert ["Macro-AUC", "needs both classes"] in cells
    assert part["groups"]["rows"][0][2].text == "needs both"
    assert part["more"] == []
    other = copy.deepcopy(e) | {"images": {"roc": "data:"}}
    assert "No macro-AUC: needs both classes." in findings.figures(other, "95 %")[0]["caption"]


def test_flow_by_class():
    ledger = [
        {"slide": f"S{i}", "patient": "P", "status": "scored", "reason": ""} for i in range(3)
    ]
    table = [
        {"slide": "S0", "exclusion_reason": "", "true_class": "3+"},
        {"slide": "S1", "exclusion_reason": "no class: ihc is 0: not a class", "true_class": ""},
        {"slide": "S2", "exclusion_reason": "training slide", "true_class": "1+"},
    ]
    about = {"name": "A", "title": "", "role": "treatment"}
    found = flowchart.follow(about, ledger, table, ("1+", "3+"))
    assert found["groups"] == [("1+", 0), ("3+", 1)]
    assert found["unknowns"] == [("ihc is 0: not a class", 1)]
    assert (found["training"], found["endpoint"]) == (1, "class")
