"""The step describe: its files, what it refuses, what it says of too little."""

import json
import shutil

import numpy as np
import pytest
from stores import make_encoding, make_store, stained

from her2pipe.cli import main
from her2pipe.config import StainSettings, load
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.patch_features import features
from her2pipe.stain.base import estimate

pytestmark = pytest.mark.slow  # a whole study, or all figures of one

P = [0.1, 0.35, 0.38, 0.45, 0.55, 0.65, 0.75, 0.9]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two slides of 24 patches, the more nuclei the higher p(HER2+), and an excluded one."""
    tmp_path = tmp_path_factory.mktemp("drawn")
    folder = tmp_path / "encodings"
    folder.mkdir()
    p = np.array(P * 3)
    coords = np.stack([np.arange(24) % 8 * 64, np.arange(24) // 8 * 64], axis=1)
    for seed, name in enumerate(["S1", "<script> $x$"]):
        pixels = np.concatenate(
            [stained(1, 100 * seed + i, cells=2 + int(14 * v)) for i, v in enumerate(p)]
        )
        make_store(tmp_path / "stores" / f"{name}.h5", pixels, coords, mpp=0.5)
        make_encoding(folder / f"{name}.h5", np.stack([(1 - p) / 2, p, (1 - p) / 2], axis=1))
    make_store(tmp_path / "stores" / "out.h5", [], [], status="excluded", reason="no tissue")
    make_encoding(folder / "out.h5", [], status="excluded", reason="no tissue")
    target = estimate(pixels.reshape(-1, 3), StainSettings())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text(json.dumps({"stain": target.as_dict()}))
    return tmp_path


@pytest.fixture
def slides(drawn, tmp_path, monkeypatch):
    """A copy of the slides to change; figures, which take most of the time, are left out."""
    for name in ("_draw_boxes", "_draw_maps", "_draw_examples"):
        monkeypatch.setattr(f"her2pipe.steps.describe.{name}", lambda *inputs: None)
    return shutil.copytree(drawn, tmp_path / "slides")


@pytest.fixture(scope="module")
def described(drawn):
    """The slides as described, with figures."""
    words = ("--model", drawn / "model", "--patches", 5)
    code, _ = describe(
        lambda *words: (main([str(word) for word in words]), ""), drawn, "one", *words
    )
    assert code == 0
    return drawn


def describe(run, folder, out, *words):
    return run(
        "describe",
        folder / "encodings",
        folder / out,
        "--stores",
        folder / "stores",
        "--cohort",
        "B",
        "--boxes",
        2,
        "--examples",
        1,
        *words,
    )


def test_files_and_numbers(described):
    out = described / "one"
    names = {
        "features.tsv",
        "ranked.tsv",
        "about.json",
        "boxes.png",
        "boxes.svg",
        "examples.png",
        "nuclei.png",
        "slide_means.tsv",
        "dunn_maps.png",
        "dunn_maps.svg",
    }
    assert {path.name for path in out.iterdir()} == names
    rows = read_table(out / "features.tsv")
    assert list(rows[0]) == ["slide", "patch", "x", "y", "p", "grade", *features.NAMES]
    assert [row["grade"] for row in rows].count("I") == 5
    for row in rows:
        assert row["slide"] in ("S1", "<script> $x$")
        patch = int(row["patch"])
        assert float(row["p"]) == pytest.approx(P[patch % 8], abs=1e-6)
        assert (int(row["x"]), int(row["y"])) == (patch % 8 * 64, patch // 8 * 64)
    about = json.loads((out / "about.json").read_text())
    assert about["grades"]["I"] == {
        "from": 0.33,
        "to": 0.4,
        "patches": 12,
        "described": 5,
        "slides": 2,
    }
    assert about["grades"]["V"]["patches"] == 12
    assert about["ungraded"] == 6
    assert about["area_unit"] == "um^2"
    assert about["patch_mpp"] == [0.5, 0.5]
    assert about["cohort"] == "B"
    ranked = read_table(out / "ranked.tsv")
    assert sorted(row["feature"] for row in ranked) == sorted(features.NAMES)


def test_more_nuclei_are_found_and_ranked_first(slides, her2pipe):
    assert describe(her2pipe, slides, "out", "--model", slides / "model")[0] == 0
    rows = read_table(slides / "out" / "features.tsv")
    assert len(rows) == 42
    count = {
        g: np.mean([float(r["cells_num"]) for r in rows if r["grade"] == g]) for g in ("I", "V")
    }
    assert count["V"] > 1.3 * count["I"]
    ranked = {row["feature"]: row for row in read_table(slides / "out" / "ranked.tsv")}
    assert ranked["cells_num"]["selected"] == "True"
    assert int(ranked["cells_num"]["pairs"]) >= int(ranked["cells_num"]["pairs_holm"]) > 0
    assert float(ranked["cells_num"]["dunn_I_V"]) < 0.001
    assert ranked["cells_num"]["unit"] == "nuclei"


def test_rejected_patches_are_not_described(slides, her2pipe):
    """Ink on the first eight patches of S1: one of each p(HER2+) has no grade."""
    from dataclasses import replace

    from her2pipe.store import read_encoding, write_encoding

    path = slides / "encodings" / "S1.h5"
    encoding = read_encoding(path)
    metadata = replace(encoding.metadata, reason_names=("blur", "pen"))
    reasons = np.array([2] * 8 + [1] * 16, np.uint8)
    arrays = encoding.coords, encoding.probabilities, encoding.features
    write_encoding(path, *arrays, metadata, reasons=reasons)
    words = ("--normalise", "false", "--reject", "pen")
    code, message = describe(her2pipe, slides, "out", *words)
    assert code == 0, message
    rows = read_table(slides / "out" / "features.tsv")
    numbers = [int(row["patch"]) for row in rows if row["slide"] == "S1"]
    assert min(numbers) == 9  # patch 8 has p(HER2+) 0.1, which is no grade
    assert len(numbers) == 14
    assert len(rows) - len(numbers) == 21
    about = json.loads((slides / "out" / "about.json").read_text())
    assert about["grades"]["I"]["patches"] == 12 - 2
    assert about["grades"]["V"]["patches"] == 12 - 2


def test_two_runs_give_the_same_bytes(described, tmp_path, her2pipe):
    words = ("--model", described / "model", "--patches", 5)
    assert describe(her2pipe, described, tmp_path / "two", *words)[0] == 0
    for path in (described / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_normalised_patches_are_those_the_encoder_saw(slides, her2pipe):
    """A slide described in its own colours as target is described as scanned, nearly."""
    from her2pipe.store import PatchStore

    with PatchStore(slides / "stores" / "S1.h5") as store:
        own = {"stain": store.stain}
    (slides / "model" / "model.json").write_text(json.dumps(own))
    found = {}
    for out, words in (("own", ["--model", slides / "model"]), ("raw", ["--normalise", "false"])):
        assert describe(her2pipe, slides, out, *words)[0] == 0
        rows = read_table(slides / out / "features.tsv")
        found[out] = np.array([float(r["Lab-A_mean"]) for r in rows if r["slide"] == "S1"])
        nuclei = [row["cells_num"] for row in rows]
        assert found.setdefault("nuclei", nuclei) == nuclei  # whatever the colours
    np.testing.assert_allclose(found["own"], found["raw"], atol=1.5)


def test_without_resolution_areas_are_in_pixels(slides, make, her2pipe):
    pixels = make.stained(24, 7)
    coords = np.stack([np.arange(24) % 8 * 64, np.arange(24) // 8 * 64], axis=1)
    make.store(slides / "stores" / "S1.h5", pixels, coords)
    assert describe(her2pipe, slides, "out", "--normalise", "false")[0] == 0
    about = json.loads((slides / "out" / "about.json").read_text())
    assert about["area_unit"] == "px^2"
    assert "1 of 2 slides have no resolution (S1)" in " ".join(about["notes"])
    units = {r["feature"]: r["unit"] for r in read_table(slides / "out" / "ranked.tsv")}
    assert units["cells_area_mean"] == "px²"
    assert units["Lab-L_mean"] == "Lab units"


def test_too_few_patches_are_reported(drawn, tmp_path, make, her2pipe):
    slides = shutil.copytree(drawn, tmp_path / "slides")
    for name in ("S1", "<script> $x$"):
        p = np.full(24, 0.1)
        p[:3] = 0.36
        encoding = np.stack([(1 - p) / 2, p, (1 - p) / 2], axis=1)
        make.encoding(slides / "encodings" / f"{name}.h5", encoding)
    code, message = describe(her2pipe, slides, "out", "--normalise", "false")
    assert code == 0, message
    about = json.loads((slides / "out" / "about.json").read_text())
    message = " ".join(about["notes"])
    assert "grade II has no patch, fewer than 5: not tested" in message
    assert "no feature could be tested" in message
    assert about["grades"]["I"]["described"] == 6
    assert not (slides / "out" / "boxes.png").exists()
    assert (slides / "out" / "examples.png").exists()


def test_a_cohort_without_any_graded_patch_still_has_its_files(slides, make, her2pipe):
    for name in ("S1", "<script> $x$"):
        encoding = np.tile([0.8, 0.1, 0.1], (24, 1))
        make.encoding(slides / "encodings" / f"{name}.h5", encoding)
    assert describe(her2pipe, slides, "out", "--normalise", "false")[0] == 0
    assert read_table(slides / "out" / "features.tsv") == []
    assert len(read_table(slides / "out" / "ranked.tsv")) == 39
    assert json.loads((slides / "out" / "about.json").read_text())["described"] == 0


def test_mistakes_are_three_lines(slides, make, her2pipe):
    code, message = describe(her2pipe, slides, "out")
    assert code == 1
    assert "no encoder is given" in message
    make.store(slides / "stores" / "S1.h5", make.stained(1, 1), [(0, 0)])
    code, message = describe(her2pipe, slides, "out", "--normalise", "false")
    assert code == 1
    assert "the store of S1 holds other patches than its encoding" in message
    (slides / "stores" / "S1.h5").unlink()
    code, message = describe(her2pipe, slides, "out", "--normalise", "false")
    assert "slide S1 has an encoding, but no patch store is given" in message
    assert len(message.strip().splitlines()) == 3


def test_an_encoder_without_her2_is_refused(slides, her2pipe):
    from her2pipe.store import EncodingMetadata, write_encoding

    path, metadata = slides / "encodings" / "S1.h5", EncodingMetadata(slide="S1")
    write_encoding(path, np.zeros((24, 2)), np.zeros((24, 0)), np.zeros((24, 4)), metadata)
    code, message = describe(her2pipe, slides, "out", "--normalise", "false")
    assert code == 1
    assert "the encoder of S1 gives no p(HER2+)" in message


STUDY = {
    "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
    "encoders": {"swin-t": {}, "frozen": {"task": "none"}},
    "methods": {"TL-PA": {"encoder": "swin-t"}},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoders": ["swin"]}, "describe.encoders names an unknown encoder: swin"),
        ({"cohorts": ["Z"]}, "describe.cohorts names an unknown cohort: Z"),
        ({"encoders": ["frozen"]}, "frozen, which has no classes"),
        ({"grades": [0.4, 0.33, 0.5, 0.6, 0.7]}, "grades must ascend"),
        ({"patches": 4}, "no grade is ever tested"),
        ({"nuclei_area_um2": [50, 20]}, "smaller and a larger area"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(Her2Error) as caught:
        load.check(STUDY | {"describe": change}, "study.yaml")
    assert message in str(caught.value)
