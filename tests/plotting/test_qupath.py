"""Maps for QuPath and TIAViz: where polygons lie, what they carry, that others read them."""

import json
import sqlite3
import uuid
from contextlib import closing

import numpy as np
import pytest

from her2pipe.plotting import qupath
from her2pipe.plotting.patch_map import PatchMap

CLASSES = ["HER2-", "HER2+", "Non-tumour"]
COLOURS = [(0, 114, 178), (213, 94, 0), (240, 228, 66)]
COORDS = np.array([[0, 0], [64, 0], [320, 128]], np.int32)
P = np.array([[0.1, 0.9, 0.0], [0.5, 0.25, 0.25], [0, 0.2, 0.8]], np.float32)


def map_of(slide="S 1", classes=CLASSES, **changes):
    values = {
        "slide": slide,
        "width_px0": 640,
        "height_px0": 640,
        "coords": COORDS,
        "side_px0": 64,
        "classes": classes,
        "probabilities": P[:, : len(classes)],
        "values": np.array([0.9, -1e-7, 2.5e-4], np.float32),
        "label": "attention",
    }
    return PatchMap(**(values | changes))


def feature_schema(classes):
    """What QuPath writes and reads, as a JSON schema."""
    pair = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
    ring = {"type": "array", "items": pair, "minItems": 5, "maxItems": 5}
    byte = {"type": "integer", "minimum": 0, "maximum": 255}
    kind = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "color"],
        "properties": {
            "name": {"enum": classes},
            "color": {"type": "array", "items": byte, "minItems": 3, "maxItems": 3},
        },
    }
    names = [*(f"p({name})" for name in classes), "contribution"]
    numbers = {
        "type": "object",
        "additionalProperties": False,
        "required": names,
        "properties": {name: {"type": "number"} for name in names},
    }
    properties = {"objectType": {"const": "tile"}, "measurements": numbers}
    if classes:
        properties["classification"] = kind
    rings = {"type": "array", "items": ring, "minItems": 1, "maxItems": 1}
    polygon = {"type": {"const": "Polygon"}, "coordinates": rings}

    def whole(parts):
        return {
            "type": "object",
            "additionalProperties": False,
            "required": list(parts),
            "properties": parts,
        }

    feature = {
        "type": {"const": "Feature"},
        "id": {"type": "string", "format": "uuid"},
        "geometry": whole(polygon),
        "properties": whole(properties),
    }
    return whole(
        {
            "type": {"const": "FeatureCollection"},
            "slide": {"type": "string"},
            "contribution": {"type": "string"},
            "features": {"type": "array", "items": whole(feature)},
        }
    )


@pytest.mark.parametrize("classes", [CLASSES, []], ids=["classes", "none"])
def test_geojson_validates_and_lies_where_the_patches_are(classes):
    from jsonschema import validate
    from shapely.geometry import box, shape

    geojson = json.loads(qupath.geojson(map_of(classes=classes)))
    validate(geojson, feature_schema(classes))
    assert len(geojson["features"]) == 3
    for (x, y), feature in zip(COORDS.tolist(), geojson["features"], strict=True):
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.exterior.is_closed
        assert polygon.exterior.is_ccw  # RFC 7946, section 3.1.6
        assert polygon.equals(box(x, y, x + 64, y + 64))
        uuid.UUID(feature["id"])
    assert len({feature["id"] for feature in geojson["features"]}) == 3


def test_geojson_colours_and_measurements():
    geojson = json.loads(qupath.geojson(map_of()))["features"]
    kinds = [feature["properties"]["classification"] for feature in geojson]
    assert [kind["name"] for kind in kinds] == ["HER2+", "HER2-", "Non-tumour"]
    assert [kind["color"] for kind in kinds] == [[156, 58, 0], [86, 180, 233], [224, 216, 236]]
    assert [feature["properties"]["measurements"] for feature in geojson] == [
        {"p(HER2-)": 0.1, "p(HER2+)": 0.9, "p(Non-tumour)": 0.0, "contribution": 0.9},
        {"p(HER2-)": 0.5, "p(HER2+)": 0.25, "p(Non-tumour)": 0.25, "contribution": -1e-7},
        {"p(HER2-)": 0.0, "p(HER2+)": 0.2, "p(Non-tumour)": 0.8, "contribution": 2.5e-4},
    ]


@pytest.mark.parametrize("slide", ["<script>alert(1)</script>", 'a "b" \\', "Größe 1"])
def test_a_slides_name_is_only_text(slide, tmp_path):
    assert json.loads(qupath.geojson(map_of(slide)))["slide"] == slide
    qupath.write_annotations(map_of(slide), tmp_path / "map.db")
    with closing(sqlite3.connect(tmp_path / "map.db")) as connection:
        metadata = dict(connection.execute("SELECT key, value FROM metadata"))
    assert json.loads(metadata["slide"]) == slide


def test_a_slide_without_patches():
    geojson = map_of(coords=np.zeros((0, 2), np.int32), probabilities=np.zeros((0, 3)),
                   values=np.zeros(0))  # fmt: skip
    assert json.loads(qupath.geojson(geojson))["features"] == []


def test_the_same_map_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        qupath.write_annotations(map_of(), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert qupath.geojson(map_of()) == qupath.geojson(map_of())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("classes", [CLASSES, []], ids=["classes", "none"])
def test_tiatoolbox_reads_what_was_written(tmp_path, monkeypatch, classes):
    """The same polygons and properties, through its queries, too; and it takes the GeoJSON."""
    from shapely.geometry import box
    from tiatoolbox.annotation.storage import SQLiteStore

    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        # tiatoolbox asks this Python's sqlite for its options by way of an unrelated permission
        with closing(sqlite3.connect(":memory:")) as connection:
            options = [name for (name,) in connection.execute("pragma compile_options")]
        monkeypatch.setattr(SQLiteStore, "compile_options", staticmethod(lambda: options))
    path = tmp_path / "S 1.db"
    qupath.write_annotations(map_of(classes=classes), path)
    store = SQLiteStore(path)
    written = json.loads(qupath.geojson(map_of(classes=classes)))["features"]
    assert list(store.keys()) == [feature["id"] for feature in written]
    for feature, (x, y) in zip(written, COORDS.tolist(), strict=True):
        annotation = store[feature["id"]]
        assert annotation.geometry.equals(box(x, y, x + 64, y + 64))
        known = dict(annotation.properties)
        if classes:
            kind = feature["properties"]["classification"]
            assert known.pop("type") == kind["name"]
            assert known.pop("color") == pytest.approx([v / 255 for v in kind["color"]], abs=1e-4)
        else:
            assert known.pop("type") == "patch"
        assert known == feature["properties"]["measurements"]
    # what TIAViz asks: what is in view, which types and properties there are, the topmost one
    assert len(store.query(box(10, 10, 70, 50))) == 2
    assert len(store.query((300, 100, 400, 300), geometry_predicate="bbox_intersects")) == 1
    kinds = {"HER2+", "HER2-", "Non-tumour"} if classes else {"patch"}
    assert store.pquery("props['type']") == kinds
    if classes:
        assert store.pquery("props['p(HER2+)']") == {0.9, 0.25, 0.2}
        high = store.query(where="props['p(HER2+)'] > 0.5")
        assert list(high) == [written[0]["id"]]
    store.close()
    (tmp_path / "map.geojson").write_text(qupath.geojson(map_of(classes=classes)))
    again = SQLiteStore.from_geojson(tmp_path / "map.geojson")
    assert sorted(a.geometry.bounds for a in again.values()) == sorted(
        (x, y, x + 64.0, y + 64.0) for x, y in COORDS.tolist()
    )
    again.close()


def test_areas_with_artefacts_are_annotations_of_a_class_each():
    """Neighbours in a row make one rectangle; the tiles of the map stay as they are."""
    from shapely.geometry import box, shape

    pen = np.array([[64, 0], [0, 0], [320, 128]])
    features = json.loads(qupath.geojson(map_of(), {"pen": pen, "fold": pen[:0]}))["features"]
    assert features[:3] == json.loads(qupath.geojson(map_of()))["features"]
    first, second = features[3:]
    assert shape(first["geometry"]).equals(box(0, 0, 128, 64))
    assert shape(second["geometry"]).equals(box(320, 128, 384, 192))
    for feature in (first, second):
        assert shape(feature["geometry"]).exterior.is_ccw
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["classification"]["name"] == "Artefact: pen"
