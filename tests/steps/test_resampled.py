"""Resampled development: each slide scored out of fold, no leak, and statistics that know of it."""

import json
import shutil

import numpy as np
import pytest
from stores import make_encoding

from her2pipe import stats
from her2pipe.aggregation.pooling import SplitTable, pool
from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.split import assign_sides, splits_testing
from her2pipe.config import SplitSettings
from her2pipe.endpoints.her2_status import Her2Status
from her2pipe.errors import Her2Error
from her2pipe.files import read_table, write_table

FOLDS = SplitSettings(scheme="folds", folds=3)
SPLITS = ("1of3", "2of3", "3of3")
SCHEME = ("--scheme", "folds")


def in_sample(folder, seen, **more):
    """Write slides whose patches show the label of those seen, and are noise in the others."""
    random = np.random.default_rng(2)
    folder.mkdir()
    for i in range(32):
        shown = (2.0 if i % 2 else -2.0) if i in seen else 0.0
        chance = np.clip(0.5 + 0.2 * shown + 0.05 * random.normal(size=6), 0.01, 0.99)
        p = np.stack([1 - chance, chance, np.zeros(6)], 1)
        make_encoding(folder / f"S{i:03d}.h5", p, **more)


@pytest.fixture(scope="module")
def development(tmp_path_factory):
    """Encodings of 32 slides by an encoder of each split, which knows its training slides' labels.

    Of the slides that it has not seen the labels mean nothing to it.
    """
    folder = tmp_path_factory.mktemp("resampled")
    lines = ["slide\tpath\tpatient\ther2"]
    lines += [f"S{i:03d}\tx{i}\tP{i:03d}\t{('negative', 'positive')[i % 2]}" for i in range(32)]
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    rows = cohort.load(folder / "sheet.tsv", check_files=False)
    for split in SPLITS:
        sides = assign_sides(rows, FOLDS, split=split)
        seen = [i for i in range(32) if sides[f"S{i:03d}"] == "train"]
        more = {"task": "classify", "split": split, "model_digest": split}
        in_sample(folder / f"encoded-{split}", seen, **more)
        manifest = [{"slide": row.slide, "side": sides[row.slide]} for row in rows]
        write_table(folder / f"encoder-{split}" / "slides.tsv", ("slide", "side"), manifest)
    return folder


def fit(her2pipe, folder, out, encoded, split):
    return her2pipe(
        *("fit", folder / f"encoded-{encoded}", out, "--sheet", folder / "sheet.tsv"),
        *("--aggregate", "mean", "--split", split, *SCHEME),
    )


def score(her2pipe, folder, split, out, trained=None):
    trained = trained or folder / f"encoder-{split}"
    return her2pipe(
        *("score", folder / f"encoded-{split}", out, "--aggregate", "mean"),
        *("--model", folder / f"fit-{split}", "--sheet", folder / "sheet.tsv"),
        *("--split", split, "--trained", trained, "--trained", folder / f"fit-{split}"),
    )


@pytest.fixture(scope="module")
def scored(development, module_her2pipe):
    """The same, fitted and scored by each split, and pooled: out of fold, and as an ensemble."""
    her2pipe, tables = module_her2pipe, []
    for split in SPLITS:
        code, stderr = fit(her2pipe, development, development / f"fit-{split}", split, split)
        assert code == 0, stderr
        tables.append(development / f"scores-{split}.tsv")
        code, stderr = score(her2pipe, development, split, tables[-1])
        assert code == 0, stderr
    for how in ("out-of-fold", "ensemble"):
        words = ("score", *tables, development / f"{how}.tsv", "--aggregate", "mean")
        code, stderr = her2pipe(*words, "--pool", how)
        assert code == 0, stderr
    return development


@pytest.fixture(scope="module")
def module_her2pipe():
    import contextlib
    import io

    from her2pipe import cli

    def run(*words):
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr):
            code = cli.main(list(map(str, words)))
        return code, stderr.getvalue()

    return run


@pytest.mark.slow
def test_each_slide_is_scored_once_by_the_split_that_tests_it(scored):
    rows = cohort.load(scored / "sheet.tsv", check_files=False)
    tested = splits_testing(rows, FOLDS)
    pooled = read_table(scored / "out-of-fold.tsv")
    assert {row["slide"]: [row["split"]] for row in pooled} == tested
    of_splits = {s: SplitTable.read(str(scored / f"scores-{s}.tsv")).rows for s in SPLITS}
    for row in pooled:
        one = of_splits[row["split"]][row["slide"]]
        assert (row["score"], row["call"], one["side"]) == (one["score"], one["call"], "test")
    for row in read_table(scored / "ensemble.tsv"):
        each = [float(of_splits[s][row["slide"]]["score"]) for s in SPLITS]
        assert float(row["score"]) == pytest.approx(np.mean(each), abs=1e-6)
        assert row["split"] == "; ".join(SPLITS)


@pytest.mark.slow
def test_labels_without_meaning_are_not_found_out_of_fold(scored, tmp_path, her2pipe):
    """Though each encoder knows the labels of the slides it was trained on by heart."""
    tables = [scored / f"scores-{split}.tsv" for split in SPLITS]
    words = ("evaluate", scored / "out-of-fold.tsv", tmp_path / "out", "--role", "development")
    words += ("--sheet", scored / "sheet.tsv", "--development-sheet", scored / "sheet.tsv")
    words += ("--development", scored / "out-of-fold.tsv", "--aggregate", "mean", *SCHEME)
    words += ("--chosen-by-validation", "threshold", "--resamples", "100")
    words += tuple(word for path in tables for word in ("--development-split", path))
    code, stderr = her2pipe(*words)
    assert code == 0, stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["evaluated"] == metrics["auc"]["n"] == 32
    assert metrics["auc"]["low"] < 0.5 < metrics["auc"]["high"]
    assert metrics["chosen_on_these"] == ""
    part = metrics["resampling"]
    # 32 patients tested, each split trained on all but its own: the variance by patient times this.
    sizes = [each["training_patients"] for each in part["splits"]]
    assert part["variance_factor"] == pytest.approx(1 + 32 / np.mean(sizes))
    rows = read_table(tmp_path / "out" / "slides.tsv")
    truth = [int(row["slide"][1:]) % 2 for row in rows]
    plain = stats.auc(truth, [float(row["score"]) for row in rows])
    variance = part["variance_factor"] * plain.variance
    assert metrics["auc"]["variance"] == pytest.approx(variance)
    assert metrics["auc"]["high"] == pytest.approx(
        min(1, plain.value + 1.96 * variance**0.5), abs=1e-4
    )
    assert "for training sets that overlap" in metrics["auc"]["interval"]
    assert (part["scheme"], part["kind"], part["defined"]) == ("folds", "out of fold", 3)
    of_splits = {}
    for row in read_table(scored / "out-of-fold.tsv"):
        of_splits.setdefault(row["split"], []).append(row)
    values = [
        stats.auc([int(r["slide"][1:]) % 2 for r in rows], [float(r["score"]) for r in rows]).value
        for _, rows in sorted(of_splits.items())
    ]
    assert [each["value"] for each in part["splits"]] == pytest.approx(values)
    assert part["mean"] == pytest.approx(np.mean(values))
    assert part["sd"] == pytest.approx(np.std(values, ddof=1))
    sizes = [(each["patients"], each["training_patients"]) for each in part["splits"]]
    assert [sum(pair) for pair in sizes] == [32] * 3
    recalibrated = metrics["calibration"]["recalibrated"]
    assert recalibrated["fitted_on"] == 3 * 4  # validation slides of each split
    assert "slope" not in recalibrated
    first = read_table(tmp_path / "out" / "slides.tsv")[0]
    assert first["split"] in SPLITS
    # In sample the labels are found, so the encoders do know them.
    seen = [row for row in read_table(tables[0]) if row["side"] == "train"]
    known = stats.auc([int(r["slide"][1:]) % 2 for r in seen], [float(r["score"]) for r in seen])
    assert known.value > 0.95


@pytest.mark.slow
def test_what_was_trained_on_is_refused(scored, tmp_path, her2pipe):
    """Leaks that are planted: a tested slide in training, an encoder and a fit of other splits."""
    leaky = shutil.copytree(scored / "encoder-1of3", tmp_path / "leaky")
    rows = read_table(leaky / "slides.tsv")
    tested = next(row for row in rows if row["side"] == "test")
    tested["side"] = "train"
    write_table(leaky / "slides.tsv", ("slide", "side"), rows)
    code, stderr = score(her2pipe, scored, "1of3", tmp_path / "x.tsv", leaky)
    assert code == 1
    assert f"slide {tested['slide']} is of the train side to one model of split 1of3" in stderr
    assert not (tmp_path / "x.tsv").exists()
    code, stderr = fit(her2pipe, scored, tmp_path / "fit", "1of3", "2of3")
    assert code == 1
    assert "the encoder is of split 1of3, the fit of split 2of3" in stderr
    words = ("score", scored / "encoded-1of3", tmp_path / "x.tsv", "--aggregate", "mean")
    words += ("--model", scored / "fit-1of3", "--split", "2of3")
    code, stderr = her2pipe(*words)
    assert code == 1
    assert "the fit is of split 1of3, not 2of3" in stderr


def table(split, sides, scores, **cells):
    rows = {}
    for i, (side, value) in enumerate(zip(sides, scores, strict=True)):
        row = {"slide": f"S{i}", "patient": f"P{i}", "score": str(value), "level": "", "call": ""}
        row |= {"patches": "9", "flag": "", "reason": "", "split": split, "side": side}
        rows[f"S{i}"] = row | {"threshold": "0.5"} | cells
    return SplitTable(split, f"{split}.tsv", rows)


def pooled(*tables, out_of_fold=True):
    return pool(tables, Her2Status(), out_of_fold)[1]


def test_folds_that_test_a_slide_twice_or_never_are_refused():
    sides = ["test", "train"], ["train", "test"]
    assert [row["split"] for row in pooled(*map(table, ("1of2", "2of2"), sides, [(1, 2)] * 2))] == [
        "1of2",
        "2of2",
    ]
    for other, message in ((["test", "test"], "both test it"), (["train"] * 2, "no split tests")):
        with pytest.raises(Her2Error, match=message):
            pooled(table("1of2", sides[0], (1, 2)), table("2of2", other, (3, 4)))
    with pytest.raises(Her2Error, match="no split tests"):  # a repeat that lacks
        pooled(table("1of2r1", ["test"], (1,)), table("1of2r2", ["train"], (1,)))


def test_repeats_give_the_mean_and_an_untested_slide_of_holdouts_its_reason():
    first = table("1of1r1", ["test", "train", "test"], (0.2, 0.9, 0.4), call="HER2-")
    second = table("1of1r2", ["test", "validation", "train"], (0.9, 0.9, 0.9), call="HER2+")
    rows = pooled(first, second)
    assert float(rows[0]["score"]) == pytest.approx(0.55)
    assert rows[0]["call"] == "HER2+"  # not below the mean threshold
    assert (rows[0]["score_1of1r1"], rows[0]["score_1of1r2"]) == ("0.2", "0.9")
    assert (rows[1]["flag"], rows[1]["reason"]) == ("excluded", "no repeat of the holdout tests it")
    assert (rows[2]["score"], rows[2]["split"]) == ("0.4", "1of1r1")


def test_an_ensemble_has_mean_score_and_median_level():
    tables = [
        table(f"{i + 1}of3", [""], (score,), level=level, flag=flag)
        for i, (score, level, flag) in enumerate(
            [(0.1, "1+", ""), (0.2, "3+", "area"), (0.6, "2+/FISH+", "")]
        )
    ]
    (row,) = pooled(*tables, out_of_fold=False)
    assert float(row["score"]) == pytest.approx(0.3)
    assert (row["level"], row["flag"], row["split"]) == ("2+/FISH+", "area", "1of3; 2of3; 3of3")
