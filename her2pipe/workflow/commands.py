"""What the commands of jobs say: settings as flags, and options of single jobs.

A job runs again when its command changes. So a command holds what differs from the defaults, in
one form however a study spells it, and the number of the step's algorithm.
"""

from __future__ import annotations

import os
import shlex
from functools import cache

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.aggregation.fitted import FittedAggregation
from her2pipe.aggregation.held_out import INTERNAL
from her2pipe.config import (
    ImagesSettings,
    PretrainSettings,
    Scanner,
    Section,
    SplitSettings,
    TileSettings,
    flags,
    roles,
)
from her2pipe.workflow.fingerprints import sheet_columns, step_module
from her2pipe.workflow.inputs import Inputs
from her2pipe.workflow.study import FOLDER, Wildcards


class Commands:
    """Parts of the rules' commands.

    Parameters
    ----------
    inputs : Inputs
    """

    def __init__(self, inputs: Inputs):
        self.inputs, self.targets, self.study = inputs, inputs.targets, inputs.study
        self.config = inputs.study.settings
        sections = [getattr(self.config, name) for name in type(self.config).model_fields]
        self._sections = [section for section in sections if isinstance(section, Section)]
        self._tile_flags = cache(self._tile_flags_of)

    def settings(self, step: str, *of_job: Section) -> str:
        """Return the flags of a step's settings.

        Parameters
        ----------
        step : str
        *of_job : Section
            Settings of the job in place of the study's.
        """
        return self._flags(step, of_job)

    def _flags(
        self,
        step: str,
        of_job: tuple[Section, ...] = (),
        without: tuple[type[Section], ...] = (),
        sections: tuple[type[Section], ...] = (),
    ) -> str:
        module = step_module(step)
        leave = getattr(module, "UNUSED_SETTINGS", ())
        words = []
        for section in [s for s in sections or module.SETTINGS if s not in without]:
            values = next(s for s in (*of_job, *self._sections) if isinstance(s, section))
            words.append(flags.to_flags(values, as_type=section, leave=leave))
        return " ".join(filter(None, words))

    # --- single steps ----------------------------------------------------------------------------

    def synthesise(self, wildcards: Wildcards) -> str:
        """Return the flags that draw a synthetic slide: what its row declares, and its scanner."""
        row = self.study.rows[wildcards.cohort][wildcards.slide]
        columns = sheet_columns("synthesise", self.study.endpoint)
        values = [f"--{name}={row.value(name)}" for name in columns if row.value(name)]
        scanner = self.config.synthesise.scanners.get(wildcards.cohort, Scanner())
        return f"{shlex.join(values)} {self.settings('synthesise', scanner)}"

    def tile_row(self, wildcards: Wildcards) -> str:
        """Return the flags of a slide's own row, or of a pack's."""
        name = wildcards.cohort
        if self.study.is_images(name):
            words = ["--batch", wildcards.slide, "--root", self.study.roots[name]]
            return shlex.join(words)
        row = self.study.rows[name][wildcards.slide]
        words = ["--mpp", str(row.mpp)] if row.mpp else []
        return shlex.join(words + ([f"--scene={row.scene}"] if row.scene else []))

    def annotation(self, wildcards: Wildcards) -> list[str]:
        """Return the options that name a slide's annotation and its tissue, if it has them."""
        words = [f"--annotation={path}" for path in self.inputs.annotation(wildcards)]
        return words + [f"--tissue={path}" for path in self.inputs.tissue(wildcards)]

    def tile(self, wildcards: Wildcards) -> str:
        """Return the settings of a slide's tiling, or of a pack's."""
        return self._tile_flags(wildcards.view, self.study.is_images(wildcards.cohort))

    def _tile_flags_of(self, view: str, is_images: bool) -> str:
        """Return the flags of packs of images, or of slides under a view, which many jobs share."""
        settings = self.config.tile.model_copy(update={"patch_px": self.targets.patch_px(view)})
        return self._flags("tile", (settings,), without=() if is_images else (ImagesSettings,))

    def pretraining_stores(self, wildcards: Wildcards) -> list[str]:
        """Return the options that name the packs of a pre-training's cohort, if it has one."""
        paths = self.inputs.pretraining_images(wildcards)
        return [f"--stores={path}" for path in paths if path.endswith(".h5")]

    def pretrain(self, wildcards: Wildcards) -> str:
        """Return the settings of a pre-training, with where its images are."""
        images, _ = self.study.pretraining_images[wildcards.pretraining]
        settings = self.config.pretrainings[wildcards.pretraining].model_copy(
            update={"images": images}
        )
        if images in self.config.cohorts:
            sheet = shlex.join([f"--sheet={self.study.sheets[images]}"])
            of_job = (settings, self._split_settings(wildcards))
            return f"{sheet} {self._flags('pretrain', of_job)}"
        return flags.to_flags(settings, as_type=PretrainSettings)

    def train(self, wildcards: Wildcards) -> str:
        """Return the settings of an encoder, with the files its study file names."""
        encoder, fold = self.inputs.encoder(wildcards), self.inputs.fold(wildcards)
        changes: dict = dict(self.study.encoder_files[encoder])
        if "architecture" in changes:
            changes["architecture"] = FOLDER + changes["architecture"]
        changes["train_views"] = self.inputs.training_views(encoder)
        settings = self.config.encoders[encoder].model_copy(update=changes)
        words = self._of_split(wildcards) + f"--fold {fold} " * bool(fold)
        return words + self._flags("train", (settings, self._split_settings(wildcards)))

    def _of_split(self, wildcards: Wildcards) -> str:
        """Return the option that names the split of a job, if it is of one."""
        split = self.inputs.split(wildcards)
        return f"--split {split} " * bool(split)

    def _split_settings(self, wildcards: Wildcards) -> SplitSettings:
        """Return the settings of splits for a job; of none the scheme is nothing to it."""
        split = self.config.split
        is_of_one = not hasattr(wildcards, "pretraining") and self.inputs.split(wildcards)
        if is_of_one:
            return split
        default = SplitSettings()
        return split.model_copy(update={n: getattr(default, n) for n in ("scheme", "split_column")})

    def fit(self, wildcards: Wildcards) -> str:
        """Return the settings of a method's fit."""
        method = self.config.methods[self.inputs.method(wildcards)]
        sections = step_module("fit").settings(["--aggregate", method.aggregate])
        of_job = (method.fit, self._split_settings(wildcards))
        return self._of_split(wildcards) + self._flags("fit", of_job, sections=sections)

    def aggregation(self, wildcards: Wildcards) -> str:
        """Return the aggregation of a method."""
        return self.config.methods[self.inputs.method(wildcards)].aggregate

    def fit_device(self, wildcards: Wildcards) -> str:
        """Return the device a method is fitted on; a threshold alone needs no graphics card."""
        method = self.config.methods[self.inputs.method(wildcards)]
        return getattr(method.fit, "device", "cpu")

    def model(self, wildcards: Wildcards) -> list[str]:
        """Return the option that names a method's fitted model, if it has one."""
        return [f"--model={path}" for path in self.inputs.fitted(wildcards)]

    def scoring(self, wildcards: Wildcards) -> list[str]:
        """Return the options that name a method's fitted model, what flags slides, and the like.

        One param for all: an empty one beside it would rerun the scores of all other methods.
        """
        if self.inputs.splits(wildcards):
            is_own = wildcards.cohort == self.inputs.development(wildcards)
            return ["--pool=out-of-fold" if is_own else "--pool=ensemble"]
        options = [f"--quality={path}" for path in self.inputs.quality(wildcards)]
        options += ["--sensitivity"] * self.config.compare.sensitivity
        if split := self.inputs.split(wildcards):
            options.append(f"--split={split}")
            options += [f"--trained={path}" for path in self.inputs.trained_for_split(wildcards)]
        return self.model(wildcards) + self._drift(wildcards) + options

    def evaluate(self, wildcards: Wildcards) -> list[str]:
        """Return the options that say what an evaluation is of."""
        method = self.config.methods[wildcards.method]
        training_cohort = self.inputs.development(wildcards)
        bundle = self.study.bundles.get(wildcards.method)
        calibration = bundle.description.calibration if bundle else None
        options = {"sheet": self.inputs.sheet(wildcards)}
        if training_cohort:
            options["development-sheet"] = self.study.sheets[training_cohort]
        options |= {
            "role": roles.role(self.config, wildcards.method, wildcards.cohort),
            "cohort": wildcards.cohort,
            "method": wildcards.method,
            "encoder": method.encoder,
            "aggregate": method.aggregate,
            "trained": self.trained_stages(wildcards.method),
            "held-out-by": self.targets.held_out_by(wildcards.method),
            "chosen-by-validation": self.chosen_by_validation(wildcards.method),
        }
        if calibration:
            options["platt"] = calibration.model_dump_json()
        packs = [
            f"--development-split={path}"
            for path in self.inputs.development_split_scores(wildcards)
        ]
        if wildcards.cohort != training_cohort:
            packs += [f"--split-scores={path}" for path in self.inputs.split_scores(wildcards)]
        packs += [f"--images={path}" for path in self.inputs.scored_packs(wildcards)]
        packs += [f"--trained-on={path}" for path in self.inputs.training_packs(wildcards)]
        return [f"--{name}={value}" for name, value in options.items()] + packs

    def trained_stages(self, name: str) -> str:
        """Return the stages of a method that are trained, as Table 2 has them."""
        method = self.config.methods[name]
        stages = ["encoder"] * (self.config.encoders[method.encoder].task != "none")
        stages += ["aggregation"] * (AGGREGATIONS[method.aggregate].fits == "weights")
        return " and ".join(stages) or "none"

    def chosen_by_validation(self, name: str) -> str:
        """Return what of a method the study's own validation slides choose."""
        if name in self.study.bundles:
            return ""
        method = self.config.methods[name]
        encoder = self.config.encoders[method.encoder]
        chosen = ["epoch of the encoder"] * (encoder.task != "none" and encoder.stop_epochs > 0)
        chosen += ["steps of the encoder"] * (encoder.task != "none" and encoder.reduce_epochs > 0)
        if self.targets.held_out_by(name) == INTERNAL:
            aggregation = AGGREGATIONS[method.aggregate]
            if issubclass(aggregation, FittedAggregation):
                chosen.append(f"{aggregation.chosen_on_held_out} of the aggregation")
            chosen += ["threshold"] * bool(self.study.endpoint.positive)
        return ", ".join(chosen)

    def explain_layer(self, wildcards: Wildcards) -> str:
        """Return the module whose maps are explained; empty: the step chooses it."""
        return self.config.explain.layers.get(wildcards.encoder, "")

    def _drift(self, wildcards: Wildcards) -> list[str]:
        """Return the options that compare a bundle's new slides with its development ones."""
        words = [f"--reference={path}" for path in self.inputs.reference(wildcards)]
        stores = self.inputs.compared_stores(wildcards)
        # A folder, not hundreds of files; but packs of an earlier number may lie beside images'.
        if not self.study.is_images(wildcards.cohort):
            stores = sorted({os.path.dirname(path) for path in stores})
        return words + [f"--stores={path}" for path in stores]

    def ledger_sheets(self) -> list[str]:
        """Return the options that name the sheets of all scored cohorts, and those to apply to."""
        names = self.targets.scored_cohorts
        applied = [n for n in names if self.config.cohorts[n].role == roles.APPLY]
        return [
            *(f"--sheet={name}={self.study.sheets[name]}" for name in names),
            *(f"--apply={name}" for name in applied),
        ]

    def surveyed_sheets(self) -> list[str]:
        """Return the options that name sheets and roots of all cohorts of slides."""
        words = []
        for name in self.targets.slide_cohorts:
            words.append(f"--sheet={name}={self.study.sheets[name]}")
            words += [f"--root={name}={self.study.roots[name]}"] if self.study.roots[name] else []
        names = self.config.tile.annotation_names
        if names != TileSettings().annotation_names:
            words += [f"--tumour-class={name}" for name in names]
        return words

    def compare(self) -> list[str]:
        """Return the pairs of methods and cohorts that hold the same cases, and the stand-ins."""
        pairs = [",".join((*one, *other)) for one, other in self.config.compare.matched]
        methods = self.config.methods.items()
        stand_ins = [f"--stand-in={name}={m.stand_in}" for name, m in methods if m.stand_in]
        return stand_ins + (["--matched", *pairs] if pairs else [])

    def report(self) -> list[str]:
        """Return the methods whose figures the page shows."""
        return ["--methods", *self.config.report.methods] if self.config.report.methods else []
