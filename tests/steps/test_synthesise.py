"""Synthetic slides: what the files are, and what is drawn on them."""

import argparse
import json
import xml.etree.ElementTree as ET

import cv2
import numpy as np
import openslide
import pytest
import shapely
import tifffile
from PIL import Image
from stores import DATA

from her2pipe.cohorts import image_pack
from her2pipe.config import Scanner, SynthesiseSettings, flags
from her2pipe.errors import Her2Error
from her2pipe.steps import synthesise
from her2pipe.synthetic.he import draw

SMALL = SynthesiseSettings(width_um=420, height_um=360)


def write(*words):
    """Run the step as its command line would."""
    parser = argparse.ArgumentParser()
    synthesise.arguments(parser)
    for model in synthesise.SETTINGS:
        flags.add_flags(parser, model)
    args = parser.parse_args([str(word) for word in words])
    synthesise.run(args, *(flags.from_flags(model, args) for model in synthesise.SETTINGS))


def read(path, level=0):
    with openslide.OpenSlide(path) as slide:
        region = slide.read_region((0, 0), level, slide.level_dimensions[level])
        return np.asarray(region.convert("RGB"))


def polygons(drawing):
    return [shapely.Polygon(outline, holes) for outline, holes in drawing.regions]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    settings = flags.to_flags(SMALL).split()
    for name, objective in (("forty", 40), ("twenty", 20)):
        words = [folder / f"{name}.svs", "--seed", 17, "--severity", 2.3, *settings]
        words += ["--geojson", folder / f"{name}.geojson", "--xml", folder / f"{name}.xml"]
        write(*words, "--objective", objective)
    return folder


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "power", "mpp"), [("forty", "40", 0.252), ("twenty", "20", 0.499)]
)
def test_openslide_reads_an_aperio_pyramid(folder, name, power, mpp):
    with openslide.OpenSlide(folder / f"{name}.svs") as slide:
        about = slide.properties
        assert about["openslide.vendor"] == "aperio"
        assert about["openslide.objective-power"] == about["aperio.AppMag"] == power
        assert float(about["openslide.mpp-x"]) == float(about["openslide.mpp-y"]) == mpp
        assert slide.level_downsamples == pytest.approx((1, 4, 16), rel=0.01)
        assert not slide.associated_images
        width_um, height_um = (n * mpp for n in slide.dimensions)
    assert 0.79 * 420 < width_um < 1.21 * 420
    assert 0.79 * 360 < height_um < 1.21 * 360


def test_readers_agree_and_colours_are_those_drawn(folder):
    drawn = draw(17, 2.3, SMALL, Scanner())
    seen = read(folder / "forty.svs")
    error = np.mean((seen.astype(float) - drawn.image) ** 2)
    assert (
        10 * np.log10(255**2 / error) > 32
    )  # quality 85 with halved chroma; a swap of R and B: 15
    assert seen.mean((0, 1)) == pytest.approx(drawn.image.mean((0, 1)), abs=1)
    with tifffile.TiffFile(folder / "forty.svs") as file:
        assert file.is_svs
        np.testing.assert_array_equal(file.pages[0].asarray(), seen)


def test_levels_show_the_same_field(folder):
    full = read(folder / "forty.svs")
    for level, shrink in ((1, 4), (2, 16)):
        coarse = read(folder / "forty.svs", level)
        height, width = coarse.shape[:2]
        exact = full[: height * shrink, : width * shrink]
        exact = cv2.resize(exact, (width, height), interpolation=cv2.INTER_AREA)
        exact, coarse = exact.mean(2), coarse.mean(2)  # chroma is halved, grey is not
        error = np.abs(exact - coarse).mean()
        assert error < 4
        assert error < 0.6 * np.abs(exact[1:, 1:] - coarse[:-1, :-1]).mean()  # nothing has moved


def test_same_seed_same_bytes_other_seed_other_slide(folder, tmp_path):
    words = flags.to_flags(SMALL).split()
    again = ["--seed", 17, "--severity", 2.3, *words, "--objective", 20]
    names = ["--geojson", tmp_path / "a.geojson", "--xml", tmp_path / "a.xml"]
    write(tmp_path / "a.svs", *again, *names)
    for end in ("svs", "geojson", "xml"):
        assert (tmp_path / f"a.{end}").read_bytes() == (folder / f"twenty.{end}").read_bytes()
    write(tmp_path / "b.svs", *again, "--seed", 18)
    assert (tmp_path / "b.svs").read_bytes() != (tmp_path / "a.svs").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.geojson", "a.svs", "a.xml", "b.svs"]


def test_failure_leaves_nothing_and_keeps_what_was_there(tmp_path):
    old = tmp_path / "old.svs"
    old.write_text("precious")

    def fail():
        with synthesise.replacing_together(str(old), str(tmp_path / "new.xml")) as (slide, xml):
            slide.write(b"half")
            xml.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["old.svs"]
    assert old.read_text() == "precious"


# --- faults --------------------------------------------------------------------------------------


def test_truncated_slide_cannot_be_opened(tmp_path):
    words = flags.to_flags(SMALL).split()
    write(tmp_path / "cut.svs", "--seed", 3, "--fault", "truncated", *words, "--objective", 20)
    write(tmp_path / "all.svs", "--seed", 3, *words, "--objective", 20)
    cut, whole = ((tmp_path / f"{n}.svs").read_bytes() for n in ("cut", "all"))
    assert 0.5 < len(cut) / len(whole) < 0.7
    assert whole[16:].startswith(cut[16:])  # a transfer that broke off, but for the header
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(tmp_path / "cut.svs")


def test_blank_slide_is_glass_everywhere(tmp_path):
    names = ["--geojson", tmp_path / "a.geojson", "--xml", tmp_path / "a.xml"]
    write(tmp_path / "a.svs", "--seed", 3, "--fault", "blank", "--objective", 20, *names)
    grey = cv2.cvtColor(read(tmp_path / "a.svs"), cv2.COLOR_RGB2GRAY)
    assert grey.var() < 20
    assert grey.mean() > 235
    assert json.loads((tmp_path / "a.geojson").read_text())["features"] == []
    assert ET.parse(tmp_path / "a.xml").findall(".//Region") == []


# --- annotations ---------------------------------------------------------------------------------


def geojson_area(path):
    found = []
    for feature in json.loads(path.read_text())["features"]:
        assert feature["properties"]["objectType"] == "annotation"
        assert feature["properties"]["classification"]["name"] == "Tumor"
        found.append(shapely.geometry.shape(feature["geometry"]))
    assert all(shape.is_valid for shape in found)
    return sum(shape.area for shape in found), found


def xml_area(path):
    total = 0
    for region in ET.parse(path).findall("./Annotation/Regions/Region"):
        ring = [(float(v.get("X")), float(v.get("Y"))) for v in region.findall("./Vertices/Vertex")]
        sign = -1 if region.get("NegativeROA") == "1" else 1
        total += sign * shapely.Polygon(ring).area
    return total


def test_both_annotations_hold_the_drawn_tumour(folder):
    drawn = draw(17, 2.3, SMALL, Scanner())
    area, shapes = geojson_area(folder / "forty.geojson")
    assert area == pytest.approx(xml_area(folder / "forty.xml"), rel=1e-9)
    assert area == pytest.approx(sum(p.area for p in polygons(drawn)), rel=1e-4)
    assert {shape.geom_type for shape in shapes} == {"Polygon", "MultiPolygon"}
    parts = [part for shape in shapes for part in getattr(shape, "geoms", [shape])]
    assert sum(len(part.interiors) for part in parts) >= 1
    negative = ET.parse(folder / "forty.xml").findall(".//Region[@NegativeROA='1']")
    assert len(negative) == sum(len(part.interiors) for part in parts)


# --- images --------------------------------------------------------------------------------------


def test_image_becomes_a_slide_of_odd_size(tmp_path):
    drawn = draw(2, 2, SynthesiseSettings(), Scanner(objective=20)).image[:701, :1003]
    Image.fromarray(drawn).save(tmp_path / "photo.png")
    write(
        tmp_path / "a.svs", "--image", tmp_path / "photo.png", "--mpp", 0.2739, "--jpeg-quality", 95
    )
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.dimensions == (1003, 701)
        assert slide.level_dimensions == ((1003, 701), (250, 175), (62, 43))
        assert float(slide.properties["openslide.mpp-x"]) == 0.2739
        assert slide.properties["openslide.objective-power"] == "40"
    error = np.mean((read(tmp_path / "a.svs").astype(float) - drawn) ** 2)
    assert 10 * np.log10(255**2 / error) > 34


def test_transparent_image_lies_on_white(tmp_path):
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    write(tmp_path / "a.svs", "--image", tmp_path / "clear.png", "--mpp", 0.5)
    assert read(tmp_path / "a.svs").min() == 255


@pytest.mark.slow
def test_photograph_of_a_section(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # for this test's own reading
    photo = DATA / "her2st" / "C2_HE.jpg"
    if not photo.exists():
        pytest.skip("no photograph of a section")
    write(tmp_path / "a.svs", "--image", photo, "--mpp", 0.5)
    with Image.open(photo) as image, openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.dimensions == image.size
        box = 4000, 4000, 5024, 5024
        there = np.asarray(image.crop(box).convert("RGB"), float)
        here = np.asarray(slide.read_region(box[:2], 0, (1024, 1024)).convert("RGB"), float)
    assert there.std() > 5
    assert 10 * np.log10(255**2 / np.mean((here - there) ** 2)) >= 38


def bad_images(folder):
    whole = folder / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(whole.read_bytes()[:4000])
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(folder / "deep.png")
    return whole


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--image", "text.jpg", "--mpp", "1"], "not an image"),
        (["--image", "empty.png", "--mpp", "1"], "not an image"),
        (["--image", "cut.png", "--mpp", "1"], "cannot be read"),
        (["--image", "deep.png", "--mpp", "1"], "mode I;16"),
        (["--image", "none.png", "--mpp", "1"], "does not exist"),
        (["--image", "whole.png"], "no resolution"),
        (["--image", "whole.png", "--mpp", "nan"], "mpp is nan"),
        (["--image", "whole.png", "--mpp", "1", "--seed", "0"], "drawn slides only"),
        (["--mpp", "1"], "none is given"),
        (["--seed", "-1"], "negative"),
        (["--severity", "5"], "severity is 5"),
        (["--objective", "30"], "objective"),
    ],
)
def test_mistakes_are_reported_and_leave_nothing(tmp_path, monkeypatch, words, what):
    bad_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    with pytest.raises(Her2Error, match=what):
        write("a.svs", *words)
    assert set(tmp_path.iterdir()) == before


def test_huge_image_is_refused_unless_it_fits(tmp_path, monkeypatch):
    path = bad_images(tmp_path)
    monkeypatch.setattr(image_pack, "MPX_MAX", 0.004)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(Her2Error, match="64 x 64"):
        write(tmp_path / "a.svs", "--image", path, "--mpp", 1)
    assert limit == Image.MAX_IMAGE_PIXELS
