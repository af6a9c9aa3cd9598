"""Fitting: on which slides alone, what is written, and resuming after a kill."""

import json
import re
import shutil

import numpy as np
import pytest
from training_sets import kill_after_a_checkpoint

from her2pipe import stats
from her2pipe.aggregation.base import AGGREGATIONS, Bag, FittedModel, load
from her2pipe.aggregation.fitting import area
from her2pipe.cohorts import sheet as cohort
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.files import read_table
from her2pipe.store import EncodingMetadata, write_encoding

QUICK = ("--folds", "2", "--max-epochs", "3", "--device", "cpu")
NETWORKS = ("clam", "slidegraph", "mlp")


def write_slide(path, features, coords=None, digest="d", status="ok", reason="", p=None, **more):
    n = len(features)
    if coords is None:
        coords = np.stack([np.arange(n) % 6, np.arange(n) // 6], 1) * 512
    metadata = EncodingMetadata(
        slide=path.stem,
        classes=("HER2-", "HER2+", "Non-tumour") if p else (),
        status=status,
        reason=reason,
        encoder="e",
        model_digest=digest,
        patch_size_level0=512,
        width_px0=31_623,
        height_px0=31_623,
        **more,
    )
    write_encoding(path, coords, p or np.zeros((n, 0)), features, metadata)


def planted(folder, train, validation, seed=1, patches=24, levels=False):
    """Write slides of noise, some patches of the positive ones shifted, and their sheet."""
    random = np.random.default_rng(seed)
    (folder / "e").mkdir(parents=True)
    lines = ["slide\tpath\tpatient\tsplit\ther2\tihc"]
    for i in range(train + validation):
        positive = i % 2 == 1
        features = random.normal(size=(patches, 16))
        if positive:
            features[random.choice(patches, 4, replace=False), :3] += 4
        write_slide(folder / "e" / f"S{i:03d}.h5", features)
        side = "train" if i < train else "validation"
        status = "positive" if positive else "negative"
        ihc = ("3+" if positive else ("0", "1+")[i // 2 % 2]) if levels and i != 0 else ""
        lines.append(f"S{i:03d}\tx{i}\tP{i:03d}\t{side}\t{status}\t{ihc}")
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def small_files(tmp_path_factory):
    return planted(tmp_path_factory.mktemp("small") / "small", 16, 6)


@pytest.fixture
def small(small_files, tmp_path):
    """A cohort with a signal that a test may change."""
    return shutil.copytree(small_files, tmp_path / "small")


def fit(her2pipe, folder, out, name, *more, sheet="sheet.tsv"):
    words = ["fit", folder / "e", out, "--sheet", folder / sheet, "--aggregate", name]
    return her2pipe(*words, *QUICK, *more)


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def held_out_auc(her2pipe, folder, out, name, sheet):
    code, stderr = her2pipe(
        "score", folder / "e", folder / "s.tsv", "--aggregate", name, "--model", out
    )
    assert code == 0, stderr
    scores = {row["slide"]: float(row["score"]) for row in read_table(folder / "s.tsv")}
    rows = [r for r in cohort.load(folder / sheet, check_files=False) if r.split != "train"]
    return area(np.array([r.positive for r in rows]), np.array([scores[r.slide] for r in rows]))


@pytest.fixture(scope="module")
def cohort_with_signal(tmp_path_factory):
    """Folder of a cohort with a signal, `sheet.tsv`; labels of `chance.tsv` are drawn by chance."""
    folder = planted(tmp_path_factory.mktemp("planted") / "cohort", 40, 120, seed=4)
    random = np.random.default_rng(4)
    lines = []
    for line in (folder / "sheet.tsv").read_text().splitlines():
        drawn = ("negative", "positive")[random.integers(2)]
        lines.append(re.sub("positive|negative", drawn, line))
    (folder / "chance.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("clam", ("--max-epochs", "6")),
        ("slidegraph", ("--max-epochs", "12", "--learning-rate", "3e-3", "--best-epochs", "3")),
    ],
)
def test_a_planted_signal_is_found_and_none_where_there_is_none(
    tmp_path, her2pipe, cohort_with_signal, name, more
):
    folder, areas = cohort_with_signal, {}
    for sheet in ("sheet.tsv", "chance.tsv"):
        code, stderr = fit(her2pipe, folder, tmp_path / sheet, name, *more, sheet=sheet)
        assert code == 0, stderr
        areas[sheet] = held_out_auc(her2pipe, folder, tmp_path / sheet, name, sheet)
    assert areas["sheet.tsv"] >= 0.9
    assert abs(areas["chance.tsv"] - 0.5) <= 0.15


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_other_slides_influence_nothing(tmp_path, her2pipe, small, name):
    """Labels and encodings of the validation side are turned and broken: not a byte changes."""
    epochs = ("--max-epochs", "2")
    assert fit(her2pipe, small, tmp_path / "one", name, *epochs)[0] == 0
    text = (small / "sheet.tsv").read_text().splitlines()
    turn = {"positive": "negative", "negative": "positive"}
    for i, line in enumerate(text):
        cells = line.split("\t")
        if cells[3] == "validation":
            text[i] = "\t".join([*cells[:4], turn[cells[4]], *cells[5:]])
            (small / "e" / f"{cells[0]}.h5").write_bytes(b"no encoding at all")
    (small / "sheet.tsv").write_text("\n".join(text) + "\n")
    assert fit(her2pipe, small, tmp_path / "two", name, *epochs)[0] == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    # And the training side does: one label turned is another model.
    text[1] = text[1].replace("negative", "positive")
    (small / "sheet.tsv").write_text("\n".join(text) + "\n")
    assert fit(her2pipe, small, tmp_path / "three", name, *epochs)[0] == 0
    name = "model.safetensors"
    assert contents(tmp_path / "one")[name] != contents(tmp_path / "three")[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clam", "slidegraph"])
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path, her2pipe, small, name):
    more = ("--max-epochs", "6", "--min-epochs", "6", "--save-s", "0")
    assert fit(her2pipe, small, tmp_path / "whole", name, *more)[0] == 0
    out, checkpoint = tmp_path / "killed", tmp_path / ".killed.resume"
    words = ["fit", small / "e", out, "--sheet", small / "sheet.tsv", "--aggregate", name, *QUICK]
    kill_after_a_checkpoint([*words, *more], "fold1.pt")
    assert not out.exists()
    code, stderr = fit(her2pipe, small, out, name, *more)
    assert code == 0
    assert "resuming after epoch" in stderr
    assert contents(out) == contents(tmp_path / "whole")
    assert not checkpoint.exists()


@pytest.mark.gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gpu_learns_the_same_every_time(tmp_path, her2pipe, request, name):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    small = request.getfixturevalue("small")
    for run in ("one", "two"):
        assert fit(her2pipe, small, tmp_path / run, name, "--device", "cuda")[0] == 0
    one, two = (load(name, tmp_path / run) for run in ("one", "two"))
    for a, b in zip(one.members, two.members, strict=True):
        assert all(np.allclose(a[k], b[k], atol=1e-4) for k in a)


def test_everything_is_written(tmp_path, her2pipe, small):
    write_slide(small / "e" / "S002.h5", np.zeros((0, 16)), status="excluded", reason="no tissue")
    sheet = (small / "sheet.tsv").read_text()
    sheet = sheet.replace("S003\tx3\tP003\ttrain\tpositive", "S003\tx3\tP003\ttrain\t")
    (small / "sheet.tsv").write_text(sheet)
    code, stderr = fit(her2pipe, small, tmp_path / "m", "mlp", "--best-epochs", "2")
    assert code == 0, stderr
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        "model.safetensors",
        "model.json",
        "history.tsv",
        "history.png",
        "history.svg",
        "slides.tsv",
    }
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    assert about["classes"] == ["HER2-", "HER2+"]
    assert about["parameters"] == 16 * 256 + 256 + 2 * 256 + 2
    assert about["encoder_digest"] == "d"
    assert about["members"] == 4  # two epochs of two folds
    slides = {row["slide"]: row for row in read_table(tmp_path / "m" / "slides.tsv")}
    assert list(slides) == [f"S{i:03d}" for i in range(22)]
    assert slides["S002"]["exclusion_reason"] == "excluded: no tissue"
    assert slides["S003"]["exclusion_reason"] == "no binary status: no HER2 status"
    assert slides["S016"]["exclusion_reason"] == "kept for validation"
    used = [row for row in slides.values() if not row["exclusion_reason"]]
    assert {row["fold"] for row in used} == {"1", "2"}
    history = read_table(tmp_path / "m" / "history.tsv")
    assert [(r["fold"], r["epoch"]) for r in history] == [
        (f, e) for f in "12" for e in ("1", "2", "3")
    ]
    # The threshold is the best of the scores of slides by the fold that did not see them.
    wanted = stats.youden([r["class"] == "HER2+" for r in used], [float(r["score"]) for r in used])
    assert about["threshold"] == pytest.approx(wanted, abs=1e-6)


def test_held_out_slides_are_scored_by_the_fold_that_did_not_see_them(tmp_path, her2pipe, small):
    """Of one epoch, so that all folds choose the same."""
    assert fit(her2pipe, small, tmp_path / "m", "mlp", "--max-epochs", "1")[0] == 0
    fitted = load("mlp", tmp_path / "m")
    from her2pipe.store import read_encoding

    for row in read_table(tmp_path / "m" / "slides.tsv")[:16]:
        model = FittedModel(fitted.metadata, [fitted.members[int(row["fold"]) - 1]])
        bag = Bag.of(read_encoding(small / "e" / f"{row['slide']}.h5"))
        found = AGGREGATIONS["mlp"](endpoint_of(), model=model).score(bag)
        assert float(row["score"]) == pytest.approx(found.score, abs=1e-5)


def test_one_fold_trains_one_model(tmp_path, her2pipe, small):
    assert fit(her2pipe, small, tmp_path / "m", "mlp", "--folds", "1")[0] == 0
    slides = read_table(tmp_path / "m" / "slides.tsv")[:16]
    held = [row for row in slides if row["fold"] == "1"]
    assert len(held) == 4
    assert all(bool(row["score"]) == (row in held) for row in slides)


def test_five_levels(tmp_path, her2pipe):
    folder = planted(tmp_path / "levels", 16, 4, levels=True)
    code, stderr = fit(
        her2pipe, folder, tmp_path / "m", "clam", "--targets", "levels", "--branch", "multi"
    )
    assert code == 0, stderr
    fitted = load("clam", tmp_path / "m")
    assert fitted.metadata.classes == ["0", "1+", "2+/FISH-", "2+/FISH+", "3+"]
    assert fitted.members[0]["attend.weight"].shape == (5, 256)
    slides = {row["slide"]: row for row in read_table(tmp_path / "m" / "slides.tsv")}
    assert slides["S000"]["exclusion_reason"] == "no five-level label"
    assert slides["S001"]["class"] == "3+"
    code, stderr = her2pipe(
        "score", folder / "e", tmp_path / "s.tsv", "--aggregate", "clam", "--model", tmp_path / "m"
    )
    assert code == 0, stderr
    assert {row["level"] for row in read_table(tmp_path / "s.tsv")} <= set(fitted.metadata.classes)


def test_levels_in_order(tmp_path, her2pipe):
    """Cut-offs between five levels, fitted and scored by hand: levels in slides' calls."""
    folder = planted(tmp_path / "levels", 16, 4, levels=True)
    small = ("--targets", "levels", "--hidden", "16", "--ordinal-loss", "coral")
    code, stderr = fit(her2pipe, folder, tmp_path / "m", "ordinal_abmil", *small)
    assert code == 0, stderr
    fitted = load("ordinal_abmil", tmp_path / "m")
    assert fitted.members[0]["out.gaps"].shape == (3,)  # and one offset of the first cut-off
    words = ("score", folder / "e", tmp_path / "s.tsv", "--aggregate", "ordinal_abmil")
    code, stderr = her2pipe(*words, "--model", tmp_path / "m")
    assert code == 0, stderr
    rows = read_table(tmp_path / "s.tsv")
    assert {row["level"] for row in rows} <= set(fitted.metadata.classes)
    assert all(0 <= float(row["score"]) <= 1 for row in rows)


def test_mean_has_a_threshold_fitted(tmp_path, her2pipe):
    """Means of 0.1, 0.3, 0.4 (negative) and 0.35, 0.6 (positive): 0.6 and 0.35 tie at 1/2, 2/3."""
    (tmp_path / "e").mkdir()
    lines = ["slide\tpath\tpatient\tsplit\ther2"]
    given = [(0.1, 0), (0.3, 0), (0.4, 0), (0.35, 1), (0.6, 1), (0.9, 0)]
    for i, (p, positive) in enumerate(given):
        rows = [[1 - p, p, 0]] * 3
        write_slide(tmp_path / "e" / f"S{i}.h5", np.zeros((3, 4)), p=rows)
        side = "train" if i < 5 else "validation"
        lines.append(f"S{i}\tx{i}\tP{i}\t{side}\t{['negative', 'positive'][positive]}")
    (tmp_path / "sheet.tsv").write_text("\n".join(lines) + "\n")
    code, stderr = her2pipe(
        "fit",
        tmp_path / "e",
        tmp_path / "m",
        "--sheet",
        tmp_path / "sheet.tsv",
        "--aggregate",
        "mean",
    )
    assert code == 0, stderr
    about = json.loads((tmp_path / "m" / "model.json").read_text())
    assert about["threshold"] == pytest.approx(0.35)  # 1 + 2/3 - 1, above 1/2 + 1 - 1
    her2pipe(
        "score",
        tmp_path / "e",
        tmp_path / "s.tsv",
        "--aggregate",
        "mean",
        "--model",
        tmp_path / "m",
    )
    calls = [row["call"] for row in read_table(tmp_path / "s.tsv")]
    assert calls == ["HER2-", "HER2-", "HER2+", "HER2+", "HER2+", "HER2+"]
    her2pipe("score", tmp_path / "e", tmp_path / "s.tsv", "--aggregate", "mean")
    assert {row["call"] for row in read_table(tmp_path / "s.tsv")} == {""}


def test_rejected_patches_shift_no_threshold(tmp_path, her2pipe):
    """Means of 0.2 and 0.3 (negative), 0.4 and 0.6 (positive); ink on a patch of each says else."""
    (tmp_path / "e").mkdir()
    lines = ["slide\tpath\tpatient\tsplit\ther2"]
    for i, p in enumerate((0.2, 0.3, 0.4, 0.6, 0.5)):
        reasons = np.array([0, 0, 2, 0] if i < 4 else [2] * 4, np.uint8)
        metadata = EncodingMetadata(
            slide=f"S{i}",
            classes=("HER2-", "HER2+", "Non-tumour"),
            encoder="e",
            model_digest="d",
            patch_size_level0=512,
            width_px0=2048,
            height_px0=512,
            reason_names=("blur", "pen"),
        )
        rows = np.array([[1 - q, q, 0] for q in (p, p, 1 - p, p)])
        coords = np.stack([np.arange(4) * 512, np.zeros(4, int)], 1)
        path = tmp_path / "e" / f"S{i}.h5"
        write_encoding(path, coords, rows, np.zeros((4, 4)), metadata, reasons=reasons)
        lines.append(f"S{i}\tx{i}\tP{i}\ttrain\t{'positive' if i > 1 else 'negative'}")
    (tmp_path / "sheet.tsv").write_text("\n".join(lines) + "\n")
    words = ("--sheet", tmp_path / "sheet.tsv", "--aggregate", "mean")
    found = {}
    for name, reject in (
        ("none", ()),
        ("pen", ("--reject", "pen")),
        ("blur", ("--reject", "blur")),
    ):
        code, stderr = her2pipe("fit", tmp_path / "e", tmp_path / name, *words, *reject)
        assert code == 0, stderr
        about = json.loads((tmp_path / name / "model.json").read_text())
        slides = {row["slide"]: row for row in read_table(tmp_path / name / "slides.tsv")}
        found[name] = about["threshold"], slides["S4"]["exclusion_reason"]
    assert found["pen"] == (pytest.approx(0.4), "excluded: 4 of 4 patches rejected (pen 4)")
    # With the ink, means are 0.35, 0.4, 0.45, 0.55, and 0.5: above 0.4 all are positive.
    assert found["none"] == found["blur"] == (pytest.approx(0.45), "")


def in_sample(folder, seen, **more):
    """Slides whose patches show the label of those seen, and are noise in those not seen."""
    random = np.random.default_rng(2)
    folder.mkdir()
    for i in range(32):
        shown = (2.0 if i % 2 else -2.0) if i in seen else 0.0
        features = random.normal(size=(6, 8))
        features[:, :3] += shown
        chance = np.clip(0.5 + 0.2 * shown + 0.05 * random.normal(size=6), 0.01, 0.99)
        p = np.stack([1 - chance, chance, np.zeros(6)], 1).tolist()
        write_slide(folder / f"S{i:03d}.h5", features, p=p, **more)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Encodings of 20 training and 12 validation slides by an encoder and by those of two folds."""
    from her2pipe.cohorts.split import encoder_folds
    from her2pipe.config import SplitSettings

    lines = ["slide\tpath\tpatient\tsplit\ther2"]
    lines += [
        f"S{i:03d}\tx{i}\tP{i:03d}\t{'train' if i < 20 else 'validation'}\t"
        + ("positive" if i % 2 else "negative")
        for i in range(32)
    ]
    folder = tmp_path_factory.mktemp("seen")
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    fold = encoder_folds(cohort.load(folder / "sheet.tsv", check_files=False), SplitSettings(), 2)
    in_sample(folder / "e", range(20), task="classify")
    for number in (1, 2):
        trained_on = [i for i in range(20) if fold[f"S{i:03d}"] != number]
        more = {"task": "classify", "fold": f"{number}of2", "digest": f"d{number}"}
        in_sample(folder / f"fold{number}", trained_on, **more)
    return folder


@pytest.mark.parametrize("name", ["mlp", "mean", "linear_probe"])
@pytest.mark.parametrize("cross_fit", ["internal", "encoder"])
def test_an_encoder_that_has_seen_the_slides_does_not_judge_by_them(
    tmp_path, her2pipe, seen, name, cross_fit
):
    """What shows in the training slides is not in those that were held out: nothing is found."""
    words = ["fit", seen / "e", tmp_path / "m", "--sheet", seen / "sheet.tsv", "--aggregate", name]
    words += ["--cross-fit", cross_fit, "--folds", "2"]
    if cross_fit == "encoder":
        words += ["--fold-encodings", seen / "fold1", seen / "fold2"]
    words += ["--max-epochs", "3", "--device", "cpu"] * (name == "mlp")
    code, stderr = her2pipe(*words)
    assert code == 0, stderr
    source = {
        "internal": "internal validation",
        "encoder": "inner folds with encoders of their own",
    }
    model = json.loads((tmp_path / "m" / "model.json").read_text())
    assert model["held_out_by"] == source[cross_fit]
    rows = read_table(tmp_path / "m" / "slides.tsv")
    scored = [row for row in rows if row["score"]]
    side = "train" if cross_fit == "encoder" else "validation"
    assert [row["slide"] for row in scored] == [r["slide"] for r in rows if r["side"] == side]
    assert {row["held_out_by"] for row in scored} == {source[cross_fit]}
    result = stats.auc([r["class"] == "HER2+" for r in scored], [float(r["score"]) for r in scored])
    assert result.low < 0.5 < result.high
    if cross_fit == "encoder":
        assert {row["fold"] for row in scored} == {"1", "2"}
        assert model.get("members", 0) == (0 if name == "mean" else 1)
    code, stderr = her2pipe(*words[:2], tmp_path / "x", *words[3:7], "--cross-fit", "encoder")
    assert code == 1
    assert "there are no encodings of fold 1of5" in stderr


@pytest.mark.parametrize("name", ["mlp", "mean", "linear_probe"])
def test_a_sheet_without_validation_slides_is_fitted_in_sample_and_says_so(
    tmp_path, her2pipe, caplog, seen, name
):
    lines = (seen / "sheet.tsv").read_text().splitlines()
    (seen / "train.tsv").write_text("\n".join(lines[:21]) + "\n")
    words = ["fit", seen / "e", tmp_path / "m", "--sheet", seen / "train.tsv", "--aggregate", name]
    words += ["--folds", "2"] + ["--max-epochs", "2", "--device", "cpu"] * (name == "mlp")
    code, stderr = her2pipe(*words)
    assert code == 0, stderr
    assert "held-out scores, the epochs and the threshold are in-sample" in stderr + caplog.text
    source = "training slides that the encoder has seen"
    assert json.loads((tmp_path / "m" / "model.json").read_text())["held_out_by"] == source
    rows = read_table(tmp_path / "m" / "slides.tsv")
    assert [row["held_out_by"] for row in rows if row["score"]] == [source] * 20


def refused(her2pipe, folder, out, name, *more):
    code, stderr = fit(her2pipe, folder, out, name, *more)
    assert code == 1
    assert [line[:8] for line in stderr.splitlines()] == ["her2pipe", "  where:", "  fix:  "], (
        stderr
    )
    assert not out.exists()
    return stderr


def test_too_small_a_training_set_is_reported(tmp_path, her2pipe, small):
    out, sheet = tmp_path / "m", small / "sheet.tsv"
    message = refused(her2pipe, small, out, "mlp", "--folds", "9")
    assert "8 training patients are HER2-; 9 are needed for 9 folds" in message
    text = sheet.read_text()
    sheet.write_text(text.replace("positive", "negative"))
    assert "0 training patients are HER2+" in refused(her2pipe, small, out, "clam")


def test_what_does_not_belong_together_is_reported(tmp_path, her2pipe, small):
    out = tmp_path / "m"
    write_slide(small / "e" / "S004.h5", np.zeros((5, 16)), digest="another")
    assert "S000 and S004 were encoded by different models" in refused(her2pipe, small, out, "mlp")
    write_slide(small / "e" / "S004.h5", np.full((5, 16), np.nan))
    assert "80 features that are not numbers" in refused(her2pipe, small, out, "mlp")
    write_slide(small / "e" / "S004.h5", np.zeros((5, 0)))
    assert "S004 holds no features" in refused(her2pipe, small, out, "mlp")
    (small / "e" / "S004.h5").unlink()
    assert "S004 of the sheet has no encoding" in refused(her2pipe, small, out, "mlp")


def test_scoring_with_another_encoder_is_reported(tmp_path, her2pipe, small):
    assert fit(her2pipe, small, tmp_path / "m", "mlp")[0] == 0
    write_slide(small / "e" / "S020.h5", np.zeros((5, 16)), digest="another")
    words = tmp_path / "s.tsv", "--aggregate", "mlp", "--model", tmp_path / "m"
    code, stderr = her2pipe("score", small / "e" / "S020.h5", *words)
    assert code == 1
    assert "encoded by another model than the aggregation was fitted on" in stderr
    code, stderr = her2pipe("score", small / "e", tmp_path / "s.tsv", "--aggregate", "clam")
    assert code == 1
    assert "needs a model" in stderr


def test_published_values_hold_by_hand_by_default(tmp_path, her2pipe, small):
    assert fit(her2pipe, small, tmp_path / "m", "mlp", "--patience", "7")[0] == 0
    about = json.loads((tmp_path / "m" / "model.json").read_text())["settings"]
    assert (about["step_slides"], about["patience"], about["max_epochs"]) == (8, 7, 3)
    assert "device" not in about


def test_flags_are_those_of_the_aggregation(small, tmp_path, capsys):
    from her2pipe.cli import main

    with pytest.raises(SystemExit):
        main(["fit", "--aggregate", "clam", "--help"])
    text = capsys.readouterr().out
    assert "--bag-weight" in text
    assert "--hidden" not in text
    assert "--radius-px" not in text
    words = ["fit", small / "e", tmp_path / "m", "--sheet", small / "sheet.tsv"]
    words += ["--aggregate", "clam", "--hidden", "8"]
    assert main([str(word) for word in words]) == 1
    assert "unknown option --hidden" in capsys.readouterr().err


CLASSES = ("--endpoint", "class", "--column", "grade", "--classes", "low", "middle", "high")


@pytest.fixture(scope="module")
def grades_files(tmp_path_factory):
    """Slides of three grades, the patches of each shifted along an axis of its own."""
    random = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("grades")
    (folder / "e").mkdir()
    lines = ["slide\tpath\tpatient\tsplit\tgrade"]
    for i in range(24):
        features = random.normal(size=(16, 8))
        features[:, i % 3] += 3
        write_slide(folder / "e" / f"S{i:03d}.h5", features)
        side = "train" if i < 18 else "validation"
        label = "other" if i == 0 else ("low", "middle", "high")[i % 3]
        lines.append(f"S{i:03d}\tx{i}\tP{i:03d}\t{side}\t{label}")
    (folder / "sheet.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def grades(grades_files, tmp_path):
    return shutil.copytree(grades_files, tmp_path / "grades")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clam", "mlp"])
def test_classes_of_a_study(tmp_path, her2pipe, grades, name):
    """Fitted, scored and evaluated: grades that features show are called right."""
    out, scores = tmp_path / "m", tmp_path / "s.tsv"
    more = ("--learning-rate", "3e-3", "--max-epochs", "10") if name == "mlp" else ()
    code, text = fit(her2pipe, grades, out, name, *CLASSES, *more)
    assert code == 0, text
    model = json.loads((out / "model.json").read_text())
    assert model["classes"] == ["low", "middle", "high"]
    assert "threshold" not in model
    rows = {row["slide"]: row for row in read_table(out / "slides.tsv")}
    assert rows["S000"]["exclusion_reason"].startswith("no class: grade is other")
    assert rows["S001"]["class"] == "middle"
    assert all(row["validation_auc"] for row in read_table(out / "history.tsv"))
    code, text = her2pipe(
        "score", grades / "e", scores, "--aggregate", name, "--model", out, *CLASSES
    )
    assert code == 0, text
    calls = {row["slide"]: row["call"] for row in read_table(scores)}
    held_out = [f"S{i:03d}" for i in range(18, 24)]
    assert [calls[slide] for slide in held_out] == ["low", "middle", "high"] * 2
    total = [sum(float(row[f"p_{c}"]) for c in model["classes"]) for row in read_table(scores)]
    assert total == pytest.approx([1] * 24, abs=1e-5)
    folder = tmp_path / "evaluation"
    code, text = her2pipe(
        "evaluate",
        scores,
        folder,
        "--sheet",
        grades / "sheet.tsv",
        "--cohort",
        "A",
        "--method",
        name,
        "--aggregate",
        name,
        *CLASSES,
    )
    assert code == 0, text
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["aggregation"] == name


def test_what_does_not_suit_classes_is_refused(tmp_path, her2pipe, grades):
    out = tmp_path / "m"
    assert "of two classes, not of 3" in refused(her2pipe, grades, out, "slidegraph", *CLASSES)
    levels = refused(her2pipe, grades, out, "clam", *CLASSES, "--targets", "levels")
    assert "levels are of HER2 status" in levels
    code, text = her2pipe(
        "fit", grades / "e", out, "--sheet", grades / "sheet.tsv", "--aggregate", "mean", *CLASSES
    )
    assert code == 1
    assert "nothing to fit to classes" in text
    text = (grades / "sheet.tsv").read_text().replace("high", "low")
    (grades / "sheet.tsv").write_text(text)
    assert "0 training patients are high" in refused(her2pipe, grades, out, "mlp", *CLASSES)


def test_two_classes_are_ranked_by_a_graph(tmp_path, her2pipe, grades):
    text = (grades / "sheet.tsv").read_text().replace("high", "middle")
    (grades / "sheet.tsv").write_text(text)
    code, text = fit(her2pipe, grades, tmp_path / "m", "slidegraph", *CLASSES[:-1])
    assert code == 0, text
    assert load("slidegraph", tmp_path / "m").metadata.classes == ["low", "middle"]
