"""A study of images: its settings, its sheets, its pictures."""

from PIL import Image
from stores import stained

GRADES = ("1+", "2+", "3+")
STUDY = {
    "study": {"title": "Study of images"},
    "labels": {"endpoint": "class", "classes": list(GRADES)},
    "cohorts": {
        "HE": {"sheet": "sheets/HE.tsv", "role": "development", "kind": "images"},
        "IHC": {"sheet": "sheets/IHC.tsv", "role": "development", "kind": "images"},
        "X": {"sheet": "sheets/X.tsv", "role": "external", "kind": "images"},
        "P": {"sheet": "sheets/P.tsv", "role": "pretraining", "kind": "images"},
    },
    "images": {"pack_images": 6},
    "tile": {"patch_px": 32},
    "pretrain": {"device": "cpu", "epochs": 1, "batch_size": 4, "input_px": 32},
    "pretrainings": {"tumours": {"architecture": "test_resnet", "images": "P"}},
    "train": {
        "max_epochs": 1,
        "batch_size": 4,
        "frozen": [],
        "device": "cpu",
        "fractions": {},
        "architecture": "test_resnet",
        "input_px": 32,
    },
    "encoders": {"he": {"pretrain": "tumours"}, "ihc": {"develop": "IHC"}},
    "encode": {"device": "cpu"},
    "methods": {
        "on-he": {"encoder": "he", "aggregate": "mean", "cohorts": ["HE", "X"]},
        "on-ihc": {"encoder": "ihc", "aggregate": "mean", "cohorts": ["IHC"]},
    },
    "evaluate": {"resamples": 100},
}
SIZES = {"HE": 12, "IHC": 12, "X": 7, "P": 8}


def lines(name, n):
    """Rows of a cohort: two images a patient; patients of HE and IHC are the same ones."""
    column = "class" if name == "P" else "ihc"
    values = ("benign", "malignant") if name == "P" else GRADES
    rows = [f"slide\tpath\tpatient\t{column}\tsplit"]
    who = "case" if name in ("HE", "IHC") else name
    for i in range(n):
        patient = i // 2
        side = "validation" if patient >= (3 if name == "P" else 4) else "train"
        side = "" if name == "X" else side
        value = values[i % len(values)]
        rows.append(f"{name}-{i}\timages/{name}-{i}.png\t{who}-{patient}\t{value}\t{side}")
    return rows


SHEETS = {name: lines(name, n) for name, n in SIZES.items()}


def draw(folder):
    """Draw the images of all cohorts; two files are not images."""
    (folder / "images").mkdir(parents=True)
    for seed, (name, n) in enumerate(SIZES.items()):
        for i, picture in enumerate(stained(n, seed, cells=4 + 8 * (seed % 2))):
            Image.fromarray(picture).save(folder / "images" / f"{name}-{i}.png")
    for name in ("X-4", "P-7"):
        (folder / "images" / f"{name}.png").write_text("no image")
