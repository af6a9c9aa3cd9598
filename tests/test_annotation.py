"""Tumour fractions against areas worked out by hand."""

import json

import numpy as np
import pytest

from her2pipe.annotation import tumour_fraction
from her2pipe.errors import Her2Error

NAMES = ["tumor", "tumour"]
COORDS = np.array([[0, 0], [100, 0], [0, 100], [100, 100]])
SQUARE = [[0, 0], [150, 0], [150, 150], [0, 150], [0, 0]]
HOLE = [[50, 50], [100, 50], [100, 100], [50, 100], [50, 50]]


def feature(coordinates, kind="Polygon", name="Tumor", object_type="annotation"):
    properties = {"objectType": object_type}
    if name:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def fractions(tmp_path, features, collection=True):
    path = tmp_path / "a.geojson"
    data = {"type": "FeatureCollection", "features": features} if collection else features
    path.write_text(json.dumps(data))
    return tumour_fraction(path, COORDS, 100, (200, 200), NAMES).tolist()


def test_polygon(tmp_path):
    assert fractions(tmp_path, [feature([SQUARE])]) == pytest.approx([1, 0.5, 0.5, 0.25])


def test_hole_and_multipolygon(tmp_path):
    assert fractions(tmp_path, [feature([SQUARE, HOLE])]) == pytest.approx([0.75, 0.5, 0.5, 0.25])
    far = [[180, 180], [200, 180], [200, 200], [180, 200], [180, 180]]
    found = fractions(tmp_path, [feature([[SQUARE, HOLE], [far]], "MultiPolygon")])
    assert found == pytest.approx([0.75, 0.5, 0.5, 0.29])


def test_overlaps_count_once(tmp_path):
    twice = [feature([SQUARE]), feature([SQUARE], name=None)]
    assert fractions(tmp_path, twice, collection=False) == pytest.approx([1, 0.5, 0.5, 0.25])


def test_other_classes_and_cells_do_not_count(tmp_path):
    others = [feature([SQUARE], name="Stroma"), feature([SQUARE], object_type="detection")]
    assert fractions(tmp_path, others) == [0, 0, 0, 0]


def test_crossing_outlines_are_repaired(tmp_path):
    bow = [[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]  # two triangles, a quarter each
    assert fractions(tmp_path, [feature([bow])]) == pytest.approx([0.5, 0, 0, 0])


def xml(tmp_path, regions, name=""):
    text = "".join(
        f'<Region NegativeROA="{hole}"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring)
        + "</Vertices></Region>"
        for ring, hole in regions
    )
    path = tmp_path / "a.xml"
    path.write_text(
        f'<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="{name}">'
        f"<Regions>{text}</Regions></Annotation></Annotations>"
    )
    return tumour_fraction(path, COORDS, 100, (200, 200), NAMES).tolist()


def test_aperio_xml_with_a_negative_region(tmp_path):
    found = xml(tmp_path, [(SQUARE, 0), (HOLE, 1)])
    assert found == pytest.approx([0.75, 0.5, 0.5, 0.25])
    assert xml(tmp_path, [(SQUARE, 0)], name="Tumor bed") == pytest.approx([1, 0.5, 0.5, 0.25])
    assert xml(tmp_path, [(SQUARE, 0)], name="Necrosis") == [0, 0, 0, 0]


@pytest.mark.parametrize("scale", [1, 4])
def test_mask_at_any_resolution(tmp_path, scale):
    import cv2

    mask = np.zeros((200 // scale, 200 // scale), np.uint8)
    mask[: 152 // scale, : 152 // scale] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    found = tumour_fraction(tmp_path / "mask.png", COORDS, 100, (200, 200), NAMES)
    assert found.tolist() == pytest.approx([1, 0.52, 0.52, 0.2704])


def test_a_mask_of_another_shape_is_refused(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((100, 50), np.uint8))
    with pytest.raises(Her2Error, match="does not match the slide"):
        tumour_fraction(tmp_path / "mask.png", COORDS, 100, (200, 200), NAMES)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.xml", "<Annotations"), ("a.xml", "<html/>"), ("a.geojson", "{"), ("a.geojson", '{"a": 1}'),
     ("a.png", "text"), ("a.geojson", '[{"geometry": null, "properties": {}}]')],
)  # fmt: skip
def test_what_is_no_annotation_is_told(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(Her2Error, match="cannot be read"):
        tumour_fraction(tmp_path / name, COORDS, 100, (200, 200), NAMES)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(Her2Error, match="does not exist"):
        tumour_fraction(tmp_path / "none.xml", COORDS, 100, (200, 200), NAMES)


def test_real_exports_are_read(data):
    for name in ("TCGA-EJ-5518-01Z-00-DX1.xml", "geojson_example.json"):
        coords = np.array([(x, y) for y in range(0, 90_000, 2048) for x in range(0, 120_000, 2048)])
        found = tumour_fraction(
            data / "annotations" / name, coords, 2048, (120_000, 90_000), ["tumor", "cap"]
        )
        assert 0 < (found > 0).sum() < len(coords)
        assert ((found > 0) & (found < 1)).any()
