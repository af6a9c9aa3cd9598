"""Clinical tables of public cohorts: found by column names, read by what cells usually say."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from her2pipe.cohorts import labels, sheet_file, spellings
from her2pipe.cohorts.labels import RCB_CLASSES
from her2pipe.errors import Her2Error

Cells = dict[str, str]

# What a column may be called, letters and digits only; the first one there is counts.
COLUMNS = {
    "patient": ("bcrpatientbarcode", "patientid", "patient", "patients", "casesubmitterid",
                "caseid", "case", "subjectid", "subject", "uniqueid", "id"),
    "sample": ("sampleid",),
    "final": ("her2finalstatus", "finalher2status", "her2finalstatusnature2012", "her2status",
              "her2"),
    "by_ihc": ("her2statusbyihc", "ihcher2"),
    "ihc": ("her2ihcscore", "her2ihc", "her2ihc03", "her2expression", "ihcscore", "ihc"),
    "fish": ("her2fishstatus", "her2fish", "fishstatus", "fish"),
    "fish_ratio": ("her2cent17ratio", "her2cep17ratio", "fishratio", "ratio"),
    "er": ("erstatusbyihc", "erstatus", "er10", "er"),
    "pr": ("prstatusbyihc", "prstatus", "pr"),
    "pcr": ("pcr", "pathologiccompleteresponse", "pathologicalcompleteresponse", "pcrno0yes1",
            "responder", "response"),
    "rcb": ("rcbclass", "rcbcategory", "rcb", "rcbindex", "rcbscore"),
    "scanner": ("scanner", "scannermodel"),
    "grade": ("histologicalgrading",),
    "subtype": ("molecularsubtype",),
    "tumour_type": ("tumourtype",),
    "ki67": ("ki67",),
    "nodes": ("alnstatus",),
}  # fmt: skip
NOTHING_KNOWN = {"pending", "discrepancy"}  # beside what says so everywhere
YES = {"yes", "y", "true", "1", "pcr", "responder", "completeresponse", "complete"}
NO = {"no", "n", "false", "0", "nonpcr", "nopcr", "nonresponder", "residualdisease", "residual",
      "residualtumor", "rd", "partialresponse", "partial", "incomplete"}  # fmt: skip


def read_lines(path: Path, worksheet: str = "") -> list[list[str]]:
    """Read the cells of a table: text separated by tabs, commas or semicolons, or a spreadsheet.

    Parameters
    ----------
    path : Path
    worksheet : str
        Name of the one to read, of a spreadsheet (.xlsx) that has several.

    Raises
    ------
    Her2Error
        When it is missing, or no such table.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise Her2Error(f"the table {reason}", str(path), "check the path") from None
    if path.suffix.lower() in sheet_file.SPREADSHEETS:
        return [cells for _, cells in sheet_file.read_cells(path, worksheet)]
    if data.startswith((b"PK", b"\xd0\xcf")):
        fix = "save it as .xlsx or CSV, and give that"
        raise Her2Error("the table is a spreadsheet of another kind", str(path), fix)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    lines = text.splitlines()
    separator = max("\t,;", key=lambda mark: lines[0].count(mark)) if lines else "\t"
    return list(csv.reader(lines, delimiter=separator))


def read(path: Path, worksheet: str = "") -> list[Cells]:
    """Read a clinical table: its rows under our own column names.

    Raises
    ------
    Her2Error
        When it cannot be read, or names no patients.
    """
    header, *lines = read_lines(path, worksheet) or [[]]
    names = [key(name) for name in header]
    places = {
        column: next((names.index(name) for name in synonyms if name in names), None)
        for column, synonyms in COLUMNS.items()
    }
    if places["patient"] is None:
        what = f"no column of the table names patients: {', '.join(header)[:200]}"
        raise Her2Error(what, f"{path} line 1", "name one Patient")
    return [
        {
            column: clean(cells[i], "+/-" in header[i])
            for column, i in places.items()
            if i is not None and i < len(cells)
        }
        for cells in lines
    ]


def by_patient(
    records: Iterable[Cells],
    patient_of: Callable[[Cells], str],
    leave_out: Callable[[str, object], None],
) -> dict[str, Cells]:
    """Return the rows of a table by patient, residual cancer burden as a class.

    Further rows of a patient are left out, for the reason that `leave_out` is called with.
    """
    patients: dict[str, Cells] = {}
    for number, row in enumerate(records, start=1):
        if not _is_patient(row):
            if any(row.values()) and not row.get("patient"):
                leave_out("rows of the table without a patient", f"row {number}")
            continue
        name = patient_of(row)
        if name in patients:
            leave_out("further rows of a patient in the table", name)
        elif name:
            patients[name] = row
    burdens = {row.get("rcb", "") for row in patients.values()}
    coded = all(re.fullmatch(r"[0-3](\.0+)?|", burden) for burden in burdens)
    for row in patients.values():
        row["rcb"] = _rcb(row.get("rcb", ""), coded)
    return patients


def _is_patient(row: Cells) -> bool:
    """Return whether a row is of a primary tumour, and no further line of a header."""
    sample = row.get("sample", "")
    metastasis = sample.startswith("TCGA-") and not sample.endswith("-01")
    return not metastasis and bool(patient(row.get("patient", "")))


def key(name: str) -> str:
    """Return the letters and digits of a name, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def clean(cell: str, is_sign: bool = False) -> str:
    """Strip a cell; what says that nothing is known, such as [Not Evaluated], is empty.

    A lone `-` is a negative result in a column of signs, named so: PR (+/-).
    """
    text = cell.strip().strip('"')
    if is_sign and text == "-":
        return text
    words = spellings.plain(text)
    is_unknown = words in NOTHING_KNOWN or (spellings.is_unknown(text) and words != "equivocal")
    return "" if is_unknown else text


def patient(text: str) -> str:
    """Return what slides and tables of a patient share: a TCGA barcode, a number, or a name."""
    if barcode := re.match(r"TCGA-\w{2}-\w{4}(?=-|$)", text.upper()):
        return barcode[0]
    if text.upper().startswith(("CDE_ID", "BCR_")):  # further header lines of a biotab
        return ""
    number = re.match(r"0*(\d+)(\.0+)?(?![\d.-])", text)
    return number[1] if number else key(text)


def status(text: str) -> str:
    """Read positive or negative: a word, a sign, or a code."""
    word = text.lower().removeprefix("her2").strip(" %")
    if word.startswith("pos") or word in ("+", "yes", "amplified"):
        return "positive"
    if word.startswith("neg") or word in ("-", "no", "not amplified", "non-amplified", "0"):
        return "negative"
    try:
        return "positive" if float(word) >= 1 else ""
    except ValueError:
        return ""


def receptor(text: str) -> str:
    """Read ER or PR: a word, a sign, or the share of stained nuclei, positive from 1 %."""
    if word := status(text):
        return word
    try:
        positive = labels.receptor(text)
    except ValueError:
        return ""
    return {True: "positive", False: "negative", None: ""}[positive]


def assays(row: Cells) -> Cells:
    """Read IHC level, FISH status and a plausible HER2/CEP17 ratio."""
    ratio = row.get("fish_ratio", "")
    plausible = re.fullmatch(r"\d+(\.\d+)?", ratio) and 0 < float(ratio) <= 50
    level = re.fullmatch(r"(?:IHC\s*)?([0-3])\s*\+?", row.get("ihc", "").upper())
    return {
        "ihc": {"0": "0", "1": "1+", "2": "2+", "3": "3+"}[level[1]] if level else "",
        "fish": status(row.get("fish", "")),
        "fish_ratio": ratio if plausible else "",
    }


def response(row: Cells) -> Cells:
    """Read pCR and RCB; a burden of class 0 is a complete response."""
    word, rcb = key(row.get("pcr", "")), row.get("rcb", "")
    word = word.removesuffix("0") if re.fullmatch(r"[01]0", word) else word  # 1.0 and 0.0
    pcr = "yes" if word in YES else "no" if word in NO else ""
    if not pcr and rcb:
        pcr = "yes" if rcb == "0" else "no"
    return {"pcr": pcr, "rcb": rcb}


def _rcb(text: str, coded: bool) -> str:
    """Return a class; with `coded` the numbers 0 to 3 are classes, else others are indices."""
    name = text.upper().removeprefix("RCB").strip(" -")
    if name in RCB_CLASSES:
        return name
    if coded and name:
        return RCB_CLASSES[int(float(name))]
    return f"{float(name):.4f}" if re.fullmatch(r"\d+(\.\d+)?", name) else ""
