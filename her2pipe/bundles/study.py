"""The bundle of a method of a finished study: what is gathered of its results, and nothing more.

Names of slides and patients, and paths of the machine, stay behind: of the results only networks,
settings, counts and figures are taken.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from her2pipe import __version__
from her2pipe.aggregation.base import AGGREGATIONS, Aggregation, FittedModel, load
from her2pipe.bundles.compatibility import KEEPS_COLOURS, Patches, conditions
from her2pipe.bundles.description import (
    AGGREGATION,
    ENCODER,
    INCLUDED,
    PRESET,
    BundledEncoder,
    BundleDescription,
    Calibration,
    Citation,
    CohortResult,
    Distribution,
    Expected,
    Interval,
    Licence,
)
from her2pipe.bundles.drift import measure
from her2pipe.bundles.settings import score_settings
from her2pipe.config import WHOLE, BundleSettings, Config, roles
from her2pipe.config.aggregation import fit_settings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import read_json, read_table, record_text
from her2pipe.models.description import FILE, ModelDescription, PatchConditions
from her2pipe.registry import PRESETS, STAIN_METHODS
from her2pipe.registry import Citation as Work

if TYPE_CHECKING:
    from her2pipe.evaluation.results import Estimate, Metrics

WEIGHTS = "model.safetensors"
STUDY = "manifest/study.json"
TRAIN = "train"  # side of a slide
OPEN = "open"  # access to published weights that nobody need ask for
DEVELOPMENT, TREATMENT = "development", "treatment"  # roles of cohorts
FILES_NAMED = ("weights", "pairs", "stain_target", "architecture", "images")
HUB, FOLDER = "hf-hub:", "local-dir:"
# Licences under which weights may be passed on as they are.
FREE = re.compile(
    r"apache-2\.0|mit|bsd-\d-clause|cc0-1\.0|cc-by-(sa-)?\d\.\d|isc|unlicense|a?gpl-3\.0",
    re.IGNORECASE,
)
BATCH = re.compile(r"(\d+)of(\d+)")
QUANTILES = {"q01": 0.01, "q05": 0.05, "q50": 0.5, "q95": 0.95, "q99": 0.99}
LI_2025 = Work(
    "HER2 scores from slides", "Li et al. 2025", "Breast Cancer Research 27:62",
    "10.1186/s13058-025-02008-7",
)  # fmt: skip


@dataclass(frozen=True)
class BundleContents:
    """What becomes a bundle.

    Attributes
    ----------
    description : BundleDescription
        Without files and digest.
    files : dict
        Of each file, by its path in the bundle, the file to copy, or its text.
    data : DevelopmentData
        What the card says of the slides.
    """

    description: BundleDescription
    files: dict[str, Path | str]
    data: DevelopmentData


@dataclass(frozen=True)
class DevelopmentData:
    """Slides that a method was developed on, counted.

    Attributes
    ----------
    cohort, title : str
    slides : dict
        Slides of each side, as `train` and `validation`, that were used.
    patients : int
        Of the whole cohort.
    classes : dict
        Slides that the aggregation was fitted on, by class; empty where nothing is fitted.
    patches : int
        That the encoder was trained on.
    confidence : float
        Level of the intervals.
    keeps_colours : bool
        Whether patches are brought to no stain target.
    """

    cohort: str
    title: str
    slides: dict[str, int]
    patients: int
    classes: dict[str, int]
    patches: int
    confidence: float
    keeps_colours: bool = False


class FinishedStudy:
    """One method in the results of a study.

    Parameters
    ----------
    results : path
        Folder of the results of a study that has run.
    method : str

    Raises
    ------
    Her2Error
        When the study, or the method, is not there.
    """

    def __init__(self, results: str | Path, method: str):
        self.results, self.method = Path(results), method
        self.file = self.results / STUDY
        values = read_json(self.file, "the results of a study (its settings are missing)")
        self.title = str(values.get("title", ""))
        try:
            self.config = Config.model_validate(_as_study_file(values.get("settings")))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise Her2Error(
                f"the settings are of another version: {'.'.join(map(str, first['loc']))}:"
                f" {first['msg']}",
                str(self.file),
                "run the study again with this version",
            ) from None
        if method not in self.config.methods:
            raise Her2Error(
                f"the study has no method {method}",
                str(self.file),
                f"choose among: {', '.join(self.config.methods)}",
            )
        if getattr(self.config.methods[method], "bundle", ""):
            raise Her2Error(
                f"the method {method} is applied from a bundle",
                str(self.file),
                "pass that bundle on",
            )

    @cached_property
    def encoder(self) -> str:
        """Name of the method's encoder."""
        return self.config.methods[self.method].encoder

    @cached_property
    def cohort(self) -> str:
        """The development cohort."""
        return roles.development(self.config, self.encoder)

    @property
    def is_images(self) -> bool:
        """Whether the development cohort is of images."""
        return self.config.cohorts[self.cohort].kind == "images"

    @property
    def view(self) -> str:
        """View whose patches are scored."""
        return WHOLE if self.is_images else self.config.encoders[self.encoder].view

    @cached_property
    def encoder_folder(self) -> Path:
        """Folder of the trained encoder."""
        return self.results / "train" / self.encoder

    @cached_property
    def network(self) -> ModelDescription:
        """Description of the trained encoder."""
        return ModelDescription.read(self.encoder_folder)

    @cached_property
    def aggregation(self) -> type[Aggregation]:
        """Aggregation of the method."""
        return AGGREGATIONS[self.config.methods[self.method].aggregate]

    @cached_property
    def endpoint(self) -> Endpoint:
        """What is predicted of a slide."""
        fit = self.config.methods[self.method].fit
        return self.aggregation.endpoint_for(self.config.labels, fit)

    @cached_property
    def fitted(self) -> tuple[Path, FittedModel] | None:
        """Folder and model of the fitted aggregation; None where nothing is fitted."""
        if not self.aggregation.is_fitted(endpoint_of(self.config.labels)):
            return None
        folder = self.results / "fit" / self.method
        return folder, load(self.aggregation.name, folder)

    @cached_property
    def metrics(self) -> list[Metrics]:
        """Figures of each cohort that the method scores, in the order of the study."""
        from her2pipe.evaluation import results

        folder = self.results / "evaluate" / self.method
        return [results.read(folder / name).metrics for name in self.scored]

    @property
    def scored(self) -> list[str]:
        """Cohorts that the method scores."""
        return roles.scored(self.config, self.method)

    @cached_property
    def sides(self) -> dict[str, str]:
        """Side of each slide that the encoder's training could use."""
        rows = read_table(self.encoder_folder / "slides.tsv")
        return {row["slide"]: row["side"] for row in rows if not row["exclusion_reason"]}

    @cached_property
    def scores(self) -> dict[str, float]:
        """Scores of the slides of the development cohort."""
        table = read_table(self.results / "score" / self.method / f"{self.cohort}.tsv")
        return {row["slide"]: float(row["score"]) for row in table if row["score"]}

    @cached_property
    def stores(self) -> list[Path]:
        """Patch stores of the development cohort: of slides that are scored, or the packs."""
        folder = self.results / "tile" / self.view / self.cohort
        if self.is_images:
            return newest(folder, "*.h5")
        return [path for path in sorted(folder.glob("*.h5")) if path.stem in self.scores]

    @cached_property
    def encodings(self) -> list[Path]:
        """Folders of encodings of the development cohort."""
        return newest(self.results / "encode" / self.encoder / self.cohort, "*of*")

    def patches(self) -> Iterator[Patches]:
        """Yield how the patches of each scored slide of the development cohort were cut."""
        from her2pipe.store import PatchStore, slides_of

        for path in self.stores:
            with PatchStore(path) as store:
                for slide in slides_of(store):
                    if not slide.exclusion_reason and slide.metadata.slide in self.scores:
                        yield Patches.of_store(slide.metadata, slide.stain)


def _as_study_file(settings: Any) -> Any:
    """Return settings as a study file may have them: without fits of what fits nothing."""
    if not isinstance(settings, dict) or not isinstance(settings.get("methods"), dict):
        return settings
    methods = {}
    for name, method in settings["methods"].items():
        is_fitted = fit_settings(method.get("aggregate")) is not None
        methods[name] = {k: v for k, v in method.items() if k != "fit" or is_fitted}
    return {**settings, "methods": methods}


def newest(folder: Path, pattern: str) -> list[Path]:
    """Return batches, NUMBERofCOUNT, of the count that was written last."""
    batches: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(pattern)):
        if match := BATCH.fullmatch(path.stem):
            batches.setdefault(match[2], []).append(path)
    if not batches:
        return []
    return max(batches.values(), key=lambda paths: max(p.stat().st_mtime for p in paths))


def gather(results: str | Path, method: str, settings: BundleSettings) -> BundleContents:
    """Gather what becomes the bundle of a method.

    Parameters
    ----------
    results : path
        Folder of the results of a study that has run.
    method : str
    settings : BundleSettings

    Raises
    ------
    Her2Error
        When results are missing, or do not belong together.
    """
    study = FinishedStudy(results, method)
    patches = conditions(study.patches(), study.view)
    description = BundleDescription(
        method=method,
        title=study.title,
        versions={"her2pipe": __version__} | study.network.versions,
        license=settings.license,
        encoder=_encoder(study),
        aggregate=study.aggregation.name,
        task=study.network.task,
        kind="images" if study.is_images else "slides",
        view=study.view,
        fit=_fit(study),
        settings=_settings(study, patches),
        classes=list(study.endpoint.targets),
        positive=[name for name in study.endpoint.targets if name in study.endpoint.positive],
        threshold=study.fitted[1].metadata.threshold if study.fitted else None,
        calibration=_calibration(study),
        expects=_expected(patches),
        reference=_reference(study),
        results=[_result(study, metrics) for metrics in study.metrics],
        licences=_licences(study),
        citations=_citations(study),
    )
    return BundleContents(description, _files(study, description, patches), _data(study))


def _encoder(study: FinishedStudy) -> BundledEncoder:
    network = study.network
    weights = study.encoder_folder / WEIGHTS
    if not weights.is_file():
        raise Her2Error("the encoder has no weights", str(weights), "train it again")
    with weights.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256[: len(network.digest)] != network.digest:
        raise Her2Error(
            "model.safetensors is not the file that model.json describes",
            str(study.encoder_folder),
            "train again, or copy both files together",
        )
    may_pass_on = network.task != "none" or not _is_restricted(network)
    return BundledEncoder(
        name=study.encoder,
        architecture=network.architecture,
        task=network.task,
        classes=network.classes,
        features=network.features,
        parameters=network.parameters.total if network.parameters else 0,
        weights=INCLUDED if may_pass_on else PRESET,
        preset=_source(network),
        licence=network.licence,
        digest=network.digest,
        sha256=sha256,
    )


def _source(network: ModelDescription) -> str:
    """Return where published weights came from: a preset, or a repository; empty of others."""
    preset = network.preset
    architecture = str(network.settings.get("architecture", ""))
    return preset or (architecture if architecture.startswith(HUB) else "")


def _is_restricted(network: ModelDescription) -> bool:
    """Whether weights that others published may not be passed on, or nobody says that they may."""
    is_open = network.preset not in PRESETS or PRESETS[network.preset].access == OPEN
    return bool(_source(network)) and not (is_open and FREE.fullmatch(network.licence))


def _fit(study: FinishedStudy) -> dict[str, Any]:
    settings = dict(study.fitted[1].metadata.settings) if study.fitted else {}
    settings.pop("algorithm", None)
    return settings


def _settings(study: FinishedStudy, patches: PatchConditions | None) -> dict[str, dict[str, Any]]:
    """Return, as a study file has them, the settings that decide a score."""
    sections = score_settings(study.config)
    # Of an adaptive view whose squares were all smaller, none shows the side that was asked for.
    none_was_larger = patches and patches.side_px0 and [patches.side_px0[1]] == patches.patch_px
    is_adaptive = patches and patches.adaptive_side_px0
    if patches and len(patches.patch_px) == 1 and not (is_adaptive and none_was_larger):
        sections["tile"] |= {"patch_px": patches.patch_px[0], "view_px": {}}
    return sections


def _calibration(study: FinishedStudy) -> Calibration | None:
    for metrics in study.metrics:
        fit = metrics.calibration.recalibrated if metrics.calibration else None
        if fit and fit.slope is not None and fit.intercept is not None:
            return Calibration(slope=fit.slope, intercept=fit.intercept, fitted_on=fit.fitted_on)
    return None


def _expected(patches: PatchConditions | None) -> Expected:
    low, high = (patches.mpp if patches else None) or (None, None)
    return Expected(
        mpp_low=low, mpp_high=high, magnifications=patches.magnifications if patches else []
    )


def _reference(study: FinishedStudy) -> dict[str, Distribution]:
    """Return how each quantity is distributed over the slides that were trained on."""
    from her2pipe.store import Encodings

    scores = {name: score for name, score in study.scores.items() if study.sides.get(name) == TRAIN}
    values: dict[str, list[float]] = {}
    for _, quantities in measure(study.stores, Encodings(study.encodings, features=False), scores):
        for name, value in quantities.items():
            values.setdefault(name, []).append(value)
    return {name: distribution(listed) for name, listed in values.items()}


def distribution(values: list[float]) -> Distribution:
    """Summarise the values of a quantity, one per slide.

    >>> distribution([1.0, 2.0, 3.0]).q50
    2.0
    """
    array = np.asarray(values, float)
    quantiles = {name: float(np.quantile(array, share)) for name, share in QUANTILES.items()}
    sd = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return Distribution(n=len(array), mean=float(array.mean()), sd=sd, **quantiles)


def _result(study: FinishedStudy, metrics: Metrics) -> CohortResult:
    """Return the figures of one cohort."""
    area, endpoint = metrics.main(), metrics.endpoint_object()
    slides = metrics.units.get("slide")
    point = metrics.operating_point if metrics.role != TREATMENT else None  # it is of HER2 status
    return CohortResult(
        cohort=metrics.cohort,
        title=study.config.cohorts[metrics.cohort].title,
        role=metrics.role,
        slides=metrics.slides,
        patients=metrics.patients,
        n=area.n if area.n is not None else (slides.n if slides else None),
        events=area.positives,
        measure=_measure(endpoint.main_measure, area.endpoint or endpoint.summary),
        auc=_interval(area) or Interval(),
        operating_point=(point.rule or "") if point else "",
        sensitivity=_interval(point.sensitivity) if point else None,
        specificity=_interval(point.specificity) if point else None,
        accuracy=_interval(point.accuracy if point else slides.accuracy if slides else None),
        kappa=_interval(slides.kappa) if slides else None,
        overlap=_overlap(metrics, "images" if study.is_images else "slides"),
    )


def _measure(name: str, what: str) -> str:
    """Return the name of a number and what it is of, each once."""
    return what if what.startswith(name) else f"{name}, {what}"


def _interval(estimate: Estimate | None) -> Interval | None:
    if estimate is None:
        return None
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    finite = {k: v for k, v in values.items() if v is not None and np.isfinite(v)}
    return Interval(**finite, n=estimate.n, interval=estimate.interval or "")


def _overlap(metrics: Metrics, kind: str) -> str:
    """Return which of a cohort's slides the method had seen."""
    if metrics.role != DEVELOPMENT:
        return ""
    if metrics.resampling:
        return (
            f"of the development cohort, out of fold ({metrics.resampling.words}): by models of the"
            " splits, not by the one of the bundle, which is trained on one holdout"
        )
    judged = metrics.held_out_by or f"{kind} that were not trained on"
    chosen = f"; {metrics.chosen_on_these}: chosen on these very {kind}"
    chosen *= bool(metrics.chosen_on_these)
    return f"of the development cohort: {judged}{chosen}"


def _licences(study: FinishedStudy) -> list[Licence]:
    network, source = study.network, _source(study.network)
    if not (network.licence or source):
        return []
    return [
        Licence(
            part="starting weights of the encoder" if network.task != "none" else "encoder",
            licence=network.licence or "not stated",
            source=source or network.starting_weights,
            non_commercial=network.non_commercial,
        )
    ]


def _citations(study: FinishedStudy) -> list[Citation]:
    works = [*([LI_2025] if study.config.labels.endpoint == "her2" else [])]
    works += study.aggregation.citations
    if study.network.stain.get("method") != KEEPS_COLOURS:
        works += STAIN_METHODS[study.config.stain.stain_method].citations
    cited = [Citation(**work._asdict()) for work in works]
    if doi := study.network.citation:
        cited.append(Citation(what="Encoder", who=study.network.architecture, where="", doi=doi))
    distinct = {(work.who, work.doi): work for work in reversed(cited)}
    return list(distinct.values())[::-1]


def _data(study: FinishedStudy) -> DevelopmentData:
    sides = list(study.sides.values())
    development = [metrics for metrics in study.metrics if metrics.cohort == study.cohort]
    rows = study.network.training_set
    return DevelopmentData(
        cohort=study.cohort,
        title=study.config.cohorts[study.cohort].title,
        slides={side: sides.count(side) for side in dict.fromkeys(sides)},
        patients=development[0].patients if development else 0,
        classes=study.fitted[1].metadata.slides if study.fitted else {},
        patches=sum(int(row["used"]) for row in rows if row.get("side") == TRAIN),
        confidence=study.config.evaluate.confidence,
        keeps_colours=study.network.stain.get("method") == KEEPS_COLOURS,
    )


# --- files ---------------------------------------------------------------------------------------


def _files(
    study: FinishedStudy, description: BundleDescription, patches: PatchConditions | None
) -> dict[str, Path | str]:
    """Return the files of encoder and aggregation, by their paths in the bundle."""
    network = study.network.having(patches=patches, copies=None)
    values = network.model_dump(mode="json", exclude_unset=True)
    files: dict[str, Path | str] = {f"{ENCODER}/{FILE}": record_text(without_paths(values))}
    if description.encoder.weights == INCLUDED:
        files[f"{ENCODER}/{WEIGHTS}"] = study.encoder_folder / WEIGHTS
    if study.fitted:
        folder, model = study.fitted
        values = model.metadata.model_dump(mode="json", exclude_unset=True)
        files[f"{AGGREGATION}/{FILE}"] = record_text(without_paths(values))
        if model.members:
            files[f"{AGGREGATION}/{WEIGHTS}"] = folder / WEIGHTS
    return files


def without_paths(value: Any, key: str = "") -> Any:
    """Return values in which each path of a machine is no more than the name of its file.

    >>> without_paths({"weights": "models/net.pt", "images": {"source": "/data/cifar.tar.gz"}})
    {'weights': 'net.pt', 'images': {'source': 'cifar.tar.gz'}}
    """
    if isinstance(value, Mapping):
        return {name: without_paths(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [without_paths(inner, key) for inner in value]
    if not isinstance(value, str) or value.startswith(HUB):
        return value
    prefix = FOLDER if value.startswith(FOLDER) else ""
    path = value.removeprefix(prefix)
    is_path = (
        key in FILES_NAMED
        or PurePosixPath(path).is_absolute()
        or PureWindowsPath(path).is_absolute()
        or path.startswith(("~", "..", "./"))
    )
    return prefix + re.split(r"[/\\]", path.rstrip("/\\"))[-1] if is_path and path else value
