"""Recovery of a known effect: studies whose truth is drawn, through the steps fit, score, evaluate.

Patients have a latent HER2 expression that overlaps between the five levels; patches show it with
noise of the slide and of the patch, so that the AUC that can be reached is known in closed form.
Slides are of two sites whose stain shifts the features. Sides come from `cohorts.split`, as a
study's do; slides are scored out of their fold or site.

    python bench/recovery.py [STUDIES [SCENARIO ...]] [--quick]

About a CPU minute a study.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from her2pipe import stats
from her2pipe.cli import main
from her2pipe.cohorts import sheet
from her2pipe.cohorts.split import assign_sides, split_names, status
from her2pipe.config import SplitSettings
from her2pipe.files import read_table, write_table
from her2pipe.store import EncodingMetadata, write_encoding

STUDIES, SLIDES, PATCHES, WIDTH = 3, 160, 16, 16
LEVELS = (  # IHC, FISH, share of patients, mean latent expression (SD 1)
    ("0", "", 0.25, 0.0),
    ("1+", "", 0.20, 0.5),
    ("2+", "negative", 0.20, 1.0),
    ("2+", "positive", 0.10, 1.6),
    ("3+", "", 0.25, 2.4),
)
POSITIVE = np.array([False, False, False, True, True])
SHARES = np.array([share for *_, share, _ in LEVELS])
MEANS = np.array([mean for *_, mean in LEVELS])
SLIDE_SD = 0.3  # of each feature between slides, whatever their level
STAIN = slice(8, 12)  # features that the stain shifts
STAIN_SHIFT = 1.5  # at site B, in SD of a patch
SITE_POSITIVE = {"A": 0.7, "B": 0.3}  # where status depends on the site
GAINS = {"strong": 0.5, "weak": 0.15, "blind": 0.0}  # of an encoder: SD of patches per latent unit
FOCAL_SHARE, FOCAL_GAIN = 0.08, 2.0  # share of patches that show a focal signal, and how
SCHEMES = {
    "folds": SplitSettings(scheme="folds", folds=3),
    "site": SplitSettings(scheme="site"),
}
FAST = {  # few epochs of large steps
    "linear_probe": (),
    "clam": (
        *("--folds", "2", "--max-epochs", "6", "--min-epochs", "1", "--learning-rate", "2e-3"),
        *("--device", "cpu"),
    ),
}


@dataclass(frozen=True)
class Truth:
    """What is drawn of each slide of a study.

    Attributes
    ----------
    level : (N,) int
        Place in `LEVELS`.
    latent : (N,) float
        Expression that patches show.
    site : list of str
    """

    level: np.ndarray
    latent: np.ndarray
    site: list[str]


@dataclass(frozen=True)
class Scenario:
    """How truth and tissue of a study belong together."""

    name: str
    methods: tuple[tuple[str, str], ...]  # encoder and aggregation, the better one first
    is_shown: bool = True  # patches show the latent expression of their slide
    is_shuffled: bool = False  # labels are permuted between patients
    by_site: bool = False  # status depends on the site
    is_focal: bool = False  # few patches show it
    slides: int = SLIDES


SCENARIOS = (
    Scenario("effect", tuple((encoder, "linear_probe") for encoder in GAINS)),
    Scenario("effect, more slides", (("strong", "linear_probe"),), slides=800),
    Scenario("focal effect", (("strong", "clam"), ("strong", "linear_probe")), is_focal=True),
    Scenario("shuffled labels", (("strong", "linear_probe"),), is_shuffled=True),
    Scenario("site alone", (("strong", "linear_probe"),), is_shown=False, by_site=True),
    Scenario("effect and site", (("strong", "linear_probe"),), by_site=True),
)


def true_auc(gain: float, patches: int = PATCHES) -> float:
    """Return the AUC of the best score of diffuse effects: a mixture of normal distributions.

    A slide's mean along the signal is `gain` times its latent expression plus noise of variance
    `SLIDE_SD`^2 + 1 / patches, and two normals differ in order with a normal probability.
    """
    variance = gain**2 + SLIDE_SD**2 + 1 / patches
    total = weight = 0.0
    for i in np.flatnonzero(POSITIVE):
        for j in np.flatnonzero(~POSITIVE):
            distance = gain * (MEANS[i] - MEANS[j]) / math.sqrt(2 * variance)
            pair = SHARES[i] * SHARES[j]
            total += pair * 0.5 * (1 + math.erf(distance / math.sqrt(2)))
            weight += pair
    return total / weight


def site_auc() -> float:
    """Return the AUC of the site alone, ties counted half."""
    a, b = SITE_POSITIVE["A"], SITE_POSITIVE["B"]
    positive, negative = np.array([a, b]) / (a + b), np.array([1 - a, 1 - b]) / (2 - a - b)
    return float(positive[0] * negative[1] + (positive * negative).sum() / 2)


def draw(scenario: Scenario, random: np.random.Generator, slides: int) -> Truth:
    """Draw level, expression and site of each slide."""
    site = np.array(["A", "B"])[np.arange(slides) % 2]
    weights = np.tile(SHARES, (slides, 1))
    if scenario.by_site:
        share = np.array([SITE_POSITIVE[each] for each in site])[:, None]
        weights = np.where(
            POSITIVE,
            share * SHARES / SHARES[POSITIVE].sum(),
            (1 - share) * SHARES / SHARES[~POSITIVE].sum(),
        )
    level = (random.random(slides)[:, None] > weights.cumsum(1)).sum(1).clip(max=len(LEVELS) - 1)
    latent = MEANS[level] + random.normal(size=slides)
    if scenario.is_shuffled:
        level = random.permutation(level)
    return Truth(level, latent if scenario.is_shown else np.zeros(slides), site.tolist())


def write_study(
    encodings: Path, scenario: Scenario, truth: Truth, encoder: str, seed: int, patches: int
) -> np.ndarray:
    """Write the encodings of a study by one encoder; return each slide's mean along the signal."""
    random = np.random.default_rng([seed, *encoder.encode()])
    encodings.mkdir()
    coords = np.stack([np.arange(patches) % 8, np.arange(patches) // 8], 1) * 64
    along = np.empty(len(truth.latent))
    for number, latent in enumerate(truth.latent):
        features = random.normal(size=(patches, WIDTH)) + SLIDE_SD * random.normal(size=WIDTH)
        if scenario.is_focal:
            shows = random.random(patches) < FOCAL_SHARE
            shows[random.integers(patches)] = True
            features[shows, 0] += FOCAL_GAIN * latent
        else:
            features[:, 0] += GAINS[encoder] * latent
        along[number] = features[:, 0].mean()
        features[:, STAIN] += STAIN_SHIFT * (truth.site[number] == "B")
        metadata = EncodingMetadata(
            slide=f"S{number}",
            encoder=encoder,
            task="none",
            model_digest="0123456789abcdef",
            patch_size_level0=64,
            width_px0=640,
            height_px0=640,
        )
        none = np.zeros((patches, 0), np.float32)
        write_encoding(encodings / f"S{number}.h5", coords, none, features, metadata)
    return along


def write_sheet(path: Path, truth: Truth, sides: Mapping[str, str] | None = None) -> Path:
    """Write the sheet of a study, its sides those of a split."""
    rows = []
    for number, (level, site) in enumerate(zip(truth.level, truth.site, strict=True)):
        ihc, fish, *_ = LEVELS[level]
        slide = f"S{number}"
        row = {"slide": slide, "path": f"{slide}.svs", "patient": f"P{number}", "site": site}
        row |= {"ihc": ihc, "fish": fish, "split": sides[slide] if sides else ""}
        rows.append(row)
    write_table(path, list(rows[0]), rows)
    return path


def run(*words: object) -> None:
    """Run a step as a user does, quietly.

    Raises
    ------
    RuntimeError
        When it ends in an error.
    """
    with contextlib.redirect_stderr(io.StringIO()) as error:
        code = main([str(word) for word in words])
    if code:
        raise RuntimeError(error.getvalue())


@dataclass
class OutOfFold:
    """Scores of a study, each by a model that has not seen its slide.

    Attributes
    ----------
    score, split : (N,)
        Of each slide: its score, and the number of the split that it is tested in.
    positive : (N,) bool
    along : (N,) float
        Mean of each slide's features along the signal: the best score of a diffuse effect.
    rows : list of dict
        Rows of the tables of scores.
    """

    score: np.ndarray
    split: np.ndarray
    positive: np.ndarray
    along: np.ndarray
    rows: list[dict[str, str]] = field(default_factory=list)

    def auc(self) -> stats.AUC:
        """Return the AUC of all slides, with its interval."""
        return stats.auc(self.positive, self.score)

    def best(self) -> float:
        """Return the AUC that knowledge of the signal gives on these slides."""
        return stats.auc(self.positive, self.along).value

    def within(self) -> float:
        """Return the mean AUC of the splits."""
        tested = [self.split == number for number in np.unique(self.split)]
        return float(np.mean([stats.auc(self.positive[t], self.score[t]).value for t in tested]))


def out_of_fold(
    folder: Path,
    encodings: Path,
    truth: Truth,
    along: np.ndarray,
    aggregation: str,
    split: SplitSettings,
) -> OutOfFold:
    """Fit each split of a scheme, and score the slides that it tests."""
    slides = len(truth.level)
    positive = POSITIVE[truth.level]
    result = OutOfFold(np.empty(slides), np.empty(slides, int), positive, along)
    rows = sheet.load(write_sheet(folder / "sheet.tsv", truth), check_files=False)
    by_slide: dict[str, dict[str, str]] = {}
    for number, name in enumerate(split_names(rows, split)):
        sides = assign_sides(rows, split, status, name)
        divided = write_sheet(folder / f"{name}.tsv", truth, sides)
        model, scores = folder / f"{aggregation}-{name}", folder / "scores.tsv"
        words = ("--aggregate", aggregation)
        run("fit", encodings, model, "--sheet", divided, *words, *FAST[aggregation])
        tested = [encodings / f"{slide}.h5" for slide, side in sides.items() if side == "test"]
        run("score", *tested, scores, "--sheet", divided, "--model", model, *words)
        for row in read_table(scores):
            place = int(row["slide"].removeprefix("S"))
            result.score[place], result.split[place] = float(row["score"]), number
            by_slide[row["slide"]] = row
    result.rows = [by_slide[row.slide] for row in rows]
    return result


def evaluated(folder: Path, result: OutOfFold) -> float:
    """Return the AUC that the step evaluate gives of out-of-fold scores."""
    scores = folder / "out_of_fold.tsv"
    write_table(scores, list(result.rows[0]), result.rows)
    words = ("--sheet", folder / "sheet.tsv", "--role", "external", "--method", "m")
    run("evaluate", scores, folder / "evaluate", *words)
    metrics = json.loads((folder / "evaluate" / "metrics.json").read_text())
    return float(metrics["auc"]["value"])


def expected(scenario: Scenario, encoder: str, scheme: str) -> float:
    """Return the AUC that a perfect method has; NaN where it has no closed form."""
    if scenario.is_shuffled:
        return 0.5
    if not scenario.is_shown:
        return site_auc() if scheme == "folds" else 0.5
    if scenario.is_focal or (scenario.by_site and scheme == "folds"):
        return math.nan
    return true_auc(GAINS[encoder])


def study(
    scenario: Scenario,
    seed: int,
    schemes: Sequence[str] = tuple(SCHEMES),
    slides: int = 0,
    patches: int = PATCHES,
    is_evaluated: bool = False,
) -> Iterator[tuple[str, str, str, OutOfFold]]:
    """Yield encoder, aggregation, scheme and out-of-fold scores of each method.

    There are as many slides as the scenario has, unless `slides` says otherwise. With
    `is_evaluated` the step evaluate, which draws figures, must say the same AUC.
    """
    random = np.random.default_rng([seed, *scenario.name.encode()])
    truth = draw(scenario, random, slides or scenario.slides)
    with tempfile.TemporaryDirectory() as name:
        along: dict[str, np.ndarray] = {}
        for encoder, aggregation in scenario.methods:
            encodings = Path(name) / encoder
            if encoder not in along:
                along[encoder] = write_study(encodings, scenario, truth, encoder, seed, patches)
            for scheme in schemes:
                folder = Path(name) / f"{encoder}-{aggregation}-{scheme}"
                folder.mkdir()
                split = SCHEMES[scheme]
                result = out_of_fold(folder, encodings, truth, along[encoder], aggregation, split)
                if is_evaluated:
                    by_step = evaluated(folder, result)
                    if abs(by_step - result.auc().value) > 1e-9:
                        raise AssertionError(f"evaluate says {by_step}, not {result.auc().value}")
                yield encoder, aggregation, scheme, result


def table(scenarios: Sequence[Scenario], studies: int) -> None:
    """Print a row for each scenario, scheme and method."""
    columns = ("scenario", "scheme", "encoder", "aggregation", "best, in theory", "best, here")
    columns += ("AUC", "SD", "within a split", "truth in interval", "below the better ones")
    print(f"| {' | '.join(columns)} |\n|{'---|' * 4}{'---:|' * (len(columns) - 4)}")
    for scenario in scenarios:
        results: dict[tuple[str, str, str], list[OutOfFold]] = {}
        for seed in range(studies):
            for *method, result in study(scenario, seed, is_evaluated=seed == 0):
                encoder, aggregation, scheme = method
                results.setdefault((scheme, encoder, aggregation), []).append(result)
        for scheme in SCHEMES:
            better: list[np.ndarray] = []
            for (of_scheme, encoder, aggregation), of_method in results.items():
                if of_scheme != scheme:
                    continue
                truth = expected(scenario, encoder, scheme)
                intervals = [result.auc() for result in of_method]
                aucs = np.array([auc.value for auc in intervals])
                best = np.mean([result.best() for result in of_method])
                holding = np.mean([(auc.low or 0) <= truth <= (auc.high or 1) for auc in intervals])
                is_known = scenario.is_shuffled or not scenario.is_shown or encoder == "blind"
                cells = (
                    truth,
                    math.nan if scenario.is_focal or not scenario.is_shown else best,
                    aucs.mean(),
                    aucs.std(ddof=1) if studies > 1 else math.nan,
                    np.mean([result.within() for result in of_method]),
                    holding if is_known else math.nan,
                    np.mean(np.all([aucs < each for each in better], 0)) if better else math.nan,
                )
                better.append(aucs)
                numbers = " | ".join("" if np.isnan(cell) else f"{cell:.2f}" for cell in cells)
                words = " | ".join((scenario.name, scheme, encoder, aggregation))
                print(f"| {words} | {numbers} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="?", type=int, default=STUDIES)
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help="only these")
    parser.add_argument("--quick", action="store_true", help="small: figures mean nothing")
    options = parser.parse_args()
    chosen = [each for each in SCENARIOS if each.name in options.names or not options.names]
    if options.quick:
        chosen = [replace(each, slides=48) for each in chosen[2:3]]
    table(chosen, 1 if options.quick else options.studies)
