"""Heat maps: a picture and two files for viewers per slide, where the patches are."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest

from her2pipe.aggregation.base import Aggregation
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.steps import heatmap
from her2pipe.store import EncodingMetadata, PatchStore, write_encoding

COORDS = [(0, 0), (64, 0), (320, 320), (576, 576)]
P = [[0.1, 0.9, 0], [0.1, 0.9, 0], [0.9, 0.1, 0], [0, 0.2, 0.8]]
ODD = ["<script>alert(1)</script>".replace("/", "|"), "a slide.v2"]


def write(path, p, classes, coords=COORDS, **changes):
    """Write an encoding whose patches lie where those of the stores do."""
    metadata = EncodingMetadata(slide=path.stem, classes=tuple(classes))
    p = np.asarray(p, np.float32).reshape(len(coords), -1)
    write_encoding(path, coords, p, np.ones((len(coords), 4)), replace(metadata, **changes))
    return path


@pytest.fixture
def slides(tmp_path, make):
    """Stores and encodings of three slides and an excluded one."""
    encodings = tmp_path / "0of1"
    encodings.mkdir()
    stores = []
    for seed, name in enumerate(["S1", *ODD]):
        stores.append(make.store(tmp_path / f"{name}.h5", make.stained(4, seed), COORDS))
        write(encodings / f"{name}.h5", P, make.classes)
    stores.append(make.store(tmp_path / "S2.h5", [], [], status="excluded", reason="no tissue"))
    make.encoding(encodings / "S2.h5", [], status="excluded", reason="no tissue")
    return stores, encodings


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_files(tmp_path, slides, her2pipe):
    stores, encodings = slides
    code, log = her2pipe("heatmap", *stores, tmp_path / "out", "--encoding", encodings)
    assert code == 0, log
    assert "S2: excluded" in log
    kinds = ("png", "geojson", "db")
    assert names(tmp_path / "out") == {f"{s}.{kind}" for s in ("S1", *ODD) for kind in kinds}
    picture = cv2.imread(str(tmp_path / "out" / "S1.png"))
    assert picture.shape[1] > 2 * picture.shape[0] > 0  # three panels side by side
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_rejected_patches_are_not_on_the_map(tmp_path, slides, her2pipe):
    stores, encodings = slides
    reasons = {"S1": [2, 0, 1, 0], ODD[1]: [3, 2, 2, 2]}
    for name, marks in reasons.items():
        path, names_of_bits = encodings / f"{name}.h5", ("blur", "pen")
        metadata = EncodingMetadata(
            slide=name, classes=("HER2-", "HER2+", "Non-tumour"), reason_names=names_of_bits
        )
        p = np.asarray(P, np.float32)
        write_encoding(path, COORDS, p, np.ones((4, 4)), metadata, reasons=np.uint8(marks))
    words = ("--encoding", encodings, "--reject", "pen")
    code, log = her2pipe("heatmap", stores[0], stores[2], tmp_path / "out", *words)
    assert code == 0, log
    assert f"{ODD[1]}: all patches rejected, no map" in log
    assert names(tmp_path / "out") == {"S1.png", "S1.geojson", "S1.db"}
    features = json.loads((tmp_path / "out" / "S1.geojson").read_text())["features"]
    shown = {
        tuple(f["geometry"]["coordinates"][0][0]): f["properties"]["measurements"]["p(HER2+)"]
        for f in features
    }
    assert shown == {
        corner: pytest.approx(p[1], abs=1e-5) for corner, p in zip(COORDS[1:], P[1:], strict=True)
    }


def test_without_viewers_there_are_pictures_only(tmp_path, slides, her2pipe):
    stores, encodings = slides
    words = ("--encoding", encodings, "--viewers", "false")
    assert her2pipe("heatmap", *stores[:1], tmp_path / "out", *words)[0] == 0
    assert names(tmp_path / "out") == {"S1.png"}


def test_both_viewers_get_the_patches_of_the_store(tmp_path, slides, her2pipe):
    stores, encodings = slides
    assert her2pipe("heatmap", *stores, tmp_path / "out", "--encoding", encodings)[0] == 0
    for path in stores[:-1]:
        with PatchStore(path) as store:
            corners, side = store.coords.tolist(), store.metadata.patch_size_level0
        geojson = json.loads((tmp_path / "out" / f"{path.stem}.geojson").read_text())
        assert geojson["slide"] == path.stem
        assert geojson["contribution"] == "p(HER2+)"
        for (x, y), p, feature in zip(corners, P, geojson["features"], strict=True):
            (ring,) = feature["geometry"]["coordinates"]
            assert ring == [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
            numbers = feature["properties"]["measurements"]
            assert numbers["p(HER2+)"] == pytest.approx(p[1], abs=1e-5)
            assert numbers["contribution"] == pytest.approx(p[1], abs=1e-5)
        with closing(sqlite3.connect(tmp_path / "out" / f"{path.stem}.db")) as connection:
            boxes = connection.execute("SELECT min_x, min_y, max_x, max_y FROM rtree").fetchall()
        assert boxes == [(x, y, x + side, y + side) for x, y in corners]


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(tmp_path, slides, her2pipe):
    stores, encodings = slides
    for out in ("one", "two"):
        assert her2pipe("heatmap", *stores, tmp_path / out, "--encoding", encodings)[0] == 0
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("classes", [["HER2-", "HER2+", "Non-tumour"], []], ids=["classes", "none"])
def test_a_network_shows_its_own_view(tmp_path, make, monkeypatch, her2pipe, classes):
    """Attention in place of p(HER2+); an encoder without classes has no map of classes."""
    store = make.store(tmp_path / "S1.h5", make.stained(4, 1), COORDS)
    p = P if classes else np.zeros((4, 0))
    encoding = write(tmp_path / "encodings" / "S1.h5", p, classes)
    seen = {}

    class Shown(Aggregation):
        reads = "features"

        def _score(self, bag):
            raise NotImplementedError

        def _contributions(self, bag):
            seen.update(features=bag.features.shape, size=(bag.width_px0, bag.height_px0))
            return np.array([0.1, 0.2, 0.3, 0.4], np.float32), "attention"

    monkeypatch.setattr(heatmap, "scorer", lambda name, labels, folder: Shown(endpoint_of(labels)))
    words = ("--encoding", encoding, "--aggregate", "clam")
    code, log = her2pipe("heatmap", store, tmp_path / "out", *words)
    assert code == 0, log
    assert seen == {"features": (4, 4), "size": (640, 640)}
    geojson = json.loads((tmp_path / "out" / "S1.geojson").read_text())
    assert geojson["contribution"] == "attention"
    values = [f["properties"]["measurements"]["contribution"] for f in geojson["features"]]
    assert values == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert all(("classification" in f["properties"]) == bool(classes) for f in geojson["features"])
    picture = cv2.imread(str(tmp_path / "out" / "S1.png"))
    three, two = 180 / 25.4 * 200, 120 / 25.4 * 200
    assert picture.shape[1] == pytest.approx(three if classes else two, abs=2)


def test_mistakes_are_three_lines(tmp_path, slides, her2pipe):
    stores, encodings = slides
    (encodings / "S1.h5").unlink()
    code, log = her2pipe("heatmap", *stores, tmp_path / "out", "--encoding", encodings)
    assert code == 1
    assert "slide S1 has no encoding" in log
    words = ("--encoding", encodings, "--aggregate", "clam")
    code, log = her2pipe("heatmap", stores[1], tmp_path / "out", *words)
    assert code == 1
    assert "the aggregation clam is fitted and needs a model" in log
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ordered", [True, False])
def test_a_study_of_classes_shows_expected_classes(tmp_path, make, her2pipe, ordered):
    store = make.store(tmp_path / "S1.h5", make.stained(4, 1), COORDS)
    p = [[1, 0, 0], [0, 1, 0], [0, 0.1, 0.9], [0.1, 0, 0.9]]
    encoding = write(tmp_path / "encodings" / "S1.h5", p, ["1+", "2+", "3+"])
    words = ("--encoding", encoding, "--aggregate", "mean", "--endpoint", "class")
    words += ("--ordered", json.dumps(ordered))
    code, log = her2pipe("heatmap", store, tmp_path / "out", *words)
    assert code == 0, log
    geojson = json.loads((tmp_path / "out" / "S1.geojson").read_text())
    values = [f["properties"]["measurements"]["contribution"] for f in geojson["features"]]
    kinds = [f["properties"]["classification"] for f in geojson["features"]]
    assert [kind["name"] for kind in kinds] == ["1+", "2+", "3+", "3+"]
    if ordered:
        assert geojson["contribution"] == "expected class (0: 1+, 1: 3+)"
        assert values == pytest.approx([0, 0.5, 0.95, 0.9])
        assert kinds[0]["color"] == [68, 1, 84]  # the ends of the scale of the map beside
        assert kinds[2]["color"] == [253, 231, 37]
    else:
        assert geojson["contribution"] == "p(3+)"
        assert values == pytest.approx([0, 0, 0.9, 0.9])
    code, log = her2pipe("heatmap", store, tmp_path / "none", *words, "--classes", "a", "b")
    assert code == 1
    assert "the study a, b" in log
