"""What the page is made from: the study, its manifest, ledger and evaluations, and slide files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from her2pipe.config import LabelSettings, ReportSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.evaluation.results import Evaluation, read
from her2pipe.files import read_json, read_table
from her2pipe.manifest import Item, Manifest

SYNTHETIC = ("results/synthesise/", "results/draw/")  # where slides and images are drawn
ROLES = {
    "development": "development",
    "external": "external validation",
    "treatment": "neoadjuvant treatment",
    "apply": "slides to be scored",
    "pretraining": "pre-training",
}


class StudyCohort(BaseModel):
    """Title and role of a cohort."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = ""
    role: str = ""


class Study(BaseModel):
    """A study as its page names it: title, cohorts by name, and all settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "her2pipe study"
    cohorts: dict[str, StudyCohort] = {}
    settings: dict[str, Any] = {}

    @classmethod
    def read(cls, path: str | Path | None) -> Study:
        """Read a study's file (JSON); without one, a study without a name."""
        return cls.model_validate(read_json(Path(path), "a study") if path else {})

    @property
    def labels(self) -> LabelSettings | None:
        """The study's label settings, where its file holds them."""
        labels = self.settings.get("labels")
        return LabelSettings.model_validate(labels) if labels else None

    def setting(self, section: str, key: str, default: Any) -> Any:
        """Return a setting, or a default where the study's file has none."""
        return self.settings.get(section, {}).get(key, default)


class OutputIndex:
    """Where the patch stores and encodings of a study's slides lie.

    Parameters
    ----------
    manifest : Manifest
    ledger : list of dict

    Attributes
    ----------
    slides : dict
        Cohort to its slides that are not excluded, in the order of the ledger.
    """

    def __init__(self, manifest: Manifest, ledger: Iterable[Mapping[str, str]]):
        self._stores = {item.cohort: Path(item.path) for item in manifest.select("tile")}
        self._encodings = manifest.select("encode")
        self.slides: dict[str, list[str]] = {}
        for row in ledger:
            slides = self.slides.setdefault(row["cohort"], [])
            if row["status"] != "excluded":
                slides.append(row["slide"])

    @cached_property
    def encodings(self) -> dict[tuple[str, str], Path]:
        """(cohort, slide) to its encoding."""
        from her2pipe.store import encodings

        return {
            (item.cohort, path.stem): path
            for item in self._encodings
            for path in encodings([Path(item.path)])
        }

    def store(self, cohort: str, slide: str) -> Path | None:
        """Return the patch store of a slide, None when it is not at hand."""
        path = self._stores[cohort] / f"{slide}.h5" if cohort in self._stores else None
        return path if path and path.exists() else None

    @cached_property
    def scans(self) -> dict[str, list[dict[str, Any]]]:
        """Cohort to the attributes and number of patches of each of its slides."""
        from her2pipe.store import read_summary

        scans = {}
        for cohort, slides in self.slides.items():
            stores = [path for slide in slides if (path := self.store(cohort, slide))]
            images = {} if stores else self._images(cohort)
            scans[cohort] = [read_summary(path) for path in stores]
            scans[cohort] += [images[slide] for slide in slides if slide in images]
        return scans

    @property
    def patches(self) -> int:
        """Number of patches of all slides."""
        return sum(scan["patches"] for scans in self.scans.values() for scan in scans)

    def _images(self, cohort: str) -> dict[str, dict[str, Any]]:
        """Return the attributes of each image in the packs of a cohort of images."""
        from her2pipe.store import read_images

        scans: dict[str, dict[str, Any]] = {}
        for path in sorted(self._stores[cohort].glob("*.h5")) if cohort in self._stores else []:
            if images := read_images(path):
                scans |= {image.name: vars(image) | {"patches": 1} for image in images.kept}
        return scans


@dataclass(frozen=True)
class ReportInputs:
    """Everything the sections of the page are made from.

    Attributes
    ----------
    study : Study
    manifest : Manifest
    settings : ReportSettings
    ledger : list of dict
        One row per row of the sheets: slide, patient, cohort, status, reason.
    evaluations : list of Evaluation
    figure_methods : list of str
        Methods whose figures are shown cohort by cohort.
    benchmarks : Path or None
        Folder of the jobs' times, as Snakemake keeps them.
    anchors : set of str
        Ids of the page's sections, tables and figures, for the sections that are built last.
    """

    study: Study
    manifest: Manifest
    settings: ReportSettings
    ledger: list[dict[str, str]]
    evaluations: list[Evaluation]
    figure_methods: list[str] = field(default_factory=list)
    benchmarks: Path | None = None
    anchors: set[str] = field(default_factory=set)

    @classmethod
    def read(
        cls,
        manifest: str | Path,
        study: str | Path | None,
        settings: ReportSettings,
        figure_methods: Sequence[str] = (),
        benchmarks: str | Path | None = None,
    ) -> ReportInputs:
        """Read the files that a manifest names.

        Raises
        ------
        Her2Error
            When there is no evaluation of the primary method.
        """
        files = Manifest.read(manifest)
        evaluations = [read(path) for path in files.paths("evaluate")]
        named = dict.fromkeys(e.metrics.method for e in evaluations)
        if settings.primary and settings.primary not in named:
            raise Her2Error(
                f"no evaluation of the primary method {settings.primary}",
                "setting report.primary",
                f"use one of: {', '.join(named)}",
            )
        return cls(
            study=Study.read(study),
            manifest=files,
            settings=settings,
            ledger=[row for path in files.paths("ledger") for row in read_table(path)],
            evaluations=evaluations,
            figure_methods=list(figure_methods) or [settings.primary or next(iter(named), "")],
            benchmarks=Path(benchmarks) if benchmarks else None,
        )

    def endpoint(self, role: str = "external") -> Endpoint:
        """Return the study's endpoint in cohorts of a role."""
        labels = self.study.labels
        classes = self.evaluations[0].metrics.classes if self.evaluations else []
        if labels is None and classes:  # a page made by hand, without the study's file
            ordered = self.evaluations[0].metrics.ordered
            labels = LabelSettings(endpoint="class", classes=classes, ordered=ordered)
        return endpoint_of(labels, role)

    @property
    def percent(self) -> str:
        """Level of the intervals, such as `95 %`."""
        return f"{100 * self.study.setting('evaluate', 'confidence', 0.95):g} %"

    @property
    def methods(self) -> list[str]:
        """Names of the evaluated methods, in order."""
        return list(dict.fromkeys(e.metrics.method for e in self.evaluations))

    @property
    def cohorts(self) -> list[str]:
        """Names of the cohorts, in the order of the ledger."""
        return list(dict.fromkeys(row["cohort"] for row in self.ledger))

    def of_cohort(self, cohort: str) -> Iterator[Evaluation]:
        """Yield the evaluations of a cohort."""
        return (e for e in self.evaluations if e.metrics.cohort == cohort)

    @property
    def trained_encoders(self) -> list[Item]:
        """Encoders that the study itself trained; those of bundles are left out."""
        bundled = {item.encoder for item in self.manifest.select("unpack")}
        return [item for item in self.manifest.select("train") if item.encoder not in bundled]

    @cached_property
    def unlabelled(self) -> set[str]:
        """Cohorts of slides to be scored of which none has a label, so that none is evaluated."""
        labelled = {
            e.metrics.cohort
            for e in self.evaluations
            for row in e.table
            if self.endpoint(e.metrics.role).group_label(row)
        }
        applied = {name for name, cohort in self.study.cohorts.items() if cohort.role == "apply"}
        return applied - labelled

    @cached_property
    def synthetic(self) -> set[str]:
        """Cohorts whose slides are all drawn by her2pipe."""
        cohorts = set()
        for item in self.manifest.select("sheet"):
            paths = [row.get("path", "") for row in read_table(item.path)]
            if paths and all(path.startswith(SYNTHETIC) for path in paths):
                cohorts.add(item.cohort)
        return cohorts

    def synthetic_mark(self, cohorts: Iterable[str] = ()) -> str:
        """Say which of some cohorts, or of all, are of synthetic slides; empty where none is."""
        shown = set(cohorts) & set(self.cohorts) or set(self.cohorts)
        drawn = shown & self.synthetic
        if not drawn:
            return ""
        if drawn == shown:
            return "Synthetic slides."
        return f"Slides of cohort {', '.join(sorted(drawn))} are synthetic."

    @property
    def evaluates(self) -> bool:
        """Whether any cohort of the study is evaluated."""
        return not self.cohorts or bool(set(self.cohorts) - self.unlabelled)

    @cached_property
    def index(self) -> OutputIndex:
        """Where the slides' patch stores and encodings lie."""
        return OutputIndex(self.manifest, self.ledger)
