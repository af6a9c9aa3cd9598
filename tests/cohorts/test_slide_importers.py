"""Sheets of public cohorts: from small made-up tables, and from the real TCGA ones."""

import csv

import pytest

from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.importers import clinical_table
from her2pipe.files import read_table


@pytest.fixture
def slides(tmp_path):
    """Make empty files of given names in a folder of slides."""

    def make(*names):
        for name in names:
            path = tmp_path / "slides" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "slides"

    return make


def imported(her2pipe, source, folder, table=None, *more):
    """Run the verb; returns the sheet by slide, and the log."""
    sheet = folder.parent / "sheet.tsv"
    words = [*more, "--table", table] if table else more
    code, stderr = her2pipe("cohort", source, folder, sheet, *words)
    assert code == 0, stderr
    return {row["slide"]: row for row in read_table(sheet)}, stderr


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


# --- TCGA

BIOTAB = [  # barcode, status by IHC, score, FISH, ratio, ER, PR; three header lines
    [
        *("bcr_patient_barcode", "her2_status_by_ihc", "her2_ihc_score", "her2_fish_status"),
        *("her2_cent17_ratio", "er_status_by_ihc", "pr_status_by_ihc"),
    ],
    ["bcr_patient_barcode", "ihc", "level", "ish", "ratio", "er", "pr"],
    ["CDE_ID:2003301", "CDE_ID:1", "CDE_ID:2", "CDE_ID:3", "CDE_ID:4", "CDE_ID:5", "CDE_ID:6"],
    ["TCGA-AA-0001", "Positive", "3+", "[Not Evaluated]", "", "Positive", "Negative"],
    ["TCGA-AA-0002", "Negative", "1+", "Negative", "1.1", "Negative", "[Not Evaluated]"],
    ["TCGA-AA-0003", "Equivocal", "2+", "Positive", "3.20", "Positive", "Indeterminate"],
    ["TCGA-AA-0004", "Equivocal", "[Not Available]", "Negative", "49000", "Positive", "Positive"],
    ["TCGA-AA-0005", "Positive", "2+", "Negative", "1.4", "Positive", "Positive"],
    ["TCGA-AA-0006", "Positive", "1+", "[Not Evaluated]", "[Not Available]", "", ""],
    ["TCGA-AA-0007", "[Not Evaluated]", "[Not Available]", "[Not Evaluated]", "", "", ""],
    ["TCGA-AA-000no p8", "Positive", "3+", "Positive", "", "", ""],  # a spoilt barcode
]


def test_tcga_biotab(tmp_path, slides, her2pipe):
    folder = slides(
        *(f"u{i}/TCGA-AA-000{i}-01Z-00-DX1.AB-{i}.svs" for i in range(1, 9)),
        "TCGA-AA-0001-01Z-00-DX2.CD.svs",  # a second slide of a patient
        "TCGA-AA-0001-01A-01-TS1.EF.svs",  # a frozen one
        "readme.txt",
    )
    notes = tmp_path / "annotations"
    notes.mkdir()
    (notes / "TCGA-AA-0002-01Z-00-DX1.AB-2.xml").touch()
    lines = ["\t".join([f"u{i}", *line, "0001"]) for i, line in enumerate(BIOTAB[1:])]
    head = "\t".join(["bcr_patient_uuid", *BIOTAB[0], "patient_id"])
    table = write(tmp_path / "biotab.txt", "\n".join([head, *lines]) + "\n")
    rows, stderr = imported(her2pipe, "tcga", folder, table, "--annotations", notes)
    assert list(rows) == [f"TCGA-AA-000{i}-01Z-00-DX1" for i in range(1, 7)]
    found = {name[8:12]: row for name, row in rows.items()}
    labels = {n: (row["her2"], row["ihc"], row["fish"]) for n, row in found.items()}
    assert labels == {
        "0001": ("positive", "3+", ""),
        "0002": ("negative", "1+", "negative"),
        "0003": ("", "2+", "positive"),  # an equivocal IHC goes to FISH
        "0004": ("", "2+", "negative"),  # equivocal is 2+
        "0005": ("", "2+", "negative"),  # FISH decides 2+, not the status by IHC
        "0006": ("positive", "1+", ""),  # the status wins over the level
    }
    assert found["0003"]["fish_ratio"] == "3.20"
    assert found["0004"]["fish_ratio"] == ""  # no ratio is 49000
    assert (found["0002"]["er"], found["0002"]["pr"]) == ("negative", "")
    assert found["0001"]["patient"] == "TCGA-AA-0001"
    assert found["0002"]["annotation"].endswith("TCGA-AA-0002-01Z-00-DX1.AB-2.xml")
    assert "6 slides of 6 patients: 3 HER2-positive, 3 negative" in stderr
    assert "levels 1+: 2, 2+/FISH+: 1, 2+/FISH-: 2, 3+: 1" in stderr
    assert "1 slides whose status is not that of their IHC and FISH" in stderr
    assert "1 further slides of a patient" in stderr
    assert "1 slides without HER2 status" in stderr
    assert "1 slides of patients not in the table" in stderr
    assert "1 rows of the table without a TCGA barcode" in stderr
    assert "TCGA-AA" not in stderr  # counts, no patients
    everything, _ = imported(her2pipe, "tcga", folder, table, "--keep-all")
    assert len(everything) == 7


def test_tcga_cbioportal_and_a_final_status(tmp_path, slides, her2pipe):
    folder = slides(*(f"TCGA-AA-000{i}-01Z-00-DX1.x.svs" for i in (1, 2, 3)))
    lines = [
        "\ufeffPatient ID\tSample ID\tHER2 fish status\tIHC-HER2\tER Status By IHC",
        "TCGA-AA-0001\tTCGA-AA-0001-06\t\tNegative\tNegative",
        "TCGA-AA-0001\tTCGA-AA-0001-01\tPositive\tEquivocal\tPositive",
        "TCGA-AA-0002\tTCGA-AA-0002-01\t\tNegative\tPositive",
    ]
    table = write(tmp_path / "cbio.tsv", "\n".join(lines) + "\n")
    rows, _ = imported(her2pipe, "tcga", folder, table)
    first, second = rows.values()
    assert (first["her2"], first["ihc"], first["fish"], first["er"]) == (
        "",
        "2+",
        "positive",
        "positive",
    )
    assert (second["her2"], second["ihc"]) == ("negative", "")
    table = write(
        tmp_path / "final.csv",
        "case_id;HER2 Final Status;IHC-HER2;HER2 FISH status\n"
        "TCGA-AA-0003;Positive;Equivocal;Negative\n",
    )
    rows, stderr = imported(her2pipe, "tcga", folder, table)
    assert next(iter(rows.values()))["her2"] == "positive"  # the sheet's own final status wins
    assert "1 HER2-positive" in stderr


def every_patient(data, slides):
    """One slide for every patient of the real tables."""
    ids = set()
    for name in ("tcga_brca_clinical_patient_biotab.txt", "brca_tcga_cbioportal_clinical.tsv"):
        text = (data / "tables" / name).read_text(encoding="utf-8-sig")
        ids |= {cell for line in text.splitlines() for cell in line.split("\t")[:2]}
    return slides(*(f"{i}-01Z-00-DX1.svs" for i in ids if i.startswith("TCGA-") and len(i) == 12))


@pytest.mark.slow
def test_real_biotab(data, slides, her2pipe):
    """Counts made here with pandas masks, and the rules of the importer written once more."""
    import pandas as pd

    path = data / "tables" / "tcga_brca_clinical_patient_biotab.txt"
    rows, _ = imported(her2pipe, "tcga", every_patient(data, slides), path)
    table = pd.read_csv(path, sep="\t", skiprows=[1, 2])
    assert len(table) == 1097
    assert (table["bcr_patient_barcode"].str.len() != 12).sum() == 1  # one barcode is spoilt
    table = table[table["bcr_patient_barcode"].str.len() == 12]
    by_ihc, score, fish = (
        table[f"her2_{n}"] for n in ("status_by_ihc", "ihc_score", "fish_status")
    )
    two = (score == "2+") | ((by_ihc == "Equivocal") & ~score.isin(["0", "1+", "3+"]))
    sure = fish.isin(["Positive", "Negative"])
    message = by_ihc.isin(["Positive", "Negative"])
    graded = score.isin(["0", "1+", "3+"])
    status = pd.Series("", index=table.index)
    status[~message & ~two & ~graded & sure] = fish
    status[~message & ~two & graded] = score.map(
        {"0": "Negative", "1+": "Negative", "3+": "Positive"}
    )
    status[message] = by_ihc
    status[two & sure] = fish
    expected = dict(zip(table["bcr_patient_barcode"], status, strict=True))
    expected = {name: value for name, value in expected.items() if value}
    loaded = cohort.load(slides().parent / "sheet.tsv")
    names = {True: "Positive", False: "Negative"}
    assert {row.patient: names[row.positive] for row in loaded} == expected
    assert len(rows) == len(expected) == 958
    levels = pd.Series([row.level for row in loaded]).value_counts()
    assert levels["3+"] == ((score == "3+") & (status != "")).sum()
    assert levels["0"] + levels["1+"] == score.isin(["0", "1+"]).sum()
    assert levels["2+/FISH+"] + levels["2+/FISH-"] == (two & (status != "")).sum()
    assert (
        sum(row.er is True for row in loaded)
        == ((table["er_status_by_ihc"] == "Positive") & (status != "")).sum()
    )
    assert (
        sum(row.pr is False for row in loaded)
        == ((table["pr_status_by_ihc"] == "Negative") & (status != "")).sum()
    )


@pytest.mark.slow
def test_real_cbioportal(data, slides, her2pipe):
    path = data / "tables" / "brca_tcga_cbioportal_clinical.tsv"
    rows, _ = imported(her2pipe, "tcga", every_patient(data, slides), path)
    with path.open(encoding="utf-8-sig") as file:
        table = [r for r in csv.DictReader(file, delimiter="\t") if r["Sample ID"][-2:] == "01"]
    positive = negative = 0
    for row in table:
        ihc, fish = row["IHC-HER2"], row["HER2 fish status"]
        final = fish if fish in ("Positive", "Negative") and ihc == "Equivocal" else ihc
        final = final if final in ("Positive", "Negative") else fish
        final = "" if ihc == "Equivocal" and final != fish else final
        positive += final == "Positive"
        negative += final == "Negative"
    loaded = cohort.load(slides().parent / "sheet.tsv")
    assert sum(row.positive is True for row in loaded) == positive
    assert sum(row.positive is False for row in loaded) == negative
    assert len(rows) == positive + negative
    two = [row.level for row in loaded if row.level]
    assert len(two) == sum(
        r["IHC-HER2"] == "Equivocal" and r["HER2 fish status"] in ("Positive", "Negative")
        for r in table
    )


# --- Yale


def test_yale_by_file_name(tmp_path, slides, her2pipe):
    folder = slides(
        "SVS/Her2Pos_Case_01.svs",
        "SVS/Her2Neg_Case_01.svs",
        "SVS/HER2neg_case_2.svs",
        "SVS/other.svs",
    )
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "Her2Pos_Case_01.xml").touch()
    rows, stderr = imported(her2pipe, "yale", folder, None, "--annotations", folder)
    assert {name: row["her2"] for name, row in rows.items()} == {
        "Her2Pos_Case_01": "positive",
        "Her2Neg_Case_01": "negative",
        "HER2neg_case_2": "negative",
    }
    assert len({row["patient"] for row in rows.values()}) == 3  # cases 01 are two patients
    assert rows["Her2Pos_Case_01"]["annotation"].endswith("Her2Pos_Case_01.xml")
    assert "1 HER2-positive, 2 negative" in stderr
    assert "1 slides without HER2 status or response" in stderr


def test_yale_treated_patients(tmp_path, slides, her2pipe):
    folder = slides("S08-31466.svs", "O09-03495.svs", "S13-1.svs")
    table = write(
        tmp_path / "response.csv",
        "Patient,Responder,Age\nS08-31466,responder,50\nO09-03495,non-responder,60\n",
    )
    rows, stderr = imported(her2pipe, "yale", folder, table)
    assert {name: (row["her2"], row["pcr"]) for name, row in rows.items()} == {
        "S08-31466": ("positive", "yes"),
        "O09-03495": ("positive", "no"),
    }
    assert "1 slides of patients not in the table" in stderr


# --- IMPRESS


def test_impress(tmp_path, slides, her2pipe):
    folder = slides(
        "HER2/001_HE.svs",
        "HER2/002_HE.svs",
        "HER2/003_HE.svs",
        "HER2/004_HE.svs",
        "HER2/001_IHC.svs",
        "TNBC/101_HE.svs",
    )
    table = write(
        tmp_path / "clinical.csv",
        "patients,pCR,RCB class,ER,PR status,HER2,Scanner\n"
        "1,1,0,90%,Negative,Positive,Philips\n2,0,2,0%,+,HER2+,Philips\n"
        "3,,3,<1%,n/a,3+,\n101,0,1,0,0,Negative,\n",
    )
    rows, stderr = imported(her2pipe, "impress", folder, table)
    found = {
        name: [row[k] for k in ("her2", "pcr", "rcb", "er", "pr")] for name, row in rows.items()
    }
    assert found == {
        "001_HE": ["positive", "yes", "0", "positive", "negative"],
        "002_HE": ["positive", "no", "II", "negative", "positive"],
        "003_HE": ["positive", "no", "III", "negative", ""],  # a burden is no complete response
    }
    assert rows["001_HE"]["patient"] == "IMPRESS-1"
    assert rows["001_HE"]["scanner"] == "Philips"
    assert "1 IHC slides" in stderr
    assert "1 HER2-negative slides" in stderr
    assert "1 slides of patients not in the table" in stderr
    loaded = cohort.load(tmp_path / "sheet.tsv")
    assert [row.rcb for row in loaded] == ["0", "II", "III"]


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["0", "1", "3"], ["0", "I", "III"]),  # codes
        (["0.0", "1.0", "2.0"], ["0", "I", "II"]),  # codes that passed through a spreadsheet
        (["0", "1.2", "3.9"], ["0", "I", "III"]),  # indices: 1.36 and 3.28 divide them
        (["RCB-0", "rcb i", "III"], ["0", "I", "III"]),
    ],
)
def test_residual_cancer_burden_as_it_is_written(tmp_path, slides, her2pipe, cells, classes):
    folder = slides(*(f"{i}_HE.svs" for i in range(3)))
    lines = "".join(f"{i}\t{cell}\n" for i, cell in enumerate(cells))
    imported(her2pipe, "impress", folder, write(tmp_path / "c.tsv", "Patient ID\tRCB\n" + lines))
    assert [row.rcb for row in cohort.load(tmp_path / "sheet.tsv")] == classes


# --- mistakes


def test_mistakes_take_three_lines(tmp_path, slides, her2pipe):
    folder = slides("Her2Pos_Case_01.svs")
    table = write(tmp_path / "t.csv", "Patient,pCR\n1,yes\n")
    sheet = tmp_path / "sheet.tsv"
    for words, message in (
        (["tcga", folder, sheet], "no slides of tcga in the folder (1 slide files there)"),
        (["impress", folder, sheet], "needs a clinical table"),
        (["impress", folder, sheet, "--table", tmp_path / "no.csv"], "the table does not exist"),
        (["impress", folder, sheet, "--table", table], "none of 1 slides has a label: 1 slides of"),
        (["yale", folder, sheet, "--table", write(tmp_path / "x.xlsx", "PK..")], "spreadsheet"),
        (
            ["yale", folder, sheet, "--table", write(tmp_path / "y.csv", "a,b\n1,2\n")],
            "no column of the table names patients: a, b",
        ),
    ):
        code, error = her2pipe("cohort", *words)
        assert code == 1
        assert message in error
        assert len(error.splitlines()) == 3
    assert not sheet.exists()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("Positive", "positive"),
        ("neg.", "negative"),
        ("HER2+", "positive"),
        ("95 %", "positive"),
        ("0%", "negative"),
        ("3+", ""),
        ("Equivocal", ""),
        ("", ""),
        ("0.4", ""),
    ],
)
def test_status_words(text, status):
    assert clinical_table.status(text) == status
