"""The report: self-contained, complete, the same every time, safe against what sheets may hold."""

import itertools
import json
import re

import numpy as np
import pytest
import status_study
from page_reader import Reader

from her2pipe.cli import main
from her2pipe.cohorts.sheet import Row
from her2pipe.errors import Her2Error
from her2pipe.reporting import captions, citations, flowchart, heatmaps, sections, throughput
from her2pipe.stain.base import StainMethod
from her2pipe.stain.profile import Profile
from her2pipe.store import write_encoding


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made-up study and the options that report it."""
    folder = tmp_path_factory.mktemp("status_study")
    return folder, status_study.study(folder)


def write(made, *more, name="index.html"):
    folder, words = made
    assert main(["report", *map(str, [folder / name, *words, *more])]) == 0
    return (folder / name).read_text()


@pytest.fixture(scope="module")
def text(made):
    """The page of the made-up study."""
    return write(made)


@pytest.fixture(scope="module")
def page(text):
    return Reader(text)


def test_nothing_is_fetched(page):
    assert [a for a in page.asked if not a.startswith(("data:image/", "https://doi.org/10."))] == []
    assert page.policy.startswith("default-src 'none'; img-src data:;")
    assert not any(source in page.policy for source in ("http", "*", "'self'", "blob:", "eval"))


def test_what_sheets_hold_is_text(text, page):
    assert not re.search(r"<script>\s*alert", text)
    assert f"no tissue: {status_study.NASTY}" in page.table("Reason")[1]
    assert status_study.SHY in "".join(page.text)
    assert page.headings[0] == [1, "A & B"]
    for about in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S):
        json.loads(about)


def test_twice_the_same_but_for_times(made, text):
    first = write(made, name="again.html")
    assert first == text
    file = made[0] / "benchmarks" / "compare.tsv"
    kept = file.read_text()
    file.write_text(kept.replace("3.0", "5.0"))
    other = write(made, name="other.html")
    file.write_text(kept)
    assert other != first
    cut = re.compile("<!-- timings.*?<!-- /timings -->", re.S)
    assert cut.sub("", other) == cut.sub("", first)


def test_every_slide_is_accounted_for(page):
    head, row = page.table("Label not known")
    found = dict(zip(head, row, strict=True))
    assert found | {"Source": "", "Role": ""} == {
        "Cohort": "C", "Source": "", "Role": "", "Patients": "6", "Slides": "8", "Excluded": "1",
        "Training": "0", "Label not known": "1", "Evaluated": "6",
    }  # fmt: skip
    text = " ".join(" ".join(page.text).split())
    assert "Excluded: 1 no tissue: 1 Scored: 7 Label not known: 1 IHC 2+ without ISH: 1" in text
    assert "HER2-positive: 3 HER2-negative: 3" in text


def test_cohorts_are_described(page):
    rows = {row[0]: row[-1] for row in page.table("Characteristic")}
    assert rows["Slides"] == "3"
    assert rows["Patients"] == "2"
    assert rows["AT2"] == "2 (67 %)"
    assert rows["GT450"] == "1 (33 %)"
    assert rows["3+"] == "1 (50 %)"  # of the two slides whose level is known
    assert rows["patches scored per slide, median (range)"] == "6"
    assert rows["not in the header"] == "6"  # made-up stores tell no magnification


def test_images_are_told_from_slides():
    slides, images = {"kind": "slides"}, {"kind": "images"}
    assert flowchart.of_images({"A": slides, "B": {}}) == []
    (told,) = flowchart.of_images({"A": slides, "B": images, "C": images})
    assert "in cohort B, C is one image" in told
    (told,) = flowchart.of_images({"B": images})
    assert "in this study is one image" in told


def test_tables_show_every_column_compare_writes(page):
    head, row = page.table("External AUC, mean ± SD")
    found = dict(zip(head, row, strict=True))
    assert found["External AUC, mean ± SD"] == "0.800 ± 0.020 (0.700 to 0.900), 1 cohort"
    assert found["Published external"] == "0.76 ± 0.01"
    assert found["Internal AUC"] == "0.750"
    new = page.table("P value")
    assert new == [["Method", "P value", "Odd"], ["TL-PA", "< 0.001", "0.500 (0.250 to 0.750)"]]


def test_main_numbers_name_interval_test_and_n(page):
    rows = {row[0]: row for row in page.table("Measure")}
    assert rows["AUC, HER2 status"][1:5] == ["0.900 (0.700 to 1.000)", "DeLong", "–", "6"]
    rho = rows["Spearman's ρ of score and HER2 level"]
    assert rho[1:5] == ["0.500 (0.100 to 0.800)", "Bonett-Wright", "0.010", "6"]
    assert rows["Sensitivity at level 2+/FISH+ or higher"][2] == "Wilson"


def test_figures_are_numbered_told_and_described(page):
    assert all(len(image.get("alt", "")) > 10 for image in page.images)
    for kind in ("Figure", "Table"):
        found = [int(m[1]) for c in page.captions if (m := re.match(rf"{kind} (\d+)\.", c))]
        assert found == list(range(1, len(found) + 1))
        assert len(found) > 3
    roc = next(c for c in page.captions if "ROC curve of the HER2 score" in c)
    assert "AUC 0.900 (0.700 to 1.000), 95 % DeLong interval; n = 6 slides, 3 HER2-positive" in roc
    levels = next(c for c in page.captions if "HER2 score by HER2 level" in c)
    assert "ρ 0.50 (0.10 to 0.80)" in levels
    assert "n = 6 (0: 1, 1+: 1, 2+/FISH-: 1, 2+/FISH+: 1, 3+: 2)" in levels


def test_headings_make_an_outline(page):
    steps = [level for level, _ in page.headings]
    assert steps[0] == 1
    assert steps.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(steps))


def test_training_set_as_in_the_paper(page):
    rows = page.table("Crop size")
    assert rows[1][:3] == ["1024 px", "90,664 (63,464 = 0.70)", "97,264 (68,084 = 0.70)"]


@pytest.mark.parametrize(
    ("views", "told", "crop"),
    [
        (["1024", "2048"], "training views 1024 px, 2048 px (level 0)", "1024 px"),
        (["80um"], "training views 80 µm", "80 µm"),
        (["adaptive"], "training views adaptive", "adaptive"),
        (["whole"], "whole images", "whole"),
    ],
)
def test_views_have_their_unit(tmp_path, views, told, crop):
    row = {"side": "train", "view": views[0], "kind": "1+", "available": 3, "used": 3, "slides": 1}
    about = {"train_views": views, "training_set": [row], "classes": ["1+"]}
    (tmp_path / "model.json").write_text(json.dumps(about))
    found = sections.network(tmp_path)
    assert told in found["told"]
    assert found["sets"][0]["rows"][0][0].text == crop


def test_cohorts_of_the_stain_figure_keep_their_order(tmp_path, monkeypatch):
    """The study's, as in every other figure, whatever slides are called."""
    profile = Profile(StainMethod.reference, [1, 1], "vahadane").as_dict()
    ledger = []
    for cohort, slide in (("A", "T-1"), ("B", "S-1"), ("B", "S-2")):
        ledger.append({"cohort": cohort, "slide": slide, "status": "scored"})
        (tmp_path / cohort / "0of1").mkdir(parents=True, exist_ok=True)
        about = {"slide": slide, "stain": json.dumps(profile)}
        write_encoding(tmp_path / cohort / "0of1" / f"{slide}.h5", np.zeros((1, 2)),
                       np.ones((1, 1)), np.zeros((1, 2)), about)  # fmt: skip
    folders = [tmp_path / cohort / "0of1" for cohort in "AB"]
    drawn = []
    monkeypatch.setattr(heatmaps, "_drawn", lambda shape, kind="svg": drawn.append(shape) or "")
    found = heatmaps.colours(heatmaps.Shelf(ledger, {}, folders), profile)
    assert found[0]["caption"].endswith("n slides: A: 1, B: 2.")
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == ["A (n = 1 slides)", "B (n = 2 slides)", "target"]


def test_throughput_sums_up_jobs(made):
    found = throughput.stages(made[0] / "benchmarks", ("tile", "compare"), {"tile adaptive": 60})
    assert found == [
        {"stage": "tile adaptive", "jobs": 2, "hours": 6 / 3600, "median_s": 3.0,
         "patches_s": 10.0, "memory_mb": 100.5},
        {"stage": "compare", "jobs": 1, "hours": 3 / 3600, "median_s": 3.0, "patches_s": None,
         "memory_mb": 100.5},
    ]  # fmt: skip


def test_the_gallery_has_its_limit_and_goes_without_viewer(made):
    text = write(made, "--gallery", "1", name="one.html")
    assert text.count('<details class="viewer">') == 1
    assert 'id="bokeh"' in text
    plain = write(made, "--gallery", "3", "--zoom-px", "0", name="plain.html")
    assert plain.count("Zoom into slide") == 0
    assert 'id="bokeh"' not in plain
    assert len(plain) < 1e6 < len(text)


def test_what_is_not_there_is_left_out(tmp_path, made, her2pipe):
    words = [str(w) for w in made[1]]
    few = [
        words[words.index(o) + i] for o in ("--compare", "--evaluate", "--ledger") for i in (0, 1)
    ]
    code, told = her2pipe("report", tmp_path / "few.html", *few)
    assert code == 0, told
    page = Reader((tmp_path / "few.html").read_text())
    assert [text for level, text in page.headings if level == 2] == [
        "Summary", "Cohorts and slides", "Methods compared", "Results by cohort", "Throughput",
        "Settings, versions, citations",
    ]  # fmt: skip


def test_deployed_networks_are_told(made, text):
    """Sizes and accuracy have a chapter; latencies stand among what differs from run to run."""
    folder = made[0] / "deploy" / "net"
    folder.mkdir(parents=True)
    heads = "network trained form input_px parameters with_statistics mmacs file_mb latency_ms"
    heads += " side patches accuracy agreement difference"
    rows = [heads.split()]
    for name, yes, form, mb, ms in (
        ("net", "yes", "torch", 1.39, 7.31),
        ("peer", "no", "int8", 2, 9),
    ):
        own = ["validation", 40, 0.875, 1, 0] if yes == "yes" else [""] * 5
        rows.append([name, yes, form, 64, 346302, 346430, 949.0, mb, ms, *own])
    lines = ("\t".join(map(str, row)) for row in rows)
    (folder / "deploy.tsv").write_text("\n".join(lines) + "\n")
    about = {"encoder": "net", "counted": {"latency_ms": "one patch, one thread"}}
    (folder / "deploy.json").write_text(json.dumps(about))
    found = write(made, "--deploy", folder, name="deployed.html")
    page = Reader(found)
    assert [2, "Deployment"] in page.headings
    assert any("40 patches of the validation side" in caption for caption in page.captions)
    lasting, times = found.split("<!-- timings")
    assert "346,430" in lasting
    assert "ONNX, 8 bits" in lasting
    assert "0.875" in lasting
    assert "7.31" in times
    assert "7.31" not in lasting
    assert "Deployment" not in text


def test_a_ledger_of_other_slides_is_an_error(tmp_path, made, her2pipe):
    lines = (made[0] / "ledger.tsv").read_text().splitlines()
    other = tmp_path / "ledger.tsv"
    other.write_text("\n".join(lines[:-2]) + "\n")
    words = list(made[1])
    words[words.index("--ledger") + 1] = other
    code, told = her2pipe("report", tmp_path / "x.html", *words)
    assert code == 1
    assert "hold different slides" in told
    assert not (tmp_path / "x.html").exists()


def test_flow_adds_up():
    """Each slide is in one place: excluded, training, label unknown, evaluated."""
    ledger = [
        {"slide": f"S{i}", "patient": "P", "status": "scored", "reason": ""} for i in range(5)
    ]
    ledger[0] |= {"status": "excluded", "reason": "unreadable: cut short"}
    table = [
        {"slide": "S0", "exclusion_reason": "excluded: unreadable", "positive": "True", "pcr": ""},
        {"slide": "S1", "exclusion_reason": "training slide", "positive": "True", "pcr": ""},
        {
            "slide": "S2",
            "exclusion_reason": "no binary status: IHC 2+ without ISH",
            "positive": "",
            "pcr": "",
        },
        {"slide": "S3", "exclusion_reason": "", "positive": "True", "pcr": "False"},
        {"slide": "S4", "exclusion_reason": "", "positive": "False", "pcr": ""},
    ]
    found = flowchart.follow({"name": "A", "title": "", "role": "development"}, ledger, table)
    assert found["reasons"] == [("unreadable", 1)]
    assert found["unknowns"] == [("IHC 2+ without ISH", 1)]
    assert found["groups"] == [("HER2-positive", 1), ("HER2-negative", 1)]
    assert [found[k] for k in ("slides", "excluded", "training", "unknown", "evaluated")] == [
        5, 1, 1, 1, 2,
    ]  # fmt: skip
    treated = flowchart.follow({"name": "A", "title": "", "role": "treatment"}, ledger, table)
    assert treated["groups"] == [("non-pCR", 1), ("pCR", 0)]
    assert treated["unknown"] == 2
    with pytest.raises(Her2Error, match="different slides"):
        flowchart.follow({"name": "A", "title": "", "role": ""}, ledger, table[1:])


def test_medians_and_shares_by_hand():
    rows = [
        Row(str(i), "x", f"P{i}", 1, positive=p) for i, p in enumerate((True, False, None, True))
    ]
    stores = [
        {"mpp": m, "objective": o, "width_px0": 1000, "height_px0": h, "patches": n}
        for m, o, h, n in (
            (0.25, 40.0, 1000, 10),
            (0.5, 20.0, 3000, 20),
            (float("nan"), None, 2000, 60),
        )
    ]
    lines = {
        (r["group"], r["label"]): r["A"] for r in flowchart.describe({"A": rows}, {"A": stores})
    }
    assert lines["HER2 status", "positive"] == "2 (67 %)"
    assert lines["HER2 status", "not known"] == "1"
    assert lines["Magnification", "40x"] == "1"
    assert lines["Magnification", "not in the header"] == "1"
    assert lines["Scan", "slide size, megapixels, median (range)"] == "2.0 (1.0 to 3.0)"
    assert lines["Scan", "resolution, µm/px, median (range)"] == "0.375 (0.250 to 0.500)"
    assert not any(group == "ER" for group, _ in lines)  # nobody knows it: no rows of dashes


def test_notes_stand_in_place_of_numbers():
    metrics = {
        "role": "treatment",
        "pcr": {"n": 2, "note": "needs 3 slides", "rank_sum_note": "needs both"},
        "patch": {"note": "no patches"},
        "levels": {"spearman": {"note": "needs values that differ"}, "dunn_note": "needs 2 groups"},
    }
    rows = {row["measure"]: row["note"] for row in captions.numbers(metrics)}
    assert rows == {
        "AUC, non-pCR": "needs 3 slides",
        "Score of non-pCR against pCR": "needs both",
        "AUC of patches, HER2 status": "no patches",
        "Spearman's ρ of score and HER2 level": "needs values that differ",
        "Dunn's test, HER2 level": "needs 2 groups",
    }


def test_every_number_is_somewhere():
    rows = list(captions.flat({"a": {"b": 0.5, "c": [1, 2]}, "d": [{"e": None}], "f": "x"}))
    assert [tuple(row.values()) for row in rows] == [
        ("a.b", "0.5"), ("a.c", "1, 2"), ("d.1.e", ""), ("f", "x"),
    ]  # fmt: skip


def test_citations_follow_what_is_used():
    names = {work.what for work in citations.cited({"clam", "macenko"})}
    assert {"TL-PA", "CLAM", "Snakemake"} <= names
    assert "SlideGraph+" not in names
    dois = [work.doi for work in citations.WORKS if work.doi]
    assert len(set(dois)) == len(dois)
    assert all(re.fullmatch(r"10\.\d{4,5}/\S+", doi) for doi in dois)
