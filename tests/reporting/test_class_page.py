"""The page of a study of classes: its sections, tables, captions and pictures."""

import re

import class_study
import numpy as np
import pytest
from page_reader import Reader

from her2pipe.cli import main
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.files import read_table
from her2pipe.reporting import html, slide_viewer
from her2pipe.store.encodings import Encoding, EncodingMetadata

pytestmark = pytest.mark.slow  # a whole study, or all figures of one


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class_study")
    return folder, class_study.study(folder)


@pytest.fixture(scope="module")
def text(study):
    folder, words = study
    manifest, *options = words
    page = folder / "index.html"
    assert main(["report", *map(str, [manifest, page, *options, "--zoom-px", "64"])]) == 0
    return page.read_text()


@pytest.fixture(scope="module")
def page_of(text):
    return Reader(text)


def test_it_has_the_sections_of_classes(page_of, text):
    heads = [head for level, head in page_of.headings if level == 2]
    assert heads == [
        *("Summary", "Cohorts and slides", "Methods by cohort", "Methods compared", "Encoders"),
        "Results by cohort",
        *("Heat maps", "Grad-CAM", "Training", "Throughput", "Reporting"),
        "Settings, versions, citations",
    ]
    assert "p(HER2+)" not in text
    assert "HER2-positive" not in text
    for kind in ("Figure", "Table"):
        numbers = [int(m[1]) for c in page_of.captions if (m := re.match(rf"{kind} (\d+)\.", c))]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_summary_is_of_the_best_on_internal_slides(study, page_of):
    head, *rows = page_of.table("Errors to a neighbour")
    areas = {
        (r["method"], r["cohort"]): r for r in read_table(study[0] / "compare" / "classes.tsv")
    }
    assert float(areas["Good", "A"]["macro_auc"]) > float(areas["Poor", "A"]["macro_auc"])
    for row in rows:
        cells, area = dict(zip(head, row, strict=True)), areas["Good", row[0]]
        numbers = [float(area[f"macro_auc{end}"]) for end in ("", "_low", "_high")]
        assert cells["Macro-AUC"] == "{:.3f} ({:.3f} to {:.3f})".format(*numbers)
        assert cells["n, slides"] == area["n"]
    text = " ".join("".join(page_of.text).split())
    assert "Of 2 methods, Good has the highest macro-AUC on the internal validation slides" in text
    assert "Each of the 2 encoders was trained on 270 patches" in text


def test_networks_pairs_and_areas_have_tables(study, page_of):
    head, *rows = page_of.table("Time per tile, ms")
    row = dict(zip(head, rows[0], strict=True))
    assert (row["Network"], row["Parameters"], row["Tiles"]) == ("alexnet", "57,000,000", "24")
    assert row["Time per tile, ms"] == "40.0"  # 25 a second
    head, *rows = page_of.table("1+")
    assert [row[:2] for row in rows] == [["Good", "A"], ["Good", "B"], ["Poor", "A"], ["Poor", "B"]]
    head, *rows = page_of.table("McNemar's P")
    assert [row[:3] for row in rows] == [["Good", "Poor", "A"], ["Good", "Poor", "B"]]
    pairs = read_table(study[0] / "compare" / "pairs.tsv")
    assert rows[1][head.index("P")] == html.format_p(pairs[1]["p"])


def test_every_slide_is_accounted_for(page_of):
    head, *rows = page_of.table("Label not known")
    for row in rows:
        cells = dict(zip(head, row, strict=True))
        counts = [int(cells[k]) for k in ("Excluded", "Training", "Label not known", "Evaluated")]
        assert sum(counts) == int(cells["Slides"])
        assert cells["Label not known"] == "1"
    text = " ".join(" ".join(page_of.text).split())
    assert "ihc is 0: not a class of this study: 1" in text
    assert "Evaluated for true class: 28 1+:" in text
    share = {row[0]: row[1:] for row in page_of.table("Characteristic")}
    assert "2+" in share
    assert share["not known"] == ["1", "1"]


def test_numbers_of_tiles_slides_and_patients(page_of):
    rows = {row[0]: row[1:] for row in page_of.table("Measure")}
    assert rows["n"][1].isdigit()
    assert all(
        re.fullmatch(r"\d\.\d{3} \(.* to .*\)(, exact)?", cell) for cell in rows["Macro-AUC"]
    )
    assert re.fullmatch(r"no error|\d+ of \d+ \(\d+ %\)", rows["Errors to a neighbouring class"][1])


def test_slides_for_fish_are_listed_the_closest_first(study, page_of):
    slides = read_table(study[0] / "evaluate" / "Good" / "A" / "slides.tsv")
    flagged = {r["slide"] for r in slides if r["flag"] == "reflex" and r["used"] == "True"}
    tables = [t for t in page_of.tables if t[0][-1].strip() == "Margin"]
    assert {row[0].strip() for row in tables[0][1:]} == flagged
    margins = [float(row[-1]) for row in tables[0][1:]]
    assert margins == sorted(margins)
    caption = next(c for c in page_of.captions if "Slides for reflex FISH" in c)
    assert "called 2+, or whose two likeliest classes differ by less than 0.1" in caption


def test_captions_state_test_interval_and_n(page_of):
    wanted = {
        "ROC curve of each class against the others, slides: Good, cohort B": "n = 28 slides (1+:",
        "ROC curve of each class against the others, tiles: Good, cohort B": "n = 336 tiles",
        "Predicted class against the class of the sheet, slides: Good, cohort B": "95 % interval",
        "Expected class by the class of the sheet, slides: Good": "Dunn's test, P after Holm: 1+ v",
        "Each method against each other on the slides that both call": "McNemar's exact test",
        "Macro-AUC of each method on each cohort": "over resampled patients",
    }
    for start, inside in wanted.items():
        assert any(start in c and inside in c for c in page_of.captions), start


def test_grad_cam_of_slides_chosen_as_the_heat_maps(study, text, page_of):
    pictures = [c for c in page_of.captions if "Grad-CAM, Selvaraju et al. 2017" in c]
    maps = [c for c in page_of.captions if "Left, the slide" in c]
    names = [[re.search(r"slide ([^,]+),", c)[1] for c in each] for each in (pictures, maps)]
    assert len(pictures) == 4
    assert names[0] == names[1]
    assert "Called" in pictures[0]
    whole = [c for c in page_of.captions if "The same evidence over the slide" in c]
    assert len(whole) == 1  # that of the others was not drawn
    assert 'href="#sec-gradcam"' in text


def test_two_runs_differ_in_their_times_alone(study, text):
    folder, words = study
    file = next((folder / "benchmarks").rglob("*.tsv"))
    kept = file.read_text()
    file.write_text(kept.replace("2.5", "9.5"))
    table = folder / "compare" / "tile_timing.tsv"
    times = table.read_text()
    table.write_text(times.replace("40.0", "90.0"))
    manifest, *options = words
    page = folder / "x.html"
    assert main(["report", *map(str, [manifest, page, *options, "--zoom-px", "64"])]) == 0
    file.write_text(kept)
    table.write_text(times)
    other, cut = (
        (folder / "x.html").read_text(),
        re.compile("<!-- timings.*?<!-- /timings -->", re.S),
    )
    assert other != text
    assert cut.sub("", other) == cut.sub("", text)


def test_patches_are_coloured_by_what_they_contribute():
    def values(p, names, endpoint):
        p = np.array(p, np.float32)
        none = np.zeros((len(p), 0))
        encoding = Encoding(np.zeros((len(p), 2)), p, none, EncodingMetadata(classes=tuple(names)))
        return slide_viewer.PatchValues.of(encoding, endpoint)

    p = [[0.5, 0.25, 0.25], [0, 0, 1]]
    ordered = values(p, class_study.NAMES, class_study.ENDPOINT)
    assert ordered.values.tolist() == [0.375, 1]  # 0.25 of the way for half of it, and all of it
    assert ordered.label == "expected class (0: 1+, 1: 3+)"
    unordered = endpoint_of(class_study.LABELS.model_copy(update={"ordered": False}))
    called = values(p, class_study.NAMES, unordered)
    assert called.values.tolist() == [0.25, 1]  # of the slide's call
    assert called.label == "p(3+)"
    assert values(p, ["HER2-", "HER2+", "x"], endpoint_of()).values.tolist() == [0.25, 0]
    assert values(np.zeros((2, 0)), [], endpoint_of()).legend() == []
    assert values(p, ["a", "b", "c"], endpoint_of()).values.tolist() == []
