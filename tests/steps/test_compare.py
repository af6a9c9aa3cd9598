"""The method table: rows, endpoint, population SD, paired tests, drift, timing."""

import json

import numpy as np
import pytest
from manifests import compare_manifest

from her2pipe import stats
from her2pipe.files import read_table, write_table

SLIDES = ("slide", "score", "positive", "pcr", "used", "patient", "exclusion_reason")


def evaluation(folder, cohort, role, auc, method="TL-PA", pcr=None, slides=(), **more):
    """Write what evaluate leaves; slides are (name, score, positive, pcr, used)."""
    folder = folder / method / cohort
    folder.mkdir(parents=True)
    interval = {"low": auc - 0.1, "high": auc + 0.1, "variance": 0.01} if auc is not None else {}
    metrics = {
        "method": method,
        "encoder": "swin-t",
        "aggregation": "probabilistic",
        "cohort": cohort,
        "role": role,
        "slides": max(1, len(slides)),
        "auc": {"n": 20}
        | ({"value": auc} | interval if auc is not None else {"note": "one class"}),
        **more,
    }
    if pcr is not None:
        metrics["pcr"] = {"n": 15, "value": pcr, "low": 0.5, "high": 1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    rows = slides or [
        ("S1", 0.1, False, None, True),
        ("S2", 0.2, True, None, True),
        ("S3", 0.3, True, None, True),
    ]
    table = [dict(zip(SLIDES, (*row, row[0], ""), strict=True)) for row in rows]
    write_table(folder / "slides.tsv", SLIDES, table)
    return folder


def compared(tmp_path, her2pipe, folders, *more, **rows):
    manifest = compare_manifest(tmp_path / "manifest.tsv", folders, **rows)
    code, stderr = her2pipe("compare", manifest, tmp_path / "out", *more)
    assert code == 0, stderr
    return tmp_path / "out"


def test_tables(tmp_path, her2pipe):
    folders = [
        evaluation(tmp_path, "A", "development", 0.9, trained="encoder", features=3),
        evaluation(tmp_path, "B", "external", 0.7),
        evaluation(tmp_path, "C", "external", 0.8),
        evaluation(tmp_path, "NAT", "treatment", None, pcr=0.77),
        evaluation(tmp_path, "B", "external", 0.6, method="mean"),
        evaluation(tmp_path, "C", "external", None, method="mean"),
    ]
    out = compared(tmp_path, her2pipe, folders)
    header = (out / "methods.tsv").read_text().splitlines()[0].split("\t")
    assert header == [
        *("method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high"),
        *("patients", "logit_low", "logit_high", "interval", "note"),
    ]
    rows = {(r["method"], r["cohort"]): r for r in read_table(out / "methods.tsv")}
    assert len(rows) == 6
    assert float(rows["TL-PA", "B"]["auc"]) == 0.7
    assert float(rows["TL-PA", "NAT"]["auc"]) == 0.77  # no binary status: non-pCR is the endpoint
    assert rows["TL-PA", "NAT"]["n"] == "15"
    assert rows["mean", "C"]["auc"] == ""
    table2 = {r["method"]: r for r in read_table(out / "table2.tsv")}
    own = table2["TL-PA"]
    stages = own["feature_extraction"], own["instance_aggregation"]
    assert (*stages, own["internal_n"]) == ("✓", "–", "20")
    assert (own["feature_dimension"], own["aggregation_method"]) == ("N/A", "Rule-based")
    assert [float(own[f"internal_{key}"]) for key in ("auc", "low", "high")] == [0.9, 0.8, 1.0]
    assert float(own["external_mean"]) == pytest.approx(0.75)
    assert float(own["external_sd"]) == pytest.approx(0.05)  # ddof 0
    half = 1.959964 * (0.02 / 4) ** 0.5  # two cohorts of variance 0.01
    assert float(own["external_low"]) == pytest.approx(0.75 - half, abs=1e-6)
    assert [table2["mean"][f"external_{key}"] for key in ("cohorts", "sd")] == ["1", ""]
    assert (out / "forest.svg").exists()
    assert (out / "roc_panels.png").exists()


def test_table_2_is_laid_out_as_the_papers(tmp_path, her2pipe):
    """Stages that are trained, numbers per patch and kind of aggregation, of each system."""
    expected = {
        "TL-PA": ("encoder", "probabilistic", 3, "✓", "–", "N/A", "Rule-based"),
        "TL-SlideGraph+": (
            *("encoder and aggregation", "slidegraph", 768, "✓", "✓", "768", "Graph-based"),
        ),
        "ResNet50-CLAM": ("aggregation", "clam", 1024, "–", "✓", "1024", "Attention-based"),
        "Rawat": ("encoder and aggregation", "mlp", 512, "✓", "✓", "512", "MLP-based"),
    }
    folders = [
        evaluation(
            *(tmp_path, "A", "development", 0.7, name),
            trained=trained,
            aggregation=aggregation,
            features=features,
        )
        for name, (trained, aggregation, features, *_) in expected.items()
    ]
    rows = read_table(compared(tmp_path, her2pipe, folders) / "table2.tsv")
    columns = ("feature_extraction", "instance_aggregation", "feature_dimension")
    columns += ("aggregation_method",)
    assert {row["method"]: tuple(row[c] for c in columns) for row in rows} == {
        name: tuple(cells)
        for name, (*_, a, b, c, d) in expected.items()
        for cells in [(a, b, c, d)]
    }


def test_published_figures_are_marked(tmp_path, her2pipe):
    folders = [
        evaluation(tmp_path, "B", "external", 0.7, method)
        for method in ("TL-PA", "mean", "Farahmand")
    ]
    out = compared(tmp_path, her2pipe, folders)
    table2 = {r["method"]: r for r in read_table(out / "table2.tsv")}
    names = ("published_internal_auc", "published_external_mean", "published_external_sd")
    assert [float(table2["TL-PA"][name]) for name in names] == [0.75, 0.76, 0.01]
    assert "as its own paper reports" in table2["Farahmand"]["published_note"]
    assert [table2["mean"][name] for name in names] == ["", "", ""]
    rows = read_table(out / "published.tsv")
    paper = {row["cohort"]: float(row["auc"]) for row in rows if row["method"] == "TL-PA"}
    external = [paper[name] for name in "BCD"]
    assert np.mean(external) == pytest.approx(0.76, abs=0.005)
    assert np.std(external) == pytest.approx(0.01, abs=0.005)


def scored(seed, n=40, shift=0.0, role="external"):
    """Slides with random scores; every fifth is not used, every seventh has no status."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        score = round(float(random.normal() + (i % 2 == 0) + shift), 3)
        if role == "treatment":
            rows.append((f"S{i}", score, True, i % 2 == 1, True))
        else:
            rows.append((f"S{i}", score, None if i % 7 == 6 else i % 2 == 0, None, i % 5 > 0))
    return rows


def test_paired_tests_against_the_reference(tmp_path, her2pipe):
    """On the slides that count in both, by status or response; Holm within a cohort."""
    folders, table = [], {}
    for k, method in enumerate(("TL-PA", "TL-CLAM", "Rawat")):
        for cohort, role in (("B", "external"), ("NAT", "treatment")):
            rows = scored(10 * k + len(cohort), role=role)
            if method == "Rawat" and cohort == "B":
                rows = rows[:30]  # S30 to S39 are only in the other
            table[method, cohort] = rows
            folders.append(evaluation(tmp_path, cohort, role, 0.7, method, 0.7, rows))
    rows = read_table(compared(tmp_path, her2pipe, folders) / "delong.tsv")
    assert [(row["method"], row["cohort"]) for row in rows] == [
        ("TL-CLAM", "B"),
        ("TL-CLAM", "NAT"),
        ("Rawat", "B"),
        ("Rawat", "NAT"),
    ]
    for row in rows:
        of = [table[method, row["cohort"]] for method in (row["method"], "TL-PA")]
        a, b = ({slide[0]: slide for slide in slides if slide[4]} for slides in of)
        at = 3 if row["cohort"] == "NAT" else 2
        both = [name for name in a if name in b and a[name][at] is not None]
        y = [a[name][at] is (at == 2) for name in both]
        scores = [[each[name][1] for name in both] for each in (a, b)]
        assert int(row["n"]) == len(both)
        areas = [stats.auc(y, each).value for each in scores]
        assert float(row["auc"]) == pytest.approx(areas[0], abs=1e-6)
        assert float(row["difference"]) == pytest.approx(areas[0] - areas[1], abs=2e-6)
        expected = stats.delong(y, *scores)
        for key in ("z", "p", "low", "high"):
            assert float(row[key]) == pytest.approx(getattr(expected, key), abs=1e-6)
        assert (row["interval"], int(row["patients"])) == ("DeLong", len(both))
    of_b = [row for row in rows if row["cohort"] == "B"]
    smaller, larger = sorted(of_b, key=lambda row: float(row["p"]))
    assert float(smaller["p_holm"]) == pytest.approx(min(1, 2 * float(smaller["p"])), abs=2e-6)
    assert float(larger["p_holm"]) >= float(larger["p"])


def test_another_reference_and_one_that_is_not_there(tmp_path, her2pipe):
    names = ("x", "TL-PA", "y")
    folders = [
        evaluation(tmp_path, "B", "external", 0.7, name, slides=scored(k))
        for k, name in enumerate(names)
    ]
    rows = read_table(compared(tmp_path, her2pipe, folders, "--reference", "y") / "delong.tsv")
    assert [(row["method"], row["reference"]) for row in rows] == [("x", "y"), ("TL-PA", "y")]
    rows = read_table(compared(tmp_path, her2pipe, folders) / "delong.tsv")
    assert {row["reference"] for row in rows} == {"TL-PA"}
    code, stderr = her2pipe(
        "compare", tmp_path / "manifest.tsv", tmp_path / "out", "--reference", "z"
    )
    assert code == 1
    assert "no evaluation of the reference method z" in stderr


def test_tests_that_cannot_be_made_say_why(tmp_path, her2pipe):
    rows = [(f"S{i}", 0.1 * i, True, None, True) for i in range(5)]
    folders = [evaluation(tmp_path, "B", "external", None, m, slides=rows) for m in ("TL-PA", "x")]
    row = read_table(compared(tmp_path, her2pipe, folders) / "delong.tsv")[0]
    assert (row["p"], row["n"]) == ("", "5")
    assert "all 5 slides are positive" in row["note"]


def test_drift_by_status(tmp_path, her2pipe):
    """Scores of B are those of A plus 0.5: for all slides and for either status."""
    folders = [
        evaluation(tmp_path, "A", "development", 0.7, slides=scored(1)),
        evaluation(tmp_path, "B", "external", 0.7, slides=scored(1, shift=0.5)),
    ]
    out = compared(tmp_path, her2pipe, folders)
    rows = read_table(out / "drift.tsv")
    assert [row["slides"] for row in rows] == ["all", "HER2-negative", "HER2-positive"]
    for row in rows:
        assert (row["reference"], row["cohort"]) == ("A", "B")
        assert float(row["median_shift"]) == pytest.approx(0.5, abs=1e-6)
        assert float(row["slope"]) == pytest.approx(1, abs=1e-6)
        assert float(row["intercept"]) == pytest.approx(-0.5, abs=1e-6)
    used = [row for row in scored(1) if row[4]]
    assert int(rows[0]["n"]) == len(used)
    assert int(rows[2]["n"]) == sum(row[2] is True for row in used)
    assert (out / "drift.svg").exists()


def test_drift_between_external_cohorts(tmp_path, her2pipe):
    """The paper's is D against C; a cohort of treatment is compared with development only."""
    roles = {"A": "development", "C": "external", "D": "external", "NAT": "treatment"}
    folders = [
        evaluation(tmp_path, cohort, role, 0.7, slides=scored(1, shift=0.2 * i))
        for i, (cohort, role) in enumerate(roles.items())
    ]
    rows = read_table(compared(tmp_path, her2pipe, folders) / "drift.tsv")
    of_all = {(r["reference"], r["cohort"]): r for r in rows if r["slides"] == "all"}
    assert list(of_all) == [("A", "C"), ("A", "D"), ("A", "NAT"), ("C", "D")]
    assert float(of_all["C", "D"]["median_shift"]) == pytest.approx(0.2, abs=1e-6)


def test_timing_has_a_file_of_its_own(tmp_path, her2pipe):
    """Benchmarks change from run to run: nothing else does."""
    folders = [evaluation(tmp_path, "B", "external", 0.7, slides=scored(1))]
    kept = []
    for seconds in (8.0, 6.0):
        bench = tmp_path / "B.tsv"
        bench.write_text(f"s\th:m:s\n{seconds}\t0:00:08\n")
        files = [("TL-PA", "B", bench), ("TL-PA", "C", tmp_path / "none.tsv")]
        out = compared(tmp_path, her2pipe, folders, benchmarks=files)
        (row,) = read_table(out / "timing.tsv")
        assert (row["method"], row["slides"]) == ("TL-PA", "40")
        assert float(row["seconds_per_slide"]) == pytest.approx(seconds / 40)
        kept.append({p.name: p.read_bytes() for p in out.iterdir() if p.name != "timing.tsv"})
    assert kept[0] == kept[1]


def test_not_an_evaluation(tmp_path, her2pipe):
    manifest = compare_manifest(tmp_path / "manifest.tsv", [tmp_path])
    code, stderr = her2pipe("compare", manifest, tmp_path / "out")
    assert code == 1
    assert "not an evaluation" in stderr
    code, stderr = her2pipe("compare", compare_manifest(manifest, []), tmp_path / "out")
    assert code == 1
    assert "the manifest lists no evaluation" in stderr
    assert not (tmp_path / "out").exists()


def test_a_stand_in_is_labelled_in_the_table_and_named_with_the_methods(tmp_path, her2pipe):
    folders = [evaluation(tmp_path, "A", "development", 0.9, method="Valieris")]
    option = "--stand-in=Valieris=ImageNet = no pathology"
    out = compared(tmp_path, her2pipe, folders, option)
    assert [r["stand_in"] for r in read_table(out / "table2.tsv")] == ["ImageNet = no pathology"]
    manifest = compare_manifest(tmp_path / "manifest.tsv", folders)
    code, stderr = her2pipe("compare", manifest, tmp_path / "again", "--stand-in=Rawat=x")
    assert code == 1
    assert "no evaluation of the method Rawat" in stderr


def test_with_and_without_marked_patches(tmp_path, her2pipe):
    """The AUCs of two scores of the same slides, and DeLong's test of their difference."""
    slides = scored(1)
    folder = evaluation(tmp_path, "B", "external", 0.8, slides=slides)
    other = evaluation(tmp_path, "C", "external", 0.8, slides=slides)
    random = np.random.default_rng(7)
    shifted = [row[1] + random.normal(0, 0.2) for row in slides]
    rows = [
        {"slide": row[0], "all_patches": 10, "all_score": row[1], "accepted_patches": 10 - i % 2}
        | {"accepted_score": value}
        for i, (row, value) in enumerate(zip(slides, shifted, strict=True))
    ]
    rows[1] |= {"accepted_patches": 0, "accepted_score": ""}  # all of it is pen
    columns = (
        "slide",
        *(f"{key}_{n}" for key in ("all", "accepted") for n in ("patches", "score")),
    )
    write_table(tmp_path / "scores.tsv", columns, rows)
    out = compared(
        tmp_path, her2pipe, [folder, other], scores=[("TL-PA", "B", tmp_path / "scores.tsv")]
    )
    (row,) = read_table(out / "sensitivity.tsv")
    counts = [i for i, s in enumerate(slides) if s[4] and s[2] is not None and i != 1]
    y, every = ([slides[i][k] for i in counts] for k in (2, 1))
    accepted = [shifted[i] for i in counts]
    test = stats.delong(y, accepted, every)
    assert (row["method"], row["cohort"], row["n"]) == ("TL-PA", "B", str(len(counts)))
    assert float(row["auc"]) == pytest.approx(stats.auc(y, every).value, abs=1e-6)
    assert float(row["accepted_auc"]) == pytest.approx(stats.auc(y, accepted).value, abs=1e-6)
    for key in ("difference", "low", "high", "p"):
        expected = test.value if key == "difference" else getattr(test, key)
        assert float(row[key]) == pytest.approx(expected, abs=1e-6)
    # Of 32 slides that are used 16 have a marked patch, and one of these no other.
    assert (row["patches"], row["slides_marked"]) == ("320", "16")
    assert (row["slides_without_patches"], row["patches_marked"]) == ("1", "25")


def test_without_second_scores_there_is_no_table_of_sensitivity(tmp_path, her2pipe):
    out = compared(tmp_path, her2pipe, [evaluation(tmp_path, "B", "external", 0.8)])
    assert not (out / "sensitivity.tsv").exists()


def test_methods_of_splits_are_compared_out_of_fold_and_over_splits(tmp_path, her2pipe):
    """The corrected t of the differences of 4 splits, and of the reference none."""
    values = {"TL-PA": (0.8, 0.7, 0.9, 0.6), "mean": (0.7, 0.7, 0.7, 0.6)}
    folders = []
    for method, areas in values.items():
        splits = [
            {"split": f"{i + 1}of4", "n": 5, "patients": 5, "training_patients": 15, "value": area}
            for i, area in enumerate(areas)
        ]
        part = {"scheme": "folds", "words": "4 folds by patient", "kind": "out of fold"}
        part |= {
            "variance_factor": 7 / 3,
            "splits": splits,
            "defined": 4,
            "mean": float(np.mean(areas)),
            "sd": 0.1,
        }
        random = np.random.default_rng(len(method))
        scores = random.normal(size=20) + (np.arange(20) > 9)
        slides = [(f"S{i}", score, i > 9, None, True) for i, score in enumerate(scores)]
        more = {"method": method, "slides": slides, "resampling": part}
        folders.append(evaluation(tmp_path, "A", "development", 0.7, **more))
    out = compared(tmp_path, her2pipe, folders)
    reference, other = read_table(out / "resampled.tsv")
    assert (reference["reference"], reference["t_p"], reference["scheme"]) == (
        "",
        "",
        "4 folds by patient",
    )
    expected = stats.corrected_resampled_t([-0.1, 0.0, -0.2, 0.0], 1 / 3)
    assert float(other["t_p"]) == pytest.approx(expected.p, abs=1e-6)
    assert float(other["split_difference"]) == pytest.approx(-0.075)
    (pooled,) = read_table(out / "delong.tsv")
    assert "variance times 2.33" in pooled["interval"]
    assert {name: other[name] for name in ("p", "low", "n")} == {
        name: pooled[name] for name in ("p", "low", "n")
    }
    assert other["split_test"].startswith("corrected resampled t")
    assert {row["scored_by"] for row in read_table(out / "methods.tsv")} == {
        "out of fold: 4 folds by patient"
    }
