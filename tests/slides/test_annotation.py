"""Tumour fractions against areas worked out by hand."""

import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

from her2pipe.config import TileSettings
from her2pipe.errors import Her2Error
from her2pipe.slides.annotation import tumour_fraction

NAMES = TileSettings().annotation_names
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


def test_a_hole_that_touches_a_side_of_a_patch(tmp_path):
    """Patch (0, 0) is inside but for a triangle of 4,000 px2 on its lower side: 0.6 is left."""
    outline = [[0, 0], [200, 0], [200, 200], [0, 200], [0, 0]]
    hole = [[20, 100], [100, 100], [60, 0.0], [20, 100]]
    assert fractions(tmp_path, [feature([outline, hole])])[0] == pytest.approx(0.6)


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
    small = [[0, 0], [50, 0], [50, 50], [0, 50], [0, 0]]
    others = [feature([SQUARE], name="Stroma"), feature([SQUARE], object_type="detection")]
    assert fractions(tmp_path, [feature([small]), *others]) == [0.25, 0, 0, 0]


COUNTING = ["Tumor", "TUMOUR", "Tumor: Positive", " Invasive carcinoma ", "Malignant", ""]
OTHERS = [
    *("Non-tumour", "Non-tumor", "Peritumoral stroma", "Non-invasive (DCIS)", "Tumor bed"),
    *("Carcinoma in situ", "Stroma: Tumor"),
]


@pytest.mark.parametrize("name", COUNTING)
def test_classes_that_count(tmp_path, name):
    whole = pytest.approx([1, 0.5, 0.5, 0.25])
    assert fractions(tmp_path, [feature([SQUARE], name=name)]) == whole
    assert xml(tmp_path, [(SQUARE, 0)], name=name) == whole


@pytest.mark.parametrize("name", OTHERS)
def test_classes_are_whole_names_and_none_that_counts_is_reported(tmp_path, name):
    for read in (
        lambda: fractions(tmp_path, [feature([SQUARE], name=name)]),
        lambda: xml(tmp_path, [(SQUARE, 0)], name=name),
    ):
        with pytest.raises(Her2Error, match="no region") as error:
            read()
        assert name in error.value.what
        assert "tile.annotation_names" in error.value.fix


def test_class_given_as_a_list_of_names(tmp_path):
    square = feature([SQUARE])
    square["properties"]["classification"] = {"names": ["Tumor", "Positive"]}
    assert fractions(tmp_path, [square])[0] == 1
    square["properties"]["classification"] = {"names": ["Stroma", "Positive"]}
    with pytest.raises(Her2Error, match="Stroma: Positive"):
        fractions(tmp_path, [square])


def test_a_file_without_regions_is_no_tumour(tmp_path):
    cell = feature([SQUARE], object_type="cell")
    empty = {"type": "Feature", "geometry": None, "properties": None}
    line, point = feature(SQUARE, "LineString"), feature([5, 5], "Point", "Stroma")
    for features in ([], [cell], [empty], [line, point]):
        assert fractions(tmp_path, features) == [0, 0, 0, 0]
    assert xml(tmp_path, []) == [0, 0, 0, 0]


def test_geometry_collections_are_opened(tmp_path):
    def collection(*parts):
        return {"type": "GeometryCollection", "geometries": list(parts)}

    square = feature([SQUARE])
    point = {"type": "Point", "coordinates": [1, 1]}
    square["geometry"] = collection(point, collection(square["geometry"]), collection())
    found = fractions(tmp_path, [square, {"type": "Feature", "geometry": None}])
    assert found == pytest.approx([1, 0.5, 0.5, 0.25])


def test_crossing_outlines_are_repaired(tmp_path):
    bow = [[0, 0], [100, 100], [100, 0], [0, 100], [0, 0]]  # two triangles, a quarter each
    assert fractions(tmp_path, [feature([bow])]) == pytest.approx([0.5, 0, 0, 0])


def layer(regions, name=""):
    text = "".join(
        f'<Region NegativeROA="{hole}" Type="{kind[0] if kind else 0}"><Vertices>'
        + "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring)
        + "</Vertices></Region>"
        for ring, hole, *kind in regions
    )
    return f'<Annotation Id="1" Name="{name}"><Regions>{text}</Regions></Annotation>'


def xml(tmp_path, regions, name="", more=""):
    path = tmp_path / "a.xml"
    path.write_text(
        f'<Annotations MicronsPerPixel="0.25">{layer(regions, name)}{more}</Annotations>'
    )
    return tumour_fraction(path, COORDS, 100, (200, 200), NAMES).tolist()


def test_lists_of_corners(tmp_path):
    """What is positive counts whatever its name; what is negative is cut out; lines are nothing."""

    def regions(*outlines):
        return [{"name": f"_{i}", "vertices": corners} for i, corners in enumerate(outlines)]

    path = tmp_path / "71.json"
    for positive, negative, expected in (
        ([SQUARE], [], [1, 0.5, 0.5, 0.25]),
        ([SQUARE[:-1], SQUARE[:2]], [HOLE], [0.75, 0.5, 0.5, 0.25]),
        ([], [HOLE], [0, 0, 0, 0]),
    ):
        data = {"positive": regions(*positive), "negative": regions(*negative)}
        path.write_text(json.dumps(data))
        shares = tumour_fraction(path, COORDS, 100, (200, 200), NAMES)
        assert shares.tolist() == pytest.approx(expected)
    path.write_text(json.dumps({"positive": [{"corners": SQUARE}]}))
    with pytest.raises(Her2Error, match="cannot be read"):
        tumour_fraction(path, COORDS, 100, (200, 200), NAMES)


def test_aperio_xml_with_a_negative_region(tmp_path):
    found = xml(tmp_path, [(SQUARE, 0), (HOLE, 1)])
    assert found == pytest.approx([0.75, 0.5, 0.5, 0.25])
    found = xml(tmp_path, [(SQUARE, 0)], "Tumor", layer([(SQUARE, 0), (HOLE, 1)], "Necrosis"))
    assert found == pytest.approx([0.75, 0.5, 0.5, 0.25])
    with pytest.raises(Her2Error, match=r"classes: Tumor \(negative\)"):
        xml(tmp_path, [(HOLE, 1)], "Tumor")


def test_aperio_ellipses_and_rectangles(tmp_path):
    box = [(150, 20), (50, 80)]  # two opposite corners, in any order
    assert xml(tmp_path, [(box, 0, 1)]) == pytest.approx([0.3, 0.3, 0, 0])
    half = np.pi * 50 * 30 / 2 / 100**2
    assert xml(tmp_path, [(box, 0, 2)]) == pytest.approx([half, half, 0, 0], rel=1e-6)
    whole = [(0, 0), (200, 200)]
    found = xml(tmp_path, [(whole, 0, 1), (whole, 1, 2)])
    assert found == pytest.approx([1 - np.pi / 4] * 4, rel=1e-5)
    assert xml(tmp_path, [(SQUARE, 0, 1)]) == pytest.approx([1, 0.5, 0.5, 0.25])


def test_aperio_rulers_arrows_and_points_are_no_regions(tmp_path):
    line = [(0, 0), (150, 150)]
    marks = [(line, 0, 4), (line, 0, 3), (line, 0, 0), ([(5, 5)], 0, 5), ([(5, 5)], 0, 2)]
    assert xml(tmp_path, marks, name="Stroma") == [0, 0, 0, 0]


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


def save(tmp_path, pixels, mode, name="mask.png"):
    from PIL import Image

    picture = Image.fromarray(pixels)
    if mode == "P":
        picture = picture.convert("P")
        picture.putpalette([0, 0, 0, 0, 0, 200])
    elif mode != picture.mode:
        picture = picture.convert(mode)
    picture.save(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
def test_kinds_of_masks_at_odd_places(tmp_path, mode, monkeypatch):
    monkeypatch.setattr("her2pipe.slides.annotation.BAND_PIXELS", 1000)
    random = np.random.default_rng(0)
    inside = random.random((173, 211)) < 0.3
    pixels = inside.astype({"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8))
    if mode == "1":
        pixels *= 255
    path = save(tmp_path, pixels, mode, "mask.tif" if mode == "F" else "mask.png")
    coords = np.column_stack([random.integers(0, 190, 300), random.integers(0, 150, 300)])
    found = tumour_fraction(path, coords, 40, (211, 173), NAMES)
    expected = [inside[y : y + 40, x : x + 40].mean() for x, y in coords]
    assert found == pytest.approx(expected, rel=1e-6)
    assert len(tumour_fraction(path, coords[:0], 40, (211, 173), NAMES)) == 0


def test_a_mask_with_a_label_in_one_channel(tmp_path):
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[:150, :150, 0] = 1
    found = tumour_fraction(save(tmp_path, pixels, "RGB"), COORDS, 100, (200, 200), NAMES)
    assert found == pytest.approx([1, 0.5, 0.5, 0.25])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_large_mask_in_little_memory(tmp_path):
    script = """
import sys
import numpy as np
from PIL import Image
from her2pipe.slides.annotation import tumour_fraction
coords = np.array([(x, y) for y in range(0, 80000, 1000) for x in range(0, 80000, 1000)])
found = tumour_fraction(sys.argv[1], coords, 1000, (80000, 80000), ["tumor"])
assert found.tolist() == [float(x < 40000 and y < 20000) for x, y in coords]
assert Image.MAX_IMAGE_PIXELS
status = open("/proc/self/status").read()  # getrusage would inherit the parent's peak
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""
    from PIL import Image

    picture = Image.new("1", (10_000, 10_000))
    picture.paste(1, (0, 0, 5_000, 2_500))
    picture.save(tmp_path / "mask.png", compress_level=1)
    del picture
    command = [sys.executable, "-c", script, str(tmp_path / "mask.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 280  # MiB


def png(columns, rows, depth=8, colour=2):
    def chunk(kind, content):
        size, check = len(content), zlib.crc32(kind + content)
        return struct.pack(">I", size) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (png(40_000, 40_000), "too large: 40000 x 40000 px .mode RGB. take 6.4 GB"),
        (png(40_000, 40_000, colour=0), "too large.*take 1.6 GB"),
        (png(200, 200, depth=16), "16-bit colours"),
        (png(200, 200), "cannot be read"),
        (png(200, 200)[:60], "cannot be read"),
    ],
)
def test_too_large_and_damaged_masks_are_reported(tmp_path, content, what):
    (tmp_path / "mask.png").write_bytes(content)
    with pytest.raises(Her2Error, match=what) as error:
        tumour_fraction(tmp_path / "mask.png", COORDS, 100, (200, 200), NAMES)
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xml", "<Annotations"),
        ("a.xml", "<html/>"),
        ("a.geojson", "{"),
        ("a.geojson", '{"a": 1}'),
        ("a.png", "text"),
        ("a.geojson", "[1]"),
        ("a.geojson", '[{"geometry": {"type": "Area"}}]'),
        ("a.geojson", '[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}]'),
    ],
)
def test_what_is_no_annotation_is_reported(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(Her2Error, match="cannot be read"):
        tumour_fraction(tmp_path / name, COORDS, 100, (200, 200), NAMES)


def test_a_missing_file_is_reported(tmp_path):
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
