"""Blocks of the page: numbers as printed, tables, drawings, JSON, each worked out by hand."""

import json
import urllib.parse
import xml.etree.ElementTree as ET

import pytest

from her2pipe.reporting import html as page
from her2pipe.reporting.html import Column
from her2pipe.reporting.sections import SECTIONS


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (3815, 0, "3,815"),
        ("0.75", 2, "0.75"),
        (-0.0001, 2, "0.00"),
        ("", 2, "–"),
        (None, 1, "–"),
        (float("nan"), 1, "–"),
        ("all equal", 1, "–"),
    ],
)
def test_numbers(value, digits, text):
    assert page.format_number(value, digits) == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0009, "< 0.001"), (0.001, "0.001"), (0.0123, "0.012"), (0.456, "0.46"), (None, "–")],
)
def test_p_values(p, text):
    assert page.format_p(p) == text


def test_intervals():
    assert page.format_interval(0.7634, "0.70", 0.8254) == "0.763 (0.700 to 0.825)"
    assert page.format_interval(0.7634, "", 0.8254) == "0.763"
    assert page.format_interval(None, 0.1, 0.2) == "–"


def test_cells_sort_by_their_value():
    columns = [
        Column("who", "Who"),
        Column("n", "n", "count"),
        Column("p", "P", "p"),
        Column("auc", "AUC", 2, ("low", "high")),
        Column("mean", "Mean", 2, ("sd",), "note"),
    ]
    rows = [
        {
            "who": "a",
            "n": "3815",
            "p": "0.0000001",
            "auc": "0.5",
            "low": "0.25",
            "high": "0.75",
            "mean": 0.5,
            "sd": 0.125,
            "note": ", n = 3",
        },
        {"who": "b", "n": "too few", "auc": ""},
    ]
    table = page.table("T", columns, rows)
    assert [(cell.text, cell.sort) for cell in table.rows[0]] == [
        ("a", "a"),
        ("3,815", "3815.0"),
        ("<\u00a00.001", "1e-07"),
        ("0.50 (0.25\u00a0to\u00a00.75)", "0.5"),
        ("0.50\u00a0±\u00a00.12, n = 3", "0.5"),
    ]
    assert [cell.text for cell in table.rows[1]] == ["b", "too few", "–", "–", "–"]
    assert table.rows[1][1].sort == ""  # a note is no number: it stays last


def test_columns_nobody_fills_are_left_out():
    table = page.table("T", [Column("a", "A"), Column("b", "B"), Column("c", "C")], [{"c": 1}])
    assert [column["title"] for column in table.head] == ["A", "C"]


def test_unknown_columns_get_headings_and_kinds():
    rows = [
        {
            "method": "m",
            "p_holm": "0.0001",
            "n": "3",
            "auc": "0.5",
            "low": "0.4",
            "high": "0.6",
            "x_low": "1",
            "x_high": "3",
            "x": "2",
            "reference_auc": "0.25",
            "dunn_I_II": "0.2",
        }
    ]
    columns = page.infer_columns(rows, [Column("auc", "Area", 3)])
    assert [(c.key, c.title, c.kind, c.bounds) for c in columns] == [
        ("auc", "Area", 3, ("low", "high")),
        ("method", "Method", "text", ()),
        ("p_holm", "P holm", "p", ()),
        ("n", "n", "count", ()),
        ("x", "X", "count", ()),
        ("reference_auc", "Reference AUC", 3, ()),
        ("dunn_I_II", "Dunn, I v II", "p", ()),
    ]


@pytest.mark.parametrize("quotes", ['"', "'"])
def test_a_drawing_comes_out_as_it_went_in(tmp_path, quotes):
    import html

    svg = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg xmlns="http://www.w3.org/2000/svg">\n'
        f"<!-- a comment --> <text style={quotes}font: #x{quotes}>5 % &amp; &lt;ü</text>\n</svg>\n"
    )
    (tmp_path / "a.svg").write_text(svg, encoding="utf-8")
    address = page.svg_uri(tmp_path / "a.svg")
    assert not set(address) & set('"<>')
    kind, _, data = html.unescape(str(address)).partition(",")
    assert kind == "data:image/svg+xml"
    root = ET.fromstring(urllib.parse.unquote(data))
    assert root[0].text == "5 % & <ü"
    assert root[0].get("style") == "font: #x"
    assert "comment" not in data
    assert page.svg_uri(tmp_path / "none.svg") == ""
    assert data == urllib.parse.quote(urllib.parse.unquote(data), safe=page.SAFE_IN_SVG)


def test_a_large_drawing_gives_way_to_its_pixels(tmp_path):
    (tmp_path / "a.svg").write_text("<svg>" + " " * 100 + "</svg>")
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert page.svg_or_png(tmp_path / "a").startswith("data:image/svg")
    assert page.svg_or_png(tmp_path / "a", most_bytes=50) == "data:image/png;base64,iVBORw=="


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "&amp;", "\u2028", '"\\'])
def test_json_stays_within_its_script(text):
    written = page.script_json({"name": text})
    assert not set(written) & set("<>&\u2028")
    assert json.loads(written) == {"name": text}


def test_sections_have_places_of_their_own():
    """Two at one place would change their order with that in which modules are imported."""
    places = [SECTIONS[name].place for name in SECTIONS.names()]
    assert len(places) == len(set(places)) > 10
