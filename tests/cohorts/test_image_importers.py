"""Sheets of image sets: what names and folders tell, copies, and the real images."""

import re

import numpy as np
import pytest
from PIL import Image

from her2pipe import stats
from her2pipe.cohorts import sheet as cohort
from her2pipe.files import read_table


@pytest.fixture
def images(tmp_path):
    """Write images of given names, each of its own noise, or that of a seed."""

    def make(*names, seed=None):
        for number, name in enumerate(names):
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            random = np.random.default_rng([number, 5] if seed is None else seed)
            Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
        return tmp_path / "set"

    return make


def imported(her2pipe, source, folder, sheet, *more):
    """Run the verb; returns the sheet by slide, and the log."""
    code, stderr = her2pipe("cohort", source, folder, sheet, *more)
    assert code == 0, stderr
    return {row["slide"]: row for row in read_table(sheet)}, stderr


def test_bci_pairs_share_their_case(tmp_path, images, her2pipe):
    names = ("00001_train_0", "00002_train_1+", "00000_test_3+")
    pairs = list(zip(("train", "train", "test"), names, strict=True))
    files = [f"{stain}/{part}/{name}.png" for stain in ("HE", "IHC") for part, name in pairs]
    folder = images(*files, "IHC/thumbs.png")
    found, stderr = imported(her2pipe, "bci", folder, tmp_path / "s.tsv")
    assert found["HE-00002_train_1+"] == {
        "slide": "HE-00002_train_1+",
        "path": str(folder / "HE/train/00002_train_1+.png"),
        "patient": "BCI-train-00002",
        "ihc": "1+",
        "case": "BCI-train-00002",
        "stain": "HE",
        "published_split": "train",
        "split": "train",
    }
    assert found["IHC-00000_test_3+"]["split"] == "test"
    assert found["IHC-00000_test_3+"]["case"] == found["HE-00000_test_3+"]["case"]
    assert "1 images whose name is not of the set" in stderr
    assert "results are optimistic" in stderr
    found, _ = imported(
        her2pipe, "bci", folder, tmp_path / "s.tsv", "--stain", "IHC", "--split", "none"
    )
    assert {row["stain"] for row in found.values()} == {"IHC"}
    assert "split" not in next(iter(found.values()))


def test_warwick_names_and_table(tmp_path, images, her2pipe):
    folder = images(
        "CaseNo_7-TissueId_1-Score_2-row_10-col_20.png",
        "CaseNo_7-TissueId_1-Score_2-row_10-col_30.png",
    )
    found, _ = imported(her2pipe, "warwick", folder, tmp_path / "s.tsv")
    assert {row["patient"] for row in found.values()} == {"Warwick-7"}
    assert {row["ihc"] for row in found.values()} == {"2+"}
    table = tmp_path / "truth.csv"
    table.write_text("CaseNo,HeR2 SCORE,image_her2\n07,2,7_Her2.ndpi\n")
    imported(her2pipe, "warwick", folder, tmp_path / "s.tsv", "--table", table)
    table.write_text("CaseNo,HeR2 SCORE,image_her2\n7,3,7_Her2.ndpi\n")
    code, stderr = her2pipe("cohort", "warwick", folder, tmp_path / "s.tsv", "--table", table)
    assert code == 1
    assert "is 2+ by its name, case Warwick-7 3+ by the table" in stderr


def test_breakhis_blocks_of_one_patient_stay_together(tmp_path, images, her2pipe):
    folder = images(
        "SOB_B_A-14-29960CD-100-002.png",
        "SOB_B_F-14-29960AB-40-001.png",
        "SOB_M_DC-14-12312-100-005.png",
    )
    found, _ = imported(her2pipe, "breakhis", folder, tmp_path / "s.tsv")
    row = found["SOB_B_A-14-29960CD-100-002"]
    assert row["patient"] == found["SOB_B_F-14-29960AB-40-001"]["patient"] == "BreakHis-14-29960"
    assert (row["class"], row["subtype"], row["block"]) == ("benign", "adenosis", "14-29960CD")
    assert found["SOB_M_DC-14-12312-100-005"]["class"] == "malignant"
    found, stderr = imported(
        her2pipe, "breakhis", folder, tmp_path / "s.tsv", "--magnification", "40"
    )
    assert list(found) == ["SOB_B_F-14-29960AB-40-001"]
    assert "2 images of another magnification than 40" in stderr


def test_folders_of_classes(tmp_path, images, her2pipe):
    folder = images(
        "train/benign/P1_a.png", "train/benign/P1_b.jpg", "test/tumour/P2_a.png", "stray.png"
    )
    found, stderr = imported(
        her2pipe, "folders", folder, tmp_path / "s.tsv", "--patient", "(P[0-9])_"
    )
    assert {r["slide"]: (r["class"], r["patient"], r["split"]) for r in found.values()} == {
        "train_benign_P1_a": ("benign", "P1", "train"),
        "train_benign_P1_b": ("benign", "P1", "train"),
        "test_tumour_P2_a": ("tumour", "P2", "test"),
    }
    assert "note" not in stderr
    _, stderr = imported(her2pipe, "folders", folder / "train", tmp_path / "s.tsv")
    assert "every image counts as a patient of its own" in stderr
    code, stderr = her2pipe("cohort", "folders", folder, tmp_path / "s.tsv", "--patient", "(")
    assert code == 1
    assert "--patient is no regular expression" in stderr


def test_copies_of_one_patient_are_left_out_others_refused(tmp_path, images, her2pipe):
    folder = images("SOB_M_DC-14-1-100-001.png", "SOB_M_LC-14-1-100-001.png", seed=3)
    found, stderr = imported(her2pipe, "breakhis", folder, tmp_path / "s.tsv")
    assert list(found) == ["SOB_M_DC-14-1-100-001"]
    assert "1 copies of another image" in stderr
    images("SOB_M_DC-14-2-100-001.png", seed=3)
    code, stderr = her2pipe("cohort", "breakhis", folder, tmp_path / "s.tsv")
    assert code == 1
    assert "the same image twice, of different patient (BreakHis-14-1 and BreakHis-14-2)" in stderr
    for name in ("SOB_M_DC-14-1-100-001.png", "SOB_M_DC-14-2-100-001.png"):
        assert str(folder / name) in stderr


def test_an_unreadable_image_stays_for_the_ledger(tmp_path, images, her2pipe):
    folder = images("SOB_M_DC-14-1-100-001.png")
    (folder / "SOB_M_DC-14-1-100-002.png").write_text("x")
    found, stderr = imported(her2pipe, "breakhis", folder, tmp_path / "s.tsv")
    assert len(found) == 2
    assert "1 images that cannot be read, but kept" in stderr


def test_a_folder_of_other_things_is_refused(tmp_path, images, her2pipe):
    code, stderr = her2pipe("cohort", "bci", images("a.png"), tmp_path / "s.tsv")
    assert code == 1
    assert "no image of bci in the folder (1 images there)" in stderr


# --- the real images


def test_real_names(data, tmp_path, her2pipe):
    """Grade, class and patient of every real image are those of its name, read another way."""
    for source in ("bci", "warwick", "breakhis"):
        if not (data / source).is_dir():
            pytest.skip(f"no images of {source}")
        sheet = tmp_path / f"{source}.tsv"
        found, _ = imported(her2pipe, source, data / source, sheet)
        files = list((data / source).rglob("*.png"))
        assert len(found) == len(files) == len(cohort.load(sheet))
        for row in found.values():
            name = row["path"].rsplit("/", 1)[1].removesuffix(".png")
            if source == "bci":
                assert row["ihc"] == name.split("_")[2]
                assert row["patient"] == f"BCI-test-{name[:5]}"
                assert row["stain"] == row["path"].split("/")[-2]
            elif source == "warwick":
                assert row["ihc"] == name.split("Score_")[1][0] + "+"
                assert row["patient"] == "Warwick-" + name.split("-")[0].removeprefix("CaseNo_")
            else:
                parts = name.split("-")
                assert row["class"][0].upper() == name.split("_")[1]
                assert row["patient"] == f"BreakHis-{parts[1]}-{re.sub('[A-Z]', '', parts[2])}"
                assert row["magnification"] == parts[3]


@pytest.mark.slow
def test_real_images_are_trained_on_and_predicted(data, tmp_path, her2pipe):
    """BreakHis: packed, a tiny network learns benign and malignant from it, and grades it."""
    folder, sheet = data / "breakhis", tmp_path / "s.tsv"
    if not folder.is_dir():
        pytest.skip("no images of breakhis")
    found, _ = imported(her2pipe, "breakhis", folder, sheet)
    pack = tmp_path / "0of1.h5"
    assert her2pipe("tile", sheet, pack, "--view", "whole", "--patch-px", "64")[0] == 0
    labels = (
        *("--endpoint", "class", "--column", "class", "--classes", "benign", "malignant"),
        *("--ordered", "false"),
    )
    code, stderr = her2pipe(
        "train",
        pack,
        tmp_path / "m",
        "--sheet",
        sheet,
        "--architecture",
        "test_resnet",
        "--input-px",
        "64",
        "--max-epochs",
        "25",
        "--batch-size",
        "8",
        "--frozen",
        "--train-views",
        "whole",
        "--learning-rate",
        "1e-3",
        "--flips",
        "false",
        "--jitter",
        "0",
        "--plateau-epochs",
        "0",
        "--device",
        "cpu",
        *labels,
    )
    assert code == 0, stderr
    encode = ("--model", tmp_path / "m", "--device", "cpu")
    assert her2pipe("encode", pack, tmp_path / "e", *encode)[0] == 0
    scores = tmp_path / "scores.tsv"
    words = ("--aggregate", "mean", "--sheet", sheet, *labels)
    assert her2pipe("score", tmp_path / "e", scores, *words)[0] == 0
    sides = {r["slide"]: r["side"] for r in read_table(tmp_path / "m" / "slides.tsv")}
    rows = read_table(scores)
    assert {r["slide"] for r in rows} == set(found)
    own = [r for r in rows if sides[r["slide"]] == "train"]
    truth = [found[r["slide"]]["class"] == "malignant" for r in own]
    # It has seen these: the packs are what it was trained on, and rows are of the right images.
    assert stats.auc(truth, [float(r["p_malignant"]) for r in own]).value > 0.9
