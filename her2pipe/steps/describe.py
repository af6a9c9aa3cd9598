"""Step describe: how patches look by grade of p(HER2+), in 39 features of colour and nuclei."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe.config import GRADES, DescribeSettings, RejectSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

if TYPE_CHECKING:
    from her2pipe.patch_features.grades import GradedSlide
    from her2pipe.patch_features.sample import Sample
    from her2pipe.patch_features.summary import Summary
    from her2pipe.plotting.patch_examples import Example
    from her2pipe.stain.profile import Profile

SETTINGS = (DescribeSettings, RejectSettings)
SHEET_COLUMNS = ()

log = logging.getLogger(__name__)


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("encodings", nargs="+", help="encodings (.h5), or folders of them")
    parser.add_argument("folder", help="folder to write: features.tsv, ranked.tsv, figures")
    parser.add_argument(
        "--stores", nargs="+", required=True, help="patch stores of the slides, or folders of them"
    )
    parser.add_argument("--model", help="folder of the encoder: its stain target")
    parser.add_argument("--cohort", default="", help="name of the cohort")


def run(args, describe: DescribeSettings, rejection: RejectSettings) -> None:
    """Describe a sample of graded patches, compare the grades, draw both."""
    from her2pipe.patch_features import features, grades
    from her2pipe.patch_features.sample import COLUMNS, measure_sample
    from her2pipe.patch_features.summary import summarise
    from her2pipe.store import encodings

    target = _stain_target(args.model) if describe.normalise else None
    stores = {path.stem: path for path in encodings(args.stores)}
    slides, encoder = _graded_slides(encodings(args.encodings), describe, rejection.reject)
    drawn = grades.sample(
        {name: slide.grades for name, slide in slides.items()},
        describe.patches,
        describe.describe_seed,
    )
    began = time.monotonic()
    sample = measure_sample(drawn, slides, stores, target, describe)
    patch_ms = 1000 * (time.monotonic() - began) / max(1, len(sample.rows))
    units = features.UNITS if sample.area_unit == "um^2" else features.UNITS_WITHOUT_MPP
    columns, grade = sample.columns(features.NAMES), sample.grades()
    mean_columns, mean_grade = grades.slide_means(columns, grade, sample.slides())
    ranked = grades.rank_features(columns, grade, units, describe)
    ranked_means = grades.rank_features(mean_columns, mean_grade, units, describe)
    grades.add_slide_means(ranked, ranked_means)
    summary = summarise(args.cohort, encoder, slides, sample, ranked, target, describe)
    with replacing_folder(args.folder) as folder:
        write_table(folder / "features.tsv", (*COLUMNS, *features.NAMES), sample.rows)
        write_table(folder / "ranked.tsv", (*grades.COLUMNS, *grades.OF_SLIDE_MEANS), ranked)
        write_table(folder / "slide_means.tsv", grades.COLUMNS, ranked_means)
        _draw_boxes(folder, sample, ranked, summary, describe)
        tested = {"patches": (columns, grade), "slide means": (mean_columns, mean_grade)}
        _draw_maps(folder, tested, summary, describe)
        _draw_examples(folder, sample, summary, describe)
        (folder / "about.json").write_text(json.dumps(summary.as_dict(), indent=1) + "\n")
    log.info(
        f"{args.cohort}: {len(sample.rows)} patches, {patch_ms:.0f} ms each;"
        f" {summary.selected} of {len(ranked)} features selected"
    )


def _stain_target(model: str | None) -> Profile:
    """Return the stain target of an encoder."""
    from her2pipe.models.description import ModelDescription
    from her2pipe.stain.profile import Profile

    if not model:
        raise Her2Error(
            "patches are described in the encoder's stain target, and no encoder is given",
            "option --model",
            "give the encoder's folder, or --normalise false",
        )
    return Profile.from_dict(ModelDescription.read(model).stain)


def _graded_slides(
    paths: Sequence[Path], describe: DescribeSettings, reject: Sequence[str]
) -> tuple[dict[str, GradedSlide], str]:
    """Grade the patches of every slide that is not excluded; return also the encoder's name.

    Patches with one of the artefacts in `reject` get no grade.

    Raises
    ------
    Her2Error
        When an encoding holds no p(HER2+), or one that is not a number.
    """
    from her2pipe.aggregation.base import Bag
    from her2pipe.patch_features import grades
    from her2pipe.store import read_encoding

    slides, encoder = {}, ""
    for path in paths:
        encoding = read_encoding(path, features=False)
        encoder = encoding.metadata.encoder
        if encoding.metadata.status == "excluded":
            continue
        bag = Bag.of(encoding)
        if "HER2+" not in bag.classes:
            raise Her2Error(
                f"the encoder of {bag.slide} gives no p(HER2+), by which patches are graded",
                str(path),
                "describe an encoder that has the class HER2+",
            )
        bag.validate(path)
        p = bag.probability("HER2+")
        grade = grades.grade(p.astype(np.float32), describe.grades)
        grade[encoding.rejected(reject)] = -1
        slides[bag.slide] = grades.GradedSlide(bag.coords, p, grade)
    return slides, encoder


def _draw_boxes(
    folder: Path,
    sample: Sample,
    ranked: Sequence[Mapping[str, Any]],
    summary: Summary,
    describe: DescribeSettings,
) -> None:
    """Draw the selected features, those that differ most between grades first (Fig. S2)."""
    from her2pipe.patch_features import grades
    from her2pipe.patch_features.titles import TITLES
    from her2pipe.plotting import patch_examples, style

    selected = [row for row in ranked if row.get("selected")][: describe.boxes]
    if not selected:
        return
    columns = sample.columns([row["feature"] for row in selected])
    panels = [
        patch_examples.Panel(
            f"{row['rank']}. {TITLES[row['feature']]}",
            f"pairs: {row['pairs']}, {row['pairs_holm']} after Holm",
            row["unit"],
            grades.by_grade(columns[row["feature"]], sample.grades()),
        )
        for row in selected
    ]
    counts = ", ".join(f"{grade} {count.described:,}" for grade, count in summary.grades.items())
    foot = (
        f"grade of p(HER2+); n of patches: {counts}. Pairs of grades with Dunn's P <"
        f" {describe.alpha:g}; {len(selected)} of {summary.selected} selected features of"
        f" {summary.features}"
    )
    how = summary.title, foot, describe.patches_min
    style.save(patch_examples.boxes(panels, GRADES, *how), folder / "boxes")


def _draw_maps(
    folder: Path,
    tested: Mapping[str, tuple[Mapping[str, np.ndarray], np.ndarray]],
    summary: Summary,
    describe: DescribeSettings,
) -> None:
    """Draw Dunn's test of three features between grades (Fig. S2 D to F), where it is defined.

    `tested` maps what is tested to its features, (N,) each, and to its grades, (N,).
    """
    from her2pipe import stats
    from her2pipe.patch_features import grades
    from her2pipe.patch_features.titles import TITLES
    from her2pipe.plotting import panels, style

    matrices = {}
    for name in grades.MAPPED:
        for items, (columns, grade) in tested.items():
            try:
                test = grades.dunn(grades.by_grade(columns[name], grade, describe.patches_min))
            except stats.StatisticUndefined:
                continue  # the tables say why
            matrices[f"{TITLES[name]}, {items}"] = panels.PValues(*test.matrix())
    if matrices:
        note = f"{summary.title}. Below the diagonal unadjusted, above it after Holm"
        figure = panels.p_value_panels(matrices, note, "P, Dunn's test, two-sided")
        style.save(figure, folder / "dunn_maps")


def _draw_examples(
    folder: Path, sample: Sample, summary: Summary, describe: DescribeSettings
) -> None:
    """Draw examples of each grade (Fig. S3), bare and with their nuclei outlined."""
    from her2pipe.patch_features import nuclei
    from her2pipe.plotting import patch_examples, style

    if not sample.rows:
        return
    bare: dict[str, list[Example]] = {}
    outlined: dict[str, list[Example]] = {}
    for grade, count in summary.grades.items():
        label = f"grade {grade}\n{count.bounds(grade)}\nn = {count.patches:,}"
        bare[label], outlined[label] = [], []
        for row, patch in sample.examples.get(grade, []):
            title = f"p = {row['p']:.3f}"  # no name: the page may have to do without
            bare[label].append(patch_examples.Example(patch.image, title, patch.mpp))
            image = nuclei.outline(patch.image, patch.nuclei)
            title = f"{row['cells_num']:.0f} nuclei"
            outlined[label].append(patch_examples.Example(image, title, patch.mpp))
    for name, examples in (("examples", bare), ("nuclei", outlined)):
        figure = patch_examples.examples(examples, describe.examples, summary.title)
        style.save(figure, folder / name, formats=("png",))
