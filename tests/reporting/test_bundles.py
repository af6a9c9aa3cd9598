"""Drift on the page: counts of hand-made scores, and a picture that is valid."""

from xml.etree import ElementTree

import pytest

from her2pipe.bundles.description import Distribution
from her2pipe.config import DriftSettings
from her2pipe.reporting.bundles import compare, strips

KNOWN = Distribution(n=20, mean=5, sd=1, q01=3, q05=3.4, q50=5, q95=6.6, q99=7)
FEW = KNOWN.model_copy(update={"n": 4})
TABLE = [
    {"slide": "a", "score": "5", "patches": "4", "flag": ""},
    {"slide": "b", "score": "9.5", "patches": "5", "flag": "reflex; drift"},
    {"slide": "c", "score": "", "patches": "0", "flag": "excluded"},
    {"slide": "d", "score": "2.5", "patches": "90", "flag": ""},
]


@pytest.fixture
def rows():
    """Quantities with a distribution: of the score 20 slides, of the patches 4."""
    return list(compare(TABLE, {"score": KNOWN, "patches": FEW}, DriftSettings()))


def test_scored_slides_are_counted_inside_and_outside(rows):
    score = rows[1]
    assert (score["reference_n"], score["n"], score["outside"]) == (20, 3, 1)
    assert score["values"] == [5, 9.5, 2.5]
    # 3 - 3.2 / 3.29 to 7 + 3.2 / 3.29
    assert score["range"] == "2.03 to 7.97"
    assert (score["reference"], score["median"]) == ("3.4, 5, 6.6", "5")


def test_few_development_slides_give_no_verdict(rows):
    assert (rows[0]["outside"], rows[0]["range"]) == (None, "too few slides")


def test_the_picture_has_a_dot_for_each_value(rows):
    """Within its bounds; one is out of range."""
    svg = ElementTree.fromstring(strips(rows))
    dots = svg.findall("{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 6
    assert sum(dot.get("fill") == "#d55e00" for dot in dots) == 1
    assert all(0 < float(dot.get("cx")) <= float(svg.get("width")) for dot in dots)


def test_equal_values_need_no_scale():
    constant = Distribution(n=20, mean=1, sd=0, q01=1, q05=1, q50=1, q95=1, q99=1)
    drift = DriftSettings(tolerance=0)
    (row,) = compare([{"slide": "a", "mpp": "1", "flag": ""}], {"mpp": constant}, drift)
    assert row["outside"] == 0
    ElementTree.fromstring(strips([row]))
