"""Step report: the study as one self-contained page."""

from __future__ import annotations

import base64
import json
import platform
import tempfile
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from her2pipe import __version__
from her2pipe.config import LEVELS, ReportSettings
from her2pipe.files import read_json, read_table, write_text

SETTINGS = (ReportSettings,)
LIBRARIES = (
    "torch", "torchvision", "timm", "tiatoolbox", "openslide-python", "h5py", "numpy", "scipy",
    "pandas", "scikit-learn", "scikit-posthocs", "snakemake",
)  # fmt: skip
ROLES = {
    "development": "development (internal validation)",
    "external": "external validation",
    "treatment": "neoadjuvant treatment",
}
# Li et al. 2025, doi 10.1186/s13058-025-02008-7, Table 2 and text: internal, external mean and SD.
PUBLISHED = {"TL-PA": {"internal_auc": 0.75, "external_mean": 0.76, "external_sd": 0.01}}


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("page", help="page to write (.html)")
    parser.add_argument("--compare", required=True, help="folder written by her2pipe compare")
    parser.add_argument("--evaluate", nargs="+", required=True, help="evaluation folders")
    parser.add_argument("--ledger", required=True, help="ledger (.tsv)")
    parser.add_argument("--train", nargs="*", default=[], help="encoder folders")
    parser.add_argument(
        "--heatmap", nargs="*", default=[], help="heat-map folders, one per batch of a cohort"
    )
    parser.add_argument("--encode", nargs="*", default=[], help="folders of encodings")
    parser.add_argument(
        "--sample", nargs="*", default=[], help="patch stores whose colours are shown, COHORT=STORE"
    )
    parser.add_argument(
        "--study", default="{}", help="JSON: title, cohorts (title, role by name), settings"
    )


def run(args, report: ReportSettings) -> None:
    """Write the page."""
    import jinja2

    study = json.loads(args.study)
    evaluations = [_evaluation(Path(path)) for path in args.evaluate]
    ledger = read_table(args.ledger)
    encoders = [_encoder(Path(path)) for path in args.train]
    loader = jinja2.PackageLoader("her2pipe", "templates")
    page = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html")
    write_text(
        args.page,
        page.render(
            title=study.get("title", "her2pipe study"),
            cohorts=_cohorts(study.get("cohorts", {}), evaluations, ledger),
            counts=Counter(row["status"] for row in ledger),
            ledger=ledger,
            methods=read_table(Path(args.compare) / "methods.tsv"),
            table2=read_table(Path(args.compare) / "table2.tsv"),
            published=PUBLISHED,
            forest=_image(Path(args.compare) / "forest.svg"),
            evaluations=evaluations,
            encoders=encoders,
            colours=_colours(args.encode, args.sample, encoders[0]["stain"] if encoders else {}),
            gallery=_gallery(args.heatmap, report.gallery),
            settings=json.dumps(study.get("settings", {}), indent=1),
            versions=_versions(),
        ),
    )


def _evaluation(folder: Path) -> dict[str, Any]:
    """Collect one evaluation: numbers, figures by stem, slides left out by reason."""
    metrics = read_json(folder / "metrics.json", "an evaluation")
    images = {path.stem: _image(path) for path in sorted(folder.glob("*.svg"))}
    return metrics | {"images": images, "table": read_table(folder / "slides.tsv")}


def _cohorts(
    named: dict[str, Any], evaluations: list[dict], ledger: list[dict]
) -> list[dict[str, Any]]:
    """Describe each cohort: slides, patients, labels, and where every slide went."""
    rows = []
    for name in dict.fromkeys(row["cohort"] for row in ledger):
        own = [row for row in ledger if row["cohort"] == name]
        table = next((e["table"] for e in evaluations if e["cohort"] == name), [])
        left = Counter(r["why_not"] for r in table if r["why_not"].startswith(("training", "no ")))
        excluded = sum(row["status"] == "excluded" for row in own)
        rows.append(
            {
                "name": name,
                "title": named.get(name, {}).get("title", ""),
                "role": ROLES.get(named.get(name, {}).get("role", ""), ""),
                "slides": len(own),
                "patients": len({row["patient"] for row in own}),
                "excluded": excluded,
                "training": left.get("training slide", 0),
                "unlabelled": sum(n for why, n in left.items() if why != "training slide"),
                "evaluated": len(own) - excluded - sum(left.values()),
                "positive": sum(r["positive"] == "True" for r in table),
                "negative": sum(r["positive"] == "False" for r in table),
                "levels": [
                    (level, n)
                    for level in LEVELS
                    if (n := sum(r["true_level"] == level for r in table))
                ],
            }
        )
    return rows


def _encoder(folder: Path) -> dict[str, Any]:
    """Describe an encoder: what it is, what it learnt from, how the loss fell."""
    about = read_json(folder / "model.json", "an encoder")
    return about | {
        "name": folder.name,
        "history": read_table(folder / "history.tsv"),
        "unused": [row for row in read_table(folder / "slides.tsv") if row["unused"]],
        "curves": _image(folder / "history.svg"),
    }


def _gallery(folders: list[str], most: int) -> list[dict[str, Any]]:
    """Choose heat maps: the first of each cohort by name, as many as wanted."""
    found: dict[str, list[Path]] = {}
    for folder in map(Path, folders):
        found.setdefault(folder.parent.name, []).extend(folder.glob("*.png"))
    return [
        {"cohort": name, "slide": path.stem, "image": _picture(path)}
        for name, paths in found.items()
        for path in sorted(paths, key=lambda path: path.name)[:most]
    ]


def _colours(folders: list[str], samples: list[str], target: dict[str, Any]) -> dict[str, str]:
    """Draw the slides' stain vectors by cohort, and patches before and after normalisation."""
    from her2pipe import pictures
    from her2pipe.stain import Profile, normalise
    from her2pipe.store import PatchStore, encodings, read_attributes

    vectors: dict[str, list] = {}
    for path in encodings([Path(folder) for folder in folders]):
        stain = json.loads(read_attributes(path).get("stain", "{}"))
        if stain and stain["method"] != "none":
            vectors.setdefault(path.parents[1].name, []).append(stain["matrix"])
    if not vectors or not target:
        return {}
    found = {"vectors": _figure(pictures.stains(vectors, target["matrix"]))}
    images, titles = [], []
    for pair in samples:
        name, _, path = pair.partition("=")
        with PatchStore(path) as store:
            if store.excluded:
                continue
            # The patch of median variance: tissue, neither its palest nor its darkest.
            patch = store.pixels(int(store.variance.argsort()[len(store) // 2]), at_least_px=224)
            source = Profile.from_dict(store.stain)
        images += [patch, normalise(patch, source, Profile.from_dict(target))]
        titles += [f"{name}, before", f"{name}, after"]
    if images:
        found["patches"] = _figure(pictures.patches(images, titles))
    return found


def _figure(figure) -> str:
    """Return a figure as a data address."""
    from her2pipe import plots

    with tempfile.TemporaryDirectory() as folder:
        return _image(plots.save(figure, Path(folder) / "figure", ("svg",))[0])


def _image(path: Path) -> str:
    """Return an SVG figure as a data address, so that its inner names stay its own."""
    if not path.exists():
        return ""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def _picture(path: Path) -> str:
    """Return a picture as a JPEG data address: slides are photographs, PNG would be ten times."""
    import cv2

    _, jpeg = cv2.imencode(".jpg", cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def _versions() -> dict[str, str]:
    found = {"her2pipe": __version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
