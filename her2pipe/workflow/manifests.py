"""The manifests of `compare` and `report`, and the study as a file for the report.

They are written when a run starts, before its first job, and not while a run is planned: so a dry
run writes nothing, no rule has to make them, and a job that runs later reads what its study said.
The rules' params carry their digests, so that a changed manifest reruns its step.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from her2pipe.config import LabelSettings
from her2pipe.files import write_text
from her2pipe.manifest import Item, Manifest
from her2pipe.workflow.derived_names import of_split
from her2pipe.workflow.inputs import Inputs
from her2pipe.workflow.targets import BUNDLE

FOLDER = "results/manifest"


class Manifests:
    """What the two steps that sum up a study read.

    Parameters
    ----------
    inputs : Inputs
    """

    compare_path = f"{FOLDER}/compare.tsv"
    report_path = f"{FOLDER}/report.tsv"
    study_path = f"{FOLDER}/study.json"

    def __init__(self, inputs: Inputs):
        self.inputs, self.targets, self.study = inputs, inputs.targets, inputs.study
        self.compare = Manifest(tuple(self._compared()))
        self.report = Manifest(tuple(self._reported()))

    def write(self, folder: str | Path = ".") -> None:
        """Write what has changed, below the working directory of the study."""
        study = json.dumps(self.describe_study(), indent=1) + "\n"
        contents = {
            self.compare_path: self.compare.to_text(),
            self.report_path: self.report.to_text(),
            self.study_path: study,
        }
        for name, text in contents.items():
            path = Path(folder) / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_text(path, text)

    # --- the study -------------------------------------------------------------------------------

    def describe_study(self) -> dict[str, Any]:
        """Return title, cohorts and settings of the study, for its page."""
        settings = self.study.settings
        cohorts = {n: {"title": c.title, "role": c.role} for n, c in settings.cohorts.items()}
        values = self._settings()
        return {"title": settings.study.title, "cohorts": cohorts, "settings": values}

    def study_digest(self) -> str:
        """Return the fingerprint of what the study says beyond the defaults."""
        values = self._settings(exclude_defaults=True)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def _settings(self, exclude_defaults: bool = False) -> dict[str, Any]:
        """Return the study's settings; a bundle is named by its digest, wherever it lies."""
        values = self.study.settings.model_dump(
            mode="json", exclude=self._unused(), exclude_defaults=exclude_defaults
        )
        for name, bundle in self.study.bundles.items():
            values["methods"][name]["bundle"] = bundle.description.digest
            values["encoders"].pop(name)  # of its training only what it says itself is known
        return values

    def _unused(self) -> set[str] | None:
        return {"labels"} if self.study.settings.labels == LabelSettings() else None

    # --- rows ------------------------------------------------------------------------------------

    def _evaluations(self) -> Iterator[Item]:
        for method, name in self.targets.scores:
            encoder = self.targets.encoder_of(method)
            yield Item(
                "evaluate", method, encoder, cohort=name, path=f"results/evaluate/{method}/{name}"
            )

    def _encoders(self) -> Iterator[Item]:
        for name in self.targets.encoders:
            path = self.targets.model(self.targets.shown_encoder(name))
            yield Item("train", encoder=name, path=path)

    def _bundles(self) -> Iterator[Item]:
        """List what bundles say of themselves, and the scores they gave."""
        for name in self.study.bundles:
            yield Item("unpack", name, name, path=f"results/{BUNDLE}/{name}.json")
            yield from self._scores(name)

    def _scores(self, method: str) -> Iterator[Item]:
        for cohort in self.targets.scored_by_method[method]:
            path = f"results/score/{method}/{cohort}.tsv"
            yield Item("score", method, self.targets.encoder_of(method), cohort=cohort, path=path)

    def _encodings(self, encoder: str, cohort: str) -> Iterator[Item]:
        for batch in self.targets.batches(cohort):
            path = f"results/encode/{self.targets.shown_encoder(encoder)}/{cohort}/{batch}"
            yield Item("encode", encoder=encoder, cohort=cohort, batch=batch, path=path)

    def _sheets(self, cohorts: list[str]) -> Iterator[Item]:
        for name in cohorts:
            yield Item("sheet", cohort=name, path=self.study.sheets[name])

    def _compared(self) -> Iterator[Item]:
        yield from self._evaluations()
        comparisons = self.study.endpoint.comparisons
        if "networks" in comparisons:
            yield from self._encoders()
        if "tile_timing" in comparisons or self.targets.compares_encoders:
            for encoder in self.targets.encoders:
                for name in self.study.settings.cohorts:
                    if name in self.targets.encoded_cohorts(encoder):
                        yield from self._encodings(encoder, name)
        yield from self._sheets(self.targets.matched_cohorts)
        if self.study.settings.compare.sensitivity:
            for method in self.study.settings.methods:
                yield from self._scores(method)
        # No inputs: the time of a job differs from run to run, and only timing.tsv reads it.
        for method, name in self.targets.scores:
            encoder = self.targets.encoder_of(method)
            split = next(iter(self.targets.splits(method)), "")
            path = f"benchmarks/score/{of_split(method, split)}/{name}.tsv"
            yield Item("benchmark", method, encoder, cohort=name, path=path)

    def _reported(self) -> Iterator[Item]:
        targets, shown = self.targets, self.targets.heatmap_methods[0]
        yield Item("compare", path="results/compare")
        yield Item("ledger", path="results/ledger/ledger.tsv")
        for path in targets.quality_tables:
            cohort = path.removeprefix("results/quality/").removesuffix(".tsv")
            yield Item("quality", view=targets.quality_view(cohort), cohort=cohort, path=path)
        yield from self._evaluations()
        yield from self._bundles()
        first = next(iter(self.study.settings.methods))
        if first not in self.study.bundles:  # its flags are shown
            yield from self._scores(first)
        yield from self._encoders()
        for name in targets.pretrainings:
            yield Item("pretrain", encoder=name, path=f"results/pretrain/{name}")
        for cohort in targets.scored_by_method[shown]:
            yield from self._encodings(targets.encoder_of(shown), cohort)
        for cohort, view, paths in self.inputs.shown_stores():
            # A folder, not each of its stores; packs of images lie in one, too.
            yield Item("tile", view=view, cohort=cohort, path=os.path.dirname(paths[0]))
        for method, cohort, batch in targets.heatmaps:
            path = f"results/heatmap/{method}/{cohort}/{batch}"
            yield Item("heatmap", method, targets.encoder_of(method), "", cohort, batch, path)
        for encoder, cohort, batch in targets.explained:
            path = f"results/explain/{encoder}/{cohort}/{batch}"
            yield Item("explain", "", encoder, "", cohort, batch, path)
        for encoder, cohort in targets.described:
            path = f"results/describe/{encoder}/{cohort}"
            yield Item("describe", encoder=encoder, cohort=cohort, path=path)
        for encoder in self.study.settings.deploy.encoders:
            yield Item("deploy", encoder=encoder, path=f"results/deploy/{encoder}")
        yield from self._sheets(targets.scored_cohorts)

    # --- inputs of the two rules -----------------------------------------------------------------

    def compare_inputs(self, wildcards: Any = None) -> list[str]:
        """Return the outputs of jobs that `compare` waits for."""
        kinds = ("evaluate", "train", "score")
        return [path for kind in kinds for path in self.compare.paths(kind)]

    def report_inputs(self, wildcards: Any = None) -> list[str]:
        """Return the outputs of jobs that `report` waits for."""
        paths = [item.path for item in self.report.items if item.kind not in ("sheet", "tile")]
        return paths + self.inputs.report_stores()
