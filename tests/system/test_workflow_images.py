"""A study of images as a user runs it: packs, several training cohorts, pre-training, copies."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from image_study import GRADES, SHEETS, SIZES, STUDY, draw, lines
from PIL import Image
from small_study import planned, snakemake, write_study
from stores import stained

from her2pipe.files import read_table

pytestmark = pytest.mark.xdist_group("images")
DONE = [
    "results/evaluate/on-he/HE",
    "results/evaluate/on-he/X",
    "results/evaluate/on-ihc/IHC",
    "results/ledger/ledger.tsv",
]


@pytest.fixture
def plain(tmp_path):
    """A study of which nothing is done yet."""
    draw(tmp_path)
    write_study(tmp_path, STUDY, SHEETS)
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "my study"
    draw(folder)
    write_study(folder, STUDY, SHEETS)
    run = snakemake(folder, *DONE)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture
def again(done, tmp_path):
    folder = tmp_path / "my study"
    shutil.copytree(done, folder, symlinks=True)
    return folder


def steps(jobs):
    total = Counter()
    for (step, _), n in jobs.items():
        total[step] += n
    return total


def test_plan(plain):
    """A job per pack; each encoder is trained on its own cohort, and each method scores its own."""
    jobs = planned(plain)
    assert {c: jobs["tile", c] for c in SIZES} == {"HE": 2, "IHC": 2, "X": 1, "P": 1}
    assert {c: jobs["encode", c] for c in SIZES} == {"HE": 2, "IHC": 2, "X": 1, "P": 0}
    assert {c: jobs["evaluate", c] for c in SIZES} == {"HE": 1, "IHC": 1, "X": 1, "P": 0}
    assert steps(jobs)["pretrain"] == 1
    assert steps(jobs)["train"] == 2
    assert not {"heatmap", "describe", "fit", "synthesise"} & set(steps(jobs))


@pytest.mark.slow
def test_end_to_end(done):
    scores = read_table(done / "results/score/on-he/X.tsv")
    assert [r["slide"] for r in scores] == [f"X-{i}" for i in range(7)]
    assert [r["slide"] for r in scores if r["flag"] == "excluded"] == ["X-4"]
    ledger = {r["slide"]: r for r in read_table(done / "results/ledger/ledger.tsv")}
    assert set(ledger) == {f"{name}-{i}" for name in ("HE", "IHC", "X") for i in range(SIZES[name])}
    assert ledger["X-4"]["reason"] == "the file is not an image"
    metadata = json.loads((done / "results/train/he/model.json").read_text())
    assert metadata["classes"] == list(GRADES)
    assert metadata["start"]["images"]["source"] == "P"
    first = json.loads((done / "results/pretrain/tumours/model.json").read_text())
    assert first["classes"] == ["benign", "malignant"]
    assert first["images"]["train"] == 6
    assert first["images"]["exclusion_reasons"] == {"P-7": "the file is not an image"}
    sides = read_table(done / "results/train/he/slides.tsv")
    assert Counter(r["side"] for r in sides) == {"train": 8, "validation": 4}
    metrics = json.loads((done / "results/evaluate/on-he/X/metrics.json").read_text())
    assert metrics["role"] == "external"
    assert metrics["evaluated"] == 6


@pytest.mark.slow
def test_nothing_is_left_to_do(done):
    run = snakemake(done, *DONE)
    assert "Nothing to be done" in run.stdout + run.stderr


@pytest.mark.slow
def test_a_new_image_touches_one_pack(again):
    Image.fromarray(stained(1, 99)[0]).save(again / "images" / "X-7.png")
    sheets = SHEETS | {"X": lines("X", 8)}
    write_study(again, STUDY, sheets)
    jobs = planned(again)
    wanted = {("tile", "X"): 1, ("encode", "X"): 1, ("score", "X"): 1, ("evaluate", "X"): 1}
    rest = {("compare", ""): 1, ("ledger", ""): 1, ("report", ""): 1}
    assert jobs == Counter(wanted | rest)


@pytest.mark.slow
def test_a_corrected_label_makes_no_pack_anew(again):
    sheets = SHEETS | {
        "HE": [
            line.replace("\t3+\t", "\t2+\t") if line.startswith("HE-2\t") else line
            for line in SHEETS["HE"]
        ]
    }
    write_study(again, STUDY, sheets)
    jobs = steps(planned(again))
    assert not {"tile", "pretrain"} & set(jobs)
    assert jobs["train"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("copy", "of", "message"),
    [
        ("HE-10", "HE-0", "HE-0 (HE-0.png) and HE-10 (HE-10.tif) are the same image"),
        ("X-2", "HE-1", "HE-1 (HE-1.png) and X-2 (X-2.tif) are the same image"),
        ("X-2", "P-1", "P-1 and X-2 (X-2.tif) are the same image"),
    ],
)
def test_a_planted_copy_is_refused(again, copy, of, message):
    """Across the split, in an external cohort, in one of pre-training: whatever its format."""
    pixels = np.asarray(Image.open(again / "images" / f"{of}.png"))
    Image.fromarray(pixels).save(again / "images" / f"{copy}.tif")
    name = copy.split("-")[0]
    sheets = SHEETS | {name: [line.replace(f"{copy}.png", f"{copy}.tif") for line in SHEETS[name]]}
    write_study(again, STUDY, sheets)
    run = snakemake(again, *DONE)
    assert run.returncode == 1
    logs = "".join(p.read_text() for p in (again / "logs").rglob("*.log"))
    assert message in logs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"encoders": STUDY["encoders"] | {"ihc": {"develop": "X"}}},
            "encoder ihc learns from X, which is no cohort for development",
        ),
        (
            {"methods": STUDY["methods"] | {"on-ihc": {"encoder": "ihc", "aggregate": "mean"}}},
            "patient case-0 is in the development cohort, too",
        ),
        ({"methods": {"on-he": STUDY["methods"]["on-he"]}}, "cohort IHC is scored by no method"),
        (
            {"pretrainings": {"tumours": {"architecture": "test_resnet", "images": "X"}}},
            "pre-training tumours names cohort X, whose role is another",
        ),
        (
            {"cohorts": STUDY["cohorts"] | {"X": {"sheet": "sheets/X.tsv", "role": "external"}}},
            "images keep their colours, slides are normalised",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(plain, change, message):
    write_study(plain, STUDY | change, SHEETS)
    run = snakemake(plain, "--dry-run")
    assert run.returncode == 1
    assert message in run.stdout + run.stderr


def test_patients_of_a_pretraining_may_not_be_tested(plain):
    sheets = SHEETS | {"P": [line.replace("\tP-1\t", "\tX-1\t") for line in SHEETS["P"]]}
    write_study(plain, STUDY, sheets)
    run = snakemake(plain, "--dry-run")
    assert "patient X-1 is in the pretraining cohort, too" in run.stdout + run.stderr
