"""Input functions: what each job reads, by its wildcards."""

from __future__ import annotations

from pathlib import Path

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.aggregation.held_out import ENCODER_FOLDS
from her2pipe.config import WHOLE, roles
from her2pipe.workflow.derived_names import (
    encoder_split_fold,
    fold_encoders,
    name_and_split,
    of_split,
)
from her2pipe.workflow.study import SYNTHETIC_IMAGES, Wildcards
from her2pipe.workflow.targets import AGGREGATION, BUNDLE, Targets


class Inputs:
    """Input functions of the rules, and the paths among their params.

    Parameters
    ----------
    targets : Targets
    """

    def __init__(self, targets: Targets):
        self.targets, self.study = targets, targets.study
        self.settings = targets.study.settings

    # --- of whom a job is ------------------------------------------------------------------------

    def encoder(self, wildcards: Wildcards) -> str:
        """Return the study's encoder that a job is of: its own wildcard's, or its method's."""
        if getattr(wildcards, "method", None):
            return self.targets.encoder_of(self.method(wildcards))
        return encoder_split_fold(wildcards.encoder, self.settings.encoders)[0]

    def method(self, wildcards: Wildcards) -> str:
        """Return the study's method that a job is of."""
        return name_and_split(wildcards.method, self.settings.methods)[0]

    def split(self, wildcards: Wildcards) -> str:
        """Return the split, as 2of5, that a job's encoder or method is of; or nothing."""
        if getattr(wildcards, "method", None):
            return name_and_split(wildcards.method, self.settings.methods)[1]
        return encoder_split_fold(wildcards.encoder, self.settings.encoders)[1]

    def split_encoder(self, wildcards: Wildcards) -> str:
        """Return the encoder that a job's method uses: of its split, or the study's."""
        encoder = self.encoder(wildcards)
        return self.targets.encoder_of_split(encoder, self.split(wildcards))

    def fold(self, wildcards: Wildcards) -> str:
        """Return the inner fold, as 2of5, that a job's encoder is trained without; or nothing."""
        return encoder_split_fold(wildcards.encoder, self.settings.encoders)[2]

    def splits(self, wildcards: Wildcards) -> list[str]:
        """Return the splits whose scores a job of a method pools; none of a holdout or a split."""
        return [] if self.split(wildcards) else self.targets.splits(self.method(wildcards))

    def development(self, wildcards: Wildcards) -> str:
        """Return the cohort that a job's encoder is trained on."""
        return self.study.development(self.encoder(wildcards))

    def sheet(self, wildcards: Wildcards) -> str:
        """Return the sheet of a job's cohort."""
        return self.study.sheets[wildcards.cohort]

    def development_sheet(self, wildcards: Wildcards) -> str:
        """Return the sheet of the cohort that a job's encoder is trained on."""
        return self.study.sheets[self.development(wildcards)]

    def model(self, wildcards: Wildcards) -> str:
        """Return the folder of a job's encoder: trained, or taken out of a bundle."""
        return self.targets.model(wildcards.encoder)

    # --- tile ------------------------------------------------------------------------------------

    def slide(self, wildcards: Wildcards) -> list[str]:
        """Return the slide to tile, or a pack's images, synthetic ones by their folder."""
        name = wildcards.cohort
        if not self.study.is_images(name):
            return [self.study.rows[name][wildcards.slide].path]
        synthetic = f"{SYNTHETIC_IMAGES}{name}"
        paths = [row.path for row in self.targets.batch_rows(name, wildcards.slide)]
        return sorted({synthetic if path.startswith(synthetic) else path for path in paths})

    def slide_or_sheet(self, wildcards: Wildcards) -> str:
        """Return what `tile` takes as an argument: a slide, or the sheet of a pack's images."""
        name = wildcards.cohort
        if self.study.is_images(name):
            return self.study.sheets[name]
        return self.study.rows[name][wildcards.slide].path

    def annotation(self, wildcards: Wildcards) -> list[str]:
        """Return the annotation of a slide, if it has one."""
        if self.study.is_images(wildcards.cohort):
            return []
        annotation = self.study.rows[wildcards.cohort][wildcards.slide].annotation
        return [annotation] if annotation else []

    def tissue(self, wildcards: Wildcards) -> list[str]:
        """Return the file that says where a slide's tissue is, if it is to be read."""
        method = self.settings.tissue.tissue_method
        if self.study.is_images(wildcards.cohort) or method != "file":
            return []
        path = self.study.tissue_file(self.study.rows[wildcards.cohort][wildcards.slide])
        return [path] if path else []

    def drawn(self, wildcards: Wildcards) -> list[str]:
        """Return what was drawn on a slide: its annotation and where its tissue is."""
        return self.annotation(wildcards) + self.tissue(wildcards)

    def surveyed(self, wildcards: Wildcards = None) -> list[str]:
        """Return the slides and annotations of all cohorts of slides."""
        rows = [
            row for name in self.targets.slide_cohorts for row in self.study.rows[name].values()
        ]
        paths = [path for row in rows for path in (row.path, row.annotation) if path]
        return list(dict.fromkeys(paths))

    # --- stores and encodings --------------------------------------------------------------------

    def batch_stores(self, wildcards: Wildcards) -> list[str]:
        """Return the patch stores of one batch, in the encoder's view."""
        name = wildcards.cohort
        if self.study.is_images(name):
            return [f"results/tile/{WHOLE}/{name}/{wildcards.batch}.h5"]
        folder = f"results/tile/{self.settings.encoders[self.encoder(wildcards)].view}/{name}"
        rows = self.targets.batch_rows(name, wildcards.batch)
        return [f"{folder}/{row.slide}.h5" for row in rows]

    def cohort_stores(self, wildcards: Wildcards) -> list[str]:
        """Return the patch stores of a cohort, in the encoder's view."""
        view = self.settings.encoders[self.encoder(wildcards)].view
        return self.targets.stores(wildcards.cohort, view)

    def cohort_encodings(self, wildcards: Wildcards) -> list[str]:
        """Return the folders of encodings that make up a cohort, by the encoders of all splits."""
        encoder = self.encoder(wildcards)
        splits = self.splits(wildcards) if getattr(wildcards, "method", None) else []
        names = [self.targets.encoder_of_split(encoder, split) for split in splits] or [encoder]
        return [
            path
            for name in dict.fromkeys(names)
            for path in self.targets.encodings(name, wildcards.cohort)
        ]

    def batch_encodings(self, wildcards: Wildcards) -> str:
        """Return the folder of encodings of one batch."""
        return f"results/encode/{self.encoder(wildcards)}/{wildcards.cohort}/{wildcards.batch}"

    # --- training --------------------------------------------------------------------------------

    def pretraining_images(self, wildcards: Wildcards) -> list[str]:
        """Return the files of a pre-training's images, or the packs of its cohort."""
        images, files = self.study.pretraining_images[wildcards.pretraining]
        return self.targets.stores(images) if images in self.settings.cohorts else files

    def training_views(self, encoder: str) -> list[str]:
        """Return the views an encoder is trained on; for its colours only the one it scores."""
        settings = self.settings.encoders[encoder]
        if self.study.is_images(self.study.development(encoder)):
            return [WHOLE]
        by_patches = settings.task in ("classify", "fingerprint")
        return settings.train_views if by_patches else [settings.view]

    def training_stores(self, wildcards: Wildcards) -> list[str]:
        """Return the patch stores of the cohort an encoder is trained on."""
        name = self.development(wildcards)
        views = self.training_views(self.encoder(wildcards))
        return [path for view in views for path in self.targets.stores(name, view)]

    def training_folders(self, wildcards: Wildcards) -> list[str]:
        """Return the folders of those stores: a command with hundreds of files is too long."""
        name = self.development(wildcards)
        if self.study.is_images(name):  # few; packs of an earlier number may lie beside them
            return self.targets.stores(name)
        return [
            f"results/tile/{view}/{name}" for view in self.training_views(self.encoder(wildcards))
        ]

    def training_files(self, wildcards: Wildcards) -> list[str]:
        """Return the files an encoder's settings name; of pairs the folders, as new files show."""
        files = self.study.encoder_files[self.encoder(wildcards)]
        pairs = Path(files["pairs"]) if "pairs" in files else None
        folders = [*pairs.glob("*/"), *pairs.glob("*/*/")] if pairs else []
        return [*files.values(), *sorted(map(str, folders))]

    def development_encodings(self, wildcards: Wildcards) -> list[str]:
        """Return the folders of encodings of the development cohort."""
        return self.targets.encodings(self.split_encoder(wildcards), self.development(wildcards))

    def fold_encodings(self, wildcards: Wildcards) -> list[str]:
        """Return the folders of encodings of the development cohort by the encoders of folds.

        A fit needs them if its method's encoder is trained on the slides that inner folds hold out,
        and the study has an encoder trained for each fold.
        """
        method = self.method(wildcards)
        if self.targets.held_out_by(method) != ENCODER_FOLDS:
            return []
        encoder, name = self.split_encoder(wildcards), self.development(wildcards)
        folds = self.settings.methods[method].fit.folds
        return [
            path
            for fold_encoder in fold_encoders(encoder, folds)
            for path in self.targets.encodings(fold_encoder, name)
        ]

    # --- quality ---------------------------------------------------------------------------------

    def quality_stores(self, wildcards: Wildcards) -> list[str]:
        """Return the patch stores by which a cohort's slides are looked over."""
        name = wildcards.cohort
        return self.targets.stores(name, self.targets.quality_view(name))

    def quality(self, wildcards: Wildcards) -> list[str]:
        """Return the quality of the slides of a cohort; images have none."""
        path = f"results/quality/{wildcards.cohort}.tsv"
        return [path] if path in self.targets.quality_tables else []

    # --- scores ----------------------------------------------------------------------------------

    def scored(self, wildcards: Wildcards) -> list[str]:
        """Return what scores are made of: encodings, or the scores of the method's splits."""
        if self.splits(wildcards):
            return self.split_scores(wildcards)
        return self.targets.encodings(self.split_encoder(wildcards), wildcards.cohort)

    def split_scores(self, wildcards: Wildcards) -> list[str]:
        """Return the scores of a cohort by each split of a method."""
        return self._split_scores(wildcards, wildcards.cohort)

    def development_split_scores(self, wildcards: Wildcards) -> list[str]:
        """Return the scores of the development cohort by each split of a method."""
        return self._split_scores(wildcards, self.development(wildcards))

    def all_split_scores(self, wildcards: Wildcards) -> list[str]:
        """Return the scores by each split of a cohort and of the development cohort."""
        paths = self.split_scores(wildcards) + self.development_split_scores(wildcards)
        return list(dict.fromkeys(paths))

    def _split_scores(self, wildcards: Wildcards, cohort: str) -> list[str]:
        method = self.method(wildcards)
        names = [of_split(method, split) for split in self.splits(wildcards)]
        return [f"results/score/{name}/{cohort}.tsv" for name in names]

    def scoring_model(self, wildcards: Wildcards) -> list[str]:
        """Return the fitted model that scores; where scores of splits are pooled none."""
        return [] if self.splits(wildcards) else self.fitted(wildcards)

    def trained_for_split(self, wildcards: Wildcards) -> list[str]:
        """Return the models of a split whose lists of slides say which it was not trained on."""
        split = self.split(wildcards)
        if not split or wildcards.cohort != self.development(wildcards):
            return []
        encoder = self.encoder(wildcards)
        is_split = self.targets.is_split(encoder)
        trained = [self.targets.model(of_split(encoder, split))] if is_split else []
        return trained + self.fitted(wildcards)

    def fitted(self, wildcards: Wildcards) -> list[str]:
        """Return the fitted model of a method's aggregation, if it has one."""
        aggregation = self.settings.methods[self.method(wildcards)].aggregate
        if not AGGREGATIONS[aggregation].is_fitted(self.study.endpoint):
            return []
        is_bundle = wildcards.method in self.study.bundles
        return [f"results/{AGGREGATION if is_bundle else 'fit'}/{wildcards.method}"]

    def development_scores(self, wildcards: Wildcards) -> list[str]:
        """Return a method's scores of the cohort its encoder is trained on; of a bundle none."""
        name = self.development(wildcards)
        return [f"results/score/{wildcards.method}/{name}.tsv"] if name else []

    def reference(self, wildcards: Wildcards) -> list[str]:
        """Return what a bundle says of its development slides, which others are compared with."""
        is_bundle = wildcards.method in self.study.bundles
        return [f"results/{BUNDLE}/{wildcards.method}.json"] if is_bundle else []

    def compared_stores(self, wildcards: Wildcards) -> list[str]:
        """Return the patch stores of slides that are compared with a bundle's own."""
        return self.cohort_stores(wildcards) if self.reference(wildcards) else []

    def scored_packs(self, wildcards: Wildcards) -> list[str]:
        """Return the packs of a cohort of images."""
        name = wildcards.cohort
        return self.targets.stores(name) if self.study.is_images(name) else []

    def training_packs(self, wildcards: Wildcards) -> list[str]:
        """Return the packs of other cohorts of images that a method's encoder was trained on."""
        if not self.study.is_images(wildcards.cohort):
            return []
        encoder = self.encoder(wildcards)
        used = {self.development(wildcards), roles.pretraining(self.settings, encoder)}
        names = sorted((used - {wildcards.cohort}) & set(self.targets.image_cohorts))
        return [path for name in names for path in self.targets.stores(name)]

    def compared_packs(self, wildcards: Wildcards) -> list[str]:
        """Return the packs that an evaluation searches for copies of images."""
        return self.scored_packs(wildcards) + self.training_packs(wildcards)

    # --- bundles ---------------------------------------------------------------------------------

    def trained(self, wildcards: Wildcards) -> str:
        """Return the folder of a method's encoder."""
        return f"results/train/{self.encoder(wildcards)}"

    def development_stores(self, wildcards: Wildcards) -> list[str]:
        """Return the patch stores of the development cohort, in the view that is scored."""
        view = self.settings.encoders[self.encoder(wildcards)].view
        return self.targets.stores(self.development(wildcards), view)

    def evaluations(self, wildcards: Wildcards) -> list[str]:
        """Return the statistics of a method on every cohort that it scores."""
        names = self.targets.scored_by_method[wildcards.method]
        return [f"results/evaluate/{wildcards.method}/{name}" for name in names]

    # --- of the whole study ----------------------------------------------------------------------

    def trained_encoders(self, wildcards: Wildcards = None) -> list[str]:
        """Return the folders of all encoders that methods use."""
        names = map(self.targets.shown_encoder, self.targets.encoders)
        return [self.targets.model(name) for name in names]

    def report_stores(self, wildcards: Wildcards = None) -> list[str]:
        """Return the patch stores whose slides the report shows."""
        return [path for _, _, paths in self.shown_stores() for path in paths]

    def shown_stores(self) -> list[tuple[str, str, list[str]]]:
        """Return cohort, view and stores of what the report shows.

        Slides are shown as the first method with heat maps sees them; images have one view.
        """
        method = self.targets.heatmap_methods[0]
        view = self.settings.encoders[self.targets.encoder_of(method)].view
        names = dict.fromkeys(
            [
                *self.targets.scored_by_method[method],
                *(n for n in self.targets.scored_cohorts if self.study.is_images(n)),
            ]
        )
        return [
            (n, WHOLE if self.study.is_images(n) else view, self.targets.stores(n, view))
            for n in names
        ]
