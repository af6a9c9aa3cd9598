"""The chapter on the quality of slides: who is flagged and why, batches, sensitivity."""

import math
from dataclasses import replace

from manifests import write_manifest

from her2pipe.config import QualitySettings, ReportSettings
from her2pipe.files import write_table
from her2pipe.manifest import Item
from her2pipe.quality.cohort import tabulate
from her2pipe.reporting.html import Figure, Folded, Table, Text
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.quality import SENSITIVITY, Quality


def slide(name, **values):
    row = {"slide": name, "status": "ok", "scanner": "Aperio AT2", "mpp": 0.25}
    row |= {"patches": 40, "tissue_mm2": 12.0, "haematoxylin": 1.5, "counterstain": 1.0}
    return row | {"pen": 0, "pen_share": 0.0} | values


def inputs(folder, *rows, sensitivity=()):
    """What the page is made from: one cohort, its quality and scores, and a comparison."""
    rows = list(rows)
    columns = tabulate(rows, QualitySettings())
    write_table(folder / "B.tsv", columns, rows)
    (folder / "compare").mkdir()
    if sensitivity:
        names = [column.key for column in SENSITIVITY] + ["low", "high"]
        write_table(folder / "compare" / "sensitivity.tsv", names, sensitivity)
    sheet = "slide\tpath\tpatient\tsite\n" + "".join(
        f"{row['slide']}\tx{i}\tP{i}\t{'Bern' * (i == 2)}\n" for i, row in enumerate(rows)
    )
    (folder / "sheet.tsv").write_text(sheet)
    items = [
        Item("sheet", cohort="B", path=str(folder / "sheet.tsv")),
        Item("quality", cohort="B", path=str(folder / "B.tsv")),
        Item("compare", path=str(folder / "compare")),
    ]
    manifest = write_manifest(folder / "manifest.tsv", items)
    return ReportInputs.read(manifest, None, ReportSettings())


def blocks_of(tmp_path, *rows, **more):
    return Quality().blocks(inputs(tmp_path, *rows, **more))


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_a_flagged_slide_is_listed_with_its_reason(tmp_path):
    rows = [slide("S1"), slide("S2", pen=20, pen_share=0.5), slide("S3", scanner="Hamamatsu")]
    excluded = {"slide": "S4", "status": "excluded", "reason": "no tissue"}
    text, batches, looks, flagged, figure, every = blocks_of(tmp_path, *rows, excluded)
    assert isinstance(text, Text)
    assert text.text.startswith("1 of 3 slides is flagged (pen 1).")
    assert texts(flagged) == [["S2", "B", "pen", "pen or ink on 50% of the patches"]]
    assert [row[:4] for row in texts(batches)] == [
        ["B", "Aperio AT2", "–", "2"],
        ["B", "Hamamatsu", "Bern", "1"],
    ]
    assert [row[-1] for row in texts(batches)] == ["25.0", "0.0"]  # 20 of 80 patches
    assert [cell.text for cell in looks.rows[0]][-2:] == ["1.50", "1.00"]
    assert isinstance(figure, Figure)
    assert "data:image" in figure.image
    assert figure.files["svg"].startswith(b"<?xml")
    assert figure.files["pdf"].startswith(b"%PDF")
    assert isinstance(every, Folded)
    assert [row[0].text for row in every.blocks[0].rows] == ["S1", "S2", "S3"]


def test_outliers_are_not_named_where_the_page_names_nobody(tmp_path):
    rows = [slide("S1"), slide("S2"), slide("Odd-name", flag="outlier")]
    shown = inputs(tmp_path, *rows)
    ledger = [{"slide": row["slide"], "patient": "P", "cohort": "B"} for row in rows]
    for identifiers, names in ((True, (True, False)), (False, (False, True))):
        settings = ReportSettings(identifiers=identifiers)
        blocks = Quality().blocks(replace(shown, ledger=ledger, settings=settings))
        (figure,) = [block for block in blocks if isinstance(block, Figure)]
        drawn = figure.files["svg"].decode()
        assert tuple(name in drawn for name in ("Odd-name", "B-slide-3")) == names


def test_without_a_flag_the_page_says_so(tmp_path):
    text, *others = blocks_of(tmp_path, slide("S1"), slide("S2"))
    assert text.text.startswith("None of 2 slides is flagged.")
    assert not any("Flagged" in block.caption for block in others if isinstance(block, Table))


def test_nothing_measured_is_no_chapter(tmp_path):
    assert blocks_of(tmp_path, {"slide": "S", "status": "excluded", "reason": "no tissue"}) == []


def test_sensitivity_is_shown_where_it_was_compared(tmp_path):
    row = {"method": "TL-PA", "cohort": "B", "n": 30, "auc": 0.8, "accepted_auc": 0.82}
    row |= {"difference": 0.02, "low": -0.01, "high": 0.05, "p": 0.2}
    *_, table = blocks_of(tmp_path, slide("S1"), sensitivity=[row])
    (cells,) = texts(table)
    assert "0.020 (-0.010\u00a0to\u00a00.050)" in cells


def test_no_figure_where_stains_are_not_known(tmp_path):
    rows = [slide("S1", haematoxylin=math.nan), slide("S2", counterstain=None)]
    assert not any(isinstance(block, Figure) for block in blocks_of(tmp_path, *rows))


def test_many_flagged_slides_are_folded(tmp_path):
    rows = [slide(f"S{i}", pen_share=0.9) for i in range(30)]
    _, _, _, flagged, *_ = blocks_of(tmp_path, *rows)
    assert isinstance(flagged, Folded)
