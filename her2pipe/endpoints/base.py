"""The endpoint: what a study predicts of a slide, and all that depends on it.

Steps, statistics, figures and the page ask an `Endpoint`; nothing else asks what kind of study it
is. `lookup.endpoint_of` returns the one that a study's label settings and a cohort's role call for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np

from her2pipe.cohorts.sheet import Row
from her2pipe.errors import Her2Error
from her2pipe.quality.flags import flags_of as flags_of

NO_TARGET = -1  # number of a target that is not known


class Target(NamedTuple):
    """The label of a slide, or why it has none.

    Attributes
    ----------
    label : str or None
        One of the endpoint's `targets`.
    exclusion_reason : str
        Empty when there is a label; else the missing value in plain words.
    """

    label: str | None
    exclusion_reason: str = ""


class FigureCaption(NamedTuple):
    """What a figure of an evaluation shows.

    Attributes
    ----------
    stem : str
        Name of its file without ending.
    statistic : str
        Name of the statistic that its caption reports (`her2pipe.reporting.captions`).
    part : str
        Part of `metrics.json` that holds it, dotted: `units.slide`.
    title : str
    """

    stem: str
    statistic: str
    part: str
    title: str


class Characteristic(NamedTuple):
    """A group of rows in the table of cohorts: what slides are counted by.

    Attributes
    ----------
    title : str
    labels : tuple of str
        Values that are counted, in order.
    label_of : callable
        Gives the label of a sheet's row, or None where it is not known.
    """

    title: str
    labels: Sequence[str]
    label_of: Callable[[Row], str | None]


# Tables of `evaluation.encoders`, which have rows where encoders have an aggregation in common.
ENCODERS_COMPARED = ("encoders", "ranks", "friedman")


@dataclass(frozen=True)
class Prediction:
    """What class probabilities make of a slide; empty where an endpoint has no such part.

    Attributes
    ----------
    score : float
    level : str
        Likeliest of the five HER2 levels.
    call : str
        Predicted target.
    margin : float or None
        By how much the likeliest class leads the second, probability.
    flag : str
        `reflex` where the slide should have reflex FISH.
    """

    score: float
    level: str = ""
    call: str = ""
    margin: float | None = None
    flag: str = ""


class Labelled(Protocol):
    """What a row of a sheet and a slide of an evaluation both know."""

    @property
    def positive(self) -> bool | None:
        """HER2 status."""

    @property
    def pcr(self) -> bool | None:
        """Pathological complete response."""


class Endpoint(ABC):
    """What a study predicts of a slide.

    Attributes
    ----------
    name : str
        Its name in `metrics.json`.
    kind : str
        What an aggregation's outputs are, and so its loss: `classes`, a `number`, or the log hazard
        ratio of `survival`.
    outputs : int
        Number of an aggregation's outputs.
    patch_classes : tuple of str
        Classes of patches that encoders are trained to tell apart, in order.
    targets : tuple of str
        Labels of slides, in order.
    needed_targets : tuple of str
        Those of them that the training side must have.
    ordered : bool
        Whether neighbouring targets are nearer to each other than others are.
    patches_ordered : bool
        Whether the classes of patches are ordered, too.
    positive : tuple of str
        Classes, of slides or patches, that count as positive; empty where none does.
    positive_patch_class : str
        The class of patches whose detection training watches; empty where none is positive.
    columns : tuple of str
        Values of a sheet's row that a slide's target is read from.
    evaluated_columns : tuple of str
        Those, and the other values that an evaluation reads.
    missing : str
        What a slide without a label lacks, in words.
    main_part : str
        Part of `metrics.json` that holds the main number.
    main_measure, main_column : str
        Name of that number, and its column in tables.
    no_effect : float
        What the number is of scores that say nothing.
    fit_measure : (str, str)
        What held-out slides of a fit are judged by beside the loss: its column, and its name.
    target_label, score_label : str
        What slides are grouped by and scored with, as labels of axes.
    time_label : str
        The time to an event, as the label of an axis.
    summary : str
        What is evaluated, for the title of a figure.
    analyses : tuple of str
        Names of the analyses of `evaluation.metrics` that a cohort gets, in order.
    comparisons : tuple of str
        Names of the tables of `evaluation.method_table` that a study gets, in order.
    slide_columns : tuple of str
        Columns of an evaluation's `slides.tsv`.
    probability_columns : tuple of str
        Columns of slides' class probabilities in tables, in the order of `targets`.
    score_columns : tuple of str
        Columns that the table of scores has beside the common ones.
    needs_development : bool
        Whether cut-off and calibration come from the development cohort.
    training_needs : str
        What training asks of a development cohort, for a message.
    group_labels : tuple of str
        Names of the groups of evaluated slides, in order; `group_label` gives that of a slide.
    contrast : tuple of str
        The two groups that the main number tells from each other; empty where there are more.
    caption_lead, caption_classes, caption_methods : str
        What the study does, its classes (may be empty), and how its numbers are computed, for the
        page. `{percent}` stands for the level of the intervals.
    caption_interval : str
        The interval of the main number, in words.
    caption_map : str
        What the value of a patch on a heat map is.
    figure_captions : tuple of FigureCaption
        What the figures of `evaluate` show, in the order of the page.
    result_tables : tuple of str
        Names of the tables of `her2pipe.reporting.results` that an evaluation gets, in order.
    summarises_best : bool
        Whether the summary is of the method with the highest main number on internal validation
        slides, rather than of the study's first method.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["classes", "number", "survival"]] = "classes"
    patch_classes: tuple[str, ...]
    targets: tuple[str, ...]
    ordered: bool
    patches_ordered: bool
    positive: tuple[str, ...]
    positive_patch_class: str
    columns: tuple[str, ...]
    evaluated_columns: tuple[str, ...]
    missing: ClassVar[str]
    main_part: ClassVar[str]
    main_measure: ClassVar[str]
    main_column: ClassVar[str] = "auc"
    no_effect: ClassVar[float] = 0.5
    fit_measure: ClassVar[tuple[str, str]] = ("auc", "AUC")
    target_label: str
    score_label: str
    time_label: str = "time"
    summary: str
    analyses: tuple[str, ...]
    comparisons: tuple[str, ...]
    slide_columns: tuple[str, ...]
    probability_columns: tuple[str, ...] = ()
    score_columns: tuple[str, ...]
    needs_development: ClassVar[bool] = False
    training_needs: str
    group_labels: tuple[str, ...]
    contrast: tuple[str, ...] = ()
    caption_lead: ClassVar[str]
    caption_classes: str = ""
    caption_methods: ClassVar[str]
    caption_interval: ClassVar[str]
    caption_map: str
    figure_captions: tuple[FigureCaption, ...]
    result_tables: tuple[str, ...]
    summarises_best: ClassVar[bool] = False

    def metadata(self) -> dict[str, Any]:
        """Return what `metrics.json` tells of the endpoint beside its name."""
        return {}

    @property
    def outputs(self) -> int:
        """One for each target."""
        return len(self.targets)

    @property
    def needed_targets(self) -> tuple[str, ...]:
        """All of them."""
        return self.targets

    # --- labels ----------------------------------------------------------------------------------

    @abstractmethod
    def target(self, row: Row) -> Target:
        """Return the label of a sheet's row, or why it has none."""

    def exclusion_reason(self, row: Row) -> str:
        """Return why a slide has no label, in full; empty where it has one."""
        target = self.target(row)
        return "" if target.label is not None else f"{self.missing}: {target.exclusion_reason}"

    def outcome(self, slide: Labelled) -> bool | None:
        """Return whether a slide is positive; None where that is not known or not defined."""
        return None

    def response(self, row: Row) -> tuple[float, ...]:
        """Return the numbers that are fitted, where there are no classes: number; time, event."""
        return ()

    def outcomes(self, row: Row) -> dict[str, float | bool]:
        """Return what an evaluated slide knows of these, by the names of its columns."""
        return {}

    def stratum(self, row: Row) -> int:
        """Return the number of a slide's target, for splits; -1 where there is none."""
        label = self.target(row).label
        return NO_TARGET if label is None else self.targets.index(label)

    def strata(self, rows: Sequence[Row]) -> Callable[[Row], int]:
        """Return a function that numbers the stratum of a slide among those of a cohort."""
        return self.stratum

    def sheet_mistakes(self, rows: Sequence[Row], sheet: str) -> Iterator[Her2Error]:
        """Find labels of a sheet that mean nothing; by default the sheet's own checks find all."""
        yield from ()

    def validate_cohort(self, rows: Sequence[Row], sheet: str) -> None:
        """Refuse a development cohort whose labels cannot be trained on.

        Raises
        ------
        Her2Error
            Naming what is lacking.
        """
        self.validate_targets((self.target(row).label for row in rows), sheet)

    @abstractmethod
    def validate_targets(self, labels: Iterable[str | None], sheet: str) -> None:
        """Refuse a development cohort that has not all targets of a study.

        Raises
        ------
        Her2Error
            Naming the targets no slide has.
        """

    # --- patches ---------------------------------------------------------------------------------

    @abstractmethod
    def patch_targets(self, label: str, tumour: np.ndarray, tumour_min: float) -> np.ndarray:
        """Return the number of each patch's class.

        Parameters
        ----------
        label : str
            Target of the slide.
        tumour : (N,) float
            Fraction of each patch inside the annotation, NaN where there is none.
        tumour_min : float
            Fraction from which on a patch counts as inside.

        Returns
        -------
        (N,) int
            Index into `patch_classes`; -1 for a patch that is not used.
        """

    @abstractmethod
    def patches_exclusion_reason(self, tumour: np.ndarray, tumour_min: float) -> str:
        """Return why a slide's patches cannot train an encoder; empty where they can."""

    @abstractmethod
    def patch_contributions(
        self, p: np.ndarray, classes: Sequence[str] | None = None
    ) -> tuple[np.ndarray, str]:
        """Return what each patch adds to the score of its slide, for heat maps.

        Parameters
        ----------
        p : (N, C) float
            Class probabilities of the patches.
        classes : sequence of str, optional
            Names of the C columns; without it those of the endpoint.

        Returns
        -------
        (N,) float32
        str
            What that is, as the label of an axis.
        """

    @abstractmethod
    def validate_classes(self, classes: Sequence[str], path: str | Path) -> None:
        """Refuse an encoding whose classes of patches do not suit the endpoint.

        Raises
        ------
        Her2Error
            When they are others.
        """

    # --- slides ----------------------------------------------------------------------------------

    @abstractmethod
    def predict(
        self,
        p: np.ndarray,
        classes: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> Prediction:
        """Make a slide's score, call, level, margin and flag of its class probabilities.

        Parameters
        ----------
        p : (C,) float
            Probabilities of classes of patches, averaged, or of targets.
        classes : sequence of str, optional
            Names of the C entries; without it the endpoint's targets.
        threshold : float, optional
            Score from which on a slide is called positive.
        """

    def score_row(self, p: np.ndarray) -> dict[str, Any]:
        """Return what the table of scores tells of probabilities (C,) in its own columns."""
        return {}

    # --- the page --------------------------------------------------------------------------------

    @abstractmethod
    def group_label(self, slide: Mapping[str, str]) -> str:
        """Return the group of an evaluated slide, a row of `slides.tsv`; empty if not known."""

    def unknown_reason(self, slide: Mapping[str, str]) -> str:
        """Return why the group of a scored slide is not known."""
        reason = slide["exclusion_reason"].removeprefix(f"{self.missing}: ")
        return reason or f"{self.target_label} not known"

    @abstractmethod
    def slide_caption(self, slide: Mapping[str, str]) -> str:
        """Return the score or call of a scored slide, and its label, as a sentence."""

    @abstractmethod
    def characteristics(self) -> list[Characteristic]:
        """Return what slides are counted by in the table of cohorts."""
