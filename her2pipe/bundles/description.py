"""Description of a bundle: `bundle.json`, as it is written and read everywhere.

Nothing here needs torch. `docs/how-to/bundles.md` is the specification of the format.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from her2pipe.errors import Her2Error

FILE, CARD = "bundle.json", "README.md"
ENCODER, AGGREGATION = "encoder", "aggregation"  # folders of a bundle
FORMAT = "her2pipe/bundle"
VERSION = 1  # raised when a program that reads the version before cannot read it
MOST_BYTES = 5_000_000  # of bundle.json

INCLUDED, PRESET = "included", "preset"


class _Record(BaseModel):
    # A later program may describe more; what is not known here changes nothing.
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, defer_build=True)


class BundledFile(_Record):
    """A file of the bundle: its SHA-256, hex, and its size."""

    sha256: str
    bytes: int


class BundledEncoder(_Record):
    """The network that gives each patch its class probabilities and features.

    `weights` says where its weights are: `included` in the bundle; or `preset`, to be fetched from
    where `preset` names, as its licence forbids passing them on. `digest` is that of its weights
    file, as `model.json` has it, and `sha256` the whole one.
    """

    name: str
    architecture: str
    task: str = "classify"
    classes: list[str] = []
    features: int = 0
    parameters: int = 0
    weights: str = INCLUDED
    preset: str = ""
    licence: str = ""
    digest: str = ""
    sha256: str = ""


class Calibration(_Record):
    """Recalibration of scores to probabilities, fitted to slides of the development cohort.

    The logit of the probability is `intercept` + `slope` x the score's logit, or x the score where
    that is no probability; `fitted_on` slides.
    """

    slope: float
    intercept: float
    fitted_on: int | None = None


class Expected(_Record):
    """Slides that the method was developed on: their scale, microns per level-0 px, and objective.

    None and empty where the slides did not say.
    """

    mpp_low: float | None = None
    mpp_high: float | None = None
    magnifications: list[float] = []


class Distribution(_Record):
    """How a quantity is distributed over the slides of the development cohort."""

    n: int
    mean: float
    sd: float
    q01: float
    q05: float
    q50: float
    q95: float
    q99: float


class Interval(_Record):
    """An estimate and the ends of its interval; None where it is not defined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    interval: str = ""  # what kind it is, as DeLong


class CohortResult(_Record):
    """Figures of the method on one cohort of its study.

    `n` slides count in the area under the ROC curve, of which `events` have the positive class;
    sensitivity and specificity are those of `operating_point`. `overlap` says which slides the
    method had seen: those of its development cohort are in-sample for what was trained on them.
    """

    cohort: str
    title: str = ""
    role: str = ""
    slides: int = 0
    patients: int = 0
    n: int | None = None
    events: int | None = None
    measure: str = ""
    auc: Interval = Interval()
    operating_point: str = ""
    sensitivity: Interval | None = None
    specificity: Interval | None = None
    accuracy: Interval | None = None
    kappa: Interval | None = None
    overlap: str = ""


class Licence(_Record):
    """Terms of a part that others published."""

    part: str
    licence: str
    source: str = ""
    non_commercial: bool = False


class Citation(_Record):
    """A work to cite: what it gives, its authors, where it appeared, its DOI."""

    what: str
    who: str
    where: str
    doi: str = ""


class BundleDescription(_Record):
    """All that decides what a slide is scored, and what is known of the method.

    Attributes
    ----------
    format : int
        Version of the format.
    method, title : str
        Name of the method in its study, and title of the study.
    versions : dict
        Of her2pipe, torch and timm that made it.
    license : str
        Terms of the bundle, as Hugging Face names licences.
    encoder : BundledEncoder
    aggregate, task, view : str
        Aggregation, task of the encoder, and view whose patches are scored.
    kind : str
        What is scored: slides, or images that are taken whole.
    fit : dict
        Settings that the aggregation was fitted with; empty where nothing is.
    settings : dict
        Of each section of a study file that decides a score, all its values.
    classes, positive : list of str
        What is predicted of a slide, in order, and which of it counts as positive.
    threshold : float or None
        Score from which on a slide is called positive, where one was fitted.
    calibration : Calibration or None
    expects : Expected
    reference : dict
        Distribution of each quantity that drift is measured by.
    results : list of CohortResult
    licences : list of Licence
    citations : list of Citation
    files : dict
        Of each file, by its path in the bundle, digest and size.
    digest : str
        SHA-256 of the description without this field, and so of all files.
    """

    format: int = VERSION
    method: str
    title: str = ""
    versions: dict[str, str] = {}
    license: str = "other"
    encoder: BundledEncoder
    aggregate: str
    task: str = "classify"
    kind: str = "slides"
    view: str = "adaptive"
    fit: dict[str, Any] = {}
    settings: dict[str, dict[str, Any]] = {}
    classes: list[str] = []
    positive: list[str] = []
    threshold: float | None = None
    calibration: Calibration | None = None
    expects: Expected = Expected()
    reference: dict[str, Distribution] = {}
    results: list[CohortResult] = []
    licences: list[Licence] = []
    citations: list[Citation] = []
    files: dict[str, BundledFile] = {}
    digest: str = ""

    def to_text(self) -> str:
        """Return the description as its file holds it, with its digest."""
        values = self.model_dump(mode="json")
        values["digest"] = digest_of(values)
        return json.dumps(values, indent=1) + "\n"


def digest_of(values: dict[str, Any]) -> str:
    """Return the SHA-256 of a description's values, hex; its own digest is left out."""
    content = {key: value for key, value in values.items() if key != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parse(text: bytes, where: str | Path) -> BundleDescription:
    """Read the text of a description; `where` it is from, for the messages.

    Raises
    ------
    Her2Error
        When it is none, of another version of the format, or changed.
    """
    try:
        values = json.loads(text.decode("utf-8"))
        version = values["format"] if isinstance(values, dict) else None
    except (ValueError, KeyError, RecursionError):
        version = None
    if not isinstance(version, int) or isinstance(version, bool):
        raise Her2Error("not a bundle", str(where), "give what her2pipe bundle wrote")
    if version != VERSION:
        fix = "install a newer her2pipe" if version > VERSION else "have it written again"
        raise Her2Error(
            f"the bundle is of version {version} of the format, this program reads {VERSION}",
            str(where),
            fix,
        )
    try:
        digest = digest_of(values)
    except ValueError:  # NaN
        digest = ""
    if digest != values.get("digest"):
        raise changed("its description", where)
    try:
        return BundleDescription.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Her2Error(
            f"not a bundle: {'.'.join(map(str, first['loc']))}: {first['msg']}",
            str(where),
            "give what her2pipe bundle wrote",
        ) from None


def changed(what: str, where: str | Path) -> Her2Error:
    """Return the error of a bundle that is no longer what was written."""
    return Her2Error(
        f"the bundle was changed or is damaged: {what} does not match its digest",
        str(where),
        "get the bundle again from whom you have it",
    )
