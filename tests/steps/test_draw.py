"""Synthetic images: what a sheet's row makes of them."""

import cv2
import numpy as np
import pytest

from her2pipe.config import DrawSettings
from her2pipe.synthetic.image_fields import draw_fields

SMALL = DrawSettings(image_px=64, section_um=150)


def write(folder, *rows):
    sheet = folder / "s.tsv"
    header = "slide\tpath\tpatient\tseed\tseverity\tstain\tplace\tfault"
    sheet.write_text("\n".join([header, *rows]) + "\n")
    return sheet


def test_rows_become_files_and_labels_do_not_matter(tmp_path, her2pipe):
    rows = [
        "a\tresults/draw/X/a.png\tP1\t3\t4\tIHC\t0\t",
        "b\tresults/draw/X/b.png\tP1\t3\t4\tIHC\t1\t",
        "c\tresults/draw/X/c.png\tP2\t5\t1\tHE\t\tbroken",
    ]
    words = ("--image-px", "64", "--section-um", "150")
    code, text = her2pipe("draw", write(tmp_path, *rows), tmp_path / "one", *words)
    assert code == 0, text
    assert {p.name for p in (tmp_path / "one").iterdir()} == {"a.png", "b.png", "c.png"}
    found = cv2.imread(str(tmp_path / "one" / "b.png"))[..., ::-1]
    assert np.array_equal(found, draw_fields(3, 4.0, {"IHC"}, 2, SMALL)["IHC"][1])
    assert her2pipe("draw", write(tmp_path, rows[0]), tmp_path / "two", *words)[0] == 0
    one, two = (tmp_path / name / "a.png" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()  # no other row moves it
    code, text = her2pipe(
        "tile",
        tmp_path / "one" / "c.png",
        tmp_path / "c.h5",
        "--view",
        "whole",
        "--on-bad-slide",
        "fail",
    )
    assert code == 1
    assert "cannot be read" in text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ("a\tx.png\tP\t3\t5\tHE\t0\t", "a cannot be drawn"),
        ("a\tx.png\tP\t3\t1\tPAS\t0\t", "a cannot be drawn"),
        ("a\tx.png\tP\t\t1\tHE\t0\t", "a cannot be drawn"),
        ("a\tx.png\tP\t3\t1\tHE\t99\t", "and place 99 is wanted"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, her2pipe, row, text):
    words = ("--image-px", "64", "--section-um", "150")
    code, stderr = her2pipe("draw", write(tmp_path, row), tmp_path / "out", *words)
    assert code == 1
    assert text in stderr
