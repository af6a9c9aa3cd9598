"""Verb cohort: write the sheet of a public cohort from its slides and clinical table.

Sources: `tcga` (TCGA-BRCA; BCR biotab or cBioPortal table), `yale` (HER2 tumour ROIs of The Cancer
Imaging Archive: HER2 cohort by file name, trastuzumab cohort by its table), `impress`
(neoadjuvant HER2+ cohort); and of images `bci`, `warwick`, `breakhis`, and `folders`, one for each
class. Column names are found whatever their case, spaces and order. What is told names no patient.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from her2pipe.cohorts import sheet
from her2pipe.cohorts.importers import images
from her2pipe.cohorts.labels import RCB_CLASSES, label
from her2pipe.errors import Her2Error
from her2pipe.files import write_table

SETTINGS = ()
IMAGES = ("bci", "warwick", "breakhis", "folders")
SHEET = ("slide", "path", "patient", "annotation", "her2", "ihc", "fish_ratio", "fish", "er", "pr",
         "pcr", "rcb", "scanner")  # fmt: skip
SLIDES = (".svs", ".ndpi", ".tif", ".tiff", ".mrxs", ".scn", ".bif")
ANNOTATIONS = (".xml", ".geojson", ".json")
# What a column may be called, letters and digits only; the first one there is counts.
COLUMNS = {
    "patient": ("bcrpatientbarcode", "patientid", "patient", "patients", "casesubmitterid",
                "caseid", "case", "subjectid", "subject", "id"),
    "sample": ("sampleid",),
    "final": ("her2finalstatus", "finalher2status", "her2finalstatusnature2012", "her2status",
              "her2"),
    "by_ihc": ("her2statusbyihc", "ihcher2"),
    "ihc": ("her2ihcscore", "her2ihc", "ihcscore", "ihc"),
    "fish": ("her2fishstatus", "her2fish", "fishstatus", "fish"),
    "fish_ratio": ("her2cent17ratio", "her2cep17ratio", "fishratio", "ratio"),
    "er": ("erstatusbyihc", "erstatus", "er"),
    "pr": ("prstatusbyihc", "prstatus", "pr"),
    "pcr": ("pcr", "pathologiccompleteresponse", "pathologicalcompleteresponse", "responder",
            "response"),
    "rcb": ("rcbclass", "rcbcategory", "rcb", "rcbindex", "rcbscore"),
    "scanner": ("scanner", "scannermodel"),
}  # fmt: skip
YES = {"yes", "y", "true", "1", "pcr", "responder", "completeresponse", "complete"}
NO = {"no", "n", "false", "0", "nonpcr", "nopcr", "nonresponder", "residualdisease", "residual",
      "residualtumor", "rd", "partialresponse", "partial", "incomplete"}  # fmt: skip


def arguments(parser) -> None:
    """Declare what the command takes."""
    sources = ("tcga", "yale", "impress", *IMAGES)
    parser.add_argument("source", choices=sources, help="where they are from")
    parser.add_argument(
        "slides", help="folder of slides or images; folders in it are searched, too"
    )
    parser.add_argument("sheet", help="sheet to write (.tsv)")
    parser.add_argument(
        "--table", help="clinical table, separated by tabs, commas or semicolons; yale needs it"
        " only for the trastuzumab cohort",
    )  # fmt: skip
    parser.add_argument(
        "--annotations", help="folder of annotations (.xml, .geojson), named as the slides"
    )
    parser.add_argument(
        "--keep-all", action="store_true", help="keep slides that have neither status nor response"
    )
    images.arguments(parser)


def run(args) -> None:
    """Write the sheet, check it as a study would, and tell what was left out."""
    left: Counter = Counter()
    if args.source in IMAGES:
        images.run(args, left)
        return
    files = slide_files(Path(args.slides), args.source, left)
    table = read_clinical(Path(args.table), args.source, left) if args.table else {}
    if args.table is None and args.source != "yale":
        what = f"the {args.source} cohort needs a clinical table"
        raise Her2Error(what, "option --table", "README, Cohorts of the published study, names it")
    rows = list(label_rows(files, table, args, left))
    if not rows:
        raise Her2Error(
            f"none of {len(files)} slides has a label: {_told(left)}",
            args.table or args.slides,
            "check that slides and table belong together; --keep-all keeps every slide",
        )
    write_table(args.sheet, SHEET, rows)
    _tell(sheet.load(args.sheet), rows, left)


def slide_files(folder: Path, source: str, left: Counter) -> dict[str, Path]:
    """Find the slides below a folder, one per name, ordered by name.

    Of a TCGA patient the diagnostic slide of the primary tumour with the lowest number is taken;
    of IMPRESS the H&E slides.

    Raises
    ------
    Her2Error
        When there is none.
    """
    found: dict[str, Path] = {}
    best: dict[str, str] = {}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SLIDES)
    for path in paths:
        name = re.sub(r"[^A-Za-z0-9._+-]", "_", path.stem)
        if source == "tcga":
            name = name.split(".")[0]
            place = re.fullmatch(r"(TCGA-\w{2}-\w{4})-01Z-\d\d-DX(\d+)", name)
            if not place:
                left["other than diagnostic slides of a primary tumour"] += 1
                continue
            known = best.get(place[1])
            if known and int(known.rpartition("DX")[2]) <= int(place[2]):
                left["further slides of a patient"] += 1
                continue
            if known:
                left["further slides of a patient"] += 1
                del found[known]
            best[place[1]] = name
        elif source == "impress" and re.search(r"ihc|cd8|cd163|pd-?l1", name, re.I):
            left["IHC slides"] += 1
            continue
        if name in found:
            left["second files of a name"] += 1
            continue
        found[name] = path
    if not found:
        what = f"no slides of {source} in the folder ({len(paths)} slide files there)"
        raise Her2Error(what, str(folder), f"give the folder that holds {', '.join(SLIDES)} files")
    return dict(sorted(found.items()))


def read_clinical(path: Path, source: str, left: Counter) -> dict[str, dict[str, str]]:
    """Read a clinical table: patient to values, under our own column names.

    Raises
    ------
    Her2Error
        When it cannot be read as text, or names no patients.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Her2Error("the table does not exist", str(path), "check the path") from None
    if data.startswith((b"PK", b"\xd0\xcf")):
        fix = "open it, save it as CSV, and give that"
        raise Her2Error("the table is a spreadsheet", str(path), fix)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    lines = text.splitlines()
    separator = max("\t,;", key=lambda mark: lines[0].count(mark)) if lines else "\t"
    header, *records = list(csv.reader(lines, delimiter=separator)) or [[]]
    names = [_key(name) for name in header]
    places = {
        field: next((names.index(name) for name in wanted if name in names), None)
        for field, wanted in COLUMNS.items()
    }
    if places["patient"] is None:
        what = f"no column of the table names patients: {', '.join(header)[:200]}"
        raise Her2Error(what, f"{path} line 1", "name one Patient")
    table: dict[str, dict[str, str]] = {}
    for cells in records:
        row = {f: _clean(cells[i]) for f, i in places.items() if i is not None and i < len(cells)}
        if row.get("sample", "").startswith("TCGA-") and not row["sample"].endswith("-01"):
            continue  # a metastasis: the patient has a row for the primary tumour
        patient = _patient(row.get("patient", ""))
        if patient and source == "tcga" and not patient.startswith("TCGA-"):
            left["rows of the table without a TCGA barcode"] += 1
        elif patient in table:
            left["further rows of a patient in the table"] += 1
        elif patient:
            table[patient] = row
    classes = {row.get("rcb", "") for row in table.values()}
    coded = all(re.fullmatch(r"[0-3](\.0+)?|", value) for value in classes)
    for row in table.values():
        row["rcb"] = _rcb(row.get("rcb", ""), coded)
    return table


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _clean(cell: str) -> str:
    """Strip a cell; what says that nothing is known, such as [Not Evaluated], is empty."""
    text = cell.strip().strip('"')
    unknown = {*sheet.UNKNOWN - {"equivocal"}, "not available", "not evaluated", "null", "none",
               "not applicable", "pending", "discrepancy", "not performed"}  # fmt: skip
    return "" if text.strip("[]").lower() in unknown else text


def _patient(text: str) -> str:
    """Return what slides and tables of a patient share: a TCGA barcode, a number, or a name."""
    if barcode := re.match(r"TCGA-\w{2}-\w{4}(?=-|$)", text.upper()):
        return barcode[0]
    if text.upper().startswith(("CDE_ID", "BCR_")):  # further header lines of a biotab
        return ""
    number = re.match(r"0*(\d+)(\.0+)?(?![\d.-])", text)
    return number[1] if number else _key(text)


def _status(text: str) -> str:
    """Read positive or negative: a word, a sign, a code, or a percentage of stained cells."""
    word = text.lower().removeprefix("her2").strip(" %")
    if word.startswith("pos") or word in ("+", "yes", "amplified"):
        return "positive"
    if word.startswith("neg") or word in ("-", "no", "not amplified", "non-amplified", "0"):
        return "negative"
    try:
        return "positive" if float(word) >= 1 else ""
    except ValueError:
        return ""


def _ihc(text: str) -> str:
    level = re.fullmatch(r"(?:IHC\s*)?([0-3])\s*\+?", text.upper())
    return {"0": "0", "1": "1+", "2": "2+", "3": "3+"}[level[1]] if level else ""


def _rcb(text: str, coded: bool) -> str:
    """Return a class; with `coded` the numbers 0 to 3 are classes, else others are indices."""
    name = text.upper().removeprefix("RCB").strip(" -")
    if name in RCB_CLASSES:
        return name
    if coded and name:
        return RCB_CLASSES[int(float(name))]
    return f"{float(name):.4f}" if re.fullmatch(r"\d+(\.\d+)?", name) else ""


def label_rows(
    files: dict[str, Path], table: dict[str, dict[str, str]], args, left: Counter
) -> Iterator[dict[str, str]]:
    """Give each slide its patient's labels; what has none is counted, unless all are kept."""
    annotations = {}
    if args.annotations:
        paths = sorted(Path(args.annotations).rglob("*"), reverse=True)
        annotations = {p.stem.split(".")[0]: p for p in paths if p.suffix.lower() in ANNOTATIONS}
    for name, path in files.items():
        values = table.get(_patient(name))
        if table and values is None:
            left["slides of patients not in the table"] += 1
            continue
        values = values or {}
        row = {"tcga": _tcga, "yale": _yale, "impress": _impress}[args.source](name, values)
        row |= {"slide": name, "path": str(path)}
        row["annotation"] = str(annotations.get(name.split(".")[0], ""))
        for receptor in ("er", "pr"):
            row[receptor] = _status(values.get(receptor, ""))
        row["scanner"] = values.get("scanner", "")
        if args.source == "impress" and row["her2"] == "negative":
            left["HER2-negative slides"] += 1
        elif args.keep_all or row.get("pcr") or row.get("rcb") or _binary(row) is not None:
            yield row
        else:
            left["slides without HER2 status or response"] += 1


def _binary(row: dict[str, str], own: bool = True) -> bool | None:
    """Derive the binary status as a study does; without the sheet's own status if not `own`."""
    read = {"positive": True, "negative": False}
    her2 = read.get(row.get("her2", "")) if own else None
    return label(her2, row.get("ihc", ""), read.get(row.get("fish", "")))[0]


def _assays(values: dict[str, str]) -> dict[str, str]:
    ratio = values.get("fish_ratio", "")
    plausible = re.fullmatch(r"\d+(\.\d+)?", ratio) and 0 < float(ratio) <= 50
    return {
        "ihc": _ihc(values.get("ihc", "")),
        "fish": _status(values.get("fish", "")),
        "fish_ratio": ratio if plausible else "",
    }


def _tcga(name: str, values: dict[str, str]) -> dict[str, str]:
    """Take the final status, else that by IHC; but an equivocal IHC, 2+, goes to FISH.

    TCGA's copy numbers are left out: some count a cell, some all cells.
    """
    row = _assays(values) | {"patient": "-".join(name.split("-")[:3])}
    by_ihc = values.get("by_ihc", "")
    if by_ihc.lower() == "equivocal" and not row["ihc"]:
        row["ihc"] = "2+"
    row["her2"] = _status(values.get("final", ""))
    if not row["her2"] and not (row["ihc"] == "2+" and row["fish"]):
        row["her2"] = _status(by_ihc)
    return row


def _yale(name: str, values: dict[str, str]) -> dict[str, str]:
    """Take the status from names such as Her2Pos_Case_01; treated patients are all HER2+."""
    named = re.search(r"her2[ _-]?(pos|neg)", name, re.I)
    status = {"pos": "positive", "neg": "negative"}[named[1].lower()] if named else ""
    status = status or _status(values.get("final", ""))
    response = _response(values)
    if response["pcr"] and not status:
        status = "positive"
    return _assays(values) | response | {"patient": name, "her2": status}


def _impress(name: str, values: dict[str, str]) -> dict[str, str]:
    """Take response and burden; patients are HER2+ unless the table says otherwise."""
    status = _status(values.get("final", "")) or "positive"
    patient = f"IMPRESS-{_patient(name)}"
    return _assays(values) | _response(values) | {"patient": patient, "her2": status}


def _response(values: dict[str, str]) -> dict[str, str]:
    """Read pCR and RCB; a burden of class 0 is a complete response."""
    word, rcb = _key(values.get("pcr", "")), values.get("rcb", "")
    word = word.removesuffix("0") if re.fullmatch(r"[01]0", word) else word  # 1.0 and 0.0
    pcr = "yes" if word in YES else "no" if word in NO else ""
    if not pcr and rcb:
        pcr = "yes" if rcb == "0" else "no"
    return {"pcr": pcr, "rcb": rcb}


def _told(left: Counter) -> str:
    return ", ".join(f"{n:,} {what}" for what, n in left.items()) or "nothing left out"


def _tell(rows: list[sheet.Row], written: list[dict[str, str]], left: Counter) -> None:
    """Tell counts, on the rows as a study reads them."""
    status = Counter(row.positive for row in rows)
    levels = Counter(row.level for row in rows if row.level)
    print(f"cohort: {len(rows):,} slides of {len({row.patient for row in rows}):,} patients:"
          f" {status[True]:,} HER2-positive, {status[False]:,} negative,"
          f" {status[None]:,} without status", file=sys.stderr)  # fmt: skip
    if levels:
        told = ", ".join(f"{level}: {levels[level]:,}" for level in sorted(levels))
        print(f"cohort: levels {told}", file=sys.stderr)
    clash = sum(
        _binary(row, own=False) not in (None, _binary(row)) for row in written if row["her2"]
    )
    if clash:
        print(f"cohort: {clash:,} slides whose status is not that of their IHC and FISH;"
              " the status counts", file=sys.stderr)  # fmt: skip
    print(f"cohort: left out: {_told(left)}", file=sys.stderr)
