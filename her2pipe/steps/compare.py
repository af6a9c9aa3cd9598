"""Step compare: the method table of a study."""

from __future__ import annotations

from her2pipe.cohorts import sheet as cohorts
from her2pipe.config import CompareSettings, FigureSettings, SmallNumberSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation import results
from her2pipe.files import replacing_folder
from her2pipe.manifest import Manifest

SETTINGS = (CompareSettings, SmallNumberSettings, FigureSettings)


def sheet_columns(endpoint, settings: CompareSettings) -> tuple[str, ...]:
    """Return the column that names the case of a slide."""
    return (settings.matched_by,)


SHEET_COLUMNS = sheet_columns


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "manifest",
        help="table (.tsv) of what is compared: evaluations, and beside them networks,"
        " encodings with their timings, benchmarks of score, scores with and without marked patches"
        " (score --sensitivity), and sheets that name slides' cases",
    )
    parser.add_argument("folder", help="folder to write: tables, forest plot, ROC panels")
    parser.add_argument(
        "--matched",
        nargs="*",
        default=[],
        metavar="METHOD,COHORT,METHOD,COHORT",
        help="study of classes: two methods, each on a cohort, compared on the cases that both"
        " cohorts hold",
    )
    parser.add_argument(
        "--stand-in",
        action="append",
        default=[],
        metavar="METHOD=TEXT",
        help="method that is not the published one of its name: what of it stands in for what; may"
        " be repeated",
    )


def run(
    args, compare: CompareSettings, small: SmallNumberSettings, figures: FigureSettings
) -> None:
    """Gather the evaluations into tables and figures."""
    from her2pipe.evaluation import method_table
    from her2pipe.plotting import style

    matched = [word.split(",") for word in args.matched]
    if wrong := next((word for word in matched if len(word) != 4), None):
        raise Her2Error(
            f"{','.join(wrong)!r} is not METHOD,COHORT,METHOD,COHORT",
            "option --matched",
            "as named",
        )
    stand_ins = dict(word.partition("=")[::2] for word in args.stand_in)
    manifest = Manifest.read(args.manifest)
    study = method_table.Study(
        [results.read(folder) for folder in manifest.paths("evaluate")],
        compare,
        encoders={item.encoder: item.path for item in manifest.select("train")},
        encodings=[(item.encoder, item.path) for item in manifest.select("encode")],
        benchmarks={(item.method, item.cohort): item.path for item in manifest.select("benchmark")},
        matched=matched,
        stand_ins=stand_ins,
        min_n=small.min_n,
        cases={
            item.cohort: _cases(item.path, compare.matched_by) for item in manifest.select("sheet")
        },
        scores={(item.method, item.cohort): item.path for item in manifest.select("score")},
    )
    if unknown := sorted(set(stand_ins) - set(study.by_method)):
        raise Her2Error(
            f"no evaluation of the method {unknown[0]}",
            "option --stand-in",
            f"use METHOD=TEXT with one of: {', '.join(study.by_method)}",
        )
    if not study.evaluations:
        raise Her2Error(
            "the manifest lists no evaluation", args.manifest, "add rows of the kind evaluate"
        )
    with replacing_folder(args.folder) as folder:
        method_table.compare(study, folder, style.formats_of(figures))


def _cases(sheet: str, column: str) -> dict[str, str]:
    """Return the case of each slide of a sheet; empty where it is not known."""
    rows = cohorts.load(sheet, check_files=False, columns=(column,))
    return {row.slide: str(row.value(column) or "") for row in rows}
