"""Synthetic images: what a sheet's row makes of them."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from her2pipe.config import DrawSettings
from her2pipe.steps import draw

ROOT = Path(__file__).parents[2]
SMALL = DrawSettings(image_px=64, section_um=150)


def write(folder, *rows):
    sheet = folder / "s.tsv"
    header = "slide\tpath\tpatient\tseed\tseverity\tstain\tplace\tfault"
    sheet.write_text("\n".join([header, *rows]) + "\n")
    return sheet


def brown(image):
    """Share of an image that is stained by DAB: more red than blue."""
    return float((image[..., 0].astype(int) - image[..., 2] > 40).mean())


def test_a_place_is_the_same_cells_under_both_stains():
    cuts = draw.cut(3, 4.0, {"HE", "IHC"}, 2, SMALL)
    assert [image.shape for image in cuts["IHC"][:2]] == [(64, 64, 3)] * 2
    assert not np.array_equal(cuts["IHC"][0], cuts["IHC"][1])
    nuclei = [255 - cuts[stain][0].min(axis=2).astype(float) for stain in ("HE", "IHC")]
    other = 255 - cuts["IHC"][1].min(axis=2).astype(float)
    assert np.corrcoef(nuclei[0].ravel(), nuclei[1].ravel())[0, 1] > (
        np.corrcoef(nuclei[0].ravel(), other.ravel())[0, 1] + 0.1
    )
    alone = draw.cut(3, 4.0, {"HE"}, 1, SMALL)
    assert np.array_equal(alone["HE"][0], cuts["HE"][0])


def test_dab_rises_with_severity():
    shares = [brown(draw.cut(3, s, {"IHC"}, 1, SMALL)["IHC"][0]) for s in (0.0, 2.0, 4.0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.01 < shares[2]


def test_rows_become_files_and_labels_do_not_matter(tmp_path, her2pipe):
    rows = [
        "a\tresults/draw/X/a.png\tP1\t3\t4\tIHC\t0\t",
        "b\tresults/draw/X/b.png\tP1\t3\t4\tIHC\t1\t",
        "c\tresults/draw/X/c.png\tP2\t5\t1\tHE\t\tbroken",
    ]
    words = ("--image-px", "64", "--section-um", "150")
    code, told = her2pipe("draw", write(tmp_path, *rows), tmp_path / "one", *words)
    assert code == 0, told
    assert {p.name for p in (tmp_path / "one").iterdir()} == {"a.png", "b.png", "c.png"}
    found = cv2.imread(str(tmp_path / "one" / "b.png"))[..., ::-1]
    assert np.array_equal(found, draw.cut(3, 4.0, {"IHC"}, 2, SMALL)["IHC"][1])
    assert her2pipe("draw", write(tmp_path, rows[0]), tmp_path / "two", *words)[0] == 0
    one, two = (tmp_path / name / "a.png" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()  # no other row moves it
    code, told = her2pipe("tile", tmp_path / "one" / "c.png", tmp_path / "c.h5", "--view", "whole",
                          "--on-bad-slide", "fail")  # fmt: skip
    assert code == 1
    assert "cannot be read" in told


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a\tx.png\tP\t3\t5\tHE\t0\t", "a cannot be drawn"),
        ("a\tx.png\tP\t3\t1\tPAS\t0\t", "a cannot be drawn"),
        ("a\tx.png\tP\t\t1\tHE\t0\t", "a cannot be drawn"),
        ("a\tx.png\tP\t3\t1\tHE\t99\t", "and place 99 is wanted"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, her2pipe, row, told):
    words = ("--image-px", "64", "--section-um", "150")
    code, said = her2pipe("draw", write(tmp_path, row), tmp_path / "out", *words)
    assert code == 1
    assert told in said


def test_the_demos_sheets_are_what_their_script_writes(tmp_path):
    subprocess.run([sys.executable, ROOT / "studies/light/sheets.py", tmp_path], check=True)
    written = sorted(tmp_path.glob("*.tsv"))
    assert len(written) == 5
    for path in written:
        assert path.read_bytes() == (ROOT / "studies" / "light" / path.name).read_bytes()
