"""Methods of a study of classes: paired tests on the same slides and cases, and their lists."""

import json
from pathlib import Path

import class_study as classes
import numpy as np
import plain_bootstrap
import pytest
from manifests import compare_manifest

from her2pipe import stats
from her2pipe.config import CompareSettings
from her2pipe.evaluation import pairwise
from her2pipe.evaluation.results import Evaluation, Metrics, as_slides
from her2pipe.files import read_table, write_table


def test_a_resample_without_a_class_has_no_area():
    y, p = np.array(list("aabbbb")), np.eye(2)[[0, 0, 1, 1, 1, 0]]
    drawn = stats.macro_draws(y, p, range(6), "ab", 200)
    assert 0 < np.isnan(drawn).sum() < 150
    found = stats.contrast(0, drawn - drawn)
    assert found.resamples == np.isfinite(drawn).sum()
    assert (found.low, found.high, found.p) == (None, None, 1)  # equal methods do not differ
    assert found.interval_note == "no interval: no difference in any resample"
    with pytest.raises(stats.StatisticUndefined, match=r"differs by 0\.500 in every resample"):
        stats.contrast(0.5, drawn - drawn + 0.5)
    with pytest.raises(stats.StatisticUndefined, match="defined in only 1 of 3 resamples"):
        stats.contrast(0.1, [np.nan, np.nan, 0.1])


def test_contrast_by_hand():
    """Of 99 resamples 2 lie below 0: P = 2 (2 + 1) / 100."""
    found = stats.contrast(0.3, [-0.1, -0.2, *np.linspace(0.1, 1, 97)])
    assert found.p == pytest.approx(0.06)
    assert found.low == pytest.approx(np.quantile([-0.1, -0.2, *np.linspace(0.1, 1, 97)], 0.025))


def test_interval_and_p_agree():
    """Over many made-up pairs, P < 0.05 where the 95 % interval leaves out 0, and only there."""
    random = np.random.default_rng(1)
    for shift in np.linspace(-3, 3, 25):
        found = stats.contrast(shift, random.normal(shift, 1, 2000))
        if abs(found.p - 0.05) > 0.01:
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def evaluation(cohort, table):
    """An evaluation of method m, of the rows of its slides.tsv."""
    metrics = Metrics(endpoint="class", classes=list(classes.NAMES), method="m", cohort=cohort)
    return Evaluation(metrics, as_slides(table, classes.NAMES), table, Path())


def compared(tmp_path, her2pipe, folders, *more, **rows):
    manifest = compare_manifest(tmp_path / "manifest.tsv", folders, **rows)
    code, stderr = her2pipe("compare", manifest, tmp_path / "out", *more)
    assert code == 0, stderr
    return tmp_path / "out"


def three(tmp_path):
    """Three methods on two cohorts; the last is a twin of the first, and lacks a slide."""
    folders = []
    for method, noise, seed in (("Good", 0.3, 1), ("Poor", 1.5, 2), ("Twin", 0.3, 1)):
        for cohort, role, drawn in (("A", "development", 5), ("B", "external", 6)):
            rows = classes.slides(30, noise, seed, drawn)
            if (method, cohort) == ("Twin", "B"):
                rows[0] |= {"used": False, "exclusion_reason": "excluded: no tissue"}
            folders.append(classes.evaluation(tmp_path, method, cohort, role, rows))
    return folders


def test_tables_of_a_study_of_classes(tmp_path, her2pipe):
    out = compared(tmp_path, her2pipe, three(tmp_path))
    names = {path.name for path in out.iterdir()}
    assert not names & {"table2.tsv", "delong.tsv", "drift.tsv", "published.tsv", "matched.tsv"}
    rows = {(r["method"], r["cohort"]): r for r in read_table(out / "methods.tsv")}
    assert list(next(iter(rows.values()))) == [
        *("method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high"),
        *("patients", "logit_low", "logit_high", "interval", "note"),
    ]
    table = {(r["method"], r["cohort"]): r for r in read_table(out / "classes.tsv")}
    assert len(table) == len(rows) == 6
    own = table["Poor", "B"]
    about = json.loads((tmp_path / "evaluate" / "Poor" / "B" / "metrics.json").read_text())
    slide = about["units"]["slide"]
    for column, value in {
        "n": 27,
        "macro_auc": about["auc"]["value"],
        "macro_auc_low": about["auc"]["low"],
        "auc_2+": slide["per_class"]["2+"]["auc"]["value"],
        "auc_2+_high": slide["per_class"]["2+"]["auc"]["high"],
        "accuracy": slide["accuracy"]["value"],
        "f1": slide["f1"]["value"],
        "balanced_accuracy": slide["balanced_accuracy"]["value"],
        "kappa": slide["kappa"]["value"],
        "errors": slide["errors"]["n"],
        "neighbours": slide["errors"]["neighbours"],
    }.items():
        assert float(own[column]) == pytest.approx(value, abs=1e-6), column
    assert {"forest.svg", "pairs.svg", "pairs.png"} <= names


@pytest.mark.slow
def test_every_pair_on_the_slides_of_both(tmp_path, her2pipe):
    out = compared(tmp_path, her2pipe, three(tmp_path), "--resamples", 400)
    rows = read_table(out / "pairs.tsv")
    found = {(r["method"], r["other"], r["cohort"]): r for r in rows}
    assert list(found) == [
        (*pair, cohort)
        for cohort in "AB"
        for pair in (("Good", "Poor"), ("Good", "Twin"), ("Poor", "Twin"))
    ]
    assert found["Good", "Poor", "B"]["n"] == "27"
    assert found["Good", "Twin", "B"]["n"] == "26"  # one slide is not in the other
    twins = found["Good", "Twin", "A"]
    assert [float(twins[k]) for k in ("difference", "p", "mcnemar_p")] == [0, 1, 1]
    assert (twins["low"], twins["high"]) == ("", "")
    assert twins["note"] == "no interval: no difference in any resample"
    assert own_methods(found) == {("resampled patients", "sign flips of patients, exact")}
    own = found["Good", "Poor", "A"]
    kept = [r for r in classes.slides(30, 0.3, 1, 5) if r["used"] and r["true_class"]]
    worse = [r for r in classes.slides(30, 1.5, 2, 5) if r["used"] and r["true_class"]]
    truth = np.array([r["true_class"] for r in kept])
    p, q = (
        np.array([[r[f"p_{n}"] for n in classes.NAMES] for r in each]) for each in (kept, worse)
    )
    difference = stats.macro_auc(truth, p, classes.NAMES) - stats.macro_auc(truth, q, classes.NAMES)
    assert float(own["difference"]) == pytest.approx(difference, abs=2e-6)
    plain = plain_bootstrap.interval(
        [r["patient"] for r in kept],
        lambda i: (
            stats.macro_auc(truth[i], p[i], classes.NAMES)
            - stats.macro_auc(truth[i], q[i], classes.NAMES)
        ),
        resamples=400,
    )
    assert [float(own[k]) for k in ("low", "high")] == pytest.approx(plain[1:3], abs=2e-6)
    right = [np.array([r["call"] for r in each]) == truth for each in (kept, worse)]
    alone = [int((right[i] & ~right[1 - i]).sum()) for i in (0, 1)]
    assert [int(own["only_method"]), int(own["only_other"])] == alone
    assert float(own["mcnemar_p"]) == pytest.approx(
        stats.mcnemar(*right, [r["patient"] for r in kept]).p, abs=1e-6
    )
    of_a = [r for r in rows if r["cohort"] == "A"]
    for key in ("p", "mcnemar_p"):
        expected = stats.holm([float(r[key]) for r in of_a])
        assert [float(r[f"{key}_holm"]) for r in of_a] == pytest.approx(expected, abs=4e-6)


def own_methods(rows):
    """What the two tests of the pairs whose resamples differ are."""
    return {(r["interval"], r["mcnemar_test"]) for r in rows.values() if r["low"]}


def test_the_matrix_holds_areas_below_and_calls_above():
    rows = [
        pairwise.PairedComparison(one, other, "A", 9, p_holm=p, mcnemar_p_holm=q)
        for one, other, p, q in (("a", "b", 0.1, 0.2), ("a", "c", None, 0.3), ("b", "c", 0.4, 0.5))
    ]
    names, table = pairwise.p_matrix(rows)
    none = np.nan
    assert names == ["a", "b", "c"]
    assert table == pytest.approx(
        np.array([[none, 0.2, 0.3], [0.1, none, 0.5], [none, 0.4, none]]), nan_ok=True
    )


def test_one_class_says_why(tmp_path, her2pipe):
    rows = [r | {"true_class": "1+"} for r in classes.slides(9)]
    found = [classes.evaluation(tmp_path, m, rows=classes.slides(24)) for m in ("a", "b")]
    for folder in found:
        write_table(folder / "slides.tsv", classes.COLUMNS, rows)
    (row,) = read_table(compared(tmp_path, her2pipe, found) / "pairs.tsv")
    assert (row["p"], row["n"]) == ("", "7")
    assert "class 1+ against the rest needs both classes" in row["note"]
    assert row["mcnemar_p"] == "1.000000"


def test_cases_are_their_slides_together():
    names, truth = list("abcdef"), np.array(["1+", "1+", "2+", "3+", "2+", "1+"])
    p = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    called = np.array(["1+", "2+", "2+", "3+", "2+", "1+"])
    found = pairwise.Calls(names, np.array(list("PPQRST")), truth, called, p, list(classes.NAMES))
    # a and b are one case; c and d one of two classes; f has none
    put = pairwise.by_case(found, {"a": "1", "b": "1", "c": "2", "d": "2", "e": "3", "f": ""})
    assert put.names == ["1", "3"]
    assert put.probabilities[0] == pytest.approx([0.55, 0.4, 0.05])
    assert list(put.called) == ["1+", "2+"]
    assert list(put.patients) == ["P", "S"]


def test_two_stains_of_the_same_cases(tmp_path, her2pipe):
    """Slides of other names, matched by case; a case of another class in the other is left out."""
    rows = classes.slides(30, 0.3, 1)
    others = [r | {"slide": f"H{r['slide']}"} for r in classes.slides(30, 1.2, 4)]
    others[0]["true_class"] = next(n for n in classes.NAMES if n != rows[0]["true_class"])
    folders = [
        classes.evaluation(tmp_path, "net", "ihc", rows=rows),
        classes.evaluation(tmp_path, "net", "he", rows=others),
    ]
    for name, mark in (("ihc", ""), ("he", "H")):
        write_table(
            tmp_path / f"{name}.tsv",
            ("slide", "path", "patient", "ihc", "case"),
            [
                {
                    "slide": f"{mark}S{i}",
                    "path": f"{name}{i}.svs",
                    "patient": f"P{i * 2 // 3}",
                    "ihc": "1+",
                    "case": f"C{i}",
                }
                for i in range(30)
            ],
        )
    sheets = [(name, tmp_path / f"{name}.tsv") for name in ("ihc", "he")]
    words = ("--matched", "net,ihc,net,he")
    out = compared(tmp_path, her2pipe, folders, *words, sheets=sheets)
    (row,) = read_table(out / "matched.tsv")
    assert (row["n"], row["excluded"]) == ("26", "1")
    kept = [i for i, r in enumerate(rows) if r["used"] and r["true_class"] and i]
    right = [
        np.array([each[i]["call"] == each[i]["true_class"] for i in kept])
        for each in (rows, others)
    ]
    assert float(row["accuracy_difference"]) == pytest.approx(
        right[0].mean() - right[1].mean(), abs=1e-6
    )
    assert float(row["accuracy_low"]) <= float(row["accuracy_difference"])
    assert float(row["mcnemar_p"]) == pytest.approx(
        stats.mcnemar(*right, [f"P{i * 2 // 3}" for i in kept]).p, abs=1e-6
    )
    code, stderr = her2pipe(
        "compare", tmp_path / "manifest.tsv", tmp_path / "x", "--matched", "net,ihc,net,b"
    )
    assert code == 1
    assert "no evaluation of method net on cohort b" in stderr
    code, stderr = her2pipe(
        "compare", tmp_path / "manifest.tsv", tmp_path / "x", "--matched", "net=ihc"
    )
    assert code == 1
    assert "METHOD,COHORT,METHOD,COHORT" in stderr


def test_the_same_people_under_other_names():
    """Equal calls are equal in every resample, however each sheet names its patients."""
    rows = [
        {k: "" if v is None else str(v) for k, v in row.items()}
        for row in classes.slides(30, 0.3, 1)
    ]
    number = {name: i for i, name in enumerate(sorted({row["patient"] for row in rows}))}
    others = [row | {"patient": f"Q{7 * number[row['patient']] % 97:02d}"} for row in rows]
    evaluations = [evaluation("a", rows), evaluation("b", others)]
    cases = {row["slide"]: row["slide"] for row in rows}
    (row,) = pairwise.matched(
        evaluations,
        [("m", "a", "m", "b")],
        {"a": cases, "b": cases},
        CompareSettings(resamples=200),
    )
    assert (row.difference, row.low, row.high, row.p) == (0, None, None, 1)
    assert (row.accuracy_difference, row.accuracy_low) == (0, None)


def test_no_common_case():
    empty = pairwise.Calls([], *np.zeros((3, 0), str), np.zeros((0, 3)), list(classes.NAMES))
    (row,) = pairwise.matched(
        [evaluation(name, []) for name in "ab"], [("m", "a", "m", "b")], {}, CompareSettings()
    )
    assert row.note == "no case of one class is in both"
    assert len(empty.right) == 0


def test_networks_and_time_per_tile(tmp_path, her2pipe):
    """Times are in files of their own: nothing else differs from run to run."""
    folders = [classes.evaluation(tmp_path, "Good", encoder="swin-t")]
    model = tmp_path / "train" / "swin-t"
    model.mkdir(parents=True)
    about = {
        "architecture": "swin_tiny",
        "input_px": 224,
        "parameters": {"total": 27503229, "trainable": 2307},
    }
    (model / "model.json").write_text(json.dumps(about))
    (model / "model.safetensors").write_bytes(bytes(2_500_000))
    encodings = tmp_path / "encodings"
    kept = []
    for rates in ((50, 20, 100), (25, 10, 50)):
        slides = [
            (f"S{i}", n, rate) for i, (n, rate) in enumerate(zip((6, 4, 5), rates, strict=True))
        ]
        for batch, own in (("0of2", slides[:2]), ("1of2", [*slides[2:], ("none", 0, 0)])):
            rows = [{"slide": s, "patches": n, "patches_per_s": float(rate)} for s, n, rate in own]
            write_table(encodings / batch / "timings.tsv", list(rows[0]), rows)
        timing = [("swin-t", encodings), ("swin-t", tmp_path / "nowhere")]
        out = compared(tmp_path, her2pipe, folders, train=[model], encodings=timing)
        (row,) = read_table(out / "tile_timing.tsv")
        assert (row["slides"], row["tiles"]) == ("3", "15")
        assert float(row["ms_per_tile"]) == pytest.approx(1000 / rates[0])  # the median slide's
        kept.append({p.name: p.read_bytes() for p in out.iterdir() if "timing" not in p.name})
    assert kept[0] == kept[1]
    (row,) = read_table(out / "networks.tsv")
    assert row == {
        "method": "Good",
        "encoder": "swin-t",
        "architecture": "swin_tiny",
        "parameters": "27503229",
        "trained": "2307",
        "input_px": "224",
        "model_mb": "2.500000",
        "stand_in": "",
        "weights": "",
        "preset": "",
        "licence": "",
    }


def test_two_kinds_of_study_do_not_mix(tmp_path, her2pipe):
    folders = [classes.evaluation(tmp_path, m) for m in ("a", "b")]
    about = json.loads((folders[1] / "metrics.json").read_text())
    (folders[1] / "metrics.json").write_text(json.dumps(about | {"endpoint": "her2"}))
    manifest = compare_manifest(tmp_path / "manifest.tsv", folders)
    code, stderr = her2pipe("compare", manifest, tmp_path / "out")
    assert code == 1
    assert "the evaluations are of different endpoints" in stderr
