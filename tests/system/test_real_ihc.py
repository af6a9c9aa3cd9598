"""Real HER2 slides through the whole study of grades: the published file, in small.

Training is on cores of a tissue microarray, the test on images of another centre. Tumour
outlines are drawn here by hand. The test is of the whole way, not of how well a network grades.
"""

import json

import numpy as np
import pytest
import yaml
from drawing import SVG_ALONE
from small_study import ROOT, planned, snakemake, write_study

from her2pipe.files import read_table
from her2pipe.store import PatchStore

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real")]

MPP = {"A": 0.5, "B": 0.46}
SHRINK = 2  # of the cores, which were scanned at 40x
WITHOUT_ROI = "2_ac717549"
# Outlines of tumour, and holes in them, as shares of the core's side.
ROI = {
    "0_a6d0d6a6": (
        [
            [
                (0.10, 0.30),
                (0.35, 0.12),
                (0.62, 0.30),
                (0.90, 0.55),
                (0.88, 0.68),
                (0.66, 0.93),
                (0.30, 0.92),
                (0.05, 0.60),
            ]
        ],
        [],
    ),
    "0_aa1da043": (
        [
            [
                (0.14, 0.35),
                (0.35, 0.12),
                (0.65, 0.12),
                (0.92, 0.35),
                (0.92, 0.68),
                (0.62, 0.93),
                (0.35, 0.91),
                (0.13, 0.68),
            ]
        ],
        [[(0.40, 0.40), (0.60, 0.40), (0.60, 0.60), (0.40, 0.60)]],
    ),
    "1_154ae963": (
        [[(0.45, 0.05), (0.75, 0.10), (0.93, 0.35), (0.93, 0.68), (0.60, 0.75), (0.55, 0.45)]],
        [],
    ),
    "1_fb95908d": (
        [
            [
                (0.10, 0.33),
                (0.30, 0.15),
                (0.75, 0.20),
                (0.90, 0.60),
                (0.66, 0.93),
                (0.40, 0.93),
                (0.12, 0.62),
            ]
        ],
        [],
    ),
    "2_a5593c5e": (
        [
            [
                (0.09, 0.35),
                (0.35, 0.10),
                (0.62, 0.10),
                (0.68, 0.40),
                (0.60, 0.85),
                (0.30, 0.90),
                (0.10, 0.70),
            ]
        ],
        [],
    ),
    "2_da5928b4": (
        [
            [(0.17, 0.35), (0.28, 0.35), (0.56, 0.48), (0.52, 0.58), (0.30, 0.58)],
            [(0.58, 0.60), (0.84, 0.56), (0.88, 0.75), (0.80, 0.90), (0.60, 0.88)],
        ],
        [],
    ),
}
TEACH = ("0_a6d0d6a6", "1_154ae963", "2_a5593c5e")
IMAGES = (
    *("00004_test_0", "00345_test_0", "00000_test_1+", "00012_test_1+", "00014_test_2+"),
    "00008_test_3+",
)
GRADES = ["0", "1+", "2+/3+"]
VIEW = "80um"
NEARLY_WHITE = "00004_test_0"
NO_ROI = "no annotation of the tumour, outside which nothing is cut"


def aperio(outlines, holes, mpp):
    """Write outlines as ImageScope does: a layer of the tumour, holes as negative regions."""
    lines = [f'<Annotations MicronsPerPixel="{mpp}">', '<Annotation Id="1" Name="ROI"><Regions>']
    for negative, rings in enumerate((outlines, holes)):
        for ring in rings:
            lines.append(f'<Region Type="0" NegativeROA="{negative}"><Vertices>')
            lines += [f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in ring]
            lines.append("</Vertices></Region>")
    return "\n".join([*lines, "</Regions></Annotation></Annotations>"])


def qupath(outlines, size):
    """Write outlines as QuPath does, beside a region that is no tumour and spans the slide."""
    everything = [(0, 0), (size, 0), (size, size), (0, size)]
    named = [("Invasive carcinoma", ring) for ring in outlines] + [("Stroma", everything)]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*map(list, ring), list(ring[0])]]},
            "properties": {"objectType": "annotation", "classification": {"name": name}},
        }
        for name, ring in named
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def wrap(image, slide, mpp):
    from her2pipe.cli import main

    assert main(["synthesise", str(slide), "--image", str(image), "--mpp", str(mpp)]) == 0


def cores(data, folder):
    """Wrap the cores as slides, and write their outlines in two formats; rows of the sheet."""
    from PIL import Image

    rows = ["slide\tpath\tpatient\tannotation\tihc\tsplit"]
    for source in sorted((data / "ihc_tma_her2").glob("*.jpg")):
        name = source.name[:10]
        with Image.open(source) as picture:
            picture.draft("RGB", (picture.width // SHRINK, picture.height // SHRINK))
            size = picture.width
            picture.save(folder / f"{name}.bmp")
        wrap(folder / f"{name}.bmp", folder / f"{name}.svs", MPP["A"])
        roi = ""
        if name in ROI:
            outlines, holes = (
                [[(x * size, y * size) for x, y in ring] for ring in rings] for rings in ROI[name]
            )
            xml = bool(holes) or name in TEACH
            roi = folder / f"{name}.{'xml' if xml else 'geojson'}"
            roi.write_text(aperio(outlines, holes, MPP["A"]) if xml else qupath(outlines, size))
        side = "train" if name in (*TEACH, WITHOUT_ROI) else "validation"
        cells = [name, folder / f"{name}.svs", f"P-{name}", roi, f"{name[0]}+", side]
        rows.append("\t".join(map(str, cells)))
    return rows


def images(data, folder):
    """Wrap images of the other centre as slides, the whole of each its outline."""
    from PIL import Image

    rows = ["slide\tpath\tpatient\tannotation\tihc"]
    for name in IMAGES:
        source = data / "bci" / "IHC" / f"{name}.png"
        with Image.open(source) as picture:
            size = picture.width
        wrap(source, folder / f"{name}.svs", MPP["B"])
        roi = folder / f"{name}.geojson"
        roi.write_text(qupath([[(0, 0), (size, 0), (size, size), (0, size)]], size))
        cells = [name, folder / f"{name}.svs", f"Q-{name}", roi, name.split("_")[-1]]
        rows.append("\t".join(map(str, cells)))
    return rows


def small_study():
    """Make the published study small: one network trained briefly, and few, small tiles."""
    study = yaml.safe_load((ROOT / "studies" / "ihc.yaml").read_text())
    study["study"]["title"] = "Real IHC, small"
    study["cohorts"] = {
        "A": {"sheet": "sheets/A.tsv", "role": "development", "title": "cores"},
        "B": {"sheet": "sheets/B.tsv", "role": "external", "title": "images of another centre"},
    }
    study["labels"] |= {"classes": GRADES, "groups": {"2+/3+": ["2+", "3+"]}, "reflex": ["2+/3+"]}
    study["tile"]["patch_px"] = 128
    study["train"] |= {
        "weights": "none",
        "input_px": 64,
        "train_views": [VIEW],
        "max_epochs": 1,
        "learning_rate": 1e-3,
        "device": "cpu",
    }
    study["encoders"] = {"small": {"architecture": "test_resnet", "view": VIEW}}
    study["methods"] = {"net": {"encoder": "small", "aggregate": "mean"}}
    study["encode"] = {"device": "cpu"}
    study["evaluate"] = {"resamples": 100}
    study["explain"] = {"encoders": ["small"], "device": "cpu", "map_min": 4, "tiles": 2}
    study["compare"] = {"resamples": 100}
    study["report"] = {"zoom_px": 0, "gallery": 0}
    return study


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The study, run to its end, and its sheets."""
    from stores import DATA

    if not all((DATA / part).is_dir() for part in ("ihc_tma_her2", "bci/IHC")):
        pytest.skip("no real data beside the project")
    folder = tmp_path_factory.mktemp("real-ihc")
    (folder / "slides").mkdir()
    sheets = {"A": cores(DATA, folder / "slides"), "B": images(DATA, folder / "slides")}
    write_study(folder, small_study(), sheets)
    run = snakemake(folder, **SVG_ALONE)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder, sheets


def stores(folder, cohort):
    """Stores of a cohort's slides that are not excluded, by slide."""
    for path in sorted((folder / "results" / "tile" / VIEW / cohort).glob("*.h5")):
        with PatchStore(path) as store:
            if not store.exclusion_reason:
                yield path.stem, store


def pixels(store):
    return np.stack([store.pixels(i) for i in range(len(store))])


def white(rgb):
    """Share of white pixels of each picture."""
    return (rgb >= 230).all(axis=-1).mean(axis=(-2, -1))


def test_every_slide_is_accounted_for_once(done):
    folder, sheets = done
    ledger = read_table(folder / "results" / "ledger" / "ledger.tsv")
    wanted = [(name, line.split("\t")[0]) for name in sheets for line in sheets[name][1:]]
    assert sorted((row["cohort"], row["slide"]) for row in ledger) == sorted(wanted)
    assert len(wanted) == 13
    excluded = {row["slide"]: row["reason"] for row in ledger if row["status"] == "excluded"}
    assert set(excluded) == {WITHOUT_ROI, NEARLY_WHITE}
    assert excluded[WITHOUT_ROI] == NO_ROI
    assert excluded[NEARLY_WHITE].startswith("no tissue: ")
    assert "are over 60% white" in excluded[NEARLY_WHITE]
    scored = {slide for name in "AB" for slide, _ in stores(folder, name)}
    assert scored == {row["slide"] for row in ledger if row["status"] == "scored"}
    metrics = json.loads(
        (folder / "results" / "evaluate" / "net" / "A" / "metrics.json").read_text()
    )
    assert metrics["left_out"] == {"excluded": 1, "training slide": 3}
    assert metrics["units"]["slide"]["n"] == 3
    assert not planned(folder)


def test_tiles_are_those_of_the_outline_that_are_not_white(done):
    """Against outlines filled by OpenCV, and pixels of the image that was wrapped."""
    import cv2

    folder, _ = done
    left_out = []
    for slide, store in stores(folder, "A"):
        image = cv2.imread(str(folder / "slides" / f"{slide}.bmp"))
        inside = np.zeros(image.shape[:2], np.float32)
        for value, rings in ((1, ROI[slide][0]), (0, ROI[slide][1])):
            for ring in rings:
                cv2.fillPoly(inside, [np.rint(np.array(ring) * len(image)).astype(int)], value)
        side, kept = store.metadata.patch_size_level0, set(map(tuple, store.coords.tolist()))
        assert side == 160
        for x in range(0, len(image) - side + 1, side):
            for y in range(0, len(image) - side + 1, side):
                cell = np.s_[y : y + side, x : x + side]
                share = inside[cell].mean()
                if (x, y) in kept:
                    assert share > 0.49
                elif share > 0.51:
                    left_out.append(white(image[cell]))
        metadata = store.metadata
        counts = [getattr(metadata, key) for key in ("outside", "white", "background", "dropped")]
        assert len(store) + sum(counts) == metadata.cells
        assert counts[2:] == [0, 0]
    assert len(left_out) > 20
    assert min(left_out) > 0.55
    for name in "AB":
        for slide, store in stores(folder, name):
            assert white(pixels(store)).max() < 0.62, slide  # they were compressed since
    assert all(store.metadata.outside == 0 for _, store in stores(folder, "B"))


def brown(rgb):
    """Mean excess of blue over red density, OD: of brown, for haematoxylin is the other way."""
    od = -np.log(np.maximum(rgb, 1) / 255)
    return np.maximum(od[..., 2] - od[..., 0], 0).mean()


def test_brown_of_the_cores_stays_what_it_was(done):
    """In each slide's own vectors, and by colour without any."""
    import torch

    from her2pipe.stain.optical_density import lasso, to_optical_density
    from her2pipe.stain.profile import Profile
    from her2pipe.training import dataloader

    folder, _ = done
    about = json.loads((folder / "results" / "train" / "small" / "model.json").read_text())
    target, dab, excess = Profile.from_dict(about["stain"]), {}, {}
    for slide, store in stores(folder, "A"):
        own, raw = dataloader.profile(store), pixels(store)
        colours = dataloader.Colours([own], target, torch.device("cpu"))
        batch = torch.from_numpy(raw).permute(0, 3, 1, 2)
        seen = colours(batch, torch.zeros(len(batch), dtype=int)).round().clamp(0, 255)
        seen = seen.permute(0, 2, 3, 1).numpy().astype(np.uint8)
        amounts = [
            lasso(to_optical_density(rgb.reshape(-1, 3)), matrix)[:, 1].mean()
            for rgb, matrix in ((raw, own.matrix), (seen, target.matrix))
        ]
        dab[slide], excess[slide] = amounts, (brown(raw), brown(seen))
    before, after = np.array(list(dab.values())).T
    assert after == pytest.approx(before, rel=0.05, abs=0.002)
    assert np.argsort(after).tolist() == np.argsort(before).tolist()
    strong = [slide for slide in excess if slide.startswith("2_")]
    assert len(strong) == 2
    for side in (0, 1):
        faint = [values[side] for slide, values in excess.items() if slide not in strong]
        assert min(excess[slide][side] for slide in strong) > 10 * max(faint)
    for slide in strong:
        assert excess[slide][1] == pytest.approx(excess[slide][0], rel=0.2)


@pytest.mark.parametrize("cohort", ["A", "B"])
def test_maps_and_evidence_lie_on_the_tiles(done, cohort):
    import cv2
    import simplejpeg

    results = done[0] / "results"
    maps = next((results / "heatmap" / "net" / cohort).iterdir())
    shown = next((results / "explain" / "small" / cohort).iterdir())
    places = {}
    for slide, store in stores(done[0], cohort):
        places[slide] = store.coords.tolist()
        objects = json.loads((maps / f"{slide}.geojson").read_text())["features"]
        tiles = [each for each in objects if each["properties"]["objectType"] == "tile"]
        assert [tile["geometry"]["coordinates"][0][0] for tile in tiles] == places[slide]
        # what pictures are drawn over shows each tile where the tile was cut
        overview = simplejpeg.decode_jpeg(store.overview)
        scale = overview.shape[1] / store.metadata.width_px0
        side = store.metadata.patch_size_level0 * scale
        for corner, patch in zip(store.coords, pixels(store), strict=True):
            middle = tuple(map(float, corner * scale + side / 2 - 0.5))
            seen = cv2.getRectSubPix(overview, (round(side),) * 2, middle)
            assert np.abs(seen.mean((0, 1)) - patch.mean((0, 1))).max() < 6
    kinds = {f"{slide}.{kind}" for slide in places for kind in ("png", "geojson", "db")}
    assert {path.name for path in maps.glob("[!.]*")} == kinds
    kinds = {f"{slide}.{kind}" for slide in places for kind in ("jpg", "png")}
    assert {path.name for path in shown.glob("[!.]*")} == kinds | {"patches.tsv"}
    for row in read_table(shown / "patches.tsv"):
        assert [int(row["x"]), int(row["y"])] in places[row["slide"]]
        assert row["class"] in GRADES


def test_report(done):
    folder, _ = done
    page = (folder / "results" / "report" / "index.html").read_text()
    assert WITHOUT_ROI in page
    assert NO_ROI in page
    assert "Grad-CAM" in page
    assert "training views 80 µm" in page
    assert "n slides: A: 6, B: 5." in page  # though slides of B come first by name


@pytest.mark.parametrize(
    ("cohort", "patient", "message", "where"),
    [
        ("A", "P-0_aa1da043", "patient P-0_a6d0d6a6 is on both sides of the split", "column split"),
        (
            "B",
            "Q-00345_test_0",
            "patient P-0_a6d0d6a6 is in the development cohort, too",
            "column patient",
        ),
    ],
)
def test_a_patient_on_both_sides_is_refused(done, tmp_path, cohort, patient, message, where):
    _, sheets = done
    changed = [line.replace(patient, "P-0_a6d0d6a6") for line in sheets[cohort]]
    write_study(tmp_path, small_study(), sheets | {cohort: changed})
    run = snakemake(tmp_path)
    assert run.returncode == 1
    lines = run.stderr[run.stderr.index("her2pipe: ") :].splitlines()
    assert len(lines) == 3
    assert lines[0] == f"her2pipe: {message}"
    assert f"{cohort}.tsv line " in lines[1]
    assert lines[1].endswith(where)
    assert lines[2].startswith("  fix: ")
    assert not (tmp_path / "results").exists()
