"""Step compare: the method table of a study."""

from __future__ import annotations

from her2pipe.cohorts import sheet as cohorts
from her2pipe.config import CompareSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation import results
from her2pipe.files import replacing_folder

SETTINGS = (CompareSettings,)


def sheet_columns(endpoint, settings: CompareSettings) -> tuple[str, ...]:
    """Return the column that names the case of a slide."""
    return (settings.matched_by,)


SHEET_COLUMNS = sheet_columns


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("evaluations", nargs="+", help="folders written by her2pipe evaluate")
    parser.add_argument("folder", help="folder to write: tables, forest plot, ROC panels")
    parser.add_argument(
        "--timing", nargs="*", default=[], metavar="METHOD=COHORT=FILE",
        help="Snakemake's benchmark files of score, for the time per slide; missing ones are"
        " passed over",
    )  # fmt: skip
    for name, metavar, text in (
        ("train", "FOLDER", "encoder folders, for the table of networks"),
        ("encode-timing", "ENCODER=FOLDER",
         "folders of encodings, for the time per tile"),
        ("matched", "METHOD,COHORT,METHOD,COHORT",
         "two methods, each on a cohort, compared on the cases that both cohorts hold"),
        ("sheet", "COHORT=SHEET", "sheets of these cohorts, which name a slide's case"),
    ):  # fmt: skip
        text = f"study of classes: {text}"
        parser.add_argument(f"--{name}", nargs="*", default=[], metavar=metavar, help=text)


def run(args, compare: CompareSettings) -> None:
    """Gather the evaluations into tables and figures."""
    from her2pipe.evaluation import comparison

    matched = [word.split(",") for word in args.matched]
    if wrong := next((word for word in matched if len(word) != 4), None):
        raise Her2Error(
            f"{','.join(wrong)!r} is not METHOD,COHORT,METHOD,COHORT", "option --matched",
            "as named",
        )  # fmt: skip
    benchmarks = [word.split("=", 2) for word in args.timing]
    study = comparison.Study(
        [results.read(folder) for folder in args.evaluations],
        compare,
        encoders=args.train,
        encodings=[tuple(word.split("=", 1)) for word in args.encode_timing],
        benchmarks={(method, cohort): path for method, cohort, path in benchmarks},
        matched=matched,
        cases={
            name: _cases(sheet, compare.matched_by)
            for name, sheet in (word.split("=", 1) for word in args.sheet)
        },
    )
    with replacing_folder(args.folder) as folder:
        comparison.compare(study, folder)


def _cases(sheet: str, column: str) -> dict[str, str]:
    """Return the case of each slide of a sheet; empty where it is not known."""
    rows = cohorts.load(sheet, check_files=False, columns=(column,))
    return {row.slide: str(row.value(column) or "") for row in rows}
