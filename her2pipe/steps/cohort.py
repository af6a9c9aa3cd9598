"""Verb cohort: write the sheet of a public cohort from its files and tables.

Sources of slides: `tcga` (TCGA-BRCA; BCR biotab or cBioPortal table), `yale` (HER2 tumour ROIs of
The Cancer Imaging Archive: HER2 cohort by file name, trastuzumab cohort by its table), `impress`
(neoadjuvant HER2+ cohort), `bcnb`, `herohe`, `acrobat`; of images: `bci`, `warwick`, `breakhis`,
`bozek`, `ihc4bc`, `mist`, `her2-ihc-40x`, and `folders`, one for each class. Column names are found
whatever their case, spaces and order. The log counts what is left out and names no patient; a file
beside the sheet, `NAME.left_out.tsv`, lists each with the reason.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path

from her2pipe.cohorts import sheet
from her2pipe.errors import Her2Error
from her2pipe.files import write_table

log = logging.getLogger(__name__)

SETTINGS = ()
SHEET_COLUMNS = ()  # the sheet is written here, and read to be checked only


def arguments(parser) -> None:
    """Declare what the command takes."""
    from her2pipe.cohorts.importers.base import IMPORTERS

    parser.add_argument("source", choices=sorted(IMPORTERS.names()), help="where they are from")
    parser.add_argument(
        "slides", help="folder of slides or images; folders in it are searched, too"
    )
    parser.add_argument("sheet", help="sheet to write (.tsv)")
    parser.add_argument(
        "--table",
        help="clinical table, separated by tabs, commas or semicolons, or .xlsx; yale needs it only"
        " for the trastuzumab cohort; warwick: the contest's ground truth; acrobat: its metadata",
    )
    parser.add_argument(
        "--held-out-table",
        help="herohe: truth of the test part, if you have it; bozek: list of validation cores",
    )
    parser.add_argument(
        "--part",
        choices=("train", "test"),
        help="herohe: the part that all slides are of, where no folder is named so",
    )
    parser.add_argument(
        "--mpp",
        type=float,
        help="resolution of slides whose files do not give it, such as bcnb's [um/px]",
    )
    parser.add_argument(
        "--annotations", help="folder of annotations (.xml, .geojson, .json), named as the slides"
    )
    parser.add_argument(
        "--keep-all", action="store_true", help="keep slides that have neither status nor response"
    )
    parser.add_argument(
        "--stain",
        choices=("HE", "IHC", "HER2", "ER", "PGR", "KI67"),
        help="slides or images of this stain only: HE or IHC of pairs, for acrobat the marker",
    )
    parser.add_argument("--magnification", help="breakhis: images of this magnification only")
    parser.add_argument(
        "--patient",
        help="folders, her2-ihc-40x: regular expression that finds the patient in an image's path"
        " below the folder (its first group, or all it matches)",
    )
    parser.add_argument(
        "--split",
        choices=("name", "none"),
        default="name",
        help="take the published parts, where there are some, or leave the split to the study"
        " [default name]",
    )


def run(args) -> None:
    """Write the sheet, check it as a study would, and log what is left out."""
    from her2pipe.cohorts.importers.base import IMPORTERS, ImportOptions

    if args.mpp is not None and not 0 < args.mpp < math.inf:
        what = f"a resolution of {args.mpp:g} um/px"
        raise Her2Error(what, "option --mpp", "give a positive number, such as 0.25")
    options = ImportOptions(
        folder=Path(args.slides),
        table=Path(args.table) if args.table else None,
        held_out_table=Path(args.held_out_table) if args.held_out_table else None,
        part=args.part or "",
        mpp=args.mpp,
        annotations=Path(args.annotations) if args.annotations else None,
        keep_all=args.keep_all,
        stain=args.stain or "",
        magnification=args.magnification or "",
        patient=args.patient or "",
        published_split=args.split == "name",
    )
    importer = IMPORTERS[args.source](options)
    rows = importer.rows()
    write_table(args.sheet, importer.columns(rows), rows)
    for line in importer.summary(rows, sheet.load(args.sheet)):
        log.info(line)
    for line in importer.provenance(rows):
        log.info(line)
    left_out = Path(args.sheet).with_suffix(".left_out.tsv")
    left_out.unlink(missing_ok=True)
    log.info(f"left out: {importer.left_out_text()}")
    if importer.left_out:
        write_table(left_out, ("reason", "item"), importer.left_out)
        log.info(f"each is listed in {left_out}")
