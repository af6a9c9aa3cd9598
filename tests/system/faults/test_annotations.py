"""Annotations as they come: of another slide, empty, nameless, nested, and of a million corners."""

import json

import numpy as np
import pytest
from shapely.geometry import Polygon, mapping
from three_lines import problems_of

from her2pipe.config import TileSettings
from her2pipe.errors import BadSlideError
from her2pipe.slides import annotation
from her2pipe.slides.annotation import OutsideError, measure

pytestmark = pytest.mark.faults
SIDE, SIZE = 100, (400, 300)
COORDS = np.array([(x, y) for y in range(0, 300, SIDE) for x in range(0, 400, SIDE)])
NAMES = ["tumor"]


def square(x, y, side):
    return [[[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]]


def region(coordinates, kind="Polygon", **properties):
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def geojson(folder, *features):
    path = folder / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return path


def xml(folder, layer="Tumor", text="", corners=((0, 0), (100, 0), (100, 100), (0, 100))):
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
    path = folder / "a.xml"
    path.write_text(
        f'<Annotations><Annotation Name="{layer}"><Regions><Region Text="{text}">'
        f"<Vertices>{vertices}</Vertices></Region></Regions></Annotation></Annotations>"
    )
    return path


# --- of the slide, or of another one -------------------------------------------------------------


@pytest.mark.parametrize("corner", [(400, 0), (9000, 9000), (-200, -200), (0, 300), (1e7, 5)])
def test_regions_outside_the_slide_exclude_it(tmp_path, corner):
    path = geojson(tmp_path, region(square(*corner, 100)))
    (problem,) = problems_of(measure, path, COORDS, SIDE, SIZE, NAMES)
    assert isinstance(problem, OutsideError)
    assert isinstance(problem, BadSlideError)
    assert "lies outside the slide" in problem.what
    assert "the slide has 400 x 300 px" in problem.what


def test_microns_in_place_of_pixels_may_be_outside(tmp_path):
    path = xml(tmp_path, corners=((500, 0), (600, 0), (600, 100)))
    with pytest.raises(OutsideError):
        measure(path, COORDS, SIDE, SIZE, NAMES)


def test_mostly_outside_is_noted_with_the_share(tmp_path):
    path = geojson(tmp_path, region(square(350, 0, 200)))
    measured = measure(path, COORDS, SIDE, SIZE, NAMES, TileSettings().outside_noted)
    assert measured.notes == ["75% of the annotated area lies outside the slide"]
    assert measure(path, COORDS, SIDE, SIZE, NAMES, outside_noted=0.8).notes == []
    assert measured.fraction.tolist() == [0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0, 0, 0]


def test_a_little_outside_is_usual(tmp_path):
    path = geojson(tmp_path, region(square(-5, -5, 205)))
    assert measure(path, COORDS, SIDE, SIZE, NAMES, TileSettings().outside_noted).notes == []
    (note,) = measure(path, COORDS, SIDE, SIZE, NAMES, outside_noted=0.01).notes
    assert note == "5% of the annotated area lies outside the slide"


# --- without regions, without classes ------------------------------------------------------------


@pytest.mark.parametrize(
    "features",
    [
        [],
        [region([], kind="Polygon")],
        [region([[0, 0], [5, 5]], kind="LineString")],
        [{"type": "Feature", "geometry": None, "properties": {}}],
    ],
)
def test_an_empty_annotation_is_legal_and_noted(tmp_path, features):
    measured = measure(geojson(tmp_path, *features), COORDS, SIDE, SIZE, NAMES)
    assert not measured.fraction.any()
    assert "no region" in measured.notes[0] or "nothing" in measured.notes[0]


def test_an_empty_mask_is_noted(tmp_path):
    from PIL import Image

    Image.new("L", (40, 30)).save(tmp_path / "m.png")
    measured = measure(tmp_path / "m.png", COORDS, SIDE, SIZE, NAMES)
    assert measured.notes == ["the mask is empty where there are patches"]


def test_a_name_without_class_counts_and_is_noted(tmp_path):
    path = geojson(tmp_path, region(square(0, 0, 100), name="Stroma"))
    measured = measure(path, COORDS, SIDE, SIZE, NAMES)
    assert measured.fraction[0] == 1
    assert measured.notes == [
        "regions have no class and count as tumour, though they are named Stroma"
    ]
    assert measure(xml(tmp_path, "", "Necrosis"), COORDS, SIDE, SIZE, NAMES).notes
    path = geojson(tmp_path, region(square(0, 0, 100), name="Tumor"))
    assert measure(path, COORDS, SIDE, SIZE, NAMES).notes == []


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\n", "\t", "\x0b"])
def test_a_class_name_is_one_line(tmp_path, mark):
    path = geojson(tmp_path, region(square(0, 0, 9), classification={"name": f"Stroma{mark}x"}))
    (problem,) = problems_of(measure, path, COORDS, SIDE, SIZE, NAMES)
    assert problem.what.endswith("its classes: Stroma x")


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon", "coordinates": [[[*c, 7] for c in square(0, 0, 100)[0]]]},
        {"type": "Polygon", "coordinates": [square(0, 0, 100)[0][:4]]},
        {"type": "Polygon", "coordinates": [[list(map(str, c)) for c in square(0, 0, 100)[0]]]},
        {"type": "MultiPolygon", "coordinates": [square(0, 0, 100), square(0, 0, 100)]},
    ],
    ids=["three dimensions", "not closed", "numbers as text", "twice"],
)
def test_other_ways_to_write_a_square(tmp_path, geometry):
    feature = {"type": "Feature", "geometry": geometry, "properties": None}
    (tmp_path / "a.geojson").write_text(json.dumps(feature))
    (tmp_path / "b.json").write_text(json.dumps({"type": "GeometryCollection",
                                                 "geometries": [geometry]}))  # fmt: skip
    for name in ("a.geojson", "b.json"):
        assert (
            measure(tmp_path / name, COORDS, SIDE, SIZE, NAMES).fraction.tolist() == [1] + [0] * 11
        )


# --- hostile -------------------------------------------------------------------------------------


def test_deep_nesting_is_refused_or_read(tmp_path):
    polygon = json.dumps({"type": "Polygon", "coordinates": square(0, 0, 100)})
    path = tmp_path / "a.geojson"
    for depth, is_read in ((400, True), (5_000, False), (100_000, False)):
        nested = '{"type":"GeometryCollection","geometries":[' * depth + polygon + "]}" * depth
        path.write_text('{"type":"Feature","properties":{},"geometry":' + nested + "}")
        if is_read:
            assert measure(path, COORDS, SIDE, SIZE, NAMES).fraction.sum() == 1
        else:
            (problem,) = problems_of(measure, path, COORDS, SIDE, SIZE, NAMES)
            assert "the annotation cannot be read" in problem.what


def test_entities_that_expand_are_refused(tmp_path):
    path = tmp_path / "a.xml"
    laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    path.write_text(f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><Annotations>&l11;</Annotations>')
    assert problems_of(measure, path, COORDS, SIDE, SIZE, NAMES)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e308, -1e12])
def test_corners_that_no_slide_has(tmp_path, number):
    """A corner at 1e308 made every patch of the slide tumour."""
    outline = [[[0, 0], [number, 0], [number, number], [0, 100], [0, 0]]]
    (problem,) = problems_of(measure, geojson(tmp_path, region(outline)), COORDS, SIDE, SIZE, NAMES)
    assert f"a corner lies at {number:g}, 0" in problem.what
    path = xml(tmp_path, corners=((0, 0), (number, 0), (100, 100)))
    assert "a corner lies at" in problems_of(measure, path, COORDS, SIDE, SIZE, NAMES)[0].what


def test_half_a_letter_in_a_name(tmp_path):
    """JSON may hold one; no file of UTF-8 can."""
    path = geojson(tmp_path, region(square(0, 0, 9), classification={"name": "\ud800Stroma"}))
    (problem,) = problems_of(measure, path, COORDS, SIDE, SIZE, NAMES)
    assert str(problem).encode()


@pytest.mark.parametrize("turn", [2, 3, 6])
def test_a_mask_that_its_metadata_turn(tmp_path, turn):
    from PIL import Image

    exif = Image.Exif()
    exif[annotation.EXIF_ORIENTATION] = turn
    Image.new("L", (40, 30)).save(tmp_path / "m.png", exif=exif.tobytes())
    (problem,) = problems_of(measure, tmp_path / "m.png", COORDS, SIDE, SIZE, NAMES)
    assert "EXIF data turn it" in problem.what


def test_a_file_too_large_to_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(annotation, "MOST_BYTES", 100)
    path = geojson(tmp_path, region(square(0, 0, 100)))
    (problem,) = problems_of(measure, path, COORDS, SIDE, SIZE, NAMES)
    assert "at most" in problem.what


@pytest.mark.parametrize("write", [lambda folder: geojson(folder, region(square(0, 0, 9))), xml])
def test_more_values_than_memory_bears_are_refused(tmp_path, monkeypatch, write):
    """A hostile file of 200 MB may hold tens of millions of tiny values."""
    path = write(tmp_path)
    measure(path, COORDS, SIDE, SIZE, NAMES)
    monkeypatch.setattr(annotation, "MOST_VALUES", 10)
    monkeypatch.setattr(annotation, "MOST_ELEMENTS", 5)
    (problem,) = problems_of(measure, path, COORDS, SIDE, SIZE, NAMES)
    assert "values, at most" in problem.what


def spikes(corners, seed=0):
    """A star of many long, thin spikes."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radius = np.where(np.arange(corners) % 2, 140, 40 + 40 * rng.random(corners))
    return np.column_stack([200 + radius * np.cos(angle), 150 + radius * np.sin(angle)])


def test_a_raster_counts_what_areas_are():
    star = Polygon(spikes(1200)).difference(Polygon([(190, 140), (230, 140), (230, 170)]))
    cut = [Polygon(square(150, 100, 60)[0])]
    exact, inside, _ = annotation.shares([star], cut, COORDS, SIDE, SIZE)
    counted, pixel = annotation._on_raster([star], cut, COORDS, SIDE, SIZE)
    assert inside == 1
    assert pixel == SIDE / annotation.RASTER_SIDE
    assert np.abs(counted - exact).max() < 0.02  # spikes are thinner than points are apart


def test_sums_over_edges_give_the_same_areas():
    """Of a star with a hole, and of patches that overlap as those at a slide's edge do."""
    star = Polygon(spikes(1000)).difference(Polygon(square(150, 100, 60)[0]))
    shape = star.union(Polygon(square(-50, 250, 90)[0]))
    for coords in (COORDS, np.array([[0, 0], [0, 255], [137, 60], [190, 90], [317, 200]])):
        exact = annotation._exactly(shape, coords, SIDE, False)
        assert annotation._on_grid(shape, coords, SIDE) == pytest.approx(exact, abs=1e-6)
    everything = annotation._on_grid(Polygon(square(-50, -50, 500)[0]), COORDS, SIDE)
    assert everything.tolist() == [1] * len(COORDS)


def test_ragged_regions_over_each_other_are_counted():
    """An exact union of hundreds of these takes minutes."""
    heap = [Polygon(spikes(1500, seed)) for seed in range(12)]
    fraction, inside, notes = annotation.shares(heap, [], COORDS, SIDE, SIZE)
    assert (inside, len(notes)) == (1, 1)
    exact, _, none = annotation.shares([Polygon(spikes(1500))], [], COORDS, SIDE, SIZE)
    assert none == []
    assert (fraction > exact - 0.01).all()
    assert fraction.max() <= 1


@pytest.mark.slow
def test_a_million_spikes_are_measured_on_a_raster(tmp_path, monkeypatch):
    """An exact union of these would take hours."""
    monkeypatch.setattr(annotation, "RASTER_CROSSINGS", 3_000_000)
    path = geojson(tmp_path, region(mapping(Polygon(spikes(200_000).round(3)))["coordinates"]))
    measured = measure(path, COORDS, SIDE, SIZE, NAMES)
    assert measured.notes[0].startswith("its 200,001 corners were measured on points")
    few, _, _ = annotation.shares([Polygon(spikes(2_000))], [], COORDS, SIDE, SIZE)
    assert measured.fraction == pytest.approx(few, abs=0.05)


def test_a_scribble_that_crosses_itself_is_measured():
    corners = np.random.default_rng(0).random((20_000, 2)) * SIZE
    fraction, inside, notes = annotation.shares([Polygon(corners)], [], COORDS, SIDE, SIZE)
    assert inside == 1
    assert len(notes) == 1
    assert fraction.min() > 0.3  # about half is enclosed an odd number of times
    assert fraction.max() < 0.7
