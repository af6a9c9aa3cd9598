"""Step report: the study as one self-contained page."""

from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from her2pipe import __version__
from her2pipe.config import STEPS, ReportSettings
from her2pipe.errors import Her2Error
from her2pipe.files import read_json, read_table, write_text
from her2pipe.reporting import (
    deployment,
    findings,
    flowchart,
    gradcam,
    heatmaps,
    html,
    kinds,
    sections,
)
from her2pipe.reporting.citations import cited
from her2pipe.reporting.heatmaps import Shelf
from her2pipe.reporting.html import Column
from her2pipe.reporting.throughput import stages

SETTINGS = (ReportSettings,)


def sheet_columns(endpoint, settings: ReportSettings) -> tuple[str, ...]:
    """Return the columns that the table of cohorts sums up."""
    return (
        *("patient", "positive", "level", "exclusion_reason", "er", "pr", "pcr", "rcb", "scanner"),
        *endpoint.columns,
    )


SHEET_COLUMNS = sheet_columns
LIBRARIES = (
    "numpy", "scipy", "pandas", "scikit-learn", "scikit-posthocs", "matplotlib", "bokeh", "jinja2",
    "h5py", "opencv-python", "simplejpeg", "pydantic", "torch", "torchvision", "timm",
    "tiatoolbox", "openslide-python", "tifffile", "imagecodecs", "shapely", "safetensors",
    "snakemake",
)  # fmt: skip


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("page", help="page to write (.html)")
    for name, need, text in (
        ("compare", True, "folder written by her2pipe compare"),
        ("ledger", True, "ledger (.tsv)"),
        ("benchmarks", False, "folder of the jobs' times, as Snakemake keeps them"),
        ("study", False, "JSON: title, cohorts (title, role by name), settings"),
    ):
        parser.add_argument(f"--{name}", required=need, help=text)
    parser.add_argument("--evaluate", nargs="+", required=True, help="evaluation folders")
    for name, text in (
        ("sheet", "sheets of the cohorts, COHORT=SHEET"),
        ("train", "encoder folders"),
        ("pretrain", "folders of pre-trained networks"),
        ("heatmap", "heat-map folders, METHOD/COHORT/BATCH"),
        ("encode", "folders of encodings, COHORT/BATCH, of the encoder of the heat maps"),
        ("tile", "folders of patch stores, COHORT=FOLDER, in the view of that encoder"),
        ("describe", "folders of described patches, ENCODER/COHORT"),
        ("deploy", "folders of deployed networks"),
        ("explain", "folders of Grad-CAM pictures, ENCODER/COHORT/BATCH"),
        ("methods", "methods whose figures are shown cohort by cohort [default: the first]"),
    ):
        parser.add_argument(f"--{name}", nargs="*", default=[], help=text)


def run(args, report: ReportSettings) -> None:
    """Write the page."""
    study = json.loads(args.study or "{}")
    settings = study.get("settings", {})
    percent = f"{100 * settings.get('evaluate', {}).get('confidence', 0.95):g} %"
    ledger = read_table(args.ledger)
    evaluations = [_evaluation(Path(path)) for path in args.evaluate]
    encoders = [sections.network(Path(path)) for path in args.train]
    pretrained = [sections.network(Path(path), "Pre-training") for path in args.pretrain]
    shelf = Shelf(ledger, _pairs(args.tile), args.encode)
    flows = sections.flows(study.get("cohorts", {}), ledger, evaluations)
    told = kinds.told(evaluations)
    maps = heatmaps.maps(args.heatmap, evaluations, shelf, report.gallery, report.zoom_px)
    shown = Path(args.encode[0]).parent.parent.name if args.encode else ""
    target = next((e["about"].get("stain") for e in encoders if e["name"] == shown), {})
    summary = sections.summary(ledger, flows, evaluations, encoders, percent)
    summary["told"] += flowchart.of_images(settings.get("cohorts", {}))
    text = html.render(
        "report.html",
        title=study.get("title", "her2pipe study"),
        version=__version__,
        percent=percent,
        summary=summary,
        flows=flows,
        classes=kinds.classes(evaluations),
        cohorts=sections.cohort_table(
            _pairs(args.sheet), shelf, [f["name"] for f in flows], evaluations
        ),
        flow_table=sections.flow_table(flows),
        remarks=sections.remarks(ledger),
        compared=(kinds if told else sections).compared(Path(args.compare), percent),
        results=findings.results(evaluations, args.methods, percent, settings.get("labels", {}))
        if told
        else sections.results(evaluations, args.methods, percent),
        described=[sections.described(Path(p), i == 0) for i, p in enumerate(args.describe)],
        maps=maps,
        overlays=gradcam.pictures(args.explain, evaluations, report.gallery),
        opacity=settings.get("heatmap", {}).get("opacity", 0.55),
        bokeh=_bokeh(maps),
        colours=heatmaps.colours(shelf, target),
        networks=pretrained + encoders,
        deployed=deployment.costs(args.deploy),
        timings=_timings(args, shelf),
        settings=json.dumps(settings, indent=1),
        versions=_versions(encoders),
        works=cited(_used(evaluations, settings) | {"explain" for _ in args.explain[:1]}),
    )
    write_text(args.page, text)
    print(f"report: {args.page}: {len(text.encode()) / 1e6:.1f} MB", file=sys.stderr)


def _pairs(words: list[str]) -> dict[str, str]:
    """Read NAME=PATH words."""
    for word in words:
        if "=" not in word:
            raise Her2Error(f"{word!r} has no name", "command line", "write COHORT=PATH")
    return dict(word.split("=", 1) for word in words)


def _evaluation(folder: Path) -> dict[str, Any]:
    """Collect one evaluation: numbers, figures by stem, slides."""
    metrics = read_json(folder / "metrics.json", "an evaluation")
    stems = sorted(path.stem for path in folder.glob("*.svg"))
    about = {"method": "", "cohort": folder.name, "role": ""} | metrics
    return about | {
        "images": {stem: html.either(folder / stem) for stem in stems},
        "table": sections.optional(folder / "slides.tsv"),
        "metrics": metrics,
    }


def _bokeh(maps: list[dict]) -> str:
    """Return Bokeh's own JavaScript when there is a slide to zoom into."""
    if not any(found["view"] for found in maps):
        return ""
    from her2pipe.reporting import slide_viewer

    return slide_viewer.bundle()


def _timings(args, shelf: Shelf) -> list[dict[str, Any]]:
    """Lay out what differs from run to run: seconds and megabytes of jobs, time per slide."""
    tables = []
    if args.benchmarks and (
        rows := stages(Path(args.benchmarks), STEPS[:-1], _passed(args, shelf))
    ):
        columns = [
            Column("stage", "Stage"),
            Column("jobs", "Jobs", "count"),
            Column("hours", "Hours in all", 2),
            Column("median_s", "Seconds per job, median", 1),
            Column("patches_s", "Patches per second", 1),
            Column("memory_mb", "Peak memory, MB", "count"),
        ]
        caption = "Time and memory of each stage, summed over its jobs, start-up included."
        tables.append(html.table(caption, columns, rows))
    if rows := sections.optional(Path(args.compare) / "timing.tsv"):
        tables.append(html.table("Time of the aggregation.", html.guess(rows, ()), rows))
    return tables + deployment.speeds(args.deploy)


def _passed(args, shelf: Shelf) -> dict[str, int]:
    """Count the patches that the shown view's tiling and its encoder have handled."""
    whole = sum(about["patches"] for facts in shelf.facts.values() for about in facts)
    views = {f"tile {Path(folder).parent.name}" for folder in _pairs(args.tile).values()}
    encoders = {f"encode {Path(folder).parent.parent.name}" for folder in args.encode}
    return dict.fromkeys(views | encoders, whole) if whole else {}


def _used(evaluations: list[dict], settings: dict[str, Any]) -> set[str]:
    """Name the aggregations and the stain method of the study, and what it tells apart."""
    stain = settings.get("stain", {}).get("stain_method", "vahadane")
    endpoint = "classes" if kinds.told(evaluations) else "status"
    return {str(e.get("aggregation", "")) for e in evaluations} | {stain, endpoint}


def _versions(encoders: list[dict]) -> dict[str, str]:
    """Versions of this program and its libraries, as far as they are known here or in a model."""
    found = {"her2pipe": __version__, "Python": platform.python_version()}
    learnt = {k: v for e in encoders for k, v in e["about"].get("versions", {}).items()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in learnt:
                found[name] = f"{learnt[name]} (training)"
    return found
