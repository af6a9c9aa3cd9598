"""Sheets of public sets of images: what their file names and folders tell, and no more.

What belongs together, and so must not be on both sides of a split, is called the patient. Where the
names do not tell the patient, what they tell is taken, and said to be less.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from her2pipe.cohorts import duplicates, image_pack, sheet
from her2pipe.errors import BadSlideError, Her2Error, raise_all
from her2pipe.files import write_table

IHC = {"0": "0", "1": "1+", "2": "2+", "3": "3+"}
BCI = re.compile(r"(\d+)_(train|test)_([0-3])\+?")
WARWICK = re.compile(r"CaseNo_(\d+)-TissueId_(\d+)-Score_([0-3])-row_(\d+)-col_(\d+)")
BREAKHIS = re.compile(r"SOB_([BM])_([A-Z]+)-(\d\d-\d+)([A-Z]*)-(\d+)-(\d+)")
SUBTYPES = {
    "A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes tumour", "TA": "tubular adenoma",
    "DC": "ductal carcinoma", "LC": "lobular carcinoma", "MC": "mucinous carcinoma",
    "PC": "papillary carcinoma",
}  # fmt: skip
SIDES = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
         "validation": "validation", "test": "validation"}  # fmt: skip
NOT_PATIENTS = {
    "bci": "BCI does not tell the slide of an image, and its numbers are shuffled: images of one"
    " slide may be on both sides, so results are optimistic",
    "folders": "no --patient is given: every image counts as a patient of its own, so images of one"
    " patient may be on both sides",
}

Row = dict[str, str]


def arguments(parser) -> None:
    """Declare what only sets of images take."""
    parser.add_argument("--stain", choices=("HE", "IHC"), help="bci: images of this stain only")
    parser.add_argument("--magnification", help="breakhis: images of this magnification only")
    parser.add_argument(
        "--patient", help="folders: regular expression that finds the patient in an image's path"
        " below the folder (its first group, or all it matches)",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("name", "none"), default="name",
        help="take train and test from file names (bci) or folders (folders), or leave the split"
        " to the study [default name]",
    )  # fmt: skip


def run(args, left: Counter) -> None:
    """Write the sheet of a set of images, each checked for copies of another."""
    folder = Path(args.slides)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in image_pack.SUFFIXES)
    scores = _scores(Path(args.table)) if args.table else {}
    found: dict[str, Row] = {}
    for path, row in _rows(paths, folder, args, left):
        name = re.sub(r"[^A-Za-z0-9._+-]", "_", row["slide"])
        name = name if name[0].isalnum() else f"i{name}"
        if name in found:
            left["second files of a name"] += 1
            continue
        if args.source == "warwick" and scores:
            row["ihc"] = _checked(row, scores, args.table)
        found[name] = row | {"slide": name, "path": str(path)}
    if not found:
        what = f"no image of {args.source} in the folder ({len(paths)} images there)"
        fix = "give the folder that holds them; README, Cohorts of images, tells the names"
        raise Her2Error(what, str(folder), fix)
    rows = _sides(list(found.values()), args)
    rows = _without_copies(rows, left)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_table(args.sheet, columns, rows)
    _tell(sheet.load(args.sheet), rows, args, left)


def _rows(paths, folder: Path, args, left: Counter) -> Iterator[tuple[Path, Row]]:
    """Read what each image's name says; what it says nothing by is left out."""
    read: dict[str, Callable] = {"bci": _bci, "warwick": _warwick, "breakhis": _breakhis}
    for path in paths:
        inner = path.relative_to(folder)
        if args.source == "folders":
            row = _folders(inner, args.patient)
            why = "images in no folder of a class, or of no patient"
        else:
            row, why = read[args.source](path), "images whose name is not of the set"
        if row is None:
            left[why] += 1
        elif args.stain and row.get("stain", args.stain) != args.stain:
            left[f"images of another stain than {args.stain}"] += 1
        elif args.magnification and row.get("magnification") != args.magnification:
            left[f"images of another magnification than {args.magnification}"] += 1
        else:
            yield path, row


def _bci(path: Path) -> Row | None:
    """Read 00345_test_0.png below HE or IHC: both images of a pair are one case."""
    named = BCI.fullmatch(path.stem)
    if not named:
        return None
    stain = next((p.upper() for p in reversed(path.parts[:-1]) if p.upper() in ("HE", "IHC")), "")
    case = f"BCI-{named[2]}-{named[1]}"
    slide = f"{stain}-{path.stem}" if stain else path.stem
    row = {"slide": slide, "path": "", "patient": case, "ihc": IHC[named[3]], "case": case}
    return row | {"stain": stain, "published_split": named[2]}


def _warwick(path: Path) -> Row | None:
    """Read CaseNo_83-TissueId_1-Score_3-row_7552-col_37344.png."""
    named = WARWICK.fullmatch(path.stem)
    if not named:
        return None
    case = f"Warwick-{int(named[1])}"
    row = {"slide": path.stem, "path": "", "patient": case, "ihc": IHC[named[3]], "case": case}
    return row | {"tissue": named[2], "row_px0": named[4], "column_px0": named[5]}


def _breakhis(path: Path) -> Row | None:
    """Read SOB_M_DC-14-12312-100-005.png; letters after a number are blocks of one patient."""
    named = BREAKHIS.fullmatch(path.stem)
    if not named:
        return None
    return {
        "slide": path.stem,
        "path": "",
        "patient": f"BreakHis-{named[3]}",
        "class": {"B": "benign", "M": "malignant"}[named[1]],
        "subtype": SUBTYPES.get(named[2], named[2]),
        "block": named[3] + named[4],
        "magnification": named[5],
    }


def _folders(inner: Path, pattern: str | None) -> Row | None:
    """Read CLASS/.../image.png, or train/CLASS/.../image.png."""
    parts = list(inner.parts[:-1])
    part = SIDES.get(parts[0].lower(), "") if len(parts) > 1 else ""
    parts = parts[1:] if part else parts
    if not parts:
        return None
    try:
        found = re.search(pattern, inner.as_posix()) if pattern else None
    except re.error as error:
        what, fix = f"--patient is no regular expression: {error}", "for instance 'P[0-9]+'"
        raise Her2Error(what, "option --patient", fix) from None
    if pattern and not found:
        return None
    slide = "_".join(inner.with_suffix("").parts)
    patient = (found[1] if found.re.groups else found[0]) if found else slide
    return {"slide": slide, "path": "", "patient": patient, "class": parts[0],
            "published_split": part}  # fmt: skip


def _scores(table: Path) -> dict[str, str]:
    """Read the contest's table: case to score."""
    try:
        lines = list(csv.reader(table.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise Her2Error(f"the table cannot be read: {error}", str(table), "check it") from None
    names = [re.sub("[^a-z0-9]", "", cell.lower()) for cell in lines[0]] if lines else []
    if not {"caseno", "her2score"} <= set(names):
        what = "the table has no columns CaseNo and HeR2 SCORE"
        raise Her2Error(what, f"{table} line 1", "give the contest's ground truth as CSV")
    case, score = names.index("caseno"), names.index("her2score")
    read = [line for line in lines[1:] if len(line) > score and line[case].strip().isdecimal()]
    return {f"Warwick-{int(line[case])}": IHC.get(line[score].strip(), "") for line in read}


def _checked(row: Row, scores: dict[str, str], table: str) -> str:
    """Return the score of a case, which file name and table must agree on."""
    told = scores.get(row["case"], row["ihc"])
    if told and told != row["ihc"]:
        what = f"{row['slide']} is {row['ihc']} by its name, case {row['case']} {told} by the table"
        raise Her2Error(what, table, "find out which is right, and correct the other")
    return row["ihc"]


def _sides(rows: list[Row], args) -> list[Row]:
    """Turn the published parts into a split, if there are two and it is wanted."""
    given = {SIDES.get(row.get("published_split", ""), "") for row in rows}
    for row in rows:
        if given == {"train", "validation"} and args.split == "name":
            row["split"] = SIDES[row["published_split"]]
    return rows


def _without_copies(rows: list[Row], left: Counter) -> list[Row]:
    """Leave out copies of an image of the same patient; refuse those that contradict each other.

    Raises
    ------
    Her2Error
        When images of two patients, classes or sides are pixel for pixel the same.
    """

    def look(row: Row) -> str:
        try:
            return image_pack.digest(image_pack.rgb(image_pack.decode(row["path"])))
        except BadSlideError:
            return ""

    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(look, rows))
    if "" in digests:
        left["images that cannot be read, but kept: the ledger will name them"] = digests.count("")
    by_name = {row["slide"]: row for row in rows}
    told = ("patient", "class", "ihc", "split")
    pairs = zip(by_name, digests, strict=True)
    problems, copies = [], set()
    for first, *others in duplicates.groups(pairs):
        for name in others:
            one, two = by_name[first], by_name[name]
            unlike = [key for key in told if one.get(key) != two.get(key)]
            if unlike:
                values = " and ".join(str(row[unlike[0]]) for row in (one, two))
                what = f"the same image twice, of different {unlike[0]} ({values})"
                where = f"{one['path']} and {two['path']}"
                problems.append(Her2Error(what, where, "remove one of the two files"))
            copies.add(name)
    raise_all(problems[: duplicates.TOLD])
    if copies:
        left["copies of another image"] = len(copies)
    return [row for row in rows if row["slide"] not in copies]


def _tell(rows: list[sheet.Row], written: list[Row], args, left: Counter) -> None:
    """Tell counts, and what the set does not tell."""
    column = "class" if "class" in written[0] else "ihc"
    count = Counter(row[column] for row in written)
    told = ", ".join(f"{name}: {count[name]:,}" for name in sorted(count))
    print(f"cohort: {len(rows):,} images of {len({row.patient for row in rows}):,} patients;"
          f" {column} {told}", file=sys.stderr)  # fmt: skip
    note = NOT_PATIENTS.get(args.source, "")
    if note and not (args.source == "folders" and args.patient):
        print(f"cohort: note: {note}", file=sys.stderr)
    parts = {row.get("published_split", "") for row in written} - {""}
    if len(parts) == 1:
        print(f"cohort: all images are of the published part {parts.pop()}: no split is given",
              file=sys.stderr)  # fmt: skip
    out = ", ".join(f"{n:,} {what}" for what, n in left.items()) or "nothing left out"
    print(f"cohort: left out: {out}", file=sys.stderr)
