"""Quality of slides, from the file to the ledger: what is flagged, with which reason."""

import cv2
import numpy as np
import pytest
import slides
from stores import make_encoding

from her2pipe.cli import main
from her2pipe.config import SlidesSettings
from her2pipe.files import read_table
from her2pipe.slides.open import open_slide
from her2pipe.store import PatchStore

TILE = ("--view", "128", "--patch-px", "128")
SHEET = "slide\tpath\tpatient\n"
NAMES = ("blurred", "marked", "ordinary", "overview")


def drawn(folder):
    """A drawn section of 420 x 340 um at 0.499 um/px."""
    path = folder / "drawn.svs"
    size = "--width-um", "420", "--height-um", "340"
    assert main(["synthesise", str(path), *size, "--objective", "20", "--seed", "3"]) == 0
    with open_slide(path, SlidesSettings()) as slide:
        size = slide.width_px0, slide.height_px0
        return slide.region(0, 0, *size, size)


def marked(picture):
    """The picture with a stroke of blue pen over the tissue."""
    height, width = picture.shape[:2]
    stroke = (width // 4, height // 4), (3 * width // 4, 3 * height // 4)
    return cv2.line(picture.copy(), *stroke, (20, 60, 170), 30, cv2.LINE_AA)


def blurred(picture):
    """The picture, its left half out of focus."""
    half = picture.shape[1] // 2
    soft = cv2.GaussianBlur(picture, (0, 0), 2.5)
    return np.concatenate([soft[:, :half], picture[:, half:]], axis=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Patch stores of four slides and an excluded one, with their sheet."""
    folder = tmp_path_factory.mktemp("quality")
    picture = drawn(folder)
    pictures = {"ordinary": picture, "marked": marked(picture), "blurred": blurred(picture)}
    pictures["overview"] = picture
    (folder / "stores").mkdir()
    for name, picture in pictures.items():
        mpp = 28.97 if name == "overview" else 0.499
        path = slides.svs(folder / f"{name}.svs", picture, tile=256, levels=(1,), mpp=mpp)
        assert main(["tile", str(path), str(folder / "stores" / f"{name}.h5"), *TILE]) == 0
    (folder / "empty.svs").write_bytes(b"no slide")
    words = ["tile", str(folder / "empty.svs"), str(folder / "stores" / "empty.h5")]
    assert main([*words, *TILE]) == 0
    rows = [f"{name}\t{name}.svs\tP-{name}\n" for name in (*NAMES, "empty")]
    (folder / "sheet.tsv").write_text(SHEET + "".join(rows))
    return folder


@pytest.fixture(scope="module")
def table(cohort):
    """The quality table of these slides, by slide."""
    out = cohort / "B.tsv"
    words = ["quality", cohort / "stores", "--table", out, "--sheet", cohort / "sheet.tsv"]
    assert main(list(map(str, words))) == 0
    return {row["slide"]: row for row in read_table(out)}


def test_each_slide_is_flagged_with_the_reason_a_pathologist_gives(table):
    assert {name: table[name]["flag"] for name in NAMES} == {
        "ordinary": "",
        "marked": "pen",
        "blurred": "blur",
        "overview": "scale",
    }
    assert table["ordinary"]["reason"] == ""
    assert "% of the patches" in table["marked"]["reason"]
    assert table["marked"]["reason"].startswith("pen or ink on ")
    assert table["blurred"]["reason"].endswith("% of the patches are out of focus")
    assert table["overview"]["reason"] == "wrong scale: 28.97 um/px, coarser than 1.1 um/px (10x)"
    assert (table["empty"]["flag"], table["empty"]["patches"]) == ("excluded", "")
    assert table["empty"]["reason"].startswith("unreadable")


def test_columns_are_of_header_sheet_and_patches(table):
    row = table["marked"]
    assert (row["patient"], row["scanner"]) == ("P-marked", "Aperio")
    assert (float(row["mpp"]), float(row["objective"])) == (0.499, 40)
    marked = [int(row[name]) for name in ("pen", "blur", "fold", "bubble")]
    left = int(row["patches"]) - int(row["accepted"])  # patches with one of these or several
    assert max(marked) <= left <= sum(marked)
    assert float(row["pen_share"]) == pytest.approx(int(row["pen"]) / int(row["patches"]), abs=1e-6)
    assert int(row["cells"]) == int(row["patches"]) + int(row["background"])
    # About half of 420 x 340 um is tissue.
    assert float(table["ordinary"]["tissue_mm2"]) == pytest.approx(0.07, rel=0.1)
    assert float(table["ordinary"]["background_level"]) == pytest.approx(243, abs=3)
    assert float(table["ordinary"]["jpeg_quality"]) == pytest.approx(90, abs=2)  # as written


def test_flags_reach_scores_and_ledger_and_change_no_score(cohort, table, tmp_path, her2pipe):
    p = np.random.default_rng(0).dirichlet((1, 1, 1), 40)
    for name in NAMES:
        make_encoding(tmp_path / f"{name}.h5", p)
    make_encoding(tmp_path / "empty.h5", [], status="excluded", reason="unreadable: no slide")
    files = [tmp_path / f"{name}.h5" for name in (*NAMES, "empty")]
    before, after = tmp_path / "before.tsv", tmp_path / "B.tsv"
    assert her2pipe("score", *files, before)[0] == 0
    assert her2pipe("score", *files, after, f"--quality={cohort / 'B.tsv'}")[0] == 0
    flagged = {"flag": "", "reason": ""}
    for old, new in zip(read_table(before), read_table(after), strict=True):
        assert old | flagged == new | flagged
        if old["flag"] != "excluded":
            assert (new["flag"], new["reason"]) == (
                table[new["slide"]]["flag"],
                table[new["slide"]]["reason"],
            )
    ledger = tmp_path / "ledger.tsv"
    assert her2pipe("ledger", after, ledger, f"--sheet=B={cohort / 'sheet.tsv'}")[0] == 0
    remarks = {row["slide"]: row["reason"] for row in read_table(ledger)}
    assert table["marked"]["reason"] in remarks["marked"]


def test_a_slide_by_hand_is_tiled_and_printed(cohort, capsys):
    words = ["quality", str(cohort / "marked.svs"), "--view", "128"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "pen or ink on" in printed
    assert "Aperio" in printed
    assert list(cohort.glob("*.h5")) == []  # nothing is left behind


def test_a_pack_of_images_and_a_missing_store_are_three_lines(cohort, tmp_path, her2pipe):
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text((cohort / "sheet.tsv").read_text() + "other\tother.svs\tP\n")
    words = "quality", cohort / "stores", f"--sheet={sheet}", f"--table={tmp_path / 'B.tsv'}"
    code, stderr = her2pipe(*words)
    assert (code, len(stderr.splitlines())) == (1, 3)
    assert "1 slides of the sheet have no patch store: other" in stderr
    assert not (tmp_path / "B.tsv").exists()


def test_a_store_of_an_older_version_has_what_it_has(tmp_path, make, her2pipe):
    corners = [(64 * i, 0) for i in range(6)]
    store = make.store(tmp_path / "S.h5", make.stained(6, 1), corners, mpp=0.25)
    with PatchStore(store) as read:
        assert read.reason_names == ()
    assert her2pipe("quality", store, f"--table={tmp_path / 'B.tsv'}")[0] == 0
    (row,) = read_table(tmp_path / "B.tsv")
    assert (row["patches"], row["tissue_mm2"], row["accepted"], row["flag"]) == ("6", "", "", "")
    assert "pen_share" not in row
    assert float(row["haematoxylin"]) > 0
