"""The report: self-contained, complete, the same every time, safe against what sheets may hold."""

import itertools
import json
import re
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import status_study
from manifests import write_manifest
from page_reader import Reader

from her2pipe.cli import main
from her2pipe.config import ReportSettings
from her2pipe.files import read_table
from her2pipe.manifest import Item, Manifest
from her2pipe.plotting import style
from her2pipe.reporting import exits, html, sections
from her2pipe.reporting.disclosure.pseudonyms import Pseudonyms
from her2pipe.reporting.html import Column
from her2pipe.reporting.inputs import ReportInputs

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A synthetic study and the words that report it."""
    folder = tmp_path_factory.mktemp("status_study")
    return folder, status_study.study(folder)


def write(study, *more, name="index.html"):
    folder, words = study
    manifest, *options = words
    assert main(["report", *map(str, [manifest, folder / name, *options, *more])]) == 0
    return (folder / name).read_text()


def manifest_of(study, folder, kept=lambda item: True, more=()):
    """The manifest of the study with some of its rows, and more."""
    items = filter(kept, Manifest.read(study[1][0]).items)
    return write_manifest(folder / "manifest.tsv", [*items, *more])


@pytest.fixture(scope="module")
def text(study):
    """The page of the study."""
    return write(study)


@pytest.fixture(scope="module")
def page(text):
    return Reader(text)


def test_nothing_is_fetched(page):
    harmless = "data:image/", "https://doi.org/10.", "data:text/tab-separated-values"
    harmless += "files/", "report.json", "flow.svg", "flow.pdf"
    assert [a for a in page.asked if not a.startswith(harmless)] == []
    assert page.policy.startswith("default-src 'none'; img-src data:;")
    assert not any(source in page.policy for source in ("http", "*", "'self'", "blob:", "eval"))


def test_only_the_pages_own_scripts_run(study, text, page):
    """Each script that browsers run is one of those named by digest; no element has handlers."""
    scripts = re.search("script-src ([^;]*)", page.policy)[1].split()
    assert all(source.startswith("'sha256-") for source in scripts)
    elements = re.findall(
        r"<script(?: type=\"text/plain\" id=\"bokeh\")?>(.*?)</script>", text, re.S
    )
    assert sorted(html.digest(element) for element in elements) == sorted(scripts)
    assert not re.search(r"<[a-z][^<>]*\son[a-z]+\s*=", text)
    plain = write(study, "--zoom-px", "0", name="hashed.html")
    assert "unsafe-inline" not in Reader(plain).policy
    (style,) = re.findall("<style>(.*?)</style>", plain, re.S)
    assert html.digest(style) in Reader(plain).policy


def test_tables_and_figures_can_be_linked_and_taken_away(study):
    """Ids are unique and stay; a link leads to a file that holds what the page shows."""
    text = write(study, name="linked/index.html")
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {"sec-results", "fig-TL-PA-C-roc", "tab-TL-PA-C-numbers", "tab-table2"} <= set(ids)
    inner = set(re.findall(r'href="#([^"]+)"', text))
    assert inner <= set(ids)
    folder = study[0] / "linked" / "files"
    names = set(re.findall(r'href="files/([^"]+)"', text))
    assert names <= {path.name for path in folder.iterdir()}
    flows = re.findall(r'href="(flow[^"]*)" download="fig-flow', text)
    assert [(folder.parent / name).exists() for name in flows] == [True, True]
    rows = read_table(folder / "tab-TL-PA-C-numbers.tsv")
    assert rows[0] == {
        "measure": "AUC, HER2-positive against HER2-negative",
        "value": "0.900000",
        "low": "0.700000",
        "high": "1.000000",
        "how": "DeLong",
        "p": "",
        "n": "6",
        "items": "slides",
    }
    embedded = re.search(r'href="data:text/[^,]*,([^"]*)" download="tab-TL-PA-C-numbers.tsv"', text)
    assert unquote(embedded[1]) == (folder / "tab-TL-PA-C-numbers.tsv").read_text()


def test_what_sheets_hold_is_text(text, page):
    assert not re.search(r"<script>\s*alert", text)
    assert f"no tissue: {status_study.NASTY}" in page.table("Reason")[1]
    assert status_study.SHY in "".join(page.text)
    assert page.headings[0] == [1, "A & B"]
    for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S):
        json.loads(data)


@pytest.mark.slow
def test_twice_the_same_but_for_times(study, text):
    first = write(study, name="again.html")
    assert first == text
    file = study[0] / "benchmarks" / "compare.tsv"
    kept = file.read_text()
    file.write_text(kept.replace("3.0", "5.0"))
    other = write(study, name="other.html")
    file.write_text(kept)
    assert other != first
    cut = re.compile("<!-- timings.*?<!-- /timings -->", re.S)
    assert cut.sub("", other) == cut.sub("", first)


def test_every_slide_is_accounted_for(page):
    head, row = page.table("Label not known")
    cells = dict(zip(head, row, strict=True))
    assert cells | {"Source": "", "Role": ""} == {
        "Cohort": "C",
        "Source": "",
        "Role": "",
        "Patients": "6",
        "Slides": "8",
        "Excluded": "1",
        "Training": "0",
        "Label not known": "1",
        "Evaluated": "6",
    }
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
    assert rows["not in the header"] == "6"  # synthetic stores hold no magnification


def test_tables_show_every_column_compare_writes(page, text):
    head, row = page.table("External AUC, mean ± SD")
    cells = dict(zip(head, row, strict=True))
    assert cells["External AUC, mean ± SD"] == "0.800 ± 0.020 (0.700 to 0.900), 1 cohort"
    assert cells["Published external"] == "0.76 ± 0.01"
    stages = ["Encoder trained", "Aggregation trained"]
    assert [cells[stage] for stage in stages] == ["✓", "–"]
    assert cells["Published internal"] == "0.75ᵃ"
    assert "ᵃ As its own paper reports." in text
    assert cells["Internal AUC"] == "0.750"
    new = page.table("P value")
    assert new == [["Method", "P value", "Odd"], ["TL-PA", "< 0.001", "0.500 (0.250 to 0.750)"]]


def test_main_numbers_name_interval_test_and_n(page):
    rows = {row[0]: row for row in page.table("Measure")}
    assert rows["AUC, HER2-positive against HER2-negative"][1:5] == [
        "0.900 (0.700 to 1.000)",
        "DeLong",
        "–",
        "6",
    ]
    rho = rows["Spearman's ρ of score and HER2 level"]
    assert rho[1:5] == ["0.500 (0.100 to 0.800)", "Bonett-Wright", "0.010", "6"]
    assert rows["Sensitivity at level 2+/FISH+ or higher"][2] == "Wilson"


def test_figures_are_numbered_captioned_and_described(page):
    assert all(len(image.get("alt", "")) > 10 for image in page.images)
    for kind in ("Figure", "Table"):
        numbers = [int(m[1]) for c in page.captions if (m := re.match(rf"{kind} (\d+)\.", c))]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 3
    roc = next(c for c in page.captions if "ROC curve of the HER2 score" in c)
    assert (
        "AUC 0.900 (0.700 to 1.000), 95 % interval (DeLong); n = 6 slides, 3 HER2-positive" in roc
    )
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


@pytest.mark.slow
def test_the_gallery_has_its_limit_and_goes_without_viewer(study):
    text = write(study, "--gallery", "1", name="one.html")
    assert text.count('<details class="viewer">') == 1
    assert 'id="bokeh"' in text
    plain = write(study, "--gallery", "3", "--zoom-px", "0", name="plain.html")
    assert plain.count("Zoom into slide") == 0
    assert 'id="bokeh"' not in plain
    assert len(plain) < 1e6 < len(text)


def test_what_is_not_there_is_left_out(tmp_path, study, her2pipe):
    few = ("compare", "evaluate", "ledger")
    manifest = manifest_of(study, tmp_path, lambda item: item.kind in few)
    code, log = her2pipe("report", manifest, tmp_path / "few.html")
    assert code == 0, log
    page = Reader((tmp_path / "few.html").read_text())
    assert [text for level, text in page.headings if level == 2] == [
        *("Summary", "Cohorts and slides", "Methods compared", "Results by cohort", "Throughput"),
        *("Reporting", "Settings, versions, citations"),
    ]


@pytest.mark.slow
def test_deployed_networks_have_a_section(study, text, tmp_path):
    """Latencies stand among what differs from run to run."""
    folder = study[0] / "deploy" / "net"
    folder.mkdir(parents=True)
    heads = "network trained form input_px parameters with_statistics mmacs file_mb latency_ms"
    heads += " side patches accuracy agreement difference"
    rows = [heads.split()]
    for name, yes, form, mb, ms in (
        ("net", "yes", "torch", 1.39, 7.31),
        ("peer", "no", "int8", 2, 9),
    ):
        quality = ["validation", 40, 0.875, 1, 0] if yes == "yes" else [""] * 5
        rows.append([name, yes, form, 64, 346302, 346430, 949.0, mb, ms, *quality])
    lines = ("\t".join(map(str, row)) for row in rows)
    (folder / "deploy.tsv").write_text("\n".join(lines) + "\n")
    metadata = {"encoder": "net", "counted": {"latency_ms": "one patch, one thread"}}
    (folder / "deploy.json").write_text(json.dumps(metadata))
    manifest = manifest_of(study, tmp_path, more=[Item("deploy", encoder="net", path=folder)])
    text_of_page = write((study[0], [manifest, *study[1][1:]]), name="deployed.html")
    page = Reader(text_of_page)
    assert [2, "Deployment"] in page.headings
    assert any("40 patches of the validation side" in caption for caption in page.captions)
    lasting, times = text_of_page.split("<!-- timings")
    assert "346,430" in lasting
    assert "ONNX, 8 bits" in lasting
    assert "0.875" in lasting
    assert 'data-sort="7.31"' in times
    assert 'data-sort="7.31"' not in lasting
    assert "Deployment" not in text


def test_a_ledger_of_other_slides_is_an_error(tmp_path, study, her2pipe):
    lines = (study[0] / "ledger.tsv").read_text().splitlines()
    other = tmp_path / "ledger.tsv"
    other.write_text("\n".join(lines[:-2]) + "\n")
    manifest = manifest_of(
        study, tmp_path, lambda item: item.kind != "ledger", [Item("ledger", path=other)]
    )
    code, log = her2pipe("report", manifest, tmp_path / "x.html")
    assert code == 1
    assert "hold different slides" in log
    assert not (tmp_path / "x.html").exists()


@pytest.mark.slow
def test_a_plugin_can_add_a_section(study, monkeypatch):
    """A registered class is all it takes; it stands where its place says."""
    monkeypatch.setattr(sections.SECTIONS, "_items", dict(sections.SECTIONS._items))

    @sections.SECTIONS.register("survival")
    class Survival(sections.Section):
        title = "Survival"
        place = 45

        def blocks(self, inputs):
            return [html.Text(f"Of {len(inputs.ledger)} slides.")]

    page = Reader(write(study, name="plugin.html"))
    names = [name for level, name in page.headings if level == 2]
    assert names[names.index("Results by cohort") + 1] == "Survival"
    assert "Of 8 slides." in "".join(page.text)


def test_every_number_is_in_one_tidy_file(study):
    """What tables print is in report.json: each estimate of the main numbers with its interval."""
    write(study, name="tidy/index.html")
    folder = study[0] / "tidy"
    document = json.loads((folder / "report.json").read_text())
    assert (document["format"], document["version"]) == ("her2pipe/report", 1)
    rows = document["rows"]
    assert all(row.keys() == document["columns"].keys() for row in rows)
    keys = [tuple(row[k] for k in ("section", "method", "cohort", "metric")) for row in rows]
    assert len(keys) == len(set(keys))
    by_key = dict(zip(keys, rows, strict=True))
    auc = by_key["results", "TL-PA", "C", "auc"]
    assert [auc[k] for k in ("value", "low", "high", "n", "events")] == [0.9, 0.7, 1.0, 6, 3]
    assert by_key["flow", "", "C", "evaluated"]["value"] == 6
    triples = {tuple(row[k] for k in ("value", "low", "high")) for row in rows}
    printed = read_table(folder / "files" / "tab-TL-PA-C-numbers.tsv")
    for line in printed:
        if line["value"] and line["low"]:
            assert tuple(float(line[k]) for k in ("value", "low", "high")) in triples, line


def test_the_study_states_what_guidelines_ask_for(study):
    """Links of the checklist lead into the page; what authors have not stated is called so."""
    study_file = study[0] / "stated.json"
    words = [str(word) for word in study[1]]
    values = json.loads(Path(words[words.index("--study") + 1]).read_text())
    values.setdefault("settings", {})["study"] = {"statements": {"funding": "None <received>."}}
    study_file.write_text(json.dumps(values))
    page = Reader(write(study, "--study", study_file, name="stated.html"))
    assert ["Funding", "None <received>."] in page.table("Text")
    assert ["Ethics approval", "not stated"] in page.table("Text")
    rows = {row[0]: row[-1] for row in page.table("TRIPOD+AI")}
    assert (rows["Funding"], rows["Registration"]) == ("statements", "not stated")
    assert rows["Sample size and precision"] == "precision"
    head, row = page.table("Width of the interval")[:2]
    cells = dict(zip(head, row, strict=True))
    assert [cells[k] for k in ("n, slides", "Events", "Events, % of slides")] == ["6", "3", "50.0"]
    assert cells["Width of the interval"] == "0.300"


@pytest.mark.slow
def test_a_page_can_do_without_names_and_paths(study):
    """No name of a slide or patient and no path is left in text, alt texts, ids, files, numbers."""
    text = write(study, "--identifiers", "false", name="hidden/index.html")
    folder = study[0] / "hidden"
    rows = read_table(study[0] / "ledger.tsv")
    names = {row[key] for row in rows for key in ("slide", "patient")}
    shown = re.sub(r"data:image/[^\"]*", "", text)
    shown = re.sub(r'<script type="text/plain".*?</script>', "", shown, flags=re.S)
    shown = shown.replace("Table S1 of Li et al.", "")
    texts = {"page": unquote(shown), "report.json": (folder / "report.json").read_text()}
    for path in (folder / "files").iterdir():
        texts[path.name] = path.name
        if path.suffix == ".tsv":
            texts[f"text of {path.name}"] = path.read_text()
    left = [
        (where, name)
        for where, content in texts.items()
        for name in names
        if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", content)
    ]
    assert left == []
    assert str(study[0]) not in texts["page"]
    assert "C-slide-1" in shown
    assert write(study, "--identifiers", "false", name="hidden/index.html") == text


def test_pseudonyms_reach_every_form_of_a_name():
    ledger = [
        {"cohort": "C", "slide": "12", "patient": "Doe, J."},
        {"cohort": "C", "slide": "TCGA-A1-A0SB", "patient": "7"},
    ]
    names = Pseudonyms(ledger)
    for text, hidden in {
        "Slide 12 of cohort C": "Slide C-slide-1 of cohort C",
        "12 slides of patient 7.": "12 slides of patient C-patient-2.",
        "unreadable: /srv/wsi/TCGA-A1-A0SB.svs": "unreadable: (path)",
        "see ../slides/a b/12.tiff": "(path)",
        "a copy of TCGA-A1-A0SB.": "a copy of C-slide-2.",
        "seen by Doe, J. today": "seen by C-patient-1 today",
        "2+/FISH-, 0.25 µm/px, 10.1186/s13058-025": "2+/FISH-, 0.25 µm/px, 10.1186/s13058-025",
    }.items():
        assert names.in_text(text) == hidden
    assert names.in_id("fig-TL-PA-C-map-12") == "fig-TL-PA-C-map-C-slide-1"
    assert names.in_id("fig-gradcam-TCGA-A1-A0SB") == "fig-gradcam-C-slide-2"
    block = html.table("T", [Column("patient", "Patient"), Column("n", "n", "count")],
                       [{"patient": "7", "n": "7"}])  # fmt: skip
    table = names.in_block(block)
    assert [cell.text for cell in table.rows[0]] == ["C-patient-2", "7"]
    assert table.tsv == "patient\tn\nC-patient-2\t7\n"


def test_figures_of_synthetic_slides_say_so(study, tmp_path):
    """Where the sheet's slides were all drawn, the captions and alternative texts name them so."""
    rows = [item for item in Manifest.read(study[1][0]).items if item.kind == "sheet"]
    sheet = tmp_path / "drawn.tsv"
    sheet.write_text("slide\tpath\tpatient\nS1\tresults/synthesise/C/S1.svs\tP1\n")
    drawn = [Item("sheet", cohort=item.cohort, path=str(sheet)) for item in rows[:1]]
    manifest = manifest_of(study, tmp_path, lambda item: item.kind != "sheet", drawn)
    inputs = ReportInputs.read(manifest, None, ReportSettings())
    assert inputs.synthetic == {rows[0].cohort}
    figure = html.Figure("data:,", "A curve.", f"A curve: M, cohort {rows[0].cohort}.")
    (marked,) = sections._marked(html.Grid([figure]), inputs).blocks
    assert marked.caption.endswith("Synthetic slides.")
    assert marked.alt == "A curve. Synthetic slides."


def test_drawings_of_synthetic_slides_say_so(tmp_path):
    """On the page and among its files a line stands below the drawing, which is as it was."""
    from matplotlib.figure import Figure

    figure = Figure((2, 1))
    figure.text(0.5, 0.5, "A 'curve'")
    style.save(figure, tmp_path / "curve", ("svg",))
    block = html.Figure(html.svg_or_png(tmp_path / "curve"), "", "", source=tmp_path / "curve")
    marked = html.marked(block, "Slides of cohort A & B are synthetic.")
    page_exits = exits.Exits()
    page_exits.links(marked, "fig-curve")
    for text in (unquote(marked.image).partition(",")[2], page_exits.files["fig-curve.svg"]):
        root = ElementTree.fromstring(text)
        assert [e.text for e in root.iter(f"{SVG}text")][-1] == marked.mark
        assert (root.get("viewBox"), root.get("height")) == ("0 0 144 79", "79pt")
    assert not any(b"synthetic" in path.read_bytes() for path in tmp_path.iterdir())
