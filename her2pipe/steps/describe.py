"""Step describe: how patches look by grade of p(HER2+), in 39 features of colour and nuclei."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from her2pipe.config import GRADES, DescribeSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

if TYPE_CHECKING:
    from her2pipe.patch_features.features import MeasuredPatch
    from her2pipe.patch_features.grades import GradedSlide
    from her2pipe.patch_features.summary import Summary
    from her2pipe.plotting.patch_examples import Example
    from her2pipe.stain.profile import Profile
    from her2pipe.store import PatchStore

SETTINGS = (DescribeSettings,)
SHEET_COLUMNS = ()
PATCH_COLUMNS = ("slide", "patch", "x", "y", "p", "grade")
INDEPENDENCE = "patches of one slide count as independent, as published: P is smaller for it"

log = logging.getLogger(__name__)
Patch = tuple[str, int]  # slide, and place of the patch in its store


@dataclass
class Sample:
    """The patches that were drawn and measured.

    Attributes
    ----------
    rows : list of dict
        Rows of features.tsv; areas of nuclei are in um^2 where every slide has a resolution.
    examples : dict
        Patches to show, in the order drawn, by grade.
    mpps : dict
        um per px of the patches, by slide; None where it is not known.
    sizes_px : set
        Sides of the patches.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    examples: dict[str, list[tuple[dict[str, Any], MeasuredPatch]]] = field(default_factory=dict)
    mpps: dict[str, float | None] = field(default_factory=dict)
    sizes_px: set[int] = field(default_factory=set)

    @property
    def area_unit(self) -> Literal["um^2", "px^2"]:
        """Unit of the nuclei's areas."""
        return "px^2" if None in self.mpps.values() else "um^2"

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the values of features, (N,) float each."""
        return {name: np.array([row[name] for row in self.rows], float) for name in names}

    def grades(self) -> np.ndarray:
        """Return the grade of each row, (N,) int."""
        return np.array([GRADES.index(row["grade"]) for row in self.rows], int)


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("encodings", nargs="+", help="encodings (.h5), or folders of them")
    parser.add_argument("folder", help="folder to write: features.tsv, ranked.tsv, figures")
    parser.add_argument(
        "--stores", nargs="+", required=True, help="patch stores of the slides, or folders of them"
    )
    parser.add_argument("--model", help="folder of the encoder: its stain target")
    parser.add_argument("--cohort", default="", help="name of the cohort")


def run(args, describe: DescribeSettings) -> None:
    """Describe a sample of graded patches, compare the grades, draw both."""
    from her2pipe.patch_features import features, grades
    from her2pipe.store import encodings

    target = _stain_target(args.model) if describe.normalise else None
    stores = {path.stem: path for path in encodings(args.stores)}
    slides, encoder = _graded_slides(encodings(args.encodings), describe)
    drawn = grades.sample(
        {name: slide.grades for name, slide in slides.items()},
        describe.patches,
        describe.describe_seed,
    )
    began = time.monotonic()
    sample = _measure(drawn, slides, stores, target, describe)
    patch_ms = 1000 * (time.monotonic() - began) / max(1, len(sample.rows))
    units = features.UNITS if sample.area_unit == "um^2" else features.UNITS_WITHOUT_MPP
    ranked = grades.rank_features(sample.columns(features.NAMES), sample.grades(), units, describe)
    summary = _summary(args.cohort, encoder, slides, sample, ranked, target, describe)
    with replacing_folder(args.folder) as folder:
        write_table(folder / "features.tsv", (*PATCH_COLUMNS, *features.NAMES), sample.rows)
        write_table(folder / "ranked.tsv", grades.COLUMNS, ranked)
        _draw_boxes(folder, sample, ranked, summary, describe)
        _draw_examples(folder, sample, summary, describe)
        (folder / "about.json").write_text(json.dumps(summary.as_dict(), indent=1) + "\n")
    log.info(
        f"{args.cohort}: {len(sample.rows)} patches, {patch_ms:.0f} ms each;"
        f" {summary.significant} of {len(ranked)} features differ"
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
    paths: Sequence[Path], describe: DescribeSettings
) -> tuple[dict[str, GradedSlide], str]:
    """Grade the patches of every slide that is not excluded; return also the encoder's name.

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
        encoder = str(encoding["attributes"].get("encoder", ""))
        if encoding["attributes"]["status"] == "excluded":
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
        slides[bag.slide] = grades.GradedSlide(bag.coords, p, grade)
    return slides, encoder


def _measure(
    drawn: Sequence[tuple[str, int, int]],
    slides: Mapping[str, GradedSlide],
    stores: Mapping[str, Path],
    target: Profile | None,
    describe: DescribeSettings,
) -> Sample:
    """Measure the patches that were drawn, slide by slide."""
    from her2pipe.patch_features import features
    from her2pipe.stain.profile import Profile

    shown: set[Patch] = set()
    for number in range(len(GRADES)):
        of_grade = [(slide, patch) for slide, patch, grade in drawn if grade == number]
        shown |= set(of_grade[: describe.examples])
    by_slide: dict[str, list[int]] = {}
    for slide, patch, _ in drawn:
        by_slide.setdefault(slide, []).append(patch)
    sample, examples = Sample(), {}
    for name in [name for name in slides if name in by_slide]:
        with _open_store(stores, name, slides[name].coords) as store:
            sample.sizes_px.add(int(store.attributes["patch_size"]))
            sample.mpps[name] = mpp = _patch_mpp(store.attributes)
            profile = Profile.from_dict(store.stain)
            for patch in sorted(by_slide[name]):
                measured = features.measure(store.pixels(patch), profile, target, mpp, describe)
                sample.rows.append(_row(name, patch, slides[name], measured.features))
                if (name, patch) in shown:
                    examples[name, patch] = sample.rows[-1], measured
    known = {name: mpp for name, mpp in sample.mpps.items() if mpp is not None}
    if len(known) == len(sample.mpps):
        for row in sample.rows:
            row |= features.areas_in_um(row, known[row["slide"]])
    for slide, patch, grade in drawn:  # in the order drawn
        if (slide, patch) in examples:
            sample.examples.setdefault(GRADES[grade], []).append(examples[slide, patch])
    return sample


def _patch_mpp(attributes: Mapping[str, Any]) -> float | None:
    """Return the um per px of a store's patches; None where the slide has no resolution."""
    mpp = float(attributes.get("mpp", 0))
    mpp *= attributes["patch_size_level0"] / attributes["patch_size"]
    return mpp if mpp > 0 else None


def _row(
    name: str, patch: int, slide: GradedSlide, features: Mapping[str, float]
) -> dict[str, Any]:
    """Return a row of features.tsv."""
    return {
        "slide": name,
        "patch": patch,
        "x": int(slide.coords[patch, 0]),
        "y": int(slide.coords[patch, 1]),
        "p": float(slide.p[patch]),
        "grade": GRADES[slide.grades[patch]],
        **features,
    }


def _open_store(stores: Mapping[str, Path], slide: str, coords: np.ndarray) -> PatchStore:
    """Open the store of a slide.

    Raises
    ------
    Her2Error
        When there is none, or it holds other patches than the encoding.
    """
    from her2pipe.store import PatchStore

    if slide not in stores:
        raise Her2Error(
            f"slide {slide} has an encoding, but no patch store is given",
            "option --stores",
            "give the stores the encodings were made of",
        )
    store = PatchStore(stores[slide])
    if not np.array_equal(store.coords, coords):
        store.close()
        raise Her2Error(
            f"the store of {slide} holds other patches than its encoding",
            str(stores[slide]),
            "give the stores the encodings were made of, or encode again",
        )
    return store


def _summary(
    cohort: str,
    encoder: str,
    slides: Mapping[str, GradedSlide],
    sample: Sample,
    ranked: Sequence[Mapping[str, Any]],
    target: Profile | None,
    describe: DescribeSettings,
) -> Summary:
    """Summarise what was described, and what is too little for a test."""
    from her2pipe.patch_features import summary

    counts = summary.count_grades(slides, sample.rows, describe.grades)
    known = sorted(mpp for mpp in sample.mpps.values() if mpp is not None)
    return summary.Summary(
        algorithm=describe.algorithm,
        encoder=encoder,
        cohort=cohort,
        slides=len(slides),
        ungraded=int(sum(np.sum(slide.grades < 0) for slide in slides.values())),
        grades=counts,
        described=len(sample.rows),
        features=len(ranked),
        significant=sum(bool(row.get("significant")) for row in ranked),
        patch_px=sorted(sample.sizes_px),
        patch_mpp=(known[0], known[-1]) if known else None,
        area_unit=sample.area_unit,
        colours="the encoder's stain target" if target else "as scanned",
        stain_digest=target.digest() if target else "",
        notes=[
            *summary.notes_on_tests(counts, ranked, describe),
            INDEPENDENCE,
            *summary.notes_on_resolution(sample.mpps, describe.nuclei_mpp),
        ],
        settings=describe.model_dump(mode="json"),
    )


def _draw_boxes(
    folder: Path,
    sample: Sample,
    ranked: Sequence[Mapping[str, Any]],
    summary: Summary,
    describe: DescribeSettings,
) -> None:
    """Draw the features that differ most between grades (Fig. S2)."""
    from her2pipe.patch_features import grades
    from her2pipe.plotting import patch_examples, style

    differing = [row for row in ranked if row.get("significant")][: describe.boxes]
    if not differing:
        return
    columns = sample.columns([row["feature"] for row in differing])
    panels = [
        patch_examples.Panel(
            f"{row['rank']}. {row['feature']}",
            style.format_p(float(row["P_holm"])),
            row["unit"],
            grades.by_grade(columns[row["feature"]], sample.grades()),
        )
        for row in differing
    ]
    counts = ", ".join(f"{grade} {count.described:,}" for grade, count in summary.grades.items())
    foot = (
        f"grade of p(HER2+); n of patches: {counts}. Kruskal-Wallis P, Holm-adjusted over"
        f" {summary.features} features; {len(differing)} of {summary.significant} that differ"
    )
    style.save(patch_examples.boxes(panels, GRADES, summary.title, foot), folder / "boxes")


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
            title = f"{row['slide']}, p = {row['p']:.3f}"
            bare[label].append(patch_examples.Example(patch.image, title, patch.mpp))
            image = nuclei.outline(patch.image, patch.nuclei)
            title = f"{row['cells_num']:.0f} nuclei"
            outlined[label].append(patch_examples.Example(image, title, patch.mpp))
    for name, examples in (("examples", bare), ("nuclei", outlined)):
        figure = patch_examples.examples(examples, describe.examples, summary.title)
        style.save(figure, folder / name, formats=("png",))
