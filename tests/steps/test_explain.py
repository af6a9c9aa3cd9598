"""Explaining slides: which patches, of which class, and where in them."""

import numpy as np
import pytest
import torch
from PIL import Image

from her2pipe.files import read_table
from her2pipe.models import factory, inference, weights
from her2pipe.models.description import ModelDescription
from her2pipe.plotting import gradcam
from her2pipe.stain.profile import Profile
from her2pipe.store import EncodingMetadata, PatchStore, write_encoding

SMALL = ["--map-min", 4, "--tiles", 2, "--device", "cpu"]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A slide of 6 patches, of which the fourth is most like 3+; its encoding; a network."""
    from stores import make_store, stained

    folder = tmp_path_factory.mktemp("explain")
    coords = [(x, y) for y in (64, 128) for x in (0, 64, 128)]
    make_store(folder / "S1.h5", stained(6, 1), coords, mpp=0.5)
    make_store(folder / "S2.h5", [], [], status="excluded", reason="no tissue")
    p = np.full((6, 3), 0.1)
    p[:, 2] = [0.5, 0.4, 0.6, 0.8, 0.55, 0.6]
    p[:, 0] = 0.9 - p[:, 2]
    for name, rows in (("S1", p), ("S2", p[:0])):
        xy = np.array(coords[: len(rows)]).reshape(-1, 2)
        metadata = EncodingMetadata(slide=name, classes=("1+", "2+", "3+"))
        (folder / "encodings").mkdir(exist_ok=True)
        write_encoding(
            folder / "encodings" / f"{name}.h5", xy, rows, np.zeros((len(rows), 2)), metadata
        )
    with PatchStore(folder / "S1.h5") as store:
        target = Profile.from_dict(store.stain)
    torch.manual_seed(1)
    network = factory.create("test_resnet", 3)
    description = {"architecture": "test_resnet", "classes": ["1+", "2+", "3+"], "input_px": 64}
    description |= {
        **inference.normalisation(network),
        "features": 96,
        "stain": target.as_dict(),
        "stain_digest": target.digest(),
    }
    (folder / "model").mkdir()
    weights.save(network, ModelDescription(**description), folder / "model")
    return folder


def explain(her2pipe, slide, out, *words):
    return her2pipe(
        "explain",
        slide / "S1.h5",
        slide / "S2.h5",
        out,
        "--encoding",
        slide / "encodings",
        "--model",
        slide / "model",
        *SMALL,
        *words,
    )


def test_the_most_probable_patches_of_the_predicted_class(her2pipe, slide, tmp_path):
    code, log = explain(her2pipe, slide, tmp_path / "out")
    assert code == 0
    assert "evidence of layer3" in log
    assert "explain: S1: 6 patches, evidence for 3+" in log
    assert "explain: S2: excluded" in log
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "S1.jpg",
        "S1.png",
        "patches.tsv",
    ]
    rows = read_table(tmp_path / "out" / "patches.tsv")
    assert [(r["class"], r["x"], r["y"], r["probability"]) for r in rows] == [
        ("3+", "0", "128", "0.800000"),
        ("3+", "128", "64", "0.600000"),
    ]
    assert all(float(r["evidence"]) >= 0 for r in rows)
    with Image.open(tmp_path / "out" / "S1.jpg") as picture:
        assert picture.width == 1417  # 180 mm at 200 dots per inch


def test_another_class_and_patches_alone(her2pipe, slide, tmp_path):
    words = ["--target", "1+", "--whole", "false", "--layer", "layer2"]
    code, log = explain(her2pipe, slide, tmp_path / "out", *words)
    assert code == 0
    assert "evidence of layer2" in log
    assert not (tmp_path / "out" / "S1.png").exists()
    rows = read_table(tmp_path / "out" / "patches.tsv")
    assert [(r["x"], r["y"]) for r in rows] == [("64", "64"), ("0", "64")]
    again = explain(her2pipe, slide, tmp_path / "again", *words)
    assert again[0] == 0
    for name in ("S1.jpg", "patches.tsv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "4+"], "the model has no class 4+"),
        (["--layer", "layer9"], "no module layer9"),
    ],
)
def test_mistakes_are_reported(her2pipe, slide, tmp_path, words, message):
    code, log = explain(her2pipe, slide, tmp_path / "out", *words)
    assert code == 1
    assert message in log
    assert not (tmp_path / "out").exists()


def test_an_encoding_of_other_patches_is_refused(her2pipe, slide, tmp_path):
    metadata = EncodingMetadata(slide="S1", classes=("1+", "2+", "3+"))
    (tmp_path / "e").mkdir()
    write_encoding(
        tmp_path / "e" / "S1.h5", np.zeros((6, 2)), np.ones((6, 3)) / 3, np.zeros((6, 2)), metadata
    )
    code, log = her2pipe(
        "explain",
        slide / "S1.h5",
        tmp_path / "out",
        "--encoding",
        tmp_path / "e",
        "--model",
        slide / "model",
        *SMALL,
    )
    assert code == 1
    assert "of other patches" in log


# --- pictures ------------------------------------------------------------------------------------


def test_cells_lie_where_their_evidence_is():
    """Two patches of 100 px with maps of 2 x 2: eight cells of 50 px, row by row."""
    coords, side = gradcam.map_tiles(np.array([[200, 0], [300, 0]]), 100, np.zeros((2, 2, 2)))
    assert side == 50
    assert coords[:4].tolist() == [[200, 0], [250, 0], [200, 50], [250, 50]]
    assert coords[4:].tolist() == [[300, 0], [350, 0], [300, 50], [350, 50]]


def test_the_scale_is_a_percentile_and_never_zero():
    assert gradcam.strongest(np.arange(101.0)) == 99
    assert gradcam.strongest(np.zeros((2, 3, 3))) > 0
    assert gradcam.strongest(np.zeros((0, 3, 3))) > 0
    lonely = np.zeros(1000)
    lonely[0] = 5
    assert gradcam.strongest(lonely) == 5


def test_evidence_is_drawn_over_its_own_corner():
    """Bright where the map is 1, grey elsewhere; the patch above stays as it is."""
    image = np.full((64, 64, 3), (200, 120, 60), np.uint8)
    evidence = np.zeros((4, 4))
    evidence[0, 0] = 1
    figure = gradcam.patches([image], [evidence], ["p(3+) = 0.90"], "S1", "evidence for 3+", 0.9)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    axes = [a for a in figure.axes if a.images]
    boxes = [a.get_window_extent() for a in axes[:2]]

    def at(box, x, y):
        column, row = box.x0 + x * box.width, drawn.shape[0] - (box.y1 - y * box.height)
        return drawn[int(row), int(column)]

    assert np.abs(at(boxes[0], 0.1, 0.1) - [200, 120, 60]).max() <= 2
    lit, dark = at(boxes[1], 0.1, 0.1), at(boxes[1], 0.9, 0.9)
    assert lit.sum() > dark.sum() + 200
    assert np.ptp(dark) < 30
