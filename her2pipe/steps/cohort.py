"""Verb cohort: write the sheet of a public cohort from its files and tables.

Sources of slides: `tcga` (TCGA-BRCA; BCR biotab or cBioPortal table), `yale` (HER2 tumour ROIs of
The Cancer Imaging Archive: HER2 cohort by file name, trastuzumab cohort by its table), `impress`
(neoadjuvant HER2+ cohort); of images: `bci`, `warwick`, `breakhis`, and `folders`, one for each
class. Column names are found whatever their case, spaces and order. The log names no patient.
"""

from __future__ import annotations

import logging
from pathlib import Path

from her2pipe.cohorts import sheet
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
        help="clinical table, separated by tabs, commas or semicolons; yale needs it only for the"
        " trastuzumab cohort; warwick: the contest's ground truth",
    )
    parser.add_argument(
        "--annotations", help="folder of annotations (.xml, .geojson), named as the slides"
    )
    parser.add_argument(
        "--keep-all", action="store_true", help="keep slides that have neither status nor response"
    )
    parser.add_argument("--stain", choices=("HE", "IHC"), help="bci: images of this stain only")
    parser.add_argument("--magnification", help="breakhis: images of this magnification only")
    parser.add_argument(
        "--patient",
        help="folders: regular expression that finds the patient in an image's path below the"
        " folder (its first group, or all it matches)",
    )
    parser.add_argument(
        "--split",
        choices=("name", "none"),
        default="name",
        help="take train and test from file names (bci) or folders (folders), or leave the split"
        " to the study [default name]",
    )


def run(args) -> None:
    """Write the sheet, check it as a study would, and log what is left out."""
    from her2pipe.cohorts.importers.base import IMPORTERS, ImportOptions

    options = ImportOptions(
        folder=Path(args.slides),
        table=Path(args.table) if args.table else None,
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
    log.info(f"left out: {importer.excluded_text()}")
