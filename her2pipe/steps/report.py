"""Step report: the study as one self-contained page, and beside it what readers take away."""

from __future__ import annotations

import logging
from pathlib import Path

from her2pipe.config import ReportSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.files import write_text
from her2pipe.reporting import flowchart, quality, sections
from her2pipe.reporting.disclosure import tidy
from her2pipe.reporting.exits import FOLDER
from her2pipe.reporting.inputs import ReportInputs

SETTINGS = (ReportSettings,)
log = logging.getLogger(__name__)


def sheet_columns(endpoint: Endpoint, settings: ReportSettings) -> tuple[str, ...]:
    """Return the columns that the table of cohorts sums up, and those that name batches."""
    return (*flowchart.SHEET_COLUMNS, *quality.SHEET_COLUMNS, *endpoint.columns)


SHEET_COLUMNS = sheet_columns


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("manifest", help="files that the page is made of (.tsv)")
    parser.add_argument("page", help="page to write (.html)")
    parser.add_argument("--study", help="title, cohorts and settings of the study (.json)")
    parser.add_argument("--benchmarks", help="folder of the jobs' times, as Snakemake keeps them")
    parser.add_argument(
        "--methods",
        nargs="*",
        default=[],
        help="methods whose figures are shown cohort by cohort [default: the primary one]",
    )


def write_flow(inputs: ReportInputs, stem: Path) -> None:
    """Write the flow of slides and patients as a figure of its own, SVG and PDF."""
    from her2pipe.plotting import style

    mark = inputs.synthetic_mark()
    style.save(flowchart.draw(inputs), stem, ("svg", "pdf"), mark)


def run(args, report: ReportSettings) -> None:
    """Write the page."""
    inputs = ReportInputs.read(args.manifest, args.study, report, args.methods, args.benchmarks)
    page, path = sections.page(inputs), Path(args.page)
    write_text(path, page.text)
    write_flow(inputs, path.with_name("flow"))
    page.exits.write(path.with_name(FOLDER))
    write_text(path.with_name(tidy.FILE), tidy.report_json(inputs))
    log.info("%s: %.1f MB", path, len(page.text.encode()) / 1e6)
