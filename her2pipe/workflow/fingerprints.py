"""What of a sheet makes a rule run again: the columns its step declares, and no others.

Sheets are no inputs of rules, or any new row would rerun every job. Instead a rule's params carry a
digest of the values its step reads, as its module declares them in `SHEET_COLUMNS`: a tuple, or a
function of the endpoint and of the step's own settings. The step is given these columns only.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import ModuleType

from her2pipe.bundles.settings import score_settings
from her2pipe.cohorts.sheet import Row
from her2pipe.config import Encoder, Section, roles
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.models.description import version_of
from her2pipe.registry import PRESETS
from her2pipe.workflow.inputs import Inputs
from her2pipe.workflow.study import Wildcards


def step_module(step: str) -> ModuleType:
    """Import the module of a step; by its name, as the command line does."""
    return importlib.import_module(f"her2pipe.steps.{step}")


def sheet_columns(
    step: str,
    endpoint: Endpoint,
    settings: Section | None = None,
    declaration: str = "SHEET_COLUMNS",
) -> list[str]:
    """Return the columns of a sheet that a step declares to read."""
    declared = getattr(step_module(step), declaration, ())
    columns = declared(endpoint, settings) if callable(declared) else declared
    return list(dict.fromkeys(columns))


def digest(rows: Iterable[Row], columns: Iterable[str]) -> str:
    """Return the fingerprint of named values of a sheet, whatever the order of its rows."""
    columns = list(columns)
    values = sorted([row.slide, *(row.value(column) for column in columns)] for row in rows)
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


class Fingerprints:
    """Digests of sheets, for the params of rules.

    Parameters
    ----------
    inputs : Inputs
    """

    def __init__(self, inputs: Inputs):
        self.inputs, self.targets, self.study = inputs, inputs.targets, inputs.study
        self.settings = inputs.study.settings
        self._digest = cache(self._digest_of)

    def _digest_of(self, cohort: str, columns: tuple[str, ...]) -> str:
        return digest(self.study.rows[cohort].values(), columns)

    def _of(
        self,
        step: str,
        cohort: str,
        settings: Section | None = None,
        endpoint: Endpoint | None = None,
        more: Sequence[str] = (),
    ) -> str:
        settings = settings or getattr(self.settings, step)
        columns = sheet_columns(step, endpoint or self.study.endpoint, settings)
        return self._digest(cohort, tuple(dict.fromkeys((*columns, *more))))

    def _split_columns(self, wildcards: Wildcards) -> Sequence[str]:
        """Return the columns that the sides of slides depend on in a job, by its split."""
        split = self.settings.split
        return split.columns if self.inputs.split(wildcards) else split.stratify_by

    def cohort(self, step: str) -> Callable[[Wildcards], str]:
        """Return the params function of a step that reads the sheet of its job's cohort."""
        return lambda wildcards: self._of(step, wildcards.cohort)

    def development(self, step: str) -> Callable[[Wildcards], str]:
        """Return the params function of a step that reads the sheet of the development cohort."""
        return lambda wildcards: self._of(
            step, self.inputs.development(wildcards), more=self._split_columns(wildcards)
        )

    def scored_cohorts(self, step: str) -> list[str]:
        """Return the digests of a step that reads the sheets of all scored cohorts."""
        return [self._of(step, name) for name in self.targets.scored_cohorts]

    def pack(self, wildcards: Wildcards) -> str:
        """Return the digest of a pack's images; of a slide nothing, its files are inputs."""
        if not self.study.is_images(wildcards.cohort):
            return ""
        rows = self.targets.batch_rows(wildcards.cohort, wildcards.slide)
        return digest(rows, sheet_columns("tile", self.study.endpoint))

    def pretrain(self, wildcards: Wildcards) -> str:
        """Return the digest of a pre-training's cohort, if it has one."""
        images, _ = self.study.pretraining_images[wildcards.pretraining]
        settings = self.settings.pretrainings[wildcards.pretraining]
        return self._of("pretrain", images, settings) if images in self.study.rows else ""

    def network(self, step: str) -> Callable[[Wildcards], list[str]]:
        """Return the params function for a network's version and its preset's weights, if any."""

        def version(wildcards: Wildcards) -> list[str]:
            job = (
                self.settings.encoders[self.inputs.encoder(wildcards)]
                if step == "train"
                else self.settings.pretrainings[wildcards.pretraining]
            )
            number = version_of(job.architecture)
            texts = [f"{job.architecture} version {number}"] if number > 1 else []
            if isinstance(job, Encoder) and job.preset and job.weights == "source":
                preset = PRESETS[job.preset]  # whose file may be corrected
                texts.append(f"weights {preset.sha256[:16] or preset.revision or preset.hub}")
            return texts

        return version

    def fit(self, wildcards: Wildcards) -> str:
        """Return the digest of the development cohort of a method's fit."""
        settings = self.settings.methods[self.inputs.method(wildcards)].fit
        columns = self._split_columns(wildcards)
        return self._of("fit", self.inputs.development(wildcards), settings, more=columns)

    def evaluate(self, wildcards: Wildcards) -> str:
        """Return the digest of an evaluation's cohort, by its role."""
        role = roles.role(self.settings, wildcards.method, wildcards.cohort)
        endpoint = endpoint_of(self.settings.labels, role)
        return self._of("evaluate", wildcards.cohort, endpoint=endpoint)

    def cutoff(self, wildcards: Wildcards) -> str:
        """Return the digest of the development cohort, where evaluations take a cut-off from it."""
        columns = sheet_columns(
            "evaluate", self.study.endpoint, self.settings.evaluate, "DEVELOPMENT_COLUMNS"
        )
        name = self.inputs.development(wildcards)
        return self._digest(name, tuple(columns)) if columns and name else ""

    def bundle(self, wildcards: Wildcards) -> str:
        """Return the digest of a method's bundle, wherever it lies."""
        return self.study.bundles[wildcards.method].description.digest

    def bundled(self, wildcards: Wildcards) -> str:
        """Return the digest of what a new bundle says of the study beside its results."""
        development = self.inputs.development(wildcards)
        names = [*self.targets.scored_by_method[wildcards.method], development]
        cohorts = {name: self.settings.cohorts[name] for name in dict.fromkeys(names)}
        content = {
            "title": self.settings.study.title,
            "cohorts": {name: [cohort.title, cohort.role] for name, cohort in cohorts.items()},
            "confidence": self.settings.evaluate.confidence,
            **score_settings(self.settings),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def surveyed(self) -> list[str]:
        """Return the digests of all cohorts of slides, of what is looked over."""
        return [self._of("preflight", name) for name in self.targets.slide_cohorts]

    def matched(self) -> list[str]:
        """Return the digests of the cohorts whose cases two methods are compared on."""
        return [self._of("compare", name) for name in self.targets.matched_cohorts]
