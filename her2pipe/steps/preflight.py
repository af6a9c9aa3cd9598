"""Step preflight: look over a study, or single sheets, before anything is cut.

Opens every slide's header and every annotation: scales, sizes, readers, annotations that do not
meet their slides. Without `--sheet` it takes a study, and checks all that planning it checks, too.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from her2pipe.cohorts import sheet, survey
from her2pipe.config import PreflightSettings, SlidesSettings, TileSettings
from her2pipe.errors import Her2Error, raise_all
from her2pipe.files import replacing_folder, write_table
from her2pipe.installation import location

log = logging.getLogger(__name__)

SETTINGS = (PreflightSettings, SlidesSettings)
UNUSED_SETTINGS = ("on_bad_slide", "corrupt_max", "decode_psnr_db")
SHEET_COLUMNS = survey.SHEET_COLUMNS
NOTES = ("cohort", "note")


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "folder", nargs="?", help="folder to write: slides.tsv, a row per slide, and notes.tsv"
    )
    parser.add_argument("--configfile", help="study file [default: the demo study, config.yaml]")
    parser.add_argument("--directory", default=".", help="working directory of the study")
    parser.add_argument(
        "--sheet", action="append", default=[], metavar="COHORT=SHEET", help="sheet of a cohort"
    )
    parser.add_argument(
        "--root", action="append", default=[], metavar="COHORT=FOLDER", help="root of its paths"
    )
    parser.add_argument(
        "--tumour-class",
        action="append",
        metavar="NAME",
        help="class of annotations that means tumour [default: those of tile.annotation_names]",
    )


def run(args, preflight: PreflightSettings, slides: SlidesSettings) -> None:
    """Print a table per cohort, and write a row per slide."""
    names = args.tumour_class or TileSettings().annotation_names
    if args.sheet:
        roots = dict(_pair(text) for text in args.root)
        cohorts = {}
        for name, path in map(_pair, args.sheet):
            rows = sheet.load(path, roots.get(name, ""), columns=SHEET_COLUMNS)
            cohorts[name] = (name, rows)
    else:
        cohorts, preflight, slides, names = _of_study(args)
    headers, notes = [], []
    for name, (title, rows) in cohorts.items():
        read = [
            survey.read_header(name, row, slides, names)
            for row in rows
            if Path(row.path).exists()  # synthetic slides may not be drawn yet
        ]
        if read:
            print("\n".join(survey.layout(title, survey.describe(read, preflight))))
        headers += read
        notes += [{"cohort": name, "note": note} for note in survey.notes(read, preflight)]
    if args.folder:
        with replacing_folder(args.folder) as folder:
            write_table(folder / "slides.tsv", survey.COLUMNS, survey.rows(headers))
            write_table(folder / "notes.tsv", NOTES, notes)
    log.info("%d slides looked at, %d notes", len(headers), len(notes))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Her2Error(f"{text} is no pair", "options --sheet, --root", "write COHORT=PATH")
    return name, value


def _of_study(args):
    """Check a study as planning does, print its notes; return cohorts of slides and settings."""
    from her2pipe.config import load
    from her2pipe.workflow import preflight
    from her2pipe.workflow.study import Study

    file = Path(args.configfile or location.demo_study()).resolve()
    with contextlib.chdir(args.directory):
        study = Study.load(load.read(file), str(file))
        raise_all(preflight.problems(study))
        print("\n".join([*preflight.notes(study), ""]))
    settings, folder = study.settings, Path(args.directory).resolve()
    cohorts = {}
    for name, cohort in settings.cohorts.items():
        if not study.is_images(name):
            rows = [sheet.resolved(row, folder) for row in study.rows[name].values()]
            cohorts[name] = (f"{name}: {cohort.title or cohort.role}", rows)
    return cohorts, settings.preflight, settings.slides, settings.tile.annotation_names
