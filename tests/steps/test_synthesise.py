"""Synthetic slides: what the files are, and what is drawn on them."""

import argparse
import csv
import importlib.util
import json
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

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

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "studies" / "demo"
SMALL = SynthesiseSettings(width_um=420, height_um=360)
STAINS = {
    "pink": Scanner(objective=20, eosin=(0.05, 0.93, 0.35), hematoxylin=(0.70, 0.66, 0.27)),
    "grey": Scanner(objective=20, eosin=(0.16, 0.88, 0.45), hematoxylin=(0.57, 0.75, 0.33)),
}


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
        with synthesise._together(str(old), None, str(tmp_path / "new.xml")) as (slide, none, xml):
            assert none is None
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


@pytest.mark.parametrize("shape", ["section", "core", "strips"])
@pytest.mark.parametrize("objective", [20, 40])
def test_polygons_cover_the_tumour_mask(shape, objective):
    drawn = draw(5, 2, SynthesiseSettings(), Scanner(shape=shape, objective=objective))
    found = shapely.unary_union(polygons(drawn))
    assert found.is_valid
    assert len(drawn.regions) >= 2
    y, x = (np.indices(drawn.tumour.shape) + 0.5) * drawn.enlarge
    inside = shapely.contains_xy(found, x[::3, ::3], y[::3, ::3])
    mask = drawn.tumour[::3, ::3]
    assert (inside & mask).sum() / (inside | mask).sum() > 0.98


# --- the drawing ---------------------------------------------------------------------------------


def densities(drawing):
    """Optical density of every pixel, (H, W, 3)."""
    return -np.log(np.maximum(drawing.image, 1) / 243.0)


def unmix(drawing, scanner):
    """Concentrations (H, W, 2) of haematoxylin and eosin by the scanner's own stains."""
    stains = np.array([scanner.hematoxylin, scanner.eosin]) * scanner.strength
    return densities(drawing) @ np.linalg.pinv(stains)


@pytest.mark.parametrize("name", STAINS)
def test_colours_follow_the_stain_vectors(name):
    scanner = STAINS[name]
    drawing = draw(4, 3, SynthesiseSettings(), scanner)
    density, amount = densities(drawing), unmix(drawing, scanner)
    free = ~cv2.dilate(drawing.tumour.astype(np.uint8), np.ones((9, 9))).astype(bool)
    pink = free & (amount[..., 0] < 0.08) & (amount[..., 1] > 0.5)
    blue = drawing.tumour & (amount[..., 0] > 1.2) & (amount[..., 1] < 0.2)
    for where, stain in ((pink, scanner.eosin), (blue, scanner.hematoxylin)):
        assert where.sum() > 500
        mean = density[where].mean(0)
        cosine = mean @ stain / np.linalg.norm(mean) / np.linalg.norm(stain)
        assert np.degrees(np.arccos(cosine)) < 6


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_nuclear_area_and_density_grow_with_severity(seed):
    scanner = Scanner(objective=20)
    share, size = [], []
    for severity in (0, 2, 4):
        drawing = draw(seed, severity, SynthesiseSettings(), scanner)
        nuclei = ((unmix(drawing, scanner)[..., 0] > 0.55) & drawing.tumour).astype(np.uint8)
        areas = cv2.connectedComponentsWithStats(nuclei)[2][1:, cv2.CC_STAT_AREA]
        share.append(nuclei.sum() / drawing.tumour.sum())
        size.append(np.median(areas[areas > 30]))
    assert share == sorted(share)
    assert share[2] > 1.5 * share[0]
    assert size == sorted(size)


def test_neighbouring_levels_overlap():
    scanner = Scanner(objective=20)
    share = defaultdict(list)
    for seed in range(8):
        for severity in (2, 3):
            drawing = draw(seed, severity, SMALL, scanner)
            blue = unmix(drawing, scanner)[..., 0][drawing.tumour] > 0.55
            share[severity].append(blue.mean())
    assert np.mean(share[2]) < np.mean(share[3])
    assert max(share[2]) > min(share[3])


@pytest.mark.parametrize("shape", ["section", "core", "strips"])
def test_variance_tells_tissue_from_glass(shape):
    drawing = draw(7, 1, SynthesiseSettings(), Scanner(objective=20, shape=shape))
    grey = cv2.cvtColor(drawing.image, cv2.COLOR_RGB2GRAY)
    side = 160  # 80 um
    tissue, glass = [], []
    for y in range(0, grey.shape[0] - side, side):
        for x in range(0, grey.shape[1] - side, side):
            patch = grey[y : y + side, x : x + side]
            stained = (patch < 225).mean()
            stored = cv2.resize(patch, (512, 512), interpolation=cv2.INTER_LINEAR)
            if stained > 0.5 or stained == 0:
                (tissue if stained else glass).append(stored.astype(float).var())
    assert np.mean(np.array(tissue) > 500) > 0.9
    assert max(glass) < 500
    cover = (cv2.GaussianBlur(grey, (0, 0), 6) < 236).mean()
    assert 0.3 < cover < 0.6


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
        (["--image", "deep.png", "--mpp", "1"], "kind I;16"),
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
def test_mistakes_are_told_and_leave_nothing(tmp_path, monkeypatch, words, what):
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


# --- the demo's sheets ---------------------------------------------------------------------------


def sheet(cohort):
    with (DEMO / f"{cohort}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_sheets_are_what_the_script_writes(tmp_path):
    spec = importlib.util.spec_from_file_location("sheets", DEMO / "sheets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(tmp_path)
    kept = sorted(p.name for p in DEMO.glob("*.tsv"))
    assert (
        kept
        == sorted(p.name for p in tmp_path.iterdir())
        == [f"{c}.tsv" for c in ("A", "B", "C", "D", "NAT")]
    )
    for name in kept:
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()


def test_development_sheet_keeps_patients_on_one_side():
    rows = sheet("A")
    sides = defaultdict(set)
    for row in rows:
        sides[row["patient"]].add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert len(sides) < len(rows)
    count = defaultdict(int)
    for row in rows:
        count[row["split"], row["her2"]] += 1
    assert len(rows) == 25
    assert sum(n for (split, _), n in count.items() if split == "train") == 20
    assert len(count) == 4  # both classes on both sides


def positive(row):
    """Status by the sheet's own columns; None if it does not tell."""
    if row.get("her2"):
        return row["her2"] == "positive"
    if row["ihc"] != "2+":
        return row["ihc"] == "3+"
    if row.get("fish_ratio"):
        return float(row["fish_ratio"]) >= 2 and float(row["fish_copies"]) >= 4
    return row["fish"] == "positive" if row.get("fish") else None


@pytest.mark.parametrize(("cohort", "size"), [("A", 25), ("B", 12), ("C", 16), ("D", 13)])
def test_labels_follow_severity_with_overlap(cohort, size):
    rows = sheet(cohort)
    assert len(rows) == size
    told = [(positive(r), float(r["severity"])) for r in rows if not r.get("fault")]
    high = [s for label, s in told if label is True]
    low = [s for label, s in told if label is False]
    assert 0.7 < len(high) / len(low) < 1.5
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in high for b in low])
    assert 0.9 <= wins <= 0.98


def test_sheets_name_files_the_workflow_makes_and_the_two_faults():
    faults = {}
    for cohort in ("A", "B", "C", "D", "NAT"):
        rows = sheet(cohort)
        for row in rows:
            stem = f"results/synthesise/{cohort}/{row['slide']}"
            assert row["path"] == f"{stem}.svs"
            assert row["annotation"] in (f"{stem}.geojson", f"{stem}.xml")
            faults |= {row["slide"]: row["fault"]} if row.get("fault") else {}
        assert {row["annotation"].rsplit(".", 1)[1] for row in rows} == {"geojson", "xml"}
        assert len({row["seed"] for row in rows}) == len(rows)
    assert sorted(faults.values()) == ["blank", "truncated"]
    assert [row["slide"] for row in sheet("C") if positive(row) is None] == ["C-009"]


def test_treatment_sheet_links_severity_to_what_is_left():
    rows = sheet("NAT")
    left = [float(row["severity"]) for row in rows if row["pcr"] == "no"]
    gone = [float(row["severity"]) for row in rows if row["pcr"] == "yes"]
    assert np.mean(left) > np.mean(gone)
    assert max(gone) > min(left)
    assert {row["rcb"] for row in rows if row["pcr"] == "yes"} == {"0"}
    assert {row["rcb"] for row in rows if row["pcr"] == "no"} == {"I", "II", "III"}
