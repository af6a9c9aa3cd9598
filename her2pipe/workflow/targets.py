"""What a study makes: which method scores which cohort, in which batches, and what is drawn."""

from __future__ import annotations

from functools import cache, cached_property

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.aggregation.held_out import held_out_by
from her2pipe.cohorts.sheet import Row
from her2pipe.cohorts.split import batch_count, batch_of, split_names
from her2pipe.config import WHOLE, roles
from her2pipe.config.slides import STORED_PX_MIN
from her2pipe.config.training import TRAINED_ON_SLIDES
from her2pipe.registry import PRESETS, STAIN_METHODS
from her2pipe.workflow.derived_names import of_split
from her2pipe.workflow.study import Study

# What `unpack` makes of a bundle, below results: a folder, or a file, by method.
ENCODER, AGGREGATION, BUNDLE = "unpack/encoder", "unpack/aggregation", "unpack/bundle"


class Targets:
    """The outputs of a study.

    Parameters
    ----------
    study : Study

    Attributes
    ----------
    scored_cohorts : list of str
        Cohorts that methods may score: all but those for pre-training.
    scored_by_method : dict
        Cohorts that each method scores.
    scores : list of (method, cohort)
    image_cohorts : list of str
        Cohorts of images, which are packed into stores by batches.
    encoders : list of str
        Encoders that methods use.
    """

    def __init__(self, study: Study):
        self.study = study
        settings = study.settings
        self.scored_cohorts = [n for n, c in settings.cohorts.items() if c.role != "pretraining"]
        self.scored_by_method = {name: roles.scored(settings, name) for name in settings.methods}
        self.scores = [(m, name) for m, names in self.scored_by_method.items() for name in names]
        self.image_cohorts = [name for name in settings.cohorts if study.is_images(name)]
        self.encoders = sorted({method.encoder for method in settings.methods.values()})
        self.slides_of_batch = cache(self._slides_of_batch)
        self._splits_of = cache(self._splits_of_cohort)

    def encoder_of(self, method: str) -> str:
        """Return the encoder of a method."""
        return self.study.settings.methods[method].encoder

    def model(self, encoder: str) -> str:
        """Return the folder of an encoder: as trained, or as it came with a bundle."""
        is_bundled = encoder in self.study.bundles
        return f"results/{ENCODER if is_bundled else 'train'}/{encoder}"

    def held_out_by(self, method: str) -> str:
        """Return which slides judge the fit of a method; empty where nothing is fitted."""
        settings = self.study.settings.methods[method]
        aggregation = AGGREGATIONS[settings.aggregate]
        if not aggregation.is_fitted(self.study.endpoint):
            return ""
        task = self.study.settings.encoders[settings.encoder].task
        return held_out_by(aggregation, task, settings.fit.cross_fit)

    # --- splits ----------------------------------------------------------------------------------

    def _splits_of_cohort(self, cohort: str) -> list[str]:
        return split_names(list(self.study.rows[cohort].values()), self.study.settings.split)

    def splits(self, method: str) -> list[str]:
        """Return the splits that a method is trained and fitted for: of a holdout none.

        Nor of a bundle, or of a method that nothing is trained, fitted or looked at for.
        """
        settings = self.study.settings
        encoder = settings.methods[method].encoder
        if method in self.study.bundles or not settings.split.is_resampled:
            return []
        if not self.is_split(encoder) and not self.held_out_by(method):
            return []
        return self._splits_of(self.study.development(encoder))

    def is_split(self, encoder: str) -> bool:
        """Whether there is an encoder of each split: it depends on the slides it is trained on.

        By its weights, or by the colours that patches are brought to; others are shared.
        """
        settings = self.study.settings
        if not settings.split.is_resampled or encoder in self.study.bundles:
            return False
        is_coloured = not STAIN_METHODS[settings.stain.stain_method].keeps_colours
        encoder_settings = settings.encoders[encoder]
        by_colours = encoder_settings.stain_target == "median" and is_coloured
        return encoder_settings.task in TRAINED_ON_SLIDES or by_colours

    def encoder_of_split(self, encoder: str, split: str) -> str:
        """Return the name of the encoder that a split uses: its own, or the one that all share."""
        return of_split(encoder, split if self.is_split(encoder) else "")

    def shown_encoder(self, encoder: str) -> str:
        """Return the encoder whose training and speed are reported: of splits the first one's."""
        if not self.is_split(encoder):
            return encoder
        return of_split(encoder, self._splits_of(self.study.development(encoder))[0])

    def encoded_cohorts(self, encoder: str) -> set[str]:
        """Return the cohorts that methods of an encoder score."""
        return {name for m, name in self.scores if self.encoder_of(m) == encoder}

    @property
    def compares_encoders(self) -> bool:
        """Whether two encoders or more have an aggregation in common."""
        encoders: dict[str, set[str]] = {}
        for method in self.study.settings.methods.values():
            encoders.setdefault(method.aggregate, set()).add(method.encoder)
        return any(len(names) > 1 for names in encoders.values())

    # --- batches and stores ----------------------------------------------------------------------

    @cached_property
    def batch_counts(self) -> dict[str, int]:
        """Number of batches of each cohort."""
        settings = self.study.settings
        return {
            name: batch_count(
                len(rows),
                settings.images.pack_images
                if self.study.is_images(name)
                else settings.encode.batch_slides,
            )
            for name, rows in self.study.rows.items()
        }

    def _slides_of_batch(self, cohort: str, count: int) -> dict[int, list[str]]:
        slides: dict[int, list[str]] = {}
        for slide in self.study.rows[cohort]:
            slides.setdefault(batch_of(slide, count), []).append(slide)
        return slides

    def batches(self, cohort: str) -> list[str]:
        """Return the names, NUMBERofCOUNT, of the batches of a cohort that hold a slide."""
        count = self.batch_counts[cohort]
        return [f"{number}of{count}" for number in sorted(self.slides_of_batch(cohort, count))]

    def batch_rows(self, cohort: str, batch: str) -> list[Row]:
        """Return the rows of one batch of a cohort."""
        number, count = map(int, batch.split("of"))
        slides = self.slides_of_batch(cohort, count).get(number, [])
        return [self.study.rows[cohort][slide] for slide in slides]

    def stores(self, cohort: str, view: str = WHOLE) -> list[str]:
        """Return the patch stores of a cohort: one per slide, or its packs of images."""
        if self.study.is_images(cohort):
            return [f"results/tile/{WHOLE}/{cohort}/{batch}.h5" for batch in self.batches(cohort)]
        return [f"results/tile/{view}/{cohort}/{slide}.h5" for slide in self.study.rows[cohort]]

    def quality_view(self, cohort: str) -> str:
        """Return the view in which a cohort's slides are looked over: its first method's."""
        method = next(m for m, name in self.scores if name == cohort)
        return self.study.settings.encoders[self.encoder_of(method)].view

    @property
    def quality_tables(self) -> list[str]:
        """Tables of the quality of slides, of each cohort of slides that is scored."""
        scored = dict.fromkeys(name for _, name in self.scores)
        return [f"results/quality/{n}.tsv" for n in scored if not self.study.is_images(n)]

    def patch_px(self, view: str) -> int:
        """Return the side at which patches of a view are stored, px.

        As the study gives it for the view, or for all. Where it gives neither, a view that only
        encoders with a published preset read is stored at the largest size they want. A view of
        fewer level-0 px is stored as it is. What squares of other views measure is known from the
        slide alone, and `tile` stores them in the same way.
        """
        px = self._wanted_patch_px(view)
        return max(STORED_PX_MIN, min(int(view), px)) if view.isdecimal() else px

    def _wanted_patch_px(self, view: str) -> int:
        """Return the side at which patches of a view are stored, where none is smaller."""
        tile = self.study.settings.tile
        if view in tile.view_px or "patch_px" in tile.model_fields_set or view == WHOLE:
            return tile.view_px.get(view, tile.patch_px)
        sizes = [self._wanted_px(name) for name in self.encoders if view in self.views_of(name)]
        return max(sizes) if sizes and all(sizes) else tile.patch_px

    def _wanted_px(self, encoder: str) -> int:
        """Return the side of stored patches that an encoder's preset is meant for; 0: none."""
        settings = self.study.settings.encoders[encoder]
        if not settings.preset or not PRESETS[settings.preset].is_foundation:
            return 0
        return max(settings.resize_px or settings.input_px, PRESETS[settings.preset].patch_px)

    def views_of(self, encoder: str) -> list[str]:
        """Return the views of slides that an encoder reads: for scores, and for training."""
        settings = self.study.settings.encoders[encoder]
        by_patches = settings.task in TRAINED_ON_SLIDES and encoder not in self.study.bundles
        return [settings.view, *(settings.train_views if by_patches else [])]

    def encodings(self, encoder: str, cohort: str) -> list[str]:
        """Return the folders of encodings that make up a cohort."""
        return [f"results/encode/{encoder}/{cohort}/{batch}" for batch in self.batches(cohort)]

    # --- what is made beside the scores ----------------------------------------------------------

    @property
    def pretrainings(self) -> list[str]:
        """Pre-trainings that the methods' encoders start from."""
        encoders = self.study.settings.encoders
        used = {encoders[name].pretrain for name in self.encoders}
        return [name for name in self.study.pretraining_images if name in used]

    @property
    def heatmap_methods(self) -> list[str]:
        """Methods whose heat maps are drawn; the first one's slides are shown in the report."""
        return self.study.settings.heatmap.methods or list(self.study.settings.methods)[:1]

    @cached_property
    def heatmaps(self) -> list[tuple[str, str, str]]:
        """Method, cohort and batch of each folder of heat maps; images have none."""
        return [
            (method, name, batch)
            for method, name in self.scores
            if method in self.heatmap_methods and not self.study.is_images(name)
            for batch in self.batches(name)
        ]

    @cached_property
    def described(self) -> list[tuple[str, str]]:
        """Encoder and cohort of each description of patches."""
        settings = self.study.settings
        trained = [m.encoder for m in settings.methods.values() if not m.bundle]
        status = [name for name in trained if self.grades_patches(name)]
        return [
            (encoder, name)
            for encoder in settings.describe.encoders or status[:1]
            for name in settings.describe.cohorts or self.scored_cohorts
            if not self.study.is_images(name) and name in self.encoded_cohorts(encoder)
        ]

    def grades_patches(self, encoder: str) -> bool:
        """Whether an encoder gives probabilities of HER2 status, by which patches are graded."""
        classifies = self.study.settings.encoders[encoder].task == "classify"
        return classifies and bool(self.study.endpoint.positive_patch_class)

    @property
    def matched_cohorts(self) -> list[str]:
        """Cohorts whose cases two methods are compared on."""
        return sorted({name for pair in self.study.settings.compare.matched for _, name in pair})

    @cached_property
    def explained(self) -> list[tuple[str, str, str]]:
        """Encoder, cohort and batch of each folder of Grad-CAM pictures."""
        return [
            (encoder, name, batch)
            for encoder in self.study.settings.explain.encoders
            for name in self.scored_cohorts
            if name in self.encoded_cohorts(encoder) and not self.study.is_images(name)
            for batch in self.batches(name)
        ]

    # --- what `snakemake` makes ------------------------------------------------------------------

    @property
    def slide_cohorts(self) -> list[str]:
        """Cohorts of slides, whose headers are looked over."""
        return [name for name in self.study.settings.cohorts if not self.study.is_images(name)]

    @property
    def preflight(self) -> list[str]:
        """The survey of slides, where there are any."""
        return ["results/preflight"] if self.slide_cohorts else []

    @property
    def score_tables(self) -> list[str]:
        """Scores of every method and cohort; of splits pooled."""
        return [f"results/score/{method}/{name}.tsv" for method, name in self.scores]

    @property
    def evaluations(self) -> list[str]:
        """Statistics of every method and cohort."""
        return [f"results/evaluate/{method}/{name}" for method, name in self.scores]

    @property
    def optional(self) -> list[str]:
        """What is made only where the study asks for it."""
        return [
            *(f"results/describe/{encoder}/{name}" for encoder, name in self.described),
            *(f"results/deploy/{encoder}" for encoder in self.study.settings.deploy.encoders),
            *(f"results/explain/{'/'.join(folder)}" for folder in self.explained),
            *(f"results/bundle/{method}" for method in self.study.settings.bundle.methods),
        ]
