"""Sheets of public cohorts from small made-up trees in the published layout, and real tables."""

import csv
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.importers.base import IMPORTERS
from her2pipe.cohorts.labels import label
from her2pipe.files import read_table
from her2pipe.workflow.study import Study

MANUAL = Path(__file__).parents[2] / "docs" / "how-to" / "public-cohorts.md"


def imported(her2pipe, source, folder, *more):
    """Run the verb; return the rows by slide, the log, and what is listed as left out."""
    sheet = folder.parent / f"{source}.tsv"
    code, stderr = her2pipe("cohort", source, folder, sheet, *more)
    assert code == 0, stderr
    listed = sheet.with_suffix(".left_out.tsv")
    left_out = read_table(listed) if listed.exists() else []
    reasons = {each["reason"]: [] for each in left_out}
    for each in left_out:
        reasons[each["reason"]].append(Path(each["item"]).name)
    return {row["slide"]: row for row in read_table(sheet)}, stderr, reasons


def refused(her2pipe, source, folder, *more):
    code, stderr = her2pipe("cohort", source, folder, folder.parent / "no.tsv", *more)
    assert code == 1
    assert len(stderr.splitlines()) == 3
    return stderr


def files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def images(folder, *names):
    """Write images of noise, each its own."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng([number, 5])
        Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    return folder


def workbook(path, **worksheets):
    """Write a spreadsheet of lists of rows."""
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.active)
    for title, rows in worksheets.items():
        page = book.create_sheet(title.replace("_plus", "+"))
        for row in rows:
            page.append(row)
    book.save(path)
    return path


def study(sheet, role="development", **labels):
    """Load a study of the sheet as one of a user's."""
    text = {"cohorts": {"P": {"sheet": str(sheet), "role": role}}}
    text |= {"encoders": {"e": {"architecture": "test_resnet", "view": "256um"}}}
    text |= {"methods": {"m": {"encoder": "e", "aggregate": "mean"}}, **labels}
    return Study.load(text, "study.yaml")


# --- BCNB

CLINICAL = [
    *("Patient ID", "Age(years)", "Tumour Size(cm)", "Tumour Type", "ER", "PR", "HER2"),
    *("HER2 Expression", "Histological grading", "Surgical", "Ki67", "Molecular subtype"),
    *("Number of lymph node metastases", "ALN status"),
]


def patient(number, her2, level, er="Positive"):
    line = [number, 50, 2.1, "Invasive ductal carcinoma", er, "Negative", her2, level]
    return [*line, 2, "Mastectomy", 0.4, "Luminal B", 0, "N0"]


@pytest.fixture
def bcnb(tmp_path):
    folder = tmp_path / "BCNB"
    (folder / "WSIs").mkdir(parents=True)
    (folder / "dataset-splitting").mkdir()
    rows = [
        patient(71, "Positive", "2+"),
        patient(800, "Negative", 0),
        patient(981, "Negative", "2+"),
    ]
    rows += [patient(5, "Positive", "3+", er="Negative"), patient(9, "Positive", "3+")]
    workbook(folder / "patient-clinical-data.xlsx", Sheet1=[CLINICAL, *rows])
    for part, numbers in (("train", (71, 910, 9)), ("val", (800,)), ("test", (981, 5))):
        text = "".join(f"{number}\r\n" for number in numbers)
        (folder / "dataset-splitting" / f"{part}_id.txt").write_text(text)
    (folder / "dataset-splitting" / "train-type-0.json").write_text("[]")
    for number in (71, 800, 981, 5, 1000):
        files(folder, f"WSIs/{number}.jpg")
        outline = {"name": "Annotation 0", "vertices": [[0, 0], [128, 0], [128, 400], [0, 400]]}
        text = json.dumps({"positive": [outline], "negative": []})
        (folder / "WSIs" / f"{number}.json").write_text(text)
    files(folder, "WSIs/0e7d1bc0-41bc-4f5c-9d6f-1c3a6e1b3c55.jpg", "patches/71/71_0_0_256.jpg")
    return folder


def test_bcnb(bcnb, her2pipe):
    rows, stderr, left_out = imported(her2pipe, "bcnb", bcnb, "--mpp", "0.5")
    assert list(rows) == ["BCNB-5", "BCNB-71", "BCNB-800", "BCNB-981"]
    assert rows["BCNB-71"]["annotation"] == str(bcnb / "WSIs" / "71.json")
    assert {name: (row["split"], row["mpp"], row["er"]) for name, row in rows.items()} == {
        "BCNB-71": ("train", "0.5", "positive"),
        "BCNB-800": ("validation", "0.5", "positive"),
        "BCNB-981": ("test", "0.5", "positive"),
        "BCNB-5": ("test", "0.5", "negative"),
    }
    first = rows["BCNB-71"]
    assert (first["published_her2"], first["published_ihc"], first["nodes"]) == (
        "Positive",
        "2+",
        "N0",
    )
    assert left_out == {
        "JPEG files that no patient's number names": [
            "0e7d1bc0-41bc-4f5c-9d6f-1c3a6e1b3c55.jpg",
            "71_0_0_256.jpg",
        ],
        "slides in none of the published parts": ["1000.jpg"],
        "patients of the table without a slide": ["9"],
    }
    assert "4 of 1,058, 1 of 630 train, 1 of 210 validation, 2 of 218 test" in stderr
    assert "levels 0: 1, 2+/FISH+: 1, 2+/FISH-: 1, 3+: 1" in stderr
    assert "non-commercial" in stderr
    loaded = study(bcnb.parent / "bcnb.tsv").rows["P"]
    assert {name: (row.level, row.positive, row.split) for name, row in loaded.items()} == {
        "BCNB-5": ("3+", True, "test"),
        "BCNB-71": ("2+/FISH+", True, "train"),
        "BCNB-800": ("0", False, "validation"),
        "BCNB-981": ("2+/FISH-", False, "test"),
    }


def test_bcnb_asks_for_what_is_not_published(bcnb, her2pipe):
    assert "give no resolution" in refused(her2pipe, "bcnb", bcnb)
    assert "give a positive number" in refused(her2pipe, "bcnb", bcnb, "--mpp", "0")
    (bcnb / "dataset-splitting" / "test_id.txt").write_text("71\r\n")
    assert "patient 71 is of the train and the test part" in refused(
        her2pipe, "bcnb", bcnb, "--mpp", "0.5"
    )
    for path in (bcnb / "dataset-splitting").glob("*.txt"):
        path.unlink()
    rows, stderr, _ = imported(her2pipe, "bcnb", bcnb, "--mpp", "0.5")
    assert "split" not in rows["BCNB-71"]
    assert "no part is known" in stderr


def test_a_jpeg_slide_of_bcnb_is_cut(bcnb, her2pipe):
    """From the sheet's row to a store, at the resolution named; the left half is annotated."""
    from slides import tissue

    from her2pipe.store import PatchStore

    path = bcnb / "WSIs" / "71.jpg"
    Image.fromarray(tissue(512, 384)).save(path, quality=95)
    rows, _, _ = imported(her2pipe, "bcnb", bcnb, "--mpp", "0.5")
    row, store = rows["BCNB-71"], bcnb / "71.h5"
    words = ("--annotation", row["annotation"], "--mpp", row["mpp"], "--patch-px", "64")
    code, stderr = her2pipe("tile", row["path"], store, "--view", "64um", *words)
    assert code == 0, stderr
    with PatchStore(store) as patches:
        assert patches.metadata.status == "ok", patches.metadata.reason
        assert (patches.metadata.reader, patches.metadata.mpp) == ("picture", 0.5)
        assert (patches.metadata.width_px0, patches.metadata.height_px0) == (512, 384)
        shares = dict(zip(map(tuple, patches.coords.tolist()), patches.tumour, strict=True))
    assert shares == {(x, y): float(x == 0) for x in (0, 128, 256, 384) for y in (0, 128, 256)}
    code, stderr = her2pipe("tile", row["path"], bcnb / "no.h5", "--view", "64um")
    assert code == 1
    assert "needs the slide's resolution" in stderr


# --- HEROHE


@pytest.fixture
def herohe(tmp_path):
    """Training cases 1, 7 and 325, and test case 7, each a MIRAX slide with its folder."""
    folder = tmp_path / "HEROHE"
    names = [f"Training_set/{case}" for case in (1, 7, 325)] + ["TestSet/7"]
    names = [name.replace("TestSet", "test") for name in names]
    for name in names:
        files(folder, f"{name}.mrxs", f"{name}/Data0000.dat", f"{name}/Slidedat.ini")
    files(folder, "Training_set/12.mrxs")  # without its folder
    table = tmp_path / "HEROHE_HER2_STATUS.csv"
    lines = [
        "Case;HER2 Status",
        "1;Negative",
        "7;Positive",
        "12;Negative",
        "325;Negative",
        "9;Positive",
    ]
    table.write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    return folder, table


def test_herohe(herohe, her2pipe):
    folder, table = herohe
    rows, stderr, left_out = imported(her2pipe, "herohe", folder, "--table", table)
    assert {name: (row["her2"], row["published_split"]) for name, row in rows.items()} == {
        "HEROHE-train-1": ("negative", "train"),
        "HEROHE-train-7": ("positive", "train"),
    }
    assert "split" not in rows["HEROHE-train-1"]
    assert "all are of the published side train" in stderr
    assert "2 of 360 train, 0 of 150 test" in stderr
    assert left_out == {
        "slides without their folder of data": ["12.mrxs"],
        "slides of patients not in the table": ["7.mrxs"],  # of the test part
        "slides without tumour (training case 325)": ["325.mrxs"],
        "patients of the table without a slide": ["HEROHE-train-12", "HEROHE-train-9"],
    }
    assert "HEROHE-train" not in stderr  # counts, no patients
    loaded = study(folder.parent / "herohe.tsv").rows["P"]
    assert {name: row.positive for name, row in loaded.items()} == {
        "HEROHE-train-1": False,
        "HEROHE-train-7": True,
    }


def test_herohe_parts_are_numbered_apart(herohe, her2pipe, tmp_path):
    folder, table = herohe
    truth = tmp_path / "truth.csv"
    truth.write_text("Case,HER2 Status\n7,Negative\n")
    rows, _, _ = imported(her2pipe, "herohe", folder, "--table", table, "--held-out-table", truth)
    sides = {name: (row["her2"], row["split"], row["patient"]) for name, row in rows.items()}
    assert sides == {
        "HEROHE-test-7": ("negative", "test", "HEROHE-test-7"),
        "HEROHE-train-1": ("negative", "train", "HEROHE-train-1"),
        "HEROHE-train-7": ("positive", "train", "HEROHE-train-7"),
    }
    flat = folder / "Training_set"
    (tmp_path / "slides").mkdir()
    flat = flat.rename(tmp_path / "slides" / "flat")
    assert "no folder says which a slide is of" in refused(
        her2pipe, "herohe", flat, "--table", table
    )
    rows, _, _ = imported(her2pipe, "herohe", flat, "--table", table, "--part", "train")
    assert set(rows) == {"HEROHE-train-1", "HEROHE-train-7"}
    assert "of the training part" in refused(
        her2pipe, "herohe", flat, "--table", table, "--part", "test"
    )
    assert "needs a clinical table" in refused(her2pipe, "herohe", folder)


def test_real_herohe_tables(data, tmp_path, her2pipe):
    """144 of 360 training cases are positive; a team's predictions are no truth."""
    folder = tmp_path / "HEROHE"
    table = data / "tables" / "HEROHE_HER2_STATUS_train.csv"
    with table.open(encoding="utf-8-sig") as file:
        truth = {
            row["Case"]: row["HER2 Status"].lower() for row in csv.DictReader(file, delimiter=";")
        }
    for case in truth:
        files(folder, f"train/{case}.mrxs", f"train/{case}/Data0000.dat")
    rows, stderr, left_out = imported(her2pipe, "herohe", folder, "--table", table)
    assert len(truth) == 360
    assert Counter(row["her2"] for row in rows.values()) == {"positive": 144, "negative": 215}
    assert {name.split("-")[2]: row["her2"] for name, row in rows.items()} | {
        "325": "negative"
    } == truth
    assert left_out == {"slides without tumour (training case 325)": ["325.mrxs"]}
    assert "359 of 360 train" in stderr
    submission = data / "tables" / "HEROHE_Her2_test_results.csv"
    assert "predictions of a team, not the truth" in refused(
        her2pipe, "herohe", folder, "--table", table, "--held-out-table", submission
    )


# --- ACROBAT, IMPRESS, Yale


def test_acrobat(tmp_path, her2pipe):
    folder = files(
        tmp_path / "acrobat",
        *("valid/0_HE_val.tif", "valid/0_HER2_val.tif", "valid/thumb.tif"),
        *("train/0_HE_train.tif", "train/0_KI67_train.tif"),
    )
    table = tmp_path / "df_acrobat_meta.csv"
    head = "anon_id,set,stain,filename,vendor,model,mpp_lvl_0,mpp_lvl_1"
    table.write_text(f"{head}\n0,val,HE,0_HE_val.tif,Hamamatsu,S360,0.91,1.82\n")
    rows, stderr, left_out = imported(her2pipe, "acrobat", folder, "--table", table)
    assert {name: (row["patient"], row["stain"], row["mpp"]) for name, row in rows.items()} == {
        "ACROBAT-0_HE_val": ("ACROBAT-validation-0", "HE", "0.91"),
        "ACROBAT-0_HER2_val": ("ACROBAT-validation-0", "HER2", ""),
        "ACROBAT-0_HE_train": ("ACROBAT-train-0", "HE", ""),
        "ACROBAT-0_KI67_train": ("ACROBAT-train-0", "KI67", ""),
    }
    assert rows["ACROBAT-0_HE_val"]["scanner"] == "Hamamatsu S360"
    assert left_out == {"files that are not named number_stain_part": ["thumb.tif"]}
    assert "no HER2 labels" in stderr
    rows, _, left_out = imported(her2pipe, "acrobat", folder, "--stain", "HER2")
    assert list(rows) == ["ACROBAT-0_HER2_val"]
    assert len(left_out["slides of another stain than HER2"]) == 3
    table.write_text("a,b\n")
    assert "no column filename, model" in refused(her2pipe, "acrobat", folder, "--table", table)


def test_impress_as_published(tmp_path, her2pipe):
    """The spreadsheet of two worksheets, with rows without an ID at its end."""
    folder = files(
        tmp_path / "impress",
        *("HER2+_deid/061_HE.svs", "HER2+_deid/061_IHC.svs", "HER2+_deid/062_HE.svs"),
        *("HER2+_deid/063_HE.svs", "TNBC_deid/901_HE.svs"),
    )
    head = ["Unique ID", "Age", "HER2 IHC (0-3)", "HER signal", "CEP17", "ratio", "ER (+-1/-0)"]
    head += ["ER%", "PR (+/-)", "PR%", "residual tumor (no-0, yes-1)", "pCR", "RCB category"]
    rows = [
        ["061", 50, 3, ">6", 2, 4.1, 1, "90%", "+", "80%", 0, 1, None],
        ["062", 51, 2, 5, 2, 2.5, 0, "0", "-", "0", 1, 0, "II"],
        ["063", 52, "1+2", 5, 2, 2.5, 0, "0", "-", "0", 1, 0, "III"],
        [None, None, "mean", None, None, 3, None, None, None, None, None, None, None],
    ]
    tnbc = [["Unique ID", "pCR (no-0, yes-1)", "RCB category"], ["901", 1, None]]
    table = workbook(tmp_path / "supp_2_cohort_meta.xlsx", HER2_plus=[head, *rows], TNBC=tnbc)
    rows, _, left_out = imported(her2pipe, "impress", folder, "--table", table)
    columns = ("patient", "ihc", "er", "pr", "pcr", "rcb", "published_ihc")
    assert {name: [row[column] for column in columns] for name, row in rows.items()} == {
        "061_HE": ["IMPRESS-61", "3+", "positive", "positive", "yes", "0", "3"],
        "062_HE": ["IMPRESS-62", "2+", "negative", "negative", "no", "II", "2"],
        "063_HE": ["IMPRESS-63", "", "negative", "negative", "no", "III", "1+2"],
    }
    assert left_out == {
        "IHC slides": ["061_IHC.svs"],
        "slides of triple-negative tumours": ["901_HE.svs"],
        "rows of the table without a patient": ["row 4"],
    }


def test_yale_package_and_a_list_of_its_slides(data, tmp_path, her2pipe):
    """Names of files and a list made by other people agree on all of Yale's status."""
    with (data / "tables" / "her2ac_slide_labels.csv").open() as file:
        listed = {row["slide_id"]: row["label"] for row in csv.DictReader(file)}
    folder = tmp_path / "pkg_v3"
    names = [name for name in listed if name.startswith("Her2")]
    files(folder, *(f"Yale_HER2_cohort/SVS/{name}" for name in names))
    files(folder, *(f"Yale_HER2_cohort/Annotations/{name[:-4]}.xml" for name in names))
    rows, _, _ = imported(her2pipe, "yale", folder, "--annotations", folder)
    assert len(rows) == len(names) == 154
    status = {"0": "negative", "1": "positive"}
    assert {name: row["her2"] for name, row in rows.items()} == {
        name.removesuffix(".svs"): status[listed[name]] for name in names
    }
    assert all(row["annotation"].endswith(f"{name}.xml") for name, row in rows.items())


def test_yale_response_in_a_strict_spreadsheet(tmp_path, her2pipe):
    """Patient and Responder, in the kind of .xlsx whose elements have other namespaces."""
    lines = [["Patient", "Responder"], ["S08-31466", "Responder "], ["O09-03495", "non-responder"]]
    usual, table = workbook(tmp_path / "usual.xlsx", Sheet1=lines), tmp_path / "clean.xlsx"
    with zipfile.ZipFile(usual) as archive, zipfile.ZipFile(table, "w") as strict:
        for name in archive.namelist():
            data = archive.read(name)
            for part in (b"spreadsheetml", b"officeDocument"):
                old = b"http://schemas.openxmlformats.org/" + part + b"/2006/"
                data = data.replace(old, b"http://purl.oclc.org/ooxml/" + part + b"/")
            strict.writestr(name, data)
    folder = files(tmp_path / "SVS", "S08-31466.svs", "O09-03495.svs")
    rows, _, _ = imported(her2pipe, "yale", folder, "--table", table)
    assert {name: (row["her2"], row["pcr"]) for name, row in rows.items()} == {
        "S08-31466": ("positive", "yes"),
        "O09-03495": ("positive", "no"),
    }


def test_real_tcga_slides_of_a_list(data, tmp_path, her2pipe):
    """IHC and FISH say of nearly all of TCGA's slides what a list of other people says."""
    with (data / "tables" / "her2ac_slide_labels.csv").open() as file:
        listed = {row["slide_id"]: row["label"] for row in csv.DictReader(file)}
    names = {name: text for name, text in listed.items() if name.startswith("TCGA-")}
    folder = files(tmp_path / "tcga", *names)
    table = data / "tables" / "tcga_brca_clinical_patient_biotab.txt"
    _, _, left_out = imported(her2pipe, "tcga", folder, "--table", table)
    labels = {name.split(".")[0]: text == "1" for name, text in names.items()}
    loaded = cohort.load(folder.parent / "tcga.tsv")
    agreeing = [row.positive == labels[row.slide] for row in loaded]
    assert len(names) == 144
    assert len(agreeing) + sum(len(left_out.get(reason, ())) for reason in SLIDES_LOST) == 144
    assert np.mean(agreeing) > 0.9


SLIDES_LOST = (
    *("slides without HER2 status or response", "slides of patients not in the table"),
    *("further slides of a patient", "other than diagnostic slides of a primary tumour"),
)


# --- sets of images


def test_bozek(tmp_path, her2pipe):
    folder = images(tmp_path / "cores", "3_a.jpg", "2_b.jpg", "0_c.jpg", "9_z.jpg")
    train, val = tmp_path / "train_csv_full.csv", tmp_path / "val_csv_full.csv"
    head = "ihc-score,her2-status,filename,score-status-combined\n"
    train.write_text(
        head + "3,1,/x/3_a.jpg,4\n2,0,/x/2_b.jpg,2\n2,0,/x/2_b.jpg,2\n1,0,/x/1_d.jpg,1\n"
    )
    val.write_text(head + "0,0,/x/0_c.jpg,0\n3,1,/x/3_a.jpg,4\n")
    rows, stderr, left_out = imported(
        her2pipe, "bozek", folder, "--table", train, "--held-out-table", val
    )
    assert {name: (row["ihc"], row["her2"], row["split"]) for name, row in rows.items()} == {
        "3_a": ("3+", "positive", "train"),
        "2_b": ("2+", "negative", "train"),
        "0_c": ("0", "negative", "validation"),
    }
    assert left_out == {
        "images that no list names": ["9_z.jpg"],
        "second lines of a core in the train list": ["2_b"],
        "second lines of a core in the validation list": ["3_a"],  # trains, so it validates nothing
        "cores of a list without an image": ["1_d"],
    }
    assert "oesophagus" in stderr
    assert "needs the list" in refused(her2pipe, "bozek", folder)
    val.write_text(head + "0,1,/x/3_a.jpg,0\n")
    assert "two different labels" in refused(
        her2pipe, "bozek", folder, "--table", train, "--held-out-table", val
    )


def test_real_bozek_lists(data, tmp_path, her2pipe):
    """Scores are those of the names; four cores are listed twice, two of them on both sides."""
    tables = [data / "tables" / f"bozek_{part}_csv_full.csv" for part in ("train", "val")]
    names = [path.name for path in (data / "ihc_tma_her2").glob("*.jpg")]
    folder = images(tmp_path / "cores", *names)
    rows, stderr, left_out = imported(
        her2pipe, "bozek", folder, "--table", tables[0], "--held-out-table", tables[1]
    )
    assert set(rows) == {name.removesuffix(".jpg") for name in names}
    for name, row in rows.items():
        assert row["ihc"][0] == name[0]
        assert row["her2"] == (
            "positive" if label(None, row["ihc"], row["her2"] == "positive")[0] else "negative"
        )
    twice = [
        left_out[f"second lines of a core in the {part} list"] for part in ("train", "validation")
    ]
    assert [len(names) for names in twice] == [1, 3]
    lines = [table.read_text().splitlines()[1:] for table in tables]
    listed = [{line.split(",")[2] for line in part} for part in lines]
    assert len(listed[0] & listed[1]) == 2
    missing = left_out["cores of a list without an image"]
    assert len(missing) + len(rows) == len(listed[0] | listed[1]) == 1598
    assert stderr.count("of 1,281 train") == 1


def test_ihc4bc(tmp_path, her2pipe):
    tree = "Her2/Patient_0_1010/Subregion_11/0_1010_11_1_2.jpg"
    other = "Her2/Patient_0_1011/Subregion_1/0_1011_1_1_1.jpg"
    names = [f"Images/{stain}/{path}" for stain in ("HandE", "IHC") for path in (tree, other)]
    folder = images(
        tmp_path / "IHC4BC", *names, "Images/IHC/ER/Patient_0_7/Subregion_1/0_7_1_1_1.jpg"
    )
    assert "form is not documented" in refused(her2pipe, "ihc4bc", folder)
    table = tmp_path / "labels.csv"
    table.write_text("Case,HER2\n1010,3+\n1012,0\n")
    rows, stderr, left_out = imported(her2pipe, "ihc4bc", folder, "--table", table)
    assert {name: (row["her2"], row["patient"]) for name, row in rows.items()} == {
        "HE-0_1010_11_1_2": ("positive", "IHC4BC-1010"),
        "IHC-0_1010_11_1_2": ("positive", "IHC4BC-1010"),
    }
    assert len({row["pair"] for row in rows.values()}) == 1
    assert {reason: len(items) for reason, items in left_out.items()} == {
        "images of cases without a HER2 label": 2,
        "images of another marker than HER2": 1,
    }
    assert "2+ are not in the set" in stderr
    rows, _, _ = imported(her2pipe, "ihc4bc", folder, "--keep-all", "--stain", "HE")
    assert {row["her2"] for row in rows.values()} == {""}
    assert len(rows) == 2


def test_mist(tmp_path, her2pipe):
    tree = "MIST/HER2/TrainValAB"
    folder = images(
        tmp_path / "m",
        *(f"{tree}/{side}/{name}.jpg" for side in ("trainA", "trainB") for name in ("a", "b")),
        *(f"{tree}/valA/c.jpg", f"{tree}/valB/c.jpg", "MIST/ER/TrainValAB/trainA/a.jpg", "x.jpg"),
    )
    rows, stderr, left_out = imported(her2pipe, "mist", folder)
    assert Counter((row["stain"], row["split"]) for row in rows.values()) == {
        ("HE", "train"): 2,
        ("IHC", "train"): 2,
        ("HE", "validation"): 1,
        ("IHC", "validation"): 1,
    }
    assert rows["HE-val-c"]["patient"] == rows["IHC-val-c"]["patient"] == "MIST-val-c"
    assert {reason: len(items) for reason, items in left_out.items()} == {
        "images in no folder HER2": 1,
        "images whose name is not of the set": 1,
    }
    assert "6 images of 3 patients; they have no labels" in stderr


def test_her2_ihc_40x(tmp_path, her2pipe):
    folder = tmp_path / "h"
    wsi, patch = "WSI-based-dataset/train_data_wsi", "Patch-based-dataset/train_data_patch"
    test = wsi.replace("train", "test")
    folder.mkdir()
    with zipfile.ZipFile(folder / "her2-ihc-40x-wsi.zip", "w") as archive:
        archive.writestr("WSI-based-dataset/train_data_wsi.zip", b"PK")
    assert "holds 1 archives" in refused(her2pipe, "her2-ihc-40x", folder)
    images(
        folder,
        f"{wsi}/class_3+/her2-3+-score_train_1.png",
        f"{wsi}/class_0/her2-3+-score_train_2.png",
        f"{test}/class_2+/her2-2+-score_test_1.png",
        f"{patch}/class_3+/her2-3+-score_train_9.png",
    )
    rows, stderr, left_out = imported(her2pipe, "her2-ihc-40x", folder)
    assert {
        row["slide"]: (row["ihc"], row["slide_ihc"], row["split"]) for row in rows.values()
    } == {
        "wsi-train-3+-her2-3+-score_train_1": ("3+", "3+", "train"),
        "wsi-train-0-her2-3+-score_train_2": ("0", "3+", "train"),  # the patch, not the slide
        "wsi-test-2+-her2-2+-score_test_1": ("2+", "2+", "test"),
    }
    assert left_out == {
        "images of the patch-based set, whose parts share slides": ["her2-3+-score_train_9.png"]
    }
    assert "every patch counts" in stderr
    assert "on both sides" not in stderr
    rows, stderr, _ = imported(her2pipe, "her2-ihc-40x", folder / "Patch-based-dataset")
    assert len(rows) == 1
    assert "patches of one slide on both sides" in stderr


# --- all of them


def test_every_importer_names_source_licence_and_layout():
    """And the manual's table has a row for each, with its DOI."""
    manual = MANUAL.read_text()
    problems = []
    for name in IMPORTERS.names():
        importer = IMPORTERS[name]
        if name == "folders" or not importer.__module__.startswith("her2pipe."):
            continue
        rows = [line for line in manual.splitlines() if line.startswith(f"| `{name}` |")]
        if not (importer.citation and importer.licence):
            problems.append(f"{name} has no citation or licence")
        elif not any(importer.citation.doi in row for row in rows):
            problems.append(f"{name} is not in the manual with {importer.citation.doi}")
        if len(rows) < 2 and name not in ("bci", "warwick", "breakhis"):
            problems.append(f"{name} is not in the manual's table of what is verified")
    assert problems == []
